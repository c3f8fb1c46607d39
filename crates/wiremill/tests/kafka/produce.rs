//! What Produce takes, stamps and refuses.

use std::time::Duration;

use kafka::codec::{
    ErrorCode,
    api::produce::ProduceRequest,
    records::{Attributes, BatchBuilder, Compression, Stamp, TimestampType},
};

use crate::{
    client::Client,
    node::Node,
    usual::{
        PRODUCE_BY_NAME, batch, batch_of, create, fetch, fetch_all, fetched, fetched_batches, now_ms,
        offset_at, produce, produce_as, produce_request, stamped,
    },
};

/// A node with topic "t" of one partition.
fn with_topic(configs: &[(&str, &str)]) -> (Node, Client) {
    let node = Node::start();
    let mut client = node.client();
    create(&mut client, "t", 1, configs);
    (node, client)
}

#[test]
fn acks_0_1_and_all_store_and_other_values_are_refused() {
    let (_node, mut client) = with_topic(&[]);
    client.send(9, &produce_request("t", 0, 0, &batch(&["silent"])));
    assert_eq!(produce_as(&mut client, 9, 1, "t", 0, &batch(&["one"])).base_offset, 1);
    assert_eq!(produce_as(&mut client, 9, -1, "t", 0, &batch(&["all"])).base_offset, 2);
    for acks in [-2, 2, i16::MAX] {
        let answer = produce_as(&mut client, 9, acks, "t", 0, &batch(&["x"]));
        assert_eq!(answer.error_code, ErrorCode::INVALID_REQUIRED_ACKS, "acks {acks}");
    }
    assert_eq!(fetch_all(&mut client, "t", 0).len(), 3);
}

#[test]
fn acks_0_is_not_answered() {
    let (_node, mut client) = with_topic(&[]);
    client.send(9, &produce_request("t", 0, 0, &batch(&["x"])));
    assert!(client.is_silent_for(Duration::from_millis(300)));
    assert_eq!(offset_at(&mut client, "t", 0, -1).offset, 1);
}

#[test]
fn a_refused_batch_with_acks_0_closes_the_connection() {
    let (node, mut client) = with_topic(&[]);
    let mut broken = batch(&["x"]).to_vec();
    broken[40] ^= 1;
    client.send(9, &produce_request("t", 0, 0, &broken));
    assert!(client.is_closed());
    assert!(fetch_all(&mut node.client(), "t", 0).is_empty());
}

