//! Priority groups: which of the requests that wait is served. Under the policy *overflow* a request may ask to be
//! served only when enough is pending; under *pinned client* one client gets everything as long as it keeps asking.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Consumer, State, config::ConsumerConfig};
use crate::{
    core::fanout::Fanout,
    jetstream::{error::ApiError, time},
};

/// How long a client stays pinned without asking unless the configuration says otherwise, nanoseconds.
const PINNED_DEFAULT_NS: i64 = 120_000_000_000;

const NAME_LEN_MAX: usize = 16;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PriorityPolicy {
    #[default]
    None,
    Overflow,
    PinnedClient,
}

/// What a request says of its group.
#[derive(Clone, Debug, Default)]
pub(super) struct Member {
    pub group: String,
    /// The pin that its client has.
    pub pin: String,
    pub min_pending: u64,
    pub min_ack_pending: u64,
}

/// The client that gets everything.
#[derive(Clone, Debug)]
pub(super) struct Pin {
    pub id: String,
    group: String,
    since_ms: i64,
    until: Instant,
}

impl ConsumerConfig {
    pub(super) fn with_group_defaults(mut self) -> Self {
        self.priority_timeout = self.priority_timeout.max(0);
        if self.priority_policy == PriorityPolicy::PinnedClient && self.priority_timeout == 0 {
            self.priority_timeout = PINNED_DEFAULT_NS;
        }
        self
    }

    pub(super) fn check_groups(&self) -> Result<(), ApiError> {
        let refused = |err_code: u16, text: &str| Err(ApiError::consumer(err_code, text));
        if self.priority_policy == PriorityPolicy::None {
            if !self.priority_groups.is_empty() {
                return refused(10_196, "consumer can not have priority groups when policy is none");
            }
            if self.priority_timeout > 0 {
                return refused(10_197, "PinnedTTL cannot be set when PriorityPolicy is none");
            }
            return Ok(());
        }
        if self.is_push() {
            return refused(10_178, "priority groups can not be used with push consumers");
        }
        if self.priority_groups.is_empty() {
            let text = "Setting PriorityPolicy requires at least one PriorityGroup to be set";
            return refused(10_159, text);
        }
        if self.priority_groups.iter().any(String::is_empty) {
            return refused(10_161, "Group name cannot be an empty string");
        }
        if !self.priority_groups.iter().all(|name| is_name(name)) {
            let text =
                "Valid priority group name must match A-Z, a-z, 0-9, -_/=)+ and may not exceed 16 characters";
            return refused(10_162, text);
        }
        Ok(())
    }

    fn pin_span(&self) -> Duration {
        Duration::from_nanos(u64::try_from(self.priority_timeout).unwrap_or(0))
    }
}

fn is_name(name: &str) -> bool {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'_' | b'=' | b'-');
    name.len() <= NAME_LEN_MAX && name.bytes().all(is_good)
}

impl Consumer {
    /// Checks what a request says of its group; the status that refuses it.
    pub(super) fn check_member(&self, config: &ConsumerConfig, member: &Member) -> Result<(), String> {
        let policy = config.priority_policy;
        if (member.min_pending, member.min_ack_pending) != (0, 0) && policy != PriorityPolicy::Overflow {
            return Err("400 Bad Request - Not a Overflow Priority consumer".to_owned());
        }
        if !member.pin.is_empty() && policy != PriorityPolicy::PinnedClient {
            return Err("400 Bad Request - Not a Pinned Client Priority consumer".to_owned());
        }
        if policy == PriorityPolicy::None {
            // A group means nothing where there are none, as with the original.
            return Ok(());
        }
        if member.group.is_empty() {
            return Err("400 Bad Request - Priority Group missing".to_owned());
        }
        if !config.priority_groups.contains(&member.group) {
            return Err("400 Bad Request - Invalid Priority Group".to_owned());
        }
        let mut state = self.state.lock();
        if let Some(pin) = &mut state.pin {
            if pin.id == member.pin {
                pin.until = Instant::now() + config.pin_span();
            } else if !member.pin.is_empty() {
                return Err("423 Nats-Pin-Id mismatch".to_owned());
            }
        }
        Ok(())
    }

    /// Lets go of the pinned client. Whether the group is there.
    pub(crate) fn unpin(&self, group: &str) -> bool {
        let mut state = self.state.lock();
        let is_there = state.config.priority_groups.iter().any(|name| name == group);
        if is_there {
            state.pin = None;
        }
        drop(state);
        self.signal.notify_one();
        is_there
    }
}

impl State {
    /// Brings a request to the front that may be served; whether there is one. Those of a client that is not pinned any
    /// more are told.
    pub(super) fn choose(
        &mut self,
        out: &mut Fanout,
        now: Instant,
        (pending, outstanding): (u64, u64),
    ) -> bool {
        let config = self.config.clone();
        match config.priority_policy {
            PriorityPolicy::None => !self.requests.is_empty(),
            PriorityPolicy::Overflow => {
                let may = |member: &Member| {
                    let is_over = |min: u64, value: u64| min > 0 && min <= value;
                    (member.min_pending, member.min_ack_pending) == (0, 0)
                        || is_over(member.min_pending, pending)
                        || is_over(member.min_ack_pending, outstanding)
                };
                let found = self.requests.iter().position(|request| may(&request.member));
                found.is_some_and(|at| {
                    self.requests.rotate_left(at);
                    true
                })
            }
            PriorityPolicy::PinnedClient => {
                if self.pin.as_ref().is_some_and(|pin| pin.until <= now) {
                    self.pin = None;
                }
                let pinned = self.pin.as_ref().map(|pin| pin.id.clone());
                self.requests.retain(|request| {
                    let is_stale =
                        !request.member.pin.is_empty() && Some(&request.member.pin) != pinned.as_ref();
                    if is_stale {
                        request.tell_end(out, "423 Nats-Wrong-Pin-Id");
                    }
                    !is_stale
                });
                if pinned.is_none() {
                    return !self.requests.is_empty();
                }
                let found =
                    self.requests.iter().position(|request| Some(&request.member.pin) == pinned.as_ref());
                found.is_some_and(|at| {
                    self.requests.rotate_left(at);
                    true
                })
            }
        }
    }

    /// Pins the client whose request is served next, where one has to be pinned and none is.
    pub(super) fn pin_front(&mut self, now: Instant, now_ms: i64, new_id: impl FnOnce() -> String) {
        let config = self.config.clone();
        if config.priority_policy != PriorityPolicy::PinnedClient || self.pin.is_some() {
            return;
        }
        if let Some(front) = self.requests.front_mut() {
            let id = new_id();
            front.member.pin.clone_from(&id);
            let (group, until) = (front.member.group.clone(), now + config.pin_span());
            self.pin = Some(Pin { id, group, since_ms: now_ms, until });
        }
    }

    /// When the pinned client is let go.
    pub(super) fn pin_ends(&self) -> Option<Instant> {
        self.pin.as_ref().map(|pin| pin.until)
    }

    /// The groups, as the original shows them.
    pub(super) fn groups(&self) -> Option<Value> {
        let first = self.config.priority_groups.first()?;
        Some(match &self.pin {
            Some(pin) => {
                let since = time::text(pin.since_ms);
                json!([{ "group": pin.group, "pinned_client_id": pin.id, "pinned_ts": since }])
            }
            None => json!([{ "group": first }]),
        })
    }
}
