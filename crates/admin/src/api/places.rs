//! How streams are named with their kind: `KIND:NAME` in the caller's namespace, `KIND://TENANT/SPACE/NAME` in any.

use model::{Kind, Namespace, Result, StreamKey};

use crate::caller::{invalid, namespace};

/// The words for each kind: its own, and those of the dialects that make it.
const WORDS: [(&str, Kind); 5] = [
    ("log", Kind::Log),
    ("kafka", Kind::Log),
    ("queue", Kind::Queue),
    ("sqs", Kind::Queue),
    ("amqp", Kind::Queue),
];

/// The stream that `text` names, seen from `home`.
pub(crate) fn stream(text: &str, home: &Namespace) -> Result<StreamKey> {
    let wrong = || {
        invalid(format!(
            "{text:?} is not KIND:NAME or KIND://TENANT/SPACE/NAME, with log (or kafka) or queue (or sqs, amqp) as the kind"
        ))
    };
    let (word, name) = text.split_once(':').ok_or_else(wrong)?;
    let (_, kind) = WORDS.iter().find(|(known, _)| *known == word).ok_or_else(wrong)?;
    let (namespace, name) = match name.strip_prefix("//") {
        None => (home.clone(), name),
        Some(full) => {
            let (tenant, rest) = full.split_once('/').ok_or_else(wrong)?;
            let (space, name) = rest.split_once('/').ok_or_else(wrong)?;
            (namespace(&format!("{tenant}/{space}"))?, name)
        }
    };
    if name.is_empty() {
        return Err(wrong());
    }
    Ok(StreamKey { namespace, kind: *kind, name: name.into() })
}

/// How a stream is named, seen from `home`. [`stream`] reads it.
pub(crate) fn shown(key: &StreamKey, home: &Namespace) -> String {
    if key.namespace == *home {
        format!("{}:{}", key.kind, key.name)
    } else {
        format!("{}://{}/{}", key.kind, key.namespace, key.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_named_with_its_kind_and_where_it_is() {
        let home = Namespace::new("acme", "blue");
        let check = |text: &str, expected: &str| {
            let key = stream(text, &home).unwrap();
            assert_eq!(format!("{key}"), expected, "{text}");
            assert_eq!(stream(&shown(&key, &home), &home).unwrap(), key, "{text}");
        };
        check("log:orders", "acme/blue/orders (log)");
        check("kafka:orders", "acme/blue/orders (log)");
        check("queue:jobs", "acme/blue/jobs (queue)");
        check("sqs:jobs.fifo", "acme/blue/jobs.fifo (queue)");
        check("amqp:a/b:c", "acme/blue/a/b:c (queue)");
        check("queue://public/default/jobs", "public/default/jobs (queue)");
        check("log://public/default/a/b", "public/default/a/b (log)");
    }

    #[test]
    fn what_names_no_stream_is_refused() {
        for text in ["", "orders", "log:", "nats:orders", "log://a/b", "log://a/b/", "log:///b/c", "LOG:x"] {
            assert!(stream(text, &Namespace::default()).is_err(), "{text}");
        }
    }
}
