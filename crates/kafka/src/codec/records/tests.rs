use bytes::Bytes;

use super::*;
use crate::codec::ErrorCode;
use crate::codec::sample::Rng;

const MAX_LEN: usize = 1 << 20;
const ALL: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

/// The same three records, packed by kafka-clients 4.2.0 in each way: lines of "compression id, hexadecimal bytes".
const GOLDEN: &str = include_str!("golden.txt");

type Headers<'a> = [(&'a [u8], Option<&'a [u8]>)];

const LONG: &[u8] = b"a longer value, a longer value, a longer value, a longer value";

fn golden(compression: Compression) -> Vec<u8> {
    let prefix = format!("{} ", compression.id());
    let hex = GOLDEN.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap();
    hex.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// The golden batch's records, packed by us.
fn built(compression: Compression) -> Bytes {
    let mut builder = BatchBuilder::new(compression);
    let headers: &Headers<'_> = &[(b"h1", Some(b"x")), (b"h2", None)];
    builder.push(1000, Some(b"key"), Some(b"value"), headers.iter().copied());
    builder.push(998, None, Some(LONG), std::iter::empty());
    builder.push(1300, Some(b""), None, std::iter::empty());
    let stamp = Stamp {
        partition_leader_epoch: 5,
        producer_id: 4711,
        producer_epoch: 3,
        base_sequence: 17,
        ..Stamp::default()
    };
    builder.finish(&stamp).unwrap()
}

/// `bytes` with a change, and the checksum corrected unless `change` returns false.
fn changed(bytes: &[u8], change: impl FnOnce(&mut Vec<u8>) -> bool) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if change(&mut bytes) {
        let crc = super::batch::computed_crc(&bytes);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    bytes
}

fn fault(bytes: &[u8]) -> Option<BatchFault> {
    RecordBatch::from_producer(bytes, 13).err()
}

#[test]
fn batches_of_the_original_are_read_whatever_their_compression() {
    for compression in ALL {
        let bytes = golden(compression);
        let batch = RecordBatch::from_producer(&bytes, 13).unwrap();
        assert_eq!(batch.header.attributes.compression(), Ok(compression));
        assert_eq!((batch.header.producer_id, batch.header.producer_epoch), (4711, 3));
        assert_eq!((batch.header.base_sequence, batch.header.last_sequence()), (17, 19));
        assert_eq!((batch.header.base_timestamp, batch.header.max_timestamp), (1000, 1300));
        let payload = batch.payload(MAX_LEN).unwrap();
        let records: Vec<_> = batch.records(&payload).map(Result::unwrap).collect();
        assert_eq!(records.len(), 3);
        assert_eq!((records[0].key, records[0].value), (Some(&b"key"[..]), Some(&b"value"[..])));
        let headers: Vec<_> = records[0].headers.iter().collect();
        assert_eq!(headers, [(&b"h1"[..], Some(&b"x"[..])), (&b"h2"[..], None)]);
        assert_eq!((records[1].timestamp, records[1].key, records[1].value), (998, None, Some(LONG)));
        assert_eq!((records[2].offset_delta, records[2].key, records[2].value), (2, Some(&b""[..]), None));
    }
}

#[test]
fn a_plain_batch_is_built_byte_for_byte_as_the_original_builds_it() {
    assert_eq!(built(Compression::None), golden(Compression::None));
}

#[test]
fn what_is_packed_unpacks_to_the_same_records() {
    for compression in ALL {
        let bytes = built(compression);
        let batch = RecordBatch::from_producer(&bytes, 13).unwrap();
        assert_eq!(batch.payload(MAX_LEN).unwrap(), golden_payload(), "{compression:?}");
        let long = vec![b'z'; 200_000];
        let packed = compression.pack(&long).unwrap();
        assert_eq!(compression.unpack(&packed, long.len()).unwrap(), long, "{compression:?}");
    }
}

fn golden_payload() -> Vec<u8> {
    golden(Compression::None)[HEADER_LEN..].to_vec()
}

#[test]
fn unpacking_stops_at_the_limit() {
    let bomb = vec![0u8; 1 << 20];
    for compression in ALL {
        let packed = compression.pack(&bomb).unwrap();
        let limit = bomb.len() - 1;
        assert_eq!(compression.unpack(&packed, limit), Err(BatchFault::TooLarge(limit)), "{compression:?}");
    }
    assert_eq!(BatchFault::TooLarge(1).code(), ErrorCode::MESSAGE_TOO_LARGE);
}

#[test]
fn a_bare_snappy_block_is_unpacked_and_its_claimed_length_is_not_believed() {
    let bare = snap::raw::Encoder::new().compress_vec(LONG).unwrap();
    assert_eq!(Compression::Snappy.unpack(&bare, MAX_LEN).unwrap(), LONG);
    let claims_a_gigabyte = [0x80, 0x80, 0x80, 0x80, 0x04, 0x00, 0x00];
    assert_eq!(Compression::Snappy.unpack(&claims_a_gigabyte, usize::MAX), Err(BatchFault::Corrupt));
}

#[test]
fn each_fault_of_a_producers_batch_is_found() {
    let good = golden(Compression::None);
    assert_eq!(fault(&good), None);
    assert_eq!(fault(b""), Some(BatchFault::Missing));
    assert_eq!(fault(&good[..good.len() - 1]), Some(BatchFault::Missing));
    assert_eq!(fault(&[&good[..], &good[..]].concat()), Some(BatchFault::Surplus));
    assert_eq!(fault(&[&good[..], b"x"].concat()), Some(BatchFault::Surplus));

    let set = |at: usize, value: &'static [u8], mend: bool| {
        fault(&changed(&good, |bytes| {
            bytes[at..at + value.len()].copy_from_slice(value);
            mend
        }))
    };
    assert_eq!(set(16, &[1], false), Some(BatchFault::OldFormat(1)));
    assert_eq!(set(16, &[0], false), Some(BatchFault::OldFormat(0)));
    assert_eq!(set(16, &[3], false), Some(BatchFault::UnknownFormat(3)));
    assert_eq!(set(8, &[0, 0, 0, 40], false), Some(BatchFault::Length(40)));
    assert_eq!(set(8, &[0xff, 0xff, 0xff, 0xff], false), Some(BatchFault::Length(-1)));
    assert_eq!(set(8, &[0x7f, 0xff, 0xff, 0xff], false), Some(BatchFault::Missing));
    assert_eq!(set(0, &[0, 0, 0, 0, 0, 0, 0, 9], false), Some(BatchFault::BaseOffset(9)));
    assert!(matches!(set(70, &[0xee], false), Some(BatchFault::Checksum { .. })));
    assert_eq!(set(22, &[5], true), Some(BatchFault::Compression(5)));
    assert_eq!(set(22, &[0x20], true), Some(BatchFault::Control));
    assert_eq!(set(22, &[0x08], true), Some(BatchFault::TimestampType));
    assert_eq!(set(57, &[0, 0, 0, 0], true), Some(BatchFault::Count { count: 0, last_offset_delta: 2 }));
    assert_eq!(set(23, &[0, 0, 0, 3], true), Some(BatchFault::Count { count: 3, last_offset_delta: 3 }));
    assert_eq!(set(53, &[0xff; 4], true), Some(BatchFault::Sequence(-1)));
}

