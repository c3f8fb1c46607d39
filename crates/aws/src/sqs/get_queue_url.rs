//! GetQueueUrl.

use model::StreamKey;

use super::queues::{Queue, any_of};
use crate::{
    AccountId, AwsError, Context,
    shapes::{GetQueueUrlInput, GetQueueUrlOutput},
};

pub(super) async fn call(ctx: &Context, input: GetQueueUrlInput<'_>) -> Result<GetQueueUrlOutput, AwsError> {
    let owner = input.queue_owner_aws_account_id.as_deref();
    let owner = match owner.map(AccountId::parse) {
        Some(None) => return Err(AwsError::no_such_queue()),
        owner => owner.flatten(),
    };
    let namespace = ctx.namespace(owner.as_ref(), None)?;
    let key = StreamKey::queue(&namespace, &input.queue_name);
    let queue = Queue::by_key_or_create(ctx, &key, any_of(ctx, &key)).await?;
    Ok(GetQueueUrlOutput { queue_url: queue.url(ctx) })
}
