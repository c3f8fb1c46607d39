//! A stream's configuration: JSON as clients write it, checked, and what the broker makes of it.

use std::collections::BTreeMap;

use broker::{
    Durability, Mode, Overflow, Retention, SUCCESSORS, StreamSettings, TimeSource,
    routing::{Pattern, Token},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{error::ApiError, json, mapping::Mapping};
use crate::{core::subject, routes::DIALECT};

/// Where the configuration is kept beside the broker's own settings, and when the stream was made.
const CONFIG: &str = "nats.stream";
const CREATED: &str = "nats.created";

/// `_nats.level` and the like: what servers say of themselves in metadata.
const OWN_METADATA: &str = "_nats.";

const NAME_LEN_MAX: usize = 255;
const DESCRIPTION_LEN_MAX: usize = 4 * 1024;
const METADATA_LEN_MAX: usize = 128 * 1024;
const REPLICAS_MAX: i64 = 5;
const NS_PER_MS: i64 = 1_000_000;
const NS_PER_S: i64 = 1_000 * NS_PER_MS;
const WINDOW_MIN_NS: i64 = 100 * NS_PER_MS;
const WINDOW_DEFAULT_NS: i64 = 120_000 * NS_PER_MS;

/// Which messages go where there are too many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Discard {
    #[default]
    Old,
    New,
}

/// When messages go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RetentionPolicy {
    #[default]
    Limits,
    Interest,
    Workqueue,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Storage {
    #[default]
    File,
    Memory,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Compression {
    #[default]
    None,
    S2,
}

/// What the consumers of a stream may ask for at most.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ConsumerLimits {
    #[serde(skip_serializing_if = "is_default")]
    pub inactive_threshold: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub max_ack_pending: i64,
}

/// Messages are stored under another subject.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SubjectTransform {
    pub src: String,
    pub dest: String,
}

/// Messages that were stored are published again, for live subscribers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Republish {
    #[serde(skip_serializing_if = "is_default")]
    pub src: String,
    pub dest: String,
    #[serde(skip_serializing_if = "is_default")]
    pub headers_only: bool,
}

/// Where a stream is to be: of no effect with one server, as in the original.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Placement {
    #[serde(skip_serializing_if = "is_default")]
    cluster: String,
    #[serde(skip_serializing_if = "is_default")]
    tags: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    preferred: String,
}

/// A stream's configuration. Durations are nanoseconds; -1 = no limit. In the original's order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct StreamConfig {
    pub name: String,
    #[serde(skip_serializing_if = "is_default")]
    pub description: String,
    #[serde(skip_serializing_if = "is_default")]
    pub subjects: Vec<String>,
    pub retention: RetentionPolicy,
    pub max_consumers: i64,
    pub max_msgs: i64,
    pub max_bytes: i64,
    pub max_age: i64,
    pub max_msgs_per_subject: i64,
    pub max_msg_size: i64,
    pub discard: Discard,
    pub storage: Storage,
    pub num_replicas: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub no_ack: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub duplicate_window: i64,
    #[serde(skip_serializing_if = "is_default")]
    placement: Option<Placement>,
    #[serde(skip_serializing_if = "is_default")]
    mirror: Option<Value>,
    #[serde(skip_serializing_if = "is_default")]
    sources: Option<Value>,
    pub compression: Compression,
    #[serde(skip_serializing_if = "is_default")]
    pub first_seq: u64,
    #[serde(skip_serializing_if = "is_default")]
    pub subject_transform: Option<SubjectTransform>,
    #[serde(skip_serializing_if = "is_default")]
    pub republish: Option<Republish>,
    pub allow_direct: bool,
    pub mirror_direct: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub discard_new_per_subject: bool,
    pub sealed: bool,
    pub deny_delete: bool,
    pub deny_purge: bool,
    pub allow_rollup_hdrs: bool,
    pub consumer_limits: ConsumerLimits,
    pub allow_msg_ttl: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub subject_delete_marker_ttl: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub metadata: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "is_default")]
    template_owner: String,
}

