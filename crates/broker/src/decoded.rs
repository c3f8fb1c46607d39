//! Decoded batches, kept for a while: a worker of a queue does not unpack a batch once per record, nor does each of
//! many readers of another dialect.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use model::{Batch, FormatTag, LogId, Offset, Record, Result};
use parking_lot::Mutex;

use crate::{broker::Broker, read::ChunkBatch, stream::Partition};

/// What a decoded record takes beside its bytes, about.
const RECORD_LEN: usize = 320;

/// The records of one batch.
pub struct Decoded {
    /// By index; a missing index is a gap.
    records: Vec<(u32, Record)>,
    len: usize,
}

impl Decoded {
    /// The record at `index` of the batch.
    pub fn record(&self, index: u32) -> Option<&Record> {
        let at = self.records.binary_search_by_key(&index, |(index, _)| *index).ok()?;
        self.records.get(at).map(|(_, record)| record)
    }

    /// Every record with its index.
    pub fn records(&self) -> &[(u32, Record)] {
        &self.records
    }
}

/// Keeps decoded batches up to a number of bytes; the oldest go first.
#[derive(Default)]
pub(crate) struct DecodedCache {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    by_place: HashMap<(LogId, Offset), Arc<Decoded>>,
    ages: VecDeque<(LogId, Offset)>,
    len: usize,
}

impl Kept {
    fn insert(&mut self, place: (LogId, Offset), decoded: Arc<Decoded>, len_max: usize) {
        if decoded.len > len_max / 4 || self.by_place.contains_key(&place) {
            return;
        }
        self.len += decoded.len;
        self.by_place.insert(place, decoded);
        self.ages.push_back(place);
        while self.len > len_max
            && let Some(oldest) = self.ages.pop_front()
        {
            self.len -= self.by_place.remove(&oldest).map_or(0, |gone| gone.len);
        }
    }
}

impl Broker {
    /// The records of a batch of `partition`, decoded once for a while.
    pub fn decoded(&self, partition: &Partition, batch: &Batch) -> Result<Arc<Decoded>> {
        let place = (partition.log_id(), batch.base);
        if let Some(known) = self.inner.decoded.kept.lock().by_place.get(&place) {
            return Ok(known.clone());
        }
        let mut records = Vec::new();
        self.formats().read(batch, &mut |index, mut record| {
            record.append_time_ms = batch.append_time_ms;
            records.push((index, record));
            Ok(())
        })?;
        let len = batch.body.len() + RECORD_LEN * records.len();
        let decoded = Arc::new(Decoded { records, len });
        self.inner.decoded.kept.lock().insert(place, decoded.clone(), self.options().decoded_len_max());
        Ok(decoded)
    }

    /// The live records of a batch as one batch body of another format; `None` when none is left. Gaps are closed: the
    /// offsets are beside it.
    pub fn convert(
        &self,
        partition: &Partition,
        part: &ChunkBatch,
        to: FormatTag,
    ) -> Result<Option<(Vec<Offset>, Bytes)>> {
        let batch = &part.batch;
        let is_live = |index: &u32| !part.dropped.as_ref().is_some_and(|gone| gone.contains(*index));
        let decoded = self.decoded(partition, batch)?;
        let live = decoded.records().iter().filter(|(index, _)| is_live(index));
        let (offsets, records): (Vec<Offset>, Vec<Record>) =
            live.map(|(index, record)| (batch.base.plus(u64::from(*index)), record.clone())).unzip();
        if records.is_empty() || batch.flags.control {
            return Ok(None);
        }
        self.inner.counters.converted_batches.add(1);
        Ok(Some((offsets, self.formats().of(to)?.write(&records)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ReadLimits, Span,
        plain::PLAIN,
        testing::{Rig, wait},
    };

    #[test]
    fn a_batch_is_decoded_once_and_converted_without_what_is_gone() {
        let rig = Rig::new();
        rig.log("orders", 1);
        let partition = rig.partition("orders", 0);
        rig.append(&partition, &["a", "b", "c"]);
        let seq = rig.broker.drop_records(&partition, &[Span::one(Offset(1))].into_iter().collect()).unwrap();
        wait(rig.broker.durable(seq)).unwrap();
        let chunk = wait(rig.broker.read(&partition, Offset(0), ReadLimits::default())).unwrap();
        let [first, again] =
            [0, 0].map(|at: usize| rig.broker.decoded(&partition, &chunk.batches[at].batch).unwrap());
        assert!(Arc::ptr_eq(&first, &again));
        assert!(first.record(2).is_some() && first.record(3).is_none());
        let (offsets, _) = rig.broker.convert(&partition, &chunk.batches[0], PLAIN).unwrap().unwrap();
        assert_eq!(offsets, [Offset(0), Offset(2)]);
    }

    #[test]
    fn the_oldest_decoded_batches_go_when_the_budget_is_used() {
        let mut kept = Kept::default();
        let decoded = |len| Arc::new(Decoded { records: Vec::new(), len });
        for at in 0..10 {
            kept.insert((LogId(1), Offset(at)), decoded(20), 100);
        }
        assert_eq!((kept.len, kept.by_place.len()), (100, 5));
        kept.insert((LogId(1), Offset(99)), decoded(26), 100);
        assert!(!kept.by_place.contains_key(&(LogId(1), Offset(99))), "one must not push out all others");
    }
}
