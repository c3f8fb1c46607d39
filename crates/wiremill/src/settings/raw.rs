//! First step: what was typed, from file, environment and flags, with unknown names refused.

use std::{collections::BTreeMap, path::Path};

use clap::{Arg, ArgAction, ArgMatches};

use super::{ENTRIES, Entry, Queue, Refused, entries::Form, queues, suggest::hint};
use crate::listeners::ListenerName;

/// A value as it was typed, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// The text.
    pub text: String,
    /// For error messages: a file, a variable or a flag.
    pub source: String,
}

/// Everything that was typed. A later [`Raw::file`], [`Raw::environment`] or [`Raw::arguments`] overrides an earlier one.
#[derive(Clone, Debug, Default)]
pub struct Raw {
    plain: BTreeMap<&'static str, Given>,
    per_listener: BTreeMap<(&'static str, ListenerName), Given>,
    /// Queues that the file declares.
    pub queues: Vec<Queue>,
    /// Names that look like slips but may belong to somebody else (variables): said, not refused.
    pub warnings: Vec<String>,
}

impl Raw {
    /// What was given for `entry`, if anything.
    pub fn plain(&self, entry: &Entry) -> Option<&Given> {
        self.plain.get(entry.key)
    }

    /// What was given for `entry` and one listener, if anything.
    pub fn of_listener(&self, entry: &Entry, listener: ListenerName) -> Option<&Given> {
        self.per_listener.get(&(entry.key, listener))
    }

    /// Takes over the TOML text of a settings file.
    pub fn file(&mut self, path: &Path, text: &str) -> Result<(), Refused> {
        let source = path.display().to_string();
        let table: toml::Table = text
            .parse()
            .map_err(|e: toml::de::Error| Refused(format!("{source}: {}", e.to_string().trim_end())))?;
        for (key, value) in table {
            if key == "queues" {
                self.queues = queues::read(&source, value)?;
                continue;
            }
            let entry = Entry::of(&key).ok_or_else(|| unknown_key(&source, &key))?;
            match (entry.form, value) {
                (Form::PerListener(_), toml::Value::Table(values)) => {
                    for (name, value) in values {
                        let listener = listener(&format!("{source}: {key}"), &name)?;
                        let text = scalar(&source, &key, value)?;
                        self.per_listener
                            .insert((entry.key, listener), Given { text, source: source.clone() });
                    }
                }
                (Form::PerListener(_), _) => {
                    return Err(Refused(format!("{source}: {key} is a table with one line per listener")));
                }
                (Form::Words, toml::Value::Array(values)) => {
                    let words: Result<Vec<_>, _> =
                        values.into_iter().map(|v| scalar(&source, &key, v)).collect();
                    self.put(entry, words?.join(","), &source);
                }
                (_, value) => self.put(entry, scalar(&source, &key, value)?, &source),
            }
        }
        Ok(())
    }

