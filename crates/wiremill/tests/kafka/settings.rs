//! Settings of the binary that are seen from a client's side or in the data directory: each is obeyed.

use std::path::Path;

use kafka::codec::{ErrorCode, api::metadata::MetadataRequest};

use crate::{
    client::Client,
    node::Node,
    process::until,
    usual::{
        batch, batch_of, by_producer, create, create_request, delete, new_producer, now_ms, offset_at,
        produce, stamped, try_create,
    },
};

/// The first offset that is there.
const EARLIEST: i64 = -2;

/// Stores `count` records of 100 KiB.
fn store(client: &mut Client, topic: &str, count: usize) {
    let body = vec![7; 100 << 10];
    for _ in 0..count {
        let batch = batch_of(&[(now_ms(), &body)], &Default::default());
        assert_eq!(produce(client, topic, 0, &batch).error_code, ErrorCode::NONE);
    }
}

/// Files of a folder of the data directory whose names have `part`.
fn files(node: &Node, folder: &str, part: &str) -> usize {
    let folder = node.server.folder.path("data").join(Path::new(folder));
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().contains(part)).count()
}

#[test]
fn clients_are_told_to_come_back_to_the_address_that_is_advertised() {
    let node = Node::start_with(&["--advertise", "kafka=broker.example.org:19092"]);
    let brokers = node.client().ask(9, &MetadataRequest::default()).brokers;
    assert_eq!(brokers.len(), 1);
    assert_eq!((&*brokers[0].host, brokers[0].port), ("broker.example.org", 19_092));
    let node = Node::start();
    let brokers = node.client().ask(9, &MetadataRequest::default()).brokers;
    assert_eq!(format!("{}:{}", brokers[0].host, brokers[0].port), node.address(), "where they connected to");
}

#[test]
fn no_more_topics_are_made_than_may_exist_in_all_or_for_a_tenant() {
    for flag in ["--streams-max", "--streams-per-tenant-max"] {
        let node = Node::start_with(&[flag, "2"]);
        let mut client = node.client();
        create(&mut client, "first", 1, &[]);
        create(&mut client, "second", 1, &[]);
        let third = try_create(&mut client, "third", 1, &[]);
        assert_eq!(third.error_code, ErrorCode::POLICY_VIOLATION, "{flag}");
        assert_eq!(delete(&mut client, "first"), ErrorCode::NONE);
        create(&mut client, "third", 1, &[]);
    }
}

#[test]
fn replicas_that_one_node_cannot_have_are_taken_where_that_is_set() {
    let node = Node::start_with(&["--single-node-replicas", "accept"]);
    let mut client = node.client();
    let mut request = create_request("t", 1, &[]);
    request.topics[0].replication_factor = 3;
    let answer = client.ask(7, &request).topics.pop().unwrap();
    assert_eq!((answer.error_code, answer.replication_factor), (ErrorCode::NONE, 3));
    store(&mut client, "t", 1);
}

#[test]
fn retention_looks_as_often_as_is_set() {
    let node = Node::start_with(&["--retention-interval-ms", "100"]);
    let mut client = node.client();
    create(&mut client, "t", 1, &[("retention.ms", "1")]);
    store(&mut client, "t", 1);
    until("the record is gone", || offset_at(&mut client, "t", 0, EARLIEST).offset == 1);
}

#[test]
fn a_producer_is_remembered_as_long_as_is_set() {
    let node = Node::start_with(&["--ephemeral", "--producer-expiry-ms", "5000"]);
    let mut client = node.client();
    create(&mut client, "t", 1, &[]);
    let id = new_producer(&mut client);
    let mut send = |sequence| {
        let batch = stamped(&["x"], &by_producer(id, 0, sequence));
        produce(&mut client, "t", 0, &batch).error_code
    };
    assert_eq!(send(0), ErrorCode::NONE);
    assert_eq!(send(7), ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    node.advance(6_000);
    until("it is forgotten", || send(7) == ErrorCode::NONE);
}

#[test]
fn log_files_are_as_long_as_is_set() {
    let node = Node::start_with(&["--wal-file-len", "1MiB"]);
    let mut client = node.client();
    create(&mut client, "t", 1, &[]);
    store(&mut client, "t", 120);
    let count = files(&node, "wal", ".wal");
    assert!((8..=16).contains(&count), "{count} files of 12 MB");
}

#[test]
fn no_more_of_the_log_than_is_set_is_without_a_checkpoint() {
    let few = ["--uncheckpointed-entries-max", "1000"];
    for (arguments, appears) in [
        (&["--wal-file-len", "1MiB", "--uncheckpointed-len-max", "4MiB"][..], true),
        (&["--wal-file-len", "1MiB"][..], false),
        (&few[..], true),
    ] {
        let node = Node::start_with(arguments);
        let mut client = node.client();
        create(&mut client, "t", 1, &[]);
        if arguments == few {
            let batch = batch(&["x"]);
            (0..1_200).for_each(|_| drop(produce(&mut client, "t", 0, &batch)));
        } else {
            store(&mut client, "t", 80);
        }
        match appears {
            true => until("a checkpoint is there", || files(&node, "blobs", "checkpoint") > 0),
            false => assert_eq!(files(&node, "blobs", "checkpoint"), 0),
        }
    }
}
