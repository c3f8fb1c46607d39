//! Dead letters: what the original lacks. A consumer whose metadata names a subject under [`KEY`] sends there what was
//! delivered as often as it may, or given up; the message is stored there and settled here in one unit.

use broker::{
    Append, Broker, Claim, Count, Extent, Mode, NewBatch, Outcome, PublishUnit, Settlement, Spans, Verdict,
    Work,
};
use bytes::Bytes;
use model::{Attributes, Offset, Result, Seq};

use super::{
    Consumer,
    config::ConsumerConfig,
    source::{Item, read_one},
};
use crate::jetstream::{
    account::Account,
    headers::{self, VERSION_LINE},
    stored::{FORMAT, Stored},
};

/// The name in a consumer's metadata.
pub(super) const KEY: &str = "wiremill.dead_letter";

/// When a message that could not be moved is tried again, milliseconds.
const RETRY_MS: u64 = 5_000;

/// What becomes of a message that was delivered as often as it may where a settled one leaves the stream: it stays there,
/// as in the original, and is delivered no more.
const PARKED: Verdict = Verdict::Release { delay_ms: u64::MAX, count: Count::Keep };

/// Why a message is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// It was delivered as often as it may.
    TooOften,
    /// Its consumer gave it up.
    GivenUp,
}

impl Why {
    fn text(self) -> &'static str {
        match self {
            Why::TooOften => "max_deliver",
            Why::GivenUp => "terminated",
        }
    }
}

impl ConsumerConfig {
    /// The subject for dead letters.
    pub(crate) fn dead_letter(&self) -> Option<&str> {
        self.metadata.get(KEY).map(String::as_str).filter(|subject| !subject.is_empty())
    }
}

impl Consumer {
    /// Whether a message leaves the stream when consumers are done with it.
    fn is_gone_when_settled(&self) -> bool {
        let stream = self.broker.stream_by_id(self.stream_id);
        stream.is_some_and(|stream| stream.settings().mode != Mode::Log)
    }

    /// Moves a message that is leased as delivery number `attempt` to the dead letters, or settles it where there are none.
    /// The sequence to wait for.
    pub(super) async fn bury(
        &self,
        account: &Account,
        (offset, attempt): (Offset, u32),
        item: Option<Item>,
        why: Why,
    ) -> Result<Seq> {
        let (Some(work), config) = (&self.work, self.config()) else { return Ok(Seq(0)) };
        if config.dead_letter().is_none() {
            let verdict = match why {
                Why::TooOften if self.is_gone_when_settled() => PARKED,
                Why::TooOften | Why::GivenUp => Verdict::Accept,
            };
            return settle(&self.broker, work, Spans::from(offset), Claim::Attempt(attempt), verdict).await;
        }
        let item = match item {
            Some(item) => Some(item),
            None => read_one(&self.broker, &self.partition, offset).await?,
        };
        let target = config.dead_letter().and_then(|subject| {
            account.generations();
            Some((subject, account.taker(subject.as_bytes())?))
        });
        let claim = Claim::Attempt(attempt);
        let spans = Spans::from(offset);
        if let (Some(item), Some((subject, target))) = (&item, target) {
            // Delivered once more only to be found dead: that does not count.
            let told = if why == Why::TooOften { attempt - 1 } else { attempt };
            let batch = letter(self, subject, item, told, why);
            let settlement =
                Settlement { work: work.clone(), spans: spans.clone(), claim, verdict: Verdict::Reject };
            let unit = PublishUnit {
                appends: vec![Append::new(&target.partition, batch)],
                settlements: vec![settlement],
                extent: Extent::All,
                ..PublishUnit::default()
            };
            let published = self.broker.publish(unit)?;
            if published.outcomes.iter().all(|outcome| !matches!(outcome, Outcome::Refused(_))) {
                return Ok(published.wait);
            }
        } else if item.is_none() {
            return settle(&self.broker, work, spans, claim, Verdict::Accept).await;
        }
        tracing::warn!(
            stream = self.stream,
            consumer = self.name,
            "nobody takes a dead letter; it is tried again"
        );
        let verdict = Verdict::Release { delay_ms: RETRY_MS, count: Count::Keep };
        settle(&self.broker, work, spans, claim, verdict).await
    }
}

async fn settle(broker: &Broker, work: &Work, spans: Spans, claim: Claim, verdict: Verdict) -> Result<Seq> {
    let settlement = Settlement { work: work.clone(), spans, claim, verdict };
    broker.settle(vec![settlement]).await.map(|(_, wait)| wait)
}

fn letter(consumer: &Consumer, subject: &str, item: &Item, attempts: u32, why: Why) -> NewBatch {
    let (seq, attempts) = ((item.offset.0 + 1).to_string(), attempts.to_string());
    let about: [(&[u8], &[u8]); 5] = [
        (b"Wm-Dead-Subject", &item.subject),
        (b"Wm-Dead-Stream", consumer.stream.as_bytes()),
        (b"Wm-Dead-Sequence", seq.as_bytes()),
        (b"Wm-Dead-Reason", why.text().as_bytes()),
        (b"Wm-Dead-Attempts", attempts.as_bytes()),
    ];
    let about = headers::block(about.into_iter());
    let headers = match item.headers.strip_suffix(b"\r\n") {
        Some(own) => [own, about.strip_prefix(VERSION_LINE).unwrap_or_default()].concat(),
        None => about,
    };
    let stored = Stored { subject: subject.as_bytes(), headers: &headers, body: &item.body };
    let mut body = Vec::new();
    stored.put(0, &mut body);
    NewBatch {
        count: 1,
        format: FORMAT,
        attributes: Attributes::Same(Box::new(stored.attributes())),
        body: Bytes::from(body),
        ..NewBatch::default()
    }
}
