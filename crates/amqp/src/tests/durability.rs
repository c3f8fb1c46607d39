use std::time::Instant;

use super::*;
use crate::codec::Key;

#[tokio::test]
async fn what_is_durable_is_there_after_a_restart_and_the_rest_is_not() {
    let mut rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.declare_with("durable", Flags::default(), &[("x-max-length", Value::I32(9))]).await;
    peer.declare_with("transient", Flags { transient: true, ..Flags::default() }, &[]).await;
    peer.exchange("e", "topic", &[]).await;
    peer.bind("durable", "e", "a.*", &[]).await;
    peer.bind("transient", "e", "a.*", &[]).await;
    peer.confirm().await;
    peer.publish(("e", "a.b"), "kept").await;
    peer.expect("BasicAck").await;
    peer.publish_on(1, ("e", "a.b"), Properties::default(), b"transient").await;
    peer.expect("BasicAck").await;
    assert_eq!(peer.counts("transient").await.0, 2);
    drop(peer);
    rig.reopen(0);
    let mut peer = rig.connect().await;
    peer.ask_declare("transient", Flags { passive: true, ..Flags::default() }, &[]).await;
    peer.expect_close(404, "NOT_FOUND - no queue 'transient' in vhost '/'").await;
    peer.declare_with("durable", Flags::default(), &[("x-max-length", Value::I32(9))]).await;
    assert_eq!(peer.get("durable").await.unwrap().text(), "kept");
    assert_eq!(peer.get("durable").await, None, "a transient message");
    peer.publish(("e", "a.c"), "through the binding").await;
    assert_eq!(peer.get("durable").await.unwrap().text(), "through the binding");
}

#[tokio::test]
async fn every_durable_answer_follows_its_sync() {
    const DELAY: Duration = Duration::from_millis(200);
    let mut rig = Rig::new();
    rig.reopen(200);
    let mut peer = rig.connect().await;
    let began = Instant::now();
    peer.declare("q").await;
    assert!(began.elapsed() >= DELAY, "queue.declare");
    let began = Instant::now();
    peer.exchange("e", "fanout", &[]).await;
    assert!(began.elapsed() >= DELAY, "exchange.declare");
    let began = Instant::now();
    peer.bind("q", "e", "", &[]).await;
    assert!(began.elapsed() >= DELAY, "queue.bind");
    peer.confirm().await;
    let began = Instant::now();
    peer.publish(("e", ""), "x").await;
    peer.expect("BasicAck").await;
    assert!(began.elapsed() >= DELAY, "a confirm");
    let began = Instant::now();
    peer.send(1, Method::QueuePurge { ticket: 0, queue: "q", nowait: false }).await;
    peer.expect("QueuePurgeOk").await;
    assert!(began.elapsed() >= DELAY, "queue.purge");
    let began = Instant::now();
    let unbind = Method::QueueUnbind {
        ticket: 0,
        queue: "q",
        exchange: "e",
        routing_key: Key(b""),
        arguments: Table::default(),
    };
    peer.send(1, unbind).await;
    peer.expect("QueueUnbindOk").await;
    assert!(began.elapsed() >= DELAY, "queue.unbind");
    let began = Instant::now();
    let delete =
        Method::QueueDelete { ticket: 0, queue: "q", if_unused: false, if_empty: false, nowait: false };
    peer.send(1, delete).await;
    peer.expect("QueueDeleteOk").await;
    assert!(began.elapsed() >= DELAY, "queue.delete");
    let began = Instant::now();
    peer.send(1, Method::ExchangeDelete { ticket: 0, exchange: "e", if_unused: false, nowait: false }).await;
    peer.expect("ExchangeDeleteOk").await;
    assert!(began.elapsed() >= DELAY, "exchange.delete");
}

#[tokio::test]
async fn what_a_consumer_had_before_a_start_comes_again_in_its_place() {
    let mut rig = Rig::new();
    let quorum = [("x-queue-type", Value::Text(b"quorum"))];
    let mut peer = rig.connect().await;
    peer.declare_with("q", Flags::default(), &quorum).await;
    peer.confirm().await;
    for body in ["a", "b", "c"] {
        peer.publish(("", "q"), body).await;
        peer.expect("BasicAck").await;
    }
    for body in ["a", "b"] {
        assert_eq!(peer.get("q").await.unwrap().text(), body);
    }
    // The connection is not told: it is as if the process was killed.
    rig.reopen(0);
    drop(peer);
    let mut peer = rig.connect().await;
    assert_eq!(peer.counts("q").await.0, 3);
    for (body, redelivered, count) in
        [("a", true, Some("I64(1)")), ("b", true, Some("I64(1)")), ("c", false, None)]
    {
        let message = peer.get("q").await.unwrap();
        assert_eq!((message.text(), message.redelivered), (body, redelivered));
        assert_eq!(message.header("x-delivery-count").as_deref(), count);
    }
}

#[tokio::test]
async fn a_restart_does_not_count_transient_messages_that_it_lost() {
    let mut rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.declare("q").await;
    peer.confirm().await;
    for body in ["lost", "kept", "lost too"] {
        let properties = if body == "kept" { persistent() } else { Properties::default() };
        peer.publish_on(1, ("", "q"), properties, body.as_bytes()).await;
        peer.expect("BasicAck").await;
    }
    assert_eq!(peer.counts("q").await.0, 3);
    drop(peer);
    rig.reopen(0);
    let mut peer = rig.connect().await;
    assert_eq!(peer.counts("q").await.0, 1);
    peer.send(1, Method::QueuePurge { ticket: 0, queue: "q", nowait: false }).await;
    peer.expect("QueuePurgeOk { message_count: 1 }").await;
}

#[tokio::test]
async fn what_is_asked_for_together_waits_for_one_sync_and_is_answered_in_order() {
    let mut rig = Rig::new();
    rig.reopen(200);
    let mut peer = rig.connect().await;
    peer.declare("q").await;
    let mut all = Vec::new();
    for number in 0..100 {
        let key = number.to_string();
        let bind = Method::QueueBind {
            ticket: 0,
            queue: "q",
            exchange: "amq.topic",
            routing_key: Key(key.as_bytes()),
            nowait: false,
            arguments: Table::default(),
        };
        put_method(&mut all, 1, bind);
    }
    put_method(&mut all, 1, Method::ConfirmSelect { nowait: false });
    let began = Instant::now();
    peer.send_bytes(&all).await;
    for _ in 0..100 {
        peer.expect("QueueBindOk").await;
        assert!(began.elapsed() >= Duration::from_millis(200));
    }
    peer.expect("ConfirmSelectOk").await;
    assert!(began.elapsed() < Duration::from_secs(10), "each of them waited for a sync of its own");
}
