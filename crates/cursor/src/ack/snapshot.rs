//! The state as bytes, for a checkpoint.
//!
//! Index and end are left out: the log tells them again. Leases that are not recorded are written as what a restart
//! makes of them: records to be delivered again.

use std::ops::Range;

use bytes::Bytes;
use model::{Error, Offset, Result};
use roaring::RoaringTreemap;

use super::{AckConfig, AckCursor, Delay, History, Lease};
use crate::{
    codec::{Reader, put_bitmap, put_i64, put_optional, put_u64},
    entry::HolderId,
    range_map::{RangeMap, Timed},
};

const VERSION: u8 = 2;

/// The version before: it does not say what is in doubt, which is nothing.
const WITHOUT_DOUBT: u8 = 1;

impl AckCursor {
    /// The state as bytes. Fails only if the process is out of order: [`model::ErrorKind::Internal`].
    pub fn snapshot(&self) -> Result<Bytes> {
        let volatile: Vec<(Range<u64>, Lease)> = self
            .leases
            .iter()
            .filter(|(_, lease)| !lease.is_recorded)
            .map(|(range, lease)| (range, *lease))
            .collect();
        if volatile.is_empty() {
            return self.encode();
        }
        let mut restarted = self.clone();
        for (range, lease) in volatile {
            restarted.give_back(range, lease, None, lease.attempt);
        }
        restarted.encode()
    }

    fn encode(&self) -> Result<Bytes> {
        let mut out = vec![VERSION];
        for offset in [self.floor, self.fresh, self.volatile_end, self.volatile_logged, self.doubt_end] {
            put_u64(&mut out, offset);
        }
        for set in [&self.settled, &self.seen] {
            put_bitmap(&mut out, set)?;
        }
        // What ran out of attempts is told again by the configuration.
        put_bitmap(&mut out, &(&self.returned | &self.exhausted))?;
        put_runs(&mut out, &self.leases, put_lease);
        put_runs(&mut out, &self.delayed, |out, delay| put_i64(out, delay.0));
        put_runs(&mut out, &self.history, |out, history| {
            put_u64(out, u64::from(history.attempts));
            put_optional(out, history.first_delivery_ms);
        });
        Ok(out.into())
    }

    /// The state of a snapshot; [`model::ErrorKind::Corrupt`] when the bytes are not one. The caller then replays
    /// entries, tells the end of the log and its gaps, and what the order needs to know ([`AckCursor::wants`]).
    pub fn restore(config: AckConfig, bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let version = reader.u8()?;
        if ![VERSION, WITHOUT_DOUBT].contains(&version) {
            return Err(Error::corrupt("a cursor snapshot of an unknown version"));
        }
        let floor = reader.offset()?;
        let mut cursor = AckCursor::new(config, floor);
        cursor.fresh = reader.offset()?.0;
        cursor.volatile_end = reader.offset()?.0;
        cursor.volatile_logged = reader.offset()?.0;
        if version != WITHOUT_DOUBT {
            cursor.doubt_end = reader.offset()?.0;
        }
        cursor.settled = bitmap_above(floor, &mut reader)?;
        cursor.seen = bitmap_above(floor, &mut reader)?;
        let returned = bitmap_above(floor, &mut reader)?;
        cursor.leases = runs(floor, &mut reader, read_lease)?;
        let delayed = runs(floor, &mut reader, |reader| reader.i64().map(Delay))?;
        cursor.history = runs(floor, &mut reader, |reader| {
            Ok(History { attempts: reader.u32()?, first_delivery_ms: reader.optional()? })
        })?;
        reader.finish()?;
        if cursor.fresh < cursor.floor {
            return Err(Error::corrupt("a cursor snapshot contradicts itself"));
        }
        let highest = [cursor.settled.max(), cursor.seen.max()].into_iter().flatten().max();
        cursor.end = cursor.fresh.max(highest.map_or(0, |last| last + 1));
        cursor.place(&returned, &delayed);
        Ok(cursor)
    }
}

fn put_lease(out: &mut Vec<u8>, lease: &Lease) {
    put_u64(out, lease.holder.0);
    put_optional(out, lease.deadline_ms);
    put_u64(out, u64::from(lease.attempt));
    put_optional(out, lease.first_delivery_ms);
    put_i64(out, lease.delivered_at_ms);
}

fn read_lease(reader: &mut Reader<'_>) -> Result<Lease> {
    Ok(Lease {
        holder: HolderId(reader.u64()?),
        deadline_ms: reader.optional()?,
        attempt: reader.u32()?,
        first_delivery_ms: reader.optional()?,
        delivered_at_ms: reader.i64()?,
        is_recorded: true,
    })
}

fn put_runs<V: Clone + PartialEq + Timed>(
    out: &mut Vec<u8>,
    map: &RangeMap<V>,
    put: impl Fn(&mut Vec<u8>, &V),
) {
    put_u64(out, map.run_count() as u64);
    let mut previous = 0;
    for (range, value) in map.iter() {
        put_u64(out, range.start - previous);
        put_u64(out, range.end - range.start);
        put(out, value);
        previous = range.end;
    }
}

fn runs<V: Clone + PartialEq + Timed>(
    floor: Offset,
    reader: &mut Reader<'_>,
    read: impl Fn(&mut Reader<'_>) -> Result<V>,
) -> Result<RangeMap<V>> {
    let mut map = RangeMap::default();
    let mut previous = 0u64;
    for _ in 0..reader.count(3)? {
        let start = previous.checked_add(reader.u64()?).ok_or_else(beyond)?;
        let end = start.checked_add(reader.u64()?).ok_or_else(beyond)?;
        if start < floor.0 || end > model::limits::OFFSET_MAX {
            return Err(beyond());
        }
        map.insert(start..end, read(reader)?);
        previous = end;
    }
    Ok(map)
}

fn bitmap_above(floor: Offset, reader: &mut Reader<'_>) -> Result<RoaringTreemap> {
    let set = reader.bitmap()?;
    let is_in_range = set.min().is_none_or(|first| first >= floor.0)
        && set.max().is_none_or(|last| last < model::limits::OFFSET_MAX);
    if is_in_range { Ok(set) } else { Err(beyond()) }
}

fn beyond() -> Error {
    Error::corrupt("a cursor snapshot holds an offset out of range")
}
