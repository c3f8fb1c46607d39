//! Documents: small, durable, opaque.

use bytes::Bytes;
use model::{Error, Result, Seq};

use super::Broker;
use crate::{
    catalog::Command,
    documents::{DOCUMENT_LEN_MAX, DocumentKey},
};

impl Broker {
    /// Puts a document, or removes it (`None`); it is there at once, and durable once [`Broker::durable`] of the sequence
    /// resolves. [`model::ErrorKind::Limit`] above [`crate::DOCUMENT_LEN_MAX`].
    pub fn put_document(&self, key: DocumentKey, body: Option<Bytes>) -> Result<Seq> {
        if body.as_ref().is_some_and(|body| body.len() > DOCUMENT_LEN_MAX) {
            return Err(Error::limit(format!("a document is longer than {DOCUMENT_LEN_MAX} bytes")));
        }
        let mut state = self.catalog().lock();
        if body.is_none() && !state.documents.contains_key(&key) {
            return Ok(state.applied);
        }
        self.command(&mut state, Command::PutDocument { key, body })
    }

    /// One document.
    pub fn document(&self, key: &DocumentKey) -> Option<Bytes> {
        self.catalog().read().documents.get(key).cloned()
    }

    /// Every document of a dialect, by key.
    pub fn documents(&self, dialect: &str) -> Vec<(DocumentKey, Bytes)> {
        let state = self.catalog().read();
        let all = state.documents.iter().filter(|(key, _)| key.dialect == dialect);
        all.map(|(key, body)| (key.clone(), body.clone())).collect()
    }
}
