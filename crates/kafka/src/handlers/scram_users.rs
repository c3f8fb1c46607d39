//! DescribeUserScramCredentials and AlterUserScramCredentials, over the broker's users.

use std::collections::BTreeMap;

use broker::{Credentials, ScramHash, ScramVerifier, UserChange, UserSpec};
use hmac::{Hmac, KeyInit, Mac};
use model::ErrorKind;
use sha2::{Digest, Sha256, Sha512};

use super::{named_twice, once_each};
use crate::{
    codec::{
        ErrorCode,
        api::{
            alter_user_scram_credentials::{
                AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse,
                AlterUserScramCredentialsResult, ScramCredentialUpsertion,
            },
            describe_user_scram_credentials::{
                CredentialInfo, DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse,
                DescribeUserScramCredentialsResult,
            },
        },
    },
    errors,
    session::Ctx,
};

/// `ScramMechanism` on the wire.
fn hash_of(mechanism: i8) -> Option<ScramHash> {
    match mechanism {
        1 => Some(ScramHash::Sha256),
        2 => Some(ScramHash::Sha512),
        _ => None,
    }
}

fn mechanism_of(hash: ScramHash) -> i8 {
    match hash {
        ScramHash::Sha256 => 1,
        ScramHash::Sha512 => 2,
    }
}

/// The original's bounds for the rounds of a password's derivation.
const ITERATIONS: std::ops::RangeInclusive<i32> = 4_096..=16_384;

pub(crate) async fn describe_user_scram_credentials(
    ctx: &Ctx,
    request: DescribeUserScramCredentialsRequest<'_>,
) -> DescribeUserScramCredentialsResponse<'static> {
    if !ctx.principal.runs_the_server() {
        let error_code = ErrorCode::CLUSTER_AUTHORIZATION_FAILED;
        return DescribeUserScramCredentialsResponse { error_code, ..Default::default() };
    }
    let mut known: BTreeMap<String, Vec<(ScramHash, u32)>> =
        ctx.server.broker.users().list().into_iter().map(|user| (user.name, user.scram)).collect();
    known.retain(|_, forms| !forms.is_empty());
    let wanted: Vec<String> = match &request.users {
        Some(users) if !users.is_empty() => users.iter().map(|user| user.name.to_owned()).collect(),
        _ => known.keys().cloned().collect(),
    };
    let twice = named_twice(&wanted, |user| user.as_str());
    let result = |user: &String| {
        let refused = |error_code, why: String| DescribeUserScramCredentialsResult {
            user: user.clone().into(),
            error_code,
            error_message: Some(why.into()),
            credential_infos: Vec::new(),
        };
        match known.get(user) {
            _ if twice.contains(user.as_str()) => refused(
                ErrorCode::DUPLICATE_RESOURCE,
                format!(
                    "Cannot describe SCRAM credentials for the same user twice in a single request: {user}"
                ),
            ),
            None => refused(
                ErrorCode::RESOURCE_NOT_FOUND,
                format!("Attempt to describe a user credential that does not exist: {user}"),
            ),
            Some(forms) => DescribeUserScramCredentialsResult {
                user: user.clone().into(),
                credential_infos: forms
                    .iter()
                    .map(|(hash, rounds)| CredentialInfo {
                        mechanism: mechanism_of(*hash),
                        iterations: i32::try_from(*rounds).unwrap_or(i32::MAX),
                    })
                    .collect(),
                ..Default::default()
            },
        }
    };
    DescribeUserScramCredentialsResponse {
        results: once_each(&wanted, |user| user.as_str()).map(result).collect(),
        ..Default::default()
    }
}

/// By user: what changes, by mechanism, or why nothing does.
type Changes<'a> = BTreeMap<&'a str, Result<Vec<(i8, Credentials)>, Refused>>;

