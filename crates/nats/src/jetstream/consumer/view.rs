//! What a consumer says of itself.

use serde_json::{Map, Value, json};

use super::{
    super::{config::shown, time},
    Consumer,
    config::AckPolicy,
};

impl Consumer {
    /// Its state and configuration, in the original's words.
    pub(crate) fn info(&self, server: &str) -> Map<String, Value> {
        let (progress, pending) = (self.progress(), self.pending());
        let now_ms = self.broker.env().clock.wall_ms();
        let state = self.state.lock();
        let config = state.config.clone();
        let (sent, end) = (state.sent, state.sent_end.0);
        let outstanding = if config.ack_policy == AckPolicy::None { 0 } else { progress.outstanding };
        let floor = if outstanding == 0 { end } else { progress.floor.0.min(end) };
        let pair = |consumer: u64, stream: u64, last_ms: Option<i64>| {
            let mut pair = json!({ "consumer_seq": consumer, "stream_seq": stream });
            if let (Some(last_ms), Value::Object(fields)) = (last_ms, &mut pair) {
                fields.insert("last_active".to_owned(), time::text(last_ms).into());
            }
            pair
        };
        let mut all = Map::new();
        let mut put = |name: &str, value: Value| all.insert(name.to_owned(), value);
        put("stream_name", self.stream.as_str().into());
        put("name", self.name.as_str().into());
        put("created", time::text(self.created_ms).into());
        put("config", shown(&*config, config.level()));
        put("delivered", pair(sent, end, state.last_sent_ms));
        put("ack_floor", pair(sent.saturating_sub(outstanding), floor, state.last_ack_ms));
        put("num_ack_pending", outstanding.into());
        put("num_redelivered", progress.redelivered.into());
        put("num_waiting", state.requests.len().into());
        put("num_pending", pending.into());
        put("cluster", json!({ "leader": server }));
        if config.is_push() && state.is_bound {
            put("push_bound", true.into());
        }
        if let Some(until_ms) = config.paused_until_ms(now_ms) {
            put("paused", true.into());
            put("pause_remaining", (until_ms - now_ms).saturating_mul(1_000_000).into());
        }
        if let Some(groups) = state.groups() {
            put("priority_groups", groups);
        }
        put("ts", time::text(now_ms).into());
        all
    }
}
