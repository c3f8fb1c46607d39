//! A queue's attributes: what they may be, and the stream settings that they become.
//!
//! | attribute | setting |
//! |---|---|
//! | VisibilityTimeout | `lease_ms` |
//! | MaximumMessageSize | `record_len_max` |
//! | MessageRetentionPeriod | `retention.time_ms`, by the append time |
//! | DelaySeconds of a FIFO queue | `delay_ms`; of a standard queue each message has its own time |
//! | RedrivePolicy | `dead_letter`, `delivery_limit` |
//! | FifoQueue | the order of the work cursor, `dedup_window_ms` |
//! | the tag `wiremill:history` | `history_ms` |
//!
//! The others are kept in `extras` under names that begin with `sqs.`, those that differ from their defaults.

use std::collections::BTreeMap;

use broker::{DeadLetter, Exhaust, Mode, Retention, StreamSettings, TimeSource};
use model::StreamKey;

use super::{
    tags::{HISTORY_TAG, history_ms},
    validate::MESSAGE_LEN_MAX,
};
use crate::AwsError;

/// How long a deduplication id is remembered, milliseconds.
pub(crate) const DEDUP_WINDOW_MS: u64 = 300_000;

/// Longest visibility timeout, seconds.
pub(crate) const VISIBILITY_MAX_S: i32 = 43_200;

/// Longest delay, seconds.
pub(crate) const DELAY_MAX_S: i32 = 900;

/// Longest wait of a receive, seconds.
pub(crate) const WAIT_MAX_S: i32 = 20;

/// Longest policy, bytes.
const POLICY_LEN_MAX: usize = 64 << 10;

const EXTRA: &str = "sqs.";
const FIFO: &str = "sqs.fifo";
const DELAY: &str = "sqs.delay-s";
const WAIT: &str = "sqs.wait-s";
const POLICY: &str = "sqs.policy";
const ALLOW: &str = "sqs.redrive-allow";
const CONTENT: &str = "sqs.content-dedup";
const SCOPE: &str = "sqs.dedup-scope";
const SCOPE_SHOWN: &str = "sqs.dedup-scope-shown";
const LIMIT: &str = "sqs.per-group-limit";
const KMS_KEY: &str = "sqs.kms-key";
const KMS_REUSE: &str = "sqs.kms-reuse-s";
const NO_SSE: &str = "sqs.no-sse";
const CREATED: &str = "sqs.created-s";
const MODIFIED: &str = "sqs.modified-s";
const TAG: &str = "sqs.tag:";

/// Where deduplication ids are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Scope {
    /// In the whole queue.
    #[default]
    Queue,
    /// In each message group.
    Group,
}

/// Where dead letters go, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Redrive {
    /// The dead-letter queue.
    pub target: StreamKey,
    /// Receives before a message goes there, 1..=1000.
    pub receive_count_max: u32,
}

/// The attributes that are set, as against those that are counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attributes {
    /// Whether it is a FIFO queue; for its life.
    pub is_fifo: bool,
    pub visibility_s: u32,
    pub message_len_max: u32,
    pub retention_s: u32,
    pub delay_s: u32,
    pub wait_s: u32,
    pub policy: Option<String>,
    pub redrive: Option<Redrive>,
    /// As it was given.
    pub redrive_allow: Option<String>,
    pub content_dedup: bool,
    /// What holds: that of the queue's creation, as in AWS.
    pub scope: Scope,
    /// What was set last.
    pub scope_shown: Scope,
    /// `FifoThroughputLimit` is `perMessageGroupId`.
    pub is_limited_per_group: bool,
    pub kms_key: Option<String>,
    pub kms_reuse_s: Option<u32>,
    pub sse: bool,
    /// Seconds since the Unix epoch; 0 when another dialect made the queue.
    pub created_s: i64,
    pub modified_s: i64,
    pub tags: BTreeMap<String, String>,
}

impl Default for Attributes {
    fn default() -> Self {
        Attributes {
            is_fifo: false,
            visibility_s: 30,
            message_len_max: MESSAGE_LEN_MAX as u32,
            retention_s: 345_600,
            delay_s: 0,
            wait_s: 0,
            policy: None,
            redrive: None,
            redrive_allow: None,
            content_dedup: false,
            scope: Scope::Queue,
            scope_shown: Scope::Queue,
            is_limited_per_group: false,
            kms_key: None,
            kms_reuse_s: None,
            sse: true,
            created_s: 0,
            modified_s: 0,
            tags: BTreeMap::new(),
        }
    }
}

