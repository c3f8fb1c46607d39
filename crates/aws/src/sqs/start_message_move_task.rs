//! StartMessageMoveTask.

use broker::{Action, MOVE_RATE_MAX, MoveFilter, MoveSpec};
use model::ErrorKind;

use super::move_tasks::{handle, is_dead_letter_queue, queue_of};
use crate::{
    AwsError, Context,
    shapes::{StartMessageMoveTaskInput, StartMessageMoveTaskOutput},
};

pub(super) async fn call(
    ctx: &Context,
    input: StartMessageMoveTaskInput<'_>,
) -> Result<StartMessageMoveTaskOutput, AwsError> {
    let source = queue_of(ctx, "SourceArn", &input.source_arn, Action::Read)?;
    if !is_dead_letter_queue(ctx, &source) {
        return Err(AwsError::invalid_parameter_value(
            "Source queue must be configured as a Dead Letter Queue.",
        ));
    }
    let destination = input.destination_arn.as_deref();
    let destination =
        destination.map(|arn| queue_of(ctx, "DestinationArn", arn, Action::Write)).transpose()?;
    let rate = match input.max_number_of_messages_per_second {
        None => None,
        Some(rate) => {
            let rate_in_bounds = u32::try_from(rate).ok().filter(|rate| (1..=MOVE_RATE_MAX).contains(rate));
            Some(rate_in_bounds.ok_or_else(|| {
                AwsError::invalid_value(
                    rate,
                    "MaxNumberOfMessagesPerSecond",
                    "Must be between 1 and 500, if provided.",
                )
            })?)
        }
    };
    let spec = MoveSpec { source, destination, rate, filter: MoveFilter::default() };
    let started = ctx.broker().start_move(spec).await.map_err(|e| match e.kind() {
        ErrorKind::Conflict => AwsError::invalid_parameter_value(
            "There is already a task running. Only one active task is allowed for a source queue arn at a given time.",
        ),
        _ => AwsError::from(e),
    })?;
    Ok(StartMessageMoveTaskOutput { task_handle: handle(started.id, &input.source_arn) })
}
