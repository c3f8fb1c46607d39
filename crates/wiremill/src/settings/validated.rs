//! Second step: values that the program can use as they are.

use std::{collections::BTreeMap, path::PathBuf};

use super::{
    Entry, Queue, Refused,
    entries::Form,
    parse,
    raw::{Given, Raw},
};
use crate::listeners::{ListenerName, certificate::NameOf};

/// Where a listener accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Not at all.
    Off,
    /// On this host (name or address) and port.
    On { host: String, port: u16 },
}

/// Address that clients are told to come back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertised {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl std::fmt::Display for Advertised {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Advertised { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// The files of one TLS listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate chain, PEM.
    pub cert: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
    /// Roots for client certificates, PEM.
    pub client_ca: Option<PathBuf>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// What becomes of requests for more than one replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replicas {
    /// Refused as the original refuses them on one node.
    Refuse,
    /// Stored and reported, without effect.
    Accept,
}

/// Whether TLS begins before the first line of a protocol that has one in the clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFirst {
    /// After it.
    Never,
    /// Before it, if the client begins at once.
    Auto,
    /// Before it.
    Always,
}

/// Whether AWS signatures are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AwsAuth {
    /// Never.
    None,
    /// Once any user exists.
    Verify,
}

/// The settings of one run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Absent: the ephemeral run makes a folder of its own.
    pub data_dir: Option<PathBuf>,
    /// One for each of the ten names.
    pub listen: BTreeMap<ListenerName, Listen>,
    /// Where given.
    pub advertise: BTreeMap<ListenerName, Advertised>,
    /// For those that speak TLS.
    pub tls: BTreeMap<ListenerName, TlsFiles>,
    /// Beyond loopback without users.
    pub insecure: bool,
    /// Memory durability, and test helpers on admin.
    pub ephemeral: bool,
    /// Where to say that every listener accepts.
    pub ready_file: Option<PathBuf>,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Filter directives.
    pub log_level: String,
    /// Per listener.
    pub connections_max: usize,
    /// 0: one per core.
    pub worker_threads: usize,
    /// Milliseconds for sessions to end.
    pub shutdown_deadline_ms: u64,
    /// Milliseconds from a latched write failure to the end.
    pub failure_grace_ms: u64,
    /// Names the admin listener answers to.
    pub admin_hosts: Vec<String>,
    /// Bytes.
    pub memory_budget_len: u64,
    /// Of a stream whose creator does not say.
    pub default_partitions: u32,
    /// Bytes of free space below which publishes are refused.
    pub free_space_min_len: u64,
    /// Over all tenants.
    pub streams_max: usize,
    /// Of one tenant.
    pub streams_per_tenant_max: Option<usize>,
    /// Milliseconds between two looks of retention.
    pub retention_interval_ms: u64,
    /// Milliseconds that a silent producer is remembered.
    pub producer_expiry_ms: u64,
    /// Bytes.
    pub wal_file_len: u64,
    /// Bytes.
    pub uncheckpointed_len_max: u64,
    /// Entries.
    pub uncheckpointed_entries_max: u64,
    /// More than one replica.
    pub single_node_replicas: Replicas,
    /// Whether asking for a Kafka topic creates it.
    pub kafka_auto_create_topics: bool,
    /// Milliseconds that an empty consumer group waits for more members.
    pub kafka_initial_rebalance_delay_ms: u64,
    /// Minutes that an empty consumer group's offsets are kept.
    pub kafka_offsets_retention_min: u64,
    /// The AWS region that is the default space.
    pub aws_region: String,
    /// Whether AWS signatures are checked.
    pub aws_auth: AwsAuth,
    /// Whether SQS makes queues that are not there.
    pub aws_auto_create_queues: bool,
    /// Whether AWS's rules of sixty seconds hold.
    pub aws_strict_timing: bool,
    /// Receives before a message goes to the dead-letter queue that each SQS queue then has; 0 = it has none.
    pub aws_default_dead_letter_count: u64,
    /// Queues that are there from the start.
    pub queues: Vec<Queue>,
    /// Bytes of the longest AMQP message.
    pub amqp_max_message_len: usize,
    /// Virtual hosts beside the default one.
    pub amqp_vhosts: Vec<String>,
    /// How long a consumer of a quorum queue may have a message, milliseconds.
    pub amqp_consumer_timeout_ms: u64,
    /// Which name of a client's certificate counts.
    pub amqp_login_from: NameOf,
    /// Bytes of the longest NATS message.
    pub nats_max_payload: usize,
    /// Bytes that may wait for one NATS client.
    pub nats_max_pending: usize,
    /// Messages that a pull request to a JetStream consumer may ask for; 0 = any number.
    pub nats_max_request_batch: u32,
    /// Whether TLS begins before the first line of NATS.
    pub nats_tls_first: TlsFirst,
    /// Over how long NATS connections are closed at the end, milliseconds.
    pub nats_lame_duck_ms: u64,
    /// Milliseconds added to each sync.
    pub test_sync_delay_ms: u64,
    /// What was given but looks like a slip.
    pub warnings: Vec<String>,
}

