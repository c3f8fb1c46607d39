use super::*;

/// A generator for tests: the same seed, the same bytes.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

fn plain(body: &'static [u8]) -> Batch {
    Batch {
        base: Offset(4_000_000_000),
        count: 500,
        append_time_ms: 1_790_000_000_000,
        max_event_time_ms: Some(1_789_999_999_900),
        format: FormatTag(1),
        flags: BatchFlags::default(),
        producer: Some(ProducerStamp { id: 4_000_123, epoch: 3, first_sequence: 2_000_000_000 }),
        origin: None,
        attributes: Attributes::None,
        body: Bytes::from_static(body),
    }
}

fn row() -> RecordAttributes {
    RecordAttributes {
        route_key: Some(Bytes::from_static(b"order.created")),
        record_key: Some(Bytes::from_static(b"")),
        ordering_key: None,
        priority: Some(9),
        expiry_ms: Some(i64::MAX),
        deliver_at_ms: Some(-1),
        event_time_ms: Some(i64::MIN),
        external_id: Some(Bytes::from_static(b"7-1")),
        body_len: Some(u32::MAX),
    }
}

fn entry(change: Change) -> Entry {
    Entry { log: LogId(70_000), epoch: OwnerEpoch(2), change }
}

fn data(batch: Batch) -> Entry {
    entry(Change::Data { batch, stamp: None })
}

fn encode(entry: &Entry, order: Order) -> Bytes {
    let mut out = Vec::new();
    let len = Encoder::default().entry(&mut out, entry, order);
    assert_eq!(len, out.len());
    out.into()
}

fn every_change() -> Vec<Entry> {
    let mut full = plain(b"body");
    full.flags = BatchFlags { transactional: true, control: true };
    full.origin =
        Some(Origin { log: LogId(9), offset: Offset(8), append_time_ms: 7, attempts: 6, source: LogId(9) });
    full.attributes = Attributes::Same(Box::new(row()));
    let mut rows = plain(b"");
    rows.count = 3;
    let (log, source) = (LogId(9), LogId(10));
    rows.origin = Some(Origin { log, offset: Offset(8), append_time_ms: 7, attempts: u32::MAX, source });
    rows.attributes = Attributes::Rows(vec![row(), RecordAttributes::default(), row()].into());
    let mut bare = plain(b"x");
    (bare.producer, bare.max_event_time_ms) = (None, None);
    vec![
        data(plain(b"native bytes")),
        data(full),
        data(rows),
        data(bare),
        entry(Change::Create { start: Offset(5), durability: Durability::Memory }),
        entry(Change::Delete),
        entry(Change::Drop(vec![
            Offset(1)..Offset(2),
            Offset(2)..Offset(900),
            Offset(1 << 40)..Offset(1 << 41),
        ])),
        entry(Change::Trim(Offset(u64::MAX >> 1))),
        entry(Change::Advance(Offset(77))),
        entry(Change::Reserve(Offset(65_536))),
        entry(Change::Note(Bytes::from_static(b"cursor moved"))),
        entry(Change::Note(Bytes::new())),
    ]
}

#[test]
fn every_kind_of_entry_comes_back_as_it_went_in() {
    for (i, entry) in every_change().into_iter().enumerate() {
        let order = Order { units_since: i as u32 * 100, index: i as u32 % 3 };
        let bytes = encode(&entry, order);
        let found = decode_entry(entry.log, entry.epoch, &bytes).unwrap();
        assert_eq!(format!("{:?}", found.entry), format!("{entry:?}"));
        assert_eq!((found.order, found.len), (order, bytes.len()));
    }
}

#[test]
fn a_run_keeps_its_entries_in_order_and_says_where_each_lies() {
    let entries = every_change();
    let mut out = Vec::new();
    let mut encoder = Encoder::default();
    let entries_at = begin_run(&mut out, LogId(70_000), OwnerEpoch(2));
    for entry in &entries {
        encoder.entry(&mut out, entry, Order::default());
    }
    end_run(&mut out, entries_at).unwrap();
    out.extend_from_slice(b"the next run");
    let bytes = Bytes::from(out);
    let (header, found) = decode_run(&bytes).unwrap();
    assert_eq!((header.log, header.epoch, header.len), (LogId(70_000), OwnerEpoch(2), entries_at));
    assert_eq!(found.len(), entries.len());
    for (found, entry) in found.iter().zip(&entries) {
        assert_eq!(format!("{:?}", found.entry), format!("{entry:?}"));
        let again = decode_entry(header.log, header.epoch, &bytes.slice(found.at..)).unwrap();
        assert_eq!(again.len, found.len);
    }
}

#[test]
fn the_header_of_a_plain_batch_stays_within_48_bytes() {
    let mut worst = plain(b"");
    worst.base = Offset(1 << 55);
    worst.body = Bytes::from(vec![7; 1 << 20]);
    for (name, batch) in [("usual", plain(b"native bytes")), ("worst", worst)] {
        let header_len = encode(&data(batch.clone()), Order::default()).len() - batch.body.len();
        println!("entry and batch header together, {name} plain batch: {header_len} bytes of 48");
        assert!(header_len <= 48);
    }
}

#[test]
fn a_record_with_a_key_and_a_length_costs_at_most_12_bytes_beyond_them() {
    let mut batch = plain(b"");
    let row = RecordAttributes {
        route_key: Some(Bytes::from_static(b"orders.created.us")),
        body_len: Some(100_000),
        priority: Some(4),
        ..RecordAttributes::default()
    };
    let key_len = row.route_key.as_ref().map_or(0, Bytes::len);
    batch.attributes = Attributes::Rows(vec![row; 500].into());
    let bare = encode(&data(plain(b"")), Order::default()).len();
    let per_record = (encode(&data(batch), Order::default()).len() - bare).div_ceil(500) - key_len;
    println!("per record beyond its key: {per_record} bytes of 12");
    assert!(per_record <= 12);
}

