//! [`WalProvider`] over one folder of files.

use std::sync::{Arc, Weak};

use env::{Env, Signal};
use model::{Error, Result, Seq};
use parking_lot::Mutex;

use super::{
    Replay, Replayed, Wal, WalProvider,
    file_wal::{FileWal, Shared, WalOptions},
    files::FileTable,
    recovery::{Recovered, recover},
    writer::{Driver, Writer},
};

/// Opens and replays the log in one folder. Whoever makes one holds the directory's lock: that is what keeps other
/// processes out; within the process a replay fences the incarnation opened before.
pub struct FileWalProvider {
    env: Env,
    options: WalOptions,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    recovered: Option<Recovered>,
    writer: Weak<Mutex<Writer>>,
}

impl FileWalProvider {
    /// The log in `options.dir`, which is created when it is not there.
    pub fn new(env: Env, options: WalOptions) -> Self {
        FileWalProvider { env, options, state: Mutex::default() }
    }
}

impl WalProvider for FileWalProvider {
    fn fence_and_replay(&self, from: Seq, sink: &mut dyn Replay) -> Result<Replayed> {
        let mut state = self.state.lock();
        state.recovered = None;
        if let Some(writer) = state.writer.upgrade() {
            writer.lock().fence();
        }
        let recovered = recover(&self.env, &self.options, from, sink)?;
        let replayed = recovered.replayed.clone();
        state.recovered = Some(recovered);
        Ok(replayed)
    }

    fn open(&self, after: &Replayed, committed: Signal) -> Result<Arc<dyn Wal>> {
        let mut state = self.state.lock();
        let recovered = match state.recovered.take() {
            Some(recovered) if recovered.replayed == *after => recovered,
            _ => return Err(Error::invalid("the write-ahead log is opened after the replay just before")),
        };
        let options = self.options.clone();
        let table = FileTable::new(
            self.env.clone(),
            options.dir.clone(),
            options.file_len,
            options.faults,
            recovered.inherited,
        )?;
        let first = table.take_next(options.first_file_len)?;
        let shared = Arc::new(Shared::new(self.env.clone(), options, table, after.last, committed));
        let writer = Writer::start(shared.clone(), recovered.chain, first)?;
        writer.prepare_ahead();
        let writer = Arc::new(Mutex::new(writer));
        state.writer = Arc::downgrade(&writer);
        self.env.spawn.worker("wm-wal", shared.signal.clone(), Box::new(Driver(writer.clone())));
        Ok(Arc::new(FileWal { shared, writer }))
    }
}
