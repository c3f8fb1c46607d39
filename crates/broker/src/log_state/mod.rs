//! What the broker keeps on each log, behind the log's own lock: producers, positions, epochs, waiters.
//!
//! It is rebuilt from the log's entries: data entries tell of producers and epochs, notes of the rest. A note is a tag
//! byte and its body; a tag is never used for another thing.

pub(crate) mod dedup;
pub(crate) mod expiries;
pub(crate) mod history;
pub(crate) mod positions;
pub(crate) mod producers;
pub(crate) mod room;
pub(crate) mod route_keys;
pub(crate) mod surplus;
pub(crate) mod watchers;

use std::sync::{Arc, Weak};

use cursor::{Span, Spans};
use model::{Attributes, Error, Offset, OwnerEpoch, Result};
use store::{Annex, Change, Entry, LogCore};

use self::{
    dedup::{Dedup, FIRST_LEN},
    expiries::Expiries,
    history::History,
    positions::Positions,
    producers::Producers,
    room::LogRoom,
    route_keys::RouteKeys,
    surplus::{Part, Surplus},
    watchers::Watchers,
};
use crate::{
    codec::{Reader, put_bytes, put_u64},
    settings::{Mode, StreamSettings},
    stream::{EpochStart, Partition},
    work::{
        QUEUE_WORK, drops_of,
        state::{self, WorkState},
        works::Works,
    },
};

/// The second version has a history at its end, the third expiries after that; each is written where there is one. The
/// fourth has the same, and says that there were records that expire by themselves. The fifth says whether there were, and
/// what records take beside what they count for.
const SNAPSHOT_VERSION: u8 = 1;
const SNAPSHOT_VERSION_WITH_HISTORY: u8 = 2;
const SNAPSHOT_VERSION_WITH_EXPIRIES: u8 = 3;
const SNAPSHOT_VERSION_THAT_EXPIRES: u8 = 4;
const SNAPSHOT_VERSION_WITH_SURPLUS: u8 = 5;

/// Fewest records before the end of a log at which a cursor with a filter asks the index of route keys for its next one.
const PASSED_MIN: u64 = 1_024;

/// Epoch changes remembered per log; an older start is then answered with the oldest that is known.
const EPOCHS_MAX: usize = 64;

/// Tags of notes.
pub(crate) const NOTE_POSITION: u8 = 1;
pub(crate) const NOTE_DEDUP: u8 = 5;
pub(crate) const NOTE_INDEX_KEYS: u8 = 6;
pub(crate) const NOTE_FORGET_DEDUP: u8 = 7;

/// See the module. Everything that few logs have is boxed: an idle log costs a few words.
#[derive(Default)]
pub(crate) struct LogState {
    producers: Option<Box<Producers>>,
    pub positions: Option<Box<Positions>>,
    pub epochs: Vec<EpochStart>,
    pub dedup: Option<Box<Dedup>>,
    /// There from the first record on where the stream is told to index its route keys.
    pub route_keys: Option<Box<RouteKeys>>,
    pub watchers: Watchers,
    pub works: Option<Box<Works>>,
    /// Settled records that the queue keeps.
    pub history: Option<Box<History>>,
    /// Records with a time of their own after which they go, where the settings say so.
    pub expiries: Option<Box<Expiries>>,
    /// The handle on this log; set with `settings`.
    pub partition: Weak<Partition>,
    /// When the head of a queue wants to be looked at: for its time to live, or its length.
    pub head_due_ms: Option<i64>,
    /// Whether a record was published that expires by itself: a restart then looks at the head of a queue.
    pub expires: bool,
    /// For when the log was put on the list of what is due.
    pub scheduled_ms: Option<i64>,
    /// The stream's settings; set before anything is published.
    pub settings: Option<Arc<StreamSettings>>,
    /// What records take beside what they count for, where only what is ready counts.
    pub surplus: Surplus,
    /// Where dedup keys count; set with `settings`.
    dedup_room: Option<Arc<LogRoom>>,
    /// Where producers count; set with `settings`.
    producer_room: Option<Arc<LogRoom>>,
}

