//! Bytes and what they mean: frames, methods, content headers, field tables. Pure: no socket, no clock, no broker.

mod content;
mod frame;
#[cfg(test)]
mod fuzz;
mod method;
mod table;
#[cfg(test)]
mod vectors;
mod write;

pub(crate) use content::{ContentHeader, Properties};
pub(crate) use frame::{
    Frame, FrameKind, HEARTBEAT, ProtocolHeader, next_frame, protocol_header, snippet, wanted,
};
pub(crate) use method::{Key, Method};
pub(crate) use table::{Table, TableWriter, Value, table_of};
pub(crate) use write::{put_body, put_body_of, put_content, put_method};

/// Why bytes are no method, header or table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// They do not read.
    #[error(transparent)]
    Malformed(#[from] wire::Error),
    /// There is no such method.
    #[error("no method {0}.{1}")]
    Unknown(u16, u16),
}
