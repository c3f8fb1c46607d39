//! SendMessage.

use broker::Action;

use super::{
    queues::Queue,
    sending::{self, Parts, Sent},
};
use crate::{
    AwsError, Context,
    shapes::{SendMessageInput, SendMessageOutput},
};

pub(super) async fn call(ctx: &Context, input: SendMessageInput<'_>) -> Result<SendMessageOutput, AwsError> {
    let queue = Queue::find_or_create(ctx, &input.queue_url, Action::Write).await?;
    let outgoing = sending::check(ctx, &queue, parts(input))?;
    let sent = sending::send(ctx, &queue, vec![outgoing]).await?;
    let Sent { message_id, sequence_number, md5_of_body, md5_of_attributes, md5_of_system_attributes } =
        sent.into_iter().next().unwrap_or_else(|| Err(AwsError::internal_failure("no outcome")))?;
    Ok(SendMessageOutput {
        md5_of_message_body: md5_of_body,
        md5_of_message_attributes: md5_of_attributes,
        md5_of_message_system_attributes: md5_of_system_attributes,
        message_id,
        sequence_number,
    })
}

fn parts(input: SendMessageInput<'_>) -> Parts<'_> {
    Parts {
        body: input.message_body,
        delay_seconds: input.delay_seconds,
        attributes: input.message_attributes,
        system_attributes: input.message_system_attributes,
        dedup_id: input.message_deduplication_id,
        group_id: input.message_group_id,
    }
}
