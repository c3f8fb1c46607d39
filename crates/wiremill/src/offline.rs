//! A data directory without a server: opened, read from end to end, closed.

use std::{fmt::Write, path::Path};

use broker::{Broker, BrokerOptions, Partition, ReadLimits};
use model::{ErrorKind, Formats};
use tokio::runtime::Handle;

use crate::{dialects, supervisor::Supervisor, workers};

/// Bytes of one read.
const READ_LEN: usize = 4 << 20;

/// What was found.
#[derive(Debug, Default)]
pub struct Report {
    /// Units that were replayed from the write-ahead log.
    pub replayed_units: u64,
    /// A torn tail that was cut, in words.
    pub torn: Option<String>,
    /// Streams that were read.
    pub streams: u64,
    /// Batches that were read.
    pub batches: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// What does not read, in words.
    pub damaged: Vec<String>,
}

impl Report {
    /// For people.
    pub fn text(&self) -> String {
        let Report { replayed_units, streams, batches, bytes, .. } = self;
        let mut out = format!(
            "replayed {replayed_units} units of the log; read {batches} batches, {bytes} bytes, of {streams} streams\n"
        );
        if let Some(torn) = &self.torn {
            let _infallible = writeln!(out, "cut: {torn}");
        }
        for damage in &self.damaged {
            let _infallible = writeln!(out, "damaged: {damage}");
        }
        if self.damaged.is_empty() {
            out.push_str("nothing is damaged\n");
        }
        out
    }
}

/// Opens `dir` and reads all of it; with `accept_loss` also when what was acknowledged does not read any more. The error is a sentence for whoever asked.
pub fn examine(dir: &Path, accept_loss: bool) -> Result<Report, String> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|e| e.to_string())?;
    runtime.block_on(async {
        let env = workers::on_runtime(env::real(), Handle::current(), Supervisor::default());
        let mut formats = Formats::default();
        dialects::register_formats(&mut formats).map_err(|e| e.to_string())?;
        let options = BrokerOptions { tolerate_damage: accept_loss, ..BrokerOptions::default() };
        let (broker, recovery) = Broker::open(env, dir, options, formats).map_err(|e| {
            let hint = match e.kind() {
                ErrorKind::Corrupt if !accept_loss => ". With --accept-loss the rest is served from then on",
                _ => "",
            };
            format!("{} cannot be opened: {e}{hint}", dir.display())
        })?;
        let mut report = Report {
            replayed_units: recovery.replayed_units,
            torn: recovery.torn,
            damaged: recovery.damaged,
            ..Report::default()
        };
        for namespace in broker.namespaces() {
            for stream in broker.streams(&namespace, None) {
                report.streams += 1;
                for partition in stream.partitions() {
                    let name = format!("{} partition {}", stream.key(), partition.index());
                    read(&broker, partition, &name, &mut report).await;
                }
            }
        }
        let closed = tokio::task::spawn_blocking(move || broker.close()).await;
        match closed {
            Ok(Ok(())) => Ok(report),
            Ok(Err(e)) => Err(format!("{} does not close: {e}", dir.display())),
            Err(e) => Err(e.to_string()),
        }
    })
}

/// Reads a partition to its end, or to the first place that does not read.
async fn read(broker: &Broker, partition: &Partition, name: &str, report: &mut Report) {
    let bounds = partition.bounds();
    let mut at = bounds.start;
    while at < bounds.durable_end {
        let chunk = match broker.read(partition, at, ReadLimits::bytes(READ_LEN)).await {
            Ok(chunk) => chunk,
            Err(e) => {
                report.damaged.push(format!("{name} from offset {at} on: {e}"));
                return;
            }
        };
        for range in &chunk.lost {
            let said = format!("{name}: offsets {}..{} do not read", range.start, range.end);
            if !report.damaged.contains(&said) {
                report.damaged.push(said);
            }
        }
        for one in &chunk.batches {
            report.batches += 1;
            report.bytes += one.batch.body.len() as u64;
        }
        if chunk.next <= at {
            return; // what is left belongs to a transaction that was never ended
        }
        at = chunk.next;
    }
}
