//! Subjects made from subjects: what `republish` and `subject_transform` write.
//!
//! A destination's tokens are literal, or functions of the tokens that the wildcards of the source stand for: `$1`,
//! `{{wildcard(1)}}`, `{{partition(10,1,2)}}`, `{{split(1,-)}}`, `{{left(1,3)}}`, `{{right(1,3)}}` and the like.

use broker::routing::{Pattern, Token, tokens};

use crate::core::subject;

/// A mapping of subjects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    source: Pattern,
    /// Where the single wildcards of the source are among its tokens.
    wildcards: Vec<usize>,
    parts: Vec<Part>,
    /// How many tokens of a subject come before those that the source's rest stands for, where it has one.
    rest_at: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(Vec<u8>),
    Wildcard(usize),
    Partition {
        count: u32,
        of: Vec<usize>,
    },
    /// From the left or the right of a token, so many bytes.
    Cut {
        of: usize,
        side: Side,
        len: usize,
        is_kept: bool,
    },
    /// A token at a separator.
    Split {
        of: usize,
        at: Vec<u8>,
    },
    /// A token in slices of a length.
    Slices {
        of: usize,
        side: Side,
        len: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

impl Mapping {
    /// The mapping of subjects under `source` (empty = all) to `dest`; `None` when it is not valid.
    pub(crate) fn new(source: &str, dest: &str) -> Option<Self> {
        let source = if source.is_empty() { ">" } else { source };
        let pattern = subject::pattern(source.as_bytes())?;
        let is_single = |(at, token): (usize, &Token)| matches!(token, Token::One).then_some(at);
        let wildcards: Vec<usize> = pattern.tokens().iter().enumerate().filter_map(is_single).collect();
        let has_rest = matches!(pattern.tokens().last(), Some(Token::Rest));
        let (fixed, ends_in_rest) = match dest.strip_suffix(".>") {
            Some(fixed) => (fixed, true),
            None => (if dest == ">" { "" } else { dest }, dest == ">"),
        };
        if has_rest != ends_in_rest || dest.is_empty() {
            return None;
        }
        let tokens = if fixed.is_empty() { Vec::new() } else { split_tokens(fixed) };
        let parts: Vec<Part> = tokens.iter().map(|token| Part::parse(token)).collect::<Option<_>>()?;
        let of_wildcards = |part: &Part| part.wildcards().iter().all(|n| (1..=wildcards.len()).contains(n));
        if !parts.iter().all(of_wildcards) {
            return None;
        }
        let rest_at = has_rest.then(|| pattern.tokens().len() - 1);
        Some(Mapping { source: pattern, wildcards, parts, rest_at })
    }

    /// A pattern of what it may write.
    pub(crate) fn reach(&self) -> Pattern {
        let mut text = Vec::new();
        let mut is_open = self.rest_at.is_some();
        for part in &self.parts {
            let token: &[u8] = match part {
                Part::Literal(token) => token,
                Part::Wildcard(_) | Part::Partition { .. } => b"*",
                // They may write any number of tokens.
                Part::Cut { .. } | Part::Split { .. } | Part::Slices { .. } => {
                    is_open = true;
                    break;
                }
            };
            text.extend_from_slice(token);
            text.push(b'.');
        }
        if is_open {
            text.push(b'>');
        } else {
            text.pop();
        }
        // Made of valid tokens, it is valid.
        subject::pattern(&text).unwrap_or_else(|| self.source.clone())
    }

    /// What a subject becomes; `None` where the source does not match it.
    pub(crate) fn apply(&self, subject: &[u8]) -> Option<Vec<u8>> {
        if !self.source.matches(subject) {
            return None;
        }
        let tokens: Vec<&[u8]> = tokens(subject).collect();
        let wildcard = |n: &usize| self.wildcards.get(n - 1).and_then(|at| tokens.get(*at)).copied();
        let mut out: Vec<u8> = Vec::with_capacity(subject.len() + 16);
        let mut put = |token: &[u8]| {
            if !out.is_empty() {
                out.push(b'.');
            }
            out.extend_from_slice(token);
        };
        for part in &self.parts {
            part.write(&wildcard, &tokens, &mut put);
        }
        if let Some(at) = self.rest_at {
            tokens.iter().skip(at).for_each(|token| put(token));
        }
        Some(out)
    }
}

/// Tokens at dots, but not at those within a function.
fn split_tokens(text: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    text.split(|c: char| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == '.' && depth == 0
    })
    .collect()
}

