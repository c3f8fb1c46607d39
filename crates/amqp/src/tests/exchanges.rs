use super::*;
use crate::codec::Key;

/// Which of the queues got the message that was just published, each emptied.
async fn got(peer: &mut Peer, queues: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for queue in queues {
        while let Some(message) = peer.get(queue).await {
            peer.ack(message.tag).await;
            found.push((*queue).to_owned());
        }
    }
    found
}

#[tokio::test]
async fn each_kind_of_exchange_chooses_in_its_way() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    let queues = ["a", "b", "c"];
    for queue in queues {
        peer.declare(queue).await;
    }
    for kind in ["direct", "fanout", "topic"] {
        peer.exchange(kind, kind, &[]).await;
    }
    peer.bind("a", "direct", "one", &[]).await;
    peer.bind("b", "direct", "one", &[]).await;
    peer.bind("c", "direct", "two", &[]).await;
    peer.bind("a", "fanout", "", &[]).await;
    peer.bind("b", "fanout", "ignored", &[]).await;
    peer.bind("a", "topic", "order.*.us", &[]).await;
    peer.bind("b", "topic", "order.#", &[]).await;
    peer.bind("c", "topic", "#", &[]).await;
    for (exchange, key, expected) in [
        ("direct", "one", &["a", "b"][..]),
        ("direct", "two", &["c"]),
        ("fanout", "anything", &["a", "b"]),
        ("topic", "order.created.us", &["a", "b", "c"]),
        ("topic", "order", &["b", "c"]),
        ("topic", "payment.created.us", &["c"]),
        ("", "b", &["b"]),
    ] {
        peer.publish((exchange, key), "x").await;
        assert_eq!(got(&mut peer, &queues).await, expected, "{exchange} {key}");
    }
}

#[tokio::test]
async fn a_headers_exchange_looks_at_headers() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    let queues = ["all", "any", "with-x", "there"];
    peer.exchange("h", "headers", &[]).await;
    for queue in queues {
        peer.declare(queue).await;
    }
    let pair = [("a", Value::I32(1)), ("b", Value::Text(b"x"))];
    let with = |mode: &'static [u8], more: &[(&'static str, Value<'static>)]| {
        [&[("x-match", Value::Text(mode))], more].concat()
    };
    peer.bind("all", "h", "", &with(b"all", &pair)).await;
    peer.bind("any", "h", "", &with(b"any", &pair)).await;
    peer.bind("with-x", "h", "", &with(b"all-with-x", &[("x-y", Value::I32(1))])).await;
    peer.bind("there", "h", "", &with(b"all", &[("c", Value::Void)])).await;
    for (headers, expected) in [
        (&[("a", Value::I64(1)), ("b", Value::Text(b"x"))][..], &["all", "any"][..]),
        (&[("b", Value::Text(b"x"))], &["any"]),
        (&[("b", Value::Bytes(b"x"))], &["any"]),
        (&[("x-y", Value::I32(1)), ("c", Value::Bool(false))], &["with-x", "there"]),
        (&[("a", Value::I32(2))], &[]),
    ] {
        let fields = fields(headers);
        let properties = with_table(table_of(&fields));
        peer.publish_on(1, ("h", ""), properties, b"x").await;
        if expected.is_empty() {
            assert!(peer.message().await.method.starts_with("BasicReturn"));
        }
        assert_eq!(got(&mut peer, &queues).await, expected, "{headers:?}");
    }
    let wrong = fields(&[("x-match", Value::Text(b"zzz"))]);
    let bind = Method::QueueBind {
        ticket: 0,
        queue: "all",
        exchange: "h",
        routing_key: Key(b""),
        nowait: false,
        arguments: table_of(&wrong),
    };
    peer.send(1, bind).await;
    let words = "PRECONDITION_FAILED - Invalid x-match field value <<\"zzz\">>; expected all, any, all-with-x, or any-with-x";
    peer.expect_close(406, words).await;
}

