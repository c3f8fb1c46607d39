//! Acknowledgements: what clients say became of their messages.

use std::sync::Arc;

use broker::{Broker, Claim, Count, Settlement, Span, Spans, Verdict, Work};
use model::{ErrorKind, Offset, Result, Seq};
use serde::Deserialize;

use super::{
    super::account::Account,
    Consumer,
    config::{AckPolicy, ConsumerConfig},
    dead::Why,
};

/// What subjects of acknowledgements begin with.
pub(crate) const PREFIX: &[u8] = b"$JS.ACK.";

/// What a subject says of the message that is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place<'a> {
    pub stream: &'a str,
    pub consumer: &'a str,
    attempt: u32,
    seq: u64,
    consumer_seq: u64,
}

impl<'a> Place<'a> {
    /// Reads both forms of the original: nine tokens, or those with domain and account before.
    pub(crate) fn parse(subject: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(subject.strip_prefix(PREFIX)?).ok()?;
        let tokens: Vec<&str> = text.split('.').take(16).collect();
        let tokens = match tokens.len() {
            7 => tokens.as_slice(),
            9.. => tokens.get(2..9)?,
            _ => return None,
        };
        let [stream, consumer, attempt, seq, consumer_seq, ..] = tokens else { return None };
        Some(Place {
            stream,
            consumer,
            attempt: attempt.parse().ok()?,
            seq: seq.parse().ok()?,
            consumer_seq: consumer_seq.parse().ok()?,
        })
    }
}

/// What is said of one message.
pub(crate) struct Ack {
    consumer: Arc<Consumer>,
    offset: Offset,
    attempt: u32,
    consumer_seq: u64,
    word: Word,
    /// Why it is given up.
    reason: String,
    /// Where its answer goes.
    pub reply: Option<Box<[u8]>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Done,
    Again { delay_ms: u64 },
    Working,
    Never,
}

/// What an acknowledgement comes to.
pub(crate) enum Taken {
    /// To be settled.
    Ack(Ack),
    /// To be settled, and the next message is asked for with this.
    Next(Ack, Vec<u8>),
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Nak {
    delay: i64,
}

impl Ack {
    /// Reads one; `None` where it is none.
    pub(crate) fn of(
        consumer: &Arc<Consumer>,
        place: &Place<'_>,
        body: &[u8],
        reply: Option<&[u8]>,
    ) -> Option<Taken> {
        let offset = Offset(place.seq.checked_sub(1)?);
        let make = |word| Ack {
            consumer: consumer.clone(),
            offset,
            attempt: place.attempt,
            consumer_seq: place.consumer_seq,
            word,
            reason: String::new(),
            reply: reply.map(Into::into),
        };
        Some(match body {
            b"" | b"+ACK" | b"+OK" => Taken::Ack(make(Word::Done)),
            b"+WPI" => Taken::Ack(make(Word::Working)),
            _ if body.starts_with(b"+NXT") => {
                let ack = Ack { reply: None, ..make(Word::Done) };
                Taken::Next(ack, body.get(4..).unwrap_or_default().to_vec())
            }
            _ if body.starts_with(b"-NAK") => {
                let delay_ms = delay_ms(body.get(4..).unwrap_or_default());
                Taken::Ack(make(Word::Again { delay_ms }))
            }
            _ if body.starts_with(b"+TERM") => {
                let reason = body.get(5..).unwrap_or_default().trim_ascii();
                let reason = String::from_utf8_lossy(reason).into_owned();
                Taken::Ack(Ack { reason, ..make(Word::Never) })
            }
            _ => return None,
        })
    }
}

/// How long a message is to wait before it comes again.
fn delay_ms(text: &[u8]) -> u64 {
    let text = text.trim_ascii();
    let ns = if text.starts_with(b"{") {
        serde_json::from_slice::<Nak>(text).map_or(0, |nak| nak.delay)
    } else {
        std::str::from_utf8(text).ok().and_then(super::super::time::duration_ns).unwrap_or(0)
    };
    u64::try_from(ns).unwrap_or(0).div_ceil(1_000_000)
}

/// Takes acknowledgements in one unit. The sequence to wait for before they are answered; an error says that one of them
/// may not be kept, so that none is to be answered.
pub(crate) async fn settle(broker: &Broker, account: &Account, acks: &[Ack]) -> Result<Seq> {
    let (mut wait, mut failed) = (Seq(0), None);
    let mut groups: Vec<Settlement> = Vec::new();
    let now_ms = broker.env().clock.wall_ms();
    for ack in acks {
        ack.consumer.note_ack(now_ms);
        let Some(work) = &ack.consumer.work else { continue };
        ack.advise(account);
        ack.measure(account, work);
        if ack.word == Word::Never && ack.consumer.config().dead_letter().is_some() {
            match ack.consumer.bury(account, (ack.offset, ack.attempt), None, Why::GivenUp).await {
                Ok(buried) => wait = wait.max(buried),
                Err(error) => {
                    tracing::warn!(stream = ack.consumer.stream, %error, "a message was not given up");
                    failed = Some(error);
                }
            }
            continue;
        }
        if let Some(settlement) = ack.settlement(work, &ack.consumer.config(), now_ms) {
            join(&mut groups, settlement);
        }
    }
    if groups.is_empty() {
        wait = wait.max(broker.catalog_staged());
    } else if let Ok(settled) = settle_all(broker, groups.clone()).await {
        wait = wait.max(settled);
    } else {
        // One of the consumers is gone: the others go on.
        for group in groups {
            match settle_all(broker, vec![group]).await {
                Ok(settled) => wait = wait.max(settled),
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Closed) => {}
                Err(error) => failed = Some(error),
            }
        }
    }
    failed.map_or(Ok(wait), Err)
}

