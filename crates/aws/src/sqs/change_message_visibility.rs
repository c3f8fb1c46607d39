//! ChangeMessageVisibility.

use broker::Action;

use super::{queues::Queue, settling};
use crate::{AwsError, Context, shapes::ChangeMessageVisibilityInput};

pub(super) async fn call(ctx: &Context, input: ChangeMessageVisibilityInput<'_>) -> Result<(), AwsError> {
    let queue = Queue::find(ctx, &input.queue_url, Action::Read)?;
    let change = (input.receipt_handle.as_ref(), input.visibility_timeout);
    settling::change_visibility(ctx, &queue, &[change]).await?.into_iter().collect()
}