impl Settings {
    /// Checks what was typed. The error names the setting, where it was typed, and what would be right.
    pub fn from_raw(raw: &Raw) -> Result<Settings, Refused> {
        let read = Reader { raw };
        let ephemeral = read.switch("ephemeral")?;
        let data_dir_given = read.data_dir()?;
        Ok(Settings {
            data_dir: data_dir_given.or((!ephemeral).then(|| PathBuf::from(entry("data_dir").default))),
            listen: read.listen()?,
            advertise: read.advertise()?,
            tls: read.tls()?,
            insecure: read.switch("insecure")?,
            ephemeral,
            ready_file: read.path("ready_file")?,
            log_format: if read.text("log_format")? == "json" { LogFormat::Json } else { LogFormat::Text },
            log_level: read.text("log_level")?,
            connections_max: read.number("connections_max")?,
            worker_threads: read.number("worker_threads")?,
            shutdown_deadline_ms: read.number("shutdown_deadline_ms")?,
            failure_grace_ms: read.number("failure_grace_ms")?,
            admin_hosts: parse::words(&read.text("admin_hosts")?),
            memory_budget_len: read.number("memory_budget_len")?,
            default_partitions: read.number("default_partitions")?,
            free_space_min_len: read.number("free_space_min_len")?,
            streams_max: read.number("streams_max")?,
            streams_per_tenant_max: Some(read.number("streams_per_tenant_max")?).filter(|max| *max > 0),
            retention_interval_ms: read.number("retention_interval_ms")?,
            producer_expiry_ms: read.number("producer_expiry_ms")?,
            wal_file_len: read.number("wal_file_len")?,
            uncheckpointed_len_max: read.number("uncheckpointed_len_max")?,
            uncheckpointed_entries_max: read.number("uncheckpointed_entries_max")?,
            kafka_auto_create_topics: read.switch("kafka_auto_create_topics")?,
            kafka_initial_rebalance_delay_ms: read.number("kafka_initial_rebalance_delay_ms")?,
            kafka_offsets_retention_min: read.number("kafka_offsets_retention_min")?,
            amqp_max_message_len: read.number("amqp_max_message_len")?,
            amqp_vhosts: parse::words(&read.text("amqp_vhosts")?),
            amqp_consumer_timeout_ms: read.number("amqp_consumer_timeout_ms")?,
            amqp_login_from: match read.text("amqp_login_from")?.as_str() {
                "dns" => NameOf::Dns,
                "email" => NameOf::Email,
                "uri" => NameOf::Uri,
                _ => NameOf::Common,
            },
            nats_max_payload: read.number("nats_max_payload")?,
            nats_max_pending: read.number("nats_max_pending")?,
            nats_max_request_batch: read.number("nats_max_request_batch")?,
            nats_tls_first: match read.text("nats_tls_first")?.as_str() {
                "always" => TlsFirst::Always,
                "auto" => TlsFirst::Auto,
                _ => TlsFirst::Never,
            },
            nats_lame_duck_ms: read.number("nats_lame_duck_duration_ms")?,
            single_node_replicas: if read.text("single_node_replicas")? == "accept" {
                Replicas::Accept
            } else {
                Replicas::Refuse
            },
            aws_region: read.region("aws_region")?,
            aws_auth: if read.text("aws_auth")? == "none" { AwsAuth::None } else { AwsAuth::Verify },
            aws_auto_create_queues: read.switch("aws_auto_create_queues")?,
            aws_strict_timing: read.switch("aws_strict_timing")?,
            aws_default_dead_letter_count: read.number("aws_default_dead_letter_count")?,
            test_sync_delay_ms: read.number("test_sync_delay_ms")?,
            queues: raw.queues.clone(),
            warnings: raw.warnings.clone(),
        })
    }
}

struct Reader<'a> {
    raw: &'a Raw,
}

