//! `/jsz`: streams and consumers, in the original's words.

use std::{collections::BTreeMap, sync::Arc};

use model::Namespace;
use serde_json::{Map, Value, json};

use super::time::rfc3339;
use crate::{
    jetstream::{API_LEVEL, account::Account},
    server::Server,
    session::account_of,
};

/// What one account, or all together, have.
#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    memory: u64,
    storage: u64,
    streams: usize,
    consumers: usize,
    messages: u64,
}

impl Usage {
    fn of(account: &Account) -> Self {
        let mut usage = Usage { consumers: account.consumers.count(), ..Usage::default() };
        for bound in account.streams() {
            let stats = bound.partition.stats();
            usage.streams += 1;
            usage.messages += stats.records;
            *if bound.config.is_in_memory() { &mut usage.memory } else { &mut usage.storage } += stats.bytes;
        }
        usage
    }

    fn add(&mut self, other: Usage) {
        self.memory += other.memory;
        self.storage += other.storage;
        self.streams += other.streams;
        self.consumers += other.consumers;
        self.messages += other.messages;
    }
}

impl Server {
    pub(super) fn jsz(self: &Arc<Self>, query: &BTreeMap<String, String>) -> Value {
        let is_asked =
            |name: &str| query.get(name).is_some_and(|value| matches!(value.as_str(), "1" | "true"));
        let accounts = self.accounts();
        let mut total = Usage::default();
        accounts.iter().for_each(|account| total.add(Usage::of(account)));
        let mut answer = json!({
            "server_id": self.id,
            "now": rfc3339(self.broker.env().clock.wall_ms()),
            "config": { "max_memory": -1, "max_storage": -1, "strict": true },
            "memory": total.memory,
            "storage": total.storage,
            "reserved_memory": 0,
            "reserved_storage": 0,
            "accounts": accounts.len(),
            "ha_assets": 0,
            "api": { "level": API_LEVEL, "total": 0, "errors": 0 },
            "streams": total.streams,
            "consumers": total.consumers,
            "messages": total.messages,
            "bytes": total.memory + total.storage,
            "total": accounts.len(),
        });
        let (streams, consumers) = (is_asked("streams"), is_asked("consumers"));
        if is_asked("accounts") || streams || consumers || query.contains_key("acc") {
            let wanted = query.get("acc");
            let details = accounts.iter().filter(|account| {
                wanted.is_none_or(|wanted| account_of(&account.namespace.tenant) == wanted)
            });
            let details = details.map(|account| self.detail(account, streams || consumers, consumers));
            let details: Vec<Value> = details.collect();
            if let Value::Object(fields) = &mut answer {
                fields.insert("account_details".to_owned(), details.into());
            }
        }
        answer
    }

    /// What `/healthz` was asked about and is not there, in the original's words.
    pub(super) fn missing(&self, query: &BTreeMap<String, String>) -> Option<String> {
        let named = |name: &str| query.get(name).filter(|text| !text.is_empty());
        let wanted = named("account")?;
        let accounts = self.accounts();
        let account = accounts.iter().find(|account| account_of(&account.namespace.tenant) == *wanted);
        if account.is_none() && *wanted != account_of(&Namespace::default().tenant) {
            return Some(format!("JetStream account {wanted:?} not found"));
        }
        let stream = named("stream")?;
        let bound = account.and_then(|account| Some((account, account.stream(stream)?)));
        let Some((account, bound)) = bound else {
            return Some(format!("JetStream stream {stream:?} not found on account {wanted:?}"));
        };
        let consumer = named("consumer")?;
        let is_there = account.consumers.find(&bound, consumer).is_some();
        (!is_there).then(|| {
            format!("JetStream consumer {consumer:?} not found for stream {stream:?} on account {wanted:?}")
        })
    }

    fn detail(&self, account: &Account, with_streams: bool, with_consumers: bool) -> Value {
        let usage = Usage::of(account);
        let name = account_of(&account.namespace.tenant);
        let mut detail = Map::new();
        let mut put = |name: &str, value: Value| detail.insert(name.to_owned(), value);
        put("name", name.into());
        put("id", name.into());
        put("memory", usage.memory.into());
        put("storage", usage.storage.into());
        put("api", json!({ "level": API_LEVEL, "total": 0, "errors": 0 }));
        if with_streams {
            let streams = account.streams();
            let all = streams.iter().map(|bound| {
                let (stats, bounds) = (bound.partition.stats(), bound.partition.bounds());
                let consumers = account.consumers.of_stream(bound);
                let mut stream = json!({
                    "name": bound.name(),
                    "cluster": { "leader": self.id },
                    "config": serde_json::to_value(&bound.config).unwrap_or_default(),
                    "state": {
                        "messages": stats.records,
                        "bytes": stats.bytes,
                        "first_seq": bounds.start.0 + 1,
                        "last_seq": bounds.end.0,
                        "num_subjects": bound.partition.route_key_count(),
                        "consumer_count": consumers.len(),
                    },
                });
                if let (true, Value::Object(fields)) = (with_consumers, &mut stream) {
                    let all: Vec<Value> =
                        consumers.iter().map(|consumer| consumer.info(&self.id).into()).collect();
                    fields.insert("consumer_detail".to_owned(), all.into());
                }
                stream
            });
            put("stream_detail", all.collect::<Vec<Value>>().into());
        }
        detail.into()
    }
}
