//! Records: read from a place on, waiting if asked to, and publish.

use std::{sync::Arc, time::Duration};

use axum::{Extension, Json, extract::State, http::StatusCode, response::IntoResponse};
use base64::{Engine, prelude::BASE64_STANDARD};
use broker::{Action, Append, Broker, Outcome, Partition, PublishUnit, ReadLimits, Stream, Watch};
use bytes::Bytes;
use model::{Error, Header, HeaderValue, Kind, Offset, PartitionIndex, Record, Result};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    api::streams::{self, KindName},
    body::{Asked, Path, Records},
    caller::{Caller, invalid},
    error::{Answer, code},
    server::{Shared, Stopping},
};

/// Records of one answer at most.
const COUNT_MAX: u64 = 10_000;
/// Bytes of stored batches that one answer is made from.
const READ_LEN: usize = 1 << 20;
/// The longest that a request waits for records.
const WAIT_MAX_MS: u64 = 60_000;

#[derive(Deserialize)]
pub(crate) struct ReadQuery {
    kind: Option<KindName>,
    #[serde(default)]
    partition: u32,
    /// `earliest`, `latest`, an offset, or `time:` and milliseconds since the Unix epoch.
    #[serde(default = "earliest")]
    from: String,
    #[serde(default = "hundred")]
    count: u64,
    #[serde(default)]
    wait_ms: u64,
}

fn earliest() -> String {
    "earliest".to_owned()
}

fn hundred() -> u64 {
    100
}

/// `GET /api/v1/streams/{name}/records`
pub(crate) async fn read(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Path(name): Path<String>,
    Asked(query): Asked<ReadQuery>,
    Extension(stopping): Extension<Stopping>,
) -> Answer {
    let stream = streams::find(&shared.broker, &caller, &name, query.kind)?;
    caller.need(Action::Read, &name)?;
    let partition = partition_of(&stream, query.partition)?;
    let from = place(&shared.broker, partition, &query.from).await?;
    let count = query.count.min(COUNT_MAX);
    let wait = Duration::from_millis(query.wait_ms.min(WAIT_MAX_MS));
    let until = until_over(wait, stopping);
    let (records, next) = await_records(&shared.broker, &stream, partition, from, count, until).await?;
    let rows: Vec<Value> = records.iter().map(|(offset, record)| shown(*offset, record)).collect();
    let bounds = partition.bounds();
    Ok(Json(json!({
        "partition": query.partition,
        "records": rows,
        "next": next.0,
        "start": bounds.start.0,
        "end": bounds.stable_end.0,
    }))
    .into_response())
}

/// The offset that `text` means on `partition`.
pub(crate) async fn place(broker: &Broker, partition: &Arc<Partition>, text: &str) -> Result<Offset> {
    let bounds = partition.bounds();
    match text {
        "earliest" => Ok(bounds.start),
        "latest" => Ok(bounds.stable_end),
        _ => match text.strip_prefix("time:") {
            Some(time) => {
                let at_ms =
                    time.parse().map_err(|_| invalid("time: takes milliseconds since the Unix epoch"))?;
                let found = broker.search_time(partition, at_ms).await?;
                Ok(found.map_or(bounds.stable_end, |(offset, _)| offset))
            }
            None => text.parse().map(Offset).map_err(|_| {
                invalid(format!("{text:?} is neither earliest, latest, an offset nor time:MILLISECONDS"))
            }),
        },
    }
}

/// Resolves when a request has waited for long enough, or the process ends.
async fn until_over(wait: Duration, Stopping(mut shutdown): Stopping) {
    tokio::select! {
        () = tokio::time::sleep(wait) => {}
        _ = shutdown.wait_for(|stop| *stop) => {}
    }
}

/// Records from `from` on, and where the next read goes on. Waits for the first, but not beyond `until`.
async fn await_records(
    broker: &Broker,
    stream: &Stream,
    partition: &Partition,
    mut from: Offset,
    count: u64,
    until: impl Future<Output = ()>,
) -> Result<(Vec<(Offset, Record)>, Offset)> {
    let watch = Watch::new();
    let mut until = std::pin::pin!(until);
    loop {
        partition.watch(from, &watch);
        let limits = ReadLimits { records: count, ..ReadLimits::bytes(READ_LEN) };
        let chunk = broker.look(stream, partition, from, limits).await?;
        let mut records = broker.records(&chunk)?;
        records.retain(|(offset, _)| *offset >= from);
        if !records.is_empty() || count == 0 {
            return Ok(cut(records, count, chunk.next));
        }
        let moved = chunk.next > from; // gaps, or another dialect's control records
        from = from.max(chunk.next);
        if moved {
            continue;
        }
        tokio::select! {
            biased; // what came is looked at once more, however late it is
            () = watch.changed() => {}
            () = &mut until => return Ok((Vec::new(), from)),
        }
    }
}

