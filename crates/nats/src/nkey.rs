//! Users known by a key: `U` and Base32 of a prefix byte, an Ed25519 public key and a CRC16. The client signs the text of
//! the nonce in INFO.

use base64::{
    Engine,
    prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD},
};
use ring::signature::{ED25519, UnparsedPublicKey};

/// Prefix byte of a user's public key: 20, in the five upper bits.
const USER_PREFIX: u8 = 20 << 3;

/// Prefix, key, checksum.
const RAW_LEN: usize = 1 + 32 + 2;

/// Random bytes of a nonce.
const NONCE_LEN: usize = 11;

/// The nonce of connection `id`: of no other, and known to nobody who lacks `key`.
pub(crate) fn nonce(key: &[u8; 32], id: u64) -> String {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key);
    let tag = ring::hmac::sign(&key, &id.to_le_bytes());
    BASE64_URL_SAFE_NO_PAD.encode(tag.as_ref().get(..NONCE_LEN).unwrap_or_default())
}

/// Whether `signature`, in Base64, is that of `nonce` by the owner of the user key `public`.
pub(crate) fn is_signed(public: &str, nonce: &str, signature: &str) -> bool {
    let decoded =
        BASE64_URL_SAFE_NO_PAD.decode(signature).or_else(|_| BASE64_STANDARD_NO_PAD.decode(signature));
    let (Some(key), Ok(signature)) = (key(public), decoded) else { return false };
    UnparsedPublicKey::new(&ED25519, key).verify(nonce.as_bytes(), &signature).is_ok()
}

/// The key in the text form of a user's public key; `None` when it is none.
fn key(public: &str) -> Option<[u8; 32]> {
    let raw = base32(public.as_bytes())?;
    let (body, sum) = raw.split_at_checked(RAW_LEN - 2)?;
    let sum = u16::from_le_bytes(sum.try_into().ok()?);
    let (prefix, key) = body.split_first()?;
    (*prefix == USER_PREFIX && crc16(body) == sum).then(|| key.try_into().ok())?
}

/// RFC 4648 Base32 of 56 characters, without padding, which is what 35 bytes take.
fn base32(text: &[u8]) -> Option<[u8; RAW_LEN]> {
    if text.len() != RAW_LEN * 8 / 5 {
        return None;
    }
    let mut raw = [0; RAW_LEN];
    for (chunk, out) in text.chunks(8).zip(raw.chunks_mut(5)) {
        let mut bits = 0u64;
        for letter in chunk {
            let value = match letter {
                b'A'..=b'Z' => letter - b'A',
                b'2'..=b'7' => letter - b'2' + 26,
                _ => return None,
            };
            bits = bits << 5 | u64::from(value);
        }
        out.copy_from_slice(bits.to_be_bytes().get(3..)?);
    }
    Some(raw)
}

/// CRC-16/XMODEM: polynomial 0x1021, from zero.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(
            crc ^ u16::from(*byte) << 8,
            |crc: u16, _| {
                if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 }
            },
        )
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use ring::signature::{Ed25519KeyPair, KeyPair};

    use super::*;

    /// A pair, and the text form of its public half.
    pub(crate) fn pair(seed: u8) -> (Ed25519KeyPair, String) {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let mut raw = vec![USER_PREFIX];
        raw.extend_from_slice(pair.public_key().as_ref());
        raw.extend(crc16(&raw).to_le_bytes());
        let text = raw.chunks(5).flat_map(|chunk| {
            let bits = chunk.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
            (0..8).rev().map(move |at| {
                char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[(bits >> (at * 5) & 31) as usize])
            })
        });
        (pair, text.collect())
    }

    pub(crate) fn sign(pair: &Ed25519KeyPair, nonce: &str) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(pair.sign(nonce.as_bytes()))
    }

    #[test]
    fn the_owner_of_a_key_signs_the_nonce_and_nobody_else() {
        let ((pair, public), (other, _)) = (pair(1), pair(2));
        assert!(public.starts_with('U') && public.len() == 56, "{public}");
        assert!(is_signed(&public, "abc", &sign(&pair, "abc")));
        assert!(!is_signed(&public, "abd", &sign(&pair, "abc")));
        assert!(!is_signed(&public, "abc", &sign(&other, "abc")));
        assert!(!is_signed(&public, "abc", "not a signature"));
    }

    #[test]
    fn a_key_with_a_wrong_letter_is_none() {
        let (_, public) = pair(3);
        assert!(key(&public).is_some());
        for at in 0..public.len() {
            let mut wrong = public.clone().into_bytes();
            wrong[at] = if wrong[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(key(std::str::from_utf8(&wrong).unwrap()), None, "{at}");
            assert_eq!(key(&public[..at]), None, "{at}");
        }
    }

    #[test]
    fn nonces_are_15_letters_and_differ() {
        let [one, two] = [1, 2].map(|id| nonce(&[7; 32], id));
        assert_eq!((one.len(), two.len()), (15, 15));
        assert_ne!(one, two);
    }
}
