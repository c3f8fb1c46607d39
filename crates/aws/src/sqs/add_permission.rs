//! AddPermission.

use broker::Action;

use super::{permissions, queues::Queue, set_queue_attributes::change, validate::is_entry_id};
use crate::{AwsError, Context, shapes::AddPermissionInput};

pub(super) async fn call(ctx: &Context, input: AddPermissionInput<'_>) -> Result<(), AwsError> {
    let queue = Queue::find(ctx, &input.queue_url, Action::Configure)?;
    let accounts: Vec<&str> = input.aws_account_ids.iter().map(AsRef::as_ref).collect();
    let actions: Vec<&str> = input.actions.iter().map(AsRef::as_ref).collect();
    permissions::check(&accounts, &actions)?;
    if !is_entry_id(&input.label) {
        return Err(AwsError::invalid_value(
            &input.label,
            "Label",
            "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length.",
        ));
    }
    let arn = queue.arn(ctx);
    let add = |attributes: &mut super::attributes::Attributes| {
        let policy = permissions::add(attributes.policy.as_deref(), &arn, &input.label, &accounts, &actions)?;
        attributes.set("Policy", &policy)
    };
    change(ctx, &queue, add).await.map(drop)
}
