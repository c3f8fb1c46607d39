use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { control_line_len_max: 64, payload_len_max: 32 };

/// Every operation as text, fed in pieces of `piece_len` bytes; ends with the fault, if there is one.
fn fed(stream: &[u8], piece_len: usize) -> Vec<String> {
    let mut parser = Parser::default();
    let mut buffer = Vec::new();
    let mut seen = Vec::new();
    for piece in stream.chunks(piece_len.max(1)) {
        buffer.extend_from_slice(piece);
        loop {
            match parser.next(&buffer, &LIMITS) {
                Ok(Some((op, taken))) => {
                    seen.push(text(&buffer, op));
                    buffer.drain(..taken);
                }
                Ok(None) => break,
                Err(fault) => {
                    seen.push(format!("{fault:?}"));
                    return seen;
                }
            }
        }
    }
    seen
}

fn text(buffer: &[u8], op: Op) -> String {
    let show = |range: Range| String::from_utf8_lossy(range.of(buffer)).into_owned();
    match op {
        Op::Connect(json) => format!("connect {}", show(json)),
        Op::Publish(Publish { subject, reply, headers_len, payload }) => {
            format!("publish {} {:?} {headers_len:?} {}", show(subject), reply.map(show), show(payload))
        }
        Op::Subscribe { subject, queue, sid } => {
            format!("subscribe {} {:?} {}", show(subject), queue.map(show), show(sid))
        }
        Op::Unsubscribe { sid, max } => format!("unsubscribe {} {max}", show(sid)),
        Op::Ping => "ping".to_owned(),
        Op::Pong => "pong".to_owned(),
        Op::Info(json) => format!("info {}", show(json)),
        Op::Error => "error".to_owned(),
        Op::Ignored => "ignored".to_owned(),
    }
}

#[track_caller]
fn check(stream: &str, expected: &[&str]) {
    for piece_len in [1, 2, 3, 7, stream.len()] {
        assert_eq!(fed(stream.as_bytes(), piece_len), expected, "{stream:?} in pieces of {piece_len}");
    }
}

#[test]
fn operations_read_as_they_are_written() {
    check("PUB a 3\r\nxyz\r\n", &["publish a None None xyz"]);
    check("pub a.b reply.to 0\r\n\r\n", &["publish a.b Some(\"reply.to\") None "]);
    check("HPUB a 4 6\r\nHHHHxy\r\n", &["publish a None Some(4) HHHHxy"]);
    check("HPUB a r 4 4\r\nHHHH\r\n", &["publish a Some(\"r\") Some(4) HHHH"]);
    check("SUB a.* 1\r\nsub a q 2\r\n", &["subscribe a.* None 1", "subscribe a Some(\"q\") 2"]);
    check(
        "UNSUB 1\r\nUNSUB 2 10\r\nUNSUB 3 x\r\n",
        &["unsubscribe 1 0", "unsubscribe 2 10", "unsubscribe 3 0"],
    );
    check("CONNECT {\"verbose\":false}\r\n", &["connect {\"verbose\":false}"]);
    check("PING\r\nPONG\r\n+OK\r\n", &["ping", "pong", "ignored"]);
    check("-ERR 'no'\r\nINFO {}\r\n", &["error", "info {}"]);
}

#[test]
fn blanks_tabs_and_bare_line_feeds_will_do() {
    check("PUB\ta \t 2\nok\r\nPING\n", &["publish a None None ok", "ping"]);
    check("SUB  a  1  \r\n", &["subscribe a None 1"]);
    check("PING with more\r\n", &["ping"]);
}

#[test]
fn a_payload_may_hold_anything_and_ends_with_crlf() {
    check("PUB a 4\r\n\r\n\r\n\r\nPING\r\n", &["publish a None None \r\n\r\n", "ping"]);
    check("PUB a 2\r\nabc\r\n", &["UnknownOperation"]);
    check("PUB a 2\r\nab\nPING\r\n", &["UnknownOperation"]);
}

#[test]
fn what_does_not_read_is_a_fault_of_the_right_kind() {
    for unknown in ["FOO\r\n", "GET / HTTP/1.1\r\n", "\r\n", "P\r\n", "PUBX a 1\r\n", "PUB\r\n"] {
        check(unknown, &["UnknownOperation"]);
    }
    for arguments in [
        "PUB a\r\n",
        "PUB a b c 1\r\n",
        "PUB a -1\r\n",
        "PUB a x\r\n",
        "PUB a 1234567890\r\n",
        "HPUB a 1\r\n",
        "HPUB a 5 4\r\n",
        "SUB a\r\n",
        "SUB a b c d\r\n",
        "UNSUB \r\n",
        "UNSUB 1 2 3\r\n",
    ] {
        check(arguments, &["Arguments"]);
    }
}

