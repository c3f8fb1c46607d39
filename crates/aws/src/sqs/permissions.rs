//! A queue's policy, as AddPermission and RemovePermission rewrite it. It is kept and shown, and not enforced.

use serde_json::{Map, Value, json};

use crate::AwsError;

/// Actions of one statement.
const ACTIONS_MAX: usize = 7;

/// Actions that a queue's owner may let others do.
const ACTIONS: [&str; 8] = [
    "*",
    "SendMessage",
    "ReceiveMessage",
    "DeleteMessage",
    "ChangeMessageVisibility",
    "GetQueueAttributes",
    "GetQueueUrl",
    "ListDeadLetterSourceQueues",
];

/// Actions that are there, and the owner's alone.
const OWN: [&str; 15] = [
    "AddPermission",
    "RemovePermission",
    "CreateQueue",
    "DeleteQueue",
    "SetQueueAttributes",
    "ListQueues",
    "ListQueueTags",
    "TagQueue",
    "UntagQueue",
    "PurgeQueue",
    "StartMessageMoveTask",
    "CancelMessageMoveTask",
    "ListMessageMoveTasks",
    "SendMessageBatch",
    "DeleteMessageBatch",
];

/// Checks what a statement is to say.
pub(super) fn check(accounts: &[&str], actions: &[&str]) -> Result<(), AwsError> {
    if actions.is_empty() {
        return Err(AwsError::missing("Actions"));
    }
    if accounts.is_empty() {
        return Err(AwsError::invalid_value("[]", "PrincipalId", "Unable to verify."));
    }
    if actions.len() > ACTIONS_MAX {
        return Err(AwsError::over_limit(format!(
            "{} Actions were found, maximum allowed is {ACTIONS_MAX}.",
            actions.len()
        )));
    }
    if let Some(action) = actions.iter().find(|action| !ACTIONS.contains(action)) {
        let reason = match OWN.contains(action) {
            true => "Only the queue owner is allowed to invoke this action.",
            false => "Please refer to the appropriate WSDL for a list of valid actions. ",
        };
        return Err(AwsError::invalid_value(format!("SQS:{action}"), "ActionName", reason));
    }
    if let Some(account) = accounts.iter().find(|account| crate::AccountId::parse(account).is_none()) {
        return Err(AwsError::invalid_value(format!("[{account}]"), "PrincipalId", "Unable to verify."));
    }
    Ok(())
}

/// The policy with one statement more.
pub(super) fn add(
    policy: Option<&str>,
    queue_arn: &str,
    label: &str,
    accounts: &[&str],
    actions: &[&str],
) -> Result<String, AwsError> {
    let (mut document, mut statements) = parse(policy, queue_arn);
    if statements.iter().any(|statement| has_label(statement, label)) {
        return Err(AwsError::invalid_value(label, "Label", "Already exists."));
    }
    let principals = accounts.iter().map(|account| format!("arn:aws:iam::{account}:root"));
    let actions = actions.iter().map(|action| format!("SQS:{action}"));
    statements.push(json!({
        "Sid": label,
        "Effect": "Allow",
        "Principal": { "AWS": one_or_many(principals.collect()) },
        "Action": one_or_many(actions.collect()),
        "Resource": queue_arn,
    }));
    document.insert("Statement".to_owned(), Value::Array(statements));
    Ok(Value::Object(document).to_string())
}

/// The policy without a statement; `None` when that was the last.
pub(super) fn remove(policy: Option<&str>, queue_arn: &str, label: &str) -> Result<Option<String>, AwsError> {
    let (mut document, mut statements) = parse(policy, queue_arn);
    let count = statements.len();
    statements.retain(|statement| !has_label(statement, label));
    if statements.len() == count {
        return Err(AwsError::invalid_value(label, "Label", "can't find label."));
    }
    if statements.is_empty() {
        return Ok(None);
    }
    document.insert("Statement".to_owned(), Value::Array(statements));
    Ok(Some(Value::Object(document).to_string()))
}

fn parse(policy: Option<&str>, queue_arn: &str) -> (Map<String, Value>, Vec<Value>) {
    let known = policy.and_then(|policy| serde_json::from_str(policy).ok());
    let mut document = match known {
        Some(Value::Object(document)) => document,
        _ => {
            let mut new = Map::new();
            new.insert("Version".to_owned(), json!("2008-10-17"));
            new.insert("Id".to_owned(), json!(format!("{queue_arn}/SQSDefaultPolicy")));
            new
        }
    };
    let statements = match document.remove("Statement") {
        Some(Value::Array(statements)) => statements,
        Some(one @ Value::Object(_)) => vec![one],
        _ => Vec::new(),
    };
    (document, statements)
}

fn has_label(statement: &Value, label: &str) -> bool {
    statement.get("Sid").and_then(Value::as_str) == Some(label)
}

fn one_or_many(mut all: Vec<String>) -> Value {
    match (all.len(), all.pop()) {
        (1, Some(one)) => json!(one),
        (_, last) => json!(all.into_iter().chain(last).collect::<Vec<_>>()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:sqs:us-east-1:000000000000:jobs";

    #[test]
    fn statements_come_and_go_under_their_labels() {
        let one = add(None, ARN, "a", &["111111111111"], &["ReceiveMessage"]).unwrap();
        let document: Value = serde_json::from_str(&one).unwrap();
        assert_eq!(document["Version"], "2008-10-17");
        assert_eq!(document["Id"], format!("{ARN}/SQSDefaultPolicy"));
        assert_eq!(
            document["Statement"],
            json!([{
                "Sid": "a", "Effect": "Allow", "Principal": { "AWS": "arn:aws:iam::111111111111:root" },
                "Action": "SQS:ReceiveMessage", "Resource": ARN,
            }])
        );
        let again = add(Some(&one), ARN, "a", &["222222222222"], &["*"]).unwrap_err();
        assert_eq!(again.message, "Value a for parameter Label is invalid. Reason: Already exists.");
        let two =
            add(Some(&one), ARN, "b", &["111111111111", "222222222222"], &["*", "GetQueueUrl"]).unwrap();
        let left = remove(Some(&two), ARN, "a").unwrap().unwrap();
        let document: Value = serde_json::from_str(&left).unwrap();
        assert_eq!(document["Statement"][0]["Action"], json!(["SQS:*", "SQS:GetQueueUrl"]));
        assert_eq!(remove(Some(&left), ARN, "b").unwrap(), None);
        let missing = remove(Some(&left), ARN, "x").unwrap_err();
        assert_eq!(missing.message, "Value x for parameter Label is invalid. Reason: can't find label.");
    }

    #[test]
    fn what_a_statement_may_not_say_is_refused_in_aws_s_words() {
        let account = ["111111111111"];
        let text =
            |accounts: &[&str], actions: &[&str]| check(accounts, actions).unwrap_err().message.into_owned();
        assert_eq!(text(&account, &[]), "The request must contain the parameter Actions.");
        assert_eq!(
            text(&[], &["*"]),
            "Value [] for parameter PrincipalId is invalid. Reason: Unable to verify."
        );
        assert_eq!(text(&account, &["*"; 8]), "8 Actions were found, maximum allowed is 7.");
        assert_eq!(
            text(&account, &["RemovePermission"]),
            "Value SQS:RemovePermission for parameter ActionName is invalid. Reason: Only the queue owner is allowed to invoke this action."
        );
        assert!(text(&account, &["x"]).contains("WSDL"));
        assert_eq!(check(&account, &["*"; 7]), Ok(()));
    }
}
