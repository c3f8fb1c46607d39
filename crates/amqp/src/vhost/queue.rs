//! Queues: declared, looked at, deleted. A queue is a queue of the broker with this dialect's arguments beside its
//! settings; one that another dialect made is a durable queue without arguments.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, atomic::Ordering::Relaxed},
};

use base64::{Engine, prelude::BASE64_STANDARD, prelude::BASE64_URL_SAFE_NO_PAD};
use broker::{
    Facets, Mode, Order, Overflow, Partition, Sharing, Stream, StreamSettings, StreamSpec, Work, WorkSpec,
};
use model::{ErrorKind, Offset, PartitionIndex, Seq, StreamKey, limits};
use parking_lot::Mutex;
use tokio::sync::{Notify, RwLock};

use super::{
    Vhost,
    arguments::{self, Arguments, OverflowPolicy},
};
use crate::{
    codec::Value,
    dead_letters::DIALECT,
    error::{Code, Exception, Result},
    schedule,
};

/// Where the arguments are kept among a stream's settings, in Base64.
const ARGUMENTS: &str = "amqp.arguments";
/// That it expires when it is not used: to be found at a start.
pub(crate) const EXPIRES: &str = "amqp.expires";
/// Whether it was declared durable.
const DURABLE: &str = "amqp.durable";

/// Handles of queues above which unused ones are looked for.
pub(crate) const HANDLES_MAX: usize = 16_384;

/// Whether a client of this dialect declared it.
pub(crate) fn is_own(stream: &Stream) -> bool {
    stream.settings().extras.contains_key(DURABLE)
}

/// A queue as connections use it.
pub(crate) struct Queue {
    pub name: Arc<str>,
    pub stream: Arc<Stream>,
    pub partition: Arc<Partition>,
    pub work: Work,
    pub arguments: Arguments,
    /// The fields of its arguments, as they were sent.
    raw_arguments: Vec<u8>,
    /// The connection that alone may use it.
    pub owner: Option<u64>,
    /// It holds messages until their time: no client uses it.
    pub is_schedule: bool,
    pub users: Arc<Mutex<Users>>,
    /// Told when one more consumer comes, of those of which one does it all.
    pub rivals: Arc<Notify>,
    /// Held for writing while a client deletes it, until that client is answered: consumers are told afterwards.
    pub deletion: Arc<RwLock<()>>,
}

/// Who consumes.
#[derive(Debug, Default)]
pub(crate) struct Users {
    pub consumers: u32,
    /// One of them does not share.
    pub is_taken: bool,
    /// When it was used last, by the monotonic clock, nanoseconds.
    pub used_ns: u64,
    /// It is looked at when it may have expired, see [`crate::expiry`].
    pub is_watched: bool,
    /// How often consumers of a quorum queue gave messages back in a way that does not count, since the start.
    uncounted: HashMap<Offset, u32>,
}

/// How long it may take until a consumer has a message that is to be delivered at once, milliseconds: a sync, for all that is
/// known of the disk.
const AT_ONCE_MS: u64 = 1_000;

/// Messages of which a queue knows how often they came back without counting.
const UNCOUNTED_MAX: usize = 100_000;

/// What a declaration asks for.
#[derive(Clone, Debug)]
pub(crate) struct QueueSpec {
    pub durable: bool,
    pub exclusive: bool,
    pub auto_delete: bool,
    /// The fields of its arguments, as they were sent.
    pub arguments: Vec<u8>,
}

impl QueueSpec {
    /// What one connection has alone goes with it, whatever else is said.
    fn is_durable(&self) -> bool {
        self.durable && !self.exclusive
    }
}

impl Queue {
    /// Messages that may be delivered.
    pub(crate) fn ready(&self) -> u32 {
        let ready = self.work.counts().map_or(0, |counts| counts.ready);
        u32::try_from(ready).unwrap_or(u32::MAX)
    }

    /// Whether one consumer does it all until one of a higher priority comes: as quorum queues have it. In classic ones it
    /// stays until it leaves.
    pub(crate) fn has_ranks(&self) -> bool {
        self.arguments.is_quorum && self.arguments.single_active_consumer
    }

    /// Whether it may have so many messages or bytes only.
    pub(crate) fn has_length(&self) -> bool {
        self.arguments.max_length.is_some() || self.arguments.max_length_bytes.is_some()
    }

    /// Consumers that it has.
    pub(crate) fn consumers(&self) -> u32 {
        self.users.lock().consumers
    }

