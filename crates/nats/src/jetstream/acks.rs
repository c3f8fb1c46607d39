//! Acknowledgements of publishes: sent after the sync that covers what they say.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use model::Seq;
use tokio::sync::mpsc;

use super::{
    account::Account,
    error::ApiError,
    intake::{self, Intake, Work},
};
use crate::{
    core::fanout::{Fanout, Message},
    server::Server,
};

/// Groups of one session, each of one read, that wait for their sync; a session with more is read on when one is done.
const WAITING_MAX: usize = 256;

/// What publishers are told once a sequence is durable.
pub(crate) struct Acks {
    pub wait: Seq,
    /// Where each goes, and what it says: nothing to whoever acknowledged a message.
    pub all: Vec<(Box<[u8]>, Vec<u8>)>,
    /// What is published again, for live subscribers.
    pub again: Vec<Again>,
}

/// A message that was stored and is published again: for live subscribers, and for streams that take its subject.
pub(crate) struct Again {
    pub subject: Vec<u8>,
    pub headers: Vec<u8>,
    pub body: Bytes,
}

/// A group on its way to the account that it is for.
pub(crate) type Waiting = (Arc<Account>, Acks);

/// The two ends of one session's queue.
pub(crate) fn queue() -> (mpsc::Sender<Waiting>, mpsc::Receiver<Waiting>) {
    mpsc::channel(WAITING_MAX)
}

/// Sends what is durable, in order, as long as the session lives.
pub(crate) async fn run(server: &Server, mut waiting: mpsc::Receiver<Waiting>) -> Infallible {
    let mut fanout: Option<(Arc<Account>, Fanout)> = None;
    while let Some((account, acks)) = waiting.recv().await {
        let durable = server.broker.durable(acks.wait).await;
        let new = || Fanout::new(account.consumers.hub().clone(), server.seed());
        let (known, out) = fanout.get_or_insert_with(|| (account.clone(), new()));
        if !Arc::ptr_eq(known, &account) {
            (*known, *out) = (account.clone(), new());
        }
        // Before the answers, as the original does: who has one finds there what was published again.
        if durable.is_ok() && !acks.again.is_empty() {
            publish_again(server, &account, out, acks.again).await;
        }
        for (reply, body) in &acks.all {
            // Clients take any answer to an acknowledgement for a yes: only silence is a no.
            if body.is_empty() && durable.is_err() {
                continue;
            }
            let failed = durable.as_ref().err().map(|error| {
                serde_json::json!({ "error": ApiError::store_failed(error.text()), "seq": 0 }).to_string()
            });
            let payload = failed.as_ref().map_or(&body[..], |failed| failed.as_bytes());
            out.publish(&Message { subject: reply, reply: None, headers_len: None, payload }, None);
        }
        out.flush(server.options.pending_len_max);
    }
    std::future::pending().await
}

/// Streams that what was published again may go through, one after the other.
const HOPS_MAX: usize = 16;

/// Publishes again what was stored. Streams may take it, and publish it again in their turn once that is durable.
pub(super) async fn publish_again(
    server: &Server,
    account: &Arc<Account>,
    out: &mut Fanout,
    again: Vec<Again>,
) {
    let mut again = again;
    for _ in 0..HOPS_MAX {
        let mut intake = Intake::new(account.clone());
        for one in &again {
            let payload = [&one.headers[..], &one.body].concat();
            let headers_len = Some(one.headers.len());
            let message = Message { subject: &one.subject, reply: None, headers_len, payload: &payload };
            intake.offer(&message);
            out.publish(&message, None);
        }
        out.flush(server.options.pending_len_max);
        again.clear();
        let mut wait = Seq(0);
        for work in intake.take() {
            let Work::Publish(runs) = work else { continue };
            let stored = intake::publish(&server.broker, runs).await;
            wait = wait.max(stored.wait);
            again.extend(stored.again);
        }
        // Also where nothing goes on from here: a stream shows what is durable.
        if server.broker.durable(wait).await.is_err() {
            return;
        }
        if again.is_empty() {
            return;
        }
    }
    tracing::warn!(subjects = again.len(), "what streams publish again goes round in a circle: it ends here");
}
