use broker::plain::{PLAIN, Plain};
use model::{Attributes, Header, HeaderValue};

use super::*;
use crate::codec::records::{UNPACKED_WHOLE, batches};

fn batch_of(format: FormatTag, base: u64, count: u32, body: Bytes) -> Batch {
    Batch {
        base: Offset(base),
        count,
        append_time_ms: 7,
        max_event_time_ms: None,
        format,
        flags: Default::default(),
        producer: None,
        origin: None,
        attributes: Default::default(),
        body,
    }
}

fn read(batch: &Batch) -> Vec<Record> {
    let mut records = Vec::new();
    KafkaFormat
        .read(batch, &mut |_, record| {
            records.push(record);
            Ok(())
        })
        .unwrap();
    records
}

fn header(name: &str, value: HeaderValue) -> Header {
    Header { name: name.into(), value }
}

#[test]
fn properties_and_types_cross_into_headers_and_back() {
    let record = Record {
        body: Some(Bytes::from_static(b"body")),
        headers: vec![
            header("own", HeaderValue::Text("value".into())),
            header("priority", HeaderValue::Text("high".into())),
            header("count", HeaderValue::Int(7)),
            header("flag", HeaderValue::Bool(true)),
            header("none", HeaderValue::Null),
            header("bytes", HeaderValue::Binary(Bytes::from_static(&[0xff]))),
            header("text bytes", HeaderValue::Binary(Bytes::from_static(b"text"))),
            header("list", HeaderValue::List(vec![HeaderValue::Float(0.5)])),
        ],
        content_type: Some("text/plain".into()),
        correlation_id: Some(Bytes::from_static(b"7")),
        reply_to: Some("answers".into()),
        message_id: Some("m".into()),
        priority: Some(4),
        expiry_ms: Some(99),
        event_time_ms: Some(5),
        append_time_ms: 7,
        ..Record::default()
    };
    let body = KafkaFormat.write(std::slice::from_ref(&record)).unwrap();
    assert_eq!(read(&batch_of(FORMAT, 0, 1, body)), [record]);
}

#[test]
fn hints_that_a_client_sends_are_applied_when_another_dialect_reads() {
    let mut builder = BatchBuilder::new(Compression::None);
    let headers: [(&[u8], Option<&[u8]>); 4] = [
        (b"n", Some(b"3")),
        (b"wm-types", Some(br#"{"n":"int"}"#)),
        (b"wm-other", Some(b"x")),
        (b"plain", Some(b"y")),
    ];
    builder.push(1, None, Some(b"body"), headers.into_iter());
    let batch = batch_of(FORMAT, 0, 1, builder.finish(&Stamp::default()).unwrap());
    let expected = [header("n", HeaderValue::Int(3)), header("plain", HeaderValue::Text("y".into()))];
    assert_eq!(read(&batch)[0].headers, expected);
}

fn formats() -> Formats {
    let mut formats = Formats::default();
    formats.register(format()).unwrap();
    formats.register(Arc::new(Plain)).unwrap();
    formats
}

fn foreign(base: u64, bodies: &[&str]) -> Batch {
    let record = |body: &&str| Record {
        body: Some(Bytes::copy_from_slice(body.as_bytes())),
        route_key: Some(Bytes::from_static(b"orders.eu")),
        ..Record::default()
    };
    let records: Vec<Record> = bodies.iter().map(record).collect();
    let count = u32::try_from(bodies.len()).unwrap();
    batch_of(PLAIN, base, count, Plain.write(&records).unwrap())
}

fn own(base: u64, bodies: &[&str]) -> Batch {
    let mut builder = BatchBuilder::new(Compression::None);
    bodies.iter().for_each(|body| builder.push(3, Some(b"k"), Some(body.as_bytes()), std::iter::empty()));
    let stamp = Stamp { base_offset: i64::try_from(base).unwrap(), ..Stamp::default() };
    let count = u32::try_from(bodies.len()).unwrap();
    batch_of(FORMAT, base, count, builder.finish(&stamp).unwrap())
}

fn chunk(batches: Vec<Batch>, next: u64) -> Chunk {
    let batches = batches.into_iter().map(|batch| ChunkBatch { batch, dropped: None }).collect();
    let end = Offset(next);
    let bounds = broker::Bounds { start: Offset(0), stable_end: end, durable_end: end, end };
    Chunk { batches, next: end, bounds, lost: Vec::new(), of_disk: false }
}

/// What a client reads: (offset, key, value, time) of each record, and the offset that it goes on with.
fn fetched(chunk: &Chunk, from: u64) -> (Vec<(i64, String, String, i64)>, i64) {
    let pieces = wire_batches(&formats(), chunk, Offset(from)).unwrap();
    let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.to_vec()).collect();
    let (mut records, mut next) = (Vec::new(), 0);
    for batch in batches(&bytes) {
        let batch = batch.unwrap();
        batch.check_crc().unwrap();
        let payload = batch.payload(usize::MAX).unwrap();
        let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap_or_default().to_vec()).unwrap();
        for record in batch.records(&payload) {
            let record = record.unwrap();
            let offset = batch.header.base_offset + i64::from(record.offset_delta);
            records.push((offset, text(record.key), text(record.value), record.timestamp));
        }
        next = batch.header.last_offset() + 1;
    }
    (records, next)
}

