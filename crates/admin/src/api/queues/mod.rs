//! Queues, whatever dialect feeds them: list, create, describe, alter, delete, purge, drop. [`peek`] looks into them, [`moves`]
//! takes their records elsewhere, [`replay`] makes settled ones available again, [`settings`] is what they can be told.

pub(crate) mod moves;
pub(crate) mod peek;
pub(crate) mod replay;
mod settings;

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, extract::State, http::StatusCode, response::IntoResponse};
use broker::{
    Action, Broker, Claim, Facets, Mode, Settlement, Span, Stream, StreamSettings, StreamSpec, Verdict,
};
use model::{Error, Kind, Offset, PartitionIndex, Result, StreamKey};
use serde::Deserialize;
use serde_json::{Value, json};

use self::settings::QueueSettings;
use crate::{
    api::{page::PageQuery, places},
    body::{Asked, Body, Path},
    caller::Caller,
    error::{Answer, unless_gone},
    server::Shared,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateBody {
    name: String,
    /// A log, as `NAME` or `log:NAME`: the queue works its records, and nothing is copied.
    over: Option<String>,
    #[serde(default)]
    settings: QueueSettings,
}

/// `GET /api/v1/queues`
pub(crate) async fn list(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Asked(page): Asked<PageQuery>,
) -> Answer {
    let queues = shared.broker.streams(&caller.namespace, Some(Kind::Queue));
    let seen = queues.iter().filter(|queue| !queue.facets().hidden && caller.sees(&queue.key().name));
    let (part, next) = page.of(seen, |queue| queue.key().name.to_string())?;
    let mut rows = Vec::new();
    for queue in part {
        rows.extend(unless_gone(summary(&shared.broker, queue).await)?);
    }
    Ok(Json(json!({ "queues": rows, "next": next })).into_response())
}

/// `POST /api/v1/queues`
pub(crate) async fn create(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Body(body): Body<CreateBody>,
) -> Answer {
    caller.need(Action::Configure, &body.name)?;
    let mut settings = StreamSettings { mode: Mode::Queue, ..StreamSettings::default() };
    if let Some(over) = &body.over {
        let over = if over.contains(':') { over.clone() } else { format!("log:{over}") };
        let over = places::stream(&over, &caller.namespace)?;
        if over.namespace != caller.namespace {
            return Err(Error::invalid("a queue is made over a log of its own namespace").into());
        }
        caller.need(Action::Read, &over.name)?;
        settings.over = Some(over);
    }
    body.settings.apply(&mut settings, body.settings.target(&shared.broker, &caller)?)?;
    let key = StreamKey::queue(&caller.namespace, &body.name);
    let spec = StreamSpec { partitions: 1, settings, facets: Facets::default() };
    let queue = shared.broker.create_stream(key, spec).await?;
    Ok((StatusCode::CREATED, Json(details(&shared.broker, &queue).await?)).into_response())
}

/// `GET /api/v1/queues/{name}`
pub(crate) async fn describe(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Path(name): Path<String>,
) -> Answer {
    let queue = find(&shared.broker, &caller, &name)?;
    Ok(Json(details(&shared.broker, &queue).await?).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AlterBody {
    settings: QueueSettings,
}

/// `PATCH /api/v1/queues/{name}`
pub(crate) async fn alter(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Path(name): Path<String>,
    Body(body): Body<AlterBody>,
) -> Answer {
    let key = find(&shared.broker, &caller, &name)?.key().clone();
    caller.need(Action::Configure, &name)?;
    // Its name is looked up before the catalog is locked.
    let target = body.settings.target(&shared.broker, &caller)?;
    let queue = shared.broker.alter_stream(&key, |settings| body.settings.apply(settings, target)).await?;
    Ok(Json(details(&shared.broker, &queue).await?).into_response())
}

/// `DELETE /api/v1/queues/{name}`
pub(crate) async fn delete(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Path(name): Path<String>,
) -> Answer {
    let key = find(&shared.broker, &caller, &name)?.key().clone();
    caller.need(Action::Configure, &name)?;
    shared.broker.delete_stream(&key).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `POST /api/v1/queues/{name}/purge`: what nobody holds.
pub(crate) async fn purge(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Path(name): Path<String>,
) -> Answer {
    let queue = find(&shared.broker, &caller, &name)?;
    caller.need(Action::Configure, &name)?;
    let purged = shared.broker.purge_queue(&queue).await?;
    Ok(Json(json!({ "queue": name, "purged": purged })).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DropBody {
    /// As a look into the queue tells them.
    offsets: Vec<u64>,
    #[serde(default)]
    partition: u32,
}

/// `POST /api/v1/queues/{name}/drop`: takes single records out that nobody holds.
pub(crate) async fn drop_records(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Path(name): Path<String>,
    Body(body): Body<DropBody>,
) -> Answer {
    let queue = find(&shared.broker, &caller, &name)?;
    caller.need(Action::Configure, &name)?;
    let (work, _) = shared.broker.stream_work(&queue, PartitionIndex(body.partition))?;
    let spans = body.offsets.iter().map(|offset| Span::one(Offset(*offset))).collect();
    let settlement = Settlement { work, spans, claim: Claim::Nobody, verdict: Verdict::Accept };
    let (settled, wait) = shared.broker.settle(vec![settlement]).await?;
    shared.broker.durable(wait).await?;
    let dropped: u64 = settled.iter().map(|one| one.done.count()).sum();
    Ok(Json(json!({ "queue": name, "dropped": dropped })).into_response())
}

/// `GET /api/v1/dead-letters`: queues that others send to what they could not work off, with who does.
pub(crate) async fn dead_letters(State(shared): State<Arc<Shared>>, caller: Caller) -> Answer {
    let mut sources: BTreeMap<StreamKey, Vec<String>> = BTreeMap::new();
    for stream in shared.broker.streams(&caller.namespace, None) {
        if let Some(dead_letter) = &stream.settings().dead_letter {
            let shown = places::shown(stream.key(), &caller.namespace);
            sources.entry(dead_letter.target.clone()).or_default().push(shown);
        }
    }
    let mut rows = Vec::new();
    for (target, from) in sources {
        let queue = shared.broker.stream(&target).filter(|_| caller.sees(&target.name));
        if let Some(queue) = queue {
            let mut row = summary(&shared.broker, &queue).await?;
            row["from"] = from.into();
            rows.push(row);
        }
    }
    Ok(Json(json!({ "dead_letters": rows })).into_response())
}

/// The queue of that name. What the caller may not see is not found.
pub(crate) fn find(broker: &Broker, caller: &Caller, name: &str) -> Result<Arc<Stream>> {
    let queue = broker.stream(&StreamKey::queue(&caller.namespace, name));
    queue
        .filter(|_| caller.sees(name))
        .ok_or_else(|| Error::not_found(format!("there is no queue {name:?} in {}", caller.namespace)))
}

async fn summary(broker: &Broker, queue: &Stream) -> Result<Value> {
    let counts = broker.queue_counts(queue);
    let settings = queue.settings();
    let home = &queue.key().namespace;
    let oldest_ms = broker.queue_age_ms(queue).await?;
    Ok(json!({
        "name": &*queue.key().name,
        "namespace": home.to_string(),
        "over": settings.over.as_ref().map(|over| places::shown(over, home)),
        "ready": counts.ready,
        "leased": counts.leased,
        "delayed": counts.delayed,
        "exhausted": counts.exhausted,
        "oldest_ms": oldest_ms,
        "dead_letter": settings.dead_letter.as_ref().map(|dead| places::shown(&dead.target, home)),
        "delivery_limit": settings.delivery_limit,
    }))
}

async fn details(broker: &Broker, queue: &Stream) -> Result<Value> {
    let mut all = summary(broker, queue).await?;
    all["id"] = format!("{:032x}", queue.id().0).into();
    all["settings"] = settings::shown(queue.settings(), &queue.key().namespace);
    all["extras"] = json!(queue.settings().extras);
    Ok(all)
}
