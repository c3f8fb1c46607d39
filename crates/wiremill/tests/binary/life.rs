use std::{
    io::{Read, Write},
    net::TcpStream,
};

use crate::process::{Scratch, Server, request, run, serve, text, until};

#[test]
fn it_starts_says_where_it_is_and_ends_in_order() {
    let mut server = Server::start(&[]);
    println!("start to ready file: {:?}", server.start_took);
    let address = server.address("admin").to_owned();
    assert!(server.output().contains(&format!("curl http://{address}/healthz")), "{}", server.output());
    assert_eq!(server.get("/healthz"), (200, r#"{"status":"ok"}"#.to_owned()));
    assert_eq!(server.get("/readyz").0, 200);
    assert_eq!(server.stop(), 0, "{}", server.log());
    assert!(!server.folder.path("ready.json").exists());
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn the_ready_file_is_one_flat_object_of_what_is_built_and_on() {
    let server = Server::start(&["--listen", "redis=127.0.0.1:0"]);
    let addresses = server.addresses.as_object().unwrap();
    assert!(addresses.values().all(serde_json::Value::is_string), "{addresses:?}");
    assert!(!addresses.contains_key("redis"), "{addresses:?}");
    let mentions =
        server.log().lines().filter(|line| line.contains("not built yet") && line.contains("redis")).count();
    assert_eq!(mentions, 1, "{}", server.log());
    assert!(!server.output().contains("redis"));
}

#[test]
fn a_listener_that_is_off_is_not_opened_or_mentioned() {
    let off =
        ["kafka", "amqp", "nats", "aws", "redis", "pulsar", "registry", "rabbitmq-admin", "pulsar-admin"];
    let arguments: Vec<String> =
        off.iter().flat_map(|name| ["--listen".to_owned(), format!("{name}=off")]).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let server = Server::start(&arguments);
    assert!(!server.log().contains("not built"), "{}", server.log());
}

#[test]
fn the_aws_listener_answers_and_a_user_with_a_key_shuts_out_whoever_does_not_sign() {
    let server = Server::start(&[]);
    let identity = "GET /?Action=GetCallerIdentity&Version=2011-06-15 HTTP/1.1\r\nhost: localhost\r\n";
    let (status, body) = request(server.address("aws"), identity);
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("<Account>000000000000</Account>"), "{body}");
    let admin = format!("http://{}", server.address("admin"));
    let added = crate::process::binary()
        .args(["user", "add", "ann", "--access-key", "--admin", &admin])
        .output()
        .unwrap();
    let said = String::from_utf8(added.stdout).unwrap();
    assert!(said.contains("access key of ann: AKIA") && said.contains("secret access key: "), "{said}");
    let (status, body) = request(server.address("aws"), identity);
    assert_eq!(status, 403, "{body}");
    assert!(body.contains("<Code>MissingAuthenticationToken</Code>"), "{body}");
}

#[test]
fn an_idle_connection_does_not_hold_the_shutdown_up() {
    let mut server = Server::start(&["--shutdown-deadline-ms", "600000"]);
    let mut idle = ["admin", "kafka"].map(|name| TcpStream::connect(server.address(name)).unwrap());
    let both_are_open = |metrics: &str| {
        metrics.contains("wiremill_connections{listener=\"kafka\"} 1")
            && metrics.contains("wiremill_connections{listener=\"admin\"} 2") // the idle one, and the one that asks
    };
    until("both are open", || both_are_open(&server.get("/metrics").1));
    assert_eq!(server.stop(), 0, "{}", server.log());
    for connection in &mut idle {
        assert_eq!(connection.read(&mut [0; 16]).unwrap(), 0);
    }
}

#[test]
fn neither_a_follower_nor_half_a_request_holds_the_shutdown_up() {
    let mut server = Server::start(&["--shutdown-deadline-ms", "600000"]);
    crate::cli::ask(&server, &["stream", "create", "orders"]).unwrap();
    let send = |text: &str| {
        let mut stream = TcpStream::connect(server.address("admin")).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        stream
    };
    let mut waiting = send(
        "GET /api/v1/streams/orders/records?from=latest&wait_ms=60000 HTTP/1.1\r\nhost: localhost\r\n\r\n",
    );
    let half = send("GET /api/v1/streams HTTP/1.1\r\nhost: loc");
    let half_a_body = send(
        "POST /api/v1/streams HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{",
    );
    // The one that asks is the fourth; the others' requests were read before its own.
    let four = "wiremill_connections{listener=\"admin\"} 4";
    until("all are open", || server.get("/metrics").1.contains(four));
    assert_eq!(server.stop(), 0, "{}", server.log());
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"records\":[]"), "{answer}");
    drop((half, half_a_body));
}

#[test]
fn json_log_lines_replace_the_banner() {
    let server = Server::start(&["--log-format", "json"]);
    assert_eq!(server.output(), "");
    for line in server.log().lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
    }
    assert!(server.log().contains(server.address("admin")));
}

