//! What a queue can be told.

use broker::{Action, Broker, DeadLetter, Durability, Overflow, StreamSettings};
use model::{Error, Namespace, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    api::{places, streams::present},
    caller::Caller,
};

/// What is absent stays; `null` takes it away.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct QueueSettings {
    durability: Option<DurabilityName>,
    /// A queue, as `NAME` or `queue:NAME`.
    #[serde(default, deserialize_with = "present")]
    dead_letter: Option<Option<String>>,
    #[serde(default, deserialize_with = "present")]
    delivery_limit: Option<Option<u32>>,
    #[serde(default, deserialize_with = "present")]
    lease_ms: Option<Option<u64>>,
    delay_ms: Option<u64>,
    #[serde(default, deserialize_with = "present")]
    ttl_ms: Option<Option<u64>>,
    #[serde(default, deserialize_with = "present")]
    length_max: Option<Option<u64>>,
    #[serde(default, deserialize_with = "present")]
    bytes_max: Option<Option<u64>>,
    #[serde(default, deserialize_with = "present")]
    record_len_max: Option<Option<u32>>,
    #[serde(default, deserialize_with = "present")]
    retention_time_ms: Option<Option<u64>>,
    #[serde(default, deserialize_with = "present")]
    history_ms: Option<Option<u64>>,
    overflow: Option<OverflowName>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum DurabilityName {
    Fsync,
    Memory,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OverflowName {
    DropOldest,
    Refuse,
    Deflect,
}

impl QueueSettings {
    /// The dead-letter target that is asked for.
    pub(super) fn target(&self, broker: &Broker, caller: &Caller) -> Result<Option<DeadLetter>> {
        let name = self.dead_letter.as_ref().and_then(Option::as_ref);
        name.map(|name| dead_letter(name, broker, caller)).transpose()
    }

    /// Takes everything over, with the dead-letter target that was found before.
    pub(super) fn apply(&self, settings: &mut StreamSettings, dead_letter: Option<DeadLetter>) -> Result<()> {
        match self.durability {
            Some(DurabilityName::Fsync) => settings.durability = Durability::Fsync,
            Some(DurabilityName::Memory) => settings.durability = Durability::Memory,
            None => {}
        }
        if self.dead_letter.is_some() {
            settings.dead_letter = dead_letter;
        }
        match self.overflow {
            Some(OverflowName::DropOldest) => settings.overflow = Overflow::DropOldest,
            Some(OverflowName::Refuse) => settings.overflow = Overflow::Refuse,
            Some(OverflowName::Deflect) => settings.overflow = Overflow::Deflect,
            None => {}
        }
        settings.delivery_limit = self.delivery_limit.unwrap_or(settings.delivery_limit);
        settings.lease_ms = self.lease_ms.unwrap_or(settings.lease_ms);
        settings.delay_ms = self.delay_ms.unwrap_or(settings.delay_ms);
        settings.ttl_ms = self.ttl_ms.unwrap_or(settings.ttl_ms);
        settings.length_max = self.length_max.unwrap_or(settings.length_max);
        settings.bytes_max = self.bytes_max.unwrap_or(settings.bytes_max);
        settings.record_len_max = self.record_len_max.unwrap_or(settings.record_len_max);
        settings.retention.time_ms = self.retention_time_ms.unwrap_or(settings.retention.time_ms);
        settings.history_ms = self.history_ms.unwrap_or(settings.history_ms);
        if settings.delivery_limit == Some(0) {
            return Err(Error::invalid("a delivery limit is at least 1"));
        }
        if settings.overflow == Overflow::Deflect && settings.dead_letter.is_none() {
            return Err(Error::invalid("overflow \"deflect\" needs a dead-letter queue to deflect to"));
        }
        Ok(())
    }
}

fn dead_letter(name: &str, broker: &Broker, caller: &Caller) -> Result<DeadLetter> {
    let name = if name.contains(':') { name.to_owned() } else { format!("queue:{name}") };
    let target = places::stream(&name, &caller.namespace)?;
    if target.namespace.tenant != caller.namespace.tenant {
        caller.need_operator()?;
    }
    caller.need(Action::Write, &target.name)?;
    match broker.stream(&target) {
        Some(_) => Ok(DeadLetter { target, route_key: None }),
        None => {
            Err(Error::not_found(format!("there is no {target} to send dead letters to: create it first")))
        }
    }
}

pub(super) fn shown(settings: &StreamSettings, home: &Namespace) -> Value {
    json!({
        "durability": match settings.durability {
            Durability::Fsync => "fsync",
            Durability::Memory => "memory",
        },
        "dead_letter": settings.dead_letter.as_ref().map(|dead| places::shown(&dead.target, home)),
        "delivery_limit": settings.delivery_limit,
        "lease_ms": settings.lease_ms,
        "delay_ms": settings.delay_ms,
        "ttl_ms": settings.ttl_ms,
        "length_max": settings.length_max,
        "bytes_max": settings.bytes_max,
        "record_len_max": settings.record_len_max,
        "history_ms": settings.history_ms,
        "retention_time_ms": settings.retention.time_ms,
        "overflow": match settings.overflow {
            Overflow::DropOldest => "drop_oldest",
            Overflow::Refuse => "refuse",
            Overflow::Deflect => "deflect",
        },
    })
}
