//! DeleteMessage.

use broker::Action;

use super::{queues::Queue, settling};
use crate::{AwsError, Context, shapes::DeleteMessageInput};

pub(super) async fn call(ctx: &Context, input: DeleteMessageInput<'_>) -> Result<(), AwsError> {
    let queue = Queue::find(ctx, &input.queue_url, Action::Read)?;
    let outcomes = settling::delete(ctx, &queue, [input.receipt_handle.as_ref()]).await?;
    outcomes.into_iter().collect()
}
