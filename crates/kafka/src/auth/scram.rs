//! The server's side of SCRAM (RFC 5802, RFC 7677) as a machine of bytes in, bytes out.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use broker::{ScramHash, ScramVerifier};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256, Sha512};

/// Longest message taken: user names and nonces are short.
const MESSAGE_LEN_MAX: usize = 4_096;

/// The client's first message, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientFirst {
    pub user: String,
    nonce: String,
    /// The message without its GS2 header, which the proof covers.
    bare: String,
    gs2_header: String,
}

/// After the server's first message: what the client's proof is checked against.
pub(crate) struct Challenge {
    hash: ScramHash,
    verifier: ScramVerifier,
    nonce: String,
    /// `client-first-bare,server-first`.
    transcript: String,
    gs2_header: String,
}

impl ClientFirst {
    /// Reads `n,,n=user,r=nonce`. Channel binding (`p=`) is not offered, so it is refused. `None` = not a message of
    /// this mechanism.
    pub(crate) fn parse(message: &[u8]) -> Option<Self> {
        if message.len() > MESSAGE_LEN_MAX {
            return None;
        }
        let text = std::str::from_utf8(message).ok()?;
        let mut parts = text.splitn(3, ',');
        let (binding, authzid, bare) = (parts.next()?, parts.next()?, parts.next()?);
        if !matches!(binding, "n" | "y") {
            return None;
        }
        let gs2_header = format!("{binding},{authzid},");
        let mut attributes = bare.split(',');
        let user = unescape(attributes.next()?.strip_prefix("n=")?)?;
        let nonce = attributes.next()?.strip_prefix("r=")?.to_owned();
        if let Some(asked) = authzid.strip_prefix("a=")
            && unescape(asked)? != user
        {
            return None;
        }
        (!nonce.is_empty()).then(|| ClientFirst { user, nonce, bare: bare.to_owned(), gs2_header })
    }

    /// The server's first message, and what comes after it. `server_nonce` is fresh and printable.
    pub(crate) fn challenge(
        self,
        hash: ScramHash,
        verifier: ScramVerifier,
        server_nonce: &str,
    ) -> (Vec<u8>, Challenge) {
        let nonce = format!("{}{server_nonce}", self.nonce);
        let first = format!("r={nonce},s={},i={}", BASE64.encode(&verifier.salt), verifier.iterations);
        let transcript = format!("{},{first}", self.bare);
        (first.into_bytes(), Challenge { hash, verifier, nonce, transcript, gs2_header: self.gs2_header })
    }
}

impl Challenge {
    /// Checks `c=…,r=…,p=…`; the answer is the server's final message. `None` = the proof is not right.
    pub(crate) fn verify(&self, message: &[u8]) -> Option<Vec<u8>> {
        if message.len() > MESSAGE_LEN_MAX {
            return None;
        }
        let text = std::str::from_utf8(message).ok()?;
        let (without_proof, proof) = text.rsplit_once(",p=")?;
        let mut attributes = without_proof.split(',');
        let binding = BASE64.decode(attributes.next()?.strip_prefix("c=")?).ok()?;
        let nonce = attributes.next()?.strip_prefix("r=")?;
        let proof = BASE64.decode(proof).ok()?;
        if binding != self.gs2_header.as_bytes() || nonce != self.nonce {
            return None;
        }
        let auth_message = format!("{},{without_proof}", self.transcript);
        let signature = self.mac(&self.verifier.stored_key, auth_message.as_bytes())?;
        if proof.len() != signature.len() {
            return None;
        }
        let client_key: Vec<u8> = proof.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        if !same(&self.digest(&client_key), &self.verifier.stored_key) {
            return None;
        }
        let server_signature = self.mac(&self.verifier.server_key, auth_message.as_bytes())?;
        Some(format!("v={}", BASE64.encode(server_signature)).into_bytes())
    }

    fn mac(&self, key: &[u8], message: &[u8]) -> Option<Vec<u8>> {
        Some(match self.hash {
            ScramHash::Sha256 => Hmac::<Sha256>::new_from_slice(key)
                .ok()?
                .chain_update(message)
                .finalize()
                .into_bytes()
                .to_vec(),
            ScramHash::Sha512 => Hmac::<Sha512>::new_from_slice(key)
                .ok()?
                .chain_update(message)
                .finalize()
                .into_bytes()
                .to_vec(),
        })
    }

