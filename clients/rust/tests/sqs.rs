//! What the AWS SDK for Rust sees of SQS.

use std::{collections::BTreeSet, time::Duration};

use aws_sdk_sqs::{
    Client,
    config::{BehaviorVersion, Credentials, Region},
    error::ProvideErrorMetadata,
    primitives::Blob,
    types::{
        MessageAttributeValue, MessageSystemAttributeName as System, QueueAttributeName as Attribute,
        SendMessageBatchRequestEntry,
    },
};
use clients::{aws, name, shows};

const CLIENT: &str = "aws-sdk-sqs";

/// Set up as applications do it; the address and the credentials are ours, and the connection is plain.
fn client() -> Client {
    let config = aws_sdk_sqs::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
        .endpoint_url(aws())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    Client::from_conf(config)
}

async fn queue(client: &Client, suffix: &str, attributes: &[(Attribute, &str)]) -> String {
    let mut create = client.create_queue().queue_name(format!("{}{suffix}", name("rust")));
    for (key, value) in attributes {
        create = create.attributes(key.clone(), *value);
    }
    create.send().await.unwrap().queue_url.unwrap()
}

#[tokio::test]
async fn a_message_comes_back_as_it_was_sent_and_is_gone_once_deleted() {
    let _shows = shows("SQS", CLIENT, "send, long poll and delete: body, attributes and receive count");
    let client = client();
    let url = queue(&client, "", &[(Attribute::VisibilityTimeout, "1")]).await;
    let text = MessageAttributeValue::builder().data_type("String").string_value("7").build().unwrap();
    let binary = MessageAttributeValue::builder()
        .data_type("Binary.png")
        .binary_value(Blob::new([0, 1, 255]))
        .build()
        .unwrap();
    let sent = client
        .send_message()
        .queue_url(&url)
        .message_body("grüße")
        .message_attributes("trace", text.clone())
        .message_attributes("picture", binary.clone());
    let id = sent.send().await.unwrap().message_id.unwrap();
    for count in ["1", "2"] {
        let received = client
            .receive_message()
            .queue_url(&url)
            .wait_time_seconds(20)
            .message_attribute_names("All")
            .message_system_attribute_names(System::ApproximateReceiveCount);
        let [message] = &received.send().await.unwrap().messages.unwrap()[..] else { panic!("one message") };
        assert_eq!((message.body(), message.message_id()), (Some("grüße"), Some(&*id)));
        let attributes = message.message_attributes().unwrap();
        assert_eq!((&attributes["trace"], &attributes["picture"]), (&text, &binary));
        assert_eq!(message.attributes().unwrap()[&System::ApproximateReceiveCount], count);
        // The first one is left to its visibility timeout.
        if count == "2" {
            let handle = message.receipt_handle().unwrap();
            client.delete_message().queue_url(&url).receipt_handle(handle).send().await.unwrap();
        }
    }
    let asked = client.get_queue_attributes().queue_url(&url).attribute_names(Attribute::All);
    let attributes = asked.send().await.unwrap().attributes.unwrap();
    assert_eq!(attributes[&Attribute::ApproximateNumberOfMessages], "0");
    assert_eq!(attributes[&Attribute::ApproximateNumberOfMessagesNotVisible], "0");
}

#[tokio::test]
async fn a_group_of_a_fifo_queue_comes_in_order_and_a_duplicate_once() {
    let _shows = shows("SQS", CLIENT, "FIFO: groups in order, duplicates once, batches entry by entry");
    let client = client();
    let fifo = [(Attribute::FifoQueue, "true"), (Attribute::ContentBasedDeduplication, "true")];
    let url = queue(&client, ".fifo", &fifo).await;
    for _ in 0..2 {
        let mut batch = client.send_message_batch().queue_url(&url);
        for n in 0..5 {
            let entry = SendMessageBatchRequestEntry::builder().id(n.to_string());
            let entry = entry.message_group_id("orders").message_body(n.to_string());
            batch = batch.entries(entry.build().unwrap());
        }
        assert_eq!(batch.send().await.unwrap().successful().len(), 5);
    }
    let mut seen = Vec::new();
    while seen.len() < 5 {
        let received =
            client.receive_message().queue_url(&url).max_number_of_messages(2).wait_time_seconds(20);
        for message in received.send().await.unwrap().messages.unwrap_or_default() {
            seen.push(message.body.unwrap());
            let delete = client.delete_message().queue_url(&url);
            delete.receipt_handle(message.receipt_handle.unwrap()).send().await.unwrap();
        }
    }
    assert_eq!(seen, ["0", "1", "2", "3", "4"]);
    let more = client.receive_message().queue_url(&url).wait_time_seconds(1).send().await.unwrap();
    assert_eq!(more.messages(), []);
}

#[tokio::test]
async fn errors_are_told_apart_by_their_types() {
    let _shows = shows("SQS", CLIENT, "errors have their types, AWS's codes and texts");
    let client = client();
    let url = queue(&client, "", &[]).await;
    let missing = client.get_queue_url().queue_name(name("missing")).send().await.unwrap_err();
    assert!(missing.into_service_error().is_queue_does_not_exist());
    let garbled = client.delete_message().queue_url(&url).receipt_handle("garbled").send().await.unwrap_err();
    assert!(garbled.into_service_error().is_receipt_handle_is_invalid());
    let long = client.send_message().queue_url(&url).message_body("x").delay_seconds(901).send().await;
    assert_eq!(long.unwrap_err().into_service_error().code(), Some("InvalidParameterValue"));
}

#[tokio::test]
async fn a_waiting_poll_is_woken_by_whoever_sends() {
    let _shows = shows(
        "SQS",
        CLIENT,
        "a long poll is woken by a message, by a delayed one, and by one that comes back",
    );
    let client = client();
    let url = queue(&client, "", &[]).await;
    let waiting = |client: Client, url: String| async move {
        let asked = client.receive_message().queue_url(url).wait_time_seconds(20).visibility_timeout(1);
        asked.send().await.unwrap().messages.unwrap()[0].body.clone().unwrap()
    };
    let first = tokio::spawn(waiting(client.clone(), url.clone()));
    tokio::time::sleep(Duration::from_millis(200)).await;
    client.send_message().queue_url(&url).message_body("now").send().await.unwrap();
    assert_eq!(first.await.unwrap(), "now");
    client.send_message().queue_url(&url).message_body("later").delay_seconds(2).send().await.unwrap();
    let mut seen = BTreeSet::new();
    while seen.len() < 2 {
        seen.insert(waiting(client.clone(), url.clone()).await);
    }
    assert!(seen.contains("now") && seen.contains("later"), "{seen:?}");
}
