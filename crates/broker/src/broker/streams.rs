//! Streams: look up, create, alter, grow, delete.

use std::{ops::Bound, sync::Arc};

use bytes::Bytes;
use model::{
    Error, ErrorKind, Kind, LogId, Namespace, Offset, PartitionIndex, Result, Seq, StreamId, StreamKey,
    limits,
};
use store::{Class, Durability, Permit};

use super::Broker;
use crate::{
    catalog::{CatalogState, Command, StreamRecord},
    log_state::{LogState, NOTE_INDEX_KEYS},
    settings::{Facets, Mode, StreamSettings, StreamSpec},
    stream::{Partition, Stream},
    work::close_work,
};

/// What one log's creation or deletion takes in the queue, bytes; more than enough.
const LOG_CHANGE_LEN: usize = 64;

/// What a note that new logs begin with takes there, bytes.
const LOG_NOTE_LEN: usize = 1;

impl Broker {
    /// The stream of that name.
    pub fn stream(&self, key: &StreamKey) -> Option<Arc<Stream>> {
        self.catalog().read().streams.get(key).cloned()
    }

    /// The stream of that incarnation.
    pub fn stream_by_id(&self, id: StreamId) -> Option<Arc<Stream>> {
        self.catalog().read().by_id.get(&id).cloned()
    }

    /// The streams of a namespace, by name; of one kind, or of both.
    pub fn streams(&self, namespace: &Namespace, kind: Option<Kind>) -> Vec<Arc<Stream>> {
        let from =
            StreamKey { namespace: namespace.clone(), kind: kind.unwrap_or(Kind::Log), name: "".into() };
        let state = self.catalog().read();
        let rest = state.streams.from(Bound::Included(&from));
        rest.take_while(|stream| {
            stream.key().namespace == *namespace && kind.is_none_or(|kind| stream.key().kind == kind)
        })
        .cloned()
        .collect()
    }

    /// Every stream, by key.
    pub fn all_streams(&self) -> Vec<Arc<Stream>> {
        self.catalog().read().streams.values().cloned().collect()
    }

    /// The namespaces that have streams.
    pub fn namespaces(&self) -> Vec<Namespace> {
        let state = self.catalog().read();
        let mut found: Vec<Namespace> = Vec::new();
        for key in state.streams.keys() {
            if found.last() != Some(&key.namespace) {
                found.push(key.namespace.clone());
            }
        }
        found
    }

    /// Rises with every change of any stream: handles cached under one generation are current while it lasts.
    pub fn catalog_generation(&self) -> u64 {
        self.catalog().generation()
    }

    /// The last change of streams, users and routes that is staged: an answer that rests on what is there, which a crash
    /// could still take back, waits for it.
    pub fn catalog_staged(&self) -> Seq {
        self.catalog().read().applied
    }

    /// Creates a stream; it is there at once for every caller, and durable once [`Broker::durable`] of the sequence
    /// resolves. Callers that create many stage all of them and wait once. [`model::ErrorKind::Exists`] when the name is
    /// taken, [`model::ErrorKind::Limit`] for too many partitions or streams, [`model::ErrorKind::Invalid`] for a name
    /// that is empty or too long.
    pub fn stage_create_stream(&self, key: StreamKey, spec: StreamSpec) -> Result<(Arc<Stream>, Seq)> {
        self.stage_create_stream_at(key, spec, Offset::ZERO)
    }

    /// [`Broker::stage_create_stream`], with `start` the first offset of each partition.
    pub fn stage_create_stream_at(
        &self,
        key: StreamKey,
        spec: StreamSpec,
        start: Offset,
    ) -> Result<(Arc<Stream>, Seq)> {
        check_key(&key)?;
        check_partitions(&key, spec.partitions)?;
        let count = if spec.settings.over.is_some() { 0 } else { spec.partitions as usize };
        let permits = self.log_permits(count)?;
        let mut state = self.catalog().lock();
        if state.streams.contains_key(&key) {
            return Err(Error::exists(format!("{key} exists")));
        }
        self.check_room(&state, &key)?;
        check_over(&state, &key, &spec.settings)?;
        check_history(&spec.settings)?;
        let record = StreamRecord {
            key,
            id: StreamId(self.env().random.u128()),
            settings: Arc::new(spec.settings),
            facets: spec.facets,
            logs: (0..count).map(|_| self.store().next_log_id()).collect(),
        };
        let id = record.id;
        if spec.facets.transient {
            state.put_stream(record)?;
        } else {
            self.command(&mut state, Command::CreateStream(record))?;
        }
        self.make_logs(&mut state, id, (permits, start), &[])
    }

