//! What monitoring reads: counters of the server and of its connections, in the original's words.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use broker::Principal;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use crate::{
    codec::Connect,
    connection::End,
    core::{
        client::Client,
        hub::{Hub, Subscription},
    },
    server::{ConnectionInfo, Server},
    session::account_of,
};

mod jetstream;
mod time;

use time::{elapsed, rfc3339};

/// Connections in one answer unless it was asked for another number, as the original has it.
const LIMIT: usize = 1_024;

/// Every connection, and what those that are gone have sent and taken.
#[derive(Debug)]
pub(crate) struct Registry {
    started_ms: i64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    live: BTreeMap<u64, Entry>,
    connection_count: u64,
    slow_count: u64,
    stale_count: u64,
    gone: Traffic,
}

#[derive(Debug)]
struct Entry {
    client: Arc<Client>,
    peer: SocketAddr,
    started_ms: i64,
    about: Option<About>,
}

/// What a client said of itself.
#[derive(Debug)]
struct About {
    name: Option<String>,
    lang: Option<String>,
    version: Option<String>,
    user: Option<Arc<str>>,
    tenant: Arc<str>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Traffic {
    in_messages: u64,
    out_messages: u64,
    in_bytes: u64,
    out_bytes: u64,
}

impl Traffic {
    fn of(client: &Client) -> Self {
        let counters = &client.counters;
        Traffic {
            in_messages: counters.in_messages.load(Relaxed),
            out_messages: counters.out_messages.load(Relaxed),
            in_bytes: counters.in_bytes.load(Relaxed),
            out_bytes: counters.out_bytes.load(Relaxed),
        }
    }

    fn add(&mut self, other: Traffic) {
        self.in_messages += other.in_messages;
        self.out_messages += other.out_messages;
        self.in_bytes += other.in_bytes;
        self.out_bytes += other.out_bytes;
    }
}

impl Registry {
    pub(crate) fn new(started_ms: i64) -> Self {
        Registry { started_ms, state: Mutex::default() }
    }

    /// A connection came.
    pub(crate) fn enter(&self, client: &Arc<Client>, info: &ConnectionInfo, now_ms: i64) {
        client.pending.enter();
        client.counters.active_ms.store(now_ms, Relaxed);
        let entry = Entry { client: client.clone(), peer: info.peer, started_ms: now_ms, about: None };
        let mut state = self.state.lock();
        state.connection_count += 1;
        state.live.insert(client.id, entry);
    }

    /// Its CONNECT was taken.
    pub(crate) fn note(&self, id: u64, connect: &Connect, principal: &Principal) {
        let about = About {
            name: connect.name.clone(),
            lang: connect.lang.clone(),
            version: connect.version.clone(),
            user: principal.name.clone(),
            tenant: principal.tenant.clone(),
        };
        if let Some(entry) = self.state.lock().live.get_mut(&id) {
            entry.about = Some(about);
        }
    }

    /// It went. Nothing is written for it any more.
    pub(crate) fn leave(&self, client: &Client, end: End) {
        client.outbox.close();
        client.pending.leave(client.outbox.len());
        let mut state = self.state.lock();
        state.live.remove(&client.id);
        state.gone.add(Traffic::of(client));
        match end {
            End::Slow => state.slow_count += 1,
            End::Stale => state.stale_count += 1,
            End::Gone | End::Closed(_) | End::Shutdown => {}
        }
    }
}

impl Server {
    /// What `path` of the original's monitoring answers; `None` for what is not there.
    pub fn monitor(self: &Arc<Self>, path: &str, query: &BTreeMap<String, String>) -> Option<Value> {
        match path {
            "/varz" => Some(self.varz()),
            "/connz" => Some(self.connz(query)),
            "/subsz" | "/subscriptionsz" => Some(self.subsz(query)),
            "/jsz" => Some(self.jsz(query)),
            // Asked before anybody is known: what is not there, for the endpoint to say.
            "/healthz" => self.missing(query).map(Value::String),
            _ => None,
        }
    }

