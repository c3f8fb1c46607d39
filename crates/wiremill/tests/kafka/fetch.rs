//! What a Fetch gives: whole batches, bounds, waiting, leader epochs; and where offsets lie in time.

use std::time::{Duration, Instant};

use kafka::codec::{
    ErrorCode, Uuid,
    api::{
        fetch::{FetchPartition, FetchRequest, FetchTopic},
        list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic},
        offset_for_leader_epoch::{
            EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
        },
    },
    records::Stamp,
};

use crate::{
    client::Client,
    node::Node,
    usual::{
        FETCH_BY_NAME, batch, batch_of, create, described, fetch, fetch_request, fetched, fetched_batches,
        now_ms, offset_at, produce,
    },
};

fn start() -> (Node, Client) {
    let node = Node::start();
    let mut client = node.client();
    create(&mut client, "t", 1, &[]);
    (node, client)
}

#[test]
fn an_offset_in_the_middle_of_a_batch_gives_the_whole_batch() {
    let (_node, mut client) = start();
    produce(&mut client, "t", 0, &batch(&["a", "b", "c"]));
    produce(&mut client, "t", 0, &batch(&["d"]));
    for offset in 0..3 {
        let data = fetch(&mut client, "t", 0, offset);
        assert_eq!(fetched(&data).len(), 4, "from offset {offset}");
        assert_eq!(fetched_batches(&data)[0].header.base_offset, 0);
    }
    assert_eq!(fetched(&fetch(&mut client, "t", 0, 3)), [(3, "d".to_owned())]);
    assert!(fetched(&fetch(&mut client, "t", 0, 4)).is_empty());
}

#[test]
fn what_was_stored_before_a_restart_reads_the_same() {
    let (mut node, mut client) = start();
    produce(&mut client, "t", 0, &batch(&["a", "b", "c"]));
    let before = fetch(&mut client, "t", 0, 1).records.to_vec();
    node.crash_and_start_again();
    assert_eq!(fetch(&mut node.client(), "t", 0, 1).records.to_vec(), before);
}

/// KIP-74: a reader must be able to go on, however small its limits are.
#[test]
fn the_first_batch_is_given_whole_even_above_the_limits() {
    let (_node, mut client) = start();
    let large = "x".repeat(5_000);
    produce(&mut client, "t", 0, &batch(&[&large]));
    produce(&mut client, "t", 0, &batch(&[&large]));
    for (max_bytes, partition_max_bytes) in [(1, 1), (0, 0), (1, 1 << 20), (1 << 20, 1), (6_000, 1 << 20)] {
        let mut request = FetchRequest { max_bytes, ..fetch_request("t", 0, 0) };
        request.topics[0].partitions[0].partition_max_bytes = partition_max_bytes;
        let answer = client.ask(FETCH_BY_NAME, &request);
        let read = fetched(&answer.responses[0].partitions[0]);
        assert_eq!(read.len(), 1, "max_bytes {max_bytes}, of the partition {partition_max_bytes}");
        assert_eq!(read[0].1, large);
    }
}

#[test]
fn only_the_first_partition_with_data_may_go_above_the_limit() {
    let node = Node::start();
    let mut client = node.client();
    create(&mut client, "t", 3, &[]);
    let large = "x".repeat(5_000);
    for partition in [1, 2] {
        produce(&mut client, "t", partition, &batch(&[&large]));
    }
    let wanted = |partition| FetchPartition { partition, partition_max_bytes: 1 << 20, ..Default::default() };
    let topic = FetchTopic { topic: "t", topic_id: Uuid::ZERO, partitions: (0..3).map(wanted).collect() };
    let request = FetchRequest { max_bytes: 100, topics: vec![topic], ..Default::default() };
    let answer = client.ask(FETCH_BY_NAME, &request);
    let lens: Vec<usize> = answer.responses[0].partitions.iter().map(|p| fetched(p).len()).collect();
    assert_eq!(lens, [0, 1, 0]);
}