    /// [`Broker::stage_create_stream`], answered after the commit.
    pub async fn create_stream(&self, key: StreamKey, spec: StreamSpec) -> Result<Arc<Stream>> {
        let (stream, seq) = self.stage_create_stream(key, spec)?;
        self.durable(seq).await?;
        Ok(stream)
    }

    /// Changes a stream's settings: `change` sees them as they are, under the catalog's lock, and its error is passed on.
    /// Mode and durability stay ([`model::ErrorKind::Invalid`]). Answers after the commit.
    pub async fn alter_stream(
        &self,
        key: &StreamKey,
        change: impl FnOnce(&mut StreamSettings) -> Result<()>,
    ) -> Result<Arc<Stream>> {
        let (stream, seq) = self.stage_alter_stream(key, change)?;
        self.durable(seq).await?;
        Ok(stream)
    }

    /// [`Broker::alter_stream`] without the wait.
    pub fn stage_alter_stream(
        &self,
        key: &StreamKey,
        change: impl FnOnce(&mut StreamSettings) -> Result<()>,
    ) -> Result<(Arc<Stream>, Seq)> {
        let mut state = self.catalog().lock();
        let before = state.streams.get(key).ok_or_else(|| unknown(key))?.clone();
        let mut settings = StreamSettings::clone(before.settings());
        change(&mut settings)?;
        let fixed = |settings: &StreamSettings| {
            let is_queue = settings.mode == Mode::Queue;
            (is_queue, settings.durability, settings.index_route_keys, settings.over.clone())
        };
        if fixed(&settings) != fixed(before.settings()) {
            return Err(Error::invalid(
                "durability, key index and log of a stream cannot change, nor can a queue",
            ));
        }
        let is_for_interest = settings.mode == Mode::Interest && before.settings().mode != Mode::Interest;
        check_history(&settings)?;
        let settings = state.shared(Arc::new(settings));
        let seq = if before.facets().transient {
            state.replace(before.with_settings(settings.clone()));
            Seq(0)
        } else {
            self.command(&mut state, Command::AlterStream { key: key.clone(), settings: settings.clone() })?
        };
        let stream = state.streams.get(key).ok_or_else(|| unknown(key))?.clone();
        // Those of a queue over a log are the log's.
        for partition in stream.partitions().iter().filter(|partition| partition.stream_id() == stream.id()) {
            partition.log().with(|_, log| {
                log.set_settings(settings.clone());
                // What a delay or a limit held back may be had now.
                log.works.iter_mut().flat_map(|works| works.values_mut()).for_each(|work| work.tell_next());
            });
            partition.follow(&settings);
            self.look_at_head(partition);
        }
        drop(state);
        let mut last = seq;
        for partition in stream.partitions().iter().filter(|_| is_for_interest) {
            last = last.max(self.drop_settled_by_all(partition)?);
        }
        Ok((stream, last))
    }

    /// Gives a stream `total` partitions, more than it has ([`model::ErrorKind::Invalid`] otherwise). Answers after the
    /// commit.
    pub async fn add_partitions(&self, key: &StreamKey, total: u32) -> Result<Arc<Stream>> {
        let (stream, seq) = self.stage_add_partitions(key, total)?;
        self.durable(seq).await?;
        Ok(stream)
    }

    /// Whether a stream can be given `total` partitions; the errors are those of [`Broker::add_partitions`].
    pub fn check_growth(&self, key: &StreamKey, total: u32) -> Result<()> {
        growth(&self.catalog().read(), key, total).map(drop)
    }

    /// [`Broker::add_partitions`] without the wait.
    pub fn stage_add_partitions(&self, key: &StreamKey, total: u32) -> Result<(Arc<Stream>, Seq)> {
        check_partitions(key, total)?;
        let permits = self.log_permits(total as usize)?;
        let mut state = self.catalog().lock();
        let more = growth(&state, key, total)?;
        let before = state.streams.get(key).ok_or_else(|| unknown(key))?.clone();
        let logs: Box<[LogId]> = (0..more).map(|_| self.store().next_log_id()).collect();
        if before.facets().transient {
            state.replace(before.with_logs(&logs));
        } else {
            self.command(&mut state, Command::AddPartitions { key: key.clone(), logs })?;
        }
        let (stream, seq) =
            self.make_logs(&mut state, before.id(), (permits, Offset::ZERO), before.partitions())?;
        if state.over_counts.contains_key(key) {
            let over: Vec<_> = state
                .streams
                .values()
                .filter(|one| one.settings().over.as_ref() == Some(key))
                .cloned()
                .collect();
            for queue in over {
                state.replace(queue.with_logs(&[]));
                self.make_logs(&mut state, queue.id(), (Vec::new(), Offset::ZERO), &[])?;
            }
        }
        Ok((stream, seq))
    }

