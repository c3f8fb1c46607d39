use super::*;

#[tokio::test]
async fn a_transaction_is_there_with_its_commit_or_not_at_all() {
    let rig = Rig::new();
    let (mut peer, mut other) = (rig.connect().await, rig.connect().await);
    for queue in ["in", "out"] {
        peer.declare(queue).await;
    }
    for body in ["a", "left"] {
        peer.publish(("", "in"), body).await;
    }
    assert_eq!(peer.counts("in").await.0, 2);
    peer.send(1, Method::TxCommit {}).await;
    peer.expect_close(406, "PRECONDITION_FAILED - channel is not transactional").await;
    peer.send(1, Method::TxSelect {}).await;
    peer.expect("TxSelectOk").await;
    let message = peer.get("in").await.unwrap();
    assert_eq!(peer.get("in").await.unwrap().text(), "left");
    for (ending, answer, moved) in
        [(Method::TxRollback {}, "TxRollbackOk", 0), (Method::TxCommit {}, "TxCommitOk", 1)]
    {
        peer.publish(("", "out"), "b").await;
        peer.ack(message.tag).await;
        peer.sync().await;
        assert_eq!(other.counts("out").await.0, 0);
        peer.send(1, ending).await;
        peer.expect(answer).await;
        assert_eq!(other.counts("out").await.0, moved, "{answer}");
    }
    drop(peer);
    // What its client had comes back, but for what was acknowledged.
    until_ready(&mut other, "in", 1).await;
    assert_eq!(other.get("in").await.unwrap().text(), "left");
}

#[tokio::test]
async fn confirms_and_transactions_do_not_mix() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.confirm().await;
    peer.send(1, Method::TxSelect {}).await;
    peer.expect_close(406, "PRECONDITION_FAILED - cannot switch from confirm to tx mode").await;
    peer.send(1, Method::TxSelect {}).await;
    peer.expect("TxSelectOk").await;
    peer.send(1, Method::ConfirmSelect { nowait: false }).await;
    peer.expect_close(406, "PRECONDITION_FAILED - cannot switch from tx to confirm mode").await;
}

#[tokio::test]
async fn a_reply_goes_straight_to_who_asked() {
    let rig = Rig::new();
    let (mut client, mut server) = (rig.connect().await, rig.connect().await);
    server.declare("rpc").await;
    let asking = Properties { reply_to: Some(b"amq.rabbitmq.reply-to"), ..persistent() };
    client.publish_on(1, ("", "rpc"), asking, b"early").await;
    client.expect_close(406, "PRECONDITION_FAILED - fast reply consumer does not exist").await;
    client.consume_on(1, "amq.rabbitmq.reply-to", "t", false, false, &[]).await;
    client.expect_close(406, "PRECONDITION_FAILED - reply consumer cannot acknowledge").await;
    client.consume("amq.rabbitmq.reply-to", "t", true).await;
    client.publish_on(1, ("", "rpc"), asking, b"question").await;
    client.counts("rpc").await;
    let question = server.get("rpc").await.unwrap();
    let properties = Properties::read(&question.properties).unwrap();
    let address = String::from_utf8(properties.reply_to.unwrap().to_vec()).unwrap();
    assert!(address.starts_with("amq.rabbitmq.reply-to."), "{address}");
    server.declare_with(&address, Flags { passive: true, ..Flags::default() }, &[]).await;
    server.publish(("", &address), "answer").await;
    let answer = client.message().await;
    assert_eq!((answer.text(), answer.exchange.as_str()), ("answer", ""));
    client.send(1, Method::BasicCancel { consumer_tag: "t", nowait: false }).await;
    client.expect("BasicCancelOk").await;
    server.publish(("", &address), "too late").await;
    assert!(server.message().await.method.starts_with("BasicReturn"), "it is mandatory");
}

#[tokio::test]
async fn the_end_of_a_channel_comes_after_the_confirms_of_what_was_published_on_it() {
    let mut rig = Rig::new();
    rig.reopen(200);
    let mut peer = rig.connect().await;
    peer.declare("q").await;
    peer.confirm().await;
    peer.publish(("", "q"), "x").await;
    peer.send(1, Method::ChannelClose { code: 200, text: "", class: 0, method: 0 }).await;
    peer.expect("BasicAck").await;
    peer.expect("ChannelCloseOk").await;
    peer.open(1).await;
    peer.confirm().await;
    peer.publish(("", "q"), "y").await;
    peer.ask_declare("none", Flags { passive: true, ..Flags::default() }, &[]).await;
    peer.expect("BasicAck").await;
    peer.expect_close(404, "NOT_FOUND - no queue 'none' in vhost '/'").await;
    assert_eq!(peer.counts("q").await.0, 2);
    // Where both sides close at once, the server's word comes first.
    peer.confirm().await;
    peer.publish(("", "q"), "z").await;
    peer.ask_declare("none", Flags { passive: true, ..Flags::default() }, &[]).await;
    peer.send(1, Method::ChannelClose { code: 200, text: "", class: 0, method: 0 }).await;
    for expected in ["BasicAck", "ChannelClose { code: 404", "ChannelCloseOk"] {
        peer.expect(expected).await;
    }
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_dropped_once_it_is_not_heard_either() {
    let rig = Rig::new();
    let mut other = rig.connect().await;
    other.declare("q").await;
    for _ in 0..12 {
        other.publish_on(1, ("", "q"), persistent(), &vec![b'x'; 1 << 20]).await;
    }
    let mut peer = rig.raw();
    peer.start_plain().await;
    peer.enter(131_072, 2).await;
    peer.open(1).await;
    peer.consume("q", "t", false).await;
    // It is heard for longer than it may be silent, although it reads nothing.
    for _ in 0..12 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        peer.send_bytes(&[8, 0, 0, 0, 0, 0, 0, 0xce]).await;
    }
    assert_eq!(other.counts("q").await.1, 1);
    let began = tokio::time::Instant::now();
    while other.counts("q").await != (12, 0) {
        assert!(began.elapsed() < PATIENCE, "{:?}", other.counts("q").await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn many_gets_at_once_are_answered_as_their_client_reads() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.declare("q").await;
    for _ in 0..30 {
        peer.publish_on(1, ("", "q"), persistent(), &vec![b'x'; 1 << 20]).await;
    }
    for _ in 0..31 {
        peer.send(1, Method::BasicGet { ticket: 0, queue: "q", no_ack: true }).await;
    }
    assert_eq!(peer.messages(30).await.iter().map(|message| message.body.len()).sum::<usize>(), 30 << 20);
    peer.expect("BasicGetEmpty").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_that_share_a_limit_never_have_more_together() {
    let rig = Rig::new();
    let (mut peer, mut other) = (rig.connect().await, rig.connect().await);
    peer.qos(1, true).await;
    let queues = ["a", "b", "c", "d"];
    for queue in queues {
        peer.declare(queue).await;
        peer.consume(queue, queue, false).await;
    }
    for _ in 0..50 {
        for queue in queues {
            other.publish(("", queue), "x").await;
        }
    }
    for _ in 0..200 {
        let message = peer.message().await;
        // Nothing else comes while this one is out.
        peer.counts("a").await;
        peer.ack(message.tag).await;
    }
    // Who acknowledges nothing has no limit, also while the others have what they may.
    other.publish(("", "a"), "held").await;
    let held = peer.message().await;
    peer.declare("free").await;
    peer.consume("free", "free", true).await;
    for _ in 0..10 {
        other.publish(("", "free"), "x").await;
    }
    assert_eq!(peer.messages(10).await.len(), 10);
    peer.ack(held.tag).await;
}