/// A configuration as it is shown: with what the server says of itself, and the level of the API that it needs.
pub(crate) fn shown(config: &impl Serialize, needs_level: u32) -> Value {
    let mut all = serde_json::to_value(config).unwrap_or_default();
    if let Value::Object(fields) = &mut all {
        let metadata = fields.entry("metadata").or_insert_with(|| Value::Object(Default::default()));
        for (name, value) in [
            ("ver", crate::VERSION.to_owned()),
            ("level", super::API_LEVEL.to_string()),
            ("req.level", needs_level.to_string()),
        ] {
            metadata[format!("{OWN_METADATA}{name}")] = value.into();
        }
    }
    all
}

pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Reads a request of the API as strictly as the original: a field that it does not know is refused.
pub(crate) fn from_json<T: for<'a> Deserialize<'a>>(body: &[u8]) -> Result<T, ApiError> {
    let mut value: Value = serde_json::from_slice(body).map_err(|error| json::syntax(body, &error))?;
    without_nulls(&mut value);
    if value.is_null() {
        // What some clients send for no request.
        value = Value::Object(Default::default());
    }
    let Value::Object(fields) = &mut value else { return Err(json::not_an_object(&value)) };
    fields.remove("pedantic");
    serde_json::from_value(value).map_err(|error| json::shape(&error))
}

/// What is null is what was not given, at any depth: the reader of JSON limits that.
pub(crate) fn without_nulls(value: &mut Value) {
    if let Value::Object(fields) = value {
        fields.retain(|_, value| !value.is_null());
        fields.values_mut().for_each(without_nulls);
    }
}

