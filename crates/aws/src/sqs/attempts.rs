//! Receives that are asked for again under one id within five minutes. Kept in memory: after a restart the visibility
//! timeout alone decides.

use std::collections::HashMap;

use broker::{GrantRun, HolderId, LeaseView, ReadLimits, Span, Work};
use model::{LogId, Offset, StreamId};

use super::received::Taken;
use crate::{AwsError, Context};

/// How long an id is remembered, milliseconds.
const WINDOW_MS: i64 = 300_000;

/// Ids remembered over all queues, about 400 bytes each; the oldest go first.
const ATTEMPTS_MAX: usize = 20_000;

/// What a receive gave.
#[derive(Clone, Debug)]
pub(super) struct Remembered {
    pub log: LogId,
    pub holder: HolderId,
    /// Offsets with their attempts.
    records: Vec<(Offset, u32)>,
    deadline_ms: Option<i64>,
    at_ms: i64,
}

impl Remembered {
    pub(super) fn new(
        log: LogId,
        holder: HolderId,
        taken: &[Taken],
        deadline_ms: Option<i64>,
        at_ms: i64,
    ) -> Self {
        let records = taken.iter().map(|one| (one.offset, one.run.attempt)).collect();
        Remembered { log, holder, records, deadline_ms, at_ms }
    }

    /// The same, hidden until another time.
    pub(super) fn until(self, deadline_ms: Option<i64>) -> Self {
        Remembered { deadline_ms, ..self }
    }

    /// The records, if each still has the lease that the receive gave it.
    pub(super) async fn unchanged(&self, ctx: &Context, work: &Work) -> Result<Option<Vec<Taken>>, AwsError> {
        let mut taken = Vec::with_capacity(self.records.len());
        for (offset, attempt) in &self.records {
            let lease = work.leases(*offset, 1)?.into_iter().next();
            let Some(lease) = lease.filter(|lease| self.is_of(lease, *offset, *attempt)) else {
                return Ok(None);
            };
            let chunk = ctx.broker().read(work.partition(), *offset, ReadLimits::bytes(1)).await?;
            let Some(part) = chunk.batches.into_iter().find(|part| part.batch.end() > *offset) else {
                return Ok(None);
            };
            let run = GrantRun {
                span: Span::one(*offset),
                attempt: *attempt,
                is_redelivered: *attempt > 1,
                is_first: *attempt <= 1,
                first_delivery_ms: lease.first_delivery_ms,
            };
            taken.push(Taken { batch: part.batch, offset: *offset, run });
        }
        Ok(Some(taken))
    }

    fn is_of(&self, lease: &LeaseView, offset: Offset, attempt: u32) -> bool {
        let is_here = lease.span.start <= offset && offset < lease.span.end;
        is_here
            && lease.holder == self.holder
            && lease.attempt == attempt
            && lease.deadline_ms == self.deadline_ms
    }
}

/// The ids of all queues.
#[derive(Default)]
pub(super) struct Attempts {
    by_id: HashMap<(StreamId, String), Remembered>,
}

impl Attempts {
    pub(super) fn remember(&mut self, key: (StreamId, String), one: Remembered) {
        if self.by_id.len() >= ATTEMPTS_MAX {
            let since_ms = one.at_ms.saturating_sub(WINDOW_MS);
            self.by_id.retain(|_, known| known.at_ms > since_ms);
            while self.by_id.len() >= ATTEMPTS_MAX
                && let Some(oldest) = self.by_id.iter().min_by_key(|(_, known)| known.at_ms)
            {
                let oldest = oldest.0.clone();
                self.by_id.remove(&oldest);
            }
        }
        self.by_id.insert(key, one);
    }

    pub(super) fn find(&self, key: &(StreamId, String), now_ms: i64) -> Option<Remembered> {
        let known = self.by_id.get(key)?;
        (known.at_ms.saturating_add(WINDOW_MS) > now_ms).then(|| known.clone())
    }
}
