//! What no client should send. A peer can close its own connection, never the process, and costs no memory that it only
//! talks about.

use std::{
    io::Write,
    net::TcpStream,
    time::{Duration, Instant},
};

use kafka::codec::{
    ErrorCode, TABLE,
    api::{
        api_versions::ApiVersionsRequest,
        create_topics::CreateTopicsRequest,
        describe_configs::{DescribeConfigsRequest, DescribeConfigsResource},
        describe_groups::DescribeGroupsRequest,
        fetch::FetchRequest,
        join_group::{JoinGroupRequest, JoinGroupRequestProtocol},
        metadata::{MetadataRequest, MetadataRequestTopic},
        produce::ProduceRequest,
    },
    records::{BatchBuilder, Compression, Stamp},
};

use crate::{
    client::Client,
    members::join_request,
    node::Node,
    usual::{batch, create, create_request, fetch_all, fetch_request, produce, produce_request},
};

/// Memory that any of these tests may cost beyond what an idle process has.
const MEMORY_LEN_MAX: usize = 64 << 20;

/// A frame of `body` behind its length.
fn framed(body: &[u8]) -> Vec<u8> {
    [&u32::try_from(body.len()).unwrap().to_be_bytes()[..], body].concat()
}

/// A request header of correlation id 7 without a client id, in the form that `version` of the API has.
fn header(key: i16, version: i16, flexible: bool) -> Vec<u8> {
    let mut bytes =
        [&key.to_be_bytes()[..], &version.to_be_bytes(), &7i32.to_be_bytes(), &[0xff, 0xff]].concat();
    bytes.extend(flexible.then_some(0));
    bytes
}

/// Sends `bytes` and reads until the server closes; it must, with or without answers before.
fn sends_and_is_closed(node: &Node, bytes: &[u8]) {
    let mut client = node.client();
    // The server may have closed before the last byte.
    drop(client.stream.write_all(bytes));
    drop(client.stream.shutdown(std::net::Shutdown::Write));
    while client.receive().is_some() {}
}

#[test]
fn a_length_that_is_negative_or_above_the_limit_closes_without_memory() {
    let mut node = Node::start();
    let before = node.memory_len();
    for len in [-1, i32::MIN, i32::MAX, (100 << 20) + 1] {
        let mut client = node.client();
        client.send_bytes(&len.to_be_bytes());
        assert!(client.is_closed(), "length {len}");
    }
    // A length that is allowed costs what arrives, not what is said.
    let waiting: Vec<Client> = (0..50)
        .map(|_| {
            let mut client = node.client();
            client.send_bytes(&(100i32 << 20).to_be_bytes());
            client.send_bytes(&[0; 1_000]);
            client
        })
        .collect();
    node.assert_alive();
    assert!(node.memory_peak_len() < before + MEMORY_LEN_MAX, "{} bytes", node.memory_peak_len());
    drop(waiting);
}

#[test]
fn counts_that_the_frame_cannot_hold_close_without_memory() {
    let mut node = Node::start();
    let before = node.memory_len();
    for api in TABLE {
        for version in api.min..=api.max {
            let flexible = api.version(version).flexible;
            for count in [&[0x7f, 0xff, 0xff, 0xff][..], &[0xff, 0xff, 0xff, 0xff, 0x07], &[0xff; 9]] {
                let body = [&header(api.key.number(), version, flexible)[..], count, count, count].concat();
                sends_and_is_closed(&node, &framed(&body));
            }
        }
    }
    node.assert_alive();
    assert!(node.memory_peak_len() < before + MEMORY_LEN_MAX, "{} bytes", node.memory_peak_len());
}

/// Each of some requests of every shape, cut at every byte, with the length that fits the cut.
#[test]
fn a_request_cut_short_anywhere_closes_its_own_connection_alone() {
    let mut node = Node::start();
    let mut bystander = node.client();
    create(&mut bystander, "t", 1, &[]);
    let records = batch(&["x"]);
    let client = node.client();
    let topic = MetadataRequestTopic { name: Some("t"), ..Default::default() };
    let whole = [
        client.frame(9, &produce_request("t", 0, -1, &records), 1),
        client.frame(12, &fetch_request("t", 0, 0), 1),
        client.frame(3, &ApiVersionsRequest { client_software_name: "a", client_software_version: "1" }, 1),
        client.frame(9, &MetadataRequest { topics: Some(vec![topic]), ..Default::default() }, 1),
        client.frame(7, &create_request("u", 1, &[("retention.ms", "1")]), 1),
        client.frame(9, &crate::members::join_request("g", "m"), 1),
        client.frame(9, &crate::members::commit_request("g", -1, "", 1, "note"), 1),
    ];
    for frame in &whole {
        let body = &frame[4..];
        for len in 0..body.len() {
            let mut cut = node.client();
            cut.send_bytes(&framed(&body[..len]));
            assert!(cut.is_closed(), "API {:?} cut to {len} of {} bytes", &body[..2], body.len());
        }
        // The same without the rest of the frame: the server waits, the client goes.
        sends_and_is_closed(&node, &frame[..frame.len() - 1]);
    }
    assert!(bystander.api_versions().error_code.is_none());
    assert!(fetch_all(&mut bystander, "t", 0).is_empty(), "nothing of a cut request was done");
    node.assert_alive();
}

