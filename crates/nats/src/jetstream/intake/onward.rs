//! Publishes to subjects that follow routes: beside a stream that takes the subject, or where none does.
//!
//! Beside a stream the copies stand and fall with the message, and its acknowledgement covers them. Where none takes the
//! subject, the copies are what there is to store: whoever asked with a reply subject that nobody else answers is told as
//! a stream's publisher is told; without one, a refusal is an error line.

use std::sync::Arc;

use broker::{
    Broker, NewBatch, Outcome, PublishUnit, RefusalReason,
    routing::{RouteCache, Routed},
};
use bytes::Bytes;
use model::{Attributes, ErrorKind, Namespace, RecordAttributes, Result, Seq, limits};

use super::{ApiError, Intake, Message, Work, ack, refusal};
use crate::{
    jetstream::{
        acks::Acks,
        stored::{FORMAT, Stored},
    },
    routes::{DIALECT, is_own},
};

/// Bytes of one batch of several messages.
const BATCH_LEN: usize = 256 << 10;

/// The targets of subjects, as one session remembers them.
#[derive(Default)]
pub(super) struct Onward(RouteCache);

impl Onward {
    /// Where a publish goes by routes; `None` where none leads on.
    pub(super) fn of(
        &mut self,
        broker: &Broker,
        namespace: &Namespace,
        subject: &[u8],
    ) -> Option<Arc<[Routed]>> {
        let found = self.0.of(broker, namespace, DIALECT, subject)?;
        (!is_own(subject)).then_some(found)
    }
}

/// Messages of one subject that no stream takes, on their way along routes.
pub(crate) struct Lone {
    onward: Arc<[Routed]>,
    subject: Box<[u8]>,
    body: Vec<u8>,
    rows: Vec<RecordAttributes>,
    /// Who is told, when it is a message alone.
    reply: Option<Box<[u8]>>,
    is_open: bool,
}

impl Intake {
    /// Takes a publish that no stream took along routes; whether there are any. With `is_answered` somebody else answers
    /// whoever asked.
    pub(crate) fn offer_to_routes(&mut self, message: &Message<'_>, is_answered: bool) -> bool {
        let account = &self.account;
        let found = self.onward.of(account.broker(), &account.namespace, message.subject);
        let Some(onward) = found else { return false };
        let reply = message.reply.filter(|_| !is_answered).map(Into::into);
        let is_open = reply.is_none() && !onward.iter().any(Routed::may_refuse);
        if !matches!(self.work.last(), Some(Work::Routed(_))) {
            self.work.push(Work::Routed(Vec::new()));
        }
        let Some(Work::Routed(lones)) = self.work.last_mut() else { return false };
        let joined = lones.last_mut().filter(|lone| {
            is_open
                && lone.is_open
                && Arc::ptr_eq(&lone.onward, &onward)
                && *lone.subject == *message.subject
                && lone.rows.len() < limits::BATCH_RECORDS_MAX as usize
                && lone.body.len() + message.payload.len() < batch_len_max(&lone.onward)
        });
        let lone = match joined {
            Some(lone) => lone,
            None => {
                lones.push(Lone {
                    onward,
                    subject: message.subject.into(),
                    body: Vec::new(),
                    rows: Vec::new(),
                    reply,
                    is_open,
                });
                let Some(lone) = lones.last_mut() else { return false };
                lone
            }
        };
        let (headers, body) =
            message.payload.split_at_checked(message.headers_len.unwrap_or(0)).unwrap_or_default();
        let stored = Stored { subject: message.subject, headers, body };
        stored.put(u32::try_from(lone.rows.len()).unwrap_or(u32::MAX), &mut lone.body);
        lone.rows.push(stored.attributes());
        true
    }
}

/// Bytes of a batch of several messages that every target takes.
pub(super) fn batch_len_max(onward: &[Routed]) -> usize {
    onward.iter().map(Routed::batch_len_max).min().unwrap_or(BATCH_LEN).min(BATCH_LEN) / 2
}

