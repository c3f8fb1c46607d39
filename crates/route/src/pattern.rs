//! Patterns over dot-separated tokens.

use std::fmt;

use model::{Error, Result};

/// Bytes of a pattern: above every dialect's own limit for addresses in bindings and subscriptions.
pub const PATTERN_LEN_MAX: usize = 4_096;

/// Tokens of a pattern: bounds the depth of the trie.
pub const PATTERN_TOKENS_MAX: usize = 255;

/// The tokens of an address. The empty address has none; otherwise n dots make n + 1 tokens, which may be empty.
pub fn tokens(address: &[u8]) -> impl Iterator<Item = &[u8]> {
    let is_empty = address.is_empty();
    address.split(|byte| *byte == b'.').filter(move |_| !is_empty)
}

/// One token of a pattern.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Token {
    /// This token.
    Exact(Box<[u8]>),
    /// Exactly one token, whatever it is.
    One,
    /// Zero or more tokens, anywhere.
    Many,
    /// One or more tokens, up to the end.
    Rest,
}

/// Which tokens a dialect writes for the three operators. One that it does not have is an ordinary token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Syntax {
    /// Exactly one token.
    pub one: Option<&'static str>,
    /// Zero or more tokens.
    pub many: Option<&'static str>,
    /// One or more tokens at the end.
    pub rest: Option<&'static str>,
}

impl Syntax {
    /// `*` and `#`.
    pub const ONE_MANY: Syntax = Syntax { one: Some("*"), many: Some("#"), rest: None };
    /// `*` and `>`.
    pub const ONE_REST: Syntax = Syntax { one: Some("*"), many: None, rest: Some(">") };
    /// `*`, `#` and `>`: what routes between dialects are written in.
    pub const ALL: Syntax = Syntax { one: Some("*"), many: Some("#"), rest: Some(">") };
    /// No operators: every token stands for itself.
    pub const EXACT: Syntax = Syntax { one: None, many: None, rest: None };

    fn token(&self, text: &[u8]) -> Token {
        let is = |operator: Option<&str>| operator.is_some_and(|operator| operator.as_bytes() == text);
        if is(self.one) {
            Token::One
        } else if is(self.many) {
            Token::Many
        } else if is(self.rest) {
            Token::Rest
        } else {
            Token::Exact(text.into())
        }
    }
}

/// A pattern that addresses match or do not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern {
    tokens: Box<[Token]>,
}

impl Pattern {
    /// The pattern that `text` is in `syntax`. [`model::ErrorKind::Limit`] above [`PATTERN_LEN_MAX`] bytes or
    /// [`PATTERN_TOKENS_MAX`] tokens; [`model::ErrorKind::Invalid`] when the operator for the rest is not last.
    pub fn parse(text: &[u8], syntax: Syntax) -> Result<Self> {
        if text.len() > PATTERN_LEN_MAX {
            return Err(Error::limit(format!("a pattern is longer than {PATTERN_LEN_MAX} bytes")));
        }
        Pattern::new(tokens(text).map(|token| syntax.token(token)))
    }

    /// The pattern of these tokens. Two of [`Token::Many`] in a row are one. Errors as [`Pattern::parse`].
    pub(crate) fn new(tokens: impl IntoIterator<Item = Token>) -> Result<Self> {
        let mut taken: Vec<Token> = Vec::new();
        for token in tokens {
            if taken.last() == Some(&Token::Rest) {
                return Err(Error::invalid(
                    "the operator for the rest of an address has to be the last token",
                ));
            }
            if token == Token::Many && taken.last() == Some(&Token::Many) {
                continue;
            }
            if taken.len() == PATTERN_TOKENS_MAX {
                return Err(Error::limit(format!("a pattern has more than {PATTERN_TOKENS_MAX} tokens")));
            }
            taken.push(token);
        }
        Ok(Pattern { tokens: taken.into() })
    }

    /// Its tokens.
    pub fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    /// The one address that it matches, if it has no operators.
    pub fn exact(&self) -> Option<Vec<u8>> {
        let mut address = Vec::new();
        for (index, token) in self.tokens.iter().enumerate() {
            let Token::Exact(text) = token else { return None };
            if index > 0 {
                address.push(b'.');
            }
            address.extend_from_slice(text);
        }
        Some(address)
    }

    /// The most tokens that a matching address has; `None` = any number.
    pub fn tokens_max(&self) -> Option<usize> {
        let is_open = self.tokens.iter().any(|token| matches!(token, Token::Many | Token::Rest));
        (!is_open).then_some(self.tokens.len())
    }

