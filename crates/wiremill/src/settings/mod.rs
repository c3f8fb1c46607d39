//! Settings, in two steps: what was typed ([`raw`]) becomes usable objects ([`Settings`]).
//!
//! [`ENTRIES`] is the one list: file keys, flags, variables and `docs/settings.md` are all made from it.

mod entries;
mod page;
mod parse;
mod queues;
mod raw;
mod suggest;
mod validated;

pub use entries::{ENTRIES, Entry};
pub use page::render as reference_page;
pub use queues::Queue;
pub use raw::{Raw, flags};
pub use suggest::nearest;
pub use validated::{Advertised, AwsAuth, Listen, LogFormat, Replicas, Settings, TlsFiles, TlsFirst};

/// Why the settings cannot be used: one sentence for whoever typed them.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused(pub String);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

#[cfg(test)]
mod tests;
