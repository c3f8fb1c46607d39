//! SASL over the wire: PLAIN and SCRAM, with and without request headers, and what happens before and without a login.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use hmac::{Hmac, KeyInit, Mac};
use kafka::codec::{
    ErrorCode,
    api::{
        alter_user_scram_credentials::{
            AlterUserScramCredentialsRequest, AlterUserScramCredentialsResult, ScramCredentialDeletion,
            ScramCredentialUpsertion,
        },
        describe_user_scram_credentials::DescribeUserScramCredentialsRequest,
        metadata::MetadataRequest,
        sasl_authenticate::{SaslAuthenticateRequest, SaslAuthenticateResponse},
        sasl_handshake::{SaslHandshakeRequest, SaslHandshakeResponse},
    },
};
use sha2::{Digest, Sha256, Sha512};

use crate::{client::Client, node::Node, process::binary, usual::create};

pub const PASSWORD: &str = "correct horse";

/// A node with user "ann".
fn with_user() -> Node {
    let node = Node::start();
    add_user(&node);
    node
}

/// Makes user "ann", who may do everything.
pub fn add_user(node: &Node) {
    let admin = format!("http://{}", node.server.address("admin"));
    let added =
        binary().args(["user", "add", "ann", "--password", PASSWORD, "--admin", &admin]).output().unwrap();
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
}

fn handshake(client: &mut Client, version: i16, mechanism: &str) -> SaslHandshakeResponse<'static> {
    client.ask(version, &SaslHandshakeRequest { mechanism })
}

fn authenticate(client: &mut Client, message: &[u8]) -> SaslAuthenticateResponse<'static> {
    client.ask(2, &SaslAuthenticateRequest { auth_bytes: message })
}

pub fn plain(client: &mut Client, user: &str, password: &str) -> ErrorCode {
    assert_eq!(handshake(client, 1, "PLAIN").error_code, ErrorCode::NONE);
    authenticate(client, format!("\0{user}\0{password}").as_bytes()).error_code
}

/// Whether the session may do what needs a login.
fn is_in(client: &mut Client) -> bool {
    client.send(9, &MetadataRequest { topics: None, ..Default::default() });
    client.receive_unless_broken().is_some()
}

#[test]
fn plain_lets_in_who_has_the_password() {
    let node = with_user();
    let mut client = node.client();
    assert_eq!(plain(&mut client, "ann", PASSWORD), ErrorCode::NONE);
    create(&mut client, "t", 1, &[]);
}

#[test]
fn a_client_that_was_let_in_without_a_login_needs_one_once_there_are_users() {
    let node = Node::start();
    let mut client = node.client();
    assert!(is_in(&mut client));
    add_user(&node);
    assert!(!is_in(&mut client));
    let mut client = node.client();
    assert_eq!(plain(&mut client, "ann", PASSWORD), ErrorCode::NONE);
    assert!(is_in(&mut client));
}

#[test]
fn a_wrong_password_and_an_unknown_user_are_told_apart_by_nobody() {
    let node = with_user();
    let mut answers = Vec::new();
    for (user, password) in [("ann", "wrong"), ("bob", PASSWORD), ("ann", "")] {
        let mut client = node.client();
        handshake(&mut client, 1, "PLAIN");
        let answer = authenticate(&mut client, format!("\0{user}\0{password}").as_bytes());
        assert_eq!(answer.error_code, ErrorCode::SASL_AUTHENTICATION_FAILED, "{user}");
        answers.push(answer.error_message);
        assert!(!is_in(&mut client));
    }
    assert_eq!(answers[0], answers[1]);
}

#[test]
fn what_needs_a_login_closes_the_connection_before_it() {
    let node = with_user();
    let mut client = node.client();
    assert!(client.api_versions().error_code.is_none(), "versions are told to everybody");
    assert!(!is_in(&mut client));
    let mut client = node.client();
    client.send_bytes(&(1i32 << 20).to_be_bytes());
    assert!(client.is_closed(), "frames are small before a login");
}

#[test]
fn an_unknown_mechanism_is_answered_with_those_there_are() {
    let node = with_user();
    let mut client = node.client();
    let answer = handshake(&mut client, 1, "GSSAPI");
    assert_eq!(answer.error_code, ErrorCode::UNSUPPORTED_SASL_MECHANISM);
    assert_eq!(answer.mechanisms, ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]);
    assert!(client.is_closed(), "a failed login ends the connection, as in the original");
}

