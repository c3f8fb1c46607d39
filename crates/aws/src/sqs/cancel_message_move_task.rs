//! CancelMessageMoveTask.

use broker::Action;
use model::ErrorKind;

use super::move_tasks::{open, queue_of};
use crate::{
    AwsError, Context,
    shapes::{CancelMessageMoveTaskInput, CancelMessageMoveTaskOutput},
};

pub(super) async fn call(
    ctx: &Context,
    input: CancelMessageMoveTaskInput<'_>,
) -> Result<CancelMessageMoveTaskOutput, AwsError> {
    let missing = || AwsError::resource_not_found("Task does not exist.");
    let (id, source_arn) = open(&input.task_handle)?;
    let source = queue_of(ctx, "SourceArn", &source_arn, Action::Read)?;
    let known = id.and_then(|id| ctx.broker().moves(&source).into_iter().find(|task| task.id == id));
    let known = known.ok_or_else(missing)?;
    let cancelled = ctx.broker().cancel_move(known.id).await.map_err(|e| match e.kind() {
        ErrorKind::NotFound => missing(),
        ErrorKind::Conflict | ErrorKind::Invalid => {
            AwsError::invalid_parameter_value("Only active tasks can be cancelled.")
        }
        _ => AwsError::from(e),
    })?;
    let moved = i64::try_from(cancelled.moved).unwrap_or(i64::MAX);
    Ok(CancelMessageMoveTaskOutput { approximate_number_of_messages_moved: moved })
}
