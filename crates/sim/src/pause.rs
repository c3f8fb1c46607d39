//! A reader that stands still in the middle of a disk read while the rest of the machine goes on.
//!
//! Workers are stepped whole, so a step never sees another's half-done work. Readers are different: between choosing a
//! place and reading it, files are copied, released and recycled. Each reader here has a thread of its own, but only
//! one thread ever runs: the baton is passed on when the reader comes to a disk read and when it is done, and the
//! run stays as deterministic as everything else.

use std::{cell::RefCell, sync::Arc};

use parking_lot::{Condvar, Mutex};

thread_local! {
    /// The baton of the reader that this thread is, if it is one.
    static BATON: RefCell<Option<Arc<Baton>>> = const { RefCell::new(None) };
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Reader,
    World,
    Done,
}

struct Baton {
    turn: Mutex<Turn>,
    passed: Condvar,
}

impl Baton {
    fn pass(&self, to: Turn) {
        *self.turn.lock() = to;
        self.passed.notify_all();
    }

    fn wait_while(&self, whose: Turn) -> Turn {
        let mut turn = self.turn.lock();
        while *turn == whose {
            self.passed.wait(&mut turn);
        }
        *turn
    }
}

/// Whether this thread is a reader that stands still at its disk reads.
pub(crate) fn is_reader() -> bool {
    BATON.with_borrow(Option::is_some)
}

/// Called by the disk before a reader's read: it stands still here until it is told to go on.
pub(crate) fn stand_still() {
    if let Some(baton) = BATON.with_borrow(Clone::clone) {
        baton.pass(Turn::World);
        baton.wait_while(Turn::World);
    }
}

/// A job that stands still at each disk read.
pub struct Paused<T> {
    baton: Arc<Baton>,
    thread: Option<std::thread::JoinHandle<T>>,
}

impl<T: Send + 'static> Paused<T> {
    /// Begins `job` and runs it to its first disk read, or to its end.
    pub fn begin(job: impl FnOnce() -> T + Send + 'static) -> Self {
        let baton = Arc::new(Baton { turn: Mutex::new(Turn::Reader), passed: Condvar::new() });
        let own = baton.clone();
        #[expect(clippy::disallowed_methods, reason = "the baton decides when it runs")]
        let thread = std::thread::spawn(move || {
            let _done = DoneWhenDropped(own.clone());
            BATON.set(Some(own));
            job()
        });
        baton.wait_while(Turn::Reader);
        Paused { baton, thread: Some(thread) }
    }

    /// Lets it go on to its next disk read. Its outcome once it is done; `None` for ever if it panicked.
    pub fn step(&mut self) -> Option<T> {
        if *self.baton.turn.lock() != Turn::Done {
            self.baton.pass(Turn::Reader);
            self.baton.wait_while(Turn::Reader);
        }
        let done = *self.baton.turn.lock() == Turn::Done;
        if done { self.thread.take()?.join().ok() } else { None }
    }

    /// Whether it is at its end.
    pub fn is_done(&self) -> bool {
        *self.baton.turn.lock() == Turn::Done
    }
}

impl<T> Drop for Paused<T> {
    fn drop(&mut self) {
        // Runs to its end whatever comes of it, so that no thread stays behind.
        while *self.baton.turn.lock() != Turn::Done {
            self.baton.pass(Turn::Reader);
            self.baton.wait_while(Turn::Reader);
        }
        if let Some(thread) = self.thread.take() {
            let _nobody_asks = thread.join().is_ok();
        }
    }
}

struct DoneWhenDropped(Arc<Baton>);

impl Drop for DoneWhenDropped {
    fn drop(&mut self) {
        self.0.pass(Turn::Done);
    }
}

#[cfg(test)]
mod tests {
    use std::{io::IoSlice, path::Path};

    use env::{Files, Open};

    use super::*;
    use crate::{Rng, SimClock, SimDisk, Trace};

    #[test]
    fn a_reader_stands_still_at_its_disk_read_and_sees_what_was_written_meanwhile() {
        let disk = SimDisk::new(Rng::new(1), SimClock::new(), Trace::default(), 1 << 20);
        let file = disk.files().open(Path::new("/a"), Open::Create).unwrap();
        file.write_all_at(&[IoSlice::new(&[1; 10])], 0).unwrap();
        let theirs = file.clone();
        let mut reader = Paused::begin(move || {
            let mut buf = [0; 10];
            theirs.read_exact_at(&mut buf, 0).map(|()| buf[0])
        });
        assert!(!reader.is_done());
        file.write_all_at(&[IoSlice::new(&[2; 10])], 0).unwrap();
        assert_eq!(reader.step().unwrap().unwrap(), 2);
    }

    #[test]
    fn a_reader_that_never_asks_the_disk_is_done_at_once() {
        let mut reader = Paused::begin(|| 7);
        assert!(reader.is_done());
        assert_eq!(reader.step(), Some(7));
    }
}