    fn digest(&self, bytes: &[u8]) -> Vec<u8> {
        match self.hash {
            ScramHash::Sha256 => Sha256::digest(bytes).to_vec(),
            ScramHash::Sha512 => Sha512::digest(bytes).to_vec(),
        }
    }
}

/// Compares without telling by its time where the difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

/// Undoes `=2C` and `=3D` (RFC 5802 §5.1).
fn unescape(name: &str) -> Option<String> {
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(at) = rest.find('=') {
        out.push_str(&rest[..at]);
        match rest.get(at..at + 3)? {
            "=2C" => out.push(','),
            "=3D" => out.push('='),
            _ => return None,
        }
        rest = &rest[at + 3..];
    }
    out.push_str(rest);
    (!out.is_empty()).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7677 §3: user `user`, password `pencil`.
    fn rfc7677() -> (ClientFirst, ScramVerifier) {
        let first = ClientFirst::parse(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO").unwrap();
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let mut salted = [0; 32];
        pbkdf2::pbkdf2_hmac::<Sha256>(b"pencil", &salt, 4096, &mut salted);
        let mac = |message: &[u8]| {
            Hmac::<Sha256>::new_from_slice(&salted).unwrap().chain_update(message).finalize().into_bytes()
        };
        let stored_key = Sha256::digest(mac(b"Client Key")).to_vec().into();
        let server_key = mac(b"Server Key").to_vec().into();
        (first, ScramVerifier { salt: salt.into(), iterations: 4096, stored_key, server_key })
    }

    #[test]
    fn the_exchange_of_the_rfc_succeeds() {
        let (first, verifier) = rfc7677();
        assert_eq!(first.user, "user");
        let (message, challenge) =
            first.challenge(ScramHash::Sha256, verifier, "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0");
        let expected =
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        assert_eq!(String::from_utf8(message).unwrap(), expected);
        let last = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        let answer = challenge.verify(last).unwrap();
        assert_eq!(answer, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn a_wrong_proof_nonce_or_binding_fails() {
        let (first, verifier) = rfc7677();
        let (_, challenge) = first.challenge(ScramHash::Sha256, verifier, "server");
        for last in [
            "c=biws,r=rOprNGfwEbeRWgbNEkqOserver,p=AAAA",
            "c=biws,r=rOprNGfwEbeRWgbNEkqOserver,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            "c=biws,r=other,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
            "c=eSws,r=rOprNGfwEbeRWgbNEkqOserver,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
            "",
            "p=",
        ] {
            assert_eq!(challenge.verify(last.as_bytes()), None, "{last}");
        }
    }

    #[test]
    fn first_messages_that_are_not_of_this_mechanism_are_refused() {
        for message in [
            "",
            "n",
            "n,,",
            "p=tls-unique,,n=user,r=x",
            "n,,n=,r=x",
            "n,,n=user,r=",
            "n,a=other,n=user,r=x",
            "n,,n=a=zz,r=x",
        ] {
            assert_eq!(ClientFirst::parse(message.as_bytes()), None, "{message}");
        }
        assert_eq!(ClientFirst::parse(&[0xff; 10]), None);
        assert_eq!(ClientFirst::parse(&vec![b'n'; 5_000]), None);
        assert_eq!(ClientFirst::parse(b"n,,n=a=2Cb=3Dc,r=x").unwrap().user, "a,b=c");
    }

    #[test]
    fn fuzz_messages_of_the_mechanism_are_refused_and_never_panic() {
        use crate::codec::fuzz::{damage, for_each_seed, noise};
        let last = b"c=biws,r=rOprNGfwEbeRWgbNEkqOserver,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        for_each_seed(|rng| {
            let (first, verifier) = rfc7677();
            let (_, challenge) = first.challenge(ScramHash::Sha256, verifier, "server");
            for _ in 0..100 {
                let mut bytes = b"n,a=user,n=us=2Cer,r=rOprNGfwEbeRWgbNEkqO".to_vec();
                damage(rng, &mut bytes);
                if let Some(first) = ClientFirst::parse(&bytes) {
                    assert!(!first.user.is_empty() && !first.nonce.is_empty());
                }
                ClientFirst::parse(&noise(rng, 60));
                let mut bytes = last.to_vec();
                damage(rng, &mut bytes);
                assert_eq!(challenge.verify(&bytes), None, "{bytes:?} proves nothing");
                assert_eq!(challenge.verify(&noise(rng, 60)), None);
            }
        });
    }
}
