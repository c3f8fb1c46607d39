//! ChangeMessageVisibilityBatch.

use broker::Action;

use super::{batches, queues::Queue, settling};
use crate::{
    AwsError, Context,
    shapes::{
        BatchResultErrorEntry, ChangeMessageVisibilityBatchInput, ChangeMessageVisibilityBatchOutput,
        ChangeMessageVisibilityBatchResultEntry, Listed,
    },
};

pub(super) async fn call(
    ctx: &Context,
    input: ChangeMessageVisibilityBatchInput<'_>,
) -> Result<ChangeMessageVisibilityBatchOutput, AwsError> {
    let queue = Queue::find(ctx, &input.queue_url, Action::Read)?;
    batches::check(
        "ChangeMessageVisibilityBatchRequestEntry",
        input.entries.iter().map(|entry| entry.id.as_ref()),
    )?;
    let changes: Vec<(&str, i32)> = input
        .entries
        .iter()
        .map(|entry| {
            let seconds = entry.visibility_timeout.ok_or_else(|| AwsError::missing("VisibilityTimeout"));
            Ok((entry.receipt_handle.as_ref(), seconds?))
        })
        .collect::<Result<_, AwsError>>()?;
    let outcomes = settling::change_visibility(ctx, &queue, &changes).await?;
    let mut output =
        ChangeMessageVisibilityBatchOutput { successful: Listed(Vec::new()), failed: Listed(Vec::new()) };
    for (entry, outcome) in input.entries.iter().zip(outcomes) {
        let id = entry.id.clone().into_owned();
        match outcome {
            Ok(()) => output.successful.0.push(ChangeMessageVisibilityBatchResultEntry { id }),
            Err(error) => {
                let error = settling::of_entry(error, &entry.receipt_handle);
                output.failed.0.push(BatchResultErrorEntry::of(id, &error));
            }
        }
    }
    Ok(output)
}
