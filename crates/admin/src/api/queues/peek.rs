//! Looking into a queue: no lease is taken, and no delivery counted.

use std::sync::Arc;

use axum::{Json, extract::State, response::IntoResponse};
use broker::{Action, Broker, MoveFilter, Partition, ReadLimits, RecordState, Stream};
use model::{Error, ErrorKind, Offset, Origin, PartitionIndex, Record, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use super::find;
use crate::{
    api::{places, records},
    body::{Asked, Path},
    caller::{Caller, invalid},
    error::Answer,
    server::Shared,
};

/// Records of one answer at most.
const COUNT_MAX: u64 = 1_000;
/// Bytes of stored batches read at a time.
const READ_LEN: usize = 1 << 20;
/// Records that one request looks at: what is settled, or not wanted, counts too.
const LOOKED_AT_MAX: u64 = 200_000;

#[derive(Deserialize)]
pub(crate) struct PeekQuery {
    #[serde(default)]
    partition: u32,
    #[serde(default)]
    from: u64,
    #[serde(default = "twenty")]
    count: u64,
    /// `ready`, `leased`, `delayed` or `exhausted`; absent: all four.
    state: Option<String>,
}

fn twenty() -> u64 {
    20
}

/// `GET /api/v1/queues/{name}/records`
pub(crate) async fn peek(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Path(name): Path<String>,
    Asked(query): Asked<PeekQuery>,
) -> Answer {
    let queue = find(&shared.broker, &caller, &name)?;
    caller.need(Action::Read, &name)?;
    if let Some(state) = &query.state
        && !STATES.contains(&state.as_str())
    {
        return Err(invalid(format!("{state:?} is none of {}", STATES.join(", "))).into());
    }
    let look = Look {
        broker: &shared.broker,
        queue: &queue,
        partition: partition_of(&queue, query.partition)?,
        state: query.state.as_deref(),
        filter: MoveFilter::default(),
    };
    let found = look.from(Offset(query.from), query.count.min(COUNT_MAX)).await?;
    let rows: Vec<Value> = found.rows.iter().map(|row| look.shown(row)).collect();
    Ok(Json(json!({
        "queue": name,
        "partition": query.partition,
        "records": rows,
        "next": found.next.0,
        "end": look.partition.bounds().stable_end.0,
    }))
    .into_response())
}

const STATES: [&str; 4] = ["ready", "leased", "delayed", "exhausted"];

fn partition_of(queue: &Stream, index: u32) -> Result<&Arc<Partition>> {
    let count = queue.partitions().len();
    queue.partition(PartitionIndex(index)).ok_or_else(|| {
        Error::not_found(format!("{:?} has {count} partitions, counted from 0", queue.key().name))
    })
}

/// A record with what its queue thinks of it.
pub(super) struct Row {
    offset: Offset,
    record: Record,
    state: RecordState,
    origin: Option<Origin>,
}

/// What a look found, and where the next one goes on.
pub(super) struct Found {
    pub(super) rows: Vec<Row>,
    pub(super) next: Offset,
}

/// What is looked at.
pub(super) struct Look<'a> {
    pub(super) broker: &'a Broker,
    pub(super) queue: &'a Stream,
    pub(super) partition: &'a Arc<Partition>,
    pub(super) state: Option<&'a str>,
    pub(super) filter: MoveFilter,
}

impl Look<'_> {
    /// Up to `count` records from `from` on that are not settled and as asked.
    pub(super) async fn from(&self, from: Offset, count: u64) -> Result<Found> {
        let work = self.broker.queue_work_there(self.queue, self.partition.index());
        let floor = work.as_ref().map_or(Ok(Offset::ZERO), |work| work.floor())?;
        let mut next = from.max(floor).max(self.partition.bounds().start);
        let (mut rows, mut looked_at) = (Vec::new(), 0);
        while (rows.len() as u64) < count && looked_at < LOOKED_AT_MAX {
            let chunk = match self.broker.read(self.partition, next, ReadLimits::bytes(READ_LEN)).await {
                Err(e) if e.kind() == ErrorKind::NotFound && next < self.partition.bounds().start => {
                    next = self.partition.bounds().start; // Settled meanwhile.
                    continue;
                }
                read => read?,
            };
            if chunk.next <= next {
                break;
            }
            let mut cut = None;
            'batches: for part in chunk.batches.iter().filter(|part| !part.batch.flags.control) {
                let decoded = self.broker.decoded(self.partition, &part.batch)?;
                for (index, record) in decoded.records() {
                    let offset = part.batch.base.plus(u64::from(*index));
                    if offset < next || part.dropped.as_ref().is_some_and(|gone| gone.contains(*index)) {
                        continue;
                    }
                    if rows.len() as u64 == count {
                        cut = Some(offset);
                        break 'batches;
                    }
                    looked_at += 1;
                    let state = match &work {
                        Some(work) => work.state(offset)?,
                        None => RecordState::Ready { attempts: 0 },
                    };
                    let is_meant =
                        word(&state).is_some_and(|word| self.state.is_none_or(|state| state == word));
                    if is_meant && self.filter.wants(record) {
                        rows.push(Row { offset, record: record.clone(), state, origin: part.batch.origin });
                    }
                }
            }
            next = cut.unwrap_or(chunk.next);
        }
        Ok(Found { rows, next })
    }

    /// A row as JSON.
    pub(super) fn shown(&self, row: &Row) -> Value {
        let now_ms = self.broker.env().clock.wall_ms();
        let mut out = records::shown(row.offset, &row.record);
        out["state"] = word(&row.state).into();
        out["age_ms"] = now_ms.saturating_sub(row.record.append_time_ms).into();
        match row.state {
            RecordState::Leased(lease) => {
                out["attempts"] = lease.attempt.into();
                out["holder"] = lease.holder.0.into();
                out["deadline_at_ms"] = lease.deadline_ms.into();
            }
            RecordState::Ready { attempts } => out["attempts"] = attempts.into(),
            RecordState::Delayed(until_ms) => out["due_at_ms"] = until_ms.into(),
            RecordState::Settled | RecordState::Exhausted | RecordState::Beyond => {}
        }
        if let Some(origin) = row.origin {
            let home = &self.queue.key().namespace;
            let from = self.broker.stream_of_log(origin.log);
            out["origin"] = json!({
                "stream": from.map(|stream| places::shown(stream.key(), home)),
                "offset": origin.offset.0,
                "append_time_ms": origin.append_time_ms,
                "attempts": origin.attempts,
            });
        }
        out
    }
}

/// The state in a word; `None` for what is not in the queue any more.
fn word(state: &RecordState) -> Option<&'static str> {
    match state {
        RecordState::Ready { .. } => Some("ready"),
        RecordState::Leased(_) => Some("leased"),
        RecordState::Delayed(_) => Some("delayed"),
        RecordState::Exhausted => Some("exhausted"),
        RecordState::Settled | RecordState::Beyond => None,
    }
}