#[test]
fn authentication_without_a_handshake_fails() {
    let node = with_user();
    let mut client = node.client();
    let answer = authenticate(&mut client, format!("\0ann\0{PASSWORD}").as_bytes());
    assert_ne!(answer.error_code, ErrorCode::NONE);
    assert!(!is_in(&mut client));
}

/// The two hashes of SCRAM.
#[derive(Clone, Copy, Debug)]
enum Hash {
    Sha256,
    Sha512,
}

impl Hash {
    fn mechanism(self) -> &'static str {
        match self {
            Hash::Sha256 => "SCRAM-SHA-256",
            Hash::Sha512 => "SCRAM-SHA-512",
        }
    }

    fn mac(self, key: &[u8], message: &[u8]) -> Vec<u8> {
        match self {
            Hash::Sha256 => Hmac::<Sha256>::new_from_slice(key)
                .unwrap()
                .chain_update(message)
                .finalize()
                .into_bytes()
                .to_vec(),
            Hash::Sha512 => Hmac::<Sha512>::new_from_slice(key)
                .unwrap()
                .chain_update(message)
                .finalize()
                .into_bytes()
                .to_vec(),
        }
    }

    fn digest(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Hash::Sha256 => Sha256::digest(bytes).to_vec(),
            Hash::Sha512 => Sha512::digest(bytes).to_vec(),
        }
    }

    fn salted(self, password: &str, salt: &[u8], rounds: u32) -> Vec<u8> {
        match self {
            Hash::Sha256 => {
                let mut salted = vec![0; 32];
                pbkdf2::pbkdf2_hmac::<Sha256>(password.as_bytes(), salt, rounds, &mut salted);
                salted
            }
            Hash::Sha512 => {
                let mut salted = vec![0; 64];
                pbkdf2::pbkdf2_hmac::<Sha512>(password.as_bytes(), salt, rounds, &mut salted);
                salted
            }
        }
    }
}

/// The client's side of SCRAM (RFC 5802): `exchange` sends a message and returns the server's. True when both sides
/// have proved themselves.
fn scram(hash: Hash, user: &str, password: &str, mut exchange: impl FnMut(&[u8]) -> Option<Vec<u8>>) -> bool {
    let bare = format!("n={user},r=fyko+d2lbbFgONRv9qkxdawL");
    let Some(first) = exchange(format!("n,,{bare}").as_bytes()) else { return false };
    let first = String::from_utf8(first).unwrap();
    let part = |name: &str| first.split(',').find_map(|part| part.strip_prefix(name)).unwrap().to_owned();
    let (nonce, salt, rounds) = (part("r="), BASE64.decode(part("s=")).unwrap(), part("i=").parse().unwrap());
    assert!(nonce.starts_with("fyko+d2lbbFgONRv9qkxdawL") && nonce.len() > 40);
    let salted = hash.salted(password, &salt, rounds);
    let client_key = hash.mac(&salted, b"Client Key");
    let without_proof = format!("c=biws,r={nonce}");
    let transcript = format!("{bare},{first},{without_proof}");
    let signature = hash.mac(&hash.digest(&client_key), transcript.as_bytes());
    let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
    let last = format!("{without_proof},p={}", BASE64.encode(proof));
    let Some(answer) = exchange(last.as_bytes()) else { return false };
    let server = hash.mac(&hash.mac(&salted, b"Server Key"), transcript.as_bytes());
    assert_eq!(
        String::from_utf8(answer).unwrap(),
        format!("v={}", BASE64.encode(server)),
        "the server proves itself"
    );
    true
}

fn scram_login(client: &mut Client, hash: Hash, user: &str, password: &str) -> bool {
    assert_eq!(handshake(client, 1, hash.mechanism()).error_code, ErrorCode::NONE);
    scram(hash, user, password, |message| {
        let answer = authenticate(client, message);
        match answer.error_code {
            ErrorCode::NONE => Some(answer.auth_bytes.to_vec()),
            code => {
                assert_eq!(code, ErrorCode::SASL_AUTHENTICATION_FAILED);
                None
            }
        }
    })
}

