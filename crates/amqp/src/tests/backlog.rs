//! What waits costs nothing: counted, not timed.

use model::{Namespace, PartitionIndex, StreamKey};

use super::*;

const COUNT: usize = 30_000;
const PREFETCH: u16 = 1_000;

#[tokio::test]
async fn a_deep_backlog_is_read_once_and_costs_what_is_out() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.declare("q").await;
    peer.confirm().await;
    for number in 0..COUNT {
        peer.publish(("", "q"), &number.to_string()).await;
        if number % 1_000 == 999 {
            while !peer.method().await.contains(&format!("delivery_tag: {},", number + 1)) {}
        }
    }
    let stream = rig.server.broker.stream(&StreamKey::queue(&Namespace::default(), "q")).unwrap();
    let partition = stream.partition(PartitionIndex(0)).unwrap();
    let before = rig.server.broker.counters();
    let mut most = 0;
    peer.qos(PREFETCH, false).await;
    peer.consume("q", "t", false).await;
    for number in 0..COUNT {
        let message = peer.message().await;
        assert_eq!(message.text(), number.to_string());
        if number % 500 == 499 {
            peer.send(1, Method::BasicAck { delivery_tag: message.tag, multiple: true }).await;
            most = most.max(rig.server.broker.works(partition)[0].memory_len);
        }
    }
    peer.sync().await;
    let work = &rig.server.broker.works(partition)[0];
    let (after, count) = (rig.server.broker.counters(), COUNT as u64);
    let read = after.work_read_records - before.work_read_records;
    assert!(read <= 2 * count, "{read} records were read for {count}");
    assert!(work.visited <= 4 * count, "{} entries were looked at for {count}", work.visited);
    assert!(most < 256 << 10, "{most} bytes of state while {PREFETCH} were out");
    assert_eq!(peer.counts("q").await.0, 0);
}
