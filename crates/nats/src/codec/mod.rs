//! Bytes ↔ operations of the client protocol. Pure: no socket, no clock, no broker.

mod connect;
mod info;
mod parser;
mod write;

pub(crate) use connect::Connect;
pub(crate) use info::Info;
pub(crate) use parser::{Fault, Limits, Op, Parser, Publish, Range};
pub(crate) use write::{digits, error_line, no_responders};
