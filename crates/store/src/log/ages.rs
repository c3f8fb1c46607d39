//! What the stored stretches of a log say about its age and size, for retention, lag and searches by time. Exact to a
//! stretch: about 16 KiB where the sparse index is in memory and nothing was dropped, else a whole extent (one commit's
//! run, or one of a segment). Whoever needs more reads it.

use std::ops::Range;

use model::Offset;

use super::{
    core::LogCore,
    live::{Extent, Index, Volatile},
};

/// Which time of a record is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeOf {
    /// When it was appended.
    Append,
    /// What its producer said, or else when it was appended.
    Event,
}

/// What may stay of a log. `None` does not bound it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Records older than this may go, milliseconds since the Unix epoch.
    pub since_ms: Option<i64>,
    /// Which time counts.
    pub time: TimeOf,
    /// Bytes that stay at least, as far as they are there.
    pub bytes: Option<u64>,
    /// Records that stay.
    pub records: Option<u64>,
}

/// One stretch of a log.
#[derive(Clone, Debug)]
struct Stretch {
    offsets: Range<Offset>,
    live: u64,
    live_len: u64,
    append_time_ms: i64,
    event_time_ms: i64,
}

impl Stretch {
    fn time_ms(&self, of: TimeOf) -> i64 {
        match of {
            TimeOf::Append => self.append_time_ms,
            TimeOf::Event => self.event_time_ms,
        }
    }
}

/// Where a search by time goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TimePoint {
    /// No durable record from where the search began up to here is late enough.
    At(Offset),
    /// Its file's index knows more.
    In(Extent),
}

impl LogCore {
    /// The first place at or after `from` where a record of `at_ms` or later may be.
    pub(crate) fn time_point_from(&self, from: Offset, at_ms: i64, of: TimeOf) -> TimePoint {
        let from = from.max(self.start());
        let readable = |held: &&Volatile| held.end() <= self.durable_end();
        let mut held = self.live.volatile_from(from).take_while(readable).map(stretch_of_volatile);
        let held = held.find(|held| held.time_ms(of) >= at_ms).map(|held| held.offsets.start.max(from));
        let sooner = |base: Offset| held.is_none_or(|held| base < held);
        let late = self.late_extents(from, at_ms, of).find_map(|extent| match &extent.index {
            Index::None => Some(TimePoint::At(extent.base.max(from))),
            Index::Footer => Some(TimePoint::In(extent.clone())),
            Index::Points(points) => {
                let begins = |base: u32| extent.base.plus(u64::from(base));
                let ends = points.iter().skip(1).map(|point| point.base).chain([extent.count]);
                let mut steps = points.iter().zip(ends).filter(|(_, end)| begins(*end) > from);
                let late = steps.find(|(point, _)| match of {
                    TimeOf::Append => point.append_time_ms >= at_ms,
                    TimeOf::Event => point.event_time_ms >= at_ms,
                });
                late.map(|(point, _)| TimePoint::At(begins(point.base).max(from)))
            }
        });
        match late {
            Some(TimePoint::In(extent)) if sooner(extent.base) => TimePoint::In(extent),
            Some(TimePoint::At(base)) if sooner(base) => TimePoint::At(base),
            _ => TimePoint::At(held.unwrap_or(self.durable_end()).max(self.start())),
        }
    }

