//! Kafka's configuration names: what each means here, its default, its bounds, and whether it is obeyed.
//!
//! A setting is obeyed, refused, or inert. An inert one can have no effect on one node or behind this storage; it is
//! stored and shown, with the reason in [`Effect::Inert`], which `docs/kafka-settings.md` prints.

mod broker;
mod topic;

pub(crate) use broker::BROKER_CONFIGS;
pub(crate) use topic::{TOPIC_CONFIGS, replicas_of, settings_of, topic_config, values_of, with_replicas};

/// Type of a value, with the code that DescribeConfigs shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Boolean,
    Text,
    Int,
    Long,
    Double,
    List,
}

impl Kind {
    /// `ConfigDef.Type` on the wire (DescribeConfigs v3).
    pub(crate) fn code(self) -> i8 {
        match self {
            Kind::Boolean => 1,
            Kind::Text => 2,
            Kind::Int => 3,
            Kind::Long => 5,
            Kind::Double => 6,
            Kind::List => 7,
        }
    }
}

/// Which values are taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Valid {
    Any,
    AtLeast(i64),
    Between(i64, i64),
    Ratio,
    OneOf(&'static [&'static str]),
}

/// What a setting does here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It does what it does in Kafka.
    Obeyed,
    /// It can have no effect; why.
    Inert(&'static str),
    /// Only the default is taken; why.
    OnlyDefault(&'static str),
}

/// One configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    pub name: &'static str,
    pub kind: Kind,
    pub default: &'static str,
    pub valid: Valid,
    pub effect: Effect,
    /// The broker setting that a topic's default comes from; empty where there is none.
    pub synonym: &'static str,
    /// One sentence, shown by DescribeConfigs v3 when documentation is asked for.
    pub doc: &'static str,
}

impl Config {
    /// Checks a value given by a client. The error is a sentence for people, as Kafka words it.
    pub(crate) fn check(&self, value: &str) -> Result<(), String> {
        let invalid =
            |why: &str| Err(format!("Invalid value {value} for configuration {}: {why}", self.name));
        match self.kind {
            Kind::Boolean if !["true", "false"].iter().any(|b| value.trim().eq_ignore_ascii_case(b)) => {
                return invalid("Expected value to be either true or false");
            }
            Kind::Int if value.trim().parse::<i32>().is_err() => return invalid("Not a number of type INT"),
            Kind::Long if value.trim().parse::<i64>().is_err() => {
                return invalid("Not a number of type LONG");
            }
            Kind::Double if value.trim().parse::<f64>().is_err() => {
                return invalid("Not a number of type DOUBLE");
            }
            _ => {}
        }
        let number = || value.trim().parse::<i64>().unwrap_or(i64::MIN);
        match self.valid {
            Valid::AtLeast(least) if number() < least => {
                return invalid(&format!("Value must be at least {least}"));
            }
            Valid::Between(least, most) if !(least..=most).contains(&number()) => {
                return invalid(&format!("Value must be between {least} and {most}"));
            }
            Valid::Ratio if !value.trim().parse::<f64>().is_ok_and(|v| (0.0..=1.0).contains(&v)) => {
                return invalid("Value must be between 0 and 1");
            }
            Valid::OneOf(all) => {
                let parts: Vec<&str> = if self.kind == Kind::List {
                    value.split(',').map(str::trim).collect()
                } else {
                    vec![value]
                };
                if !parts.iter().all(|part| all.contains(part)) {
                    return invalid(&format!("String must be one of: {}", all.join(", ")));
                }
            }
            _ => {}
        }
        match self.effect {
            Effect::OnlyDefault(why) if value != self.default => invalid(why),
            _ => Ok(()),
        }
    }
}

/// A setting of Kafka that is taken and shown, and has no effect here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InertSetting {
    /// Its name.
    pub name: &'static str,
    /// Whether it is one of a topic, else of the broker.
    pub of_topic: bool,
    /// Why it has no effect.
    pub why: &'static str,
}

/// Every setting that is taken and shown and has no effect, with the reason: topics' first, by name.
pub fn inert_settings() -> Vec<InertSetting> {
    let inert = |of_topic: bool| {
        move |config: &Config| match config.effect {
            Effect::Inert(why) => Some(InertSetting { name: config.name, of_topic, why }),
            Effect::Obeyed | Effect::OnlyDefault(_) => None,
        }
    };
    let mut all: Vec<InertSetting> = TOPIC_CONFIGS.iter().filter_map(inert(true)).collect();
    all.extend(BROKER_CONFIGS.iter().filter_map(inert(false)));
    all.sort_by_key(|setting| (!setting.of_topic, setting.name));
    all
}

#[cfg(test)]
mod tests;
