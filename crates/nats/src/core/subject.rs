//! Rules for subjects.

use broker::routing::{Pattern, Syntax, Token, tokens};

/// Whether every token is there: what a publish in pedantic mode, and every subscription, must keep to.
fn has_tokens(subject: &[u8]) -> bool {
    !subject.is_empty() && tokens(subject).all(|token| !token.is_empty())
}

/// Whether `subject` may be published to as it stands: its tokens are there and none is a wildcard.
pub(crate) fn is_literal(subject: &[u8]) -> bool {
    has_tokens(subject) && tokens(subject).all(|token| token != b"*" && token != b">")
}

/// The subject of a subscription's pattern.
pub(crate) fn text(pattern: &Pattern) -> Vec<u8> {
    let token = |token: &Token| match token {
        Token::Exact(text) => text.to_vec(),
        Token::One => b"*".to_vec(),
        Token::Many | Token::Rest => b">".to_vec(),
    };
    pattern.tokens().iter().map(token).collect::<Vec<_>>().join(&b'.')
}

/// The pattern of a subscription; `None` when the subject is not valid.
pub(crate) fn pattern(subject: &[u8]) -> Option<Pattern> {
    if !has_tokens(subject) {
        return None;
    }
    Pattern::parse(subject, Syntax::ONE_REST).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_are_whole_tokens_and_the_rest_comes_last() {
        for (subject, is_valid) in [
            ("a", true),
            ("a.b", true),
            ("a.*", true),
            ("*.*", true),
            ("a.>", true),
            (">", true),
            ("foo*", true),
            ("a.>b", true),
            ("", false),
            (".a", false),
            ("a.", false),
            ("a..b", false),
            ("a.>.b", false),
        ] {
            let parsed = pattern(subject.as_bytes());
            assert_eq!(parsed.is_some(), is_valid, "{subject:?}");
            assert!(parsed.is_none_or(|parsed| text(&parsed) == subject.as_bytes()), "{subject:?}");
        }
    }

    #[test]
    fn only_literal_subjects_are_published_to_in_pedantic_mode() {
        for (subject, is_literal) in
            [("a.b", true), ("foo*", true), ("a.*", false), ("a.>", false), ("a..b", false), ("", false)]
        {
            assert_eq!(super::is_literal(subject.as_bytes()), is_literal, "{subject:?}");
        }
    }
}
