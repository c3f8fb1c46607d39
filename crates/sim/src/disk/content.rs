//! The bytes of one simulated file: what reads show, what the device holds, and which sectors differ.

use std::collections::BTreeSet;

use crate::{
    Rng,
    disk::faults::{Fault, Fired},
};

/// Unit in which unsynced data survives or not: a page of the cache.
pub const SECTOR_LEN: usize = 4096;
/// Unit in which a device writes: what a torn sector is a mixture of.
const TORN_UNIT_LEN: usize = 512;

/// One file's bytes, twice.
///
/// ```text
///   live    what a read shows            len = live.len()
///   stable  what the device holds        len = stable.len()
///   dirty   sectors that a sync writes
///   lost    sectors that a failed sync dropped: live shows them, no sync will write them
/// ```
#[derive(Clone, Debug, Default)]
pub struct Content {
    live: Vec<u8>,
    stable: Vec<u8>,
    dirty: BTreeSet<usize>,
    lost: BTreeSet<usize>,
    len_dirty: bool,
    /// End of what was ever written since the file got its name.
    written_end: u64,
    /// The part of `written_end` that a sync covered.
    synced_end: u64,
    /// Below this, a later synced write proves the bytes: they may rot.
    proven_end: u64,
    /// Bits that are wrong and were not written over since: position and bit.
    rotten: Vec<(usize, u8)>,
    /// Sectors that cannot be read, and were not written over since.
    dead: BTreeSet<usize>,
    /// Bytes as they should be where a write went astray and nothing was written over since, with their position.
    astray: Vec<(usize, Vec<u8>)>,
}

impl Content {
    /// Length as reads see it.
    pub fn len(&self) -> u64 {
        self.live.len() as u64
    }

    /// What the file takes on the disk.
    pub fn allocated(&self) -> u64 {
        self.live.len().max(self.stable.len()) as u64
    }

    /// Bytes that a later synced write proves to have been durable; see [`Content::rot`].
    pub fn proven_end(&self) -> u64 {
        self.proven_end
    }

    /// Whether a sync would have anything to do.
    pub fn is_dirty(&self) -> bool {
        self.len_dirty || !self.dirty.is_empty()
    }

    /// The file got another name: what lies in it proves nothing about its new life.
    pub fn begin_new_life(&mut self) {
        (self.written_end, self.synced_end, self.proven_end) = (0, 0, 0);
    }

    /// Copies `[at, at + buf.len())` as reads see it; false when the file is shorter.
    pub fn read(&self, buf: &mut [u8], at: u64) -> bool {
        let Some(range) = range(at, buf.len()) else { return false };
        match self.live.get(range) {
            Some(bytes) => {
                buf.copy_from_slice(bytes);
                true
            }
            None => false,
        }
    }

    /// Copies from `at` on as far as the file goes, as a read past the cache sees it, and says how far. What waits for a
    /// sync is shown; sectors that a failed sync dropped are shown as the device holds them.
    pub fn read_past_cache(&self, buf: &mut [u8], at: u64) -> usize {
        let Some(begin) = usize::try_from(at).ok().filter(|begin| *begin < self.live.len()) else { return 0 };
        let end = self.live.len().min(begin.saturating_add(buf.len()));
        buf[..end - begin].copy_from_slice(&self.live[begin..end]);
        for sector in self.lost.range(begin / SECTOR_LEN..end.div_ceil(SECTOR_LEN)) {
            let (from, to) = ((sector * SECTOR_LEN).max(begin), ((sector + 1) * SECTOR_LEN).min(end));
            for index in from..to {
                buf[index - begin] = self.stable.get(index).copied().unwrap_or(0);
            }
        }
        end - begin
    }

