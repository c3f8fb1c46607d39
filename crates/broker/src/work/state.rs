//! What a work cursor keeps on its log, and its notes.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use cursor::{
    AckChange, AckConfig, AckCursor, Changes, CursorEntry, GroupId, HolderId, KeySharing, Order, Sharing,
    Span, Spans, Subscription, Subscriptions,
};
use model::{Attributes, Error, Offset, Result};
use route::{Pattern, Syntax};
use store::LogCore;

use super::{
    WorkSpec, WorkView,
    window::Window,
    works::{Gone, Works},
};
use crate::{
    codec::{Reader, put_bytes, put_option, put_u64},
    watch::{Watch, WatchRef},
};

pub(crate) const NOTE_OPEN: u8 = 2;
pub(crate) const NOTE_CHANGE: u8 = 3;
pub(crate) const NOTE_CLOSE: u8 = 4;
pub(crate) const NOTE_FILTER: u8 = 8;

/// When settled records leave the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drops {
    /// By retention.
    Never,
    /// When this cursor has settled them.
    Settled,
    /// When every cursor of the log has.
    SettledByAll,
}

/// Records with a time of their own that one cursor keeps in mind, about 200 bytes each; more are noticed when they are
/// read.
const DUE_MAX: usize = 200_000;

/// One work cursor.
pub(crate) struct WorkState {
    pub name: Arc<str>,
    spec: WorkSpec,
    pub drops: Drops,
    pub filter: Box<[Pattern]>,
    pub cursor: AckCursor,
    pub subscriptions: Subscriptions,
    /// Consumers that wait, with what tells them.
    waiting: BTreeMap<HolderId, WatchRef>,
    /// The end of the log when a lease found nothing to give; nothing has changed since that could give something.
    idle_end: Option<Offset>,
    /// When the first record that a uniform delay holds back is due, milliseconds since the Unix epoch.
    pub held_until_ms: Option<i64>,
    /// The first record that a uniform delay holds back from an order that chooses, and when it was appended.
    pub held: Option<Box<(Offset, i64)>>,
    /// The uniform delay that the order was told of, milliseconds.
    delay_ms: Option<u64>,
    /// The record that is the oldest unsettled one, and when it was appended, as far as somebody asked.
    pub oldest: Option<Box<(Offset, i64)>>,
    /// Up to here the cursor knows which records are not there.
    gaps_end: Offset,
    /// Records that are to wait for a time of their own, and are not readable yet.
    pub upcoming: Vec<(Offset, i64)>,
    /// The records that are being worked, in memory.
    pub window: Option<Arc<Window>>,
    /// The records that an order by keys is told of as it gets room, in memory.
    pub ahead: Option<Arc<Window>>,
    /// Bytes that were read last for records that such an order chose.
    pub read_len: usize,
    /// When it wants to be looked at, as its log knows, and whether that may have changed since.
    pub due_ms: Option<i64>,
    pub is_touched: bool,
    /// Whether its log has it on the list of those that wait for any record, or that are told with what comes next.
    pub is_listed: bool,
    pub is_called: bool,
    /// When somebody asked for records last, since the start, milliseconds since the Unix epoch; `i64::MIN` = nobody.
    pub asked_ms: i64,
    /// The number of the first span that left the log and that it has not heard of.
    pub gone_seen: u64,
}

pub(crate) fn changes() -> Changes {
    Changes::new()
}

impl WorkState {
    /// [`model::ErrorKind::Invalid`] for a filter that does not read.
    pub(crate) fn new(name: Arc<str>, spec: WorkSpec, drops: Drops) -> Result<Self> {
        let config = config(&spec);
        let cursor = AckCursor::new(config, spec.start.unwrap_or(Offset::ZERO));
        WorkState::with_cursor(name, spec, drops, cursor)
    }

    fn with_cursor(name: Arc<str>, spec: WorkSpec, drops: Drops, cursor: AckCursor) -> Result<Self> {
        Ok(WorkState {
            name,
            filter: patterns_of(&spec.filter)?,
            subscriptions: Subscriptions::new(spec.sharing),
            spec,
            drops,
            cursor,
            waiting: BTreeMap::new(),
            idle_end: None,
            held_until_ms: None,
            held: None,
            delay_ms: None,
            oldest: None,
            gaps_end: Offset::ZERO,
            upcoming: Vec::new(),
            window: None,
            ahead: None,
            read_len: 0,
            due_ms: None,
            is_touched: false,
            is_listed: false,
            is_called: false,
            asked_ms: i64::MIN,
            gone_seen: 0,
        })
    }

    pub(crate) fn spec(&self) -> &WorkSpec {
        &self.spec
    }

