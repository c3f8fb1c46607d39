//! How far cursors are behind.

use model::{Offset, Result, StreamKey};
use store::{Keep, LogCore, TimeOf};

use super::Broker;
use crate::{
    lag::{LagStatus, LagView},
    log_state::{
        LogState,
        positions::{MOVES_KEPT, Movement, Unread},
    },
    position::CursorKey,
    read::ReadLimits,
    settings::TimeSource,
    stream::{Bounds, Partition},
};

/// A cursor that has something to read and did not commit for this long counts as stopped, milliseconds: longer than
/// any client's default commit interval and session time-out.
const STOPPED_AFTER_MS: u64 = 60_000;

impl Broker {
    /// How far a cursor is behind, per partition on which it has a position. [`model::ErrorKind::NotFound`] when there is
    /// no such cursor.
    pub async fn lag(&self, cursor: &CursorKey) -> Result<Vec<LagView>> {
        let mut views = Vec::new();
        for (stream, partition) in self.cursor_partitions(cursor)? {
            views.extend(self.partition_lag(cursor, stream, &partition).await?);
        }
        Ok(views)
    }

    async fn partition_lag(
        &self,
        cursor: &CursorKey,
        stream: StreamKey,
        partition: &Partition,
    ) -> Result<Option<LagView>> {
        let looked = partition.log().with(|core, state| {
            let held = state.positions.as_ref()?.by_cursor.get(cursor)?;
            let commit = held.cursor.commit()?;
            let held_back = (commit.offset, commit.committed_at_ms, held.cursor.protect_len());
            Some((held_back, held.movement.clone(), behind(core, state, commit.offset)))
        });
        let Some(((position, committed_at_ms, protect_len), movement, behind)) = looked else {
            return Ok(None);
        };
        let Behind { bounds, records, bytes, fate } = behind;
        let now_ms = self.env().clock.wall_ms();
        let from = position.max(bounds.start);
        let times = if records == 0 { None } else { self.unread(cursor, partition, from).await? };
        let lag_age_ms = times.map_or(0, |unread| u64::try_from(now_ms - unread.append_time_ms).unwrap_or(0));
        let idle_ms = u64::try_from(now_ms.saturating_sub(committed_at_ms)).unwrap_or(0).min(lag_age_ms);
        Ok(Some(LagView {
            stream,
            partition: partition.index(),
            position,
            start: bounds.start,
            end: bounds.stable_end,
            lag_records: records,
            lag_bytes: bytes,
            lag_age_ms,
            retention_headroom_ms: times.and_then(|unread| fate.headroom_ms(unread.time_ms, now_ms)),
            protect_len,
            committed_at_ms,
            status: status(position, bounds.start, records, idle_ms, &movement),
        }))
    }

    /// The times of a cursor's first unread record, read once for each position.
    async fn unread(
        &self,
        cursor: &CursorKey,
        partition: &Partition,
        from: Offset,
    ) -> Result<Option<Unread>> {
        let known = self.held(cursor, partition, |held| held.unread).flatten();
        if let Some(known) = known.filter(|known| known.from == from) {
            return Ok(Some(known));
        }
        let found = self.times_at(partition, from).await?;
        partition.log().with(|_, state| {
            let held = state.positions.as_mut().and_then(|positions| positions.by_cursor.get_mut(cursor));
            if let Some(held) = held {
                held.unread = found;
            }
        });
        Ok(found)
    }

    /// The times of the first record at or after `from`, if one is there.
    pub(crate) async fn times_at(&self, partition: &Partition, from: Offset) -> Result<Option<Unread>> {
        let chunk = match self.read(partition, from, ReadLimits { records: 1, ..ReadLimits::bytes(1) }).await
        {
            Ok(chunk) => chunk,
            // Retention went by, or the stream is gone: nothing is unread there.
            Err(e) if matches!(e.kind(), model::ErrorKind::NotFound | model::ErrorKind::Closed) => {
                return Ok(None);
            }
            Err(e) => return Err(e),
        };
        let Some(batch) = chunk.batches.first().map(|first| &first.batch) else { return Ok(None) };
        let time_ms = match self.time_source(partition) {
            TimeSource::Append => batch.append_time_ms,
            TimeSource::Producer => batch.max_event_time_ms.unwrap_or(batch.append_time_ms),
        };
        Ok(Some(Unread { from, append_time_ms: batch.append_time_ms, time_ms }))
    }
}

/// What lies between a position and the end of a log.
struct Behind {
    bounds: Bounds,
    records: u64,
    bytes: u64,
    fate: Fate,
}

/// What retention does to the first unread record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Nothing: there is no bound, or a protected cursor holds it.
    Stays,
    /// It goes at so many milliseconds of age.
    GoesAt(u64),
    /// It may go at any time: there are more bytes or records behind it than stay.
    MayGo,
}

impl Fate {
    fn headroom_ms(self, time_ms: i64, now_ms: i64) -> Option<u64> {
        match self {
            Fate::Stays => None,
            Fate::MayGo => Some(0),
            Fate::GoesAt(age_ms) => {
                let left = time_ms.saturating_add_unsigned(age_ms).saturating_sub(now_ms);
                Some(u64::try_from(left).unwrap_or(0))
            }
        }
    }
}

