//! Where slices are wired in: their formats, and who serves which listener.
//!
//! To add a slice: register its format in [`register_formats`], give its listeners an entry in [`build`], its addresses one
//! in [`ADDRESSES`] if its publishes follow routes, and let
//! [`ListenerName::is_built`] and [`ListenerName::line_to_paste`] say so.

mod amqp;
mod nats;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use broker::{Broker, NewBatch, TimeSource};
use model::{Formats, Kind, Record};
use tokio::sync::watch;

use crate::{
    listeners::{Bound, Connection, Dialect, Io, ListenerName, Serving},
    settings::{AwsAuth, Queue, Replicas, Settings},
    supervisor::Supervisor,
};

/// What slices are built from.
pub struct Shared<'a> {
    /// The one broker.
    pub broker: Broker,
    /// The settings of this run.
    pub settings: &'a Settings,
    /// What is bound, with the real ports.
    pub bound: &'a [Bound],
    /// Where the data is.
    pub data_dir: &'a Path,
    /// Who runs.
    pub supervisor: &'a Supervisor,
    /// The clock of an ephemeral run.
    pub test_clock: Option<Arc<dyn admin::TestClock>>,
}

/// Tells the broker how each slice's stored bytes read.
pub fn register_formats(formats: &mut Formats) -> model::Result<()> {
    formats.register(kafka::format())?;
    formats.register(aws::format())?;
    formats.register(::nats::format())?;
    formats.register(::amqp::format())
}

/// One server per listener that is built.
pub fn build(shared: &Shared<'_>) -> Result<BTreeMap<ListenerName, Arc<dyn Dialect>>, String> {
    let mut all: BTreeMap<ListenerName, Arc<dyn Dialect>> = BTreeMap::new();
    let nats = nats::server(shared);
    all.insert(ListenerName::Admin, Arc::new(Admin { server: admin_server(shared, nats.clone()) }));
    all.insert(ListenerName::Kafka, Arc::new(Kafka { server: kafka_server(shared) }));
    all.insert(ListenerName::Aws, Arc::new(Aws { server: aws_server(&shared.broker, shared.settings) }));
    all.insert(ListenerName::Amqp, amqp::dialect(shared));
    all.insert(ListenerName::Nats, nats::dialect(nats, shared.settings.nats_tls_first));
    Ok(all)
}

/// What each dialect that is built publishes to.
const ADDRESSES: [admin::AddressSpace; 4] = [
    admin::AddressSpace { dialect: kafka::DIALECT, names: Some(Kind::Log) },
    admin::AddressSpace { dialect: aws::DIALECT, names: Some(Kind::Queue) },
    admin::AddressSpace { dialect: ::nats::DIALECT, names: None },
    admin::AddressSpace { dialect: ::amqp::DIALECT, names: None },
];

fn admin_server(shared: &Shared<'_>, nats: Arc<::nats::Server>) -> Arc<admin::Server> {
    let listeners =
        shared.bound.iter().map(|one| (one.name.text().to_owned(), one.address.to_string())).collect();
    let supervisor = shared.supervisor.clone();
    let connections =
        move || supervisor.sessions().into_iter().map(|(name, count)| (name, count as u64)).collect();
    admin::Server::new(
        shared.broker.clone(),
        admin::Options {
            hosts: shared.settings.admin_hosts.clone(),
            listeners,
            beyond_loopback: !shared.settings.insecure
                && shared.bound.iter().any(|one| !one.address.ip().is_loopback()),
            advertised: shared
                .settings
                .advertise
                .iter()
                .map(|(name, to)| (name.text().to_owned(), to.to_string()))
                .collect(),
            data_dir: shared.data_dir.display().to_string(),
            composer: Some(Arc::new(KafkaComposer)),
            addresses: ADDRESSES.to_vec(),
            test_clock: shared.test_clock.clone(),
            connections: Some(Arc::new(connections)),
            monitoring: Some(Arc::new(move |path: &str, query: &BTreeMap<String, String>| {
                nats.monitor(path, query)
            })),
        },
    )
}