    /// Deletes a stream with its records and the positions on it; whoever waits on it is told. Answers after the commit.
    pub async fn delete_stream(&self, key: &StreamKey) -> Result<()> {
        let seq = self.stage_delete_stream(key)?;
        self.durable(seq).await
    }

    /// [`Broker::delete_stream`] without the wait: the name is free at once.
    pub fn stage_delete_stream(&self, key: &StreamKey) -> Result<Seq> {
        self.stage_delete(key, |_| true)
    }

    /// [`Broker::stage_delete_stream`] of that stream, not of another that has got its name since:
    /// [`model::ErrorKind::NotFound`] then.
    pub fn stage_delete_this_stream(&self, stream: &Stream) -> Result<Seq> {
        self.stage_delete(stream.key(), |there| there.id() == stream.id())
    }

    fn stage_delete(&self, key: &StreamKey, is_meant: impl Fn(&Stream) -> bool) -> Result<Seq> {
        let mut state = self.catalog().lock();
        let stream = state.streams.get(key).filter(|there| is_meant(there));
        let stream = stream.ok_or_else(|| unknown(key))?.clone();
        if state.over_counts.contains_key(key) {
            return Err(Error::conflict(format!("queues are made over {key}: delete them first")));
        }
        let permit = self.store().reserve(LOG_CHANGE_LEN * stream.partitions().len(), Class::Drain)?;
        if stream.facets().transient {
            state.remove(key)?;
        } else {
            self.command(&mut state, Command::DeleteStream { key: key.clone() })?;
        }
        let logs: Vec<_> = stream.partitions().iter().map(|partition| partition.log()).collect();
        let mut locked = self.store().lock(&logs);
        for partition in stream.partitions() {
            let mut log = locked.log(partition.log_id())?;
            if stream.settings().over.is_some() {
                close_work(&mut log, &stream.work_name());
                continue;
            }
            self.forget_positions(partition, log.attached());
            log.delete();
        }
        let deleted = self.store().commit(permit, locked);
        let gone = Command::LogsGone(stream.logs().to_vec());
        let gone = if stream.facets().transient {
            state.apply(Seq(0), gone)?;
            Seq(0)
        } else {
            match self.command(&mut state, gone) {
                // It is deleted; that its logs are gone the next start finds out.
                Err(error) if error.kind() == ErrorKind::Throttled => deleted,
                said => said?,
            }
        };
        Ok(deleted.max(gone))
    }

    fn check_room(&self, state: &CatalogState, key: &StreamKey) -> Result<()> {
        let options = self.options();
        if state.streams.len() >= options.streams_max {
            return Err(Error::limit(format!("there are {} streams already", options.streams_max)));
        }
        let of_tenant = state.tenant_counts.get(&key.namespace.tenant).copied().unwrap_or(0);
        match options.streams_per_tenant_max {
            Some(max) if of_tenant >= max => {
                Err(Error::limit(format!("the tenant has {max} streams already")))
            }
            _ => Ok(()),
        }
    }

    /// Room for so many new logs, each with a note.
    fn log_permits(&self, count: usize) -> Result<Vec<Permit>> {
        let lens = [LOG_CHANGE_LEN, LOG_NOTE_LEN].into_iter().cycle().take(count * 2);
        lens.map(|len| self.store().reserve(len, Class::Drain)).collect()
    }

    /// Creates whichever logs of the stream are not there, and attaches its partitions; new logs begin at
    /// `start`.
    pub(super) fn make_logs(
        &self,
        state: &mut CatalogState,
        id: StreamId,
        (permits, start): (Vec<Permit>, Offset),
        known: &[Arc<Partition>],
    ) -> Result<(Arc<Stream>, Seq)> {
        let stream = state.by_id.get(&id).ok_or_else(|| Error::internal("a stream vanished"))?.clone();
        if let Some(over) = &stream.settings().over {
            let base = state.streams.get(over).ok_or_else(|| unknown(over))?;
            stream.attach(base.partitions().into());
            return Ok((stream, state.applied));
        }
        let durability = self.durability_of(stream.facets(), stream.settings());
        let tenant = self.inner.tenants.of(&stream.key().namespace.tenant);
        let mut permits = permits.into_iter();
        let mut last = state.applied;
        let mut partitions = Vec::with_capacity(stream.logs().len());
        for (index, log) in (0..).map(PartitionIndex).zip(stream.logs()) {
            if let Some(partition) = known.get(index.0 as usize) {
                partitions.push(partition.clone());
                continue;
            }
            let mut for_note = None;
            let log = match self.store().log(*log) {
                Some(log) => log,
                None => {
                    let permit = permits.next().ok_or_else(|| Error::internal("a log has no permit"))?;
                    for_note = permits.next();
                    let (log, seq) = self.store().create_log(permit, *log, start, durability)?;
                    last = last.max(seq);
                    log
                }
            };
            let partition = Arc::new(Partition::new(id, index, log, tenant.clone()));
            partition.follow(stream.settings());
            partition.log().with(|_, attached| {
                attached.set_settings(stream.settings().clone());
                attached.partition = Arc::downgrade(&partition);
                attached.charge_dedup_to(&self.inner.dedup_room);
                attached.charge_producers_to(&self.inner.producer_room);
                if !stream.settings().expires_records {
                    attached.expiries = None;
                }
            });
            last = last.max(self.index_route_keys(&partition, for_note)?);
            self.look_at_head(&partition);
            partitions.push(partition);
        }
        stream.attach(partitions.into());
        Ok((stream, last))
    }

