//! `INFO`: what an account uses, and may use.

use std::sync::atomic::Ordering;

use serde_json::{Map, Value, json};

use super::fields;
use crate::jetstream::{API_LEVEL, account::Account, config::Storage};

pub(super) fn answer(account: &Account) -> Map<String, Value> {
    let streams = account.streams();
    let used = |storage: Storage| -> u64 {
        let of_kind = streams.iter().filter(|bound| bound.config.storage == storage);
        of_kind.map(|bound| bound.partition.stats().bytes).sum()
    };
    let [all, refused] =
        [&account.requests.all, &account.requests.refused].map(|count| count.load(Ordering::Relaxed));
    let limits = json!({
        "max_memory": -1,
        "max_storage": -1,
        "max_streams": -1,
        "max_consumers": -1,
        "max_ack_pending": -1,
        "memory_max_stream_bytes": -1,
        "storage_max_stream_bytes": -1,
        "max_bytes_required": false,
    });
    fields([
        ("memory", used(Storage::Memory).into()),
        ("storage", used(Storage::File).into()),
        ("reserved_memory", 0.into()),
        ("reserved_storage", 0.into()),
        ("streams", streams.len().into()),
        ("consumers", account.consumers.count().into()),
        ("limits", limits),
        ("api", json!({ "level": API_LEVEL, "total": all, "errors": refused })),
    ])
}
