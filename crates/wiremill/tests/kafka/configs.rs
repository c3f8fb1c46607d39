//! Kafka's configuration names: shown in full with their sources, changed, refused.

use std::collections::BTreeMap;

use kafka::codec::{
    ErrorCode,
    api::{
        alter_configs::{self, AlterConfigsRequest},
        describe_configs::{
            DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
            DescribeConfigsResult,
        },
        incremental_alter_configs::{
            self, AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
        },
    },
};

use crate::{
    client::Client,
    node::Node,
    usual::{create, try_create},
};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

const DYNAMIC_TOPIC: i8 = 1;
const STATIC: i8 = 4;
const DEFAULT: i8 = 5;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

fn describe(
    client: &mut Client,
    resource_type: i8,
    name: &str,
    keys: Option<Vec<&str>>,
) -> DescribeConfigsResult<'static> {
    let resource = DescribeConfigsResource { resource_type, resource_name: name, configuration_keys: keys };
    let request = DescribeConfigsRequest {
        resources: vec![resource],
        include_synonyms: true,
        include_documentation: true,
    };
    client.ask(4, &request).results.pop().unwrap()
}

type Rows = BTreeMap<String, DescribeConfigsResourceResult<'static>>;

fn rows(client: &mut Client, resource_type: i8, name: &str) -> Rows {
    let result = describe(client, resource_type, name, None);
    assert_eq!(result.error_code, ErrorCode::NONE, "{:?}", result.error_message);
    result.configs.into_iter().map(|row| (row.name.to_string(), row)).collect()
}

/// Value and source of one configuration of topic "t".
fn value(client: &mut Client, name: &str) -> (String, i8) {
    let row = rows(client, TOPIC, "t").remove(name).unwrap_or_else(|| panic!("no {name}"));
    (row.value.unwrap().into_owned(), row.config_source)
}

fn change(client: &mut Client, name: &str, config_operation: i8, value: Option<&str>) -> ErrorCode {
    let config = AlterableConfig { name, config_operation, value };
    let resource = AlterConfigsResource { resource_type: TOPIC, resource_name: "t", configs: vec![config] };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    client.ask(1, &request).responses[0].error_code
}

fn start(configs: &[(&str, &str)]) -> (Node, Client) {
    let node = Node::start();
    let mut client = node.client();
    create(&mut client, "t", 1, configs);
    (node, client)
}

/// Every name of Kafka 4.2's `TopicConfig`.
const TOPIC_NAMES: &[&str] = &[
    "cleanup.policy",
    "compression.gzip.level",
    "compression.lz4.level",
    "compression.type",
    "compression.zstd.level",
    "delete.retention.ms",
    "file.delete.delay.ms",
    "flush.messages",
    "flush.ms",
    "follower.replication.throttled.replicas",
    "index.interval.bytes",
    "leader.replication.throttled.replicas",
    "local.retention.bytes",
    "local.retention.ms",
    "max.compaction.lag.ms",
    "max.message.bytes",
    "message.timestamp.after.max.ms",
    "message.timestamp.before.max.ms",
    "message.timestamp.type",
    "min.cleanable.dirty.ratio",
    "min.compaction.lag.ms",
    "min.insync.replicas",
    "preallocate",
    "remote.log.copy.disable",
    "remote.log.delete.on.disable",
    "remote.storage.enable",
    "retention.bytes",
    "retention.ms",
    "segment.bytes",
    "segment.index.bytes",
    "segment.jitter.ms",
    "segment.ms",
    "unclean.leader.election.enable",
];

#[test]
fn every_topic_configuration_is_shown_with_its_default_source_type_and_words() {
    let (_node, mut client) = start(&[("retention.ms", "1000")]);
    let rows = rows(&mut client, TOPIC, "t");
    assert_eq!(rows.keys().map(String::as_str).collect::<Vec<_>>(), TOPIC_NAMES);
    for (name, row) in &rows {
        let source = if name == "retention.ms" { DYNAMIC_TOPIC } else { DEFAULT };
        assert_eq!(row.config_source, source, "{name}");
        assert!(row.value.is_some() && !row.read_only && !row.is_sensitive, "{name}");
        assert!(row.config_type > 0 && row.documentation.is_some(), "{name}");
    }
    assert_eq!(rows["max.message.bytes"].value.as_deref(), Some("1048588"));
    let retention = &rows["retention.ms"];
    let synonyms: Vec<(&str, i8)> = retention.synonyms.iter().map(|s| (s.name.as_ref(), s.source)).collect();
    assert_eq!(synonyms, [("retention.ms", DYNAMIC_TOPIC)], "log.retention.ms has no default");
    let synonyms = &rows["max.message.bytes"].synonyms;
    let synonyms: Vec<(&str, i8)> = synonyms.iter().map(|s| (s.name.as_ref(), s.source)).collect();
    assert_eq!(synonyms, [("message.max.bytes", DEFAULT)]);
}

