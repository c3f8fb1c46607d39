use broker::{Append, NewBatch, Overflow, PublishUnit, StreamSettings};
use tokio::time::timeout;

use super::*;
use crate::{
    codec::{
        api::fetch::{FetchPartition, FetchTopic, ForgottenTopic},
        records::{BatchBuilder, Compression, Stamp},
    },
    fetch_sessions::INITIAL_EPOCH,
    testing::Rig,
};

fn wanted(topic: &str, partition_max_bytes: i32) -> FetchTopic<'_> {
    let partition = FetchPartition { partition_max_bytes, ..Default::default() };
    FetchTopic { topic, partitions: vec![partition], ..Default::default() }
}

fn request<'a>(
    topics: Vec<FetchTopic<'a>>,
    min_bytes: i32,
    max_bytes: i32,
    max_wait_ms: i32,
) -> FetchRequest<'a> {
    FetchRequest {
        topics,
        min_bytes,
        max_bytes,
        max_wait_ms,
        session_epoch: FINAL_EPOCH,
        ..Default::default()
    }
}

fn lens(response: &FetchResponse<'_>) -> Vec<usize> {
    let len = |data: &PartitionData<'_>| match &data.records {
        Records::Chunks(chunks) => chunks.iter().map(Bytes::len).sum(),
        Records::Slice(bytes) => bytes.len(),
    };
    response.responses.iter().flat_map(|topic| topic.partitions.iter().map(len)).collect()
}

#[tokio::test]
async fn without_room_one_partition_alone_gives_a_whole_batch() {
    let rig = Rig::new();
    for name in ["a", "b"] {
        let stream = rig.topic(name, StreamSettings::default()).await;
        rig.append(&stream, b"value").await;
    }
    let answer = fetch(&rig.ctx(12), request(vec![wanted("a", 1), wanted("b", 1)], 1, 0, 0)).await.0;
    let lens = lens(&answer);
    assert!(lens[0] > 0);
    assert_eq!(lens[1], 0, "the first alone may pass the limit");
}

#[tokio::test]
async fn a_backlog_behind_the_limits_is_no_reason_to_wake_up() {
    let rig = Rig::new();
    let stream = rig.topic("a", StreamSettings::default()).await;
    rig.append(&stream, b"1").await;
    rig.append(&stream, b"2").await;
    let ctx = rig.ctx(12);
    let read = Fetch { ctx: &ctx, by_ids: false, min_bytes: 1, upto: Upto::Durable, ahead: Ahead::Own };
    let key = PartitionKey { topic: "a".into(), topic_id: [0; 16], partition: 0 };
    let want = Wanted { offset: 0, max_bytes: 1, current_leader_epoch: -1, last_fetched_epoch: -1 };
    let left = Left { room: 1 << 20, first: true, misses: 0 };
    let share = read.read(&stream, &stream.partitions()[0], &key, &want, left).await.ok().unwrap();
    assert!(share.len > 0);
    assert_eq!(
        share.source.unwrap().end,
        Offset(2),
        "the second batch does not fit: the third is waited for"
    );
}