    /// Extents that end after `from` and hold a time of `at_ms` or later.
    fn late_extents(&self, from: Offset, at_ms: i64, of: TimeOf) -> impl Iterator<Item = &Extent> + '_ {
        let extents = self.live.extents();
        let after = self.live.extent_from(from);
        let first = match of {
            // Append times rise: no need to look at each.
            TimeOf::Append => after.max(extents.partition_point(|extent| extent.append_time_ms < at_ms)),
            TimeOf::Event => after,
        };
        extents.range(first..).filter(move |extent| match of {
            TimeOf::Append => extent.append_time_ms >= at_ms,
            TimeOf::Event => extent.event_time_ms >= at_ms,
        })
    }

    /// The latest time of a readable record.
    pub fn latest_time_ms(&self, of: TimeOf) -> Option<i64> {
        match of {
            // Append times rise.
            TimeOf::Append => self.latest_append_time_ms(),
            TimeOf::Event => self.stretches().map(|stretch| stretch.event_time_ms).max(),
        }
    }

    fn latest_append_time_ms(&self) -> Option<i64> {
        let stored = self.live.extents().back().map(|extent| extent.append_time_ms);
        let readable = |held: &&Volatile| held.end() <= self.durable_end();
        let held = self.live.volatile().rev().find(readable).map(|held| held.append_time_ms);
        stored.max(held)
    }

    /// Bytes of live readable records from `from` on; of a stretch that begins before it, in proportion to its live records.
    pub fn bytes_from(&self, from: Offset) -> u64 {
        let from = from.max(self.start());
        let part = |stretch: Stretch| {
            let Range { start, end } = stretch.offsets;
            if start >= from {
                return stretch.live_len;
            }
            let gone = self.live.dropped().range_cardinality(from.0..end.0.max(from.0));
            let live = end.since(from).saturating_sub(gone).min(stretch.live);
            let share = u128::from(stretch.live_len) * u128::from(live) / u128::from(stretch.live.max(1));
            u64::try_from(share).unwrap_or(u64::MAX)
        };
        self.stretches_from(from).map(part).sum()
    }

    /// Live records in `range`, as far as they are readable. Exact: what was dropped and what was never stored does not
    /// count.
    pub fn records_in(&self, range: Range<Offset>) -> u64 {
        let from = range.start.max(self.start());
        let until = range.end.min(self.durable_end());
        let extents = self.live.extents().range(self.live.extent_from(from)..);
        let stored = extents.map(|extent| (extent.base..extent.end(), u64::from(extent.live)));
        let held = self.live.volatile_from(from).map(|held| (held.base..held.end(), u64::from(held.live)));
        let part = |(offsets, live): (Range<Offset>, u64)| {
            if offsets.start >= from && offsets.end <= until {
                return live;
            }
            let (start, end) = (offsets.start.max(from).0, offsets.end.min(until).0);
            let dropped = self.live.dropped();
            end.saturating_sub(start).saturating_sub(dropped.range_cardinality(start..end.max(start)))
        };
        let within = |(offsets, _): &(Range<Offset>, u64)| offsets.start < until;
        stored.take_while(within).map(part).sum::<u64>() + held.take_while(within).map(part).sum::<u64>()
    }

    /// The first readable record at or after `from`.
    pub fn first_from(&self, from: Offset) -> Option<Offset> {
        let from = from.max(self.start());
        let first_live = |range: Range<Offset>| {
            let range = range.start.max(from)..range.end;
            let gone = self.live.dropped().range_cardinality(range.start.0..range.end.0);
            let any = range.end.since(range.start) > gone;
            any.then(|| Offset(self.after_live(&range, 1).0.saturating_sub(1)))
        };
        // Each has a live record, but the first of them perhaps before `from`.
        let mut stored = self.live.extents().range(self.live.extent_from(from)..).take(2);
        let stored = stored.find_map(|extent| first_live(extent.base..extent.end()));
        let readable = |held: &&Volatile| held.end() <= self.durable_end();
        let mut held = self.live.volatile_from(from).take_while(readable).take(2);
        match (stored, held.find_map(|held| first_live(held.base..held.end()))) {
            (Some(stored), Some(held)) => Some(stored.min(held)),
            (stored, held) => stored.or(held),
        }
    }

    /// Everything below may go by `keep`: whole stretches from the start, as long as one of the bounds lets the next
    /// one go; by the count of records exactly. Only what is durable goes.
    pub fn retention_point(&self, keep: Keep) -> Offset {
        let (mut bytes, mut records) = self.stretches().fold((0u64, 0u64), |(bytes, records), stretch| {
            (bytes.saturating_add(stretch.live_len), records.saturating_add(stretch.live))
        });
        let mut point = self.start();
        for stretch in self.stretches() {
            let is_old = keep.since_ms.is_some_and(|since| stretch.time_ms(keep.time) < since);
            let is_much = keep.bytes.is_some_and(|max| bytes.saturating_sub(stretch.live_len) >= max);
            let left = records.saturating_sub(stretch.live);
            let is_many = keep.records.is_some_and(|max| left >= max);
            if !(is_old || is_much || is_many) {
                let excess = keep.records.map_or(0, |max| records.saturating_sub(max));
                return if excess == 0 {
                    point
                } else {
                    self.after_live(&stretch.offsets, excess).max(point)
                };
            }
            bytes = bytes.saturating_sub(stretch.live_len);
            records = left;
            point = point.max(stretch.offsets.end);
        }
        point
    }

    /// The least offset of `range` that `count` of its live records are below.
    fn after_live(&self, range: &Range<Offset>, count: u64) -> Offset {
        let from = range.start.max(self.start()).0;
        let dropped = self.live.dropped();
        let (mut low, mut high) = (from, range.end.0);
        while low < high {
            let middle = low + (high - low) / 2;
            match middle - from - dropped.range_cardinality(from..middle) >= count {
                true => high = middle,
                false => low = middle + 1,
            }
        }
        Offset(low)
    }

    fn stretches(&self) -> impl Iterator<Item = Stretch> + '_ {
        self.stretches_from(self.start())
    }

    /// Extents in their stretches and readable volatile batches, in offset order, from the first that ends after
    /// `from`.
    fn stretches_from(&self, from: Offset) -> impl Iterator<Item = Stretch> + '_ {
        let extents = self.live.extents().range(self.live.extent_from(from)..);
        let mut stored =
            extents.flat_map(stretches_of).filter(move |stretch| stretch.offsets.end > from).peekable();
        let readable = |held: &&Volatile| held.end() <= self.durable_end();
        let mut held = self.live.volatile_from(from).take_while(readable).map(stretch_of_volatile).peekable();
        std::iter::from_fn(move || match (stored.peek(), held.peek()) {
            (Some(extent), Some(batch)) if batch.offsets.start < extent.offsets.start => held.next(),
            (Some(_), _) => stored.next(),
            (None, _) => held.next(),
        })
    }
}

