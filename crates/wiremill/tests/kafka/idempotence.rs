//! Idempotent producers: what is a duplicate, what is out of order, and that a restart forgets neither.

use kafka::codec::{ErrorCode, api::produce::PartitionProduceResponse};

use crate::{
    client::Client,
    node::Node,
    usual::{by_producer, create, fetch_all, new_producer, produce, stamped},
};

/// One producer's way to one partition.
struct Producer {
    id: i64,
    epoch: i16,
}

impl Producer {
    /// Sends `count` records from `sequence` on.
    fn send(&self, client: &mut Client, sequence: i32, count: usize) -> PartitionProduceResponse<'static> {
        let values: Vec<String> = (0..count).map(|n| format!("{}-{sequence}+{n}", self.epoch)).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        produce(client, "t", 0, &stamped(&values, &by_producer(self.id, self.epoch, sequence)))
    }

    #[track_caller]
    fn stores(&self, client: &mut Client, sequence: i32, count: usize, base_offset: i64) {
        let answer = self.send(client, sequence, count);
        assert_eq!((answer.error_code, answer.base_offset), (ErrorCode::NONE, base_offset));
    }

    #[track_caller]
    fn is_refused(&self, client: &mut Client, sequence: i32, code: ErrorCode) {
        let answer = self.send(client, sequence, 1);
        assert_eq!((answer.error_code, answer.base_offset), (code, -1));
    }
}

fn start() -> (Node, Client, Producer) {
    let node = Node::start();
    let mut client = node.client();
    create(&mut client, "t", 1, &[]);
    let id = new_producer(&mut client);
    (node, client, Producer { id, epoch: 0 })
}

#[test]
fn each_producer_gets_an_id_of_its_own_over_restarts_too() {
    let (mut node, mut client, producer) = start();
    let second = new_producer(&mut client);
    assert_ne!(second, producer.id);
    node.crash_and_start_again();
    let third = new_producer(&mut node.client());
    assert!(![producer.id, second].contains(&third));
}

#[test]
fn the_last_five_batches_sent_again_are_answered_with_their_first_offsets() {
    let (_node, mut client, producer) = start();
    for n in 0..6 {
        producer.stores(&mut client, n * 2, 2, i64::from(n) * 2);
    }
    for n in 1..6 {
        producer.stores(&mut client, n * 2, 2, i64::from(n) * 2);
    }
    producer.is_refused(&mut client, 0, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(fetch_all(&mut client, "t", 0).len(), 12);
}

#[test]
fn a_gap_in_the_sequence_is_refused_and_changes_nothing() {
    let (_node, mut client, producer) = start();
    producer.stores(&mut client, 0, 1, 0);
    producer.is_refused(&mut client, 2, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    producer.stores(&mut client, 1, 1, 1);
}

#[test]
fn a_batch_that_overlaps_a_stored_one_is_not_taken_for_its_duplicate() {
    let (_node, mut client, producer) = start();
    producer.stores(&mut client, 0, 3, 0);
    let answer = producer.send(&mut client, 0, 2);
    assert_eq!(answer.error_code, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    let answer = producer.send(&mut client, 2, 2);
    assert_eq!(answer.error_code, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
}

#[test]
fn a_new_epoch_begins_at_0_and_shuts_the_old_one_out() {
    let (_node, mut client, old) = start();
    old.stores(&mut client, 0, 1, 0);
    let new = Producer { id: old.id, epoch: 1 };
    new.is_refused(&mut client, 1, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    new.stores(&mut client, 0, 1, 1);
    old.is_refused(&mut client, 1, ErrorCode::INVALID_PRODUCER_EPOCH);
    new.stores(&mut client, 1, 1, 2);
}

#[test]
fn a_producer_that_is_not_known_here_may_begin_anywhere() {
    let (_node, mut client, _) = start();
    let stranger = Producer { id: 77_777, epoch: 3 };
    stranger.stores(&mut client, 500, 1, 0);
    stranger.stores(&mut client, 501, 1, 1);
}

#[test]
fn the_sequence_goes_on_at_0_behind_its_highest_number() {
    let (_node, mut client, _) = start();
    let old = Producer { id: 77_777, epoch: 0 };
    old.stores(&mut client, i32::MAX - 2, 2, 0);
    old.stores(&mut client, i32::MAX, 3, 2);
    old.stores(&mut client, 2, 1, 5);
    old.stores(&mut client, i32::MAX, 3, 2);
}

#[test]
fn producers_do_not_see_each_others_sequences() {
    let (_node, mut client, first) = start();
    let second = Producer { id: new_producer(&mut client), epoch: 0 };
    first.stores(&mut client, 0, 1, 0);
    second.stores(&mut client, 0, 1, 1);
    first.stores(&mut client, 1, 1, 2);
    second.stores(&mut client, 0, 1, 1);
}

#[test]
fn what_is_known_of_a_producer_survives_a_kill() {
    let (mut node, mut client, producer) = start();
    for n in 0..7 {
        producer.stores(&mut client, n, 1, i64::from(n));
    }
    node.crash_and_start_again();
    let mut client = node.client();
    for n in 2..7 {
        producer.stores(&mut client, n, 1, i64::from(n));
    }
    producer.is_refused(&mut client, 1, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    producer.is_refused(&mut client, 8, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    producer.stores(&mut client, 7, 1, 7);
    let new = Producer { id: producer.id, epoch: 1 };
    new.stores(&mut client, 0, 1, 8);
    node.crash_and_start_again();
    producer.is_refused(&mut node.client(), 8, ErrorCode::INVALID_PRODUCER_EPOCH);
}

#[test]
fn what_is_known_of_a_producer_survives_an_orderly_stop() {
    let (mut node, mut client, producer) = start();
    producer.stores(&mut client, 0, 2, 0);
    assert_eq!(node.server.stop(), 0);
    node.start_again();
    let mut client = node.client();
    producer.stores(&mut client, 0, 2, 0);
    producer.stores(&mut client, 2, 1, 2);
}

/// `producer.id.expiration.ms`, a day.
#[test]
fn a_producer_that_was_silent_for_a_day_is_forgotten() {
    let node = Node::start_with(&["--ephemeral"]);
    let mut client = node.client();
    create(&mut client, "t", 1, &[]);
    let producer = Producer { id: new_producer(&mut client), epoch: 0 };
    producer.stores(&mut client, 0, 1, 0);
    producer.is_refused(&mut client, 7, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    node.advance(25 * 3_600_000);
    // It is forgotten when the broker next looks, which the clock's jump makes soon.
    let began = std::time::Instant::now();
    while producer.send(&mut client, 7, 1).error_code != ErrorCode::NONE {
        assert!(began.elapsed() < std::time::Duration::from_secs(30), "it is still known");
    }
}