    /// When a message expires that comes at `now_ms` and may wait for `ttl_ms`, where it says so, milliseconds since the Unix
    /// epoch. One that is to be delivered at once or not at all is given the time that takes, where somebody may take it.
    /// What the queue says of itself counts beside this.
    pub(crate) fn expiry_ms(&self, ttl_ms: Option<u64>, now_ms: i64) -> Option<i64> {
        let at_once = ttl_ms == Some(0) || self.arguments.message_ttl_ms == Some(0);
        let ttl_ms = match at_once {
            true if self.consumers() > 0 => Some(AT_ONCE_MS),
            true => Some(0),
            false => ttl_ms,
        };
        ttl_ms.map(|ttl_ms| now_ms.saturating_add_unsigned(ttl_ms))
    }

    /// How often a message came back in a way that does not count.
    pub(crate) fn uncounted(&self, offset: Offset) -> u32 {
        self.users.lock().uncounted.get(&offset).copied().unwrap_or(0)
    }

    /// A consumer gave a message back in such a way.
    pub(crate) fn note_uncounted(&self, offset: Offset) {
        let uncounted = &mut self.users.lock().uncounted;
        if uncounted.len() < UNCOUNTED_MAX || uncounted.contains_key(&offset) {
            *uncounted.entry(offset).or_default() += 1;
        }
    }

    /// A message leaves it.
    pub(crate) fn forget_uncounted(&self, offset: Offset) {
        self.users.lock().uncounted.remove(&offset);
    }

    fn is_durable(&self) -> bool {
        match self.stream.settings().extras.get(DURABLE) {
            Some(durable) => durable == "true",
            None => !self.stream.facets().transient,
        }
    }
}

impl Vhost {
    fn key(&self, name: &str) -> StreamKey {
        StreamKey::queue(&self.namespace, name)
    }

    /// The stream that a queue is, if it is there.
    pub(crate) fn stream(&self, name: &str) -> Option<Arc<Stream>> {
        self.broker.stream(&self.key(name))
    }

    pub(crate) fn no_queue(&self, name: &str) -> Exception {
        Exception::not_found(format!("no queue '{name}' in vhost '{}'", self.name))
    }

    /// How texts call a queue.
    pub(crate) fn what(&self, name: &str) -> String {
        format!("queue '{name}' in vhost '{}'", self.name)
    }

    /// The queue of that name that clients may use, if it is there.
    pub(crate) fn find_queue(&self, name: &str) -> Result<Option<Arc<Queue>>> {
        if schedule::is_schedule(name) { Ok(None) } else { self.find_any_queue(name) }
    }

    /// The queue of that name, if it is there.
    pub(crate) fn find_any_queue(&self, name: &str) -> Result<Option<Arc<Queue>>> {
        let Some(stream) = self.stream(name) else {
            self.queues.lock().remove(name);
            return Ok(None);
        };
        let known = self.queues.lock().get(name).cloned();
        if let Some(known) = known.filter(|known| Arc::ptr_eq(&known.stream, &stream)) {
            return Ok(Some(known));
        }
        self.handle(stream, None).map(Some)
    }

    /// Makes the handle that connections share.
    fn handle(&self, stream: Arc<Stream>, owner: Option<u64>) -> Result<Arc<Queue>> {
        let name: Arc<str> = stream.key().name.clone();
        let extras = &stream.settings().extras;
        let raw_arguments = extras.get(ARGUMENTS).and_then(|text| BASE64_STANDARD.decode(text).ok());
        let raw_arguments = raw_arguments.unwrap_or_default();
        let arguments = Arguments::read(arguments::table(&raw_arguments), &self.what(&name))?;
        let partition = stream.partition(PartitionIndex(0)).ok_or_else(|| self.no_queue(&name))?.clone();
        let work = match self.broker.queue_work_there(&stream, PartitionIndex(0)) {
            Some(work) => work,
            None if stream.settings().over.is_some() => {
                self.broker.stream_work(&stream, PartitionIndex(0))?.0
            }
            None => self.broker.open_work(&partition, broker::QUEUE_WORK, work_spec(&arguments))?.0,
        };
        let is_schedule = schedule::is_schedule(&name);
        let mut queues = self.queues.lock();
        let known = queues.get(&name).filter(|known| known.stream.id() == stream.id()).cloned();
        if let Some(known) = &known
            && Arc::ptr_eq(&known.stream, &stream)
            && (owner.is_none() || owner == known.owner)
        {
            return Ok(known.clone());
        }
        let (users, rivals, deletion) = match &known {
            // Its settings changed, or somebody found it before its owner was known: who consumes stays.
            Some(known) => (known.users.clone(), known.rivals.clone(), known.deletion.clone()),
            None => {
                let users = Users { used_ns: self.now_ns(), ..Users::default() };
                (Arc::new(Mutex::new(users)), Arc::default(), Arc::default())
            }
        };
        let queue = Queue {
            name,
            stream,
            partition,
            work,
            arguments,
            raw_arguments,
            owner: known.as_ref().and_then(|known| known.owner).or(owner),
            is_schedule,
            users,
            rivals,
            deletion,
        };
        let queue = Arc::new(queue);
        queues.insert(queue.name.clone(), queue.clone());
        if known.is_some() {
            return Ok(queue);
        }
        self.forget_unused(&mut queues);
        drop(queues);
        self.is_left(&queue);
        Ok(queue)
    }

