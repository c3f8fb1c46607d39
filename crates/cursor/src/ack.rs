//! The ack kind of cursor: for every record of a log, whether it is ready, leased, delayed or done with.
//!
//! ```text
//!   settled │ leased · returned · delayed · settled … │ never delivered          │ held back   │
//!           floor                                      fresh                      held_from     end
//! ```
//! Below `floor` everything is settled, and nothing is kept. From `fresh` on nothing was delivered, and nothing is
//! kept either, except when an order other than by offset delivers there (`seen`) or a record is settled early.
//! So a plain queue of any depth costs what is out, not what waits.

mod apply;
mod expire;
mod hold;
mod index;
mod keys;
mod lease;
mod levels;
mod settle;
mod snapshot;
#[cfg(test)]
mod tests;

use std::ops::Range;

use model::{Offset, bitmap};
use roaring::RoaringTreemap;

pub use expire::Expired;
pub use keys::{KEY_WINDOW, KeySharing, OrderingKey};
pub use lease::{Ask, Grant, GrantRun, LeaseKind, Look, Stop};
pub use settle::{Changes, Claim, Settled, Verdict};

use crate::{
    entry::HolderId,
    range_map::{RangeMap, Timed},
    spans::{Span, Spans},
};
use index::Index;

/// In which order records are offered. Fixed for the life of a cursor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// By offset; costs nothing.
    #[default]
    Offset,
    /// By offset, but as the sharing says for the records of one ordering key. Costs about 100 bytes per unsettled
    /// record within the window of [`KEY_WINDOW`] records.
    Keyed(KeySharing),
    /// Highest priority first, by offset within one. Costs two bitmaps per level in use.
    Priority,
}

/// When a record that was delivered as often as allowed is taken out of the offer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Exhaust {
    /// As soon as its last delivery has ended.
    #[default]
    WhenReturned,
    /// When it would be delivered once more: until then it counts as ready, and a raised limit reaches it.
    WhenOffered,
}

/// How a cursor behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AckConfig {
    /// In which order records are offered.
    pub order: Order,
    /// Deliveries after which a record is not offered again but [`AckCursor::exhausted`]; `None` = no limit.
    pub max_attempts: Option<u32>,
    /// When that takes effect.
    pub exhaust: Exhaust,
    /// Records that may be leased at one time, over all holders; `None` = no limit.
    pub max_leased: Option<u64>,
}

/// One or more records in the hands of a holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Who has them.
    pub holder: HolderId,
    /// Until when; `None` = until settled.
    pub deadline_ms: Option<i64>,
    /// Which delivery this is, 1 for the first.
    pub attempt: u32,
    /// When they were delivered first, milliseconds since the Unix epoch; `None` when a restart forgot it.
    pub first_delivery_ms: Option<i64>,
    /// When this delivery was; now minus this is how long the holder has been idle on them.
    pub delivered_at_ms: i64,
    /// Whether the lease survives a restart.
    pub is_recorded: bool,
}

impl Timed for Lease {
    fn due_ms(&self) -> Option<i64> {
        self.deadline_ms
    }
}

/// Not to be delivered before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Delay(i64);

impl Timed for Delay {
    fn due_ms(&self) -> Option<i64> {
        Some(self.0)
    }
}

/// What is remembered of a record that is out no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct History {
    attempts: u32,
    first_delivery_ms: Option<i64>,
}

impl History {
    const NEVER_DELIVERED: History = History { attempts: 0, first_delivery_ms: None };
    /// What a delivered record has when nothing is kept for it.
    const DELIVERED: History = History { attempts: 1, first_delivery_ms: None };
}

impl Timed for History {
    fn due_ms(&self) -> Option<i64> {
        None
    }
}

/// What a cursor thinks of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordState {
    /// Done with, or never there.
    Settled,
    /// Somebody has it.
    Leased(Lease),
    /// It waits until this time.
    Delayed(i64),
    /// Delivered as often as allowed: the caller has to move it away.
    Exhausted,
    /// It may be delivered; so often it was before.
    Ready {
        /// Deliveries that count.
        attempts: u32,
    },
    /// The cursor has not been told of it.
    Beyond,
}

