use super::*;

fn header(name: &str, value: HeaderValue) -> Header {
    Header { name: name.to_owned(), value }
}

fn text(text: &str) -> HeaderValue {
    HeaderValue::Text(text.to_owned())
}

fn binary(bytes: &'static [u8]) -> HeaderValue {
    HeaderValue::Binary(Bytes::from_static(bytes))
}

fn room(values: Values) -> Room<'static> {
    Room {
        values,
        count_max: usize::MAX,
        takes: &|_, _| true,
        takes_body: match values {
            Values::Text => &|body| std::str::from_utf8(body).is_ok(),
            Values::Bytes => &|_| true,
        },
        has_time: values == Values::Bytes,
    }
}

/// Names and values as text; an absent value as `-`, one that is no text in hex.
fn shown(carried: &Carried) -> Vec<String> {
    let value = |value: &Option<Bytes>| match value {
        None => "-".to_owned(),
        Some(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => format!("{:02x?}", &bytes[..]),
        },
    };
    carried.headers.iter().map(|(name, bytes)| format!("{name}: {}", value(bytes))).collect()
}

fn with(headers: Vec<Header>) -> Record {
    Record { headers, ..Record::default() }
}

/// What a record is after it crossed and came back.
fn there_and_back(record: &Record, room: &Room<'_>) -> Record {
    let carried = carry(record, room);
    let body = carried.body.or_else(|| record.body.clone());
    let event_time_ms = record.event_time_ms.filter(|_| room.has_time);
    let mut back = Record { body, event_time_ms, key: record.key.clone(), ..Record::default() };
    restore(&mut back, carried.headers);
    back
}