/// The original ignores them.
#[test]
fn bytes_behind_a_request_are_ignored() {
    let node = Node::start();
    let mut client = node.client();
    create(&mut client, "t", 1, &[]);
    let records = batch(&["x"]);
    let mut body = client.frame(9, &produce_request("t", 0, -1, &records), 5)[4..].to_vec();
    body.extend([0xee; 9]);
    client.send_bytes(&framed(&body));
    let answer = client.take::<ProduceRequest<'_>>(9, 5);
    assert_eq!(answer.responses[0].partition_responses[0].error_code, ErrorCode::NONE);
    assert!(client.api_versions().error_code.is_none());
}

/// A generator of numbers: the same ones in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

#[test]
fn noise_in_every_api_and_version_costs_one_connection_each() {
    let mut node = Node::start();
    let mut bystander = node.client();
    create(&mut bystander, "t", 1, &[]);
    let before = node.memory_len();
    let mut numbers = Numbers(7);
    for api in TABLE {
        for version in api.shown_min..=api.max {
            let mut body = header(api.key.number(), version, api.version(version).flexible);
            let len = numbers.below(200);
            body.extend((0..len).map(|_| [0, 1, 2, 0x7f, 0x80, 0xff][numbers.below(6)]));
            sends_and_is_closed(&node, &framed(&body));
        }
    }
    assert!(bystander.api_versions().error_code.is_none());
    node.assert_alive();
    assert!(node.memory_peak_len() < before + MEMORY_LEN_MAX, "{} bytes", node.memory_peak_len());
}

#[test]
fn what_speaks_another_protocol_is_closed() {
    let mut node = Node::start();
    for greeting in [
        &b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"[..],
        b"AMQP\x00\x00\x09\x01",
        &[0x16, 3, 1, 2, 0, 1, 0, 1],
    ] {
        sends_and_is_closed(&node, greeting);
    }
    node.assert_alive();
}