fn cut(mut records: Vec<(Offset, Record)>, count: u64, next: Offset) -> (Vec<(Offset, Record)>, Offset) {
    let keep = usize::try_from(count).unwrap_or(usize::MAX);
    if records.len() <= keep {
        return (records, next);
    }
    records.truncate(keep);
    let next = records.last().map_or(next, |(offset, _)| offset.plus(1));
    (records, next)
}

fn partition_of(stream: &Stream, index: u32) -> Result<&Arc<Partition>> {
    let count = stream.partitions().len();
    stream.partition(PartitionIndex(index)).ok_or_else(|| {
        Error::not_found(format!("{:?} has {count} partitions, counted from 0", stream.key().name))
    })
}

/// A record as JSON. Text where the bytes are UTF-8 (`key`, `body`), else base64 (`key_base64`, `body_base64`).
pub(crate) fn shown(offset: Offset, record: &Record) -> Value {
    let mut out = Map::new();
    out.insert("offset".to_owned(), offset.0.into());
    out.insert("append_time_ms".to_owned(), record.append_time_ms.into());
    let mut bytes = |name: &str, bytes: &Option<Bytes>| match bytes {
        None => {
            out.insert(name.to_owned(), Value::Null);
        }
        Some(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => {
                out.insert(name.to_owned(), text.into());
            }
            Err(_) => {
                out.insert(format!("{name}_base64"), BASE64_STANDARD.encode(bytes).into());
            }
        },
    };
    bytes("key", &record.key);
    bytes("body", &record.body);
    if let Some(time) = record.event_time_ms {
        out.insert("event_time_ms".to_owned(), time.into());
    }
    let headers = record.headers.iter().map(|header| json!([header.name, value(&header.value)]));
    out.insert("headers".to_owned(), headers.collect());
    Value::Object(out)
}

