//! What speaks against an append: asked of the staged state, under the log's lock.

use model::{Error, ErrorKind, Offset, Result, limits};
use store::LogCore;

use super::overflow::waiting;
use crate::{
    log_state::{
        LogState,
        dedup::{DedupKey, KEYS_MAX},
        producers::Verdict,
    },
    publish::{Conditions, NewBatch, Outcome, Refusal, RefusalReason},
    settings::{Overflow, StreamSettings},
    stream::closed,
};

/// What speaks against an append, as its outcome. `longest` is the length of its longest record, bytes, where the stream
/// limits it and the batch does not say.
pub(crate) fn check(
    core: &LogCore,
    state: &LogState,
    batch: &NewBatch,
    conditions: &Conditions,
    longest: Option<&Result<u32>>,
    now_ms: i64,
) -> std::result::Result<(), Outcome> {
    if core.is_deleted() {
        return Err(refused(RefusalReason::Closed, closed()));
    }
    check_batch(state.settings.as_deref(), batch, longest)?;
    check_sequence(state, batch)?;
    if !conditions.is_dedup_last {
        check_dedup(core, state, conditions, now_ms)?;
    }
    check_conditions(core, conditions)?;
    check_key(core, state, conditions)?;
    if conditions.is_dedup_last {
        check_dedup(core, state, conditions, now_ms)?;
    }
    check_last_dedup_key(core, state, conditions)?;
    check_room_of_keys(state, batch)?;
    let offset = conditions.placed_at.map_or(core.end(), |(offset, _)| offset);
    if offset.plus(u64::from(batch.count)).0 > limits::OFFSET_MAX {
        return Err(refused(RefusalReason::Full, Error::limit("the partition has no offsets left")));
    }
    match state.settings.as_deref() {
        Some(settings) if settings.overflow != Overflow::DropOldest => {
            check_room(core, state, settings, batch)
        }
        _ => Ok(()),
    }
}

fn check_batch(
    settings: Option<&StreamSettings>,
    batch: &NewBatch,
    longest: Option<&Result<u32>>,
) -> std::result::Result<(), Outcome> {
    if batch.count == 0 {
        return Err(refused(RefusalReason::Invalid, Error::invalid("a batch has at least one record")));
    }
    let batch_len_max = settings.and_then(|settings| settings.batch_len_max).map(|max| max as usize);
    let is_too_long =
        batch.body.len() > batch_len_max.unwrap_or(limits::BATCH_LEN_MAX).min(limits::BATCH_LEN_MAX);
    if is_too_long || batch.count > limits::BATCH_RECORDS_MAX {
        return Err(refused(RefusalReason::TooLarge, Error::limit("the batch is too large")));
    }
    if let Some(Err(error)) = longest {
        return Err(refused(RefusalReason::Invalid, error.clone()));
    }
    let Some(record_len_max) = settings.and_then(|settings| settings.record_len_max) else { return Ok(()) };
    if let Some(longest_len) = batch.longest_len {
        return if longest_len <= record_len_max { Ok(()) } else { Err(too_large()) };
    }
    let measured = longest.and_then(|longest| longest.as_ref().ok()).copied().unwrap_or(0);
    let is_within =
        |index| batch.attributes.of(index).and_then(|row| row.body_len).unwrap_or(0) <= record_len_max;
    if measured <= record_len_max && (0..batch.count).all(is_within) { Ok(()) } else { Err(too_large()) }
}

fn too_large() -> Outcome {
    refused(RefusalReason::TooLarge, Error::limit("a record is too large"))
}

fn check_sequence(state: &LogState, batch: &NewBatch) -> std::result::Result<(), Outcome> {
    let (Some(stamp), Some(producers)) = (batch.producer, state.producers()) else { return Ok(()) };
    let (reason, error) = match producers.check(stamp, batch.count) {
        Verdict::Follows => return Ok(()),
        Verdict::Duplicate(base, append_time_ms) => return Err(Outcome::Duplicate { base, append_time_ms }),
        Verdict::Gap => {
            (RefusalReason::SequenceGap, Error::conflict("sequence numbers are missing before the batch"))
        }
        Verdict::Stale => {
            (RefusalReason::SequenceStale, Error::conflict("the batch is older than those remembered"))
        }
        Verdict::Fenced => {
            (RefusalReason::ProducerFenced, Error::fenced("a newer epoch of the producer was here"))
        }
    };
    Err(refused(reason, error))
}

fn check_dedup(
    core: &LogCore,
    state: &LogState,
    conditions: &Conditions,
    now_ms: i64,
) -> std::result::Result<(), Outcome> {
    let Some(key) = &conditions.dedup_key else { return Ok(()) };
    let full = |text: &'static str| Err(refused(RefusalReason::Full, Error::new(ErrorKind::Throttled, text)));
    let no_room = "memory for dedup keys is used up";
    let Some(dedup) = &state.dedup else {
        return if state.has_dedup_room() { Ok(()) } else { full(no_room) };
    };
    let window_ms = state.settings.as_ref().map_or(0, |settings| settings.dedup_window_ms);
    // The log's time, which never goes back, is what keys age by.
    let now_ms = now_ms.max(core.last_append_time_ms());
    match dedup.find(DedupKey::of(key), now_ms, window_ms) {
        Some((base, append_time_ms)) => Err(Outcome::Duplicate { base, append_time_ms }),
        None if dedup.is_full(KEYS_MAX, now_ms, window_ms) => {
            full("as many dedup keys as a stream remembers were published within its window")
        }
        None if !dedup.has_room() => full(no_room),
        None => Ok(()),
    }
}