impl StreamConfig {
    /// Reads a configuration, without its defaults.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        if body.is_empty() {
            return Ok(StreamConfig::default());
        }
        from_json(body)
    }

    /// The configuration of a stream that this dialect made.
    pub(crate) fn of(settings: &StreamSettings) -> Option<Self> {
        serde_json::from_str(settings.extras.get(CONFIG)?).ok()
    }

    /// What is shown of a log that another dialect made: it takes no subject, and is changed by nobody here.
    pub(super) fn of_another(name: String) -> Self {
        StreamConfig {
            name,
            max_consumers: -1,
            max_msgs: -1,
            max_bytes: -1,
            max_msgs_per_subject: -1,
            max_msg_size: -1,
            num_replicas: 1,
            deny_delete: true,
            deny_purge: true,
            ..StreamConfig::default()
        }
    }

    /// Fills in what was not given, and says what is wrong with the rest, in the original's words. More than one replica
    /// is for several servers, unless the number is to mean nothing.
    pub(crate) fn checked(mut self, accepts_replicas: bool) -> Result<Self, ApiError> {
        let invalid = |why: &str| Err(ApiError::invalid_config(why));
        check_name(&self.name)?;
        if self.description.len() > DESCRIPTION_LEN_MAX {
            return invalid("stream description is too long, maximum allowed is 4096");
        }
        let metadata_len: usize = self.metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
        if metadata_len > METADATA_LEN_MAX {
            return invalid("stream metadata exceeds maximum size of 131072 bytes");
        }
        self.metadata.retain(|name, _| !name.starts_with(OWN_METADATA));
        for limit in [
            &mut self.max_consumers,
            &mut self.max_msgs,
            &mut self.max_bytes,
            &mut self.max_msgs_per_subject,
            &mut self.max_msg_size,
        ] {
            if *limit <= 0 {
                *limit = -1;
            }
        }
        self.check_replicas(accepts_replicas)?;
        self.check_built()?;
        self.check_times()?;
        self.check_placement()?;
        if self.discard_new_per_subject {
            if self.discard != Discard::New {
                return invalid("discard new per subject requires discard new policy to be set");
            }
            if self.max_msgs_per_subject < 0 {
                return invalid("discard new per subject requires max msgs per subject > 0");
            }
        }
        if self.allow_rollup_hdrs && self.deny_purge {
            return invalid("roll-ups require the purge permission");
        }
        self.check_markers()?;
        if self.subjects.is_empty() {
            self.subjects.push(self.name.clone());
        }
        self.check_subjects()?;
        self.check_mappings()?;
        Ok(self)
    }

    fn check_replicas(&mut self, accepts: bool) -> Result<(), ApiError> {
        match self.num_replicas {
            0 | 1 => self.num_replicas = 1,
            2..=REPLICAS_MAX if accepts => {}
            2..=REPLICAS_MAX => return Err(ApiError::replicas()),
            ..0 => return Err(ApiError::negative_replicas()),
            _ => return Err(ApiError::invalid_config("maximum replicas is 5")),
        }
        Ok(())
    }

    /// What is not built is refused, not stored and forgotten.
    fn check_built(&self) -> Result<(), ApiError> {
        let not_built = [
            (self.mirror.is_some(), "mirror"),
            (self.sources.is_some(), "sources"),
            (!self.template_owner.is_empty(), "template"),
        ];
        match not_built.into_iter().find(|(is_asked, _)| *is_asked) {
            Some((_, what)) => {
                Err(ApiError::invalid_config(format!("{what} is not supported by this server")))
            }
            None => Ok(()),
        }
    }

    fn check_placement(&mut self) -> Result<(), ApiError> {
        self.placement = self.placement.take().filter(|placement| *placement != Placement::default());
        match &self.placement {
            Some(placement) if !placement.preferred.is_empty() => {
                Err(ApiError::invalid_config("preferred server not permitted in placement"))
            }
            _ => Ok(()),
        }
    }

    /// Delete markers go by the TTL of messages, and replace what is under their subject.
    fn check_markers(&mut self) -> Result<(), ApiError> {
        match self.subject_delete_marker_ttl {
            0 => {}
            ..0 => {
                return Err(ApiError::invalid_config("subject delete marker TTL must not be negative"));
            }
            1..NS_PER_S => {
                return Err(ApiError::invalid_config("subject delete marker TTL must be at least 1 second"));
            }
            _ => {
                self.allow_msg_ttl = true;
                (self.allow_rollup_hdrs, self.deny_purge) = (true, false);
            }
        }
        Ok(())
    }

    /// How long delete markers stay, whole seconds; `None` = there are none.
    pub(crate) fn marker_ttl_s(&self) -> Option<u64> {
        u64::try_from(self.subject_delete_marker_ttl / NS_PER_S).ok().filter(|ttl_s| *ttl_s > 0)
    }

    fn check_times(&mut self) -> Result<(), ApiError> {
        let invalid = |why: &str| Err(ApiError::invalid_config(why));
        if self.max_age < 0 {
            return invalid("max age can not be negative");
        }
        if self.max_age != 0 && self.max_age < WINDOW_MIN_NS {
            return invalid("max age needs to be >= 100ms");
        }
        if self.duplicate_window < 0 {
            return invalid("duplicates window can not be negative");
        }
        if self.duplicate_window == 0 {
            self.duplicate_window = WINDOW_DEFAULT_NS;
            if self.max_age != 0 {
                self.duplicate_window = self.duplicate_window.min(self.max_age);
            }
        }
        if self.max_age != 0 && self.duplicate_window > self.max_age {
            return invalid("duplicates window can not be larger then max age");
        }
        if self.duplicate_window < WINDOW_MIN_NS {
            return invalid("duplicates window needs to be >= 100ms");
        }
        Ok(())
    }

    fn check_subjects(&self) -> Result<(), ApiError> {
        let mut known: Vec<(&str, Pattern)> = Vec::new();
        for text in &self.subjects {
            let Some(pattern) = subject::pattern(text.as_bytes()) else {
                return Err(ApiError::invalid_config("invalid subject"));
            };
            if let Some((other, _)) = known.iter().find(|(_, other)| overlap(other, &pattern)) {
                let why = format!("subject \"{other}\" overlaps with \"{text}\"");
                return Err(ApiError::invalid_config(why));
            }
            if !self.no_ack {
                check_reserved(text, &pattern)?;
            }
            known.push((text, pattern));
        }
        Ok(())
    }

    fn check_mappings(&mut self) -> Result<(), ApiError> {
        if let Some(SubjectTransform { src, dest }) = &self.subject_transform {
            if !src.is_empty() && subject::pattern(src.as_bytes()).is_none() {
                let why = format!("stream transform source: invalid subject {src}");
                return Err(ApiError::consumer(10_155, why));
            }
            if Mapping::new(src, dest).is_none() {
                return Err(ApiError::consumer(10_156, "stream transform: invalid mapping destination"));
            }
        }
        let patterns = self.patterns();
        if let Some(Republish { src, dest, .. }) = &mut self.republish {
            if src.is_empty() {
                ">".clone_into(src);
            }
            let Some(mapping) = Mapping::new(src, dest) else {
                let why = format!(
                    "stream configuration for republish with transform from '{src}' to '{dest}' not valid"
                );
                return Err(ApiError::invalid_config(why));
            };
            if patterns.iter().any(|pattern| overlap(pattern, &mapping.reach())) {
                let why = "stream configuration for republish destination forms a cycle";
                return Err(ApiError::invalid_config(why));
            }
        }
        Ok(())
    }

    /// What the subjects match.
    pub(crate) fn patterns(&self) -> Vec<Pattern> {
        self.subjects.iter().filter_map(|text| subject::pattern(text.as_bytes())).collect()
    }

    /// What the broker keeps, made at `created_ms`.
    pub(crate) fn settings(&self, created_ms: i64) -> StreamSettings {
        let overflow = |refuses: bool| if refuses { Overflow::Refuse } else { Overflow::DropOldest };
        let mode = match self.retention {
            RetentionPolicy::Limits => Mode::Log,
            RetentionPolicy::Interest => Mode::Interest,
            RetentionPolicy::Workqueue => Mode::Queue,
        };
        let mut settings = StreamSettings {
            mode,
            durability: if self.storage == Storage::Memory { Durability::Memory } else { Durability::Fsync },
            retention: Retention { time_ms: ms(self.max_age), ..Retention::default() },
            record_len_max: u32::try_from(self.max_msg_size).ok(),
            time: TimeSource::Append,
            length_max: u64::try_from(self.max_msgs).ok(),
            bytes_max: u64::try_from(self.max_bytes).ok(),
            overflow: overflow(self.discard == Discard::New),
            key_records_max: u64::try_from(self.max_msgs_per_subject).ok(),
            key_overflow: overflow(self.discard_new_per_subject),
            dedup_window_ms: ms(self.duplicate_window).unwrap_or(0),
            index_route_keys: true,
            entry_keys: self.subjects.clone(),
            expires_records: self.allow_msg_ttl,
            ..StreamSettings::default()
        };
        if let Ok(json) = serde_json::to_string(self) {
            settings.extras.insert(CONFIG.to_owned(), json);
        }
        if self.marker_ttl_s().is_some() {
            settings.extras.insert(SUCCESSORS.to_owned(), DIALECT.to_owned());
        }
        settings.extras.insert(CREATED.to_owned(), created_ms.to_string());
        settings
    }

    /// The level of the API that it needs.
    pub(crate) fn level(&self) -> u32 {
        u32::from(self.allow_msg_ttl)
    }

    /// Whether its messages are gone after a restart.
    pub(crate) fn is_in_memory(&self) -> bool {
        self.storage == Storage::Memory
    }

    /// Whether its messages go as they are acknowledged.
    pub(crate) fn is_work_queue(&self) -> bool {
        self.retention == RetentionPolicy::Workqueue
    }

    /// What a stream of this configuration gets where `new` is asked for, if it may.
    pub(crate) fn updated(&self, mut new: StreamConfig) -> Result<StreamConfig, ApiError> {
        self.check_update(&new)?;
        if new.sealed {
            // Nothing goes in or out any more.
            (new.max_age, new.discard, new.allow_rollup_hdrs) = (0, Discard::New, false);
            (new.deny_delete, new.deny_purge) = (true, true);
        }
        Ok(new)
    }

    fn check_update(&self, new: &StreamConfig) -> Result<(), ApiError> {
        let invalid = |why: &str| Err(ApiError::invalid_config(why));
        if self.max_consumers != new.max_consumers {
            return invalid("stream configuration update can not change MaxConsumers");
        }
        if self.storage != new.storage {
            return invalid("stream configuration update can not change storage type");
        }
        if self.retention != new.retention && (self.is_work_queue() || new.is_work_queue()) {
            return invalid("stream configuration update can not change retention policy to/from workqueue");
        }
        if self.sealed && !new.sealed {
            return invalid("stream configuration update can not unseal a sealed stream");
        }
        if self.deny_delete && !new.deny_delete {
            return invalid("stream configuration update can not cancel deny message deletes");
        }
        if self.deny_purge && !new.deny_purge {
            return invalid("stream configuration update can not cancel deny purge");
        }
        if self.allow_msg_ttl && !new.allow_msg_ttl {
            return invalid("message TTL status can not be disabled");
        }
        Ok(())
    }
}