/// Materialize failed without `num.partitions`.
#[test]
fn the_broker_shows_what_clients_look_for() {
    let (_node, mut client) = start(&[]);
    let rows = rows(&mut client, BROKER, "1");
    for name in [
        "num.partitions",
        "default.replication.factor",
        "auto.create.topics.enable",
        "log.retention.hours",
        "message.max.bytes",
        "advertised.listeners",
        "offsets.retention.minutes",
        "min.insync.replicas",
    ] {
        let row = rows.get(name).unwrap_or_else(|| panic!("no {name}"));
        assert!(row.value.is_some() && row.read_only, "{name}");
    }
    assert_eq!(describe(&mut client, BROKER, "7", None).error_code, ErrorCode::INVALID_REQUEST);
}

/// Names, types and defaults as a Kafka 4.2.1 without settings of its own lists them.
#[test]
fn every_broker_configuration_is_shown_with_the_original_s_type_and_default() {
    let node = Node::start_with(&["--default-partitions", "3", "--producer-expiry-ms", "5000"]);
    let mut rows = rows(&mut node.client(), BROKER, "1");
    let mut wrong = Vec::new();
    let set_here = [
        ("advertised.listeners", None),
        ("broker.id", Some("1")),
        ("group.coordinator.rebalance.protocols", Some("classic")),
        ("group.initial.rebalance.delay.ms", Some("0")),
        ("listeners", None),
        ("log.dirs", None),
        ("log.retention.check.interval.ms", Some("10000")),
        ("node.id", Some("1")),
        ("num.partitions", Some("3")),
        ("process.roles", Some("broker,controller")),
        ("producer.id.expiration.ms", Some("5000")),
        ("sasl.enabled.mechanisms", Some("PLAIN,SCRAM-SHA-256,SCRAM-SHA-512")),
    ];
    for line in include_str!("broker_configs_of_kafka_4_2.txt").lines() {
        let mut parts = line.splitn(3, ' ');
        let (name, kind) = (parts.next().unwrap(), parts.next().unwrap());
        let default = parts.next();
        let Some(row) = rows.remove(name) else {
            wrong.push(format!("no {name}"));
            continue;
        };
        let synonyms: Vec<_> = row.synonyms.iter().map(|s| (s.value.as_deref(), s.source)).collect();
        let shown = row.value.as_deref();
        let is_right = match set_here.iter().find(|(set, _)| *set == name) {
            Some((_, value)) => {
                row.config_source == STATIC
                    && value.is_none_or(|value| shown == Some(value))
                    && synonyms.first() == Some(&(shown, STATIC))
                    && synonyms.get(1).map(|(value, _)| *value) == default.map(Some)
            }
            None => {
                let expected: &[_] =
                    &default.map(|value| (Some(value), DEFAULT)).into_iter().collect::<Vec<_>>();
                row.config_source == DEFAULT && shown == default && synonyms == expected
            }
        };
        if !is_right || row.config_type.to_string() != kind || row.is_sensitive != (kind == "9") {
            wrong.push(format!("{name} is {row:?}, not {kind} {default:?}"));
        }
    }
    wrong.extend(rows.keys().map(|name| format!("{name} is not the original's")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_configurations_that_were_asked_for_are_shown() {
    let (_node, mut client) = start(&[]);
    let result = describe(&mut client, TOPIC, "t", Some(vec!["retention.ms", "no.such.name"]));
    let names: Vec<&str> = result.configs.iter().map(|row| row.name.as_ref()).collect();
    assert_eq!(names, ["retention.ms"]);
    let unknown = describe(&mut client, TOPIC, "nowhere", None);
    assert_eq!(unknown.error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
}

#[test]
fn settings_that_can_have_no_effect_here_are_taken_and_shown() {
    let inert = [
        ("min.insync.replicas", "2"),
        ("flush.messages", "1"),
        ("segment.ms", "60000"),
        ("unclean.leader.election.enable", "true"),
        ("compression.type", "zstd"),
    ];
    let (mut node, mut client) = start(&inert);
    for restarted in [false, true] {
        if restarted {
            node.crash_and_start_again();
            client = node.client();
        }
        for (name, set) in inert {
            assert_eq!(value(&mut client, name), (set.to_owned(), DYNAMIC_TOPIC), "{name}");
        }
    }
}

#[test]
fn the_answer_to_a_creation_shows_the_configurations() {
    let node = Node::start();
    let mut client = node.client();
    let result = try_create(&mut client, "t", 1, &[("min.insync.replicas", "2")]);
    let configs = result.configs.unwrap();
    assert_eq!(configs.len(), TOPIC_NAMES.len());
    let shown = configs.iter().find(|config| config.name == "min.insync.replicas").unwrap();
    assert_eq!((shown.value.as_deref(), shown.config_source), (Some("2"), DYNAMIC_TOPIC));
}

#[test]
fn what_is_unknown_out_of_bounds_or_not_built_is_refused_and_creates_nothing() {
    let (_node, mut client) = start(&[]);
    let refused = [
        ("no.such.name", "1"),
        ("retention.ms", "abc"),
        ("retention.ms", "-2"),
        ("max.message.bytes", "-1"),
        ("max.message.bytes", "2147483648"),
        ("message.timestamp.type", "Whenever"),
        ("cleanup.policy", "compact"),
        ("cleanup.policy", "compact,delete"),
        ("remote.storage.enable", "true"),
        ("min.insync.replicas", "0"),
        ("segment.bytes", "1048575"),
        ("compression.gzip.level", "0"),
        ("min.cleanable.dirty.ratio", "1.1"),
        ("follower.replication.throttled.replicas", "0"),
    ];
    for (name, set) in refused {
        let result = try_create(&mut client, "new", 1, &[(name, set)]);
        assert_eq!(result.error_code, ErrorCode::INVALID_CONFIG, "{name}={set}");
        assert!(result.error_message.is_some());
        assert_eq!(change(&mut client, name, SET, Some(set)), ErrorCode::INVALID_CONFIG, "{name}={set}");
    }
    assert_eq!(try_create(&mut client, "new", 1, &[]).error_code, ErrorCode::NONE);
    assert_eq!(value(&mut client, "retention.ms"), ("604800000".to_owned(), DEFAULT));
}

#[test]
fn a_setting_is_set_and_taken_back() {
    let (mut node, mut client) = start(&[("retention.ms", "1000"), ("segment.ms", "5000")]);
    assert_eq!(change(&mut client, "retention.ms", SET, Some("2000")), ErrorCode::NONE);
    assert_eq!(value(&mut client, "retention.ms"), ("2000".to_owned(), DYNAMIC_TOPIC));
    assert_eq!(value(&mut client, "segment.ms").0, "5000", "what is not named stays");
    assert_eq!(change(&mut client, "retention.ms", DELETE, None), ErrorCode::NONE);
    assert_eq!(change(&mut client, "no.such.name", DELETE, None), ErrorCode::NONE, "it is not set anyway");
    node.crash_and_start_again();
    let mut client = node.client();
    assert_eq!(value(&mut client, "retention.ms"), ("604800000".to_owned(), DEFAULT));
    assert_eq!(value(&mut client, "segment.ms"), ("5000".to_owned(), DYNAMIC_TOPIC));
}

#[test]
fn lists_grow_and_shrink_by_append_and_subtract() {
    let (_node, mut client) = start(&[]);
    let name = "leader.replication.throttled.replicas";
    assert_eq!(change(&mut client, name, APPEND, Some("0:1,1:1")), ErrorCode::NONE);
    assert_eq!(change(&mut client, name, APPEND, Some("1:1,2:1")), ErrorCode::NONE);
    assert_eq!(value(&mut client, name).0, "0:1,1:1,2:1", "each item once");
    assert_eq!(change(&mut client, name, SUBTRACT, Some("1:1,9:9")), ErrorCode::NONE);
    assert_eq!(value(&mut client, name).0, "0:1,2:1");
    assert_eq!(change(&mut client, "cleanup.policy", APPEND, Some("compact")), ErrorCode::INVALID_CONFIG);
    assert_eq!(change(&mut client, "retention.ms", APPEND, Some("1")), ErrorCode::INVALID_CONFIG);
    assert_eq!(change(&mut client, "retention.ms", SUBTRACT, Some("1")), ErrorCode::INVALID_CONFIG);
    assert_eq!(change(&mut client, name, APPEND, Some("all of them")), ErrorCode::INVALID_CONFIG);
    assert_eq!(change(&mut client, "retention.ms", 9, Some("1")), ErrorCode::INVALID_REQUEST);
}

#[test]
fn alter_configs_puts_everything_that_it_does_not_name_back() {
    let (_node, mut client) = start(&[("retention.ms", "1000"), ("segment.ms", "5000")]);
    let ask = |validate_only| {
        let config = alter_configs::AlterableConfig { name: "retention.ms", value: Some("3000") };
        let resource = alter_configs::AlterConfigsResource {
            resource_type: TOPIC,
            resource_name: "t",
            configs: vec![config],
        };
        AlterConfigsRequest { resources: vec![resource], validate_only }
    };
    assert_eq!(client.ask(2, &ask(true)).responses[0].error_code, ErrorCode::NONE);
    assert_eq!(value(&mut client, "retention.ms").0, "1000", "checked only");
    assert_eq!(client.ask(2, &ask(false)).responses[0].error_code, ErrorCode::NONE);
    assert_eq!(value(&mut client, "retention.ms"), ("3000".to_owned(), DYNAMIC_TOPIC));
    assert_eq!(value(&mut client, "segment.ms"), ("604800000".to_owned(), DEFAULT));
}

#[test]
fn a_changed_limit_is_obeyed_at_once() {
    let (_node, mut client) = start(&[]);
    let large = crate::usual::batch(&["x".repeat(1_000).as_str()]);
    assert_eq!(crate::usual::produce(&mut client, "t", 0, &large).error_code, ErrorCode::NONE);
    assert_eq!(change(&mut client, "max.message.bytes", SET, Some("500")), ErrorCode::NONE);
    let answer = crate::usual::produce(&mut client, "t", 0, &large);
    assert_eq!(answer.error_code, ErrorCode::MESSAGE_TOO_LARGE);
}

#[test]
fn a_change_that_names_a_thing_twice_or_lacks_a_value_is_refused_and_changes_nothing() {
    let (_node, mut client) = start(&[("retention.ms", "1000")]);
    let set = |name, value| AlterableConfig { name, config_operation: SET, value };
    let resource = |configs| AlterConfigsResource { resource_type: TOPIC, resource_name: "t", configs };
    let mut ask = |resources| {
        let request = IncrementalAlterConfigsRequest { resources, validate_only: false };
        let answered = client.ask(1, &request).responses;
        let said = |r: incremental_alter_configs::AlterConfigsResourceResponse<'static>| {
            (r.error_code, r.error_message.unwrap_or_default().into_owned())
        };
        answered.into_iter().map(said).collect::<Vec<_>>()
    };
    let invalid = |why: &str| (ErrorCode::INVALID_REQUEST, why.to_owned());
    let twice = resource(vec![set("retention.ms", Some("1")), set("retention.ms", Some("2"))]);
    assert_eq!(ask(vec![twice]), [invalid("Error due to duplicate config keys")]);
    let without = resource(vec![set("segment.ms", Some("5000")), set("retention.ms", None)]);
    assert_eq!(ask(vec![without]), [invalid("Null value not supported for : retention.ms")]);
    let once = || resource(vec![set("retention.ms", Some("3"))]);
    let more_than_once = invalid("Each resource must appear at most once.");
    assert_eq!(ask(vec![once(), once()]), [more_than_once.clone(), more_than_once]);

    let config = |value| alter_configs::AlterableConfig { name: "retention.ms", value };
    let mut replace = |configs| {
        let resource =
            alter_configs::AlterConfigsResource { resource_type: TOPIC, resource_name: "t", configs };
        let request = AlterConfigsRequest { resources: vec![resource], validate_only: false };
        client.ask(2, &request).responses[0].error_code
    };
    assert_eq!(replace(vec![config(Some("1")), config(Some("2"))]), ErrorCode::INVALID_REQUEST);
    assert_eq!(replace(vec![config(None)]), ErrorCode::INVALID_REQUEST);
    assert_eq!(value(&mut client, "retention.ms").0, "1000");
    assert_eq!(value(&mut client, "segment.ms").1, DEFAULT);
}
