//! A consumer's configuration: JSON as clients write it, with the original's defaults and checks.

use std::collections::BTreeMap;

use broker::routing::Pattern;
use serde::{Deserialize, Serialize};

use super::super::{
    config::{StreamConfig, is_default, is_within, overlap},
    error::ApiError,
    time,
};
use super::groups::PriorityPolicy;
use crate::core::subject;

const NAME_LEN_MAX: usize = 255;
const DESCRIPTION_LEN_MAX: usize = 4 * 1024;
const METADATA_LEN_MAX: usize = 128 * 1024;
const NS_PER_MS: i64 = 1_000_000;
const ACK_WAIT_NS: i64 = 30_000 * NS_PER_MS;
const ACK_PENDING_DEFAULT: i64 = 1_000;
const WAITING_DEFAULT: i64 = 512;
const HEARTBEAT_MIN_NS: i64 = 100 * NS_PER_MS;
/// How long an ephemeral consumer may be without use unless it says otherwise.
const INACTIVE_DEFAULT_NS: i64 = 5_000 * NS_PER_MS;

/// Where delivery begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DeliverPolicy {
    #[default]
    All,
    Last,
    New,
    ByStartSequence,
    ByStartTime,
    LastPerSubject,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AckPolicy {
    #[default]
    None,
    All,
    Explicit,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ReplayPolicy {
    #[default]
    Instant,
    Original,
}

/// A consumer's configuration. Durations are nanoseconds; -1 = no limit. In the original's order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ConsumerConfig {
    #[serde(skip_serializing_if = "is_default")]
    pub durable_name: String,
    #[serde(skip_serializing_if = "is_default")]
    pub name: String,
    #[serde(skip_serializing_if = "is_default")]
    pub description: String,
    pub deliver_policy: DeliverPolicy,
    #[serde(skip_serializing_if = "is_default")]
    pub opt_start_seq: u64,
    #[serde(skip_serializing_if = "is_default")]
    pub opt_start_time: Option<String>,
    pub ack_policy: AckPolicy,
    #[serde(skip_serializing_if = "is_default")]
    pub ack_wait: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub max_deliver: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub backoff: Vec<i64>,
    #[serde(skip_serializing_if = "is_default")]
    pub filter_subject: String,
    #[serde(skip_serializing_if = "is_default")]
    pub filter_subjects: Vec<String>,
    pub replay_policy: ReplayPolicy,
    /// Bits per second.
    #[serde(skip_serializing_if = "is_default")]
    pub rate_limit_bps: u64,
    #[serde(skip_serializing_if = "is_default")]
    pub sample_freq: String,
    #[serde(skip_serializing_if = "is_default")]
    pub max_waiting: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub max_ack_pending: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub flow_control: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub headers_only: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub max_batch: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub max_expires: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub max_bytes: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub deliver_subject: String,
    #[serde(skip_serializing_if = "is_default")]
    pub deliver_group: String,
    #[serde(skip_serializing_if = "is_default")]
    pub idle_heartbeat: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub inactive_threshold: i64,
    pub num_replicas: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub mem_storage: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub direct: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub metadata: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "is_default")]
    pub pause_until: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub priority_groups: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub priority_policy: PriorityPolicy,
    #[serde(skip_serializing_if = "is_default")]
    pub priority_timeout: i64,
}

type Checked = Result<(), ApiError>;

fn refused(err_code: u16, text: impl Into<String>) -> Checked {
    Err(ApiError::consumer(err_code, text))
}

impl ConsumerConfig {
    pub(crate) fn is_durable(&self) -> bool {
        !self.durable_name.is_empty()
    }

    pub(crate) fn is_push(&self) -> bool {
        !self.deliver_subject.is_empty()
    }

    /// Whether it is there after a restart: as the original has it, also a consumer without a durable name, if it was not
    /// inactive for too long.
    pub(crate) fn lasts(&self, stream: &StreamConfig) -> bool {
        self.is_durable() || !(self.mem_storage || stream.is_in_memory())
    }

    /// The level of the API that it needs.
    pub(crate) fn level(&self) -> u32 {
        let has_groups = self.priority_policy != PriorityPolicy::None || !self.priority_groups.is_empty();
        u32::from(has_groups || self.pause_until.is_some())
    }

    /// How many of a hundred acknowledgements are measured.
    pub(crate) fn sample_percent(&self) -> u64 {
        self.sample_freq.strip_suffix('%').unwrap_or(&self.sample_freq).parse().unwrap_or(0)
    }

