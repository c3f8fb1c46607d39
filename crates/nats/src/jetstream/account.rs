//! The streams of one account, and which subjects they take.

use std::sync::{
    Arc,
    atomic::{
        AtomicBool, AtomicU64,
        Ordering::{Acquire, Release},
    },
};

use broker::{
    Broker, Partition, Stream, StreamSettings,
    routing::{Generations, Pattern, Routes, Rule},
};
use model::{Kind, Namespace, StreamKey};
use parking_lot::{Mutex, RwLock};

use super::{
    config::{StreamConfig, overlap},
    consumer::book::Book,
    foreign,
    mapping::Mapping,
};
use crate::core::{
    hub::Hub,
    member::{Member, Numbered},
};

/// A stream with what its configuration says.
pub(crate) struct Bound {
    pub stream: Arc<Stream>,
    pub partition: Arc<Partition>,
    pub config: StreamConfig,
    patterns: Vec<Pattern>,
    /// Under which subject a message is stored, where that is another one.
    pub transform: Option<Mapping>,
    /// Where what was stored is published again.
    pub republish: Option<Mapping>,
    /// Tells two states of one stream apart.
    number: u64,
    /// Whether another dialect made it.
    pub is_foreign: bool,
    /// How many partitions its log has, of which it is one.
    pub parts: usize,
}

impl Bound {
    /// As clients call it.
    pub(crate) fn name(&self) -> &str {
        if self.is_foreign { &self.config.name } else { &self.stream.key().name }
    }

    /// Whether it is of this state of a stream.
    fn is_of(&self, stream: &Stream) -> bool {
        is_same(self.stream.settings(), stream.settings())
            && self.stream.id() == stream.id()
            && self.parts == stream.partitions().len()
    }

    /// As the catalog does.
    fn key_name(&self) -> &str {
        &self.stream.key().name
    }

    /// Has what is too old go before it is looked at; where something is left in its place, that goes by the broker's own
    /// time.
    pub(crate) fn shed(&self, broker: &Broker) {
        if self.config.max_age > 0 && self.config.marker_ttl_s().is_none() {
            broker.retain(&self.stream);
        }
    }
}

impl Numbered for Bound {
    fn number(&self) -> u64 {
        self.number
    }
}

struct Table {
    /// By name.
    all: Vec<Arc<Bound>>,
    routes: Routes<Member<Bound>>,
    next_number: u64,
}

/// One account: a tenant's streams, as this dialect has them.
pub(crate) struct Account {
    broker: Broker,
    pub namespace: Namespace,
    table: RwLock<Table>,
    generations: Arc<Generations>,
    /// The catalog's generation that the table is of.
    seen: AtomicU64,
    /// Whether none takes a subject: then a publish costs nothing more than without streams.
    is_empty: AtomicBool,
    /// Held while streams or consumers are made or changed: what is checked stays so.
    pub changing: Mutex<()>,
    pub consumers: Arc<Book>,
    pub requests: Requests,
}

/// Requests of the API that were answered, and how many of those with an error.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    pub all: AtomicU64,
    pub refused: AtomicU64,
}

impl Account {
    /// The account of a tenant, with the consumers that it had. To be made where tasks can be started.
    pub(crate) fn new(broker: Broker, tenant: &str, hub: Arc<Hub>, pending_len_max: usize) -> Arc<Self> {
        let namespace = Namespace::new(tenant, "default");
        let consumers = Arc::new(Book::new(broker.clone(), namespace.clone(), hub, pending_len_max));
        let routes = Routes::new(Generations::per_token());
        let generations = routes.generations().clone();
        let table = Table { all: Vec::new(), routes, next_number: 0 };
        let account = Arc::new(Account {
            broker,
            namespace,
            consumers,
            table: RwLock::new(table),
            generations,
            seen: AtomicU64::new(u64::MAX),
            is_empty: AtomicBool::new(true),
            changing: Mutex::new(()),
            requests: Requests::default(),
        });
        account.consumers.load(&account);
        account
    }

    /// The broker that has its streams.
    pub(crate) fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Milliseconds since the Unix epoch.
    pub(crate) fn now_ms(&self) -> i64 {
        self.broker.env().clock.wall_ms()
    }

    /// The name of a stream in the catalog.
    pub(crate) fn key(&self, name: &str) -> StreamKey {
        StreamKey::log(&self.namespace, name)
    }

    /// What tells whether a kept answer is current; brings the table up to date first.
    pub(crate) fn generations(&self) -> &Generations {
        self.refresh();
        &self.generations
    }

