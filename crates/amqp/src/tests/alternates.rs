//! Where messages go that their exchange cannot route, and exchanges that nobody publishes to.

use super::*;
use crate::codec::Key;

const RETURNED: &str = "BasicReturn { code: 312, text: \"NO_ROUTE\"";

fn alternate(name: &'static [u8]) -> [(&'static str, Value<'static>); 1] {
    [("alternate-exchange", Value::Text(name))]
}

impl Peer {
    async fn bind_exchange(&mut self, destination: &str, source: &str, key: &str) {
        let routing_key = Key(key.as_bytes());
        let arguments = Table::default();
        let bind =
            Method::ExchangeBind { ticket: 0, destination, source, routing_key, nowait: false, arguments };
        self.send(1, bind).await;
        self.expect("ExchangeBindOk").await;
    }

    /// Declares an exchange with all flags.
    async fn exchange_as(&mut self, exchange: &str, (auto_delete, internal): (bool, bool)) {
        let declare = Method::ExchangeDeclare {
            ticket: 0,
            exchange,
            kind: "fanout",
            passive: false,
            durable: true,
            auto_delete,
            internal,
            nowait: false,
            arguments: Table::default(),
        };
        self.send(1, declare).await;
        self.expect("ExchangeDeclareOk").await;
    }
}

#[tokio::test]
async fn a_chain_of_alternates_is_followed_to_its_end() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.confirm().await;
    peer.exchange("a", "direct", &alternate(b"b")).await;
    peer.exchange("b", "topic", &alternate(b"c")).await;
    peer.exchange("c", "fanout", &[]).await;
    for (queue, exchange, key) in [("qa", "a", "one"), ("qb", "b", "two.*"), ("qc", "c", "")] {
        peer.declare(queue).await;
        peer.bind(queue, exchange, key, &[]).await;
    }
    for (key, queue) in [("one", "qa"), ("two.x", "qb"), ("three", "qc")] {
        peer.publish(("a", key), key).await;
        peer.expect("BasicAck").await;
        let message = peer.get(queue).await.unwrap();
        assert_eq!(
            (message.text(), message.exchange.as_str()),
            (key, "a"),
            "the exchange that it was sent to"
        );
    }
    assert!(peer.counts("qa").await.0 + peer.counts("qb").await.0 + peer.counts("qc").await.0 == 0);
}

#[tokio::test]
async fn alternates_in_a_circle_end_and_what_they_do_not_take_comes_back() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.confirm().await;
    peer.exchange("a", "direct", &alternate(b"b")).await;
    peer.exchange("b", "direct", &alternate(b"a")).await;
    peer.exchange("self", "direct", &alternate(b"self")).await;
    for exchange in ["a", "b", "self"] {
        peer.publish((exchange, "nobody's"), "x").await;
        assert!(peer.message().await.method.starts_with(RETURNED), "{exchange}");
        peer.expect("BasicAck").await;
    }
    peer.declare("q").await;
    peer.bind("q", "b", "somebody's", &[]).await;
    peer.publish(("a", "somebody's"), "x").await;
    peer.expect("BasicAck").await;
    assert_eq!(peer.counts("q").await.0, 1, "once");
}

#[tokio::test]
async fn an_alternate_that_is_not_there_takes_nothing_until_it_is() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.confirm().await;
    peer.exchange("a", "direct", &alternate(b"later")).await;
    peer.publish(("a", "k"), "x").await;
    assert!(peer.message().await.method.starts_with(RETURNED));
    peer.expect("BasicAck").await;
    peer.exchange("later", "fanout", &[]).await;
    peer.declare("q").await;
    peer.bind("q", "later", "", &[]).await;
    peer.publish(("a", "k"), "y").await;
    peer.expect("BasicAck").await;
    assert_eq!(peer.get("q").await.unwrap().text(), "y");
    // The default exchange may be one as well: it takes what is named like a queue.
    peer.exchange("b", "direct", &alternate(b"")).await;
    peer.publish(("b", "q"), "z").await;
    peer.expect("BasicAck").await;
    assert_eq!(peer.get("q").await.unwrap().text(), "z");
}

#[tokio::test]
async fn an_internal_exchange_takes_what_others_send_it_and_nothing_else() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.exchange_as("inner", (false, true)).await;
    peer.declare("q").await;
    peer.bind("q", "inner", "", &[]).await;
    peer.exchange("alternating", "direct", &alternate(b"inner")).await;
    peer.exchange("bound", "fanout", &[]).await;
    peer.bind_exchange("inner", "bound", "").await;
    for exchange in ["alternating", "bound"] {
        peer.publish((exchange, "k"), exchange).await;
        assert_eq!(peer.counts("q").await.0, 1);
        let message = peer.get("q").await.unwrap();
        assert_eq!(message.text(), exchange);
        peer.ack(message.tag).await;
    }
    peer.publish(("inner", "k"), "x").await;
    peer.expect_close(403, "ACCESS_REFUSED - cannot publish to internal exchange 'inner' in vhost '/'").await;
}

#[tokio::test]
async fn a_binding_that_leads_to_an_exchange_without_queues_is_a_binding() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.exchange("rest", "fanout", &[]).await;
    peer.declare("q").await;
    peer.bind("q", "rest", "", &[]).await;
    peer.exchange("main", "direct", &alternate(b"rest")).await;
    peer.exchange("empty", "fanout", &[]).await;
    peer.bind_exchange("empty", "main", "k").await;
    peer.publish(("main", "k"), "x").await;
    assert!(peer.message().await.method.starts_with(RETURNED));
    assert_eq!(peer.counts("q").await.0, 0);
}

#[tokio::test]
async fn an_exchange_goes_with_the_last_binding_that_leads_from_it() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.exchange_as("front", (true, false)).await;
    peer.exchange_as("back", (true, false)).await;
    peer.declare("q").await;
    peer.bind_exchange("back", "front", "").await;
    peer.bind("q", "back", "", &[]).await;
    peer.bind("q", "back", "again", &[]).await;
    let unbind = |key: &'static str| Method::QueueUnbind {
        ticket: 0,
        queue: "q",
        exchange: "back",
        routing_key: Key(key.as_bytes()),
        arguments: Table::default(),
    };
    peer.send(1, unbind("again")).await;
    peer.expect("QueueUnbindOk").await;
    peer.publish(("front", ""), "x").await;
    assert_eq!(peer.counts("q").await.0, 1);
    peer.send(1, unbind("")).await;
    peer.expect("QueueUnbindOk").await;
    // With `back` went the binding that led to it, and with that `front`.
    for exchange in ["back", "front"] {
        peer.publish((exchange, ""), "x").await;
        peer.expect_close(404, &format!("NOT_FOUND - no exchange '{exchange}' in vhost '/'")).await;
    }
    // One that never had a binding stays.
    peer.exchange_as("unbound", (true, false)).await;
    peer.publish(("unbound", ""), "x").await;
    assert!(peer.message().await.method.starts_with(RETURNED));
}
