//! Publishing again what was stored, with its place in the stream.

use std::collections::HashMap;

use bytes::Bytes;
use model::{Batch, Offset};

use super::Run;
use crate::{
    core::subject,
    jetstream::{
        account::Bound,
        acks::Again,
        headers::{self, VERSION_LINE},
        stored::{FORMAT, Stored, split},
        time,
    },
};

/// The sequence of the last message of each subject, by stream, as far as somebody is to be told.
pub(super) struct Lasts(pub HashMap<(u64, Bytes), u64>);

/// What the subjects of these runs had last before them.
pub(super) fn lasts_before(runs: &[(Run, Bytes)]) -> HashMap<(u64, Bytes), u64> {
    let mut lasts = HashMap::new();
    for (run, _) in runs.iter().filter(|(run, _)| run.bound.republish.is_some()) {
        let (partition, log) = (&run.bound.partition, run.bound.partition.log_id().0);
        for key in run.rows.iter().filter_map(|row| row.route_key.clone()) {
            lasts.entry((log, key.clone())).or_insert_with(|| {
                let exact = subject::pattern(&key);
                let last = exact.and_then(|exact| partition.last_under(&exact, partition.staged_end()));
                last.map_or(0, |last| last.0 + 1)
            });
        }
    }
    lasts
}

impl Lasts {
    /// What is to be published again of a run that was stored at `base`.
    pub(super) fn publish_again(
        &mut self,
        run: &Run,
        body: &Bytes,
        base: Offset,
        now_ms: i64,
        out: &mut Vec<Again>,
    ) {
        if run.bound.republish.is_none() {
            return;
        }
        let batch = Batch::bare(
            FORMAT,
            base,
            u32::try_from(run.rows.len()).unwrap_or(u32::MAX),
            now_ms,
            body.clone(),
        );
        let log = run.bound.partition.log_id().0;
        let read = split(&batch, |index, _, stored| {
            let seq = base.0 + u64::from(index) + 1;
            let key = (log, body.slice_ref(stored.subject));
            let last = self.0.insert(key, seq).unwrap_or(0);
            out.extend(again(&run.bound, stored, body.slice_ref(stored.body), (seq, last), now_ms));
            Ok(())
        });
        if let Err(error) = read {
            tracing::warn!(%error, "what was just stored does not read");
        }
    }
}

/// A message of a stream as it is published again; `last` is the sequence before its own of its subject, 0 = none.
pub(in crate::jetstream) fn again(
    bound: &Bound,
    stored: Stored<'_>,
    body: Bytes,
    (seq, last): (u64, u64),
    at_ms: i64,
) -> Option<Again> {
    let subject = bound.republish.as_ref()?.apply(stored.subject)?;
    let headers_only = bound.config.republish.as_ref().is_some_and(|of| of.headers_only);
    let (seq, last) = (seq.to_string(), last.to_string());
    let (at, len) = (time::text(at_ms), stored.body.len().to_string());
    let mut lines: Vec<(&[u8], &[u8])> = vec![
        (b"Nats-Stream", bound.name().as_bytes()),
        (b"Nats-Subject", stored.subject),
        (b"Nats-Sequence", seq.as_bytes()),
        (b"Nats-Time-Stamp", at.as_bytes()),
        (b"Nats-Last-Sequence", last.as_bytes()),
    ];
    if headers_only {
        lines.push((b"Nats-Msg-Size", len.as_bytes()));
    }
    let place = headers::block(lines.into_iter());
    let headers = match stored.headers.strip_suffix(b"\r\n") {
        Some(own) => [own, place.strip_prefix(VERSION_LINE).unwrap_or_default()].concat(),
        None => place,
    };
    Some(Again { subject, headers, body: if headers_only { Bytes::new() } else { body } })
}
