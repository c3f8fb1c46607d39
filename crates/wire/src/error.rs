/// Why bytes could not be read. Always the sender's fault; a caller answers with its dialect's "malformed" or closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes end before the value does.
    #[error("{wanted} bytes wanted, {left} left")]
    Short {
        /// Bytes that the value needs.
        wanted: usize,
        /// Bytes that are there.
        left: usize,
    },
    /// Bytes are left where none may be.
    #[error("{0} bytes too many")]
    Surplus(usize),
    /// A variable-length integer is longer than its type allows.
    #[error("variable-length integer too long")]
    Varint,
    /// A length or count is negative.
    #[error("negative length")]
    Negative,
    /// Text is not UTF-8.
    #[error("text is not UTF-8")]
    Utf8,
    /// More list items than one message may hold.
    #[error("too many list items")]
    TooMany,
    /// A value breaks a rule of the format; the text names the rule.
    #[error("{0}")]
    Invalid(&'static str),
}

/// What reading returns.
pub type Result<T> = std::result::Result<T, Error>;