impl LogState {
    pub(crate) fn producers(&self) -> Option<&Producers> {
        self.producers.as_deref()
    }

    pub(crate) fn producers_mut(&mut self) -> &mut Producers {
        self.producers.get_or_insert_with(|| {
            let mut producers = Box::<Producers>::default();
            if let Some(room) = &self.producer_room {
                producers.charge_to(room);
            }
            producers
        })
    }

    /// What the producers of the log take counts in `room` from here on.
    pub(crate) fn charge_producers_to(&mut self, room: &Arc<LogRoom>) {
        self.producer_room = Some(room.clone());
        if let Some(producers) = &mut self.producers {
            producers.charge_to(room);
        }
    }

    /// Has a cursor with a filter pass over records that are not for it, where there are many and their route keys are
    /// known, all of them: nobody reads those.
    pub(crate) fn pass_over_others(&mut self, name: &str, core: &LogCore) {
        let (Some(keys), Some(works)) = (self.route_keys.as_deref(), self.works.as_deref_mut()) else {
            return;
        };
        let Some(work) = works.get_mut(name) else { return };
        let (from, end) = (work.cursor.delivered_end().max(work.cursor.floor()), work.cursor.end());
        let is_far = end.0.saturating_sub(from.0) >= PASSED_MIN;
        if !is_far || work.filter.is_empty() || !work.cursor.is_by_offset() {
            return;
        }
        if keys.record_count() == core.records() {
            let next = keys.next_under(&work.filter, from).map_or(end, |next| next.min(end));
            work.cursor.skip(Span::new(from, next));
        }
    }

    /// Puts the stream's settings in force.
    pub(crate) fn set_settings(&mut self, settings: Arc<StreamSettings>) {
        let drops = drops_of(Some(settings.mode));
        if !settings.limits_ready {
            self.surplus = Surplus::default();
        }
        self.settings = Some(settings);
        self.works.iter_mut().for_each(|works| works.set_drops(drops));
    }

    /// Forgets producers that were idle since `before_ms`.
    pub(crate) fn expire_producers(&mut self, before_ms: i64) {
        if let Some(producers) = &mut self.producers {
            producers.expire(before_ms);
            if producers.is_empty() {
                self.producers = None;
            }
        }
    }

    pub(crate) fn work(&self, name: &str) -> Option<&WorkState> {
        self.works.as_ref()?.get(name)
    }

    pub(crate) fn work_mut(&mut self, name: &str) -> Option<&mut WorkState> {
        self.works.as_mut()?.get_mut(name)
    }

    /// A work cursor, after it took in how far the log goes.
    pub(crate) fn followed(&mut self, name: &str, core: &LogCore) -> Option<&mut WorkState> {
        self.works.as_mut()?.followed(name, core)
    }

    /// Ends the leases and delays of a work cursor whose time has come.
    pub(crate) fn end_due(&mut self, name: &str, now_ms: i64) {
        let Some(work) = self.work_mut(name) else { return };
        let ended = work.cursor.expire(now_ms);
        if ended.due_count > 0 || !ended.leases.is_empty() {
            self.came_back(now_ms);
        }
    }

    /// Records are ready again that somebody had or that waited, of which some may have expired meanwhile, or be too many
    /// now that they can be taken: the head of the queue wants to be looked at.
    pub(crate) fn came_back(&mut self, now_ms: i64) {
        if self.watches_head() {
            self.head_due_ms = self.head_due_ms.into_iter().chain([now_ms]).min();
        }
    }

