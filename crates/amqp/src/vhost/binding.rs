//! Bindings: from an exchange to a queue or to another exchange.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use broker::routing::{HeaderMatch, HeaderRule, Pattern, Rule, Syntax};
use model::Seq;

use super::{
    BINDINGS_MAX, Topology, Vhost, arguments,
    exchange::{Exchange, Kind},
    queue::Queue,
    stored,
};
use crate::{
    codec::Value,
    error::{Exception, Result},
    message::{canonical, compared},
    schedule,
};

/// Where a binding leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Target {
    Queue(Arc<str>),
    Exchange(Arc<str>),
}

impl Target {
    fn describe(&self, vhost: &str) -> String {
        match self {
            Target::Queue(name) => format!("queue '{name}' in vhost '{vhost}'"),
            Target::Exchange(name) => format!("exchange '{name}' in vhost '{vhost}'"),
        }
    }
}

/// A binding of an exchange. Two are the same when all three are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Binding {
    pub target: Target,
    pub routing_key: Vec<u8>,
    /// The fields of its arguments, as they were sent.
    pub arguments: Vec<u8>,
}

/// When a binding of an exchange of that kind applies.
fn rule_of(kind: Kind, binding: &Binding) -> Result<Rule> {
    Ok(match kind {
        Kind::Direct => Rule::Exact(binding.routing_key.as_slice().into()),
        Kind::Fanout => Rule::Always,
        Kind::Topic => Rule::Tokens(Pattern::parse(&binding.routing_key, Syntax::ONE_MANY)?),
        Kind::Headers => Rule::Headers(header_rule(&binding.arguments)?),
    })
}

/// Fields whose names begin with `x-` count only where `x-match` says so.
fn header_rule(fields: &[u8]) -> Result<HeaderRule> {
    let table = arguments::table(fields);
    let (mode, with_x) = match table.get("x-match") {
        None => (HeaderMatch::All, false),
        Some(Value::Text(b"all")) => (HeaderMatch::All, false),
        Some(Value::Text(b"any")) => (HeaderMatch::Any, false),
        Some(Value::Text(b"all-with-x")) => (HeaderMatch::All, true),
        Some(Value::Text(b"any-with-x")) => (HeaderMatch::Any, true),
        Some(Value::Text(other)) => {
            return Err(Exception::precondition(format!(
                "Invalid x-match field value <<\"{}\">>; expected all, any, all-with-x, or any-with-x",
                String::from_utf8_lossy(other)
            )));
        }
        Some(other) => {
            return Err(Exception::precondition(format!(
                "Invalid x-match field type {} (value {}); expected longstr",
                other.type_name(),
                arguments::text_of(other)
            )));
        }
    };
    let counts = |name: &[u8]| name != b"x-match" && (with_x || !name.starts_with(b"x-"));
    let mut room = usize::MAX;
    let fields = table.fields().filter(|(name, _)| counts(name)).map(|(name, value)| {
        let value = (value != Value::Void).then(|| compared(canonical(value, &mut room)));
        (String::from_utf8_lossy(name).into_owned(), value)
    });
    Ok(HeaderRule { mode, fields: fields.collect() })
}

impl Topology {
    /// Adds a binding to an exchange that is there. Whether it was not there before.
    pub(super) fn add_binding(&mut self, source: &str, binding: Arc<Binding>) -> Result<bool> {
        let Some((name, _)) = self.exchanges.get_key_value(source) else { return Ok(false) };
        let name = name.clone();
        let Some(exchange) = self.exchanges.get_mut(source) else { return Ok(false) };
        let rule = rule_of(exchange.spec.kind, &binding)?;
        if !exchange.bindings.insert(binding.clone()) {
            return Ok(false);
        }
        self.sources.entry(binding.target.clone()).or_default().insert(name);
        exchange.routes.add(&rule, binding);
        self.binding_count += 1;
        Ok(true)
    }

    /// Removes a binding of an exchange that is there. Whether it was there.
    fn remove_binding(&mut self, source: &str, binding: &Binding) -> bool {
        let Some(exchange) = self.exchanges.get_mut(source) else { return false };
        let Some(known) = exchange.bindings.take(binding) else { return false };
        if let Ok(rule) = rule_of(exchange.spec.kind, &known) {
            exchange.routes.remove(&rule, &known);
        }
        if !exchange.leads_to(&binding.target) {
            self.forget_source(&binding.target, source);
        }
        self.binding_count -= 1;
        true
    }

    /// Whether an exchange goes with its last binding, and that is gone.
    fn is_unused(&self, name: &str) -> bool {
        let exchange = self.exchanges.get(name);
        exchange.is_some_and(|exchange| exchange.spec.auto_delete && exchange.bindings.is_empty())
    }

    /// An exchange has no binding to that target any more.
    pub(super) fn forget_source(&mut self, target: &Target, source: &str) {
        if let Some(sources) = self.sources.get_mut(target) {
            sources.remove(source);
            if sources.is_empty() {
                self.sources.remove(target);
            }
        }
    }
}

impl Exchange {
    /// The bindings to one target: they lie side by side.
    fn to<'e>(&'e self, target: &Target) -> impl Iterator<Item = &'e Arc<Binding>> {
        let first = Binding { target: target.clone(), routing_key: Vec::new(), arguments: Vec::new() };
        let target = target.clone();
        self.bindings.range(Arc::new(first)..).take_while(move |binding| binding.target == target)
    }

    fn leads_to(&self, target: &Target) -> bool {
        self.to(target).next().is_some()
    }
}

