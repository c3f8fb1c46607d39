//! Which partition of a stream takes which record.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use model::{Attributes, PartitionIndex, Record, Result};

use crate::{
    broker::Broker,
    partitioning::partition_of_key,
    publish::NewBatch,
    stream::{Partition, Stream},
};

impl Broker {
    /// The batch by the partitions of `stream` that its records belong to.
    pub(crate) fn spread(&self, stream: &Stream, batch: NewBatch) -> Result<Vec<(Arc<Partition>, NewBatch)>> {
        let whole = |partition: Option<&Arc<Partition>>| {
            partition.map(|partition| (partition.clone(), batch.clone()))
        };
        if let [only] = stream.partitions() {
            return Ok(whole(Some(only)).into_iter().collect());
        }
        let keys = self.keys_of(&batch)?;
        let places: Vec<_> = keys.iter().map(|key| index_for(stream, key.as_deref())).collect();
        if let Some(first) = places.first()
            && places.iter().all(|place| place == first)
        {
            return Ok(first.and_then(|index| whole(stream.partition(index))).into_iter().collect());
        }
        let mut records: BTreeMap<PartitionIndex, Vec<(u32, Record)>> = BTreeMap::new();
        self.formats().read(&batch.as_stored(), &mut |index, record| {
            if let Some(Some(place)) = places.get(index as usize) {
                records.entry(*place).or_default().push((index, record));
            }
            Ok(())
        })?;
        let parted = records.into_iter().filter_map(|(place, records)| {
            let partition = stream.partition(place)?.clone();
            Some(self.part(&batch, records).map(|part| (partition, part)))
        });
        parted.collect()
    }

    /// The key of every record, as stored in the target; where it has none, what it was published under is its key
    /// wherever keys are read.
    pub(super) fn keys_of(&self, batch: &NewBatch) -> Result<Vec<Option<Bytes>>> {
        let mut keys: Vec<Option<Bytes>> =
            (0..batch.count).map(|index| batch.attributes.of(index)?.record_key.clone()).collect();
        if keys.iter().any(Option::is_none) {
            self.formats().of(batch.format)?.attributes(&batch.as_stored(), &mut |index, row| {
                if let Some(key @ None) = keys.get_mut(index as usize) {
                    *key = row.record_key.or(row.route_key);
                }
                Ok(())
            })?;
        }
        Ok(keys)
    }

    /// A batch of some of the records of another.
    pub(super) fn part(&self, batch: &NewBatch, records: Vec<(u32, Record)>) -> Result<NewBatch> {
        let attributes = match &batch.attributes {
            Attributes::Rows(rows) => {
                let row = |(index, _): &(u32, Record)| rows.get(*index as usize).cloned().unwrap_or_default();
                Attributes::Rows(records.iter().map(row).collect())
            }
            same => same.clone(),
        };
        let records: Vec<Record> = records.into_iter().map(|(_, record)| record).collect();
        Ok(NewBatch {
            count: u32::try_from(records.len()).unwrap_or(u32::MAX),
            max_event_time_ms: batch
                .max_event_time_ms
                .and_then(|_| records.iter().filter_map(|record| record.event_time_ms).max()),
            body: self.formats().of(batch.format)?.write(&records)?,
            attributes,
            longest_len: None,
            counted_len: None,
            ..batch.clone()
        })
    }
}

/// The partition that takes records of a key: the same for the same key; without one, the one that ends first.
fn index_for(stream: &Stream, key: Option<&[u8]>) -> Option<PartitionIndex> {
    let partitions = stream.partitions();
    match key {
        Some(key) => {
            let count = u32::try_from(partitions.len()).ok().filter(|count| *count > 0)?;
            Some(PartitionIndex(partition_of_key(key, count)))
        }
        None => partitions.iter().min_by_key(|partition| partition.bounds().end).map(|least| least.index()),
    }
}
