//! PurgeQueue.

use broker::Action;

use super::queues::Queue;
use crate::{AwsError, Context, shapes::PurgeQueueInput};

/// Takes everything, also what is in flight or waits, and forgets the deduplication ids.
pub(super) async fn call(ctx: &Context, input: PurgeQueueInput<'_>) -> Result<(), AwsError> {
    let queue = Queue::find(ctx, &input.queue_url, Action::Configure)?;
    if ctx.options().strict_timing {
        let is_first =
            ctx.server.sqs.recent.lock().note_purged(queue.stream.key().clone(), super::now_ms(ctx));
        if !is_first {
            return Err(AwsError::purge_queue_in_progress(format!(
                "Only one PurgeQueue operation on {} is allowed every 60 seconds.",
                queue.name()
            )));
        }
    }
    let (works, mut wait) = queue.works(ctx.broker())?;
    for work in works {
        wait = wait.max(work.purge()?);
    }
    Ok(ctx.broker().durable(wait).await?)
}