/// Whether a queue of these settings is a FIFO queue.
pub(crate) fn is_fifo(settings: &StreamSettings) -> bool {
    settings.extras.contains_key(FIFO)
}

/// What a queue without a retention period is said to have: the longest.
pub(crate) const RETENTION_MAX_S: u32 = 1_209_600;

impl Attributes {
    /// The attributes of a queue with these settings.
    pub(crate) fn of(settings: &StreamSettings) -> Attributes {
        let extras = &settings.extras;
        let text = |name: &str| extras.get(name).cloned();
        let number = |name: &str| extras.get(name).and_then(|value| value.parse().ok());
        let seconds = |ms: u64| u32::try_from(ms / 1_000).unwrap_or(u32::MAX);
        let default = Attributes::default();
        let is_fifo = extras.contains_key(FIFO);
        let delay_s = if is_fifo { Some(seconds(settings.delay_ms)) } else { number(DELAY) };
        let tags = extras.iter().filter_map(|(name, value)| Some((name.strip_prefix(TAG)?, value)));
        let created_s = number(CREATED).map_or(0, i64::from);
        Attributes {
            is_fifo,
            visibility_s: settings.lease_ms.map_or(default.visibility_s, seconds),
            message_len_max: settings.record_len_max.unwrap_or(default.message_len_max),
            retention_s: settings.retention.time_ms.map_or(RETENTION_MAX_S, seconds),
            delay_s: delay_s.unwrap_or(0),
            wait_s: number(WAIT).unwrap_or(0),
            policy: text(POLICY),
            redrive: settings
                .dead_letter
                .as_ref()
                .zip(settings.delivery_limit)
                .map(|(to, limit)| Redrive { target: to.target.clone(), receive_count_max: limit }),
            redrive_allow: text(ALLOW),
            content_dedup: extras.contains_key(CONTENT),
            scope: if extras.contains_key(SCOPE) { Scope::Group } else { Scope::Queue },
            scope_shown: if extras.contains_key(SCOPE_SHOWN) { Scope::Group } else { Scope::Queue },
            is_limited_per_group: extras.contains_key(LIMIT),
            kms_key: text(KMS_KEY),
            kms_reuse_s: number(KMS_REUSE),
            sse: !extras.contains_key(NO_SSE),
            created_s,
            modified_s: number(MODIFIED).map_or(created_s, i64::from),
            tags: tags.map(|(name, value)| (name.to_owned(), value.clone())).collect(),
        }
    }

    /// Puts them into a queue's settings. What SQS knows nothing of stays as it is.
    pub(crate) fn put(&self, settings: &mut StreamSettings) {
        let ms = |seconds: u32| u64::from(seconds) * 1_000;
        settings.lease_ms = Some(ms(self.visibility_s));
        settings.record_len_max = Some(self.message_len_max);
        settings.retention.time_ms = Some(ms(self.retention_s));
        settings.time = TimeSource::Append;
        settings.exhaust = Exhaust::WhenOffered;
        settings.dead_letter = self
            .redrive
            .as_ref()
            .map(|redrive| DeadLetter { target: redrive.target.clone(), route_key: None });
        settings.delivery_limit = self.redrive.as_ref().map(|redrive| redrive.receive_count_max);
        if self.is_fifo {
            settings.delay_ms = ms(self.delay_s);
            settings.dedup_window_ms = DEDUP_WINDOW_MS;
        }
        let had_history = settings.extras.contains_key(&format!("{TAG}{HISTORY_TAG}"));
        match self.tags.get(HISTORY_TAG).and_then(|value| history_ms(value)) {
            None if !had_history => {}
            history_ms => settings.history_ms = history_ms,
        }
        settings.extras.retain(|name, _| !name.starts_with(EXTRA));
        settings.extras.extend(self.extras());
    }

