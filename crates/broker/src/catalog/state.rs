//! The catalog as a pure state machine: commands in, tables out.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use model::{Error, Kind, LogId, Namespace, Result, Seq, StreamId, StreamKey};

use super::{
    command::{Command, Section, StreamRecord, put_document_key, read_document_key},
    stream_map::StreamMap,
    user::UserRecord,
};
use crate::{
    codec::{Reader, put_bytes, put_i64, put_u64, put_u128},
    documents::DocumentKey,
    settings::StreamSettings,
    stream::Stream,
};

const SNAPSHOT_VERSION: u8 = 1;

/// Every table of the catalog.
#[derive(Default)]
pub(crate) struct CatalogState {
    pub incarnation: u128,
    /// What handles are sealed with.
    pub secret: u128,
    pub streams: StreamMap,
    pub by_id: HashMap<StreamId, Arc<Stream>>,
    /// How many queues are made over a log.
    pub over_counts: HashMap<StreamKey, usize>,
    pub tenant_counts: HashMap<Arc<str>, usize>,
    /// Logs of deleted streams that the engine may still have.
    pub doomed: BTreeSet<LogId>,
    /// Producer ids below this may be in use.
    pub producer_ids_below: i64,
    pub documents: BTreeMap<DocumentKey, Bytes>,
    pub users: BTreeMap<Arc<str>, UserRecord>,
    pub entries: BTreeMap<(Section, Bytes), Bytes>,
    /// Position of the last command.
    pub applied: Seq,
    /// Rises with every change of a stream; not stored.
    pub generation: Arc<AtomicU64>,
    /// The greatest log id that a stream ever had.
    pub log_id_max: LogId,
    /// One copy of each set of settings: most streams share a few.
    pub settings: HashSet<Arc<StreamSettings>>,
    pub settings_prune_at: usize,
}

/// Fewest sets of settings at which unused ones are looked for.
const SETTINGS_PRUNE_AT_LEAST: usize = 64;

impl CatalogState {
    /// Applies a command that was validated when it was made.
    pub(crate) fn apply(&mut self, seq: Seq, command: Command) -> Result<()> {
        match command {
            Command::Init { incarnation, secret } => (self.incarnation, self.secret) = (incarnation, secret),
            Command::CreateStream(record) => self.put_stream(record)?,
            Command::AlterStream { key, settings } => {
                let settings = self.shared(settings);
                let changed = self.existing(&key)?.with_settings(settings);
                self.replace(changed);
            }
            Command::AddPartitions { key, logs } => {
                self.log_id_max = logs.iter().copied().max().unwrap_or_default().max(self.log_id_max);
                let changed = self.existing(&key)?.with_logs(&logs);
                self.replace(changed);
            }
            Command::DeleteStream { key } => self.remove(&key)?,
            Command::LogsGone(logs) => logs.iter().for_each(|log| {
                self.doomed.remove(log);
            }),
            Command::ProducerIds { below } => self.producer_ids_below = below,
            Command::PutDocument { key, body: Some(body) } => drop(self.documents.insert(key, body)),
            Command::PutDocument { key, body: None } => drop(self.documents.remove(&key)),
            Command::PutUser { name, user } => drop(self.users.insert(name, *user)),
            Command::DeleteUser { name } => drop(self.users.remove(&name)),
            Command::PutEntry { section, key, body: Some(body) } => {
                drop(self.entries.insert((section, key), body))
            }
            Command::PutEntry { section, key, body: None } => drop(self.entries.remove(&(section, key))),
        }
        self.applied = self.applied.max(seq);
        Ok(())
    }

    fn existing(&self, key: &StreamKey) -> Result<&Arc<Stream>> {
        self.streams
            .get(key)
            .ok_or_else(|| Error::corrupt(format!("a catalog command names {key}, which is not there")))
    }

    /// The one copy of a namespace's names, if a stream is there already; streams of one namespace lie side by side.
    fn shared_namespace(&self, namespace: &Namespace) -> Namespace {
        let first = StreamKey { namespace: namespace.clone(), kind: Kind::Log, name: "".into() };
        let found = self.streams.from(Bound::Included(&first)).next().map(|stream| &stream.key().namespace);
        found.filter(|found| *found == namespace).unwrap_or(namespace).clone()
    }

    /// The one copy of these settings.
    pub(crate) fn shared(&mut self, settings: Arc<StreamSettings>) -> Arc<StreamSettings> {
        if let Some(known) = self.settings.get(&settings) {
            return known.clone();
        }
        if self.settings.len() >= self.settings_prune_at.max(SETTINGS_PRUNE_AT_LEAST) {
            self.settings.retain(|known| Arc::strong_count(known) > 1);
            self.settings_prune_at = self.settings.len() * 2;
        }
        self.settings.insert(settings.clone());
        settings
    }

