//! The AWS dialect: the SDKs of Amazon's queues and topics on the broker's streams, through one door for all services.
//!
//! | their word | our word |
//! |---|---|
//! | account | tenant; 000000000000 is `public` |
//! | region | space; the region of `aws_region` is `default` |
//! | access key | credential of a user |
//! | queue | stream of kind queue |
//! | message | record |
//! | receive, receipt handle | lease |
//! | visibility timeout | lease time |
//! | delete | accept |
//! | change visibility to 0 | release |
//! | redrive policy | dead letter |
//! | message group | ordering key, or a group to be fair to |
//! | deduplication id | dedup key |
//!
//! Three types to know: [`Server`] (one for the process), [`Context`] (who asks, and where) and
//! [`shapes::Input`] (every operation with what it is given).
//!
//! How a request goes: `door` reads it within limits, finds out which service and operation is meant and in which of the
//! protocols it is written; `codec` turns its bytes into a tree and `shapes` the tree into the operation's input, the
//! same for every protocol; the service (`sqs`) answers; `door` writes the answer in the protocol that was asked in.
//!
//! *Invariants.* Only [`broker`] and [`model`] are used, never the engine. No operation knows which protocol it
//! was asked in, and no protocol knows an operation. Codes are chosen in one place, `error`. Bad input costs what its
//! bytes cost, and at most its own connection.
//!
//! Not for: SNS, EventBridge and the other services, which are refused as AWS refuses what it does not know.

#![forbid(unsafe_code)]

mod codec;
mod context;
mod door;
mod error;
mod server;
pub mod shapes;
mod sigv4;
mod sqs;
mod sts;
#[cfg(test)]
mod testing;

pub use context::{AccountId, Caller, Context};
pub use error::{AwsError, Fault};
pub use server::{Auth, ConnectionInfo, Options, Server};
pub use sqs::{DIALECT, DeclaredQueue, InertSetting, compose, format, inert_settings};
