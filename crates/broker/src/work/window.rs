//! The stretch of a log that a work cursor is working on, in memory, with what the broker decides on made ready.

use std::collections::BTreeSet;

use cursor::{Look, Order, Span, Spans};
use model::{Attributes, Batch, Offset, RecordAttributes, Result};

use super::state::WorkState;
use crate::{
    broker::Broker,
    read::{Chunk, ChunkBatch},
};

/// Records from one read.
pub(crate) struct Window {
    from: Offset,
    next: Offset,
    parts: Vec<Part>,
    /// The earliest time at which a record of it expires, milliseconds since the Unix epoch; `i64::MAX` = never.
    first_expiry_ms: i64,
    /// The latest time before which a record of it may not be delivered; `i64::MIN` = all may.
    pub last_deliver_at_ms: i64,
}

/// One batch of a window.
struct Part {
    stored: ChunkBatch,
    /// Attributes by index, where the batch has none of its own and somebody needs them.
    derived: Option<Box<[RecordAttributes]>>,
}

/// What a window is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// What the batch says of itself.
    Stored,
    /// Each record's attributes, through the format where it must be.
    Attributes,
}

impl Part {
    fn row(&self, index: u32) -> Option<&RecordAttributes> {
        match &self.derived {
            Some(rows) => rows.get(index as usize),
            None => self.stored.batch.attributes.of(index),
        }
    }

    fn is_live(&self, index: u32) -> bool {
        !self.stored.batch.flags.control
            && !self.stored.dropped.as_ref().is_some_and(|gone| gone.contains(index))
    }

    fn index_of(&self, offset: Offset) -> Option<u32> {
        let batch = &self.stored.batch;
        (batch.base <= offset && offset < batch.end())
            .then(|| u32::try_from(offset.since(batch.base)).unwrap_or(0))
    }

    fn len(&self, index: u32) -> u32 {
        let batch = &self.stored.batch;
        let average =
            || u32::try_from(batch.body.len().div_ceil(batch.count.max(1) as usize)).unwrap_or(u32::MAX);
        self.row(index).and_then(|row| row.body_len).unwrap_or_else(average)
    }
}

impl Window {
    /// Makes a chunk that was read from `from` on ready.
    pub(crate) fn new(
        broker: &Broker,
        from: Offset,
        chunk: Chunk,
        need: Need,
        ttl_ms: Option<u64>,
    ) -> Result<Self> {
        let parts = chunk.batches.into_iter().map(|stored| {
            let derived = match (&stored.batch.attributes, need) {
                (Attributes::None, Need::Attributes) => Some(derive(broker, &stored.batch)?),
                _ => None,
            };
            Ok(Part { stored, derived })
        });
        let parts = parts.collect::<Result<Vec<_>>>()?;
        let counters = &broker.inner.counters;
        counters.work_reads.add(1);
        for Part { stored, .. } in &parts {
            counters.work_read_records.add(u64::from(stored.batch.count));
            counters.work_read_bytes.add(stored.batch.body.len() as u64);
        }
        let mut window =
            Window { from, next: chunk.next, parts, first_expiry_ms: i64::MAX, last_deliver_at_ms: i64::MIN };
        window.weigh(ttl_ms);
        Ok(window)
    }

    fn weigh(&mut self, ttl_ms: Option<u64>) {
        for part in &self.parts {
            let batch = &part.stored.batch;
            if let Some(ttl_ms) = ttl_ms {
                self.first_expiry_ms =
                    self.first_expiry_ms.min(batch.append_time_ms.saturating_add_unsigned(ttl_ms));
            }
            let rows = match (&part.derived, &batch.attributes) {
                (Some(rows), _) => &rows[..],
                (None, Attributes::Rows(rows)) => &rows[..],
                (None, Attributes::Same(row)) => std::slice::from_ref(&**row),
                (None, Attributes::None) => &[],
            };
            for row in rows {
                self.first_expiry_ms = self.first_expiry_ms.min(row.expiry_ms.unwrap_or(i64::MAX));
                self.last_deliver_at_ms = self.last_deliver_at_ms.max(row.deliver_at_ms.unwrap_or(i64::MIN));
            }
        }
    }

    fn part_at(&self, offset: Offset) -> Option<(&Part, u32)> {
        let at = self.parts.partition_point(|part| part.stored.batch.end() <= offset);
        let part = self.parts.get(at)?;
        Some((part, part.index_of(offset)?))
    }

    /// Whether it says what is at `offset`.
    pub(crate) fn covers(&self, offset: Offset) -> bool {
        self.from <= offset && offset < self.next
    }

