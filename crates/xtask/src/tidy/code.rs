//! Rust source reduced to what the compiler sees as code: comments, strings and characters blanked out.

/// `text` with every comment and literal replaced by blanks; lines keep their numbers.
pub fn only_code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = literal_or_comment_len(rest, out.chars().next_back());
        if skipped == 0 {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            out.extend(rest[..skipped].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = &rest[skipped..];
        }
    }
    out
}

/// Bytes that a comment or literal at the start of `text` takes; 0 when there is none.
fn literal_or_comment_len(text: &str, before: Option<char>) -> usize {
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return block_comment_len(text);
    }
    if let Some(body) = text.strip_prefix('"') {
        return 1 + quoted_len(body, '"');
    }
    if text.starts_with('\'') {
        return character_len(text);
    }
    if !in_word && let Some(len) = raw_string_len(text) {
        return len;
    }
    0
}

fn block_comment_len(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// Bytes up to and including the closing `quote`, minding backslashes.
fn quoted_len(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == quote {
            return at + 1;
        }
    }
    text.len()
}

/// A character literal, as against a lifetime or a label.
fn character_len(text: &str) -> usize {
    let mut chars = text.chars().skip(1);
    match (chars.next(), chars.next()) {
        (Some('\\'), _) => 1 + quoted_len(&text[1..], '\''),
        (Some(c), Some('\'')) => 2 + c.len_utf8(),
        _ => 0,
    }
}

fn raw_string_len(text: &str) -> Option<usize> {
    let prefix = ["r", "br", "cr"].into_iter().find(|prefix| {
        text.strip_prefix(prefix).is_some_and(|rest| rest.trim_start_matches('#').starts_with('"'))
    })?;
    let after = &text[prefix.len()..];
    let hashes = after.len() - after.trim_start_matches('#').len();
    let body = &after[hashes + 1..];
    let closing = format!("\"{}", "#".repeat(hashes));
    let end = body.find(&closing).map_or(body.len(), |at| at + closing.len());
    Some(prefix.len() + hashes + 1 + end)
}

/// Identifiers of `code` with the number of the line they stand on, from 1.
pub fn identifiers(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.lines().enumerate().flat_map(|(index, line)| {
        line.split(|c: char| !c.is_alphanumeric() && c != '_')
            .filter(|word| word.starts_with(|c: char| c.is_alphabetic() || c == '_'))
            .map(move |word| (index + 1, word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let code = only_code(text);
        assert_eq!(code.split_whitespace().collect::<Vec<_>>().join(" "), expected, "{text}");
    }

    #[test]
    fn comments_are_not_code() {
        check("a // kafka\nb /* x /* y */ z */ c", "a b c");
    }

    #[test]
    fn literals_are_not_code() {
        check(r#"f("kafka \" topic", 'x', '\'', b"y") g"#, "f( , , , b ) g");
        check("let x = r#\"a \"quoted\" b\"#; y", "let x = ; y");
    }

    #[test]
    fn lifetimes_are_code() {
        check("fn f<'a>(x: &'a str) -> &'static str {}", "fn f<'a>(x: &'a str) -> &'static str {}");
    }

    #[test]
    fn a_name_that_ends_in_r_before_a_string_is_no_raw_string() {
        check("bar\"x\" y", "bar y");
    }

    #[test]
    fn lines_keep_their_numbers() {
        let code = only_code("\"a\nb\"\nname");
        assert_eq!(identifiers(&code).collect::<Vec<_>>(), [(3, "name")]);
    }
}