fn behind(core: &LogCore, state: &LogState, position: Offset) -> Behind {
    let bounds = core.bounds();
    let from = position.max(bounds.start);
    // Settled ones that are kept for a while are gaps to whoever looks.
    let kept = state.history.as_ref().map_or(0, |history| history.count_in(from..bounds.stable_end));
    Behind {
        bounds,
        records: core.records_in(from..bounds.stable_end).saturating_sub(kept),
        bytes: core.bytes_from(from),
        fate: fate(core, state, core.first_from(from).unwrap_or(from)),
    }
}

/// What retention, as it stands, does to the record at `first`.
fn fate(core: &LogCore, state: &LogState, first: Offset) -> Fate {
    let Some(retention) = state.settings.as_ref().map(|settings| &settings.retention) else {
        return Fate::Stays;
    };
    let keep = Keep { since_ms: None, time: TimeOf::Append, bytes: None, records: None };
    let is_held = |(offset, bytes_max): (Offset, u64)| {
        offset <= first && core.retention_point(Keep { bytes: Some(bytes_max), ..keep }) <= first
    };
    if state.positions.iter().flat_map(|positions| positions.protected()).any(is_held) {
        return Fate::Stays;
    }
    let much = Keep { bytes: retention.bytes, records: retention.records, ..keep };
    if (much.bytes, much.records) != (None, None) && core.retention_point(much) > first {
        return Fate::MayGo;
    }
    retention.time_ms.map_or(Fate::Stays, Fate::GoesAt)
}

/// What a cursor's movement says. The rules are those of consumer-lag monitors: judged over the last commits, not by a
/// threshold that somebody has to choose. `idle_ms` is for how long there was something to read and no commit.
fn status(position: Offset, start: Offset, lag_records: u64, idle_ms: u64, movement: &Movement) -> LagStatus {
    if position < start {
        return LagStatus::Truncated;
    }
    if lag_records == 0 {
        return LagStatus::Ok;
    }
    if idle_ms > STOPPED_AFTER_MS {
        return LagStatus::Stopped;
    }
    // Until it is where it was before.
    if movement.furthest > position {
        return LagStatus::Rewound;
    }
    let moves = &movement.steps;
    let (Some(first), Some(last)) = (moves.front(), moves.back()) else { return LagStatus::Ok };
    if moves.len() < MOVES_KEPT / 2 || moves.iter().any(|step| step.lag == 0) {
        return LagStatus::Ok;
    }
    if first.offset == last.offset {
        return LagStatus::Stalled;
    }
    let never_less = moves.iter().zip(moves.iter().skip(1)).all(|(a, b)| b.lag >= a.lag);
    if never_less && last.lag > first.lag { LagStatus::Lagging } else { LagStatus::Ok }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log_state::positions::Move;

    fn judge(position: u64, start: u64, end: u64, moves: &[(u64, u64)], idle_ms: u64) -> LagStatus {
        let mut movement = Movement::default();
        for (offset, lag) in moves {
            movement.add(Move { at_ms: 0, offset: Offset(*offset), lag: *lag });
        }
        status(Offset(position), Offset(start), end - position.max(start), idle_ms, &movement)
    }

    #[test]
    fn a_cursor_is_judged_by_its_movement() {
        let falling_behind = [(1, 5), (2, 6), (3, 7), (4, 9), (5, 10)];
        let standing = [(1, 5), (1, 6), (1, 7), (1, 9), (1, 10)];
        let far_back: Vec<(u64, u64)> =
            [(90, 10)].into_iter().chain((1..=10).map(|at| (at, 100 - at))).collect();
        let keeping_up = [(1, 5), (2, 6), (3, 0), (4, 9), (5, 10)];
        for (expected, status) in [
            (LagStatus::Ok, judge(10, 0, 10, &[], 1_000_000)),
            (LagStatus::Ok, judge(5, 0, 15, &keeping_up, 0)),
            (LagStatus::Lagging, judge(5, 0, 15, &falling_behind, 0)),
            (LagStatus::Stalled, judge(1, 0, 15, &standing, 0)),
            (LagStatus::Stopped, judge(5, 0, 15, &falling_behind, STOPPED_AFTER_MS + 1)),
            (LagStatus::Rewound, judge(2, 0, 15, &[(5, 1), (2, 13)], 0)),
            (LagStatus::Rewound, judge(4, 0, 15, &[(5, 1), (2, 13), (4, 11)], STOPPED_AFTER_MS)),
            (LagStatus::Stopped, judge(2, 0, 15, &[(5, 1), (2, 13)], STOPPED_AFTER_MS + 1)),
            (LagStatus::Ok, judge(6, 0, 15, &[(5, 1), (2, 13), (6, 9)], 0)),
            (LagStatus::Rewound, judge(10, 0, 100, &far_back, 0)),
            (LagStatus::Truncated, judge(2, 3, 15, &[], 0)),
        ] {
            assert_eq!(status, expected);
        }
    }
}