    pub(crate) fn next(&self) -> Offset {
        self.next
    }

    /// Bytes of its batches' bodies.
    pub(crate) fn len(&self) -> usize {
        self.parts.iter().map(|part| part.stored.batch.body.len()).sum()
    }

    /// The offset from which on it was read.
    pub(crate) fn from(&self) -> Offset {
        self.from
    }

    /// Whether a read from `offset` on goes on where this one ended, or nearly.
    pub(crate) fn is_followed_by(&self, offset: Offset) -> bool {
        self.next <= offset && offset.since(self.next) <= self.next.since(self.from)
    }

    /// What a cursor has to know of the record at `offset` before it grants it.
    pub(crate) fn look(&self, offset: Offset, wants_key: &dyn Fn(Option<&[u8]>) -> bool) -> Look {
        if !self.covers(offset) {
            return Look::Unread;
        }
        match self.part_at(offset) {
            Some((part, index)) if part.is_live(index) => {
                let row = part.row(index);
                if wants_key(row.and_then(|row| row.route_key.as_deref())) {
                    Look::Here { len: part.len(index) }
                } else {
                    Look::Gap
                }
            }
            _ => Look::Gap,
        }
    }

    /// [`Window::look`], as far as it is time for the record: what says itself that it is not yet waits, whatever the cursor
    /// was told of it before (it may have been set back, or made after the publish), and what a uniform delay holds back
    /// ends the grant; `held_until` then says until when.
    pub(crate) fn look_in_time(
        &self,
        offset: Offset,
        wants_key: &dyn Fn(Option<&[u8]>) -> bool,
        delay_ms: u64,
        now_ms: i64,
        held_until: &mut Option<i64>,
    ) -> Look {
        let found = self.look(offset, wants_key);
        if !matches!(found, Look::Here { .. }) || (delay_ms == 0 && self.last_deliver_at_ms <= now_ms) {
            return found;
        }
        let Some((part, index)) = self.part_at(offset) else { return found };
        if let Some(due_ms) = part.row(index).and_then(|row| row.deliver_at_ms).filter(|due| *due > now_ms) {
            return Look::NotBefore(due_ms);
        }
        let due_ms = part.stored.batch.append_time_ms.saturating_add_unsigned(delay_ms);
        if delay_ms > 0 && due_ms > now_ms {
            *held_until = Some(due_ms);
            return Look::Unread;
        }
        found
    }

    /// The last record that was published with an ordering key.
    pub(crate) fn last_keyed(&self) -> Option<Offset> {
        self.parts.iter().rev().find_map(|part| {
            let batch = &part.stored.batch;
            let is_keyed = |index: &u32| part.row(*index).is_some_and(|row| row.ordering_key.is_some());
            let index = match &batch.attributes {
                Attributes::None if part.derived.is_none() => None,
                _ => (0..batch.count).rev().find(is_keyed),
            };
            index.map(|index| batch.base.plus(u64::from(index)))
        })
    }

    /// The live records with their attributes, in order.
    pub(crate) fn records(&self) -> impl Iterator<Item = (Offset, i64, Option<&RecordAttributes>)> {
        self.records_from(self.from)
    }

    /// Those of [`Window::records`] from `from` on; what lies before costs nothing.
    pub(crate) fn records_from(
        &self,
        from: Offset,
    ) -> impl Iterator<Item = (Offset, i64, Option<&RecordAttributes>)> {
        let first = self.parts.partition_point(|part| part.stored.batch.end() <= from);
        self.parts.iter().skip(first).flat_map(move |part| {
            let batch = &part.stored.batch;
            let skipped = u32::try_from(from.0.saturating_sub(batch.base.0)).unwrap_or(u32::MAX);
            (skipped.min(batch.count)..batch.count)
                .filter(|index| part.is_live(*index))
                .map(|index| (batch.base.plus(u64::from(index)), batch.append_time_ms, part.row(index)))
        })
    }

    /// Records from `from` on whose time to live is over and that nobody has, up to the first of their level whose is not: a
    /// record expires when it is its turn. `heads` has the levels of which such a one was found, before and now.
    pub(crate) fn expired(
        &self,
        work: &WorkState,
        from: Offset,
        heads: &mut Heads,
        (ttl_ms, now_ms): (Option<u64>, i64),
    ) -> Spans {
        let has_levels = work.spec().order == Order::Priority;
        let mut expired = Spans::new();
        for (offset, append_time_ms, row) in self.records_from(from) {
            let level = level_of(row, has_levels);
            if heads.are_all_found(has_levels) {
                break;
            }
            let is_ready = || matches!(work.cursor.state(offset), cursor::RecordState::Ready { .. });
            if !heads.are_wanted(level) || !is_ready() {
                continue;
            }
            if is_late(append_time_ms, row, ttl_ms, now_ms) {
                expired.add_one(offset);
            } else {
                heads.found.insert(level);
            }
        }
        expired
    }

