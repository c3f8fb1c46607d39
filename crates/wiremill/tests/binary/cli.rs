use serde_json::Value;

use crate::process::{Scratch, Server, binary, run, text};

/// Runs a command against the server; standard output when it succeeded, standard error when not.
pub fn ask(server: &Server, arguments: &[&str]) -> Result<String, String> {
    let url = format!("http://{}", server.address("admin"));
    let output = binary().args(arguments).args(["--admin", &url]).output().unwrap();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

pub fn json(server: &Server, arguments: &[&str]) -> Value {
    let mut arguments = arguments.to_vec();
    arguments.push("--json");
    serde_json::from_str(&ask(server, &arguments).unwrap()).unwrap()
}

#[test]
fn lists_are_tables_and_with_a_flag_json() {
    let server = Server::start(&[]);
    assert_eq!(
        ask(&server, &["stream", "ls"]).unwrap(),
        "NAME  KIND  PARTITIONS  RECORDS  SIZE  DURABILITY\n"
    );
    assert_eq!(json(&server, &["stream", "ls"])["streams"], Value::Array(Vec::new()));
    assert_eq!(json(&server, &["cursor", "ls"])["cursors"], Value::Array(Vec::new()));
    assert_eq!(json(&server, &["user", "ls"])["users"], Value::Array(Vec::new()));
}

#[test]
fn the_admin_address_can_come_from_the_environment() {
    let server = Server::start(&[]);
    let url = format!("http://{}", server.address("admin"));
    let output = binary().args(["stream", "ls"]).env("WIREMILL_ADMIN", url).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn flags_may_stand_before_the_command() {
    let server = Server::start(&[]);
    let url = format!("http://{}", server.address("admin"));
    for typed in [["--admin", &url, "--json", "stream", "ls"], ["stream", "--json", "--admin", &url, "ls"]] {
        let output = run(&typed);
        assert!(output.status.success(), "{typed:?}: {}", text(&output.stderr));
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(answer["streams"], Value::Array(Vec::new()));
    }
    // What serves has no use for them, and what asks has none for settings.
    for typed in [["--admin", &url, "serve"].as_slice(), &["--data-dir", "x", "stream", "ls"]] {
        assert!(!run(typed).status.success(), "{typed:?}");
    }
}

#[test]
fn an_error_of_the_server_is_said_and_the_exit_code_tells() {
    let server = Server::start(&[]);
    let why = ask(&server, &["stream", "describe", "absent"]).unwrap_err();
    assert_eq!(why, "wiremill: there is no stream \"absent\" in public/default\n");
    let why = ask(&server, &["cursor", "lag", "absent"]).unwrap_err();
    assert!(why.contains("there is no cursor \"absent\""), "{why}");
}

#[test]
fn a_server_that_is_not_there_is_said() {
    let output = run(&["stream", "ls", "--admin", "http://127.0.0.1:9"]);
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("is it running"), "{}", text(&output.stderr));
}

#[test]
fn a_route_is_added_listed_explained_and_removed() {
    let mut server = Server::start(&[]);
    ask(&server, &["stream", "create", "orders.eu"]).unwrap();
    ask(&server, &["stream", "create", "jobs", "--kind", "queue", "--partitions", "1"]).unwrap();
    let added = json(&server, &["route", "add", "kafka:orders.*", "sqs:jobs", "--key", "{token.2}"]);
    assert_eq!((&added["to"], &added["key"]), (&"queue:jobs".into(), &"{token.2}".into()));
    let said = ask(&server, &["route", "explain", "kafka:orders.eu"]).unwrap();
    assert!(said.contains("implicit: the stream is named like the address"), "{said}");
    assert!(said.contains("from kafka:orders.*, with the key \"eu\""), "{said}");
    server.stop();
    let server = Server::start_in(std::mem::replace(&mut server.folder, Scratch::new()), &[]);
    assert_eq!(json(&server, &["route", "ls"])["routes"][0]["from"], "kafka:orders.*");
    ask(&server, &["stream", "publish", "orders.eu", "x"]).unwrap();
    let got = json(&server, &["stream", "describe", "jobs"]);
    assert_eq!((&got["kind"], &got["records"]), (&"queue".into(), &1.into()));
    ask(&server, &["route", "rm", "kafka:orders.*", "queue:jobs"]).unwrap();
    assert_eq!(json(&server, &["route", "ls"])["routes"], Value::Array(Vec::new()));
    let why = ask(&server, &["route", "rm", &added["id"].to_string()]).unwrap_err();
    assert!(why.contains("there is no route"), "{why}");
}

#[test]
fn a_route_that_leads_nowhere_or_that_nobody_would_take_is_refused() {
    let server = Server::start(&[]);
    let refused = |from: &str, to: &str| ask(&server, &["route", "add", from, to]).unwrap_err();
    assert!(refused("kafka:orders", "kafka:absent").contains("there is no public/default/absent (log)"));
    assert!(refused("telex:orders", "kafka:absent").contains("no dialect \"telex\" is built"));
    assert!(refused("kafka:orders", "orders").contains("is not KIND:NAME"));
    let said = ask(&server, &["route", "explain", "kafka:orders"]).unwrap();
    assert!(said.contains("there is no log of that name"), "{said}");
}

fn examined(arguments: &[&str]) -> (bool, Value) {
    let folder = Scratch::new();
    let output = binary()
        .args(["doctor", "--json", "--data-dir"])
        .arg(folder.path("data"))
        .args(arguments)
        .output()
        .unwrap();
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 0, "it leaves nothing behind");
    (output.status.success(), serde_json::from_slice(&output.stdout).unwrap())
}

fn finding(findings: &Value, what: &str) -> (String, String) {
    let rows = findings["findings"].as_array().unwrap();
    let row =
        rows.iter().find(|row| row["what"] == what).unwrap_or_else(|| panic!("no {what} in {findings}"));
    (row["verdict"].as_str().unwrap().to_owned(), row["finding"].as_str().unwrap().to_owned())
}

#[test]
fn the_doctor_measures_the_disk_and_names_who_holds_a_port() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("kafka={}", taken.local_addr().unwrap());
    let (well, findings) = examined(&[
        "--listen",
        &listen,
        "--listen",
        "aws=off",
        "--listen",
        "nats=off",
        "--listen",
        "admin=127.0.0.1:0",
    ]);
    assert!(!well);
    assert!(finding(&findings, "sync").1.contains("p99"), "{findings}");
    assert_eq!(finding(&findings, "port of admin").0, "ok");
    let (verdict, said) = finding(&findings, "port of kafka");
    assert_eq!(verdict, "BAD");
    assert!(said.contains(&format!("process {}", std::process::id())), "{said}");
}

#[test]
fn the_doctor_knows_a_server_that_runs_already() {
    let server = Server::start(&[]);
    let listen = format!("admin={}", server.address("admin"));
    let (well, findings) = examined(&[
        "--listen",
        &listen,
        "--listen",
        "kafka=off",
        "--listen",
        "aws=off",
        "--listen",
        "nats=off",
    ]);
    assert!(well, "{findings}");
    let (verdict, said) = finding(&findings, "port of admin");
    assert_eq!(verdict, "beware");
    assert!(said.contains("runs already"), "{said}");
}
