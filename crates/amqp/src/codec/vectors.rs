//! Bytes as pika 1.3 sends them, and what they mean.

use super::{
    ContentHeader, Frame, FrameKind, Key, Method, Value, next_frame, put_method, table::TableWriter,
};

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

fn frame(bytes: &[u8]) -> Frame {
    let frame = next_frame(bytes, 131_072).unwrap().unwrap();
    assert_eq!(frame.len, bytes.len());
    frame
}

/// The bytes are that method on that channel, and it is written as those bytes.
#[track_caller]
fn check(hex: &str, channel: u16, expected: Method<'_>) {
    let bytes = bytes(hex);
    let found = frame(&bytes);
    assert_eq!((found.kind, found.channel), (FrameKind::Method, channel));
    assert_eq!(Method::read(&bytes[found.payload]), Ok(expected));
    let mut out = Vec::new();
    put_method(&mut out, channel, expected);
    assert_eq!(out, bytes);
}

#[test]
fn declarations_carry_their_bits_and_arguments() {
    let mut arguments = TableWriter::default();
    arguments.field("x-message-ttl", Value::I32(30_000)).field("x-dead-letter-exchange", Value::Text(b"dlx"));
    let arguments = arguments.finish();
    check(
        "010001000000440032000a0000066f72646572730a000000320d782d6d6573736167652d74746c490000753016782d646561 \
         642d6c65747465722d65786368616e67655300000003646c78ce",
        1,
        Method::QueueDeclare {
            ticket: 0,
            queue: "orders",
            passive: false,
            durable: true,
            exclusive: false,
            auto_delete: true,
            nowait: false,
            arguments: super::table_of(&arguments),
        },
    );
}

#[test]
fn the_hot_methods() {
    check(
        "0100020000001f003c00280000066576656e7473106f726465722e637265617465642e757301ce",
        2,
        Method::BasicPublish {
            ticket: 0,
            exchange: "events",
            routing_key: Key(b"order.created.us"),
            mandatory: true,
            immediate: false,
        },
    );
    check(
        "0100010000000d003c0078000000000000006301ce",
        1,
        Method::BasicNack { delivery_tag: 99, multiple: true, requeue: false },
    );
    check(
        "0100000000000c000a001f07ff00020000003cce",
        0,
        Method::ConnectionTuneOk { channel_max: 2_047, frame_max: 131_072, heartbeat: 60 },
    );
    let mut arguments = TableWriter::default();
    arguments.field("x-priority", Value::I32(10));
    let arguments = arguments.finish();
    check(
        "0100010000001f003c001400000171017406000000100a782d7072696f72697479490000000ace",
        1,
        Method::BasicConsume {
            ticket: 0,
            queue: "q",
            consumer_tag: "t",
            no_local: false,
            no_ack: true,
            exclusive: true,
            nowait: false,
            arguments: super::table_of(&arguments),
        },
    );
}

#[test]
fn a_header_with_every_property_and_many_types() {
    let bytes = bytes(
        "0200030000009e003c00000000000000000005fffc0a746578742f706c61696e04677a69700000005c016149000000010162 \
         530000000474657874016374010164560165410000000d4900000001530000000374776f0166460000000b01676c00000100 \
         000000000168540000000065920080016944020000013a016a78000000037261770209016301720431303030016d00000000 \
         6553f100017401750361707002636cce",
    );
    let found = frame(&bytes);
    assert_eq!(found.kind, FrameKind::Header);
    let header = ContentHeader::read(&bytes[found.payload]).unwrap();
    assert_eq!(header.body_len, 5);
    let properties = header.properties;
    assert_eq!(properties.content_type, Some(&b"text/plain"[..]));
    assert_eq!(properties.content_encoding, Some(&b"gzip"[..]));
    assert_eq!((properties.delivery_mode, properties.priority), (Some(2), Some(9)));
    assert_eq!((properties.correlation_id, properties.reply_to), (Some(&b"c"[..]), Some(&b"r"[..])));
    assert_eq!((properties.expiration, properties.message_id), (Some(&b"1000"[..]), Some(&b"m"[..])));
    assert_eq!((properties.timestamp, properties.kind), (Some(1_700_000_000), Some(&b"t"[..])));
    assert_eq!((properties.user_id, properties.app_id), (Some(&b"u"[..]), Some(&b"app"[..])));
    assert_eq!(properties.cluster_id, Some(&b"cl"[..]));
    let headers = properties.headers.unwrap();
    for (name, expected) in [
        ("a", Value::I32(1)),
        ("b", Value::Text(b"text")),
        ("c", Value::Bool(true)),
        ("d", Value::Void),
        ("h", Value::Time(1_704_067_200)),
        ("i", Value::Decimal(2, 314)),
        ("j", Value::Bytes(b"raw")),
    ] {
        assert_eq!(headers.get(name), Some(expected), "{name}");
    }
    let Some(Value::Array(list)) = headers.get("e") else { panic!("e is no array") };
    assert_eq!(list.values().collect::<Vec<_>>(), [Value::I32(1), Value::Text(b"two")]);
    let Some(Value::Table(inner)) = headers.get("f") else { panic!("f is no table") };
    assert_eq!(inner.get("g"), Some(Value::I64(1 << 40)));
    let mut written = Vec::new();
    properties.write(&mut written);
    assert_eq!(written, header.raw);
}
