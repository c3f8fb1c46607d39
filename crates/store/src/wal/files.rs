//! The WAL's files: names, pins, and which of them are released for reuse. The next one is made in [`super::ahead`].

use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, IoSlice},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use env::{Env, File, Open};
use model::{Error, Result, Seq};
use parking_lot::Mutex;

use super::{Place, WalFileInfo, ahead::Next, frame::PAGE_LEN, scan::end_of_frames};
use crate::{
    blobs::Blob,
    faults::{Fault, Faults},
    fsio::{io_error, read_at, reading},
};

/// Files kept for reuse at most; more are removed.
const RECYCLED_MAX: usize = 4;
/// Released files that readers still pin, waited for at most; more are removed, which open handles do not mind.
const ZOMBIES_MAX: usize = 8;
/// Handles of sealed files kept open at most.
const HANDLES_MAX: usize = 128;
/// Stands for "not sealed".
const UNSEALED: u64 = u64::MAX;

/// The name of WAL file `number`.
pub(super) fn file_name(number: u64) -> String {
    format!("{number:020}.wal")
}

/// The number in a WAL file's name.
pub(super) fn file_number(name: &str) -> Option<u64> {
    name.strip_suffix(".wal").filter(|digits| digits.len() == 20)?.parse().ok()
}

/// Whether `name` is that of a file on its way to become a WAL file: it holds nothing.
pub(super) fn is_spare(name: &str) -> bool {
    name.starts_with("spare-")
}

/// One WAL file. Whoever holds the [`Arc`] pins it.
pub(super) struct WalFile {
    number: u64,
    path: PathBuf,
    salt: u64,
    /// Length that it was allocated with.
    allocated_len: u64,
    /// Bytes written and durable, a footer included.
    len: AtomicU64,
    /// Where its frames end; 0 when that is not known yet.
    frames_end: AtomicU64,
    sealed: AtomicU64,
    kept: AtomicBool,
    handle: Mutex<Option<Arc<dyn File>>>,
}

impl WalFile {
    /// A file that an earlier incarnation wrote: `len` bytes long, no unit after `last`, and its frames end at
    /// `frames_end` if that is known. A length that is no whole number of pages is the work of [`FileTable::keep`].
    pub(super) fn found(number: u64, path: PathBuf, len: u64, frames_end: Option<u64>, last: Seq) -> Self {
        let kept = !len.is_multiple_of(PAGE_LEN);
        let written = frames_end.filter(|_| !kept).unwrap_or(len);
        let file = WalFile {
            number,
            path,
            salt: 0,
            allocated_len: len,
            len: AtomicU64::new(written),
            frames_end: AtomicU64::new(frames_end.unwrap_or(0)),
            sealed: AtomicU64::new(UNSEALED),
            kept: AtomicBool::new(false),
            handle: Mutex::new(None),
        };
        file.seal(last);
        file
    }

