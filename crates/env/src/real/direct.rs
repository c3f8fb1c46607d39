//! Reads and writes past the page cache.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::{fs::OFlags, io::Errno};

use crate::DIRECT_ALIGN_LEN;

/// A second handle on a file, for reads and writes past the page cache.
pub(super) struct Direct {
    file: File,
    /// The file system took the flag and refuses what is asked with it.
    refused: AtomicBool,
}

impl Direct {
    /// None where the file system does not know the flag. `writes` as the file itself was opened.
    pub(super) fn of(file: &File, writes: bool) -> Option<Self> {
        let flags = i32::try_from(OFlags::DIRECT.bits()).ok()?;
        // The handle and not a name: files are renamed while they are open.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let file = OpenOptions::new().read(true).write(writes).custom_flags(flags).open(path).ok()?;
        Some(Direct { file, refused: AtomicBool::new(false) })
    }

    /// Writes `bytes` at `at`, and says how many of them: what is left has to go through the cache.
    pub(super) fn write(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        let mut written = 0;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            let at = at + written as u64;
            if !is_aligned(rest, at) || self.refused.load(Ordering::Relaxed) {
                break;
            }
            match rustix::io::pwrite(&self.file, rest, at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => written += len,
                Err(Errno::INTR) => {}
                Err(Errno::INVAL | Errno::OPNOTSUPP) => self.refused.store(true, Ordering::Relaxed),
                Err(e) => return Err(e.into()),
            }
        }
        Ok(written)
    }
}

impl Direct {
    /// Reads into `buf` from `at` on, and says how many bytes: what is left has to go through the cache, or is not there.
    pub(super) fn read(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = at + done as u64;
            // Short of a whole number of blocks the file ended.
            if !is_aligned(rest, at) || self.refused.load(Ordering::Relaxed) {
                break;
            }
            match rustix::io::pread(&self.file, rest, at) {
                Ok(0) => break,
                Ok(len) => done += len,
                Err(Errno::INTR) => {}
                Err(Errno::INVAL | Errno::OPNOTSUPP) => self.refused.store(true, Ordering::Relaxed),
                Err(e) => return Err(e.into()),
            }
        }
        Ok(done)
    }
}

fn is_aligned(bytes: &[u8], at: u64) -> bool {
    bytes.as_ptr().align_offset(DIRECT_ALIGN_LEN) == 0
        && bytes.len().is_multiple_of(DIRECT_ALIGN_LEN)
        && at.is_multiple_of(DIRECT_ALIGN_LEN as u64)
}
