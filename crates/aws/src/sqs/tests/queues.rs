//! Queues: made, found, changed, listed, deleted.

use broker::{Append, Facets, Mode, NewBatch, PublishUnit, StreamSettings, StreamSpec, plain};
use model::Record;

use super::*;
use crate::{
    Options,
    shapes::{Input, Output},
};

#[tokio::test]
async fn a_queue_is_made_once_and_again_only_with_the_same_attributes() {
    let mut rig = Rig::new();
    let url = rig.create("jobs", &[("VisibilityTimeout", "69"), ("DelaySeconds", "1")]).await;
    assert_eq!(url, "http://localhost:4566/000000000000/jobs");
    assert_eq!(rig.create("jobs", &[]).await, url);
    rig.reopen();
    assert_eq!(rig.create("jobs", &[("DelaySeconds", "1")]).await, url);
    let error =
        rig.try_create("jobs", &[("VisibilityTimeout", "69"), ("DelaySeconds", "2")]).await.unwrap_err();
    assert_eq!(
        (error.code, &*error.message),
        (
            "QueueAlreadyExists",
            "A queue already exists with the same name and a different value for attribute DelaySeconds"
        )
    );
    assert_eq!(rig.attribute("jobs", "QueueArn").await, "arn:aws:sqs:us-east-1:000000000000:jobs");
    assert_eq!(rig.attribute("jobs", "CreatedTimestamp").await, "1700000000");
}

#[tokio::test]
async fn names_and_types_belong_together() {
    let rig = Rig::new();
    let refused = |name: &'static str, attributes: &'static [(&str, &str)]| {
        let rig = &rig;
        async move { rig.try_create(name, attributes).await.unwrap_err() }
    };
    assert_eq!(
        &*refused("a.fifo", &[]).await.message,
        "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length"
    );
    assert!(refused("a", &[("FifoQueue", "true")]).await.message.contains("must end with .fifo suffix"));
    let error = refused("a", &[("FifoQueue", "false")]).await;
    assert_eq!((error.code, &*error.message), ("InvalidAttributeName", "Unknown Attribute FifoQueue."));
    rig.create("q.fifo", &[("FifoQueue", "true")]).await;
    rig.set("q.fifo", &[("FifoQueue", "true")]).await.unwrap();
    let error = rig.set("q.fifo", &[("FifoQueue", "false")]).await.unwrap_err();
    assert_eq!(
        (error.code, &*error.message),
        (
            "InvalidAttributeValue",
            "Invalid value for the parameter FifoQueue. Reason: Modifying queue type is not supported."
        )
    );
}

#[tokio::test]
async fn two_encryptions_at_a_time_are_refused() {
    let rig = Rig::new();
    rig.create("jobs", &[]).await;
    let error =
        rig.set("jobs", &[("KmsMasterKeyId", "k"), ("SqsManagedSseEnabled", "true")]).await.unwrap_err();
    assert_eq!(error.code, "InvalidAttributeName");
    rig.set("jobs", &[("KmsMasterKeyId", "k"), ("KmsDataKeyReusePeriodSeconds", "6000")]).await.unwrap();
    assert_eq!(rig.attribute("jobs", "SqsManagedSseEnabled").await, "false");
    assert_eq!(rig.attribute("jobs", "KmsDataKeyReusePeriodSeconds").await, "6000");
    rig.set("jobs", &[("SqsManagedSseEnabled", "true")]).await.unwrap();
    assert_eq!(rig.attribute("jobs", "KmsMasterKeyId").await, "");
}

#[tokio::test]
async fn a_queue_that_is_not_there_is_made_when_the_settings_say_so() {
    let missing = Rig::new().sent(message("jobs", "a")).await.unwrap_err();
    assert_eq!(
        (missing.code, &*missing.message),
        ("AWS.SimpleQueueService.NonExistentQueue", "The specified queue does not exist.")
    );
    let rig = Rig::with(Options { auto_create_queues: true, ..Options::default() });
    rig.send("jobs", "a").await;
    assert_eq!(rig.bodies("jobs", 1).await, ["a"]);
    rig.sent(SendMessageInput { message_deduplication_id: Some("d".into()), ..grouped("q.fifo", "g", "a") })
        .await
        .unwrap();
    assert_eq!(rig.attribute("q.fifo", "FifoQueue").await, "true");
}

#[tokio::test]
async fn the_rules_of_sixty_seconds_hold_where_timing_is_strict() {
    let rig = Rig::with(Options { strict_timing: true, ..Options::default() });
    let delete =
        || rig.call(Input::DeleteQueue(crate::shapes::DeleteQueueInput { queue_url: "jobs".into() }));
    let purge = || rig.call(Input::PurgeQueue(crate::shapes::PurgeQueueInput { queue_url: "jobs".into() }));
    rig.create("jobs", &[]).await;
    purge().await.unwrap();
    let error = purge().await.unwrap_err();
    assert_eq!(
        (error.code, &*error.message),
        (
            "AWS.SimpleQueueService.PurgeQueueInProgress",
            "Only one PurgeQueue operation on jobs is allowed every 60 seconds."
        )
    );
    delete().await.unwrap();
    assert_eq!(
        rig.try_create("jobs", &[]).await.unwrap_err().code,
        "AWS.SimpleQueueService.QueueDeletedRecently"
    );
    rig.pass(60);
    rig.create("jobs", &[]).await;
    purge().await.unwrap();
}

fn queue_spec() -> StreamSpec {
    StreamSpec {
        partitions: 1,
        settings: StreamSettings { mode: Mode::Queue, ..StreamSettings::default() },
        facets: Facets::default(),
    }
}

#[tokio::test]
async fn a_queue_of_another_dialect_is_worked_and_shown_under_its_alias() {
    let rig = Rig::new();
    let stream = rig.broker().create_stream(key("jobs.eu"), queue_spec()).await.unwrap();
    for hidden in ["amq.gen-1", "__x", "$x"] {
        rig.broker().create_stream(key(hidden), queue_spec()).await.unwrap();
    }
    let input =
        crate::shapes::ListQueuesInput { queue_name_prefix: None, next_token: None, max_results: None };
    let Output::ListQueues(output) = rig.call(Input::ListQueues(input)).await.unwrap() else { panic!() };
    let [url] = &output.queue_urls[..] else { panic!("{:?}", output.queue_urls) };
    assert!(url.starts_with("http://localhost:4566/000000000000/jobs_eu-"), "{url}");
    let record = Record { key: Some("k".into()), body: Some("a".into()), ..Record::default() };
    let body = model::Format::write(&plain::Plain, std::slice::from_ref(&record)).unwrap();
    let batch = NewBatch { count: 1, format: plain::PLAIN, body, ..NewBatch::default() };
    let unit = PublishUnit::of(vec![Append::new(&stream.partitions()[0], batch)]);
    let published = rig.broker().publish(unit).unwrap();
    rig.broker().durable(published.wait).await.unwrap();
    let message = rig.receive(url, 10).await.remove(0);
    assert_eq!((message.body.as_str(), system(&message, "MessageGroupId")), ("a", Some("k")));
    rig.delete(url, &message.receipt_handle).await.unwrap();
    assert_eq!(rig.counts(url).await, [0, 0, 0]);
}
