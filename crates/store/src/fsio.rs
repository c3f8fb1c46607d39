//! Small helpers around `env`'s files.

use std::{io, path::Path};

use bytes::Bytes;
use env::{File, Files};
use model::{Error, ErrorKind, Result};

/// The spine's error for an I/O error at `path`: a full disk is [`ErrorKind::Unavailable`], bytes that should be there
/// and are not are [`ErrorKind::Corrupt`], a missing file is [`ErrorKind::NotFound`], all else [`ErrorKind::Internal`].
pub(crate) fn io_error(path: &Path, error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Unavailable,
        io::ErrorKind::UnexpectedEof => ErrorKind::Corrupt,
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::AlreadyExists => ErrorKind::Exists,
        _ => ErrorKind::Internal,
    };
    Error::new(kind, format!("{}: {error}", path.display()))
}

/// Whether `error`, of [`io_error`], says that the disk is full, so that trying again later makes sense.
pub(crate) fn is_full(error: &Error) -> bool {
    error.kind() == ErrorKind::Unavailable
}

/// Runs a read of the file at `path`. What its device cannot give is asked for once more; where it cannot again, the bytes
/// are lost as those are that fail their checks: [`ErrorKind::Corrupt`].
pub(crate) fn reading<T>(path: &Path, mut read: impl FnMut() -> io::Result<T>) -> Result<T> {
    let read = match read() {
        Err(error) if env::is_unreadable(&error) => read(),
        read => read,
    };
    read.map_err(|error| match env::is_unreadable(&error) {
        true => Error::corrupt(format!("{}: {error}", path.display())),
        false => io_error(path, error),
    })
}

/// Reads exactly `[at, at + len)`, as [`reading`] does. The caller has compared `len` with the file's length.
pub(crate) fn read_at(file: &dyn File, path: &Path, at: u64, len: usize) -> Result<Bytes> {
    let mut buffer = vec![0; len];
    reading(path, || file.read_exact_at(&mut buffer, at))?;
    Ok(buffer.into())
}

/// Creates `dir` with its parents, and makes the names of those that were not there durable. What was there is its
/// maker's affair: a data directory sees to its own folders ([`crate::dir`]).
pub(crate) fn create_dir(files: &dyn Files, dir: &Path) -> io::Result<()> {
    let made = files.create_dir(dir)?;
    sync_above(files, dir, made)
}

/// Makes the names of `dir` and of the folders above it durable, `count` of them. Folders that this process may not open
/// are left to whoever made them.
pub(crate) fn sync_above(files: &dyn Files, dir: &Path, count: usize) -> io::Result<()> {
    for path in dir.ancestors().skip(1).take(count) {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        match files.sync_dir(path) {
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {}
            synced => synced?,
        }
    }
    Ok(())
}