/// librdkafka fails with "invalid MessageSetSize -1" on a null.
#[test]
fn records_are_never_null_not_even_beside_an_error() {
    let (_node, mut client) = start();
    for version in 4..=12 {
        for (topic, partition, offset) in [("t", 0, 0), ("t", 0, 99), ("t", 9, 0), ("nowhere", 0, 0)] {
            client.send(version, &fetch_request(topic, partition, offset));
            let frame = client.receive().unwrap();
            // The last field of the only partition, before the tagged fields of partition, topic and answer.
            let (empty, null): (&[u8], &[u8]) = match version {
                12 => (&[1, 0, 0, 0], &[0, 0, 0, 0]),
                _ => (&[0, 0, 0, 0], &[0xff, 0xff, 0xff, 0xff]),
            };
            assert!(!frame.ends_with(null), "Fetch {version} of {topic} {partition} {offset}");
            assert!(frame.ends_with(empty), "Fetch {version} of {topic} {partition} {offset}: {frame:02x?}");
        }
    }
}

#[test]
fn offsets_outside_the_log_and_unknown_partitions_are_refused() {
    let (_node, mut client) = start();
    produce(&mut client, "t", 0, &batch(&["a"]));
    assert_eq!(fetch(&mut client, "t", 0, 1).error_code, ErrorCode::NONE, "the end is where readers wait");
    for offset in [2, i64::MAX, -1, i64::MIN] {
        assert_eq!(fetch(&mut client, "t", 0, offset).error_code, ErrorCode::OFFSET_OUT_OF_RANGE, "{offset}");
    }
    for (topic, partition) in [("t", 1), ("t", -1), ("nowhere", 0)] {
        let code = fetch(&mut client, topic, partition, 0).error_code;
        assert_eq!(code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "{topic} {partition}");
    }
}

#[test]
fn every_fetch_version_reads_the_same_bytes() {
    let (_node, mut client) = start();
    produce(&mut client, "t", 0, &batch(&["a", "b"]));
    let topic_id = described(&mut client, "t").topic_id;
    let expected = fetch(&mut client, "t", 0, 0).records.to_vec();
    for version in 4..=18 {
        let mut request = fetch_request("t", 0, 0);
        request.topics[0].topic_id = topic_id;
        let answer = client.ask(version, &request);
        let partition = &answer.responses[0].partitions[0];
        assert_eq!(partition.records.to_vec(), expected, "version {version}");
        assert_eq!((partition.high_watermark, partition.last_stable_offset), (2, 2));
    }
}

#[test]
fn a_fetch_waits_for_enough_bytes_and_is_woken_by_them() {
    let (node, mut client) = start();
    let request = FetchRequest { min_bytes: 1, max_wait_ms: 20_000, ..fetch_request("t", 0, 0) };
    let correlation = client.send(FETCH_BY_NAME, &request);
    assert!(client.is_silent_for(Duration::from_millis(200)));
    let began = Instant::now();
    produce(&mut node.client(), "t", 0, &batch(&["a"]));
    let answer = client.take::<FetchRequest<'_>>(FETCH_BY_NAME, correlation);
    assert_eq!(fetched(&answer.responses[0].partitions[0]).len(), 1);
    assert!(began.elapsed() < Duration::from_secs(10), "woken, not timed out");
}

#[test]
fn what_is_on_the_disk_and_wanted_is_not_waited_for() {
    let (mut node, mut client) = start();
    let value = "x".repeat(60_000);
    for _ in 0..50 {
        produce(&mut client, "t", 0, &batch(&[&value]));
    }
    node.crash_and_start_again();
    let mut request = fetch_request("t", 0, 0);
    (request.min_bytes, request.max_wait_ms) = (2_500_000, 300_000);
    (request.max_bytes, request.topics[0].partitions[0].partition_max_bytes) = (8 << 20, 8 << 20);
    // It would be over only after five minutes.
    let answer = node.client().ask(FETCH_BY_NAME, &request);
    assert!(answer.responses[0].partitions[0].records.to_vec().len() >= 2_500_000);
}