fn value(value_of: &HeaderValue) -> Value {
    match value_of {
        HeaderValue::Null => Value::Null,
        HeaderValue::Bool(it) => (*it).into(),
        HeaderValue::Int(it) => (*it).into(),
        HeaderValue::Float(it) => (*it).into(),
        HeaderValue::Text(it) => it.as_str().into(),
        HeaderValue::Binary(it) => match std::str::from_utf8(it) {
            Ok(text) => text.into(),
            Err(_) => json!({ "base64": BASE64_STANDARD.encode(it) }),
        },
        HeaderValue::Time(it) => json!({ "time_ms": it }),
        HeaderValue::List(items) => items.iter().map(value).collect(),
        HeaderValue::Table(items) => {
            items.iter().map(|item| json!([item.name, value(&item.value)])).collect()
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PublishBody {
    /// Absent: by key, else the first.
    partition: Option<u32>,
    records: Vec<RecordBody>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordBody {
    key: Option<String>,
    key_base64: Option<String>,
    body: Option<String>,
    body_base64: Option<String>,
    #[serde(default)]
    headers: Vec<(String, String)>,
    event_time_ms: Option<i64>,
}

impl RecordBody {
    fn record(self, now_ms: i64) -> Result<Record> {
        let headers = self.headers.into_iter();
        Ok(Record {
            key: bytes_of(self.key, self.key_base64)?,
            body: bytes_of(self.body, self.body_base64)?,
            headers: headers.map(|(name, text)| Header { name, value: HeaderValue::Text(text) }).collect(),
            event_time_ms: Some(self.event_time_ms.unwrap_or(now_ms)),
            ..Record::default()
        })
    }
}

fn bytes_of(text: Option<String>, base64: Option<String>) -> Result<Option<Bytes>> {
    match (text, base64) {
        (Some(_), Some(_)) => Err(invalid("text and base64 were given for the same thing")),
        (Some(text), None) => Ok(Some(text.into())),
        (None, Some(encoded)) => {
            let decoded = BASE64_STANDARD.decode(encoded).map_err(|_| invalid("the base64 does not read"))?;
            Ok(Some(decoded.into()))
        }
        (None, None) => Ok(None),
    }
}

/// `POST /api/v1/streams/{name}/records`: answers after the commit, with partition and offset of each record.
pub(crate) async fn publish(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Path(name): Path<String>,
    Asked(kind): Asked<streams::KindQuery>,
    Records { body, _turn }: Records<PublishBody>,
) -> Answer {
    let stream = streams::find(&shared.broker, &caller, &name, kind.kind)?;
    caller.need(Action::Write, &name)?;
    if body.records.is_empty() {
        return Err(invalid("there is no record in the request").into());
    }
    let composer = shared.options.composer.as_ref();
    let composer =
        composer.ok_or_else(|| Error::unavailable("no dialect is built that could store a record"))?;
    let now_ms = shared.broker.env().clock.wall_ms();
    let mut appends = Vec::with_capacity(body.records.len());
    let mut indices = Vec::with_capacity(body.records.len());
    let count = u32::try_from(stream.partitions().len()).unwrap_or(u32::MAX);
    let time = stream.settings().time;
    for record in body.records {
        let record = record.record(now_ms)?;
        let index = match (&record.key, body.partition) {
            (_, Some(index)) => index,
            (Some(key), None) => composer.partition(key, count),
            (None, None) => 0,
        };
        indices.push(index);
        appends.push(Append::new(partition_of(&stream, index)?, composer.compose(&[record], time)?));
    }
    let mut unit = PublishUnit::of(appends);
    if stream.key().kind == Kind::Log {
        follow_routes(&shared.broker, composer.dialect(), &stream, &mut unit)?;
    }
    let published = shared.broker.publish(unit)?;
    shared.broker.durable(published.wait).await?;
    let rows = placed(&published.outcomes, &indices)?;
    Ok((StatusCode::CREATED, Json(json!({ "records": rows }))).into_response())
}

/// Takes the records along the routes from the log's name, too.
fn follow_routes(broker: &Broker, dialect: &str, stream: &Arc<Stream>, unit: &mut PublishUnit) -> Result<()> {
    let targets = broker.routed(&stream.key().namespace, dialect, &stream.key().name);
    for of in 0..unit.appends.len() {
        let Some(append) = unit.appends.get(of) else { break };
        broker.onward(&targets, &append.batch, std::slice::from_ref(stream))?.follow(of, unit);
    }
    Ok(())
}

/// What came of each record; an error when none was stored, so that one means that nothing was.
fn placed(outcomes: &[Outcome], partitions: &[u32]) -> Result<Vec<Value>> {
    let refused = |outcome: &Outcome| match outcome {
        Outcome::Refused(refusal) => Some(refusal.error.clone()),
        Outcome::Appended { .. } | Outcome::Duplicate { .. } => None,
    };
    if let Some(error) = outcomes.first().and_then(refused)
        && outcomes.iter().all(|outcome| refused(outcome).is_some())
    {
        return Err(error);
    }
    let row = |(outcome, partition): (&Outcome, &u32)| match outcome {
        Outcome::Appended { base, append_time_ms } | Outcome::Duplicate { base, append_time_ms } => {
            json!({ "partition": partition, "offset": base.0, "append_time_ms": append_time_ms })
        }
        Outcome::Refused(refusal) => {
            let (_, kind) = code(refusal.error.kind());
            json!({ "partition": partition, "error": { "kind": kind, "message": refusal.error.text() } })
        }
    };
    Ok(outcomes.iter().zip(partitions).map(row).collect())
}

#[cfg(test)]
mod tests {
    use broker::{Refusal, RefusalReason};

    use super::*;

    #[test]
    fn bytes_that_are_no_text_are_shown_as_base64() {
        let record = Record {
            key: Some(Bytes::from_static(b"k")),
            body: Some(Bytes::from_static(&[0xff])),
            ..Record::default()
        };
        let shown = shown(Offset(7), &record);
        assert_eq!(shown["key"], "k");
        assert_eq!(shown["body_base64"], "/w==");
        assert_eq!(shown["offset"], 7);
        assert!(shown.get("body").is_none());
    }

    #[test]
    fn an_absent_body_is_null_and_an_empty_one_is_empty() {
        assert_eq!(shown(Offset(0), &Record::default())["body"], Value::Null);
        let empty = Record { body: Some(Bytes::new()), ..Record::default() };
        assert_eq!(shown(Offset(0), &empty)["body"], "");
    }

    #[test]
    fn more_records_than_asked_for_are_cut_where_the_next_read_goes_on() {
        let three = || (5..8).map(|offset| (Offset(offset), Record::default())).collect::<Vec<_>>();
        assert_eq!(cut(three(), 2, Offset(8)).1, Offset(7));
        assert_eq!(cut(three(), 3, Offset(8)).1, Offset(8));
        assert_eq!(cut(three(), 4, Offset(9)).1, Offset(9));
    }

    #[test]
    fn an_error_means_that_no_record_was_stored() {
        let stored = || Outcome::Appended { base: Offset(4), append_time_ms: 9 };
        let full = || {
            let error = Error::limit("the queue is full");
            Outcome::Refused(Refusal { reason: RefusalReason::Full, error })
        };
        let rows = placed(&[stored(), full()], &[0, 0]).unwrap();
        assert_eq!(rows[0], json!({ "partition": 0, "offset": 4, "append_time_ms": 9 }));
        let error = json!({ "kind": "limit", "message": "the queue is full" });
        assert_eq!(rows[1], json!({ "partition": 0, "error": error }));
        assert_eq!(placed(&[full(), full()], &[0, 0]).unwrap_err().text(), "the queue is full");
    }

    #[test]
    fn text_and_base64_exclude_each_other() {
        assert!(bytes_of(Some(String::new()), Some(String::new())).is_err());
        assert_eq!(bytes_of(None, Some("/w==".to_owned())).unwrap().unwrap().as_ref(), [0xff]);
        assert!(bytes_of(None, Some("?".to_owned())).is_err());
        assert_eq!(bytes_of(None, None).unwrap(), None);
    }
}
