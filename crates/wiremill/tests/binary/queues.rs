//! Queues and dead letters on the command line.

use serde_json::{Value, json as value};

use crate::{
    cli::{ask, json},
    process::{Scratch, Server},
};

fn bodies(answer: &Value) -> Vec<&str> {
    answer["records"].as_array().unwrap().iter().map(|row| row["body"].as_str().unwrap()).collect()
}

fn publish(server: &Server, queue: &str, records: &[&str]) {
    for record in records {
        ask(server, &["queue", "publish", queue, record]).unwrap();
    }
}

#[test]
fn a_queue_is_made_looked_into_purged_and_removed() {
    let server = Server::start(&[]);
    ask(&server, &["queue", "create", "dead"]).unwrap();
    let made = json(
        &server,
        &["queue", "create", "jobs", "--dead-letter", "dead", "--delivery-limit", "3", "--lease", "30s"],
    );
    assert_eq!(made["settings"]["lease_ms"], 30_000);
    assert_eq!((&made["dead_letter"], &made["delivery_limit"]), (&value!("queue:dead"), &value!(3)));
    publish(&server, "jobs", &["a", "b"]);
    let peeked = json(&server, &["queue", "peek", "jobs"]);
    assert_eq!(bodies(&peeked), ["a", "b"]);
    let first = &peeked["records"][0];
    assert_eq!((&first["state"], &first["attempts"]), (&value!("ready"), &value!(0)));
    assert!(first["age_ms"].as_i64().unwrap() >= 0);
    assert_eq!(bodies(&json(&server, &["queue", "peek", "jobs", "--count", "1"])), ["a"]);
    assert!(bodies(&json(&server, &["queue", "peek", "jobs", "--state", "leased"])).is_empty());
    assert_eq!(json(&server, &["queue", "describe", "jobs"])["ready"], 2, "peeking takes nothing");
    let listed = ask(&server, &["queue", "ls"]).unwrap();
    assert!(listed.contains("queue:dead"), "{listed}");
    publish(&server, "jobs", &["c"]);
    assert_eq!(ask(&server, &["queue", "drop", "jobs", "1", "7"]).unwrap(), "1 records dropped\n");
    assert_eq!(bodies(&json(&server, &["queue", "peek", "jobs"])), ["a", "c"]);
    assert_eq!(ask(&server, &["queue", "purge", "jobs"]).unwrap(), "2 records purged\n");
    assert_eq!(json(&server, &["queue", "describe", "jobs"])["ready"], 0);
    ask(&server, &["queue", "rm", "jobs"]).unwrap();
    assert!(ask(&server, &["queue", "describe", "jobs"]).unwrap_err().contains("there is no queue"));
}

#[test]
fn what_waits_is_moved_and_a_dry_run_moves_nothing() {
    let mut server = Server::start(&[]);
    for name in ["a", "b"] {
        ask(&server, &["queue", "create", name]).unwrap();
    }
    publish(&server, "a", &["keep 1", "move 2", "move 3"]);
    let dry = json(&server, &["queue", "move", "a", "b", "--contains", "move", "--dry-run"]);
    assert_eq!((&dry["would_move"], bodies(&dry)), (&value!(2), vec!["move 2", "move 3"]));
    assert_eq!(json(&server, &["queue", "describe", "a"])["ready"], 3);
    let said = ask(&server, &["queue", "move", "a", "b", "--contains", "move"]).unwrap();
    assert_eq!(said, "2 records moved\n");
    server.stop();
    let server = Server::start_in(std::mem::replace(&mut server.folder, Scratch::new()), &[]);
    assert_eq!(bodies(&json(&server, &["queue", "peek", "a"])), ["keep 1"]);
    let moved = json(&server, &["queue", "peek", "b"]);
    assert_eq!(bodies(&moved), ["move 2", "move 3"]);
    assert_eq!(moved["records"][0]["origin"]["stream"], "queue:a");
    let moves = json(&server, &["queue", "moves", "a"]);
    assert_eq!(
        (&moves["moves"][0]["state"], &moves["moves"][0]["moved"]),
        (&value!("completed"), &value!(2))
    );
    // What was moved goes back to where it came from.
    assert_eq!(ask(&server, &["dlq", "redrive", "b"]).unwrap(), "2 records moved\n");
    assert_eq!(bodies(&json(&server, &["queue", "peek", "a"])), ["keep 1", "move 2", "move 3"]);
    let why = ask(&server, &["dlq", "redrive", "a"]).unwrap_err();
    assert!(why.contains("name a destination"), "{why}");
}

