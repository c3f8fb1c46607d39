//! Batches from records that come without a client of this dialect: the admin API publishes with it.

use broker::{NewBatch, TimeSource};
use model::{Record, Result};

use crate::format::{FORMAT, format, stamp_append_time, stamp_create_time};

/// One batch of `records`, for a stream whose records have the times of `time`.
pub fn compose(records: &[Record], time: TimeSource) -> Result<NewBatch> {
    let own_time = time == TimeSource::Append;
    let latest_ms = records.iter().filter_map(|record| record.event_time_ms).max();
    Ok(NewBatch {
        count: u32::try_from(records.len()).unwrap_or(u32::MAX),
        format: FORMAT,
        max_event_time_ms: latest_ms.filter(|_| !own_time),
        body: format().write(records)?,
        stamp: Some(if own_time { stamp_append_time } else { stamp_create_time }),
        ..NewBatch::default()
    })
}

/// The partition, of `count`, that the Java client and those that follow it choose for a key.
pub fn partition_of(key: &[u8], count: u32) -> u32 {
    broker::partition_of_key(key, count)
}
