use std::sync::Arc;

use bytes::Bytes;
use model::{Attributes, Offset, RecordAttributes, Result};

use crate::{
    Append, Letter, LetterReason, NewBatch, Retention, SUCCESSORS, StreamSettings, Successors,
    testing::{Rig, batch, wait},
};

/// Leaves `late` in place of whatever expires, but of `late` itself.
struct Late;

impl Successors for Late {
    fn successor(&self, letter: &Letter<'_>, route_key: &[u8], _: i64) -> Result<Option<NewBatch>> {
        assert_eq!(letter.reason, LetterReason::Expired);
        let is_late = letter.batch.body == batch(&["late"]).body;
        Ok((!is_late).then(|| record(std::str::from_utf8(route_key).unwrap(), "late", None)))
    }
}

fn record(key: &str, body: &str, expiry_ms: Option<i64>) -> NewBatch {
    let row = RecordAttributes {
        route_key: Some(Bytes::copy_from_slice(key.as_bytes())),
        expiry_ms,
        ..RecordAttributes::default()
    };
    NewBatch { attributes: Attributes::Same(Box::new(row)), ..batch(&[body]) }
}

fn rig(with_successors: bool) -> Rig {
    let rig = Rig::new();
    let mut settings = StreamSettings {
        index_route_keys: true,
        expires_records: true,
        retention: Retention { time_ms: Some(1_000), ..Retention::default() },
        ..StreamSettings::default()
    };
    if with_successors {
        settings.extras.insert(SUCCESSORS.to_owned(), "test".to_owned());
    }
    rig.log_with("kv", 1, settings);
    rig.broker.register_successors("test", Arc::new(Late));
    rig
}

fn put(rig: &Rig, key: &str, body: &str, expiry_ms: Option<i64>) {
    rig.publish(Append::new(&rig.partition("kv", 0), record(key, body, expiry_ms)));
}

/// Offsets and bodies after a look at what is too old.
fn left(rig: &Rig) -> Vec<(u64, String)> {
    rig.broker.retain(&rig.stream("kv"));
    let partition = rig.partition("kv", 0);
    wait(rig.broker.durable(rig.broker.catalog_staged())).unwrap();
    rig.publish(Append::new(&partition, record("end", "end", None)));
    let mut all = rig.read(&partition, partition.bounds().start.0).unwrap();
    all.retain(|(_, body)| body != "end");
    all
}

#[test]
fn the_last_record_of_a_key_that_is_too_old_leaves_its_successor_and_that_nothing() {
    let mut rig = rig(true);
    for (key, body) in [("a", "1"), ("a", "2"), ("b", "3")] {
        put(&rig, key, body, None);
    }
    rig.advance(600);
    put(&rig, "b", "4", None);
    rig.advance(600);
    assert_eq!(left(&rig), [(3, "4".into()), (4, "late".into())], "b has a newer one");
    rig.reopen();
    rig.broker.register_successors("test", Arc::new(Late));
    rig.advance(5_000);
    let all: Vec<_> = left(&rig).into_iter().map(|(_, body)| body).collect();
    assert_eq!(all, ["late", "late"], "of b, and of the end; that of a is gone");
}

#[test]
fn records_that_stay_for_ever_outlast_the_age_limit_and_a_restart_but_not_their_deletion() {
    let mut rig = rig(false);
    for (body, expiry_ms) in [("1", None), ("2", Some(i64::MAX)), ("3", None), ("4", Some(i64::MAX))] {
        put(&rig, "a", body, expiry_ms);
    }
    rig.advance(2_000);
    let expected = [(1, "2".to_owned()), (3, "4".to_owned())];
    assert_eq!(left(&rig), expected);
    assert_eq!(rig.partition("kv", 0).bounds().start, Offset(1));
    rig.reopen();
    rig.advance(2_000);
    assert_eq!(left(&rig), expected);
    let gone = [crate::Span::one(Offset(1))].into_iter().collect();
    rig.broker.drop_records(&rig.partition("kv", 0), &gone).unwrap();
    rig.advance(2_000);
    assert_eq!(left(&rig), [(3, "4".to_owned())]);
    assert_eq!(rig.partition("kv", 0).bounds().start, Offset(3));
}
