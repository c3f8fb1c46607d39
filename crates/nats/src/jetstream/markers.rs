//! Delete markers: what is stored in place of the last message of a subject that is too old, so that who watches the
//! subject hears of it.

use broker::{Letter, NewBatch, Successors};
use bytes::Bytes;
use model::{Attributes, Result};

use super::{
    config::StreamConfig,
    consumer::duration_text,
    headers,
    stored::{FORMAT, Stored, split},
};

/// The broker asks it.
pub(crate) struct Markers;

impl Successors for Markers {
    fn successor(&self, letter: &Letter<'_>, route_key: &[u8], now_ms: i64) -> Result<Option<NewBatch>> {
        let ttl_s = StreamConfig::of(letter.stream.settings()).and_then(|config| config.marker_ttl_s());
        let Some(ttl_s) = ttl_s else { return Ok(None) };
        if is_marker(letter)? {
            return Ok(None);
        }
        Ok(Some(marker(route_key, ttl_s, now_ms)))
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