    fn varz(&self) -> Value {
        let now = self.broker.env().clock.wall_ms();
        let subscriptions = self.hubs().values().map(|hub| hub.len()).sum::<usize>();
        let state = self.registry.state.lock();
        let mut traffic = state.gone;
        state.live.values().for_each(|entry| traffic.add(Traffic::of(&entry.client)));
        json!({
            "server_id": self.id,
            "server_name": self.id,
            "version": crate::VERSION,
            "proto": 1,
            "go": "",
            "auth_required": !self.lets_anyone_in(),
            "max_payload": self.options.payload_len_max,
            "max_control_line": self.options.control_line_len_max,
            "max_pending": self.options.pending_len_max,
            "ping_interval": self.options.ping_interval_ms * 1_000_000,
            "ping_max": self.options.pings_out_max,
            "write_deadline": self.options.write_deadline_ms * 1_000_000,
            "start": rfc3339(self.registry.started_ms),
            "now": rfc3339(now),
            "uptime": elapsed(now - self.registry.started_ms),
            "jetstream": { "config": { "max_memory": -1, "max_storage": -1 } },
            "connections": state.live.len(),
            "total_connections": state.connection_count,
            "in_msgs": traffic.in_messages,
            "out_msgs": traffic.out_messages,
            "in_bytes": traffic.in_bytes,
            "out_bytes": traffic.out_bytes,
            "pending_bytes": self.pending.len(),
            "slow_consumers": state.slow_count,
            "stale_connections": state.stale_count,
            "subscriptions": subscriptions,
            "routes": 0,
            "remotes": 0,
            "leafnodes": 0,
        })
    }

    fn connz(&self, query: &BTreeMap<String, String>) -> Value {
        let now = self.broker.env().clock.wall_ms();
        let number = |name: &str| query.get(name).and_then(|text| text.parse::<usize>().ok());
        let (offset, limit) = (number("offset").unwrap_or(0), number("limit").filter(|limit| *limit > 0));
        let limit = limit.unwrap_or(LIMIT);
        let state = self.registry.state.lock();
        let total = state.live.len();
        let cid = number("cid").map(|cid| cid as u64);
        let is_wanted = |entry: &&Entry| cid.is_none_or(|cid| entry.client.id == cid);
        let subscriptions = self.subscriptions_of(query.get("subs").map(String::as_str));
        let mut entries: Vec<&Entry> = state.live.values().filter(is_wanted).collect();
        sort(&mut entries, query.get("sort").map_or("cid", String::as_str));
        let shown: Vec<Value> = entries
            .iter()
            .skip(offset)
            .take(limit)
            .map(|entry| {
                let mut all = entry.describe(now, query.contains_key("auth"));
                if let Some((field, of_client)) = &subscriptions {
                    let list = of_client.get(&entry.client.id).cloned().unwrap_or_default();
                    all.insert((*field).to_owned(), list.into());
                }
                Value::Object(all)
            })
            .collect();
        json!({
            "server_id": self.id,
            "now": rfc3339(now),
            "num_connections": shown.len(),
            "total": total,
            "offset": offset,
            "limit": limit,
            "connections": shown,
        })
    }

    /// The subscriptions of each client as they are asked for, by subject or in detail, and the name of their field.
    fn subscriptions_of(&self, asked: Option<&str>) -> Option<(&'static str, BTreeMap<u64, Vec<Value>>)> {
        let (field, in_detail) = match asked? {
            "detail" => ("subscriptions_list_detail", true),
            "1" | "true" => ("subscriptions_list", false),
            _ => return None,
        };
        let mut of_client: BTreeMap<u64, Vec<Value>> = BTreeMap::new();
        for one in self.hubs().values().flat_map(|hub| hub.all()) {
            let shown = match in_detail {
                true => detail(&one, None),
                false => String::from_utf8_lossy(&one.subject()).into(),
            };
            of_client.entry(one.client.id).or_default().push(shown);
        }
        Some((field, of_client))
    }

