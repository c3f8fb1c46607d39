//! Incremental fetch sessions (KIP-227).

use kafka::codec::{
    ErrorCode, Uuid,
    api::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic, ForgottenTopic},
};

use crate::{
    client::Client,
    node::Node,
    usual::{FETCH_BY_NAME, batch, create, delete, fetched, produce},
};

/// A fetch that names these partitions of "t" with their offsets.
fn ask(session_id: i32, session_epoch: i32, wanted: &[(i32, i64)]) -> FetchRequest<'static> {
    let partitions = wanted
        .iter()
        .map(|(partition, offset)| FetchPartition {
            partition: *partition,
            fetch_offset: *offset,
            partition_max_bytes: 1 << 20,
            ..Default::default()
        })
        .collect::<Vec<_>>();
    let topics = match partitions.is_empty() {
        true => Vec::new(),
        false => vec![FetchTopic { topic: "t", topic_id: Uuid::ZERO, partitions }],
    };
    FetchRequest { session_id, session_epoch, topics, ..Default::default() }
}

fn start(partitions: i32) -> (Node, Client) {
    let node = Node::start();
    let mut client = node.client();
    create(&mut client, "t", partitions, &[]);
    (node, client)
}

fn begin(client: &mut Client, wanted: &[(i32, i64)]) -> i32 {
    let answer = client.ask(FETCH_BY_NAME, &ask(0, 0, wanted));
    assert_eq!(shown(&answer).len(), wanted.len(), "the first answer has every partition");
    assert!(answer.session_id > 0);
    answer.session_id
}

/// Partitions in an answer, with how many records each has.
fn shown(answer: &FetchResponse<'static>) -> Vec<(i32, usize)> {
    assert_eq!(answer.error_code, ErrorCode::NONE);
    let all = answer.responses.iter().flat_map(|topic| &topic.partitions);
    all.map(|p| (p.partition_index, fetched(p).len())).collect()
}

#[test]
fn a_session_answers_only_the_partitions_with_news() {
    let (_node, mut client) = start(3);
    let id = begin(&mut client, &[(0, 0), (1, 0), (2, 0)]);
    assert!(shown(&client.ask(FETCH_BY_NAME, &ask(id, 1, &[]))).is_empty());
    produce(&mut client, "t", 1, &batch(&["x"]));
    assert_eq!(shown(&client.ask(FETCH_BY_NAME, &ask(id, 2, &[]))), [(1, 1)]);
    assert!(shown(&client.ask(FETCH_BY_NAME, &ask(id, 3, &[(1, 1)]))).is_empty(), "it read on");
    produce(&mut client, "t", 1, &batch(&["y"]));
    assert_eq!(shown(&client.ask(FETCH_BY_NAME, &ask(id, 4, &[]))), [(1, 1)]);
}

#[test]
fn partitions_join_and_leave_a_session() {
    let (_node, mut client) = start(3);
    let id = begin(&mut client, &[(0, 0)]);
    assert_eq!(shown(&client.ask(FETCH_BY_NAME, &ask(id, 1, &[(2, 0)]))), [(2, 0)]);
    let forgotten = ForgottenTopic { topic: "t", topic_id: Uuid::ZERO, partitions: vec![0] };
    let request = FetchRequest { forgotten_topics_data: vec![forgotten], ..ask(id, 2, &[]) };
    client.ask(FETCH_BY_NAME, &request);
    for partition in 0..3 {
        produce(&mut client, "t", partition, &batch(&["x"]));
    }
    assert_eq!(shown(&client.ask(FETCH_BY_NAME, &ask(id, 3, &[]))), [(2, 1)]);
}

