//! The door of all services: connections, requests within limits, which service and protocol is meant, who asks, and
//! answers in the protocol that was asked in.

mod answer;
mod body;
mod caller;
mod connection;
mod delivery;
mod dispatch;
#[cfg(test)]
pub(crate) mod fixtures;
mod peek;
mod queue_url;
mod request_id;
#[cfg(test)]
mod tests;

pub(crate) use body::BodyRoom;
pub(crate) use connection::serve;
pub(crate) use delivery::Delivery;
pub(crate) use queue_url::QueueUrl;
pub(crate) use request_id::RequestIds;