/// How many records are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// May be delivered, including those that the order or the index holds back just now.
    pub ready: u64,
    /// Somebody has them.
    pub leased: u64,
    /// They wait for their time, including those held back by [`AckCursor::hold_from`].
    pub delayed: u64,
    /// Delivered as often as allowed.
    pub exhausted: u64,
}

impl Counts {
    /// All that is not settled.
    pub fn unsettled(&self) -> u64 {
        self.ready + self.leased + self.delayed + self.exhausted
    }
}

/// What was delivered and is not settled, whether somebody has it or it is to be delivered again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outstanding {
    /// Records.
    pub count: u64,
    /// Those among them that were delivered more than once.
    pub redelivered: u64,
    /// Those among them that wait for the end of time.
    pub parked: u64,
}

/// The state machine. See the [crate] for how it is driven.
#[derive(Clone, Debug)]
pub struct AckCursor {
    config: AckConfig,
    /// Everything below is settled. Never settled itself unless it is `end`.
    floor: u64,
    /// Nothing from here on was delivered, but what `seen` holds. Neither settled nor in `seen` itself.
    fresh: u64,
    /// The cursor knows of the records below.
    end: u64,
    /// Records from here on are not due yet (a uniform delay).
    held_from: Option<u64>,
    /// Settled above `floor`.
    settled: RoaringTreemap,
    /// Delivered at or above `fresh`; disjoint from `settled`.
    seen: RoaringTreemap,
    /// Delivered before and ready again.
    returned: RoaringTreemap,
    /// Delivered as often as allowed.
    exhausted: RoaringTreemap,
    leases: RangeMap<Lease>,
    delayed: RangeMap<Delay>,
    /// Of records in `returned`, `delayed` and `exhausted`, where it differs from [`History::DELIVERED`].
    history: RangeMap<History>,
    /// End of the highest delivery whose lease is not recorded, and how far that was logged.
    volatile_end: u64,
    volatile_logged: u64,
    /// A record whose earlier deliveries do not count was delivered again under such a lease, and that was not logged.
    volatile_again: bool,
    /// Up to here a restart was told of deliveries: of records that were held back it is not known whether they were among
    /// them, until the time is looked at.
    unsure_end: u64,
    /// What is below may have been delivered, as far as is known or not.
    doubt_end: u64,
    index: Index,
    /// Entries that leases and settlements looked at, beside those of the index.
    visited: u64,
    /// The offset after the last record that is known to have a key; of no meaning but where keys share fairly.
    keyed_end: u64,
}

impl AckCursor {
    /// A cursor over the records from `start` on.
    pub fn new(config: AckConfig, start: Offset) -> Self {
        AckCursor {
            config,
            floor: start.0,
            fresh: start.0,
            end: start.0,
            held_from: None,
            settled: RoaringTreemap::new(),
            seen: RoaringTreemap::new(),
            returned: RoaringTreemap::new(),
            exhausted: RoaringTreemap::new(),
            leases: RangeMap::default(),
            delayed: RangeMap::default(),
            history: RangeMap::default(),
            volatile_end: start.0,
            volatile_logged: start.0,
            volatile_again: false,
            unsure_end: start.0,
            doubt_end: start.0,
            index: Index::new(config.order, start.0),
            visited: 0,
            keyed_end: start.0,
        }
    }

    /// How many records, leases and entries of the order's index leases and settlements have looked at since the cursor
    /// was made: what tells whether their cost depends on what waits.
    pub fn visited(&self) -> u64 {
        self.visited + self.index.visited()
    }

    /// How the cursor behaves.
    pub fn config(&self) -> &AckConfig {
        &self.config
    }

    /// Everything below is settled: what retention of a queue may trim to.
    pub fn floor(&self) -> Offset {
        Offset(self.floor)
    }

    /// The offset after the last delivery so far; from there on nothing was ever delivered.
    pub fn delivered_end(&self) -> Offset {
        Offset(self.seen.max().map_or(self.fresh, |last| last + 1))
    }

    /// The cursor knows of the records below.
    pub fn end(&self) -> Offset {
        Offset(self.end)
    }

    /// Tells the cursor that the log is readable up to `end`. Never goes back.
    pub fn note_appended(&mut self, end: Offset) {
        self.end = self.end.max(end.0);
    }

