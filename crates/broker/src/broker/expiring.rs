//! Records whose time is over: they go, and where the stream says so something is left in place of the last one of a
//! route key.

use std::{cell::Cell, sync::Arc};

use bytes::Bytes;
use cursor::{Span, Spans};
use model::{Offset, Result};
use store::{LogCore, Upto};

use super::Broker;
use crate::{
    log_state::LogState,
    publish::{Append, Conditions, Outcome, PublishUnit, Replaces},
    redirect::{Letter, LetterReason, SUCCESSORS, Succeeded, Successors},
    stream::{Partition, Stream},
};

/// Records taken away in one unit where they are looked at one by one.
const STEP: u64 = 10_000;

impl Broker {
    /// Takes away records whose own time is over.
    pub(crate) fn drop_expired(&self, partition: &Arc<Partition>, now_ms: i64) -> Result<()> {
        let mut before = Spans::new();
        loop {
            let (expired, has_more) =
                partition.log().with(|core, state| still_to_expire(core, state, now_ms));
            if expired == before && !expired.is_empty() {
                return Ok(()); // They were taken away and are there all the same: not for ever.
            }
            if !expired.is_empty() {
                self.expire_records(partition, &expired, now_ms)?;
            }
            if !has_more {
                return Ok(());
            }
            before = expired;
        }
    }

    /// Takes away what is too old below `to`, but for records that stay for ever.
    pub(crate) fn expire_below(&self, partition: &Arc<Partition>, to: Offset, now_ms: i64) -> Result<()> {
        let is_plain = partition.log().with(|_, state| {
            let stays = state.expiries.as_ref().and_then(|expiries| expiries.first_that_stays());
            let leaves = state.settings.as_ref().is_some_and(|set| set.extras.contains_key(SUCCESSORS));
            stays.is_none_or(|first| first >= to) && !leaves
        });
        if is_plain {
            return self.stage_trim(partition, to).map(drop);
        }
        let mut at = partition.log().with(|core, _| core.start());
        while at < to {
            let (expired, next) = partition.log().with(|core, state| mortal(core, state, at, to));
            if !expired.is_empty() {
                self.expire_records(partition, &expired, now_ms)?;
            }
            at = next;
        }
        let first = partition.log().with(|_, state| {
            state.expiries.as_ref().and_then(|expiries| expiries.first_that_stays()).unwrap_or(to)
        });
        self.stage_trim(partition, to.min(first)).map(drop)
    }

    /// Takes records away whose time is over.
    fn expire_records(&self, partition: &Arc<Partition>, expired: &Spans, now_ms: i64) -> Result<()> {
        let Some((stream, by)) = self.successors_of(partition) else {
            return self.drop_records(partition, expired).map(drop);
        };
        let mut succeeded = Spans::new();
        for (offset, key) in partition.log().with(|_, state| lasts(state, expired)) {
            if self.succeed((&stream, partition), by.as_ref(), (offset, key), now_ms)? {
                succeeded.add_one(offset);
            }
        }
        let gone = expired.offsets().filter(|offset| !succeeded.contains(*offset)).map(Span::one);
        let gone: Spans = gone.collect();
        if gone.is_empty() { Ok(()) } else { self.drop_records(partition, &gone).map(drop) }
    }

    /// Has a record replaced by what its dialect leaves in its place. Whether it was: with nothing to be left, or with a
    /// newer record under the key, it is not.
    fn succeed(
        &self,
        (stream, partition): (&Arc<Stream>, &Arc<Partition>),
        by: &dyn Successors,
        (offset, key): (Offset, Bytes),
        now_ms: i64,
    ) -> Result<bool> {
        let limits = store::ReadLimits { bytes: 1, ..store::ReadLimits::default() };
        let chunk = self.store().read_blocking(partition.log(), offset, limits, Upto::Stable)?;
        let found = chunk.batches.iter().find(|part| part.batch.base <= offset && offset < part.batch.end());
        // What cannot be read leaves nothing.
        let Some(part) = found else { return Ok(false) };
        let index = u32::try_from(offset.since(part.batch.base)).unwrap_or(u32::MAX);
        let (reason, place) = (LetterReason::Expired, Cell::default());
        let letter = Letter { stream, batch: &part.batch, index, offset, reason, place: &place };
        let Some(batch) = by.successor(&letter, &key, now_ms)? else { return Ok(false) };
        let expected = Some((key.clone(), Some(offset)));
        let append = Append {
            conditions: Conditions { expected_key_last: expected, ..Conditions::default() },
            ..Append::new(partition, crate::NewBatch { replaces: Replaces::SameKey, ..batch.clone() })
        };
        let published = self.publish(PublishUnit::of(vec![append]))?;
        let Some(Outcome::Appended { base, append_time_ms }) = published.outcomes.first() else {
            return Ok(false);
        };
        let (route_key, wait, at) = (&key[..], published.wait, *base);
        let append_time_ms = *append_time_ms;
        by.stored(&Succeeded { stream, route_key, before: offset, batch, at, append_time_ms, wait });
        Ok(true)
    }