impl Vhost {
    fn is_durable(&self, topology: &Topology, source: &str, target: &Target) -> bool {
        let durable = |name: &str| topology.exchanges.get(name).is_some_and(|known| known.spec.durable);
        durable(source)
            && match target {
                Target::Exchange(name) => durable(name),
                Target::Queue(name) => self.stream(name).is_some_and(|stream| !stream.facets().transient),
            }
    }

    /// Whether a target is there; else what the client is told.
    fn check_target(&self, topology: &Topology, target: &Target) -> Result<()> {
        match target {
            Target::Queue(name) if schedule::is_schedule(name) => Err(self.no_queue(name)),
            Target::Queue(name) => self.stream(name).map(drop).ok_or_else(|| self.no_queue(name)),
            Target::Exchange(name) if topology.exchanges.contains_key(name) => Ok(()),
            Target::Exchange(name) => Err(self.no_exchange(name)),
        }
    }

    /// The queue that a binding leads to, if it leads to one.
    fn queue_of(&self, binding: &Binding) -> Result<Option<Arc<Queue>>> {
        match &binding.target {
            Target::Queue(name) => self.find_queue(name),
            Target::Exchange(_) => Ok(None),
        }
    }

    /// Binds, for that connection. The same binding again is fine. Wait for the sequence.
    pub(crate) fn bind(&self, source: &str, binding: &Binding, connection: u64) -> Result<Seq> {
        let queue = self.queue_of(binding)?;
        let mut topology = self.topology.write();
        let Some(exchange) = topology.exchanges.get(source) else { return Err(self.no_exchange(source)) };
        self.check_target(&topology, &binding.target)?;
        rule_of(exchange.spec.kind, binding)?;
        if let Some(queue) = &queue {
            self.check_owner(queue, connection)?;
        }
        if exchange.bindings.contains(binding) {
            return Ok(self.broker.catalog_staged());
        }
        if topology.binding_count >= BINDINGS_MAX {
            let what = binding.target.describe(&self.name);
            return Err(Exception::precondition(format!(
                "cannot bind {what}: binding limit ({BINDINGS_MAX}) is reached"
            )));
        }
        let binding = Arc::new(binding.clone());
        let seq = match self.is_durable(&topology, source, &binding.target) {
            true => stored::put_binding(&self.broker, &self.namespace, source, &binding, true)?,
            false => Seq(0),
        };
        topology.add_binding(source, binding)?;
        self.changed();
        Ok(seq)
    }

    /// Unbinds, for that connection. A binding that is not there is fine. Wait for the sequence.
    pub(crate) fn unbind(&self, source: &str, binding: &Binding, connection: u64) -> Result<Seq> {
        let queue = self.queue_of(binding)?;
        let mut topology = self.topology.write();
        let is_there =
            topology.exchanges.get(source).is_some_and(|exchange| exchange.bindings.contains(binding));
        if let Some(queue) = queue.filter(|_| is_there) {
            self.check_owner(&queue, connection)?;
        }
        if !topology.remove_binding(source, binding) {
            return Ok(self.broker.catalog_staged());
        }
        let seq = stored::put_binding(&self.broker, &self.namespace, source, binding, false)?;
        let dropped = self.drop_unused(&mut topology, source)?;
        self.changed();
        Ok(seq.max(dropped))
    }

    /// Takes out every binding to a target that is gone, the exchanges that this leaves unused, and so on.
    pub(super) fn drop_target(&self, topology: &mut Topology, target: Target) -> Result<Seq> {
        let (mut seq, mut gone) = (Seq(0), VecDeque::from([target]));
        while let Some(target) = gone.pop_front() {
            for source in topology.sources.remove(&target).unwrap_or_default() {
                let Some(exchange) = topology.exchanges.get(&source) else { continue };
                let bindings: Vec<_> = exchange.to(&target).cloned().collect();
                for binding in bindings {
                    topology.remove_binding(&source, &binding);
                    let put = stored::put_binding(&self.broker, &self.namespace, &source, &binding, false);
                    seq = seq.max(put?);
                }
                if topology.is_unused(&source) {
                    seq = seq.max(self.take_exchange(topology, &source)?);
                    gone.push_back(Target::Exchange(source));
                }
            }
        }
        Ok(seq)
    }

    /// Takes out the bindings of an exchange to queues that are not there: another dialect deleted them.
    pub(super) fn forget_missing(&self, source: &str) -> Result<()> {
        let missing: BTreeSet<Arc<str>> = {
            let topology = self.topology.read();
            let bindings = topology.exchanges.get(source).into_iter().flat_map(|known| &known.bindings);
            let queues = bindings.filter_map(|binding| match &binding.target {
                Target::Queue(name) => Some(name),
                Target::Exchange(_) => None,
            });
            queues.filter(|name| self.stream(name).is_none()).cloned().collect()
        };
        missing.iter().try_for_each(|name| self.forget_queue(name).map(drop))
    }

    /// Takes out every binding to a queue that is gone.
    pub(crate) fn forget_queue(&self, name: &str) -> Result<Seq> {
        let target = Target::Queue(name.into());
        if !self.topology.read().sources.contains_key(&target) {
            return Ok(Seq(0));
        }
        let mut topology = self.topology.write();
        let seq = self.drop_target(&mut topology, target)?;
        self.changed();
        Ok(seq)
    }

    /// Deletes an exchange whose last binding went, if it was declared so.
    fn drop_unused(&self, topology: &mut Topology, source: &str) -> Result<Seq> {
        if topology.is_unused(source) { self.drop_exchange(topology, source) } else { Ok(Seq(0)) }
    }
}