    /// The level of the record at `offset`, if it is there and its time to live is over. Without levels there is one, 0.
    pub(crate) fn late_level(
        &self,
        offset: Offset,
        has_levels: bool,
        (ttl_ms, now_ms): (Option<u64>, i64),
    ) -> Option<u8> {
        let (part, index) = self.part_at(offset).filter(|(part, index)| part.is_live(*index))?;
        let row = part.row(index);
        is_late(part.stored.batch.append_time_ms, row, ttl_ms, now_ms).then(|| level_of(row, has_levels))
    }

    /// Whether some record of it may be past its time.
    pub(crate) fn has_late(&self, now_ms: i64) -> bool {
        self.first_expiry_ms <= now_ms
    }

    /// When the first record that is not past its time yet will be.
    pub(crate) fn next_expiry(&self, ttl_ms: Option<u64>, now_ms: i64) -> Option<i64> {
        let times = self.records().flat_map(|(_, append_time_ms, row)| {
            let by_ttl = ttl_ms.map(|ttl_ms| append_time_ms.saturating_add_unsigned(ttl_ms));
            [by_ttl, row.and_then(|row| row.expiry_ms)]
        });
        times.flatten().filter(|at| *at > now_ms).min()
    }

    /// Ranges of the window, up to `end`, in which nothing is stored or live.
    pub(crate) fn gaps(&self) -> Vec<Span> {
        let mut gaps = Vec::new();
        let mut at = self.from;
        for (offset, _, _) in self.records() {
            if offset > at {
                gaps.push(Span::new(at, offset));
            }
            at = at.max(offset.plus(1));
        }
        if self.next > at {
            gaps.push(Span::new(at, self.next));
        }
        gaps
    }

    /// The batch of the record at `offset`, and its index there.
    pub(crate) fn batch_at(&self, offset: Offset) -> Option<(&Batch, u32, Option<&RecordAttributes>)> {
        let (part, index) = self.part_at(offset)?;
        part.is_live(index).then(|| (&part.stored.batch, index, part.row(index)))
    }
}

fn level_of(row: Option<&RecordAttributes>, has_levels: bool) -> u8 {
    row.and_then(|row| row.priority).filter(|_| has_levels).unwrap_or(0)
}

fn is_late(append_time_ms: i64, row: Option<&RecordAttributes>, ttl_ms: Option<u64>, now_ms: i64) -> bool {
    let by_ttl = ttl_ms.is_some_and(|ttl_ms| append_time_ms.saturating_add_unsigned(ttl_ms) <= now_ms);
    by_ttl || row.and_then(|row| row.expiry_ms).is_some_and(|at| at <= now_ms)
}

/// The levels of an order whose first record that is not past its time was found.
#[derive(Debug, Default)]
pub(crate) struct Heads {
    found: BTreeSet<u8>,
    /// The only one that is looked for; `None` = each.
    only: Option<u8>,
}

impl Heads {
    /// The head of one level.
    pub(crate) fn of(level: u8) -> Self {
        Heads { found: BTreeSet::new(), only: Some(level) }
    }

    fn are_wanted(&self, level: u8) -> bool {
        self.only.is_none_or(|only| only == level) && !self.found.contains(&level)
    }

    /// Whether nothing is left to be looked for.
    pub(crate) fn are_all_found(&self, has_levels: bool) -> bool {
        !self.found.is_empty() && (!has_levels || self.only.is_some())
    }
}

/// What a cursor has in memory of its log: the records that it hands out, and those that its order was told of last.
#[derive(Clone, Copy)]
pub(crate) struct Windows<'a>(pub [Option<&'a Window>; 2]);

impl<'a> Windows<'a> {
    pub(crate) fn at(self, offset: Offset) -> Option<&'a Window> {
        self.0.into_iter().flatten().find(|window| window.covers(offset))
    }
}

/// The attributes of a batch whose dialect gave none.
fn derive(broker: &Broker, batch: &Batch) -> Result<Box<[RecordAttributes]>> {
    let mut rows = vec![RecordAttributes::default(); batch.count as usize];
    broker.formats().of(batch.format)?.attributes(batch, &mut |index, row| {
        if let Some(place) = rows.get_mut(index as usize) {
            *place = row;
        }
        Ok(())
    })?;
    Ok(rows.into())
}