#[test]
fn zstandard_needs_the_produce_version_that_brought_it() {
    let bytes = golden(Compression::Zstd);
    assert_eq!(RecordBatch::from_producer(&bytes, 6).err(), Some(BatchFault::ZstdTooEarly));
    assert!(RecordBatch::from_producer(&bytes, 7).is_ok());
    assert_eq!(BatchFault::ZstdTooEarly.code(), ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
}

#[test]
fn assigning_a_place_leaves_the_checksum_right() {
    let mut bytes = golden(Compression::Lz4);
    assign(&mut bytes, 1_000_000_007, 4).unwrap();
    let (batch, _) = RecordBatch::first(&bytes).unwrap();
    assert_eq!((batch.header.base_offset, batch.header.partition_leader_epoch), (1_000_000_007, 4));
    assert_eq!(batch.header.last_offset(), 1_000_000_009);
    assert_eq!(batch.check_crc(), Ok(()));
    assert_eq!(bytes[16..], golden(Compression::Lz4)[16..]);
    assert_eq!(assign(&mut bytes[..60], 0, 0), Err(BatchFault::Missing));
}

#[test]
fn an_append_time_is_the_time_of_every_record_and_changes_the_checksum() {
    let mut bytes = golden(Compression::None);
    set_append_time(&mut bytes, 77_000).unwrap();
    let (batch, _) = RecordBatch::first(&bytes).unwrap();
    assert_eq!(batch.check_crc(), Ok(()));
    assert_eq!(batch.header.attributes.timestamp_type(), TimestampType::LogAppendTime);
    let payload = batch.payload(MAX_LEN).unwrap();
    assert!(batch.records(&payload).all(|record| record.unwrap().timestamp == 77_000));
}

#[test]
fn records_are_held_against_the_rules_of_their_stream() {
    let bytes = golden(Compression::Gzip);
    let batch = RecordBatch::from_producer(&bytes, 13).unwrap();
    let free = batch.check_records(&RecordRules::default(), MAX_LEN).unwrap();
    let unpacked_len = batch.payload(MAX_LEN).unwrap().len();
    let expected = RecordSummary { max_timestamp: 1300, unpacked_len, ..RecordSummary::default() };
    assert_eq!(free, expected);

    let rules = RecordRules { needs_key: true, oldest_ms: 999, newest_ms: 1299 };
    let refused = batch.check_records(&rules, MAX_LEN).unwrap().refused;
    assert_eq!(
        refused,
        [
            RecordFault { index: 1, refusal: RecordRefusal::NoKey },
            RecordFault {
                index: 2,
                refusal: RecordRefusal::Timestamp {
                    at_ms: 1300,
                    offset_delta: 2,
                    oldest_ms: 999,
                    newest_ms: 1299
                }
            },
        ]
    );
    assert_eq!(refused[0].code(), ErrorCode::INVALID_RECORD);
    assert_eq!(refused[1].code(), ErrorCode::INVALID_TIMESTAMP);
    assert_eq!(
        refused[1].refusal.to_string(),
        "Timestamp 1300 of message with offset 2 is out of range. The timestamp should be within [999, 1299]"
    );
}

#[test]
fn refused_records_are_answered_in_the_words_of_the_original() {
    let time = RecordRefusal::Timestamp { at_ms: 5, offset_delta: 1, oldest_ms: 10, newest_ms: 20 };
    let no_key = |index| RecordFault { index, refusal: RecordRefusal::NoKey };
    assert_eq!(
        RecordFault::answer(&[no_key(0), RecordFault { index: 1, refusal: time }]),
        (
            ErrorCode::INVALID_TIMESTAMP,
            "One or more records have been rejected due to invalid timestamp".to_owned()
        ),
        "a time anywhere counts before what is first"
    );
    let all: Vec<RecordFault> = (0..4).map(no_key).collect();
    let each = |index| {
        format!(
            "RecordError(batchIndex={index}, message='Compacted topic cannot accept message without key')"
        )
    };
    let text = format!(
        "One or more records have been rejected due to 4 record errors in total, and only showing the first three \
         errors at most: [{}, {}, {}]",
        each(0),
        each(1),
        each(2)
    );
    assert_eq!(RecordFault::answer(&all), (ErrorCode::INVALID_RECORD, text));
}

/// As some old clients number them: from anything, or all alike.
fn misnumbered(compression: Compression) -> Bytes {
    let mut builder = BatchBuilder::new(compression);
    for (delta, key) in [(7, "a"), (7, "b"), (3, "c")] {
        let headers: [(&[u8], Option<&[u8]>); 1] = [(b"h", Some(b"v"))];
        builder.push_at(delta, 5, Some(key.as_bytes()), Some(b"value"), headers.into_iter());
    }
    let stamp = Stamp { producer_id: 9, producer_epoch: 1, base_sequence: 4, ..Stamp::default() };
    let bytes = builder.finish(&stamp).unwrap();
    changed(&bytes, |bytes| {
        bytes[23..27].copy_from_slice(&2_i32.to_be_bytes());
        true
    })
    .into()
}

#[test]
fn records_that_do_not_count_up_are_numbered_anew_and_keep_all_else() {
    for compression in ALL {
        let bytes = misnumbered(compression);
        let batch = RecordBatch::from_producer(&bytes, 13).unwrap();
        let summary = batch.check_records(&RecordRules::default(), MAX_LEN).unwrap();
        assert!(summary.is_misnumbered && summary.refused.is_empty(), "{compression:?}");
        let bytes = batch.renumbered(usize::MAX).unwrap();
        let anew = RecordBatch::from_producer(&bytes, 13).unwrap();
        assert!(!anew.check_records(&RecordRules::default(), MAX_LEN).unwrap().is_misnumbered);
        assert_eq!(BatchHeader { crc: 0, ..anew.header }, BatchHeader { crc: 0, ..batch.header });
        let rows = |batch: &RecordBatch<'_>| {
            let payload = batch.payload(MAX_LEN).unwrap();
            let row = |record: Record<'_>| {
                let headers: Vec<_> = record
                    .headers
                    .iter()
                    .map(|(name, value)| (name.to_vec(), value.unwrap().to_vec()))
                    .collect();
                (record.timestamp, record.key.unwrap().to_vec(), record.value.unwrap().to_vec(), headers)
            };
            batch.records(&payload).map(|record| row(record.unwrap())).collect::<Vec<_>>()
        };
        assert_eq!(rows(&anew), rows(&batch));
    }
}

