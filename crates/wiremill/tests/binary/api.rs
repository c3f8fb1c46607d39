use serde_json::Value;

use crate::process::{Server, request};

/// GET with the path's JSON.
fn get(server: &Server, path: &str) -> (u16, Value) {
    let (status, body) = server.get(path);
    (status, serde_json::from_str(&body).unwrap_or_else(|e| panic!("{path}: {e}: {body:?}")))
}

fn send(server: &Server, method: &str, path: &str, body: &str) -> (u16, Value) {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n",
        body.len()
    );
    let (status, answer) = crate::process::request_with_body(server.address("admin"), &head, body);
    (status, serde_json::from_str(&answer).unwrap_or(Value::Null))
}

#[test]
fn health_has_the_body_and_parameters_of_nats() {
    let server = Server::start(&[]);
    for path in
        ["/healthz", "/healthz?js-enabled-only=true", "/healthz?js-server-only=1", "/healthz?account=$G"]
    {
        assert_eq!(server.get(path), (200, r#"{"status":"ok"}"#.to_owned()), "{path}");
    }
    let wrong = [
        (
            "account=$G&stream=ORDERS",
            404,
            "unavailable",
            "JetStream stream \"ORDERS\" not found on account \"$G\"",
        ),
        ("account=nobody", 404, "unavailable", "JetStream account \"nobody\" not found"),
        ("stream=ORDERS", 400, "error", "\"account\" must not be empty when checking stream health"),
        ("account=$G&consumer=c", 400, "error", "\"stream\" must not be empty when checking consumer health"),
        (
            "js-enabled-only=perhaps",
            400,
            "error",
            "error decoding boolean for 'js-enabled-only': strconv.ParseBool: parsing \"perhaps\": invalid syntax",
        ),
    ];
    for (query, status, word, error) in wrong {
        let answer = get(&server, &format!("/healthz?{query}"));
        assert_eq!(answer, (status, serde_json::json!({ "status": word, "error": error })), "{query}");
    }
}

#[test]
fn what_does_not_read_is_answered_in_the_apis_own_shape() {
    let server = Server::start(&[]);
    for (method, path, status) in [
        ("DELETE", "/api/v1/routes/abc", 400),
        ("DELETE", "/api/v1/queues/q/moves/abc", 400),
        ("GET", "/api/v1/streams/%FF", 400),
        ("GET", "/healthz?account=a&account=b", 400),
        ("PUT", "/api/v1/streams", 405),
    ] {
        let (answered, body) = send(&server, method, path, "{}");
        assert_eq!(
            (answered, &body["error"]["kind"]),
            (status, &"invalid".into()),
            "{method} {path}: {body}"
        );
    }
    let refused = crate::cli::ask(&server, &["route", "rm", "kafka:orders"]).unwrap_err();
    assert!(refused.contains("by both its ends"), "{refused}");
}

#[test]
fn what_is_not_there_is_answered_in_the_apis_own_shape() {
    let server = Server::start(&[]);
    let (status, body) = get(&server, "/nowhere");
    assert_eq!((status, &body["error"]["kind"]), (404, &"not_found".into()));
    let (status, body) = get(&server, "/api/v1/streams/absent");
    assert_eq!((status, &body["error"]["kind"]), (404, &"not_found".into()));
    let (status, body) = get(&server, "/api/v1/streams?namespace=nonsense");
    assert_eq!((status, &body["error"]["kind"]), (400, &"invalid".into()));
}

#[test]
fn an_unknown_field_is_refused_by_name() {
    let server = Server::start(&[]);
    let (status, body) = send(&server, "POST", "/api/v1/streams", r#"{"name":"a","partitons":3}"#);
    assert_eq!(status, 400);
    assert!(body["error"]["message"].as_str().unwrap().contains("partitons"), "{body}");
}

#[test]
fn metrics_are_in_the_prometheus_format() {
    let server = Server::start(&[]);
    let (status, text) = server.get("/metrics");
    assert_eq!(status, 200);
    assert!(
        text.contains(&format!("wiremill_build{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"))),
        "{text}"
    );
    assert!(text.contains("wiremill_connections{listener=\"admin\"} 1"), "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
}

#[test]
fn reset_and_the_clock_are_there_in_an_ephemeral_run_only() {
    let durable = Server::start(&[]);
    assert_eq!(send(&durable, "POST", "/reset", "").0, 404);
    assert_eq!(send(&durable, "POST", "/clock/advance", r#"{"by_ms":1}"#).0, 404);
    let ephemeral = Server::start(&["--ephemeral"]);
    assert_eq!(send(&ephemeral, "POST", "/reset", "").0, 200);
    let now = || send(&ephemeral, "POST", "/clock/advance", r#"{"by_ms":0}"#).1["now_ms"].as_i64().unwrap();
    let before = now();
    assert_eq!(send(&ephemeral, "POST", "/clock/advance", r#"{"by_ms":3600000}"#).0, 200);
    assert!(now() - before >= 3_600_000);
}

#[test]
fn a_form_of_a_web_page_cannot_write() {
    let server = Server::start(&["--ephemeral"]);
    let head = "POST /api/v1/streams HTTP/1.1\r\nhost: localhost\r\ncontent-type: text/plain\r\ncontent-length: 0\r\n";
    assert_eq!(request(server.address("admin"), head).0, 400);
}

#[test]
fn lists_come_in_parts_that_are_the_list() {
    let server = Server::start(&[]);
    for name in ["a", "b", "c"] {
        crate::cli::ask(&server, &["stream", "create", name]).unwrap();
    }
    crate::cli::ask(&server, &["queue", "create", "a"]).unwrap();
    let part = |query: &str| {
        let (status, body) = server.get(&format!("/api/v1/streams?{query}"));
        assert_eq!(status, 200, "{body}");
        let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
        let rows = answer["streams"].as_array().unwrap().iter();
        let names = rows.map(|row| format!("{}:{}", row["kind"], row["name"]).replace('"', ""));
        (names.collect::<Vec<_>>(), answer["next"].as_str().map(str::to_owned))
    };
    let (mut seen, mut next) = part("limit=1");
    while let Some(after) = next {
        let (more, then) = part(&format!("limit=1&after={after}"));
        assert_eq!(more.len(), 1);
        seen.extend(more);
        next = then;
    }
    assert_eq!(seen, part("").0);
    assert_eq!(seen, ["log:a", "log:b", "log:c", "queue:a"]);
    assert_eq!(server.get("/api/v1/cursors?limit=0").0, 400);
    assert_eq!(server.get("/api/v1/queues?limit=10001").0, 422);
}
