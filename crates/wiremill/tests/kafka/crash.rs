//! `kill -9` at random moments under load: what was acknowledged is there, once, in order.

use std::{
    collections::{BTreeMap, VecDeque},
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use kafka::codec::{
    ErrorCode,
    api::produce::{ProduceRequest, ProduceResponse},
    decode_response,
};

use crate::{
    client::Client,
    node::Node,
    usual::{PRODUCE_BY_NAME, by_producer, create, fetch_all, new_producer, produce_request, stamped},
};

const ROUNDS: u64 = 5;
const PRODUCERS: i32 = 2;
/// As many as an idempotent producer may have.
const IN_FLIGHT: usize = 5;
const RECORDS_PER_BATCH: i32 = 3;

/// An idempotent producer of partition `partition`: sends numbered batches, and after a crash again what was not
/// acknowledged.
struct Producer {
    partition: i32,
    id: i64,
    /// First batch without an acknowledgement.
    next: i32,
    /// Base offsets as acknowledged, by batch.
    acknowledged: BTreeMap<i32, i64>,
}

impl Producer {
    fn values(&self, batch: i32) -> Vec<String> {
        (0..RECORDS_PER_BATCH).map(|n| format!("{}/{batch}/{n}", self.partition)).collect()
    }

    /// Sends until the server goes away or `stop`.
    fn run(&mut self, mut client: Client, stop: &AtomicBool, done: &AtomicUsize) {
        let mut sent = self.next;
        let mut waiting = VecDeque::new();
        while !stop.load(Ordering::Relaxed) || !waiting.is_empty() {
            while waiting.len() < IN_FLIGHT && !stop.load(Ordering::Relaxed) {
                let values = self.values(sent);
                let values: Vec<&str> = values.iter().map(String::as_str).collect();
                let batch = stamped(&values, &by_producer(self.id, 0, sent * RECORDS_PER_BATCH));
                let request: ProduceRequest<'_> = produce_request("t", self.partition, -1, &batch);
                let frame = client.frame(PRODUCE_BY_NAME, &request, sent);
                if client.stream.write_all(&frame).is_err() {
                    return;
                }
                waiting.push_back(sent);
                sent += 1;
            }
            let Some(frame) = client.receive_unless_broken() else { return };
            let (batch, answer): (i32, ProduceResponse<'_>) =
                decode_response::<ProduceRequest<'_>>(&frame, PRODUCE_BY_NAME).unwrap();
            assert_eq!(waiting.pop_front(), Some(batch), "answers come in order");
            let part = &answer.responses[0].partition_responses[0];
            assert_eq!(part.error_code, ErrorCode::NONE, "batch {batch}: {:?}", part.error_message);
            self.acknowledged.insert(batch, part.base_offset);
            self.next = batch + 1;
            done.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Everything acknowledged is in the log where its answer said, once, and in order.
    fn check(&self, client: &mut Client) {
        let stored = fetch_all(client, "t", self.partition);
        let expected: Vec<String> = (0..self.next).flat_map(|batch| self.values(batch)).collect();
        assert!(
            stored.len() >= expected.len(),
            "{} records of {} acknowledged",
            stored.len(),
            expected.len()
        );
        for ((offset, value), expected) in stored.iter().zip(&expected) {
            assert_eq!(value, expected, "at offset {offset}");
        }
        // What is behind it was sent and not acknowledged before the kill: in order too, and at most what was in flight.
        let more: Vec<String> = (self.next..).take(IN_FLIGHT).flat_map(|batch| self.values(batch)).collect();
        let behind: Vec<&String> = stored[expected.len()..].iter().map(|(_, value)| value).collect();
        assert_eq!(behind, more.iter().take(behind.len()).collect::<Vec<_>>());
        assert_eq!(behind.len() % usize::try_from(RECORDS_PER_BATCH).unwrap(), 0, "batches are whole");
        for (batch, base) in &self.acknowledged {
            let at = usize::try_from(*base).unwrap();
            assert_eq!(stored[at].1, self.values(*batch)[0], "batch {batch}");
        }
    }
}

#[test]
fn five_kills_under_load_lose_and_repeat_nothing() {
    let mut node = Node::start();
    let mut client = node.client();
    create(&mut client, "t", PRODUCERS, &[]);
    let mut producers: Vec<Producer> = (0..PRODUCERS)
        .map(|partition| Producer {
            partition,
            id: new_producer(&mut client),
            next: 0,
            acknowledged: BTreeMap::new(),
        })
        .collect();
    let total = Arc::new(AtomicUsize::new(0));
    for round in 0..=ROUNDS {
        let stop = Arc::new(AtomicBool::new(false));
        let before = total.load(Ordering::Relaxed);
        thread::scope(|scope| {
            for producer in &mut producers {
                let (client, stop, total) = (node.client(), stop.clone(), total.clone());
                scope.spawn(move || producer.run(client, &stop, &total));
            }
            // Some moment in the middle of the load, another one in every round.
            thread::sleep(Duration::from_millis(300 + (round * 137) % 400));
            match round < ROUNDS {
                true => node.kill(),
                false => stop.store(true, Ordering::Relaxed),
            }
        });
        assert!(total.load(Ordering::Relaxed) > before + 20, "round {round} was under load");
        if round < ROUNDS {
            node.start_again();
        }
        for producer in &producers {
            producer.check(&mut node.client());
        }
    }
}
