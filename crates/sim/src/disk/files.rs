//! The engine's view of the disk: `env`'s traits over [`SimDisk`].

use std::{
    io::{self, IoSlice},
    path::{Path, PathBuf},
    sync::Arc,
};

use env::{DirEntry, File, Files, LockedDir, Open};

use super::{Content, Fault, Inode, Node, SimDisk, State, no_power};

/// The file system of one boot.
pub struct SimFiles {
    disk: SimDisk,
    boot: u64,
}

impl SimFiles {
    pub(super) fn new(disk: SimDisk, boot: u64) -> Self {
        SimFiles { disk, boot }
    }

    /// Runs a change of names; a power cut in its middle either did it or not.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.disk.state.lock();
        if state.enter(self.boot)? {
            let done = state.rng.permille(500).then(|| change(&mut state));
            // Its value may want the lock when it goes.
            drop(state);
            drop(done);
            return Err(no_power());
        }
        change(&mut state)
    }
}

impl Files for SimFiles {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        let number = self.change(|state| {
            let number = match (state.names.find(path)?, how) {
                (Some(Node::File(_)), Open::Create) => {
                    return Err(failed(io::ErrorKind::AlreadyExists, path));
                }
                (Some(Node::File(number)), _) => number,
                (Some(Node::Dir(_)), _) => return Err(failed(io::ErrorKind::IsADirectory, path)),
                (None, Open::Create) => {
                    let number = state.next_inode;
                    state.next_inode += 1;
                    state.names.link(path, number)?;
                    state.inodes.insert(number, Inode { content: Content::default(), handles: 0 });
                    number
                }
                (None, _) => return Err(failed(io::ErrorKind::NotFound, path)),
            };
            if let Some(inode) = state.inodes.get_mut(&number) {
                inode.handles += 1;
            }
            state.trace.line(format_args!("open {how:?} {}", path.display()));
            Ok(number)
        })?;
        let file = SimFile { disk: self.disk.clone(), boot: self.boot, number, path: path.to_owned() };
        Ok(Arc::new(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(|state| {
            let (number, _replaced) = state.names.rename(from, to)?;
            if let Some(inode) = state.inodes.get_mut(&number) {
                inode.content.begin_new_life();
            }
            state.collect();
            state.trace.line(format_args!("rename {} {}", from.display(), to.display()));
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change(|state| {
            state.names.unlink(path)?;
            state.collect();
            state.trace.line(format_args!("remove {}", path.display()));
            Ok(())
        })
    }

    fn create_dir(&self, path: &Path) -> io::Result<usize> {
        self.change(|state| {
            state.trace.line(format_args!("create folder {}", path.display()));
            state.names.create_dir(path)
        })
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.change(|state| {
            state.trace.line(format_args!("sync folder {}", path.display()));
            if state.planted.skip_dir_sync {
                state.fired.count(Fault::DirSyncSkipped);
                return Ok(());
            }
            state.names.sync(path)?;
            state.collect();
            Ok(())
        })
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.change(|state| {
            let entries = state.names.list(path)?.into_iter();
            Ok(entries
                .map(|(name, node)| match node {
                    Node::Dir(_) => DirEntry { name, len: 0, is_dir: true },
                    Node::File(number) => {
                        let len = state.inodes.get(&number).map_or(0, |inode| inode.content.len());
                        DirEntry { name, len, is_dir: false }
                    }
                })
                .collect())
        })
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        self.change(|state| Ok(state.free()))
    }

    fn lock_dir(&self, path: &Path, holder: &str) -> io::Result<Box<dyn LockedDir>> {
        self.change(|state| {
            let dir = state.names.dir(path)?;
            if let Some(other) = state.locks.get(&dir) {
                return Err(io::Error::new(io::ErrorKind::WouldBlock, other.clone()));
            }
            state.locks.insert(dir, holder.to_owned());
            let held = Held { disk: self.disk.clone(), boot: self.boot, dir };
            Ok(Box::new(held) as Box<dyn LockedDir>)
        })
    }
}

struct Held {
    disk: SimDisk,
    boot: u64,
    dir: u64,
}

impl LockedDir for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.disk.state.lock();
        if state.boot == self.boot {
            state.locks.remove(&self.dir);
        }
    }
}

/// One open file of one boot.
struct SimFile {
    disk: SimDisk,
    boot: u64,
    number: u64,
    path: PathBuf,
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = self.disk.state.lock();
        if state.boot == self.boot {
            if let Some(inode) = state.inodes.get_mut(&self.number) {
                inode.handles -= 1;
            }
            state.collect();
        }
    }
}

impl SimFile {
    fn with<T>(&self, run: impl FnOnce(&mut State, &mut Content, bool) -> io::Result<T>) -> io::Result<T> {
        let mut guard = self.disk.state.lock();
        let cut = guard.enter(self.boot)?;
        let state = &mut *guard;
        let Some(mut inode) = state.inodes.remove(&self.number) else {
            return Err(failed(io::ErrorKind::NotFound, &self.path));
        };
        let allocated = inode.content.allocated();
        let done = run(state, &mut inode.content, cut);
        debug_assert!(inode.content.allocated() >= allocated || !cut);
        state.inodes.insert(self.number, inode);
        if cut { done.and(Err(no_power())) } else { done }
    }