async fn settle_all(broker: &Broker, groups: Vec<Settlement>) -> Result<Seq> {
    broker.settle(groups).await.map(|(_, wait)| wait)
}

/// Adds a settlement to one of the same cursor that says the same.
fn join(groups: &mut Vec<Settlement>, more: Settlement) {
    let is_same = |known: &&mut Settlement| {
        std::ptr::eq(&**known.work.partition(), &**more.work.partition())
            && known.work.name() == more.work.name()
            && (known.claim, known.verdict) == (more.claim, more.verdict)
    };
    // Only the last few are looked at: what one read brings is mostly alike.
    match groups.iter_mut().rev().take(8).find(is_same) {
        Some(known) => more.spans.iter().for_each(|span| known.spans.add(span)),
        None => groups.push(more),
    }
}

impl Ack {
    fn advise(&self, account: &Account) {
        let given_up = match self.word {
            Word::Never => Some(self.reason.as_str()),
            Word::Again { .. } => None,
            Word::Done | Word::Working => return,
        };
        let place = (self.consumer_seq, self.offset.0 + 1, self.attempt);
        account.consumers.advise_of_word(&self.consumer, place, given_up);
    }

    /// How long it took, where that is asked for.
    fn measure(&self, account: &Account, work: &Work) {
        if self.word != Word::Done || self.consumer.config().ack_policy != AckPolicy::Explicit {
            return;
        }
        let place = (self.consumer_seq, self.offset.0 + 1, self.attempt);
        account.consumers.measure_ack(&self.consumer, place, || {
            let lease = work.leases(self.offset, 1).ok()?.into_iter().next()?;
            lease.span.contains(self.offset).then_some(lease.delivered_at_ms)
        });
    }

    fn settlement(&self, work: &Work, config: &ConsumerConfig, now_ms: i64) -> Option<Settlement> {
        if config.ack_policy == AckPolicy::None {
            return None;
        }
        let one = Spans::from(self.offset);
        let (spans, claim, verdict) = match self.word {
            Word::Done if config.ack_policy == AckPolicy::All => {
                let floor = work.floor().ok()?;
                let end = self.offset.plus(1);
                (Spans::from(Span::new(floor.min(end), end)), Claim::Anyone, Verdict::Accept)
            }
            Word::Done => (one, Claim::Anyone, Verdict::Accept),
            Word::Never => (one, Claim::Anyone, Verdict::Reject),
            Word::Again { delay_ms } => {
                (one, Claim::Attempt(self.attempt), Verdict::Release { delay_ms, count: Count::Add })
            }
            Word::Working => {
                let deadline_ms = Some(now_ms.saturating_add_unsigned(config.wait_ms(self.attempt)));
                (one, Claim::Anyone, Verdict::Extend { deadline_ms })
            }
        };
        // What was never sent cannot be acknowledged.
        let end = self.consumer.state.lock().sent_end;
        (self.offset < end).then(|| Settlement { work: work.clone(), spans, claim, verdict })
    }
}

impl Consumer {
    fn note_ack(&self, now_ms: i64) {
        self.state.lock().last_ack_ms = Some(now_ms);
        self.note_used();
    }

    /// A subscriber confirmed what it was sent.
    pub(crate) fn confirm(&self, subject: &[u8]) {
        if self.state.lock().flow.answered(subject) {
            self.signal.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_subject_read() {
        let expected = Place { stream: "S", consumer: "c", attempt: 2, seq: 7, consumer_seq: 9 };
        for subject in
            ["$JS.ACK.S.c.2.7.9.1700.3", "$JS.ACK._.hash.S.c.2.7.9.1700.3", "$JS.ACK._.h.S.c.2.7.9.1.3.x"]
        {
            assert_eq!(Place::parse(subject.as_bytes()), Some(expected), "{subject}");
        }
        for subject in ["$JS.ACK.S.c.2.7.9.1700", "$JS.ACK.S.c.x.7.9.1700.3", "$JS.ACK.", "a.b"] {
            assert_eq!(Place::parse(subject.as_bytes()), None, "{subject}");
        }
    }

    #[test]
    fn a_delay_is_a_duration_or_nanoseconds() {
        for (text, expected) in
            [("", 0), (" 2s", 2_000), (r#" {"delay": 1500000000}"#, 1_500), (" 1m0.5s", 60_500), (" x", 0)]
        {
            assert_eq!(delay_ms(text.as_bytes()), expected, "{text:?}");
        }
    }
}
