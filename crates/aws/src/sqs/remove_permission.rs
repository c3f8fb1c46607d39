//! RemovePermission.

use broker::Action;

use super::{permissions, queues::Queue, set_queue_attributes::change};
use crate::{AwsError, Context, shapes::RemovePermissionInput};

pub(super) async fn call(ctx: &Context, input: RemovePermissionInput<'_>) -> Result<(), AwsError> {
    let queue = Queue::find(ctx, &input.queue_url, Action::Configure)?;
    let arn = queue.arn(ctx);
    let remove = |attributes: &mut super::attributes::Attributes| {
        attributes.policy = permissions::remove(attributes.policy.as_deref(), &arn, &input.label)?;
        Ok(())
    };
    change(ctx, &queue, remove).await.map(drop)
}
