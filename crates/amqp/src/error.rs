//! What goes wrong, in the original's codes and words. Clients match the texts.

use model::ErrorKind;

/// Bytes of a reply text, which has its length in one octet.
const TEXT_LEN: usize = 255;
const ELLIPSIS: &str = "...";

/// What an error ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Channel,
    Connection,
}

/// Codes that are sent. Whether one ends the channel or the connection is the code's own property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    ConnectionForced,
    AccessRefused,
    NotFound,
    ResourceLocked,
    PreconditionFailed,
    FrameError,
    SyntaxError,
    CommandInvalid,
    ChannelError,
    UnexpectedFrame,
    ResourceError,
    NotAllowed,
    NotImplemented,
    InternalError,
}

impl Code {
    const fn facts(self) -> (u16, &'static str, Scope) {
        use Scope::{Channel, Connection};
        match self {
            Code::ConnectionForced => (320, "CONNECTION_FORCED", Connection),
            Code::AccessRefused => (403, "ACCESS_REFUSED", Channel),
            Code::NotFound => (404, "NOT_FOUND", Channel),
            Code::ResourceLocked => (405, "RESOURCE_LOCKED", Channel),
            Code::PreconditionFailed => (406, "PRECONDITION_FAILED", Channel),
            Code::FrameError => (501, "FRAME_ERROR", Connection),
            Code::SyntaxError => (502, "SYNTAX_ERROR", Connection),
            Code::CommandInvalid => (503, "COMMAND_INVALID", Connection),
            Code::ChannelError => (504, "CHANNEL_ERROR", Connection),
            Code::UnexpectedFrame => (505, "UNEXPECTED_FRAME", Connection),
            Code::ResourceError => (506, "RESOURCE_ERROR", Connection),
            Code::NotAllowed => (530, "NOT_ALLOWED", Connection),
            Code::NotImplemented => (540, "NOT_IMPLEMENTED", Connection),
            Code::InternalError => (541, "INTERNAL_ERROR", Connection),
        }
    }

    /// Its number on the wire.
    pub(crate) fn number(self) -> u16 {
        self.facts().0
    }

    /// What it ends.
    pub(crate) fn scope(self) -> Scope {
        self.facts().2
    }
}

/// An error on its way to the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.text())]
pub(crate) struct Exception {
    pub code: Code,
    /// What follows the code's name.
    pub explanation: String,
    /// It ends the connection, although its code usually ends the channel.
    ends_connection: bool,
}

pub(crate) type Result<T> = std::result::Result<T, Exception>;

impl Exception {
    pub(crate) fn new(code: Code, explanation: impl Into<String>) -> Self {
        Exception { code, explanation: explanation.into(), ends_connection: false }
    }

    /// The same error, for the whole connection.
    pub(crate) fn of_connection(self) -> Self {
        Exception { ends_connection: true, ..self }
    }

    /// What it ends.
    pub(crate) fn scope(&self) -> Scope {
        if self.ends_connection { Scope::Connection } else { self.code.scope() }
    }

    /// The reply text: at most 255 bytes, and with an ellipsis where it was longer.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{} - {}", self.code.facts().1, self.explanation);
        if text.len() > TEXT_LEN {
            text.truncate(text.floor_char_boundary(TEXT_LEN - ELLIPSIS.len()));
            text.push_str(ELLIPSIS);
        }
        text
    }

    pub(crate) fn not_found(explanation: impl Into<String>) -> Self {
        Exception::new(Code::NotFound, explanation)
    }

    pub(crate) fn refused(explanation: impl Into<String>) -> Self {
        Exception::new(Code::AccessRefused, explanation)
    }

    pub(crate) fn precondition(explanation: impl Into<String>) -> Self {
        Exception::new(Code::PreconditionFailed, explanation)
    }

    pub(crate) fn not_allowed(explanation: impl Into<String>) -> Self {
        Exception::new(Code::NotAllowed, explanation)
    }

    pub(crate) fn not_implemented(explanation: impl Into<String>) -> Self {
        Exception::new(Code::NotImplemented, explanation)
    }
}

/// What the broker refuses for reasons of its own. What has a text of the original is found out before.
impl From<model::Error> for Exception {
    fn from(error: model::Error) -> Self {
        let code = match error.kind() {
            ErrorKind::NotFound | ErrorKind::Closed => Code::NotFound,
            ErrorKind::Exists
            | ErrorKind::Invalid
            | ErrorKind::Limit
            | ErrorKind::Conflict
            | ErrorKind::TooLate
            | ErrorKind::Fenced => Code::PreconditionFailed,
            ErrorKind::Unauthenticated | ErrorKind::Denied => Code::AccessRefused,
            ErrorKind::Throttled => Code::ResourceError,
            ErrorKind::Unavailable | ErrorKind::Indeterminate | ErrorKind::Corrupt | ErrorKind::Internal => {
                Code::InternalError
            }
        };
        Exception::new(code, error.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_the_codes_name_and_the_explanation_within_255_bytes() {
        let missing = Exception::not_found("no queue 'q' in vhost '/'");
        assert_eq!(missing.text(), "NOT_FOUND - no queue 'q' in vhost '/'");
        assert_eq!((missing.code.number(), missing.scope()), (404, Scope::Channel));
        let long = Exception::not_allowed("é".repeat(300)).text();
        assert_eq!((long.len(), long.ends_with("é...")), (255, true));
        assert_eq!(Exception::not_allowed("x".repeat(241)).text().len(), 255);
        assert!(Exception::not_allowed("x".repeat(241)).text().ends_with('x'));
        assert!(Exception::not_allowed("x".repeat(242)).text().ends_with("x..."));
        assert_eq!(missing.of_connection().scope(), Scope::Connection);
    }

    #[test]
    fn what_people_expect_on_a_channel_ends_the_connection_all_the_same() {
        for code in [Code::ChannelError, Code::NotAllowed, Code::NotImplemented] {
            assert_eq!(code.scope(), Scope::Connection, "{code:?}");
        }
    }
}