    /// The texts of its filter, read.
    pub(super) fn filters(&self) -> impl ExactSizeIterator<Item = (&str, &Pattern)> {
        self.spec.filter.iter().map(String::as_str).zip(&self.filter)
    }

    /// Whether somebody waits for records.
    pub(super) fn is_waited_at(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// When it wants to be looked at, milliseconds since the Unix epoch.
    pub(super) fn wants_look_ms(&self) -> Option<i64> {
        let at_once = (!self.cursor.exhausted(1).is_empty()).then_some(i64::MIN);
        let due = [self.cursor.next_due_ms(), self.held_until_ms, at_once].into_iter().flatten().min();
        // What waits for the end of time is never due.
        due.filter(|due_ms| *due_ms < i64::MAX)
    }

    pub(crate) fn view(&self) -> WorkView {
        WorkView {
            name: self.name.clone(),
            spec: self.spec.clone(),
            counts: self.cursor.counts(),
            floor: self.cursor.floor(),
            delivered_end: self.cursor.delivered_end(),
            consumers: self.subscriptions.all(),
            memory_len: self.cursor.footprint(),
            visited: self.cursor.visited(),
        }
    }

    /// Takes in how far the log goes now, and what left it.
    pub(super) fn follow(&mut self, core: &LogCore, gone: &Gone) {
        match gone.since(self.gone_seen) {
            Some(spans) => spans.for_each(|span| self.cursor.skip(span)),
            None => self.gaps_end = Offset::ZERO,
        }
        self.gone_seen = gone.next();
        self.cursor.note_appended(core.stable_end());
        self.hold_upcoming();
        if core.start() > self.cursor.floor() {
            self.cursor.skip(Span::new(self.cursor.floor(), core.start()));
        }
        self.pass_gaps(core);
    }

    /// Takes out what is not there of the records that the cursor was told of since the last time: gaps that a restart
    /// or a record placed further on left, and after a restart or a seek what was dropped before.
    fn pass_gaps(&mut self, core: &LogCore) {
        let end = core.stable_end();
        let mut at = self.gaps_end.max(self.cursor.floor());
        while at < end
            && let Some(gap) = core.first_gap(at..end)
        {
            self.cursor.skip(Span::new(gap.start, gap.end));
            at = gap.end;
        }
        self.gaps_end = self.gaps_end.max(end);
    }

    /// Sets the cursor to `to`; it has to follow the log again.
    pub(super) fn seek(&mut self, to: Offset, changes: &mut Changes) {
        self.cursor.seek(to, changes);
        self.ahead = None;
        self.gaps_end = to;
    }

    /// Takes in when records are due that were just appended, so that they count as waiting from the first moment on.
    pub(crate) fn note_due(&mut self, base: Offset, count: u32, attributes: &Attributes) {
        for index in 0..count {
            let due_ms = attributes.of(index).and_then(|row| row.deliver_at_ms);
            // What is not told here is found when it is read.
            if let Some(due_ms) = due_ms
                && self.cursor.delayed_run_count() + self.upcoming.len() < DUE_MAX
            {
                self.upcoming.push((base.plus(u64::from(index)), due_ms));
            }
        }
    }

    /// Takes in the uniform delay. When it changes, what an order that chooses was told is told again: records that were
    /// offered may have to wait, or the other way round.
    pub(crate) fn note_delay(&mut self, delay_ms: u64) {
        let before = self.delay_ms.replace(delay_ms);
        if before.is_some_and(|before| before != delay_ms) && !self.cursor.is_by_offset() {
            (self.held, self.held_until_ms) = (None, None);
            (self.window, self.ahead) = (None, None);
            self.cursor.hold_from(None);
            self.cursor.reindex();
        }
    }

    /// Tells the cursor of those that are readable now.
    fn hold_upcoming(&mut self) {
        let end = self.cursor.end();
        let cursor = &mut self.cursor;
        self.upcoming.retain(|(offset, due_ms)| {
            let is_known = *offset < end;
            if is_known {
                cursor.hold_until(*offset, *due_ms);
            }
            !is_known
        });
    }

    /// Tells the cursor of all of them, before a replayed change: what is replayed is durable. A change that says how far
    /// deliveries went would take those that wait for delivered.
    fn hold_replayed(&mut self) {
        if let Some((last, _)) = self.upcoming.last() {
            self.cursor.note_appended(last.plus(1));
            self.hold_upcoming();
        }
    }

    /// Arms `watch` for `holder`, or tells it at once.
    pub(crate) fn wait(&mut self, holder: HolderId, watch: &Watch) {
        if !self.subscriptions.contains(holder) {
            let (group, prefetch) = (GroupId::default(), Some(0));
            self.subscriptions.join(Subscription { holder, priority: 0, group, prefetch });
        }
        self.waiting.insert(holder, watch.reference());
        self.subscriptions.set_waiting(holder, true);
        if self.may_give() {
            self.tell_next();
        }
    }

    /// Whether a lease might find something: wrong towards yes once at most.
    fn may_give(&self) -> bool {
        let has_some =
            self.cursor.delivered_end() < self.cursor.end() || self.cursor.next_returned().is_some();
        has_some && self.idle_end != Some(self.cursor.end())
    }

    /// A lease found nothing.
    pub(crate) fn found_nothing(&mut self) {
        self.idle_end = Some(self.cursor.end());
    }

    /// Tells the one whose turn it is, of each group.
    pub(crate) fn tell_next(&mut self) {
        self.idle_end = None;
        if self.waiting.is_empty() {
            return;
        }
        for group in self.subscriptions.waiting_groups() {
            while let Some(holder) = self.subscriptions.next(group) {
                self.subscriptions.set_waiting(holder, false);
                let Some(watch) = self.waiting.remove(&holder) else { continue };
                let is_live = watch.is_live();
                if is_live {
                    self.subscriptions.give_turn(holder);
                }
                watch.tell();
                if is_live {
                    break;
                }
            }
        }
    }

    /// `holder` cannot take records now: if it has been told, the next one is.
    pub(crate) fn pass(&mut self, holder: HolderId) {
        self.waiting.remove(&holder);
        if self.subscriptions.pass(holder) && self.may_give() {
            self.tell_next();
        }
    }

    pub(crate) fn tell_all(&mut self) {
        for (holder, watch) in std::mem::take(&mut self.waiting) {
            self.subscriptions.set_waiting(holder, false);
            watch.tell();
        }
    }

    /// Makes it one of the consumers; one that is leaves first.
    pub(crate) fn join(&mut self, subscription: Subscription) {
        if self.subscriptions.contains(subscription.holder) {
            self.leave(subscription.holder);
        }
        self.subscriptions.join(subscription);
    }

    pub(crate) fn leave(&mut self, holder: HolderId) {
        self.waiting.remove(&holder);
        self.subscriptions.leave(holder);
        self.tell_next();
    }

    /// Makes it a cursor for other records.
    pub(crate) fn set_filter(&mut self, filter: Vec<String>, patterns: Box<[Pattern]>) {
        self.spec.filter = filter;
        self.filter = patterns;
        // What it was told of the records at hand was for the filter before.
        self.window = None;
        self.tell_next();
    }

    /// The cursor's state, with what it has not been told yet because it is not durable.
    fn snapshot(&self) -> Result<Bytes> {
        let Some((last, _)) = self.upcoming.last() else { return self.cursor.snapshot() };
        let mut told = self.cursor.clone();
        told.note_appended(last.plus(1));
        for (offset, due_ms) in &self.upcoming {
            told.hold_until(*offset, *due_ms);
        }
        told.snapshot()
    }

    /// As a checkpoint has it.
    pub(super) fn encode(&self, out: &mut Vec<u8>) -> Result<()> {
        put_bytes(out, self.name.as_bytes());
        self.encode_spec(out);
        put_bytes(out, &self.snapshot()?);
        Ok(())
    }

    pub(crate) fn open_note(&self) -> Bytes {
        let mut out = vec![NOTE_OPEN];
        put_bytes(&mut out, self.name.as_bytes());
        self.encode_spec(&mut out);
        out.into()
    }

    fn encode_spec(&self, out: &mut Vec<u8>) {
        out.push(match self.drops {
            Drops::Never => 0,
            Drops::Settled => 1,
            Drops::SettledByAll => 2,
        });
        encode_spec(&self.spec, out);
    }

    fn decode_spec(reader: &mut Reader<'_>) -> Result<(WorkSpec, Drops)> {
        let drops = match reader.u8()? {
            0 => Drops::Never,
            1 => Drops::Settled,
            2 => Drops::SettledByAll,
            _ => return Err(Error::corrupt("a work cursor drops in an unknown way")),
        };
        Ok((decode_spec(reader)?, drops))
    }
}

fn config(spec: &WorkSpec) -> AckConfig {
    AckConfig {
        order: spec.order,
        max_attempts: spec.delivery_limit,
        max_leased: spec.leased_max,
        ..AckConfig::default()
    }
}

pub(crate) fn change_note(name: &str, entry: &CursorEntry) -> Bytes {
    let mut out = vec![NOTE_CHANGE];
    put_bytes(&mut out, name.as_bytes());
    out.extend_from_slice(&entry.encode());
    out.into()
}

pub(crate) fn close_note(name: &str) -> Bytes {
    let mut out = vec![NOTE_CLOSE];
    put_bytes(&mut out, name.as_bytes());
    out.into()
}

/// A cursor's filter, read. [`model::ErrorKind::Invalid`] when it does not.
pub(crate) fn patterns_of(filter: &[String]) -> Result<Box<[Pattern]>> {
    filter.iter().map(|text| Pattern::parse(text.as_bytes(), Syntax::ONE_REST)).collect()
}

pub(crate) fn filter_note(name: &str, filter: &[String]) -> Bytes {
    let mut out = vec![NOTE_FILTER];
    put_bytes(&mut out, name.as_bytes());
    put_u64(&mut out, filter.len() as u64);
    filter.iter().for_each(|pattern| put_bytes(&mut out, pattern.as_bytes()));
    out.into()
}

/// Takes a replayed note in. Answers what it settled of a queue, which has it told by its drops unless it keeps it.
pub(crate) fn replay(works: &mut Works, tag: u8, body: &[u8]) -> Result<Spans> {
    let mut kept = Spans::new();
    let mut reader = Reader::new(body);
    let name = reader.text()?;
    match tag {
        NOTE_OPEN => {
            let (spec, drops) = WorkState::decode_spec(&mut reader)?;
            reader.finish()?;
            works.insert(Box::new(WorkState::new(name.into(), spec, drops)?), None);
        }
        NOTE_CHANGE => {
            let entry = CursorEntry::decode(reader.rest())?;
            let work = works
                .get_mut(name)
                .ok_or_else(|| Error::corrupt("a change of a work cursor that is not there"))?;
            work.hold_replayed();
            work.cursor.apply(&entry)?;
            if work.drops == Drops::Settled
                && let CursorEntry::Ack(changes) = &entry
            {
                for change in changes {
                    if let AckChange::Settle(spans) = change {
                        spans.iter().for_each(|span| kept.add(span));
                    }
                }
            }
        }
        NOTE_FILTER => {
            let filter = reader.list(|reader| reader.text().map(str::to_owned))?;
            reader.finish()?;
            let patterns = patterns_of(&filter)?;
            if !works.set_filter(name, filter, patterns, None) {
                return Err(Error::corrupt("a filter of a work cursor that is not there"));
            }
        }
        _ => {
            reader.finish()?;
            works.remove(name);
        }
    }
    Ok(kept)
}

pub(crate) fn encode(works: &Works, out: &mut Vec<u8>) -> Result<()> {
    put_u64(out, works.len() as u64);
    works.put(out)
}

pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Works> {
    let mut works = Works::default();
    for _ in 0..reader.count(3)? {
        let name: Arc<str> = reader.text()?.into();
        let (spec, drops) = WorkState::decode_spec(reader)?;
        let cursor = AckCursor::restore(config(&spec), reader.slice()?)?;
        works.insert(Box::new(WorkState::with_cursor(name, spec, drops, cursor)?), None);
    }
    Ok(works)
}

fn encode_spec(spec: &WorkSpec, out: &mut Vec<u8>) {
    out.push(match spec.order {
        Order::Offset => 0,
        Order::Keyed(KeySharing::One) => 1,
        Order::Keyed(KeySharing::Grant) => 2,
        Order::Keyed(KeySharing::Holder) => 3,
        Order::Priority => 4,
        Order::Keyed(KeySharing::Fair) => 5,
    });
    put_option(out, spec.delivery_limit, |out, limit| put_u64(out, u64::from(limit)));
    put_option(out, spec.leased_max, put_u64);
    put_option(out, spec.start, |out, start| put_u64(out, start.0));
    put_u64(out, spec.filter.len() as u64);
    spec.filter.iter().for_each(|pattern| put_bytes(out, pattern.as_bytes()));
    out.push(u8::from(spec.sharing == Sharing::Single));
}

fn decode_spec(reader: &mut Reader<'_>) -> Result<WorkSpec> {
    let order = match reader.u8()? {
        0 => Order::Offset,
        1 => Order::Keyed(KeySharing::One),
        2 => Order::Keyed(KeySharing::Grant),
        3 => Order::Keyed(KeySharing::Holder),
        4 => Order::Priority,
        5 => Order::Keyed(KeySharing::Fair),
        _ => return Err(Error::corrupt("a work cursor has an unknown order")),
    };
    Ok(WorkSpec {
        order,
        delivery_limit: reader.option(Reader::u32)?,
        leased_max: reader.option(Reader::u64)?,
        start: reader.option(Reader::u64)?.map(Offset),
        filter: reader.list(|reader| reader.text().map(str::to_owned))?,
        sharing: if reader.flag()? { Sharing::Single } else { Sharing::Turns },
    })
}