#[test]
fn several_produces_in_flight_are_answered_in_their_order() {
    let (_node, mut client) = with_topic(&[]);
    let records: Vec<_> = (0..20).map(|n| batch(&[&n.to_string()])).collect();
    let sent: Vec<i32> = records.iter().map(|r| client.send(9, &produce_request("t", 0, -1, r))).collect();
    for (offset, correlation) in (0..).zip(sent) {
        let answer = client.take::<ProduceRequest<'_>>(9, correlation);
        assert_eq!(answer.responses[0].partition_responses[0].base_offset, offset);
    }
    let values: Vec<String> = fetch_all(&mut client, "t", 0).into_iter().map(|(_, value)| value).collect();
    assert_eq!(values, (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[test]
fn a_read_behind_produces_in_flight_is_answered_after_them() {
    let (_node, mut client) = with_topic(&[]);
    let records = batch(&["x"]);
    let first = client.send(9, &produce_request("t", 0, -1, &records));
    let second = client.send(12, &crate::usual::fetch_request("t", 0, 0));
    let third = client.send(9, &produce_request("t", 0, -1, &records));
    client.take::<ProduceRequest<'_>>(9, first);
    let read = client.take::<kafka::codec::api::fetch::FetchRequest<'_>>(12, second);
    assert_eq!(fetched(&read.responses[0].partitions[0]).len(), 1);
    client.take::<ProduceRequest<'_>>(9, third);
}

#[test]
fn packed_batches_are_stored_as_they_were_sent() {
    let (_node, mut client) = with_topic(&[]);
    for (offset, packing) in (0..).zip(PACKINGS) {
        let mut builder = BatchBuilder::new(packing);
        builder.push(now_ms(), Some(b"k"), Some(&[b'v'; 500]), std::iter::empty());
        let sent = builder.finish(&Stamp::default()).unwrap();
        assert_eq!(produce(&mut client, "t", 0, &sent).base_offset, offset);
        let stored = fetched_batches(&fetch(&mut client, "t", 0, offset))[0];
        assert_eq!(stored.header.base_offset, offset);
        assert_eq!(stored.bytes()[17..], sent[17..], "{packing:?}: all but what lies outside the checksum");
    }
}

#[test]
fn zstd_needs_produce_7() {
    let (_node, mut client) = with_topic(&[]);
    let mut builder = BatchBuilder::new(Compression::Zstd);
    builder.push(now_ms(), None, Some(b"v"), std::iter::empty());
    let packed = builder.finish(&Stamp::default()).unwrap();
    let refused = produce_as(&mut client, 6, -1, "t", 0, &packed);
    assert_eq!(refused.error_code, ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
    assert_eq!(produce_as(&mut client, 7, -1, "t", 0, &packed).base_offset, 0);
}

/// A batch whose bytes were changed by `damage`, with a checksum that fits again if it lay in the checked part.
fn damaged(damage: impl FnOnce(&mut Vec<u8>), fit_checksum: bool) -> Vec<u8> {
    let mut bytes = batch(&["abc", "def"]).to_vec();
    damage(&mut bytes);
    if fit_checksum {
        let crc = crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    bytes
}

/// CRC-32C bit by bit: small, and not the broker's own.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (0u32.wrapping_sub(crc & 1)));
        }
    }
    !crc
}

#[test]
fn damaged_batches_are_refused_and_nothing_of_them_is_stored() {
    let (_node, mut client) = with_topic(&[]);
    let cases: Vec<(&str, Vec<u8>, ErrorCode)> = vec![
        ("a flipped bit", damaged(|b| b[70] ^= 1, false), ErrorCode::CORRUPT_MESSAGE),
        ("a wrong checksum", damaged(|b| b[17] ^= 1, false), ErrorCode::CORRUPT_MESSAGE),
        ("an old format", damaged(|b| b[16] = 1, false), ErrorCode::INVALID_RECORD),
        ("the oldest format", damaged(|b| b[16] = 0, false), ErrorCode::INVALID_RECORD),
        ("an unknown format", damaged(|b| b[16] = 3, false), ErrorCode::CORRUPT_MESSAGE),
        ("a length that is too small", damaged(|b| b[8..12].fill(0), false), ErrorCode::CORRUPT_MESSAGE),
        ("a negative length", damaged(|b| b[8..12].fill(0xff), false), ErrorCode::CORRUPT_MESSAGE),
        ("a length beyond the bytes", damaged(|b| b[11] += 1, false), ErrorCode::INVALID_RECORD),
        ("bytes behind the batch", damaged(|b| b.extend([0; 3]), false), ErrorCode::INVALID_RECORD),
        ("two batches", damaged(|b| b.extend(b.clone()), false), ErrorCode::INVALID_RECORD),
        ("a base offset", damaged(|b| b[7] = 1, false), ErrorCode::INVALID_RECORD),
        ("a control batch", damaged(|b| b[22] |= 0x20, true), ErrorCode::INVALID_RECORD),
        ("a claimed append time", damaged(|b| b[22] |= 8, true), ErrorCode::INVALID_TIMESTAMP),
        ("an unknown packing", damaged(|b| b[22] |= 5, true), ErrorCode::UNSUPPORTED_COMPRESSION_TYPE),
        ("a count that is too small", damaged(|b| b[60] = 1, true), ErrorCode::INVALID_RECORD),
        ("a huge count", damaged(|b| b[57] = 0x7f, true), ErrorCode::INVALID_RECORD),
        ("a negative count", damaged(|b| b[57] = 0xff, true), ErrorCode::INVALID_RECORD),
        ("a wrong last offset", damaged(|b| b[26] = 5, true), ErrorCode::INVALID_RECORD),
        ("a producer without a sequence", damaged(|b| b[43..51].fill(0), true), ErrorCode::INVALID_RECORD),
        ("a record length that lies", damaged(|b| b[61] = 0x7e, true), ErrorCode::INVALID_RECORD),
        ("nothing", Vec::new(), ErrorCode::INVALID_RECORD),
    ];
    for (what, bytes, code) in cases {
        let answer = produce(&mut client, "t", 0, &bytes);
        assert_eq!(answer.error_code, code, "{what}");
        assert_eq!(answer.base_offset, -1, "{what}");
    }
    assert_eq!(offset_at(&mut client, "t", 0, -1).offset, 0, "nothing was stored");
    assert_eq!(produce(&mut client, "t", 0, &batch(&["good"])).base_offset, 0);
}

#[test]
fn packed_records_are_held_to_rules_that_need_each_of_them() {
    let (_node, mut client) = with_topic(&[("message.timestamp.before.max.ms", "60000")]);
    let mut builder = BatchBuilder::new(Compression::Gzip);
    builder.push(now_ms(), None, Some(b"new"), std::iter::empty());
    builder.push(now_ms() - 90_000, None, Some(b"old"), std::iter::empty());
    let answer = produce(&mut client, "t", 0, &builder.finish(&Stamp::default()).unwrap());
    assert_eq!(answer.error_code, ErrorCode::INVALID_TIMESTAMP);
    assert_eq!(answer.record_errors.iter().map(|e| e.batch_index).collect::<Vec<_>>(), [1]);
}

const PACKINGS: [Compression; 4] =
    [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

/// A batch with a sound checksum of whatever `packed` is.
fn claimed(packing: Compression, packed: &[u8]) -> Vec<u8> {
    damaged(
        |b| {
            b.truncate(61);
            b.extend_from_slice(packed);
            let len = u32::try_from(b.len() - 12).unwrap();
            b[8..12].copy_from_slice(&len.to_be_bytes());
            b[22] |= packing.id();
        },
        true,
    )
}

/// The original iterates over packed records too, and refuses the batch when they do not read.
#[test]
fn batches_that_lie_inside_their_compression_are_refused_and_nothing_of_them_is_stored() {
    let (_node, mut client) = with_topic(&[]);
    let records = batch(&["abc", "def"])[61..].to_vec();
    for packing in PACKINGS {
        let packed = packing.pack(&records).unwrap().to_vec();
        let stored = produce(&mut client, "t", 0, &claimed(packing, &packed));
        assert_eq!(stored.error_code, ErrorCode::NONE, "{packing:?} as it should be");
        let mut surplus = records.clone();
        surplus.push(0);
        let mut lying = records.clone();
        lying[0] = 0x7e;
        let mut out_of_order = records.clone();
        out_of_order[3] = 2;
        for (what, bytes, code) in [
            ("no packing at all", vec![b'x'; 40], ErrorCode::CORRUPT_MESSAGE),
            ("cut short", packed[..packed.len() - 9].to_vec(), ErrorCode::CORRUPT_MESSAGE),
            ("bytes behind the records", packing.pack(&surplus).unwrap().to_vec(), ErrorCode::INVALID_RECORD),
            ("a record length that lies", packing.pack(&lying).unwrap().to_vec(), ErrorCode::INVALID_RECORD),
            ("no records", packing.pack(&[]).unwrap().to_vec(), ErrorCode::INVALID_RECORD),
        ] {
            let answer = produce(&mut client, "t", 0, &claimed(packing, &bytes));
            assert_eq!(answer.error_code, code, "{packing:?}: {what}");
            assert!(answer.record_errors.is_empty(), "{packing:?}: {what}");
        }
        let renumbered = claimed(packing, &packing.pack(&out_of_order).unwrap());
        let stored = produce(&mut client, "t", 0, &renumbered);
        assert_eq!(stored.error_code, ErrorCode::NONE, "{packing:?}: an offset that lies is put right");
    }
    assert_eq!(offset_at(&mut client, "t", 0, -1).offset, 16, "two records of each good batch");
}

/// Unpacked lengths below and above what is walked where a request is handled, and above what is walked at all.
#[test]
fn a_batch_may_unpack_to_128_times_the_largest_batch_and_not_to_more() {
    let (_node, mut client) = with_topic(&[("max.message.bytes", "200000")]);
    let zeros = |len: usize| {
        let mut builder = BatchBuilder::new(Compression::Zstd);
        builder.push(now_ms(), None, Some(&vec![0; len]), std::iter::empty());
        builder.finish(&Stamp::default()).unwrap()
    };
    let most = 200_000 * 128 - 20;
    for (offset, len) in [(0, 1 << 20), (1, 6 << 20), (2, most)] {
        let answer = produce(&mut client, "t", 0, &zeros(len));
        assert_eq!((answer.error_code, answer.base_offset), (ErrorCode::NONE, offset), "{len} bytes");
    }
    assert_eq!(produce(&mut client, "t", 0, &zeros(most + 20)).error_code, ErrorCode::MESSAGE_TOO_LARGE);
    assert_eq!(produce(&mut client, "t", 0, &batch(&["next"])).base_offset, 3);
}

#[test]
fn a_batch_cut_short_anywhere_is_refused() {
    let (_node, mut client) = with_topic(&[]);
    let whole = batch(&["abc"]);
    for len in 0..whole.len() {
        let answer = produce(&mut client, "t", 0, &whole[..len]);
        assert_ne!(answer.error_code, ErrorCode::NONE, "cut to {len}");
    }
    assert_eq!(offset_at(&mut client, "t", 0, -1).offset, 0);
}

/// KIP-467: from version 8 on the answer names each bad record.
#[test]
fn records_out_of_time_are_named_one_by_one_and_none_of_their_batch_is_stored() {
    let (_node, mut client) = with_topic(&[("message.timestamp.after.max.ms", "60000")]);
    let now = now_ms();
    let late = now + 3_600_000;
    let mixed = batch_of(&[(now, b"a"), (late, b"b"), (now, b"c"), (late, b"d")], &Stamp::default());
    let answer = produce_as(&mut client, 8, -1, "t", 0, &mixed);
    assert_eq!(answer.error_code, ErrorCode::INVALID_TIMESTAMP);
    assert_eq!(answer.record_errors.iter().map(|e| e.batch_index).collect::<Vec<_>>(), [1, 3]);
    assert!(answer.record_errors.iter().all(|e| e.batch_index_error_message.is_some()));
    assert!(answer.error_message.is_some());
    let answer = produce_as(&mut client, 7, -1, "t", 0, &mixed);
    assert_eq!(answer.error_code, ErrorCode::INVALID_TIMESTAMP, "before version 8 the code alone");
    assert_eq!(offset_at(&mut client, "t", 0, -1).offset, 0);
}

#[test]
fn times_are_held_to_the_topics_limits() {
    let (_node, mut client) = with_topic(&[
        ("message.timestamp.after.max.ms", "60000"),
        ("message.timestamp.before.max.ms", "120000"),
    ]);
    let at = |delta_ms: i64| batch_of(&[(now_ms() + delta_ms, b"x")], &Stamp::default());
    assert_eq!(produce(&mut client, "t", 0, &at(30_000)).error_code, ErrorCode::NONE);
    assert_eq!(produce(&mut client, "t", 0, &at(90_000)).error_code, ErrorCode::INVALID_TIMESTAMP);
    assert_eq!(produce(&mut client, "t", 0, &at(-90_000)).error_code, ErrorCode::NONE);
    assert_eq!(produce(&mut client, "t", 0, &at(-150_000)).error_code, ErrorCode::INVALID_TIMESTAMP);
}

#[test]
fn a_time_far_ahead_is_refused_by_default_and_an_old_one_is_not() {
    let (_node, mut client) = with_topic(&[]);
    let ahead = batch_of(&[(now_ms() + 2 * 3_600_000, b"x")], &Stamp::default());
    assert_eq!(produce(&mut client, "t", 0, &ahead).error_code, ErrorCode::INVALID_TIMESTAMP);
    let old = batch_of(&[(1_000, b"x")], &Stamp::default());
    assert_eq!(produce(&mut client, "t", 0, &old).error_code, ErrorCode::NONE);
}

#[test]
fn log_append_time_stamps_the_batch_and_says_so_in_the_answer() {
    let (_node, mut client) = with_topic(&[("message.timestamp.type", "LogAppendTime")]);
    let before = now_ms();
    let answer = produce(&mut client, "t", 0, &batch_of(&[(1_000, b"x"), (2_000, b"y")], &Stamp::default()));
    assert_eq!(answer.error_code, ErrorCode::NONE);
    assert!((before..=now_ms()).contains(&answer.log_append_time_ms), "{}", answer.log_append_time_ms);
    let data = fetch(&mut client, "t", 0, 0);
    assert_eq!(fetched(&data).len(), 2, "with a checksum that fits the new time");
    let stored = fetched_batches(&data)[0];
    assert_eq!(stored.header.attributes.timestamp_type(), TimestampType::LogAppendTime);
    assert_eq!(stored.header.max_timestamp, answer.log_append_time_ms);
    assert_eq!(produce_as(&mut client, 3, -1, "t", 0, &batch(&["z"])).base_offset, 2);
}

#[test]
fn create_time_is_left_as_it_was_sent() {
    let (_node, mut client) = with_topic(&[]);
    let answer = produce(&mut client, "t", 0, &batch_of(&[(5_000, b"x")], &Stamp::default()));
    assert_eq!(answer.log_append_time_ms, -1);
    let stored = fetched_batches(&fetch(&mut client, "t", 0, 0))[0];
    assert_eq!(stored.header.max_timestamp, 5_000);
    assert_eq!(stored.header.attributes.timestamp_type(), TimestampType::CreateTime);
}

/// A batch of exactly `len` bytes.
fn batch_of_len(len: usize) -> Vec<u8> {
    (0..len)
        .rev()
        .map(|value_len| batch(&["x".repeat(value_len).as_str()]))
        .find(|batch| batch.len() <= len)
        .filter(|batch| batch.len() == len)
        .expect("a batch of this length")
        .to_vec()
}

#[test]
fn max_message_bytes_is_the_largest_batch_that_is_taken() {
    const MAX: usize = 300;
    let (_node, mut client) = with_topic(&[("max.message.bytes", "300")]);
    for (len, code) in
        [(MAX - 1, ErrorCode::NONE), (MAX, ErrorCode::NONE), (MAX + 1, ErrorCode::MESSAGE_TOO_LARGE)]
    {
        let answer = produce(&mut client, "t", 0, &batch_of_len(len));
        assert_eq!(answer.error_code, code, "{len} bytes");
    }
}

#[test]
fn a_batch_of_over_a_megabyte_is_refused_by_default() {
    let (_node, mut client) = with_topic(&[]);
    let large = "x".repeat(1_048_588);
    let answer = produce(&mut client, "t", 0, &batch(&[&large]));
    assert_eq!(answer.error_code, ErrorCode::MESSAGE_TOO_LARGE);
    let fits = "x".repeat(1_048_588 - 100);
    assert_eq!(produce(&mut client, "t", 0, &batch(&[&fits])).error_code, ErrorCode::NONE);
}

#[test]
fn an_unknown_topic_or_partition_is_refused_and_not_created_by_produce() {
    let (_node, mut client) = with_topic(&[]);
    for (topic, partition) in [("nowhere", 0), ("t", 1), ("t", -1), ("", 0)] {
        let answer = produce(&mut client, topic, partition, &batch(&["x"]));
        assert_eq!(answer.error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "{topic:?} {partition}");
    }
    let answer = crate::usual::described(&mut client, "nowhere");
    assert_eq!(answer.error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
}

#[test]
fn one_bad_partition_does_not_refuse_the_others_of_a_request() {
    let node = Node::start();
    let mut client = node.client();
    create(&mut client, "t", 3, &[]);
    let (good, mut bad) = (batch(&["x"]), batch(&["y"]).to_vec());
    bad[65] ^= 1;
    let mut request = produce_request("t", 0, -1, &good);
    for (partition, records) in [(1, bad.as_slice()), (2, good.as_ref()), (7, good.as_ref())] {
        let other = produce_request("t", partition, -1, records);
        request.topic_data[0].partition_data.extend(other.topic_data[0].partition_data.clone());
    }
    let answer = client.ask(PRODUCE_BY_NAME, &request);
    let codes: Vec<_> =
        answer.responses[0].partition_responses.iter().map(|p| (p.index, p.error_code)).collect();
    let expected = [
        (0, ErrorCode::NONE),
        (1, ErrorCode::CORRUPT_MESSAGE),
        (2, ErrorCode::NONE),
        (7, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
    ];
    assert_eq!(codes, expected);
    assert_eq!(fetch_all(&mut client, "t", 2).len(), 1);
}

#[test]
fn a_transactional_batch_is_refused_while_there_are_no_transactions() {
    let (_node, mut client) = with_topic(&[]);
    let stamp =
        Stamp { attributes: Attributes::default().transactional(), ..crate::usual::by_producer(1, 0, 0) };
    let answer = produce(&mut client, "t", 0, &stamped(&["x"], &stamp));
    assert_eq!(answer.error_code, ErrorCode::INVALID_TXN_STATE);
    let records = batch(&["x"]);
    let request = ProduceRequest { transactional_id: Some("tx"), ..produce_request("t", 0, -1, &records) };
    let answer = client.ask(9, &request);
    let code = answer.responses[0].partition_responses[0].error_code;
    assert_eq!(code, ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
}
