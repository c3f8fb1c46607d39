//! ListMessageMoveTasks.

use broker::{Action, MoveState};

use super::{
    move_tasks::{handle, queue_of, status},
    queues::arn_of,
};
use crate::{
    AwsError, Context,
    shapes::{
        ListMessageMoveTasksInput, ListMessageMoveTasksOutput, ListMessageMoveTasksResultEntry, Listed,
    },
};

/// Tasks in one answer.
const TASKS_MAX: i32 = 10;

pub(super) async fn call(
    ctx: &Context,
    input: ListMessageMoveTasksInput<'_>,
) -> Result<ListMessageMoveTasksOutput, AwsError> {
    let source = queue_of(ctx, "SourceArn", &input.source_arn, Action::Read)?;
    let count = input.max_results.unwrap_or(1);
    if !(1..=TASKS_MAX).contains(&count) {
        return Err(AwsError::invalid_value(count, "MaxResults", "Must be between 1 and 10, if provided."));
    }
    let tasks = ctx.broker().moves(&source);
    let entry = |task: broker::MoveView| ListMessageMoveTasksResultEntry {
        task_handle: (task.state == MoveState::Running).then(|| handle(task.id, &input.source_arn)),
        status: status(&task.state).to_owned(),
        source_arn: input.source_arn.clone().into_owned(),
        destination_arn: task.spec.destination.as_ref().map(|to| arn_of(ctx, to)),
        max_number_of_messages_per_second: task.spec.rate.and_then(|rate| i32::try_from(rate).ok()),
        approximate_number_of_messages_moved: i64::try_from(task.moved).unwrap_or(i64::MAX),
        approximate_number_of_messages_to_move: i64::try_from(task.to_move).ok(),
        failure_reason: match task.state {
            MoveState::Failed(reason) => Some(reason),
            _ => None,
        },
        started_timestamp: task.started_at_ms,
    };
    let count = usize::try_from(count).unwrap_or(1);
    Ok(ListMessageMoveTasksOutput { results: Listed(tasks.into_iter().take(count).map(entry).collect()) })
}
