//! The cursor as anybody would write it first: one struct per record, every question answered by a scan.

use super::*;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum State {
    Settled,
    Leased(Lease),
    Delayed(i64),
    Waiting,
}

#[derive(Clone, Debug)]
pub(super) struct Rec {
    pub(super) state: State,
    attempts: u32,
    first_ms: Option<i64>,
    is_delivered: bool,
    granted_in: u64,
    /// Taken out of the offer when it was offered once too often.
    is_out: bool,
}

impl Rec {
    fn new() -> Self {
        Rec {
            state: State::Waiting,
            attempts: 0,
            first_ms: None,
            is_delivered: false,
            granted_in: 0,
            is_out: false,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Naive {
    pub(super) config: AckConfig,
    pub(super) records: Vec<Rec>,
    /// How many unsettled records a keyed order looks at.
    window: u64,
    indexed_end: u64,
    grants: u64,
}

/// The ordering key that the tests give the record at `offset`; every seventh has none.
pub(super) fn key(offset: u64) -> Option<u64> {
    (!offset.is_multiple_of(7)).then_some(offset * 31 % 5)
}

/// The priority that the tests give the record at `offset`.
pub(super) fn level(offset: u64) -> u8 {
    (offset * 13 % 4) as u8
}

fn fits(claim: Claim, lease: &Lease) -> bool {
    match claim {
        Claim::Anyone => true,
        Claim::Nobody => false,
        Claim::Holder(holder) => holder == lease.holder,
        Claim::Attempt(attempt) => attempt == lease.attempt,
    }
}

impl Naive {
    pub(super) fn new(config: AckConfig, window: u64) -> Self {
        Naive { config, records: Vec::new(), window, indexed_end: 0, grants: 0 }
    }

    pub(super) fn end(&self) -> u64 {
        self.records.len() as u64
    }

    pub(super) fn append(&mut self, count: u64) {
        self.records.extend((0..count).map(|_| Rec::new()));
    }

    fn is_settled(&self, offset: u64) -> bool {
        self.records[offset as usize].state == State::Settled
    }

    pub(super) fn floor(&self) -> u64 {
        (0..self.end()).find(|offset| !self.is_settled(*offset)).unwrap_or(self.end())
    }

    fn is_exhausted(&self, offset: u64) -> bool {
        let rec = &self.records[offset as usize];
        let is_back = matches!(rec.state, State::Waiting | State::Delayed(_));
        match self.config.exhaust {
            Exhaust::WhenReturned => is_back && rec.is_delivered && self.is_spent(rec),
            Exhaust::WhenOffered => is_back && rec.is_out,
        }
    }

    fn is_spent(&self, rec: &Rec) -> bool {
        self.config.max_attempts.is_some_and(|max| rec.attempts >= max)
    }

    pub(super) fn state(&self, offset: u64) -> RecordState {
        let Some(rec) = self.records.get(offset as usize) else { return RecordState::Beyond };
        match &rec.state {
            State::Settled => RecordState::Settled,
            State::Leased(lease) => RecordState::Leased(*lease),
            _ if self.is_exhausted(offset) => RecordState::Exhausted,
            State::Delayed(due) => RecordState::Delayed(*due),
            State::Waiting => RecordState::Ready { attempts: rec.attempts },
        }
    }

    pub(super) fn expire(&mut self, now_ms: i64) {
        for rec in &mut self.records {
            match rec.state.clone() {
                State::Leased(lease) if lease.deadline_ms.is_some_and(|due| due <= now_ms) => {
                    rec.attempts = lease.attempt;
                    rec.state = State::Waiting;
                }
                State::Delayed(due) if due <= now_ms => rec.state = State::Waiting,
                _ => {}
            }
        }
    }

    /// A restart from a snapshot at `now_ms`: leases that are not recorded are over, and so are those whose time is.
    pub(super) fn restart(&mut self, now_ms: i64) {
        for rec in &mut self.records {
            rec.is_out = false;
            if let State::Leased(lease) = &rec.state
                && !lease.is_recorded
            {
                rec.attempts = lease.attempt;
                rec.state = State::Waiting;
            }
        }
        self.expire(now_ms);
        self.indexed_end = 0;
    }

    fn tell_index(&mut self) {
        while self.indexed_end < self.end()
            && (0..self.indexed_end).filter(|offset| !self.is_settled(*offset)).count() < self.window as usize
        {
            self.indexed_end += 1;
        }
    }

    /// Who is next, by the rules of the order alone.
    fn candidate(&self, holder: HolderId) -> Option<u64> {
        let ready = |offset: &u64| matches!(self.state(*offset), RecordState::Ready { .. });
        match self.config.order {
            Order::Offset => (0..self.end()).find(ready),
            Order::Priority => (0..self.end()).filter(ready).max_by_key(|o| (level(*o), u64::MAX - o)),
            Order::Keyed(KeySharing::Fair) => {
                (0..self.indexed_end).filter(ready).min_by_key(|offset| (self.share(*offset), *offset))
            }
            Order::Keyed(sharing) => {
                (0..self.indexed_end).filter(ready).find(|offset| self.key_is_free(*offset, sharing, holder))
            }
        }
    }

    /// How much of a record's key is leased, alike within a factor of two.
    fn share(&self, offset: u64) -> u32 {
        let Some(own) = key(offset) else { return 0 };
        let is_leased = |o: &u64| matches!(self.records[*o as usize].state, State::Leased(_));
        let leased = (0..self.indexed_end).filter(|o| key(*o) == Some(own)).filter(is_leased).count();
        leased.checked_ilog2().map_or(0, |log| log + 1)
    }

    fn holder_of(&self, offset: u64) -> Option<HolderId> {
        match &self.records[offset as usize].state {
            State::Leased(lease) => Some(lease.holder),
            _ => None,
        }
    }

    fn key_is_free(&self, offset: u64, sharing: KeySharing, holder: HolderId) -> bool {
        let Some(own) = key(offset) else { return true };
        let of_key = || (0..self.indexed_end).filter(|o| key(*o) == Some(own) && !self.is_settled(*o));
        let is_leased = |o: &u64| matches!(self.records[*o as usize].state, State::Leased(_));
        let is_other = |o: u64| self.records[o as usize].granted_in != self.grants;
        let is_first = of_key().find(|o| !is_leased(o)) == Some(offset);
        let mut leased = of_key().filter(is_leased);
        is_first
            && match sharing {
                KeySharing::One => leased.next().is_none(),
                KeySharing::Grant => !leased.any(|o| o < offset && is_other(o)),
                KeySharing::Fair => true,
                KeySharing::Holder => {
                    leased.next_back().is_none_or(|last| self.holder_of(last) == Some(holder))
                }
            }
    }

    /// Whether the choice `chosen` after `last` is a right one where keys take turns: a record that may be had, of the same
    /// key as the last if there is one. What it should have been otherwise, if anything.
    fn choice(&self, holder: HolderId, chosen: Option<u64>, last: Option<u64>) -> Option<u64> {
        let may = |o: &u64| {
            matches!(self.state(*o), RecordState::Ready { .. })
                && self.key_is_free(*o, KeySharing::Grant, holder)
        };
        let own = last
            .and_then(key)
            .and_then(|last| (0..self.indexed_end).filter(may).find(|o| key(*o) == Some(last)));
        match (own, chosen) {
            (Some(own), _) => Some(own),
            (None, Some(chosen)) if chosen < self.indexed_end && may(&chosen) => Some(chosen),
            (None, _) => (0..self.indexed_end).find(may),
        }
    }

    /// The offsets granted, with attempt, whether redelivered, and first delivery. Where keys take turns, `chosen` says
    /// whose turn it was.
    pub(super) fn lease(
        &mut self,
        ask: &Ask,
        now_ms: i64,
        chosen: &[u64],
    ) -> Vec<(u64, u32, bool, Option<i64>)> {
        self.expire(now_ms);
        self.tell_index();
        self.grants += 1;
        let mut granted: Vec<(u64, u32, bool, Option<i64>)> = Vec::new();
        let is_full = |naive: &Naive| {
            let leased =
                naive.records.iter().filter(|rec| matches!(rec.state, State::Leased(_))).count() as u64;
            ask.kind != LeaseKind::Taken && naive.config.max_leased.is_some_and(|max| leased >= max)
        };
        while (granted.len() as u64) < ask.allowance.records
            && !is_full(self)
            && let Some(offset) = match self.config.order {
                Order::Keyed(KeySharing::Grant) => {
                    let last = granted.last().map(|(offset, ..)| *offset);
                    self.choice(ask.holder, chosen.get(granted.len()).copied(), last)
                }
                _ => self.candidate(ask.holder),
            }
        {
            let grants = self.grants;
            let is_spent =
                self.config.exhaust == Exhaust::WhenOffered && self.is_spent(&self.records[offset as usize]);
            let rec = &mut self.records[offset as usize];
            if is_spent {
                rec.is_out = true;
                continue;
            }
            let was_delivered = std::mem::replace(&mut rec.is_delivered, true);
            if rec.attempts == 0 && rec.first_ms.is_none() {
                rec.first_ms = Some(now_ms);
            }
            let attempt = rec.attempts + 1;
            granted.push((offset, attempt, was_delivered, rec.first_ms));
            rec.granted_in = grants;
            rec.state = match ask.kind {
                LeaseKind::Taken => State::Settled,
                kind => State::Leased(Lease {
                    holder: ask.holder,
                    deadline_ms: ask.deadline_ms,
                    attempt,
                    first_delivery_ms: rec.first_ms,
                    delivered_at_ms: now_ms,
                    is_recorded: kind == LeaseKind::Recorded,
                }),
            };
        }
        granted
    }

    pub(super) fn settle(
        &mut self,
        range: Range<u64>,
        claim: Claim,
        verdict: Verdict,
        now_ms: i64,
    ) -> Settled {
        let mut outcome = Settled::default();
        for offset in range.start..range.end.min(self.end()) {
            let rec = &mut self.records[offset as usize];
            match (rec.state.clone(), verdict) {
                (State::Settled, _) => continue,
                (State::Leased(lease), _) if fits(claim, &lease) => {
                    self.settle_leased(offset, lease, verdict, now_ms)
                }
                (_, Verdict::Settle) if claim == Claim::Anyone => rec.state = State::Settled,
                (State::Delayed(_) | State::Waiting, Verdict::Settle) if claim == Claim::Nobody => {
                    rec.state = State::Settled;
                }
                _ => {
                    outcome.stale.add_one(Offset(offset));
                    continue;
                }
            }
            outcome.done.add_one(Offset(offset));
        }
        outcome
    }

    fn settle_leased(&mut self, offset: u64, mut lease: Lease, verdict: Verdict, now_ms: i64) {
        let rec = &mut self.records[offset as usize];
        rec.state = match verdict {
            Verdict::Settle => State::Settled,
            Verdict::Release { due_ms, count } => {
                rec.attempts = match count {
                    Count::Keep => lease.attempt.saturating_sub(1),
                    Count::Add => lease.attempt,
                    Count::Set(count) => count,
                };
                if rec.attempts == 0 && count == Count::Keep {
                    rec.first_ms = None;
                }
                let is_spent = self.config.max_attempts.is_some_and(|max| rec.attempts >= max);
                let is_exhausted = self.config.exhaust == Exhaust::WhenReturned && is_spent;
                due_ms.filter(|_| !is_exhausted).map_or(State::Waiting, State::Delayed)
            }
            Verdict::Extend { deadline_ms } => State::Leased(Lease { deadline_ms, ..lease }),
            Verdict::Transfer { holder, deadline_ms, count } => {
                lease.attempt = match count {
                    Count::Keep => lease.attempt,
                    Count::Add => lease.attempt + 1,
                    Count::Set(count) => count,
                };
                State::Leased(Lease { holder, deadline_ms, delivered_at_ms: now_ms, ..lease })
            }
        };
        if let State::Leased(_) = rec.state
            && matches!(verdict, Verdict::Transfer { .. })
        {
            rec.granted_in = 0;
        }
    }

    pub(super) fn skip(&mut self, range: Range<u64>) {
        for offset in range.start..range.end.min(self.end()) {
            self.records[offset as usize].state = State::Settled;
        }
    }

    pub(super) fn seek(&mut self, to: u64) {
        for offset in 0..self.end() {
            self.records[offset as usize] = Rec::new();
            if offset < to {
                self.records[offset as usize].state = State::Settled;
            }
        }
        self.indexed_end = to;
    }

    pub(super) fn set_limits(&mut self, max_attempts: Option<u32>, max_leased: Option<u64>) {
        self.config.max_leased = max_leased;
        if self.config.max_attempts != max_attempts {
            self.records.iter_mut().for_each(|rec| rec.is_out = false);
        }
        self.config.max_attempts = max_attempts;
        for offset in 0..self.end() {
            if self.is_exhausted(offset) {
                self.records[offset as usize].state = State::Waiting;
            }
        }
    }

    pub(super) fn next_due_ms(&self) -> Option<i64> {
        let due = |rec: &Rec| match &rec.state {
            State::Leased(lease) => lease.deadline_ms,
            State::Delayed(due) => Some(*due),
            _ => None,
        };
        self.records.iter().filter_map(due).min()
    }

    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for offset in 0..self.end() {
            match self.state(offset) {
                RecordState::Leased(_) => counts.leased += 1,
                RecordState::Delayed(_) => counts.delayed += 1,
                RecordState::Exhausted => counts.exhausted += 1,
                RecordState::Ready { .. } => counts.ready += 1,
                RecordState::Settled | RecordState::Beyond => {}
            }
        }
        counts
    }
}