impl Reader<'_> {
    /// The text of a plain setting, checked against its form.
    fn text(&self, key: &'static str) -> Result<String, Refused> {
        let entry = entry(key);
        let Some(given) = self.raw.plain(entry) else { return Ok(entry.default.to_owned()) };
        let checked = match entry.form {
            Form::Choice(words) => parse::choice(&given.text, words).map(drop),
            Form::Switch => parse::switch(&given.text).map(drop),
            Form::Number { min, max, unit } => parse::number(&given.text, min, max, unit).map(drop),
            Form::Bytes { min, max } => parse::bytes(&given.text, min, max).map(drop),
            Form::Text | Form::Path | Form::Words | Form::PerListener(_) => Ok(()),
        };
        checked.map_err(|why| refused(entry, None, given, &why))?;
        Ok(given.text.clone())
    }

    fn switch(&self, key: &'static str) -> Result<bool, Refused> {
        Ok(self.text(key)? == "true")
    }

    /// A name that can be a space and part of an ARN.
    fn region(&self, key: &'static str) -> Result<String, Refused> {
        let text = self.text(key)?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if text.is_empty() || text.len() > 64 || !text.chars().all(allowed) {
            return Err(Refused(format!(
                "{key} = {text:?} is not 1 to 64 letters, digits, hyphens and underscores"
            )));
        }
        Ok(text)
    }

    /// What was typed. An empty text is a variable that was not set where it was to be: no place to keep things in.
    fn data_dir(&self) -> Result<Option<PathBuf>, Refused> {
        let entry = entry("data_dir");
        match self.raw.plain(entry) {
            Some(given) if given.text.is_empty() => Err(refused(entry, None, given, "names no folder")),
            given => Ok(given.map(|given| PathBuf::from(&given.text))),
        }
    }

    fn path(&self, key: &'static str) -> Result<Option<PathBuf>, Refused> {
        let text = self.text(key)?;
        Ok((!text.is_empty()).then(|| PathBuf::from(text)))
    }

    fn number<T: TryFrom<u64>>(&self, key: &'static str) -> Result<T, Refused> {
        let text = self.text(key)?;
        let value = match entry(key).form {
            Form::Bytes { min, max } => parse::bytes(&text, min, max),
            Form::Number { min, max, unit } => parse::number(&text, min, max, unit),
            _ => Err("is not a number".to_owned()),
        };
        let value = value.map_err(|why| Refused(format!("{key} {why}")))?;
        T::try_from(value).map_err(|_| Refused(format!("{key} is too large for this machine")))
    }

    fn listen(&self) -> Result<BTreeMap<ListenerName, Listen>, Refused> {
        let entry = entry("listen");
        let one = |name: ListenerName| {
            let Some(given) = self.raw.of_listener(entry, name) else {
                return Ok((name, Listen::On { host: "127.0.0.1".to_owned(), port: name.default_port() }));
            };
            if given.text == "off" {
                return Ok((name, Listen::Off));
            }
            let (host, port) =
                parse::host_port(&given.text).map_err(|why| refused(entry, Some(name), given, &why))?;
            Ok((name, Listen::On { host, port }))
        };
        ListenerName::ALL.into_iter().map(one).collect()
    }

    fn advertise(&self) -> Result<BTreeMap<ListenerName, Advertised>, Refused> {
        let entry = entry("advertise");
        let mut all = BTreeMap::new();
        for name in ListenerName::ALL {
            if let Some(given) = self.raw.of_listener(entry, name) {
                let (host, port) =
                    parse::host_port(&given.text).map_err(|why| refused(entry, Some(name), given, &why))?;
                all.insert(name, Advertised { host, port });
            }
        }
        Ok(all)
    }

    fn tls(&self) -> Result<BTreeMap<ListenerName, TlsFiles>, Refused> {
        let file = |key, name| self.raw.of_listener(entry(key), name).map(|given| PathBuf::from(&given.text));
        let mut all = BTreeMap::new();
        for name in ListenerName::ALL {
            match (file("tls_cert", name), file("tls_key", name), file("tls_client_ca", name)) {
                (Some(cert), Some(key), client_ca) => {
                    all.insert(name, TlsFiles { cert, key, client_ca });
                }
                (None, None, None) => {}
                _ => {
                    let name = name.text();
                    return Err(Refused(format!("TLS on {name} needs both tls_cert and tls_key for it")));
                }
            }
        }
        Ok(all)
    }
}

fn refused(entry: &Entry, listener: Option<ListenerName>, given: &Given, why: &str) -> Refused {
    let Given { text, source } = given;
    let of = listener.map_or_else(String::new, |name| format!(" of {}", name.text()));
    Refused(format!("{source}: {}{of} = {text:?} {why}", entry.key))
}

/// The entry of a key that this file names; a key that is not in the list is found by the tests of this module.
fn entry(key: &'static str) -> &'static Entry {
    match Entry::of(key) {
        Some(entry) => entry,
        None => unreachable!("no setting is called {key}"),
    }
}