    /// Who leaves something in place of the records of a partition.
    fn successors_of(&self, partition: &Partition) -> Option<(Arc<Stream>, Arc<dyn Successors>)> {
        let dialect = partition
            .log()
            .with(|_, state| state.settings.as_ref().and_then(|set| set.extras.get(SUCCESSORS).cloned()))?;
        let by = self.inner.successors.read().get(dialect.as_str()).cloned()?;
        Some((self.stream_by_id(partition.stream_id())?, by))
    }
}

/// Some of the records whose own time is over and that are there, and whether to look again. When they expire is forgotten
/// only after they have gone: a checkpoint may be made at any time between, and a crash come after it.
fn still_to_expire(core: &LogCore, state: &mut LogState, now_ms: i64) -> (Spans, bool) {
    let due = state.take_expired(now_ms);
    let live: Spans = due.offsets().filter(|offset| core.is_live(*offset)).map(Span::one).collect();
    if !live.is_empty() {
        state.expiries.get_or_insert_default().put_back(&live, now_ms);
    }
    let has_more = state.expiries.as_ref().and_then(|left| left.next_ms()).is_some_and(|at| at <= now_ms);
    (live, has_more)
}

/// Some of the records from `at` to `to` that are there and do not stay for ever, and where to go on.
fn mortal(core: &LogCore, state: &LogState, mut at: Offset, to: Offset) -> (Spans, Offset) {
    let mut found = Spans::new();
    let mut left = STEP;
    while at < to && left > 0 {
        let gap = core.first_gap(at..to);
        let end = gap.as_ref().map_or(to, |gap| gap.start).min(at.plus(left));
        if end > at {
            left -= end.since(at);
            add_mortal(state, Span::new(at, end), &mut found);
            at = end;
        } else {
            at = gap.map_or(to, |gap| gap.end);
        }
    }
    (found, at)
}

fn add_mortal(state: &LogState, span: Span, found: &mut Spans) {
    let mut at = span.start;
    for stays in state.expiries.iter().flat_map(|expiries| expiries.those_that_stay(span)) {
        if stays > at {
            found.add(Span::new(at, stays));
        }
        at = stays.plus(1);
    }
    if at < span.end {
        found.add(Span::new(at, span.end));
    }
}

/// Those of `expired` after which nothing is left under their route key, with it.
fn lasts(state: &LogState, expired: &Spans) -> Vec<(Offset, Bytes)> {
    let Some(keys) = &state.route_keys else { return Vec::new() };
    let is_last = |offset: &Offset, key: &[u8]| {
        keys.of(key).is_some_and(|all| {
            all.last() == Some(*offset)
                && all.len() <= expired.count()
                && all.oldest(all.len()).iter().all(|one| expired.contains(*one))
        })
    };
    let with_key = |offset: Offset| {
        let key = keys.key_at(offset)?;
        is_last(&offset, key).then(|| (offset, Bytes::copy_from_slice(key)))
    };
    expired.offsets().filter_map(with_key).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use model::{Attributes, RecordAttributes};
    use parking_lot::Mutex;

    use super::*;
    use crate::{
        NewBatch, StreamSettings,
        testing::{Rig, START_MS, batch},
    };

    /// Notes which expiry is known while it is asked for a successor. Leaves nothing.
    #[derive(Default)]
    struct Watching {
        partition: OnceLock<Arc<Partition>>,
        known: Mutex<Vec<Option<i64>>>,
    }

    fn next_ms(partition: &Partition) -> Option<i64> {
        partition.log().with(|_, state| state.expiries.as_ref().and_then(|expiries| expiries.next_ms()))
    }

    impl Successors for Watching {
        fn successor(&self, _: &Letter<'_>, _: &[u8], _: i64) -> Result<Option<NewBatch>> {
            let partition = self.partition.get().unwrap();
            self.known.lock().push(next_ms(partition));
            Ok(None)
        }
    }

    #[test]
    fn when_a_record_expires_is_known_until_it_is_gone_whatever_is_done_before() {
        let rig = Rig::new();
        let mut settings =
            StreamSettings { index_route_keys: true, expires_records: true, ..StreamSettings::default() };
        settings.extras.insert(SUCCESSORS.to_owned(), "test".to_owned());
        rig.log_with("kv", 1, settings);
        let (partition, watching) = (rig.partition("kv", 0), Arc::new(Watching::default()));
        rig.broker.register_successors("test", watching.clone());
        assert!(watching.partition.set(partition.clone()).is_ok());
        for key in ["a", "b"] {
            let row = RecordAttributes {
                route_key: Some(Bytes::from(key)),
                expiry_ms: Some(START_MS + 500),
                ..RecordAttributes::default()
            };
            let record = NewBatch { attributes: Attributes::Same(Box::new(row)), ..batch(&[key]) };
            rig.publish(Append::new(&partition, record));
        }
        rig.advance(1_000);
        let now_ms = START_MS + 1_000;
        rig.broker.drop_expired(&partition, now_ms).unwrap();
        let known = watching.known.lock();
        assert!(known.len() == 2 && known.iter().all(|at| at.is_some_and(|at| at <= now_ms)), "{known:?}");
        let is_live = |offset| partition.log().with(|core, _| core.is_live(Offset(offset)));
        assert!(next_ms(&partition).is_none() && !is_live(0) && !is_live(1));
    }
}
