//! What is kept: over commands, restarts, kills, damage.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    cli::{ask, json},
    process::{Scratch, Server, binary, request_with_body, run, serve, text, until},
};

fn bodies(server: &Server, stream: &str) -> Vec<String> {
    let lines =
        ask(server, &["stream", "tail", stream, "--from", "earliest", "--no-follow", "--json"]).unwrap();
    let rows = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    rows.map(|row| row["body"].as_str().unwrap().to_owned()).collect()
}

/// Takes the folder out of a server that has ended.
fn folder_of(server: &mut Server) -> Scratch {
    std::mem::replace(&mut server.folder, Scratch::new())
}

#[test]
fn a_stream_is_made_described_filled_read_and_removed() {
    let server = Server::start(&[]);
    let made =
        json(&server, &["stream", "create", "orders", "--partitions", "3", "--retention-time-ms", "60000"]);
    assert_eq!(
        (made["partitions"].as_u64(), made["settings"]["retention_time_ms"].as_u64()),
        (Some(3), Some(60_000))
    );
    let again = ask(&server, &["stream", "create", "orders"]).unwrap_err();
    assert!(again.contains("orders"), "{again}");

    let placed = json(&server, &["stream", "publish", "orders", "one", "--key", "21", "--header", "trace=x"]);
    let partition = placed["records"][0]["partition"].as_u64().unwrap();
    assert_eq!(
        partition,
        u64::from((973_932_308_u32.wrapping_neg() & 0x7fff_ffff) % 3),
        "as Kafka's clients choose"
    );
    let lines =
        ask(&server, &["stream", "tail", "orders", "--from", "earliest", "--no-follow", "--json"]).unwrap();
    let row: Value = serde_json::from_str(lines.trim()).unwrap();
    assert_eq!(
        (row["key"].as_str(), row["body"].as_str(), row["partition"].as_u64()),
        (Some("21"), Some("one"), Some(partition))
    );
    assert_eq!(row["headers"], serde_json::json!([["trace", "x"]]));

    let described = ask(&server, &["stream", "describe", "orders"]).unwrap();
    assert!(described.contains("retention_time_ms  60000"), "{described}");
    ask(&server, &["stream", "rm", "orders"]).unwrap();
    assert_eq!(json(&server, &["stream", "ls"])["streams"], Value::Array(Vec::new()));
}

#[test]
fn lines_of_standard_input_are_records() {
    let server = Server::start(&[]);
    ask(&server, &["stream", "create", "lines"]).unwrap();
    let mut publish = binary()
        .args(["stream", "publish", "lines", "--admin", &format!("http://{}", server.address("admin"))])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let wanted: Vec<String> = (0..1200).map(|n| format!("line {n}")).collect();
    publish.stdin.take().unwrap().write_all(wanted.join("\n").as_bytes()).unwrap();
    assert!(publish.wait().unwrap().success());
    assert_eq!(bodies(&server, "lines"), wanted);
}

#[test]
fn a_tail_shows_records_as_they_come() {
    let server = Server::start(&[]);
    ask(&server, &["stream", "create", "live"]).unwrap();
    let tail = binary()
        .args(["stream", "tail", "live", "--from", "earliest", "--count", "2"])
        .args(["--admin", &format!("http://{}", server.address("admin"))])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    ask(&server, &["stream", "publish", "live", "first"]).unwrap();
    ask(&server, &["stream", "publish", "live", "second"]).unwrap();
    let shown = text(&tail.wait_with_output().unwrap().stdout);
    let ends: Vec<&str> = shown.lines().filter_map(|line| line.rsplit("  ").next()).collect();
    assert_eq!(ends, ["first", "second"], "{shown}");
}

#[test]
fn what_was_acknowledged_is_there_after_a_kill_and_after_a_stop() {
    let mut server = Server::start(&[]);
    ask(&server, &["stream", "create", "kept"]).unwrap();
    ask(&server, &["stream", "publish", "kept", "before the kill"]).unwrap();
    server.signal("KILL");
    server.wait();
    std::fs::remove_file(server.folder.path("ready.json")).unwrap();
    let mut server = Server::start_in(folder_of(&mut server), &[]);
    ask(&server, &["stream", "publish", "kept", "after the kill"]).unwrap();
    assert_eq!(server.stop(), 0, "{}", server.log());
    let server = Server::start_in(folder_of(&mut server), &[]);
    assert_eq!(bodies(&server, "kept"), ["before the kill", "after the kill"]);
}

