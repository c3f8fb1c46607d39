//! A disk that does what disks are allowed to do, and some of what they do anyway.
//!
//! Nothing is kept that no sync covered: on a crash each unsynced sector and each unsynced name survives on its own or
//! not at all. A process that died (or was told that the power went) can no longer touch it: every handle belongs to
//! one boot.

mod content;
mod faults;
mod files;
mod names;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;

pub use content::SECTOR_LEN;
pub use faults::{Fault, Fired, Planted, Rates};
pub use files::SimFiles;

use crate::{Rng, SimClock, Trace};
use content::Content;
use names::{Names, Node};

/// What ends a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process dies; the page cache lives on.
    Process,
    /// The power goes; only what was synced, and some of the rest, is there afterwards.
    Power,
}

/// The disk. Cheap to clone; all clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

/// A place where bits may rot without the engine being asked the impossible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rottable {
    /// The file.
    pub path: PathBuf,
    /// Bits below this may rot.
    pub below: u64,
}

struct Inode {
    content: Content,
    handles: u64,
}

struct State {
    names: Names,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    boot: u64,
    powered: bool,
    cut_in: Option<u64>,
    locks: BTreeMap<u64, String>,
    capacity: u64,
    rates: Rates,
    planted: Planted,
    fired: Fired,
    rng: Rng,
    clock: SimClock,
    trace: Trace,
    ops: u64,
    /// Where readers stand: file and range. What a reader has pinned must not be written.
    under_readers: Vec<(u64, std::ops::Range<u64>)>,
    /// That it was.
    wronged: Option<String>,
}

impl SimDisk {
    /// An empty disk of `capacity` bytes.
    pub fn new(rng: Rng, clock: SimClock, trace: Trace, capacity: u64) -> Self {
        let state = State {
            names: Names::new(),
            inodes: BTreeMap::new(),
            next_inode: 1,
            boot: 0,
            powered: true,
            cut_in: None,
            locks: BTreeMap::new(),
            capacity,
            rates: Rates::default(),
            planted: Planted::default(),
            fired: Fired::default(),
            rng,
            clock,
            trace,
            ops: 0,
            under_readers: Vec::new(),
            wronged: None,
        };
        SimDisk { state: Arc::new(Mutex::new(state)) }
    }

    /// The file system as the current boot sees it.
    pub fn files(&self) -> SimFiles {
        SimFiles::new(self.clone(), self.state.lock().boot)
    }

    /// How often each fault happens from now on.
    pub fn set_rates(&self, rates: Rates) {
        self.state.lock().rates = rates;
    }

    /// Which lies it tells from now on.
    pub fn plant(&self, planted: Planted) {
        self.state.lock().planted = planted;
    }

    /// How large it is from now on, as when somebody else fills or empties it.
    pub fn set_capacity(&self, capacity: u64) {
        self.state.lock().capacity = capacity;
    }

    /// Bytes taken.
    pub fn used(&self) -> u64 {
        self.state.lock().used()
    }

    /// The power goes in the middle of the `n`-th disk operation from now, 0 being the next; `None` calls it off.
    pub fn cut_power_in(&self, n: Option<u64>) {
        self.state.lock().cut_in = n;
    }

    /// Whether the power is still on.
    pub fn powered(&self) -> bool {
        self.state.lock().powered
    }

