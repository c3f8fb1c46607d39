//! A user as the catalog stores it.

use std::sync::Arc;

use model::{Error, Result};

use crate::{
    codec::{Reader, put_bytes, put_option, put_u64},
    user::{Action, Effect, Permission, ScramHash, ScramVerifier},
};

/// Set in the byte of an action that is denied.
const DENY: u8 = 0x80;

/// What the catalog keeps of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UserRecord {
    pub tenant: Arc<str>,
    /// Checks a password that is sent in the clear. The form of a SCRAM-SHA-256 verifier, apart from those below so that
    /// a challenge form can be taken away alone.
    pub password: Option<ScramVerifier>,
    pub sha256: Option<ScramVerifier>,
    pub sha512: Option<ScramVerifier>,
    pub permissions: Arc<[Permission]>,
}

impl UserRecord {
    pub(crate) fn scram(&self, hash: ScramHash) -> &Option<ScramVerifier> {
        match hash {
            ScramHash::Sha256 => &self.sha256,
            ScramHash::Sha512 => &self.sha512,
        }
    }

    pub(crate) fn scram_mut(&mut self, hash: ScramHash) -> &mut Option<ScramVerifier> {
        match hash {
            ScramHash::Sha256 => &mut self.sha256,
            ScramHash::Sha512 => &mut self.sha512,
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.tenant.as_bytes());
        for verifier in [&self.password, &self.sha256, &self.sha512] {
            put_option(out, verifier.as_ref(), |out, verifier| verifier.encode(out));
        }
        put_u64(out, self.permissions.len() as u64);
        for permission in self.permissions.iter() {
            let action = match permission.action {
                Action::Read => 0,
                Action::Write => 1,
                Action::Configure => 2,
                Action::Admin => 3,
                Action::Respond => 4,
            };
            out.push(if permission.effect == Effect::Deny { action | DENY } else { action });
            put_bytes(out, permission.pattern.as_bytes());
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        Ok(UserRecord {
            tenant: reader.text()?.into(),
            password: reader.option(ScramVerifier::decode)?,
            sha256: reader.option(ScramVerifier::decode)?,
            sha512: reader.option(ScramVerifier::decode)?,
            permissions: reader.list(read_permission)?.into(),
        })
    }
}

fn read_permission(reader: &mut Reader<'_>) -> Result<Permission> {
    let byte = reader.u8()?;
    let effect = if byte & DENY == 0 { Effect::Allow } else { Effect::Deny };
    let action = match byte & !DENY {
        0 => Action::Read,
        1 => Action::Write,
        2 => Action::Configure,
        3 => Action::Admin,
        4 => Action::Respond,
        _ => return Err(Error::corrupt("a permission has an unknown action")),
    };
    Ok(Permission { action, pattern: reader.text()?.to_owned(), effect })
}

impl ScramVerifier {
    fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(out, &self.salt);
        put_u64(out, u64::from(self.iterations));
        put_bytes(out, &self.stored_key);
        put_bytes(out, &self.server_key);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        Ok(ScramVerifier {
            salt: reader.bytes()?,
            iterations: reader.u32()?,
            stored_key: reader.bytes()?,
            server_key: reader.bytes()?,
        })
    }
}