    /// Holds records from `offset` on back, for a uniform delay: their time has not come. `None` = none is. Moves
    /// forward as time passes; what was offered before a move back stays offered.
    pub fn hold_from(&mut self, offset: Option<Offset>) {
        self.held_from = offset.map(|offset| offset.0);
    }

    /// Takes records out that are not there (dropped, trimmed, not matched by a filter). Nothing is logged: the log
    /// knows, and the caller tells again after a restart. What lies beyond [`AckCursor::end`] is left alone.
    pub fn skip(&mut self, span: Span) {
        let range = self.known(span.range());
        let mut at = range.start;
        while let Some(gap) = self.next_unsettled(at..range.end) {
            at = gap.end;
            self.settle_range(gap);
        }
    }

    /// What the cursor thinks of the record at `offset`.
    pub fn state(&self, offset: Offset) -> RecordState {
        let at = offset.0;
        if at < self.floor || self.settled.contains(at) {
            RecordState::Settled
        } else if at >= self.end {
            RecordState::Beyond
        } else if let Some(lease) = self.leases.get(at) {
            RecordState::Leased(*lease)
        } else if self.exhausted.contains(at) {
            RecordState::Exhausted
        } else if let Some(delay) = self.delayed.get(at) {
            RecordState::Delayed(delay.0)
        } else {
            RecordState::Ready { attempts: self.history_of(at).attempts }
        }
    }

    /// The leases in order of offset, adjacent ones that are alike as one.
    pub fn leases(&self) -> impl Iterator<Item = (Span, &Lease)> {
        self.leases.iter().map(|(range, lease)| (Span::of(range), lease))
    }

    /// The leases within `span`, clipped to it.
    pub fn leases_within(&self, span: Span) -> impl Iterator<Item = (Span, &Lease)> {
        self.leases.within(span.range()).map(|(range, lease)| (Span::of(range), lease))
    }

    /// What `holder` has, for when it is gone and a dialect does not know itself. Looks at every lease.
    pub fn held_by(&self, holder: HolderId) -> Spans {
        self.leases().filter(|(_, lease)| lease.holder == holder).map(|(span, _)| span).collect()
    }

    /// Up to `limit` records below `end` that are neither settled nor leased, oldest first: what a length limit, a
    /// time to live or a purge takes. The caller settles them with [`Claim::Nobody`].
    pub fn unleased_below(&self, end: Offset, limit: u64) -> Spans {
        let end = end.0.min(self.end);
        let (mut found, mut left, mut at) = (Spans::new(), limit, self.floor);
        while left > 0
            && let Some(gap) = self.next_unsettled(at..end)
        {
            let leased = self.leases.within(gap.clone()).next().map(|(range, _)| range);
            let until = leased.as_ref().map_or(gap.end, |range| range.start);
            let taken = at.max(gap.start)..until.min(gap.start.saturating_add(left));
            left -= taken.end - taken.start;
            found.add(Span::of(taken));
            at = leased.map_or(gap.end, |range| range.end);
        }
        found
    }

    /// Up to `limit` records that were delivered as often as allowed. They stay until the caller settles them (after
    /// moving them, in the same unit) with [`Claim::Anyone`], or raises the limit.
    pub fn exhausted(&self, limit: u64) -> Spans {
        let (mut found, mut left, mut at) = (Spans::new(), limit, 0);
        while left > 0
            && let Some(run) = bitmap::next_run(&self.exhausted, at)
        {
            let taken = run.start..run.end.min(run.start.saturating_add(left));
            at = taken.end;
            left -= taken.end - taken.start;
            found.add(Span::of(taken));
        }
        found
    }

    /// How many records somebody has.
    pub fn leased_count(&self) -> u64 {
        self.leases.count()
    }

    /// How many records are in which state. Takes time with the size of the bitmaps: for metrics.
    pub fn counts(&self) -> Counts {
        let unsettled = self.end - self.floor - self.settled.len();
        let leased = self.leases.count();
        let exhausted = self.exhausted.len();
        let held = match self.held_from {
            Some(from) => self.fresh_count(from..self.end),
            None => 0,
        };
        let delayed = self.delayed.count() + held;
        Counts { ready: unsettled - leased - exhausted - delayed, leased, delayed, exhausted }
    }

