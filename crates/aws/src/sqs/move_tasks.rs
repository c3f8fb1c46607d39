//! What the operations on move tasks have in common: ARNs, handles, states.

use base64::{Engine, engine::general_purpose::STANDARD};
use broker::{Action, MoveId, MoveState};
use model::StreamKey;
use serde_json::{Value, json};

use super::queues::{authorize, list, stream_of};
use crate::{AwsError, Context};

/// The queue of an ARN in `parameter`.
pub(super) fn queue_of(
    ctx: &Context,
    parameter: &str,
    arn: &str,
    action: Action,
) -> Result<StreamKey, AwsError> {
    let missing = || {
        AwsError::resource_not_found(format!(
            "The resource that you specified for the {parameter} parameter doesn't exist."
        ))
    };
    let key = match ctx.queue_of_arn(arn) {
        Ok(Some(key)) => key,
        Ok(None) => {
            return Err(AwsError::invalid_parameter_value(format!(
                "You must use this format to specify the {parameter}: arn:<partition>:<service>:<region>:<account-id>:<resource-id>"
            )));
        }
        Err(_) => return Err(missing()),
    };
    let stream = stream_of(ctx, &key).ok_or_else(missing)?;
    authorize(ctx, action, &stream.key().name)?;
    Ok(stream.key().clone())
}

/// Whether some queue sends its dead letters to this one.
pub(super) fn is_dead_letter_queue(ctx: &Context, key: &StreamKey) -> bool {
    let all = list(ctx.broker(), &key.namespace);
    all.iter().any(|stream| stream.settings().dead_letter.as_ref().is_some_and(|to| to.target == *key))
}

/// The handle of a task, as AWS writes them.
pub(super) fn handle(id: MoveId, source_arn: &str) -> String {
    STANDARD.encode(json!({ "taskId": id.0.to_string(), "sourceArn": source_arn }).to_string())
}

/// The task and the source's ARN of a handle. The task is missing when it can be none.
pub(super) fn open(handle: &str) -> Result<(Option<MoveId>, String), AwsError> {
    let invalid = || AwsError::invalid_parameter_value("Value for parameter TaskHandle is invalid.");
    let bytes = STANDARD.decode(handle).map_err(|_| invalid())?;
    let document: Value = serde_json::from_slice(&bytes).map_err(|_| invalid())?;
    let text = |name: &str| document.get(name).and_then(Value::as_str).ok_or_else(invalid);
    Ok((text("taskId")?.parse().ok().map(MoveId), text("sourceArn")?.to_owned()))
}

/// The name of a state.
pub(super) fn status(state: &MoveState) -> &'static str {
    match state {
        MoveState::Running => "RUNNING",
        MoveState::Completed => "COMPLETED",
        MoveState::Cancelling => "CANCELLING",
        MoveState::Cancelled => "CANCELLED",
        MoveState::Failed(_) => "FAILED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_says_which_task_of_which_queue() {
        let text = handle(MoveId(7), "arn:aws:sqs:r:000000000000:dead");
        assert_eq!(open(&text).unwrap(), (Some(MoveId(7)), "arn:aws:sqs:r:000000000000:dead".to_owned()));
        let foreign = STANDARD.encode(r#"{"taskId":"f00d-1","sourceArn":"x"}"#);
        assert_eq!(open(&foreign).unwrap(), (None, "x".to_owned()));
        for bad in ["", "?", "e30=", "bnVsbA=="] {
            assert_eq!(open(bad).unwrap_err().message, "Value for parameter TaskHandle is invalid.", "{bad}");
        }
    }
}