#[test]
fn batches_of_another_dialect_are_converted_at_their_offsets_between_those_of_clients() {
    let chunk = chunk(vec![own(0, &["a", "b"]), foreign(2, &["c", "d"]), own(9, &["e"])], 10);
    let row = |offset, key: &str, value: &str, time| (offset, key.to_owned(), value.to_owned(), time);
    let expected = vec![
        row(0, "k", "a", 3),
        row(1, "k", "b", 3),
        // The key is what it was published under, the time is the log's.
        row(2, "orders.eu", "c", 7),
        row(3, "orders.eu", "d", 7),
        row(9, "k", "e", 3),
    ];
    assert_eq!(fetched(&chunk, 0), (expected, 10));
}

#[test]
fn dropped_records_of_another_dialect_are_gaps_and_positions_reach_the_end() {
    let with_gone = |gone: &[u32]| {
        let mut chunk = chunk(vec![foreign(4, &["a", "b", "c"])], 7);
        chunk.batches[0].dropped = Some(gone.iter().copied().collect());
        let (records, next) = fetched(&chunk, 4);
        (records.into_iter().map(|(offset, ..)| offset).collect::<Vec<_>>(), next)
    };
    assert_eq!(with_gone(&[0]), (vec![5, 6], 7));
    assert_eq!(with_gone(&[1]), (vec![4, 6], 7));
    assert_eq!(with_gone(&[2]), (vec![4, 5], 7));
    assert_eq!(with_gone(&[0, 1, 2]), (vec![], 7));
}

#[test]
fn a_control_batch_of_another_dialect_is_a_gap() {
    let mut control = foreign(1, &["x"]);
    control.flags.control = true;
    let (records, next) = fetched(&chunk(vec![own(0, &["a"]), control], 2), 0);
    assert_eq!((records.len(), next), (1, 2));
}

#[test]
fn a_tag_that_nobody_knows_is_reported_and_not_skipped() {
    let strange = batch_of(FormatTag(999), 0, 1, Bytes::from_static(b"?"));
    let error = wire_batches(&formats(), &chunk(vec![strange], 1), Offset(0)).unwrap_err();
    assert_eq!(error.kind(), model::ErrorKind::Corrupt);
}

#[test]
fn a_key_that_a_route_gave_is_what_clients_read() {
    let mut keyed = own(0, &["a", "b"]);
    let row = RecordAttributes { record_key: Some(Bytes::from_static(b"eu")), ..Default::default() };
    keyed.attributes = Attributes::Same(Box::new(row));
    let (records, next) = fetched(&chunk(vec![keyed], 2), 0);
    assert_eq!(next, 2);
    let keys: Vec<_> =
        records.iter().map(|(_, key, value, time)| (key.as_str(), value.as_str(), *time)).collect();
    assert_eq!(keys, [("eu", "a", 3), ("eu", "b", 3)]);
}