#[test]
fn a_fetch_that_gets_nothing_ends_when_its_wait_is_over() {
    let (_node, mut client) = start();
    let request = FetchRequest { min_bytes: 1, max_wait_ms: 300, ..fetch_request("t", 0, 0) };
    let began = Instant::now();
    let answer = client.ask(FETCH_BY_NAME, &request);
    assert!(answer.responses[0].partitions[0].records.is_empty());
    assert!(began.elapsed() >= Duration::from_millis(300));
}

#[test]
fn a_fetch_with_an_error_does_not_wait() {
    let (_node, mut client) = start();
    let request = FetchRequest { min_bytes: 1, max_wait_ms: 25_000, ..fetch_request("t", 0, 99) };
    let began = Instant::now();
    let answer = client.ask(FETCH_BY_NAME, &request);
    assert_eq!(answer.responses[0].partitions[0].error_code, ErrorCode::OFFSET_OUT_OF_RANGE);
    assert!(began.elapsed() < Duration::from_secs(10));
}

/// KIP-320.
#[test]
fn a_leader_epoch_that_is_not_ours_is_refused() {
    let (_node, mut client) = start();
    produce(&mut client, "t", 0, &batch(&["a"]));
    let epoch = described(&mut client, "t").partitions[0].leader_epoch;
    for (claimed, code) in [
        (epoch, ErrorCode::NONE),
        (-1, ErrorCode::NONE),
        (epoch - 1, if epoch == 0 { ErrorCode::NONE } else { ErrorCode::FENCED_LEADER_EPOCH }),
        (epoch + 1, ErrorCode::UNKNOWN_LEADER_EPOCH),
    ] {
        let mut request = fetch_request("t", 0, 0);
        request.topics[0].partitions[0].current_leader_epoch = claimed;
        let answer = client.ask(FETCH_BY_NAME, &request);
        assert_eq!(answer.responses[0].partitions[0].error_code, code, "Fetch with epoch {claimed}");
        let wanted =
            ListOffsetsPartition { current_leader_epoch: claimed, timestamp: -1, partition_index: 0 };
        let topic = ListOffsetsTopic { name: "t", partitions: vec![wanted] };
        let request = ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() };
        let answer = client.ask(4, &request);
        assert_eq!(answer.topics[0].partitions[0].error_code, code, "ListOffsets with epoch {claimed}");
        assert_eq!(epoch_end(&mut client, claimed, epoch).error_code, code, "epoch end with {claimed}");
    }
}

fn epoch_end(client: &mut Client, current_leader_epoch: i32, leader_epoch: i32) -> EpochEndOffset {
    let wanted = OffsetForLeaderPartition { partition: 0, current_leader_epoch, leader_epoch };
    let topic = OffsetForLeaderTopic { topic: "t", partitions: vec![wanted] };
    let request = OffsetForLeaderEpochRequest { replica_id: -1, topics: vec![topic] };
    client.ask(4, &request).topics.pop().unwrap().partitions.pop().unwrap()
}

#[test]
fn a_leader_epoch_ends_where_its_last_record_does() {
    let (_node, mut client) = start();
    produce(&mut client, "t", 0, &batch(&["a", "b"]));
    let epoch = described(&mut client, "t").partitions[0].leader_epoch;
    let end = epoch_end(&mut client, -1, epoch);
    assert_eq!((end.leader_epoch, end.end_offset), (epoch, 2));
    let unknown = epoch_end(&mut client, -1, epoch + 5);
    assert_eq!((unknown.leader_epoch, unknown.end_offset), (-1, -1));
    let stored = fetched_batches(&fetch(&mut client, "t", 0, 0))[0];
    assert_eq!(stored.header.partition_leader_epoch, epoch, "each stored batch carries it");
}