fn stretches_of(extent: &Extent) -> Vec<Stretch> {
    match &extent.index {
        // With holes in it, which stretch the live ones are in is not counted.
        Index::Points(points) if extent.live == extent.count => {
            let ends = points.iter().skip(1).map(|p| (p.base, p.at)).chain([(extent.count, extent.len)]);
            let part = |(point, (base, at)): (&crate::log::live::Point, (u32, u32))| Stretch {
                offsets: extent.base.plus(u64::from(point.base))..extent.base.plus(u64::from(base)),
                live: u64::from(base - point.base),
                live_len: u64::from(at - point.at),
                append_time_ms: point.append_time_ms,
                event_time_ms: point.event_time_ms,
            };
            points.iter().zip(ends).map(part).collect()
        }
        _ => vec![Stretch {
            offsets: extent.base..extent.end(),
            live: u64::from(extent.live),
            live_len: extent.live_len(),
            append_time_ms: extent.append_time_ms,
            event_time_ms: extent.event_time_ms,
        }],
    }
}

fn stretch_of_volatile(held: &Volatile) -> Stretch {
    Stretch {
        offsets: held.base..held.end(),
        live: u64::from(held.live),
        live_len: u64::from(held.len),
        append_time_ms: held.append_time_ms,
        event_time_ms: held.event_time_ms,
    }
}

#[cfg(test)]
mod tests;
