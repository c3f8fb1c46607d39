//! What this crate's tests share: a world whose workers are stepped by hand, and a store on memory.

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use model::{FormatTag, LogId, Offset, Result, Seq};
use parking_lot::Mutex;

use crate::{
    Annex, Attached, Catalog, Chunk, Class, Durability, Log, LogCore, NewBatch, ReadLimits, Recovery, Store,
    StoreOptions, Upto,
    conformance::Hands,
    entry::Entry,
    mem::{MemBlobs, MemWalOptions, MemWalProvider},
    store::Parts,
};

/// Commands seen, in order: the simplest state machine.
#[derive(Default)]
pub(crate) struct Commands(pub Mutex<(Seq, Vec<Bytes>)>);

impl Catalog for Commands {
    fn replay(&self, seq: Seq, command: &Bytes) -> Result<()> {
        let mut state = self.0.lock();
        state.0 = seq;
        state.1.push(command.clone());
        Ok(())
    }
    fn snapshot(&self) -> (Seq, Vec<u8>) {
        let state = self.0.lock();
        let mut out = Vec::new();
        for command in &state.1 {
            crate::wal::varint::put_slice(&mut out, command);
        }
        (state.0, out)
    }
    fn restore(&self, bytes: &[u8]) -> Result<()> {
        let mut reader = crate::wal::varint::Reader::new(bytes);
        let mut state = self.0.lock();
        while reader.left() > 0 {
            state.1.push(Bytes::copy_from_slice(reader.slice()?));
        }
        Ok(())
    }
}

/// Notes seen, and how often bounds moved.
#[derive(Default)]
pub(crate) struct Notes {
    pub notes: Vec<Bytes>,
    /// State that checkpoints name.
    pub sealed: Vec<Arc<Annex>>,
    pub moved: u32,
    pub limit: Option<Offset>,
}

impl Attached for Notes {
    fn replay(&mut self, _: &LogCore, entry: &Entry) -> Result<()> {
        if let crate::Change::Note(note) = &entry.change {
            self.notes.push(note.clone());
        }
        Ok(())
    }
    fn snapshot(&mut self, out: &mut Vec<u8>, annex: &mut dyn FnMut(&Arc<Annex>) -> u64) {
        crate::wal::varint::put_varint(out, self.sealed.len() as u64);
        self.sealed.iter().for_each(|sealed| crate::wal::varint::put_varint(out, annex(sealed)));
        for note in &self.notes {
            crate::wal::varint::put_slice(out, note);
        }
    }
    fn restore(&mut self, bytes: &[u8], annex: &dyn Fn(u64) -> Result<Arc<Annex>>) -> Result<()> {
        let mut reader = crate::wal::varint::Reader::new(bytes);
        for _ in 0..reader.varint()? {
            self.sealed.push(annex(reader.varint()?)?);
        }
        while reader.left() > 0 {
            self.notes.push(Bytes::copy_from_slice(reader.slice()?));
        }
        Ok(())
    }
    fn moved(&mut self, _: &LogCore) {
        self.moved += 1;
    }
    fn stable_limit(&self) -> Option<Offset> {
        self.limit
    }
}

/// A store on memory that can be crashed and opened again.
pub(crate) struct World {
    pub hands: Arc<Hands>,
    pub wal: MemWalProvider,
    pub blobs: MemBlobs,
    pub options: StoreOptions,
    pub catalog: Arc<Commands>,
    pub store: Store<Notes>,
    pub recovery: Recovery,
}

impl World {
    pub fn new(wal: MemWalOptions, options: StoreOptions) -> World {
        World::over(MemWalProvider::new(wal), MemBlobs::default(), options).unwrap()
    }

    pub fn over(wal: MemWalProvider, blobs: MemBlobs, options: StoreOptions) -> Result<World> {
        let world = World::opened(wal, blobs, options)?;
        world.hands.run();
        Ok(world)
    }

