//! Where a consumer's messages come from: leased through a work cursor, or read where nothing is acknowledged.

use std::collections::VecDeque;

use broker::{
    Allowance, Broker, ChunkBatch, Claim, Delivery, HolderId, LeaseAsk, LeaseKind, LeaseTime, Leased,
    Oversize, Partition, ReadLimits, Settlement, Spans, Verdict, Watch, Work, routing::Pattern,
};
use bytes::Bytes;
use model::{Batch, ErrorKind, Offset, Result};

use super::{
    super::{
        foreign,
        stored::{FORMAT, split},
    },
    config::ConsumerConfig,
};

/// Bytes that one read asks for.
const READ_LEN: usize = 256 << 10;

/// A message on its way to a client.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub offset: Offset,
    /// Which delivery it is, 1 for the first.
    pub attempt: u32,
    /// Milliseconds since the Unix epoch.
    pub at_ms: i64,
    pub subject: Bytes,
    pub headers: Bytes,
    pub body: Bytes,
}

impl Item {
    /// What it counts for.
    pub(super) fn len(&self) -> usize {
        self.subject.len() + self.headers.len() + self.body.len()
    }
}

/// How much is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub records: u64,
    pub bytes: u64,
}

/// What there was.
#[derive(Debug, Default)]
pub(super) struct Fetched {
    pub items: Vec<Item>,
    /// Whether there is no more because as many wait for their acknowledgement as may.
    pub is_full: bool,
    /// Whether there may be more although there is nothing here.
    pub has_more: bool,
}

/// A source of one consumer.
pub(super) enum Source {
    Leased { work: Work, holder: HolderId, kind: LeaseKind },
    Read(Reader),
}

/// Reading in order, without any state that lasts.
pub(super) struct Reader {
    /// The next record to look at.
    pub next: Offset,
    /// Records that come before: the last one of each subject.
    pub firsts: VecDeque<Offset>,
}

impl Source {
    /// Up to as much as is wanted; nothing when there is nothing yet.
    pub(super) async fn fetch(
        &mut self,
        broker: &Broker,
        partition: &Partition,
        (config, patterns): (&ConsumerConfig, &[Pattern]),
        wanted: Wanted,
    ) -> Result<Fetched> {
        match self {
            Source::Leased { work, holder, kind } => {
                let ask = LeaseAsk {
                    holder: *holder,
                    allowance: Allowance {
                        records: wanted.records,
                        bytes: wanted.bytes,
                        oversize: Oversize::First,
                    },
                    kind: *kind,
                    time: LeaseTime::Ms(config.wait_ms(1)),
                };
                let leased = work.lease(ask).await?;
                wait_longer(broker, work, config, &leased).await?;
                let mut fetched = Fetched { is_full: leased.is_full, ..Fetched::default() };
                for delivery in &leased.deliveries {
                    take(broker, partition, delivery, &mut fetched.items)?;
                }
                Ok(fetched)
            }
            Source::Read(reader) => reader.fetch(broker, partition, patterns, wanted).await,
        }
    }

    /// Has `watch` told when there may be more.
    pub(super) fn arm(&self, partition: &Partition, patterns: &[Pattern], watch: &Watch) {
        match self {
            Source::Leased { work, holder, .. } => work.wait(*holder, watch),
            Source::Read(reader) => match reader.firsts.front() {
                Some(first) => partition.watch(*first, watch),
                None => partition.watch_under(reader.next, patterns, watch),
            },
        }
    }
}

/// Later deliveries may take as long as the configuration says for them.
async fn wait_longer(broker: &Broker, work: &Work, config: &ConsumerConfig, leased: &Leased) -> Result<()> {
    if config.backoff.is_empty() {
        return Ok(());
    }
    let now_ms = broker.env().clock.wall_ms();
    let runs = leased.deliveries.iter().flat_map(|delivery| &delivery.runs);
    let later = runs.filter(|run| run.attempt > 1).map(|run| Settlement {
        work: work.clone(),
        spans: Spans::from(run.span),
        claim: Claim::Attempt(run.attempt),
        verdict: Verdict::Extend {
            deadline_ms: Some(now_ms.saturating_add_unsigned(config.wait_ms(run.attempt))),
        },
    });
    let later: Vec<Settlement> = later.collect();
    if !later.is_empty() {
        broker.settle(later).await?;
    }
    Ok(())
}

/// The leased messages of a batch, in the order of their delivery.
fn take(broker: &Broker, partition: &Partition, delivery: &Delivery, items: &mut Vec<Item>) -> Result<()> {
    let spans = delivery.spans();
    let part = ChunkBatch { batch: delivery.batch.clone(), dropped: None };
    let found = items_of(broker, partition, &part, &|offset| spans.contains(offset))?;
    for run in &delivery.runs {
        for offset in run.span.start.0..run.span.end.0 {
            if let Ok(at) = found.binary_search_by_key(&offset, |item| item.offset.0)
                && let Some(item) = found.get(at)
            {
                items.push(Item { attempt: run.attempt, ..item.clone() });
            }
        }
    }
    Ok(())
}

