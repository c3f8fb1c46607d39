//! CreateQueue.

use broker::{Action, Facets, Stream, StreamSpec};
use model::{ErrorKind, Seq, StreamKey};

use super::{
    attributes::{Attributes, RETENTION_MAX_S, Redrive, invalid, unknown},
    queues::{self, authorize, check_name, works_of},
    redrive,
    tags::check_tags,
};
use crate::{
    AwsError, Context,
    shapes::{CreateQueueInput, CreateQueueOutput, Pairs, Text},
};

pub(super) async fn call(ctx: &Context, input: CreateQueueInput<'_>) -> Result<CreateQueueOutput, AwsError> {
    let CreateQueueInput { queue_name, attributes, tags } = input;
    let is_fifo = is_fifo(&queue_name, &attributes)?;
    check_name(&queue_name, is_fifo)?;
    authorize(ctx, Action::Configure, &queue_name)?;
    let output = CreateQueueOutput { queue_url: ctx.queue_url(&queue_name) };
    let key = StreamKey::queue(&ctx.caller().namespace, &queue_name);
    if let Some(known) = queues::stream_of(ctx, &key) {
        let wait = agree(ctx, &queue_name, &known, &attributes)?;
        ctx.broker().durable(wait).await?;
        return Ok(output);
    }
    ctx.server.sqs.check_not_deleted_recently(ctx, &key)?;
    let mut wanted = Attributes { is_fifo, created_s: super::now_s(ctx), ..Attributes::default() };
    wanted.modified_s = wanted.created_s;
    assign(ctx, &queue_name, &mut wanted, &attributes)?;
    wanted.scope = wanted.scope_shown;
    wanted.tags = tags.0.into_iter().map(|(key, value)| (key.into_owned(), value.into_owned())).collect();
    check_tags(&queue_name, &wanted.tags)?;
    if attributes.find("RedrivePolicy").is_none() {
        wanted.redrive = default_redrive(ctx, &key, &wanted)?;
    }
    match create(ctx, key.clone(), &wanted) {
        Ok(wait) => ctx.broker().durable(wait).await?,
        // Somebody else was a moment earlier.
        Err(e) if e.code == "QueueAlreadyExists" => {
            let known = queues::stream_of(ctx, &key).ok_or(e)?;
            let wait = agree(ctx, &queue_name, &known, &attributes)?;
            ctx.broker().durable(wait).await?;
        }
        Err(e) => return Err(e),
    }
    Ok(output)
}

/// Stages a queue with its cursor. The sequence says when both are durable.
pub(super) fn create(ctx: &Context, key: StreamKey, wanted: &Attributes) -> Result<Seq, AwsError> {
    let spec = StreamSpec { partitions: 1, settings: wanted.settings(), facets: Facets::default() };
    let (stream, created) = ctx.broker().stage_create_stream(key, spec).map_err(|e| match e.kind() {
        ErrorKind::Limit => AwsError::over_limit(e.text().to_owned()),
        _ => AwsError::from(e),
    })?;
    let (_, opened) = works_of(ctx.broker(), &stream, wanted.is_fifo)?;
    Ok(created.max(opened))
}

/// The dead-letter queue that a queue has which says nothing of one, where the dialect's settings make one for each.
pub(super) fn default_redrive(
    ctx: &Context,
    key: &StreamKey,
    wanted: &Attributes,
) -> Result<Option<Redrive>, AwsError> {
    let Some(receive_count_max) = ctx.options().default_dead_letter else { return Ok(None) };
    if key.name.ends_with(DEAD_SUFFIX) {
        return Ok(None);
    }
    let target = StreamKey::queue(&key.namespace, &format!("{}{DEAD_SUFFIX}", key.name));
    let Attributes { is_fifo, created_s, modified_s, .. } = *wanted;
    let dead =
        Attributes { is_fifo, created_s, modified_s, retention_s: RETENTION_MAX_S, ..Attributes::default() };
    match create(ctx, target.clone(), &dead) {
        // Both are staged, and whoever waits for the queue waits for this one, which comes before it.
        Ok(_) => {}
        Err(e) if e.code == "QueueAlreadyExists" => {}
        Err(e) => return Err(e),
    }
    Ok(Some(Redrive { target, receive_count_max }))
}

