//! What waits costs nothing: counted, not timed.

use std::sync::atomic::AtomicUsize;

use broker::{Append, NewBatch, PublishUnit};
use model::{
    Batch, Format, FormatTag, Namespace, PartitionIndex, Record, RecordAttributes, Result, StreamKey,
};

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

/// Another dialect's batches: a record a line. What is read of them is counted.
pub(super) struct Lines;

const LINES: FormatTag = FormatTag(200);
static READ: AtomicUsize = AtomicUsize::new(0);

impl Format for Lines {
    fn tag(&self) -> FormatTag {
        LINES
    }

    fn name(&self) -> &'static str {
        "lines"
    }

    fn read(&self, batch: &Batch, each: &mut dyn FnMut(u32, Record) -> Result<()>) -> Result<()> {
        for (index, line) in (0..batch.count).zip(batch.body.split(|byte| *byte == b'\n')) {
            READ.fetch_add(1, Ordering::SeqCst);
            each(index, Record { body: Some(batch.body.slice_ref(line)), ..Record::default() })?;
        }
        Ok(())
    }

    fn attributes(&self, _: &Batch, _: &mut dyn FnMut(u32, RecordAttributes) -> Result<()>) -> Result<()> {
        Ok(())
    }

    fn write(&self, _: &[Record]) -> Result<bytes::Bytes> {
        Ok(bytes::Bytes::new())
    }

    fn without(&self, batch: &Batch, _: &dyn Fn(u32) -> bool) -> Result<Option<bytes::Bytes>> {
        Ok(Some(batch.body.clone()))
    }
}

#[tokio::test]
async fn a_batch_of_another_dialect_is_unpacked_once_and_not_once_for_each_message() {
    const LINES_COUNT: u32 = 5_000;
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.declare("q").await;
    let stream = rig.server.broker.stream(&StreamKey::queue(&Namespace::default(), "q")).unwrap();
    let partition = stream.partition(PartitionIndex(0)).unwrap();
    let lines: Vec<String> = (0..LINES_COUNT).map(|number| number.to_string()).collect();
    let batch =
        NewBatch { count: LINES_COUNT, format: LINES, body: lines.join("\n").into(), ..NewBatch::default() };
    let published = rig.server.broker.publish(PublishUnit::of(vec![Append::new(partition, batch)])).unwrap();
    rig.server.broker.durable(published.wait).await.unwrap();
    let before = READ.load(Ordering::SeqCst);
    peer.qos(1, false).await;
    peer.consume("q", "t", false).await;
    for line in lines.iter().take(300) {
        let message = peer.message().await;
        assert_eq!(message.text(), line);
        peer.ack(message.tag).await;
    }
    let read = READ.load(Ordering::SeqCst) - before;
    assert!(read <= 2 * LINES_COUNT as usize, "{read} records were read for 300");
}
