//! Who is served: consumers of several priorities, consumers whose clients do not read, consumers for whose messages the
//! queue has a time.

use super::*;

async fn consumer_of(rig: &Rig, prefetch: u16, priority: i32) -> Peer {
    let mut peer = rig.connect().await;
    peer.qos(prefetch, false).await;
    peer.consume_on(1, "q", "t", false, false, &[("x-priority", Value::I32(priority))]).await;
    peer.expect("BasicConsumeOk").await;
    peer
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
