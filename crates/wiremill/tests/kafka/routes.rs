//! What is produced to a topic also goes along its routes, in the same unit: all of it is there, or none.

use std::{
    sync::atomic::{AtomicI32, Ordering},
    thread,
    time::{Duration, Instant},
};

use kafka::codec::{
    ErrorCode,
    records::{BatchBuilder, Compression, Stamp},
};

use crate::{
    client::Client,
    node::Node,
    usual::{
        PRODUCE_BY_NAME, batch, by_producer, create, fetch, fetch_all, fetched_batches, new_producer, now_ms,
        produce, produce_request, stamped,
    },
};

/// POST of something that is made.
fn post(node: &Node, path: &str, body: &str) {
    let (status, answer) = node.post(path, body);
    assert_eq!(status, 201, "{answer}");
}

fn route(node: &Node, from: &str, to: &str) {
    post(node, "/api/v1/routes", &format!(r#"{{"from":"{from}","to":"{to}"}}"#));
}

/// A node whose topic `orders` also goes to the queue `jobs`, with these settings.
fn start(settings: &str) -> (Node, Client) {
    let node = Node::start();
    let mut client = node.client();
    create(&mut client, "orders", 1, &[]);
    let body = format!(r#"{{"name":"jobs","kind":"queue","partitions":1,"settings":{settings}}}"#);
    post(&node, "/api/v1/streams", &body);
    route(&node, "kafka:orders", "queue:jobs");
    (node, client)
}

fn values(client: &mut Client, topic: &str) -> Vec<String> {
    fetch_all(client, topic, 0).into_iter().map(|(_, value)| value).collect()
}

#[test]
fn what_is_produced_to_a_topic_is_in_the_queue_that_it_is_routed_to_also_after_a_kill() {
    let (mut node, mut client) = start("{}");
    for acks in [-1, 1] {
        let mut answer =
            client.ask(PRODUCE_BY_NAME, &produce_request("orders", 0, acks, &batch(&["a", "b"])));
        let part = answer.responses.pop().unwrap().partition_responses.pop().unwrap();
        assert_eq!(part.error_code, ErrorCode::NONE);
    }
    node.crash_and_start_again();
    let mut client = node.client();
    for name in ["orders", "jobs"] {
        assert_eq!(values(&mut client, name), ["a", "b", "a", "b"], "{name}");
    }
    assert_eq!(produce(&mut client, "orders", 0, &batch(&["c"])).error_code, ErrorCode::NONE);
    assert_eq!(values(&mut client, "jobs").len(), 5);
}

#[test]
fn a_produce_without_acknowledgement_goes_along_routes_too() {
    let (_node, mut client) = start("{}");
    client.send(PRODUCE_BY_NAME, &produce_request("orders", 0, 0, &batch(&["quiet"])));
    // The next answer comes after what was sent before it.
    produce(&mut client, "orders", 0, &batch(&["loud"]));
    assert_eq!(values(&mut client, "jobs"), ["quiet", "loud"]);
}

#[test]
fn a_batch_sent_again_is_not_in_the_target_again_not_even_after_a_kill() {
    let (mut node, mut client) = start("{}");
    let producer = new_producer(&mut client);
    let records = stamped(&["once"], &by_producer(producer, 0, 0));
    for _ in 0..2 {
        for _ in 0..2 {
            let answer = produce(&mut client, "orders", 0, &records);
            assert_eq!((answer.error_code, answer.base_offset), (ErrorCode::NONE, 0));
        }
        assert_eq!(values(&mut client, "jobs"), ["once"]);
        node.crash_and_start_again();
        client = node.client();
    }
}

#[test]
fn what_the_target_refuses_is_refused_to_the_producer_and_stored_nowhere() {
    let (_node, mut client) = start(r#"{"record_len_max":3}"#);
    assert_eq!(produce(&mut client, "orders", 0, &batch(&["123"])).error_code, ErrorCode::NONE);
    let refused = produce(&mut client, "orders", 0, &batch(&["1", "1234"]));
    assert_eq!(refused.error_code, ErrorCode::MESSAGE_TOO_LARGE);
    for name in ["orders", "jobs"] {
        assert_eq!(values(&mut client, name), ["123"], "{name}");
    }
    client.send(PRODUCE_BY_NAME, &produce_request("orders", 0, 0, &batch(&["1234"])));
    assert!(client.is_closed(), "without an answer, closing says that it was refused");
}

#[test]
fn a_routed_produce_is_not_answered_before_its_sync() {
    let delay = Duration::from_millis(200);
    let node = Node::start_with(&["--test-sync-delay-ms", "200"]);
    let mut client = node.client();
    create(&mut client, "orders", 1, &[]);
    create(&mut client, "copies", 1, &[]);
    route(&node, "kafka:orders", "kafka:copies");
    thread::sleep(delay + Duration::from_millis(30)); // what the background still syncs
    let began = Instant::now();
    assert_eq!(produce(&mut client, "orders", 0, &batch(&["x"])).error_code, ErrorCode::NONE);
    assert!(began.elapsed() >= delay);
    assert_eq!(values(&mut client, "copies"), ["x"]);
}

fn keyed(count: usize, compression: Compression) -> bytes::Bytes {
    let mut builder = BatchBuilder::new(compression);
    for n in 0..count {
        let (key, value) = (format!("key-{}", n % 5), format!("{}/{n}", n % 5));
        builder.push(now_ms(), Some(key.as_bytes()), Some(value.as_bytes()), std::iter::empty());
    }
    builder.finish(&Stamp::default()).unwrap()
}

/// Keys in a fetched partition.
fn keys(client: &mut Client, topic: &str, partition: i32) -> Vec<Option<String>> {
    let mut keys = Vec::new();
    for batch in fetched_batches(&fetch(client, topic, partition, 0)) {
        let payload = batch.payload(usize::MAX).unwrap();
        for record in batch.records(&payload) {
            let key = record.unwrap().key.map(|key| String::from_utf8(key.to_vec()).unwrap());
            keys.push(key);
        }
    }
    keys
}

#[test]
fn records_of_one_key_lie_in_one_partition_of_the_target_where_clients_look_for_it() {
    let node = Node::start();
    let mut client = node.client();
    create(&mut client, "orders", 1, &[]);
    create(&mut client, "copies", 3, &[]);
    route(&node, "kafka:orders", "kafka:copies");
    for compression in [Compression::None, Compression::Lz4] {
        assert_eq!(produce(&mut client, "orders", 0, &keyed(20, compression)).error_code, ErrorCode::NONE);
    }
    let mut all = 0;
    for partition in 0..3 {
        for key in keys(&mut client, "copies", partition).into_iter().flatten() {
            assert_eq!(kafka::partition_of(key.as_bytes(), 3), u32::try_from(partition).unwrap(), "{key}");
            all += 1;
        }
    }
    assert_eq!(all, 40);
}

#[test]
fn a_key_made_from_the_address_is_what_clients_read_in_the_target() {
    let node = Node::start();
    let mut client = node.client();
    create(&mut client, "orders.eu", 1, &[]);
    create(&mut client, "copies", 2, &[]);
    post(&node, "/api/v1/routes", r#"{"from":"kafka:orders.*","to":"log:copies","key":"{token.2}"}"#);
    assert_eq!(
        produce(&mut client, "orders.eu", 0, &keyed(3, Compression::Gzip)).error_code,
        ErrorCode::NONE
    );
    let place = i32::try_from(kafka::partition_of(b"eu", 2)).unwrap();
    assert_eq!(keys(&mut client, "copies", place), vec![Some("eu".to_owned()); 3]);
    assert_eq!(keys(&mut client, "orders.eu", 0)[0].as_deref(), Some("key-0"));
}

#[test]
fn kills_under_load_leave_topic_and_target_alike() {
    let (mut node, mut client) = start("{}");
    let producer = new_producer(&mut client);
    // Batches acknowledged so far; an idempotent producer goes on from there, and sends the next one again.
    let done = AtomicI32::new(0);
    for round in 0..3 {
        thread::scope(|scope| {
            let mut client = node.client();
            let done = &done;
            scope.spawn(move || {
                loop {
                    let sequence = done.load(Ordering::Relaxed);
                    let records = stamped(&[&sequence.to_string()], &by_producer(producer, 0, sequence));
                    let request = produce_request("orders", 0, -1, &records);
                    let frame = client.frame(PRODUCE_BY_NAME, &request, sequence);
                    if std::io::Write::write_all(&mut client.stream, &frame).is_err()
                        || client.receive_unless_broken().is_none()
                    {
                        return;
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
            // Some moment in the middle of the load, another one in every round.
            thread::sleep(Duration::from_millis(150 + round * 70));
            node.kill();
        });
        node.start_again();
        let mut client = node.client();
        let (orders, jobs) = (values(&mut client, "orders"), values(&mut client, "jobs"));
        assert_eq!(orders, jobs, "round {round}");
        assert!(orders.len() >= usize::try_from(done.load(Ordering::Relaxed)).unwrap());
        assert!(orders.iter().enumerate().all(|(n, value)| *value == n.to_string()), "{orders:?}");
    }
}