    /// Whether `address` matches. Takes at most tokens of the pattern × tokens of the address steps; tables of many
    /// patterns use [`crate::Routes`].
    pub fn matches(&self, address: &[u8]) -> bool {
        let address: Vec<&[u8]> = tokens(address).collect();
        let (mut at, mut text) = (0, 0);
        // Where to go on after the last `Many`, should what follows it not match: one token later each time.
        let mut retry: Option<(usize, usize)> = None;
        loop {
            let step = match (self.tokens.get(at), address.get(text)) {
                (None, None) => return true,
                (Some(Token::Rest), Some(_)) => return true,
                (Some(Token::Many), _) => {
                    retry = Some((at + 1, text));
                    at += 1;
                    continue;
                }
                (Some(Token::One), Some(_)) => true,
                (Some(Token::Exact(token)), Some(found)) => **token == **found,
                _ => false,
            };
            if step {
                at += 1;
                text += 1;
            } else if let Some((after, tried)) = retry
                && tried < address.len()
            {
                retry = Some((after, tried + 1));
                (at, text) = (after, tried + 1);
            } else {
                return false;
            }
        }
    }
}

impl fmt::Display for Pattern {
    /// As in [`Syntax::ALL`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, token) in self.tokens.iter().enumerate() {
            if index > 0 {
                f.write_str(".")?;
            }
            match token {
                Token::Exact(text) => f.write_str(&String::from_utf8_lossy(text))?,
                Token::One => f.write_str("*")?,
                Token::Many => f.write_str("#")?,
                Token::Rest => f.write_str(">")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, matching: &[&str], others: &[&str]) {
        let parsed = Pattern::parse(pattern.as_bytes(), Syntax::ALL).unwrap();
        for address in matching {
            assert!(parsed.matches(address.as_bytes()), "{pattern} should match {address:?}");
        }
        for address in others {
            assert!(!parsed.matches(address.as_bytes()), "{pattern} should not match {address:?}");
        }
        assert_eq!(parsed.to_string(), pattern);
    }

    #[test]
    fn operators_match_what_they_say() {
        check("a.b", &["a.b"], &["", "a", "a.b.c", "a.c", "a.b.", ".a.b"]);
        check("a.*", &["a.b", "a."], &["a", "a.b.c", "b.b"]);
        check("a.#", &["a", "a.b", "a.b.c"], &["", "b", "b.a"]);
        check("a.>", &["a.b", "a.b.c"], &["a", "b.a"]);
        check("#", &["", "a", "a.b"], &[]);
        check(">", &["a", "a.b"], &[""]);
        check("#.b", &["b", "a.b", "a.a.b", "b.b"], &["", "b.a"]);
        check("a.#.b", &["a.b", "a.x.b", "a.b.b.b"], &["a", "b", "a.b.c"]);
        check("*.#", &["a", "a.b"], &[""]);
        check("#.*.#.c", &["a.c", "c.c", "a.b.c"], &["c", "a"]);
        check("#.>", &["a", "a.b"], &[""]);
        check("", &[""], &["a", "."]);
    }

    #[test]
    fn an_operator_that_a_dialect_lacks_is_an_ordinary_token() {
        let rest = Pattern::parse(b"a.>", Syntax::ONE_MANY).unwrap();
        assert!(rest.matches(b"a.>") && !rest.matches(b"a.b"));
        assert_eq!(rest.exact(), Some(b"a.>".to_vec()));
        let many = Pattern::parse(b"a.#", Syntax::ONE_REST).unwrap();
        assert!(!many.matches(b"a"));
        assert_eq!(Pattern::parse(b"*.#.>", Syntax::EXACT).unwrap().exact(), Some(b"*.#.>".to_vec()));
    }

    #[test]
    fn the_rest_is_last_or_the_pattern_is_refused() {
        assert!(Pattern::parse(b"a.>.b", Syntax::ALL).is_err());
        assert!(Pattern::parse(b"a.b>", Syntax::ALL).is_ok());
    }

    #[test]
    fn many_in_a_row_are_one() {
        let pattern = Pattern::parse(b"a.#.#.#.b.#.#", Syntax::ALL).unwrap();
        assert_eq!(pattern.to_string(), "a.#.b.#");
    }

    #[test]
    fn patterns_are_limited() {
        for (count, is_taken) in
            [(PATTERN_TOKENS_MAX - 1, true), (PATTERN_TOKENS_MAX, true), (PATTERN_TOKENS_MAX + 1, false)]
        {
            let text = vec!["x"; count].join(".");
            assert_eq!(Pattern::parse(text.as_bytes(), Syntax::ALL).is_ok(), is_taken, "{count} tokens");
        }
        for (len, is_taken) in
            [(PATTERN_LEN_MAX - 1, true), (PATTERN_LEN_MAX, true), (PATTERN_LEN_MAX + 1, false)]
        {
            assert_eq!(Pattern::parse(&vec![b'x'; len], Syntax::ALL).is_ok(), is_taken, "{len} bytes");
        }
    }

    #[test]
    fn a_hostile_pattern_costs_no_more_than_its_product() {
        let pattern = Pattern::parse(vec!["#.a"; 120].join(".").as_bytes(), Syntax::ALL).unwrap();
        let address = vec!["a"; 2_000].join(".") + ".b";
        assert!(!pattern.matches(address.as_bytes()));
    }

    #[test]
    fn patterns_know_how_many_tokens_they_match() {
        let max = |text: &[u8]| Pattern::parse(text, Syntax::ALL).unwrap().tokens_max();
        assert_eq!((max(b"a.*.b"), max(b"a.>"), max(b"#")), (Some(3), None, None));
    }
}
