//! What a user may not do is refused, operation by operation.

use base64::{Engine, engine::general_purpose::STANDARD};
use broker::{Action, Mode, Permission, StreamSettings, StreamSpec};
use model::{Namespace, StreamKey};

use super::*;
use crate::testing::Client;

const ARN: &str = "arn%3Aaws%3Asqs%3Aus-east-1%3A000000000000%3A";

/// Every operation that names a queue, with its parameters beside that queue, for the queue `NAME`, and what it takes.
const OPERATIONS: [(&str, &str, Action); 22] = [
    ("AddPermission", "QueueUrl=NAME&Label=l&AWSAccountId.1=123456789012&ActionName.1=*", Action::Configure),
    ("CancelMessageMoveTask", "TaskHandle=HANDLE", Action::Read),
    ("ChangeMessageVisibility", "QueueUrl=NAME&ReceiptHandle=x&VisibilityTimeout=1", Action::Read),
    (
        "ChangeMessageVisibilityBatch",
        "QueueUrl=NAME&ChangeMessageVisibilityBatchRequestEntry.1.Id=a&ChangeMessageVisibilityBatchRequestEntry.1.ReceiptHandle=x",
        Action::Read,
    ),
    ("CreateQueue", "QueueName=NAME", Action::Configure),
    ("DeleteMessage", "QueueUrl=NAME&ReceiptHandle=x", Action::Read),
    (
        "DeleteMessageBatch",
        "QueueUrl=NAME&DeleteMessageBatchRequestEntry.1.Id=a&DeleteMessageBatchRequestEntry.1.ReceiptHandle=x",
        Action::Read,
    ),
    ("DeleteQueue", "QueueUrl=NAME", Action::Configure),
    ("GetQueueAttributes", "QueueUrl=NAME&AttributeName.1=All", Action::Write),
    ("GetQueueUrl", "QueueName=NAME", Action::Write),
    ("ListDeadLetterSourceQueues", "QueueUrl=NAME", Action::Read),
    ("ListMessageMoveTasks", "SourceArn=ARN", Action::Read),
    ("ListQueueTags", "QueueUrl=NAME", Action::Read),
    ("PurgeQueue", "QueueUrl=NAME", Action::Configure),
    ("ReceiveMessage", "QueueUrl=NAME", Action::Read),
    ("RemovePermission", "QueueUrl=NAME&Label=l", Action::Configure),
    ("SendMessage", "QueueUrl=NAME&MessageBody=x", Action::Write),
    (
        "SendMessageBatch",
        "QueueUrl=NAME&SendMessageBatchRequestEntry.1.Id=a&SendMessageBatchRequestEntry.1.MessageBody=x",
        Action::Write,
    ),
    (
        "SetQueueAttributes",
        "QueueUrl=NAME&Attribute.1.Name=DelaySeconds&Attribute.1.Value=1",
        Action::Configure,
    ),
    ("StartMessageMoveTask", "SourceArn=ARN", Action::Read),
    ("TagQueue", "QueueUrl=NAME&Tag.1.Key=a&Tag.1.Value=b", Action::Configure),
    ("UntagQueue", "QueueUrl=NAME&TagKey.1=a", Action::Configure),
];

/// What a user is answered, who signs.
async fn ask(rig: &Rig, client: &mut Client, action: &str, parameters: &str, name: &str) -> Answered {
    let arn = format!("{ARN}{name}");
    let handle = format!(r#"{{"taskId":"1","sourceArn":"arn:aws:sqs:us-east-1:000000000000:{name}"}}"#);
    let handle = STANDARD.encode(handle).replace('+', "%2B").replace('=', "%3D");
    let parameters = parameters.replace("NAME", name).replace("ARN", &arn).replace("HANDLE", &handle);
    let body = format!("Action={action}&Version=2012-11-05&{parameters}");
    let now_s = rig.server.broker.env().clock.wall_ms() / 1_000;
    let head = sign("AKIDANN", "hush", "us-east-1", "sqs", now_s, "/", "localhost:4566", &body);
    let len = body.len();
    let request =
        format!("POST / HTTP/1.1\r\nHost: localhost:4566\r\n{head}Content-Length: {len}\r\n\r\n{body}");
    client.send(request.as_bytes()).await;
    client.answer().await.unwrap()
}

#[tokio::test]
async fn each_operation_asks_what_its_user_may_do() {
    let rig = Rig::new();
    let mut client = rig.connect();
    for name in ["secret", "mine"] {
        let made = client.form("/", &format!("Action=CreateQueue&Version=2012-11-05&QueueName={name}")).await;
        assert_eq!(made.status, 200, "{made:?}");
    }
    let users = rig.server.broker.users();
    users.put("ann", UserSpec::default()).await.unwrap();
    give_ann_a_key(&rig).await;
    let mut client = rig.connect();
    for (operation, parameters, action) in OPERATIONS {
        for (allowed, name, expected) in [
            (action, "secret", true),
            // What one may do says nothing of what else one may do.
            (if action == Action::Read { Action::Write } else { Action::Read }, "mine", true),
            (action, "mine", false),
        ] {
            if expected && name == "mine" && ["GetQueueUrl", "GetQueueAttributes"].contains(&operation) {
                continue; // Who may do anything to a queue may find it.
            }
            let permission = Permission::allow(allowed, "mi*");
            let spec = UserSpec { permissions: Some(vec![permission]), ..UserSpec::default() };
            users.put("ann", spec).await.unwrap();
            let answer = ask(&rig, &mut client, operation, parameters, name).await;
            let is_denied = answer.status == 403 && answer.body.contains("<Code>AccessDenied</Code>");
            assert_eq!(is_denied, expected, "{operation} of {name} with {allowed:?}: {answer:?}");
        }
        // One of them deletes it.
        let settings = StreamSettings { mode: Mode::Queue, ..StreamSettings::default() };
        let spec = StreamSpec { settings, ..StreamSpec::with_partitions(1) };
        drop(rig.server.broker.create_stream(StreamKey::queue(&Namespace::default(), "mine"), spec).await);
    }
    let listed = ask(&rig, &mut client, "ListQueues", "", "").await;
    assert!(!listed.body.contains("/secret<"), "{listed:?}");
}

#[tokio::test]
async fn dead_letters_go_to_no_queue_that_their_sender_may_not_write_to() {
    let rig = Rig::new();
    let mut client = rig.connect();
    for name in ["secret", "mine"] {
        client.form("/", &format!("Action=CreateQueue&Version=2012-11-05&QueueName={name}")).await;
    }
    let users = rig.server.broker.users();
    let permission = Permission::allow(Action::Admin, "mine");
    users.put("ann", UserSpec { permissions: Some(vec![permission]), ..UserSpec::default() }).await.unwrap();
    give_ann_a_key(&rig).await;
    let policy = "%7B%22deadLetterTargetArn%22%3A%22arn%3Aaws%3Asqs%3Aus-east-1%3A000000000000%3Asecret%22%2C%22maxReceiveCount%22%3A1%7D";
    let parameters = format!("QueueUrl=NAME&Attribute.1.Name=RedrivePolicy&Attribute.1.Value={policy}");
    let answer = ask(&rig, &mut rig.connect(), "SetQueueAttributes", &parameters, "mine").await;
    assert!(answer.body.contains("<Code>AccessDenied</Code>"), "{answer:?}");
}
