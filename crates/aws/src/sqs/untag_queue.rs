//! UntagQueue.

use broker::Action;

use super::{queues::Queue, set_queue_attributes::change, tags::BAD_KEY};
use crate::{AwsError, Context, shapes::UntagQueueInput};

pub(super) async fn call(ctx: &Context, input: UntagQueueInput<'_>) -> Result<(), AwsError> {
    let queue = Queue::find(ctx, &input.queue_url, Action::Configure)?;
    if input.tag_keys.is_empty() {
        return Err(AwsError::invalid_parameter_value(BAD_KEY));
    }
    let remove = |attributes: &mut super::attributes::Attributes| {
        for key in &input.tag_keys {
            attributes.tags.remove(key.as_ref());
        }
        Ok(())
    };
    change(ctx, &queue, remove).await.map(drop)
}