#[tokio::test]
async fn a_topic_that_is_not_there_does_not_cut_the_wait_for_the_others_short() {
    let rig = Rig::new();
    rig.topic("a", StreamSettings::default()).await;
    let before = Instant::now();
    let both = vec![wanted("a", 1 << 20), wanted("nowhere", 1 << 20)];
    let answer = fetch(&rig.ctx(12), request(both, 1, 1 << 20, 200)).await.0;
    assert!(before.elapsed() >= Duration::from_millis(200));
    assert_eq!(answer.responses[1].partitions[0].error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    let alone = fetch(&rig.ctx(12), request(vec![wanted("nowhere", 1)], 1, 1 << 20, 60_000)).await.0;
    assert_eq!(lens(&alone), [0], "with nothing to wait for it is answered at once");
}

#[tokio::test]
async fn a_topic_deleted_while_it_is_waited_for_ends_the_wait() {
    let rig = Rig::new();
    let stream = rig.topic("a", StreamSettings::default()).await;
    let broker = rig.broker().clone();
    let delete = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        broker.delete_stream(stream.key()).await.unwrap();
    };
    let ctx = rig.ctx(12);
    let wait = fetch(&ctx, request(vec![wanted("a", 1)], 1, 1 << 20, 60_000));
    let ((answer, _), ()) = tokio::join!(wait, delete);
    assert_eq!(answer.responses[0].partitions[0].error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
}

#[tokio::test]
async fn an_answer_is_charged_for_what_it_has_and_a_wait_for_nothing() {
    let rig = Rig::new();
    let stream = rig.topic("a", StreamSettings::default()).await;
    let budget = &rig.server.answer_budget;
    let ctx = rig.ctx(12);
    let empty = fetch(&ctx, request(vec![wanted("a", 1 << 20)], 1, 1 << 20, 50)).await;
    assert_eq!(budget.held_len(), 0, "{:?}", lens(&empty.0));
    rig.append(&stream, b"value").await;
    let (answer, charge) = fetch(&ctx, request(vec![wanted("a", 1 << 20)], 1, 1 << 20, 0)).await;
    assert_eq!(budget.held_len(), lens(&answer)[0]);
    drop(charge);
    assert_eq!(budget.held_len(), 0);
}

#[tokio::test]
async fn without_memory_for_answers_a_fetch_waits_its_time_and_is_answered_without_records_and_without_error()
{
    let rig = Rig::new();
    let stream = rig.topic("a", StreamSettings::default()).await;
    rig.append(&stream, b"value").await;
    let mut all = rig.server.answer_budget.take(1, Instant::now()).await.unwrap();
    all.settle(1 << 40);
    let ctx = rig.ctx(12);
    let answer = fetch(&ctx, request(vec![wanted("a", 1 << 20)], 1, 1 << 20, 50)).await.0;
    let partition = &answer.responses[0].partitions[0];
    assert_eq!((partition.error_code, partition.high_watermark), (ErrorCode::NONE, 1));
    assert_eq!(lens(&answer), [0]);
    let wait = fetch(&ctx, request(vec![wanted("a", 1 << 20)], 1, 1 << 20, 60_000));
    let (answer, ()) = tokio::join!(wait, async { drop(all) });
    assert!(lens(&answer.0)[0] > 0, "it is answered as soon as there is room");
}

/// The `fetch.min.bytes` of a client that allows more than the budget has for one answer.
#[tokio::test]
async fn a_fetch_waits_for_its_least_length_although_the_budget_has_less_than_it_allows() {
    let rig = Rig::new();
    let stream = rig.topic("a", StreamSettings::default()).await;
    rig.append(&stream, &[1; 1_000]).await;
    let ctx = rig.ctx(12);
    let before = Instant::now();
    let asked = request(vec![wanted("a", 1 << 20)], 10_000, 52_428_800, 200);
    let (answer, charge) = fetch(&ctx, asked).await;
    assert!(before.elapsed() >= Duration::from_millis(200));
    assert!(lens(&answer)[0] > 1_000, "what is there when the time is over");
    assert_eq!(charge.unwrap().len(), lens(&answer)[0]);
    let appends = async {
        for _ in 0..20 {
            rig.append(&stream, &[1; 1_000]).await;
        }
    };
    let asked = request(vec![wanted("a", 1 << 20)], 10_000, 52_428_800, 60_000);
    let ((answer, _), ()) = tokio::join!(fetch(&ctx, asked), appends);
    let len = lens(&answer)[0];
    assert!(len >= 10_000, "{len}: it is answered when there is enough");
}

#[tokio::test]
async fn what_has_no_room_in_the_budget_is_not_waited_for() {
    let rig = Rig::new();
    let stream = rig.topic("a", StreamSettings::default()).await;
    for _ in 0..3 {
        rig.append(&stream, &[1; 40_000]).await;
    }
    let mut others = rig.server.answer_budget.take(1, Instant::now()).await.unwrap();
    others.settle(rig.broker().options().memory_budget_len / 8);
    let asked = request(vec![wanted("a", 1 << 20)], 100_000, 1 << 20, 60_000);
    let answer = timeout(Duration::from_secs(20), fetch(&rig.ctx(12), asked)).await.unwrap().0;
    assert!((40_000..64 << 10).contains(&lens(&answer)[0]), "{:?}", lens(&answer));
}

/// As the original counts: up to the partition's limit, not up to the last batch below it.
#[tokio::test]
async fn a_partition_that_has_more_than_its_limit_counts_as_full() {
    let rig = Rig::new();
    let stream = rig.topic("a", StreamSettings::default()).await;
    for _ in 0..2 {
        rig.append(&stream, &[1; 600]).await;
    }
    let asked = request(vec![wanted("a", 1_000)], 1_000, 1 << 20, 60_000);
    let answer = timeout(Duration::from_secs(20), fetch(&rig.ctx(12), asked)).await.unwrap().0;
    assert!((600..1_000).contains(&lens(&answer)[0]), "{:?}", lens(&answer));
}

#[tokio::test]
async fn appends_below_the_least_length_are_counted_and_not_read() {
    let rig = Rig::new();
    let stream = rig.topic("a", StreamSettings::default()).await;
    let ctx = rig.ctx(12);
    let reads = || rig.broker().counters().warm_reads;
    let before = reads();
    let appends = async {
        for _ in 0..50 {
            rig.append(&stream, &[1; 1_000]).await;
        }
    };
    let asked = request(vec![wanted("a", 1 << 20)], 40_000, 1 << 20, 60_000);
    let ((answer, _), ()) = tokio::join!(fetch(&ctx, asked), appends);
    assert!(lens(&answer)[0] >= 40_000);
    assert!(reads() - before < 10, "{} reads", reads() - before);
}

#[tokio::test]
async fn a_full_answer_reads_no_more_partitions_and_still_tells_their_bounds_and_errors() {
    let rig = Rig::new();
    let names: Vec<String> = (0..40).map(|number| format!("topic-{number}")).collect();
    for name in &names {
        let stream = rig.topic(name, StreamSettings::default()).await;
        rig.append(&stream, &[1; 1_000]).await;
    }
    let mut topics: Vec<FetchTopic<'_>> = names.iter().map(|name| wanted(name, 1 << 20)).collect();
    topics[38].partitions[0].fetch_offset = 2;
    topics[39].partitions[0].current_leader_epoch = 1_000;
    let ctx = rig.ctx(12);
    let before = rig.broker().counters().warm_reads;
    let answer = fetch(&ctx, request(topics, 1, 3_500, 0)).await.0;
    let reads = rig.broker().counters().warm_reads - before;
    let lens = lens(&answer);
    assert!(lens[..3].iter().all(|len| *len > 0) && lens[3..].iter().all(|len| *len == 0), "{lens:?}");
    assert!(reads <= 3 + u64::from(MISSES_MAX), "{reads} reads");
    let told = |index: usize| &answer.responses[index].partitions[0];
    assert_eq!((told(37).error_code, told(37).high_watermark), (ErrorCode::NONE, 1));
    assert_eq!(told(38).error_code, ErrorCode::OFFSET_OUT_OF_RANGE);
    assert_eq!(told(39).error_code, ErrorCode::UNKNOWN_LEADER_EPOCH);
}

#[tokio::test]
async fn a_batch_that_has_no_room_does_not_keep_a_smaller_one_of_the_next_partition_back() {
    let rig = Rig::new();
    for (name, len) in [("a", 1_000), ("b", 5_000), ("c", 500)] {
        let stream = rig.topic(name, StreamSettings::default()).await;
        rig.append(&stream, &vec![1; len]).await;
    }
    let all = ["a", "b", "c"].map(|name| wanted(name, 1 << 20)).to_vec();
    let answer = fetch(&rig.ctx(12), request(all, 1, 2_000, 0)).await.0;
    let lens = lens(&answer);
    assert!(lens[0] > 1_000 && lens[1] == 0 && lens[2] > 500, "{lens:?}");
}

fn many_partitions(topic: &str, count: usize) -> FetchTopic<'_> {
    let partition = |index: usize| FetchPartition { partition: index as i32, ..Default::default() };
    FetchTopic { topic, partitions: (0..count).map(partition).collect(), ..Default::default() }
}