#[test]
fn scram_lets_in_who_has_the_password_with_either_hash() {
    let node = with_user();
    for hash in [Hash::Sha256, Hash::Sha512] {
        let mut client = node.client();
        assert!(scram_login(&mut client, hash, "ann", PASSWORD), "{hash:?}");
        assert!(is_in(&mut client));
        for (user, password) in [("ann", "wrong"), ("bob", PASSWORD)] {
            let mut client = node.client();
            assert!(!scram_login(&mut client, hash, user, password), "{hash:?} {user}");
            assert!(!is_in(&mut client));
        }
    }
}

/// Handshake version 0: the mechanism's messages follow bare, each behind its length, as old clients send them.
#[test]
fn raw_messages_follow_a_handshake_of_version_0() {
    let node = with_user();
    let raw = |client: &mut Client, message: &[u8]| {
        let len = u32::try_from(message.len()).unwrap().to_be_bytes();
        client.send_bytes(&[&len[..], message].concat());
        client.receive_unless_broken()
    };
    let mut client = node.client();
    handshake(&mut client, 0, "PLAIN");
    assert_eq!(raw(&mut client, format!("\0ann\0{PASSWORD}").as_bytes()), Some(Vec::new()));
    assert!(is_in(&mut client));
    for hash in [Hash::Sha256, Hash::Sha512] {
        let mut client = node.client();
        handshake(&mut client, 0, hash.mechanism());
        assert!(scram(hash, "ann", PASSWORD, |message| raw(&mut client, message)));
        assert!(is_in(&mut client));
    }
    let mut client = node.client();
    handshake(&mut client, 0, "PLAIN");
    assert_eq!(raw(&mut client, b"\0ann\0wrong"), None, "there is no way to say why");
}

#[test]
fn credentials_that_an_administrator_sets_work_at_once_and_after_a_kill() {
    let mut node = with_user();
    let mut admin = node.client();
    assert_eq!(plain(&mut admin, "ann", PASSWORD), ErrorCode::NONE);
    let salted = Hash::Sha512.salted("sesame", b"salty", 4_096);
    let upsertion = ScramCredentialUpsertion {
        name: "eve",
        mechanism: 2,
        iterations: 4_096,
        salt: b"salty",
        salted_password: &salted,
    };
    let request = AlterUserScramCredentialsRequest { deletions: Vec::new(), upsertions: vec![upsertion] };
    assert_eq!(admin.ask(0, &request).results[0].error_code, ErrorCode::NONE);
    for restarted in [false, true] {
        if restarted {
            node.crash_and_start_again();
        }
        assert!(scram_login(&mut node.client(), Hash::Sha512, "eve", "sesame"));
        assert!(!scram_login(&mut node.client(), Hash::Sha512, "eve", "wrong"));
        assert!(!scram_login(&mut node.client(), Hash::Sha256, "eve", "sesame"), "one mechanism was set");
    }
}

#[test]
fn without_users_a_loopback_client_needs_no_login_and_may_make_one() {
    let node = Node::start();
    let mut client = node.client();
    assert!(is_in(&mut client));
    let mut client = node.client();
    assert_eq!(plain(&mut client, "anyone", "anything"), ErrorCode::NONE);
    assert!(is_in(&mut client));
    assert!(!scram_login(&mut node.client(), Hash::Sha256, "anyone", "anything"), "a challenge needs a user");
}

/// `connections.max.reauth.ms` is 0, as by default: a login lasts as long as its connection, and there is no second one.
#[test]
fn a_login_has_no_end_and_a_second_one_on_its_connection_is_refused_without_harm() {
    let node = with_user();
    let mut client = node.client();
    assert_eq!(handshake(&mut client, 1, "PLAIN").error_code, ErrorCode::NONE);
    let answer = authenticate(&mut client, format!("\0ann\0{PASSWORD}").as_bytes());
    assert_eq!((answer.error_code, answer.session_lifetime_ms), (ErrorCode::NONE, 0));
    for mechanism in ["PLAIN", "SCRAM-SHA-512", "GSSAPI"] {
        let again = handshake(&mut client, 1, mechanism);
        assert_eq!(again.error_code, ErrorCode::ILLEGAL_SASL_STATE, "{mechanism}");
    }
    let again = authenticate(&mut client, format!("\0ann\0{PASSWORD}").as_bytes());
    assert_eq!(again.error_code, ErrorCode::ILLEGAL_SASL_STATE);
    create(&mut client, "t", 1, &[]);
    let mut client = node.client();
    assert!(scram_login(&mut client, Hash::Sha256, "ann", PASSWORD));
    assert_eq!(handshake(&mut client, 1, "PLAIN").error_code, ErrorCode::ILLEGAL_SASL_STATE);
    assert!(is_in(&mut client));
}