#[test]
fn what_is_gone_below_the_start_of_the_log_is_left_in_its_batch_and_a_hole_is_not() {
    let given = |start: u64, gone: &[u32]| {
        let mut chunk = chunk(vec![own(4, &["a", "b", "c"])], 7);
        chunk.bounds.start = Offset(start);
        chunk.batches[0].dropped = Some(gone.iter().copied().collect());
        let body = chunk.batches[0].batch.body.clone();
        let pieces = wire_batches(&formats(), &chunk, Offset(start)).unwrap();
        (
            pieces == [body],
            fetched(&chunk, start).0.into_iter().map(|(offset, ..)| offset).collect::<Vec<_>>(),
        )
    };
    assert_eq!(given(6, &[0, 1]), (true, vec![4, 5, 6]));
    assert_eq!(given(5, &[0, 1]), (false, vec![6]), "the second was taken out otherwise");
    assert_eq!(given(5, &[0, 2]), (false, vec![5]));
}

#[test]
fn times_lengths_and_keys_are_told_without_unpacking_a_batch_whole() {
    for compression in [Compression::Gzip, Compression::Lz4, Compression::Zstd] {
        let mut builder = BatchBuilder::new(compression);
        builder.push(5, Some(b"key"), Some(&vec![0; 64 << 20]), std::iter::empty());
        builder.push(9, None, Some(b"short"), std::iter::empty());
        let batch = batch_of(FORMAT, 0, 2, builder.finish(&Stamp::default()).unwrap());
        let before = UNPACKED_WHOLE.get();
        let mut rows = Vec::new();
        KafkaFormat
            .attributes(&batch, &mut |index, row| {
                rows.push((index, row.record_key, row.event_time_ms, row.body_len));
                Ok(())
            })
            .unwrap();
        let key = Some(Bytes::from_static(b"key"));
        assert_eq!(rows, [(0, key, Some(5), Some(64 << 20)), (1, None, Some(9), Some(5))]);
        let mut outlines = Vec::new();
        KafkaFormat
            .outlines(&batch, &mut |index, row| {
                outlines.push((index, row.event_time_ms, row.body_len));
                Ok(())
            })
            .unwrap();
        assert_eq!(outlines, [(0, Some(5), Some(64 << 20)), (1, Some(9), Some(5))]);
        let stopped = KafkaFormat.outlines(&batch, &mut |_, _| Err(Error::invalid("enough")));
        assert_eq!(stopped.unwrap_err().text(), "enough");
        assert_eq!(UNPACKED_WHOLE.get(), before, "{compression:?}");
    }
}

#[test]
fn a_copy_says_its_place_and_not_the_epoch_of_another_log() {
    let stamp = Stamp { base_offset: 5, partition_leader_epoch: 7, ..Stamp::default() };
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(1, None, Some(b"a"), std::iter::empty());
    builder.push(1, None, Some(b"b"), std::iter::empty());
    let body = builder.finish(&stamp).unwrap();
    let place = |batch: &Batch, dropped| {
        let each = ChunkBatch { batch: batch.clone(), dropped };
        let bytes = wire_batch(&formats(), &each, Offset(0)).unwrap().unwrap();
        let (found, _) = RecordBatch::first(&bytes).unwrap();
        assert_eq!(found.check_crc(), Ok(()));
        (found.header.base_offset, found.header.partition_leader_epoch)
    };
    let origin = model::Origin {
        log: model::LogId(3),
        offset: Offset(5),
        append_time_ms: 1,
        attempts: 1,
        source: model::LogId(3),
    };
    for dropped in [None, Some([1].into_iter().collect())] {
        let own = batch_of(FORMAT, 5, 2, body.clone());
        assert_eq!(place(&own, dropped.clone()), (5, 7));
        let elsewhere = batch_of(FORMAT, 9, 2, body.clone());
        assert_eq!(place(&elsewhere, dropped.clone()), (9, -1));
        let same_place = Batch { origin: Some(origin), ..own };
        assert_eq!(place(&same_place, dropped), (5, -1));
    }
}