    fn subsz(&self, query: &BTreeMap<String, String>) -> Value {
        let now = self.broker.env().clock.wall_ms();
        let hubs = self.hubs();
        let count = hubs.values().map(|hub| hub.len() as u64).sum::<u64>();
        let inserts = hubs.values().map(|hub| hub.insert_count()).sum::<u64>();
        let number = |name: &str| query.get(name).and_then(|text| text.parse::<usize>().ok());
        let (offset, limit) = (number("offset").unwrap_or(0), number("limit").filter(|limit| *limit > 0));
        let limit = limit.unwrap_or(LIMIT);
        let mut all = json!({
            "server_id": self.id,
            "now": rfc3339(now),
            "num_subscriptions": count,
            "num_inserts": inserts,
            "num_removes": inserts.saturating_sub(count),
            "total": count,
            "offset": offset,
            "limit": limit,
        });
        if query.get("subs").is_some_and(|asked| asked == "1" || asked == "true") {
            let of_tenant = |(tenant, hub): (String, Arc<Hub>)| {
                let account = account_of(&tenant).to_owned();
                hub.all().into_iter().map(move |one| detail(&one, Some(&account)))
            };
            let listed = hubs.into_iter().flat_map(of_tenant).skip(offset).take(limit);
            let listed: Vec<Value> = listed.collect();
            all["subscriptions_list"] = listed.into();
        }
        all
    }
}

/// One subscription.
fn detail(one: &Subscription, account: Option<&str>) -> Value {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (delivered, max) = one.deliveries();
    let mut all = json!({
        "subject": text(&one.subject()),
        "sid": text(&one.sid),
        "msgs": delivered,
        "cid": one.client.id,
    });
    if let Some(account) = account {
        all["account"] = account.into();
    }
    if let Some(queue) = &one.queue {
        all["qgroup"] = text(queue).into();
    }
    if max > 0 {
        all["max"] = max.into();
    }
    all
}

/// The original's orders: by number and start the smallest first, everything else the largest.
fn sort(entries: &mut [&Entry], by: &str) {
    let key = |entry: &Entry| {
        let traffic = Traffic::of(&entry.client);
        match by {
            "subs" => entry.client.counters.subscriptions.load(Relaxed),
            "pending" => entry.client.outbox.len() as u64,
            "msgs_to" => traffic.out_messages,
            "msgs_from" => traffic.in_messages,
            "bytes_to" => traffic.out_bytes,
            "bytes_from" => traffic.in_bytes,
            "last" => entry.client.counters.active_ms.load(Relaxed).unsigned_abs(),
            "idle" => u64::MAX - entry.client.counters.active_ms.load(Relaxed).unsigned_abs(),
            _ => u64::MAX - entry.client.id,
        }
    };
    entries.sort_by_cached_key(|entry| std::cmp::Reverse(key(entry)));
}

impl Entry {
    fn describe(&self, now_ms: i64, with_auth: bool) -> Map<String, Value> {
        let traffic = Traffic::of(&self.client);
        let active = self.client.counters.active_ms.load(Relaxed);
        let mut all = Map::new();
        let mut put = |name: &str, value: Value| all.insert(name.to_owned(), value);
        put("cid", self.client.id.into());
        put("kind", "Client".into());
        put("type", "nats".into());
        put("ip", self.peer.ip().to_string().into());
        put("port", self.peer.port().into());
        put("start", rfc3339(self.started_ms).into());
        put("last_activity", rfc3339(active).into());
        put("uptime", elapsed(now_ms - self.started_ms).into());
        put("idle", elapsed(now_ms - active).into());
        put("pending_bytes", self.client.outbox.len().into());
        put("in_msgs", traffic.in_messages.into());
        put("out_msgs", traffic.out_messages.into());
        put("in_bytes", traffic.in_bytes.into());
        put("out_bytes", traffic.out_bytes.into());
        put("subscriptions", self.client.counters.subscriptions.load(Relaxed).into());
        if let Some(about) = &self.about {
            for (name, value) in [("name", &about.name), ("lang", &about.lang), ("version", &about.version)] {
                if let Some(value) = value {
                    put(name, value.as_str().into());
                }
            }
            if with_auth {
                put("authorized_user", about.user.as_deref().unwrap_or_default().into());
                put("account", account_of(&about.tenant).into());
            }
        }
        all
    }
}