#[test]
fn keys_and_lengths_are_seen_alike_however_records_are_packed() {
    let key = [b'k'; 100_000];
    for compression in ALL {
        let mut builder = BatchBuilder::new(compression);
        for (key, value) in [(Some(&key[..]), Some(&b"value"[..])), (Some(b""), None), (None, Some(b""))] {
            builder.push(7, key, value, std::iter::empty());
        }
        let bytes = builder.finish(&Stamp::default()).unwrap();
        let (batch, _) = RecordBatch::first(&bytes).unwrap();
        for keys in [Keys::Read, Keys::Skipped] {
            let mut seen = Vec::new();
            batch
                .scan(keys, MAX_LEN, &mut |each| {
                    seen.push((each.has_key, each.key.map(<[u8]>::to_vec), each.value_len));
                    Ok(())
                })
                .unwrap();
            let read = |key: &[u8]| (keys == Keys::Read).then(|| key.to_vec());
            let expected = vec![(true, read(&key), 5), (true, read(b""), 0), (false, None, 0)];
            assert!(seen == expected, "{compression:?}, {keys:?}");
        }
    }
}

#[test]
fn a_count_that_its_records_do_not_bear_out_is_found_by_walking_them() {
    for (count, last) in [(2u8, 1u8), (4, 3)] {
        let bytes = changed(&golden(Compression::None), |bytes| {
            bytes[60] = count;
            bytes[26] = last;
            true
        });
        let batch = RecordBatch::from_producer(&bytes, 13).unwrap();
        let fault = batch.check_records(&RecordRules::default(), MAX_LEN).unwrap_err();
        assert_eq!(fault.code(), ErrorCode::INVALID_RECORD);
    }
}

