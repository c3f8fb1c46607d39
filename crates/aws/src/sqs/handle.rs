//! Receipt handles: which delivery of which record, sealed so that only this data directory's own are taken.
//!
//! ```text
//! handle = Base64( version:1  log:8  offset:8  attempt:4  seal:15 )
//! ```
//! Nothing is kept for a handle. Whether it is stale is asked of the lease.

use base64::{Engine, engine::general_purpose::URL_SAFE};
use hmac::{Hmac, KeyInit, Mac};
use model::{LogId, Offset};
use sha2::Sha256;

const VERSION: u8 = 1;
const PAYLOAD_LEN: usize = 21;
const SEAL_LEN: usize = 15;

/// Longest handle that is looked at, bytes: ours are 48.
const TEXT_LEN_MAX: usize = 1024;

/// What a receipt handle says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handle {
    /// The log that the record is in.
    pub log: LogId,
    /// Its offset.
    pub offset: Offset,
    /// Which delivery.
    pub attempt: u32,
}

/// Seals handles and opens them.
#[derive(Clone)]
pub(crate) struct Sealer {
    mac: Hmac<Sha256>,
}

impl Sealer {
    /// With the secret of a data directory.
    pub(crate) fn new(secret: u128) -> Self {
        // Any length of key will do for this function.
        let mut key = [0; 64];
        key[..16].copy_from_slice(&secret.to_be_bytes());
        key[16..31].copy_from_slice(b"receipt handles");
        Sealer { mac: Hmac::new(&key.into()) }
    }

    /// The text of a handle.
    pub(crate) fn seal(&self, handle: Handle) -> String {
        let mut bytes = [0; PAYLOAD_LEN + SEAL_LEN];
        bytes[0] = VERSION;
        bytes[1..9].copy_from_slice(&handle.log.0.to_be_bytes());
        bytes[9..17].copy_from_slice(&handle.offset.0.to_be_bytes());
        bytes[17..21].copy_from_slice(&handle.attempt.to_be_bytes());
        let (payload, seal) = bytes.split_at_mut(PAYLOAD_LEN);
        let mac = self.mac.clone().chain_update(payload).finalize().into_bytes();
        seal.copy_from_slice(&mac[..SEAL_LEN]);
        URL_SAFE.encode(bytes)
    }

    /// The handle of a text; `None` when it is not one of ours.
    pub(crate) fn open(&self, text: &str) -> Option<Handle> {
        if text.len() > TEXT_LEN_MAX {
            return None;
        }
        let bytes = URL_SAFE.decode(text).ok()?;
        let (payload, seal) = bytes.split_at_checked(PAYLOAD_LEN)?;
        if seal.len() != SEAL_LEN {
            return None;
        }
        self.mac.clone().chain_update(payload).verify_truncated_left(seal).ok()?;
        let mut reader = wire::Reader::new(payload);
        if reader.u8().ok()? != VERSION {
            return None;
        }
        let (log, offset) = (LogId(reader.u64().ok()?), Offset(reader.u64().ok()?));
        Some(Handle { log, offset, attempt: reader.u32().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_opens_where_it_was_sealed_and_nowhere_else() {
        let sealer = Sealer::new(7);
        let handle = Handle { log: LogId(u64::MAX), offset: Offset(1), attempt: 3 };
        let text = sealer.seal(handle);
        assert_eq!(text.len(), 48);
        assert_eq!(sealer.open(&text), Some(handle));
        assert_eq!(Sealer::new(8).open(&text), None);
    }

    #[test]
    fn a_handle_that_was_changed_in_one_place_does_not_open() {
        let sealer = Sealer::new(7);
        let text = sealer.seal(Handle { log: LogId(1), offset: Offset(1), attempt: 1 });
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(sealer.open(&String::from_utf8(changed).unwrap()), None, "{at}");
        }
        for garbage in ["", "x", "unknown-stuff", &text[1..], &format!("{text}AAAA"), &"A".repeat(100_000)] {
            assert_eq!(sealer.open(garbage), None);
        }
    }

    #[test]
    fn every_delivery_has_a_handle_of_its_own() {
        let sealer = Sealer::new(7);
        let of = |attempt| sealer.seal(Handle { log: LogId(1), offset: Offset(1), attempt });
        assert_ne!(of(1), of(2));
    }
}