/// The messages of a batch that are wanted, in order; those of other dialects converted.
fn items_of(
    broker: &Broker,
    partition: &Partition,
    part: &ChunkBatch,
    wants: &dyn Fn(Offset) -> bool,
) -> Result<Vec<Item>> {
    let batch = &part.batch;
    if batch.flags.control {
        return Ok(Vec::new());
    }
    if batch.format == FORMAT {
        let is_live = |index: u32| !part.dropped.as_ref().is_some_and(|gone| gone.contains(index));
        let offset = |index: u32| Some(batch.base.plus(u64::from(index))).filter(|_| is_live(index));
        return split_items(batch, &|index| offset(index).filter(|offset| wants(*offset)));
    }
    let Some((offsets, body)) = foreign::converted(broker, partition, part)? else { return Ok(Vec::new()) };
    let count = u32::try_from(offsets.len()).unwrap_or(u32::MAX);
    let converted = Batch { format: FORMAT, body, count, ..batch.clone() };
    split_items(&converted, &|index| offsets.get(index as usize).copied().filter(|offset| wants(*offset)))
}

/// The message at `offset`, if it is there.
pub(super) async fn read_one(broker: &Broker, partition: &Partition, offset: Offset) -> Result<Option<Item>> {
    let chunk = match broker.read(partition, offset, ReadLimits::bytes(1)).await {
        Ok(chunk) => chunk,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    for part in &chunk.batches {
        let found = items_of(broker, partition, part, &|at| at == offset)?;
        if let Some(item) = found.into_iter().next() {
            return Ok(Some(item));
        }
    }
    Ok(None)
}

fn split_items(batch: &Batch, offset_of: &dyn Fn(u32) -> Option<Offset>) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    split(batch, |index, _, stored| {
        if let Some(offset) = offset_of(index) {
            let slice = |part: &[u8]| batch.body.slice_ref(part);
            items.push(Item {
                offset,
                attempt: 1,
                at_ms: batch.append_time_ms,
                subject: slice(stored.subject),
                headers: slice(stored.headers),
                body: slice(stored.body),
            });
        }
        Ok(())
    })?;
    Ok(items)
}

impl Reader {
    async fn fetch(
        &mut self,
        broker: &Broker,
        partition: &Partition,
        patterns: &[Pattern],
        wanted: Wanted,
    ) -> Result<Fetched> {
        let mut fetched = Fetched::default();
        while fetched.items.is_empty() && wanted.records > 0 {
            let is_first = !self.firsts.is_empty();
            let Some(from) = self.place(partition, patterns) else { break };
            let limits = ReadLimits { records: wanted.records, ..ReadLimits::bytes(READ_LEN) };
            let chunk = match broker.read(partition, from, limits).await {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == ErrorKind::NotFound && from < partition.bounds().start => {
                    self.pass(is_first, partition.bounds().start);
                    continue;
                }
                Err(error) => return Err(error),
            };
            if chunk.next <= from {
                break;
            }
            let mut bytes = 0;
            let mut is_cut = false;
            for part in &chunk.batches {
                let firsts = &self.firsts;
                let wants =
                    |offset: Offset| offset >= from && (!is_first || firsts.binary_search(&offset).is_ok());
                for item in items_of(broker, partition, part, &wants)? {
                    let is_wanted = is_first || matches(patterns, &item.subject);
                    if !is_wanted {
                        continue;
                    }
                    bytes += item.len() as u64;
                    let is_enough = fetched.items.len() as u64 >= wanted.records || bytes > wanted.bytes;
                    if is_enough && !fetched.items.is_empty() {
                        is_cut = true;
                        break;
                    }
                    fetched.items.push(item);
                }
            }
            let cut_at = fetched.items.last().filter(|_| is_cut).map(|last| last.offset.plus(1));
            self.pass(is_first, cut_at.unwrap_or(chunk.next));
        }
        Ok(fetched)
    }

    /// Where to read next; `None` when there is nothing.
    fn place(&mut self, partition: &Partition, patterns: &[Pattern]) -> Option<Offset> {
        let bounds = partition.bounds();
        if let Some(first) = self.firsts.front() {
            // The last of a subject may not be durable yet.
            return Some(*first).filter(|first| *first < bounds.stable_end);
        }
        self.next = self.next.max(bounds.start);
        if self.next >= bounds.stable_end {
            return None;
        }
        if patterns.is_empty() {
            return Some(self.next);
        }
        let found = patterns.iter().filter_map(|pattern| partition.next_under(pattern, self.next)).min();
        match found.filter(|found| *found < bounds.stable_end) {
            Some(found) => Some(found),
            None => {
                self.next = bounds.stable_end;
                None
            }
        }
    }

    /// Everything below `to` was looked at.
    fn pass(&mut self, is_first: bool, to: Offset) {
        if is_first {
            while self.firsts.front().is_some_and(|first| *first < to) {
                self.firsts.pop_front();
            }
        } else {
            self.next = self.next.max(to);
        }
    }
}

fn matches(patterns: &[Pattern], subject: &[u8]) -> bool {
    patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(subject))
}
