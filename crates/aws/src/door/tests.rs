//! What clients see of the door, over whole connections.

mod permissions;

use broker::{UserChange, UserSpec};
use tokio::io::AsyncWriteExt;

use super::{
    answer::{Protocol, SQS_XMLNS},
    body::BODY_LEN_MAX,
    dispatch,
    fixtures::request,
};
use crate::{
    codec::Wire,
    shapes::{Input, Output, ReceiveMessageOutput, SendMessageOutput},
    sigv4::sign,
    testing::{Answered, Rig},
};

fn check_json(answer: &Answered, status: u16, shape: &str, query_error: &str, message: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/x-amz-json-1.0"));
    assert_eq!(answer.header("x-amzn-query-error"), Some(query_error));
    assert_eq!(answer.header("x-amzn-requestid").map(str::len), Some(36));
    let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(body, serde_json::json!({ "__type": shape, "message": message }));
}

fn check_xml(answer: &Answered, status: u16, xmlns: &str, code: &str, message: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("text/xml"));
    let id = answer.header("x-amzn-requestid").unwrap();
    assert_eq!(
        answer.body,
        format!(
            "<?xml version=\"1.0\"?><ErrorResponse xmlns=\"{xmlns}\"><Error><Type>Sender</Type><Code>{code}</Code>\
             <Message>{message}</Message><Detail/></Error><RequestId>{id}</RequestId></ErrorResponse>"
        )
    );
}

const SNS: &str = "http://sns.amazonaws.com/doc/2010-03-31/";
const UNKNOWN: &str = "com.amazon.coral.service#UnknownOperationException";

#[tokio::test]
async fn what_no_service_has_is_refused_in_the_protocol_that_was_asked_in() {
    let rig = Rig::new();
    let mut client = rig.connect();
    for target in ["AmazonSQS.Fly", "AWSEvents.PutEvents", "Nothing", ""] {
        let answer = client.json(target, "{}").await;
        let message = format!("The action {target} is not valid for this endpoint.");
        check_json(&answer, 400, UNKNOWN, "InvalidAction;Sender", &message);
    }
    for (path, form, xmlns, action) in [
        ("/", "Action=Fly&Version=2012-11-05", SQS_XMLNS, "Fly"),
        ("/", "Action=SendMessage%3C&Version=2012-11-05", SQS_XMLNS, "SendMessage&lt;"),
        ("/", "Action=Publish&Version=2010-03-31", SNS, "Publish"),
        ("/000000000000/jobs", "Action=Fly", SQS_XMLNS, "Fly"),
    ] {
        let message = format!("The action {action} is not valid for this endpoint.");
        check_xml(&client.form(path, form).await, 400, xmlns, "InvalidAction", &message);
        check_xml(&client.get(&format!("{path}?{form}")).await, 400, xmlns, "InvalidAction", &message);
    }
    let missing = "The request must contain the parameter Action.";
    check_xml(&client.get("/").await, 400, SQS_XMLNS, "MissingAction", missing);
    check_xml(&client.form("/", "QueueUrl=x").await, 400, SQS_XMLNS, "MissingAction", missing);
}

#[tokio::test]
async fn a_smithy_request_is_refused_in_cbor() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let path = "/service/AWSEventsV2/operation/PutEvents";
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: h\r\nSmithy-Protocol: rpc-v2-cbor\r\nContent-Length: 1\r\n\r\n\u{7f}"
    );
    client.send(head.as_bytes()).await;
    let answer = client.answer().await.unwrap();
    assert_eq!((answer.status, answer.header("content-type")), (400, Some("application/cbor")));
    assert_eq!(answer.header("smithy-protocol"), Some("rpc-v2-cbor"));
    assert!(answer.body.contains(UNKNOWN), "{answer:?}");
}

#[tokio::test]
async fn a_caller_is_the_account_that_its_key_says() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let ask = "Action=GetCallerIdentity&Version=2011-06-15";
    let identity = |account: &str, id: &str| {
        format!(
            "<?xml version=\"1.0\"?><GetCallerIdentityResponse \
             xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
             <Arn>arn:aws:iam::{account}:root</Arn><UserId>{account}</UserId><Account>{account}</Account>\
             </GetCallerIdentityResult><ResponseMetadata><RequestId>{id}</RequestId></ResponseMetadata>\
             </GetCallerIdentityResponse>"
        )
    };
    for (credential, account) in [
        ("", "000000000000"),
        ("test%2F20150830%2Fus-east-1%2Fsts%2Faws4_request", "000000000000"),
        ("123456789012%2F20150830%2Fus-east-1%2Fsts%2Faws4_request", "123456789012"),
    ] {
        let answer = client.get(&format!("/?{ask}&X-Amz-Credential={credential}")).await;
        let id = answer.header("x-amzn-requestid").unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (200, identity(account, id).as_str()));
    }
}

