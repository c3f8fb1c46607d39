//! Logs that other dialects made, as streams: to be listed, described and read by consumers. They take no subject, so no
//! publish reaches them by one.

use broker::{Broker, ChunkBatch, Partition, Stream};
use bytes::Bytes;
use model::{Offset, PartitionIndex, Result, alias, alias_of_part};

use super::{
    config::{StreamConfig, is_name_char},
    stored::FORMAT,
};

/// Longest name of a stream, bytes.
const NAME_LEN_MAX: usize = 255;

/// Under which name a log is shown.
pub(super) fn shown_name(name: &str) -> String {
    alias(name, NAME_LEN_MAX, is_name_char).unwrap_or_else(|| name.to_owned())
}

/// Whether a name may be an alias, which ends in a dash and six hex digits.
pub(super) fn may_be_alias(name: &str) -> bool {
    let hash = name.rsplit_once('-').map(|(_, hash)| hash);
    hash.is_some_and(|hash| hash.len() == 6 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Under which name a partition of a log is shown: one of several is a stream by itself.
pub(super) fn shown_partition(stream: &Stream, index: PartitionIndex) -> String {
    match stream.partitions().len() {
        0 | 1 => shown_name(&stream.key().name),
        _ => alias_of_part(&stream.key().name, index.0, NAME_LEN_MAX, is_name_char),
    }
}

/// What is shown of a partition of a log that another dialect made, where that has a face in this one.
pub(super) fn config_of(stream: &Stream, index: PartitionIndex) -> Option<StreamConfig> {
    (!stream.facets().hidden).then(|| StreamConfig::of_another(shown_partition(stream, index)))
}

/// The messages of a batch of another dialect, with their offsets. In a log that another dialect made, what was published
/// without an address has the name of the log as its subject.
pub(super) fn converted(
    broker: &Broker,
    partition: &Partition,
    part: &ChunkBatch,
) -> Result<Option<(Vec<Offset>, Bytes)>> {
    let stream = broker.stream_by_id(partition.stream_id());
    let Some(stream) = stream.filter(|stream| StreamConfig::of(stream.settings()).is_none()) else {
        return broker.convert(partition, part, FORMAT);
    };
    let batch = &part.batch;
    if batch.flags.control {
        return Ok(None);
    }
    let subject = Bytes::from(shown_partition(&stream, partition.index()));
    let decoded = broker.decoded(partition, batch)?;
    let (mut offsets, mut records) = (Vec::new(), Vec::new());
    for (index, record) in decoded.records() {
        if !part.dropped.as_ref().is_some_and(|gone| gone.contains(*index)) {
            let mut record = record.clone();
            record.route_key.get_or_insert_with(|| subject.clone());
            offsets.push(batch.base.plus(u64::from(*index)));
            records.push(record);
        }
    }
    if records.is_empty() {
        return Ok(None);
    }
    Ok(Some((offsets, broker.formats().of(FORMAT)?.write(&records)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_whose_name_is_none_for_a_stream_is_shown_under_an_alias() {
        assert_eq!(shown_name("orders"), "orders");
        let shown = shown_name("orders.eu");
        assert!(shown.starts_with("orders_eu-") && may_be_alias(&shown), "{shown}");
        assert!(!may_be_alias("orders") && !may_be_alias("orders-12345x"));
    }
}
