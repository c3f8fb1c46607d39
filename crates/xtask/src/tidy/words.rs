//! The spine speaks neutral words: no protocol's vocabulary in its identifiers.

use super::Complaints;
use super::code::{identifiers, only_code};
use crate::workspace::Source;

const SPINE: [&str; 7] = ["model", "wire", "env", "store", "cursor", "route", "broker"];

/// Words that belong to one protocol family. Neutral words of the design (stream, partition, log, queue,
/// producer, cursor, lease, route, address) are not here.
const FOREIGN: [&str; 21] = [
    "kafka",
    "amqp",
    "rabbit",
    "rabbitmq",
    "nats",
    "jetstream",
    "sqs",
    "sns",
    "eventbridge",
    "redis",
    "pulsar",
    "topic",
    "topics",
    "exchange",
    "exchanges",
    "subject",
    "subjects",
    "vhost",
    "vhosts",
    "xack",
    "xread",
];

/// Identifiers of the standard library that contain one of those words.
const BORROWED: [&str; 2] = ["compare_exchange", "compare_exchange_weak"];

pub fn neutral(sources: &[Source]) -> Complaints {
    sources
        .iter()
        .filter(|source| SPINE.contains(&source.crate_name()))
        .flat_map(|source| {
            let code = only_code(&source.text);
            identifiers(&code)
                .filter_map(|(line, name)| {
                    let word = foreign_word(name)?;
                    Some(format!("{}:{line}: {name:?} says {word:?}, a word of one protocol", source.path))
                })
                .collect::<Vec<_>>()
        })
        .collect()
}

fn foreign_word(identifier: &str) -> Option<String> {
    if BORROWED.contains(&identifier) {
        return None;
    }
    parts(identifier).into_iter().find(|part| FOREIGN.contains(&part.as_str()))
}

/// The lower-case words of a snake_case, CamelCase or SHOUTING identifier.
fn parts(identifier: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut lower_before = false;
    for c in identifier.chars() {
        if c == '_' || (c.is_uppercase() && lower_before) {
            words.push(String::new());
        }
        if c != '_'
            && let Some(word) = words.last_mut()
        {
            word.extend(c.to_lowercase());
        }
        lower_before = c.is_lowercase() || c.is_numeric();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_word_is_found_in_any_case() {
        for name in ["topic_id", "TopicId", "MAX_TOPIC_LEN", "kafka", "readTopic"] {
            assert!(foreign_word(name).is_some(), "{name}");
        }
        for name in ["stream", "utopic", "compare_exchange", "partition_count"] {
            assert_eq!(foreign_word(name), None, "{name}");
        }
    }

    #[test]
    fn comments_and_slices_may_use_the_words_of_a_protocol() {
        let text = "// a topic\nfn topic() {}\n".to_string();
        let source =
            |crate_name: &str| Source { path: format!("crates/{crate_name}/src/a.rs"), text: text.clone() };
        assert_eq!(neutral(&[source("broker")]).len(), 1);
        assert_eq!(neutral(&[source("kafka")]).len(), 0);
    }
}