    /// A read of `len` bytes at `at`: whoever is a reader stands still before it, and it may fail.
    fn reading<T>(
        &self,
        len: usize,
        at: u64,
        unreadable: fn() -> io::Error,
        read: impl FnOnce(&mut Content) -> io::Result<T>,
    ) -> io::Result<T> {
        if crate::pause::is_reader() {
            let reading = (self.number, at..at.saturating_add(len as u64));
            self.disk.state.lock().under_readers.push(reading.clone());
            crate::pause::stand_still();
            let mut state = self.disk.state.lock();
            if let Some(index) = state.under_readers.iter().position(|other| *other == reading) {
                state.under_readers.swap_remove(index);
            }
        }
        self.with(|state, content, cut| {
            if cut {
                return Err(no_power());
            }
            if state.rng.ppm(state.rates.read_failed_ppm) {
                state.fired.count(Fault::ReadFailed);
                state.trace.line(format_args!("read fails {} at {at}", self.path.display()));
                return Err(io::Error::other("simulated read failure"));
            }
            if content.is_dead(at, len) {
                state.trace.line(format_args!("read of a dead sector {} at {at}", self.path.display()));
                return Err(unreadable());
            }
            read(content)
        })
    }

    /// Room for the file to end at `end`, given that its own bytes are not counted in `state` right now.
    fn room(state: &State, content: &Content, end: u64) -> bool {
        end <= content.allocated() || state.used().saturating_add(end) <= state.capacity
    }
}

impl File for SimFile {
    fn read_exact_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        self.reading(buf.len(), at, env::unreadable, |content| {
            if content.read(buf, at) { Ok(()) } else { Err(failed(io::ErrorKind::UnexpectedEof, &self.path)) }
        })
    }

    fn read_past_cache(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        self.reading(
            buf.len(),
            at,
            env::unreadable_past_cache,
            |content| Ok(content.read_past_cache(buf, at)),
        )
    }

    fn write_all_at(&self, parts: &[IoSlice<'_>], at: u64) -> io::Result<()> {
        let mut bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        self.with(|state, content, cut| {
            let end = at.saturating_add(bytes.len() as u64);
            let outcome = if cut {
                Err(no_power())
            } else if !Self::room(state, content, end) {
                state.fired.count(Fault::DiskFull);
                Err(failed(io::ErrorKind::StorageFull, &self.path))
            } else if state.rng.ppm(state.rates.write_failed_ppm) {
                state.fired.count(Fault::WriteFailed);
                Err(io::Error::other("simulated write failure"))
            } else {
                Ok(())
            };
            if outcome.is_err() {
                // A part of it may be there all the same, as far as the disk has room.
                let part = state.rng.index(bytes.len() + 1);
                let room = state
                    .free()
                    .saturating_sub(content.allocated())
                    .max(content.allocated().saturating_sub(at));
                bytes.truncate(part.min(usize::try_from(room).unwrap_or(0)));
            }
            let (path, len, ok) = (self.path.display(), bytes.len(), outcome.is_ok());
            state.trace.line(format_args!("write {path} at {at} len {len} ok {ok}"));
            let end = at + bytes.len() as u64;
            let under_reader = state
                .under_readers
                .iter()
                .any(|(number, range)| *number == self.number && range.start < end && at < range.end);
            if under_reader {
                state.wronged = Some(format!("{path} was written at {at} under a reader"));
            }
            content.write(&bytes, at, state.rates.writeback_permille, &mut state.rng, &mut state.fired);
            outcome
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|state, content, cut| {
            let (rates, path) = (state.rates, self.path.display());
            let slow = state.rng.ppm(rates.slow_sync_ppm);
            if slow {
                state.fired.count(Fault::SlowSync);
            }
            let ns = if slow {
                state.rng.between(50, 5_000) * 1_000_000
            } else {
                state.rng.between(20, 400) * 1_000
            };
            state.clock.advance_ns(ns);
            let skip = state.planted.skip_sync.is_some_and(|part| self.path.to_string_lossy().contains(part));
            let dirty = content.is_dirty();
            let outcome = if cut {
                Err(no_power())
            } else if skip {
                state.fired.count(Fault::SyncSkipped);
                Ok(())
            } else if dirty && state.rng.ppm(rates.sync_failed_ppm) {
                content.sync_failing(&mut state.rng);
                state.fired.count(Fault::SyncFailed);
                Err(io::Error::other("simulated sync failure"))
            } else if dirty && state.rng.ppm(rates.sync_full_ppm) {
                content.sync_failing(&mut state.rng);
                state.fired.count(Fault::SyncFull);
                Err(failed(io::ErrorKind::StorageFull, &self.path))
            } else {
                content.sync();
                Ok(())
            };
            state.trace.line(format_args!("sync {path} ok {}", outcome.is_ok()));
            outcome
        })
    }

    fn reserve(&self, len: u64) -> io::Result<bool> {
        self.with(|state, content, cut| {
            if content.len() >= len {
                return Ok(true);
            }
            if !Self::room(state, content, len) {
                state.fired.count(Fault::DiskFull);
                return Err(failed(io::ErrorKind::StorageFull, &self.path));
            }
            let reached = if cut { state.rng.between(content.len(), len) } else { len };
            content.set_len(reached);
            state.trace.line(format_args!("reserve {} to {reached}", self.path.display()));
            Ok(true)
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(|state, content, cut| {
            if cut {
                return Err(no_power());
            }
            if !Self::room(state, content, len) {
                state.fired.count(Fault::DiskFull);
                return Err(failed(io::ErrorKind::StorageFull, &self.path));
            }
            content.set_len(len);
            state.trace.line(format_args!("set length {} to {len}", self.path.display()));
            Ok(())
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.with(|_, content, _| Ok(content.len()))
    }

    fn forget_cached(&self, at: u64, len: u64) {
        // Advice: a disk without power has forgotten everything anyway.
        let _dead = self.with(|_, content, _| {
            content.forget(at, len);
            Ok(())
        });
    }

    fn will_need(&self, _at: u64, _len: u64) {
        // Advice: every read asks the disk anew.
    }
}

fn failed(kind: io::ErrorKind, path: &Path) -> io::Error {
    io::Error::new(kind, format!("{}: {kind}", path.display()))
}
