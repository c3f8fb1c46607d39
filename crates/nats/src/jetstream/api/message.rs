//! One stored message, read by its place.

use broker::{ChunkBatch, ReadLimits};
use model::{Batch, ErrorKind, Offset};

use crate::{
    jetstream::{
        account::Bound,
        error::ApiError,
        foreign,
        stored::{FORMAT, split},
    },
    server::Server,
};

/// Bytes that a read for one message asks for: one batch comes in any case.
const READ_LEN: usize = 1;

/// A message with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub seq: u64,
    /// Milliseconds since the Unix epoch.
    pub at_ms: i64,
    pub subject: Vec<u8>,
    pub headers: Vec<u8>,
    pub body: Vec<u8>,
}

/// The message at `offset`, if it is there.
pub(crate) async fn at(
    server: &Server,
    bound: &Bound,
    offset: Offset,
) -> std::result::Result<Option<Found>, ApiError> {
    let found = at_or_after(server, bound, offset).await?;
    Ok(found.filter(|found| found.seq == offset.0 + 1))
}

/// The first message at or after `offset`.
pub(crate) async fn at_or_after(
    server: &Server,
    bound: &Bound,
    offset: Offset,
) -> std::result::Result<Option<Found>, ApiError> {
    let mut from = offset;
    loop {
        let chunk = match server.broker.read(&bound.partition, from, ReadLimits::bytes(READ_LEN)).await {
            Ok(chunk) => chunk,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // Below the start, or beyond the end.
                let start = bound.partition.bounds().start;
                if from >= start {
                    return Ok(None);
                }
                from = start;
                continue;
            }
            Err(error) => return Err(ApiError::of(&error)),
        };
        for part in &chunk.batches {
            if let Some(found) = first_of(server, bound, part, from)? {
                return Ok(Some(found));
            }
        }
        if chunk.next <= from {
            return Ok(None);
        }
        from = chunk.next;
    }
}

/// The first live message of a batch at or after `from`.
fn first_of(
    server: &Server,
    bound: &Bound,
    part: &ChunkBatch,
    from: Offset,
) -> std::result::Result<Option<Found>, ApiError> {
    let batch = &part.batch;
    let is_live = |index: u32| !part.dropped.as_ref().is_some_and(|gone| gone.contains(index));
    let mut found = None;
    let mut look = |batch: &Batch, offsets: &dyn Fn(u32) -> Option<Offset>| {
        split(batch, |index, _, stored| {
            let offset = offsets(index).filter(|offset| *offset >= from);
            if let Some(offset) = offset.filter(|_| found.is_none()) {
                found = Some(Found {
                    seq: offset.0 + 1,
                    at_ms: batch.append_time_ms,
                    subject: stored.subject.to_vec(),
                    headers: stored.headers.to_vec(),
                    body: stored.body.to_vec(),
                });
            }
            Ok(())
        })
    };
    let looked = if batch.format == FORMAT {
        look(batch, &|index| is_live(index).then(|| batch.base.plus(u64::from(index))))
    } else {
        match foreign::converted(&server.broker, &bound.partition, part) {
            Ok(Some((offsets, body))) => {
                let count = u32::try_from(offsets.len()).unwrap_or(u32::MAX);
                let converted = Batch { format: FORMAT, body, count, ..batch.clone() };
                look(&converted, &|index| offsets.get(index as usize).copied())
            }
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        }
    };
    looked.map_err(|error| ApiError::of(&error))?;
    Ok(found)
}