/// A batch of three records whose bytes are `plain`, packed.
fn packed_batch(compression: Compression, plain: &[u8]) -> Vec<u8> {
    changed(&golden(Compression::None), |bytes| {
        bytes.truncate(HEADER_LEN);
        bytes.extend_from_slice(&compression.pack(plain).unwrap());
        let len = u32::try_from(bytes.len() - 12).unwrap();
        bytes[8..12].copy_from_slice(&len.to_be_bytes());
        bytes[22] |= compression.id();
        true
    })
}

#[test]
fn records_that_are_walked_as_they_unpack_are_judged_as_those_that_were_not_packed() {
    let mut rng = Rng::new(11);
    let good = golden(Compression::None)[HEADER_LEN..].to_vec();
    let (mut taken, mut refused) = (0, 0);
    for round in 0..4_000 {
        let mut plain = good.clone();
        for _ in 0..round % 3 {
            let at = rng.below(plain.len());
            plain[at] = rng.below(256) as u8;
        }
        plain.truncate(good.len() - rng.below(2) * rng.below(6));
        let judged = |compression| {
            let bytes = packed_batch(compression, &plain);
            let batch = RecordBatch::from_producer(&bytes, 13).unwrap();
            batch.check_records(&RecordRules { needs_key: true, ..RecordRules::default() }, MAX_LEN)
        };
        let unpacked = judged(Compression::None);
        match &unpacked {
            Ok(_) => taken += 1,
            Err(_) => refused += 1,
        }
        for compression in ALL {
            let agree = match (&unpacked, &judged(compression)) {
                (Ok(a), Ok(b)) => (a.max_timestamp, &a.refused) == (b.max_timestamp, &b.refused),
                (Err(BatchFault::Record { index: a, .. }), Err(BatchFault::Record { index: b, .. })) => {
                    a == b
                }
                (Err(a), Err(b)) => a == b,
                _ => false,
            };
            assert!(agree, "{compression:?} of {plain:02x?}: {:?} and {unpacked:?}", judged(compression));
        }
    }
    assert!(taken > 500 && refused > 500, "{taken} taken, {refused} refused");
}

