//! Rules about single source files.

use super::Complaints;
use super::code::only_code;
use crate::workspace::Source;

/// Lines beyond which a file should be split along its ideas.
const LONGEST_FILE: usize = 600;

/// Files that are one table, with the lines each may have: splitting a table does not make it clearer.
const TABLES: [(&str, usize); 0] = [];

pub fn short(sources: &[Source]) -> Complaints {
    sources
        .iter()
        .filter_map(|source| {
            let lines = source.text.lines().count();
            let limit = TABLES
                .iter()
                .find(|(path, _)| *path == source.path)
                .map_or(LONGEST_FILE, |(_, limit)| *limit);
            (lines > limit).then(|| format!("{}: {lines} lines, of {limit} allowed: split it", source.path))
        })
        .collect()
}

pub fn forbids_unsafe(sources: &[Source]) -> Complaints {
    sources
        .iter()
        .filter(|source| is_root(&source.path))
        .filter(|source| !source.text.contains("#![forbid(unsafe_code)]"))
        .map(|source| format!("{}: add #![forbid(unsafe_code)]", source.path))
        .collect()
}

/// `crates/NAME/src/lib.rs`, `crates/NAME/src/main.rs` or `crates/NAME/src/bin/X.rs`.
fn is_root(path: &str) -> bool {
    match path.split('/').skip(2).collect::<Vec<_>>()[..] {
        ["src", file] => file == "lib.rs" || file == "main.rs",
        ["src", "bin", _] => true,
        _ => false,
    }
}

pub fn finished(sources: &[Source]) -> Complaints {
    let marks =
        [("#[ignore", "a test that never runs shows nothing"), ("todo!", "refuse with an error instead")];
    sources
        .iter()
        .flat_map(|source| {
            let code = only_code(&source.text);
            let mut complaints = Vec::new();
            for (index, line) in code.lines().enumerate() {
                for (mark, advice) in marks {
                    if line.contains(mark) {
                        complaints.push(format!("{}:{}: {mark}: {advice}", source.path, index + 1));
                    }
                }
            }
            complaints
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.to_string(), text: text.to_string() }
    }

    #[test]
    fn a_file_may_have_the_limit_and_not_a_line_more() {
        assert_eq!(short(&[source("crates/a/src/a.rs", &"x\n".repeat(LONGEST_FILE))]).len(), 0);
        assert_eq!(short(&[source("crates/a/src/a.rs", &"x\n".repeat(LONGEST_FILE + 1))]).len(), 1);
    }

    #[test]
    fn only_roots_carry_the_attribute() {
        assert_eq!(forbids_unsafe(&[source("crates/a/src/lib.rs", "")]).len(), 1);
        assert_eq!(forbids_unsafe(&[source("crates/a/src/bin/b.rs", "")]).len(), 1);
        assert_eq!(forbids_unsafe(&[source("crates/a/src/other.rs", "")]).len(), 0);
        assert_eq!(forbids_unsafe(&[source("crates/a/src/lib.rs", "#![forbid(unsafe_code)]")]).len(), 0);
    }

    #[test]
    fn marks_in_strings_and_comments_are_no_marks() {
        assert_eq!(finished(&[source("crates/a/src/a.rs", "// todo!()\nlet x = \"#[ignore]\";")]).len(), 0);
        assert_eq!(finished(&[source("crates/a/src/a.rs", "#[ignore]\nfn a() { todo!() }")]).len(), 2);
    }
}