#[test]
fn a_second_start_on_a_data_directory_names_its_holder() {
    let server = Server::start(&[]);
    let folder = Scratch::new();
    let output = serve(&server.folder.path("data"), &folder.path("ready")).output().unwrap();
    assert!(!output.status.success());
    let why = text(&output.stderr);
    assert!(why.contains(&server.child.id().to_string()), "{why}");
    assert!(!folder.path("ready").exists());
    assert_eq!(server.get("/healthz").0, 200);
}

#[test]
fn an_answer_of_the_admin_api_waits_for_its_sync() {
    const DELAY: Duration = Duration::from_millis(200);
    let server = Server::start(&["--test-sync-delay-ms", "200"]);
    let slow: [&[&str]; 4] = [
        &["stream", "create", "slow"],
        &["stream", "publish", "slow", "x"],
        &["cursor", "seek", "reader", "latest", "--stream", "slow"],
        &["stream", "rm", "slow"],
    ];
    for arguments in slow {
        let began = Instant::now();
        ask(&server, arguments).unwrap();
        assert!(began.elapsed() >= DELAY, "{arguments:?} was answered after {:?}", began.elapsed());
    }
}

#[test]
fn a_cursor_is_moved_copied_measured_and_removed() {
    let server = Server::start(&[]);
    ask(&server, &["stream", "create", "orders"]).unwrap();
    for body in ["a", "b", "c"] {
        ask(&server, &["stream", "publish", "orders", body]).unwrap();
    }
    let moved = json(&server, &["cursor", "seek", "reader", "1", "--stream", "orders"]);
    assert_eq!(moved["moved"], serde_json::json!([{ "partition": 0, "position": 1 }]));
    let lag = json(&server, &["cursor", "lag", "reader"]);
    assert_eq!(
        (lag["lag"][0]["position"].as_u64(), lag["lag"][0]["lag_records"].as_u64()),
        (Some(1), Some(2)),
        "{lag}"
    );
    assert!(lag["lag"][0]["lag_bytes"].as_u64().unwrap() > 0, "{lag}");
    ask(&server, &["cursor", "copy", "reader", "other"]).unwrap();
    let names: Vec<Value> = json(&server, &["cursor", "ls"])["cursors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["name"].clone())
        .collect();
    assert_eq!(names, ["other", "reader"]);
    let metrics = server.get("/metrics").1;
    assert!(metrics.contains("wiremill_appended_records_total 3\n"), "{metrics}");
    let line = "wiremill_cursor_lag_records{namespace=\"public/default\",cursor=\"other\",stream=\"orders\",partition=\"0\"} 2";
    assert!(metrics.contains(line), "{metrics}");
    let beyond = ask(&server, &["cursor", "seek", "reader", "4", "--stream", "orders"]).unwrap_err();
    assert!(beyond.contains("ends at 3"), "{beyond}");
    ask(&server, &["cursor", "rm", "reader"]).unwrap();
    assert!(ask(&server, &["cursor", "lag", "reader"]).is_err());
}

#[test]
fn a_reset_takes_everything_but_the_users() {
    let server = Server::start(&["--ephemeral"]);
    ask(&server, &["stream", "create", "gone"]).unwrap();
    ask(&server, &["cursor", "seek", "reader", "latest", "--stream", "gone"]).unwrap();
    let head = "POST /reset HTTP/1.1\r\nhost: localhost\r\n";
    let (status, body) = crate::process::request(server.address("admin"), head);
    assert_eq!((status, body.as_str()), (200, r#"{"cursors":1,"streams":1}"#));
    assert_eq!(json(&server, &["stream", "ls"])["streams"], Value::Array(Vec::new()));
    assert_eq!(json(&server, &["cursor", "ls"])["cursors"], Value::Array(Vec::new()));
}

fn repair(data: &Path, more: &[&str]) -> (bool, String) {
    let output = binary().arg("repair").arg("--data-dir").arg(data).args(more).output().unwrap();
    (output.status.success(), text(&output.stdout) + &text(&output.stderr))
}

#[test]
fn repair_reads_a_sound_directory_and_leaves_it_sound() {
    let mut server = Server::start(&[]);
    ask(&server, &["stream", "create", "kept"]).unwrap();
    ask(&server, &["stream", "publish", "kept", "a record"]).unwrap();
    let held = repair(&server.folder.path("data"), &[]);
    assert!(!held.0 && held.1.contains(&server.child.id().to_string()), "{}", held.1);
    assert_eq!(server.stop(), 0);
    let (sound, said) = repair(&server.folder.path("data"), &[]);
    assert!(sound && said.contains("nothing is damaged"), "{said}");
    let server = Server::start_in(folder_of(&mut server), &[]);
    assert_eq!(bodies(&server, "kept"), ["a record"]);
}

/// A server whose syncs take so long, and a publish that waits for one.
fn with_a_publish_in_flight(sync_delay_ms: &str) -> (Server, std::process::Child) {
    let server = Server::start(&["--test-sync-delay-ms", sync_delay_ms, "--shutdown-deadline-ms", "60000"]);
    ask(&server, &["stream", "create", "slow"]).unwrap();
    let admin = format!("http://{}", server.address("admin"));
    let publish = Command::new(env!("CARGO_BIN_EXE_wiremill"))
        .args(["stream", "publish", "slow", "in flight", "--admin", &admin])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let staged = || {
        let stream: Value = serde_json::from_str(&server.get("/api/v1/streams/slow").1).unwrap();
        stream["partition_list"][0]["end"].as_u64() == Some(1)
    };
    until("it is staged", staged);
    (server, publish)
}

#[test]
fn a_request_in_flight_when_the_process_is_asked_to_stop_is_finished() {
    let (mut server, publish) = with_a_publish_in_flight("200");
    assert_eq!(server.stop(), 0, "{}", server.log());
    assert_eq!(text(&publish.wait_with_output().unwrap().stdout), "0:0\n");
}

#[test]
fn one_that_came_whole_has_longer_than_others_when_the_process_is_asked_to_stop() {
    let (server, publish) = with_a_publish_in_flight("1500");
    server.signal("TERM");
    assert_eq!(text(&publish.wait_with_output().unwrap().stdout), "0:0\n");
}

#[test]
fn a_disk_that_refuses_a_write_ends_the_process_with_an_error() {
    // Files may not grow beyond 6 MiB: the log's first file is there, the next cannot be made.
    let folder = Scratch::new();
    let ready = folder.path("ready.json");
    let mut server = Command::new("sh")
        .args([
            "-c",
            "trap '' XFSZ; ulimit -f 12288; exec \"$@\"",
            "sh",
            env!("CARGO_BIN_EXE_wiremill"),
            "serve",
        ])
        .args([
            "--listen",
            "kafka=off",
            "--listen",
            "aws=off",
            "--listen",
            "nats=off",
            "--listen",
            "admin=127.0.0.1:0",
            "--failure-grace-ms",
            "300",
            "--data-dir",
        ])
        .arg(folder.path("data"))
        .arg("--ready-file")
        .arg(&ready)
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(folder.path("err")).unwrap())
        .spawn()
        .unwrap();
    while !ready.exists() {
        assert!(server.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(2));
    }
    let addresses: Value = serde_json::from_slice(&std::fs::read(&ready).unwrap()).unwrap();
    let admin = format!("http://{}", addresses["admin"].as_str().unwrap());
    let ask = |arguments: &[&str]| binary().args(arguments).args(["--admin", &admin]).output().unwrap();
    assert!(ask(&["stream", "create", "full"]).status.success());
    let body = "x".repeat(100_000);
    let mut refused = 0;
    for _ in 0..200 {
        refused += usize::from(!ask(&["stream", "publish", "full", &body]).status.success());
        if server.try_wait().unwrap().is_some() {
            break;
        }
    }
    assert!(refused > 0);
    let status = server.wait().unwrap();
    let log = std::fs::read_to_string(folder.path("err")).unwrap();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("the disk refused a write"), "{log}");
}

/// Flips a byte of `text` where a file of the log holds it.
fn damage(data: &Path, text: &str) {
    let mut hurt = 0;
    for entry in std::fs::read_dir(data.join("wal")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(text.len()).position(|window| window == text.as_bytes()) {
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            hurt += 1;
        }
    }
    assert_eq!(hurt, 1, "{text:?} is in one file of the log");
}

#[test]
fn damage_of_what_was_acknowledged_keeps_a_server_from_starting_until_it_is_given_up() {
    let mut server = Server::start(&[]);
    ask(&server, &["stream", "create", "kept"]).unwrap();
    for body in ["the first record", "the second record", "the third record"] {
        ask(&server, &["stream", "publish", "kept", body]).unwrap();
    }
    server.signal("KILL");
    server.wait();
    std::fs::remove_file(server.folder.path("ready.json")).unwrap();
    let folder = folder_of(&mut server);
    let data = folder.path("data");
    damage(&data, "the second record");

    let refused = serve(&data, &folder.path("ready.json")).output().unwrap();
    assert!(!refused.status.success());
    let why = text(&refused.stderr);
    assert!(why.contains("is damaged at position") && why.contains("wiremill repair"), "{why}");
    let (sound, said) = repair(&data, &[]);
    assert!(!sound && said.contains("--accept-loss"), "{said}");
    let (sound, said) = repair(&data, &["--accept-loss"]);
    assert!(!sound && said.contains("damaged: units "), "{said}");

    let server = Server::start_in(folder, &[]);
    assert_eq!(bodies(&server, "kept"), ["the first record", "the third record"], "{}", server.log());
}

#[test]
fn a_damaged_format_file_keeps_a_server_from_starting_until_it_is_given_up() {
    let mut server = Server::start(&[]);
    ask(&server, &["stream", "create", "kept"]).unwrap();
    ask(&server, &["stream", "publish", "kept", "a record"]).unwrap();
    server.signal("KILL");
    server.wait();
    std::fs::remove_file(server.folder.path("ready.json")).unwrap();
    let folder = folder_of(&mut server);
    let data = folder.path("data");
    std::fs::write(data.join("FORMAT"), [0xFF; 60]).unwrap();

    let refused = serve(&data, &folder.path("ready.json")).output().unwrap();
    assert!(!refused.status.success());
    assert!(text(&refused.stderr).contains("does not say its format"), "{}", text(&refused.stderr));
    let (sound, said) = repair(&data, &["--accept-loss"]);
    assert!(!sound && said.contains("the format file did not read"), "{said}");
    let (sound, said) = repair(&data, &[]);
    assert!(sound, "{said}");

    let server = Server::start_in(folder, &[]);
    assert_eq!(bodies(&server, "kept"), ["a record"], "{}", server.log());
}

#[test]
fn a_change_of_a_stream_that_is_refused_changes_nothing() {
    let server = Server::start(&["--default-partitions", "3"]);
    ask(&server, &["stream", "create", "orders"]).unwrap();
    let body = r#"{"partitions": 2, "settings": {"retention_time_ms": 5}}"#;
    let head = format!(
        "PATCH /api/v1/streams/orders HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n",
        body.len()
    );
    let (status, why) = request_with_body(server.address("admin"), &head, body);
    assert_eq!(status, 400, "{why}");
    let stream = json(&server, &["stream", "describe", "orders"]);
    assert_eq!(stream["settings"]["retention_time_ms"], serde_json::Value::Null, "{stream}");
    // A queue has one partition, whatever the default is.
    ask(&server, &["stream", "create", "jobs", "--kind", "queue"]).unwrap();
    assert_eq!(json(&server, &["stream", "describe", "jobs"])["partitions"], 1);
    let why =
        ask(&server, &["stream", "create", "more", "--kind", "queue", "--partitions", "2"]).unwrap_err();
    assert!(why.contains("a queue has one partition"), "{why}");
}

#[test]
fn long_lines_of_standard_input_are_published_and_what_is_too_long_is_named() {
    let server = Server::start(&[]);
    ask(&server, &["stream", "create", "orders"]).unwrap();
    let admin = format!("http://{}", server.address("admin"));
    let mut publish = binary()
        .args(["stream", "publish", "orders", "--admin", &admin])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = publish.stdin.take().unwrap();
    input.write_all(b"first\n").unwrap();
    // Nothing more comes for now, and it is there all the same.
    let began = Instant::now();
    while json(&server, &["stream", "describe", "orders"])["records"] != 1 {
        assert!(began.elapsed() < Duration::from_secs(20), "a line is held back");
    }
    input.write_all(format!("{}\n", "x".repeat(6_000)).repeat(600).as_bytes()).unwrap();
    drop(input);
    let output = publish.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(json(&server, &["stream", "describe", "orders"])["records"], 601);
    let body = format!(r#"{{"name": "{}"}}"#, "x".repeat(2 << 20)); // a little beyond
    let head = format!(
        "POST /api/v1/streams HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n",
        body.len()
    );
    let (status, why) = request_with_body(server.address("admin"), &head, &body);
    assert_eq!(status, 422, "{why}");
    assert!(why.contains("2097152 bytes"), "{why}");
}

#[test]
fn a_repair_makes_no_data_directory_of_another_folder() {
    let folder = Scratch::new();
    let path = folder.0.to_str().unwrap();
    let output = run(&["repair", "--data-dir", path]);
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("is no data directory"), "{}", text(&output.stderr));
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 0);
}

#[test]
fn a_cursor_is_not_copied_to_no_name() {
    let server = Server::start(&[]);
    ask(&server, &["stream", "create", "orders"]).unwrap();
    ask(&server, &["cursor", "seek", "readers", "earliest", "--stream", "orders"]).unwrap();
    let why = ask(&server, &["cursor", "copy", "readers", ""]).unwrap_err();
    assert!(why.contains("a cursor's name has 1 to 255 bytes"), "{why}");
    assert_eq!(json(&server, &["cursor", "ls"])["cursors"].as_array().unwrap().len(), 1);
}
