//! Transcripts byte for byte, put together here without the codec: what kafka-go's low-level path sends (the lowest
//! versions that anybody still uses), and every byte of the answers.

use kafka::codec::records::{Stamp, assign};

use crate::{
    client::Client,
    node::Node,
    usual::{batch_of, create, now_ms},
};

/// Bytes in the classic form of the protocol.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn i8(mut self, value: i8) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn i16(mut self, value: i16) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn i32(mut self, value: i32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn i64(mut self, value: i64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn text(self, value: &str) -> Self {
        let mut with_len = self.i16(i16::try_from(value.len()).unwrap());
        with_len.0.extend(value.as_bytes());
        with_len
    }

    fn no_text(self) -> Self {
        self.i16(-1)
    }

    fn bytes(self, value: &[u8]) -> Self {
        let mut with_len = self.i32(i32::try_from(value.len()).unwrap());
        with_len.0.extend(value);
        with_len
    }
}

fn bytes() -> Bytes {
    Bytes::default()
}

/// Sends a request of client "k" and returns the answer's body.
fn ask(client: &mut Client, key: i16, version: i16, body: Bytes) -> Vec<u8> {
    let request = [bytes().i16(key).i16(version).i32(41).text("k").0, body.0].concat();
    client.send_bytes(&bytes().bytes(&request).0);
    let answer = client.receive().unwrap_or_else(|| panic!("API {key} version {version} closed"));
    assert_eq!(&answer[..4], 41i32.to_be_bytes());
    answer[4..].to_vec()
}

#[track_caller]
fn check(client: &mut Client, key: i16, version: i16, body: Bytes, expected: Bytes) {
    let answer = ask(client, key, version, body);
    assert_eq!(answer, expected.0, "API {key} version {version}");
}

fn with_topic() -> (Node, Client, String, i32) {
    let node = Node::start();
    let mut client = node.client();
    create(&mut client, "t", 1, &[]);
    let (host, port) = node.address().rsplit_once(':').unwrap();
    let (host, port) = (host.to_owned(), port.parse().unwrap());
    (node, client, host, port)
}

#[test]
fn metadata_1_and_find_coordinator_0_are_answered_byte_for_byte() {
    let (_node, mut client, host, port) = with_topic();
    let expected = bytes().i32(1).i32(1).text(&host).i32(port).no_text().i32(1).i32(1).i16(0).text("t").i8(0);
    let expected = expected.i32(1).i16(0).i32(0).i32(1).i32(1).i32(1).i32(1).i32(1);
    check(&mut client, 3, 1, bytes().i32(1).text("t"), expected);
    check(&mut client, 10, 0, bytes().text("g"), bytes().i16(0).i32(1).text(&host).i32(port));
}

#[test]
fn produce_3_and_7_and_fetch_5_and_10_are_answered_byte_for_byte() {
    let (_node, mut client, ..) = with_topic();
    let sent = batch_of(&[(now_ms(), b"v")], &Stamp::default());
    let request = || bytes().no_text().i16(-1).i32(1_000).i32(1).text("t").i32(1).i32(0).bytes(&sent);
    let answer = |base| bytes().i32(1).text("t").i32(1).i32(0).i16(0).i64(base).i64(-1);
    check(&mut client, 0, 3, request(), answer(0).i32(0));
    check(&mut client, 0, 7, request(), answer(1).i64(0).i32(0));
    // What is stored is what was sent, but for base offset and leader epoch, which lie outside the checksum.
    let mut stored = sent.to_vec();
    let epoch = i32::from_be_bytes(ask_stored_epoch(&mut client));
    assign(&mut stored, 1, epoch).unwrap();
    let from = bytes().i32(-1).i32(10).i32(1).i32(1 << 20).i8(0);
    let wanted = bytes().i32(0).i64(1).i64(-1).i32(1 << 20).0;
    let mut request = from.i32(1).text("t").i32(1);
    request.0.extend(&wanted);
    let partition = |answer: Bytes| {
        answer.i32(1).text("t").i32(1).i32(0).i16(0).i64(2).i64(2).i64(0).i32(-1).bytes(&stored)
    };
    check(&mut client, 1, 5, request, partition(bytes().i32(0)));
    let request = bytes().i32(-1).i32(10).i32(1).i32(1 << 20).i8(0).i32(0).i32(-1).i32(1).text("t").i32(1);
    let request = request.i32(0).i32(-1).i64(1).i64(-1).i32(1 << 20).i32(0);
    check(&mut client, 1, 10, request, partition(bytes().i32(0).i16(0).i32(0)));
}

/// The leader epoch in the first stored batch.
fn ask_stored_epoch(client: &mut Client) -> [u8; 4] {
    let data = crate::usual::fetch(client, "t", 0, 0).records.to_vec();
    data[12..16].try_into().unwrap()
}

#[test]
fn a_group_in_its_lowest_versions_is_answered_byte_for_byte() {
    let (_node, mut client, ..) = with_topic();
    let join = bytes().text("g").i32(10_000).i32(10_000).text("").text("consumer").i32(1);
    let joined = ask(&mut client, 11, 1, join.text("range").bytes(b"m"));
    let id_len = "k-".len() + 36;
    let id_at = joined.len() - 4 - 1 - id_len;
    let id = String::from_utf8(joined[id_at..id_at + id_len].to_vec()).unwrap();
    let expected = bytes().i16(0).i32(1).text("range").text(&id).text(&id).i32(1).text(&id).bytes(b"m");
    assert_eq!(joined, expected.0);
    let sync = bytes().text("g").i32(1).text(&id).i32(1).text(&id).bytes(b"assigned");
    check(&mut client, 14, 0, sync, bytes().i16(0).bytes(b"assigned"));
    check(&mut client, 12, 0, bytes().text("g").i32(1).text(&id), bytes().i16(0));
    let commit =
        bytes().text("g").i32(1).text(&id).i64(-1).i32(1).text("t").i32(1).i32(0).i64(5).text("note");
    check(&mut client, 8, 2, commit, bytes().i32(1).text("t").i32(1).i32(0).i16(0));
    let fetched = bytes().i32(1).text("t").i32(1).i32(0).i64(5).text("note").i16(0);
    check(&mut client, 9, 1, bytes().text("g").i32(1).text("t").i32(1).i32(0), fetched);
    let listed = bytes().i32(0).i16(0).i32(1).text("g").text("consumer");
    check(&mut client, 16, 1, bytes(), listed);
    check(&mut client, 13, 0, bytes().text("g").text(&id), bytes().i16(0));
}

#[test]
fn list_offsets_1_is_answered_byte_for_byte() {
    let (_node, mut client, ..) = with_topic();
    let request = bytes().i32(-1).i32(1).text("t").i32(1).i32(0).i64(-2);
    let expected = bytes().i32(1).text("t").i32(1).i32(0).i16(0).i64(-1).i64(0);
    check(&mut client, 2, 1, request, expected);
}

#[test]
fn requests_that_kafka_4_dropped_close_the_connection() {
    let (node, ..) = with_topic();
    for (key, version) in [(19, 0), (20, 0), (8, 1), (9, 0), (2, 0)] {
        let mut client = node.client();
        let request = bytes().i16(key).i16(version).i32(1).text("k").i32(0).0;
        client.send_bytes(&bytes().bytes(&request).0);
        assert!(client.is_closed(), "API {key} version {version}");
    }
}
