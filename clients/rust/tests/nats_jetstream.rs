//! What async-nats sees of JetStream.

use std::time::{Duration, Instant};

use async_nats::jetstream::{self, AckKind, consumer, kv::Operation};
use clients::{PATIENCE, name, nats, shows};
use futures_util::{StreamExt, TryStreamExt};
use tokio::{
    io::AsyncReadExt,
    time::{sleep, timeout},
};

const CLIENT: &str = "async-nats";

/// A client of JetStream, and a stream of its own.
async fn stream() -> (jetstream::Context, jetstream::stream::Stream, String) {
    let js = jetstream::new(async_nats::connect(nats()).await.unwrap());
    let name = name("stream");
    let subjects = vec![format!("{name}.>")];
    let config = jetstream::stream::Config { name: name.clone(), subjects, ..Default::default() };
    let stream = js.create_stream(config).await.unwrap();
    (js, stream, name)
}

async fn put(js: &jetstream::Context, subject: &str, count: usize) {
    for n in 0..count {
        js.publish(subject.to_owned(), n.to_string().into()).await.unwrap().await.unwrap();
    }
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|n| n.to_string()).collect()
}

#[tokio::test]
async fn a_pull_consumer_works_a_stream_off() {
    let _shows =
        shows("NATS", CLIENT, "a durable pull consumer gets messages in order and acknowledges them");
    let (js, stream, name) = stream().await;
    put(&js, &format!("{name}.a"), 10).await;
    let config = consumer::pull::Config { durable_name: Some("worker".to_owned()), ..Default::default() };
    let mut worker = stream.create_consumer(config).await.unwrap();
    let mut fetched = worker.fetch().max_messages(4).messages().await.unwrap();
    let mut seen = Vec::new();
    while let Some(message) = fetched.next().await {
        let message = message.unwrap();
        seen.push(String::from_utf8(message.payload.to_vec()).unwrap());
        message.double_ack().await.unwrap();
    }
    let mut messages = worker.messages().await.unwrap();
    while seen.len() < 10 {
        let message = timeout(PATIENCE, messages.next()).await.unwrap().unwrap().unwrap();
        seen.push(String::from_utf8(message.payload.to_vec()).unwrap());
        message.double_ack().await.unwrap();
    }
    assert_eq!(seen, numbers(10));
    let info = worker.info().await.unwrap();
    assert_eq!((info.num_ack_pending, info.ack_floor.stream_sequence, info.num_pending), (0, 10, 0));
}

