//! Storage that fails: nothing is answered as if it were kept.

use broker::{DeadLetters, Letter, NewBatch, Partition};
use model::{Namespace, StreamKey};

use super::*;

#[tokio::test]
async fn what_serves_delayed_messages_takes_the_process_along_when_it_panics() {
    let spawn = env::testing::Watched::new();
    let env = env::Env { spawn: spawn.clone(), ..env::real() };
    let rig = Rig::on(env, Options::default(), BrokerOptions::default());
    let mut peer = rig.connect().await;
    peer.exchange("later", "x-delayed-message", &[("x-delayed-type", Value::Text(b"fanout"))]).await;
    peer.confirm().await;
    let headers = fields(&[("x-delay", Value::I32(600_000))]);
    peer.publish_on(1, ("later", ""), with_table(table_of(&headers)), b"x").await;
    peer.expect("BasicAck").await;
    // The task that is next on this thread is that which the time wakes.
    rig.clock.panic_here();
    rig.pass(600_000);
    until("it was told", || !spawn.faults.lock().is_empty()).await;
    assert_eq!(*spawn.faults.lock(), ["amqp schedule panicked: planted"]);
}

#[tokio::test]
async fn a_consumer_that_panics_ends_its_connection_and_holds_nothing_back() {
    let rig = Rig::new();
    let (mut peer, mut other) = (rig.connect().await, rig.connect().await);
    let arguments = [
        ("x-queue-type", Value::Text(b"quorum")),
        ("x-delayed-retry-type", Value::Text(b"all")),
        ("x-delayed-retry-min", Value::I32(600_000)),
    ];
    other.declare_with("q", Flags::default(), &arguments).await;
    other.publish(("", "q"), "a").await;
    let message = other.first("q").await;
    other.nack(message.tag, true).await;
    other.sync().await;
    peer.consume("q", "t", false).await;
    rig.clock.panic_here();
    rig.pass(700_000);
    peer.expect_end().await;
    assert_eq!(other.first("q").await.text(), "a");
    assert_eq!(other.counts("q").await.1, 0);
}

/// The names of the methods until the connection ends.
async fn rest(peer: &mut Peer) -> Vec<String> {
    let mut all = Vec::new();
    while let Some((kind, _, payload)) = peer.frame().await {
        assert_eq!(kind, FrameKind::Method);
        let method = format!("{:?}", Method::read(&payload).unwrap());
        let is_close = method.starts_with("ConnectionClose ");
        all.push(method);
        if is_close {
            peer.send(0, Method::ConnectionCloseOk {}).await;
        }
    }
    all
}

#[tokio::test]
async fn a_message_whose_sync_failed_is_not_confirmed() {
    let (rig, wrong) = Rig::on_faulty_disk(Options::default(), BrokerOptions::default());
    let mut peer = rig.connect().await;
    peer.declare("q").await;
    peer.confirm().await;
    wrong.sync.store(true, Ordering::SeqCst);
    peer.publish(("", "q"), "a").await;
    let methods = rest(&mut peer).await;
    assert!(methods.iter().all(|method| method.starts_with("ConnectionClose ")), "{methods:?}");
}

#[tokio::test]
async fn nothing_is_declared_bound_purged_or_committed_on_storage_that_fails() {
    for what in ["declare", "exchange", "bind", "purge", "commit"] {
        let (rig, wrong) = Rig::on_faulty_disk(Options::default(), BrokerOptions::default());
        let mut peer = rig.connect().await;
        peer.declare("q").await;
        peer.exchange("e", "fanout", &[]).await;
        peer.publish(("", "q"), "a").await;
        peer.sync().await;
        if what == "commit" {
            peer.send(1, Method::TxSelect {}).await;
            peer.expect("TxSelectOk").await;
        }
        wrong.sync.store(true, Ordering::SeqCst);
        let (routing_key, arguments) = (crate::codec::Key(b"k"), Table::default());
        match what {
            "declare" => peer.ask_declare("other", Flags::default(), &[]).await,
            "exchange" => peer.ask_exchange("other", "topic", &[]).await,
            "bind" => {
                let (queue, exchange) = ("q", "e");
                let bind =
                    Method::QueueBind { ticket: 0, queue, exchange, routing_key, nowait: false, arguments };
                peer.send(1, bind).await;
            }
            "purge" => peer.send(1, Method::QueuePurge { ticket: 0, queue: "q", nowait: false }).await,
            _ => {
                peer.publish(("", "q"), "in a transaction").await;
                peer.send(1, Method::TxCommit {}).await;
            }
        }
        let methods = rest(&mut peer).await;
        assert!(methods.iter().all(|method| method.starts_with("ConnectionClose ")), "{what}: {methods:?}");
    }
}

/// A rig whose disk has too little room from when it `is_short`.
fn rig_that_runs_short() -> (Rig, Arc<env::testing::Wrong>) {
    let options = Options { blocked_retry: Duration::from_millis(10), ..Options::default() };
    let broker_options = BrokerOptions { free_space_min_len: 1 << 30, ..BrokerOptions::default() };
    Rig::on_faulty_disk(options, broker_options)
}

