use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use model::{Error, Namespace, Record, Result};
use parking_lot::Mutex;

use super::tests::{bodies, keyed, publish, route};
use crate::{
    NewBatch, Outcome, PublishUnit, StreamSettings,
    routing::{
        Address, Addresses, Entered, Entering, Entrance, HOPS_MAX, Laying, Reached, RouteCache, Template,
    },
    testing::{Rig, batch, batch_of, wait},
};

/// A dialect whose addresses are bound to streams by their first token, and some of which are listened to.
#[derive(Default)]
struct Fake {
    bound: Mutex<BTreeMap<String, Arc<crate::Stream>>>,
    listened: Mutex<Vec<String>>,
    heard: Mutex<Vec<(String, String)>>,
}

impl Addresses for Fake {
    fn check(&self, _: &Namespace, _: Option<&str>, template: &str) -> Result<()> {
        if template.contains(' ') { Err(Error::invalid("no blanks")) } else { Ok(()) }
    }

    fn enter(&self, entering: &Entering<'_>) -> Result<Option<Entered>> {
        let name = text(&entering.address.name);
        if name.contains(' ') {
            return Ok(None);
        }
        let first = name.split('.').next().unwrap().to_owned();
        let streams = self.bound.lock().get(&first).map(|stream| (stream.clone(), Bytes::from(name)));
        let is_live = self.listened.lock().contains(&first);
        Ok(Some(Entered { streams: streams.into_iter().collect(), is_live, ..Entered::default() }))
    }

    fn lay(&self, _: &Laying<'_>) -> Result<Option<NewBatch>> {
        Ok(None)
    }

    fn serve(&self, _: &Namespace, records: &[(Bytes, Record)]) {
        let heard = records.iter().map(|(name, record)| (text(name), text(record.body.as_ref().unwrap())));
        self.heard.lock().extend(heard);
    }

    fn explain(&self, _: &Address) -> Result<Vec<Reached>> {
        Ok(Vec::new())
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A rig with the log `in`, and a dialect `b` that routes lead to.
fn rig() -> (Rig, Arc<Fake>) {
    let rig = Rig::new();
    rig.log("in", 1);
    let fake = Arc::new(Fake::default());
    rig.broker.register_addresses("b", fake.clone());
    (rig, fake)
}

fn to_address(rig: &Rig, from: &str, name: &str) {
    let entrance = Entrance {
        namespace: Namespace::default(),
        dialect: "b".into(),
        scope: None,
        name: Template::for_address(name).unwrap(),
    };
    wait(rig.broker.add_route(&Namespace::default(), from, super::super::Target::Address(entrance), None))
        .unwrap();
}

impl Fake {
    fn bind(&self, rig: &Rig, first: &str, stream: &str, partitions: u32) {
        let settings = StreamSettings { index_route_keys: true, ..StreamSettings::default() };
        let stream = rig.log_with(stream, partitions, settings);
        self.bound.lock().insert(first.into(), stream);
    }

    fn heard(&self) -> Vec<(String, String)> {
        std::mem::take(&mut self.heard.lock())
    }
}

fn heard(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, body)| ((*name).to_owned(), (*body).to_owned())).collect()
}

#[test]
fn records_enter_at_the_address_that_their_key_makes_and_are_stored_under_it() {
    let (mut rig, fake) = rig();
    fake.bind(&rig, "orders", "stored", 1);
    to_address(&rig, "a:in", "orders.{key}");
    publish(&rig, "in", batch_of(&[keyed(Some("eu"), "1"), keyed(Some("us"), "2"), keyed(None, "3")]));
    rig.reopen();
    let partition = rig.partition("stored", 0);
    let keys: Vec<_> = partition
        .route_keys(&crate::routing::Pattern::parse(b">", crate::routing::Syntax::ALL).unwrap(), 0, 10)
        .into_iter()
        .map(|view| text(&view.key))
        .collect();
    assert_eq!(bodies(&rig, "stored", 0), ["1", "2"]);
    assert_eq!(keys, ["orders.eu", "orders.us"]);
    assert_eq!(bodies(&rig, "in", 0), ["1", "2", "3"]);
}

#[test]
fn who_listens_is_served_when_the_publish_is_staged_and_not_for_a_duplicate() {
    let (rig, fake) = rig();
    fake.listened.lock().push("live".into());
    to_address(&rig, "a:in", "live.{address}");
    publish(&rig, "in", batch(&["x", "y"]));
    assert_eq!(fake.heard(), heard(&[("live.in", "x"), ("live.in", "y")]));
    let numbered = || NewBatch {
        producer: Some(model::ProducerStamp { id: 4, epoch: 0, first_sequence: 0 }),
        ..batch(&["once"])
    };
    publish(&rig, "in", numbered());
    assert!(matches!(publish(&rig, "in", numbered()).outcomes[..], [Outcome::Duplicate { .. }]));
    assert_eq!(fake.heard(), heard(&[("live.in", "once")]));
}