#[tokio::test]
async fn a_refused_message_comes_again() {
    let _shows = shows("NATS", CLIENT, "a message that was refused comes again");
    let (js, stream, name) = stream().await;
    put(&js, &format!("{name}.a"), 1).await;
    let config = consumer::pull::Config { durable_name: Some("worker".to_owned()), ..Default::default() };
    let mut messages = stream.create_consumer(config).await.unwrap().messages().await.unwrap();
    let first = timeout(PATIENCE, messages.next()).await.unwrap().unwrap().unwrap();
    first.ack_with(AckKind::Nak(Some(Duration::from_millis(100)))).await.unwrap();
    let again = timeout(PATIENCE, messages.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(again.info().unwrap().delivered, 2);
    again.ack_with(AckKind::Term).await.unwrap();
}

#[tokio::test]
async fn ordered_consumers_read_everything() {
    let _shows = shows("NATS", CLIENT, "an ordered consumer reads everything");
    let (js, stream, name) = stream().await;
    put(&js, &format!("{name}.a"), 100).await;
    let config = consumer::pull::OrderedConfig::default();
    let messages = stream.create_consumer(config).await.unwrap().messages().await.unwrap();
    let seen: Vec<_> = timeout(PATIENCE, messages.take(100).try_collect()).await.unwrap().unwrap();
    let texts: Vec<String> = seen
        .iter()
        .map(|message: &jetstream::Message| String::from_utf8(message.payload.to_vec()).unwrap())
        .collect();
    assert_eq!(texts, numbers(100));
}

#[tokio::test]
async fn a_bucket_keeps_values_and_tells_of_changes() {
    let _shows = shows("NATS", CLIENT, "a key-value bucket keeps values, their history and revisions");
    let (js, _, _) = stream().await;
    let config = jetstream::kv::Config { bucket: name("bucket"), history: 5, ..Default::default() };
    let kv = js.create_key_value(config).await.unwrap();
    let first = kv.create("name", "derek".into()).await.unwrap();
    assert!(kv.create("name", "again".into()).await.is_err());
    let second = kv.update("name", "rip".into(), first).await.unwrap();
    assert!(kv.update("name", "old".into(), first).await.is_err());
    let entry = kv.entry("name").await.unwrap().unwrap();
    assert_eq!((&entry.value[..], entry.revision), (&b"rip"[..], second));
    let history: Vec<_> = kv.history("name").await.unwrap().try_collect().await.unwrap();
    assert_eq!(history.len(), 2);
    let mut watch = kv.watch_with_history("*").await.unwrap();
    let present = timeout(PATIENCE, watch.next()).await.unwrap().unwrap().unwrap();
    assert_eq!((present.key.as_str(), present.operation), ("name", Operation::Put));
    kv.delete("name").await.unwrap();
    let change = timeout(PATIENCE, watch.next()).await.unwrap().unwrap().unwrap();
    assert_eq!((change.key.as_str(), change.operation), ("name", Operation::Delete));
}

#[tokio::test]
async fn objects_come_back_as_they_were() {
    let _shows = shows("NATS", CLIENT, "an object store keeps objects in chunks");
    let (js, _, _) = stream().await;
    let config = jetstream::object_store::Config { bucket: name("objects"), ..Default::default() };
    let store = js.create_object_store(config).await.unwrap();
    let body: Vec<u8> = (0..400_000_u32).map(|at| (at * 31 % 256) as u8).collect();
    let info = store.put("big", &mut &body[..]).await.unwrap();
    assert_eq!(info.chunks, 4);
    let mut got = Vec::new();
    store.get("big").await.unwrap().read_to_end(&mut got).await.unwrap();
    assert!(got == body);
    store.delete("big").await.unwrap();
    assert!(store.get("big").await.is_err());
}

#[tokio::test]
async fn values_of_a_bucket_with_a_ttl_are_gone_when_it_is_over() {
    let _shows = shows("NATS", CLIENT, "values of a bucket with a TTL are gone when it is over");
    let (js, _, _) = stream().await;
    let ttl = Duration::from_millis(1_500);
    let config = jetstream::kv::Config { bucket: name("bucket"), max_age: ttl, ..Default::default() };
    let kv = js.create_key_value(config).await.unwrap();
    let began = Instant::now();
    kv.put("session", "open".into()).await.unwrap();
    assert!(kv.get("session").await.unwrap().is_some() || began.elapsed() >= ttl);
    let gone = async {
        while kv.get("session").await.unwrap().is_some() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, gone).await.expect("it is gone");
    assert!(began.elapsed() >= ttl);
    kv.create("session", "open again".into()).await.unwrap();
}

#[tokio::test]
async fn a_key_with_a_ttl_of_its_own_is_gone_when_it_is_over() {
    let _shows = shows(
        "NATS",
        CLIENT,
        "a key with a TTL of its own is gone when it is over, and a watcher is told by a marker",
    );
    let (js, _, _) = stream().await;
    let markers = Some(Duration::from_secs(60));
    let config =
        jetstream::kv::Config { bucket: name("bucket"), limit_markers: markers, ..Default::default() };
    let kv = js.create_key_value(config).await.unwrap();
    let mut watch = kv.watch_all().await.unwrap();
    kv.create_with_ttl("short", "1".into(), Duration::from_secs(1)).await.unwrap();
    kv.create("long", "2".into()).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let entry = timeout(PATIENCE, watch.next()).await.expect("a change in time").unwrap().unwrap();
        seen.push((entry.key, entry.operation));
    }
    let expected = [("short", Operation::Put), ("long", Operation::Put), ("short", Operation::Purge)];
    assert_eq!(seen, expected.map(|(key, operation)| (key.to_owned(), operation)));
    assert!(kv.get("short").await.unwrap().is_none());
    assert!(kv.get("long").await.unwrap().is_some());
}

#[tokio::test]
async fn a_watcher_of_objects_is_told_of_changes() {
    let _shows =
        shows("NATS", CLIENT, "a watcher of an object store sees the present objects, then every change");
    let (js, _, _) = stream().await;
    let config = jetstream::object_store::Config { bucket: name("objects"), ..Default::default() };
    let store = js.create_object_store(config).await.unwrap();
    store.put("a", &mut &b"1"[..]).await.unwrap();
    let mut watch = store.watch_with_history().await.unwrap();
    let mut seen = Vec::new();
    let mut next = async || {
        let info = timeout(PATIENCE, watch.next()).await.expect("a change in time").unwrap().unwrap();
        seen.push((info.name, info.size, info.deleted));
    };
    next().await;
    store.put("a", &mut &b"22"[..]).await.unwrap();
    store.put("b", &mut &b"333"[..]).await.unwrap();
    store.delete("a").await.unwrap();
    for _ in 0..3 {
        next().await;
    }
    let expected = [("a", 1, false), ("a", 2, false), ("b", 3, false), ("a", 0, true)];
    assert_eq!(seen, expected.map(|(name, size, deleted)| (name.to_owned(), size, deleted)));
}