/// How the name of a default dead-letter queue ends.
pub(super) const DEAD_SUFFIX: &str = ".dlq";

fn is_fifo(name: &str, attributes: &Pairs<'_, Text<'_>>) -> Result<bool, AwsError> {
    match attributes.find("FifoQueue") {
        None => Ok(false),
        Some(value) if value.eq_ignore_ascii_case("true") => Ok(true),
        // A queue either is one, or says nothing of it.
        Some(value) if value.eq_ignore_ascii_case("false") && name.ends_with(".fifo") => {
            Err(AwsError::invalid_attribute_value(NO_CHANGE))
        }
        Some(value) if value.eq_ignore_ascii_case("false") => Err(unknown("FifoQueue")),
        Some(_) => Err(invalid("FifoQueue")),
    }
}

/// The text for a queue that is to become one of the other type.
pub(super) const NO_CHANGE: &str =
    "Invalid value for the parameter FifoQueue. Reason: Modifying queue type is not supported.";

/// Puts attributes of a request into those of a queue.
pub(super) fn assign(
    ctx: &Context,
    name: &str,
    to: &mut Attributes,
    given: &Pairs<'_, Text<'_>>,
) -> Result<(), AwsError> {
    for (attribute, value) in &given.0 {
        match attribute.as_ref() {
            "FifoQueue" if !to.is_fifo => return Err(unknown("FifoQueue")),
            "FifoQueue" if value.eq_ignore_ascii_case("true") => {}
            "FifoQueue" => return Err(AwsError::invalid_attribute_value(NO_CHANGE)),
            "RedrivePolicy" => to.redrive = redrive::policy(ctx, name, to, value)?,
            "RedriveAllowPolicy" => to.redrive_allow = redrive::allow_policy(value)?,
            other => to.set(other, value)?,
        }
    }
    let has_key = given.find("KmsMasterKeyId").is_some_and(|key| !key.is_empty());
    match given.find("SqsManagedSseEnabled").map(|value| value.eq_ignore_ascii_case("true")) {
        Some(true) if has_key => {
            return Err(AwsError::invalid_attribute_name(
                "You can use one type of server-side encryption (SSE) at one time. You can either enable KMS SSE or SQS SSE.",
            ));
        }
        Some(true) => to.kms_key = None,
        _ if has_key => to.sse = false,
        _ => {}
    }
    to.check()
}

/// Whether a queue that is there has the attributes that are asked for; those that are not asked for may be any. What the
/// answer rests on is durable with the sequence.
fn agree(
    ctx: &Context,
    name: &str,
    known: &std::sync::Arc<Stream>,
    given: &Pairs<'_, Text<'_>>,
) -> Result<Seq, AwsError> {
    let theirs = Attributes::of(known.settings());
    for (attribute, value) in &given.0 {
        let one = Pairs(vec![(attribute.clone(), value.clone())]);
        let mut changed = theirs.clone();
        // What takes two attributes to be right was right when the queue was made.
        let assigned = match attribute.as_ref() {
            "FifoThroughputLimit" => changed.set("FifoThroughputLimit", value),
            _ => assign(ctx, name, &mut changed, &one),
        };
        let differs = assigned.is_err() || !is_same(&changed, &theirs, given);
        if let Err(error) = assigned
            && error.code != "InvalidAttributeValue"
        {
            return Err(error);
        }
        if differs {
            return Err(AwsError::queue_name_exists(format!(
                "A queue already exists with the same name and a different value for attribute {attribute}"
            )));
        }
    }
    let (_, opened) = works_of(ctx.broker(), known, theirs.is_fifo)?;
    // Whoever makes it may still wait for the disk.
    Ok(opened.max(ctx.broker().catalog_staged()))
}

/// Asking for a key of KMS turns the other encryption off, which is no difference of its own.
fn is_same(changed: &Attributes, theirs: &Attributes, given: &Pairs<'_, Text<'_>>) -> bool {
    let sse = if given.find("SqsManagedSseEnabled").is_some() { changed.sse } else { theirs.sse };
    Attributes { sse, ..changed.clone() } == *theirs
}
