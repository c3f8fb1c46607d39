//! Streams: list, create, describe, alter, delete.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode, response::IntoResponse};
use broker::{
    Action, Broker, Durability, Facets, Mode, Partition, Stream, StreamSettings, StreamSpec, TimeSource,
};
use model::{Error, Kind, Result, StreamKey};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    api::page::PageQuery,
    body::{Asked, Body, Path},
    caller::Caller,
    error::Answer,
    server::Shared,
};

/// The two kinds, as typed.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum KindName {
    #[default]
    Log,
    Queue,
}

impl From<KindName> for Kind {
    fn from(name: KindName) -> Kind {
        match name {
            KindName::Log => Kind::Log,
            KindName::Queue => Kind::Queue,
        }
    }
}

#[derive(Deserialize)]
pub(crate) struct KindQuery {
    pub(crate) kind: Option<KindName>,
}

/// Settings of a stream that this API can set. What is absent stays; `null` takes a bound away.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SettingsBody {
    durability: Option<DurabilityName>,
    time: Option<TimeName>,
    #[serde(default, deserialize_with = "present")]
    retention_time_ms: Option<Option<u64>>,
    #[serde(default, deserialize_with = "present")]
    retention_bytes: Option<Option<u64>>,
    #[serde(default, deserialize_with = "present")]
    retention_records: Option<Option<u64>>,
    #[serde(default, deserialize_with = "present")]
    batch_len_max: Option<Option<u32>>,
    #[serde(default, deserialize_with = "present")]
    record_len_max: Option<Option<u32>>,
}