#[test]
fn a_port_that_is_taken_is_refused_with_its_holder_and_a_way_out() {
    let server = Server::start(&[]);
    let folder = Scratch::new();
    let address = server.address("admin");
    let output = serve(&folder.path("data"), &folder.path("ready"))
        .args(["--listen", &format!("admin={address}")])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let why = text(&output.stderr);
    assert!(why.contains(&format!("the port is taken by process {}", server.child.id())), "{why}");
    assert!(why.contains("--listen admin=off"), "{why}");
    assert!(!folder.path("ready").exists());
}

#[test]
fn a_ready_file_that_a_killed_server_left_is_gone_before_the_next_one_is_ready() {
    let server = Server::start(&[]);
    let folder = Scratch::new();
    let ready = folder.path("ready.json");
    std::fs::write(&ready, r#"{"admin":"127.0.0.1:1"}"#).unwrap();
    // One that never gets ready: its data directory is in use.
    let output = serve(&server.folder.path("data"), &ready).output().unwrap();
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("in use"), "{}", text(&output.stderr));
    assert!(!ready.exists());
    // That of a server which is there is that server's.
    std::fs::write(&ready, format!(r#"{{"admin":"{}"}}"#, server.address("admin"))).unwrap();
    let output = serve(&server.folder.path("data"), &ready).output().unwrap();
    assert!(!output.status.success() && ready.exists());
}

#[test]
fn beyond_loopback_needs_a_user_or_consent() {
    let folder = Scratch::new();
    let beyond = ["--listen", "admin=0.0.0.0:0"];
    let output = serve(&folder.path("data"), &folder.path("ready")).args(beyond).output().unwrap();
    assert!(!output.status.success());
    let why = text(&output.stderr);
    assert!(why.contains("wiremill user add") && why.contains("--insecure"), "{why}");
    let mut server = Server::start(&["--listen", "admin=0.0.0.0:0", "--insecure"]);
    assert!(server.output().contains("INSECURE"));
    assert_eq!(server.stop(), 0);
}

#[test]
fn an_ephemeral_run_says_so_and_leaves_nothing_behind() {
    let folder = Scratch::new();
    let ready = folder.path("ready.json");
    let mut child = crate::process::binary()
        .args(["--ephemeral", "--listen", "kafka=off", "--listen", "aws=off", "--listen", "nats=off"])
        .args(["--listen", "admin=127.0.0.1:0", "--ready-file"])
        .arg(&ready)
        .env("TMPDIR", &folder.0)
        .stdout(std::fs::File::create(folder.path("out")).unwrap())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    while !ready.exists() {
        assert!(child.try_wait().unwrap().is_none());
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    assert!(std::fs::read_to_string(folder.path("out")).unwrap().contains("EPHEMERAL"));
    let kill = std::process::Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(kill.success());
    assert!(child.wait().unwrap().success());
    let left: Vec<_> = std::fs::read_dir(&folder.0).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["out"], "{left:?}");
}

#[test]
fn an_unknown_host_and_a_cross_origin_write_are_refused() {
    let server = Server::start(&["--admin-hosts", "wire.example"]);
    let ask = |head: &str| request(server.address("admin"), head).0;
    assert_eq!(ask("GET /healthz HTTP/1.1\r\nhost: evil.example\r\n"), 421);
    assert_eq!(ask("GET /healthz HTTP/1.1\r\nhost: wire.example:99\r\n"), 200);
    assert_eq!(ask("POST /reset HTTP/1.1\r\nhost: localhost\r\norigin: http://evil.example\r\n"), 403);
}

#[test]
fn the_version_is_said() {
    let output = run(&["version"]);
    assert!(output.status.success());
    assert_eq!(text(&output.stdout), format!("wiremill {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn an_ephemeral_run_is_refused_where_something_is_kept() {
    let mut server = Server::start(&[]);
    crate::cli::ask(&server, &["stream", "create", "kept"]).unwrap();
    assert_eq!(server.stop(), 0);
    let ready = server.folder.path("ready.json");
    let output = serve(&server.folder.path("data"), &ready).arg("--ephemeral").output().unwrap();
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("holds durable data"), "{}", text(&output.stderr));
    // A folder that only ephemeral runs had is theirs.
    let mut server = Server::start(&["--ephemeral"]);
    assert_eq!(server.stop(), 0);
    let folder = std::mem::replace(&mut server.folder, Scratch::new());
    let mut server = Server::start_in(folder, &["--ephemeral"]);
    assert_eq!(server.stop(), 0);
    // Until a durable run keeps something there.
    let folder = std::mem::replace(&mut server.folder, Scratch::new());
    let mut server = Server::start_in(folder, &[]);
    crate::cli::ask(&server, &["stream", "create", "kept"]).unwrap();
    assert_eq!(server.stop(), 0);
    let output = serve(&server.folder.path("data"), &ready_of(&server)).arg("--ephemeral").output().unwrap();
    assert!(text(&output.stderr).contains("holds durable data"), "{}", text(&output.stderr));
}

fn ready_of(server: &Server) -> std::path::PathBuf {
    server.folder.path("ready.json")
}