#[test]
fn a_verb_that_cannot_be_is_refused_before_its_line_ends() {
    assert_eq!(fed(b"XY", 1), ["UnknownOperation"]);
    assert_eq!(fed(b"PUX", 1), ["UnknownOperation"]);
    assert_eq!(fed(b"PU", 1), Vec::<String>::new());
}

#[test]
fn sizes_are_taken_up_to_the_limit() {
    for (len, expected) in [(31, None), (32, None), (33, Some("PayloadTooLong"))] {
        let seen = fed(format!("PUB a {len}\r\n{}\r\n", "x".repeat(len)).as_bytes(), 5);
        match expected {
            None => assert_eq!(seen, [format!("publish a None None {}", "x".repeat(len))]),
            Some(fault) => assert_eq!(seen, [fault]),
        }
    }
}

#[test]
fn control_lines_are_taken_up_to_the_limit_also_before_they_end() {
    for (len, is_taken) in [(63, true), (64, true), (65, false)] {
        let subject = "s".repeat(len - " 1".len());
        let seen = fed(format!("SUB {subject} 1\r\n").as_bytes(), 1);
        assert_eq!(seen != ["ControlLine"], is_taken, "{len} bytes");
    }
    assert_eq!(fed(&[b"SUB ".as_slice(), &[b's'; 200]].concat(), 1), ["ControlLine"]);
}

#[test]
fn a_long_payload_byte_by_byte_costs_linear_work() {
    let limits = Limits { control_line_len_max: 4_096, payload_len_max: 1 << 20 };
    let len = 1 << 20;
    let stream = [format!("PUB a {len}\r\n").as_bytes(), &vec![b'\n'; len], b"\r\n"].concat();
    let mut parser = Parser::default();
    let mut found = None;
    for end in 1..=stream.len() {
        found = parser.next(&stream[..end], &limits).unwrap();
    }
    assert_eq!(found.map(|(_, taken)| taken), Some(stream.len()));
}

proptest! {
    /// The fuzz body: whatever the bytes and however they are split, the same operations come out, and nothing panics.
    #[test]
    fn any_split_of_any_stream_gives_the_same_operations(
        parts in prop::collection::vec(
            prop_oneof![
                Just(b"PUB a 3\r\nxyz\r\n".to_vec()),
                Just(b"HPUB a r 12 14\r\nNATS/1.0\r\n\r\nhi\r\n".to_vec()),
                Just(b"SUB a.> q 1\r\n".to_vec()),
                Just(b"UNSUB 1 4\n".to_vec()),
                Just(b"PING\r\n".to_vec()),
                Just(b"CONNECT {}\r\n".to_vec()),
                prop::collection::vec(any::<u8>(), 0..20),
                "[PSHUBNping a0-9\r\n\t]{0,24}".prop_map(String::into_bytes),
            ],
            0..8,
        ),
        piece_len in 1usize..40,
    ) {
        let stream = parts.concat();
        prop_assert_eq!(fed(&stream, piece_len), fed(&stream, usize::MAX));
    }
}

#[test]
fn a_publish_as_clients_write_it_reads_as_one_with_liberties_does() {
    let limits = Limits { control_line_len_max: 12, payload_len_max: 100 };
    let parse = |text: &[u8]| Parser::default().next(text, &limits);
    for (plain, other) in [
        (&b"PUB a 0\r\n\r\nPING\r\n"[..], &b"pub a 0\r\n\r\n"[..]),
        (b"PUB a.b 3\r\nxyz\r\n", b"PUB\ta.b\t3\r\nxyz\r\n"),
        (b"PUB a.b 003\r\nx\r\n\r\n", b"pub a.b 003\r\nx\r\n\r\n"),
        (b"PUB a.b 100\r\n", b"pub a.b 100\r\n"),
        (b"PUB a.b 101\r\n", b"pub a.b 101\r\n"),
        (b"PUB a.bcdefghi 1\r\nx\r\n", b"pub a.bcdefghi 1\r\nx\r\n"),
        (b"PUB a.bcdefghij 1\r\nx\r\n", b"pub a.bcdefghij 1\r\nx\r\n"),
        (b"PUB a 1\r\nxy\r\n", b"pub a 1\r\nxy\r\n"),
        (b"PUB a 1000000000\r\n", b"pub a 1000000000\r\n"),
        (b"PUB a \r\n", b"pub a \r\n"),
        (b"PUB  1\r\nx\r\n", b"pub  1\r\nx\r\n"),
        (b"PUB a\x01b 1\r\nx\r\n", b"pub a\x01b 1\r\nx\r\n"),
    ] {
        assert_eq!(parse(plain), parse(other), "{:?}", String::from_utf8_lossy(plain));
    }
}
