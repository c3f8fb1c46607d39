//! Random requests, from seeds, in both protocols: none panics, and what reads as JSON elsewhere reads here.

use wire::testing::{Rng, seeds};

use super::{NODES_MAX, Node, Wire, json, query};
use crate::shapes::{Input, Operation};

/// Seeds of an ordinary run; `cargo xtask fuzz` asks for more.
const SEEDS: u64 = 3_000;

fn one<'a>(rng: &mut Rng, of: &[&'a str]) -> &'a str {
    of[rng.below(of.len())]
}

const NAMES: &[&str] = &[
    "QueueUrl",
    "MessageBody",
    "DelaySeconds",
    "MessageAttributes",
    "Entries",
    "Attributes",
    "tags",
    "Id",
    "DataType",
    "StringValue",
    "BinaryValue",
    "ReceiptHandle",
    "MaxNumberOfMessages",
    "é",
    "",
];

const SCALARS: &[&str] = &[
    "\"http://h/000000000000/q\"",
    "\"\"",
    "\"\\u00e9\\ud83d\\ude00\"",
    "\"AAEC\"",
    "0",
    "-1",
    "2147483648",
    "1e999",
    "1.5",
    "true",
    "false",
    "null",
    "\"\\ud800\"",
    "01",
    "\"\n\"",
    "\"String\"",
];

fn json_text(rng: &mut Rng, depth: usize) -> String {
    match rng.below(if depth == 0 { 1 } else { 4 }) {
        0 | 1 => one(rng, SCALARS).to_owned(),
        2 => {
            let items: Vec<String> = (0..rng.below(4)).map(|_| json_text(rng, depth - 1)).collect();
            format!("[{}]", items.join(","))
        }
        _ => {
            let members: Vec<String> = (0..rng.below(5))
                .map(|_| format!("\"{}\" : {}", one(rng, NAMES), json_text(rng, depth - 1)))
                .collect();
            format!("{{{}}}", members.join(", "))
        }
    }
}

const PARTS: &[&str] = &[
    "QueueUrl",
    "MessageBody",
    "SendMessageBatchRequestEntry",
    "MessageAttribute",
    "Attribute",
    "Tag",
    "Name",
    "Value",
    "Key",
    "Id",
    "member",
    "entry",
    "1",
    "2",
    "0",
    "10",
    "4294967295",
    "-1",
    "DataType",
    "%41",
    "%",
    "+",
    "",
];

fn form_text(rng: &mut Rng) -> String {
    let pairs: Vec<String> = (0..rng.below(12))
        .map(|_| {
            let parts: Vec<&str> = (0..=rng.below(5)).map(|_| one(rng, PARTS)).collect();
            format!(
                "{}={}",
                parts.join("."),
                one(rng, &["1", "x", "", "%C3%A9", "%ff", "a+b", "AAEC", "=", "99999999999"])
            )
        })
        .collect();
    pairs.join("&")
}

fn damaged(rng: &mut Rng, text: String) -> Vec<u8> {
    let mut bytes = text.into_bytes();
    for _ in 0..rng.below(3) {
        let at = rng.below(bytes.len() + 1);
        match rng.below(3) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, rng.next() as u8),
            _ if at < bytes.len() => bytes[at] = rng.next() as u8,
            _ => {}
        }
    }
    bytes
}

fn count(node: &Node<'_>) -> usize {
    1 + match node {
        Node::List(items) => items.iter().map(count).sum(),
        Node::Map(members) => members.iter().map(|(_, node)| count(node)).sum(),
        _ => 0,
    }
}

/// Whatever a JSON body is, it is refused or becomes the input of the operation.
fn json_body(rng: &mut Rng, body: &[u8]) {
    let ours = json::parse(body);
    let theirs = serde_json::from_slice::<serde_json::Value>(body).is_ok();
    // Numbers beyond a double's range and an empty body are the two matters of taste.
    let is_taste = body.iter().all(u8::is_ascii_whitespace) || body.windows(5).any(|part| part == b"1e999");
    assert!(ours.is_ok() == theirs || is_taste, "{:?} {ours:?}", String::from_utf8_lossy(body));
    if let Ok(node) = ours {
        assert!(count(&node) <= NODES_MAX);
        let operation = Operation::ALL[rng.below(Operation::ALL.len())];
        drop(Input::decode(operation, node, Wire::Json));
    }
}

/// Whatever a form is, it is refused or becomes the input of the operation.
fn form_body(rng: &mut Rng, body: &[u8]) {
    let mut parameters = Vec::new();
    let Ok(()) = query::parse(body, &mut parameters) else { return };
    if let Ok(node) = query::tree(parameters) {
        let operation = Operation::ALL[rng.below(Operation::ALL.len())];
        drop(Input::decode(operation, node, Wire::Query));
    }
}

#[test]
fn fuzz_bodies_of_both_protocols_are_refused_or_read_and_never_panic() {
    for seed in seeds(SEEDS) {
        let mut rng = Rng::new(seed);
        let text = json_text(&mut rng, 5);
        let body = damaged(&mut rng, text);
        json_body(&mut rng, &body);
        let text = form_text(&mut rng);
        let body = damaged(&mut rng, text);
        form_body(&mut rng, &body);
        let noise: Vec<u8> = (0..rng.below(60)).map(|_| rng.next() as u8).collect();
        json_body(&mut rng, &noise);
        form_body(&mut rng, &noise);
    }
}
