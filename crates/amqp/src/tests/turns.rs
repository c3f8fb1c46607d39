//! Who is served: consumers of several priorities, consumers whose clients do not read, consumers for whose messages the
//! queue has a time.

use super::*;

static LONG: [u8; 3 << 20] = [b'x'; 3 << 20];

async fn consumer_of(rig: &Rig, prefetch: u16, priority: i32) -> Peer {
    let mut peer = rig.connect().await;
    peer.qos(prefetch, false).await;
    peer.consume_on(1, "q", "t", false, false, &[("x-priority", Value::I32(priority))]).await;
    peer.expect("BasicConsumeOk").await;
    peer
}

async fn publish_many(peer: &mut Peer, count: u64) {
    for number in 0..count {
        peer.publish(("", "q"), &number.to_string()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_higher_priority_is_served_as_long_as_it_takes() {
    for kind in [b"classic", &b"quorum"[..]] {
        let rig = Rig::new();
        let mut peer = rig.connect().await;
        peer.declare_with("q", Flags::default(), &[("x-queue-type", Value::Text(kind))]).await;
        let mut low = consumer_of(&rig, 100, 0).await;
        let mut high = consumer_of(&rig, 100, 5).await;
        for _ in 0..10 {
            publish_many(&mut peer, 50).await;
            let last = high.messages(50).await.pop().unwrap();
            high.send(1, Method::BasicAck { delivery_tag: last.tag, multiple: true }).await;
        }
        // It takes what it may, and the others the rest.
        high.sync().await;
        publish_many(&mut peer, 130).await;
        let last = high.messages(100).await.pop().unwrap();
        assert_eq!(low.messages(30).await.len(), 30);
        high.send(1, Method::BasicAck { delivery_tag: last.tag, multiple: true }).await;
        high.sync().await;
        publish_many(&mut peer, 20).await;
        high.messages(20).await;
        // What is left when it goes is theirs as well.
        drop(high);
        low.messages(20).await;
    }
}

#[tokio::test]
async fn who_does_not_read_holds_nobody_up() {
    for priority in [0, 5] {
        let rig = Rig::new();
        let mut peer = rig.connect().await;
        peer.declare("q").await;
        let _stuck = consumer_of(&rig, 0, priority).await;
        peer.publish_on(1, ("", "q"), persistent(), &LONG).await;
        peer.sync().await;
        until_ready(&mut peer, "q", 0).await;
        let mut other = consumer_of(&rig, 0, 0).await;
        for body in ["a", "b", "c", "d", "e", "f"] {
            peer.publish(("", "q"), body).await;
            assert_eq!(other.message().await.text(), body);
        }
    }
}

#[tokio::test]
async fn a_message_stays_with_its_consumer_whatever_time_the_queue_gives_others() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.declare("q").await;
    let key = model::StreamKey::queue(&model::Namespace::default(), "q");
    let change = |settings: &mut broker::StreamSettings| {
        settings.lease_ms = Some(200);
        Ok(())
    };
    rig.server.broker.alter_stream(&key, change).await.unwrap();
    let (mut one, mut other) = (consumer_of(&rig, 10, 5).await, consumer_of(&rig, 10, 0).await);
    peer.publish(("", "q"), "consumed").await;
    let consumed = one.message().await;
    one.send(1, Method::BasicCancel { consumer_tag: "t", nowait: false }).await;
    one.expect("BasicCancelOk").await;
    other.send(1, Method::BasicCancel { consumer_tag: "t", nowait: false }).await;
    other.expect("BasicCancelOk").await;
    peer.publish(("", "q"), "got").await;
    let got = peer.get("q").await.unwrap();
    other.consume("q", "t", false).await;
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    other.expect_nothing().await;
    one.ack(consumed.tag).await;
    one.sync().await;
    peer.ack(got.tag).await;
    peer.sync().await;
    drop((one, peer));
    other.expect_nothing().await;
}
