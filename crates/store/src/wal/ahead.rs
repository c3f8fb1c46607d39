//! The WAL file that comes next: made ready ahead, out of an old one where there is one.
//!
//! A new file is zero-filled, so that a sync in it writes data and no metadata; a lone append waits half as long for it.
//! Where files fill up faster than [`HASTE_LEN_PER_S`], that would write everything twice and halve what the disk
//! takes: there the file's room is reserved and no more. When the haste is over, the file ahead is zero-filled after
//! all, and the writer moves on to it.

use std::{
    io::{self, IoSlice},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use env::{File, Open};
use model::Result;

use super::{
    files::{FileTable, WalFile, file_name},
    frame::{FileHeader, PAGE_LEN},
};
use crate::fsio::io_error;

/// Above this rate files are not zero-filled, bytes per second.
const HASTE_LEN_PER_S: u64 = 16 << 20;
/// Zeros of a file ahead are written and synced in parts of this many bytes: a sync of a whole file would hold up the
/// log's own.
const FILL_LEN: u64 = 2 << 20;
/// Zeros to write from, aligned for writes past the machine's cache: nobody reads them.
static PAGE_OF_ZEROS: Aligned = Aligned([0; 1 << 20]);

#[repr(align(4096))]
struct Aligned([u8; 1 << 20]);

const _: () = assert!(align_of::<Aligned>() == env::DIRECT_ALIGN_LEN);

/// How long a file of `len` bytes lasts where nobody is in haste, nanoseconds.
pub(super) fn patience_ns(len: u64) -> u64 {
    len.saturating_mul(1_000_000_000 / HASTE_LEN_PER_S)
}

/// A file that is ready for its first frame, and its handle.
pub(super) struct Prepared {
    pub(super) file: Arc<WalFile>,
    pub(super) handle: Arc<dyn File>,
    /// Every block of it was written before: a sync changes no metadata.
    pub(super) zeroed: bool,
}

/// What is known of the file that comes next.
pub(super) struct Next {
    number: u64,
    ready: Option<Prepared>,
    /// When the newest file was taken into use, monotonic nanoseconds, and how long it is.
    taken: Option<(u64, u64)>,
    /// The file before that was full soon.
    haste: bool,
    /// The log is closed: nothing is prepared ahead any more.
    stopped: bool,
}

impl Next {
    /// What comes after file `last`.
    pub(super) fn after(last: u64) -> Self {
        Next { number: last + 1, ready: None, taken: None, haste: false, stopped: false }
    }
}

impl FileTable {
    /// Takes the next file into use, preparing it first when that was not done ahead. `len` is the least that it must
    /// hold. On an error nothing has changed: it can be tried again.
    pub(super) fn take_next(&self, len: u64) -> Result<Prepared> {
        // What is under way is no longer zero-filled: everybody who publishes waits for it.
        self.hurry.store(true, Ordering::SeqCst);
        let mut next = self.next.lock();
        self.hurry.store(false, Ordering::SeqCst);
        let prepared = match next.ready.take() {
            Some(ready) => ready,
            // The first one is short, and nobody waits yet.
            None => self.prepare(next.number, len, next.taken.is_none(), u64::MAX)?,
        };
        let prepared = match self.grow(&prepared, len) {
            Ok(None) => prepared,
            Ok(Some(grown)) => grown,
            Err(e) => {
                next.ready = Some(prepared);
                return Err(e);
            }
        };
        let now_ns = self.env.clock.mono_ns();
        next.haste = next.taken.is_some_and(|(at_ns, len)| now_ns.saturating_sub(at_ns) < patience_ns(len));
        next.taken = Some((now_ns, prepared.file.allocated_len()));
        next.number = prepared.file.number() + 1;
        self.insert(&prepared.file);
        Ok(prepared)
    }

    /// Prepares the file that comes next, unless it is there. Blocks on the disk.
    pub(super) fn prepare_ahead(&self) {
        let mut next = self.next.lock();
        if next.ready.is_none() && !next.stopped {
            match self.prepare(next.number, self.file_len, !next.haste, FILL_LEN) {
                Ok(prepared) => next.ready = Some(prepared),
                // The writer tries again when it needs the file, and says what is wrong then.
                Err(e) => tracing::warn!(error = %e, "the next write-ahead log file cannot be prepared yet"),
            }
        }
    }

    /// Zero-fills the file that comes next when its room is only reserved, since there is time now. Blocks on the disk.
    pub(super) fn zero_ahead(&self) {
        let mut next = self.next.lock();
        next.haste = false;
        if next.stopped {
            return;
        }
        let Some(ready) = next.ready.as_mut().filter(|ready| !ready.zeroed) else { return };
        let zeros = Zeros { part_len: FILL_LEN, hurry: &self.hurry };
        let filled = zeros.fill(&*ready.handle, PAGE_LEN, ready.file.allocated_len());
        match filled.and_then(|filled| ready.handle.sync().map(|()| filled)) {
            Ok(filled) => ready.zeroed = filled,
            Err(e) => {
                tracing::warn!(error = %e, "the next write-ahead log file cannot be zero-filled; another is made");
                // After a failed sync nothing is known of what the file holds.
                if let Some(given_up) = next.ready.take() {
                    self.remove_quietly(given_up.file.path());
                }
            }
        }
    }

    /// Whether a zero-filled file is ready; not while one is being prepared.
    pub(super) fn is_zeroed_ready(&self) -> bool {
        let next = self.next.try_lock();
        next.is_some_and(|next| next.ready.as_ref().is_some_and(|ready| ready.zeroed))
    }

    /// Prepares nothing any more; waits for a preparation that is under way. Whoever opens the folder next has it for
    /// itself.
    pub(super) fn stop(&self) {
        self.next.lock().stopped = true;
    }

    /// A file of at least `len` bytes under its number, with a header of its own, all of it durable. Named `spare-…`
    /// until then, so that a crash leaves nothing that could be taken for a log file. Zeros are synced every `part_len`
    /// bytes.
    fn prepare(&self, number: u64, len: u64, zeroed: bool, part_len: u64) -> Result<Prepared> {
        let files = &self.env.files;
        let spare = self.dir.join(format!("spare-{number:020}"));
        let path = self.dir.join(file_name(number));
        let recycled = self.reuse(&spare)?;
        if !recycled {
            self.remove_quietly(&spare); // what an attempt before left
        }
        let attempt = || -> io::Result<Prepared> {
            let handle = files.open(&spare, if recycled { Open::Write } else { Open::Create })?;
            let zeros = Zeros { part_len, hurry: &self.hurry };
            let zeroed = zeros.lengthen(&*handle, len.next_multiple_of(PAGE_LEN), recycled || zeroed)?;
            let salt = self.env.random.u64();
            let mut page = vec![0; PAGE_LEN as usize];
            let allocated_len = handle.len()?;
            let header = FileHeader { number, salt, recycled, allocated_len }.encode();
            page[..header.len()].copy_from_slice(&header);
            handle.write_all_at(&[IoSlice::new(&page)], 0)?;
            handle.sync()?;
            files.rename(&spare, &path)?;
            files.sync_dir(&self.dir)?;
            let file = WalFile::blank(number, path.clone(), salt, allocated_len, handle.clone());
            Ok(Prepared { file: Arc::new(file), handle, zeroed })
        };
        attempt().map_err(|e| {
            // Whatever is left under either name holds no frame.
            self.remove_quietly(&spare);
            self.remove_quietly(&path);
            io_error(&path, e)
        })
    }

    /// Moves a file that nobody needs to `spare`, durably, before a byte of it is changed. Whether there was one.
    fn reuse(&self, spare: &Path) -> Result<bool> {
        let Some(old) = self.take_recycled() else { return Ok(false) };
        if old != spare {
            let files = &self.env.files;
            files
                .rename(&old, spare)
                .and_then(|()| files.sync_dir(&self.dir))
                .map_err(|e| io_error(&old, e))?;
        }
        Ok(true)
    }

    /// `prepared`, made longer when it is shorter than `len`.
    fn grow(&self, prepared: &Prepared, len: u64) -> Result<Option<Prepared>> {
        if prepared.file.allocated_len() >= len {
            return Ok(None);
        }
        let handle = prepared.handle.clone();
        let zeros = Zeros { part_len: u64::MAX, hurry: &self.hurry };
        let grown = zeros
            .lengthen(&*handle, len.next_multiple_of(PAGE_LEN), prepared.zeroed)
            .and_then(|zeroed| handle.sync().map(|()| zeroed))
            .and_then(|zeroed| Ok((zeroed, handle.len()?)));
        let (zeroed, allocated_len) = grown.map_err(|e| io_error(prepared.file.path(), e))?;
        let file = &prepared.file;
        let path = file.path().to_owned();
        let file = WalFile::blank(file.number(), path, file.salt(), allocated_len, handle.clone());
        Ok(Some(Prepared { file: Arc::new(file), handle, zeroed }))
    }
}

/// How zeros are written.
struct Zeros<'a> {
    /// They are synced after as many bytes.
    part_len: u64,
    /// Raised while somebody waits for the file: it is taken as it is then.
    hurry: &'a AtomicBool,
}

