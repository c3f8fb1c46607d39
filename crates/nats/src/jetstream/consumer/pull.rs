//! Pull requests: what a client asks for, and what it is told when there is none of it.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use super::{Consumer, duration_text, groups::Member};
use crate::{
    core::fanout::{Fanout, Message},
    jetstream::{config::without_nulls, json},
};

/// A request that waits.
#[derive(Clone, Debug)]
pub(super) struct Pull {
    pub reply: Box<[u8]>,
    /// Messages that are still wanted.
    pub left: u64,
    /// Bytes that may still come; `None` = any number.
    pub bytes_left: Option<u64>,
    /// Messages that came.
    pub count: u64,
    /// Until when it waits.
    pub ends: Option<Instant>,
    /// It ends when there is nothing.
    pub no_wait: bool,
    pub heartbeat: Option<(Duration, Instant)>,
    pub member: Member,
}

/// A request as clients write it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Asked {
    batch: i64,
    expires: i64,
    no_wait: bool,
    max_bytes: i64,
    idle_heartbeat: i64,
    group: String,
    id: String,
    min_pending: i64,
    min_ack_pending: i64,
    priority: i64,
}

impl Asked {
    fn parse(body: &[u8]) -> Result<Self, String> {
        let body = body.trim_ascii();
        match body.first() {
            // Some clients write null for what they do not ask for.
            Some(b'{') => serde_json::from_slice(body)
                .or_else(|_| {
                    let mut value = serde_json::from_slice(body)?;
                    without_nulls(&mut value);
                    serde_json::from_value(value)
                })
                .map_err(|error: serde_json::Error| match error.is_data() {
                    true => json::shape_text(&error),
                    false => json::syntax_text(body, &error, "unexpected end of JSON input"),
                }),
            _ => {
                let number = std::str::from_utf8(body).ok().and_then(|text| text.parse().ok());
                Ok(Asked { batch: number.unwrap_or(1), ..Asked::default() })
            }
        }
    }
}

/// A span of nanoseconds; none where it is not positive.
fn span(ns: i64) -> Option<Duration> {
    u64::try_from(ns).ok().filter(|ns| *ns > 0).map(Duration::from_nanos)
}

/// What is told to a request: `NATS/1.0`, the status, further lines.
pub(super) fn status(text: &str, lines: &[(&str, &str)]) -> Vec<u8> {
    let mut block = format!("NATS/1.0 {text}\r\n");
    for (name, value) in lines {
        block.push_str(&format!("{name}: {value}\r\n"));
    }
    block.push_str("\r\n");
    block.into_bytes()
}

/// Sends a status to `to`. Whether somebody listens.
pub(super) fn tell(out: &mut Fanout, to: &[u8], reply: Option<&[u8]>, block: &[u8]) -> bool {
    let message = Message { subject: to, reply, headers_len: Some(block.len()), payload: block };
    out.publish(&message, None) > 0
}

impl Pull {
    /// Tells what it ends with, and what it still wanted.
    pub(super) fn tell_end(&self, out: &mut Fanout, text: &str) {
        let (left, bytes) = (self.left.to_string(), self.bytes_left.unwrap_or(0).to_string());
        let lines = [("Nats-Pending-Messages", left.as_str()), ("Nats-Pending-Bytes", bytes.as_str())];
        tell(out, &self.reply, None, &status(text, &lines));
    }
}

impl Consumer {
    /// Takes a pull request. What it is told at once, if it is not to wait.
    pub(crate) fn pull(&self, reply: &[u8], body: &[u8]) -> Option<Vec<u8>> {
        let config = self.config();
        if config.is_push() {
            return Some(status("409 Consumer is push based", &[]));
        }
        let pull = match self.check_pull(reply, body) {
            Ok(pull) => pull,
            Err(text) => return Some(status(&text, &[])),
        };
        let mut state = self.state.lock();
        let now = Instant::now();
        state.used = now;
        if state.requests.len() as u64 >= u64::try_from(config.max_waiting).unwrap_or(u64::MAX) {
            // Those that are over make room.
            state.requests.retain(|request| request.ends.is_none_or(|ends| ends > now));
            if state.requests.len() as u64 >= u64::try_from(config.max_waiting).unwrap_or(u64::MAX) {
                drop(state);
                self.signal.notify_one();
                // A client with heartbeats notices that they are missing; told, it would ask again at once.
                return pull.heartbeat.is_none().then(|| status("409 Exceeded MaxWaiting", &[]));
            }
        }
        state.requests.push_back(pull);
        drop(state);
        self.signal.notify_one();
        None
    }

    fn check_pull(&self, reply: &[u8], body: &[u8]) -> Result<Pull, String> {
        let config = self.config();
        let asked = Asked::parse(body).map_err(|why| format!("400 Bad Request - {why}"))?;
        let heartbeat = span(asked.idle_heartbeat);
        if heartbeat.is_some() && asked.idle_heartbeat.saturating_mul(2) > asked.expires {
            return Err("400 Bad Request - heartbeat value too large".to_owned());
        }
        if config.max_batch > 0 && asked.batch > config.max_batch {
            return Err(format!("409 Exceeded MaxRequestBatch of {}", config.max_batch));
        }
        if config.max_expires > 0 && asked.expires > config.max_expires {
            return Err(format!("409 Exceeded MaxRequestExpires of {}", duration_text(config.max_expires)));
        }
        if config.max_bytes > 0 && asked.max_bytes > config.max_bytes {
            return Err(format!("409 Exceeded MaxRequestMaxBytes of {}", config.max_bytes));
        }
        if !(0..=9).contains(&asked.priority) {
            return Err("400 Bad Request - Priority must be between 0 and 9".to_owned());
        }
        let least = |value: i64| u64::try_from(value).unwrap_or(0);
        let member = Member {
            group: asked.group,
            pin: asked.id,
            min_pending: least(asked.min_pending),
            min_ack_pending: least(asked.min_ack_pending),
        };
        self.check_member(&config, &member)?;
        let now = Instant::now();
        Ok(Pull {
            reply: reply.into(),
            left: u64::try_from(asked.batch).unwrap_or(0).max(1),
            bytes_left: u64::try_from(asked.max_bytes).ok().filter(|max| *max > 0),
            count: 0,
            ends: span(asked.expires).map(|span| now + span),
            no_wait: asked.no_wait,
            heartbeat: heartbeat.map(|every| (every, now + every)),
            member,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_a_number_or_an_object_or_nothing() {
        for (body, batch) in [
            ("", 1),
            ("7", 7),
            ("  12 ", 12),
            ("x", 1),
            (r#"{"batch":5,"other":1}"#, 5),
            (r#"{"batch":5,"min_pending":null}"#, 5),
        ] {
            assert_eq!(Asked::parse(body.as_bytes()).unwrap().batch, batch, "{body:?}");
        }
        assert!(Asked::parse(b"{").is_err());
    }
}
