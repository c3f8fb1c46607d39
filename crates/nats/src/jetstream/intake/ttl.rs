//! `Nats-TTL`: how long a message stays.

use super::Stay;
use crate::jetstream::{
    config::StreamConfig,
    headers::{self, VERSION_LINE},
    time,
};

const TTL: &str = "Nats-TTL";

/// How long a message stays: whole seconds, a span of at least one, or for ever; `None` when it does not read.
pub(super) fn stay(text: &[u8]) -> Option<Stay> {
    let text = std::str::from_utf8(text).ok()?;
    if text.eq_ignore_ascii_case("never") {
        return Some(Stay::Ever);
    }
    let ns = match text.parse::<i64>() {
        Ok(seconds) => seconds.checked_mul(1_000_000_000)?,
        Err(_) => time::duration_ns(text)?,
    };
    u64::try_from(ns / 1_000_000).ok().filter(|ms| *ms >= 1_000).map(Stay::For)
}

/// The headers of a message that would go before a delete marker of its subject does, with the TTL of markers instead: else
/// there would be no marker for it. `None` where they stay as they are.
pub(super) fn at_least_markers(config: &StreamConfig, block: &[u8]) -> Option<Vec<u8>> {
    let marker_ttl_s = config.marker_ttl_s().filter(|_| config.max_msgs_per_subject != 1)?;
    let Some(Stay::For(ttl_ms)) = headers::value(block, TTL).and_then(stay) else { return None };
    if ttl_ms >= marker_ttl_s * 1_000 {
        return None;
    }
    let mut out = VERSION_LINE.to_vec();
    let mut put = |name: &[u8], value: &[u8]| {
        for part in [name, b": ", value, b"\r\n"] {
            out.extend_from_slice(part);
        }
    };
    headers::all(block)
        .filter(|(name, _)| *name != TTL.as_bytes())
        .for_each(|(name, value)| put(name, value));
    put(TTL.as_bytes(), marker_ttl_s.to_string().as_bytes());
    out.extend_from_slice(b"\r\n");
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ttl_is_seconds_a_span_or_never() {
        for (text, expected) in [
            ("1", Some(Stay::For(1_000))),
            ("90s", Some(Stay::For(90_000))),
            ("1m30s", Some(Stay::For(90_000))),
            ("never", Some(Stay::Ever)),
            ("0", None),
            ("999ms", None),
            ("-1", None),
            ("soon", None),
        ] {
            assert_eq!(stay(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn a_message_outlives_no_marker_of_its_subject() {
        let config = |json: &str| StreamConfig::parse(json.as_bytes()).unwrap().checked(false).unwrap();
        let with_markers = config(r#"{"name":"S","subject_delete_marker_ttl":60000000000}"#);
        let block = |ttl: &str| format!("NATS/1.0\r\nNats-TTL: {ttl}\r\nK: v\r\n\r\n").into_bytes();
        let longer = at_least_markers(&with_markers, &block("5s")).unwrap();
        assert_eq!(longer, b"NATS/1.0\r\nK: v\r\nNats-TTL: 60\r\n\r\n");
        for ttl in ["60s", "2m", "never"] {
            assert_eq!(at_least_markers(&with_markers, &block(ttl)), None, "{ttl}");
        }
        let of_one =
            config(r#"{"name":"S","max_msgs_per_subject":1,"subject_delete_marker_ttl":60000000000}"#);
        assert_eq!(at_least_markers(&of_one, &block("5s")), None);
    }
}