#[test]
fn an_unknown_session_and_a_wrong_epoch_are_refused() {
    let (mut node, mut client) = start(1);
    let id = begin(&mut client, &[(0, 0)]);
    let code = |client: &mut Client, session, epoch| {
        let answer = client.ask(FETCH_BY_NAME, &ask(session, epoch, &[]));
        assert!(answer.responses.is_empty());
        answer.error_code
    };
    assert_eq!(code(&mut client, id ^ 1, 1), ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
    assert_eq!(code(&mut client, id, 2), ErrorCode::INVALID_FETCH_SESSION_EPOCH);
    assert_eq!(code(&mut client, id, 1), ErrorCode::NONE, "the session itself is as it was");
    client.ask(FETCH_BY_NAME, &ask(id, -1, &[(0, 0)]));
    assert_eq!(code(&mut client, id, 2), ErrorCode::FETCH_SESSION_ID_NOT_FOUND, "it was ended");
    let id = begin(&mut client, &[(0, 0)]);
    node.crash_and_start_again();
    assert_eq!(code(&mut node.client(), id, 1), ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
}

#[test]
fn a_full_cache_serves_without_a_session() {
    let (_node, mut client) = start(1);
    let ids: Vec<i32> =
        (0..1_001).map(|_| client.ask(FETCH_BY_NAME, &ask(0, 0, &[(0, 0)])).session_id).collect();
    assert!(ids[..1_000].iter().all(|id| *id > 0));
    assert_eq!(ids[1_000], 0, "what is in use is not thrown out for it");
    assert_eq!(shown(&client.ask(FETCH_BY_NAME, &ask(0, 0, &[(0, 0)]))), [(0, 0)]);
    assert_eq!(client.ask(FETCH_BY_NAME, &ask(ids[0], 1, &[])).error_code, ErrorCode::NONE);
}

#[test]
fn a_session_that_began_with_names_does_not_go_on_with_ids() {
    let (_node, mut client) = start(1);
    let id = begin(&mut client, &[(0, 0)]);
    let mut request = ask(id, 1, &[(0, 0)]);
    request.topics[0].topic_id = crate::usual::described(&mut client, "t").topic_id;
    assert_eq!(client.ask(13, &request).error_code, ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);
}

/// A session goes on by the id that it began with, and remembers what it stood for.
#[test]
fn a_topic_made_again_under_its_name_is_not_what_a_session_by_id_is_about() {
    const BY_ID: i16 = 17;
    let node = Node::start();
    let mut client = node.client();
    let by_id = |session_id, epoch, topic_id| {
        let partition = FetchPartition { partition_max_bytes: 1 << 20, ..Default::default() };
        let topics = match topic_id {
            Some(topic_id) => vec![FetchTopic { topic: "", topic_id, partitions: vec![partition] }],
            None => Vec::new(),
        };
        FetchRequest { session_id, session_epoch: epoch, topics, ..Default::default() }
    };
    let code = |answer: FetchResponse<'static>| {
        assert_eq!(answer.error_code, ErrorCode::NONE);
        answer.responses[0].partitions[0].error_code
    };
    let old = create(&mut client, "t", 1, &[]);
    let began = client.ask(BY_ID, &by_id(0, 0, Some(old)));
    let id = began.session_id;
    assert_eq!(code(began), ErrorCode::NONE);
    delete(&mut client, "t");
    assert_eq!(code(client.ask(BY_ID, &by_id(id, 1, None))), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    let new = create(&mut client, "t", 1, &[]);
    assert_ne!(old, new);
    produce(&mut client, "t", 0, &batch(&["x"]));
    assert_eq!(code(client.ask(BY_ID, &by_id(id, 2, None))), ErrorCode::INCONSISTENT_TOPIC_ID);
    // Errors are told again and again, until the client forgets the partition; the new topic is served beside.
    let mut both = by_id(id, 3, Some(new));
    assert_eq!(client.ask(BY_ID, &both).responses.len(), 2);
    both.session_epoch = 4;
    both.forgotten_topics_data = vec![ForgottenTopic { topic: "", topic_id: old, partitions: vec![0] }];
    assert_eq!(shown(&client.ask(BY_ID, &both)), [(0, 1)]);
    // Without a session nobody knows what the old id stood for.
    assert_eq!(code(client.ask(BY_ID, &by_id(0, -1, Some(old)))), ErrorCode::UNKNOWN_TOPIC_ID);
}
