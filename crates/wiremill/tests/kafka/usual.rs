//! Requests that most tests need, in the highest version.

use bytes::Bytes;
use kafka::codec::{
    ErrorCode, Records, Uuid,
    api::{
        create_topics::{CreatableTopic, CreatableTopicConfig, CreatableTopicResult, CreateTopicsRequest},
        delete_topics::{DeleteTopicState, DeleteTopicsRequest},
        fetch::{FetchPartition, FetchRequest, FetchTopic, PartitionData},
        init_producer_id::InitProducerIdRequest,
        list_offsets::{
            ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsTopic,
        },
        metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponseTopic},
        produce::{PartitionProduceData, PartitionProduceResponse, ProduceRequest, TopicProduceData},
    },
    records::{BatchBuilder, Compression, RecordBatch, Stamp, batches},
};

use crate::client::Client;

/// The highest Produce and Fetch version that name topics.
pub const PRODUCE_BY_NAME: i16 = 12;
pub const FETCH_BY_NAME: i16 = 12;

pub fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_millis()).unwrap()
}

/// One batch of these values, without keys, of now.
pub fn batch(values: &[&str]) -> Bytes {
    stamped(values, &Stamp::default())
}

/// One batch of these values with more in its header.
pub fn stamped(values: &[&str], stamp: &Stamp) -> Bytes {
    let records: Vec<(i64, &[u8])> = values.iter().map(|value| (now_ms(), value.as_bytes())).collect();
    batch_of(&records, stamp)
}

/// One batch of records of given times.
pub fn batch_of(records: &[(i64, &[u8])], stamp: &Stamp) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    for (time, value) in records {
        builder.push(*time, None, Some(value), std::iter::empty());
    }
    builder.finish(stamp).unwrap()
}

/// The stamp of an idempotent producer.
pub fn by_producer(producer_id: i64, producer_epoch: i16, base_sequence: i32) -> Stamp {
    Stamp { producer_id, producer_epoch, base_sequence, ..Stamp::default() }
}

/// A Produce for one partition.
pub fn produce_request<'a>(
    topic: &'a str,
    partition: i32,
    acks: i16,
    records: &'a [u8],
) -> ProduceRequest<'a> {
    let data = PartitionProduceData { index: partition, records: Some(Records::Slice(records)) };
    ProduceRequest {
        acks,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData { name: topic, topic_id: Uuid::ZERO, partition_data: vec![data] }],
        ..Default::default()
    }
}

/// Produces to one partition with acks=all.
pub fn produce(
    client: &mut Client,
    topic: &str,
    partition: i32,
    records: &[u8],
) -> PartitionProduceResponse<'static> {
    produce_as(client, PRODUCE_BY_NAME, -1, topic, partition, records)
}

/// Produces to one partition in a version and with the acks that are asked for.
pub fn produce_as(
    client: &mut Client,
    version: i16,
    acks: i16,
    topic: &str,
    partition: i32,
    records: &[u8],
) -> PartitionProduceResponse<'static> {
    let mut answer = client.ask(version, &produce_request(topic, partition, acks, records));
    answer.responses.pop().unwrap().partition_responses.pop().unwrap()
}

/// A Fetch of one partition that does not wait.
pub fn fetch_request(topic: &str, partition: i32, offset: i64) -> FetchRequest<'_> {
    let wanted = FetchPartition {
        partition,
        fetch_offset: offset,
        partition_max_bytes: 50 << 20,
        ..Default::default()
    };
    FetchRequest {
        min_bytes: 0,
        max_bytes: 50 << 20,
        topics: vec![FetchTopic { topic, partitions: vec![wanted], topic_id: Uuid::ZERO }],
        ..Default::default()
    }
}

/// Fetches from one partition.
pub fn fetch(client: &mut Client, topic: &str, partition: i32, offset: i64) -> PartitionData<'static> {
    let mut answer = client.ask(FETCH_BY_NAME, &fetch_request(topic, partition, offset));
    assert_eq!(answer.error_code, ErrorCode::NONE);
    answer.responses.pop().unwrap().partitions.pop().unwrap()
}