    fn extras(&self) -> Vec<(String, String)> {
        let flag = |is_set: bool| is_set.then(|| "1".to_owned());
        let number = |value: u32| (value > 0).then(|| value.to_string());
        let known = [
            (FIFO, flag(self.is_fifo)),
            (DELAY, number(if self.is_fifo { 0 } else { self.delay_s })),
            (WAIT, number(self.wait_s)),
            (POLICY, self.policy.clone()),
            (ALLOW, self.redrive_allow.clone()),
            (CONTENT, flag(self.content_dedup)),
            (SCOPE, flag(self.scope == Scope::Group)),
            (SCOPE_SHOWN, flag(self.scope_shown == Scope::Group)),
            (LIMIT, flag(self.is_limited_per_group)),
            (KMS_KEY, self.kms_key.clone()),
            (KMS_REUSE, self.kms_reuse_s.map(|seconds| seconds.to_string())),
            (NO_SSE, flag(!self.sse)),
            (CREATED, (self.created_s > 0).then(|| self.created_s.to_string())),
            (MODIFIED, (self.modified_s > self.created_s).then(|| self.modified_s.to_string())),
        ];
        let known = known.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        known.chain(self.tags.iter().map(|(name, value)| (format!("{TAG}{name}"), value.clone()))).collect()
    }

    /// The settings of a new queue.
    pub(crate) fn settings(&self) -> StreamSettings {
        let mut settings = StreamSettings {
            mode: Mode::Queue,
            retention: Retention::default(),
            ..StreamSettings::default()
        };
        self.put(&mut settings);
        settings
    }

    /// Sets one attribute that stands for itself: all but `RedrivePolicy`, `RedriveAllowPolicy` and `FifoQueue`.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<(), AwsError> {
        let number = |min: u32, max: u32| {
            let number = value.parse().ok().filter(|number| (min..=max).contains(number));
            number.ok_or_else(|| invalid(name))
        };
        let flag = || match value {
            _ if value.eq_ignore_ascii_case("true") => Ok(true),
            _ if value.eq_ignore_ascii_case("false") => Ok(false),
            _ => Err(invalid(name)),
        };
        match name {
            "VisibilityTimeout" => self.visibility_s = number(0, 43_200)?,
            "MaximumMessageSize" => self.message_len_max = number(1_024, MESSAGE_LEN_MAX as u32)?,
            "MessageRetentionPeriod" => self.retention_s = number(60, RETENTION_MAX_S)?,
            "DelaySeconds" => self.delay_s = number(0, 900)?,
            "ReceiveMessageWaitTimeSeconds" => self.wait_s = number(0, 20)?,
            "Policy" => self.policy = policy(value)?,
            "SqsManagedSseEnabled" => self.sse = flag()?,
            "KmsMasterKeyId" => self.kms_key = Some(value.to_owned()).filter(|key| !key.is_empty()),
            "KmsDataKeyReusePeriodSeconds" => {
                self.kms_reuse_s =
                    Some(number(60, 86_400)?).filter(|seconds| *seconds != KMS_REUSE_DEFAULT_S);
            }
            "ContentBasedDeduplication" if self.is_fifo => self.content_dedup = flag()?,
            "DeduplicationScope" if self.is_fifo => {
                self.scope_shown = match value {
                    "queue" => Scope::Queue,
                    "messageGroup" => Scope::Group,
                    _ => return Err(invalid(name)),
                }
            }
            "FifoThroughputLimit" if self.is_fifo => {
                self.is_limited_per_group = match value {
                    "perQueue" => false,
                    "perMessageGroupId" => true,
                    _ => return Err(invalid(name)),
                }
            }
            "DeduplicationScope" | "FifoThroughputLimit" => {
                return Err(AwsError::invalid_attribute_name(format!(
                    "You can specify the {name} only when FifoQueue is set to true."
                )));
            }
            _ => return Err(unknown(name)),
        }
        Ok(())
    }

    /// What must hold of attributes that were set together.
    pub(crate) fn check(&self) -> Result<(), AwsError> {
        if self.is_limited_per_group && self.scope_shown != Scope::Group {
            return Err(AwsError::invalid_attribute_value(
                "Invalid value for the parameter FifoThroughputLimit. Reason: The perMessageGroupId value is allowed only when the value for DeduplicationScope is messageGroup.",
            ));
        }
        Ok(())
    }
}

/// The reuse period that is as good as none.
const KMS_REUSE_DEFAULT_S: u32 = 300;

/// The error for an attribute that queues do not have.
pub(crate) fn unknown(name: &str) -> AwsError {
    AwsError::invalid_attribute_name(format!("Unknown Attribute {name}."))
}

/// The error for a value that an attribute may not have.
pub(crate) fn invalid(name: &str) -> AwsError {
    AwsError::invalid_attribute_value(format!("Invalid value for the parameter {name}."))
}

