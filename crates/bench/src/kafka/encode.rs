//! Requests in versions that both Wiremill and Apache Kafka 4 take and that need no flexible encoding.

use std::io::Write;

use super::produce::Packing;
use crate::Failure;

/// `CRC-32C`, as record batches carry it.
fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// What packed values are made of: sixteen bytes as likely as each other come to about half.
const WORDS: &[u8; 16] = b"etaoin shrdlu\n{}";

fn framed(key: i16, version: i16, correlation: i32, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 24);
    let client = b"bench";
    let len = 2 + 2 + 4 + 2 + client.len() + body.len();
    out.extend((len as u32).to_be_bytes());
    out.extend(key.to_be_bytes());
    out.extend(version.to_be_bytes());
    out.extend(correlation.to_be_bytes());
    out.extend((client.len() as u16).to_be_bytes());
    out.extend(client);
    out.extend(body);
    out
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u16).to_be_bytes());
    out.extend(text.as_bytes());
}

/// CreateTopics v2 for one topic.
pub(crate) fn create_topic(topic: &str, partitions: i32) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(1i32.to_be_bytes());
    text(&mut body, topic);
    body.extend(partitions.to_be_bytes());
    body.extend(1i16.to_be_bytes()); // replicas
    body.extend(0i32.to_be_bytes()); // assignments
    body.extend(0i32.to_be_bytes()); // configurations
    body.extend(30_000i32.to_be_bytes());
    body.push(0); // not only to validate
    framed(19, 2, 1, &body)
}

/// ListOffsets v1 for the ends of a topic's partitions.
pub(crate) fn list_ends(topic: &str, partitions: i32) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend((-1i32).to_be_bytes()); // no replica
    body.extend(1i32.to_be_bytes());
    text(&mut body, topic);
    body.extend(partitions.to_be_bytes());
    for partition in 0..partitions {
        body.extend(partition.to_be_bytes());
        body.extend((-1i64).to_be_bytes());
    }
    framed(2, 1, 1, &body)
}

/// One record batch (magic 2) of `count` records of `len` bytes, incompressible, without keys.
pub(crate) fn batch(count: usize, len: usize, seed: u64, now_ms: i64) -> Vec<u8> {
    batch_of(0, count, now_ms, &records(count, len, seed, |byte| byte))
}

/// The same with values of few different bytes, packed.
pub(crate) fn packed_batch(
    packing: Packing,
    count: usize,
    len: usize,
    seed: u64,
    now_ms: i64,
) -> Result<Vec<u8>, Failure> {
    let records = records(count, len, seed, |byte| WORDS[usize::from(byte % 16)]);
    let (id, packed) = match packing {
        Packing::None => (0, records),
        Packing::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(&records)?;
            (3, encoder.finish()?)
        }
        Packing::Zstd => (4, zstd::stream::encode_all(&*records, zstd::DEFAULT_COMPRESSION_LEVEL)?),
    };
    Ok(batch_of(id, count, now_ms, &packed))
}

fn records(count: usize, len: usize, seed: u64, byte_of: impl Fn(u8) -> u8) -> Vec<u8> {
    let mut records = Vec::with_capacity(count * (len + 12));
    let mut state = seed | 1;
    for index in 0..count {
        let mut record = vec![0]; // attributes
        varint(&mut record, 0); // timestamp delta
        varint(&mut record, index as i64);
        varint(&mut record, -1); // no key
        varint(&mut record, len as i64);
        let from = record.len();
        record.resize(from + len, 0);
        for chunk in record[from..].chunks_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let bytes = state.to_le_bytes().map(&byte_of);
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
        varint(&mut record, 0); // headers
        varint(&mut records, record.len() as i64);
        records.extend(record);
    }
    records
}

fn batch_of(attributes: i16, count: usize, now_ms: i64, records: &[u8]) -> Vec<u8> {
    let mut after_crc = Vec::with_capacity(records.len() + 40);
    after_crc.extend(attributes.to_be_bytes());
    after_crc.extend((count as i32 - 1).to_be_bytes());
    after_crc.extend(now_ms.to_be_bytes());
    after_crc.extend(now_ms.to_be_bytes());
    after_crc.extend((-1i64).to_be_bytes()); // producer id
    after_crc.extend((-1i16).to_be_bytes()); // producer epoch
    after_crc.extend((-1i32).to_be_bytes()); // first sequence
    after_crc.extend((count as i32).to_be_bytes());
    after_crc.extend(records);
    let mut out = Vec::with_capacity(after_crc.len() + 21);
    out.extend(0i64.to_be_bytes());
    out.extend((after_crc.len() as i32 + 9).to_be_bytes());
    out.extend((-1i32).to_be_bytes()); // leader epoch
    out.push(2);
    out.extend(crc32c(&after_crc).to_be_bytes());
    out.extend(after_crc);
    out
}

fn varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Produce v7, acks = all, one batch for each partition given.
pub(crate) fn produce(topic: &str, batches: &[(i32, &[u8])], correlation: i32) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend((-1i16).to_be_bytes()); // no transaction
    body.extend((-1i16).to_be_bytes()); // acks = all
    body.extend(30_000i32.to_be_bytes());
    body.extend(1i32.to_be_bytes());
    text(&mut body, topic);
    body.extend((batches.len() as i32).to_be_bytes());
    for (partition, batch) in batches {
        body.extend(partition.to_be_bytes());
        body.extend((batch.len() as i32).to_be_bytes());
        body.extend(*batch);
    }
    framed(0, 7, correlation, &body)
}

/// The first error in an answer to [`produce`]; the correlation id comes first.
pub(crate) fn produce_error(answer: &[u8], topic: &str) -> Option<i16> {
    // correlation i32, topics i32, name, partitions i32, then index i32, error i16, base i64, time i64, start i64
    let mut at = 4 + 4 + 2 + topic.len();
    let count = i32::from_be_bytes(answer.get(at..at + 4)?.try_into().ok()?);
    at += 4;
    for _ in 0..count {
        let code = i16::from_be_bytes(answer.get(at + 4..at + 6)?.try_into().ok()?);
        if code != 0 {
            return Some(code);
        }
        at += 4 + 2 + 8 + 8 + 8;
    }
    None
}

/// Fetch v4 of every partition from its position.
pub(crate) fn fetch(topic: &str, positions: &[i64], max_len: i32) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend((-1i32).to_be_bytes()); // a consumer
    body.extend(500i32.to_be_bytes()); // longest wait
    body.extend(1i32.to_be_bytes()); // least bytes
    body.extend(max_len.to_be_bytes());
    body.push(0); // read uncommitted
    body.extend(1i32.to_be_bytes());
    text(&mut body, topic);
    body.extend((positions.len() as i32).to_be_bytes());
    for (partition, position) in positions.iter().enumerate() {
        body.extend((partition as i32).to_be_bytes());
        body.extend(position.to_be_bytes());
        body.extend((max_len / positions.len().max(1) as i32).max(1 << 16).to_be_bytes());
    }
    framed(1, 4, 1, &body)
}