/// The batches in a fetched partition.
pub fn fetched_batches(data: &PartitionData<'static>) -> Vec<RecordBatch<'static>> {
    let bytes: &'static [u8] = data.records.to_vec().leak();
    batches(bytes).map(|batch| batch.unwrap()).collect()
}

/// Offsets and values in a fetched partition.
pub fn fetched(data: &PartitionData<'static>) -> Vec<(i64, String)> {
    assert_eq!(data.error_code, ErrorCode::NONE);
    let mut all = Vec::new();
    for batch in fetched_batches(data) {
        batch.check_crc().unwrap();
        let payload = batch.payload(usize::MAX).unwrap();
        for record in batch.records(&payload) {
            let record = record.unwrap();
            let offset = batch.header.base_offset + i64::from(record.offset_delta);
            all.push((offset, String::from_utf8(record.value.unwrap().to_vec()).unwrap()));
        }
    }
    all
}

/// Everything in one partition from its start.
pub fn fetch_all(client: &mut Client, topic: &str, partition: i32) -> Vec<(i64, String)> {
    let start = offset_at(client, topic, partition, -2).offset;
    fetch_from(client, topic, partition, start)
}

/// Everything in one partition from `next` on, in as many answers as it takes.
pub fn fetch_from(client: &mut Client, topic: &str, partition: i32, mut next: i64) -> Vec<(i64, String)> {
    let mut all: Vec<(i64, String)> = Vec::new();
    loop {
        let data = fetch(client, topic, partition, next);
        if next >= data.high_watermark {
            return all;
        }
        all.extend(fetched(&data).into_iter().filter(|(offset, _)| *offset >= next));
        let last = fetched_batches(&data).last().map(|batch| batch.header.last_offset());
        next = last.expect("records up to the high watermark") + 1;
    }
}

/// Creates a topic; its id.
pub fn create(client: &mut Client, topic: &str, partitions: i32, configs: &[(&str, &str)]) -> Uuid {
    let result = try_create(client, topic, partitions, configs);
    assert_eq!(result.error_code, ErrorCode::NONE, "{:?}", result.error_message);
    assert!(!result.topic_id.is_zero());
    result.topic_id
}

/// Asks for a topic.
pub fn try_create(
    client: &mut Client,
    topic: &str,
    partitions: i32,
    configs: &[(&str, &str)],
) -> CreatableTopicResult<'static> {
    let request = create_request(topic, partitions, configs);
    client.ask(7, &request).topics.pop().unwrap()
}

pub fn create_request<'a>(
    topic: &'a str,
    partitions: i32,
    configs: &[(&'a str, &'a str)],
) -> CreateTopicsRequest<'a> {
    let configs =
        configs.iter().map(|(name, value)| CreatableTopicConfig { name, value: Some(value) }).collect();
    let topic = CreatableTopic {
        name: topic,
        num_partitions: partitions,
        replication_factor: 1,
        configs,
        ..Default::default()
    };
    CreateTopicsRequest { topics: vec![topic], ..Default::default() }
}

pub fn delete_request(topic: &str) -> DeleteTopicsRequest<'_> {
    let topic = DeleteTopicState { name: Some(topic), topic_id: Uuid::ZERO };
    DeleteTopicsRequest { topics: vec![topic], timeout_ms: 30_000, ..Default::default() }
}

pub fn delete(client: &mut Client, topic: &str) -> ErrorCode {
    client.ask(6, &delete_request(topic)).responses.pop().unwrap().error_code
}

/// What Metadata says of one topic, which is not created by asking.
pub fn described(client: &mut Client, topic: &str) -> MetadataResponseTopic<'static> {
    let request = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic { name: Some(topic), ..Default::default() }]),
        allow_auto_topic_creation: false,
        ..Default::default()
    };
    client.ask(13, &request).topics.pop().unwrap()
}

/// ListOffsets of one partition.
pub fn offset_at(
    client: &mut Client,
    topic: &str,
    partition_index: i32,
    timestamp: i64,
) -> ListOffsetsPartitionResponse {
    let wanted = ListOffsetsPartition { partition_index, timestamp, ..Default::default() };
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic { name: topic, partitions: vec![wanted] }],
        ..Default::default()
    };
    client.ask(11, &request).topics.pop().unwrap().partitions.pop().unwrap()
}

/// The id of a new idempotent producer.
pub fn new_producer(client: &mut Client) -> i64 {
    let answer = client.ask(5, &InitProducerIdRequest::default());
    assert_eq!((answer.error_code, answer.producer_epoch), (ErrorCode::NONE, 0));
    answer.producer_id
}
