//! Records as the messages that a receive answers.

use broker::{Delivery, GrantRun, Partition};
use model::{Batch, Offset, Record};

use super::{
    foreign,
    format::FORMAT,
    handle::Handle,
    ids,
    message::{self, Attribute, Message, Sums, TRACE_HEADER, Value, attributes_sum, hex},
    queues::{Queue, arn_of},
};
use crate::{
    AwsError, Context,
    shapes::{self, AttributeValueOutput, Blob, NamedValues},
};

/// The system attributes of a message.
const SYSTEM: [&str; 9] = [
    "SenderId",
    "SentTimestamp",
    "ApproximateReceiveCount",
    "ApproximateFirstReceiveTimestamp",
    "SequenceNumber",
    "MessageDeduplicationId",
    "MessageGroupId",
    TRACE_HEADER,
    "DeadLetterQueueSourceArn",
];

/// Which attributes of messages are wanted.
pub(super) struct Wanted {
    system: Vec<&'static str>,
    names: Vec<String>,
}

impl Wanted {
    /// All there are.
    pub(super) fn all() -> Wanted {
        Wanted { system: SYSTEM.into(), names: vec!["All".to_owned()] }
    }

    /// Those of a request: names of system attributes, and of the sender's. Names that no message has are passed over
    /// where a queue has them: clients of old ask for both kinds in one list.
    pub(super) fn of<'a>(
        system: impl Iterator<Item = &'a str>,
        names: impl Iterator<Item = &'a str>,
    ) -> Result<Wanted, AwsError> {
        let mut wanted = Wanted { system: Vec::new(), names: names.map(str::to_owned).collect() };
        for name in system {
            match SYSTEM.iter().find(|known| **known == name) {
                Some(known) if !wanted.system.contains(known) => wanted.system.push(known),
                Some(_) => {}
                None if name == "All" => wanted.system = SYSTEM.into(),
                None if super::get_queue_attributes::is_name(name) => {}
                None => return Err(super::attributes::unknown(name)),
            }
        }
        Ok(wanted)
    }

    /// Whether an attribute of the sender is wanted: by name, by the beginning of its name, or as all are.
    fn wants(&self, name: &str) -> bool {
        self.names.iter().any(|wanted| match wanted.as_str() {
            "All" | ".*" | "*" => true,
            wanted => {
                wanted == name || wanted.strip_suffix(".*").is_some_and(|prefix| name.starts_with(prefix))
            }
        })
    }
}

/// One delivered record.
#[derive(Clone)]
pub(super) struct Taken {
    pub batch: Batch,
    pub offset: Offset,
    pub run: GrantRun,
}

/// The records of deliveries, one by one.
pub(super) fn taken(deliveries: Vec<Delivery>) -> Vec<Taken> {
    let one = |delivery: Delivery| {
        let Delivery { batch, runs } = delivery;
        let offsets = runs
            .into_iter()
            .flat_map(|run| (run.span.start.0..run.span.end.0).map(move |offset| (Offset(offset), run)));
        offsets.map(move |(offset, run)| Taken { batch: batch.clone(), offset, run }).collect::<Vec<_>>()
    };
    deliveries.into_iter().flat_map(one).collect()
}

impl Taken {
    fn index(&self) -> u32 {
        u32::try_from(self.offset.since(self.batch.base)).unwrap_or(u32::MAX)
    }

    /// When it was sent first, milliseconds since the Unix epoch.
    pub(super) fn sent_ms(&self) -> i64 {
        self.batch.origin.map_or(self.batch.append_time_ms, |origin| origin.append_time_ms)
    }
}

/// The handle of a message that is only looked at: it settles nothing.
pub(super) const NO_HANDLE: &str = "SQS/BACKDOOR/ACCESS";

/// A message as it is answered, with the handle of its delivery.
pub(super) fn render(
    ctx: &Context,
    queue: &Queue,
    partition: &Partition,
    one: &Taken,
    wanted: &Wanted,
) -> Result<shapes::Message, AwsError> {
    let handle = Handle { log: partition.log_id(), offset: one.offset, attempt: one.run.attempt };
    let handle = ctx.server.sqs.sealer.seal(handle);
    let with =
        |message: &Message<'_>, sums: &Sums| shown(ctx, queue, partition, one, wanted, message, sums, handle);
    if one.batch.format == FORMAT {
        let found = message::find(&one.batch, one.index())?;
        let (message, sums) =
            found.ok_or_else(|| AwsError::internal_failure("A stored message is not in its batch."))?;
        return Ok(with(&message, &sums));
    }
    let decoded = ctx.broker().decoded(partition, &one.batch)?;
    let gone = Record::default();
    let message = foreign::from_record(decoded.record(one.index()).unwrap_or(&gone));
    let sums = message.sums();
    Ok(with(&message, &sums))
}

