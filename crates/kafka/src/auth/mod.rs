//! SASL: PLAIN and SCRAM over the broker's users.

mod scram;

use std::sync::Arc;

use broker::{Broker, Principal, ScramHash};

/// Mechanisms, as SaslHandshake offers them.
pub(crate) const MECHANISMS: &[&str] = &["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];

/// One session's way to a principal.
#[derive(Default)]
pub(crate) enum Exchange {
    /// No mechanism was chosen.
    #[default]
    None,
    /// PLAIN was chosen.
    Plain,
    /// SCRAM was chosen; the client speaks first.
    Scram(ScramHash),
    /// The challenge is out.
    Challenged { user: String, challenge: Box<scram::Challenge> },
}

/// What came of one message of the client.
pub(crate) enum Step {
    /// Send these bytes; more will come.
    Continue(Vec<u8>),
    /// Send these bytes; the session acts for this principal.
    Done(Vec<u8>, Principal),
    /// The text is safe to send: it says nothing of what was wrong.
    Failed(&'static str),
}

const FAILED: &str = "Authentication failed: Invalid username or password";
const FAILED_SCRAM: &str =
    "Authentication failed during authentication due to invalid credentials with SASL mechanism";

impl Exchange {
    /// The client chose `mechanism`; `None` when it is not offered.
    pub(crate) fn begin(mechanism: &str) -> Option<Self> {
        match mechanism {
            "PLAIN" => Some(Exchange::Plain),
            "SCRAM-SHA-256" => Some(Exchange::Scram(ScramHash::Sha256)),
            "SCRAM-SHA-512" => Some(Exchange::Scram(ScramHash::Sha512)),
            _ => None,
        }
    }

    /// Takes the client's next message. `open_door` lets any PLAIN password in: a loopback client of a broker without
    /// users.
    pub(crate) async fn take(&mut self, broker: &Broker, message: &[u8], open_door: bool) -> Step {
        match std::mem::take(self) {
            Exchange::None => Step::Failed("Authentication failed: no mechanism was chosen"),
            Exchange::Plain => plain(broker, message, open_door).await,
            Exchange::Scram(hash) => {
                let Some(first) = scram::ClientFirst::parse(message) else {
                    return Step::Failed(FAILED_SCRAM);
                };
                let user = first.user.clone();
                let Some(verifier) = broker.users().scram(&user, hash) else {
                    return Step::Failed(FAILED_SCRAM);
                };
                let nonce = format!("{:032x}", broker.env().random.u128());
                let (answer, challenge) = first.challenge(hash, verifier, &nonce);
                *self = Exchange::Challenged { user, challenge: Box::new(challenge) };
                Step::Continue(answer)
            }
            Exchange::Challenged { user, challenge } => {
                match challenge.verify(message).zip(broker.users().principal(&user)) {
                    Some((answer, principal)) => Step::Done(answer, principal),
                    None => Step::Failed(FAILED_SCRAM),
                }
            }
        }
    }
}

/// `authzid NUL user NUL password` (RFC 4616).
async fn plain(broker: &Broker, message: &[u8], open_door: bool) -> Step {
    let Some((authzid, user, password)) = plain_parts(message) else { return Step::Failed(FAILED) };
    if !authzid.is_empty() && authzid != user {
        return Step::Failed(
            "Authentication failed: Client requested an authorization id that is different from username",
        );
    }
    if open_door {
        let principal = Principal { name: Some(Arc::from(user)), ..Principal::anonymous() };
        return Step::Done(Vec::new(), principal);
    }
    match broker.users().authenticate(user, password).await {
        Ok(principal) => Step::Done(Vec::new(), principal),
        Err(_) => Step::Failed(FAILED),
    }
}

fn plain_parts(message: &[u8]) -> Option<(&str, &str, &str)> {
    let text = std::str::from_utf8(message).ok()?;
    let mut parts = text.split('\0');
    let (authzid, user, password) = (parts.next()?, parts.next()?, parts.next()?);
    (parts.next().is_none() && !user.is_empty() && !password.is_empty()).then_some((authzid, user, password))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_needs_exactly_three_parts_and_a_user_and_a_password() {
        assert_eq!(plain_parts(b"\0u\0p"), Some(("", "u", "p")));
        assert_eq!(plain_parts(b"a\0u\0p"), Some(("a", "u", "p")));
        for bad in [b"".as_slice(), b"u\0p", b"\0\0p", b"\0u\0", b"\0u\0p\0x", b"\0\xff\0p"] {
            assert_eq!(plain_parts(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn only_the_offered_mechanisms_begin() {
        for mechanism in MECHANISMS {
            assert!(Exchange::begin(mechanism).is_some());
        }
        for other in ["", "plain", "GSSAPI", "OAUTHBEARER", "SCRAM-SHA-1"] {
            assert!(Exchange::begin(other).is_none());
        }
    }
}
