use crate::{
    cli::{ask, json},
    process::{Scratch, Server, binary, request, text},
};

fn add(server: &Server, arguments: &[&str]) -> String {
    let mut all = vec!["user", "add"];
    all.extend(arguments);
    ask(server, &all).unwrap()
}

#[test]
fn the_first_user_closes_the_door_behind_it() {
    let server = Server::start(&[]);
    let said = add(&server, &["alice"]);
    let password = said.trim().strip_prefix("password of alice: ").unwrap().to_owned();
    let refused = ask(&server, &["stream", "ls"]).unwrap_err();
    assert!(refused.contains("HTTP basic"), "{refused}");
    assert_eq!(server.get("/healthz").0, 200);
    assert_eq!(server.get("/readyz").0, 200);
    assert_eq!(server.get("/metrics").0, 401);
    ask(&server, &["stream", "create", "orders", "--as", &format!("alice:{password}")]).unwrap();
    assert!(ask(&server, &["stream", "ls", "--as", "alice:wrong password"]).is_err());
    assert!(ask(&server, &["stream", "ls", "--as", &format!("nobody:{password}")]).is_err());
}

#[test]
fn a_name_that_http_cannot_say_gets_no_password() {
    let server = Server::start(&[]);
    for name in ["a:b", "a\nb"] {
        let refused = ask(&server, &["user", "add", name, "--password", "long-enough"]).unwrap_err();
        assert!(refused.contains("no colon"), "{refused}");
    }
    ask(&server, &["stream", "ls"]).unwrap();
}

#[test]
fn a_user_does_what_it_may_and_no_more() {
    let server = Server::start(&[]);
    add(&server, &["admin", "--password", "admin-password"]);
    let reader = [
        "reader",
        "--password",
        "reader-password",
        "--allow",
        "read:orders*",
        "--as",
        "admin:admin-password",
    ];
    add(&server, &reader);
    let admin = ["--as", "admin:admin-password"];
    let reader = ["--as", "reader:reader-password"];
    let with = |arguments: &[&str], who: [&str; 2]| ask(&server, &[arguments, &who].concat());
    for stream in ["orders", "billing"] {
        with(&["stream", "create", stream], admin).unwrap();
        with(&["stream", "publish", stream, "x"], admin).unwrap();
    }
    let seen = with(&["stream", "ls"], reader).unwrap();
    assert!(seen.contains("orders") && !seen.contains("billing"), "{seen}");
    with(&["stream", "tail", "orders", "--from", "earliest", "--no-follow"], reader).unwrap();
    for refused in [
        vec!["stream", "publish", "orders", "x"],
        vec!["stream", "create", "mine"],
        vec!["stream", "rm", "orders"],
        vec!["stream", "describe", "billing"],
        vec!["user", "ls"],
        vec!["stream", "ls", "--namespace", "other/default"],
    ] {
        assert!(with(&refused, reader).is_err(), "{refused:?}");
    }
    let users = json(&server, &["user", "ls", "--as", "admin:admin-password"]);
    assert_eq!(users["users"][1]["permissions"], serde_json::json!(["read:orders*"]), "{users}");
    with(&["user", "rm", "reader"], admin).unwrap();
    assert!(with(&["stream", "ls"], reader).is_err());
}

#[test]
fn users_outlive_a_restart_and_open_the_way_beyond_loopback() {
    let mut server = Server::start(&[]);
    add(&server, &["alice", "--password", "alice-password"]);
    assert_eq!(server.stop(), 0);
    let folder = std::mem::replace(&mut server.folder, Scratch::new());
    let server = Server::start_in(folder, &["--listen", "admin=0.0.0.0:0"]);
    let port = server.address("admin").rsplit(':').next().unwrap();
    let url = format!("http://127.0.0.1:{port}");
    let output =
        binary().args(["user", "ls", "--admin", &url, "--as", "alice:alice-password"]).output().unwrap();
    assert!(text(&output.stdout).contains("alice"), "{}", text(&output.stderr));
    let (status, _) =
        request(&format!("127.0.0.1:{port}"), "GET /api/v1/users HTTP/1.1\r\nhost: localhost\r\n");
    assert_eq!(status, 401);
}

#[test]
fn a_short_password_is_refused() {
    let server = Server::start(&[]);
    let why = ask(&server, &["user", "add", "bob", "--password", "1234567"]).unwrap_err();
    assert!(why.contains("at least 8"), "{why}");
}

#[test]
fn the_last_user_stays_while_others_than_this_machine_are_let_in() {
    let mut server = Server::start(&[]);
    let first = ask(&server, &["user", "add", "reader", "--allow", "read:x"]).unwrap_err();
    assert!(first.contains("admin:*"), "{first}");
    add(&server, &["alice", "--password", "alice-password"]);
    assert_eq!(server.stop(), 0);
    let folder = std::mem::replace(&mut server.folder, Scratch::new());
    let mut server = Server::start_in(folder, &["--listen", "kafka=0.0.0.0:0"]);
    let gone = ["user", "rm", "alice", "--as", "alice:alice-password"];
    let why = ask(&server, &gone).unwrap_err();
    assert!(why.contains("the last user") && why.contains("--insecure"), "{why}");
    assert_eq!(server.stop(), 0);
    let folder = std::mem::replace(&mut server.folder, Scratch::new());
    let server = Server::start_in(folder, &[]);
    ask(&server, &gone).unwrap();
    ask(&server, &["user", "ls"]).unwrap();
}