    /// Where there are many handles, those of queues that nobody uses just now go: they are made again from what the broker
    /// knows. A handle that knows more than that stays.
    fn forget_unused(&self, queues: &mut HashMap<Arc<str>, Arc<Queue>>) {
        if queues.len() < self.handles_max.load(Relaxed) {
            return;
        }
        queues.retain(|_, queue| {
            Arc::strong_count(queue) > 1 || queue.owner.is_some() || queue.arguments.expires_ms.is_some()
        });
        self.handles_max.store(HANDLES_MAX.max(2 * queues.len()), Relaxed);
    }

    fn now_ns(&self) -> u64 {
        self.broker.env().clock.mono_ns()
    }

    /// Begins the time anew after which a queue expires. It is only later for that: nobody has to look at it now.
    pub(crate) fn touch(&self, queue: &Queue) {
        if queue.arguments.expires_ms.is_some() {
            queue.users.lock().used_ns = self.now_ns();
        }
    }

    /// A queue has no consumers, any more or yet: its time to expire begins.
    pub(crate) fn is_left(&self, queue: &Queue) {
        let Some(expires_ms) = queue.arguments.expires_ms else { return };
        let now_ns = self.now_ns();
        let is_watched = {
            let mut users = queue.users.lock();
            users.used_ns = now_ns;
            std::mem::replace(&mut users.is_watched, true)
        };
        if !is_watched {
            let due_ns = now_ns.saturating_add(expires_ms.saturating_mul(1_000_000));
            self.expiry.watch(&self.namespace, queue, due_ns);
        }
    }

    /// The queue of that name for that connection.
    pub(crate) fn queue(&self, name: &str, connection: u64) -> Result<Arc<Queue>> {
        let queue = self.find_queue(name)?.ok_or_else(|| self.no_queue(name))?;
        self.check_owner(&queue, connection)?;
        Ok(queue)
    }

    pub(super) fn check_owner(&self, queue: &Queue, connection: u64) -> Result<()> {
        match queue.owner {
            Some(owner) if owner != connection => Err(self.locked(&queue.name)),
            _ => Ok(()),
        }
    }

    fn locked(&self, name: &str) -> Exception {
        Exception::new(
            Code::ResourceLocked,
            format!(
                "cannot obtain exclusive access to locked {}. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration.",
                self.what(name)
            ),
        )
    }

    /// A name that nobody has.
    pub(crate) fn generated(&self, prefix: &str) -> String {
        let random = self.broker.env().random.u128();
        format!("{prefix}{}", BASE64_URL_SAFE_NO_PAD.encode(random.to_be_bytes()))
    }

    /// A name for a queue that is declared without one, if such a queue may be.
    pub(crate) fn name_for(&self, spec: &QueueSpec) -> Result<String> {
        match arguments::type_of(arguments::table(&spec.arguments), &self.what("")) {
            Ok(true) => Err(Exception::precondition(
                "Cannot declare a server-named queue for type rabbit_quorum_queue",
            )),
            _ => Ok(self.generated("amq.gen-")),
        }
    }

    /// Whether a client may give that name to a queue, also to one that has it.
    pub(crate) fn check_queue_name(name: &str) -> Result<()> {
        if name.starts_with("amq.") {
            return Err(Exception::refused(format!("queue name '{name}' contains reserved prefix 'amq.*'")));
        }
        Ok(())
    }