#[allow(clippy::too_many_arguments, reason = "one place, and a struct of them would be made here alone")]
fn shown(
    ctx: &Context,
    queue: &Queue,
    partition: &Partition,
    one: &Taken,
    wanted: &Wanted,
    message: &Message<'_>,
    sums: &Sums,
    receipt_handle: String,
) -> shapes::Message {
    let system =
        |name: &&'static str| Some((*name, system_attribute(ctx, queue, partition, one, message, name)?));
    let chosen: Vec<&Attribute<'_>> =
        message.attributes.iter().filter(|attribute| wanted.wants(&attribute.name)).collect();
    let sum =
        if chosen.len() == message.attributes.len() { sums.attributes } else { attributes_sum(&chosen) };
    let seed = ctx.server.sqs.seed;
    let message_id = match &one.batch.origin {
        Some(origin) => ids::moved_message_id(seed, origin),
        None => ids::message_id(seed, partition.log_id(), one.offset, one.batch.append_time_ms),
    };
    shapes::Message {
        message_id,
        receipt_handle,
        md5_of_body: hex(&sums.body),
        body: message.body.clone().into_owned(),
        attributes: NamedValues(wanted.system.iter().filter_map(system).collect()),
        md5_of_message_attributes: sum.as_ref().map(hex),
        message_attributes: NamedValues(chosen.into_iter().map(attribute).collect()),
    }
}

fn attribute(attribute: &Attribute<'_>) -> (String, AttributeValueOutput) {
    let (string_value, binary_value) = match &attribute.value {
        Value::Text(text) => (Some(text.clone().into_owned()), None),
        Value::Binary(bytes) => (None, Some(Blob(bytes.to_vec()))),
    };
    let data_type = attribute.data_type.clone().into_owned();
    (attribute.name.clone().into_owned(), AttributeValueOutput { string_value, binary_value, data_type })
}

fn system_attribute(
    ctx: &Context,
    queue: &Queue,
    partition: &Partition,
    one: &Taken,
    message: &Message<'_>,
    name: &str,
) -> Option<String> {
    let text = |text: &Option<std::borrow::Cow<'_, str>>| text.as_ref().map(|text| text.clone().into_owned());
    let origin = one.batch.origin;
    match name {
        "SenderId" => text(&message.sender_id).or_else(|| Some(ctx.caller().account.to_string())),
        "SentTimestamp" => Some(one.sent_ms().to_string()),
        "ApproximateReceiveCount" => {
            let before = origin.map_or(0, |origin| origin.attempts);
            Some(before.saturating_add(one.run.attempt).to_string())
        }
        "ApproximateFirstReceiveTimestamp" => {
            let first_ms = one.run.first_delivery_ms.filter(|_| one.run.attempt > 0);
            Some(first_ms.unwrap_or_else(|| ctx.broker().env().clock.wall_ms()).to_string())
        }
        "SequenceNumber" => queue.attributes.is_fifo.then(|| ids::sequence_number(one.offset)),
        "MessageDeduplicationId" => text(&message.dedup_id),
        "MessageGroupId" => text(&message.group_id),
        TRACE_HEADER => text(&message.trace_header),
        "DeadLetterQueueSourceArn" => {
            let origin = origin.filter(|origin| origin.source != partition.log_id())?;
            let source = ctx.broker().stream_of_log(origin.source)?;
            let is_ours = source.settings().dead_letter.as_ref()?.target == *queue.stream.key();
            is_ours.then(|| arn_of(ctx, source.key()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_wanted_by_name_by_prefix_or_all() {
        let wants =
            |wanted: &str, name: &str| Wanted { system: Vec::new(), names: vec![wanted.into()] }.wants(name);
        for (wanted, name, expected) in [
            ("All", "a", true),
            (".*", "a", true),
            ("*", "a", true),
            ("a", "a", true),
            ("a", "ab", false),
            ("a.*", "a.b", true),
            ("a.*", "ab", true),
            ("b.*", "a", false),
        ] {
            assert_eq!(wants(wanted, name), expected, "{wanted} {name}");
        }
        assert!(!Wanted { system: Vec::new(), names: Vec::new() }.wants("a"));
    }

    #[test]
    fn a_system_attribute_that_nothing_has_is_refused() {
        let of =
            |name: &str| Wanted::of([name].into_iter(), std::iter::empty()).map(|wanted| wanted.system.len());
        assert_eq!(of("All").unwrap(), SYSTEM.len());
        assert_eq!(of("SenderId").unwrap(), 1);
        assert_eq!(of("Policy").unwrap(), 0);
        assert_eq!(of("x").unwrap_err().message, "Unknown Attribute x.");
    }
}
