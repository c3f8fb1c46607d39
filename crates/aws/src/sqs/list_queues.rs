//! ListQueues.

use super::{
    pages::page,
    queues::{allowed, list, shown_name},
};
use crate::{
    AwsError, Context,
    shapes::{ListQueuesInput, ListQueuesOutput},
};

pub(super) async fn call(ctx: &Context, input: ListQueuesInput<'_>) -> Result<ListQueuesOutput, AwsError> {
    let prefix = input.queue_name_prefix.as_deref().unwrap_or_default();
    let all = list(ctx.broker(), &ctx.caller().namespace);
    // AWS shows all or none to a caller; here each may be somebody else's.
    let seen = all.iter().filter(|stream| allowed(ctx, &stream.key().name).is_some());
    let mut names: Vec<String> = seen.map(|stream| shown_name(stream)).collect();
    names.retain(|name| name.starts_with(prefix));
    names.sort_unstable();
    let (names, next_token) = page(names, input.next_token.as_deref(), input.max_results)?;
    let queue_urls = names.iter().map(|name| ctx.queue_url(name)).collect();
    Ok(ListQueuesOutput { queue_urls, next_token })
}
