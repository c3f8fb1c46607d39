//! JSON rows as a table for people.

use serde_json::Value;

use super::time;

/// Rows as aligned columns: (title, key in each row). Numbers stand to the right; keys that end in `_at_ms` or
/// `_time_ms` are shown as times, other `_ms` as durations, `_bytes` and `bytes` with a unit.
pub fn render(rows: &[Value], columns: &[(&str, &str)]) -> String {
    let cells: Vec<Vec<String>> =
        rows.iter().map(|row| columns.iter().map(|(_, key)| cell(key, &row[*key])).collect()).collect();
    let numeric: Vec<bool> = columns
        .iter()
        .map(|(_, key)| rows.iter().any(|row| row[*key].is_number()) && !is_time(key))
        .collect();
    let widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(at, (title, _))| {
            cells.iter().map(|row| row[at].chars().count()).chain([title.len()]).max().unwrap_or(0)
        })
        .collect();
    let titles: Vec<String> = columns.iter().map(|(title, _)| (*title).to_owned()).collect();
    let mut out = String::new();
    for row in std::iter::once(&titles).chain(&cells) {
        let padded = row.iter().zip(&widths).zip(&numeric).map(|((text, width), numeric)| {
            if *numeric { format!("{text:>width$}") } else { format!("{text:<width$}") }
        });
        out.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
    out
}

/// One object as lines of `name  value`.
pub fn facts(object: &Value, keys: &[&str]) -> String {
    let width = keys.iter().map(|key| key.len()).max().unwrap_or(0);
    keys.iter().map(|key| format!("{key:<width$}  {}\n", cell(key, &object[*key]))).collect()
}

/// Text without what a terminal would obey: names are whatever somebody called a thing.
pub fn plain(text: &str) -> String {
    match text.chars().any(char::is_control) {
        false => text.to_owned(),
        true => text
            .chars()
            .map(|one| if one.is_control() { one.escape_default().to_string() } else { one.to_string() })
            .collect(),
    }
}

fn is_time(key: &str) -> bool {
    matches!(key, "at_ms" | "last_heartbeat_ms" | "last_commit_ms")
        || key.ends_with("_at_ms")
        || key.ends_with("append_time_ms")
}

fn cell(key: &str, value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => plain(text),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        Value::Number(number) => match number.as_i64() {
            Some(0) if is_time(key) => "-".to_owned(),
            Some(at_ms) if is_time(key) => time::utc(at_ms),
            Some(ms) if key == "oldest_ms" => time::span(ms),
            Some(bytes) if key.ends_with("bytes") => size(bytes),
            _ => number.to_string(),
        },
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) => items.iter().map(|item| cell("", item)).collect::<Vec<_>>().join(","),
        Value::Object(_) => value.to_string(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown with one digit after the point")]
fn size(bytes: i64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
        if value.abs() < 1024.0 || unit == "TiB" {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    bytes.to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_aligned_and_numbers_stand_to_the_right() {
        let rows = [json!({"name": "a", "n": 5}), json!({"name": "longer", "n": 12345})];
        assert_eq!(
            render(&rows, &[("NAME", "name"), ("N", "n")]),
            "NAME        N\na           5\nlonger  12345\n"
        );
    }

    #[test]
    fn what_is_absent_or_empty_is_a_dash() {
        let row = json!({"a": null, "b": [], "c": ""});
        assert_eq!(
            render(&[row], &[("A", "a"), ("B", "b"), ("C", "c"), ("D", "d")]),
            "A  B  C  D\n-  -  -  -\n"
        );
    }

    #[test]
    fn a_terminal_obeys_no_name() {
        let row = json!({"a": "x\u{1b}]0;title\u{7}\ny", "b": ["\u{9b}1m", "\u{e4}"]});
        assert_eq!(
            render(&[row], &[("A", "a"), ("B", "b")]),
            "A                        B\nx\\u{1b}]0;title\\u{7}\\ny  \\u{9b}1m,\u{e4}\n"
        );
    }

    #[test]
    fn bytes_have_a_unit() {
        for (bytes, expected) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1 << 20, "1.0 MiB"), (5 << 40, "5.0 TiB")]
        {
            assert_eq!(size(bytes), expected);
        }
    }
}
