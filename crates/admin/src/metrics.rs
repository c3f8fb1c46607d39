//! `/metrics` in the Prometheus text format, made from the broker's views at each scrape.

use std::sync::{Arc, atomic::AtomicU64};

use axum::{extract::State, http::header, response::IntoResponse};
use broker::{Broker, LagView};
use model::{Error, Kind, Namespace};
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::{
    api::cursors::seconds,
    caller::Caller,
    error::{Answer, unless_gone},
    server::Shared,
};

/// Streams, and cursors on partitions, that one scrape lists; the rest is counted in a gauge. Bounds the answer to a few megabytes.
const LISTED_MAX: usize = 10_000;

type Labels = Vec<(&'static str, String)>;

/// A gauge per set of labels.
#[derive(Default)]
struct Gauges {
    family: Family<Labels, Gauge<f64, AtomicU64>>,
}

impl Gauges {
    fn named(registry: &mut Registry, name: &str, help: &str) -> Gauges {
        let gauges = Gauges::default();
        registry.register(name, help, gauges.family.clone());
        gauges
    }

    fn set(&self, labels: &Labels, value: f64) {
        self.family.get_or_create(labels).set(value);
    }
}

/// `GET /metrics`
pub(crate) async fn metrics(State(shared): State<Arc<Shared>>, caller: Caller) -> Answer {
    caller.need_operator()?;
    let mut registry = Registry::with_prefix("wiremill");
    server(&mut registry, &shared);
    counters(&mut registry, &shared.broker);
    process(&mut registry);
    let namespaces = shared.broker.namespaces();
    streams(&mut registry, &shared.broker, &namespaces);
    queues(&mut registry, &shared.broker, &namespaces).await?;
    cursors(&mut registry, &shared.broker, &namespaces).await?;
    let mut text = String::new();
    encode(&mut text, &registry).map_err(|_| Error::internal("the metrics do not render"))?;
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, content_type)], text).into_response())
}

fn server(registry: &mut Registry, shared: &Shared) {
    let build = Gauges::named(registry, "build", "Always 1; the label says which version this is");
    build.set(&vec![("version", env!("CARGO_PKG_VERSION").to_owned())], 1.0);
    let failed = Gauges::named(registry, "storage_failed", "1 once a write or sync has failed");
    failed.set(&Vec::new(), f64::from(u8::from(shared.broker.failure().is_some())));
    let open = Gauges::named(registry, "connections", "Connections that are open, per listener");
    if let Some(connections) = &shared.options.connections {
        for (listener, count) in connections() {
            open.set(&vec![("listener", listener)], float(count));
        }
    }
}

/// What the broker counted since its start.
fn counters(registry: &mut Registry, broker: &Broker) {
    for (name, value) in broker.counters().each() {
        let counter = Counter::<u64>::default();
        counter.inc_by(value);
        registry.register(name, format!("{} since the start", name.replace('_', " ")), counter);
    }
}

/// What Linux says of this process; nothing elsewhere.
#[allow(clippy::disallowed_methods)] // The admin server is no part of the spine; this is the machine's own account.
fn process(registry: &mut Registry) {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return };
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: Option<u64> =
        resident.and_then(|rest| rest.trim().trim_end_matches("kB").trim_end().parse().ok());
    if let Some(kib) = kib {
        let memory =
            Gauges::named(registry, "process_resident_memory_bytes", "Memory that the process holds");
        memory.set(&Vec::new(), float(kib.saturating_mul(1024)));
    }
    if let Ok(handles) = std::fs::read_dir("/proc/self/fd") {
        let open = Gauges::named(registry, "process_open_handles", "File handles that the process holds");
        open.set(&Vec::new(), float(handles.count() as u64));
    }
}

fn streams(registry: &mut Registry, broker: &Broker, namespaces: &[Namespace]) {
    let count = Gauges::named(registry, "streams", "Streams per namespace and kind");
    let partitions = Gauges::named(registry, "stream_partitions", "Partitions of a stream");
    let records = Gauges::named(registry, "stream_records", "Records that a stream holds");
    let bytes = Gauges::named(registry, "stream_bytes", "Stored bytes of a stream");
    let appended = Gauges::named(
        registry,
        "stream_end",
        "Sum of the end offsets of a stream's partitions: rises with each record",
    );
    let left_out = Gauges::named(registry, "streams_not_listed", "Streams that this answer leaves out");
    let mut listed = 0_usize;
    let mut skipped = 0_u64;
    for namespace in namespaces {
        for kind in [Kind::Log, Kind::Queue] {
            let of_kind = broker.streams(namespace, Some(kind));
            count.set(
                &vec![("namespace", namespace.to_string()), ("kind", kind.to_string())],
                float(of_kind.len() as u64),
            );
            for stream in of_kind {
                if listed == LISTED_MAX {
                    skipped += 1;
                    continue;
                }
                listed += 1;
                let labels = vec![
                    ("namespace", namespace.to_string()),
                    ("kind", kind.to_string()),
                    ("stream", stream.key().name.to_string()),
                ];
                let (mut held, mut stored, mut end) = (0_u64, 0_u64, 0_u64);
                for partition in stream.partitions() {
                    let stats = partition.stats();
                    held = held.saturating_add(stats.records);
                    stored = stored.saturating_add(stats.bytes);
                    end = end.saturating_add(partition.bounds().durable_end.0);
                }
                partitions.set(&labels, float(stream.partitions().len() as u64));
                records.set(&labels, float(held));
                bytes.set(&labels, float(stored));
                appended.set(&labels, float(end));
            }
        }
    }
    left_out.set(&Vec::new(), float(skipped));
}

