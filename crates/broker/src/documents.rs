//! Small durable documents that a dialect keeps and the broker does not read.

use model::Namespace;

/// Bytes of one document.
pub const DOCUMENT_LEN_MAX: usize = 8 << 20;

/// Names a document.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocumentKey {
    /// Whose it is, and of which sort: chosen by the dialect.
    pub dialect: String,
    /// Where it lives.
    pub namespace: Namespace,
    /// Its name.
    pub name: String,
}
