//! The one list of settings.

/// What a setting's value may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Any text.
    Text,
    /// A file or folder.
    Path,
    /// `true` or `false`.
    Switch,
    /// A whole number within bounds (inclusive), with its unit.
    Number { min: u64, max: u64, unit: &'static str },
    /// A number of bytes within bounds (inclusive); `KiB`, `MiB` and `GiB` are understood.
    Bytes { min: u64, max: u64 },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Words separated by commas; a list in the file.
    Words,
    /// One value per listener: a table in the file, `NAME=VALUE` as a flag.
    PerListener(&'static str),
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Key in the file. The flag is `--` and the key with dashes, the variable `WIREMILL_` and the key in capitals.
    pub key: &'static str,
    /// What its value may be.
    pub form: Form,
    /// What holds when nobody says anything; empty where nothing does.
    pub default: &'static str,
    /// Whether a change needs a restart. The others are read again on SIGHUP.
    pub restart: bool,
    /// Not shown in help and documentation: for the tests of this program.
    pub hidden: bool,
    /// What it does, in one or two sentences.
    pub doc: &'static str,
}

impl Entry {
    /// The flag without its dashes.
    pub fn flag(&self) -> String {
        self.key.replace('_', "-")
    }

    /// The environment variable.
    pub fn variable(&self) -> String {
        format!("WIREMILL_{}", self.key.to_ascii_uppercase())
    }

    /// The entry of a file key.
    pub fn of(key: &str) -> Option<&'static Entry> {
        ENTRIES.iter().find(|entry| entry.key == key)
    }
}

const fn entry(key: &'static str, form: Form, default: &'static str, doc: &'static str) -> Entry {
    Entry { key, form, default, restart: true, hidden: false, doc }
}

const fn reloaded(entry: Entry) -> Entry {
    Entry { restart: false, ..entry }
}

const fn hidden(entry: Entry) -> Entry {
    Entry { hidden: true, ..entry }
}

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const DAY_MS: u64 = 86_400_000;