fn kafka_server(shared: &Shared<'_>) -> Arc<kafka::Server> {
    let settings = shared.settings;
    let server = kafka::Server::new(
        shared.broker.clone(),
        kafka::Options {
            auto_create_topics: settings.kafka_auto_create_topics,
            num_partitions: settings.default_partitions,
            initial_rebalance_delay_ms: settings.kafka_initial_rebalance_delay_ms,
            offsets_retention_min: settings.kafka_offsets_retention_min,
            accept_replicas: settings.single_node_replicas == Replicas::Accept,
            log_dir: shared.data_dir.display().to_string(),
            ..kafka::Options::default()
        },
    );
    server.start_clockwork();
    server
}

/// Makes the queues that the settings declare.
pub async fn declare_queues(broker: &Broker, settings: &Settings) -> Result<(), String> {
    if settings.queues.is_empty() {
        return Ok(());
    }
    let queues = settings.queues.iter().map(declared).collect::<Vec<_>>();
    aws_server(broker, settings).declare(&queues).await
}

fn declared(queue: &Queue) -> aws::DeclaredQueue {
    let seconds = |time: Option<Duration>| time.map(|time| time.as_secs().to_string());
    let attributes = [
        ("VisibilityTimeout", seconds(queue.lease)),
        ("DelaySeconds", seconds(queue.delay)),
        ("ReceiveMessageWaitTimeSeconds", seconds(queue.wait)),
        ("MessageRetentionPeriod", seconds(queue.retention)),
        ("MaximumMessageSize", queue.record_len_max.map(|len| len.to_string())),
        ("ContentBasedDeduplication", queue.content_dedup.map(|is_on| is_on.to_string())),
    ];
    aws::DeclaredQueue {
        name: queue.name.clone(),
        attributes: attributes.into_iter().filter_map(|(name, value)| Some((name, value?))).collect(),
        dead_letter: queue.dead_letter.clone(),
        delivery_limit: queue.delivery_limit,
        history_ms: queue.history.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
    }
}

fn aws_server(broker: &Broker, settings: &Settings) -> Arc<aws::Server> {
    aws::Server::new(
        broker.clone(),
        aws::Options {
            region: settings.aws_region.clone(),
            auth: match settings.aws_auth {
                AwsAuth::None => aws::Auth::None,
                AwsAuth::Verify => aws::Auth::Verify,
            },
            auto_create_queues: settings.aws_auto_create_queues,
            strict_timing: settings.aws_strict_timing,
            default_dead_letter: u32::try_from(settings.aws_default_dead_letter_count)
                .ok()
                .filter(|count| *count > 0),
        },
    )
}

/// Records that come over the admin API are stored as a Kafka client would have sent them.
struct KafkaComposer;

impl admin::Composer for KafkaComposer {
    fn dialect(&self) -> &'static str {
        kafka::DIALECT
    }

    fn compose(&self, records: &[Record], time: TimeSource) -> model::Result<NewBatch> {
        kafka::compose(records, time)
    }

    fn partition(&self, key: &[u8], count: u32) -> u32 {
        kafka::partition_of(key, count)
    }
}

struct Kafka {
    server: Arc<kafka::Server>,
}

impl Dialect for Kafka {
    fn serve(&self, io: Io, connection: Connection, shutdown: watch::Receiver<bool>) -> Serving {
        let advertised = connection.advertised.as_ref().map(|to| (to.host.clone(), to.port));
        let info = kafka::ConnectionInfo { peer: connection.peer, local: connection.local, advertised };
        Box::pin(self.server.clone().serve_connection(io, info, shutdown))
    }
}

struct Aws {
    server: Arc<aws::Server>,
}

impl Dialect for Aws {
    fn serve(&self, io: Io, connection: Connection, shutdown: watch::Receiver<bool>) -> Serving {
        let advertised = connection.advertised.as_ref().map(|to| (to.host.clone(), to.port));
        let info = aws::ConnectionInfo {
            peer: connection.peer,
            local: connection.local,
            advertised,
            tls: matches!(io, Io::Tls(_)),
        };
        Box::pin(self.server.clone().serve_connection(io, info, shutdown))
    }
}

struct Admin {
    server: Arc<admin::Server>,
}

impl Dialect for Admin {
    fn serve(&self, io: Io, connection: Connection, shutdown: watch::Receiver<bool>) -> Serving {
        let server = self.server.clone();
        let peer = admin::Peer { remote: connection.peer, local: connection.local };
        Box::pin(async move { server.serve_connection(io, peer, shutdown).await })
    }
}
