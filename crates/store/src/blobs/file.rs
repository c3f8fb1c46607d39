//! Blobs as files of one folder.

use std::{
    io::{self, IoSlice},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use env::{DIRECT_ALIGN_LEN, Env, File, Open, direct_begin};
use model::{Error, Result};

use super::{Blob, Blobs, NewBlob};
use crate::fsio::{create_dir, io_error, read_at, reading};

/// Bytes are written past the machine's cache in blocks of this length, each synced, so that no single sync holds the disk
/// for long. A segment is read rarely and in long pieces: pages for it would cost more than its copying.
const BLOCK_LEN: usize = 2 << 20;
/// Longest name, bytes: leaves room for what is added while a blob is written.
const NAME_LEN_MAX: usize = 200;
/// Marks a blob that is being written.
const UNFINISHED: &str = ".unfinished";

/// Blobs in one folder. A blob is written under another name, synced, renamed, and the folder synced.
pub struct FileBlobs {
    env: Env,
    dir: PathBuf,
    /// Tells attempts at one name apart.
    attempts: AtomicU64,
}

impl FileBlobs {
    /// The blobs in `dir`, which is created when it is not there. What a crash left unfinished is removed.
    pub fn open(env: Env, dir: impl Into<PathBuf>) -> Result<Self> {
        let dir = dir.into();
        let failed = |e| io_error(&dir, e);
        create_dir(&*env.files, &dir).map_err(failed)?;
        for entry in env.files.list(&dir).map_err(failed)? {
            if entry.name.ends_with(UNFINISHED) {
                env.files.remove(&dir.join(entry.name)).map_err(failed)?;
            }
        }
        Ok(FileBlobs { env, dir, attempts: AtomicU64::new(0) })
    }

    fn path(&self, name: &str) -> Result<PathBuf> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let fits = (1..=NAME_LEN_MAX).contains(&name.len()) && name.bytes().all(plain);
        if !fits || name.starts_with('.') || name.ends_with(UNFINISHED) {
            return Err(Error::invalid(format!("{name:?} is no name for a blob")));
        }
        Ok(self.dir.join(name))
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        match self.env.files.open(path, Open::Read) {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(io_error(path, e)),
        }
    }
}

fn remove_file(env: &Env, path: &Path) -> Result<()> {
    match env.files.remove(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(io_error(path, e)),
        _ => Ok(()),
    }
}

/// A file that has another name until it is whole.
struct NewFile {
    env: Env,
    dir: PathBuf,
    path: PathBuf,
    unfinished: PathBuf,
    file: Arc<dyn File>,
    len: u64,
    block: Block,
    is_finished: bool,
}

impl NewBlob for NewFile {
    fn add(&mut self, part: &[u8]) -> Result<()> {
        let mut rest = part;
        while !rest.is_empty() {
            rest = self.block.fill(rest);
            if self.block.is_full() {
                self.write_block()?;
            }
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<u64> {
        self.write_block()?;
        let renamed = self.env.files.rename(&self.unfinished, &self.path);
        renamed.and_then(|()| self.env.files.sync_dir(&self.dir)).map_err(|e| io_error(&self.path, e))?;
        self.is_finished = true;
        Ok(self.len)
    }
}

impl NewFile {
    fn write_block(&mut self) -> Result<()> {
        let written = self.block.write(&*self.file, self.len).and_then(|len| self.file.sync().map(|()| len));
        self.len += written.map_err(|e| io_error(&self.unfinished, e))?;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.is_finished
            && let Err(e) = remove_file(&self.env, &self.unfinished)
        {
            tracing::warn!(error = %e, "an unfinished blob stays until the next start");
        }
    }
}

/// What is written at a time, at a place in memory that suits writes past the machine's cache.
#[derive(Default)]
struct Block {
    /// Empty until something comes.
    buffer: Vec<u8>,
    begin: usize,
    len: usize,
}

impl Block {
    /// Takes in what fits of `bytes`; what is left of them.
    fn fill<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        if self.buffer.is_empty() {
            self.buffer = vec![0; BLOCK_LEN + DIRECT_ALIGN_LEN];
            self.begin = direct_begin(&self.buffer);
        }
        let space = self.buffer.get_mut(self.begin + self.len..self.begin + BLOCK_LEN).unwrap_or_default();
        let (fits, rest) = bytes.split_at(bytes.len().min(space.len()));
        if let Some(to) = space.get_mut(..fits.len()) {
            to.copy_from_slice(fits);
        }
        self.len += fits.len();
        rest
    }

    fn is_full(&self) -> bool {
        self.len == BLOCK_LEN
    }

    /// Writes what it has at `at` and is empty. How much that was.
    fn write(&mut self, file: &dyn File, at: u64) -> io::Result<u64> {
        let bytes = self.buffer.get(self.begin..self.begin + self.len).unwrap_or_default();
        let (pages, rest) = bytes.split_at(self.len - self.len % DIRECT_ALIGN_LEN);
        if !pages.is_empty() {
            file.write_past_cache(pages, at)?;
        }
        if !rest.is_empty() {
            file.write_all_at(&[IoSlice::new(rest)], at + pages.len() as u64)?;
        }
        Ok(std::mem::take(&mut self.len) as u64)
    }
}

impl Blobs for FileBlobs {
    fn create(&self, name: &str) -> Result<Box<dyn NewBlob>> {
        let path = self.path(name)?;
        if self.exists(&path)? {
            return Err(Error::exists(format!("blob {name} is there already")));
        }
        let attempt = self.attempts.fetch_add(1, Ordering::Relaxed);
        let unfinished = self.dir.join(format!("{name}.{attempt}{UNFINISHED}"));
        let file = self.env.files.open(&unfinished, Open::Create).map_err(|e| io_error(&unfinished, e))?;
        Ok(Box::new(NewFile {
            env: self.env.clone(),
            dir: self.dir.clone(),
            path,
            unfinished,
            file,
            len: 0,
            block: Block::default(),
            is_finished: false,
        }))
    }

