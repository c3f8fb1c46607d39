//! Who gets what is published: matchers over addresses, tables of them, and the hops between tables.
//!
//! Three types to know. [`Pattern`] is dot-separated tokens with three operators (one token, zero or more anywhere,
//! one or more at the end); each dialect's [`Syntax`] says which of them it has. [`Routes`] is a table of [`Rule`]s
//! (exact, tokens, headers, always) with targets of any type. [`Cache`] keeps one session's answers by address;
//! [`Generations`], which a table owns and sessions read without a lock, say whether they are current.
//!
//! [`expand`] follows routes from table to table; [`Routes::explain`] and [`explain`] say who gets a publish and why;
//! [`Route`] is the line that people add to connect dialects.
//!
//! # Invariants
//!
//! - No I/O, no clock, no locks, no async, no dialect's word. Targets are opaque.
//! - Matching costs tokens × matching prefixes, whatever the patterns; no pattern makes it exponential.
//! - A kept answer is never stale: a table changes before its generation does, and a session reads the generation
//!   before it asks the table.
//! - An expansion ends: each node once, at most [`HOPS_MAX`] hops.
//!
//! Not for: storing routes, permissions, delivering. Filters over the body are not here.

#![forbid(unsafe_code)]

mod bridge;
mod expand;
mod generation;
mod headers;
mod pattern;
mod table;
mod trie;

pub use bridge::{Place, Route, TEMPLATE_LEN_MAX, Template};
pub use expand::{Expansion, HOPS_MAX, Hop, Way, expand, explain};
pub use generation::{Cache, Generations, Stamp};
pub use headers::{HeaderMatch, HeaderRule};
pub use pattern::{PATTERN_LEN_MAX, PATTERN_TOKENS_MAX, Pattern, Syntax, Token, tokens};
pub use table::{Routes, Rule};