#[test]
fn the_lowest_versions_of_the_handshake_and_of_authentication_let_in_as_the_highest_do() {
    let node = with_user();
    for version in 0..=2 {
        let mut client = node.client();
        handshake(&mut client, 1, "PLAIN");
        let message = format!("\0ann\0{PASSWORD}");
        let answer = client.ask(version, &SaslAuthenticateRequest { auth_bytes: message.as_bytes() });
        assert_eq!(answer.error_code, ErrorCode::NONE, "version {version}");
        assert!(is_in(&mut client));
    }
}

/// What the original refuses of credentials, in its words.
#[test]
fn credentials_that_make_no_sense_are_refused_each_with_its_reason() {
    let node = with_user();
    let mut client = node.client();
    assert_eq!(plain(&mut client, "ann", PASSWORD), ErrorCode::NONE);
    let upsertion = |name, mechanism, iterations| ScramCredentialUpsertion {
        name,
        mechanism,
        iterations,
        salt: b"salt",
        salted_password: &[7; 32],
    };
    let mut alter = |deletions: Vec<(&'static str, i8)>,
                     upsertions: Vec<ScramCredentialUpsertion<'static>>| {
        let deletions = deletions
            .into_iter()
            .map(|(name, mechanism)| ScramCredentialDeletion { name, mechanism })
            .collect();
        let answer = client.ask(0, &AlterUserScramCredentialsRequest { deletions, upsertions });
        let said = |r: AlterUserScramCredentialsResult<'static>| {
            (r.user.into_owned(), r.error_code, r.error_message.map(|why| why.into_owned()))
        };
        answer.results.into_iter().map(said).collect::<Vec<_>>()
    };
    let refused = |user: &str, code, why: &str| vec![(user.to_owned(), code, Some(why.to_owned()))];
    let unacceptable = ErrorCode::UNACCEPTABLE_CREDENTIAL;
    assert_eq!(
        alter(vec![], vec![upsertion("u", 1, 4_095)]),
        refused("u", unacceptable, "Too few iterations")
    );
    assert_eq!(
        alter(vec![], vec![upsertion("u", 1, 16_385)]),
        refused("u", unacceptable, "Too many iterations")
    );
    assert_eq!(
        alter(vec![], vec![upsertion("", 1, 4_096)]),
        refused("", unacceptable, "Username must not be empty")
    );
    assert_eq!(alter(vec![("", 1)], vec![]), refused("", unacceptable, "Username must not be empty"));
    let no_mechanism = ErrorCode::UNSUPPORTED_SASL_MECHANISM;
    for mechanism in [0, 3, -1] {
        let expected = refused("u", no_mechanism, "Unknown SCRAM mechanism");
        assert_eq!(alter(vec![], vec![upsertion("u", mechanism, 4_096)]), expected);
        assert_eq!(alter(vec![("u", mechanism)], vec![]), expected);
    }
    let none = "Attempt to delete a user credential that does not exist";
    assert_eq!(alter(vec![("u", 1)], vec![]), refused("u", ErrorCode::RESOURCE_NOT_FOUND, none));
    let twice = "A user credential cannot be altered twice in the same request";
    let both = vec![upsertion("u", 1, 4_096), upsertion("u", 1, 4_097)];
    assert_eq!(alter(vec![], both), refused("u", ErrorCode::DUPLICATE_RESOURCE, twice));
    let listed = client.ask(0, &DescribeUserScramCredentialsRequest { users: None });
    assert_eq!(listed.results.iter().map(|result| result.user.as_ref()).collect::<Vec<_>>(), ["ann"]);
    // The bounds themselves are taken; one user's fault is not another's.
    let upsertions = vec![upsertion("few", 1, 4_096), upsertion("many", 2, 16_384), upsertion("bad", 1, 1)];
    let answer = client.ask(0, &AlterUserScramCredentialsRequest { deletions: Vec::new(), upsertions });
    let mut codes: Vec<_> = answer.results.iter().map(|r| (r.user.as_ref(), r.error_code)).collect();
    codes.sort_by_key(|(user, _)| *user);
    assert_eq!(codes, [("bad", unacceptable), ("few", ErrorCode::NONE), ("many", ErrorCode::NONE)]);
}