#[test]
fn a_stamp_runs_over_the_copy_and_before_the_checksum() {
    fn base_in_front(body: &mut [u8], facts: StampFacts) {
        body[..8].copy_from_slice(&facts.base.0.to_be_bytes());
        body[8] = facts.epoch.0 as u8;
    }
    let batch = plain(b"12345678epoch");
    let entry = entry(Change::Data { batch: batch.clone(), stamp: Some(base_in_front) });
    let (found, _) = decode_batch(entry.log, &encode(&entry, Order::default())).unwrap();
    assert_eq!(found.body[..8], batch.base.0.to_be_bytes());
    assert_eq!(&found.body[8..], b"\x02poch");
    assert_eq!(&batch.body[..], b"12345678epoch");
}

#[test]
fn a_batch_read_for_another_log_is_corrupt() {
    let bytes = encode(&data(plain(b"native bytes")), Order::default());
    assert!(decode_batch(LogId(70_000), &bytes).is_ok());
    assert_eq!(decode_batch(LogId(70_001), &bytes).unwrap_err().kind(), model::ErrorKind::Corrupt);
}

#[test]
fn every_flipped_bit_behind_the_order_of_a_data_entry_is_noticed() {
    let order_len = 1;
    let bytes = encode(&data(plain(b"native bytes")), Order::default());
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut harmed = bytes.to_vec();
            harmed[at] ^= 1 << bit;
            let found = decode_entry(LogId(70_000), OwnerEpoch::default(), &harmed.into());
            assert!(found.is_err() || at == 1 + order_len, "byte {at} bit {bit}: {found:?}");
        }
    }
}

#[test]
fn an_optional_area_of_a_later_version_is_skipped() {
    for entry in every_change() {
        let bytes = encode(&entry, Order::default());
        let mut reader = Reader::new(&bytes);
        let kind = reader.u8().unwrap();
        let mut content = reader.slice().unwrap().to_vec();
        let area_at = if kind == DATA { 1 + CRC_LEN } else { 1 };
        content.splice(area_at..area_at, [3, 1, 2, 3]);
        if kind == DATA {
            let crc = data_crc(entry.log, kind | EXTENDED, &content[area_at..]);
            content[1..area_at].copy_from_slice(&crc.to_le_bytes());
        }
        let mut extended = vec![kind | EXTENDED];
        put_slice(&mut extended, &content);
        let found = decode_entry(entry.log, entry.epoch, &extended.into()).unwrap();
        assert_eq!(format!("{:?}", found.entry), format!("{entry:?}"));
    }
}

#[test]
fn an_unknown_kind_is_refused_and_not_skipped() {
    for kind in [0, 9, 0x7f, 0xff] {
        let found = decode_entry(LogId(1), OwnerEpoch(0), &Bytes::from(vec![kind, 2, 0, 0]));
        assert_eq!(found.unwrap_err().kind(), model::ErrorKind::Corrupt);
    }
}

/// What a fuzzer calls: whatever the bytes, an answer and no panic.
fn fuzz(bytes: &Bytes) {
    for log in [0, 70_000] {
        if let Ok(found) = decode_entry(LogId(log), OwnerEpoch(1), bytes) {
            assert!(found.len <= bytes.len());
        }
    }
    if let Ok((header, entries)) = decode_run(bytes) {
        let len: usize = entries.iter().map(|entry| entry.len).sum();
        assert_eq!(len, header.entries_len);
    }
}

#[test]
fn the_decoder_answers_whatever_it_is_given() {
    let mut dice = Dice(0x5eed_0001);
    let valid: Vec<Bytes> = every_change().iter().map(|entry| encode(entry, Order::default())).collect();
    for round in 0..60_000 {
        let mut bytes = if round % 3 == 0 {
            (0..dice.roll() % 80).map(|_| dice.roll() as u8).collect::<Vec<u8>>()
        } else {
            let mut run = Vec::new();
            let entries_at = begin_run(&mut run, LogId(70_000), OwnerEpoch(1));
            run.extend_from_slice(&valid[dice.roll() as usize % valid.len()]);
            end_run(&mut run, entries_at).unwrap();
            if dice.roll() & 1 == 0 { run } else { run.split_off(entries_at) }
        };
        for _ in 0..dice.roll() % 4 {
            if !bytes.is_empty() {
                let at = dice.roll() as usize % bytes.len();
                bytes[at] = dice.roll() as u8;
            }
        }
        bytes.truncate(bytes.len().saturating_sub((dice.roll() % 16) as usize / 8 * 3));
        fuzz(&bytes.into());
    }
}

#[test]
fn the_length_of_a_stored_batch_is_known_before_it_is_laid_out() {
    let batches = every_change().into_iter().filter_map(|entry| match entry.change {
        Change::Data { batch, .. } => Some(batch),
        _ => None,
    });
    let moved = Batch {
        origin: Some(Origin {
            log: LogId(7),
            offset: Offset(300),
            append_time_ms: 1_790_000_000_000,
            attempts: 2,
            source: LogId(9),
        }),
        producer: None,
        max_event_time_ms: None,
        ..plain(&[b'x'; 20_000])
    };
    for batch in batches.chain([moved]) {
        let len = encode(&data(batch.clone()), Order::default()).len();
        assert_eq!(stored_len(&batch), len, "{batch:?}");
    }
}
