//! The broker: streams, publishing, reading, cursors, retention and users, composed over the engine. It is the only API
//! that protocol slices, the admin server and the binary see.
//!
//! Three types to know: [`Broker`] (everything, cheap to clone), [`Partition`] (one log that is published to and read)
//! and [`PublishUnit`] (what is published together, with its conditions). Queues are worked through [`Work`], and
//! [`routing`] says where else a publish goes. [`crossing`] is how headers cross between dialects.
//!
//! A publish is answered in two steps: [`Broker::publish`] says at once what happened to each append, and
//! [`Broker::durable`] resolves when a sync covers it. Whatever resolves is readable already.
//!
//! *Invariants.* No protocol word, no socket, no async runtime: futures here are thin and run on any executor, and no
//! lock is held while one waits. Conditions are checked against what is staged, not against what is durable. Nothing a
//! peer can grow is without a bound. The broker's own state is never in an offset space that clients see.
//!
//! *Not for:* wire codes, sessions, credentials on the wire, rendering of metrics.

#![forbid(unsafe_code)]

mod broker;
mod catalog;
mod codec;
pub mod crossing;
mod decoded;
mod documents;
mod engine;
pub mod faults;
mod future;
mod lag;
mod log_state;
mod membership;
mod metrics;
mod options;
mod partitioning;
pub mod plain;
mod position;
mod producer;
mod publish;
mod read;
mod redirect;
mod retention;
pub mod routing;
mod settings;
mod stream;
mod tenant;
#[cfg(test)]
mod testing;
mod user;
mod watch;
mod work;

pub use broker::{Broker, RecoveryReport};
pub use decoded::Decoded;
pub use documents::{DOCUMENT_LEN_MAX, DocumentKey};
// A slice's background work has the shape of the engine's, and its time.
pub use env::{Next, Signal, Worker, guarded};
pub use future::{Durable, Room};
pub use lag::{LagStatus, LagView};
pub use membership::{MemberView, Membership, RebalanceCause, RebalanceView, mark_differences};
pub use metrics::CounterView;
pub use options::BrokerOptions;
pub use partitioning::partition_of_key;
pub use position::{CursorKey, Position, PositionView};
pub use producer::ProducerView;
pub use publish::{
    Append, Conditions, Extent, Follower, NewBatch, Outcome, PublishUnit, Published, Refusal, RefusalReason,
    Replaces,
};
pub use read::{Ahead, Chunk, ChunkBatch, Mask, Oversize, ReadLimits, Upto};
pub use redirect::{DEAD_LETTERS, DeadLetters, Letter, LetterReason, SUCCESSORS, Succeeded, Successors};
pub use settings::{DeadLetter, Facets, Mode, Overflow, Retention, StreamSettings, StreamSpec, TimeSource};
pub use store::{Durability, Stamp, StampFacts};
pub use stream::{Bounds, EpochStart, Partition, PartitionStats, RouteKeyView, Stream};
pub use tenant::TenantView;
pub use user::{
    AccessKey, Action, Credentials, Effect, Identity, LastUser, Permission, Principal, ScramHash,
    ScramVerifier, UserChange, UserSpec, UserView, Users,
};
pub use watch::Watch;
pub use work::{
    Allowance, Claim, Count, Counts, Credit, Delivery, Exhaust, GrantRun, GroupId, HolderId, KeySharing,
    LeaseAsk, LeaseKind, LeaseMask, LeaseTime, LeaseView, Leased, MOVE_RATE_MAX, MOVES_PER_SOURCE,
    MoveFilter, MoveId, MoveSpec, MoveState, MoveView, Order, QUEUE_WORK, RecordState, Settled, Settlement,
    Sharing, Span, Spans, Stop, Subscription, Verdict, Work, WorkProgress, WorkSpec, WorkView,
};