    /// Writes `bytes` at `at` into the cache. An earlier version of a dirty sector may reach the device first.
    pub fn write(
        &mut self,
        bytes: &[u8],
        at: u64,
        writeback_permille: u32,
        rng: &mut Rng,
        fired: &mut Fired,
    ) {
        let Some(range) = range(at, bytes.len()) else { return };
        if bytes.is_empty() {
            return;
        }
        for sector in range.start / SECTOR_LEN..=(range.end - 1) / SECTOR_LEN {
            if self.dirty.contains(&sector) && rng.permille(writeback_permille) {
                self.write_back(sector);
                fired.count(Fault::EarlyWriteback);
            }
            self.dirty.insert(sector);
            self.lost.remove(&sector);
            self.dead.remove(&sector);
        }
        if self.live.len() < range.end {
            self.live.resize(range.end, 0);
            self.len_dirty = true;
        }
        self.written_end = self.written_end.max(range.end as u64);
        self.rotten.retain(|(at, _)| !range.contains(at));
        self.astray.retain(|(at, bytes)| range.end <= *at || at + bytes.len() <= range.start);
        self.live[range].copy_from_slice(bytes);
    }

    /// Cuts or extends with zeros.
    pub fn set_len(&mut self, len: u64) {
        let Ok(len) = usize::try_from(len) else { return };
        if len == self.live.len() {
            return;
        }
        if len < self.live.len() {
            self.dirty.retain(|sector| sector * SECTOR_LEN < len);
            self.lost.retain(|sector| sector * SECTOR_LEN < len);
            self.dead.retain(|sector| sector * SECTOR_LEN < len);
            self.rotten.retain(|(at, _)| *at < len);
            self.astray.retain(|(at, bytes)| at + bytes.len() <= len);
            self.written_end = self.written_end.min(len as u64);
            self.synced_end = self.synced_end.min(len as u64);
            self.proven_end = self.proven_end.min(len as u64);
        } else {
            // The zeros of the new part are as unsynced as any write.
            self.dirty.extend(self.live.len() / SECTOR_LEN..=(len - 1) / SECTOR_LEN);
        }
        self.live.resize(len, 0);
        self.len_dirty = true;
    }

    /// Everything dirty reaches the device.
    pub fn sync(&mut self) {
        self.stable.resize(self.live.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            self.copy_to_stable(sector);
        }
        self.len_dirty = false;
        if self.written_end > self.synced_end {
            self.proven_end = self.synced_end;
            self.synced_end = self.written_end;
        }
    }

    /// A sync that fails: some sectors made it, the others are dropped though reads go on showing them, and no later
    /// sync will write them.
    pub fn sync_failing(&mut self, rng: &mut Rng) {
        let survive_permille = rng.pick(&[0, 300, 700]);
        for sector in std::mem::take(&mut self.dirty) {
            if rng.permille(survive_permille) {
                self.write_back(sector);
            } else {
                self.lost.insert(sector);
            }
        }
        self.len_dirty = self.stable.len() != self.live.len();
    }

    /// Pages of the range leave the cache, so that reads show what the device holds. Dirty ones stay.
    pub fn forget(&mut self, at: u64, len: u64) {
        let (from, to) = (at / SECTOR_LEN as u64, at.saturating_add(len).div_ceil(SECTOR_LEN as u64));
        let gone: Vec<usize> =
            self.lost.iter().copied().filter(|sector| (from..to).contains(&(*sector as u64))).collect();
        for sector in gone {
            self.lost.remove(&sector);
            self.reload(sector);
        }
    }

    /// The power goes: each unsynced sector survives on its own, `survive_permille` times in a thousand.
    pub fn crash(&mut self, survive_permille: u32, rng: &mut Rng, fired: &mut Fired) {
        if self.len_dirty {
            let (low, high) =
                (self.stable.len().min(self.live.len()), self.stable.len().max(self.live.len()));
            let len = match rng.below(3) {
                0 => self.stable.len(),
                1 => self.live.len(),
                _ => rng.between(low as u64, high as u64) as usize,
            };
            self.stable.resize(len, 0);
        }
        for sector in std::mem::take(&mut self.dirty) {
            if rng.permille(40) {
                self.tear(sector, rng);
                fired.count(Fault::SectorTorn);
            } else if rng.permille(survive_permille) {
                self.copy_to_stable(sector);
                fired.count(Fault::SectorKept);
            } else {
                fired.count(Fault::SectorLost);
            }
        }
        self.lost.clear();
        self.len_dirty = false;
        self.live.clone_from(&self.stable);
        let len = self.live.len() as u64;
        self.synced_end = self.synced_end.min(len);
        self.written_end = self.synced_end;
        self.proven_end = self.proven_end.min(len);
    }

