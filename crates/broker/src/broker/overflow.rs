//! What happens to a stream that is above its length.

use bytes::Bytes;
use cursor::{AckCursor, Span, Spans};
use model::Offset;
use store::{LockedLog, LogCore};

use crate::{
    log_state::{LogState, surplus::share},
    publish::{NewBatch, Replaces},
    settings::{Mode, Overflow, StreamSettings},
    work::QUEUE_WORK,
};

/// Takes the oldest records of a stream that is above its length, down to it. Where they go to dead letters, the worker
/// does it right after.
pub(super) fn make_room(log: &mut LockedLog<'_, LogState>, now_ms: i64) {
    let (core, state) = log.parts();
    let Some(settings) = state.settings.clone() else { return };
    if settings.overflow != Overflow::DropOldest || (settings.length_max, settings.bytes_max) == (None, None)
    {
        return;
    }
    let excess = excess_records(core, state, &settings);
    if excess == 0 {
        return;
    }
    if settings.mode == Mode::Queue && settings.has_dead_letters() {
        state.head_due_ms = Some(now_ms);
        return;
    }
    let promised = state.promised();
    let dropped = match state.followed(QUEUE_WORK, core) {
        Some(work) if settings.mode == Mode::Queue => oldest_ready(core, &work.cursor, promised, excess),
        _ => [oldest(core, excess)].into_iter().collect(),
    };
    log.drop_offsets(dropped.iter().map(|span| span.start..span.end).collect());
    let (core, state) = log.parts();
    dropped.iter().for_each(|span| state.skip(core, span));
}

/// Takes the second oldest record of a stream that a batch will fill, so that the oldest stays: a mistake.
pub(super) fn drop_the_wrong_one(log: &mut LockedLog<'_, LogState>, batch: &NewBatch) {
    let (core, state) = log.parts();
    let max = state.settings.as_ref().filter(|settings| settings.overflow == Overflow::DropOldest);
    let is_over = max
        .and_then(|settings| settings.length_max)
        .is_some_and(|max| core.records() + u64::from(batch.count) > max);
    let second = oldest(core, 2);
    let second = Span::new(Offset(second.end.0.saturating_sub(1)).max(second.start), second.end);
    if is_over {
        take(log, &[second].into_iter().collect());
    }
}

/// The route keys of a batch of which older records go where there are too many.
pub(super) fn keys_to_thin(state: &LogState, batch: &NewBatch) -> Vec<Bytes> {
    let settings = state.settings.as_deref();
    if state.route_keys.is_none() || settings.is_none_or(|settings| settings.key_records_max.is_none()) {
        return Vec::new();
    }
    let key = |index| batch.attributes.of(index).and_then(|row| row.route_key.clone());
    let mut keys: Vec<Bytes> = (0..batch.count).filter_map(key).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// Takes the oldest records of keys that are above their length.
pub(super) fn make_room_of_keys(log: &mut LockedLog<'_, LogState>, keys: &[Bytes]) {
    let state = log.attached();
    let max = state.settings.as_ref().and_then(|settings| settings.key_records_max);
    let (Some(max), Some(route_keys)) = (max, &state.route_keys) else { return };
    let excess = |key: &Bytes| {
        let offsets = route_keys.of(key)?;
        Some(offsets.oldest(offsets.len().saturating_sub(max)))
    };
    let mut gone: Vec<_> = keys.iter().filter_map(excess).flatten().collect();
    gone.sort_unstable();
    take(log, &gone.into_iter().map(Span::one).collect());
}

/// Takes what a batch at `base` replaces.
pub(super) fn replace(log: &mut LockedLog<'_, LogState>, replaces: Replaces, base: Offset) {
    match replaces {
        Replaces::Nothing => {}
        Replaces::SameKey => {
            let Some(route_keys) = &log.attached().route_keys else { return };
            let earlier = route_keys.key_at(base).and_then(|key| {
                let offsets = route_keys.of(key)?;
                Some(offsets.oldest(offsets.count_below(base)))
            });
            let earlier = earlier.unwrap_or_default();
            take(log, &earlier.into_iter().map(Span::one).collect());
        }
        Replaces::Everything => {
            let span = Span::new(log.core().start(), base);
            if span.start < span.end {
                take(log, &[span].into_iter().collect());
            }
        }
    }
}

fn take(log: &mut LockedLog<'_, LogState>, gone: &Spans) {
    if gone.is_empty() {
        return;
    }
    log.drop_offsets(gone.iter().map(|span| span.start..span.end).collect());
    let (core, state) = log.parts();
    gone.iter().for_each(|span| state.skip(core, span));
}

/// How many of the oldest records are above the length of a stream. The newest stays, unless only what is ready counts: what
/// may not wait at all is for those who take it at once.
pub(crate) fn excess_records(core: &LogCore, state: &LogState, settings: &StreamSettings) -> u64 {
    let (records, bytes) = waiting(core, state);
    let over_records = settings.length_max.map_or(0, |max| records.saturating_sub(max));
    let over_bytes = settings.bytes_max.map_or(0, |max| bytes.saturating_sub(max));
    // Bytes of one record are known on average only; what is left over goes with the next publish.
    let average = bytes.checked_div(records).unwrap_or(0).max(1);
    let stays = u64::from(!settings.limits_ready);
    over_records.max(over_bytes.div_ceil(average)).min(records.saturating_sub(stays))
}

/// Records and bytes of a log that count for its length. Bytes of those that do not, and what records take in the log beside
/// what they count for, are known on average only.
pub(super) fn waiting(core: &LogCore, state: &LogState) -> (u64, u64) {
    let uncounted = state.uncounted();
    let (all, records) = (core.records(), core.records().saturating_sub(uncounted));
    let beside = if state.counts_ready() { state.surplus.of(all, core.bytes()) } else { 0 };
    (records, share(core.bytes().saturating_sub(beside), records, all))
}

/// The `count` oldest records of a queue that nobody has, behind the first `promised` of them; also those that cannot be
/// read yet.
fn oldest_ready(core: &LogCore, cursor: &AckCursor, promised: u64, count: u64) -> Spans {
    let ready = cursor.unleased_below(core.end(), promised.saturating_add(count));
    let known = ready.count();
    let mut oldest = ready.after(promised);
    let missing = count - oldest.count();
    if missing > 0 {
        let from = core.end_of_next(cursor.end(), promised.saturating_sub(known));
        oldest.add(Span::new(from, core.end_of_next(from, missing)));
    }
    oldest
}

/// The offsets of the `count` oldest live records, from the start.
fn oldest(core: &LogCore, count: u64) -> Span {
    let (mut at, mut left) = (core.start(), count);
    while left > 0 && at < core.end() {
        left -= u64::from(core.is_live(at));
        at = at.plus(1);
    }
    Span::new(core.start(), at)
}
