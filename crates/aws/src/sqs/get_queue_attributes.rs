//! GetQueueAttributes.

use broker::Counts;
use model::ErrorKind;

use super::{
    attributes::{Attributes, Scope, unknown},
    queues::Queue,
    redrive,
};
use crate::{
    AwsError, Context,
    shapes::{GetQueueAttributesInput, GetQueueAttributesOutput, NamedValues},
};

const NAMES: [&str; 21] = [
    "Policy",
    "VisibilityTimeout",
    "MaximumMessageSize",
    "MessageRetentionPeriod",
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "CreatedTimestamp",
    "LastModifiedTimestamp",
    "QueueArn",
    "ApproximateNumberOfMessagesDelayed",
    "DelaySeconds",
    "ReceiveMessageWaitTimeSeconds",
    "RedrivePolicy",
    "RedriveAllowPolicy",
    "FifoQueue",
    "ContentBasedDeduplication",
    "DeduplicationScope",
    "FifoThroughputLimit",
    "KmsMasterKeyId",
    "KmsDataKeyReusePeriodSeconds",
    "SqsManagedSseEnabled",
];

/// Whether queues have an attribute of that name.
pub(super) fn is_name(name: &str) -> bool {
    NAMES.contains(&name)
}

pub(super) async fn call(
    ctx: &Context,
    input: GetQueueAttributesInput<'_>,
) -> Result<GetQueueAttributesOutput, AwsError> {
    let queue = Queue::seen(ctx, &input.queue_url)?;
    let mut wanted: Vec<&'static str> = Vec::new();
    for name in &input.attribute_names {
        match NAMES.iter().find(|known| *known == name) {
            Some(known) if !wanted.contains(known) => wanted.push(known),
            Some(_) => {}
            None if name == "All" => wanted = NAMES.into(),
            None => return Err(unknown(name)),
        }
    }
    let counts = if wanted.iter().any(|name| name.starts_with("Approximate")) {
        counts(ctx, &queue).await?
    } else {
        Counts::default()
    };
    let value = |name: &'static str| Some((name, value(ctx, &queue, &counts, name)?));
    Ok(GetQueueAttributesOutput { attributes: NamedValues(wanted.into_iter().filter_map(value).collect()) })
}

fn value(ctx: &Context, queue: &Queue, counts: &Counts, name: &str) -> Option<String> {
    let all: &Attributes = &queue.attributes;
    let of_fifo = |value: &str| all.is_fifo.then(|| value.to_owned());
    match name {
        "Policy" => all.policy.clone(),
        "VisibilityTimeout" => Some(all.visibility_s.to_string()),
        "MaximumMessageSize" => Some(all.message_len_max.to_string()),
        "MessageRetentionPeriod" => Some(all.retention_s.to_string()),
        "ApproximateNumberOfMessages" => Some((counts.ready + counts.exhausted).to_string()),
        "ApproximateNumberOfMessagesNotVisible" => Some(counts.leased.to_string()),
        "ApproximateNumberOfMessagesDelayed" => Some(counts.delayed.to_string()),
        "CreatedTimestamp" => Some(all.created_s.to_string()),
        "LastModifiedTimestamp" => Some(all.modified_s.to_string()),
        "QueueArn" => Some(queue.arn(ctx)),
        "DelaySeconds" => Some(all.delay_s.to_string()),
        "ReceiveMessageWaitTimeSeconds" => Some(all.wait_s.to_string()),
        "RedrivePolicy" => all.redrive.as_ref().map(|redrive| redrive::shown(ctx, redrive)),
        "RedriveAllowPolicy" => all.redrive_allow.clone(),
        "FifoQueue" => of_fifo("true"),
        "ContentBasedDeduplication" => of_fifo(&all.content_dedup.to_string()),
        "DeduplicationScope" => of_fifo(match all.scope_shown {
            Scope::Queue => "queue",
            Scope::Group => "messageGroup",
        }),
        "FifoThroughputLimit" => {
            of_fifo(if all.is_limited_per_group { "perMessageGroupId" } else { "perQueue" })
        }
        "KmsMasterKeyId" => all.kms_key.clone(),
        "KmsDataKeyReusePeriodSeconds" => all.kms_reuse_s.map(|seconds| seconds.to_string()),
        "SqsManagedSseEnabled" => Some(all.sse.to_string()),
        _ => None,
    }
}

/// How many messages are in which state, exactly, over all partitions.
pub(super) async fn counts(ctx: &Context, queue: &Queue) -> Result<Counts, AwsError> {
    let mut all = Counts::default();
    let delay_ms = queue.stream.settings().delay_ms;
    for work in queue.works(ctx.broker())?.0 {
        let end = work.partition().bounds().end;
        let counts = if delay_ms == 0 {
            work.counts_held_from(end)?
        } else {
            // What was appended after this is still waiting.
            let since_ms = super::now_ms(ctx).saturating_sub_unsigned(delay_ms).saturating_add(1);
            match ctx.broker().search_time(work.partition(), since_ms).await {
                Ok(Some((offset, _))) => work.counts_held_from(offset)?,
                Ok(None) => work.counts_held_from(end)?,
                Err(e) if e.kind() == ErrorKind::NotFound => work.counts()?,
                Err(e) => return Err(e.into()),
            }
        };
        all.ready += counts.ready;
        all.leased += counts.leased;
        all.delayed += counts.delayed;
        all.exhausted += counts.exhausted;
    }
    Ok(all)
}
