//! Exchanges: declared, looked at, deleted.

use std::{collections::BTreeSet, sync::Arc};

use broker::routing::{Generations, Routes};
use model::Seq;

use super::{
    EXCHANGES_MAX, Topology, Vhost,
    arguments::{self, Arguments},
    binding::{Binding, Target},
    stored,
};
use crate::{
    codec::{Table, Value},
    error::{Code, Exception, Result},
    schedule,
};

/// How an exchange chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Direct,
    Fanout,
    Topic,
    Headers,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Direct => "direct",
            Kind::Fanout => "fanout",
            Kind::Topic => "topic",
            Kind::Headers => "headers",
        }
    }

    pub(crate) fn of(name: &str) -> Option<Self> {
        [Kind::Direct, Kind::Fanout, Kind::Topic, Kind::Headers].into_iter().find(|kind| kind.name() == name)
    }
}

/// Types of the original's plugins, which are not built.
const NOT_BUILT: [&str; 5] =
    ["x-consistent-hash", "x-local-random", "x-modulus-hash", "x-random", "x-recent-history"];

/// The type of exchanges that let messages wait, and the argument that names how they choose then.
const DELAYED: &str = "x-delayed-message";
const DELAYED_KIND: &str = "x-delayed-type";

/// The argument that names where unroutable messages go.
const ALTERNATE: &str = "alternate-exchange";

/// What an exchange is declared as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExchangeSpec {
    pub kind: Kind,
    pub durable: bool,
    pub auto_delete: bool,
    pub internal: bool,
    /// Messages that say so wait before they are routed: `x-delayed-message`, which chooses as `kind` does.
    pub is_delayed: bool,
    /// The fields of its arguments, as they were sent.
    pub arguments: Vec<u8>,
}

impl ExchangeSpec {
    /// The name of its type.
    fn type_name(&self) -> &'static str {
        if self.is_delayed { DELAYED } else { self.kind.name() }
    }
}

/// What a declaration of an exchange says beside its name and type.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub durable: bool,
    pub auto_delete: bool,
    pub internal: bool,
    pub arguments: Table<'a>,
}

/// An exchange with what is bound to it.
pub(crate) struct Exchange {
    pub spec: ExchangeSpec,
    /// Where what it cannot route goes.
    pub alternate: Option<Arc<str>>,
    pub routes: Routes<Arc<Binding>>,
    pub bindings: BTreeSet<Arc<Binding>>,
}

impl Exchange {
    pub(super) fn new(spec: ExchangeSpec) -> Self {
        let alternate =
            arguments::table(&spec.arguments).get(ALTERNATE).and_then(Value::text).map(Into::into);
        let routes = Routes::new(Generations::single());
        Exchange { spec, alternate, routes, bindings: BTreeSet::new() }
    }
}

/// The exchanges that are always there.
pub(super) fn predeclared() -> Vec<(&'static str, Exchange)> {
    let made = |name, kind, internal| {
        let spec = ExchangeSpec {
            kind,
            durable: true,
            auto_delete: false,
            internal,
            is_delayed: false,
            arguments: Vec::new(),
        };
        (name, Exchange::new(spec))
    };
    vec![
        made("", Kind::Direct, false),
        made("amq.direct", Kind::Direct, false),
        made("amq.fanout", Kind::Fanout, false),
        made("amq.topic", Kind::Topic, false),
        made("amq.headers", Kind::Headers, false),
        made("amq.match", Kind::Headers, false),
        made("amq.rabbitmq.trace", Kind::Topic, true),
    ]
}

/// Names are shown without line breaks, which the original takes out too.
pub(crate) fn plain_name(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '\r' | '\n')).collect()
}

impl Vhost {
    pub(crate) fn no_exchange(&self, name: &str) -> Exception {
        Exception::not_found(format!("no exchange '{name}' in vhost '{}'", self.name))
    }