    /// Whether time or length may take records off the head of the queue without a publish.
    pub(crate) fn watches_head(&self) -> bool {
        self.settings.as_deref().filter(|settings| settings.mode == Mode::Queue).is_some_and(|settings| {
            let is_limited = settings.length_max.is_some() || settings.bytes_max.is_some();
            let by_length = is_limited && (settings.has_dead_letters() || settings.limits_ready);
            self.expires || settings.ttl_ms.is_some() || by_length
        })
    }

    /// These records left the log: no cursor is to wait for them.
    pub(crate) fn skip(&mut self, core: &LogCore, span: Span) {
        self.forget(span);
        self.weigh(core);
        if let Some(works) = self.works.as_deref_mut() {
            works.left(core, span);
        }
    }

    /// As [`LogState::skip`], for everything below `to`, where the log starts now.
    pub(crate) fn skip_below(&mut self, core: &LogCore, to: Offset) {
        self.forget(Span::new(Offset::ZERO, to));
        self.weigh(core);
        if let Some(works) = self.works.as_deref_mut() {
            works.trimmed(core, to);
        }
    }

    /// Records are about to be appended: who waits for some of them is told when they can be read.
    pub(crate) fn tell_appended(&mut self, base: Offset, count: u32, attributes: &Attributes) {
        self.watchers.appended(base, count, attributes);
        if let Some(works) = self.works.as_deref_mut() {
            works.appended(base, count, attributes);
        }
    }

    /// How many settled records are kept.
    pub(crate) fn kept(&self) -> u64 {
        self.history.as_ref().map_or(0, |history| history.count())
    }

    /// How many records do not count for the length of the log: settled ones that are kept, and where the settings say so
    /// those that somebody has, or takes as soon as they are there.
    pub(crate) fn uncounted(&self) -> u64 {
        let taken = self.counted_work().map_or(0, |work| work.cursor.leased_count());
        self.kept().saturating_add(taken).saturating_add(self.promised())
    }

    /// How many of the oldest records of a queue consumers take as soon as they can, where the settings say that those do
    /// not count.
    pub(crate) fn promised(&self) -> u64 {
        let free =
            |work: &WorkState| work.subscriptions.capacity().saturating_sub(work.cursor.leased_count());
        self.counted_work().map_or(0, free)
    }

    /// The work of a queue of which only what is ready counts.
    fn counted_work(&self) -> Option<&WorkState> {
        self.work(QUEUE_WORK).filter(|_| self.counts_ready())
    }

    /// Whether only what is ready counts for the length of the log.
    pub(crate) fn counts_ready(&self) -> bool {
        self.settings.as_deref().is_some_and(|settings| settings.limits_ready)
    }

    /// Records left the log: what the others take beside what they count for is reckoned anew.
    pub(crate) fn weigh(&mut self, core: &LogCore) {
        if !self.surplus.is_empty() {
            self.surplus.now_holds(core.records(), core.bytes());
        }
    }

    /// A consumer takes less, or none any more: what it does not take counts for the length of a queue again.
    pub(crate) fn took_less(&mut self, now_ms: i64) {
        if self.counts_ready() {
            self.came_back(now_ms);
        }
    }

    /// Keeps records that were settled just now, if the queue has a history. Whether it has.
    pub(crate) fn keep(&mut self, spans: &Spans, now_ms: i64) -> bool {
        let Some(history_ms) = self.settings.as_ref().and_then(|settings| settings.history_ms) else {
            return false;
        };
        if !spans.is_empty() {
            self.history.get_or_insert_default().add(spans, now_ms, history_ms);
        }
        true
    }

    /// These records left the log.
    pub(crate) fn forget(&mut self, span: Span) {
        if let Some(history) = &mut self.history {
            history.forget(span);
            if history.is_empty() {
                self.history = None;
            }
        }
        if let Some(route_keys) = &mut self.route_keys {
            route_keys.forget(span);
        }
        if let Some(expiries) = &mut self.expiries {
            expiries.forget(span);
        }
    }

