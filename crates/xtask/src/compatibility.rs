//! `docs/compatibility.md`: written from what the client suites just showed, never by hand.

use crate::workspace;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

const PAGE: &str = "docs/compatibility.md";

const HEADING: &str = "\
# What real clients were seen doing

Written by `cargo xtask test` from the client suites in `clients/`: one line for each behaviour, with the
clients that showed it against this version of Wiremill. Nothing here is typed by hand. Which settings are
obeyed, refused, or without effect on one node: [Kafka's](kafka-settings.md).
";

/// One line of a suite's results.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Shown {
    protocol: String,
    capability: String,
    client: String,
    version: String,
    passed: bool,
}

/// Reads every result line under `folder`, and brings the page up to date.
///
/// # Errors
/// When a result line is malformed, and, with `frozen`, when the committed page says something else than what was shown;
/// rows that a test failed for do not count, because the test does.
pub fn update(folder: &Path, frozen: bool) -> Result<(), String> {
    let shown = collect(folder)?;
    let page = render(&shown);
    let path = workspace::root().join(PAGE);
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    if committed == page {
        return Ok(());
    }
    if frozen {
        let failed: Vec<_> = shown.iter().filter(|item| !item.passed).map(row_start).collect();
        let differing = difference(&committed, &page, &failed);
        if differing.is_empty() {
            return Ok(());
        }
        return Err(format!(
            "{PAGE} differs from what the clients showed; run `cargo xtask test`:\n{differing}"
        ));
    }
    std::fs::create_dir_all(path.parent().unwrap_or(&path)).map_err(|error| format!("{PAGE}: {error}"))?;
    std::fs::write(&path, page).map_err(|error| format!("{PAGE}: {error}"))?;
    println!("{PAGE} was brought up to date");
    Ok(())
}

fn collect(folder: &Path) -> Result<BTreeSet<Shown>, String> {
    let mut shown = BTreeSet::new();
    let entries = std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for entry in entries {
        let path = entry.map_err(|error| format!("{}: {error}", folder.display()))?.path();
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            shown.insert(parse(line).ok_or_else(|| format!("{}: not a result: {line}", path.display()))?);
        }
    }
    Ok(shown)
}

fn parse(line: &str) -> Option<Shown> {
    let value: Value = serde_json::from_str(line).ok()?;
    let text = |field: &str| value.get(field)?.as_str().map(str::to_string);
    Some(Shown {
        protocol: text("protocol")?,
        capability: text("capability")?,
        client: text("client")?,
        version: text("version")?,
        passed: match value.get("result")?.as_str()? {
            "passed" => true,
            "failed" => false,
            _ => return None,
        },
    })
}

fn render(shown: &BTreeSet<Shown>) -> String {
    let mut protocols: BTreeMap<&str, BTreeMap<&str, Vec<&Shown>>> = BTreeMap::new();
    for item in shown {
        protocols.entry(&item.protocol).or_default().entry(&item.capability).or_default().push(item);
    }
    let mut page = HEADING.to_string();
    for (protocol, capabilities) in protocols {
        let clients: BTreeSet<_> =
            capabilities.values().flatten().map(|item| format!("{} {}", item.client, item.version)).collect();
        let clients: Vec<_> = clients.into_iter().collect();
        append(&mut page, format_args!("\n## {protocol}\n\nClients: {}.\n\n", clients.join(", ")));
        append(&mut page, format_args!("| what it does | shown by | not by |\n|---|---|---|\n"));
        for (capability, items) in capabilities {
            let [by, not_by] = [true, false].map(|passed| names(&items, passed));
            append(&mut page, format_args!("| {capability} | {by} | {not_by} |\n"));
        }
    }
    page
}

/// Writing to a string cannot fail.
fn append(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.write_fmt(text).unwrap_or_default();
}

fn names(items: &[&Shown], passed: bool) -> String {
    let names: BTreeSet<&str> =
        items.iter().filter(|item| item.passed == passed).map(|item| item.client.as_str()).collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}

/// What a row for this capability begins with.
fn row_start(item: &Shown) -> String {
    format!("| {} |", item.capability)
}

/// The lines that only one of the two pages has, but for those that begin as one of `excused`.
fn difference(committed: &str, now: &str, excused: &[String]) -> String {
    let counts = |line: &&str| !excused.iter().any(|start| line.starts_with(start.as_str()));
    let [old, new] = [committed, now].map(|page| page.lines().filter(counts).collect::<BTreeSet<_>>());
    let gone = old.difference(&new).map(|line| format!("- {line}"));
    let added = new.difference(&old).map(|line| format!("+ {line}"));
    gone.chain(added).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(capability: &str, client: &str, result: &str) -> String {
        format!(
            r#"{{"protocol":"Kafka","capability":"{capability}","client":"{client}","version":"1.0","result":"{result}"}}"#
        )
    }

    #[test]
    fn the_page_does_not_depend_on_the_order_of_results() {
        let lines = [line("b", "x", "passed"), line("a", "y", "failed"), line("a", "x", "passed")];
        let forward: BTreeSet<_> = lines.iter().filter_map(|line| parse(line)).collect();
        let backward: BTreeSet<_> = lines.iter().rev().filter_map(|line| parse(line)).collect();
        let page = render(&forward);
        assert_eq!(page, render(&backward));
        assert!(page.contains("Clients: x 1.0, y 1.0."));
        assert!(page.contains("| a | x | y |\n| b | x |  |\n"), "{page}");
    }

    #[test]
    fn a_result_that_says_neither_passed_nor_failed_is_refused() {
        assert!(parse(&line("a", "x", "maybe")).is_none());
        assert!(parse("{}").is_none());
    }

    #[test]
    fn a_difference_names_the_lines_of_each_side() {
        assert_eq!(difference("a\nb\n", "a\nc\n", &[]), "- b\n+ c");
    }

    #[test]
    fn a_row_that_a_test_failed_for_is_no_difference_of_the_page() {
        let shown = |result| parse(&line("a", "x", result)).into_iter().collect::<BTreeSet<_>>();
        let failed = shown("failed");
        let rows: Vec<_> = failed.iter().map(row_start).collect();
        assert_eq!(difference(&render(&shown("passed")), &render(&failed), &rows), "");
        assert_ne!(difference(&render(&shown("passed")), &render(&BTreeSet::new()), &rows), "");
    }
}