    /// Makes a queue, or finds that the one which is there is the same. `may_lead_to` says whether whoever declares it may
    /// have its dead letters go to an exchange. Wait for the sequence.
    pub(crate) fn declare_queue(
        self: &Arc<Self>,
        name: &str,
        spec: &QueueSpec,
        connection: u64,
        may_lead_to: &dyn Fn(&str) -> Result<()>,
    ) -> Result<(Arc<Queue>, Seq)> {
        loop {
            if let Some(known) = self.find_queue(name)? {
                self.check_same_queue(&known, spec, connection)?;
                if !known.arguments.is_quorum {
                    self.touch(&known);
                }
                return Ok((known, self.broker.catalog_staged()));
            }
            let arguments = self.check_spec(name, spec, may_lead_to)?;
            // Of a queue that had the name and was deleted by another dialect.
            self.forget_queue(name)?;
            let created =
                self.broker.stage_create_stream(self.key(name), stream_spec(name, spec, &arguments));
            match created {
                Ok((stream, made)) => {
                    let partition = stream.partition(PartitionIndex(0)).ok_or_else(|| self.no_queue(name))?;
                    let spec_of_work = work_spec(&arguments);
                    let (_, opened) = self.broker.open_work(partition, broker::QUEUE_WORK, spec_of_work)?;
                    let owner = spec.exclusive.then_some(connection);
                    let mut seq = made.max(opened);
                    if arguments.keeps_letters() {
                        let (letters, made) = self.make_schedule(&schedule::of_letters(name), true)?;
                        seq = seq.max(made);
                        schedule::start(self, letters);
                    }
                    return Ok((self.handle(stream, owner)?, seq));
                }
                Err(error) if error.kind() == ErrorKind::Exists => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn check_spec(
        &self,
        name: &str,
        spec: &QueueSpec,
        may_lead_to: &dyn Fn(&str) -> Result<()>,
    ) -> Result<Arguments> {
        let table = arguments::table(&spec.arguments);
        if let Some(exchange) = table.get("x-dead-letter-exchange").and_then(Value::text) {
            may_lead_to(exchange)?;
        }
        let arguments = Arguments::read(table, &self.what(name))?;
        if arguments.keeps_letters() && schedule::of_letters(name).len() > limits::NAME_LEN_MAX {
            return Err(Exception::precondition(format!(
                "the name of {} is too long for one whose dead letters have to arrive",
                self.what(name)
            )));
        }
        if arguments.is_quorum {
            for (is_so, property) in [
                (spec.auto_delete, "auto-delete"),
                (spec.exclusive, "exclusive-owner"),
                (!spec.durable, "non-durable"),
            ] {
                if is_so {
                    return Err(Exception::precondition(format!(
                        "invalid property '{property}' for {}",
                        self.what(name)
                    )));
                }
            }
        }
        Ok(arguments)
    }

    fn check_same_queue(&self, known: &Queue, spec: &QueueSpec, connection: u64) -> Result<()> {
        self.check_owner(known, connection)?;
        if spec.exclusive != known.owner.is_some() {
            return Err(self.locked(&known.name));
        }
        let what = self.what(&known.name);
        for (field, asked, is_now) in [
            ("durable", spec.is_durable(), known.is_durable()),
            ("auto_delete", spec.auto_delete, known.stream.facets().auto_delete),
        ] {
            if asked != is_now {
                return Err(Exception::precondition(format!(
                    "inequivalent arg '{field}' for {what}: received '{asked}' but current is '{is_now}'"
                )));
            }
        }
        known.arguments.check_same_queue(&what, &known.raw_arguments, &spec.arguments)
    }

    /// Deletes a queue with its bindings; how many messages it had ready. One that is not there is fine. Wait for the
    /// sequence.
    pub(crate) fn delete_queue(
        &self,
        name: &str,
        connection: u64,
        (if_unused, if_empty): (bool, bool),
    ) -> Result<(u32, Seq)> {
        let Some(queue) = self.find_queue(name)? else { return Ok((0, self.broker.catalog_staged())) };
        self.check_owner(&queue, connection)?;
        if if_unused && queue.consumers() > 0 {
            return Err(Exception::precondition(format!("{} in use", self.what(name))));
        }
        let ready = queue.ready();
        if if_empty && ready > 0 {
            return Err(Exception::precondition(format!("{} not empty", self.what(name))));
        }
        Ok((ready, self.drop_queue(&queue)?))
    }

    /// Deletes a queue, unless it is gone: one that has got its name since stays.
    pub(crate) fn drop_queue(&self, queue: &Queue) -> Result<Seq> {
        let deleted = match self.broker.stage_delete_this_stream(&queue.stream) {
            Ok(seq) => seq,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(self.broker.catalog_staged()),
            Err(error) => return Err(error.into()),
        };
        {
            let mut queues = self.queues.lock();
            if queues.get(&queue.name).is_some_and(|known| known.stream.id() == queue.stream.id()) {
                queues.remove(&queue.name);
            }
        }
        let letters = match queue.arguments.keeps_letters() {
            true => self.drop_schedule(&schedule::of_letters(&queue.name))?,
            false => Seq(0),
        };
        Ok(deleted.max(letters).max(self.forget_queue(&queue.name)?))
    }

    /// Makes a queue that holds messages until their time, or finds it. Wait for the sequence.
    pub(super) fn make_schedule(&self, name: &str, is_durable: bool) -> Result<(Arc<Queue>, Seq)> {
        let spec = StreamSpec {
            partitions: 1,
            settings: StreamSettings { mode: Mode::Queue, ..StreamSettings::default() },
            facets: Facets { transient: !is_durable, ..Facets::default() },
        };
        let (stream, made) = match self.broker.stage_create_stream(self.key(name), spec) {
            Ok(made) => made,
            Err(error) if error.kind() == ErrorKind::Exists => {
                let stream = self.stream(name).ok_or_else(|| self.no_queue(name))?;
                (stream, self.broker.catalog_staged())
            }
            Err(error) => return Err(error.into()),
        };
        let partition = stream.partition(PartitionIndex(0)).ok_or_else(|| self.no_queue(name))?;
        let (_, opened) = self.broker.open_work(partition, broker::QUEUE_WORK, WorkSpec::default())?;
        Ok((self.handle(stream, None)?, made.max(opened)))
    }

    /// Deletes a queue that holds messages until their time, with them. Wait for the sequence.
    pub(super) fn drop_schedule(&self, name: &str) -> Result<Seq> {
        self.queues.lock().remove(name);
        match self.broker.stage_delete_stream(&self.key(name)) {
            Ok(seq) => Ok(seq),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Seq(0)),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a queue belongs to that connection.
    pub(crate) fn is_owned(&self, name: &str, connection: u64) -> bool {
        self.queues.lock().get(name).is_some_and(|queue| queue.owner == Some(connection))
    }

    /// Deletes those of these queues that belong to a connection that ends.
    pub(crate) fn drop_owned(&self, names: impl Iterator<Item = Arc<str>>, connection: u64) {
        for name in names {
            let known = self.queues.lock().get(&name).cloned();
            let Some(queue) = known.filter(|queue| queue.owner == Some(connection)) else { continue };
            if let Err(error) = self.drop_queue(&queue) {
                tracing::warn!(queue = %queue.name, %error, "an exclusive queue could not be deleted");
            }
        }
    }
}

fn work_spec(arguments: &Arguments) -> WorkSpec {
    WorkSpec {
        order: if arguments.max_priority.is_some() { Order::Priority } else { Order::Offset },
        delivery_limit: arguments.delivery_limit,
        sharing: if arguments.single_active_consumer { Sharing::Single } else { Sharing::Turns },
        ..WorkSpec::default()
    }
}

fn stream_spec(name: &str, spec: &QueueSpec, arguments: &Arguments) -> StreamSpec {
    let mut extras = BTreeMap::from([
        (ARGUMENTS.to_owned(), BASE64_STANDARD.encode(&spec.arguments)),
        (DURABLE.to_owned(), spec.is_durable().to_string()),
    ]);
    if arguments.expires_ms.is_some() {
        extras.insert(EXPIRES.to_owned(), "true".to_owned());
    }
    if arguments.dead_letter_exchange.is_some() {
        extras.insert(broker::DEAD_LETTERS.to_owned(), DIALECT.to_owned());
    }
    let transient = !spec.is_durable();
    StreamSpec {
        partitions: 1,
        settings: StreamSettings {
            mode: Mode::Queue,
            length_max: arguments.max_length,
            bytes_max: arguments.max_length_bytes,
            overflow: match arguments.overflow {
                OverflowPolicy::DropHead => Overflow::DropOldest,
                OverflowPolicy::RejectPublish | OverflowPolicy::RejectPublishDlx => Overflow::Refuse,
            },
            limits_ready: arguments.max_length.is_some() || arguments.max_length_bytes.is_some(),
            // What comes is given its time one by one where it is to be delivered at once.
            ttl_ms: arguments.message_ttl_ms.map(|ttl_ms| if ttl_ms == 0 { AT_ONCE_MS } else { ttl_ms }),
            delivery_limit: arguments.delivery_limit,
            extras,
            ..StreamSettings::default()
        },
        facets: Facets {
            hidden: transient || spec.auto_delete || name.starts_with("amq."),
            exclusive: spec.exclusive,
            auto_delete: spec.auto_delete,
            transient,
        },
    }
}