#[tokio::test]
async fn a_message_goes_through_exchanges_and_once_to_each_queue() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    for exchange in ["one", "two"] {
        peer.exchange(exchange, "fanout", &[]).await;
    }
    for (destination, source) in [("two", "one"), ("one", "two")] {
        let bind = Method::ExchangeBind {
            ticket: 0,
            destination,
            source,
            routing_key: Key(b""),
            nowait: false,
            arguments: Table::default(),
        };
        peer.send(1, bind).await;
        peer.expect("ExchangeBindOk").await;
    }
    peer.declare("q").await;
    peer.bind("q", "one", "", &[]).await;
    peer.bind("q", "two", "", &[]).await;
    peer.publish(("one", ""), "x").await;
    assert_eq!(got(&mut peer, &["q"]).await, ["q"]);
}

#[tokio::test]
async fn what_an_exchange_cannot_route_goes_to_its_alternate_or_back() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.confirm().await;
    peer.exchange("rest", "fanout", &[]).await;
    peer.exchange("main", "direct", &[("alternate-exchange", Value::Text(b"rest"))]).await;
    peer.declare("lost").await;
    peer.publish(("main", "nobody"), "back").await;
    let returned = peer.message().await;
    let expected = "BasicReturn { code: 312, text: \"NO_ROUTE\"";
    assert!(returned.method.starts_with(expected), "{}", returned.method);
    assert_eq!((returned.text(), &returned.routing_key[..]), ("back", &b"nobody"[..]));
    peer.expect("BasicAck { delivery_tag: 1").await;
    peer.bind("lost", "rest", "", &[]).await;
    peer.publish(("main", "nobody"), "kept").await;
    peer.expect("BasicAck { delivery_tag: 2").await;
    assert_eq!(peer.get("lost").await.unwrap().text(), "kept");
}

#[tokio::test]
async fn exchanges_are_refused_in_the_originals_words() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.exchange("e1", "direct", &[]).await;
    peer.ask_exchange("e1", "topic", &[]).await;
    let words = "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'e1' in vhost '/': received 'topic' but current is 'direct'";
    peer.expect_close(406, words).await;
    peer.ask_exchange("e2", "zzz", &[]).await;
    peer.expect_close(406, "PRECONDITION_FAILED - unknown exchange type 'zzz'").await;
    peer.ask_exchange("amq.foo", "direct", &[]).await;
    let words = "ACCESS_REFUSED - exchange name 'amq.foo' contains reserved prefix 'amq.*'";
    peer.expect_close(403, words).await;
    peer.send(
        1,
        Method::ExchangeDelete { ticket: 0, exchange: "amq.topic", if_unused: false, nowait: false },
    )
    .await;
    let words = "ACCESS_REFUSED - deletion of system exchange 'amq.topic' in vhost '/' not allowed";
    peer.expect_close(403, words).await;
    peer.publish(("nope", "k"), "x").await;
    peer.expect_close(404, "NOT_FOUND - no exchange 'nope' in vhost '/'").await;
    peer.publish(("amq.rabbitmq.trace", "k"), "x").await;
    let words = "ACCESS_REFUSED - cannot publish to internal exchange 'amq.rabbitmq.trace' in vhost '/'";
    peer.expect_close(403, words).await;
}

#[tokio::test]
async fn unbinding_and_deleting_take_routes_away() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.exchange("e", "direct", &[]).await;
    peer.declare("q").await;
    peer.bind("q", "e", "k", &[]).await;
    peer.bind("q", "e", "k", &[("twice", Value::Bool(true))]).await;
    let unbind = Method::QueueUnbind {
        ticket: 0,
        queue: "q",
        exchange: "e",
        routing_key: Key(b"k"),
        arguments: Table::default(),
    };
    peer.send(1, unbind).await;
    peer.expect("QueueUnbindOk").await;
    peer.publish(("e", "k"), "x").await;
    assert_eq!(got(&mut peer, &["q"]).await, ["q"], "the other binding is still there");
    let delete = |if_unused| Method::ExchangeDelete { ticket: 0, exchange: "e", if_unused, nowait: false };
    peer.send(1, delete(true)).await;
    peer.expect_close(406, "PRECONDITION_FAILED - exchange 'e' in vhost '/' in use").await;
    let gone =
        Method::QueueDelete { ticket: 0, queue: "q", if_unused: false, if_empty: false, nowait: false };
    peer.send(1, gone).await;
    peer.expect("QueueDeleteOk").await;
    peer.send(1, delete(true)).await;
    peer.expect("ExchangeDeleteOk").await;
    peer.send(1, delete(false)).await;
    peer.expect("ExchangeDeleteOk").await;
}

