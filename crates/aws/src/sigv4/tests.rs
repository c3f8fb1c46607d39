//! AWS's published vectors, requests that were captured from its SDKs, and what becomes of them when something is wrong.

use broker::Principal;
use bytes::Bytes;
use hyper::{HeaderMap, Request, header::HeaderName};

use super::*;
use crate::{codec::query, door::fixtures::request};

const KEY: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// One case of the aws-sig-v4-test-suite: everything in it was signed at 20150830T123600Z for `us-east-1/service`.
struct Vector {
    name: &'static str,
    /// Method, path and query as they are in the suite: some are not escaped, as no client sends them.
    request: (&'static str, &'static str, &'static str),
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
    /// Path, query and digest in the canonical request.
    canonical: (&'static str, &'static str),
    signature: &'static str,
}

const UNRESERVED: &str = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const UNRESERVED_PATH: &str = "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

const fn get(
    name: &'static str,
    path: &'static str,
    query: &'static str,
    canonical: (&'static str, &'static str),
    signature: &'static str,
) -> Vector {
    Vector { name, request: ("GET", path, query), headers: &[], body: "", canonical, signature }
}

const VANILLA: &str = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";

const VECTORS: &[Vector] = &[
    get("get-vanilla", "/", "", ("/", ""), VANILLA),
    get("get-relative", "/example/..", "", ("/", ""), VANILLA),
    get("get-relative-relative", "/example1/example2/../..", "", ("/", ""), VANILLA),
    get("get-slash", "//", "", ("/", ""), VANILLA),
    get("get-slash-dot-slash", "/./", "", ("/", ""), VANILLA),
    get(
        "get-slash-pointless-dot",
        "/./example",
        "",
        ("/example", ""),
        "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5",
    ),
    get(
        "get-slashes",
        "//example//",
        "",
        ("/example/", ""),
        "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84",
    ),
    get(
        "get-space",
        "/example space/",
        "",
        ("/example%20space/", ""),
        "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741",
    ),
    get(
        "get-unreserved",
        UNRESERVED_PATH,
        "",
        (UNRESERVED_PATH, ""),
        "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
    ),
    get(
        "get-utf8",
        "/\u{1234}",
        "",
        ("/%E1%88%B4", ""),
        "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85",
    ),
    get(
        "get-vanilla-empty-query-key",
        "/",
        "Param1=value1",
        ("/", "Param1=value1"),
        "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb",
    ),
    get(
        "get-vanilla-query-order-key",
        "/",
        "Param1=value2&Param1=Value1",
        ("/", "Param1=Value1&Param1=value2"),
        "eedbc4e291e521cf13422ffca22be7d2eb8146eecf653089df300a15b2382bd1",
    ),
    get(
        "get-vanilla-query-order-key-case",
        "/",
        "Param2=value2&Param1=value1",
        ("/", "Param1=value1&Param2=value2"),
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    ),
    get(
        "get-vanilla-query-order-value",
        "/",
        "Param1=value2&Param1=value1",
        ("/", "Param1=value1&Param1=value2"),
        "5772eed61e12b33fae39ee5e7012498b51d56abc0abb7c60486157bd471c4694",
    ),
    get(
        "get-vanilla-utf8-query",
        "/",
        "\u{1234}=bar",
        ("/", "%E1%88%B4=bar"),
        "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
    ),
    Vector {
        name: "get-header-value-trim",
        request: ("GET", "/", ""),
        headers: &[("my-header1", " value1"), ("my-header2", " \"a   b   c\"")],
        body: "",
        canonical: ("/", ""),
        signature: "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
    },
    Vector {
        name: "post-header-key-case",
        request: ("POST", "/", ""),
        headers: &[],
        body: "",
        canonical: ("/", ""),
        signature: "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
    },
    Vector {
        name: "post-header-value-case",
        request: ("POST", "/", ""),
        headers: &[("my-header1", "VALUE1")],
        body: "",
        canonical: ("/", ""),
        signature: "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d",
    },
    Vector {
        name: "post-x-www-form-urlencoded",
        request: ("POST", "/", ""),
        headers: &[("content-type", "application/x-www-form-urlencoded")],
        body: "Param1=value1",
        canonical: ("/", ""),
        signature: "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
    },
];

#[test]
fn the_published_vectors_have_the_published_signatures() {
    for Vector { name, request: (method, path, query), headers: more, body, canonical, signature } in VECTORS
    {
        let mut headers = HeaderMap::new();
        let fixed = [("host", "example.amazonaws.com"), ("x-amz-date", "20150830T123600Z")];
        for (name, value) in fixed.iter().chain(*more) {
            headers.append(HeaderName::from_static(name), value.trim().parse().unwrap());
        }
        let mut names: Vec<&str> = headers.keys().map(|name| name.as_str()).collect();
        names.sort_unstable();
        let payload = hex_digest(body.as_bytes());
        let signed =
            Signed { method, path, query, headers: &headers, signed_headers: &names, payload: &payload };
        let found = signed.canonical().unwrap();
        assert!(
            found.starts_with(&format!("{method}\n{}\n{}\n", canonical.0, canonical.1)),
            "{name}: {found}"
        );
        let text = format!(
            "AWS4-HMAC-SHA256\n20150830T123600Z\n20150830/us-east-1/service/aws4_request\n{}",
            hex_digest(found.as_bytes())
        );
        let key = keys::derive(SECRET, ["20150830", "us-east-1", "service"]).unwrap();
        assert_eq!(canonical::hex(&keys::signed(&key, text.as_bytes()).unwrap()), *signature, "{name}");
    }
}

#[test]
fn unreserved_characters_of_a_query_are_left_as_they_are() {
    let headers = HeaderMap::new();
    let query = format!("{UNRESERVED}={UNRESERVED}");
    let signed = Signed {
        method: "GET",
        path: "/",
        query: &query,
        headers: &headers,
        signed_headers: &[],
        payload: "",
    };
    assert!(signed.canonical().unwrap().contains(&query));
}

/// One user with one key.
#[derive(Default)]
struct OneKey {
    keys: SigningKeys,
}

impl Keys for OneKey {
    fn access_key(&self, id: &str) -> Option<AccessKey> {
        let principal =
            Principal { name: Some("ann".into()), permissions: [].into(), ..Principal::anonymous() };
        (id == KEY).then(|| AccessKey::new(principal, Bytes::from_static(b"sealed"), id))
    }

