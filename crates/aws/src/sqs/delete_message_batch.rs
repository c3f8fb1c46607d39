//! DeleteMessageBatch.

use broker::Action;

use super::{batches, queues::Queue, settling};
use crate::{
    AwsError, Context,
    shapes::{
        BatchResultErrorEntry, DeleteMessageBatchInput, DeleteMessageBatchOutput,
        DeleteMessageBatchResultEntry, Listed,
    },
};

pub(super) async fn call(
    ctx: &Context,
    input: DeleteMessageBatchInput<'_>,
) -> Result<DeleteMessageBatchOutput, AwsError> {
    let queue = Queue::find(ctx, &input.queue_url, Action::Read)?;
    batches::check("DeleteMessageBatchRequestEntry", input.entries.iter().map(|entry| entry.id.as_ref()))?;
    let handles = input.entries.iter().map(|entry| entry.receipt_handle.as_ref());
    let outcomes = settling::delete(ctx, &queue, handles).await?;
    let mut output = DeleteMessageBatchOutput { successful: Listed(Vec::new()), failed: Listed(Vec::new()) };
    for (entry, outcome) in input.entries.into_iter().zip(outcomes) {
        let id = entry.id.into_owned();
        match outcome {
            Ok(()) => output.successful.0.push(DeleteMessageBatchResultEntry { id }),
            Err(error) => {
                let error = settling::of_entry(error, &entry.receipt_handle);
                output.failed.0.push(BatchResultErrorEntry::of(id, &error));
            }
        }
    }
    Ok(output)
}
