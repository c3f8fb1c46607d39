//! Access keys: pairs of an id and a secret with which a client signs its requests.
//!
//! Whoever checks a signature needs the secret itself, so it is stored, sealed with the data directory's own key: it does
//! not lie open in files and backups of parts of them. Who has the whole directory has the secrets.
//!
//! ```text
//!   nonce [16] | tag [16] | secret ⊕ HMAC(key, 0 ‖ nonce ‖ block)
//!   tag = HMAC(key, 1 ‖ nonce ‖ id length ‖ id ‖ sealed secret), its first half
//! ```

use std::collections::BTreeSet;

use bytes::Bytes;
use env::Random;
use hmac::{Hmac, KeyInit, Mac};
use model::{Error, ErrorKind, Result, limits};
use sha2::Sha256;

use super::{Principal, Users};
use crate::{
    broker::Broker,
    catalog::{CatalogState, Command, command::Section},
    codec::{Reader, put_bytes},
};

const NONCE_LEN: usize = 16;
const TAG_LEN: usize = 16;
const BLOCK_LEN: usize = 32;

/// Bytes of an id and of a secret at most.
const TEXT_LEN_MAX: usize = 255;

/// Access keys that one user may have.
const KEYS_MAX: usize = 16;

/// An access key, as its id names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessKey {
    /// Whom it acts for.
    pub principal: Principal,
    /// Its sealed secret, see [`Users::secret_of`]; changes whenever the secret does.
    pub sealed: Bytes,
    id: Bytes,
}

impl AccessKey {
    /// A key as the broker would answer it, for the tests of those who check signatures.
    pub fn new(principal: Principal, sealed: Bytes, id: &str) -> Self {
        AccessKey { principal, sealed, id: Bytes::copy_from_slice(id.as_bytes()) }
    }
}

impl Users<'_> {
    /// The access key of that id.
    pub fn access_key(&self, id: &str) -> Option<AccessKey> {
        let state = self.broker().catalog().read();
        let id = Bytes::copy_from_slice(id.as_bytes());
        let (name, sealed) = parts(state.entries.get(&(Section::AccessKeys, id.clone()))?)?;
        let (name, user) = state.users.get_key_value(name.as_str())?;
        let principal = Principal {
            name: Some(name.clone()),
            tenant: user.tenant.clone(),
            permissions: user.permissions.clone(),
        };
        Some(AccessKey { principal, sealed, id })
    }

    /// The secret of a key. [`ErrorKind::Corrupt`] when it was not sealed here.
    pub fn secret_of(&self, key: &AccessKey) -> Result<String> {
        let secret = self.broker().secret();
        let opened = open(secret, &key.id, &key.sealed)?;
        String::from_utf8(opened).map_err(|_| Error::corrupt("an access key's secret is not text"))
    }
}

/// Access keys that a user is given, as ids and secrets, and ids of those that are taken from it then.
pub(super) struct KeyChange<'a> {
    pub given: Vec<(&'a str, &'a str)>,
    pub taken: Vec<&'a str>,
}

impl KeyChange<'_> {
    /// What is refused without a look at what is there.
    pub(super) fn check(&self) -> Result<()> {
        let texts = self.given.iter().flat_map(|(id, secret)| [*id, *secret]);
        let mut wrong = texts.filter(|text| {
            let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
            text.is_empty() || text.len() > TEXT_LEN_MAX || !visible
        });
        match wrong.next() {
            None => Ok(()),
            Some(_) => Err(Error::invalid(format!(
                "an access key's id and secret have 1 to {TEXT_LEN_MAX} visible ASCII characters"
            ))),
        }
    }

    /// What makes the change, once all of it was checked.
    pub(super) fn commands(&self, broker: &Broker, state: &CatalogState, user: &str) -> Result<Vec<Command>> {
        let mut has: BTreeSet<Bytes> = keys_of(state, user).into_iter().collect();
        let mut commands = Vec::new();
        for (id, secret) in &self.given {
            if owner(state, id.as_bytes()).is_some_and(|owner| owner != user) {
                return Err(Error::exists(format!("another user has the access key {id}")));
            }
            if has.insert(Bytes::copy_from_slice(id.as_bytes())) && has.len() > KEYS_MAX {
                return Err(Error::limit(format!("a user has at most {KEYS_MAX} access keys")));
            }
            commands.push(given(broker, state, user, id, secret)?);
        }
        for id in &self.taken {
            if !has.remove(id.as_bytes()) {
                return Err(Error::not_found(format!("user {user} has no access key {id}")));
            }
            commands.push(gone(Bytes::copy_from_slice(id.as_bytes())));
        }
        Ok(commands)
    }
}

fn given(broker: &Broker, state: &CatalogState, user: &str, id: &str, secret: &str) -> Result<Command> {
    let sealed = seal(&*broker.env().random, state.secret, id.as_bytes(), secret.as_bytes())?;
    let mut body = Vec::with_capacity(limits::NAME_LEN_MAX + sealed.len());
    put_bytes(&mut body, user.as_bytes());
    body.extend_from_slice(&sealed);
    let key = Bytes::copy_from_slice(id.as_bytes());
    Ok(Command::PutEntry { section: Section::AccessKeys, key, body: Some(body.into()) })
}