#[test]
fn a_refused_publish_serves_nobody() {
    let (rig, fake) = rig();
    fake.listened.lock().push("live".into());
    to_address(&rig, "a:in", "live");
    let gap = NewBatch {
        producer: Some(model::ProducerStamp { id: 4, epoch: 0, first_sequence: 7 }),
        ..batch(&["x"])
    };
    publish(
        &rig,
        "in",
        NewBatch {
            producer: Some(model::ProducerStamp { id: 4, epoch: 0, first_sequence: 0 }),
            ..batch(&["x"])
        },
    );
    fake.heard();
    assert!(matches!(publish(&rig, "in", gap).outcomes[..], [Outcome::Refused(_)]));
    assert!(fake.heard().is_empty());
}

#[test]
fn routes_lead_on_from_addresses_and_a_circle_ends() {
    let (rig, fake) = rig();
    rig.log("archive", 1);
    fake.listened.lock().extend(["one".to_owned(), "two".to_owned()]);
    to_address(&rig, "a:in", "one.x");
    to_address(&rig, "b:one.*", "two.{token.2}");
    to_address(&rig, "b:two.*", "one.{token.2}");
    route(&rig, "b:two.>", "archive", Some("{token.2}"));
    publish(&rig, "in", batch(&["m"]));
    assert_eq!(fake.heard(), heard(&[("one.x", "m"), ("two.x", "m")]));
    assert_eq!(bodies(&rig, "archive", 0), ["m"]);
}

#[test]
fn nothing_enters_again_where_it_was_published() {
    let (rig, fake) = rig();
    fake.listened.lock().push("one".into());
    to_address(&rig, "b:one", "two");
    to_address(&rig, "b:two", "one");
    let targets = rig.broker.routed(&Namespace::default(), "b", "one");
    let onward = rig.broker.onward(&targets, &batch(&["m"]), &[]).unwrap();
    assert!(onward.live.is_empty());
}

#[test]
fn a_chain_of_routes_is_followed_for_as_many_hops_as_are_allowed() {
    let (rig, fake) = rig();
    fake.listened.lock().push("hop".into());
    to_address(&rig, "a:in", "hop.1");
    // Each makes the address longer: never the same twice.
    to_address(&rig, "b:hop.#", "{address}.1");
    publish(&rig, "in", batch(&["m"]));
    assert_eq!(fake.heard().len(), HOPS_MAX);
}

#[test]
fn a_stream_that_two_ways_lead_to_has_each_record_once() {
    let (rig, fake) = rig();
    fake.bind(&rig, "one", "stored", 1);
    to_address(&rig, "a:in", "one.{key}");
    to_address(&rig, "a:*", "one.more");
    route(&rig, "b:one.>", "stored", None);
    publish(&rig, "in", batch_of(&[keyed(Some("k"), "1"), keyed(None, "2")]));
    assert_eq!(bodies(&rig, "stored", 0), ["1", "2"]);
}

#[test]
fn an_address_that_cannot_be_made_is_counted_and_the_rest_goes_on() {
    let (rig, fake) = rig();
    fake.listened.lock().push("live".into());
    to_address(&rig, "a:in", "live.{key}");
    publish(&rig, "in", batch_of(&[keyed(Some("a b"), "1"), keyed(None, "2"), keyed(Some("c"), "3")]));
    assert_eq!(fake.heard(), heard(&[("live.c", "3")]));
    assert_eq!(rig.broker.counters().unroutable_records, 2);
}

#[test]
fn a_route_to_an_address_is_checked_by_its_dialect_and_lasts() {
    let (mut rig, _fake) = rig();
    let add = |rig: &Rig, dialect: &str, name: &str| {
        let entrance = Entrance {
            namespace: Namespace::default(),
            dialect: dialect.into(),
            scope: None,
            name: Template::for_address(name).unwrap(),
        };
        let target = super::super::Target::Address(entrance);
        wait(rig.broker.add_route(&Namespace::default(), "a:x.*", target, None)).err().map(|e| e.kind())
    };
    use model::ErrorKind::{Exists, Invalid};
    assert_eq!(add(&rig, "c", "x"), Some(Invalid));
    assert_eq!(add(&rig, "b", "no blanks"), Some(Invalid));
    assert_eq!(add(&rig, "b", "{token.3}"), Some(Invalid));
    assert_eq!(add(&rig, "b", "{token.2}"), None);
    assert_eq!(add(&rig, "b", "{token.2}"), Some(Exists));
    rig.reopen();
    // Until its dialect is there again it leads nowhere.
    let targets = RouteCache::default().of(&rig.broker, &Namespace::default(), "a", b"x.y").unwrap();
    let onward = rig.broker.onward(&targets, &batch(&["m"]), &[]).unwrap();
    assert!(onward.appends.is_empty() && onward.live.is_empty());
}

#[test]
fn copies_without_a_publish_of_their_own_are_appends_of_their_own() {
    let (rig, fake) = rig();
    fake.bind(&rig, "one", "stored", 1);
    fake.listened.lock().push("one".into());
    to_address(&rig, "b:first", "one.x");
    let targets = rig.broker.routed(&Namespace::default(), "b", "first");
    let mut unit = PublishUnit::default();
    rig.broker.onward(&targets, &batch(&["m"]), &[]).unwrap().join(&mut unit);
    let published = rig.broker.publish(unit).unwrap();
    wait(rig.broker.durable(published.wait)).unwrap();
    assert!(matches!(published.outcomes[..], [Outcome::Appended { .. }]));
    assert_eq!((bodies(&rig, "stored", 0), fake.heard()), (vec!["m".to_owned()], heard(&[("one.x", "m")])));
}