#[tokio::test]
async fn requests_on_one_connection_are_answered_in_their_order() {
    let rig = Rig::new();
    let mut client = rig.connect();
    for _ in 0..3 {
        assert_eq!(client.form("/", "Action=GetCallerIdentity").await.status, 200);
        check_xml(
            &client.get("/?Action=Fly").await,
            400,
            SQS_XMLNS,
            "InvalidAction",
            "The action Fly is not valid for this endpoint.",
        );
    }
}

#[tokio::test]
async fn bad_bodies_are_refused_and_the_connection_goes_on() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let serialization = "com.amazon.coral.service#SerializationException";
    let deep = "[".repeat(100_000);
    for body in ["{", "[}", "{\"QueueUrl\":1}", "{\"QueueUrl\":\"\\ud800\"}", "[]", "7", &deep] {
        let answer = client.json("AmazonSQS.SendMessage", body).await;
        assert_eq!(
            (answer.status, answer.header("x-amzn-query-error")),
            (400, Some("SerializationException;Sender"))
        );
        assert!(answer.body.contains(serialization), "{body}: {answer:?}");
    }
    let missing = client.json("AmazonSQS.SendMessage", "{\"MessageBody\":\"x\"}").await;
    check_json(
        &missing,
        400,
        "com.amazonaws.sqs#MissingRequiredParameterException",
        "MissingParameter;Sender",
        "The request must contain the parameter QueueUrl.",
    );
    for (form, code) in [
        ("Action=GetQueueAttributes&QueueUrl=x&AttributeName.4294967295=All", "MalformedInput"),
        ("Action=GetQueueAttributes&QueueUrl=x&AttributeName.1=All&AttributeName=All", "MalformedInput"),
        ("Action=GetQueueAttributes&QueueUrl.1=x", "MalformedInput"),
        ("Action=GetQueueAttributes&QueueUrl=%ff", "MalformedQueryString"),
        ("Action=GetQueueAttributes", "MissingParameter"),
    ] {
        let answer = client.form("/", form).await;
        assert!(answer.body.contains(&format!("<Code>{code}</Code>")), "{form}: {answer:?}");
    }
}

#[tokio::test]
async fn a_body_may_have_its_limit_and_not_a_byte_more() {
    let rig = Rig::new();
    for (len, code) in [
        (BODY_LEN_MAX - 1, "SerializationException;Sender"),
        (BODY_LEN_MAX, "SerializationException;Sender"),
        (BODY_LEN_MAX + 1, "RequestEntityTooLarge;Sender"),
    ] {
        let mut client = rig.connect();
        let head = format!(
            "POST / HTTP/1.1\r\nHost: h\r\nX-Amz-Target: AmazonSQS.SendMessage\r\nContent-Length: {len}\r\n\r\n"
        );
        client.send(head.as_bytes()).await;
        let body = vec![b'x'; len];
        // The server may stop reading before the end.
        drop(client.stream.write_all(&body).await);
        let answer = client.answer().await.unwrap();
        assert_eq!(answer.header("x-amzn-query-error"), Some(code), "{len}");
        assert_eq!(answer.header("connection") == Some("close"), len > BODY_LEN_MAX, "{len}");
    }
}

#[tokio::test]
async fn slow_long_bodies_of_one_account_keep_no_other_from_its_own() {
    let rig = Rig::new();
    let head = |account: &str, len: usize| {
        format!(
            "POST / HTTP/1.1\r\nHost: h\r\nX-Amz-Target: AmazonSQS.SendMessage\r\nAuthorization: AWS4-HMAC-SHA256 \
             Credential={account}/20150830/us-east-1/sqs/aws4_request\r\nContent-Length: {len}\r\n\r\n"
        )
    };
    let begun = vec![b'x'; 128 << 10];
    // One more than the share of one sender in a quarter of 512 MiB.
    let mut slow = Vec::new();
    for _ in 0..9 {
        let mut client = rig.connect();
        client.send(head("111111111111", BODY_LEN_MAX).as_bytes()).await;
        client.send(&begun).await;
        slow.push(client);
    }
    let mut other = rig.connect();
    other.send(head("222222222222", begun.len()).as_bytes()).await;
    other.send(&begun).await;
    let answer = tokio::time::timeout(std::time::Duration::from_secs(5), other.answer()).await;
    assert_eq!(answer.unwrap().unwrap().header("x-amzn-query-error"), Some("SerializationException;Sender"));
}

#[tokio::test]
async fn a_body_in_chunks_is_held_to_the_same_limit() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.send(b"POST /?Action=Fly HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    for _ in 0..=BODY_LEN_MAX / 0x10000 {
        if client.stream.write_all(chunk.as_bytes()).await.is_err() {
            break;
        }
    }
    let answer = client.answer().await.unwrap();
    assert_eq!(answer.status, 413, "{answer:?}");
    assert!(answer.body.contains("<Code>RequestEntityTooLarge</Code>"), "{answer:?}");
}

