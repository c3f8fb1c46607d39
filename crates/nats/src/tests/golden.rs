//! What nats-server 2.14.5 answered a client that is connected, and whether it closed, for lines that are malformed or at
//! a border. `golden.json` was recorded from it; its texts are bytes as Latin-1, runs of one byte are `⟨byte×count⟩`, and
//! a later INFO is shown without its JSON.

use super::*;

#[derive(serde::Deserialize)]
struct Case {
    name: String,
    sent: String,
    got: String,
    closed: bool,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("golden.json")).unwrap()
}

/// The bytes of a text of the file.
fn bytes(text: &str) -> Vec<u8> {
    let latin = |text: &str| text.chars().map(|c| u8::try_from(c).unwrap()).collect::<Vec<u8>>();
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, run)) = rest.split_once('⟨') {
        let (run, after) = run.split_once('⟩').unwrap();
        let (byte, count) = run.split_once('×').unwrap();
        bytes.extend(latin(before));
        bytes.extend(latin(byte).repeat(count.parse().unwrap()));
        rest = after;
    }
    bytes.extend(latin(rest));
    bytes
}

/// What comes back until the connection is closed, or, where it stays, until everything sent was handled.
async fn answer(peer: &mut Peer, is_closed: bool) -> String {
    if is_closed {
        while peer.more().await {}
    } else {
        peer.send("SUB end 77\r\nPUB end 0\r\n\r\n").await;
        let end: &[u8] = b"MSG end 77 0\r\n\r\n";
        let at = loop {
            if let Some(at) = peer.seen.windows(end.len()).position(|window| window == end) {
                break at;
            }
            assert!(peer.more().await, "closed after {:?}", String::from_utf8_lossy(&peer.seen));
        };
        peer.seen.truncate(at);
    }
    let text: String = std::mem::take(&mut peer.seen).into_iter().map(char::from).collect();
    let line = |line: &str| if line.starts_with("INFO ") { "INFO\r\n".to_owned() } else { line.to_owned() };
    let mut lines: Vec<String> = text.split_inclusive('\n').map(line).collect();
    // A case that turns verbose on is told +OK for the subscription at its end, too.
    if !is_closed && lines.last().is_some_and(|line| line == "+OK\r\n") {
        lines.pop();
    }
    lines.concat()
}

fn expected(case: &Case) -> String {
    bytes(&case.got).into_iter().map(char::from).collect()
}

#[tokio::test]
async fn malformed_lines_are_answered_as_the_original_answers_them() {
    let rig = Rig::new();
    for case in cases() {
        let mut peer = rig.client().await;
        peer.stream.write_all(&bytes(&case.sent)).await.unwrap();
        assert_eq!(answer(&mut peer, case.closed).await, expected(&case), "{}", case.name);
    }
}

#[tokio::test]
async fn malformed_lines_are_answered_the_same_however_they_are_split() {
    let rig = Rig::new();
    for case in cases().into_iter().filter(|case| case.sent.len() < 60) {
        let mut peer = rig.client().await;
        for byte in bytes(&case.sent) {
            // A peer that is gone already does not take the rest.
            if peer.stream.write_all(&[byte]).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        assert_eq!(answer(&mut peer, case.closed).await, expected(&case), "{}", case.name);
    }
}