#[test]
fn records_longer_than_the_buffer_are_walked_and_the_limit_holds_to_the_byte() {
    for compression in ALL {
        let mut builder = BatchBuilder::new(compression);
        for time in 0..3 {
            builder.push(time, None, Some(&[b'x'; 100_000]), std::iter::empty());
        }
        let plain_len = builder.records_len();
        let bytes = builder.finish(&Stamp::default()).unwrap();
        let batch = RecordBatch::from_producer(&bytes, 13).unwrap();
        let check = |max_len| batch.check_records(&RecordRules::default(), max_len);
        let expected_len = if compression == Compression::None { 0 } else { plain_len };
        assert_eq!(check(plain_len).unwrap().unpacked_len, expected_len, "{compression:?}");
        assert_eq!(check(plain_len + 1).unwrap().max_timestamp, 2, "{compression:?}");
        if compression != Compression::None {
            assert_eq!(check(plain_len - 1), Err(BatchFault::TooLarge(plain_len - 1)), "{compression:?}");
        }
    }
}

#[test]
fn what_unpacks_without_end_is_given_up_at_the_limit() {
    let zeros = vec![0; 64 << 20];
    for compression in [Compression::Gzip, Compression::Lz4, Compression::Zstd] {
        let bytes = packed_batch(compression, &zeros);
        let batch = RecordBatch::from_producer(&bytes, 13).unwrap();
        // A record of length 0 does not read; a first one that claims everything is skipped through to the limit.
        let mut plain = zeros.clone();
        plain[..8].copy_from_slice(&[0xfe, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0]);
        plain[8] = 1;
        plain[9..14].copy_from_slice(&[0xe0, 0xff, 0xff, 0xff, 0x0f]);
        let endless = packed_batch(compression, &plain);
        let endless = RecordBatch::from_producer(&endless, 13).unwrap();
        let refused = endless.check_records(&RecordRules::default(), MAX_LEN);
        assert_eq!(refused, Err(BatchFault::TooLarge(MAX_LEN)), "{compression:?}");
        assert!(batch.check_records(&RecordRules::default(), MAX_LEN).is_err());
    }
}

#[test]
fn refused_records_are_named_up_to_a_thousand() {
    let mut builder = BatchBuilder::new(Compression::Zstd);
    for _ in 0..1_500 {
        builder.push(5, None, Some(b"v"), std::iter::empty());
    }
    let bytes = builder.finish(&Stamp::default()).unwrap();
    let batch = RecordBatch::from_producer(&bytes, 13).unwrap();
    let rules = RecordRules { needs_key: true, ..RecordRules::default() };
    assert_eq!(batch.check_records(&rules, MAX_LEN).unwrap().refused.len(), 1_000);
}

