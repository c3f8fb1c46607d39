//! Ids that derive from where a record was stored first: nothing of them is kept, and a message that was moved keeps its own.

use model::{LogId, Offset, Origin};
use sha2::{Digest, Sha256};

use wire::uuid;

/// The first of all sequence numbers: they have twenty digits, and rise within a queue.
const SEQUENCE_BASE: u64 = 10_000_000_000_000_000_000;

/// The `MessageId` of the record that was appended at `offset` of `log` at that time.
pub(crate) fn message_id(seed: u128, log: LogId, offset: Offset, append_time_ms: i64) -> String {
    let mut hash = Sha256::new();
    hash.update(seed.to_be_bytes());
    hash.update(log.0.to_be_bytes());
    hash.update(offset.0.to_be_bytes());
    hash.update(append_time_ms.to_be_bytes());
    let mut half = [0; 16];
    half.copy_from_slice(hash.finalize().first_chunk::<16>().unwrap_or(&[0; 16]));
    uuid::text(u128::from_be_bytes(half))
}

/// The `MessageId` of a record that was moved.
pub(crate) fn moved_message_id(seed: u128, origin: &Origin) -> String {
    message_id(seed, origin.log, origin.offset, origin.append_time_ms)
}

/// The `SequenceNumber` of the record at `offset`.
pub(crate) fn sequence_number(offset: Offset) -> String {
    SEQUENCE_BASE.saturating_add(offset.0).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_the_first_append() {
        let id = message_id(7, LogId(1), Offset(2), 3);
        assert_eq!(
            id,
            moved_message_id(
                7,
                &Origin {
                    log: LogId(1),
                    offset: Offset(2),
                    append_time_ms: 3,
                    attempts: 9,
                    source: LogId(4)
                }
            )
        );
        assert_eq!((id.len(), &id[14..15], id.matches('-').count()), (36, "4", 4));
        for other in [
            message_id(8, LogId(1), Offset(2), 3),
            message_id(7, LogId(2), Offset(2), 3),
            message_id(7, LogId(1), Offset(3), 3),
            message_id(7, LogId(1), Offset(2), 4),
        ] {
            assert_ne!(id, other);
        }
    }

    #[test]
    fn sequence_numbers_have_twenty_digits_and_rise() {
        let all: Vec<String> =
            [0, 1, 9, 10, model::limits::OFFSET_MAX - 1].map(|at| sequence_number(Offset(at))).into();
        assert!(all.iter().all(|number| number.len() == 20));
        assert!(all.is_sorted_by(|a, b| a < b));
    }
}
