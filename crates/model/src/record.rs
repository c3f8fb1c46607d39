//! The canonical view: what a record is when no dialect's bytes are looked at.

use bytes::Bytes;

/// A typed header value. Text dialects carry the other types as text plus a hint that restores them.
#[derive(Clone, Debug, PartialEq)]
pub enum HeaderValue {
    /// No value (a name alone).
    Null,
    /// True or false.
    Bool(bool),
    /// Any signed integer.
    Int(i64),
    /// A floating-point number.
    Float(f64),
    /// UTF-8 text.
    Text(String),
    /// Opaque bytes.
    Binary(Bytes),
    /// A point in time, milliseconds since the Unix epoch.
    Time(i64),
    /// An ordered list.
    List(Vec<HeaderValue>),
    /// An ordered table.
    Table(Vec<Header>),
}

/// One header. Order and repetition are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: HeaderValue,
}

/// One record as every dialect understands it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// Record key.
    pub key: Option<Bytes>,
    /// Absent = a tombstone, where the dialect knows them; an empty body otherwise.
    pub body: Option<Bytes>,
    /// In order, with repetitions.
    pub headers: Vec<Header>,
    /// MIME type of the body.
    pub content_type: Option<String>,
    /// Pairs a reply with its request.
    pub correlation_id: Option<Bytes>,
    /// Address that a reply goes to.
    pub reply_to: Option<String>,
    /// The producer's own id of the record.
    pub message_id: Option<String>,
    /// 0 (lowest) ..= 255.
    pub priority: Option<u8>,
    /// Not deliverable after, milliseconds since the Unix epoch.
    pub expiry_ms: Option<i64>,
    /// Not deliverable before, milliseconds since the Unix epoch.
    pub deliver_at_ms: Option<i64>,
    /// The producer's time, milliseconds since the Unix epoch.
    pub event_time_ms: Option<i64>,
    /// When the log took it, milliseconds since the Unix epoch; 0 before it is appended.
    pub append_time_ms: i64,
    /// What it was published under.
    pub route_key: Option<Bytes>,
    /// How often it was delivered before.
    pub attempts: u32,
}
