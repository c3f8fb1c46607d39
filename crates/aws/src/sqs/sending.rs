//! What sending one message and sending ten have in common.

use std::{borrow::Cow, sync::Arc, time::Duration};

use broker::{
    Append, Conditions, NewBatch, Outcome, Partition, PublishUnit, Published, RefusalReason, routing::Routed,
};
use bytes::Bytes;
use model::{Attributes, ErrorKind, RecordAttributes};
use sha2::{Digest, Sha256};

use super::{
    attributes::{DELAY_MAX_S, Scope},
    format::{FORMAT, row_of},
    ids,
    message::{Attribute, Message, Sums, TRACE_HEADER, Value, body_of, hex, sums_of},
    queues::Queue,
    validate,
};
use crate::{
    AwsError, Context,
    shapes::{AttributeValueInput, MessageAttributesInput, Pairs, Text},
};

/// How addresses of this dialect begin in routes.
pub const DIALECT: &str = "sqs";

/// How long a message waits for room when more is sent than the disk takes, before its sender is told to slow down.
const ROOM_WAIT: Duration = Duration::from_secs(10);

/// Due times are rounded up to this, milliseconds: what is delayed alike then costs one entry together.
const DUE_STEP_MS: i64 = 50;

/// A message as a request has it.
pub(super) struct Parts<'a> {
    pub body: Text<'a>,
    pub delay_seconds: Option<i32>,
    pub attributes: MessageAttributesInput<'a>,
    pub system_attributes: MessageAttributesInput<'a>,
    pub dedup_id: Option<Text<'a>>,
    pub group_id: Option<Text<'a>>,
}

/// A message that may be sent.
pub(super) struct Outgoing<'a> {
    message: Message<'a>,
    /// Computed for all that are sent together.
    sums: Sums,
    deliver_at_ms: Option<i64>,
    dedup_key: Option<Bytes>,
}

/// What the sender is told of a message.
pub(super) struct Sent {
    pub message_id: String,
    pub sequence_number: Option<String>,
    pub md5_of_body: String,
    pub md5_of_attributes: Option<String>,
    pub md5_of_system_attributes: Option<String>,
}

/// Checks a message, in the order in which AWS does.
pub(super) fn check<'a>(ctx: &Context, queue: &Queue, parts: Parts<'a>) -> Result<Outgoing<'a>, AwsError> {
    let Parts { body, delay_seconds, attributes, system_attributes, dedup_id, group_id } = parts;
    if body.is_empty() {
        return Err(AwsError::missing("MessageBody"));
    }
    let attributes = message_attributes(attributes)?;
    let mut message = Message {
        body,
        attributes,
        trace_header: trace_header(system_attributes)?,
        group_id,
        dedup_id,
        sender_id: sender_id(ctx),
    };
    let len_max = queue.attributes.message_len_max as usize;
    if message.len() > len_max {
        return Err(AwsError::invalid_parameter_value(format!(
            "One or more parameters are invalid. Reason: Message must be shorter than {len_max} bytes."
        )));
    }
    validate::contents(&message.body).map_err(AwsError::invalid_message_contents)?;
    message.attributes.iter().try_for_each(validate::attribute).map_err(AwsError::invalid_parameter_value)?;
    for (parameter, id) in
        [("MessageDeduplicationId", &message.dedup_id), ("MessageGroupId", &message.group_id)]
    {
        if let Some(id) = id {
            validate::id(parameter, id).map_err(AwsError::invalid_parameter_value)?;
        }
    }
    let deliver_at_ms = due(ctx, queue, delay_seconds)?;
    let dedup_key = if queue.attributes.is_fifo { Some(dedup(queue, &mut message)?) } else { None };
    if let Some(id) = message.dedup_id.as_ref().filter(|_| dedup_key.is_none()) {
        return Err(not_of_this_type(id, "MessageDeduplicationId"));
    }
    Ok(Outgoing { message, sums: Sums::default(), deliver_at_ms, dedup_key })
}

fn not_of_this_type(value: impl std::fmt::Display, parameter: &str) -> AwsError {
    AwsError::invalid_value(
        value,
        parameter,
        "The request include parameter that is not valid for this queue type.",
    )
}

/// Who sends, where that is not what a receiver is told anyway.
fn sender_id(ctx: &Context) -> Option<Cow<'static, str>> {
    let caller = ctx.caller();
    caller.principal.name.as_ref().map(|name| Cow::Owned(name.to_string()))
}

