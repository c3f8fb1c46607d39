//! More load than the disk takes: memory within its budget, nothing acknowledged lost, and back to normal at once.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use kafka::codec::{
    ErrorCode,
    api::{api_versions::ApiVersionsRequest, fetch::FetchRequest, produce::ProduceRequest},
    decode_response,
};

use crate::{
    client::Client,
    node::Node,
    usual::{
        batch, create, fetch, fetch_request, fetched, fetched_batches, offset_at, produce, produce_request,
    },
};

const PRODUCERS: i32 = 8;
const BATCH_LEN: usize = 200_000;
/// How long the load lasts; a full run of everything (`cargo xtask test`) says a minute.
const LOAD: Duration = Duration::from_secs(8);
const LOAD_VARIABLE: &str = "WIREMILL_TEST_OVERLOAD_S";
const BUDGET_LEN: usize = 64 << 20;
/// The process itself, and what each connection may hold outside the budget: a frame on its way in and answers.
const BESIDE_LEN: usize = 96 << 20;

/// The last request of a flood.
const LAST: i32 = -1;

/// Writes batches as fast as the connection takes them, and reads answers beside; how many were sent and acknowledged.
fn flood(mut client: Client, partition: i32, stop: &AtomicBool) -> (i64, i64) {
    let value = "x".repeat(BATCH_LEN);
    let records = batch(&[&value]);
    let frame = client.frame(9, &produce_request("t", partition, -1, &records), 1);
    let mut answers = Client::over(client.stream.try_clone().unwrap());
    let reader = thread::spawn(move || acknowledged(&mut answers));
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        // A write that waits is the server's way to slow this client down.
        client.send_bytes(&frame);
        sent += 1;
    }
    let last = client.frame(0, &ApiVersionsRequest::default(), LAST);
    client.send_bytes(&last);
    (sent, reader.join().unwrap())
}

/// Reads answers up to the last one.
fn acknowledged(answers: &mut Client) -> i64 {
    let mut count = 0;
    loop {
        let frame = answers.receive().expect("the connection lives until the last answer");
        if frame[..4] == LAST.to_be_bytes() {
            return count;
        }
        let (_, answer) = decode_response::<ProduceRequest<'_>>(&frame, 9).unwrap();
        let part = &answer.responses[0].partition_responses[0];
        assert_eq!((part.error_code, part.base_offset), (ErrorCode::NONE, count));
        count += 1;
    }
}

fn load() -> Duration {
    let asked = std::env::var(LOAD_VARIABLE).ok();
    asked.map_or(LOAD, |seconds| Duration::from_secs(seconds.parse().expect("whole seconds")))
}

/// For as long as the load lasts: another producer, and a reader of what it wrote. How often both were served.
fn serve_others(node: &Node, load: Duration) -> i64 {
    let mut client = node.client();
    create(&mut client, "others", 1, &[]);
    let began = Instant::now();
    let mut served = 0;
    while began.elapsed() < load {
        let stored = produce(&mut client, "others", 0, &batch(&[&served.to_string()]));
        assert_eq!((stored.error_code, stored.base_offset), (ErrorCode::NONE, served));
        assert_eq!(fetched(&fetch(&mut client, "others", 0, served)), [(served, served.to_string())]);
        served += 1;
    }
    served
}