    /// Records with a time of their own were appended.
    pub(crate) fn note_due(&mut self, base: Offset, count: u32, attributes: &Attributes) {
        if may_wait(attributes)
            && let Some(works) = self.works.as_deref_mut()
        {
            works.note_due(base, count, attributes);
        }
    }

    /// What the dedup keys of the log take counts in `room` from here on.
    pub(crate) fn charge_dedup_to(&mut self, room: &Arc<LogRoom>) {
        self.dedup_room = Some(room.clone());
        if let Some(dedup) = &mut self.dedup {
            dedup.charge_to(room);
        }
    }

    /// The dedup keys, to note one.
    pub(crate) fn dedup_mut(&mut self) -> &mut Dedup {
        self.dedup.get_or_insert_with(|| {
            let mut dedup = Box::<Dedup>::default();
            if let Some(room) = &self.dedup_room {
                dedup.charge_to(room);
            }
            dedup
        })
    }

    /// Whether there is memory for one more dedup key.
    pub(crate) fn has_dedup_room(&self) -> bool {
        match (&self.dedup, &self.dedup_room) {
            (Some(dedup), _) => dedup.has_room(),
            (None, room) => room.as_ref().is_none_or(|room| room.has(FIRST_LEN)),
        }
    }

    /// Records with a time of their own were appended.
    pub(crate) fn note_expiries(&mut self, base: Offset, count: u32, attributes: &Attributes) {
        if Expiries::are_in(attributes) {
            self.expiries.get_or_insert_default().note(base, count, attributes);
        }
    }

    /// When the log wants to be looked at beside its cursors, milliseconds since the Unix epoch.
    pub(crate) fn own_due_ms(&self) -> Option<i64> {
        let expiry_ms = self.expiries.as_ref().and_then(|expiries| expiries.next_ms());
        [self.head_due_ms, expiry_ms].into_iter().flatten().min()
    }

    /// Takes out records whose own time is over, some at a time.
    pub(crate) fn take_expired(&mut self, now_ms: i64) -> Spans {
        let Some(expiries) = &mut self.expiries else { return Spans::new() };
        let due = expiries.take_due(now_ms);
        if expiries.is_empty() {
            self.expiries = None;
        }
        due
    }

    /// Forgets dedup keys that are older than the window.
    pub(crate) fn expire_dedup(&mut self, now_ms: i64) {
        let window_ms = self.settings.as_ref().map_or(0, |settings| settings.dedup_window_ms);
        if let Some(dedup) = &mut self.dedup {
            dedup.expire(now_ms.saturating_sub_unsigned(window_ms));
            if dedup.is_empty() {
                self.dedup = None;
            }
        }
    }

    /// Records were appended at `base` under `epoch`.
    pub(crate) fn note_epoch(&mut self, epoch: OwnerEpoch, base: Offset) {
        if self.epochs.last().is_some_and(|last| last.epoch >= epoch) {
            return;
        }
        if self.epochs.len() == EPOCHS_MAX {
            self.epochs.remove(0);
        }
        self.epochs.push(EpochStart { epoch, start: base });
    }

    /// Whether nothing is to be kept of it.
    fn is_idle(&self) -> bool {
        let LogState { epochs, producers, positions, works, dedup, route_keys, history, expiries, .. } = self;
        if self.expires || !self.surplus.is_empty() {
            return false;
        }
        let has_none = producers.is_none() && positions.is_none() && works.is_none();
        let keeps_none = history.is_none() && dedup.is_none() && route_keys.is_none() && expiries.is_none();
        epochs.is_empty() && has_none && keeps_none
    }