    /// Whether it has no stream; to be asked after [`Account::generations`].
    pub(crate) fn is_empty(&self) -> bool {
        self.is_empty.load(Acquire)
    }

    /// Takes in what changed in the catalog, whoever changed it.
    fn refresh(&self) {
        let generation = self.broker.catalog_generation();
        if self.seen.load(Acquire) == generation {
            return;
        }
        let mut table = self.table.write();
        let streams = self.broker.streams(&self.namespace, Some(Kind::Log));
        table.take_in(streams);
        self.is_empty.store(table.routes.is_empty(), Release);
        self.seen.store(generation, Release);
    }

    /// Every stream, by name.
    pub(crate) fn streams(&self) -> Vec<Arc<Bound>> {
        self.refresh();
        self.table.read().all.clone()
    }

    /// The stream of that name.
    pub(crate) fn stream(&self, name: &str) -> Option<Arc<Bound>> {
        self.refresh();
        let table = self.table.read();
        match table.all.binary_search_by(|bound| bound.key_name().cmp(name)) {
            Ok(at) => table.all.get(at).filter(|bound| bound.name() == name).cloned(),
            Err(_) if foreign::may_be_alias(name) => {
                table.all.iter().find(|bound| bound.is_foreign && bound.name() == name).cloned()
            }
            Err(_) => None,
        }
    }

    /// The stream that takes a subject.
    pub(crate) fn taker(&self, subject: &[u8]) -> Option<Arc<Bound>> {
        let mut taker = None;
        self.table.read().routes.targets(subject, &[], |member| taker = Some(member.0.clone()));
        taker
    }

    /// A stream other than `but` that takes subjects which one of `patterns` matches.
    pub(crate) fn overlapping(&self, patterns: &[Pattern], but: &str) -> Option<Arc<Bound>> {
        let others = self.streams().into_iter().filter(|bound| bound.name() != but);
        let meets = |bound: &Arc<Bound>| {
            bound.patterns.iter().any(|one| patterns.iter().any(|other| overlap(one, other)))
        };
        others.into_iter().find(meets)
    }
}

impl Table {
    fn take_in(&mut self, streams: Vec<Arc<Stream>>) {
        let old = std::mem::take(&mut self.all);
        let mut old = old.into_iter().peekable();
        for stream in streams {
            while let Some(gone) = old.next_if(|known| known.key_name() < &*stream.key().name) {
                self.unbind(&gone);
            }
            let mut known = Vec::new();
            while let Some(part) = old.next_if(|known| known.key_name() == &*stream.key().name) {
                known.push(part);
            }
            if known.first().is_some_and(|first| first.is_of(&stream)) {
                self.all.append(&mut known);
                continue;
            }
            known.iter().for_each(|part| self.unbind(part));
            self.bind(&stream);
        }
        old.for_each(|gone| self.unbind(&gone));
    }

    /// Binds a stream; of one that another dialect made, each partition.
    fn bind(&mut self, stream: &Arc<Stream>) {
        let own = StreamConfig::of(stream.settings());
        let is_foreign = own.is_none();
        let count = if is_foreign { stream.partitions().len() } else { 1 };
        for partition in stream.partitions().iter().take(count) {
            let config = own.clone().or_else(|| foreign::config_of(stream, partition.index()));
            if let Some(config) = config {
                self.bind_partition(stream, partition, config, is_foreign);
            }
        }
    }

    fn bind_partition(
        &mut self,
        stream: &Arc<Stream>,
        partition: &Arc<Partition>,
        config: StreamConfig,
        is_foreign: bool,
    ) {
        let patterns = config.patterns();
        self.next_number += 1;
        let of_transform = config.subject_transform.as_ref();
        let of_republish = config.republish.as_ref();
        let bound = Arc::new(Bound {
            stream: stream.clone(),
            partition: partition.clone(),
            transform: of_transform.and_then(|of| Mapping::new(&of.src, &of.dest)),
            republish: of_republish.and_then(|of| Mapping::new(&of.src, &of.dest)),
            config,
            patterns,
            number: self.next_number,
            is_foreign,
            parts: stream.partitions().len(),
        });
        for pattern in &bound.patterns {
            self.routes.add(&Rule::Tokens(pattern.clone()), Member(bound.clone()));
        }
        self.all.push(bound);
    }

    fn unbind(&mut self, bound: &Arc<Bound>) {
        for pattern in &bound.patterns {
            self.routes.remove(&Rule::Tokens(pattern.clone()), &Member(bound.clone()));
        }
    }
}

fn is_same(one: &Arc<StreamSettings>, other: &Arc<StreamSettings>) -> bool {
    Arc::ptr_eq(one, other) || one == other
}