/// What waits in queues, and for how long. The rows that are left out are those of [`streams`].
async fn queues(registry: &mut Registry, broker: &Broker, namespaces: &[Namespace]) -> Result<(), Error> {
    let records = Gauges::named(registry, "queue_records", "Records of a queue per state");
    let age = Gauges::named(
        registry,
        "queue_oldest_age_seconds",
        "Time since the oldest record of a queue was appended that is not settled; 0 without one",
    );
    let all = namespaces.iter().flat_map(|namespace| {
        broker.streams(namespace, Some(Kind::Queue)).into_iter().map(move |queue| (namespace, queue))
    });
    for (namespace, queue) in all.take(LISTED_MAX) {
        let labels = vec![("namespace", namespace.to_string()), ("queue", queue.key().name.to_string())];
        let counts = broker.queue_counts(&queue);
        for (state, count) in [
            ("ready", counts.ready),
            ("leased", counts.leased),
            ("delayed", counts.delayed),
            ("exhausted", counts.exhausted),
        ] {
            let mut labels = labels.clone();
            labels.push(("state", state.to_owned()));
            records.set(&labels, float(count));
        }
        if let Some(oldest_ms) = unless_gone(broker.queue_age_ms(&queue).await)? {
            age.set(&labels, seconds(oldest_ms.unwrap_or(0)));
        }
    }
    Ok(())
}

async fn cursors(registry: &mut Registry, broker: &Broker, namespaces: &[Namespace]) -> Result<(), Error> {
    let lag_records = Gauges::named(registry, "cursor_lag_records", "Records between a cursor and the end");
    let lag_bytes = Gauges::named(registry, "cursor_lag_bytes", "Stored bytes between a cursor and the end");
    let lag_age =
        Gauges::named(registry, "cursor_lag_age_seconds", "Age of the oldest unread record; 0 without one");
    let headroom = Gauges::named(
        registry,
        "cursor_retention_headroom_seconds",
        "Time until retention deletes the next unread record; absent when it does not",
    );
    let status = Gauges::named(registry, "cursor_status", "1 for the state that the cursor is in");
    let left_out =
        Gauges::named(registry, "cursors_not_listed", "Cursors of which this answer leaves rows out");
    let mut listed = 0_usize;
    let mut skipped = 0_u64;
    for namespace in namespaces {
        for cursor in broker.cursors(namespace) {
            if listed == LISTED_MAX {
                skipped += 1;
                continue;
            }
            let Some(mut views) = unless_gone(broker.lag(&cursor).await)? else { continue };
            if views.len() > LISTED_MAX - listed {
                views.truncate(LISTED_MAX - listed);
                skipped += 1;
            }
            listed += views.len();
            for view in views {
                let mut labels = labels_of(namespace, &cursor.name, &view);
                lag_records.set(&labels, float(view.lag_records));
                lag_bytes.set(&labels, float(view.lag_bytes));
                lag_age.set(&labels, seconds(view.lag_age_ms));
                if let Some(left_ms) = view.retention_headroom_ms {
                    headroom.set(&labels, seconds(left_ms));
                }
                labels.push(("status", view.status.name().to_owned()));
                status.set(&labels, 1.0);
            }
        }
    }
    left_out.set(&Vec::new(), float(skipped));
    Ok(())
}

fn labels_of(namespace: &Namespace, cursor: &str, view: &LagView) -> Labels {
    vec![
        ("namespace", namespace.to_string()),
        ("cursor", cursor.to_owned()),
        ("stream", view.stream.name.to_string()),
        ("partition", view.partition.to_string()),
    ]
}

#[expect(clippy::cast_precision_loss, reason = "the format knows floating-point numbers only")]
fn float(count: u64) -> f64 {
    count as f64
}
