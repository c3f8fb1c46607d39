//! Granting records: from memory in one short critical section, reading ahead where it must.

use std::{future::poll_fn, sync::Arc, task::Poll};

use cursor::{Ask, Changes, LeaseKind, Look, Oversize, Stop};
use model::{ErrorKind, Offset, Result, Seq};
use store::{Class, LockedLog};

use super::{
    Allowance, Delivery, Exhaust, LeaseAsk, LeaseTime, Leased, Order, Span, Spans, Work, gone,
    moving::{MOVED_MAX, Why, first_of, split},
    state::{self, WorkState},
    telling::{has_levels, hold_back, hold_from, index, is_fair, let_go, need, tell_ahead},
    window::{Heads, Need, Window, Windows},
};
use crate::{
    faults::Fault,
    log_state::LogState,
    read::{Chunk, ReadLimits},
    settings::StreamSettings,
    stream::closed,
};

/// What a lease takes in the queue, bytes, unless its records lie scattered.
const LEASE_LEN: usize = 256;

/// Bytes that a cursor reads ahead at a time, at least and at most.
const WINDOW_LEN_MIN: usize = 64 << 10;
const WINDOW_LEN_MAX: usize = 1 << 20;

/// Records, rounded up to whole batches, that an order by keys is told of at a time: it wants more whenever nothing is
/// ready, and keeps what it has no room for.
const AHEAD_RECORDS: u64 = 4_096;

/// Bytes that are read at least for a record which an order by keys chose. It may choose any within its window: only a
/// reader that goes on where it ended reads more, twice as much each time.
const CHOSEN_LEN_MIN: usize = 4 << 10;

/// Reads that one lease may take to find a record: a cursor whose filter matches little comes back for more. Not counted is
/// what the order has to be told before it grants anything, and what is past its time: nothing else can be given first.
const READS_MAX: u32 = 64;

/// Reads that a lease makes to look for records of other keys, before it gives more of one that has its share.
const LOOK_AHEAD_MAX: u32 = 2;

/// Reads from memory that a lease makes to go on when it has some records and may have more.
const MORE_MAX: u32 = 4;

/// A read for a cursor.
#[derive(Clone, Copy)]
struct Fetch {
    from: Offset,
    limits: ReadLimits,
    need: Need,
    ttl_ms: Option<u64>,
    /// It is for the order alone to be told.
    is_ahead: bool,
}

/// What one attempt came to: what it gave, and what has to be done before there can be more.
struct Step {
    leased: Leased,
    wants: Option<Want>,
}

/// How one attempt stands to those before it.
#[derive(Clone, Copy)]
struct StepOf {
    /// It goes on where the last one stopped.
    goes_on: bool,
    /// It may stop to look for records of other keys.
    looks_ahead: bool,
}

/// What has to be done before records can be given.
enum Want {
    /// The records from here on have to be read.
    Read(Offset),
    /// The order has to be told of the records from here on.
    Index(Offset),
    /// These are past their time to live; the window has them.
    Expire(Spans, Arc<Window>),
    /// These were delivered as often as allowed.
    Move(Spans),
}

/// The rounds of one lease.
#[derive(Default)]
struct Rounds {
    /// Those that count.
    count: u32,
    /// Where the order was told of records last, and where some were found that are past their time.
    told: Option<Offset>,
    expired: Option<Offset>,
    /// The last one took some away that were past their time.
    was_expiry: bool,
}

impl Rounds {
    /// One more, which is to do this. Whether it counts: what goes on further along the log does not.
    fn add(&mut self, want: Option<&Want>) -> bool {
        let was_expiry = std::mem::take(&mut self.was_expiry);
        let goes_on = match want {
            Some(Want::Index(from)) => self.told.replace(*from) != Some(*from),
            Some(Want::Expire(spans, _)) => {
                let first = first_of(spans);
                self.was_expiry = std::mem::replace(&mut self.expired, first) != first;
                self.was_expiry
            }
            Some(Want::Read(_)) => was_expiry,
            Some(Want::Move(_)) | None => false,
        };
        self.count += u32::from(!goes_on);
        !goes_on
    }
}