#[test]
fn a_reader_with_a_future_epoch_is_told_where_the_logs_part() {
    let (_node, mut client) = start();
    produce(&mut client, "t", 0, &batch(&["a", "b"]));
    let epoch = described(&mut client, "t").partitions[0].leader_epoch;
    let mut request = fetch_request("t", 0, 2);
    request.topics[0].partitions[0].last_fetched_epoch = epoch;
    let answer = client.ask(FETCH_BY_NAME, &request);
    assert_eq!(answer.responses[0].partitions[0].diverging_epoch.epoch, -1, "nothing parts");
    request.topics[0].partitions[0].fetch_offset = 7;
    let answer = client.ask(FETCH_BY_NAME, &request);
    let diverging = &answer.responses[0].partitions[0].diverging_epoch;
    assert_eq!((diverging.epoch, diverging.end_offset), (epoch, 2));
}

#[test]
fn special_times_mean_places_in_the_log() {
    let (_node, mut client) = start();
    let now = now_ms();
    let empty: Vec<i64> = (1..=6).map(|n| offset_at(&mut client, "t", 0, -n).offset).collect();
    assert_eq!(empty, [0, 0, -1, 0, -1, -1]);
    produce(
        &mut client,
        "t",
        0,
        &batch_of(&[(now, b"a"), (now + 500, b"b"), (now + 100, b"c")], &Stamp::default()),
    );
    let latest = offset_at(&mut client, "t", 0, -1);
    assert_eq!((latest.offset, latest.timestamp), (3, -1));
    assert_eq!(offset_at(&mut client, "t", 0, -2).offset, 0);
    let newest = offset_at(&mut client, "t", 0, -3);
    assert_eq!((newest.offset, newest.timestamp), (1, now + 500), "the offset of the highest time");
    assert_eq!(offset_at(&mut client, "t", 0, -4).offset, 0, "all is local");
    assert_eq!(offset_at(&mut client, "t", 0, -5).offset, -1, "nothing is in a remote tier");
    assert_eq!(offset_at(&mut client, "t", 0, -6).offset, -1, "and nothing waits to go there");
    assert_eq!(offset_at(&mut client, "t", 0, -7).error_code, ErrorCode::UNSUPPORTED_VERSION);
}

#[test]
fn special_times_are_understood_from_the_version_that_brought_them() {
    let (_node, mut client) = start();
    produce(&mut client, "t", 0, &batch(&["a"]));
    for (timestamp, from) in [(-1, 1), (-2, 1), (-3, 7), (-4, 8), (-5, 9), (-6, 11), (-7, 12)] {
        for version in 1..=11 {
            let wanted = ListOffsetsPartition { timestamp, ..Default::default() };
            let topics = vec![ListOffsetsTopic { name: "t", partitions: vec![wanted] }];
            let request = ListOffsetsRequest { replica_id: -1, topics, ..Default::default() };
            let answer = client.ask(version, &request).topics.pop().unwrap().partitions.pop().unwrap();
            let expected = if version < from { ErrorCode::UNSUPPORTED_VERSION } else { ErrorCode::NONE };
            assert_eq!(answer.error_code, expected, "{timestamp} in version {version}");
        }
    }
}

#[test]
fn a_time_finds_the_first_record_that_is_not_older() {
    let (mut node, mut client) = start();
    let now = now_ms();
    let at = |delta: i64| (now + delta, b"x".as_slice());
    produce(&mut client, "t", 0, &batch_of(&[at(0), at(10), at(20)], &Stamp::default()));
    produce(&mut client, "t", 0, &batch_of(&[at(30), at(40)], &Stamp::default()));
    for restarted in [false, true] {
        if restarted {
            node.crash_and_start_again();
            client = node.client();
        }
        for (delta, offset, found) in
            [(-1_000, 0, 0), (0, 0, 0), (1, 1, 10), (20, 2, 20), (21, 3, 30), (40, 4, 40)]
        {
            let answer = offset_at(&mut client, "t", 0, now + delta);
            assert_eq!((answer.offset, answer.timestamp), (offset, now + found), "{delta} ms");
        }
        let none = offset_at(&mut client, "t", 0, now + 41);
        assert_eq!((none.error_code, none.offset, none.timestamp), (ErrorCode::NONE, -1, -1));
    }
}