/// When a message may be received, if that is not at once. Those of a FIFO queue all wait as long as the queue says.
fn due(ctx: &Context, queue: &Queue, delay_seconds: Option<i32>) -> Result<Option<i64>, AwsError> {
    if queue.attributes.is_fifo {
        return match delay_seconds {
            None | Some(0) => Ok(None),
            Some(seconds) => Err(not_of_this_type(seconds, "DelaySeconds")),
        };
    }
    let seconds = match delay_seconds {
        None => queue.attributes.delay_s,
        Some(seconds) => u32::try_from(seconds).ok().filter(|_| seconds <= DELAY_MAX_S).ok_or_else(|| {
            AwsError::invalid_value(seconds, "DelaySeconds", "DelaySeconds must be >= 0 and <= 900.")
        })?,
    };
    if seconds == 0 {
        return Ok(None);
    }
    let due_ms = ctx.broker().env().clock.wall_ms().saturating_add(i64::from(seconds) * 1_000);
    Ok(Some(due_ms.saturating_add(DUE_STEP_MS - 1) / DUE_STEP_MS * DUE_STEP_MS))
}

/// The key that duplicates of a message have, which gets an id if it has none.
fn dedup(queue: &Queue, message: &mut Message<'_>) -> Result<Bytes, AwsError> {
    let group = message.group_id.as_deref().ok_or_else(|| AwsError::missing("MessageGroupId"))?;
    let id = match &message.dedup_id {
        Some(id) => id.clone().into_owned(),
        None if queue.attributes.content_dedup => content_id(&message.body),
        None => return Err(AwsError::invalid_parameter_value(NO_DEDUP_ID)),
    };
    let key = match queue.attributes.scope {
        Scope::Queue => id.clone(),
        // Ids have no space.
        Scope::Group => format!("{group} {id}"),
    };
    message.dedup_id = Some(id.into());
    Ok(Bytes::from(key))
}

/// The text for a message of a FIFO queue that cannot be told from others.
pub(super) const NO_DEDUP_ID: &str = "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly";

fn content_id(body: &str) -> String {
    let hash = Sha256::digest(body.as_bytes());
    let mut text = String::with_capacity(64);
    for half in hash.as_slice().chunks(16) {
        text.push_str(&hex(&half.try_into().unwrap_or_default()));
    }
    text
}

fn message_attributes<'a>(given: MessageAttributesInput<'a>) -> Result<Vec<Attribute<'a>>, AwsError> {
    let Pairs(given) = given;
    if given.len() > validate::ATTRIBUTES_MAX {
        return Err(AwsError::invalid_parameter_value(format!(
            "Number of message attributes [{}] exceeds the allowed maximum [{}].",
            given.len(),
            validate::ATTRIBUTES_MAX
        )));
    }
    given.into_iter().map(|(name, value)| attribute(name, value)).collect()
}

fn attribute<'a>(name: Text<'a>, given: AttributeValueInput<'a>) -> Result<Attribute<'a>, AwsError> {
    let AttributeValueInput { data_type, string_value, binary_value, string_list_values, binary_list_values } =
        given;
    if !string_list_values.is_empty() || !binary_list_values.is_empty() {
        return Err(AwsError::unsupported_operation(
            "Message attribute list values in SendMessage operation are not supported.",
        ));
    }
    let base = validate::base_type(&data_type);
    let value = match base {
        "Binary" => binary_value.map(|value| Value::Binary(value.0.into())),
        "String" | "Number" => string_value.map(Value::Text),
        // The check that follows has the words for it.
        _ => Some(Value::Text(string_value.unwrap_or_default())),
    };
    let value = value.ok_or_else(|| AwsError::invalid_parameter_value(validate::empty_value(&name, base)))?;
    Ok(Attribute { name, data_type, value })
}

fn trace_header<'a>(given: MessageAttributesInput<'a>) -> Result<Option<Text<'a>>, AwsError> {
    let mut header = None;
    for (name, value) in given.0 {
        if name != TRACE_HEADER {
            return Err(AwsError::invalid_parameter_value(format!(
                "Message system attribute name '{name}' is invalid. Only AWSTraceHeader can be sent."
            )));
        }
        if value.data_type != "String" {
            return Err(AwsError::invalid_parameter_value(format!(
                "The message system attribute '{name}' must be of type 'String'."
            )));
        }
        let one = attribute(name, value)?;
        validate::attribute(&one)
            .or_else(|text| if text.contains("reserved") { Ok(()) } else { Err(text) })
            .map_err(AwsError::invalid_parameter_value)?;
        if let Value::Text(text) = one.value {
            header = Some(text);
        }
    }
    Ok(header)
}

impl Outgoing<'_> {
    fn row(&self) -> Option<RecordAttributes> {
        if self.message.group_id.is_none() && self.deliver_at_ms.is_none() {
            return None;
        }
        Some(RecordAttributes { deliver_at_ms: self.deliver_at_ms, ..row_of(&self.message) })
    }
}

