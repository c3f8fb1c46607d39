//! TagQueue.

use broker::Action;

use super::{queues::Queue, set_queue_attributes::change, tags::check_tags};
use crate::{AwsError, Context, shapes::TagQueueInput};

pub(super) async fn call(ctx: &Context, input: TagQueueInput<'_>) -> Result<(), AwsError> {
    let queue = Queue::find(ctx, &input.queue_url, Action::Configure)?;
    if input.tags.0.is_empty() {
        return Err(AwsError::missing("Tags"));
    }
    let name = queue.name();
    let add = |attributes: &mut super::attributes::Attributes| {
        let added = input.tags.0.iter().map(|(key, value)| (key.to_string(), value.to_string()));
        attributes.tags.extend(added);
        check_tags(&name, &attributes.tags)
    };
    change(ctx, &queue, add).await.map(drop)
}