impl Zeros<'_> {
    /// Makes `file` `len` bytes long where it is shorter, zero-filled or, if the disk can promise room, without; says
    /// whether every block was written. To be synced.
    fn lengthen(&self, file: &dyn File, len: u64, zeroed: bool) -> io::Result<bool> {
        let have = file.len()?;
        if have >= len {
            return Ok(zeroed);
        }
        let promised = file.reserve(len)?;
        if promised && !zeroed {
            return Ok(false);
        }
        if promised {
            return self.fill(file, have, len);
        }
        // Without a promise every block has to be written, however long it takes.
        let patient = Zeros { hurry: &AtomicBool::new(false), ..*self };
        patient.fill(file, have, len).map(|_| zeroed || have == 0)
    }

    /// Writes zeros to `[from, to)`, synced after every part but the last. False when it was left for somebody's hurry.
    fn fill(&self, file: &dyn File, from: u64, to: u64) -> io::Result<bool> {
        let mut at = from;
        while at < to {
            let end = to.min(at.saturating_add(self.part_len));
            while at < end {
                let zeros = &PAGE_OF_ZEROS.0;
                let len = zeros.len().min(usize::try_from(end - at).unwrap_or(zeros.len()));
                file.write_past_cache(&zeros[..len], at)?;
                at += len as u64;
            }
            if end < to {
                if self.hurry.load(Ordering::SeqCst) {
                    return Ok(false);
                }
                file.sync()?;
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use env::Open;

    use super::*;
    use crate::{faults::Faults, testing::Scratch, wal::files::Inherited};

    #[test]
    fn a_file_that_could_not_be_zero_filled_is_given_up_for_another() {
        let (scratch, (env, wrong)) = (Scratch::new("given-up"), env::testing::faulty());
        let dir = scratch.0.clone();
        let table =
            FileTable::new(env.clone(), dir, 1 << 20, Faults::default(), Inherited::default()).unwrap();
        table.next.lock().haste = true;
        table.prepare_ahead();
        let salt = || table.next.lock().ready.as_ref().map(|ready| ready.file.salt());
        let first = salt().unwrap();
        wrong.sync.store(true, Ordering::SeqCst);
        table.zero_ahead();
        assert_eq!(salt(), None);
        assert!(env.files.list(&scratch.0).unwrap().is_empty());
        wrong.sync.store(false, Ordering::SeqCst);
        let taken = table.take_next(1 << 20).unwrap();
        assert!(taken.file.number() == 1 && taken.file.salt() != first);
    }

    #[test]
    fn a_file_that_somebody_waits_for_is_taken_before_it_is_zero_filled() {
        let scratch = Scratch::new("zeros");
        let made = |name: &str, hurry: bool| {
            let file = env::real().files.open(&scratch.0.join(Path::new(name)), Open::Create).unwrap();
            let zeros = Zeros { part_len: 1 << 20, hurry: &AtomicBool::new(hurry) };
            let zeroed = zeros.lengthen(&*file, 4 << 20, true).unwrap();
            (zeroed, file.len().unwrap())
        };
        assert_eq!(made("patient", false), (true, 4 << 20));
        assert_eq!(made("hurried", true), (false, 4 << 20), "its room is there all the same");
    }
}
