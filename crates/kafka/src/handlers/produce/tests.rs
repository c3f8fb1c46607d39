use broker::StreamSettings;

use super::*;
use crate::{
    codec::records::{BatchBuilder, Compression, Stamp},
    testing::Rig,
};

/// What a batch that a producer sent to a topic of these settings comes to, and the bytes that are stored of it.
async fn sent(rig: &Rig, settings: StreamSettings, bytes: &Bytes) -> (Part, Option<Bytes>) {
    let stream = rig.topic("t", settings).await;
    let target = Target { stream: &stream, onward: None };
    let mut unit = Unit { publish: PublishUnit::default(), unpacked_left: UNPACKED_INLINE_MAX };
    let part = check(&rig.ctx(9), &target, 0, Some(&Records::Slice(bytes)), bytes, &mut unit).unwrap();
    (part, unit.publish.appends.into_iter().next().map(|append| append.batch.body))
}

/// One record per pair of offset delta and time, and a header that claims a newest time.
fn batch(compression: Compression, records: &[(i32, i64)], max_timestamp: i64) -> Bytes {
    let mut builder = BatchBuilder::new(compression);
    for (delta, time) in records {
        builder.push_at(*delta, *time, None, Some(b"value"), std::iter::empty());
    }
    let mut bytes = BytesMut::from(&builder.finish(&Stamp::default()).unwrap()[..]);
    bytes[23..27].copy_from_slice(&(records.len() as i32 - 1).to_be_bytes());
    set_max_timestamp(&mut bytes, max_timestamp).unwrap();
    bytes.freeze()
}

#[tokio::test]
async fn the_newest_time_that_a_header_claims_is_put_right() {
    for compression in [Compression::None, Compression::Zstd] {
        for (claimed, is_right) in [(7, true), (9_000_000_000_000, false), (-1, false)] {
            let rig = Rig::new();
            let bytes = batch(compression, &[(0, 5), (1, 7), (2, 6)], claimed);
            let stored = sent(&rig, StreamSettings::default(), &bytes).await.1.unwrap();
            let (header, _) = RecordBatch::first(&stored).unwrap();
            assert_eq!(header.check_crc(), Ok(()));
            assert_eq!(header.header.max_timestamp, 7, "{claimed}");
            assert_eq!(stored.as_ptr() == bytes.as_ptr(), is_right, "nothing is copied without need");
            assert_eq!(stored[43..], bytes[43..]);
        }
    }
}

#[tokio::test]
async fn records_that_a_client_numbered_wrongly_are_stored_in_their_order() {
    for compression in [Compression::None, Compression::Lz4] {
        let rig = Rig::new();
        let bytes = batch(compression, &[(5, 1), (5, 2), (0, 3)], 3);
        let (part, stored) = sent(&rig, StreamSettings::default(), &bytes).await;
        assert!(matches!(part, Part::Staged { .. }));
        let stored = stored.unwrap();
        let (batch, _) = RecordBatch::first(&stored).unwrap();
        assert_eq!(batch.check_crc(), Ok(()));
        let payload = batch.payload(1 << 20).unwrap();
        let rows: Vec<_> = batch
            .records(&payload)
            .map(|record| record.unwrap())
            .map(|r| (r.offset_delta, r.timestamp))
            .collect();
        assert_eq!(rows, [(0, 1), (1, 2), (2, 3)]);
    }
}

/// The words of `LogValidator.processRecordErrors` and `validateTimestamp`.
#[tokio::test]
async fn a_time_out_of_range_is_refused_in_the_words_of_the_original() {
    let rig = Rig::new();
    let bytes = batch(Compression::None, &[(0, -1), (1, 9_000_000_000_000)], 9_000_000_000_000);
    let (part, stored) = sent(&rig, StreamSettings::default(), &bytes).await;
    assert!(stored.is_none());
    let response = part_response(0, &part, &Ok(Vec::new()));
    assert_eq!(response.error_code, ErrorCode::INVALID_TIMESTAMP);
    let text = |text: &Option<Str<'_>>| text.as_ref().map(|text| text.to_string()).unwrap_or_default();
    assert_eq!(
        text(&response.error_message),
        "One or more records have been rejected due to invalid timestamp"
    );
    let [error] = &response.record_errors[..] else { panic!("{:?}", response.record_errors) };
    assert_eq!(error.batch_index, 1);
    let message = text(&error.batch_index_error_message);
    let begins = "Timestamp 9000000000000 of message with offset 1 is out of range. \
                  The timestamp should be within [";
    assert!(message.starts_with(begins) && message.ends_with(']'), "{message}");
}