#[tokio::test]
async fn too_many_header_lines_end_the_connection_alone() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let lines: String = (0..200).map(|number| format!("X-Flood-{number}: x\r\n")).collect();
    client.send(format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n").as_bytes()).await;
    assert_eq!(client.answer().await.unwrap().status, 431);
    assert!(client.answer().await.is_none());
    assert_eq!(rig.connect().form("/", "Action=GetCallerIdentity").await.status, 200);
}

#[tokio::test]
async fn a_head_without_an_end_ends_the_connection_at_its_limit() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let endless = format!("GET /{} ", "x".repeat(1 << 20));
    drop(client.stream.write_all(endless.as_bytes()).await);
    if let Some(answer) = client.answer().await {
        assert!(matches!(answer.status, 414 | 431), "{answer:?}");
    }
    client.serving.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_body_that_comes_too_slowly_is_refused() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.send(b"POST /?Action=Fly HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhalf").await;
    let answer = client.answer().await.unwrap();
    assert_eq!((answer.status, answer.header("connection")), (408, Some("close")));
    assert!(client.answer().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_head_that_comes_too_slowly_ends_the_connection() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.send(b"GET / HTTP/1.1\r\nHo").await;
    client.serving.await.unwrap();
}

/// The user ann signs with AKIDANN and hush.
async fn give_ann_a_key(rig: &Rig) {
    let access_keys = vec![("AKIDANN".to_owned(), "hush".to_owned())];
    let change = UserChange { access_keys, ..UserChange::default() };
    rig.server.broker.users().change("ann", change).await.unwrap();
}

