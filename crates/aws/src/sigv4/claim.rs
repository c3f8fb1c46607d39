//! What a request says of its signature, in its header or, when it was presigned, in its parameters.

use std::borrow::Cow;

use hyper::{header::AUTHORIZATION, http::request::Parts};

use crate::{AwsError, codec::query::Parameters};

pub(super) const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// `KEY/DATE/REGION/SERVICE/aws4_request`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Credential<'a> {
    pub key: &'a str,
    pub date: &'a str,
    pub region: &'a str,
    pub service: &'a str,
}

impl<'a> Credential<'a> {
    /// `None` when it does not read. A key may have slashes in it; the scope's parts have not.
    pub(super) fn parse(text: &'a str) -> Option<Credential<'a>> {
        let mut parts = text.rsplitn(5, '/');
        let end = parts.next()?;
        let (service, region, date, key) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        (end == "aws4_request").then_some(Credential { key, date, region, service })
    }

    /// The credential of a request, wherever and however the rest of its signature is.
    pub(crate) fn of(parts: &'a Parts, parameters: &'a Parameters<'_>) -> Option<Credential<'a>> {
        let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let text = match header {
            Some(header) => header.split([' ', ',']).find_map(|part| part.strip_prefix("Credential="))?,
            None => find(parameters, "X-Amz-Credential")?,
        };
        Credential::parse(text)
    }
}

/// A whole signature, before anything of it is checked.
#[derive(Debug)]
pub(super) struct Claim<'a> {
    pub credential: Credential<'a>,
    /// `20150830T123600Z`
    pub time: Cow<'a, str>,
    /// Seconds for which a presigned request is good.
    pub expires_s: Option<i64>,
    pub signed_headers: Vec<&'a str>,
    /// In hexadecimal.
    pub signature: &'a str,
}

impl<'a> Claim<'a> {
    /// Reads the signature of a request; refused when there is none, or when parts of it are missing.
    pub(super) fn of(parts: &'a Parts, parameters: &'a Parameters<'_>) -> Result<Claim<'a>, AwsError> {
        match parts.headers.get(AUTHORIZATION) {
            Some(header) => {
                let header =
                    header.to_str().map_err(|_| incomplete("The Authorization header is not text."))?;
                Claim::of_header(header, parts)
            }
            None if find(parameters, "X-Amz-Algorithm").is_some() => Claim::of_parameters(parameters),
            None => Err(AwsError::missing_authentication_token("Request is missing Authentication Token")),
        }
    }

    fn of_header(header: &'a str, parts: &'a Parts) -> Result<Claim<'a>, AwsError> {
        let (algorithm, rest) = header.split_once(' ').unwrap_or((header, ""));
        known(algorithm)?;
        let field =
            |name: &str| rest.split(',').find_map(|field| field.trim().strip_prefix(name)?.strip_prefix('='));
        let date = ["x-amz-date", "date"].iter().find_map(|name| parts.headers.get(*name)?.to_str().ok());
        let (Some(credential), Some(headers), Some(signature), Some(time)) =
            (field("Credential"), field("SignedHeaders"), field("Signature"), date)
        else {
            let mut text = String::new();
            for name in ["Credential", "Signature", "SignedHeaders"] {
                if field(name).is_none() {
                    text.push_str(&format!("Authorization header requires '{name}' parameter. "));
                }
            }
            if date.is_none() {
                text.push_str(
                    "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. ",
                );
            }
            return Err(incomplete(format!("{text}Authorization={algorithm}")));
        };
        Ok(Claim {
            credential: credential_of(credential)?,
            time: time.into(),
            expires_s: None,
            signed_headers: headers.split(';').collect(),
            signature,
        })
    }

    fn of_parameters(parameters: &'a Parameters<'_>) -> Result<Claim<'a>, AwsError> {
        let needed = |name: &str| {
            find(parameters, name)
                .ok_or_else(|| incomplete(format!("AWS query-string parameters must include '{name}'.")))
        };
        known(needed("X-Amz-Algorithm")?)?;
        let expires_s: Option<i64> = needed("X-Amz-Expires")?.parse().ok();
        let expires_s = expires_s.filter(|seconds| (0..=EXPIRES_MAX_S).contains(seconds)).ok_or_else(|| {
            incomplete("X-Amz-Expires must be less than a week in seconds; the given X-Amz-Expires must be less than 604800")
        })?;
        Ok(Claim {
            credential: credential_of(needed("X-Amz-Credential")?)?,
            time: needed("X-Amz-Date")?.into(),
            expires_s: Some(expires_s),
            signed_headers: needed("X-Amz-SignedHeaders")?.split(';').collect(),
            signature: needed("X-Amz-Signature")?,
        })
    }
}

/// A week.
const EXPIRES_MAX_S: i64 = 604_800;

fn known(algorithm: &str) -> Result<(), AwsError> {
    match algorithm {
        ALGORITHM => Ok(()),
        "AWS4-ECDSA-P256-SHA256" => {
            Err(incomplete("Signature Version 4A is not supported here; sign with AWS4-HMAC-SHA256."))
        }
        _ => Err(incomplete("Unsupported algorithm; sign with AWS4-HMAC-SHA256.")),
    }
}

fn credential_of(text: &str) -> Result<Credential<'_>, AwsError> {
    Credential::parse(text).ok_or_else(|| {
        incomplete(
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/aws4_request",
        )
    })
}

fn incomplete(text: impl Into<Cow<'static, str>>) -> AwsError {
    AwsError::incomplete_signature(text)
}

fn find<'a>(parameters: &'a Parameters<'_>, wanted: &str) -> Option<&'a str> {
    parameters.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_has_a_key_and_a_scope() {
        let credential = Credential::parse("AK/ID/20150830/us-east-1/sqs/aws4_request").unwrap();
        assert_eq!(
            credential,
            Credential { key: "AK/ID", date: "20150830", region: "us-east-1", service: "sqs" }
        );
        for wrong in
            ["", "AKID", "AKID/20150830/us-east-1/sqs/aws3_request", "20150830/us-east-1/sqs/aws4_request"]
        {
            assert_eq!(Credential::parse(wrong), None, "{wrong}");
        }
    }
}
