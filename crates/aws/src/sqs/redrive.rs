//! Redrive policies: where a queue's dead letters go, and who may send theirs to a queue.

use serde_json::{Map, Value};

use super::attributes::{Attributes, Redrive};
use crate::{AwsError, Context};

/// Largest `maxReceiveCount`.
const RECEIVE_COUNT_MAX: i64 = 1_000;

/// Queues that a `RedriveAllowPolicy` may name.
const SOURCES_MAX: usize = 10;

/// Reads a `RedrivePolicy` for the queue `name` of the caller; an empty one is none.
pub(crate) fn policy(
    ctx: &Context,
    name: &str,
    own: &Attributes,
    value: &str,
) -> Result<Option<Redrive>, AwsError> {
    let invalid = |reason: &str| AwsError::invalid_value(value, "RedrivePolicy", reason);
    if value.is_empty() {
        return Ok(None);
    }
    let Ok(Value::Object(map)) = serde_json::from_str(value) else {
        return Err(invalid("Redrive policy is not a valid JSON map."));
    };
    if map.is_empty() {
        return Ok(None);
    }
    let given = |name: &str| {
        map.get(name)
            .ok_or_else(|| invalid(&format!("Redrive policy does not contain mandatory attribute: {name}.")))
    };
    let (arn, count) = (given("deadLetterTargetArn")?, given("maxReceiveCount")?);
    let count_max =
        integer(count).filter(|count| (1..=RECEIVE_COUNT_MAX).contains(count)).ok_or_else(|| {
            let shown = count.as_str().map_or_else(|| count.to_string(), str::to_owned);
            invalid(&format!(
                "Invalid value for maxReceiveCount: {shown}, valid values are from 1 to 1000 both inclusive."
            ))
        })?;
    let target = arn.as_str().map(|arn| ctx.queue_of_arn(arn)).transpose()?.flatten();
    let target = target.ok_or_else(|| invalid("Invalid value for deadLetterTargetArn."))?;
    if target.namespace != ctx.caller().namespace {
        return Err(invalid("Dead letter target owner should be same as the source."));
    }
    let stream = super::queues::stream_of(ctx, &target)
        .ok_or_else(|| invalid("Dead letter target does not exist."))?;
    super::queues::authorize(ctx, broker::Action::Write, &stream.key().name)?;
    let theirs = Attributes::of(stream.settings());
    if theirs.is_fifo != own.is_fifo {
        return Err(invalid("Dead-letter queue must be same type of queue as the source."));
    }
    if !allows(&theirs, &ctx.queue_arn(name)) {
        return Err(invalid(
            "The dead-letter queue's redrive allow policy does not allow this queue to use it.",
        ));
    }
    let receive_count_max = u32::try_from(count_max).unwrap_or(u32::MAX);
    Ok(Some(Redrive { target: stream.key().clone(), receive_count_max }))
}

/// A redrive policy as it is shown.
pub(crate) fn shown(ctx: &Context, redrive: &Redrive) -> String {
    let arn = super::queues::arn_of(ctx, &redrive.target);
    format!("{{\"deadLetterTargetArn\":\"{arn}\",\"maxReceiveCount\":{}}}", redrive.receive_count_max)
}

/// A number, perhaps written as a text.
fn integer(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

/// Reads a `RedriveAllowPolicy`; an empty one is none.
pub(crate) fn allow_policy(value: &str) -> Result<Option<String>, AwsError> {
    let invalid = |reason: &str| AwsError::invalid_value(value, "RedriveAllowPolicy", reason);
    if value.is_empty() {
        return Ok(None);
    }
    let Ok(Value::Object(map)) = serde_json::from_str(value) else {
        return Err(invalid("Redrive allow policy is not a valid JSON map."));
    };
    if map.is_empty() {
        return Ok(None);
    }
    let sources = match map.get("sourceQueueArns") {
        None => None,
        Some(Value::Array(sources)) if sources.iter().all(Value::is_string) => Some(sources.len()),
        Some(_) => return Err(invalid("sourceQueueArns must be a list of queue ARNs.")),
    };
    match (permission(&map), sources) {
        (Some("allowAll" | "denyAll"), None) => {}
        (Some("allowAll" | "denyAll"), Some(_)) => {
            return Err(invalid("sourceQueueArns can be specified only when redrivePermission is byQueue."));
        }
        (Some("byQueue"), Some(count)) if (1..=SOURCES_MAX).contains(&count) => {}
        (Some("byQueue"), _) => {
            return Err(invalid(
                "sourceQueueArns must have 1 to 10 queue ARNs when redrivePermission is byQueue.",
            ));
        }
        _ => return Err(invalid("redrivePermission must be one of allowAll, denyAll, byQueue.")),
    }
    Ok(Some(value.to_owned()))
}

fn permission(map: &Map<String, Value>) -> Option<&str> {
    map.get("redrivePermission")?.as_str()
}

/// Whether a queue lets the queue of `source_arn` send its dead letters to it.
fn allows(theirs: &Attributes, source_arn: &str) -> bool {
    let Some(policy) = &theirs.redrive_allow else { return true };
    let Ok(Value::Object(map)) = serde_json::from_str(policy) else { return true };
    match permission(&map) {
        Some("denyAll") => false,
        Some("byQueue") => {
            let sources = map.get("sourceQueueArns").and_then(Value::as_array);
            sources.is_some_and(|sources| sources.iter().any(|source| source.as_str() == Some(source_arn)))
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allow_policy_is_read_and_obeyed() {
        let with = |policy: &str| Attributes {
            redrive_allow: allow_policy(policy).unwrap(),
            ..Attributes::default()
        };
        let arn = "arn:aws:sqs:us-east-1:000000000000:jobs";
        assert!(allows(&with(""), arn) && allows(&with("{}"), arn));
        assert!(allows(&with(r#"{"redrivePermission":"allowAll"}"#), arn));
        assert!(!allows(&with(r#"{"redrivePermission":"denyAll"}"#), arn));
        let by_queue = with(&format!(r#"{{"redrivePermission":"byQueue","sourceQueueArns":["{arn}"]}}"#));
        assert!(allows(&by_queue, arn) && !allows(&by_queue, &format!("{arn}2")));
    }

    #[test]
    fn an_allow_policy_that_makes_no_sense_is_refused() {
        let eleven = ["\"x\""; 11].join(",");
        for bad in [
            "x",
            "[]",
            r#"{"redrivePermission":"some"}"#,
            r#"{"redrivePermission":"byQueue"}"#,
            r#"{"redrivePermission":"byQueue","sourceQueueArns":[]}"#,
            r#"{"redrivePermission":"byQueue","sourceQueueArns":[1]}"#,
            r#"{"redrivePermission":"allowAll","sourceQueueArns":["x"]}"#,
            &format!(r#"{{"redrivePermission":"byQueue","sourceQueueArns":[{eleven}]}}"#),
        ] {
            assert_eq!(allow_policy(bad).unwrap_err().code, "InvalidParameterValue", "{bad}");
        }
    }
}