    fn read(&self, name: &str, at: u64, len: u32) -> Result<Bytes> {
        self.open(name)?.read(at, len)
    }

    fn open(&self, name: &str) -> Result<Arc<dyn Blob>> {
        let path = self.path(name)?;
        let open = || -> io::Result<FileBlob> {
            let file = self.env.files.open(&path, Open::Read)?;
            let len = file.len()?;
            Ok(FileBlob { path: path.clone(), file, len })
        };
        open().map(|blob| Arc::new(blob) as Arc<dyn Blob>).map_err(|e| io_error(&path, e))
    }

    fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>> {
        let entries = self.env.files.list(&self.dir).map_err(|e| io_error(&self.dir, e))?;
        let named = entries.into_iter().filter(|entry| {
            !entry.is_dir && entry.name.starts_with(prefix) && self.path(&entry.name).is_ok()
        });
        Ok(named.map(|entry| (entry.name, entry.len)).collect())
    }

    fn remove(&self, name: &str) -> Result<()> {
        remove_file(&self.env, &self.path(name)?)
    }
}

struct FileBlob {
    path: PathBuf,
    file: Arc<dyn File>,
    len: u64,
}

impl Blob for FileBlob {
    fn read(&self, at: u64, len: u32) -> Result<Bytes> {
        if at.checked_add(u64::from(len)).is_none_or(|end| end > self.len) {
            let text = format!("{} ends before {len} bytes at {at}", self.path.display());
            return Err(Error::invalid(text));
        }
        read_at(&*self.file, &self.path, at, len as usize)
    }

    fn read_long(&self, at: u64, buf: &mut [u8]) -> Result<usize> {
        reading(&self.path, || self.file.read_past_cache(buf, at))
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn will_need(&self, at: u64, len: u32) {
        self.file.will_need(at, u64::from(len));
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, sync::Arc};

    use super::FileBlobs;
    use crate::{
        blobs::Blobs,
        conformance::{BlobsRig, blobs_suite},
        mem::MemBlobs,
        testing::Scratch,
    };

    struct Disk(RefCell<Scratch>);

    impl BlobsRig for Disk {
        fn fresh(&self) -> Arc<dyn Blobs> {
            self.0.replace(Scratch::new("blobs"));
            self.again()
        }

        fn again(&self) -> Arc<dyn Blobs> {
            Arc::new(FileBlobs::open(env::real(), &self.0.borrow().0).unwrap())
        }
    }

    #[test]
    fn blobs_in_files_conform() {
        blobs_suite(&Disk(RefCell::new(Scratch::new("blobs"))));
    }

    struct Memory(RefCell<MemBlobs>);

    impl BlobsRig for Memory {
        fn fresh(&self) -> Arc<dyn Blobs> {
            self.0.replace(MemBlobs::default());
            self.again()
        }

        fn again(&self) -> Arc<dyn Blobs> {
            Arc::new(self.0.borrow().clone())
        }
    }

    #[test]
    fn blobs_in_memory_conform() {
        blobs_suite(&Memory(RefCell::default()));
    }

    #[test]
    fn what_a_crash_left_unfinished_is_removed_and_never_listed() {
        let scratch = Scratch::new("blobs");
        let blobs = FileBlobs::open(env::real(), &scratch.0).unwrap();
        let half = scratch.0.join("a.0.unfinished");
        drop(env::real().files.open(&half, env::Open::Create).unwrap());
        assert_eq!(blobs.list("").unwrap(), vec![]);
        FileBlobs::open(env::real(), &scratch.0).unwrap();
        assert!(!half.exists());
    }

    #[test]
    fn a_name_that_would_leave_the_folder_is_refused() {
        let scratch = Scratch::new("blobs");
        let blobs = FileBlobs::open(env::real(), &scratch.0).unwrap();
        for name in ["", ".", "..", "../a", "a/b", ".hidden", "a b", "a.unfinished", "ä"] {
            let refused = blobs.put(name, &mut std::iter::empty()).unwrap_err();
            assert_eq!(refused.kind(), model::ErrorKind::Invalid, "{name}");
        }
    }
}