    /// What was delivered and is not settled. Takes time with the size of the bitmaps.
    pub fn outstanding(&self) -> Outstanding {
        let count = self.counts().unsettled() - self.fresh_count(self.fresh..self.end);
        let len = |range: &Range<u64>| range.end - range.start;
        let leased = self.leases.iter().filter(|(_, lease)| lease.attempt > 1);
        let waiting = self.history.iter().filter(|(_, history)| history.attempts > 1);
        let redelivered = leased.map(|(range, _)| len(&range)).sum::<u64>()
            + waiting.map(|(range, _)| len(&range)).sum::<u64>();
        let parked = self.delayed.iter().filter(|(_, delay)| delay.0 == i64::MAX);
        Outstanding { count, redelivered, parked: parked.map(|(range, _)| len(&range)).sum() }
    }

    /// How many runs of records wait for a time of their own: what they cost.
    pub fn delayed_run_count(&self) -> usize {
        self.delayed.run_count()
    }

    /// [`AckCursor::counts`], with what was never delivered held back from `offset` on instead.
    pub fn counts_held_from(&self, offset: Offset) -> Counts {
        let counts = self.counts();
        let own = self.held_from.map_or(0, |from| self.fresh_count(from..self.end));
        let held = self.fresh_count(offset.0.min(self.end)..self.end);
        Counts { ready: counts.ready + own - held, delayed: counts.delayed - own + held, ..counts }
    }

    /// Changes the limits. Lowering the attempts exhausts what was delivered that often already; raising them
    /// offers it again.
    pub fn set_limits(&mut self, max_attempts: Option<u32>, max_leased: Option<u64>) {
        self.config.max_leased = max_leased;
        self.set_attempts(max_attempts, self.config.exhaust);
    }

    /// Changes how often a record is delivered, and when it is taken out of the offer.
    pub fn set_attempts(&mut self, max_attempts: Option<u32>, exhaust: Exhaust) {
        if (self.config.max_attempts, self.config.exhaust) == (max_attempts, exhaust) {
            return;
        }
        self.config.max_attempts = max_attempts;
        self.config.exhaust = exhaust;
        let delayed = self.delayed.clone();
        self.place(&(&self.returned | &self.exhausted), &delayed);
    }

    /// Puts delivered records that are not leased where the limits want them.
    fn place(&mut self, returned: &RoaringTreemap, delayed: &RangeMap<Delay>) {
        let mut at = 0;
        while let Some(run) = bitmap::next_run(returned, at) {
            at = run.end;
            self.place_run(run, None);
        }
        for (run, delay) in delayed.iter() {
            self.place_run(run, Some(delay.0));
        }
    }

    fn place_run(&mut self, run: Range<u64>, due_ms: Option<i64>) {
        let mut at = run.start;
        while at < run.end {
            let (alike, history) = self.alike_from(at..run.end);
            at = alike.end;
            self.put_back(alike, history, due_ms);
        }
    }

    /// Estimated heap bytes.
    pub fn footprint(&self) -> usize {
        let bitmaps = [&self.settled, &self.seen, &self.returned, &self.exhausted];
        bitmaps.iter().map(|set| set.serialized_size()).sum::<usize>()
            + self.leases.footprint()
            + self.delayed.footprint()
            + self.history.footprint()
            + self.index.footprint()
    }

    /// Never-delivered records within `range`.
    fn fresh_count(&self, range: Range<u64>) -> u64 {
        let range = range.start.max(self.fresh)..range.end;
        if range.is_empty() {
            return 0;
        }
        let within = |set: &RoaringTreemap| set.range_cardinality(range.clone());
        range.end - range.start - within(&self.settled) - within(&self.seen)
    }

    /// Where records stop being offered.
    fn ready_end(&self) -> u64 {
        self.held_from.map_or(self.end, |held| held.min(self.end))
    }

    /// The part of `range` that is neither below the floor nor beyond the end.
    fn known(&self, range: Range<u64>) -> Range<u64> {
        range.start.max(self.floor)..range.end.min(self.end)
    }

    /// The first run of records within `range` that are not settled.
    fn next_unsettled(&self, range: Range<u64>) -> Option<Range<u64>> {
        bitmap::next_gap(&self.settled, range.start.max(self.floor)..range.end)
    }