/// Stores messages, each with its outcome. Answers after the commit.
pub(super) async fn send(
    ctx: &Context,
    queue: &Queue,
    mut all: Vec<Outgoing<'_>>,
) -> Result<Vec<Result<Sent, AwsError>>, AwsError> {
    let sums = sums_of(all.iter().map(|one| &one.message));
    all.iter_mut().zip(sums).for_each(|(one, sums)| one.sums = sums);
    let broker = ctx.broker();
    let partition = emptiest(queue).ok_or_else(AwsError::no_such_queue)?;
    let stream = &queue.stream;
    let onward = ctx.server.sqs.onward(broker, &stream.key().namespace, &stream.key().name);
    let units = units(&all);
    let Published { outcomes, wait, .. } = publish(ctx, queue, partition, &units, onward.as_deref()).await?;
    broker.durable(wait).await?;
    let mut sent = Vec::with_capacity(all.len());
    for (unit, outcome) in units.iter().zip(&outcomes) {
        for (index, outgoing) in (0..).zip(unit.of) {
            sent.push(outcome_of(ctx, queue, partition, outgoing, index, outcome));
        }
    }
    Ok(sent)
}

/// Messages that are stored as one batch.
struct Unit<'a, 'm> {
    of: &'a [Outgoing<'m>],
    batch: NewBatch,
    conditions: Conditions,
}

/// Messages that a deduplication may let fall are batches of their own.
fn units<'a, 'm>(all: &'a [Outgoing<'m>]) -> Vec<Unit<'a, 'm>> {
    let chunk = if all.iter().any(|one| one.dedup_key.is_some()) { 1 } else { all.len().max(1) };
    let unit = |of: &'a [Outgoing<'m>]| {
        let rows: Vec<Option<RecordAttributes>> = of.iter().map(Outgoing::row).collect();
        let attributes = match rows.as_slice() {
            [Some(_)] => Attributes::Same(Box::new(rows.into_iter().flatten().next().unwrap_or_default())),
            rows if rows.iter().all(Option::is_none) => Attributes::None,
            _ => {
                let row = |(one, row): (&Outgoing<'m>, Option<RecordAttributes>)| {
                    row.unwrap_or_else(|| row_of(&one.message))
                };
                Attributes::Rows(of.iter().zip(rows).map(row).collect())
            }
        };
        let batch = NewBatch {
            count: u32::try_from(of.len()).unwrap_or(u32::MAX),
            format: FORMAT,
            attributes,
            body: body_of(of.iter().map(|one| (&one.message, &one.sums))),
            longest_len: of.iter().map(|one| u32::try_from(one.message.len()).unwrap_or(u32::MAX)).max(),
            ..NewBatch::default()
        };
        let dedup_key = of.first().and_then(|one| one.dedup_key.clone());
        Unit { of, batch, conditions: Conditions { dedup_key, ..Conditions::default() } }
    };
    all.chunks(chunk).map(unit).collect()
}

async fn publish(
    ctx: &Context,
    queue: &Queue,
    partition: &Arc<Partition>,
    units: &[Unit<'_, '_>],
    onward: Option<&[Routed]>,
) -> Result<Published, AwsError> {
    let broker = ctx.broker();
    let deadline = tokio::time::Instant::now() + ROOM_WAIT;
    loop {
        let append = |unit: &Unit<'_, '_>| Append {
            partition: partition.clone(),
            batch: unit.batch.clone(),
            conditions: unit.conditions.clone(),
        };
        let mut unit = PublishUnit::of(units.iter().map(append).collect());
        for (of, one) in units.iter().enumerate() {
            if let Some(onward) = onward {
                let stream = std::slice::from_ref(&queue.stream);
                broker.onward(onward, &one.batch, stream)?.follow(of, &mut unit);
            }
        }
        match broker.publish(unit) {
            Err(e) if e.kind() == ErrorKind::Throttled => {
                tokio::time::timeout_at(deadline, broker.room()).await.map_err(|_| AwsError::from(e))?;
            }
            published => return Ok(published?),
        }
    }
}

/// Over a log with several partitions, the one that ends first.
fn emptiest(queue: &Queue) -> Option<&Arc<Partition>> {
    queue.stream.partitions().iter().min_by_key(|partition| partition.bounds().end)
}

fn outcome_of(
    ctx: &Context,
    queue: &Queue,
    partition: &Partition,
    outgoing: &Outgoing<'_>,
    index: u64,
    outcome: &Outcome,
) -> Result<Sent, AwsError> {
    let (base, append_time_ms) = match outcome {
        Outcome::Appended { base, append_time_ms } | Outcome::Duplicate { base, append_time_ms } => {
            (*base, *append_time_ms)
        }
        Outcome::Refused(refusal) => {
            return Err(match refusal.reason {
                RefusalReason::TooLarge => AwsError::invalid_parameter_value(refusal.error.text().to_owned()),
                RefusalReason::Closed => AwsError::no_such_queue(),
                _ => AwsError::from(refusal.error.clone()),
            });
        }
    };
    let offset = base.plus(index);
    let Sums { body, attributes, system } = outgoing.sums;
    Ok(Sent {
        message_id: ids::message_id(ctx.server.sqs.seed, partition.log_id(), offset, append_time_ms),
        sequence_number: queue.attributes.is_fifo.then(|| ids::sequence_number(offset)),
        md5_of_body: hex(&body),
        md5_of_attributes: attributes.as_ref().map(hex),
        md5_of_system_attributes: system.as_ref().map(hex),
    })
}
