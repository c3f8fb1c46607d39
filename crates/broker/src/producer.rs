//! What a partition remembers of its producers.

/// One producer that a partition remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerView {
    /// The producer.
    pub id: i64,
    /// Its incarnation.
    pub epoch: i16,
    /// Sequence number of its last record.
    pub last_sequence: i32,
    /// When its last batch was appended, milliseconds since the Unix epoch.
    pub last_time_ms: i64,
}
