use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use model::{Error, Result};
use parking_lot::Mutex;

use crate::blobs::{Blob, Blobs, NewBlob};

/// Blobs in memory. Clones share them.
#[derive(Clone, Default)]
pub struct MemBlobs {
    blobs: Arc<Mutex<BTreeMap<String, Bytes>>>,
}

impl MemBlobs {
    /// Changes the bytes of a blob behind the store's back, for tests of damage.
    pub fn damage(&self, name: &str, at: usize) {
        if let Some(blob) = self.blobs.lock().get_mut(name) {
            let mut bytes = blob.to_vec();
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 0x55;
            }
            *blob = bytes.into();
        }
    }
}

fn taken(name: &str) -> Error {
    Error::exists(format!("blob {name} is there already"))
}

struct NewMemBlob {
    blobs: MemBlobs,
    name: String,
    bytes: Vec<u8>,
}

impl NewBlob for NewMemBlob {
    fn add(&mut self, part: &[u8]) -> Result<()> {
        self.bytes.extend_from_slice(part);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<u64> {
        let mut blobs = self.blobs.blobs.lock();
        if blobs.contains_key(&self.name) {
            return Err(taken(&self.name));
        }
        let len = self.bytes.len() as u64;
        blobs.insert(self.name.clone(), self.bytes.into());
        Ok(len)
    }
}

impl Blobs for MemBlobs {
    fn create(&self, name: &str) -> Result<Box<dyn NewBlob>> {
        if self.blobs.lock().contains_key(name) {
            return Err(taken(name));
        }
        Ok(Box::new(NewMemBlob { blobs: self.clone(), name: name.to_owned(), bytes: Vec::new() }))
    }

    fn read(&self, name: &str, at: u64, len: u32) -> Result<Bytes> {
        self.open(name)?.read(at, len)
    }

    fn open(&self, name: &str) -> Result<Arc<dyn Blob>> {
        match self.blobs.lock().get(name) {
            Some(bytes) => Ok(Arc::new(MemBlob(bytes.clone(), Hints::default()))),
            None => Err(Error::not_found(format!("blob {name} is not there"))),
        }
    }

    fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>> {
        let blobs = self.blobs.lock();
        let named = blobs.iter().filter(|(name, _)| name.starts_with(prefix));
        Ok(named.map(|(name, bytes)| (name.clone(), bytes.len() as u64)).collect())
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.blobs.lock().remove(name);
        Ok(())
    }
}

/// What readers said they will need next: positions and lengths, in their order.
pub(super) type Hints = Arc<Mutex<Vec<(u64, u32)>>>;

pub(super) struct MemBlob(pub Bytes, pub Hints);

impl Blob for MemBlob {
    fn read(&self, at: u64, len: u32) -> Result<Bytes> {
        let past = || Error::invalid(format!("{len} bytes at {at} are past the end"));
        let from = usize::try_from(at).map_err(|_| past())?;
        let to = from.checked_add(len as usize).filter(|to| *to <= self.0.len()).ok_or_else(past)?;
        Ok(self.0.slice(from..to))
    }

    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn will_need(&self, at: u64, len: u32) {
        self.1.lock().push((at, len));
    }
}