    fn replay_note(&mut self, note: &[u8]) -> Result<()> {
        let (tag, body) = note.split_first().ok_or_else(|| Error::corrupt("a note of a log is empty"))?;
        match *tag {
            NOTE_POSITION => self.positions.get_or_insert_default().replay(body),
            NOTE_DEDUP => self.dedup.get_or_insert_default().replay(body),
            NOTE_FORGET_DEDUP => {
                self.dedup = None;
                Ok(())
            }
            NOTE_INDEX_KEYS => {
                self.route_keys.get_or_insert_default();
                Ok(())
            }
            state::NOTE_OPEN | state::NOTE_CHANGE | state::NOTE_CLOSE | state::NOTE_FILTER => {
                let kept = state::replay(self.works.get_or_insert_default(), *tag, body)?;
                if !kept.is_empty() {
                    self.history.get_or_insert_default().add_replayed(&kept);
                }
                Ok(())
            }
            other => Err(Error::corrupt(format!("a log has a note of the unknown kind {other}"))),
        }
    }
}

impl store::Attached for LogState {
    fn replay(&mut self, core: &LogCore, entry: &Entry) -> Result<()> {
        match &entry.change {
            Change::Data { batch, .. } => {
                self.note_epoch(entry.epoch, batch.base);
                if let Some(stamp) = batch.producer {
                    self.producers_mut().note(stamp, batch.count, batch.base, batch.append_time_ms);
                }
                if let Some(route_keys) = &mut self.route_keys {
                    // What is in memory only is not logged.
                    route_keys.note(batch.base, batch.count, &batch.attributes, false);
                }
                self.surplus.replay(batch);
                self.note_due(batch.base, batch.count, &batch.attributes);
                self.note_expiries(batch.base, batch.count, &batch.attributes);
                self.expires |= Expiries::are_in(&batch.attributes);
                Ok(())
            }
            Change::Note(note) => self.replay_note(note),
            Change::Drop(ranges) => {
                ranges.iter().for_each(|range| self.skip(core, Span::new(range.start, range.end)));
                Ok(())
            }
            Change::Trim(to) => {
                self.skip_below(core, *to);
                Ok(())
            }
            Change::Create { .. } | Change::Delete | Change::Advance(_) | Change::Reserve(_) => Ok(()),
        }
    }

    fn prepare(&mut self) -> bool {
        let Some(works) = self.works.as_deref_mut() else { return true };
        works.prepare().unwrap_or_else(|error| {
            tracing::error!(%error, "a work cursor did not serialise");
            true
        })
    }

    /// ```text
    /// version | epochs: count (epoch, start)* | then, each a length and as
    /// many bytes: producers | positions | works | dedup keys | route keys;
    /// from version 2 on | history, and from version 3 on | expiries; from
    /// version 5 on | whether records expire | records and bytes of the surplus
    /// ```
    fn snapshot(&mut self, out: &mut Vec<u8>, annex: &mut dyn FnMut(&Arc<Annex>) -> u64) {
        if self.is_idle() {
            return;
        }
        let version = match (&self.history, &self.expiries) {
            _ if self.surplus.kept().records > 0 => SNAPSHOT_VERSION_WITH_SURPLUS,
            _ if self.expires => SNAPSHOT_VERSION_THAT_EXPIRES,
            (_, Some(_)) => SNAPSHOT_VERSION_WITH_EXPIRIES,
            (Some(_), None) => SNAPSHOT_VERSION_WITH_HISTORY,
            (None, None) => SNAPSHOT_VERSION,
        };
        out.push(version);
        put_u64(out, self.epochs.len() as u64);
        for start in &self.epochs {
            put_u64(out, u64::from(start.epoch.0));
            put_u64(out, start.start.0);
        }
        put_part(out, self.producers.as_deref(), Producers::encode);
        put_part(out, self.positions.as_deref(), Positions::encode);
        put_part(out, self.works.as_deref(), |works, part| {
            if let Err(error) = state::encode(works, part) {
                // Bitmaps serialise into memory without fail; were it otherwise, a start would refuse what is cut short.
                tracing::error!(%error, "a work cursor did not serialise");
            }
        });
        if let Some(works) = self.works.as_deref_mut() {
            works.forget_prepared();
        }
        put_part(out, self.dedup.as_deref(), |dedup, part| dedup.encode(part, annex));
        put_part(out, self.route_keys.as_deref(), RouteKeys::encode);
        if version >= SNAPSHOT_VERSION_WITH_HISTORY {
            put_part(out, self.history.as_deref(), History::encode);
        }
        if version >= SNAPSHOT_VERSION_WITH_EXPIRIES {
            put_part(out, self.expiries.as_deref(), Expiries::encode);
        }
        if version >= SNAPSHOT_VERSION_WITH_SURPLUS {
            let kept = self.surplus.kept();
            out.push(u8::from(self.expires));
            put_u64(out, kept.records);
            put_u64(out, kept.bytes);
        }
    }