    /// Takes over `WIREMILL_…` variables. Unknown ones are none of our business (an orchestrator may set them for a
    /// service of our name), but one that is nearly a setting's is mentioned in [`Raw::warnings`].
    pub fn environment(
        &mut self,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(), Refused> {
        for (name, text) in variables {
            let Some(rest) = name.strip_prefix("WIREMILL_").map(str::to_ascii_lowercase) else { continue };
            if let Some(entry) = Entry::of(&rest).filter(|entry| !matches!(entry.form, Form::PerListener(_)))
            {
                self.put(entry, text, &name);
            } else if let Some((entry, listener)) = per_listener_variable(&rest) {
                self.per_listener.insert((entry.key, listener), Given { text, source: name });
            } else if let Some(near) = nearest_variable(&rest) {
                let near = format!("WIREMILL_{}", near.to_ascii_uppercase().replace('-', "_"));
                self.warnings.push(format!("{name} is no setting; did you mean {near}?"));
            }
        }
        Ok(())
    }

    /// Takes over parsed flags (see [`flags`]).
    pub fn arguments(&mut self, matches: &ArgMatches) -> Result<(), Refused> {
        for entry in ENTRIES {
            let source = format!("--{}", entry.flag());
            for text in matches.get_many::<String>(entry.key).into_iter().flatten() {
                if !matches!(entry.form, Form::PerListener(_)) {
                    self.put(entry, text.clone(), &source);
                    continue;
                }
                let (name, text) = text.split_once('=').ok_or_else(|| {
                    Refused(format!("{source}: {text:?} is not NAME=VALUE, such as kafka=…"))
                })?;
                let given = Given { text: text.to_owned(), source: source.clone() };
                self.per_listener.insert((entry.key, listener(&source, name)?), given);
            }
        }
        Ok(())
    }

    fn put(&mut self, entry: &'static Entry, text: String, source: &str) {
        self.plain.insert(entry.key, Given { text, source: source.to_owned() });
    }
}

/// One flag per setting, for clap.
pub fn flags() -> impl Iterator<Item = Arg> {
    ENTRIES.iter().map(|entry| {
        let arg = Arg::new(entry.key).long(entry.flag()).help(entry.doc.replace('`', "")).hide(entry.hidden);
        match entry.form {
            Form::PerListener(value) => arg.action(ArgAction::Append).value_name(format!("NAME={value}")),
            Form::Switch => arg.num_args(0..=1).default_missing_value("true").value_name("true|false"),
            Form::Choice(words) => arg.value_name(words.join("|")),
            Form::Path => arg.value_name("PATH"),
            Form::Number { unit, .. } => arg.value_name(unit.to_ascii_uppercase()),
            Form::Bytes { .. } => arg.value_name("BYTES"),
            Form::Words => arg.value_name("A,B,…"),
            Form::Text => arg.value_name("TEXT"),
        }
    })
}

/// `listen_kafka`, `tls_cert_rabbitmq_admin`: the entry and the listener, if both exist.
fn per_listener_variable(rest: &str) -> Option<(&'static Entry, ListenerName)> {
    ENTRIES.iter().filter(|entry| matches!(entry.form, Form::PerListener(_))).find_map(|entry| {
        let name = rest.strip_prefix(entry.key)?.strip_prefix('_')?;
        Some((entry, ListenerName::parse(&name.replace('_', "-"))?))
    })
}

/// The variable that was meant by `rest`, which is none, if it looks like one.
fn nearest_variable(rest: &str) -> Option<String> {
    let is_per_listener = |entry: &&Entry| matches!(entry.form, Form::PerListener(_));
    for entry in ENTRIES.iter().filter(is_per_listener) {
        if rest == entry.key {
            return Some(format!("{rest}_kafka"));
        }
        let Some(name) = rest.strip_prefix(entry.key).and_then(|name| name.strip_prefix('_')) else {
            continue;
        };
        let names = ListenerName::ALL.iter().map(|name| name.text());
        if let Some(near) = super::nearest(&name.replace('_', "-"), names) {
            return Some(format!("{}_{near}", entry.key));
        }
    }
    let plain = ENTRIES.iter().filter(|entry| !is_per_listener(entry));
    super::nearest(rest, plain.map(|entry| entry.key)).map(str::to_owned)
}

fn listener(source: &str, name: &str) -> Result<ListenerName, Refused> {
    ListenerName::parse(name).ok_or_else(|| {
        let names = ListenerName::ALL.iter().map(|name| name.text());
        Refused(format!("{source}: there is no listener {name:?}{}", hint(name, names)))
    })
}

fn unknown_key(source: &str, key: &str) -> Refused {
    let hint = hint(key, ENTRIES.iter().filter(|entry| !entry.hidden).map(|entry| entry.key));
    Refused(format!("{source}: there is no setting {key:?}{hint}"))
}

fn scalar(source: &str, key: &str, value: toml::Value) -> Result<String, Refused> {
    match value {
        toml::Value::String(text) => Ok(text),
        toml::Value::Integer(number) => Ok(number.to_string()),
        toml::Value::Boolean(switch) => Ok(switch.to_string()),
        _ => Err(Refused(format!("{source}: {key} takes a single value"))),
    }
}