#[test]
fn ten_times_more_load_than_the_disk_takes_costs_no_memory_and_loses_nothing() {
    let budget = format!("{}MiB", BUDGET_LEN >> 20);
    let mut node = Node::start_with(&["--test-sync-delay-ms", "200", "--memory-budget-len", &budget]);
    let mut client = node.client();
    create(&mut client, "t", PRODUCERS, &[]);
    let stop = AtomicBool::new(false);
    let floods: Vec<(i64, i64)> = thread::scope(|scope| {
        let stop = &stop;
        let floods: Vec<_> = (0..PRODUCERS)
            .map(|partition| {
                let client = node.client();
                scope.spawn(move || flood(client, partition, stop))
            })
            .collect();
        let others = serve_others(&node, load());
        stop.store(true, Ordering::Relaxed);
        println!("others were served {others} times meanwhile");
        floods.into_iter().map(|flood| flood.join().unwrap()).collect()
    });
    let peak = node.memory_peak_len();
    println!("sent and acknowledged: {floods:?}, peak {} MiB", peak >> 20);
    assert!(peak < BUDGET_LEN + BESIDE_LEN, "{} MiB", peak >> 20);
    assert!(floods.iter().all(|(sent, acknowledged)| *sent > 0 && sent == acknowledged), "{floods:?}");
    let began = Instant::now();
    let mut client = node.client();
    create(&mut client, "after", 1, &[]);
    assert_eq!(produce(&mut client, "after", 0, &batch(&["y"])).error_code, ErrorCode::NONE);
    assert!(began.elapsed() < Duration::from_secs(30), "it took {:?} to recover", began.elapsed());
    node.crash_and_start_again();
    let mut client = node.client();
    for (partition, (_, acknowledged)) in (0..).zip(floods) {
        let end = offset_at(&mut client, "t", partition, -1).offset;
        assert!(end >= acknowledged, "partition {partition} has {end} of {acknowledged} acknowledged");
        let last = fetch(&mut client, "t", partition, acknowledged - 1);
        assert_eq!(fetched_batches(&last)[0].header.base_offset, acknowledged - 1);
    }
}

/// Readers that ask for a lot and take nothing of it. A batch for each is less than answers may have together, so that
/// whoever reads is served at once.
const SLOW_READERS: usize = 40;

/// Each slow answer could have 50 MiB; all together they have the budget's share, and nobody is refused.
#[test]
fn many_slow_readers_get_smaller_answers_and_cost_no_more_memory_than_their_share() {
    let budget = format!("{}MiB", BUDGET_LEN >> 20);
    let node = Node::start_with(&["--memory-budget-len", &budget]);
    let mut client = node.client();
    create(&mut client, "t", 1, &[]);
    let records = batch(&[&"x".repeat(BATCH_LEN)]);
    // More than the tail in memory holds, so that answers are read from the disk, each into memory of its own.
    let batches = i64::try_from(2 * BUDGET_LEN / BATCH_LEN).unwrap();
    for _ in 0..batches {
        assert_eq!(produce(&mut client, "t", 0, &records).error_code, ErrorCode::NONE);
    }
    let mut request = fetch_request("t", 0, 0);
    request.max_bytes = 50 << 20;
    request.topics[0].partitions[0].partition_max_bytes = 50 << 20;
    let mut slow: Vec<(Client, i32)> = (0..SLOW_READERS)
        .map(|_| {
            let mut client = node.client();
            let asked = client.send(12, &request);
            (client, asked)
        })
        .collect();
    // Nobody has to wait for them: a whole batch comes, again and again.
    for offset in 0..batches {
        let data = fetch(&mut client, "t", 0, offset);
        assert_eq!(data.error_code, ErrorCode::NONE);
        assert_eq!(fetched_batches(&data)[0].header.base_offset, offset);
    }
    let peak = node.memory_peak_len();
    println!("peak {} MiB", peak >> 20);
    assert!(peak < BUDGET_LEN + BESIDE_LEN, "{} MiB", peak >> 20);
    let mut lens = Vec::new();
    for (client, asked) in &mut slow {
        let answer = client.take::<FetchRequest<'_>>(12, *asked);
        let data = &answer.responses[0].partitions[0];
        assert_eq!(data.error_code, ErrorCode::NONE);
        lens.push(fetched_batches(data).len() * BATCH_LEN);
    }
    assert!(lens.iter().all(|len| *len > 0), "each has a whole batch: {lens:?}");
    assert!(lens.iter().sum::<usize>() < BUDGET_LEN, "{lens:?}");
}
