//! Advisories: events that tools listen for, sent only where somebody does.

use serde_json::{Value, json};

use super::{
    consumer::{Consumer, book::Book},
    time,
};
use crate::core::fanout::{Fanout, Message};

const TYPE_PREFIX: &str = "io.nats.jetstream.advisory.v1.";

/// What happened to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    Created,
    Updated,
    Deleted,
}

impl Done {
    /// As it is in a subject, and as it is in the event.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Done::Created => ("CREATED", "create"),
            Done::Updated => ("UPDATED", "modify"),
            Done::Deleted => ("DELETED", "delete"),
        }
    }
}

impl Book {
    /// Tells who listens to `$JS.EVENT.ADVISORY.<subject>`.
    fn advise(&self, subject: &str, kind: &str, about: Value) {
        let subject = format!("$JS.EVENT.ADVISORY.{subject}");
        if self.is_heard(&subject) {
            self.send_event(&subject, &format!("{TYPE_PREFIX}{kind}"), about);
        }
    }

    fn is_heard(&self, subject: &str) -> bool {
        let mut is_heard = false;
        self.hub().matching(subject.as_bytes(), |_| is_heard = true);
        is_heard
    }

    /// Tells how long a message took that is acknowledged now, one of those that are to be measured; `delivered_ms`: when
    /// it was delivered, if it is waited for.
    pub(crate) fn measure_ack(
        &self,
        consumer: &Consumer,
        (consumer_seq, stream_seq, deliveries): (u64, u64, u32),
        delivered_ms: impl FnOnce() -> Option<i64>,
    ) {
        let percent = consumer.config().sample_percent();
        let env = self.broker().env();
        if percent == 0 || (percent < 100 && env.random.u64() % 100 >= percent) {
            return;
        }
        let (stream, name) = (&consumer.stream, &consumer.name);
        let subject = format!("$JS.EVENT.METRIC.CONSUMER.ACK.{stream}.{name}");
        let Some(delivered_ms) = self.is_heard(&subject).then(delivered_ms).flatten() else { return };
        let took_ms = env.clock.wall_ms().saturating_sub(delivered_ms).max(0);
        let about = json!({
            "stream": stream,
            "consumer": name,
            "consumer_seq": consumer_seq,
            "stream_seq": stream_seq,
            "ack_time": took_ms.saturating_mul(1_000_000),
            "deliveries": deliveries,
        });
        self.send_event(&subject, "io.nats.jetstream.metric.v1.consumer_ack", about);
    }

    fn send_event(&self, subject: &str, kind: &str, about: Value) {
        let env = self.broker().env();
        let mut event = json!({
            "type": kind,
            "id": format!("{:022X}", env.random.u128() >> 40),
            "timestamp": time::text(env.clock.wall_ms()),
        });
        if let (Value::Object(event), Value::Object(about)) = (&mut event, about) {
            event.extend(about);
        }
        let payload = event.to_string();
        let mut out = Fanout::small(self.hub().clone(), env.random.u64());
        let subject = subject.as_bytes();
        out.publish(&Message { subject, reply: None, headers_len: None, payload: payload.as_bytes() }, None);
        out.flush(self.pending_len_max());
    }

    pub(crate) fn advise_of_stream(&self, stream: &str, done: Done) {
        let (word, action) = done.words();
        self.advise(
            &format!("STREAM.{word}.{stream}"),
            "stream_action",
            json!({ "stream": stream, "action": action }),
        );
    }

    /// Something about a consumer, under `word` among its subjects.
    fn advise_about(&self, consumer: &Consumer, word: &str, kind: &str, mut about: Value) {
        let (stream, name) = (&consumer.stream, &consumer.name);
        if let Value::Object(fields) = &mut about {
            fields.insert("stream".to_owned(), stream.as_str().into());
            fields.insert("consumer".to_owned(), name.as_str().into());
        }
        self.advise(&format!("CONSUMER.{word}.{stream}.{name}"), kind, about);
    }

    pub(crate) fn advise_of_consumer(&self, consumer: &Consumer, done: Done) {
        let (word, action) = done.words();
        self.advise_about(consumer, word, "consumer_action", json!({ "action": action }));
    }

    pub(crate) fn advise_of_pause(&self, consumer: &Consumer, until: Option<&str>) {
        let mut about = json!({ "paused": until.is_some() });
        if let (Some(until), Value::Object(fields)) = (until, &mut about) {
            fields.insert("pause_until".to_owned(), until.into());
        }
        self.advise_about(consumer, "PAUSE", "consumer_pause", about);
    }

    pub(crate) fn advise_of_limit(&self, consumer: &Consumer, stream_seq: u64, deliveries: u32) {
        let about = json!({ "stream_seq": stream_seq, "deliveries": deliveries });
        self.advise_about(consumer, "MAX_DELIVERIES", "max_deliver", about);
    }

    /// A message was refused, or given up for the reason that is said.
    pub(crate) fn advise_of_word(
        &self,
        consumer: &Consumer,
        (consumer_seq, stream_seq, deliveries): (u64, u64, u32),
        given_up: Option<&str>,
    ) {
        let mut about =
            json!({ "consumer_seq": consumer_seq, "stream_seq": stream_seq, "deliveries": deliveries });
        let (word, kind) = match given_up {
            Some(reason) => {
                if let (false, Value::Object(fields)) = (reason.is_empty(), &mut about) {
                    fields.insert("reason".to_owned(), reason.into());
                }
                ("MSG_TERMINATED", "terminated")
            }
            None => ("MSG_NAKED", "nak"),
        };
        self.advise_about(consumer, word, kind, about);
    }
}
