//! Signature Version 4: whether a request was signed with the secret of the access key that it names.

mod canonical;
mod claim;
mod keys;
#[cfg(test)]
mod tests;
mod time;

#[cfg(test)]
pub(crate) use tests::sign;

use broker::AccessKey;
use hmac::Mac;
use hyper::http::request::Parts;

use self::{
    canonical::{Signed, hex_digest},
    claim::{ALGORITHM, Claim},
};
pub(crate) use self::{claim::Credential, keys::SigningKeys};
use crate::{AwsError, codec::query::Parameters};

/// How far a client's clock may be from ours.
const SKEW_MAX_S: i64 = 15 * 60;

/// The broker's users and what is remembered of them, as a check of a signature needs them.
pub(crate) trait Keys {
    /// The access key of that id.
    fn access_key(&self, id: &str) -> Option<AccessKey>;
    /// Its secret.
    fn secret_of(&self, key: &AccessKey) -> Result<String, AwsError>;
    /// The remembered signing keys.
    fn signing_keys(&self) -> &SigningKeys;
}

/// The access key that signed a request, in the words of AWS when it did not. `now_s` is the wall clock, seconds since
/// the Unix epoch.
pub(crate) fn verify(
    keys: &impl Keys,
    parts: &Parts,
    parameters: &Parameters<'_>,
    body: &[u8],
    now_s: i64,
) -> Result<AccessKey, AwsError> {
    let claim = Claim::of(parts, parameters)?;
    check_time(&claim, now_s)?;
    check_headers(&claim, parts)?;
    let Claim { credential, .. } = &claim;
    let key = keys.access_key(credential.key).ok_or_else(|| {
        AwsError::invalid_client_token_id("The security token included in the request is invalid.")
    })?;
    let scope = [credential.date, credential.region, credential.service];
    let signing_key = keys.signing_keys().key(&key.sealed, scope, || keys.secret_of(&key))?;
    let text = string_to_sign(&claim, parts, body)?;
    let signature = unhex(claim.signature).ok_or_else(mismatch)?;
    // Compares in a time that does not depend on how much of it is right.
    keys::mac(&signing_key)?
        .chain_update(text.as_bytes())
        .verify_slice(&signature)
        .map_err(|_| mismatch())?;
    Ok(key)
}

/// Refuses a scope that is not that of the service which is asked.
pub(crate) fn check_service(scope: &str, service: &str) -> Result<(), AwsError> {
    if scope == service {
        return Ok(());
    }
    Err(AwsError::signature_does_not_match(format!(
        "Credential should be scoped to correct service: '{service}'."
    )))
}

fn mismatch() -> AwsError {
    AwsError::signature_does_not_match(
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access \
         Key and signing method. Consult the service documentation for details.",
    )
}

fn check_time(claim: &Claim<'_>, now_s: i64) -> Result<(), AwsError> {
    let made_s = time::parse(&claim.time).ok_or_else(|| {
        AwsError::incomplete_signature("Date must be in ISO-8601 'basic format', e.g. 20150830T123600Z.")
    })?;
    let day = claim.time.get(..8).unwrap_or_default();
    if claim.credential.date != day {
        return Err(AwsError::signature_does_not_match(format!(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{}' != \
             '{day}', from '{}'.",
            shown(claim.credential.date),
            claim.time
        )));
    }
    let (made, now) = (time::format(made_s), time::format(now_s));
    if made_s > now_s + SKEW_MAX_S {
        let latest = time::format(now_s + SKEW_MAX_S);
        return Err(AwsError::request_expired(format!(
            "Signature not yet current: {made} is still later than {latest} ({now} + 15 min.)"
        )));
    }
    let good_for_s = claim.expires_s.unwrap_or(SKEW_MAX_S);
    if made_s + good_for_s < now_s {
        let text = match claim.expires_s {
            Some(_) => {
                format!("Signature expired: {now} is later than {}", time::format(made_s + good_for_s))
            }
            None => {
                let earliest = time::format(now_s - SKEW_MAX_S);
                format!("Signature expired: {made} is now earlier than {earliest} ({now} - 15 min.)")
            }
        };
        return Err(AwsError::request_expired(text));
    }
    Ok(())
}

/// The host and everything of Amazon's must be signed, so that nobody on the way can change it.
fn check_headers(claim: &Claim<'_>, parts: &Parts) -> Result<(), AwsError> {
    let is_signed = |name: &str| claim.signed_headers.contains(&name);
    let amazon = parts.headers.keys().map(|name| name.as_str()).filter(|name| name.starts_with("x-amz-"));
    let missing = std::iter::once("host").chain(amazon).find(|name| !is_signed(name));
    match missing {
        None => Ok(()),
        Some("host") => Err(AwsError::signature_does_not_match(
            "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.",
        )),
        Some(name) => Err(AwsError::signature_does_not_match(format!(
            "'{name}' must be a 'SignedHeader' in the AWS Authorization."
        ))),
    }
}

fn string_to_sign(claim: &Claim<'_>, parts: &Parts, body: &[u8]) -> Result<String, AwsError> {
    let payload = hex_digest(body);
    if let Some(said) = parts.headers.get("x-amz-content-sha256")
        && said.as_bytes() != payload.as_bytes()
    {
        return Err(AwsError::signature_does_not_match(
            "The value of 'x-amz-content-sha256' is not the digest of the body.",
        ));
    }
    let signed = Signed {
        method: parts.method.as_str(),
        path: parts.uri.path(),
        query: parts.uri.query().unwrap_or_default(),
        headers: &parts.headers,
        signed_headers: &claim.signed_headers,
        payload: &payload,
    };
    let digest = hex_digest(signed.canonical()?.as_bytes());
    let Credential { date, region, service, .. } = &claim.credential;
    Ok(format!("{ALGORITHM}\n{}\n{date}/{region}/{service}/aws4_request\n{digest}", claim.time))
}

fn shown(text: &str) -> &str {
    text.get(..text.floor_char_boundary(64)).unwrap_or_default()
}

/// 32 bytes in hexadecimal.
fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    if pairs.len() != out.len() {
        return None;
    }
    for (byte, [high, low]) in out.iter_mut().zip(pairs) {
        let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(out)
}