impl Part {
    fn parse(token: &str) -> Option<Self> {
        if let Some(n) = token.strip_prefix('$').and_then(|n| n.parse().ok()) {
            return Some(Part::Wildcard(n));
        }
        let Some(call) = token.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}")) else {
            let is_plain = !token.is_empty() && token != "*" && token != ">";
            return is_plain.then(|| Part::Literal(token.as_bytes().to_vec()));
        };
        let (name, args) = call.trim().strip_suffix(')')?.split_once('(')?;
        let args: Vec<&str> = args.split(',').map(str::trim).collect();
        let number = |at: usize| args.get(at).and_then(|text| text.parse::<usize>().ok());
        let cut = |side, is_kept| {
            Some(Part::Cut { of: number(0)?, side, len: number(1)?, is_kept }).filter(|_| args.len() == 2)
        };
        let slices = |side| {
            let len = number(1).filter(|len| *len > 0)?;
            Some(Part::Slices { of: number(0)?, side, len }).filter(|_| args.len() == 2)
        };
        match name.trim().to_ascii_lowercase().as_str() {
            "wildcard" if args.len() == 1 => Some(Part::Wildcard(number(0)?)),
            "partition" => {
                let of = (1..args.len()).map(number).collect::<Option<Vec<usize>>>()?;
                let count = u32::try_from(number(0)?).ok().filter(|count| *count > 0)?;
                Some(Part::Partition { count, of })
            }
            "splitfromleft" => cut(Side::Left, true),
            "splitfromright" => cut(Side::Right, true),
            "left" => cut(Side::Left, false),
            "right" => cut(Side::Right, false),
            "slicefromleft" => slices(Side::Left),
            "slicefromright" => slices(Side::Right),
            "split" if args.len() == 2 => {
                let at = args.get(1).filter(|at| !at.is_empty() && !at.contains('.'))?;
                Some(Part::Split { of: number(0)?, at: at.as_bytes().to_vec() })
            }
            _ => None,
        }
    }

    fn wildcards(&self) -> Vec<usize> {
        match self {
            Part::Literal(_) => Vec::new(),
            Part::Wildcard(of) | Part::Cut { of, .. } | Part::Split { of, .. } | Part::Slices { of, .. } => {
                vec![*of]
            }
            Part::Partition { of, .. } => of.clone(),
        }
    }

    fn write<'a>(
        &self,
        wildcard: &dyn Fn(&usize) -> Option<&'a [u8]>,
        tokens: &[&'a [u8]],
        put: &mut dyn FnMut(&[u8]),
    ) {
        match self {
            Part::Literal(token) => put(token),
            Part::Wildcard(of) => put(wildcard(of).unwrap_or_default()),
            Part::Partition { count, of } => {
                let key: Vec<u8> = if of.is_empty() {
                    tokens.join(&b'.')
                } else {
                    of.iter().flat_map(|n| wildcard(n).unwrap_or_default()).copied().collect()
                };
                put((fnv1a(&key) % count).to_string().as_bytes());
            }
            Part::Cut { of, side, len, is_kept } => {
                let token = wildcard(of).unwrap_or_default();
                let len = (*len).min(token.len());
                let at = if *side == Side::Left { len } else { token.len() - len };
                let (left, right) = token.split_at_checked(at).unwrap_or_default();
                match (is_kept, side) {
                    (true, _) if left.is_empty() || right.is_empty() => put(token),
                    (true, _) => {
                        put(left);
                        put(right);
                    }
                    (false, Side::Left) => put(left),
                    (false, Side::Right) => put(right),
                }
            }
            Part::Split { of, at } => {
                let token = wildcard(of).unwrap_or_default();
                pieces(token, at).into_iter().filter(|piece| !piece.is_empty()).for_each(put);
            }
            Part::Slices { of, side, len } => {
                let token = wildcard(of).unwrap_or_default();
                let first = if *side == Side::Left { 0 } else { token.len() % len };
                let (head, rest) = token.split_at_checked(first).unwrap_or_default();
                if !head.is_empty() {
                    put(head);
                }
                rest.chunks(*len).for_each(put);
            }
        }
    }
}

fn pieces<'a>(token: &'a [u8], at: &[u8]) -> Vec<&'a [u8]> {
    let (mut all, mut rest) = (Vec::new(), token);
    while let Some(found) = rest.windows(at.len()).position(|part| part == at) {
        all.push(rest.get(..found).unwrap_or_default());
        rest = rest.get(found + at.len()..).unwrap_or_default();
    }
    all.push(rest);
    all
}

/// FNV-1a of 32 bits, by which the original spreads subjects over partitions.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_mapped() {
        for (source, dest, subject, expected) in [
            ("foo.*", "bar.$1", "foo.a", Some("bar.a")),
            ("*.*", "{{wildcard(2)}}.x.{{ wildcard(1) }}", "a.b", Some("b.x.a")),
            ("a.>", "b.>", "a.c.d", Some("b.c.d")),
            (">", "r.>", "a.c", Some("r.a.c")),
            ("", "r.>", "a", Some("r.a")),
            ("a.*.>", "x.$1.>", "a.b.c.d", Some("x.b.c.d")),
            ("*", "p.{{partition(1,1)}}", "q", Some("p.0")),
            ("*", "{{splitfromleft(1,3)}}", "12345", Some("123.45")),
            ("*", "{{slicefromright(1,3)}}", "1234567", Some("1.234.567")),
            ("*", "{{split(1,-)}}", "-abc-def--ghi-", Some("abc.def.ghi")),
            ("*", "{{left(1,2)}}.{{right(1,1)}}", "12345", Some("12.5")),
            ("a.*", "b.$1", "c.d", None),
            ("a", "b", "a", Some("b")),
        ] {
            let mapped = Mapping::new(source, dest).unwrap().apply(subject.as_bytes());
            let mapped = mapped.map(|mapped| String::from_utf8(mapped).unwrap());
            assert_eq!(mapped.as_deref(), expected, "{source} {dest} {subject}");
        }
    }

    #[test]
    fn what_is_no_mapping_is_refused() {
        for (source, dest) in [
            ("a.*", "b.$2"),
            ("a.>", "b"),
            ("a", "b.>"),
            ("a.*", "b.*"),
            ("a.*", "b..c"),
            ("a.*", "{{nothing(1)}}"),
            ("a.*", "{{wildcard()}}"),
            ("a..b", "c"),
            ("a", ""),
        ] {
            assert_eq!(Mapping::new(source, dest), None, "{source} {dest}");
        }
    }
}