    /// Ends the boot: all handles are dead, and a power cut resolves what no sync covered. The next boot begins.
    pub fn crash(&self, crash: Crash) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let power = crash == Crash::Power || !state.powered;
        state.boot += 1;
        state.powered = true;
        state.cut_in = None;
        state.locks.clear();
        state.under_readers.clear();
        if power {
            state.names.crash(&mut state.rng, &mut state.fired);
            let survive_permille = state.rng.pick(&[0, 100, 500, 900, 1000]);
            for inode in state.inodes.values_mut() {
                inode.content.crash(survive_permille, &mut state.rng, &mut state.fired);
            }
        }
        for inode in state.inodes.values_mut() {
            inode.handles = 0;
        }
        state.collect();
        let boot = state.boot;
        state.trace.line(format_args!("disk: boot {boot} after {crash:?}, power cut {power}"));
    }

    /// What was written under a reader that stood there, if anything was.
    pub fn wronged(&self) -> Option<String> {
        self.state.lock().wronged.clone()
    }

    /// How often each fault fired.
    pub fn fired(&self) -> Fired {
        self.state.lock().fired.clone()
    }

    /// How many operations it was asked for.
    pub fn ops(&self) -> u64 {
        self.state.lock().ops
    }

    /// Files in which bits may rot: below the last but one synced write, or anywhere in what was synced when `whole` says
    /// so for its path.
    pub fn rottable(&self, folder: &Path, whole: impl Fn(&Path) -> bool) -> Vec<Rottable> {
        let state = self.state.lock();
        let mut found = Vec::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            for (name, node) in state.names.list(&folder).unwrap_or_default() {
                let path = folder.join(name);
                match node {
                    Node::Dir(_) => folders.push(path),
                    Node::File(number) => {
                        let Some(inode) = state.inodes.get(&number) else { continue };
                        let content = &inode.content;
                        let below = if whole(&path) { content.len() } else { content.proven_end() };
                        if below > 0 && !content.is_dirty() {
                            found.push(Rottable { path, below });
                        }
                    }
                }
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        found
    }

    /// Flips one bit; see [`SimDisk::heal`].
    pub fn rot(&self, path: &Path, at: u64, bit: u8) -> io::Result<()> {
        let mut state = self.state.lock();
        if let Some(Node::File(number)) = state.names.find(path)?
            && let Some(inode) = state.inodes.get_mut(&number)
        {
            inode.content.rot(at, bit);
            state.fired.count(Fault::BitRot);
            state.trace.line(format_args!("disk: rot {} at {at} bit {bit}", path.display()));
        }
        Ok(())
    }

    /// The sector with the byte at `at` cannot be read from now on; see [`SimDisk::heal`]. Fair where bits may rot.
    pub fn kill(&self, path: &Path, at: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        if let Some(Node::File(number)) = state.names.find(path)?
            && let Some(inode) = state.inodes.get_mut(&number)
        {
            inode.content.kill(at);
            state.fired.count(Fault::SectorDead);
            state.trace.line(format_args!("disk: the sector of {} at {at} is dead", path.display()));
        }
        Ok(())
    }

    /// A write of `len` bytes that was meant for `from` had landed at `to` of the same file; see [`SimDisk::heal`]. Fair
    /// where bits may rot.
    pub fn misdirect(&self, path: &Path, from: u64, to: u64, len: usize) -> io::Result<()> {
        let mut state = self.state.lock();
        if let Some(Node::File(number)) = state.names.find(path)?
            && let Some(inode) = state.inodes.get_mut(&number)
        {
            inode.content.misdirect(from, to, len);
            state.fired.count(Fault::Misdirected);
            let path = path.display();
            state.trace.line(format_args!("disk: {len} bytes for {from} of {path} went to {to}"));
        }
        Ok(())
    }

    /// A disk of its own that holds now what this one does, and has no faults.
    pub fn copy(&self, rng: Rng, clock: SimClock, trace: Trace) -> SimDisk {
        let copy = SimDisk::new(rng, clock, trace, u64::MAX);
        {
            let state = self.state.lock();
            let mut other = copy.state.lock();
            other.names = state.names.clone();
            other.next_inode = state.next_inode;
            let inodes = state.inodes.iter();
            other.inodes = inodes
                .map(|(number, inode)| (*number, Inode { content: inode.content.clone(), handles: 0 }))
                .collect();
        }
        copy
    }

    /// Repairs every bit that rotted and was not written over since, and every write that went astray.
    pub fn heal(&self) {
        let mut state = self.state.lock();
        let healed = state.inodes.values_mut().filter_map(|inode| inode.content.heal().then_some(())).count();
        state.trace.line(format_args!("disk: healed {healed} files"));
    }

    /// Names of all files with what reads show, for tests and reports.
    pub fn dump(&self, folder: &Path) -> Vec<(PathBuf, u64)> {
        let state = self.state.lock();
        let mut found = Vec::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            for (name, node) in state.names.list(&folder).unwrap_or_default() {
                match node {
                    Node::Dir(_) => folders.push(folder.join(name)),
                    Node::File(number) => {
                        let len = state.inodes.get(&number).map_or(0, |inode| inode.content.len());
                        found.push((folder.join(name), len));
                    }
                }
            }
        }
        found.sort();
        found
    }
}

impl State {
    fn used(&self) -> u64 {
        self.inodes.values().map(|inode| inode.content.allocated()).sum()
    }

    fn free(&self) -> u64 {
        self.capacity.saturating_sub(self.used())
    }

    /// Counts one operation of `boot`; an error when that boot is over or the power goes now. The second value says that
    /// the power goes in the middle of this one: do a part of it and fail.
    fn enter(&mut self, boot: u64) -> io::Result<bool> {
        if boot != self.boot || !self.powered {
            return Err(no_power());
        }
        self.ops += 1;
        match &mut self.cut_in {
            Some(0) => {
                self.powered = false;
                self.cut_in = None;
                self.fired.count(Fault::PowerCut);
                self.trace.line(format_args!("disk: the power goes"));
                Ok(true)
            }
            Some(left) => {
                *left -= 1;
                Ok(false)
            }
            None => Ok(false),
        }
    }

    /// Forgets files that have neither name nor handle.
    fn collect(&mut self) {
        let names = &self.names;
        self.inodes.retain(|number, inode| inode.handles > 0 || names.knows(*number));
    }
}

fn no_power() -> io::Error {
    io::Error::other("the power is off")
}

#[cfg(test)]
mod tests;
