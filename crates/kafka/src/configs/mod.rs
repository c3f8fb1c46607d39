//! Kafka's configuration names: what each means here, its default, its bounds, and whether it is obeyed.
//!
//! A setting is obeyed, refused, or inert. An inert one can have no effect on one node or behind this storage; it is
//! stored and shown, with the reason in [`Effect::Inert`], which `docs/kafka-settings.md` prints.

mod broker;
mod other;
mod topic;

pub(crate) use broker::BROKER_CONFIGS;
pub(crate) use other::OTHER_BROKER_CONFIGS;
pub(crate) use topic::{TOPIC_CONFIGS, replicas_of, settings_of, topic_config, values_of, with_replicas};

/// Type of a value, with the code that DescribeConfigs shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Boolean,
    Text,
    Int,
    Short,
    Long,
    Double,
    List,
    Class,
    /// Never shown.
    Password,
}

impl Kind {
    /// `ConfigDef.Type` on the wire (DescribeConfigs v3).
    pub(crate) fn code(self) -> i8 {
        match self {
            Kind::Boolean => 1,
            Kind::Text => 2,
            Kind::Int => 3,
            Kind::Short => 4,
            Kind::Long => 5,
            Kind::Double => 6,
            Kind::List => 7,
            Kind::Class => 8,
            Kind::Password => 9,
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
    /// -1 for the packer's own default, or 1 to 9.
    GzipLevel,
    /// `*`, or pairs of partition and node.
    ThrottledReplicas,
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
        let wrong = self.wrong_kind(value).or_else(|| self.out_of_bounds(value));
        let wrong = wrong.or_else(|| match self.effect {
            Effect::OnlyDefault(why) if self.items(value) != [self.default] => Some(why.to_owned()),
            _ => None,
        });
        match wrong {
            Some(why) => Err(format!("Invalid value {value} for configuration {}: {why}", self.name)),
            None => Ok(()),
        }
    }

    fn wrong_kind(&self, value: &str) -> Option<String> {
        let value = value.trim();
        let (is_one, why) = match self.kind {
            Kind::Boolean => (
                ["true", "false"].iter().any(|b| value.eq_ignore_ascii_case(b)),
                "Expected value to be either true or false",
            ),
            Kind::Int => (value.parse::<i32>().is_ok(), "Not a number of type INT"),
            Kind::Short => (value.parse::<i16>().is_ok(), "Not a number of type SHORT"),
            Kind::Long => (value.parse::<i64>().is_ok(), "Not a number of type LONG"),
            Kind::Double => (value.parse::<f64>().is_ok(), "Not a number of type DOUBLE"),
            Kind::Text | Kind::List | Kind::Class | Kind::Password => (true, ""),
        };
        (!is_one).then(|| why.to_owned())
    }

    fn out_of_bounds(&self, value: &str) -> Option<String> {
        let number = || value.trim().parse::<i64>().unwrap_or(i64::MIN);
        let ratio = || value.trim().parse::<f64>().unwrap_or(f64::NAN);
        match self.valid {
            Valid::AtLeast(least) | Valid::Between(least, _) if number() < least => {
                Some(format!("Value must be at least {least}"))
            }
            Valid::Between(_, most) if number() > most => Some(format!("Value must be no more than {most}")),
            Valid::GzipLevel if number() != -1 && !(1..=9).contains(&number()) => {
                Some("Value must be between 1 and 9 or equal to -1".to_owned())
            }
            Valid::Ratio if ratio() < 0.0 => Some("Value must be at least 0".to_owned()),
            Valid::Ratio if ratio().is_nan() || ratio() > 1.0 => {
                Some("Value must be no more than 1".to_owned())
            }
            Valid::OneOf(all) if !self.items(value).iter().all(|item| all.contains(item)) => {
                Some(format!("String must be one of: {}", all.join(", ")))
            }
            Valid::ThrottledReplicas
                if value.trim() != "*" && !self.items(value).iter().all(|item| is_pair(item)) =>
            {
                Some(format!(
                    "{} must be the literal '*' or a list of replicas in the following format: [partitionId]:[brokerId],[partitionId]:[brokerId],...",
                    self.name
                ))
            }
            _ => None,
        }
    }

    /// A list's items, or the value as the only one.
    fn items<'v>(&self, value: &'v str) -> Vec<&'v str> {
        match self.kind {
            Kind::List if value.trim().is_empty() => Vec::new(),
            Kind::List => value.split(',').map(str::trim).collect(),
            _ => vec![value],
        }
    }
}

/// A partition and a node, as `3:1`.
fn is_pair(item: &str) -> bool {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    item.split_once(':').is_some_and(|(partition, node)| is_number(partition) && is_number(node))
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