#[test]
fn a_request_that_comes_byte_by_byte_is_answered() {
    let node = Node::start();
    let mut client = node.client();
    let frame = client.frame(9, &MetadataRequest { topics: None, ..Default::default() }, 3);
    for byte in frame {
        client.send_bytes(&[byte]);
    }
    assert!(client.take::<MetadataRequest<'_>>(9, 3).topics.is_empty());
}

#[test]
fn records_that_unpack_to_far_more_are_refused_without_unpacking_them_all() {
    let node = Node::start();
    let mut client = node.client();
    create(&mut client, "t", 1, &[]);
    let before = node.memory_len();
    let zeros = vec![0; 300 << 20];
    for packing in [Compression::Gzip, Compression::Zstd] {
        let mut builder = BatchBuilder::new(packing);
        builder.push(crate::usual::now_ms(), None, Some(&zeros), std::iter::empty());
        let bomb = builder.finish(&Stamp::default()).unwrap();
        assert!(bomb.len() < 1 << 20, "it is small as it is sent");
        let answer = produce(&mut client, "t", 0, &bomb);
        assert_eq!(answer.error_code, ErrorCode::MESSAGE_TOO_LARGE, "{packing:?}");
    }
    assert!(node.memory_peak_len() < before + MEMORY_LEN_MAX, "{} bytes", node.memory_peak_len());
}

/// A client that asks for much and never reads: its answers stay in its own connection.
#[test]
fn a_client_that_never_reads_costs_its_own_connection_alone() {
    let mut node = Node::start();
    let mut client = node.client();
    create(&mut client, "t", 1, &[]);
    let large = "x".repeat(1_000_000);
    for _ in 0..8 {
        produce(&mut client, "t", 0, &batch(&[&large]));
    }
    let before = node.memory_len();
    let mut deaf = Vec::new();
    for _ in 0..20 {
        let stream = TcpStream::connect(node.address()).unwrap();
        let mut one = Client::over(stream);
        one.stream.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
        let request: FetchRequest<'_> = fetch_request("t", 0, 0);
        let frame = one.frame(12, &request, 1);
        while one.stream.write_all(&frame.repeat(100)).is_ok() {}
        deaf.push(one);
    }
    let began = Instant::now();
    assert_eq!(produce(&mut client, "t", 0, &batch(&["y"])).error_code, ErrorCode::NONE);
    assert_eq!(fetch_all(&mut client, "t", 0).len(), 9);
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    let grown = node.memory_len().saturating_sub(before);
    assert!(grown < 20 * (16 << 20), "{grown} bytes for 20 clients that do not read");
    drop(deaf);
    node.assert_alive();
}

#[test]
fn many_topics_in_one_request_are_refused_at_once() {
    let node = Node::start();
    let mut client = node.client();
    let began = Instant::now();
    let topics = vec![create_request("x", 1, &[]).topics.pop().unwrap(); 300_000];
    let request = CreateTopicsRequest { topics, ..Default::default() };
    let answer = client.ask(7, &request);
    assert!(answer.topics.iter().all(|topic| topic.error_code == ErrorCode::INVALID_REQUEST), "named twice");
    for (partitions, code) in
        [(4_999, ErrorCode::NONE), (5_000, ErrorCode::NONE), (5_001, ErrorCode::POLICY_VIOLATION)]
    {
        let mut request = create_request("a", 5_000, &[]);
        request.topics.extend(create_request("b", partitions, &[]).topics);
        request.validate_only = true;
        let answer = client.ask(7, &request);
        assert!(answer.topics.iter().all(|topic| topic.error_code == code), "{partitions} more partitions");
    }
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

/// Else a short request could ask for an answer without bounds.
#[test]
fn what_is_named_many_times_is_described_once() {
    let mut node = Node::start();
    let mut client = node.client();
    create(&mut client, "t", 1_000, &[]);
    let topic = MetadataRequestTopic { name: Some("t"), ..Default::default() };
    let request = MetadataRequest { topics: Some(vec![topic; 100_000]), ..Default::default() };
    assert_eq!(client.ask(9, &request).topics.len(), 1);
    let resource = DescribeConfigsResource { resource_type: 4, resource_name: "1", configuration_keys: None };
    let request = DescribeConfigsRequest { resources: vec![resource; 100_000], ..Default::default() };
    assert_eq!(client.ask(4, &request).results.len(), 1);
    let request = DescribeGroupsRequest { groups: vec!["g"; 100_000], ..Default::default() };
    assert_eq!(client.ask(6, &request).groups.len(), 1);
    node.assert_alive();
    assert!(node.memory_peak_len() < 2 * MEMORY_LEN_MAX, "{}", node.memory_peak_len());
}

/// A name that nobody comes back to is kept for a while: there may be only as many as memory holds.
#[test]
fn no_more_groups_begin_than_a_quarter_of_memory_holds() {
    const GROUPS_MAX: usize = 16 << 10;
    let node = Node::start_with(&["--memory-budget-len", "64MiB"]);
    let mut client = node.client();
    let before = node.memory_len();
    let mut join = |group: &str| client.ask(9, &join_request(group, "")).error_code;
    for n in 0..GROUPS_MAX {
        assert_eq!(join(&format!("group-{n}")), ErrorCode::MEMBER_ID_REQUIRED, "{n}");
    }
    assert_eq!(join("one-more"), ErrorCode::COORDINATOR_NOT_AVAILABLE);
    assert_eq!(join("group-7"), ErrorCode::MEMBER_ID_REQUIRED, "one that is there goes on");
    let grown = node.memory_len().saturating_sub(before);
    assert!(grown < 2 * GROUPS_MAX * 1_024, "{} bytes for each group", grown / GROUPS_MAX);
}

#[test]
fn what_a_member_says_of_its_protocols_has_its_limit() {
    const MAX: usize = 1 << 20;
    let node = Node::start();
    let mut client = node.client();
    for (len, code) in [
        (MAX - 1, ErrorCode::MEMBER_ID_REQUIRED),
        (MAX, ErrorCode::MEMBER_ID_REQUIRED),
        (MAX + 1, ErrorCode::INVALID_REQUEST),
    ] {
        let metadata = vec![7; len - "range".len()];
        let protocols = vec![JoinGroupRequestProtocol { name: "range", metadata: &metadata }];
        let request = JoinGroupRequest { protocols, ..join_request("g", "") };
        assert_eq!(client.ask(9, &request).error_code, code, "{len} bytes");
    }
}
