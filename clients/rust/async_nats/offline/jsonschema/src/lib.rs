//! A checker of schemas for tests that never have one.

#![forbid(unsafe_code)]

use serde_json::Value;

/// A schema, of which there is none.
#[derive(Debug)]
pub enum JSONSchema {}

impl JSONSchema {
    /// Reads a schema.
    pub fn compile(_schema: &Value) -> Result<Self, &'static str> {
        Err("no schema is fetched")
    }

    /// What of `_document` contradicts the schema.
    pub fn validate(&self, _document: &Value) -> Result<(), std::vec::IntoIter<String>> {
        match *self {}
    }
}
