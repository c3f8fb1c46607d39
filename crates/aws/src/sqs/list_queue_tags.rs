//! ListQueueTags.

use broker::Action;

use super::queues::Queue;
use crate::{
    AwsError, Context,
    shapes::{KeyedValues, ListQueueTagsInput, ListQueueTagsOutput, NamedValues},
};

pub(super) async fn call(
    ctx: &Context,
    input: ListQueueTagsInput<'_>,
) -> Result<ListQueueTagsOutput, AwsError> {
    let queue = Queue::find(ctx, &input.queue_url, Action::Read)?;
    Ok(ListQueueTagsOutput {
        tags: KeyedValues(NamedValues(queue.attributes.tags.clone().into_iter().collect())),
    })
}
