//! Signing keys: derived from a secret for one day, region and service, and remembered, since deriving one costs four
//! hashes of the five that a request takes.

use std::collections::HashMap;

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use sha2::Sha256;

use crate::AwsError;

/// Remembered keys; beyond, all are forgotten and derived anew.
const KEYS_MAX: usize = 1_024;

/// What a key was derived for: a sealed secret, which changes when the secret does, and the scope.
type Scope = (Bytes, String);

/// The remembered keys.
#[derive(Default)]
pub(crate) struct SigningKeys {
    known: Mutex<HashMap<Scope, [u8; 32]>>,
}

impl SigningKeys {
    /// The key of `sealed` for `scope`, with `secret` called when it is not known yet.
    pub(super) fn key(
        &self,
        sealed: &Bytes,
        scope: [&str; 3],
        secret: impl FnOnce() -> Result<String, AwsError>,
    ) -> Result<[u8; 32], AwsError> {
        let place = (sealed.clone(), scope.join("/"));
        if let Some(key) = self.known.lock().get(&place) {
            return Ok(*key);
        }
        let key = derive(&secret()?, scope)?;
        let mut known = self.known.lock();
        if known.len() >= KEYS_MAX {
            known.clear();
        }
        known.insert(place, key);
        Ok(key)
    }
}

/// The key of a secret for a day, a region and a service.
pub(super) fn derive(secret: &str, scope: [&str; 3]) -> Result<[u8; 32], AwsError> {
    let [day, region, service] = scope;
    let mut key = signed(format!("AWS4{secret}").as_bytes(), day.as_bytes())?;
    for part in [region, service, "aws4_request"] {
        key = signed(&key, part.as_bytes())?;
    }
    Ok(key)
}

/// HMAC-SHA256.
pub(super) fn signed(key: &[u8], text: &[u8]) -> Result<[u8; 32], AwsError> {
    Ok(mac(key)?.chain_update(text).finalize().into_bytes().into())
}

/// HMAC-SHA256 under way.
pub(super) fn mac(key: &[u8]) -> Result<Hmac<Sha256>, AwsError> {
    Hmac::new_from_slice(key)
        .map_err(|_| AwsError::internal_failure("a key has a length that no code refuses"))
}
