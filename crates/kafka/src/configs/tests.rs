use std::fmt::Write as _;

use super::*;

const HEADING: &str = "\
# Kafka's settings here

Written by the tests of the `kafka` crate from its tables; `WIREMILL_UPDATE=1 cargo test -p kafka settings_page` brings
it up to date.

A setting is obeyed, refused, or inert: taken, stored and shown, without effect on one node or behind this storage. The
defaults are Kafka's.

Replication factors above one are refused as Kafka refuses them on one node. With `single_node_replicas = \"accept\"`
the number (at most 32) is stored with the topic and shown: Metadata and DescribeTopicPartitions name this node that many
times as replica and in-sync replica, so that tools which count find what they asked for, and no broker that is not there.

DescribeConfigs shows every broker setting of Kafka 4.2, read-only: those below with what they are here, a topic's defaults
under their names, and the rest with Kafka's defaults.
";

fn page() -> String {
    let mut page = HEADING.to_owned();
    for (title, of_topic) in [("Topic settings", true), ("Broker settings", false)] {
        let table = if of_topic { TOPIC_CONFIGS } else { BROKER_CONFIGS };
        let mut rows: Vec<&Config> = table.iter().collect();
        rows.sort_by_key(|config| config.name);
        write!(page, "\n## {title}\n\n| setting | default | here |\n|---|---|---|\n").unwrap();
        for config in rows {
            let effect = match config.effect {
                Effect::Obeyed => "obeyed".to_owned(),
                Effect::Inert(why) => format!("inert: {why}"),
                Effect::OnlyDefault(why) => format!("the default alone: {why}"),
            };
            writeln!(page, "| `{}` | {} | {effect} |", config.name, config.default).unwrap();
        }
    }
    page
}

#[test]
#[allow(clippy::disallowed_methods)]
fn the_settings_page_says_what_the_tables_say() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/kafka-settings.md");
    if std::env::var_os("WIREMILL_UPDATE").is_some() {
        std::fs::write(path, page()).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap_or_default(), page());
}

#[test]
fn inert_settings_are_those_of_both_tables() {
    let all = inert_settings();
    assert!(all.iter().any(|s| s.of_topic && s.name == "min.insync.replicas"));
    assert!(all.iter().any(|s| !s.of_topic && s.name == "default.replication.factor"));
    assert!(all.iter().all(|s| !s.why.is_empty() && s.name != "retention.ms"));
}

#[test]
fn booleans_are_read_in_any_case_and_compaction_is_refused_with_its_reason() {
    let preallocate = topic_config("preallocate").unwrap();
    assert_eq!(preallocate.check("TRUE"), Ok(()));
    assert!(preallocate.check("yes").is_err());
    let why = topic_config("cleanup.policy").unwrap().check("compact").unwrap_err();
    assert!(why.contains("compaction is not available"), "{why}");
}