/// Every setting, in the order of the reference page.
pub const ENTRIES: &[Entry] = &[
    entry(
        "data_dir",
        Form::Path,
        "./wiremill-data",
        "Folder that everything durable is kept in. Created when absent; one process at a time.",
    ),
    entry(
        "listen",
        Form::PerListener("HOST:PORT or off"),
        "",
        "Where a listener accepts connections, or `off`. Port 0 picks a free port. Beyond loopback a user must exist (see `wiremill user add`) or `insecure` be set.",
    ),
    entry(
        "advertise",
        Form::PerListener("HOST:PORT"),
        "",
        "Address that clients of a listener are told to come back to. Absent: the address that they connected to.",
    ),
    reloaded(entry(
        "tls_cert",
        Form::PerListener("FILE"),
        "",
        "Certificate chain (PEM) of a listener; with `tls_key` it makes the listener speak TLS only.",
    )),
    reloaded(entry(
        "tls_key",
        Form::PerListener("FILE"),
        "",
        "Private key (PEM) that belongs to `tls_cert`.",
    )),
    reloaded(entry(
        "tls_client_ca",
        Form::PerListener("FILE"),
        "",
        "Certificates (PEM) that a client's own certificate must lead to; with it a client without one is refused.",
    )),
    entry(
        "insecure",
        Form::Switch,
        "false",
        "Allows listeners beyond loopback although no user exists: whoever reaches the port may do everything.",
    ),
    entry(
        "ephemeral",
        Form::Switch,
        "false",
        "Keeps records in memory only, for test suites; what else it needs lies in a temporary folder unless `data_dir` is given. The admin listener has `POST /reset` and `POST /clock/advance`.",
    ),
    entry(
        "ready_file",
        Form::Path,
        "",
        "JSON file (listener name to address) that is put in place once every listener accepts, and removed at the end.",
    ),
    entry(
        "log_format",
        Form::Choice(&["text", "json"]),
        "text",
        "How log lines are written to standard error; `json` also replaces the banner.",
    ),
    reloaded(entry(
        "log_level",
        Form::Text,
        "info",
        "What is logged: `error`, `warn`, `info`, `debug`, `trace`, or directives such as `info,kafka=debug`.",
    )),
    entry(
        "connections_max",
        Form::Number { min: 1, max: 1_000_000, unit: "connections" },
        "10000",
        "Connections that one listener holds at a time; further ones are closed at once.",
    ),
    entry(
        "worker_threads",
        Form::Number { min: 0, max: 1024, unit: "threads" },
        "0",
        "Threads that serve connections; 0 takes one per core.",
    ),
    entry(
        "shutdown_deadline_ms",
        Form::Number { min: 0, max: DAY_MS, unit: "ms" },
        "10000",
        "How long connections may finish what they are at after SIGTERM.",
    ),
    entry(
        "failure_grace_ms",
        Form::Number { min: 0, max: DAY_MS, unit: "ms" },
        "2000",
        "How long reads go on after the disk refused a write, before the process ends with an error.",
    ),
    entry(
        "admin_hosts",
        Form::Words,
        "",
        "Host names, besides loopback and IP addresses that it listens on, under which the admin listener may be asked.",
    ),
    entry(
        "memory_budget_len",
        Form::Bytes { min: 16 * MIB, max: 1024 * GIB },
        "512MiB",
        "Memory for records on their way in, the tail that readers share, decoded batches, and deduplication ids.",
    ),
    entry(
        "default_partitions",
        Form::Number { min: 1, max: 10_000, unit: "partitions" },
        "1",
        "Partitions of a stream whose creator does not say how many.",
    ),
    entry(
        "free_space_min_len",
        Form::Bytes { min: 0, max: 1024 * GIB },
        "768MiB",
        "Publishes are refused while the disk has less free space than this, so that settling, trimming and checkpoints can go on: the uncheckpointed log, two files of it and two checkpoints.",
    ),
    entry(
        "streams_max",
        Form::Number { min: 1, max: 100_000_000, unit: "streams" },
        "1000000",
        "Streams that may exist, over all tenants.",
    ),
    entry(
        "streams_per_tenant_max",
        Form::Number { min: 0, max: 100_000_000, unit: "streams" },
        "0",
        "Streams that one tenant may have; 0 leaves it at `streams_max`.",
    ),
    entry(
        "retention_interval_ms",
        Form::Number { min: 100, max: DAY_MS, unit: "ms" },
        "10000",
        "How often retention looks at every stream.",
    ),
    entry(
        "producer_expiry_ms",
        Form::Number { min: 1000, max: 365 * DAY_MS, unit: "ms" },
        "86400000",
        "How long a producer's sequence numbers are remembered after its last batch.",
    ),
    entry(
        "wal_file_len",
        Form::Bytes { min: MIB, max: 4 * GIB },
        "64MiB",
        "Length of one file of the write-ahead log.",
    ),
    entry(
        "uncheckpointed_len_max",
        Form::Bytes { min: 4 * MIB, max: 64 * GIB },
        "512MiB",
        "Bytes that may lie in the write-ahead log before they are moved to segments; bounds the time of a restart.",
    ),
    entry(
        "uncheckpointed_entries_max",
        Form::Number { min: 1000, max: 1_000_000_000, unit: "entries" },
        "2000000",
        "Entries that may lie in the write-ahead log before they are moved to segments.",
    ),
    entry(
        "single_node_replicas",
        Form::Choice(&["refuse", "accept"]),
        "refuse",
        "What becomes of a request for more than one replica: refused as the original does on one node, or stored and reported without effect.",
    ),
    entry(
        "kafka_auto_create_topics",
        Form::Switch,
        "true",
        "Whether a Kafka client that asks for a topic creates it, as `auto.create.topics.enable`.",
    ),
    entry(
        "kafka_initial_rebalance_delay_ms",
        Form::Number { min: 0, max: DAY_MS, unit: "ms" },
        "3000",
        "How long an empty consumer group waits for more members, as `group.initial.rebalance.delay.ms`.",
    ),
    entry(
        "kafka_offsets_retention_min",
        Form::Number { min: 1, max: i32::MAX as u64, unit: "minutes" },
        "10080",
        "How long the committed offsets of an empty consumer group are kept, as `offsets.retention.minutes`.",
    ),
    entry(
        "aws_region",
        Form::Text,
        "us-east-1",
        "The AWS region that is the space `default`, and that a request without a region is in; every other region is a space of its name.",
    ),
    entry(
        "aws_auth",
        Form::Choice(&["none", "verify"]),
        "verify",
        "Whether AWS signatures are checked: `verify` checks each request once any user exists, `none` takes a caller for whom its access key names, without proof.",
    ),
    entry(
        "aws_auto_create_queues",
        Form::Switch,
        "false",
        "Makes an SQS queue that is sent to, received from or asked for when it is not there.",
    ),
    entry(
        "aws_strict_timing",
        Form::Switch,
        "false",
        "Holds SQS clients to AWS's rules of sixty seconds: one purge of a queue, and none of its name after a deletion.",
    ),
    entry(
        "aws_default_dead_letter_count",
        Form::Number { min: 0, max: 1_000, unit: "receives" },
        "0",
        "Every SQS queue that is made without a redrive policy gets a dead-letter queue `NAME.dlq`, for messages that were received this often; 0 makes none.",
    ),
    entry(
        "amqp_max_message_len",
        Form::Bytes { min: 1, max: 128 * MIB },
        "128MiB",
        "Bytes of the body of an AMQP message, as `max_message_size`.",
    ),
    entry(
        "amqp_vhosts",
        Form::Words,
        "",
        "AMQP virtual hosts that exist beside `/` and those that have queues.",
    ),
    entry(
        "amqp_consumer_timeout_ms",
        Form::Number { min: 1, max: 365 * DAY_MS, unit: "ms" },
        "1800000",
        "How long a consumer of a quorum queue may have a message, as `consumer_timeout`, unless its own or the queue's `x-consumer-timeout` says otherwise.",
    ),
    entry(
        "amqp_login_from",
        Form::Choice(&["common_name", "dns", "email", "uri"]),
        "common_name",
        "Which name of a client's certificate EXTERNAL logs in by: the common name of its subject, or the first alternative name of a kind. Needs `tls_client_ca` for the listener.",
    ),
    entry(
        "nats_max_payload",
        Form::Bytes { min: 1, max: 64 * MIB },
        "1MiB",
        "Bytes of headers and body of a NATS message, as `max_payload`.",
    ),
    entry(
        "nats_max_pending",
        Form::Bytes { min: 64 << 10, max: 4 * GIB },
        "64MiB",
        "Bytes that may wait for one NATS client before it is cut off as a slow consumer, as `max_pending`.",
    ),
    entry(
        "nats_max_request_batch",
        Form::Number { min: 0, max: 1_000_000, unit: "messages" },
        "0",
        "Messages that a pull request to a JetStream consumer may ask for at most, as `max_request_batch`: it is the limit of each pull consumer that is made without one of its own, and one with a higher limit is refused. 0 = any number.",
    ),
    entry(
        "nats_tls_first",
        Form::Choice(&["never", "auto", "always"]),
        "never",
        "Where the NATS listener has TLS: whether the handshake comes before the server's first line, as `handshake_first`; `auto` sends the line to a client that does not begin the handshake within 50 ms.",
    ),
    entry(
        "nats_lame_duck_duration_ms",
        Form::Number { min: 0, max: DAY_MS, unit: "ms" },
        "0",
        "Over how long NATS connections are closed when the broker stops, after they were told, as `lame_duck_duration`: clients then do not come to another server all at once. It ends within `shutdown_deadline_ms` in any case.",
    ),
    hidden(entry(
        "test_sync_delay_ms",
        Form::Number { min: 0, max: 60_000, unit: "ms" },
        "0",
        "Every sync takes this much longer, to show which answers wait for it.",
    )),
];