fn check_key(core: &LogCore, state: &LogState, conditions: &Conditions) -> std::result::Result<(), Outcome> {
    let Conditions { expected_key_last: by_key, expected_pattern_last: by_pattern, .. } = conditions;
    if by_key.is_none() && by_pattern.is_none() {
        return Ok(());
    }
    let Some(route_keys) = &state.route_keys else {
        return Err(refused(
            RefusalReason::Invalid,
            Error::invalid("the stream does not index its route keys"),
        ));
    };
    let holds = |last: Option<Offset>, expected: Option<Offset>| {
        if last == expected {
            return Ok(());
        }
        let found = last.map_or("there is none".to_owned(), |last| format!("the last one is {last}"));
        let error = Error::conflict(format!("of that route key {found}"));
        Err(refused(RefusalReason::ConditionFailed, error))
    };
    if let Some((key, expected)) = by_key {
        holds(route_keys.last(key).filter(|offset| core.is_live(*offset)), *expected)?;
    }
    if let Some((pattern, expected)) = by_pattern {
        holds(route_keys.matching(pattern).filter_map(|slot| slot.offsets.last()).max(), *expected)?;
    }
    Ok(())
}

fn check_last_dedup_key(
    core: &LogCore,
    state: &LogState,
    conditions: &Conditions,
) -> std::result::Result<(), Outcome> {
    let Some(expected) = &conditions.expected_last_dedup_key else { return Ok(()) };
    let of_expected = state.dedup.as_ref().and_then(|dedup| dedup.find(DedupKey::of(expected), 0, u64::MAX));
    if of_expected.is_some_and(|(base, _)| base.plus(1) == core.end()) {
        return Ok(());
    }
    let error = Error::conflict("the last record was not published under that dedup key");
    Err(refused(RefusalReason::ConditionFailed, error))
}

fn check_conditions(core: &LogCore, conditions: &Conditions) -> std::result::Result<(), Outcome> {
    if conditions.expected_end.is_some_and(|expected| expected != core.end()) {
        let error = Error::conflict(format!("the partition ends at {}", core.end()));
        return Err(refused(RefusalReason::ConditionFailed, error));
    }
    if conditions.placed_at.is_some_and(|(offset, _)| offset < core.end()) {
        let error = Error::invalid(format!("the partition ends at {} already", core.end()));
        return Err(refused(RefusalReason::Invalid, error));
    }
    Ok(())
}

/// Whether the keys of a stream that refuses when one of them is full have room.
fn check_room_of_keys(state: &LogState, batch: &NewBatch) -> std::result::Result<(), Outcome> {
    let settings = state.settings.as_deref().filter(|settings| settings.key_overflow != Overflow::DropOldest);
    let max = settings.and_then(|settings| settings.key_records_max);
    let (Some(max), Some(route_keys)) = (max, &state.route_keys) else { return Ok(()) };
    let key = |index| batch.attributes.of(index).and_then(|row| row.route_key.as_deref());
    let mut keys: Vec<&[u8]> = (0..batch.count).filter_map(key).collect();
    keys.sort_unstable();
    let is_over = |same: &[&[u8]]| {
        let there = same.first().and_then(|key| route_keys.of(key)).map_or(0, |offsets| offsets.len());
        there + same.len() as u64 > max
    };
    if keys.chunk_by(|one, other| one == other).any(is_over) {
        return Err(refused(RefusalReason::Full, Error::limit("a route key of the stream is full")));
    }
    Ok(())
}

/// Whether a stream that refuses when it is full has room.
fn check_room(
    core: &LogCore,
    state: &LogState,
    settings: &StreamSettings,
    batch: &NewBatch,
) -> std::result::Result<(), Outcome> {
    let (records, bytes) = waiting(core, state);
    let records = records.saturating_add(u64::from(batch.count));
    let counted_len = if state.counts_ready() { batch.counted() } else { None };
    let bytes = bytes.saturating_add(counted_len.unwrap_or(batch.body.len() as u64));
    let is_over = |max: Option<u64>, value: u64| max.is_some_and(|max| value > max);
    if is_over(settings.length_max, records) || is_over(settings.bytes_max, bytes) {
        return Err(refused(RefusalReason::Full, Error::limit("the stream is full")));
    }
    Ok(())
}

fn refused(reason: RefusalReason, error: Error) -> Outcome {
    debug_assert_ne!(error.kind(), ErrorKind::Internal, "a refusal is the caller's affair");
    Outcome::Refused(Refusal { reason, error })
}
