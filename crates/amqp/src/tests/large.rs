//! More at once than the queues to the disk take.

use super::*;

/// Rejects so many messages of 1 MiB of the queue "q" in one go; they go to the queue "dead".
pub(super) async fn reject_at_once(peer: &mut Peer, count: usize) {
    let to_dead =
        [("x-dead-letter-exchange", Value::Text(b"")), ("x-dead-letter-routing-key", Value::Text(b"dead"))];
    peer.declare_with("q", Flags::default(), &to_dead).await;
    let body = vec![b'x'; 1 << 20];
    for _ in 0..count {
        peer.publish_on(1, ("", "q"), persistent(), &body).await;
    }
    peer.sync().await;
    peer.consume("q", "t", false).await;
    let last = peer.messages(count).await.pop().unwrap();
    peer.send(1, Method::BasicNack { delivery_tag: last.tag, multiple: true, requeue: false }).await;
}

/// The exchange "all", which leads to the queues "q0", "q1" and so on.
async fn fan_out(peer: &mut Peer, count: usize) {
    peer.exchange("all", "fanout", &[]).await;
    for number in 0..count {
        let queue = format!("q{number}");
        peer.declare(&queue).await;
        peer.bind(&queue, "all", "", &[]).await;
    }
}

#[tokio::test]
async fn many_long_messages_are_rejected_at_once_and_are_dead_letters() {
    let mut rig = Rig::new();
    rig.reopen(50);
    let mut peer = rig.connect().await;
    peer.declare("dead").await;
    reject_at_once(&mut peer, 40).await;
    until_ready(&mut peer, "dead", 40).await;
    assert_eq!(peer.counts("q").await.0, 0);
}

#[tokio::test]
async fn a_long_message_goes_to_more_queues_than_one_unit_holds() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    let (count, body) = (23, vec![b'x'; 6 << 20]);
    fan_out(&mut peer, count).await;
    peer.confirm().await;
    peer.publish_on(1, ("all", ""), persistent(), &body).await;
    peer.expect("BasicAck").await;
    for number in 0..count {
        assert_eq!(peer.counts(&format!("q{number}")).await.0, 1);
    }
    assert_eq!(peer.get("q22").await.unwrap().body.len(), body.len());
}

#[tokio::test]
async fn a_long_message_is_a_dead_letter_in_more_queues_than_one_unit_holds() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    let (count, body) = (23, vec![b'x'; 6 << 20]);
    fan_out(&mut peer, count).await;
    let to_all = [("x-dead-letter-exchange", Value::Text(b"all"))];
    peer.declare_with("work", Flags::default(), &to_all).await;
    peer.publish_on(1, ("", "work"), persistent(), &body).await;
    peer.sync().await;
    let message = peer.get("work").await.unwrap();
    peer.nack(message.tag, false).await;
    for number in 0..count {
        until_ready(&mut peer, &format!("q{number}"), 1).await;
    }
    assert_eq!(peer.get("q22").await.unwrap().body.len(), body.len());
}