    /// Flips one bit, on the device and in the cache.
    pub fn rot(&mut self, at: u64, bit: u8) {
        if let Ok(at) = usize::try_from(at) {
            self.flip(at, bit);
            self.rotten.push((at, bit));
        }
    }

    /// The sector with the byte at `at` cannot be read from now on.
    pub fn kill(&mut self, at: u64) {
        if let Ok(at) = usize::try_from(at) {
            self.dead.insert(at / SECTOR_LEN);
        }
    }

    /// Whether any of `len` bytes at `at` cannot be read.
    pub fn is_dead(&self, at: u64, len: usize) -> bool {
        let Some(range) = range(at, len).filter(|range| !range.is_empty()) else { return false };
        self.dead.range(range.start / SECTOR_LEN..range.end.div_ceil(SECTOR_LEN)).next().is_some()
    }

    /// What lies in `len` bytes at `from` was written to `to` instead, some time ago: there it is, and at `from` is what
    /// was there before, which is taken to be nothing. On the device and in the cache.
    pub fn misdirect(&mut self, from: u64, to: u64, len: usize) {
        let (Some(from), Some(to)) = (range(from, len), range(to, len)) else { return };
        let Some(bytes) = self.live.get(from.clone()).map(<[u8]>::to_vec) else { return };
        let Some(covered) = self.live.get(to.clone()).map(<[u8]>::to_vec) else { return };
        self.put(to.start, &bytes);
        self.put(from.start, &vec![0; len]);
        self.astray.push((from.start, bytes));
        self.astray.push((to.start, covered));
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        for copy in [&mut self.live, &mut self.stable] {
            if let Some(place) = copy.get_mut(at..at + bytes.len()) {
                place.copy_from_slice(bytes);
            }
        }
    }

    /// Flips back what rotted, revives what was dead, and puts back what went astray, where nothing was written over since; says whether there
    /// was anything.
    pub fn heal(&mut self) -> bool {
        let (rotten, astray) = (std::mem::take(&mut self.rotten), std::mem::take(&mut self.astray));
        rotten.iter().for_each(|(at, bit)| self.flip(*at, *bit));
        astray.iter().for_each(|(at, bytes)| self.put(*at, bytes));
        let dead = std::mem::take(&mut self.dead);
        !rotten.is_empty() || !astray.is_empty() || !dead.is_empty()
    }

    fn flip(&mut self, at: usize, bit: u8) {
        for copy in [&mut self.live, &mut self.stable] {
            if let Some(byte) = copy.get_mut(at) {
                *byte ^= 1 << (bit & 7);
            }
        }
    }

    /// One sector reaches the device, and the file's length with it as far as it must.
    fn write_back(&mut self, sector: usize) {
        let end = ((sector + 1) * SECTOR_LEN).min(self.live.len());
        if self.stable.len() < end {
            self.stable.resize(end, 0);
        }
        self.copy_to_stable(sector);
    }

    fn copy_to_stable(&mut self, sector: usize) {
        let from = sector * SECTOR_LEN;
        let end = (from + SECTOR_LEN).min(self.live.len()).min(self.stable.len());
        if from < end {
            self.stable[from..end].copy_from_slice(&self.live[from..end]);
        }
    }

    fn reload(&mut self, sector: usize) {
        let from = sector * SECTOR_LEN;
        let end = (from + SECTOR_LEN).min(self.live.len());
        for at in from..end {
            self.live[at] = self.stable.get(at).copied().unwrap_or(0);
        }
    }

    fn tear(&mut self, sector: usize, rng: &mut Rng) {
        let from = sector * SECTOR_LEN;
        let end = (from + SECTOR_LEN).min(self.live.len()).min(self.stable.len());
        let mut at = from;
        while at < end {
            let to = (at + TORN_UNIT_LEN).min(end);
            if rng.permille(500) {
                self.stable[at..to].copy_from_slice(&self.live[at..to]);
            }
            at = to;
        }
    }
}

fn range(at: u64, len: usize) -> Option<std::ops::Range<usize>> {
    let at = usize::try_from(at).ok()?;
    Some(at..at.checked_add(len)?)
}