    fn secret_of(&self, _key: &AccessKey) -> Result<String, AwsError> {
        Ok(SECRET.to_owned())
    }

    fn signing_keys(&self) -> &SigningKeys {
        &self.keys
    }
}

const BOTO3_SEND: &[u8] = include_bytes!("captured/boto3_send_message.http");
const BOTO3_STS: &[u8] = include_bytes!("captured/boto3_get_caller_identity.http");
const JAVASCRIPT_SEND: &[u8] = include_bytes!("captured/javascript_send_message.http");
const PRESIGNED: &[u8] = include_bytes!("captured/botocore_presigned.http");

/// When the captured requests were signed, and a little later.
const CAPTURED_S: i64 = 1_795_886_431;

fn check_at(request: &Request<Vec<u8>>, now_s: i64) -> Result<String, AwsError> {
    let (parts, body) = request.clone().into_parts();
    let mut parameters = Vec::new();
    query::parse(parts.uri.query().unwrap_or_default().as_bytes(), &mut parameters).unwrap();
    let key = verify(&OneKey::default(), &parts, &parameters, &body, now_s)?;
    Ok(key.principal.name.unwrap().to_string())
}

#[track_caller]
fn refused(bytes: &[u8], change: impl FnOnce(&mut Request<Vec<u8>>), code: &str) {
    let mut request = request(bytes);
    change(&mut request);
    let error = check_at(&request, CAPTURED_S).unwrap_err();
    assert_eq!(error.code, code, "{error}");
}

#[test]
fn requests_of_the_sdks_verify() {
    for captured in [BOTO3_SEND, BOTO3_STS, JAVASCRIPT_SEND, PRESIGNED] {
        assert_eq!(check_at(&request(captured), CAPTURED_S).unwrap(), "ann");
    }
}

#[test]
fn whatever_of_a_signed_request_is_changed_its_signature_does_not_match() {
    let code = "SignatureDoesNotMatch";
    for captured in [BOTO3_SEND, JAVASCRIPT_SEND] {
        refused(captured, |request| request.body_mut().push(b' '), code);
        refused(captured, |request| *request.uri_mut() = "/other".parse().unwrap(), code);
        refused(captured, |request| *request.uri_mut() = "/?a=b".parse().unwrap(), code);
        refused(captured, |request| *request.method_mut() = hyper::Method::PUT, code);
        for (name, value) in
            [("x-amz-target", "AmazonSQS.PurgeQueue"), ("host", "127.0.0.1"), ("x-amz-new", "x")]
        {
            let insert = |request: &mut Request<Vec<u8>>| {
                request.headers_mut().insert(HeaderName::from_static(name), value.parse().unwrap());
            };
            refused(captured, insert, code);
        }
    }
    refused(PRESIGNED, |request| request.body_mut().push(b' '), code);
    let longer = String::from_utf8_lossy(PRESIGNED).replace("Expires=600", "Expires=601");
    refused(longer.as_bytes(), |_| {}, code);
}

fn authorization(captured: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = String::from_utf8(captured.to_vec()).unwrap();
    assert!(text.contains(from));
    text.replace(from, to).into_bytes()
}

#[test]
fn what_is_wrong_with_a_signature_is_told_in_awss_codes() {
    for (from, to, code) in [
        ("AKIDEXAMPLE", "AKIDOTHER", "InvalidClientTokenId"),
        ("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256", "IncompleteSignature"),
        ("AWS4-HMAC-SHA256", "Bearer", "IncompleteSignature"),
        ("Credential=", "Credentials=", "IncompleteSignature"),
        ("SignedHeaders=", "Headers=", "IncompleteSignature"),
        (", Signature=", ", Sig=", "IncompleteSignature"),
        (", Signature=", ", Signature=00", "SignatureDoesNotMatch"),
        (", Signature=", ", Signature=é", "IncompleteSignature"),
        ("/aws4_request", "", "IncompleteSignature"),
        ("20261128/eu", "20261127/eu", "SignatureDoesNotMatch"),
        ("eu-west-1", "eu-west-2", "SignatureDoesNotMatch"),
        (";host", "", "SignatureDoesNotMatch"),
        (";x-amz-target", "", "SignatureDoesNotMatch"),
        ("X-Amz-Date: 2026", "X-Amz-Date: x026", "IncompleteSignature"),
        ("X-Amz-Date:", "X-Other:", "IncompleteSignature"),
        ("Authorization:", "X-Other:", "MissingAuthenticationToken"),
    ] {
        refused(&authorization(BOTO3_SEND, from, to), |_| {}, code);
    }
    for (from, to, code) in [
        ("AKIDEXAMPLE", "AKIDOTHER", "InvalidClientTokenId"),
        ("X-Amz-Expires=600", "X-Amz-Expires=604801", "IncompleteSignature"),
        ("X-Amz-Expires=600", "X-Amz-Expires=x", "IncompleteSignature"),
        ("X-Amz-Expires=600&", "", "IncompleteSignature"),
        ("X-Amz-Signature=", "X-Amz-Sig=", "IncompleteSignature"),
        ("X-Amz-Algorithm=", "X-Other=", "MissingAuthenticationToken"),
    ] {
        refused(&authorization(PRESIGNED, from, to), |_| {}, code);
    }
}

#[test]
fn a_digest_that_is_said_must_be_that_of_the_body() {
    let said = authorization(JAVASCRIPT_SEND, "x-amz-content-sha256: 2", "x-amz-content-sha256: 3");
    refused(&said, |_| {}, "SignatureDoesNotMatch");
}

#[test]
fn a_signature_is_good_for_a_quarter_of_an_hour_both_ways() {
    let made_s = time::parse("20261128T172013Z").unwrap();
    let request = request(BOTO3_SEND);
    for (now_s, is_good) in [
        (made_s - SKEW_MAX_S - 1, false),
        (made_s - SKEW_MAX_S, true),
        (made_s + SKEW_MAX_S, true),
        (made_s + SKEW_MAX_S + 1, false),
    ] {
        match check_at(&request, now_s) {
            Ok(_) => assert!(is_good, "{now_s}"),
            Err(error) => assert!(!is_good && error.code == "RequestExpired", "{now_s}: {error}"),
        }
    }
}

#[test]
fn a_presigned_request_is_good_for_as_long_as_it_says() {
    let made_s = time::parse("20261128T172013Z").unwrap();
    let request = request(PRESIGNED);
    assert!(check_at(&request, made_s + 600).is_ok());
    assert_eq!(check_at(&request, made_s + 601).unwrap_err().code, "RequestExpired");
}

#[test]
fn keys_are_derived_once_for_each_secret_and_scope() {
    let keys = SigningKeys::default();
    let scope = ["20150830", "us-east-1", "sqs"];
    let (first, second) = (Bytes::from_static(b"1"), Bytes::from_static(b"2"));
    let known = || Err(AwsError::internal_failure("asked again"));
    let key = keys.key(&first, scope, || Ok("a".to_owned())).unwrap();
    assert_eq!(keys.key(&first, scope, known).unwrap(), key);
    assert_ne!(keys.key(&second, scope, || Ok("b".to_owned())).unwrap(), key);
    assert!(keys.key(&first, ["20150831", "us-east-1", "sqs"], known).is_err());
}

/// The header lines of a POST that is signed now.
#[allow(clippy::too_many_arguments)] // Each is a part of what is signed.
pub(crate) fn sign(
    key: &str,
    secret: &str,
    region: &str,
    service: &str,
    now_s: i64,
    path: &str,
    host: &str,
    body: &str,
) -> String {
    let time = time::format(now_s);
    let mut headers = HeaderMap::new();
    headers.insert("host", host.parse().unwrap());
    headers.insert("x-amz-date", time.parse().unwrap());
    let payload = hex_digest(body.as_bytes());
    let signed_headers = &["host", "x-amz-date"][..];
    let signed =
        Signed { method: "POST", path, query: "", headers: &headers, signed_headers, payload: &payload };
    let scope = format!("{}/{region}/{service}/aws4_request", &time[..8]);
    let digest = hex_digest(signed.canonical().unwrap().as_bytes());
    let derived = keys::derive(secret, [&time[..8], region, service]).unwrap();
    let text = format!("{ALGORITHM}\n{time}\n{scope}\n{digest}");
    let signature = canonical::hex(&keys::signed(&derived, text.as_bytes()).unwrap());
    format!(
        "X-Amz-Date: {time}\r\nAuthorization: {ALGORITHM} Credential={key}/{scope}, SignedHeaders=host;x-amz-date, \
         Signature={signature}\r\n"
    )
}