    /// Notes on a new log that its route keys are indexed, where the stream's settings say so.
    fn index_route_keys(&self, partition: &Partition, permit: Option<Permit>) -> Result<Seq> {
        let is_due = |state: &LogState| {
            state.route_keys.is_none()
                && state.settings.as_ref().is_some_and(|settings| settings.index_route_keys)
        };
        if !partition.log().with(|_, state| is_due(state)) {
            return Ok(Seq(0));
        }
        let permit = permit.map_or_else(|| self.store().reserve(0, Class::Drain), Ok)?;
        let mut locked = self.store().lock(&[partition.log()]);
        let mut log = locked.log(partition.log_id())?;
        log.attached().route_keys.get_or_insert_default();
        log.note(Bytes::from_static(&[NOTE_INDEX_KEYS]));
        Ok(self.store().commit(permit, locked))
    }

    pub(super) fn durability_of(&self, facets: Facets, settings: &StreamSettings) -> Durability {
        if facets.transient || self.options().ephemeral { Durability::Memory } else { settings.durability }
    }
}

pub(super) fn unknown(key: &StreamKey) -> Error {
    Error::not_found(format!("there is no {key}"))
}

fn check_key(key: &StreamKey) -> Result<()> {
    for name in [&key.name, &key.namespace.tenant, &key.namespace.space] {
        if name.is_empty() || name.len() > limits::NAME_LEN_MAX {
            return Err(Error::invalid(format!("a name has 1 to {} bytes", limits::NAME_LEN_MAX)));
        }
    }
    Ok(())
}

/// A queue may be made over a log of its namespace that has records of its own.
fn check_over(state: &CatalogState, key: &StreamKey, settings: &StreamSettings) -> Result<()> {
    let Some(over) = &settings.over else { return Ok(()) };
    let base = state.streams.get(over).ok_or_else(|| unknown(over))?;
    if key.kind == Kind::Queue && over.kind == Kind::Log && base.settings().over.is_none() {
        Ok(())
    } else {
        Err(Error::invalid("a queue is made over a log"))
    }
}

/// A history is for what leaves the log when it is settled.
fn check_history(settings: &StreamSettings) -> Result<()> {
    if settings.history_ms.is_none() || (settings.mode == Mode::Queue && settings.over.is_none()) {
        return Ok(());
    }
    Err(Error::invalid(
        "a queue that is not over a log can have a history; what a log keeps, its retention says",
    ))
}

/// How many partitions a stream lacks that is to have `total`.
fn growth(state: &CatalogState, key: &StreamKey, total: u32) -> Result<usize> {
    let before = state.streams.get(key).ok_or_else(|| unknown(key))?;
    if before.settings().over.is_some() {
        return Err(Error::invalid("a queue over a log has the partitions of the log"));
    }
    check_partitions(key, total)?;
    let has = before.logs().len();
    let more = (total as usize).checked_sub(has).filter(|more| *more > 0);
    more.ok_or_else(|| Error::invalid(format!("{key} has {has} partitions, and can only be given more")))
}

fn check_partitions(key: &StreamKey, count: u32) -> Result<()> {
    match count {
        2.. if key.kind == Kind::Queue => {
            Err(Error::invalid("a queue has one partition: clients of queues would see only the first"))
        }
        0 => Err(Error::invalid("a stream has at least one partition")),
        1..=limits::PARTITIONS_MAX => Ok(()),
        _ => Err(Error::limit(format!("a stream has at most {} partitions", limits::PARTITIONS_MAX))),
    }
}
