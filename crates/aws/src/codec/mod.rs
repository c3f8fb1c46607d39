//! Bytes ↔ values, for both protocols: a request becomes a tree ([`Node`]), whichever it came in, and [`decode`] turns the
//! tree into an operation's input; [`encode`] writes an output in either.
//!
//! Pure: no I/O, no clock, no broker. A tree borrows from the request's bytes and is bounded by [`NODES_MAX`] and
//! [`DEPTH_MAX`], whatever the bytes say.

pub(crate) mod decode;
pub(crate) mod encode;
#[cfg(test)]
mod fuzz;
pub(crate) mod json;
pub(crate) mod query;
#[macro_use]
mod shape;

use std::borrow::Cow;

pub(crate) use shape::{input, output};

/// Values in one request: a batch of ten messages with ten attributes each has about five hundred. Keeps a tree below
/// two megabytes.
pub(crate) const NODES_MAX: usize = 16_384;

/// Containers within containers: the deepest operation has seven.
pub(crate) const DEPTH_MAX: usize = 32;

/// The protocol that a request is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// AWS JSON 1.0: a JSON object as body.
    Json,
    /// AWS Query: form parameters in, XML out.
    Query,
}

/// A value as a request has it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node<'a> {
    /// JSON's null: as if it were not there.
    Null,
    /// JSON's true and false.
    Bool(bool),
    /// A JSON number, as written.
    Number(&'a str),
    /// A JSON string, or the value of a form parameter.
    Text(Cow<'a, str>),
    /// A JSON array.
    List(Vec<Node<'a>>),
    /// A JSON object, or form parameters whose names go on with a dot. In the order of the bytes; for a key that is there
    /// twice the last one holds.
    Map(Vec<(Cow<'a, str>, Node<'a>)>),
}