#[tokio::test]
async fn once_there_are_users_requests_must_be_signed_by_one() {
    let rig = Rig::new();
    let users = rig.server.broker.users();
    users.put("ann", UserSpec { tenant: Some("acme".into()), ..UserSpec::default() }).await.unwrap();
    give_ann_a_key(&rig).await;
    let mut client = rig.connect();
    check_xml(
        &client.form("/", "Action=ListQueues&Version=2012-11-05").await,
        403,
        SQS_XMLNS,
        "MissingAuthenticationToken",
        "Request is missing Authentication Token",
    );
    let now_s = rig.server.broker.env().clock.wall_ms() / 1_000;
    let body = "Action=GetCallerIdentity&Version=2011-06-15";
    let signed = |key: &str, secret: &str, service: &str| {
        let authorization = sign(key, secret, "eu-west-1", service, now_s, "/", "localhost:4566", body);
        format!(
            "POST / HTTP/1.1\r\nHost: localhost:4566\r\n{authorization}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    client.send(signed("AKIDANN", "hush", "sts").as_bytes()).await;
    let answer = client.answer().await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.body.contains(":user/ann</Arn><UserId>AKIDANN</UserId>"), "{answer:?}");
    for (key, secret, service, code) in [
        ("AKIDANN", "other", "sts", "SignatureDoesNotMatch"),
        ("AKIDBOB", "hush", "sts", "InvalidClientTokenId"),
        ("AKIDANN", "hush", "sqs", "SignatureDoesNotMatch"),
    ] {
        client.send(signed(key, secret, service).as_bytes()).await;
        let answer = client.answer().await.unwrap();
        assert_eq!(answer.status, 403, "{answer:?}");
        assert!(answer.body.contains(&format!("<Code>{code}</Code>")), "{answer:?}");
    }
}

/// The input that the bytes of a request ask for.
#[track_caller]
fn with_input(bytes: &str, check: impl FnOnce(Input<'_>)) {
    let (parts, body) = request(bytes.replace('\n', "\r\n").as_bytes()).into_parts();
    let mut protocol = dispatch::protocol(&parts.headers);
    let parameters = dispatch::parameters(protocol, &parts, &body).unwrap();
    match dispatch::call(&mut protocol, &parts, &body, parameters, None).unwrap() {
        dispatch::Call::Sqs(input) => check(input),
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_operation_reads_alike_in_both_protocols_and_on_the_path_of_its_queue() {
    let json = "POST / HTTP/1.1\nx-amz-target: AmazonSQS.SendMessageBatch\n\n\
        {\"QueueUrl\":\"/000000000000/jobs\",\"Entries\":[\
        {\"Id\":\"a\",\"MessageBody\":\"x y\",\"DelaySeconds\":3,\"MessageAttributes\":\
        {\"n\":{\"DataType\":\"Binary\",\"BinaryValue\":\"AAE=\"}}},{\"Id\":\"b\",\"MessageBody\":\"z\"}],\"New\":{\"a\":[]}}";
    let entries = "SendMessageBatchRequestEntry.1.Id=a&SendMessageBatchRequestEntry.1.MessageBody=x+y&\
        SendMessageBatchRequestEntry.1.DelaySeconds=3&SendMessageBatchRequestEntry.1.MessageAttribute.1.Name=n&\
        SendMessageBatchRequestEntry.1.MessageAttribute.1.Value.DataType=Binary&\
        SendMessageBatchRequestEntry.1.MessageAttribute.1.Value.BinaryValue=AAE%3D&\
        SendMessageBatchRequestEntry.2.Id=b&SendMessageBatchRequestEntry.2.MessageBody=z";
    let form =
        format!("POST /000000000000/jobs HTTP/1.1\n\nAction=SendMessageBatch&Version=2012-11-05&{entries}");
    let get = format!("GET /000000000000/jobs?Action=SendMessageBatch&{entries} HTTP/1.1\n\n");
    let named = format!("POST / HTTP/1.1\n\nAction=SendMessageBatch&QueueUrl=/000000000000/jobs&{entries}");
    let body_alone =
        json.replace("\"QueueUrl\":\"/000000000000/jobs\",", "").replace("POST /", "POST /000000000000/jobs");
    with_input(json, |expected| {
        for other in [&form, &get, &named, &body_alone] {
            with_input(other, |input| assert_eq!(input, expected, "{other}"));
        }
        let Input::SendMessageBatch(batch) = &expected else { panic!("{expected:?}") };
        assert_eq!((batch.entries.len(), &*batch.entries[0].message_body), (2, "x y"));
    });
}

#[test]
fn an_operation_is_called_with_every_parameter_under_its_own_name() {
    let json = "POST / HTTP/1.1\nx-amz-target: AmazonSQS.ReceiveMessage\n\n\
        {\"QueueUrl\":\"q\",\"AttributeNames\":[\"All\"],\"MessageSystemAttributeNames\":[\"SenderId\"],\
        \"MessageAttributeNames\":[\"a.*\"],\"MaxNumberOfMessages\":10,\"VisibilityTimeout\":0,\"WaitTimeSeconds\":20,\
        \"ReceiveRequestAttemptId\":\"r\"}";
    let form = "POST / HTTP/1.1\n\nAction=ReceiveMessage&QueueUrl=q&AttributeName.1=All&\
        MessageSystemAttributeName.1=SenderId&MessageAttributeName.1=a.*&MaxNumberOfMessages=10&VisibilityTimeout=0&\
        WaitTimeSeconds=20&ReceiveRequestAttemptId=r";
    with_input(json, |expected| {
        with_input(form, |input| assert_eq!(input, expected));
        let Input::ReceiveMessage(receive) = expected else { panic!() };
        assert_eq!((receive.max_number_of_messages, receive.visibility_timeout), (Some(10), Some(0)));
    });
}

#[tokio::test]
async fn answers_have_the_shape_of_each_protocol() {
    let id = super::RequestIds::new(7).next();
    let text = |protocol: Protocol, output: &Output| {
        use http_body_util::BodyExt;
        let body = protocol.success(output, id).into_body();
        async move { String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap() }
    };
    let json = Protocol::Json("application/x-amz-json-1.0");
    let xml = Protocol::Query(SQS_XMLNS);
    assert_eq!((json.wire(), xml.wire()), (Wire::Json, Wire::Query));
    let sent = Output::SendMessage(SendMessageOutput {
        md5_of_message_body: "00".into(),
        message_id: "m".into(),
        ..SendMessageOutput::default()
    });
    assert_eq!(text(json, &sent).await, "{\"MD5OfMessageBody\":\"00\",\"MessageId\":\"m\"}");
    let metadata = format!("<ResponseMetadata><RequestId>{id}</RequestId></ResponseMetadata>");
    assert_eq!(
        text(xml, &sent).await,
        format!(
            "<?xml version=\"1.0\"?><SendMessageResponse xmlns=\"{SQS_XMLNS}\"><SendMessageResult>\
             <MD5OfMessageBody>00</MD5OfMessageBody><MessageId>m</MessageId></SendMessageResult>{metadata}\
             </SendMessageResponse>"
        )
    );
    let nothing = Output::ReceiveMessage(ReceiveMessageOutput::default());
    assert_eq!(text(json, &nothing).await, "{}");
    assert!(text(xml, &nothing).await.contains("<ReceiveMessageResult></ReceiveMessageResult>"));
    let deleted = Output::DeleteMessage(crate::shapes::NoOutput);
    assert_eq!(text(json, &deleted).await, "");
    assert_eq!(
        text(xml, &deleted).await,
        format!(
            "<?xml version=\"1.0\"?><DeleteMessageResponse xmlns=\"{SQS_XMLNS}\">{metadata}</DeleteMessageResponse>"
        )
    );
}
