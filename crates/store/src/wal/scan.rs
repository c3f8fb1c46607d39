//! WAL files as recovery reads them: straight from the disk, frame by frame, believing nothing.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use env::{Env, File, Open};
use model::{ErrorKind, Result, Seq};

use super::{
    Place,
    file_wal::WalOptions,
    files::{file_number, is_spare},
    frame::{FILE_HEADER_LEN, FRAME_HEADER_LEN, FileHeader, FrameHeader, PAGE_LEN},
};
use crate::fsio::{create_dir, io_error, read_at};

/// How much is read at once, bytes.
const WINDOW_LEN: u64 = 1 << 20;

/// The folder's content.
pub(super) struct Found {
    /// Files that the chain does not need, by number.
    pub(super) older: Vec<(u64, PathBuf, u64)>,
    /// The others, opened, ascending.
    pub(super) opened: Vec<Opened>,
    pub(super) spares: Vec<PathBuf>,
}

/// A file under examination.
pub(super) struct Opened {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    pub(super) handle: Arc<dyn File>,
    pub(super) len: u64,
    pub(super) header: Option<FileHeader>,
    /// The part of the file that was read last, and where it begins.
    window: (u64, Bytes),
    /// Where pages are that the device could not give.
    pub(super) unreadable: BTreeSet<u64>,
}

impl Found {
    pub(super) fn list(env: &Env, options: &WalOptions) -> Result<Self> {
        let dir = &options.dir;
        let failed = |e| io_error(dir, e);
        create_dir(&*env.files, dir).map_err(failed)?;
        let (mut older, mut spares) = (Vec::new(), Vec::new());
        for entry in env.files.list(dir).map_err(failed)? {
            let path = dir.join(&entry.name);
            if let Some(number) = file_number(&entry.name) {
                older.push((number, path, entry.len));
            } else if is_spare(&entry.name) {
                spares.push(path);
            }
        }
        older.sort_unstable_by_key(|(number, ..)| *number);
        Ok(Found { older, opened: Vec::new(), spares })
    }

    /// Opens files from the newest back to one whose first frame is intact and begins at or before the unit after `from`;
    /// a damaged frame will do where the file before is not there any more: only files that nobody needs are taken away,
    /// and those further back are of no use then. Answers whether there is one; it then is the first of the opened.
    pub(super) fn open_from(&mut self, env: &Env, from: Seq) -> Result<bool> {
        let mut start = false;
        while !start && let Some((number, path, len)) = self.older.pop() {
            let mut file = Opened::new(env, number, path, len)?;
            if file.header.is_some()
                && let Some((first, _)) = file.frame_header(PAGE_LEN)?
            {
                let follows = self.older.last().is_some_and(|(before, ..)| before + 1 == number);
                start = first.first.0 <= from.0 + 1 && (!follows || file.body(PAGE_LEN, &first)?.is_some());
            }
            self.opened.push(file);
        }
        self.opened.reverse();
        Ok(start)
    }
}

impl Opened {
    /// Opens the file so that what is read from now on is what the disk holds.
    pub(super) fn new(env: &Env, number: u64, path: PathBuf, len: u64) -> Result<Self> {
        let open = || -> io::Result<Arc<dyn File>> {
            let handle = env.files.open(&path, Open::Write)?;
            handle.sync()?;
            handle.forget_cached(0, len);
            Ok(handle)
        };
        let handle = open().map_err(|e| io_error(&path, e))?;
        let mut file = Opened {
            number,
            path,
            handle,
            len,
            header: None,
            window: (0, Bytes::new()),
            unreadable: BTreeSet::new(),
        };
        if let Some(bytes) = file.bytes(0, FILE_HEADER_LEN as u64)?
            && let Some(bytes) = bytes.first_chunk()
        {
            // A header of another number is that of a file on its way to another life: as good as none.
            file.header = FileHeader::decode(bytes)?.filter(|header| header.number == number);
        }
        Ok(file)
    }

    pub(super) fn place(&self, at: u64) -> Place {
        Place { file: self.number, at }
    }