    /// The subjects that it is for; none = all.
    pub(crate) fn filters(&self) -> Vec<String> {
        let one = Some(&self.filter_subject).filter(|filter| !filter.is_empty());
        one.into_iter().chain(&self.filter_subjects).cloned().collect()
    }

    /// What its filters match.
    pub(crate) fn patterns(&self) -> Vec<Pattern> {
        self.filters().iter().filter_map(|text| subject::pattern(text.as_bytes())).collect()
    }

    /// After how long without use it goes, nanoseconds; 0 = never.
    pub(crate) fn inactive_ns(&self) -> u64 {
        let own = match self.inactive_threshold {
            0 if !self.is_durable() => INACTIVE_DEFAULT_NS,
            own => own,
        };
        u64::try_from(own).unwrap_or(0)
    }

    /// For how long delivery number `attempt` may go unacknowledged, milliseconds.
    pub(crate) fn wait_ms(&self, attempt: u32) -> u64 {
        let last = self.backoff.len().saturating_sub(1);
        let at = usize::try_from(attempt.saturating_sub(1)).unwrap_or(last).min(last);
        let ns = self.backoff.get(at).copied().unwrap_or(self.ack_wait);
        u64::try_from(ns / NS_PER_MS).unwrap_or(0).max(1)
    }

    /// Until when it delivers nothing, milliseconds since the Unix epoch, if that is still to come.
    pub(crate) fn paused_until_ms(&self, now_ms: i64) -> Option<i64> {
        self.pause_until.as_deref().and_then(time::parse).filter(|until| *until > now_ms)
    }

    /// Deliveries of one message; `None` = any number.
    pub(crate) fn deliveries_max(&self) -> Option<u32> {
        u32::try_from(self.max_deliver).ok().filter(|max| *max > 0)
    }

    /// Messages that may wait for their acknowledgement; `None` = any number.
    pub(crate) fn ack_pending_max(&self) -> Option<u64> {
        let is_limited = self.ack_policy != AckPolicy::None;
        u64::try_from(self.max_ack_pending).ok().filter(|max| is_limited && *max > 0)
    }

    /// Fills in what was not given.
    pub(crate) fn with_defaults(mut self, stream: &StreamConfig, request_batch_max: u32) -> Self {
        if self.max_deliver == 0 || self.max_deliver < -1 {
            self.max_deliver = -1;
        }
        for value in [
            &mut self.max_waiting,
            &mut self.max_batch,
            &mut self.max_expires,
            &mut self.max_bytes,
            &mut self.idle_heartbeat,
            &mut self.inactive_threshold,
        ] {
            *value = (*value).max(0);
        }
        self.max_ack_pending = self.max_ack_pending.max(-1);
        if !self.is_push() && self.max_waiting == 0 {
            self.max_waiting = WAITING_DEFAULT;
        }
        let acks = self.ack_policy != AckPolicy::None;
        if self.ack_wait == 0 && acks {
            self.ack_wait = ACK_WAIT_NS;
        }
        if let Some(first) = self.backoff.first() {
            self.ack_wait = *first;
        }
        if self.max_ack_pending == 0 {
            self.max_ack_pending = stream.consumer_limits.max_ack_pending;
        }
        if self.inactive_threshold == 0 {
            self.inactive_threshold = stream.consumer_limits.inactive_threshold;
        }
        if self.max_ack_pending == 0 && acks {
            self.max_ack_pending = ACK_PENDING_DEFAULT;
        }
        if !self.is_push() && self.max_batch == 0 {
            self.max_batch = request_batch_max.into();
        }
        self.metadata.retain(|name, _| !name.starts_with("_nats."));
        self.with_group_defaults()
    }

    /// Says what is wrong, in the original's words and order.
    pub(crate) fn check(&self, stream: &StreamConfig, request_batch_max: u32) -> Checked {
        check_name(&self.name, "consumer name")?;
        check_name(&self.durable_name, "consumer durable name")?;
        if self.num_replicas < 0 {
            return Err(ApiError::negative_replicas());
        }
        if self.num_replicas > stream.num_replicas {
            return refused(10_126, "consumer config replica count exceeds parent stream");
        }
        if self.backoff.iter().any(|wait| *wait < 0) {
            return refused(10_184, "consumer backoff needs to be positive");
        }
        if self.ack_wait < 0 {
            return refused(10_183, "consumer ack wait needs to be positive");
        }
        self.check_backoff()?;
        if self.description.len() > DESCRIPTION_LEN_MAX {
            return refused(10_107, "consumer description is too long, maximum allowed is 4096");
        }
        if self.is_push() {
            self.check_push(stream)?
        } else {
            self.check_pull(stream, request_batch_max)?
        }
        self.check_limits(stream)?;
        self.check_filters()?;
        self.check_start()?;
        self.check_rest()
    }