/// A code, and the original's words for it.
type Refused = (ErrorCode, &'static str);

const NO_SUCH_MECHANISM: Refused = (ErrorCode::UNSUPPORTED_SASL_MECHANISM, "Unknown SCRAM mechanism");
const NO_NAME: Refused = (ErrorCode::UNACCEPTABLE_CREDENTIAL, "Username must not be empty");
const NO_SUCH_CREDENTIAL: Refused =
    (ErrorCode::RESOURCE_NOT_FOUND, "Attempt to delete a user credential that does not exist");
const ALTERED_TWICE: Refused =
    (ErrorCode::DUPLICATE_RESOURCE, "A user credential cannot be altered twice in the same request");

pub(crate) async fn alter_user_scram_credentials(
    ctx: &Ctx,
    request: AlterUserScramCredentialsRequest<'_>,
) -> AlterUserScramCredentialsResponse<'static> {
    // Users are the whole server's, whatever their tenant.
    let allowed = ctx.principal.runs_the_server();
    let mut changes = Changes::new();
    for deletion in &request.deletions {
        let change = may_delete(ctx, deletion.name, deletion.mechanism)
            .map(|hash| (deletion.mechanism, Credentials::NoScram(hash)));
        add(&mut changes, deletion.name, change);
    }
    for upsertion in &request.upsertions {
        let change = credentials_of(upsertion).map(|credentials| (upsertion.mechanism, credentials));
        add(&mut changes, upsertion.name, change);
    }
    let mut results = Vec::with_capacity(changes.len());
    for (user, change) in changes {
        let altered = match change {
            _ if !allowed => {
                Err((ErrorCode::CLUSTER_AUTHORIZATION_FAILED, "Cluster authorization failed.".to_owned()))
            }
            Err((code, why)) => Err((code, why.to_owned())),
            Ok(credentials) => {
                let credentials = credentials.into_iter().map(|(_, credentials)| credentials).collect();
                let spec = UserSpec { credentials, ..UserSpec::default() };
                let change = UserChange { spec, ..UserChange::default() };
                let changed = ctx.server.broker.users().change(user, change).await;
                changed.map_err(|e| (code_of(&e), e.text().to_owned()))
            }
        };
        let (error_code, why) = match altered {
            Ok(()) => (ErrorCode::NONE, None),
            Err((code, why)) => (code, Some(why.into())),
        };
        results.push(AlterUserScramCredentialsResult {
            user: user.to_owned().into(),
            error_code,
            error_message: why,
        });
    }
    AlterUserScramCredentialsResponse { results, ..Default::default() }
}

/// A user who could log in here alone, and whom nobody could administer then, has no acceptable credential.
fn code_of(error: &model::Error) -> ErrorCode {
    match error.kind() {
        ErrorKind::Conflict => ErrorCode::UNACCEPTABLE_CREDENTIAL,
        _ => errors::of(error),
    }
}

/// Adds a change of `user`; two of one mechanism in one request contradict each other.
fn add<'a>(changes: &mut Changes<'a>, user: &'a str, change: Result<(i8, Credentials), Refused>) {
    let all = changes.entry(user).or_insert_with(|| Ok(Vec::new()));
    let (Ok(known), Ok(change)) = (&mut *all, &change) else {
        if all.is_ok() {
            *all = change.map(|change| vec![change]);
        }
        return;
    };
    if known.iter().any(|(mechanism, _)| *mechanism == change.0) {
        *all = Err(ALTERED_TWICE);
        return;
    }
    known.push(change.clone());
}

fn may_delete(ctx: &Ctx, user: &str, mechanism: i8) -> Result<ScramHash, Refused> {
    if user.is_empty() {
        return Err(NO_NAME);
    }
    let hash = hash_of(mechanism).ok_or(NO_SUCH_MECHANISM)?;
    ctx.server.broker.users().scram(user, hash).map(|_| hash).ok_or(NO_SUCH_CREDENTIAL)
}

/// The client sends the salted password; a verifier is what is kept of it (RFC 5802 §3).
fn credentials_of(upsertion: &ScramCredentialUpsertion<'_>) -> Result<Credentials, Refused> {
    if upsertion.name.is_empty() {
        return Err(NO_NAME);
    }
    let hash = hash_of(upsertion.mechanism).ok_or(NO_SUCH_MECHANISM)?;
    let refused = |why| Err((ErrorCode::UNACCEPTABLE_CREDENTIAL, why));
    if upsertion.iterations < *ITERATIONS.start() {
        return refused("Too few iterations");
    }
    if upsertion.iterations > *ITERATIONS.end() {
        return refused("Too many iterations");
    }
    if upsertion.salt.is_empty() || upsertion.salted_password.is_empty() {
        return refused("Salt and salted password must not be empty");
    }
    let unacceptable = |_| (ErrorCode::UNACCEPTABLE_CREDENTIAL, "The salted password cannot be a key");
    let (stored_key, server_key) = match hash {
        ScramHash::Sha256 => {
            let keyed = Hmac::<Sha256>::new_from_slice(upsertion.salted_password).map_err(unacceptable)?;
            let client_key = keyed.clone().chain_update(b"Client Key").finalize().into_bytes();
            (
                Sha256::digest(client_key).to_vec(),
                keyed.chain_update(b"Server Key").finalize().into_bytes().to_vec(),
            )
        }
        ScramHash::Sha512 => {
            let keyed = Hmac::<Sha512>::new_from_slice(upsertion.salted_password).map_err(unacceptable)?;
            let client_key = keyed.clone().chain_update(b"Client Key").finalize().into_bytes();
            (
                Sha512::digest(client_key).to_vec(),
                keyed.chain_update(b"Server Key").finalize().into_bytes().to_vec(),
            )
        }
    };
    let verifier = ScramVerifier {
        salt: upsertion.salt.to_vec().into(),
        iterations: upsertion.iterations.unsigned_abs(),
        stored_key: stored_key.into(),
        server_key: server_key.into(),
    };
    Ok(Credentials::Scram(hash, verifier))
}

#[cfg(test)]
mod tests;