/// Lets other tasks of the executor go on.
async fn yield_once() {
    let mut has_yielded = false;
    poll_fn(|ctx| {
        if std::mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        ctx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl Work {
    /// Leases what is ready, as far as the ask allows; nothing when nothing is (arm a watch with [`Work::wait`]). Reads
    /// from the disk where it must, and then may give less than there is. Answers at once: where the lease has to be
    /// durable first, wait for [`Leased::wait`].
    ///
    /// [`model::ErrorKind::Closed`] once stream or cursor are deleted.
    pub async fn lease(&self, ask: LeaseAsk) -> Result<Leased> {
        let len =
            usize::try_from(ask.allowance.bytes).unwrap_or(usize::MAX).clamp(WINDOW_LEN_MIN, WINDOW_LEN_MAX);
        let ask =
            if self.broker.options().faults.has(Fault::AllowanceExceeded) { one_more(ask) } else { ask };
        let mut all = Leased::default();
        let (mut more_count, mut look_count) = (0, 0);
        let mut rounds = Rounds::default();
        while rounds.count < READS_MAX {
            let state = StepOf { goes_on: all.records > 0, looks_ahead: look_count < LOOK_AHEAD_MAX };
            let rest = rest_of(&ask, &all);
            let Step { leased, wants } = self.broker.drain(|| self.step(&rest, state)).await?;
            all.add(leased);
            let is_done = all.records >= ask.allowance.records;
            // With records in hand it does not linger: their time is running.
            if all.records > 0 {
                rounds.count += 1;
            } else if !rounds.add(wants.as_ref()) {
                yield_once().await;
            }
            match wants {
                Some(Want::Move(spans)) => all.wait = all.wait.max(self.move_spent(spans).await?),
                Some(Want::Expire(spans, window)) => self.expire(spans, window).await?,
                Some(want @ (Want::Read(_) | Want::Index(_))) if all.records > 0 => {
                    more_count += 1;
                    if is_done || more_count > MORE_MAX || !self.take_from_memory(self.fetch(&want, len))? {
                        return Ok(all);
                    }
                }
                Some(want @ (Want::Read(_) | Want::Index(_))) => {
                    look_count += u32::from(matches!(want, Want::Index(_)));
                    self.read_and_take(self.fetch(&want, len)).await?;
                }
                None => return Ok(all),
            }
            if is_done {
                return Ok(all);
            }
        }
        Ok(all)
    }

    /// Reads records from `from` on. What others settled since the caller looked is gone, and the log may start behind
    /// it by now: then the window has nothing of it.
    pub(super) async fn read_window(&self, from: Offset, len: usize) -> Result<Arc<Window>> {
        self.read(self.fetch(&Want::Read(from), len).within(ReadLimits::bytes(len))).await
    }

    async fn read(&self, fetch: Fetch) -> Result<Arc<Window>> {
        let mut start = fetch.from;
        let chunk = loop {
            match self.broker.read(&self.partition, start, fetch.limits).await {
                Ok(chunk) => break chunk,
                Err(error)
                    if error.kind() == ErrorKind::NotFound && start < self.partition.bounds().start =>
                {
                    start = self.partition.bounds().start;
                }
                Err(error) => return Err(error),
            }
        };
        fetch.window(self, chunk)
    }

    /// How what is wanted is read: `len` bytes for records that are handed out one after another.
    fn fetch(&self, want: &Want, len: usize) -> Fetch {
        let (from, is_index) = match want {
            Want::Index(from) => (*from, true),
            Want::Read(from) => (*from, false),
            Want::Expire(..) | Want::Move(_) => (Offset::ZERO, false),
        };
        self.partition.log().with(|_, state| {
            let ttl_ms = state.settings.as_ref().and_then(|settings| settings.ttl_ms);
            let mut fetch =
                Fetch { from, limits: ReadLimits::bytes(len), need: Need::Stored, ttl_ms, is_ahead: false };
            let Some(work) = state.work_mut(&self.name) else { return fetch };
            fetch.need = need(work);
            match (work.spec().order, is_index) {
                (Order::Keyed(_), true) => {
                    fetch.limits = ReadLimits { records: AHEAD_RECORDS, ..ReadLimits::default() };
                    // Keys that share are those that were published as such: nobody's bytes are searched for them.
                    fetch.need = if is_fair(work) { fetch.need } else { Need::Attributes };
                    fetch.is_ahead = true;
                }
                (Order::Keyed(_), false) if !work.cursor.is_by_offset() => {
                    let goes_on = work.window.as_ref().is_some_and(|window| window.is_followed_by(from));
                    let more = if goes_on { work.read_len.saturating_mul(2) } else { 0 };
                    work.read_len = more.max(CHOSEN_LEN_MIN).min(len);
                    fetch.limits.bytes = work.read_len;
                }
                (_, true) => fetch.limits.bytes = WINDOW_LEN_MAX,
                (_, false) => {}
            }
            fetch
        })
    }

    /// Goes on with the records that are wanted, wherever they are.
    async fn read_and_take(&self, fetch: Fetch) -> Result<()> {
        match self.read(fetch).await {
            Ok(window) => self.take_window(window, fetch.is_ahead),
            // They left the log meanwhile: the next look passes over them.
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Goes on with the records that are wanted if they are in memory. Whether they were.
    fn take_from_memory(&self, fetch: Fetch) -> Result<bool> {
        let chunk = match self.broker.try_read(&self.partition, fetch.from, fetch.limits) {
            Ok(Some(chunk)) => chunk,
            Ok(None) => return Ok(false),
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(e),
        };
        self.take_window(fetch.window(self, chunk)?, fetch.is_ahead)?;
        Ok(true)
    }

    fn step(&self, ask: &LeaseAsk, of: StepOf) -> Result<Step> {
        let limit = self.limit();
        let store = self.broker.store();
        let permit = store.reserve(LEASE_LEN, Class::Drain)?;
        let mut locked = store.lock(&[self.partition.log()]);
        let now_ms = locked.now_ms();
        let mut log = locked.log(self.partition.log_id())?;
        let step = self.step_locked(&mut log, ask, of, limit, now_ms);
        let applied = log.core().applied();
        let wait = store.commit(permit, locked);
        self.broker.schedule(&self.partition);
        let mut step = step?;
        if step.leased.records > 0 {
            // A lease without an entry of its own still rests on what is staged of the log.
            self.broker.inner.counters.leased_records.add(step.leased.records);
            step.leased.wait = if wait == Seq(0) { applied } else { wait };
        }
        Ok(step)
    }

    fn step_locked(
        &self,
        log: &mut LockedLog<'_, LogState>,
        ask: &LeaseAsk,
        of: StepOf,
        limit: Option<Option<u32>>,
        now_ms: i64,
    ) -> Result<Step> {
        let (core, state) = log.parts();
        if core.is_deleted() {
            return Err(closed());
        }
        let settings = state.settings.clone().unwrap_or_default();
        let work = state.followed(&self.name, core).ok_or_else(gone)?;
        work.asked_ms = now_ms;
        work.note_delay(settings.delay_ms);
        state.pass_over_others(&self.name, core);
        // Before it is asked what has expired: what somebody had until now may be among it.
        state.end_due(&self.name, now_ms);
        let work = state.work_mut(&self.name).ok_or_else(gone)?;
        if let Some(limit) = limit {
            work.cursor.set_attempts(limit, Exhaust::WhenOffered);
        }
        let (window, ahead) = (work.window.clone(), work.ahead.clone());
        if let Some(ahead) = &ahead {
            tell_ahead(work, ahead, settings.delay_ms, now_ms)?;
        }
        let windows = Windows([window.as_deref(), ahead.as_deref()]);
        let mut changes = state::changes();
        let lets_late = self.broker.options().faults.has(Fault::ExpiredStays);
        let (leased, stop) = grant(work, windows, &settings, (ask, of), (now_ms, lets_late), &mut changes);
        let spent = if limit.is_some() { work.cursor.exhausted(MOVED_MAX) } else { Spans::new() };
        let wants = match stop {
            _ if !spent.is_empty() => Some(Want::Move(spent)),
            // What the window covers and does not give is held back by a uniform delay, or past its time.
            Stop::Unread(offset) if windows.at(offset).is_some() => {
                let mut all = [&window, &ahead].into_iter().flatten().filter(|_| !lets_late);
                all.find_map(|one| expire(work, one, offset, (settings.ttl_ms, now_ms)))
            }
            Stop::Unread(offset) => Some(Want::Read(offset)),
            Stop::Index => work.cursor.wants().map(|span| Want::Index(span.start)),
            _ => None,
        };
        if matches!(stop, Stop::Allowance | Stop::Bytes) {
            // There is more, also where this step gave nothing because those before it had used up what was asked for.
            work.tell_next();
        } else if leased.records == 0 && wants.is_none() {
            work.found_nothing();
        }
        // What is next in turn now may be past its time, and nobody may ask for it.
        let next_is_late = leased.records > 0
            && !lets_late
            && windows.0.iter().flatten().any(|window| window.has_late(now_ms))
            && is_late_at(work, windows, core.stable_end(), (settings.ttl_ms, now_ms));
        if next_is_late {
            state.came_back(now_ms);
        }
        self.log_grant(log, ask.kind, &leased, changes, now_ms);
        Ok(Step { leased, wants })
    }

    /// Notes what was granted, and takes out of the log what that settles.
    fn log_grant(
        &self,
        log: &mut LockedLog<'_, LogState>,
        kind: LeaseKind,
        leased: &Leased,
        changes: Changes,
        now_ms: i64,
    ) {
        let state = log.attached();
        let Some(work) = state.work(&self.name) else { return };
        // Where route keys are known, a record does not wait for cursors that it is not for.
        let passes_over =
            work.drops == state::Drops::SettledByAll && !work.filter.is_empty() && state.route_keys.is_none();
        let drops_settled = work.drops == state::Drops::Settled;
        if kind == LeaseKind::Taken {
            let taken = spans_of(leased);
            if !(drops_settled && log.attached().keep(&taken, now_ms)) {
                super::settling::drop_settled(log, &self.name, &taken);
            }
        }
        if let Some(entry) = changes.into_entry()
            && !self.broker.options().faults.has(Fault::LeaseNotLogged)
        {
            log.note(state::change_note(&self.name, &entry));
        }
        if passes_over {
            super::settling::reap_interest(log);
        }
    }

    /// Works on with these records: tells the cursor what its order has to know of them, and which have to wait.
    fn take_window(&self, window: Arc<Window>, is_ahead: bool) -> Result<()> {
        let now_ms = self.broker.env().clock.wall_ms();
        let delay_ms =
            self.partition.log().with(|_, state| state.settings.as_ref().map_or(0, |set| set.delay_ms));
        self.with(|_, work| {
            hold_back(work, &window, now_ms);
            if let Some(last) = window.last_keyed().filter(|_| is_fair(work)) {
                work.cursor.note_keyed(last);
            }
            if !work.cursor.is_by_offset() {
                window.gaps().into_iter().for_each(|gap| work.cursor.skip(gap));
            }
            if is_ahead {
                // Told with the next look, as far as there is room.
                work.ahead = Some(window);
                return Ok(());
            }
            if has_levels(work) {
                hold_from(work, &window, window.from(), delay_ms, now_ms);
                index(work, &window, window.from(), u64::MAX)?;
            }
            work.window = Some(window);
            Ok(())
        })?
    }

    /// Moves what was delivered as often as allowed to where its stream says.
    async fn move_spent(&self, spans: Spans) -> Result<Seq> {
        let (mut rest, mut wait) = (spans, Seq(0));
        while let Some(first) = first_of(&rest) {
            let window = match self.read_window(first, WINDOW_LEN_MAX).await {
                Err(e) if e.kind() == ErrorKind::NotFound => break,
                window => window?,
            };
            let (now, later) = split(&rest, &window);
            if now.is_empty() {
                break;
            }
            let carried = self.broker.drain_moves(|| self.carry_some(&now, &window, Why::Exhausted)).await?;
            wait = wait.max(carried.wait);
            rest = carried.left.iter().chain(later.iter()).collect();
        }
        // The worker that does what time brings may have been quicker: what it did is waited for too.
        Ok(wait.max(self.partition.log().with(|core, _| core.applied())))
    }
}

/// The ask for one record more than was asked for: a mistake.
fn one_more(ask: LeaseAsk) -> LeaseAsk {
    let records = ask.allowance.records.saturating_add(1);
    LeaseAsk { allowance: Allowance { records, ..ask.allowance }, ..ask }
}

/// What has expired from `offset` on, which is next in turn, if the window has it and it has.
fn expire(work: &WorkState, window: &Arc<Window>, offset: Offset, times: (Option<u64>, i64)) -> Option<Want> {
    let level = window.covers(offset).then(|| window.late_level(offset, has_levels(work), times))??;
    let expired = window.expired(work, offset, &mut Heads::of(level), times);
    (!expired.is_empty()).then(|| Want::Expire(expired, window.clone()))
}

/// Whether the first record that nobody has is past its time, as far as it is at hand.
fn is_late_at(work: &WorkState, windows: Windows<'_>, end: Offset, times: (Option<u64>, i64)) -> bool {
    let first = first_of(&work.cursor.unleased_below(end, 1));
    first.is_some_and(|first| {
        windows.at(first).is_some_and(|window| window.late_level(first, false, times).is_some())
    })
}

/// What is left of an ask after so much was leased.
fn rest_of(ask: &LeaseAsk, leased: &Leased) -> LeaseAsk {
    let Allowance { records, bytes, oversize } = ask.allowance;
    let allowance = Allowance {
        records: records.saturating_sub(leased.records),
        bytes: bytes.saturating_sub(leased.bytes),
        oversize: if leased.records > 0 { Oversize::Never } else { oversize },
    };
    LeaseAsk { allowance, ..*ask }
}

impl Leased {
    fn add(&mut self, more: Leased) {
        self.deliveries.extend(more.deliveries);
        self.records += more.records;
        self.bytes = self.bytes.saturating_add(more.bytes);
        self.wait = self.wait.max(more.wait);
        self.is_full = more.is_full;
    }
}

impl Fetch {
    fn within(self, limits: ReadLimits) -> Self {
        Fetch { limits, ..self }
    }

    fn window(self, work: &Work, chunk: Chunk) -> Result<Arc<Window>> {
        Window::new(&work.broker, self.from, chunk, self.need, self.ttl_ms).map(Arc::new)
    }
}

fn spans_of(leased: &Leased) -> Spans {
    leased.deliveries.iter().flat_map(|delivery| delivery.runs.iter().map(|run| run.span)).collect()
}

/// Lets the cursor grant, and puts batches to what it granted.
fn grant(
    work: &mut WorkState,
    windows: Windows<'_>,
    settings: &StreamSettings,
    (ask, of): (&LeaseAsk, StepOf),
    (now_ms, lets_late): (i64, bool),
    changes: &mut Changes,
) -> (Leased, Stop) {
    let lease_ms = match ask.time {
        LeaseTime::Setting => settings.lease_ms,
        LeaseTime::Ms(lease_ms) => Some(lease_ms),
        LeaseTime::UntilSettled => None,
    };
    let asked = Ask {
        holder: ask.holder,
        allowance: ask.allowance,
        kind: ask.kind,
        deadline_ms: lease_ms.map(|lease_ms| now_ms.saturating_add_unsigned(lease_ms)),
        goes_on: of.goes_on,
        looks_ahead: of.looks_ahead,
    };
    let filter = std::mem::take(&mut work.filter);
    let wants = |key: Option<&[u8]>| {
        filter.is_empty() || key.is_some_and(|key| filter.iter().any(|pattern| pattern.matches(key)))
    };
    let mut held_until = let_go(work, settings.delay_ms, now_ms);
    let is_by_offset = work.cursor.is_by_offset();
    let delay_ms = if is_by_offset { settings.delay_ms } else { 0 };
    let ttl_ms = settings.ttl_ms;
    let is_late = |window: &Window, offset: Offset| {
        !lets_late && window.has_late(now_ms) && window.late_level(offset, false, (ttl_ms, now_ms)).is_some()
    };
    let mut look = |offset: Offset| match windows.at(offset) {
        Some(window) if is_late(window, offset) => Look::Unread,
        Some(window) => window.look_in_time(offset, &wants, delay_ms, now_ms, &mut held_until),
        None => Look::Unread,
    };
    let mut throwaway = Changes::new();
    // What a queue settles is told by its drops.
    let is_told_by_drops = work.drops == state::Drops::Settled && settings.history_ms.is_none();
    let own = if ask.kind == cursor::LeaseKind::Taken && is_told_by_drops { &mut throwaway } else { changes };
    let granted = work.cursor.lease(&asked, now_ms, &mut look, own);
    work.filter = filter;
    work.held_until_ms = held_until;
    let mut leased = Leased {
        records: granted.records,
        bytes: granted.bytes,
        is_full: granted.stop == Stop::Full,
        ..Leased::default()
    };
    for run in granted.runs {
        add_run(&mut leased.deliveries, windows, run);
    }
    (leased, granted.stop)
}

/// Splits a run of records by the batches they are in.
fn add_run(deliveries: &mut Vec<Delivery>, windows: Windows<'_>, run: cursor::GrantRun) {
    let mut at = run.span.start;
    while at < run.span.end {
        let Some((batch, _, _)) = windows.at(at).and_then(|window| window.batch_at(at)) else {
            at = at.plus(1);
            continue;
        };
        let end = batch.end().min(run.span.end);
        let is_redelivered = run.is_redelivered && !run.is_first;
        let piece = cursor::GrantRun { span: Span::new(at, end), is_redelivered, ..run };
        match deliveries.last_mut() {
            Some(last) if last.batch.base == batch.base => last.runs.push(piece),
            _ => deliveries.push(Delivery { batch: batch.clone(), runs: vec![piece] }),
        }
        at = end;
    }
}
