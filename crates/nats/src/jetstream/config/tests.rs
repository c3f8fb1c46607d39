use super::*;

fn refused(json: &str) -> (u16, String) {
    let error = StreamConfig::parse(json.as_bytes()).and_then(|config| config.checked(false)).unwrap_err();
    (error.err_code, error.description)
}

#[test]
fn a_minimal_configuration_gets_the_originals_defaults() {
    let config = StreamConfig::parse(br#"{"name":"S","subjects":["a.*"]}"#).unwrap().checked(false).unwrap();
    let expected = concat!(
        r#"{"name":"S","subjects":["a.*"],"retention":"limits","max_consumers":-1,"max_msgs":-1,"#,
        r#""max_bytes":-1,"max_age":0,"max_msgs_per_subject":-1,"max_msg_size":-1,"discard":"old","#,
        r#""storage":"file","num_replicas":1,"duplicate_window":120000000000,"compression":"none","#,
        r#""allow_direct":false,"mirror_direct":false,"sealed":false,"deny_delete":false,"#,
        r#""deny_purge":false,"allow_rollup_hdrs":false,"consumer_limits":{},"allow_msg_ttl":false}"#
    );
    assert_eq!(serde_json::to_string(&config).unwrap(), expected);
    assert_eq!(StreamConfig::of(&config.settings(7)), Some(config.clone()));
    assert_eq!(created_ms(&config.settings(7)), 7);
}

#[test]
fn what_is_wrong_is_said_in_the_originals_words() {
    for (json, err_code, text) in [
        (r#"{"name":"T","subjectz":[]}"#, 10_025, "invalid JSON: json: unknown field \"subjectz\""),
        ("{", 10_025, "invalid JSON: unexpected EOF"),
        (r#"{"name":"T","subjects":["q..a"]}"#, 10_052, "invalid subject"),
        (
            r#"{"name":"T","subjects":["$JS.API.>"]}"#,
            10_052,
            "subjects that overlap with jetstream api require no-ack to be true",
        ),
        (r#"{"name":"T","subjects":[">"]}"#, 10_052, "capturing all subjects requires no-ack to be true"),
        (r#"{"name":"T","subjects":["q.*","q.a"]}"#, 10_052, "subject \"q.*\" overlaps with \"q.a\""),
        (r#"{"name":"T","num_replicas":3}"#, 10_074, "replicas > 1 not supported in non-clustered mode"),
        (r#"{"name":"T","max_age":5}"#, 10_052, "max age needs to be >= 100ms"),
        (r#"{"name":"T","duplicate_window":5}"#, 10_052, "duplicates window needs to be >= 100ms"),
        (
            r#"{"name":"T","max_age":1000000000,"duplicate_window":2000000000}"#,
            10_052,
            "duplicates window can not be larger then max age",
        ),
        (
            r#"{"name":"T","discard_new_per_subject":true}"#,
            10_052,
            "discard new per subject requires discard new policy to be set",
        ),
    ] {
        assert_eq!(refused(json), (err_code, text.to_owned()), "{json}");
    }
    assert_eq!(refused(r#"{"name":"a.b"}"#).0, 10_052);
    assert_eq!(refused(r#"{"name":"T","retention":"other"}"#).0, 10_025);
}

#[test]
fn patterns_overlap_when_one_subject_matches_both() {
    for (one, other, expected) in [
        ("a.*", "a.b", true),
        ("a.*", "*.b", true),
        ("a.>", "a", false),
        ("a.>", "a.b.c", true),
        ("a.b", "a.c", false),
        ("a.*", "a.*.c", false),
        (">", "a", true),
    ] {
        let pattern = |text: &str| subject::pattern(text.as_bytes()).unwrap();
        assert_eq!(overlap(&pattern(one), &pattern(other)), expected, "{one} {other}");
        assert_eq!(overlap(&pattern(other), &pattern(one)), expected, "{other} {one}");
    }
}