/// A message that was not stored, and nobody who waits for an answer.
pub(crate) struct Refused {
    pub subject: Box<[u8]>,
    pub why: String,
}

/// Stores messages that no stream took where routes lead, in one unit; what their publishers are told once that is
/// durable, and what they are told now.
pub(crate) async fn publish_alone(broker: &Broker, mut lones: Vec<Lone>) -> (Acks, Vec<Refused>) {
    let batches: Vec<NewBatch> = lones.iter_mut().map(batch_of).collect();
    let mut acks = Acks { wait: Seq(0), all: Vec::new(), again: Vec::new() };
    let mut refused = Vec::new();
    let stored = store(broker, &lones, &batches).await;
    if let Ok((_, wait)) = &stored {
        acks.wait = *wait;
    }
    for (index, lone) in lones.into_iter().enumerate() {
        let of_it = match &stored {
            Ok((of_each, _)) => of_each.get(index).cloned().unwrap_or_default(),
            Err(error) => Told { first: None, refusal: Some(error.text().to_owned()) },
        };
        match (lone.reply, of_it.refusal) {
            (Some(reply), Some(why)) => acks.all.push((reply, refusal("", &ApiError::store_failed(&why)))),
            (Some(reply), None) => {
                acks.all.extend(of_it.first.map(|(name, seq)| (reply, ack(&name, seq, false))));
            }
            (None, Some(why)) => refused.push(Refused { subject: lone.subject, why }),
            (None, None) => {}
        }
    }
    (acks, refused)
}

/// What is told of one message, or of several that nobody asks about.
#[derive(Clone, Default)]
struct Told {
    /// The stream that has it, and its sequence there: the first, where there are several.
    first: Option<(String, u64)>,
    /// Why it is not everywhere.
    refusal: Option<String>,
}

fn batch_of(lone: &mut Lone) -> NewBatch {
    NewBatch {
        count: u32::try_from(lone.rows.len()).unwrap_or(u32::MAX),
        format: FORMAT,
        attributes: Attributes::Rows(std::mem::take(&mut lone.rows).into()),
        body: Bytes::from(std::mem::take(&mut lone.body)),
        ..NewBatch::default()
    }
}

async fn store(broker: &Broker, lones: &[Lone], batches: &[NewBatch]) -> Result<(Vec<Told>, Seq)> {
    loop {
        let mut unit = PublishUnit::default();
        let mut ranges = Vec::with_capacity(lones.len());
        for (lone, batch) in lones.iter().zip(batches) {
            let from = unit.appends.len();
            broker.onward(&lone.onward, batch, &[])?.join(&mut unit);
            ranges.push(from..unit.appends.len());
        }
        let streams: Vec<_> = unit.appends.iter().map(|append| append.partition.stream_id()).collect();
        let name = |at: usize| {
            let stream = streams.get(at).and_then(|id| broker.stream_by_id(*id));
            stream.map(|stream| stream.key().name.to_string()).unwrap_or_default()
        };
        let published = match broker.publish(unit) {
            Ok(published) => published,
            Err(error) if error.kind() == ErrorKind::Throttled => {
                broker.room().await;
                continue;
            }
            Err(error) => return Err(error),
        };
        let told = |range: std::ops::Range<usize>| {
            let mut told = Told::default();
            for at in range {
                match published.outcomes.get(at) {
                    Some(Outcome::Appended { base, .. } | Outcome::Duplicate { base, .. }) => {
                        told.first.get_or_insert_with(|| (name(at), base.0 + 1));
                    }
                    Some(Outcome::Refused(refusal)) if refusal.reason != RefusalReason::Closed => {
                        let why = || format!("{}: {}", name(at), refusal.error.text());
                        told.refusal.get_or_insert_with(why);
                    }
                    Some(Outcome::Refused(_)) | None => {}
                }
            }
            told
        };
        return Ok((ranges.into_iter().map(told).collect(), published.wait));
    }
}
