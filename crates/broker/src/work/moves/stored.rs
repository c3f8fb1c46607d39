//! A move task as the catalog stores it.
//!
//! ```text
//! version 2 | source id | source | destination? | rate? | key? | body? |
//! header? | state | reason? | started | ended? | moved | to move | until*
//! | replays since?; version 1 ends before that
//! ```

use bytes::Bytes;
use model::{Error, Offset, Result, StreamId};

use super::{MoveFilter, MoveSpec, MoveState, Task};
use crate::{
    catalog::command::{put_key, read_key},
    codec::{Reader, put_bytes, put_i64, put_option, put_u64, put_u128},
};

const VERSION: u8 = 2;
const VERSION_WITHOUT_REPLAYS: u8 = 1;

pub(super) fn key(id: u64) -> Bytes {
    let mut out = Vec::new();
    put_u64(&mut out, id);
    out.into()
}

pub(super) fn encode(task: &Task) -> Bytes {
    let MoveSpec { source, destination, rate, filter } = &task.spec;
    let mut out = vec![VERSION];
    put_u128(&mut out, task.source_id.0);
    put_key(&mut out, source);
    put_option(&mut out, destination.as_ref(), put_key);
    put_option(&mut out, *rate, |out, rate| put_u64(out, u64::from(rate)));
    put_option(&mut out, filter.key.as_deref(), put_bytes);
    put_option(&mut out, filter.body_contains.as_deref(), put_bytes);
    put_option(&mut out, filter.header.as_ref(), |out, (name, value)| {
        put_bytes(out, name.as_bytes());
        put_bytes(out, value.as_bytes());
    });
    let (number, reason) = match &task.state {
        MoveState::Running => (0, None),
        MoveState::Completed => (1, None),
        MoveState::Cancelling => (2, None),
        MoveState::Cancelled => (3, None),
        MoveState::Failed(reason) => (4, Some(reason)),
    };
    out.push(number);
    put_option(&mut out, reason, |out, reason| put_bytes(out, reason.as_bytes()));
    put_i64(&mut out, task.started_at_ms);
    put_option(&mut out, task.ended_at_ms, put_i64);
    put_u64(&mut out, task.moved);
    put_u64(&mut out, task.to_move);
    put_u64(&mut out, task.until.len() as u64);
    task.until.iter().for_each(|offset| put_u64(&mut out, offset.0));
    put_option(&mut out, task.replays_since_ms, put_i64);
    out.into()
}

pub(super) fn decode(bytes: &[u8]) -> Result<Task> {
    let mut reader = Reader::new(bytes);
    let version = reader.u8()?;
    if ![VERSION, VERSION_WITHOUT_REPLAYS].contains(&version) {
        return Err(Error::corrupt("a move task has an unknown version"));
    }
    let source_id = StreamId(reader.u128()?);
    let text = |reader: &mut Reader<'_>| reader.text().map(str::to_owned);
    let spec = MoveSpec {
        source: read_key(&mut reader)?,
        destination: reader.option(read_key)?,
        rate: reader.option(Reader::u32)?,
        filter: MoveFilter {
            key: reader.option(Reader::bytes)?,
            body_contains: reader.option(Reader::bytes)?,
            header: reader.option(|reader| Ok((text(reader)?, text(reader)?)))?,
        },
    };
    let number = reader.u8()?;
    let state = match (number, reader.option(text)?) {
        (0, None) => MoveState::Running,
        (1, None) => MoveState::Completed,
        (2, None) => MoveState::Cancelling,
        (3, None) => MoveState::Cancelled,
        (4, Some(reason)) => MoveState::Failed(reason),
        _ => return Err(Error::corrupt("a move task is in an unknown state")),
    };
    let (started_at_ms, ended_at_ms) = (reader.i64()?, reader.option(Reader::i64)?);
    let (moved, to_move) = (reader.u64()?, reader.u64()?);
    let until = reader.list(|reader| reader.u64().map(Offset))?;
    let replays_since_ms = if version == VERSION { reader.option(Reader::i64)? } else { None };
    reader.finish()?;
    let at = vec![Offset::ZERO; until.len()];
    let (next_ns, stored_moved) = (0, moved);
    Ok(Task {
        spec,
        replays_since_ms,
        source_id,
        state,
        started_at_ms,
        ended_at_ms,
        moved,
        to_move,
        until,
        at,
        next_ns,
        stored_moved,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::key as stream_key;

    #[test]
    fn every_field_reads_back_and_every_cut_is_refused() {
        let task = Task {
            spec: MoveSpec {
                source: stream_key("a"),
                destination: Some(stream_key("b")),
                rate: Some(500),
                filter: MoveFilter {
                    key: Some(Bytes::from_static(b"k")),
                    body_contains: Some(Bytes::new()),
                    header: Some(("n".into(), "v".into())),
                },
            },
            replays_since_ms: Some(-3),
            source_id: StreamId(7),
            state: MoveState::Failed("why".into()),
            started_at_ms: 5,
            ended_at_ms: Some(-1),
            moved: 3,
            to_move: 9,
            until: vec![Offset(4), Offset(0)],
            at: vec![Offset(0), Offset(0)],
            next_ns: 0,
            stored_moved: 3,
        };
        let bytes = encode(&task);
        let before = Task { replays_since_ms: None, ..task.clone() };
        let mut older = encode(&before).to_vec();
        older.pop();
        older[0] = 1;
        assert_eq!(decode(&older).unwrap(), before);
        assert_eq!(decode(&bytes).unwrap(), task);
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_err(), "cut to {len}");
        }
        for state in [MoveState::Running, MoveState::Completed, MoveState::Cancelling, MoveState::Cancelled] {
            let task = Task { state, ..task.clone() };
            assert_eq!(decode(&encode(&task)).unwrap(), task);
        }
    }
}
