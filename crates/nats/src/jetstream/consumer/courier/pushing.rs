//! Sending to a subject, as fast as its subscribers take it.

use std::time::Duration;

use tokio::time::Instant;

use super::{BYTES_MAX, Courier, Pace, RECORDS_MAX, earliest, instant_of};
use crate::jetstream::consumer::{
    config::ConsumerConfig,
    pull::{status, tell},
    source::Wanted,
};

/// Messages taken at a time where a rate is kept.
const RECORDS_RATED: u64 = 8;

impl Courier {
    pub(super) async fn push(&mut self, config: &ConsumerConfig) -> Pace {
        let (now, to) = (Instant::now(), config.deliver_subject.as_bytes());
        let is_heard = self.out.is_heard(to);
        let lapses = self.lapses(config, is_heard, now);
        {
            let mut state = self.consumer.state.lock();
            if is_heard && !state.is_bound {
                state.flow.begin_again();
            }
            state.is_bound = is_heard;
        }
        if !is_heard {
            if lapses.is_some_and(|at| at <= now) {
                self.consumer.end();
                return Pace::End;
            }
            return Pace::Wait(lapses);
        }
        let beat_at = self.beat_if_due(config, to, now);
        let (is_stalled, free_at) = {
            let state = self.consumer.state.lock();
            (config.flow_control && state.flow.is_stalled(), state.flow.free_at(now))
        };
        let paused = config.paused_until_ms(self.consumer.broker.env().clock.wall_ms());
        let paused = paused.map(|at_ms| instant_of(&self.consumer, at_ms));
        if is_stalled || free_at.is_some() || paused.is_some() {
            return Pace::Wait(earliest([beat_at, free_at, paused]));
        }
        let records = if config.rate_limit_bps > 0 { RECORDS_RATED } else { RECORDS_MAX };
        let fetched = match self.fetch(config, Wanted { records, bytes: BYTES_MAX }).await {
            Ok(fetched) => fetched,
            Err(pace) => return pace,
        };
        if fetched.items.is_empty() && fetched.has_more {
            return Pace::Again;
        }
        if fetched.items.is_empty() {
            self.arm();
            return Pace::Wait(beat_at);
        }
        for item in &fetched.items {
            self.keep_pace(config, item).await;
            let len = self.send(config, to, item);
            self.weigh(config, to, len);
        }
        self.spoke = Instant::now();
        Pace::Again
    }

    /// Counts what went out, and asks the subscriber to confirm when it is time.
    fn weigh(&mut self, config: &ConsumerConfig, to: &[u8], len: usize) {
        let asks = {
            let mut state = self.consumer.state.lock();
            state.flow.spend(len, config.rate_limit_bps, Instant::now());
            config.flow_control && state.flow.sent(len)
        };
        if asks {
            let consumer = &self.consumer;
            let number = consumer.broker.env().random.u64() % 1_000_000;
            let reply = format!("$JS.FC.{}.{}.{number:06}", consumer.stream, consumer.name);
            tell(&mut self.out, to, Some(reply.as_bytes()), &status("100 FlowControl Request", &[]));
            consumer.state.lock().flow.ask(reply);
        }
    }

    /// Sends a heartbeat when nothing was sent for as long as the configuration says. When the next one is due.
    fn beat_if_due(&mut self, config: &ConsumerConfig, to: &[u8], now: Instant) -> Option<Instant> {
        let every = Duration::from_nanos(u64::try_from(config.idle_heartbeat).ok().filter(|ns| *ns > 0)?);
        if self.spoke + every <= now {
            self.beat(to);
            self.spoke = now;
        }
        Some(self.spoke + every)
    }
}
