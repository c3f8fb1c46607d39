//! Live subjects: who subscribes, and how a publish reaches them.
//!
//! - [`hub`] is one account's subscriptions, [`member`] how tables tell what they hold apart;
//! - [`client`] is what others need of a connection: its way out;
//! - [`replies`] are the answers that it may give, [`pending`] is what waits for all of them;
//! - [`fanout`] is what a session keeps to publish fast: audiences by subject, and what it gathered per receiver.

pub(crate) mod client;
pub(crate) mod fanout;
pub(crate) mod hub;
pub(crate) mod member;
pub(crate) mod pending;
pub(crate) mod replies;
pub(crate) mod subject;
