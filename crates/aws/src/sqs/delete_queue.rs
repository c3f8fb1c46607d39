//! DeleteQueue.

use broker::Action;

use super::queues::Queue;
use crate::{AwsError, Context, shapes::DeleteQueueInput};

/// Receives that wait are told at once.
pub(super) async fn call(ctx: &Context, input: DeleteQueueInput<'_>) -> Result<(), AwsError> {
    let queue = Queue::find(ctx, &input.queue_url, Action::Configure)?;
    let key = queue.stream.key();
    ctx.broker().delete_stream(key).await?;
    ctx.server.sqs.recent.lock().note_deleted(key.clone(), super::now_ms(ctx));
    Ok(())
}
