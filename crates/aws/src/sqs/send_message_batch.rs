//! SendMessageBatch.

use broker::Action;

use super::{
    batches,
    queues::Queue,
    sending::{self, NO_DEDUP_ID, Outgoing, Parts, Sent},
    validate::MESSAGE_LEN_MAX,
};
use crate::{
    AwsError, Context,
    shapes::{
        BatchResultErrorEntry, Listed, SendMessageBatchInput, SendMessageBatchOutput,
        SendMessageBatchRequestEntry, SendMessageBatchResultEntry,
    },
};

pub(super) async fn call(
    ctx: &Context,
    input: SendMessageBatchInput<'_>,
) -> Result<SendMessageBatchOutput, AwsError> {
    let queue = Queue::find_or_create(ctx, &input.queue_url, Action::Write).await?;
    batches::check("SendMessageBatchRequestEntry", input.entries.iter().map(|entry| entry.id.as_ref()))?;
    check_all(&queue, &input.entries)?;
    let mut output = SendMessageBatchOutput { successful: Listed(Vec::new()), failed: Listed(Vec::new()) };
    let mut sendable: Vec<Outgoing<'_>> = Vec::new();
    let mut ids = Vec::new();
    for entry in input.entries {
        let id = entry.id.clone().into_owned();
        match sending::check(ctx, &queue, parts(entry)) {
            Ok(outgoing) => {
                sendable.push(outgoing);
                ids.push(id);
            }
            Err(error) => output.failed.0.push(BatchResultErrorEntry::of(id, &reworded(error))),
        }
    }
    if sendable.is_empty() {
        return Ok(output);
    }
    for (id, sent) in ids.into_iter().zip(sending::send(ctx, &queue, sendable).await?) {
        match sent {
            Ok(sent) => output.successful.0.push(result(id, sent)),
            Err(error) => output.failed.0.push(BatchResultErrorEntry::of(id, &error)),
        }
    }
    Ok(output)
}

/// What fails a whole batch: its length, and for a FIFO queue an entry that lacks what all must have.
fn check_all(queue: &Queue, entries: &[SendMessageBatchRequestEntry<'_>]) -> Result<(), AwsError> {
    let attributes = |entry: &SendMessageBatchRequestEntry<'_>| {
        let len = entry.message_attributes.0.iter().map(|(name, value)| {
            let text = value.string_value.as_ref().map_or(0, |text| text.len());
            let binary = value.binary_value.as_ref().map_or(0, |binary| binary.0.len());
            name.len() + value.data_type.len() + text + binary
        });
        len.sum::<usize>()
    };
    let len: usize = entries.iter().map(|entry| entry.message_body.len() + attributes(entry)).sum();
    if len > MESSAGE_LEN_MAX {
        return Err(AwsError::batch_request_too_long(format!(
            "Batch requests cannot be longer than {MESSAGE_LEN_MAX} bytes. You have sent {len} bytes."
        )));
    }
    if !queue.attributes.is_fifo {
        return Ok(());
    }
    let lacks_id = |entry: &SendMessageBatchRequestEntry<'_>| entry.message_deduplication_id.is_none();
    if !queue.attributes.content_dedup && entries.iter().any(lacks_id) {
        return Err(AwsError::invalid_parameter_value(NO_DEDUP_ID));
    }
    if entries.iter().any(|entry| entry.message_group_id.is_none()) {
        let missing = AwsError::missing("MessageGroupId");
        return Err(AwsError::invalid_parameter_value(missing.message));
    }
    Ok(())
}

/// AWS has other words for a message that is too long when it is one of a batch.
fn reworded(error: AwsError) -> AwsError {
    match error.message.strip_prefix("One or more parameters are invalid.") {
        Some(rest) => {
            AwsError::invalid_parameter_value(format!("One or more parameters cannot be validated.{rest}"))
        }
        None => error,
    }
}

fn parts(entry: SendMessageBatchRequestEntry<'_>) -> Parts<'_> {
    Parts {
        body: entry.message_body,
        delay_seconds: entry.delay_seconds,
        attributes: entry.message_attributes,
        system_attributes: entry.message_system_attributes,
        dedup_id: entry.message_deduplication_id,
        group_id: entry.message_group_id,
    }
}

fn result(id: String, sent: Sent) -> SendMessageBatchResultEntry {
    SendMessageBatchResultEntry {
        id,
        message_id: sent.message_id,
        md5_of_message_body: sent.md5_of_body,
        md5_of_message_attributes: sent.md5_of_attributes,
        md5_of_message_system_attributes: sent.md5_of_system_attributes,
        sequence_number: sent.sequence_number,
    }
}
