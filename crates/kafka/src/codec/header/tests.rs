use bytes::Bytes;

use super::*;
use crate::codec::api::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use crate::codec::api::fetch::{FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData};
use crate::codec::api::heartbeat::HeartbeatRequest;
use crate::codec::api::produce::ProduceRequest;
use crate::codec::{ErrorCode, Records, Uuid};

fn frame_of<'a, R: Request<'a>>(request: &R, version: i16) -> Bytes {
    encode_request(request, version, 77, Some("c")).into_bytes().slice(4..)
}

#[test]
fn a_request_header_is_read_in_both_forms() {
    for version in 0..=4 {
        let request = HeartbeatRequest { group_id: "g", member_id: "m", ..Default::default() };
        let frame = frame_of(&request, version);
        let (header, mut body) = RequestHeader::read(&frame).unwrap();
        assert_eq!(header.api.key, ApiKey::Heartbeat);
        assert_eq!(header.version, Version { number: version, flexible: version == 4 });
        assert_eq!((header.correlation_id, header.client_id), (77, Some("c")));
        assert_eq!(HeartbeatRequest::read(&mut body, header.version), Ok(request));
    }
}

#[test]
fn a_request_as_a_client_sends_it() {
    // ApiVersions 3, correlation 1, client "kcat", no tags; software "librdkafka" "2.15.0", no tags.
    let frame = b"\0\x12\0\x03\0\0\0\x01\0\x04kcat\0\x0blibrdkafka\x072.15.0\0";
    let (header, mut body) = RequestHeader::read(frame).unwrap();
    assert_eq!(header.client_id, Some("kcat"));
    let request = ApiVersionsRequest::read(&mut body, header.version).unwrap();
    assert_eq!((request.client_software_name, request.client_software_version), ("librdkafka", "2.15.0"));
    assert_eq!(body.finish(), Ok(()));
}

#[test]
fn unknown_tags_are_skipped() {
    let frame = b"\0\x12\0\x03\0\0\0\x01\xff\xff\x01\x05\x02hi\x02a\x02b\x02\x00\x00\x63\x03xyz";
    let (header, mut body) = RequestHeader::read(frame).unwrap();
    assert_eq!(header.client_id, None);
    assert!(ApiVersionsRequest::read(&mut body, header.version).is_ok());
    assert_eq!(body.finish(), Ok(()));
}

#[test]
fn only_an_unknown_version_of_api_versions_is_answered() {
    let header = |key: i16, version: i16| {
        let frame = [&key.to_be_bytes()[..], &version.to_be_bytes(), &[0, 0, 0, 5], b"anything"].concat();
        RequestHeader::read(&frame).map(|_| ()).unwrap_err()
    };
    assert_eq!(header(18, 5), HeaderError::ApiVersions { version: 5, correlation_id: 5 });
    assert_eq!(header(18, -1), HeaderError::ApiVersions { version: -1, correlation_id: 5 });
    assert_eq!(header(1, 19), HeaderError::Unserved { key: 1, version: 19 });
    assert_eq!(header(1, 3), HeaderError::Unserved { key: 1, version: 3 });
    assert_eq!(header(24, 0), HeaderError::Unserved { key: 24, version: 0 });
    assert_eq!(header(-1, 0), HeaderError::Unserved { key: -1, version: 0 });
    assert!(matches!(RequestHeader::read(b"\0\x12\0").err(), Some(HeaderError::Malformed(_))));
}

#[test]
fn produce_below_its_served_versions_is_still_read() {
    for version in 0..=2 {
        let frame = frame_of(&ProduceRequest { acks: -1, timeout_ms: 9, ..Default::default() }, version);
        let (header, mut body) = RequestHeader::read(&frame).unwrap();
        assert!(!header.api.serves(version));
        assert_eq!(ProduceRequest::read(&mut body, header.version).unwrap().acks, -1);
    }
}

#[test]
fn an_api_versions_answer_has_the_plain_header_in_every_version() {
    for version in 0..=4 {
        let response =
            ApiVersionsResponse { error_code: ErrorCode::UNSUPPORTED_VERSION, ..Default::default() };
        let frame = encode_response(ApiKey::ApiVersions, version, 5, &response).into_bytes();
        assert_eq!(frame[4..10], [0, 0, 0, 5, 0, 35]);
        let (correlation_id, read) = decode_response::<ApiVersionsRequest<'_>>(&frame[4..], version).unwrap();
        assert_eq!((correlation_id, read), (5, response));
    }
}

#[test]
fn a_fetch_answer_carries_large_records_by_reference_and_never_a_null() {
    let batch = Bytes::from(vec![3u8; 100_000]);
    for version in 4..=18 {
        let partition = |records| PartitionData { records, ..Default::default() };
        let response = FetchResponse {
            responses: vec![FetchableTopicResponse {
                topic: if version < 13 { "t".into() } else { Default::default() },
                topic_id: if version < 13 { Uuid::ZERO } else { Uuid([1; 16]) },
                partitions: vec![
                    partition(Records::Chunks(vec![batch.clone(), batch.clone()])),
                    partition(Records::default()),
                ],
            }],
            ..Default::default()
        };
        let writer = encode_response(ApiKey::Fetch, version, 1, &response);
        let len = writer.len();
        let chunks = writer.into_chunks();
        assert_eq!(chunks.iter().filter(|chunk| chunk.as_ptr() == batch.as_ptr()).count(), 2);
        let frame = chunks.concat();
        assert_eq!(frame[..4], u32::try_from(len - 4).unwrap().to_be_bytes());
        let (_, read) = decode_response::<FetchRequest<'_>>(&frame[4..], version).unwrap();
        assert_eq!(read, response);
        let empty: &[u8] = if version >= 12 { &[1] } else { &[0, 0, 0, 0] };
        let tail = if version >= 12 { frame.len() - 3 } else { frame.len() };
        assert_eq!(frame[tail - empty.len()..tail], *empty);
    }
}

#[test]
fn an_empty_compact_record_set_is_one_and_not_zero() {
    let mut writer = Writer::new();
    Records::default().write(&mut writer, Version { number: 12, flexible: true });
    Records::default().write(&mut writer, Version { number: 11, flexible: false });
    assert_eq!(writer.into_bytes(), [1, 0, 0, 0, 0][..]);
}