    /// No worker has had a step yet.
    fn opened(wal: MemWalProvider, blobs: MemBlobs, options: StoreOptions) -> Result<World> {
        let hands = Arc::new(Hands::default());
        let catalog = Arc::new(Commands::default());
        let parts = Parts {
            env: hands.env(env::real().files, 1),
            wal: Arc::new(wal.clone()),
            blobs: Arc::new(blobs.clone()),
            options,
            catalog: catalog.clone(),
        };
        let (store, recovery) = Store::open_with(parts)?;
        Ok(World { hands, wal, blobs, options, catalog, store, recovery })
    }

    /// What is staged is lost.
    pub fn crash(self) -> World {
        self.try_crash().unwrap()
    }

    pub fn try_crash(self) -> Result<World> {
        let world = self.crash_unstepped()?;
        world.hands.run();
        Ok(world)
    }

    /// The same before any worker has had a step.
    pub fn crash_unstepped(self) -> Result<World> {
        let World { wal, blobs, options, store, .. } = self;
        wal.crash();
        drop(store);
        World::opened(wal, blobs, options)
    }

    /// Commits what is staged and lets every worker catch up.
    pub fn settle(&self) {
        self.wal.commit();
        self.hands.run();
    }

    pub fn create(&self, durability: Durability) -> Arc<Log<Notes>> {
        let permit = self.store.reserve(0, Class::Drain).unwrap();
        let id = self.store.next_log_id();
        self.store.create_log(permit, id, Offset::ZERO, durability).unwrap().0
    }

    pub fn log(&self, id: LogId) -> Arc<Log<Notes>> {
        self.store.log(id).unwrap()
    }

    pub fn append(&self, log: &Arc<Log<Notes>>, count: u32, body: &[u8]) -> Seq {
        self.change(log, |locked| {
            locked.append(batch(count, body));
        })
    }

    pub fn append_volatile(&self, log: &Arc<Log<Notes>>, count: u32, body: &[u8]) -> Seq {
        self.change(log, |locked| {
            locked.append(NewBatch { durability: Some(Durability::Memory), ..batch(count, body) });
        })
    }

    pub fn change(
        &self,
        log: &Arc<Log<Notes>>,
        change: impl FnOnce(&mut crate::LockedLog<'_, Notes>),
    ) -> Seq {
        let permit = self.store.reserve(0, Class::Drain).unwrap();
        let mut locked = self.store.lock(&[log]);
        change(&mut locked.log(log.id()).unwrap());
        self.store.commit(permit, locked)
    }

    pub fn read(&self, log: &Arc<Log<Notes>>, from: u64) -> Chunk {
        self.store.read_blocking(log, Offset(from), ReadLimits::default(), Upto::Stable).unwrap()
    }

    /// Offsets of all live records from the log's start.
    pub fn live(&self, log: &Arc<Log<Notes>>) -> Vec<u64> {
        let mut live = Vec::new();
        let mut from = log.bounds().start;
        loop {
            let chunk = self.read(log, from.0);
            for ChunkBatch { batch, dropped } in &chunk.batches {
                let gone = |index| dropped.as_ref().is_some_and(|mask| mask.contains(index));
                live.extend((0..batch.count).filter(|i| !gone(*i)).map(|i| batch.base.0 + u64::from(i)));
            }
            if chunk.next <= from {
                return live;
            }
            from = chunk.next;
        }
    }
}

use crate::ChunkBatch;

pub(crate) fn batch(count: u32, body: &[u8]) -> NewBatch {
    NewBatch::new(count, FormatTag(1), Bytes::copy_from_slice(body))
}

/// A folder of its own that goes with the value.
pub(crate) struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Scratch {
        let dir = std::env::temp_dir().join(format!("wiremill-store-{name}-{}", env::real().random.u64()));
        env::real().files.create_dir(&dir).unwrap();
        Scratch(dir)
    }
}

impl Drop for Scratch {
    #[allow(clippy::disallowed_methods)] // A whole folder of the real machine's.
    fn drop(&mut self) {
        if let Err(e) = std::fs::remove_dir_all(&self.0) {
            eprintln!("{}: {e}", self.0.display());
        }
    }
}
