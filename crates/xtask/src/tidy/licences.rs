//! Licences of everything that is linked in: each must offer a permissive way to use it.

use super::Complaints;
use super::dependencies::{list, text};
use serde_json::Value;

const PERMISSIVE: [&str; 17] = [
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "0BSD",
    "ISC",
    "Zlib",
    "BSL-1.0",
    "CC0-1.0",
    "Unlicense",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "CDLA-Permissive-2.0",
    "OpenSSL",
];

pub fn permissive(metadata: &Value) -> Complaints {
    list(metadata, "packages")
        .iter()
        .filter(|package| !is_permissive(text(package, "license")))
        .map(|package| format!("{} has licence {:?}", text(package, "name"), text(package, "license")))
        .collect()
}

/// Whether an SPDX expression can be met with permissive licences alone.
fn is_permissive(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    any(&mut rest) && rest.is_empty()
}

fn any(words: &mut &[&str]) -> bool {
    let mut fine = all(words);
    while take(words, "OR") {
        // Both sides are read in any case: `||` would leave the right one unread.
        fine |= all(words);
    }
    fine
}

fn all(words: &mut &[&str]) -> bool {
    let mut fine = one(words);
    while take(words, "AND") {
        fine &= one(words);
    }
    fine
}

fn one(words: &mut &[&str]) -> bool {
    if take(words, "(") {
        let fine = any(words);
        return take(words, ")") && fine;
    }
    let Some((name, rest)) = words.split_first() else { return false };
    *words = rest;
    let mut licence = (*name).to_string();
    if take(words, "WITH")
        && let Some((exception, rest)) = words.split_first()
    {
        licence = format!("{licence} WITH {exception}");
        *words = rest;
    }
    PERMISSIVE.contains(&licence.as_str())
}

fn take(words: &mut &[&str], word: &str) -> bool {
    match words.split_first() {
        Some((first, rest)) if *first == word => {
            *words = rest;
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_permissive_choice_is_enough() {
        for fine in [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-3.0 OR MIT",
            "(MIT OR GPL-3.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
        ] {
            assert!(is_permissive(fine), "{fine}");
        }
    }

    #[test]
    fn a_licence_that_binds_is_refused() {
        for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT", "AGPL-3.0 OR GPL-2.0", "MIT Apache-2.0"] {
            assert!(!is_permissive(bad), "{bad}");
        }
    }
}
