//! Immutable files by name: where checkpoints and segments live. A folder here, a bucket in cluster mode.

mod file;

use bytes::Bytes;
use model::Result;

pub use file::FileBlobs;

/// A store of immutable, named blobs.
pub trait Blobs: Send + Sync + 'static {
    /// Writes `parts` one after another as `name`, atomically and durably: after a crash it is there whole or not at
    /// all. [`model::ErrorKind::Exists`] when the name is taken, [`model::ErrorKind::Invalid`] for a name that is not
    /// 1..=200 letters, digits, `-`, `_` and `.`, or that begins with a full stop. An error of `parts` is passed on and
    /// leaves nothing. Blocks on the disk.
    fn put(&self, name: &str, parts: &mut dyn Iterator<Item = Result<Bytes>>) -> Result<u64> {
        let mut blob = self.create(name)?;
        for part in parts {
            blob.add(&part?)?;
        }
        blob.finish()
    }

    /// Begins a blob, for whoever has it part by part; errors as [`Blobs::put`].
    fn create(&self, name: &str) -> Result<Box<dyn NewBlob>>;

    /// Reads `[at, at + len)`. [`model::ErrorKind::NotFound`] without the blob; [`model::ErrorKind::Invalid`] past its end.
    /// Reading goes on working for a blob removed meanwhile only through a handle taken before; see [`Blobs::open`].
    fn read(&self, name: &str, at: u64, len: u32) -> Result<Bytes>;

    /// A handle that pins the blob: it stays readable after [`Blobs::remove`].
    fn open(&self, name: &str) -> Result<std::sync::Arc<dyn Blob>>;

    /// Names and lengths of all blobs whose name begins with `prefix`, sorted by name.
    fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>>;

    /// Removes a blob; one that is not there is fine.
    fn remove(&self, name: &str) -> Result<()>;
}

/// The numbers of all blobs whose names are `prefix` and a number, ascending.
pub(crate) fn numbers(blobs: &dyn Blobs, prefix: &str) -> Result<Vec<u64>> {
    Ok(numbers_and_lens(blobs, prefix)?.into_iter().map(|(number, _)| number).collect())
}

/// The same with their lengths in bytes.
pub(crate) fn numbers_and_lens(blobs: &dyn Blobs, prefix: &str) -> Result<Vec<(u64, u64)>> {
    let named = blobs.list(prefix)?.into_iter();
    let mut numbers: Vec<(u64, u64)> =
        named.filter_map(|(name, len)| Some((name.strip_prefix(prefix)?.parse().ok()?, len))).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// A blob that is being written. Nobody sees it before it is finished; given up, or after a crash, nothing of it is there.
pub trait NewBlob: Send {
    /// Writes what comes next. Nothing can be done with it after an error. Blocks on the disk.
    fn add(&mut self, part: &[u8]) -> Result<()>;
    /// Makes it durable under its name, and says how long it is. [`model::ErrorKind::Exists`] when the name was taken
    /// meanwhile. Blocks on the disk.
    fn finish(self: Box<Self>) -> Result<u64>;
}

/// One pinned blob.
pub trait Blob: Send + Sync + 'static {
    /// Reads `[at, at + len)`.
    fn read(&self, at: u64, len: u32) -> Result<Bytes>;
    /// Reads into `buf` from `at` on as far as the blob goes and says how far, for long reads of what is read once. What
    /// [`env::File::read_past_cache`] says of alignment holds; behind the blob's end there may be bytes without meaning.
    fn read_long(&self, at: u64, buf: &mut [u8]) -> Result<usize> {
        let left = usize::try_from(self.len().saturating_sub(at)).unwrap_or(usize::MAX);
        let len = buf.len().min(left);
        let bytes = self.read(at, u32::try_from(len).unwrap_or(u32::MAX))?;
        match buf.get_mut(..bytes.len()) {
            Some(space) => space.copy_from_slice(&bytes),
            None => return Err(model::Error::internal("a blob gave more than was asked for")),
        }
        Ok(bytes.len())
    }
    /// Length in bytes.
    fn len(&self) -> u64;
    /// A read of `[at, at + len)` comes soon. Advice only, for whoever has to fetch; does not wait.
    fn will_need(&self, _at: u64, _len: u32) {}
    /// Whether it holds nothing.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