/// When a stream was made, milliseconds since the Unix epoch.
pub(crate) fn created_ms(settings: &StreamSettings) -> i64 {
    settings.extras.get(CREATED).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn ms(ns: i64) -> Option<u64> {
    u64::try_from(ns / NS_PER_MS).ok().filter(|ms| *ms > 0)
}

/// Whether a stream's name may have it.
pub(super) fn is_name_char(c: char) -> bool {
    !(c.is_whitespace() || c.is_control() || matches!(c, '.' | '*' | '>' | '/' | '\\'))
}

fn check_name(name: &str) -> Result<(), ApiError> {
    if name.is_empty() || !name.chars().all(is_name_char) {
        return Err(ApiError::invalid_config("stream name is required and can not contain '.', '*', '>'"));
    }
    if name.len() > NAME_LEN_MAX {
        return Err(ApiError::invalid_config("stream name is too long, maximum allowed is 255"));
    }
    Ok(())
}

/// Subjects that the API itself uses are not stored: an acknowledgement would be taken for the answer.
fn check_reserved(text: &str, pattern: &Pattern) -> Result<(), ApiError> {
    if text == ">" {
        return Err(ApiError::invalid_config("capturing all subjects requires no-ack to be true"));
    }
    for (reserved, of) in
        [("$JS.>", "jetstream"), ("$JSC.>", "jetstream"), ("$NRG.>", "jetstream"), ("$SYS.>", "system")]
    {
        let is_allowed = text.starts_with("$JS.EVENT.") || text.starts_with("$SYS.ACCOUNT.");
        if !is_allowed
            && subject::pattern(reserved.as_bytes()).is_some_and(|reserved| overlap(&reserved, pattern))
        {
            let why = format!("subjects that overlap with {of} api require no-ack to be true");
            return Err(ApiError::invalid_config(why));
        }
    }
    Ok(())
}

/// Whether `outer` matches whatever `inner` matches.
pub(crate) fn is_within(inner: &Pattern, outer: &Pattern) -> bool {
    let (mut inners, mut outers) = (inner.tokens().iter(), outer.tokens().iter());
    loop {
        match (inners.next(), outers.next()) {
            (None, None) | (Some(_), Some(Token::Rest | Token::Many)) => return true,
            (Some(Token::Exact(one)), Some(Token::Exact(other))) if one == other => {}
            (Some(Token::Exact(_) | Token::One), Some(Token::One)) => {}
            (Some(_), Some(_)) | (None, Some(_)) | (Some(_), None) => return false,
        }
    }
}

/// Whether some subject matches both.
pub(crate) fn overlap(one: &Pattern, other: &Pattern) -> bool {
    let (mut ones, mut others) = (one.tokens().iter(), other.tokens().iter());
    loop {
        match (ones.next(), others.next()) {
            (None, None) => return true,
            (Some(Token::Rest | Token::Many), Some(_)) | (Some(_), Some(Token::Rest | Token::Many)) => {
                return true;
            }
            (Some(Token::Exact(one)), Some(Token::Exact(other))) if one != other => return false,
            (Some(_), Some(_)) => {}
            (None, Some(_)) | (Some(_), None) => return false,
        }
    }
}

#[cfg(test)]
mod tests;
