//! Files as the engine needs them: positioned reads and writes, explicit syncs of data and of folders.

use std::{
    io::{self, IoSlice},
    path::Path,
    sync::Arc,
};

use rustix::io::Errno;

/// What [`File::write_past_cache`] and [`File::read_past_cache`] align by, bytes: a page of the machine, and a multiple of any disk's block.
pub const DIRECT_ALIGN_LEN: usize = 4096;

/// The first place in `room` whose address is a multiple of [`DIRECT_ALIGN_LEN`]: that much may have to be passed over, so
/// `room` is as much longer than what it is for.
pub fn direct_begin(room: &[u8]) -> usize {
    room.as_ptr().align_offset(DIRECT_ALIGN_LEN).min(DIRECT_ALIGN_LEN)
}

/// What a read fails with where the device cannot give the bytes. Through the cache that is always the first; past it Linux
/// hands up what the block layer says of a bad sector, of failed protection and of a target (`blk_errors` in
/// `block/blk-core.c`), and what ext4, XFS and btrfs say of bytes that fail their checksum.
const UNREADABLE: [Errno; 6] =
    [Errno::IO, Errno::NODATA, Errno::ILSEQ, Errno::REMOTEIO, Errno::BADMSG, Errno::UCLEAN];

/// Whether a read failed because the device cannot give these bytes, which may be so for good.
pub fn is_unreadable(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| UNREADABLE.iter().any(|errno| errno.raw_os_error() == code))
}

/// What such a read fails with, for whoever simulates a device.
pub fn unreadable() -> io::Error {
    Errno::IO.into()
}

/// What [`File::read_past_cache`] fails with then.
pub fn unreadable_past_cache() -> io::Error {
    Errno::NODATA.into()
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// For reading; it must exist.
    Read,
    /// For reading and writing; it must exist.
    Write,
    /// For reading and writing; it must not exist yet.
    Create,
}

/// One entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// File name without its folder.
    pub name: String,
    /// Length in bytes; 0 for folders.
    pub len: u64,
    /// Whether it is a folder.
    pub is_dir: bool,
}

/// Holds a folder for this process; given up when dropped or when the process dies.
pub trait LockedDir: Send + Sync {}

/// A file system. Nothing is durable before [`File::sync`], no name before [`Files::sync_dir`].
pub trait Files: Send + Sync + 'static {
    /// Opens `path`.
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>>;
    /// Renames, replacing what is there.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file. Handles that are open go on reading it.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Creates a folder and its parents; one that is there is fine. Answers how many it made: `path` and that many less
    /// one of the folders above.
    fn create_dir(&self, path: &Path) -> io::Result<usize>;
    /// Makes the names in `path` durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Entries of a folder, sorted by name.
    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>>;
    /// Bytes that may still be written to the file system holding `path`.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;
    /// Takes `path` for this process. Fails with [`io::ErrorKind::WouldBlock`] when another holds it; the error's text
    /// then is what that holder wrote as `holder`.
    fn lock_dir(&self, path: &Path, holder: &str) -> io::Result<Box<dyn LockedDir>>;
}

/// An open file.
pub trait File: Send + Sync + 'static {
    /// Reads exactly `buf.len()` bytes at `at`; [`io::ErrorKind::UnexpectedEof`] when there are fewer.
    fn read_exact_at(&self, buf: &mut [u8], at: u64) -> io::Result<()>;
    /// Writes all of `parts` one after another at `at`.
    fn write_all_at(&self, parts: &[IoSlice<'_>], at: u64) -> io::Result<()>;
    /// Writes all of `bytes` at `at`, past the machine's cache where its file system can: for much that is synced at once
    /// and kept in memory elsewhere. Address, position and length have to be multiples of [`DIRECT_ALIGN_LEN`] for that;
    /// what is not is written as ever.
    fn write_past_cache(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(&[IoSlice::new(bytes)], at)
    }
    /// Reads into `buf` from `at` on as far as the file goes and says how far: short of `buf`'s length only at the file's
    /// end. Past the machine's cache where its file system can: for long reads of what is read once. Address, position
    /// and length have to be multiples of [`DIRECT_ALIGN_LEN`] for that; what is not is read as ever.
    fn read_past_cache(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let left = usize::try_from(self.len()?.saturating_sub(at)).unwrap_or(usize::MAX);
        let len = buf.len().min(left);
        match buf.get_mut(..len) {
            Some(within) => self.read_exact_at(within, at).map(|()| len),
            None => Ok(0),
        }
    }
    /// Makes everything written so far durable, with the length. A failure means that nothing is known of any write
    /// since the last success; it is never to be retried.
    fn sync(&self) -> io::Result<()>;
    /// Lengthens a shorter file to `len` with zeros that are not written yet, and says whether the disk promises their
    /// room; without that promise a later write may find the disk full.
    fn reserve(&self, len: u64) -> io::Result<bool>;
    /// Cuts or extends to `len`.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether nothing was ever written.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Drops cached pages of `[at, at + len)`, so that the next read asks the device. Advice only.
    fn forget_cached(&self, at: u64, len: u64);
    /// Begins to fetch `[at, at + len)` into the cache, for a read that comes soon. Advice only; does not wait.
    fn will_need(&self, at: u64, len: u64);
}