    fn restore(&mut self, bytes: &[u8], annex: &dyn Fn(u64) -> Result<Arc<Annex>>) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut reader = Reader::new(bytes);
        let version = reader.u8()?;
        match version {
            SNAPSHOT_VERSION..=SNAPSHOT_VERSION_WITH_SURPLUS => {}
            // Not damage: that would have been found by its checksum.
            other => {
                return Err(Error::invalid(format!(
                    "a log's state is of version {other}; this program reads versions up to \
                     {SNAPSHOT_VERSION_WITH_SURPLUS}: use the newer program"
                )));
            }
        }
        let epoch = |reader: &mut Reader<'_>| {
            Ok(EpochStart { epoch: OwnerEpoch(reader.u32()?), start: Offset(reader.u64()?) })
        };
        self.epochs = reader.list(epoch)?;
        self.producers = part(reader.slice()?, Producers::decode)?;
        self.positions = part(reader.slice()?, Positions::decode)?;
        self.works = part(reader.slice()?, state::decode)?;
        self.dedup = part(reader.slice()?, |part| Dedup::decode(part, annex))?;
        self.route_keys = part(reader.slice()?, RouteKeys::decode)?;
        self.expires = version >= SNAPSHOT_VERSION_THAT_EXPIRES;
        if version >= SNAPSHOT_VERSION_WITH_HISTORY {
            self.history = part(reader.slice()?, History::decode)?;
        }
        if version >= SNAPSHOT_VERSION_WITH_EXPIRIES {
            self.expiries = part(reader.slice()?, Expiries::decode)?;
        }
        if version >= SNAPSHOT_VERSION_WITH_SURPLUS {
            self.expires = reader.flag()?;
            self.surplus = Surplus::restored(Part { records: reader.u64()?, bytes: reader.u64()? });
        }
        reader.finish()
    }

    fn moved(&mut self, core: &LogCore) {
        self.watchers.moved(core);
        if let Some(works) = self.works.as_deref_mut() {
            works.moved(core);
        }
    }
}

/// The first time at which a record of a batch expires by itself, milliseconds since the Unix epoch.
pub(crate) fn first_expiry_ms(attributes: &Attributes) -> Option<i64> {
    attributes.rows().iter().filter_map(|row| row.expiry_ms).min()
}

/// Whether a record of a batch has a time before which it is not delivered.
pub(crate) fn may_wait(attributes: &Attributes) -> bool {
    attributes.rows().iter().any(|row| row.deliver_at_ms.is_some())
}

/// Writes a part with its length, or an empty one.
fn put_part<T>(out: &mut Vec<u8>, part: Option<&T>, encode: impl FnOnce(&T, &mut Vec<u8>)) {
    let mut bytes = Vec::new();
    if let Some(part) = part {
        encode(part, &mut bytes);
    }
    put_bytes(out, &bytes);
}

/// A part that is there or empty.
fn part<T>(bytes: &[u8], decode: impl FnOnce(&mut Reader<'_>) -> Result<T>) -> Result<Option<Box<T>>> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let mut reader = Reader::new(bytes);
    let value = decode(&mut reader)?;
    reader.finish()?;
    Ok(Some(Box::new(value)))
}