/// A policy document, empty for none. It is kept and shown, and not enforced.
fn policy(value: &str) -> Result<Option<String>, AwsError> {
    if value.is_empty() {
        return Ok(None);
    }
    let is_object = matches!(serde_json::from_str(value), Ok(serde_json::Value::Object(_)));
    if is_object && value.len() <= POLICY_LEN_MAX {
        Ok(Some(value.to_owned()))
    } else {
        Err(invalid("Policy"))
    }
}

#[cfg(test)]
mod tests {
    use model::Namespace;

    use super::*;

    #[test]
    fn what_is_put_into_settings_is_read_back() {
        let all = Attributes {
            is_fifo: true,
            visibility_s: 1,
            message_len_max: 2_048,
            retention_s: 60,
            delay_s: 7,
            wait_s: 20,
            policy: Some("{}".into()),
            redrive: Some(Redrive {
                target: StreamKey::queue(&Namespace::default(), "dead.fifo"),
                receive_count_max: 3,
            }),
            redrive_allow: Some("{}".into()),
            content_dedup: true,
            scope: Scope::Group,
            scope_shown: Scope::Group,
            is_limited_per_group: true,
            kms_key: Some("alias/x".into()),
            kms_reuse_s: Some(60),
            sse: false,
            created_s: 5,
            modified_s: 6,
            tags: [("a".to_owned(), String::new())].into(),
        };
        assert_eq!(Attributes::of(&all.settings()), all);
        let standard = Attributes { is_fifo: false, delay_s: 9, ..Attributes::default() };
        assert_eq!(Attributes::of(&standard.settings()), standard);
        assert_eq!(standard.settings().delay_ms, 0, "its messages have their own times");
        let mut settings = all.settings();
        settings.extras.insert("amqp.x".into(), "y".into());
        Attributes { created_s: 5, ..Attributes::default() }.put(&mut settings);
        assert_eq!(settings.extras.keys().collect::<Vec<_>>(), ["amqp.x", "sqs.created-s"]);
    }

    #[test]
    fn a_tag_says_how_long_deleted_messages_are_kept() {
        let tagged = |tags: &[(&str, &str)]| Attributes {
            tags: tags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            ..Attributes::default()
        };
        let mut settings = tagged(&[("wiremill:history", "3d")]).settings();
        assert_eq!(settings.history_ms, Some(259_200_000));
        tagged(&[("other", "1")]).put(&mut settings);
        assert_eq!(settings.history_ms, None);
        settings.history_ms = Some(7);
        tagged(&[]).put(&mut settings);
        assert_eq!(settings.history_ms, Some(7), "what another tool set stays");
    }

    #[test]
    fn a_queue_of_another_dialect_has_the_defaults_and_keeps_everything() {
        let foreign = Attributes::of(&StreamSettings::default());
        assert_eq!(foreign, Attributes { retention_s: RETENTION_MAX_S, ..Attributes::default() });
    }

    #[test]
    fn every_number_has_its_bounds() {
        for (name, min, max) in [
            ("VisibilityTimeout", 0_i64, 43_200),
            ("MaximumMessageSize", 1_024, 1_048_576),
            ("MessageRetentionPeriod", 60, 1_209_600),
            ("DelaySeconds", 0, 900),
            ("ReceiveMessageWaitTimeSeconds", 0, 20),
            ("KmsDataKeyReusePeriodSeconds", 60, 86_400),
        ] {
            let set = |value: i64| Attributes::default().set(name, &value.to_string());
            for good in [min, max - 1, max] {
                assert_eq!(set(good), Ok(()), "{name} {good}");
            }
            for bad in [min - 1, max + 1] {
                let error = set(bad).unwrap_err();
                assert_eq!(
                    (error.code, &*error.message),
                    ("InvalidAttributeValue", &*format!("Invalid value for the parameter {name}."))
                );
            }
            assert!(Attributes::default().set(name, "x").is_err());
        }
    }

    #[test]
    fn attributes_of_fifo_queues_are_refused_elsewhere_in_aws_s_words() {
        let set = |name: &str| Attributes::default().set(name, "true").unwrap_err().message.into_owned();
        assert_eq!(set("ContentBasedDeduplication"), "Unknown Attribute ContentBasedDeduplication.");
        assert_eq!(
            set("DeduplicationScope"),
            "You can specify the DeduplicationScope only when FifoQueue is set to true."
        );
        assert_eq!(set("ApproximateNumberOfMessages"), "Unknown Attribute ApproximateNumberOfMessages.");
        assert_eq!(set(""), "Unknown Attribute .");
    }
}
