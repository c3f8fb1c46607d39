//! Serving pull requests, in turn.

use std::time::Duration;

use broker::{Claim, Count, Settlement, Spans, Verdict};
use tokio::time::Instant;

use super::{Courier, Pace, earliest, instant_of};
use crate::{
    core::fanout::Fanout,
    jetstream::consumer::{
        State,
        config::ConsumerConfig,
        groups::PriorityPolicy,
        pull::{Pull, status, tell},
        source::{Item, Source, Wanted},
    },
};

/// When requests that may not be served yet are looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

impl Courier {
    pub(super) async fn pull(&mut self, config: &ConsumerConfig) -> Pace {
        let now = Instant::now();
        self.beat_requests(now);
        let (is_asked, wanted, times) = self.choose(config, now);
        let lapses = self.lapses(config, is_asked, now);
        if lapses.is_some_and(|at| at <= now) {
            self.consumer.end();
            return Pace::End;
        }
        let until = earliest([times, lapses]);
        let Some(wanted) = wanted else {
            // Whether one may be served changes with what is pending.
            let look = is_asked && config.priority_policy == PriorityPolicy::Overflow;
            return Pace::Wait(earliest([until, look.then(|| now + LOOK_AGAIN)]));
        };
        if let Some(at_ms) = config.paused_until_ms(self.consumer.broker.env().clock.wall_ms()) {
            return Pace::Wait(earliest([until, Some(instant_of(&self.consumer, at_ms))]));
        }
        let fetched = match self.fetch(config, wanted).await {
            Ok(fetched) => fetched,
            Err(pace) => return pace,
        };
        if fetched.items.is_empty() && fetched.has_more {
            return Pace::Again;
        }
        if fetched.items.is_empty() {
            if !fetched.is_full {
                let mut state = self.consumer.state.lock();
                state.end_those_that_do_not_wait(&mut self.out);
            }
            self.arm();
            return Pace::Wait(until);
        }
        {
            let env = self.consumer.broker.env();
            let new_id = || format!("{:022X}", env.random.u128() >> 40);
            self.consumer.state.lock().pin_front(now, env.clock.wall_ms(), new_id);
        }
        for item in &fetched.items {
            self.keep_pace(config, item).await;
            self.send_to_front(config, item).await;
        }
        self.consumer.state.lock().turn();
        Pace::Again
    }

    /// Ends what is over and chooses the request to serve. Whether any waits, what the chosen one wants, and when to look
    /// again.
    fn choose(&mut self, config: &ConsumerConfig, now: Instant) -> (bool, Option<Wanted>, Option<Instant>) {
        let consumer = self.consumer.clone();
        let counts = match config.priority_policy {
            PriorityPolicy::Overflow => (consumer.pending(), consumer.progress().outstanding),
            PriorityPolicy::None | PriorityPolicy::PinnedClient => (0, 0),
        };
        let mut state = consumer.state.lock();
        state.end_requests(&mut self.out, now);
        let is_asked = !state.requests.is_empty();
        let is_chosen = state.choose(&mut self.out, now, counts);
        let wanted = if is_chosen { state.front_wants() } else { None };
        (is_asked, wanted, earliest([state.times(), state.pin_ends()]))
    }

    /// Sends a message to the request whose turn it is; to the next one if it is too long for that.
    async fn send_to_front(&mut self, config: &ConsumerConfig, item: &Item) {
        loop {
            let front = self.consumer.state.lock().requests.front().cloned();
            // Those that asked are gone: it is as if it had not been sent.
            let Some(front) = front else { return self.take_back(item).await };
            // As the original counts: with the subject to acknowledge to.
            let len = item.len() + self.ack_len(item);
            let is_too_long = front.bytes_left.is_some_and(|left| len as u64 > left);
            if is_too_long {
                front.tell_end(&mut self.out, "409 Message Size Exceeds MaxBytes");
                self.consumer.state.lock().requests.pop_front();
                continue;
            }
            let len = self.send(config, &front.reply, item) as u64;
            self.consumer.state.lock().note_served(&mut self.out, len);
            return;
        }
    }

    fn ack_len(&self, item: &Item) -> usize {
        let state = self.consumer.state.lock();
        let digits = |value: u64| value.checked_ilog10().unwrap_or(0) as usize + 1;
        let numbers = [u64::from(item.attempt), item.offset.0 + 1, state.sent + 1, state.pending.count];
        let fixed = "$JS.ACK.".len() + self.consumer.stream.len() + self.consumer.name.len() + 6 + 19;
        fixed + numbers.into_iter().map(digits).sum::<usize>()
    }

    async fn take_back(&mut self, item: &Item) {
        let Source::Leased { work, .. } = &self.source else { return };
        let settlement = Settlement {
            work: work.clone(),
            spans: Spans::from(item.offset),
            claim: Claim::Attempt(item.attempt),
            verdict: Verdict::Release { delay_ms: 0, count: Count::Keep },
        };
        if let Err(error) = self.consumer.broker.settle(vec![settlement]).await {
            tracing::debug!(%error, "a message could not be taken back");
        }
    }

    /// Tells requests that wait that the consumer is there.
    fn beat_requests(&mut self, now: Instant) {
        let mut due = Vec::new();
        for request in &mut self.consumer.state.lock().requests {
            if let Some((every, at)) = &mut request.heartbeat
                && *at <= now
            {
                *at = now + *every;
                due.push(request.reply.clone());
            }
        }
        due.iter().for_each(|reply| self.beat(reply));
    }
}

impl State {
    /// Takes out requests that are over, or that nobody waits for any more.
    fn end_requests(&mut self, out: &mut Fanout, now: Instant) {
        self.requests.retain(|request| {
            if request.ends.is_some_and(|ends| ends <= now) {
                request.tell_end(out, "408 Request Timeout");
                return false;
            }
            out.is_heard(&request.reply)
        });
    }

    /// Takes out requests that end when there is nothing.
    fn end_those_that_do_not_wait(&mut self, out: &mut Fanout) {
        self.requests.retain(|request: &Pull| {
            let is_over = request.no_wait && (request.ends.is_none() || request.count > 0);
            if is_over {
                tell(out, &request.reply, None, &status("404 No Messages", &[]));
            }
            !is_over
        });
    }

    /// When the first request is over, or wants to hear of the consumer.
    fn times(&self) -> Option<Instant> {
        let of = |request: &Pull| earliest([request.ends, request.heartbeat.map(|(_, at)| at)]);
        earliest(self.requests.iter().map(of))
    }

    /// The request whose turn it is was sent a message of `len` bytes.
    fn note_served(&mut self, out: &mut Fanout, len: u64) {
        let Some(front) = self.requests.front_mut() else { return };
        front.left -= 1;
        front.count += 1;
        if let Some((every, at)) = &mut front.heartbeat {
            *at = Instant::now() + *every;
        }
        if let Some(left) = &mut front.bytes_left {
            *left = left.saturating_sub(len);
            if *left == 0 {
                front.left = 0;
            }
        }
        if front.left > 0 {
            return;
        }
        if front.bytes_left.is_some_and(|left| left > 0) {
            front.tell_end(out, "409 Batch Completed");
        }
        self.requests.pop_front();
    }

    /// The next request has its turn.
    fn turn(&mut self) {
        if self.requests.len() > 1 {
            self.requests.rotate_left(1);
        }
    }
}