    fn check_backoff(&self) -> Checked {
        let len = i64::try_from(self.backoff.len()).unwrap_or(i64::MAX);
        if len > 0 && self.max_deliver != -1 && len > self.max_deliver {
            return refused(10_116, "max deliver is required to be > length of backoff values");
        }
        Ok(())
    }

    fn check_push(&self, stream: &StreamConfig) -> Checked {
        let to = self.deliver_subject.as_bytes();
        let pattern = subject::pattern(to);
        if broker::routing::tokens(to).any(|token| token == b"*" || token == b">") {
            return refused(10_079, "consumer deliver subject has wildcards");
        }
        let Some(pattern) = pattern.filter(|_| !to.iter().any(u8::is_ascii_whitespace)) else {
            return refused(10_112, "invalid push consumer deliver subject");
        };
        if stream.patterns().iter().any(|taken| overlap(taken, &pattern)) {
            return refused(10_081, "consumer deliver subject forms a cycle");
        }
        if self.max_waiting != 0 {
            return refused(10_080, "consumer in push mode can not set max waiting");
        }
        if self.max_ack_pending > 0 && self.ack_policy == AckPolicy::None {
            return refused(10_082, "consumer requires ack policy for max ack pending");
        }
        if self.idle_heartbeat > 0 && self.idle_heartbeat < HEARTBEAT_MIN_NS {
            return refused(10_083, "consumer idle heartbeat needs to be >= 100ms");
        }
        Ok(())
    }

    fn check_pull(&self, stream: &StreamConfig, request_batch_max: u32) -> Checked {
        if self.ack_policy == AckPolicy::None && stream.is_work_queue() {
            return refused(10_084, "consumer in pull mode requires explicit ack policy on workqueue stream");
        }
        if self.rate_limit_bps > 0 {
            return refused(10_086, "consumer in pull mode can not have rate limit set");
        }
        if self.idle_heartbeat > 0 {
            return refused(10_088, "consumer idle heartbeat requires a push based consumer");
        }
        if self.flow_control {
            return refused(10_089, "consumer flow control requires a push based consumer");
        }
        if self.max_expires != 0 && self.max_expires < NS_PER_MS {
            return refused(10_115, "consumer max request expires needs to be >= 1ms");
        }
        if request_batch_max > 0 && self.max_batch > request_batch_max.into() {
            let text = format!("consumer max request batch exceeds server limit of {request_batch_max}");
            return refused(10_125, text);
        }
        Ok(())
    }

    fn check_limits(&self, stream: &StreamConfig) -> Checked {
        let limits = &stream.consumer_limits;
        if limits.max_ack_pending > 0 && self.max_ack_pending > limits.max_ack_pending {
            let limit = limits.max_ack_pending;
            return refused(10_121, format!("consumer max ack pending exceeds system limit of {limit}"));
        }
        if limits.inactive_threshold > 0 && self.inactive_threshold > limits.inactive_threshold {
            let limit = super::duration_text(limits.inactive_threshold);
            return refused(10_153, format!("consumer inactive threshold exceeds system limit of {limit}"));
        }
        if self.direct && !self.is_push() {
            return refused(10_090, "consumer direct requires a push based consumer");
        }
        if self.direct && self.is_durable() {
            return refused(10_091, "consumer direct requires an ephemeral consumer");
        }
        Ok(())
    }

    fn check_filters(&self) -> Checked {
        if !self.filter_subject.is_empty() && !self.filter_subjects.is_empty() {
            return refused(10_136, "consumer cannot have both FilterSubject and FilterSubjects specified");
        }
        if self.filter_subjects.iter().any(String::is_empty) {
            return refused(10_139, "consumer filter in FilterSubjects cannot be empty");
        }
        let mut known: Vec<Pattern> = Vec::new();
        for text in self.filters() {
            let Some(pattern) = subject::pattern(text.as_bytes()) else {
                return Err(ApiError::invalid_config("invalid subject"));
            };
            if known.iter().any(|other| is_within(other, &pattern) || is_within(&pattern, other)) {
                return refused(10_138, "consumer subject filters cannot overlap");
            }
            known.push(pattern);
        }
        Ok(())
    }