#[tokio::test]
async fn the_partitions_of_a_topic_share_its_name_and_a_name_that_no_topic_has_is_not_kept_in_a_session() {
    let rig = Rig::new();
    let ctx = rig.ctx(12);
    let long = "a".repeat(0x7fff);
    let ask = |topic| FetchRequest {
        session_epoch: INITIAL_EPOCH,
        ..request(vec![many_partitions(topic, 1_000)], 1, 1 << 20, 0)
    };
    let plan = plan_of(&ctx, &ask(&long)).ok().unwrap();
    let first = &plan.partitions[0].0.topic;
    assert!(plan.partitions.iter().all(|(key, _)| Arc::ptr_eq(&key.topic, first)));
    assert_eq!(plan.session_id, 0);
    let answer = fetch(&ctx, ask(&long)).await.0;
    let codes = answer.responses[0].partitions.iter().map(|data| data.error_code);
    assert_eq!((answer.responses.len(), answer.responses[0].partitions.len()), (1, 1_000));
    assert!(codes.into_iter().all(|code| code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    let plan = plan_of(&ctx, &ask("short")).ok().unwrap();
    let forgetting = FetchRequest {
        session_id: plan.session_id,
        session_epoch: 1,
        forgotten_topics_data: vec![ForgottenTopic {
            topic: &long,
            partitions: (0..1_000).collect(),
            ..Default::default()
        }],
        ..Default::default()
    };
    assert_eq!(fetch(&ctx, forgetting).await.0.error_code, ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
}

#[tokio::test]
async fn a_fetch_of_more_partitions_than_sessions_hold_is_refused_as_a_whole() {
    let rig = Rig::new();
    let all = vec![many_partitions("a", PARTITIONS_MAX), many_partitions("b", 1)];
    let answer = fetch(&rig.ctx(12), request(all, 1, 1 << 20, 0)).await.0;
    assert_eq!((answer.error_code, answer.responses.len()), (ErrorCode::INVALID_REQUEST, 0));
}

/// A stream that keeps its newest record, and a burst of which the oldest go before their sync.
#[tokio::test]
async fn a_reader_at_the_end_lets_others_work_while_records_go_that_nobody_could_read() {
    let rig = Rig::slow(150);
    let settings =
        StreamSettings { length_max: Some(1), overflow: Overflow::DropOldest, ..StreamSettings::default() };
    let stream = rig.topic("newest", settings).await;
    let partition = stream.partitions()[0].clone();
    let burst = async {
        tokio::task::yield_now().await;
        let appends = (0..10).map(|_| Append::new(&partition, Rig::batch(b"value"))).collect();
        let published = rig.broker().publish(PublishUnit::of(appends)).unwrap();
        let mut turns = 0;
        while partition.bounds().stable_end == Offset(0) {
            tokio::task::yield_now().await;
            turns += 1;
        }
        rig.broker().durable(published.wait).await.unwrap();
        turns
    };
    let ctx = rig.ctx(12);
    let (_, turns) =
        tokio::join!(fetch(&ctx, request(vec![wanted("newest", 1 << 20)], 1, 1 << 20, 60_000)), burst);
    assert!(turns > 5, "one task of one thread took all for itself: {turns}");
    // Where it read is gone meanwhile, which it is told: its client goes on at the start.
    assert_eq!(partition.bounds().start, Offset(9));
}

#[tokio::test]
async fn a_partition_that_is_named_again_is_asked_for_once_as_it_was_named_last() {
    let rig = Rig::new();
    let ctx = rig.ctx(12);
    let of = |topic, partitions: &[(i32, i64)]| {
        let partition = |(partition, fetch_offset): &(i32, i64)| FetchPartition {
            partition: *partition,
            fetch_offset: *fetch_offset,
            ..Default::default()
        };
        FetchTopic { topic, partitions: partitions.iter().map(partition).collect(), ..Default::default() }
    };
    let again: Vec<(i32, i64)> = (0..10_000).map(|offset| (0, offset)).collect();
    let asked = request(vec![of("a", &again), of("b", &[(0, 1)]), of("a", &[(1, 2), (0, 3)])], 1, 1, 0);
    let plan = plan_of(&ctx, &asked).ok().unwrap();
    let rows: Vec<(&str, i32, i64)> =
        plan.partitions.iter().map(|(key, wanted)| (&*key.topic, key.partition, wanted.offset)).collect();
    assert_eq!(rows, [("a", 0, 3), ("b", 0, 1), ("a", 1, 2)]);
}

/// Of a large request nothing but what is waited for is kept meanwhile; the answer has all of it again.
#[tokio::test]
async fn a_large_fetch_that_waited_in_vain_is_answered_for_every_partition() {
    let rig = Rig::new();
    rig.topic("a", StreamSettings::default()).await;
    let ctx = rig.ctx(12);
    let asked = request(vec![many_partitions("a", SHARES_KEPT_MAX + 1)], 1, 1 << 20, 50);
    let answer = fetch(&ctx, asked).await.0;
    let codes: Vec<ErrorCode> = answer.responses[0].partitions.iter().map(|data| data.error_code).collect();
    assert_eq!(codes.len(), SHARES_KEPT_MAX + 1);
    assert_eq!((codes[0], codes[1]), (ErrorCode::NONE, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
}

/// As in the original: clients pass over what lies below their offset.
#[tokio::test]
async fn a_batch_that_the_log_begins_in_is_given_as_it_was_sent() {
    let rig = Rig::new();
    let stream = rig.topic("a", StreamSettings::default()).await;
    let partition = stream.partitions()[0].clone();
    let mut builder = BatchBuilder::new(Compression::Zstd);
    for value in [&b"a"[..], b"b", b"c"] {
        builder.push(1_000, None, Some(value), std::iter::empty());
    }
    let body = builder.finish(&Stamp::default()).unwrap();
    let batch = NewBatch { count: 3, body: body.clone(), ..Rig::batch(b"") };
    let published = rig.broker().publish(PublishUnit::of(vec![Append::new(&partition, batch)])).unwrap();
    rig.broker().durable(published.wait).await.unwrap();
    rig.broker().trim(&partition, Offset(2)).await.unwrap();
    let ctx = rig.ctx(12);
    let mut asked = wanted("a", 1 << 20);
    asked.partitions[0].fetch_offset = 2;
    let answer = fetch(&ctx, request(vec![asked], 1, 1 << 20, 0)).await.0;
    let Records::Chunks(chunks) = &answer.responses[0].partitions[0].records else { panic!("no chunks") };
    let bytes = chunks.concat();
    // Place and epoch are the broker's.
    assert_eq!(bytes[16..], body[16..]);
    let chunk = rig.broker().read(&partition, Offset(2), ReadLimits::default()).await.unwrap();
    let rest = rig.broker().records(&chunk).unwrap();
    assert_eq!(rest.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), [Offset(2)], "to other dialects");
}
