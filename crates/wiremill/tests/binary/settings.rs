use std::{
    io::{Read, Write},
    net::TcpStream,
};

use crate::process::{Scratch, Server, binary, run, text, until};

#[test]
fn an_unknown_key_ends_the_start_with_the_nearest_name() {
    let folder = Scratch::new();
    let file = folder.path("w.toml");
    std::fs::write(&file, "conections_max = 5\n").unwrap();
    let output = run(&["serve", "--config", file.to_str().unwrap()]);
    assert!(!output.status.success());
    let why = text(&output.stderr);
    assert!(why.contains("there is no setting \"conections_max\"; did you mean connections_max?"), "{why}");
}

#[test]
fn an_unknown_flag_ends_the_start_with_the_nearest_name() {
    let output = run(&["serve", "--data-dri", "x"]);
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("--data-dir"), "{}", text(&output.stderr));
}

#[test]
fn hidden_settings_are_not_in_the_help() {
    let help = text(&binary().args(["serve", "--help"]).output().unwrap().stdout);
    assert!(help.contains("--ready-file"), "{help}");
    assert!(!help.contains("test-sync-delay"), "{help}");
}

#[test]
fn connections_over_the_maximum_are_closed_and_the_others_served() {
    use std::{io::Read, net::TcpStream};
    let server = Server::start(&["--connections-max", "1"]);
    let mut first = TcpStream::connect(server.address("admin")).unwrap();
    let mut second = TcpStream::connect(server.address("admin")).unwrap();
    assert_eq!(second.read(&mut [0; 1]).unwrap_or(0), 0);
    first.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    first.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn the_log_level_is_read_again_on_a_hangup() {
    let folder = Scratch::new();
    let file = folder.path("w.toml");
    std::fs::write(&file, "log_level = 'warn'\n").unwrap();
    let config = file.to_str().unwrap().to_owned();
    let mut server = Server::start_in(folder, &["--config", &config]);
    assert!(!server.log().contains("INFO"), "{}", server.log());
    std::fs::write(&file, "log_level = 'info'\n").unwrap();
    server.signal("HUP");
    until("the settings were read again", || server.log().contains("were read again"));
    assert_eq!(server.stop(), 0);
    assert!(server.log().contains("SIGTERM"), "{}", server.log());
}

#[test]
fn as_many_threads_serve_connections_as_the_setting_says() {
    for (wanted, arguments) in [(1, ["--worker-threads", "1"]), (5, ["--worker-threads", "5"])] {
        let server = Server::start(&arguments);
        assert_eq!(server.get("/healthz").0, 200);
        // A thread names itself when it first runs.
        let began = std::time::Instant::now();
        while threads_named(&server, "wm-net") < wanted && began.elapsed().as_secs() < 30 {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        assert_eq!(threads_named(&server, "wm-net"), wanted);
    }
}

fn threads_named(server: &Server, name: &str) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", server.child.id())).unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|found| found.trim() == name).count()
}

#[test]
fn who_comes_by_ipv4_to_a_socket_of_both_is_seen_so() {
    let server = Server::start(&["--listen", "admin=[::]:0", "--listen", "nats=[::]:0", "--insecure"]);
    let port = |name: &str| server.address(name).rsplit(':').next().unwrap().to_owned();
    let ask = |host: &str| {
        let mut stream = TcpStream::connect(format!("127.0.0.1:{}", port("admin"))).unwrap();
        write!(stream, "GET /healthz HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(ask("127.0.0.1").starts_with("HTTP/1.1 200"), "{}", ask("127.0.0.1"));
    let mut nats = TcpStream::connect(format!("127.0.0.1:{}", port("nats"))).unwrap();
    let mut info = [0; 2_000];
    let len = nats.read(&mut info).unwrap();
    let info = String::from_utf8_lossy(&info[..len]).into_owned();
    assert!(info.contains("\"client_ip\":\"127.0.0.1\"") && !info.contains("ffff"), "{info}");
    let line = format!("curl http://[::1]:{}/healthz", port("admin"));
    assert!(server.output().contains(&line), "{}", server.output());
}