    fn check_start(&self) -> Checked {
        let (has_seq, has_time) = (self.opt_start_seq > 0, self.opt_start_time.is_some());
        let set = |policy: &str, start: &str| {
            let text = format!(
                "consumer delivery policy is deliver {policy}, but optional start {start} is also set"
            );
            refused(10_094, text)
        };
        let missing = |policy: &str, what: &str| {
            let text =
                format!("consumer delivery policy is deliver {policy}, but optional {what} is not set");
            refused(10_094, text)
        };
        let (policy, takes_seq, takes_time) = match self.deliver_policy {
            DeliverPolicy::All => ("all", false, false),
            DeliverPolicy::Last => ("last", false, false),
            DeliverPolicy::New => ("new", false, false),
            DeliverPolicy::LastPerSubject => ("last per subject", false, false),
            DeliverPolicy::ByStartSequence => ("by start sequence", true, false),
            DeliverPolicy::ByStartTime => ("by start time", false, true),
        };
        match (has_seq, has_time) {
            (false, _) if takes_seq => return missing(policy, "start sequence"),
            (_, false) if takes_time => return missing(policy, "start time"),
            (true, _) if takes_time => return set(policy, "start sequence"),
            (true, _) if !takes_seq => return set(policy, "sequence"),
            (_, true) if !takes_time => return set(policy, "time"),
            _ => {}
        }
        if self.deliver_policy == DeliverPolicy::LastPerSubject && self.filters().is_empty() {
            return missing(policy, "filter subject");
        }
        if let Some(text) = self.opt_start_time.as_deref().filter(|text| time::parse(text).is_none()) {
            return Err(ApiError::no_time(text));
        }
        Ok(())
    }

    fn check_rest(&self) -> Checked {
        let sample = self.sample_freq.strip_suffix('%').unwrap_or(&self.sample_freq);
        if !sample.is_empty() && sample.parse::<u32>().is_err() {
            let text = format!(
                "failed to parse consumer sampling configuration: strconv.Atoi: parsing {sample:?}: invalid syntax"
            );
            return refused(10_095, text);
        }
        if self.flow_control && self.idle_heartbeat == 0 {
            return refused(10_108, "consumer with flow control also needs heartbeats");
        }
        if self.is_durable() && !self.name.is_empty() && self.name != self.durable_name {
            return refused(10_132, "Consumer Durable and Name have to be equal if both are provided");
        }
        if let Some(text) = self.pause_until.as_deref().filter(|text| time::parse(text).is_none()) {
            return Err(ApiError::no_time(text));
        }
        let metadata_len: usize = self.metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
        if metadata_len > METADATA_LEN_MAX {
            return refused(10_135, "consumer metadata exceeds maximum size of 128KB");
        }
        if self.dead_letter().is_some_and(|to| !subject::is_literal(to.as_bytes())) {
            return Err(ApiError::invalid_config("the subject for dead letters is not valid"));
        }
        if self.dead_letter().is_some() && self.ack_policy != AckPolicy::Explicit {
            return Err(ApiError::invalid_config("dead letters need explicit acknowledgements"));
        }
        self.check_groups()
    }

    /// Why a consumer of this configuration may not get that one; `is_bound`: whether somebody listens where it delivers.
    pub(crate) fn check_update(&self, new: &ConsumerConfig, is_bound: bool) -> Checked {
        let changes = [
            (self.deliver_policy != new.deliver_policy, "deliver policy"),
            (self.mem_storage != new.mem_storage, "storage type"),
            (self.direct != new.direct, "direct"),
            (self.opt_start_seq != new.opt_start_seq, "start sequence"),
            (self.opt_start_time != new.opt_start_time, "start time"),
            (self.ack_policy != new.ack_policy, "ack policy"),
            (self.replay_policy != new.replay_policy, "replay policy"),
            (self.idle_heartbeat != new.idle_heartbeat, "heart beats"),
            (self.flow_control != new.flow_control, "flow control"),
        ];
        if let Some((_, what)) = changes.into_iter().find(|(differs, _)| *differs) {
            return Err(ApiError::consumer_create(format!("{what} can not be updated")));
        }
        if self.deliver_subject != new.deliver_subject {
            if !self.is_push() {
                return Err(ApiError::consumer_create("can not update pull consumer to push based"));
            }
            if !new.is_push() {
                return Err(ApiError::consumer_create("can not update push consumer to pull based"));
            }
            if is_bound {
                return refused(10_013, "consumer name already in use");
            }
        }
        if self.max_waiting != new.max_waiting {
            return Err(ApiError::consumer_create("max waiting can not be updated"));
        }
        Ok(())
    }
}

fn check_name(name: &str, what: &str) -> Checked {
    let is_bad = |c: char| c.is_whitespace() || matches!(c, '.' | '*' | '>' | '/' | '\\');
    if name.contains(is_bad) {
        let text = format!("{what} can not contain '.', '*', '>', '\\', '/'");
        return Err(ApiError::invalid_config(text));
    }
    if name.len() > NAME_LEN_MAX {
        return refused(10_102, "consumer name is too long, maximum allowed is 255");
    }
    Ok(())
}