    pub(crate) fn put_stream(&mut self, record: StreamRecord) -> Result<()> {
        let settings = self.shared(record.settings);
        let namespace = self.shared_namespace(&record.key.namespace);
        let key = StreamKey { namespace, ..record.key };
        let stream = Arc::new(Stream::new(StreamRecord { key, settings, ..record }));
        if self.streams.contains_key(stream.key()) {
            return Err(Error::corrupt(format!("the catalog creates {} twice", stream.key())));
        }
        self.log_id_max = stream.logs().iter().copied().max().unwrap_or_default().max(self.log_id_max);
        if let Some(over) = &stream.settings().over {
            *self.over_counts.entry(over.clone()).or_default() += 1;
        }
        *self.tenant_counts.entry(stream.key().namespace.tenant.clone()).or_default() += 1;
        self.replace(stream);
        Ok(())
    }

    pub(crate) fn replace(&mut self, stream: Arc<Stream>) {
        self.by_id.insert(stream.id(), stream.clone());
        self.streams.insert(stream);
        self.generation.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn remove(&mut self, key: &StreamKey) -> Result<()> {
        let stream = self.existing(key)?.clone();
        self.streams.remove(key);
        self.by_id.remove(&stream.id());
        if let Some(over) = &stream.settings().over
            && let Some(count) = self.over_counts.get_mut(over)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.over_counts.remove(over);
            }
        }
        if let Some(count) = self.tenant_counts.get_mut(&key.namespace.tenant) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.tenant_counts.remove(&key.namespace.tenant);
            }
        }
        self.doomed.extend(stream.logs());
        self.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }

    pub(crate) fn snapshot(&self) -> Vec<u8> {
        let mut out = vec![SNAPSHOT_VERSION];
        put_u64(&mut out, self.applied.0);
        put_u128(&mut out, self.incarnation);
        put_u128(&mut out, self.secret);
        put_i64(&mut out, self.producer_ids_below);
        put_u64(&mut out, self.log_id_max.0);
        let lasting = || self.streams.values().filter(|stream| !stream.facets().transient);
        put_u64(&mut out, lasting().count() as u64);
        lasting().for_each(|stream| stream.record().encode(&mut out));
        put_u64(&mut out, self.doomed.len() as u64);
        self.doomed.iter().for_each(|log| put_u64(&mut out, log.0));
        put_u64(&mut out, self.documents.len() as u64);
        for (key, body) in &self.documents {
            put_document_key(&mut out, key);
            put_bytes(&mut out, body);
        }
        put_u64(&mut out, self.users.len() as u64);
        for (name, user) in &self.users {
            put_bytes(&mut out, name.as_bytes());
            user.encode(&mut out);
        }
        put_u64(&mut out, self.entries.len() as u64);
        for ((section, key), body) in &self.entries {
            out.push(section.tag());
            put_bytes(&mut out, key);
            put_bytes(&mut out, body);
        }
        out
    }

    pub(crate) fn restore(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            SNAPSHOT_VERSION => {}
            other => {
                return Err(Error::invalid(format!(
                    "the catalog is of version {other}; this program reads version {SNAPSHOT_VERSION}: use the newer program"
                )));
            }
        }
        let mut state = CatalogState {
            applied: Seq(reader.u64()?),
            incarnation: reader.u128()?,
            secret: reader.u128()?,
            producer_ids_below: reader.i64()?,
            log_id_max: LogId(reader.u64()?),
            ..CatalogState::default()
        };
        for _ in 0..reader.count(1)? {
            state.put_stream(StreamRecord::decode(&mut reader)?)?;
        }
        state.doomed = reader.list(|reader| reader.u64().map(LogId))?.into_iter().collect();
        let document = |reader: &mut Reader<'_>| Ok((read_document_key(reader)?, reader.bytes()?));
        state.documents = reader.list(document)?.into_iter().collect();
        let user = |reader: &mut Reader<'_>| Ok((reader.text()?.into(), UserRecord::decode(reader)?));
        state.users = reader.list(user)?.into_iter().collect();
        let entry =
            |reader: &mut Reader<'_>| Ok(((Section::of(reader.u8()?)?, reader.bytes()?), reader.bytes()?));
        state.entries = reader.list(entry)?.into_iter().collect();
        reader.finish()?;
        Ok(state)
    }
}