    /// Whether there is an exchange; else what the client is told.
    pub(crate) fn check_exchange(&self, name: &str) -> Result<()> {
        if self.topology.read().exchanges.contains_key(name) { Ok(()) } else { Err(self.no_exchange(name)) }
    }

    /// Makes an exchange, or finds that the one which is there is the same. `may_lead_to` says whether whoever declares it
    /// may have what it cannot route go to an exchange. Wait for the sequence.
    pub(crate) fn declare_exchange(
        self: &Arc<Self>,
        name: &str,
        type_name: &str,
        asked: Asked<'_>,
        may_lead_to: &dyn Fn(&str) -> Result<()>,
    ) -> Result<Seq> {
        check_type(type_name)?;
        let mut topology = self.topology.write();
        if let Some(known) = topology.exchanges.get(name) {
            self.check_same(name, &known.spec, type_name, asked)?;
            return Ok(self.broker.catalog_staged());
        }
        if name.starts_with("amq.") {
            return Err(Exception::refused(format!(
                "exchange name '{name}' contains reserved prefix 'amq.*'"
            )));
        }
        if topology.exchanges.len() >= EXCHANGES_MAX {
            return Err(Exception::precondition(format!(
                "cannot declare exchange '{name}': exchange limit in vhost '{}' ({EXCHANGES_MAX}) is reached",
                self.name
            )));
        }
        let what = format!("exchange '{name}' in vhost '{}'", self.name);
        arguments::check_exchange_name(asked.arguments, ALTERNATE, &what)?;
        if let Some(other) = asked.arguments.get(ALTERNATE).and_then(Value::text) {
            may_lead_to(other)?;
        }
        let spec = spec_of(type_name, asked)?;
        let mut seq = Seq(0);
        let schedule = match spec.is_delayed {
            true => {
                let (queue, made) = self.make_schedule(&schedule::of_exchange(name), spec.durable)?;
                seq = made;
                Some(queue)
            }
            false => None,
        };
        if spec.durable {
            let put = stored::put_exchange(&self.broker, &self.namespace, name, Some(&spec))?;
            seq = seq.max(put);
        }
        topology.exchanges.insert(name.into(), Exchange::new(spec));
        self.changed();
        drop(topology);
        if let Some(queue) = schedule {
            schedule::start(self, queue);
        }
        Ok(seq)
    }

    /// What else its arguments say than the alternate exchange does not matter, for a delayed one neither how it chooses: the
    /// original looks at that when it makes one, and never again.
    fn check_same(&self, name: &str, known: &ExchangeSpec, type_name: &str, asked: Asked<'_>) -> Result<()> {
        let differs = |field: &str, asked: &str, known: &str| {
            Exception::precondition(format!(
                "inequivalent arg '{field}' for exchange '{name}' in vhost '{}': received '{asked}' but current is '{known}'",
                self.name
            ))
        };
        if type_name != known.type_name() {
            return Err(differs("type", type_name, known.type_name()));
        }
        for (field, asked, known) in [
            ("durable", asked.durable, known.durable),
            ("auto_delete", asked.auto_delete, known.auto_delete),
            ("internal", asked.internal, known.internal),
        ] {
            if asked != known {
                return Err(differs(field, &asked.to_string(), &known.to_string()));
            }
        }
        let what = format!("exchange '{name}' in vhost '{}'", self.name);
        Arguments::check_same(&what, &[ALTERNATE], &known.arguments, asked.arguments.bytes())
    }

    /// Whether an exchange may be deleted by clients.
    pub(crate) fn check_deleted(&self, name: &str) -> Result<()> {
        if name.is_empty() {
            return Err(Exception::refused("operation not permitted on the default exchange"));
        }
        if name.starts_with("amq.") {
            return Err(Exception::refused(format!(
                "deletion of system exchange '{name}' in vhost '{}' not allowed",
                self.name
            )));
        }
        Ok(())
    }

