//! ListDeadLetterSourceQueues.

use broker::Action;

use super::{
    pages::page,
    queues::{Queue, list, shown_name},
};
use crate::{
    AwsError, Context,
    shapes::{ListDeadLetterSourceQueuesInput, ListDeadLetterSourceQueuesOutput, Listed},
};

pub(super) async fn call(
    ctx: &Context,
    input: ListDeadLetterSourceQueuesInput<'_>,
) -> Result<ListDeadLetterSourceQueuesOutput, AwsError> {
    let queue = Queue::find(ctx, &input.queue_url, Action::Read)?;
    let target = queue.stream.key();
    let mut sources = list(ctx.broker(), &target.namespace);
    sources.retain(|stream| stream.settings().dead_letter.as_ref().is_some_and(|to| to.target == *target));
    let mut names: Vec<String> = sources.iter().map(|stream| shown_name(stream)).collect();
    names.sort_unstable();
    let (names, next_token) = page(names, input.next_token.as_deref(), input.max_results)?;
    let queue_urls = Listed(names.iter().map(|name| ctx.queue_url(name)).collect());
    Ok(ListDeadLetterSourceQueuesOutput { queue_urls, next_token })
}
