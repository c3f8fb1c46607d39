//! One error for the spine. Its kind is prescriptive: it says what the caller has to do.

use std::{borrow::Cow, fmt};

/// The spine's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller must do about an error. Slices map these to their wire codes in one exhaustive match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The named thing is not there: create it or ask for another.
    NotFound,
    /// The named thing is there already, perhaps with other settings.
    Exists,
    /// The request can never succeed as it stands: change it.
    Invalid,
    /// A configured or built-in limit was passed: send less, or raise the limit.
    Limit,
    /// No or wrong credentials: authenticate.
    Unauthenticated,
    /// The principal may not do this.
    Denied,
    /// A condition of the request does not hold now (an expected offset, a sequence): look again.
    Conflict,
    /// A newer owner, producer or member took over: stop.
    Fenced,
    /// Too much at once: slow down and try again.
    Throttled,
    /// Not possible right now (starting, stopping, disk full): try again later.
    Unavailable,
    /// It may or may not have happened: only an idempotent retry is safe.
    Indeterminate,
    /// The lease or deadline this request rests on has passed.
    TooLate,
    /// The stream, cursor or session was closed or deleted underneath.
    Closed,
    /// Stored bytes fail their checks: nothing will repair them by retrying.
    Corrupt,
    /// A bug in this program.
    Internal,
}

/// An error of the spine: a kind for programs, a short text for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    text: Cow<'static, str>,
}

impl Error {
    /// An error of `kind`; `text` is one short clause without a full stop.
    pub fn new(kind: ErrorKind, text: impl Into<Cow<'static, str>>) -> Self {
        Error { kind, text: text.into() }
    }

    /// What the caller must do.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The clause for people.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Error {}

macro_rules! shorthand {
    ($($(#[$doc:meta])* $name:ident => $kind:ident),* $(,)?) => {
        impl Error {
            $($(#[$doc])* pub fn $name(text: impl Into<Cow<'static, str>>) -> Self { Error::new(ErrorKind::$kind, text) })*
        }
    };
}

shorthand! {
    /// [`ErrorKind::NotFound`].
    not_found => NotFound,
    /// [`ErrorKind::Exists`].
    exists => Exists,
    /// [`ErrorKind::Invalid`].
    invalid => Invalid,
    /// [`ErrorKind::Limit`].
    limit => Limit,
    /// [`ErrorKind::Denied`].
    denied => Denied,
    /// [`ErrorKind::Conflict`].
    conflict => Conflict,
    /// [`ErrorKind::Fenced`].
    fenced => Fenced,
    /// [`ErrorKind::Unavailable`].
    unavailable => Unavailable,
    /// [`ErrorKind::Indeterminate`].
    indeterminate => Indeterminate,
    /// [`ErrorKind::Closed`].
    closed => Closed,
    /// [`ErrorKind::Corrupt`].
    corrupt => Corrupt,
    /// [`ErrorKind::Internal`].
    internal => Internal,
}