fn every_type() -> Vec<(HeaderValue, &'static str, &'static str)> {
    let table = HeaderValue::Table(vec![header("a", HeaderValue::Int(1)), header("a", HeaderValue::Null)]);
    vec![
        (text("x"), "h: x", "h: x"),
        (text(""), "h: ", "h: "),
        (text("7"), "h: 7", "h: 7"),
        (text("true"), "h: true", "h: true"),
        (text("ümlaut"), "h: ümlaut", "h: ümlaut"),
        (HeaderValue::Null, r#"h: |wm-types: {"h":"null"}"#, "h: -"),
        (HeaderValue::Bool(true), r#"h: true|wm-types: {"h":"bool"}"#, ""),
        (HeaderValue::Bool(false), r#"h: false|wm-types: {"h":"bool"}"#, ""),
        (HeaderValue::Int(-5), r#"h: -5|wm-types: {"h":"int"}"#, ""),
        (HeaderValue::Int(i64::MIN), r#"h: -9223372036854775808|wm-types: {"h":"int"}"#, ""),
        (HeaderValue::Float(1.0), r#"h: 1|wm-types: {"h":"float"}"#, ""),
        (HeaderValue::Float(0.1), r#"h: 0.1|wm-types: {"h":"float"}"#, ""),
        (HeaderValue::Float(f64::INFINITY), r#"h: inf|wm-types: {"h":"float"}"#, ""),
        (HeaderValue::Time(1_700_000_000_000), r#"h: 1700000000000|wm-types: {"h":"time"}"#, ""),
        (binary(&[0xff, 0]), "h: /wA=|wm-b64: h", "h: [ff, 00]"),
        (binary(b"text"), "h: dGV4dA==|wm-b64: h", r#"h: text|wm-types: {"h":"binary"}"#),
        (binary(b""), "h: |wm-b64: h", r#"h: |wm-types: {"h":"binary"}"#),
        (
            HeaderValue::List(vec![HeaderValue::Int(1), text("a")]),
            r#"h: {"list":[1,"a"]}|wm-types: {"h":"list"}"#,
            "",
        ),
        (HeaderValue::List(Vec::new()), r#"h: {"list":[]}|wm-types: {"h":"list"}"#, ""),
        (table, r#"h: {"table":[["a",1],["a",null]]}|wm-types: {"h":"table"}"#, ""),
    ]
}

#[test]
fn every_type_of_value_crosses_as_text_or_bytes_and_comes_back() {
    for (value, as_text, as_bytes) in every_type() {
        let record = with(vec![header("h", value)]);
        // What is not said of bytes is as in text.
        let as_bytes = if as_bytes.is_empty() { as_text } else { as_bytes };
        for (values, expected) in [(Values::Text, as_text), (Values::Bytes, as_bytes)] {
            let carried = shown(&carry(&record, &room(values))).join("|");
            assert_eq!(carried, expected, "{values:?}");
            assert_eq!(there_and_back(&record, &room(values)), record, "{values:?}");
        }
    }
}

#[test]
fn every_type_of_value_finds_a_place_in_what_is_surplus() {
    for (value, ..) in every_type() {
        let record = with(vec![header("h", value)]);
        for values in [Values::Text, Values::Bytes] {
            let takes = |name: &str, _: Option<&[u8]>| name.starts_with(OWN_PREFIX);
            let room = Room { takes: &takes, ..room(values) };
            assert_eq!(carry(&record, &room).headers.len(), 1);
            assert_eq!(there_and_back(&record, &room), record, "{values:?}");
        }
    }
}

#[test]
fn order_and_repetition_are_kept_with_a_type_for_each() {
    let record = with(vec![
        header("a", HeaderValue::Int(1)),
        header("b", text("x")),
        header("a", text("1")),
        header("a", HeaderValue::Bool(true)),
        header("c", HeaderValue::Int(1)),
        header("c", HeaderValue::Int(2)),
    ]);
    let carried = carry(&record, &room(Values::Text));
    assert_eq!(shown(&carried).last().unwrap(), r#"wm-types: {"a":["int","text","bool"],"c":"int"}"#);
    assert_eq!(there_and_back(&record, &room(Values::Text)), record);
}

#[test]
fn properties_cross_under_their_names_and_go_back_into_their_places() {
    let record = Record {
        key: Some(Bytes::from_static(b"k")),
        content_type: Some("text/plain".into()),
        correlation_id: Some(Bytes::from_static(b"c")),
        message_id: Some("m".into()),
        reply_to: Some("r".into()),
        priority: Some(4),
        expiry_ms: Some(9),
        event_time_ms: Some(7),
        headers: vec![header("type", text("order.created")), header("app-id", text("shop"))],
        ..Record::default()
    };
    assert_eq!(
        shown(&carry(&record, &room(Values::Text))),
        [
            "type: order.created",
            "app-id: shop",
            "content-type: text/plain",
            "correlation-id: c",
            "message-id: m",
            "reply-to: r",
            "priority: 4",
            "expiration: 9",
            "timestamp: 7",
            r#"wm-types: {"expiration":"time","timestamp":"time"}"#,
        ]
    );
    for values in [Values::Text, Values::Bytes] {
        assert_eq!(there_and_back(&record, &room(values)), record, "{values:?}");
    }
    let names: Vec<String> =
        carry(&record, &room(Values::Text)).headers.into_iter().map(|(name, _)| name).collect();
    let known = |name: &String| PROPERTIES.contains(&name.as_str()) || name == TYPES;
    assert!(names.iter().all(known), "{names:?}");
}

#[test]
fn a_correlation_id_that_is_no_text_crosses_in_base64() {
    let record = Record { correlation_id: Some(Bytes::from_static(&[0xff])), ..Record::default() };
    assert_eq!(
        shown(&carry(&record, &room(Values::Text))),
        ["correlation-id: /w==", "wm-b64: correlation-id"]
    );
    for values in [Values::Text, Values::Bytes] {
        assert_eq!(there_and_back(&record, &room(values)), record);
    }
}

#[test]
fn a_body_that_is_no_text_crosses_in_base64_where_it_must() {
    for (body, is_encoded) in [(&b"text"[..], false), (b"", false), (&[0xff, 0xfe], true)] {
        let record = Record { body: Some(Bytes::from_static(body)), ..Record::default() };
        let carried = carry(&record, &room(Values::Text));
        assert_eq!(carried.body.is_some(), is_encoded);
        assert_eq!(shown(&carried), if is_encoded { vec!["wm-b64: body"] } else { vec![] });
        assert_eq!(there_and_back(&record, &room(Values::Text)), record);
        assert_eq!(carry(&record, &room(Values::Bytes)), Carried::default());
    }
}

#[test]
fn names_that_the_list_of_base64_cannot_have_are_surplus() {
    for name in ["a,b", "body", " a", "a "] {
        let record = with(vec![header(name, binary(&[0xff]))]);
        let carried = shown(&carry(&record, &room(Values::Text)));
        assert!(carried[0].starts_with("wm-headers: "), "{carried:?}");
        assert_eq!(there_and_back(&record, &room(Values::Text)), record, "{name:?}");
    }
}

#[test]
fn bytes_beside_text_of_the_same_name_are_told_apart() {
    let record = with(vec![header("a", text("dGV4dA==")), header("a", binary(b"text"))]);
    for values in [Values::Text, Values::Bytes] {
        assert_eq!(there_and_back(&record, &room(values)), record, "{values:?}");
    }
}

#[test]
fn what_there_is_no_room_for_is_surplus_from_the_end() {
    let record = with((0..12).map(|n| header(&format!("h{n}"), HeaderValue::Int(n))).collect());
    for count_max in [2, 3, 10, 13, 14] {
        let room = Room { count_max, ..room(Values::Text) };
        let carried = carry(&record, &room);
        assert!(carried.headers.len() <= count_max, "{count_max}: {:?}", shown(&carried));
        assert_eq!(there_and_back(&record, &room), record, "{count_max}");
    }
    let exact = carry(&record, &Room { count_max: 13, ..room(Values::Text) });
    assert_eq!(exact.headers.len(), 13, "12 and their types");
}

#[test]
fn what_finds_no_place_at_all_is_counted() {
    let record = with(vec![header("a", text("x")), header("b", text("y"))]);
    let before = lost();
    assert_eq!(carry(&record, &Room { count_max: 0, ..room(Values::Text) }), Carried::default());
    assert!(lost() >= before + 2);
}

#[test]
fn names_of_the_broker_s_own_neither_leave_nor_enter() {
    let record = with(vec![header("wm-secret", text("x")), header("a", text("y"))]);
    assert_eq!(shown(&carry(&record, &room(Values::Text))), ["a: y"]);
    let before = lost();
    check(&[("wm-secret", "x"), ("WM-other", "z"), ("a", "y")], &[("WM-other", text("z")), ("a", text("y"))]);
    assert!(lost() > before);
}

/// What headers as a client sent them are in a record.
#[track_caller]
fn check(sent: &[(&str, &str)], expected: &[(&str, HeaderValue)]) {
    let mut record = Record::default();
    let sent = sent
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Some(Bytes::copy_from_slice(value.as_bytes()))))
        .collect();
    restore(&mut record, sent);
    let expected: Vec<Header> = expected.iter().map(|(name, value)| header(name, value.clone())).collect();
    assert_eq!(record.headers, expected);
}

#[test]
fn hints_of_clients_are_applied_and_taken_out() {
    check(&[("a", "1"), ("wm-types", r#"{"a":"int"}"#)], &[("a", HeaderValue::Int(1))]);
    check(&[("wm-types", r#"{"a":"time"}"#), ("a", "1")], &[("a", HeaderValue::Time(1))]);
    check(&[("a", "1.5"), ("wm-types", r#"{"a":"float"}"#)], &[("a", HeaderValue::Float(1.5))]);
    check(&[("a", ""), ("wm-types", r#"{"a":"null"}"#)], &[("a", HeaderValue::Null)]);
    check(&[("a", "/w=="), ("wm-b64", "b, a")], &[("a", binary(&[0xff]))]);
    check(
        &[("wm-headers", r#"[["a",true],["b",{"time":3}]]"#)],
        &[("a", HeaderValue::Bool(true)), ("b", HeaderValue::Time(3))],
    );
}

#[test]
fn hints_that_do_not_fit_leave_the_text_as_it_is() {
    check(&[("a", "x"), ("wm-types", r#"{"a":"int"}"#)], &[("a", text("x"))]);
    check(&[("a", "yes"), ("wm-types", r#"{"a":"bool"}"#)], &[("a", text("yes"))]);
    check(&[("a", "x"), ("wm-types", r#"{"a":"null"}"#)], &[("a", text("x"))]);
    check(&[("a", "x"), ("wm-types", r#"{"a":"decimal"}"#)], &[("a", text("x"))]);
    check(&[("a", "x"), ("wm-types", r#"{"a":7}"#)], &[("a", text("x"))]);
    check(&[("a", "x"), ("wm-types", "[]")], &[("a", text("x"))]);
    check(&[("a", "x"), ("wm-types", "{")], &[("a", text("x"))]);
    check(&[("a", "no base64"), ("wm-b64", "a")], &[("a", text("no base64"))]);
    check(&[("a", "{}"), ("wm-types", r#"{"a":"list"}"#)], &[("a", text("{}"))]);
    check(&[("a", "x"), ("wm-headers", "{}")], &[("a", text("x"))]);
    check(&[("a", "x"), ("wm-headers", r#"[["b"],[1,2],"c",["d",[1]],["e",{"f":1}]]"#)], &[("a", text("x"))]);
    check(
        &[("a", "1"), ("a", "2"), ("wm-types", r#"{"a":["int"]}"#)],
        &[("a", HeaderValue::Int(1)), ("a", text("2"))],
    );
}

#[test]
fn surplus_cannot_bring_in_names_of_the_broker_s_own() {
    check(&[("wm-headers", r#"[["wm-types","{}"],["a","b"]]"#)], &[("a", text("b"))]);
}

#[test]
fn values_nested_too_deep_are_refused() {
    let nested = |depth: usize| format!(r#"[["a",{}1{}]]"#, r#"{"list":["#.repeat(depth), "]}".repeat(depth));
    let mut found = Vec::new();
    for depth in [14, 15, 16, 60] {
        let mut record = Record::default();
        restore(&mut record, vec![("wm-headers".into(), Some(nested(depth).into()))]);
        found.push(record.headers.len());
    }
    assert_eq!(found, [1, 1, 0, 0]);
}

#[test]
fn a_header_named_like_a_property_stays_a_header_where_it_does_not_fit() {
    for (name, value) in
        [("priority", "high"), ("priority", "256"), ("expiration", "60000"), ("timestamp", "1700000000")]
    {
        check(&[(name, value)], &[(name, text(value))]);
    }
    check(&[("content-type", "a"), ("content-type", "b")], &[("content-type", text("b"))]);
    check(
        &[("type", "t"), ("user-id", "u"), ("app-id", "a")],
        &[("type", text("t")), ("user-id", text("u")), ("app-id", text("a"))],
    );
}

#[test]
fn any_bytes_of_a_client_are_taken_without_harm() {
    // A fixed sequence of pseudo-random bytes (xorshift), as hints and as values.
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    const PIECES: [&str; 12] =
        ["{", "}", "[", "]", "\"a\"", ":", ",", "\"int\"", "null", "{\"list\":", "1e999", "\u{7f}"];
    for _ in 0..5_000 {
        let mut value = String::new();
        for _ in 0..next() % 12 {
            value.push_str(PIECES[usize::try_from(next() % 12).unwrap()]);
        }
        let name = [TYPES, BASE64, SURPLUS, "a", "wm-x"][usize::try_from(next() % 5).unwrap()];
        let mut record = Record { body: Some(Bytes::from_static(b"x")), ..Record::default() };
        let pair =
            |name: &str, value: &str| (name.to_owned(), Some(Bytes::copy_from_slice(value.as_bytes())));
        restore(&mut record, vec![pair(name, &value), pair("a", "1"), pair("b", "2")]);
        assert!(record.headers.iter().any(|header| header.name == "b"));
        assert!(record.headers.iter().all(|header| !header.name.starts_with(OWN_PREFIX)));
    }
}