/// Tells an absent field (`None`) from `null` (`Some(None)`).
pub(crate) fn present<'de, D, T>(deserializer: D) -> std::result::Result<Option<Option<T>>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Some)
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum DurabilityName {
    Fsync,
    Memory,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum TimeName {
    Producer,
    Append,
}

impl SettingsBody {
    fn apply(&self, settings: &mut StreamSettings) {
        match self.durability {
            Some(DurabilityName::Fsync) => settings.durability = Durability::Fsync,
            Some(DurabilityName::Memory) => settings.durability = Durability::Memory,
            None => {}
        }
        match self.time {
            Some(TimeName::Producer) => settings.time = TimeSource::Producer,
            Some(TimeName::Append) => settings.time = TimeSource::Append,
            None => {}
        }
        let retention = &mut settings.retention;
        retention.time_ms = self.retention_time_ms.unwrap_or(retention.time_ms);
        retention.bytes = self.retention_bytes.unwrap_or(retention.bytes);
        retention.records = self.retention_records.unwrap_or(retention.records);
        settings.batch_len_max = self.batch_len_max.unwrap_or(settings.batch_len_max);
        settings.record_len_max = self.record_len_max.unwrap_or(settings.record_len_max);
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateBody {
    name: String,
    #[serde(default)]
    kind: KindName,
    partitions: Option<u32>,
    #[serde(default)]
    settings: SettingsBody,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AlterBody {
    partitions: Option<u32>,
    #[serde(default)]
    settings: SettingsBody,
}

/// `GET /api/v1/streams`
pub(crate) async fn list(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Asked(query): Asked<KindQuery>,
    Asked(page): Asked<PageQuery>,
) -> Answer {
    let streams = shared.broker.streams(&caller.namespace, query.kind.map(Kind::from));
    let seen = streams.iter().filter(|stream| !stream.facets().hidden && caller.sees(&stream.key().name));
    let place = |stream: &&Arc<Stream>| format!("{}:{}", stream.key().kind, stream.key().name);
    let (part, next) = page.of(seen, place)?;
    let rows: Vec<Value> = part.into_iter().map(|stream| summary(stream)).collect();
    Ok(Json(json!({ "streams": rows, "next": next })).into_response())
}

/// `POST /api/v1/streams`
pub(crate) async fn create(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Body(body): Body<CreateBody>,
) -> Answer {
    caller.need(Action::Configure, &body.name)?;
    let kind = Kind::from(body.kind);
    let mut settings = StreamSettings::default();
    if kind == Kind::Queue {
        settings.mode = Mode::Queue;
    }
    body.settings.apply(&mut settings);
    let default = match kind {
        Kind::Log => shared.broker.options().default_partitions,
        Kind::Queue => 1,
    };
    let partitions = body.partitions.unwrap_or(default);
    let key = StreamKey { namespace: caller.namespace, kind, name: body.name.into() };
    let spec = StreamSpec { partitions, settings, facets: Facets::default() };
    let stream = shared.broker.create_stream(key, spec).await?;
    Ok((StatusCode::CREATED, Json(details(&stream))).into_response())
}

/// `GET /api/v1/streams/{name}`
pub(crate) async fn describe(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Path(name): Path<String>,
    Asked(query): Asked<KindQuery>,
) -> Answer {
    let stream = find(&shared.broker, &caller, &name, query.kind)?;
    Ok(Json(details(&stream)).into_response())
}

/// `PATCH /api/v1/streams/{name}`
pub(crate) async fn alter(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Path(name): Path<String>,
    Asked(query): Asked<KindQuery>,
    Body(body): Body<AlterBody>,
) -> Answer {
    let found = find(&shared.broker, &caller, &name, query.kind)?;
    caller.need(Action::Configure, &name)?;
    let key = found.key().clone();
    let more = body.partitions.filter(|total| *total as usize != found.partitions().len());
    // Ahead of the settings, so that an error leaves everything as it was.
    more.map_or(Ok(()), |total| shared.broker.check_growth(&key, total))?;
    let mut stream = shared
        .broker
        .alter_stream(&key, |settings| {
            body.settings.apply(settings);
            Ok(())
        })
        .await?;
    if let Some(total) = more {
        stream = shared.broker.add_partitions(&key, total).await?;
    }
    Ok(Json(details(&stream)).into_response())
}

/// `DELETE /api/v1/streams/{name}`
pub(crate) async fn delete(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Path(name): Path<String>,
    Asked(query): Asked<KindQuery>,
) -> Answer {
    let key = find(&shared.broker, &caller, &name, query.kind)?.key().clone();
    caller.need(Action::Configure, &name)?;
    shared.broker.delete_stream(&key).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The stream of that name; without a kind, the log before the queue. What the caller may not see is not found.
pub(crate) fn find(
    broker: &Broker,
    caller: &Caller,
    name: &str,
    kind: Option<KindName>,
) -> Result<Arc<Stream>> {
    let of = |kind| {
        let key = StreamKey { namespace: caller.namespace.clone(), kind, name: name.into() };
        broker.stream(&key)
    };
    let found = match kind {
        Some(kind) => of(kind.into()),
        None => of(Kind::Log).or_else(|| of(Kind::Queue)),
    };
    found
        .filter(|_| caller.sees(name))
        .ok_or_else(|| Error::not_found(format!("there is no stream {name:?} in {}", caller.namespace)))
}

fn summary(stream: &Stream) -> Value {
    let (mut records, mut bytes) = (0_u64, 0_u64);
    for stats in stream.partitions().iter().map(|partition| partition.stats()) {
        records = records.saturating_add(stats.records);
        bytes = bytes.saturating_add(stats.bytes);
    }
    json!({
        "name": &*stream.key().name,
        "namespace": stream.key().namespace.to_string(),
        "kind": stream.key().kind.to_string(),
        "partitions": stream.partitions().len(),
        "records": records,
        "bytes": bytes,
        "durability": durability(stream.settings().durability),
    })
}

fn details(stream: &Stream) -> Value {
    let settings = stream.settings();
    let mut all = summary(stream);
    all["id"] = format!("{:032x}", stream.id().0).into();
    all["settings"] = json!({
        "durability": durability(settings.durability),
        "time": match settings.time {
            TimeSource::Producer => "producer",
            TimeSource::Append => "append",
        },
        "retention_time_ms": settings.retention.time_ms,
        "retention_bytes": settings.retention.bytes,
        "retention_records": settings.retention.records,
        "batch_len_max": settings.batch_len_max,
        "record_len_max": settings.record_len_max,
    });
    all["extras"] = json!(settings.extras);
    all["partition_list"] = stream.partitions().iter().map(|one| partition(one)).collect();
    all
}

fn partition(partition: &Partition) -> Value {
    let (bounds, stats) = (partition.bounds(), partition.stats());
    json!({
        "partition": partition.index().0,
        "log": partition.log_id().0,
        "start": bounds.start.0,
        "stable_end": bounds.stable_end.0,
        "durable_end": bounds.durable_end.0,
        "end": bounds.end.0,
        "epoch": partition.epoch().0,
        "records": stats.records,
        "bytes": stats.bytes,
    })
}

fn durability(durability: Durability) -> &'static str {
    match durability {
        Durability::Fsync => "fsync",
        Durability::Memory => "memory",
    }
}
