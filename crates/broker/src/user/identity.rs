//! What names a user by itself, with no name beside it: public keys, whose owner proves that it has the other half, and
//! tokens, which are proof enough. Of a token only a keyed hash is kept.

use std::collections::BTreeSet;

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use model::{Error, Result};
use sha2::Sha256;

use super::{Principal, Users};
use crate::{
    broker::Broker,
    catalog::{CatalogState, Command, command::Section},
};

/// Characters of a key or a token at most.
const TEXT_LEN_MAX: usize = 1_024;

/// Keys and tokens that one user may have.
const PER_USER_MAX: usize = 64;

const PUBLIC_KEY: u8 = b'k';
const TOKEN: u8 = b't';

/// What names a user by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity<'a> {
    /// A public key, in the text form of the dialect that uses it.
    PublicKey(&'a str),
    /// A secret that is sent as it is.
    Token(&'a str),
}

impl Identity<'_> {
    fn check(self) -> Result<()> {
        let (Identity::PublicKey(text) | Identity::Token(text)) = self;
        let is_visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        if text.is_empty() || text.len() > TEXT_LEN_MAX || !is_visible {
            return Err(Error::invalid(format!(
                "a public key or token has 1 to {TEXT_LEN_MAX} visible ASCII characters"
            )));
        }
        Ok(())
    }

    /// What it is stored under.
    fn key(self, secret: u128) -> Result<Bytes> {
        let mut key = Vec::new();
        match self {
            Identity::PublicKey(text) => {
                key.push(PUBLIC_KEY);
                key.extend_from_slice(text.as_bytes());
            }
            Identity::Token(text) => {
                let hash = Hmac::<Sha256>::new_from_slice(&secret.to_le_bytes())
                    .map_err(|_| Error::internal("a key has a length that no code refuses"))?
                    .chain_update(b"tokens")
                    .chain_update(text.as_bytes());
                key.push(TOKEN);
                key.extend_from_slice(&hash.finalize().into_bytes());
            }
        }
        Ok(key.into())
    }
}

impl Users<'_> {
    /// Whom `identity` stands for.
    pub fn identified(&self, identity: Identity<'_>) -> Option<Principal> {
        let name = {
            let state = self.broker().catalog().read();
            let key = identity.key(state.secret).ok()?;
            state.entries.get(&(Section::Identities, key))?.clone()
        };
        self.principal(std::str::from_utf8(&name).ok()?)
    }

    /// Whether any user has a public key.
    pub fn any_public_key(&self) -> bool {
        let state = self.broker().catalog().read();
        all(&state, PUBLIC_KEY).next().is_some()
    }
}

/// What is to stand for a user, and what is not to any more then.
pub(super) struct IdentityChange<'a> {
    pub given: Vec<Identity<'a>>,
    pub taken: Vec<Identity<'a>>,
}

impl IdentityChange<'_> {
    /// What is refused without a look at what is there.
    pub(super) fn check(&self) -> Result<()> {
        self.given.iter().try_for_each(|identity| identity.check())
    }

    /// What makes the change, once all of it was checked.
    pub(super) fn commands(&self, state: &CatalogState, user: &str) -> Result<Vec<Command>> {
        let mut has: BTreeSet<Bytes> = of_user(state, user).cloned().collect();
        let mut commands = Vec::new();
        for identity in &self.given {
            let key = identity.key(state.secret)?;
            let owner = state.entries.get(&(Section::Identities, key.clone()));
            if owner.is_some_and(|owner| owner.as_ref() != user.as_bytes()) {
                return Err(Error::exists("that key or token is another user's"));
            }
            if has.insert(key.clone()) && has.len() > PER_USER_MAX {
                return Err(Error::limit(format!("a user has at most {PER_USER_MAX} keys and tokens")));
            }
            let body = Some(Bytes::copy_from_slice(user.as_bytes()));
            commands.push(Command::PutEntry { section: Section::Identities, key, body });
        }
        for identity in &self.taken {
            let key = identity.key(state.secret)?;
            if !has.remove(&key) {
                return Err(Error::not_found(format!("user {user} has no such key or token")));
            }
            commands.push(gone(key));
        }
        Ok(commands)
    }
}

/// Keys and tokens of a kind, with their owners.
fn all(state: &CatalogState, kind: u8) -> impl Iterator<Item = (&Bytes, &Bytes)> {
    state
        .entries
        .range((Section::Identities, Bytes::from(vec![kind]))..)
        .take_while(move |((section, key), _)| *section == Section::Identities && key.first() == Some(&kind))
        .map(|((_, key), owner)| (key, owner))
}

fn of_user<'a>(state: &'a CatalogState, user: &'a str) -> impl Iterator<Item = &'a Bytes> {
    let all = all(state, PUBLIC_KEY).chain(all(state, TOKEN));
    all.filter(move |(_, owner)| owner.as_ref() == user.as_bytes()).map(|(key, _)| key)
}

/// The public keys of a user, and how many tokens it has.
pub(super) fn identities_of(state: &CatalogState, user: &str) -> (Vec<String>, usize) {
    let (keys, tokens): (Vec<_>, Vec<_>) =
        of_user(state, user).partition(|key| key.first() == Some(&PUBLIC_KEY));
    let text = |key: &Bytes| String::from_utf8_lossy(key.get(1..).unwrap_or_default()).into_owned();
    (keys.into_iter().map(text).collect(), tokens.len())
}

/// Takes every key and token of `user` away, ahead of the user itself.
pub(super) fn stage_no_identities(broker: &Broker, state: &mut CatalogState, user: &str) -> Result<()> {
    let keys: Vec<Bytes> = of_user(state, user).cloned().collect();
    for key in keys {
        broker.command(state, gone(key))?;
    }
    Ok(())
}

fn gone(key: Bytes) -> Command {
    Command::PutEntry { section: Section::Identities, key, body: None }
}