/// Takes every key of `user` away, ahead of the user itself.
pub(super) fn stage_no_keys(broker: &Broker, state: &mut CatalogState, user: &str) -> Result<()> {
    for id in keys_of(state, user) {
        broker.command(state, gone(id))?;
    }
    Ok(())
}

/// Ids of a user's keys.
pub(super) fn keys_of(state: &CatalogState, user: &str) -> Vec<Bytes> {
    let from = (Section::AccessKeys, Bytes::new());
    let all = state.entries.range(from..).take_while(|((section, _), _)| *section == Section::AccessKeys);
    all.filter(|(_, body)| parts(body).is_some_and(|(owner, _)| owner == user))
        .map(|((_, id), _)| id.clone())
        .collect()
}

fn gone(id: Bytes) -> Command {
    Command::PutEntry { section: Section::AccessKeys, key: id, body: None }
}

fn owner(state: &CatalogState, id: &[u8]) -> Option<String> {
    let body = state.entries.get(&(Section::AccessKeys, Bytes::copy_from_slice(id)))?;
    parts(body).map(|(owner, _)| owner)
}

/// Owner and sealed secret of a stored key.
fn parts(body: &Bytes) -> Option<(String, Bytes)> {
    let mut reader = Reader::new(body);
    let owner = reader.text().ok()?.to_owned();
    Some((owner, Bytes::copy_from_slice(reader.rest())))
}

fn mac(secret: u128) -> Result<Hmac<Sha256>> {
    let keyed = |key: &[u8]| {
        Hmac::<Sha256>::new_from_slice(key)
            .map_err(|_| Error::internal("a key has a length that no code refuses"))
    };
    let key = keyed(&secret.to_le_bytes())?.chain_update(b"access keys").finalize().into_bytes();
    keyed(&key)
}

/// `bytes` with the stream of `nonce` over it; twice is as if never.
fn covered(mac: &Hmac<Sha256>, nonce: &[u8], bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for (block, chunk) in (0_u32..).zip(bytes.chunks(BLOCK_LEN)) {
        let pad = mac.clone().chain_update([0]).chain_update(nonce).chain_update(block.to_le_bytes());
        out.extend(chunk.iter().zip(pad.finalize().into_bytes()).map(|(byte, pad)| byte ^ pad));
    }
    out
}

fn tagged(mac: Hmac<Sha256>, nonce: &[u8], id: &[u8], covered: &[u8]) -> Hmac<Sha256> {
    let mac = mac.chain_update([1]).chain_update(nonce).chain_update((id.len() as u64).to_le_bytes());
    mac.chain_update(id).chain_update(covered)
}

fn seal(random: &dyn Random, secret: u128, id: &[u8], plain: &[u8]) -> Result<Bytes> {
    let mac = mac(secret)?;
    let mut nonce = [0; NONCE_LEN];
    random.fill(&mut nonce);
    let covered = covered(&mac, &nonce, plain);
    let tag = tagged(mac, &nonce, id, &covered).finalize().into_bytes();
    let tag = tag.get(..TAG_LEN).unwrap_or_default();
    Ok([&nonce[..], tag, &covered[..]].concat().into())
}

fn open(secret: u128, id: &[u8], sealed: &[u8]) -> Result<Vec<u8>> {
    let foreign = || Error::new(ErrorKind::Corrupt, "an access key's secret was not sealed here");
    let (nonce, rest) = sealed.split_at_checked(NONCE_LEN).ok_or_else(foreign)?;
    let (tag, hidden) = rest.split_at_checked(TAG_LEN).ok_or_else(foreign)?;
    let mac = mac(secret)?;
    tagged(mac.clone(), nonce, id, hidden).verify_truncated_left(tag).map_err(|_| foreign())?;
    Ok(covered(&mac, nonce, hidden))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_for_its_id_and_directory_alone() {
        let random = env::real().random;
        for plain in ["x", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", &"s".repeat(TEXT_LEN_MAX)] {
            let sealed = seal(&*random, 7, b"AKID", plain.as_bytes()).unwrap();
            assert_eq!(open(7, b"AKID", &sealed).unwrap(), plain.as_bytes());
            assert!(open(8, b"AKID", &sealed).is_err());
            assert!(open(7, b"AKIE", &sealed).is_err());
            for at in 0..sealed.len() {
                let mut damaged = sealed.to_vec();
                damaged[at] ^= 1;
                assert!(open(7, b"AKID", &damaged).is_err(), "{at}");
                assert!(open(7, b"AKID", &sealed[..at]).is_err(), "{at}");
            }
            assert!(!sealed.windows(plain.len()).any(|window| window == plain.as_bytes() && plain.len() > 1));
        }
    }
}