#[tokio::test]
async fn further_keys_of_a_message_count_and_hidden_ones_are_taken_out() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    for queue in ["a", "b", "c"] {
        peer.declare(queue).await;
    }
    let mut headers = TableWriter::default();
    headers.array("CC", [Value::Text(b"b")].into_iter()).array("BCC", [Value::Text(b"c")].into_iter());
    let headers = headers.finish();
    peer.publish_on(1, ("", "a"), with_table(table_of(&headers)), b"x").await;
    for queue in ["a", "b", "c"] {
        let message = peer.get(queue).await.unwrap();
        assert!(message.header("CC").is_some() && message.header("BCC").is_none(), "{queue}");
    }
    let wrong = fields(&[("CC", Value::Text(b"b"))]);
    peer.publish_on(1, ("", "a"), with_table(table_of(&wrong)), b"x").await;
    let words = "PRECONDITION_FAILED - invalid message: {unacceptable_type_in_header,\"CC\",longstr}";
    peer.expect_close(406, words).await;
}

/// Declares an exchange that goes with its last binding.
async fn fleeting(peer: &mut Peer, exchange: &str) {
    let declare = Method::ExchangeDeclare {
        ticket: 0,
        exchange,
        kind: "fanout",
        passive: false,
        durable: false,
        auto_delete: true,
        internal: false,
        nowait: true,
        arguments: Table::default(),
    };
    peer.send(1, declare).await;
}

async fn bind_exchange(peer: &mut Peer, source: &str, destination: &str) {
    let bind = Method::ExchangeBind {
        ticket: 0,
        destination,
        source,
        routing_key: Key(b""),
        nowait: true,
        arguments: Table::default(),
    };
    peer.send(1, bind).await;
}

#[tokio::test]
async fn a_long_chain_of_exchanges_is_followed_to_its_end_and_goes_at_once() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    let count = 8_000;
    for at in 0..count {
        fleeting(&mut peer, &format!("e{at}")).await;
        if at > 0 {
            bind_exchange(&mut peer, &format!("e{}", at - 1), &format!("e{at}")).await;
        }
    }
    peer.declare("q").await;
    peer.bind("q", &format!("e{}", count - 1), "", &[]).await;
    peer.publish(("e0", ""), "far").await;
    assert_eq!(got(&mut peer, &["q"]).await, ["q"]);
    let delete =
        Method::QueueDelete { ticket: 0, queue: "q", if_unused: false, if_empty: false, nowait: false };
    peer.send(1, delete).await;
    peer.expect("QueueDeleteOk").await;
    for exchange in ["e0", "e7999"] {
        peer.passive_exchange(exchange).await;
        peer.expect_close(404, &format!("NOT_FOUND - no exchange '{exchange}' in vhost '/'")).await;
    }
}

#[tokio::test]
async fn bindings_go_with_a_queue_that_another_dialect_deletes() {
    let mut rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.exchange("alternate", "fanout", &[]).await;
    peer.exchange("e", "direct", &[("alternate-exchange", Value::Text(b"alternate"))]).await;
    for queue in ["q", "other"] {
        peer.declare(queue).await;
    }
    peer.bind("q", "e", "k", &[]).await;
    peer.bind("other", "alternate", "", &[]).await;
    let key = model::StreamKey::queue(&model::Namespace::default(), "q");
    for round in 0..3 {
        rig.server.broker.delete_stream(&key).await.unwrap();
        match round {
            0 => {
                peer.publish(("e", "k"), "nobody's").await;
                assert_eq!(got(&mut peer, &["other"]).await, ["other"]);
            }
            1 => {
                rig.reopen(0);
                peer = rig.connect().await;
            }
            _ => {}
        }
        peer.declare("q").await;
        peer.publish(("e", "k"), "not bound").await;
        assert_eq!(got(&mut peer, &["q", "other"]).await, ["other"], "round {round}");
        peer.bind("q", "e", "k", &[]).await;
    }
    rig.server.broker.delete_stream(&key).await.unwrap();
    let delete = Method::ExchangeDelete { ticket: 0, exchange: "e", if_unused: true, nowait: false };
    peer.send(1, delete).await;
    peer.expect("ExchangeDeleteOk").await;
}