#[test]
fn an_empty_batch_moves_readers_past_a_gap() {
    let stamp = Stamp { base_offset: 40, partition_leader_epoch: 1, ..Stamp::default() };
    let bytes = empty_batch(&stamp, 9);
    let (batch, rest) = RecordBatch::first(&bytes).unwrap();
    assert!(rest.is_empty());
    assert_eq!(batch.check_crc(), Ok(()));
    assert_eq!((batch.header.last_offset(), batch.header.record_count), (49, 0));
    assert_eq!(batch.records(&batch.payload(0).unwrap()).count(), 0);
}

#[test]
fn a_gap_between_records_and_behind_them_is_kept() {
    let mut builder = BatchBuilder::new(Compression::Lz4);
    builder.push_at(3, 5, None, Some(b"a"), std::iter::empty());
    builder.push_at(7, 6, None, Some(b"b"), std::iter::empty());
    builder.extend_to(9);
    assert_eq!(builder.count(), 2);
    let bytes = builder.finish(&Stamp { base_offset: 100, ..Stamp::default() }).unwrap();
    let (batch, _) = RecordBatch::first(&bytes).unwrap();
    let payload = batch.payload(MAX_LEN).unwrap();
    let deltas: Vec<_> = batch.records(&payload).map(|record| record.unwrap().offset_delta).collect();
    assert_eq!(deltas, [3, 7]);
    assert_eq!(batch.header.last_offset(), 109);
}

#[test]
fn sequences_wrap_behind_the_highest() {
    let bytes = built(Compression::None);
    let mut header = RecordBatch::first(&bytes).unwrap().0.header;
    header.base_sequence = i32::MAX - 1;
    assert_eq!(header.last_sequence(), 0);
    header.base_sequence = i32::MAX - 2;
    assert_eq!(header.last_sequence(), i32::MAX);
    header.base_sequence = -1;
    assert_eq!(header.last_sequence(), -1);
}

#[test]
fn a_fetch_may_end_in_the_middle_of_a_batch() {
    let one = golden(Compression::None);
    let mut stream = [&one[..], &one[..], &one[..20]].concat();
    assert_eq!(batches(&stream).map(Result::unwrap).count(), 2);
    stream[one.len() + 16] = 9;
    let read: Vec<_> = batches(&stream).collect();
    assert_eq!(read.len(), 2);
    assert_eq!(read[1].as_ref().err(), Some(&BatchFault::UnknownFormat(9)));
}

/// The same records in every packing, as the original packed them.
pub(crate) fn golden_batches() -> impl Iterator<Item = Vec<u8>> {
    ALL.into_iter().map(golden)
}

/// Whatever `bytes` are, reading them as batches ends, without a panic and within the limit; so does taking them from a
/// producer, with the checksum that they have and with one that fits.
pub(crate) fn fuzz_batch(bytes: &[u8]) {
    const LEN_MAX: usize = 64 << 10;
    for batch in batches(bytes).flatten() {
        let Ok(payload) = batch.payload(LEN_MAX) else { continue };
        assert!(payload.len() <= LEN_MAX);
        let walked = batch.records(&payload).take_while(Result::is_ok).count();
        assert!(walked <= payload.len());
        if let Ok(summary) = batch.check_records(&RecordRules::default(), LEN_MAX) {
            assert!(summary.refused.len() <= walked);
        }
    }
    let with_a_checksum_that_fits = (bytes.len() > 21).then(|| changed(bytes, |_| true));
    for bytes in [Some(bytes.to_vec()), with_a_checksum_that_fits].into_iter().flatten() {
        if let Ok(batch) = RecordBatch::from_producer(&bytes, 13)
            && let Ok(summary) = batch.check_records(&RecordRules::default(), LEN_MAX)
        {
            assert!(summary.unpacked_len <= LEN_MAX);
        }
    }
}

#[test]
fn noise_unpacks_to_no_more_than_the_limit() {
    let mut rng = Rng::new(7);
    for compression in ALL {
        for _ in 0..3_000 {
            let packed: Vec<u8> = (0..rng.below(64)).map(|_| rng.below(256) as u8).collect();
            if let Ok(plain) = compression.unpack(&packed, 4_096) {
                assert!(plain.len() <= 4_096);
            }
        }
    }
}
