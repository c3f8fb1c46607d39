//! Disk and memory that run short: publishers are told and wait, consumers go on, and nothing is lost.

use super::*;

/// Bytes of each message: a few of them fit what a connection has in its buffers.
const BODY_LEN: usize = 64 << 10;

#[tokio::test]
async fn publishers_are_blocked_once_while_the_disk_is_full_and_consumers_go_on() {
    let options = Options { blocked_retry: Duration::from_millis(10), ..Options::default() };
    let broker_options = BrokerOptions { free_space_min_len: 1 << 30, ..BrokerOptions::default() };
    let (rig, wrong) = Rig::on_faulty_disk(options, broker_options);
    let mut peer = rig.connect().await;
    peer.declare("q").await;
    peer.confirm().await;
    peer.publish(("", "q"), "before").await;
    peer.expect("BasicAck").await;
    wrong.free.store(1, Ordering::SeqCst);
    until("the disk is full", || rig.server.broker.is_disk_short()).await;
    peer.publish(("", "q"), "meanwhile").await;
    peer.expect("ConnectionBlocked { reason: \"low on disk\" }").await;
    let mut other = rig.connect().await;
    other.consume("q", "t", false).await;
    let before = other.message().await;
    assert_eq!(before.text(), "before");
    other.send(1, Method::BasicAck { delivery_tag: before.tag, multiple: false }).await;
    other.sync().await;
    peer.expect_nothing().await;
    wrong.free.store(u64::MAX, Ordering::SeqCst);
    peer.expect("ConnectionUnblocked").await;
    peer.expect("BasicAck").await;
    assert_eq!(other.message().await.text(), "meanwhile");
}

/// A message that says which one it is.
fn numbered(number: usize) -> Vec<u8> {
    let mut body = number.to_string().into_bytes();
    body.resize(BODY_LEN, b' ');
    body
}

#[tokio::test]
async fn publishers_are_blocked_while_memory_is_full_that_cannot_be_spilled_and_consumers_go_on() {
    let budget = BrokerOptions { memory_budget_len: 40 << 20, ..BrokerOptions::default() };
    let (rig, wrong) = Rig::on_faulty_disk(Options::default(), budget);
    *wrong.write_in.lock() = Some("spill");
    let mut peer = rig.connect().await;
    peer.declare("q").await;
    let mut other = rig.connect().await;
    let is_full = || rig.server.broker.is_memory_short(BODY_LEN);
    let mut published = 0;
    while !is_full() {
        peer.publish_on(1, ("", "q"), Properties::default(), &numbered(published)).await;
        published += 1;
        assert!(published < 10_000, "it never fills");
        let began = tokio::time::Instant::now();
        while !is_full() && (other.counts("q").await.0 as usize) < published {
            assert!(began.elapsed() < PATIENCE, "message {published} is not stored");
        }
    }
    for number in published..published + 2 {
        peer.publish_on(1, ("", "q"), Properties::default(), &numbered(number)).await;
    }
    published += 2;
    peer.expect("ConnectionBlocked { reason: \"low on memory\" }").await;
    peer.expect_nothing().await;
    other.consume("q", "t", true).await;
    for number in 0..published {
        assert_eq!(other.message().await.text().trim_end(), number.to_string());
    }
    peer.expect("ConnectionUnblocked").await;
    // Storage has not failed: what is durable goes on.
    peer.confirm().await;
    peer.publish(("", "q"), "durable").await;
    peer.expect("BasicAck").await;
    assert_eq!(other.message().await.text(), "durable");
}

#[tokio::test]
async fn nobody_is_blocked_while_a_backlog_in_memory_can_be_spilled() {
    let budget = BrokerOptions { memory_budget_len: 40 << 20, ..BrokerOptions::default() };
    let rig = Rig::over(Options::default(), budget);
    let mut peer = rig.connect().await;
    peer.declare("q").await;
    // Twice as much as may be in memory.
    let count = (16 << 20) / BODY_LEN;
    for number in 0..count {
        peer.publish_on(1, ("", "q"), Properties::default(), &numbered(number)).await;
    }
    assert_eq!(peer.counts("q").await.0 as usize, count);
    peer.consume("q", "t", true).await;
    for number in 0..count {
        assert_eq!(peer.message().await.text().trim_end(), number.to_string());
    }
}
