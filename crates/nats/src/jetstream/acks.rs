//! Acknowledgements of publishes: sent after the sync that covers what they say.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use model::Seq;
use tokio::sync::mpsc;

use super::error::ApiError;
use crate::{
    core::{
        fanout::{Fanout, Message},
        hub::Hub,
    },
    server::Server,
};

/// Groups of one session, each of one read, that wait for their sync; a session with more is read on when one is done.
const WAITING_MAX: usize = 256;

/// What publishers are told once a sequence is durable.
pub(crate) struct Acks {
    pub wait: Seq,
    /// Where each goes, and what it says.
    pub all: Vec<(Box<[u8]>, Vec<u8>)>,
    /// What is published again, for live subscribers.
    pub again: Vec<Again>,
}

/// A message that was stored and is published again.
pub(crate) struct Again {
    pub subject: Vec<u8>,
    pub headers: Vec<u8>,
    pub body: Bytes,
}

/// A group on its way to the account that it is for.
pub(crate) type Waiting = (Arc<Hub>, Acks);

/// The two ends of one session's queue.
pub(crate) fn queue() -> (mpsc::Sender<Waiting>, mpsc::Receiver<Waiting>) {
    mpsc::channel(WAITING_MAX)
}

/// Sends what is durable, in order, as long as the session lives.
pub(crate) async fn run(server: &Server, mut waiting: mpsc::Receiver<Waiting>) -> Infallible {
    let mut fanout: Option<(Arc<Hub>, Fanout)> = None;
    while let Some((hub, acks)) = waiting.recv().await {
        let durable = server.broker.durable(acks.wait).await;
        let (known, out) =
            fanout.get_or_insert_with(|| (hub.clone(), Fanout::new(hub.clone(), server.seed())));
        if !Arc::ptr_eq(known, &hub) {
            (*known, *out) = (hub.clone(), Fanout::new(hub.clone(), server.seed()));
        }
        for (reply, body) in &acks.all {
            let failed = durable.as_ref().err().map(|error| {
                serde_json::json!({ "error": ApiError::store_failed(error.text()), "seq": 0 }).to_string()
            });
            let payload = failed.as_ref().map_or(&body[..], |failed| failed.as_bytes());
            out.publish(&Message { subject: reply, reply: None, headers_len: None, payload }, None);
        }
        for again in acks.again.iter().filter(|_| durable.is_ok()) {
            let payload = [&again.headers[..], &again.body].concat();
            let headers_len = Some(again.headers.len());
            let message = Message { subject: &again.subject, reply: None, headers_len, payload: &payload };
            out.publish(&message, None);
        }
        out.flush(server.options.pending_len_max);
    }
    std::future::pending().await
}