    /// Deletes an exchange with its bindings. One that is not there is fine. Wait for the sequence.
    pub(crate) fn delete_exchange(&self, name: &str, if_unused: bool) -> Result<Seq> {
        if if_unused {
            self.forget_missing(name)?;
        }
        let mut topology = self.topology.write();
        let Some(exchange) = topology.exchanges.get(name) else { return Ok(self.broker.catalog_staged()) };
        if if_unused && !exchange.bindings.is_empty() {
            let what = format!("exchange '{name}' in vhost '{}' in use", self.name);
            return Err(Exception::precondition(what));
        }
        let seq = self.drop_exchange(&mut topology, name)?;
        self.changed();
        Ok(seq)
    }

    /// Takes an exchange out, with the bindings from and to it, and those exchanges that this leaves unused.
    pub(super) fn drop_exchange(&self, topology: &mut Topology, name: &str) -> Result<Seq> {
        let taken = self.take_exchange(topology, name)?;
        Ok(taken.max(self.drop_target(topology, Target::Exchange(name.into()))?))
    }

    /// Takes an exchange out with the bindings from it; those to it are left.
    pub(super) fn take_exchange(&self, topology: &mut Topology, name: &str) -> Result<Seq> {
        let mut seq = Seq(0);
        let Some(exchange) = topology.exchanges.remove(name) else { return Ok(seq) };
        for binding in &exchange.bindings {
            topology.forget_source(&binding.target, name);
            topology.binding_count -= 1;
            if exchange.spec.durable {
                seq = seq.max(stored::put_binding(&self.broker, &self.namespace, name, binding, false)?);
            }
        }
        if exchange.spec.durable {
            seq = seq.max(stored::put_exchange(&self.broker, &self.namespace, name, None)?);
        }
        if exchange.spec.is_delayed {
            seq = seq.max(self.drop_schedule(&schedule::of_exchange(name))?);
        }
        Ok(seq)
    }

    /// Whether messages may be published to it by clients.
    pub(crate) fn check_published(&self, name: &str) -> Result<()> {
        match self.topology.read().exchanges.get(name) {
            None => Err(self.no_exchange(name)),
            Some(exchange) if exchange.spec.internal => Err(Exception::new(
                Code::AccessRefused,
                format!("cannot publish to internal exchange '{name}' in vhost '{}'", self.name),
            )),
            Some(_) => Ok(()),
        }
    }
}

/// Whether there is such a type of exchanges.
pub(crate) fn check_type(name: &str) -> Result<()> {
    if name == DELAYED { Ok(()) } else { kind_of(name).map(drop) }
}

/// What an exchange is that is made as `asked`.
fn spec_of(type_name: &str, asked: Asked<'_>) -> Result<ExchangeSpec> {
    let Asked { durable, auto_delete, internal, arguments } = asked;
    let is_delayed = type_name == DELAYED;
    let kind = kind_of(if is_delayed { delayed_kind(arguments)? } else { type_name })?;
    let arguments = arguments.bytes().to_vec();
    Ok(ExchangeSpec { kind, durable, auto_delete, internal, is_delayed, arguments })
}

fn kind_of(name: &str) -> Result<Kind> {
    if NOT_BUILT.contains(&name) {
        return Err(Exception::not_implemented(format!("exchange type '{name}' is not built")));
    }
    Kind::of(name).ok_or_else(|| Exception::precondition(format!("unknown exchange type '{name}'")))
}

/// How an exchange that lets messages wait chooses afterwards.
fn delayed_kind(arguments: Table<'_>) -> Result<&str> {
    match arguments.get(DELAYED_KIND).and_then(Value::text) {
        Some(DELAYED) => Err(Exception::precondition(format!(
            "Invalid argument, '{DELAYED}' can't be used for '{DELAYED_KIND}'"
        ))),
        Some(kind) => Ok(kind),
        None => Err(Exception::precondition(format!(
            "Invalid argument, '{DELAYED_KIND}' must be an existing exchange type"
        ))),
    }
}