#[test]
fn a_move_can_be_stopped_and_its_rate_is_bounded() {
    let server = Server::start(&[]);
    for name in ["a", "b"] {
        ask(&server, &["queue", "create", name]).unwrap();
    }
    publish(&server, "a", &["1", "2", "3", "4"]);
    let why = ask(&server, &["queue", "move", "a", "b", "--rate", "501"]).unwrap_err();
    assert!(why.contains("1 to 500"), "{why}");
    let started = json(&server, &["queue", "move", "a", "b", "--rate", "1", "--no-wait"]);
    let id = started["id"].to_string();
    assert!(ask(&server, &["queue", "move", "a", "b"]).unwrap_err().contains("already"));
    ask(&server, &["queue", "cancel", "a", &id]).unwrap();
    let held = |name: &str| json(&server, &["queue", "describe", name])["ready"].as_u64().unwrap();
    assert_eq!(held("a") + held("b"), 4);
}

#[test]
fn dead_letter_queues_are_listed_with_whose_they_are() {
    let server = Server::start(&[]);
    ask(&server, &["queue", "create", "dead"]).unwrap();
    for name in ["a", "b"] {
        ask(&server, &["queue", "create", name, "--dead-letter", "dead"]).unwrap();
    }
    let row = &json(&server, &["dlq", "ls"])["dead_letters"][0];
    assert_eq!((&row["name"], &row["from"]), (&value!("dead"), &value!(["queue:a", "queue:b"])));
    let why = ask(&server, &["queue", "create", "c", "--dead-letter", "absent"]).unwrap_err();
    assert!(why.contains("create it first"), "{why}");
}

#[test]
fn a_queue_over_a_log_shows_the_log_s_records_and_copies_none() {
    let server = Server::start(&[]);
    ask(&server, &["stream", "create", "orders", "--partitions", "1"]).unwrap();
    ask(&server, &["stream", "publish", "orders", "x"]).unwrap();
    let made = json(&server, &["queue", "create", "work", "--over", "orders"]);
    assert_eq!(made["over"], "log:orders");
    assert_eq!(bodies(&json(&server, &["queue", "peek", "work"])), ["x"]);
    assert_eq!(ask(&server, &["queue", "purge", "work"]).unwrap(), "1 records purged\n");
    assert!(bodies(&json(&server, &["queue", "peek", "work"])).is_empty());
    assert_eq!(json(&server, &["stream", "describe", "orders"])["records"], 1);
}

#[test]
fn a_queue_with_a_history_replays_what_was_purged_before_a_kill_and_one_over_a_log_is_set_back() {
    let mut server = Server::start(&[]);
    let made = json(&server, &["queue", "create", "jobs", "--history", "3d"]);
    assert_eq!(made["settings"]["history_ms"], 259_200_000);
    publish(&server, "jobs", &["a", "b"]);
    ask(&server, &["queue", "purge", "jobs"]).unwrap();
    server.signal("KILL");
    server.wait();
    std::fs::remove_file(server.folder.path("ready.json")).unwrap();
    let server = Server::start_in(std::mem::replace(&mut server.folder, Scratch::new()), &[]);
    assert!(bodies(&json(&server, &["queue", "peek", "jobs"])).is_empty());
    assert_eq!(ask(&server, &["queue", "replay", "jobs", "--from", "2d"]).unwrap(), "2 records moved\n");
    assert_eq!(bodies(&json(&server, &["queue", "peek", "jobs"])), ["a", "b"]);
    ask(&server, &["stream", "create", "orders", "--partitions", "1"]).unwrap();
    ask(&server, &["stream", "publish", "orders", "x"]).unwrap();
    ask(&server, &["queue", "create", "work", "--over", "orders"]).unwrap();
    ask(&server, &["queue", "purge", "work"]).unwrap();
    assert_eq!(
        ask(&server, &["queue", "replay", "work", "--from", "1h"]).unwrap(),
        "1 records are ready now\n"
    );
    assert_eq!(bodies(&json(&server, &["queue", "peek", "work"])), ["x"]);
}

#[test]
fn what_a_full_queue_takes_of_several_records_is_told_apart() {
    let server = Server::start(&[]);
    ask(&server, &["queue", "create", "jobs", "--length-max", "2", "--overflow", "refuse"]).unwrap();
    let admin = format!("http://{}", server.address("admin"));
    let publish = || {
        let mut publish = crate::process::binary()
            .args(["queue", "publish", "jobs", "--admin", &admin])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut publish.stdin.take().unwrap(), b"a\nb\nc\n").unwrap();
        publish.wait_with_output().unwrap()
    };
    let first = publish();
    assert!(!first.status.success());
    let (said, why) = (crate::process::text(&first.stdout), crate::process::text(&first.stderr));
    assert_eq!(said, "0:0\n0:1\n");
    assert!(why.contains("1 of 3 records were refused"), "{why}");
    let second = publish();
    assert!(!second.status.success() && second.stdout.is_empty());
}
