//! Passwords in the forms that mechanisms check them by, and a short memory of those that were right.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use env::Random;
use hmac::{Hmac, KeyInit, Mac};
use model::{Error, Result};
use parking_lot::Mutex;
use sha2::{Digest, Sha256, Sha512};

use super::{ScramHash, ScramVerifier};

/// Rounds of a challenge's derivation: what RFC 7677 §4 asks at least, and every client accepts.
pub(crate) const SCRAM_ITERATIONS: u32 = 4_096;

/// Rounds for passwords that are sent in the clear: each check costs a few milliseconds.
pub(crate) const PASSWORD_ITERATIONS: u32 = 16_384;

const SALT_LEN: usize = 16;

/// Remembered right passwords; beyond, all are forgotten and checked anew.
const CACHE_MAX: usize = 1_024;

/// Derives a SCRAM verifier (RFC 5802 §3) with a fresh salt. The password is taken as it is: SASLprep leaves ASCII alone,
/// and clients that normalise other texts send them normalised.
pub(crate) fn derive(
    random: &dyn Random,
    hash: ScramHash,
    password: &str,
    iterations: u32,
) -> Result<ScramVerifier> {
    let mut salt = [0; SALT_LEN];
    random.fill(&mut salt);
    derive_with(hash, password, Bytes::copy_from_slice(&salt), iterations)
}

fn derive_with(hash: ScramHash, password: &str, salt: Bytes, iterations: u32) -> Result<ScramVerifier> {
    let (stored_key, server_key) = match hash {
        ScramHash::Sha256 => {
            let mut salted = [0; 32];
            pbkdf2::pbkdf2_hmac::<Sha256>(password.as_bytes(), &salt, iterations, &mut salted);
            let key =
                |text: &[u8]| Ok::<_, Error>(mac::<Hmac<Sha256>>(&salted)?.chain_update(text).finalize());
            let client = key(b"Client Key")?.into_bytes();
            let server = key(b"Server Key")?.into_bytes();
            (Bytes::copy_from_slice(&Sha256::digest(client)), Bytes::copy_from_slice(&server))
        }
        ScramHash::Sha512 => {
            let mut salted = [0; 64];
            pbkdf2::pbkdf2_hmac::<Sha512>(password.as_bytes(), &salt, iterations, &mut salted);
            let key =
                |text: &[u8]| Ok::<_, Error>(mac::<Hmac<Sha512>>(&salted)?.chain_update(text).finalize());
            let client = key(b"Client Key")?.into_bytes();
            let server = key(b"Server Key")?.into_bytes();
            (Bytes::copy_from_slice(&Sha512::digest(client)), Bytes::copy_from_slice(&server))
        }
    };
    Ok(ScramVerifier { salt, iterations, stored_key, server_key })
}

fn mac<M: KeyInit>(key: &[u8]) -> Result<M> {
    M::new_from_slice(key).map_err(|_| Error::internal("a key has a length that no code refuses"))
}

/// Whether `password` is the one behind `verifier`. Takes [`PASSWORD_ITERATIONS`] rounds.
pub(crate) fn is_right(verifier: &ScramVerifier, password: &str) -> Result<bool> {
    let derived = derive_with(ScramHash::Sha256, password, verifier.salt.clone(), verifier.iterations)?;
    Ok(same(&derived.stored_key, &verifier.stored_key))
}

/// Compares in a time that depends on the lengths alone.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

/// Passwords that were right lately, each as a keyed hash beside the verifier it was right for, so that a client that
/// opens many connections pays for one derivation. In memory only.
#[derive(Default)]
pub(crate) struct PasswordCache {
    key: OnceLock<[u8; 32]>,
    right: Mutex<HashMap<Arc<str>, (Bytes, Bytes)>>,
}

impl PasswordCache {
    fn hash(&self, random: &dyn Random, password: &str) -> Result<Bytes> {
        let key = self.key.get_or_init(|| {
            let mut key = [0; 32];
            random.fill(&mut key);
            key
        });
        let mac = mac::<Hmac<Sha256>>(key)?.chain_update(password.as_bytes()).finalize();
        Ok(Bytes::copy_from_slice(&mac.into_bytes()))
    }

    /// Whether this password was right for `name` while its verifier was this one.
    pub(crate) fn knows(
        &self,
        random: &dyn Random,
        name: &str,
        password: &str,
        verifier: &ScramVerifier,
    ) -> Result<bool> {
        let hash = self.hash(random, password)?;
        let right = self.right.lock();
        Ok(right
            .get(name)
            .is_some_and(|(stored, known)| *stored == verifier.stored_key && same(known, &hash)))
    }

    /// Remembers a right password.
    pub(crate) fn note(
        &self,
        random: &dyn Random,
        name: &str,
        password: &str,
        verifier: &ScramVerifier,
    ) -> Result<()> {
        let hash = self.hash(random, password)?;
        let mut right = self.right.lock();
        if right.len() >= CACHE_MAX {
            right.clear();
        }
        right.insert(name.into(), (verifier.stored_key.clone(), hash));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine, prelude::BASE64_STANDARD};

    use super::*;

    #[test]
    fn a_verifier_is_what_rfc_7677_derives_in_its_example() {
        let salt = BASE64_STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let verifier = derive_with(ScramHash::Sha256, "pencil", salt.into(), 4096).unwrap();
        assert_eq!(
            BASE64_STANDARD.encode(&verifier.stored_key),
            "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
        );
        assert_eq!(
            BASE64_STANDARD.encode(&verifier.server_key),
            "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
        );
        assert!(is_right(&verifier, "pencil").unwrap());
        assert!(!is_right(&verifier, "pencil ").unwrap());
    }

    #[test]
    fn the_long_hash_has_keys_of_its_own_length() {
        let verifier = derive_with(ScramHash::Sha512, "pencil", Bytes::from_static(b"salt"), 4096).unwrap();
        assert_eq!((verifier.stored_key.len(), verifier.server_key.len()), (64, 64));
    }
}