    /// A file without a frame.
    pub(super) fn blank(
        number: u64,
        path: PathBuf,
        salt: u64,
        allocated_len: u64,
        handle: Arc<dyn File>,
    ) -> Self {
        WalFile {
            number,
            path,
            salt,
            allocated_len,
            len: AtomicU64::new(PAGE_LEN),
            frames_end: AtomicU64::new(PAGE_LEN),
            sealed: AtomicU64::new(UNSEALED),
            kept: AtomicBool::new(false),
            handle: Mutex::new(Some(handle)),
        }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn salt(&self) -> u64 {
        self.salt
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Length that it has on disk; frames go below.
    pub(super) fn allocated_len(&self) -> u64 {
        self.allocated_len
    }

    /// Frames up to here are written and durable.
    pub(super) fn set_frames_end(&self, end: u64) {
        self.frames_end.store(end, Ordering::Release);
        self.len.store(end, Ordering::Release);
    }

    /// No more will be written, and its successor holds a durable frame. Whoever reads it from here on opens it anew: the
    /// handle that it was written through counts among none that are bounded.
    pub(super) fn seal(&self, last: Seq) {
        self.sealed.store(last.0, Ordering::Release);
        *self.handle.lock() = None;
    }

    fn sealed(&self) -> Option<Seq> {
        let last = self.sealed.load(Ordering::Acquire);
        (last != UNSEALED).then_some(Seq(last))
    }
}

/// A file pinned for reading.
struct Pin {
    file: Arc<WalFile>,
    handle: Arc<dyn File>,
}

impl Blob for Pin {
    fn read(&self, at: u64, len: u32) -> Result<Bytes> {
        if at.saturating_add(u64::from(len)) > self.len() {
            return Err(Error::invalid(format!("{} ends before {at} + {len}", self.file.path.display())));
        }
        read_at(&*self.handle, &self.file.path, at, len as usize)
    }

    fn read_long(&self, at: u64, buf: &mut [u8]) -> Result<usize> {
        reading(&self.file.path, || self.handle.read_past_cache(buf, at))
    }

    fn len(&self) -> u64 {
        self.file.len.load(Ordering::Acquire)
    }

    fn will_need(&self, at: u64, len: u32) {
        self.handle.will_need(at, u64::from(len));
    }
}

/// Every WAL file of one open incarnation.
pub(super) struct FileTable {
    pub(super) env: Env,
    pub(super) dir: PathBuf,
    pub(super) file_len: u64,
    faults: Faults,
    state: Mutex<State>,
    /// The file that comes next. Held while one is prepared, so that the writer waits for a preparation under way.
    pub(super) next: Mutex<Next>,
    /// The writer waits for it.
    pub(super) hurry: AtomicBool,
}

#[derive(Default)]
struct State {
    files: BTreeMap<u64, Arc<WalFile>>,
    /// Files whose bytes nobody needs, ready to be made into new ones.
    recycle: Vec<PathBuf>,
    /// Released while a reader had them pinned.
    zombies: Vec<Arc<WalFile>>,
    /// Sealed files with an open handle, oldest use first.
    open: VecDeque<u64>,
}

/// What recovery hands to a new incarnation.
#[derive(Default)]
pub(super) struct Inherited {
    /// Files that hold frames.
    pub(super) files: Vec<WalFile>,
    /// Log files without a frame, ascending, the numbers of which are given out again.
    pub(super) unused: Vec<PathBuf>,
    /// Files that were about to become log files.
    pub(super) recycle: Vec<PathBuf>,
    /// The highest number that stays in use.
    pub(super) last_number: u64,
}

impl FileTable {
    pub(super) fn new(
        env: Env,
        dir: PathBuf,
        file_len: u64,
        faults: Faults,
        inherited: Inherited,
    ) -> Result<Self> {
        let file_len = file_len.next_multiple_of(PAGE_LEN);
        let mut recycle = inherited.recycle;
        // Out of the way before their numbers are used again; the last first, so that a crash leaves no gap.
        for path in inherited.unused.iter().rev() {
            let spare = dir.join(format!("spare-unused-{:016x}", env.random.u64()));
            let renamed = env.files.rename(path, &spare).and_then(|()| env.files.sync_dir(&dir));
            renamed.map_err(|e| io_error(path, e))?;
            recycle.push(spare);
        }
        let files = inherited.files.into_iter().map(|file| (file.number, Arc::new(file))).collect();
        let state = State { files, recycle, ..State::default() };
        let next = Next::after(inherited.last_number);
        Ok(FileTable {
            env,
            dir,
            file_len,
            faults,
            state: Mutex::new(state),
            next: Mutex::new(next),
            hurry: AtomicBool::new(false),
        })
    }

    /// A file that goes into use.
    pub(super) fn insert(&self, file: &Arc<WalFile>) {
        self.state.lock().files.insert(file.number, file.clone());
    }

    /// A file whose bytes nobody needs any more.
    pub(super) fn take_recycled(&self) -> Option<PathBuf> {
        let (found, remove) = {
            let mut state = self.state.lock();
            let remove = state.bury(self.file_len);
            (state.recycle.pop(), remove)
        };
        remove.iter().for_each(|path| self.remove_quietly(path));
        found
    }

    /// Pins `number` for reading.
    pub(super) fn open_file(&self, number: u64) -> Result<Arc<dyn Blob>> {
        let file = self.file(number)?;
        let handle = self.handle(&file)?;
        Ok(Arc::new(Pin { file, handle }))
    }

    fn file(&self, number: u64) -> Result<Arc<WalFile>> {
        let found = self.state.lock().files.get(&number).cloned();
        found.ok_or_else(|| Error::not_found(format!("write-ahead log file {number} was released")))
    }

    fn handle(&self, file: &Arc<WalFile>) -> Result<Arc<dyn File>> {
        let mut slot = file.handle.lock();
        if let Some(handle) = &*slot {
            return Ok(handle.clone());
        }
        let handle = self.env.files.open(&file.path, Open::Write).map_err(|e| io_error(&file.path, e))?;
        *slot = Some(handle.clone());
        drop(slot);
        let mut state = self.state.lock();
        state.open.push_back(file.number);
        if state.open.len() > HANDLES_MAX
            && let Some(oldest) = state.open.pop_front()
            && let Some(oldest) = state.files.get(&oldest)
        {
            *oldest.handle.lock() = None;
        }
        Ok(handle)
    }

    /// See [`super::Wal::files`].
    pub(super) fn list(&self) -> Vec<WalFileInfo> {
        let info = |file: &Arc<WalFile>| WalFileInfo {
            file: file.number,
            len: file.len.load(Ordering::Acquire),
            sealed: file.sealed(),
        };
        self.state.lock().files.values().map(info).collect()
    }

    /// See [`super::Wal::keep`].
    pub(super) fn keep(&self, number: u64, used_len: u64, footer: &[Bytes]) -> Result<(Place, u32)> {
        let file = self.file(number)?;
        if file.sealed().is_none() {
            return Err(Error::invalid(format!("write-ahead log file {number} is still being written")));
        }
        let footer_len = footer.iter().map(Bytes::len).sum::<usize>();
        let footer_len =
            u32::try_from(footer_len).map_err(|_| Error::limit("a footer is longer than 4 GiB"))?;
        if file.kept.swap(true, Ordering::SeqCst) {
            return Err(Error::exists(format!("write-ahead log file {number} has a footer")));
        }
        let written = self.write_footer(&file, used_len, footer, u64::from(footer_len));
        match written {
            Ok(at) => Ok((Place { file: number, at }, footer_len)),
            Err(e) => {
                file.kept.store(false, Ordering::SeqCst);
                Err(e)
            }
        }
    }

    fn write_footer(
        &self,
        file: &Arc<WalFile>,
        used_len: u64,
        footer: &[Bytes],
        footer_len: u64,
    ) -> Result<u64> {
        let handle = self.handle(file)?;
        let mut at = match file.frames_end.load(Ordering::Acquire) {
            0 => end_of_frames(&self.env, file.number, &file.path, file.allocated_len)?,
            known => known,
        };
        if at < used_len {
            // Frames are found up to the first damaged one: what lies behind it is in use, and stays.
            at = handle.len().map_err(|e| io_error(&file.path, e))?.max(used_len);
        }
        if (at + footer_len).is_multiple_of(PAGE_LEN) {
            at += 1; // the odd length is what tells a kept file from one with room behind its frames
        }
        let end = at + footer_len;
        let parts: Vec<IoSlice<'_>> = footer.iter().map(|part| IoSlice::new(part)).collect();
        let written =
            handle.write_all_at(&parts, at).and_then(|()| handle.set_len(end)).and_then(|()| handle.sync());
        written.map_err(|e| io_error(&file.path, e))?;
        file.len.store(end, Ordering::Release);
        Ok(at)
    }

    /// See [`super::Wal::release`]. Nothing is kept for reuse while the disk `is_starved`.
    pub(super) fn release(&self, number: u64, is_starved: bool) {
        let mut remove = Vec::new();
        {
            let mut state = self.state.lock();
            if state.files.get(&number).is_none_or(|file| file.sealed().is_none()) {
                return;
            }
            let Some(file) = state.files.remove(&number) else { return };
            state.open.retain(|&open| open != number);
            if self.faults.has(Fault::RecyclePinned) {
                state.recycle.push(file.path.clone());
                return;
            }
            state.zombies.push(file);
            remove.extend(state.bury(self.file_len));
            if is_starved {
                remove.append(&mut state.recycle);
            }
        }
        for path in remove {
            self.remove_quietly(&path);
        }
    }

    pub(super) fn remove_quietly(&self, path: &Path) {
        if let Err(e) = self.env.files.remove(path)
            && e.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), error = %e, "a write-ahead log file cannot be removed");
        }
    }
}

impl State {
    /// Sorts released files: unpinned ones of the usual length can be used again. Answers the paths to remove.
    fn bury(&mut self, file_len: u64) -> Vec<PathBuf> {
        let mut remove = Vec::new();
        let mut waiting = Vec::new();
        for file in std::mem::take(&mut self.zombies) {
            let pinned = Arc::strong_count(&file) > 1;
            let usual = file.allocated_len == file_len && !file.kept.load(Ordering::SeqCst);
            match (pinned, usual) {
                (true, true) if waiting.len() < ZOMBIES_MAX => waiting.push(file),
                (false, true) if self.recycle.len() < RECYCLED_MAX => self.recycle.push(file.path.clone()),
                _ => remove.push(file.path.clone()),
            }
        }
        self.zombies = waiting;
        remove
    }
}
