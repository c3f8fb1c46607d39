//! `docs/settings.md`, generated from the list.

use std::fmt::Write;

use super::{ENTRIES, Entry, entries::Form};
use crate::listeners::ListenerName;

const HEAD: &str = "# Settings

Generated from the list in `crates/wiremill/src/settings/entries.rs`; `wiremill settings > docs/settings.md` writes it anew.

Every setting can stand in the file given with `--config FILE` (TOML), in an environment variable and in a flag; a flag
overrides a variable, a variable overrides the file. `--config` itself can be given as `WIREMILL_CONFIG`. Names that do
not exist are refused (variables: mentioned), with the nearest one that does. Settings that need no restart are read
again on SIGHUP.

A setting *per listener* is a table in the file (`[listen]`, then `kafka = \"127.0.0.1:9092\"`), a repeatable flag with
`NAME=VALUE`, and one variable per listener (`WIREMILL_LISTEN_KAFKA`). The listeners and where they are by default:

";

/// The whole page.
pub fn render() -> String {
    let mut page = HEAD.to_owned();
    page.push_str("| listener | default | |\n|---|---|---|\n");
    for name in ListenerName::ALL {
        let built = if name.is_built() { "" } else { "not built yet: accepted, mentioned once, not opened" };
        let _infallible =
            writeln!(page, "| `{}` | 127.0.0.1:{} | {built} |", name.text(), name.default_port());
    }
    for entry in ENTRIES.iter().filter(|entry| !entry.hidden) {
        page.push_str(&section(entry));
    }
    page.push_str(QUEUES);
    for (key, doc) in super::queues::KEYS {
        let _infallible = writeln!(page, "| `{key}` | {doc} |");
    }
    page
}

const QUEUES: &str = "
## `[queues.NAME]`

In the file only: queues that are there from the start. Each start makes those that are not there, and changes those that
differ from what the file says; what it does not say of a queue stays as it is, and a queue that leaves the file stays. A name
that ends in `.fifo` is a FIFO queue, and stands in quotes: `[queues.\"orders.fifo\"]`. Times are written as `\"500ms\"`,
`\"30s\"`, `\"5m\"`, `\"12h\"` or `\"3d\"`. A change needs a restart.

| key | meaning |
|---|---|
";

fn section(entry: &Entry) -> String {
    let variable = match entry.form {
        Form::PerListener(_) => format!("{}_NAME", entry.variable()),
        _ => entry.variable(),
    };
    let default = if entry.default.is_empty() { "none".to_owned() } else { format!("`{}`", entry.default) };
    let restart = if entry.restart { "needs a restart" } else { "read again on SIGHUP" };
    format!(
        "\n## `{}`\n\n{}\n\nFlag `--{}`, variable `{variable}`. {}. Default: {default}. A change {restart}.\n",
        entry.key,
        entry.doc,
        entry.flag(),
        form(entry.form),
    )
}

fn form(form: Form) -> String {
    match form {
        Form::Text => "Text".to_owned(),
        Form::Path => "Path".to_owned(),
        Form::Switch => "`true` or `false`; the flag alone means `true`".to_owned(),
        Form::Number { min, max, unit } => format!("Number of {unit}, {min} to {max}"),
        Form::Bytes { min, max } => format!("Bytes, {min} to {max}; `KiB`, `MiB`, `GiB` are understood"),
        Form::Choice(words) => format!("One of `{}`", words.join("`, `")),
        Form::Words => "Words separated by commas; a list in the file".to_owned(),
        Form::PerListener(value) => format!("Per listener: {value}"),
    }
}
