//! Delete markers: what is stored in place of the last message of a subject that is too old, so that who watches the
//! subject hears of it.

use std::sync::Weak;

use broker::{Letter, NewBatch, Succeeded, Successors};
use bytes::Bytes;
use model::{Attributes, Batch, Offset, Result, Seq};
use tokio::sync::mpsc;

use super::{
    account::Bound,
    acks::{Again, publish_again},
    config::StreamConfig,
    consumer::duration_text,
    headers,
    intake::again::again,
    stored::{FORMAT, Stored, split},
};
use crate::{core::fanout::Fanout, server::Server};

/// Markers that wait to be published again. Where a stream loses more at once, the rest are told to who reads the stream
/// alone.
const WAITING_MAX: usize = 65_536;

/// The broker asks it.
pub(crate) struct Markers {
    stored: mpsc::Sender<Marker>,
}

/// A marker that was stored in a stream that publishes again.
pub(crate) struct Marker {
    tenant: Box<str>,
    stream: Box<str>,
    subject: Box<[u8]>,
    batch: NewBatch,
    seq: u64,
    last: u64,
    at_ms: i64,
    wait: Seq,
}

impl Markers {
    /// It, and the markers that it was told of, for [`run`].
    pub(crate) fn new() -> (Self, mpsc::Receiver<Marker>) {
        let (stored, waiting) = mpsc::channel(WAITING_MAX);
        (Markers { stored }, waiting)
    }
}

/// Publishes markers again where their streams do so, once they are durable; as long as the server is there.
pub(crate) async fn run(server: Weak<Server>, mut waiting: mpsc::Receiver<Marker>) {
    while let Some(marker) = waiting.recv().await {
        let Some(server) = server.upgrade() else { return };
        if server.broker.durable(marker.wait).await.is_err() {
            continue;
        }
        let account = server.account(&marker.tenant);
        let Some(again) = account.stream(&marker.stream).and_then(|bound| marker.again(&bound)) else {
            continue;
        };
        let mut out = Fanout::new(account.consumers.hub().clone(), server.seed());
        publish_again(&server, &account, &mut out, vec![again]).await;
    }
}

impl Marker {
    fn again(&self, bound: &Bound) -> Option<Again> {
        let batch = Batch::bare(FORMAT, Offset(self.seq - 1), 1, self.at_ms, self.batch.body.clone());
        let mut found = None;
        let read = split(&batch, |_, _, stored| {
            found = again(bound, stored, Bytes::new(), (self.seq, self.last), self.at_ms);
            Ok(())
        });
        if let Err(error) = read {
            tracing::warn!(%error, subject = %String::from_utf8_lossy(&self.subject), "a marker does not read");
        }
        found
    }
}

impl Successors for Markers {
    fn successor(&self, letter: &Letter<'_>, route_key: &[u8], now_ms: i64) -> Result<Option<NewBatch>> {
        let ttl_s = StreamConfig::of(letter.stream.settings()).and_then(|config| config.marker_ttl_s());
        let Some(ttl_s) = ttl_s else { return Ok(None) };
        if is_marker(letter)? {
            return Ok(None);
        }
        Ok(Some(marker(route_key, ttl_s, now_ms)))
    }

    fn stored(&self, successor: &Succeeded<'_>) {
        let key = successor.stream.key();
        let config = StreamConfig::of(successor.stream.settings());
        if config.is_none_or(|config| config.republish.is_none()) {
            return;
        }
        let marker = Marker {
            tenant: key.namespace.tenant.to_string().into(),
            stream: key.name.to_string().into(),
            subject: successor.route_key.into(),
            batch: successor.batch.clone(),
            seq: successor.at.0 + 1,
            last: successor.before.0 + 1,
            at_ms: successor.append_time_ms,
            wait: successor.wait,
        };
        if self.stored.try_send(marker).is_err() {
            tracing::warn!(stream = %key.name, "a delete marker is not published again: too many are on their way");
        }
    }
}

/// Whether the message says itself that its subject is gone: then nothing more has to.
fn is_marker(letter: &Letter<'_>) -> Result<bool> {
    if letter.batch.format != FORMAT {
        return Ok(false);
    }
    let mut is_marker = false;
    split(letter.batch, |index, _, stored| {
        let value = |name: &str| headers::value(stored.headers, name).unwrap_or_default();
        if index == letter.index {
            is_marker = !value("Nats-Marker-Reason").is_empty() || value("KV-Operation") == b"PURGE";
        }
        Ok(())
    })?;
    Ok(is_marker)
}

fn marker(subject: &[u8], ttl_s: u64, now_ms: i64) -> NewBatch {
    let ttl = duration_text(i64::try_from(ttl_s).unwrap_or(i64::MAX).saturating_mul(1_000_000_000));
    let lines: [(&[u8], &[u8]); 3] =
        [(b"Nats-Marker-Reason", b"MaxAge"), (b"Nats-TTL", ttl.as_bytes()), (b"Nats-Rollup", b"sub")];
    let headers = headers::block(lines.into_iter());
    let stored = Stored { subject, headers: &headers, body: b"" };
    let mut body = Vec::new();
    stored.put(0, &mut body);
    let mut row = stored.attributes();
    row.expiry_ms = Some(now_ms.saturating_add_unsigned(ttl_s.saturating_mul(1_000)));
    NewBatch {
        count: 1,
        format: FORMAT,
        attributes: Attributes::Same(Box::new(row)),
        body: Bytes::from(body),
        ..NewBatch::default()
    }
}