async fn run_short(rig: &Rig, wrong: &env::testing::Wrong) {
    wrong.free.store(1, Ordering::SeqCst);
    while !rig.server.broker.is_disk_short() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A connection with channel 1 open, of which it is found out soon that its client is gone.
async fn connect_heard(rig: &Rig) -> Peer {
    let mut peer = rig.raw();
    peer.start_plain().await;
    peer.enter(4_096, 1).await;
    peer.open(1).await;
    peer
}

#[tokio::test]
async fn what_a_commit_was_to_settle_comes_again_where_the_client_goes_before_there_is_room() {
    let (rig, wrong) = rig_that_runs_short();
    let mut other = rig.connect().await;
    for queue in ["in", "out"] {
        other.declare(queue).await;
    }
    for body in ["a", "b"] {
        other.publish(("", "in"), body).await;
    }
    let mut peer = connect_heard(&rig).await;
    peer.send(1, Method::TxSelect {}).await;
    peer.expect("TxSelectOk").await;
    peer.consume("in", "t", false).await;
    let messages = peer.messages(2).await;
    peer.publish(("", "out"), "c").await;
    peer.ack(messages[0].tag).await;
    peer.nack(messages[1].tag, false).await;
    peer.sync().await;
    run_short(&rig, &wrong).await;
    peer.send(1, Method::TxCommit {}).await;
    drop(peer);
    until_ready(&mut other, "in", 2).await;
    assert_eq!(other.counts("out").await.0, 0);
}

#[tokio::test]
async fn what_was_acknowledged_with_a_publish_that_finds_no_room_comes_again_without_its_client() {
    let (rig, wrong) = rig_that_runs_short();
    let mut other = rig.connect().await;
    for queue in ["in", "out"] {
        other.declare(queue).await;
    }
    other.publish(("", "in"), "a").await;
    let mut peer = connect_heard(&rig).await;
    peer.consume("in", "t", false).await;
    let message = peer.message().await;
    run_short(&rig, &wrong).await;
    peer.publish(("", "out"), "what came of a").await;
    peer.ack(message.tag).await;
    drop(peer);
    until_ready(&mut other, "in", 1).await;
}

#[tokio::test]
async fn a_commit_waits_for_room_also_where_a_queue_is_gone_that_it_was_to_settle_in() {
    let (rig, wrong) = rig_that_runs_short();
    let (mut peer, mut other) = (rig.connect().await, rig.connect().await);
    for queue in ["gone", "in", "out"] {
        peer.declare(queue).await;
        peer.publish(("", queue), queue).await;
    }
    peer.sync().await;
    peer.send(1, Method::TxSelect {}).await;
    peer.expect("TxSelectOk").await;
    for queue in ["gone", "in"] {
        let message = peer.get(queue).await.unwrap();
        peer.ack(message.tag).await;
    }
    peer.publish(("", "out"), "c").await;
    peer.sync().await;
    let delete =
        Method::QueueDelete { ticket: 0, queue: "gone", if_unused: false, if_empty: false, nowait: false };
    other.send(1, delete).await;
    other.expect("QueueDeleteOk").await;
    run_short(&rig, &wrong).await;
    peer.send(1, Method::TxCommit {}).await;
    peer.expect("ConnectionBlocked").await;
    wrong.free.store(u64::MAX, Ordering::SeqCst);
    peer.expect("ConnectionUnblocked").await;
    peer.expect("TxCommitOk").await;
    drop(peer);
    assert_eq!(other.counts("out").await.0, 2);
    let stream = rig.server.broker.stream(&StreamKey::queue(&Namespace::default(), "in")).unwrap();
    assert_eq!(rig.server.broker.queue_counts(&stream).unsettled(), 0, "it was acknowledged");
}

/// Dead letters that cannot be made.
struct Broken;

impl DeadLetters for Broken {
    fn route(&self, _: &Letter<'_>) -> model::Result<Vec<(Arc<Partition>, NewBatch)>> {
        Err(model::Error::internal("planted"))
    }
}

#[tokio::test]
async fn what_cannot_be_rejected_goes_back_and_what_was_acknowledged_with_it_is() {
    let rig = Rig::new();
    let (mut peer, mut other) = (rig.connect().await, rig.connect().await);
    let to_dead = [("x-dead-letter-exchange", Value::Text(b"dlx"))];
    peer.declare_with("rejects", Flags::default(), &to_dead).await;
    peer.declare("accepts").await;
    for queue in ["rejects", "accepts"] {
        peer.publish(("", queue), queue).await;
    }
    peer.sync().await;
    rig.server.broker.register_dead_letters(crate::DIALECT, Arc::new(Broken));
    let mut out = Vec::new();
    for (queue, method) in [
        ("rejects", Method::BasicReject { delivery_tag: 1, requeue: false }),
        ("accepts", Method::BasicAck { delivery_tag: 2, multiple: false }),
    ] {
        peer.get(queue).await.unwrap();
        put_method(&mut out, 1, method);
    }
    peer.send_bytes(&out).await;
    peer.expect("ConnectionClose { code: 541").await;
    until_ready(&mut other, "rejects", 1).await;
    let stream = rig.server.broker.stream(&StreamKey::queue(&Namespace::default(), "accepts")).unwrap();
    assert_eq!(rig.server.broker.queue_counts(&stream).unsettled(), 0);
}