    fn is_fresh(&self, offset: u64) -> bool {
        offset >= self.fresh && !self.seen.contains(offset)
    }

    /// How often a record that is not leased was delivered.
    pub fn attempts(&self, offset: Offset) -> u32 {
        self.history_of(offset.0).attempts
    }

    /// Whether a record that is not leased was delivered as often as allowed.
    fn is_spent(&self, attempts: u32) -> bool {
        self.config.max_attempts.is_some_and(|max| attempts >= max)
    }

    /// Deliveries of a record that is not leased.
    fn history_of(&self, offset: u64) -> History {
        if self.is_fresh(offset) {
            return History::NEVER_DELIVERED;
        }
        self.history.get(offset).copied().unwrap_or(History::DELIVERED)
    }

    /// Settles records that are known and not settled yet, whoever has them.
    fn settle_range(&mut self, range: Range<u64>) {
        self.leases.remove(range.clone(), |_, _| ());
        self.delayed.remove(range.clone(), |_, _| ());
        self.history.remove(range.clone(), |_, _| ());
        for set in [&mut self.returned, &mut self.exhausted, &mut self.seen] {
            bitmap::remove(set, range.clone());
        }
        self.index.gone(range.clone());
        if range.start > self.floor {
            self.settled.insert_range(range.clone());
        } else {
            self.floor = range.end;
            while let Some(run) = bitmap::next_run(&self.settled, 0)
                && run.start == self.floor
            {
                self.floor = run.end;
                self.settled.remove_range(run);
            }
        }
        if range.contains(&self.fresh) {
            self.fresh = range.end;
            self.pass_delivered();
        }
    }

    /// Notes that records were delivered.
    fn mark_delivered(&mut self, range: Range<u64>) {
        if range.start > self.fresh {
            self.seen.insert_range(range);
        } else if range.end > self.fresh {
            self.fresh = range.end;
            self.pass_delivered();
        }
    }

    /// Moves `fresh` over what is settled or seen.
    fn pass_delivered(&mut self) {
        let fresh = self.fresh;
        bitmap::remove(&mut self.seen, 0..fresh);
        loop {
            if let Some(run) = bitmap::next_run(&self.settled, self.fresh)
                && run.start == self.fresh
            {
                self.fresh = run.end;
            } else if let Some(run) = bitmap::next_run(&self.seen, self.fresh)
                && run.start == self.fresh
            {
                self.fresh = run.end;
                self.seen.remove_range(run);
            } else {
                self.fresh = self.fresh.max(self.floor);
                return;
            }
        }
    }

    /// Leases records that are not leased, whose history is all the same.
    fn lease_range(&mut self, range: Range<u64>, lease: Lease) {
        self.delayed.remove(range.clone(), |_, _| ());
        self.history.remove(range.clone(), |_, _| ());
        bitmap::remove(&mut self.returned, range.clone());
        bitmap::remove(&mut self.exhausted, range.clone());
        self.mark_delivered(range.clone());
        self.index.leased(range.clone(), lease.holder);
        self.leases.insert(range, lease);
    }

    /// Ends the lease of records that `lease` covers.
    fn give_back(&mut self, range: Range<u64>, lease: Lease, due_ms: Option<i64>, attempts: u32) {
        self.leases.remove(range.clone(), |_, _| ());
        self.put_back(range, History { attempts, first_delivery_ms: lease.first_delivery_ms }, due_ms);
    }

    /// Puts delivered records that are not leased where they belong.
    fn put_back(&mut self, range: Range<u64>, history: History, due_ms: Option<i64>) {
        if history == History::DELIVERED {
            self.history.remove(range.clone(), |_, _| ());
        } else {
            self.history.insert(range.clone(), history);
        }
        self.delayed.remove(range.clone(), |_, _| ());
        bitmap::remove(&mut self.returned, range.clone());
        bitmap::remove(&mut self.exhausted, range.clone());
        if self.config.exhaust == Exhaust::WhenReturned && self.is_spent(history.attempts) {
            self.exhausted.insert_range(range.clone());
            self.index.parked(range);
        } else if let Some(due) = due_ms {
            self.delayed.insert(range.clone(), Delay(due));
            self.index.parked(range);
        } else {
            self.returned.insert_range(range.clone());
            self.index.ready(range);
        }
    }
}
