//! What async-nats sees of core NATS.

use async_nats::{Client, ConnectOptions, HeaderMap, RequestErrorKind};
use clients::{PATIENCE, name, nats, shows};
use futures_util::StreamExt;
use tokio::time::timeout;

const CLIENT: &str = "async-nats";

async fn client() -> Client {
    async_nats::connect(nats()).await.unwrap()
}

/// Waits until the server has handled all that `client` sent: `flush` only hands it to the socket.
async fn handled(client: &Client) {
    let refused = client.request(name("nobody"), "".into()).await.unwrap_err();
    assert_eq!(refused.kind(), RequestErrorKind::NoResponders);
}

/// The next `count` messages as text.
async fn take(subscriber: &mut async_nats::Subscriber, count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    while texts.len() < count {
        let message = timeout(PATIENCE, subscriber.next()).await.expect("a message in time").unwrap();
        texts.push(String::from_utf8(message.payload.to_vec()).unwrap());
    }
    texts
}

#[tokio::test]
async fn a_publish_reaches_every_subscription_that_matches() {
    let _shows = shows("NATS", CLIENT, "a publish reaches every subscription that matches, with wildcards");
    let (client, root) = (client().await, name("wild"));
    let mut one = client.subscribe(format!("{root}.*")).await.unwrap();
    let mut rest = client.subscribe(format!("{root}.>")).await.unwrap();
    for (subject, text) in [("a", "1"), ("a.b", "2"), ("c", "3")] {
        client.publish(format!("{root}.{subject}"), text.into()).await.unwrap();
    }
    assert_eq!(take(&mut one, 2).await, ["1", "3"]);
    assert_eq!(take(&mut rest, 3).await, ["1", "2", "3"]);
}

#[tokio::test]
async fn messages_of_a_publisher_come_in_order_with_their_headers() {
    let _shows = shows("NATS", CLIENT, "messages of one publisher arrive in order");
    let (publisher, subscriber, subject) = (client().await, client().await, name("order"));
    let mut subscription = subscriber.subscribe(subject.clone()).await.unwrap();
    handled(&subscriber).await;
    let mut headers = HeaderMap::new();
    headers.append("trace", "7");
    headers.append("trace", "8");
    publisher.publish_with_headers(subject.clone(), headers.clone(), "0".into()).await.unwrap();
    for n in 1..20_000 {
        publisher.publish(subject.clone(), n.to_string().into()).await.unwrap();
    }
    let first = timeout(PATIENCE, subscription.next()).await.unwrap().unwrap();
    assert_eq!(first.headers, Some(headers));
    let expected: Vec<String> = (1..20_000).map(|n| n.to_string()).collect();
    assert_eq!(take(&mut subscription, 19_999).await, expected);
}

#[tokio::test]
async fn a_queue_group_shares_the_messages() {
    let _shows = shows("NATS", CLIENT, "a queue group gives each message to one of its members");
    let (client, subject) = (client().await, name("orders"));
    let mut members = Vec::new();
    for _ in 0..3 {
        members.push(client.queue_subscribe(subject.clone(), "processors".into()).await.unwrap());
    }
    for n in 0..300 {
        client.publish(subject.clone(), n.to_string().into()).await.unwrap();
    }
    client.flush().await.unwrap();
    let mut seen = Vec::new();
    for mut member in members {
        while let Ok(Some(message)) = timeout(std::time::Duration::from_millis(500), member.next()).await {
            seen.push(String::from_utf8(message.payload.to_vec()).unwrap().parse::<u32>().unwrap());
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..300).collect::<Vec<_>>());
}

#[tokio::test]
async fn requests_are_answered_or_fail_at_once() {
    let _shows = shows("NATS", CLIENT, "a request is answered by one of several instances of a service");
    let _also = shows("NATS", CLIENT, "a request that nobody serves fails at once");
    let (client, subject) = (client().await, name("api"));
    let nobody = client.request(subject.clone(), "?".into()).await.unwrap_err();
    assert_eq!(nobody.kind(), RequestErrorKind::NoResponders);
    let mut requests = client.queue_subscribe(subject.clone(), "users".into()).await.unwrap();
    let service = client.clone();
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            service.publish(request.reply.unwrap(), request.payload).await.unwrap();
        }
    });
    client.flush().await.unwrap();
    for n in 0..100 {
        let answer = client.request(subject.clone(), n.to_string().into()).await.unwrap();
        assert_eq!(answer.payload, n.to_string());
    }
}

#[tokio::test]
async fn a_drain_loses_and_repeats_nothing() {
    let _shows = shows("NATS", CLIENT, "draining a subscriber loses and repeats nothing");
    let (publisher, subscriber, subject) = (client().await, client().await, name("drain"));
    let mut subscription = subscriber.subscribe(subject.clone()).await.unwrap();
    handled(&subscriber).await;
    for n in 0..1_000 {
        publisher.publish(subject.clone(), n.to_string().into()).await.unwrap();
    }
    handled(&publisher).await;
    subscription.drain().await.unwrap();
    let mut seen = Vec::new();
    while let Some(message) = timeout(PATIENCE, subscription.next()).await.expect("the drain ends") {
        seen.push(String::from_utf8(message.payload.to_vec()).unwrap());
    }
    assert_eq!(seen, (0..1_000).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn no_echo_and_a_limit_are_what_they_say() {
    let _shows = shows("NATS", CLIENT, "a subscription ends after as many messages as it asked for");
    let subject = name("few");
    let quiet = ConnectOptions::new().no_echo().connect(nats()).await.unwrap();
    let mut own = quiet.subscribe(subject.clone()).await.unwrap();
    quiet.publish(subject.clone(), "own".into()).await.unwrap();
    quiet.flush().await.unwrap();
    let other = client().await;
    own.unsubscribe_after(2).await.unwrap();
    handled(&quiet).await;
    for n in 0..5 {
        other.publish(subject.clone(), n.to_string().into()).await.unwrap();
    }
    assert_eq!(take(&mut own, 2).await, ["0", "1"]);
    assert!(timeout(PATIENCE, own.next()).await.expect("the subscription ends").is_none());
}