    /// `[at, at + len)`; `None` past the end of the file.
    pub(super) fn bytes(&mut self, at: u64, len: u64) -> Result<Option<Bytes>> {
        if at.checked_add(len).is_none_or(|end| end > self.len) {
            return Ok(None);
        }
        let (window_at, window) = &self.window;
        if at < *window_at || at + len > window_at + window.len() as u64 {
            let window_len = len.max(WINDOW_LEN).min(self.len - at);
            self.window = (at, self.read(at, window_len)?);
            // The disk fetches what comes next while this is looked at.
            self.handle.will_need(at + window_len, WINDOW_LEN);
        }
        let begin = (at - self.window.0) as usize;
        Ok(Some(self.window.1.slice(begin..begin + len as usize)))
    }

    /// `[at, at + len)` from the disk. Pages that the device cannot give read as zeros: damage like any other, and those
    /// beside them are none the worse for it.
    fn read(&mut self, at: u64, len: u64) -> Result<Bytes> {
        match read_at(&*self.handle, &self.path, at, len as usize) {
            Err(error) if error.kind() == ErrorKind::Corrupt => {}
            read => return read,
        }
        let mut all = BytesMut::zeroed(len as usize);
        let mut done = 0;
        while done < len {
            let page_at = at + done;
            let page_len = (PAGE_LEN - page_at % PAGE_LEN).min(len - done);
            match read_at(&*self.handle, &self.path, page_at, page_len as usize) {
                Ok(page) => all[done as usize..(done + page_len) as usize].copy_from_slice(&page),
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    tracing::error!(at = page_at, %error, "a page of the write-ahead log cannot be read");
                    self.unreadable.insert(page_at);
                }
                Err(error) => return Err(error),
            }
            done += page_len;
        }
        Ok(all.freeze())
    }

    /// The frame header at `at`, when an intact one of this file is there.
    pub(super) fn frame_header(&mut self, at: u64) -> Result<Option<(FrameHeader, u32)>> {
        let Some(bytes) = self.bytes(at, FRAME_HEADER_LEN as u64)? else { return Ok(None) };
        let decoded = bytes.first_chunk().and_then(FrameHeader::decode);
        // Without its header the file's salt is unknown: every frame might be its own.
        let ours = |header: &FrameHeader| self.header.is_none_or(|file| file.salt == header.salt);
        Ok(decoded.filter(|(header, _)| ours(header)))
    }

    /// The runs of the frame at `at`, when they are intact.
    pub(super) fn body(&mut self, at: u64, header: &FrameHeader) -> Result<Option<Bytes>> {
        let bytes = self.bytes(at + FRAME_HEADER_LEN as u64, u64::from(header.body_len))?;
        Ok(bytes.filter(|bytes| crc_fast::crc32_iscsi(bytes) == header.body_crc))
    }

    /// How many bytes from `at` on, up to `look_len`, reach to the last one that is not zero. 0 in a recycled file, where
    /// that says nothing.
    pub(super) fn len_of_remains(&mut self, at: u64, look_len: u64) -> Result<u64> {
        if self.header.is_none_or(|header| header.recycled) {
            return Ok(0);
        }
        let end = self.len.min(at.saturating_add(look_len));
        let mut remains = 0;
        let mut page_at = at;
        while let Some(page) = self.bytes(page_at, PAGE_LEN.min(end.saturating_sub(page_at)))?
            && !page.is_empty()
        {
            if let Some(last) = page.iter().rposition(|&byte| byte != 0) {
                remains = page_at - at + last as u64 + 1;
            }
            page_at += page.len() as u64;
        }
        Ok(remains)
    }
}

/// Where the frames of a file end that no replay has followed.
pub(super) fn end_of_frames(env: &Env, number: u64, path: &Path, len: u64) -> Result<u64> {
    let mut file = Opened::new(env, number, path.to_owned(), len)?;
    let (mut at, mut number) = (PAGE_LEN, None);
    while let Some((header, _)) = file.frame_header(at)?
        && number.is_none_or(|number| header.number == number)
    {
        number = Some(header.number + 1);
        at += header.padded_len();
    }
    Ok(at)
}
