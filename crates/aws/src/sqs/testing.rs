//! What the tests of this service run on: a server over a broker in a scratch directory, a clock set by hand, and requests
//! without a socket.
#![allow(clippy::disallowed_methods)]

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Instant,
};

use broker::{Broker, BrokerOptions, Principal};
use env::{Clock, Env};
use model::{Formats, Namespace, StreamKey};

use crate::{
    AccountId, AwsError, Caller, Context, Options, Server,
    door::Delivery,
    shapes::{Input, Message, Output, Pairs, ReceiveMessageInput, SendMessageInput},
};

pub(super) const START_MS: i64 = 1_700_000_000_000;

struct HandClock {
    wall_ms: AtomicI64,
    began: Instant,
}

impl Clock for HandClock {
    fn wall_ms(&self) -> i64 {
        self.wall_ms.load(Ordering::SeqCst)
    }
    fn mono_ns(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap()
    }
}

/// A server on a directory of its own, which goes with it.
pub(super) struct Rig {
    pub server: Arc<Server>,
    clock: Arc<HandClock>,
    dir: PathBuf,
    options: Options,
    memory_len: usize,
}

impl Rig {
    pub(super) fn new() -> Self {
        Rig::with(Options::default())
    }

    pub(super) fn with(options: Options) -> Self {
        Rig::opened(options, BrokerOptions::default().memory_budget_len)
    }

    /// With a broker of so much memory, bytes.
    pub(super) fn with_memory(len: usize) -> Self {
        Rig::opened(Options::default(), len)
    }

    fn opened(options: Options, memory_len: usize) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let dir = std::env::temp_dir().join(format!("wm-sqs-{}-{number}", std::process::id()));
        let clock = Arc::new(HandClock { wall_ms: AtomicI64::new(START_MS), began: Instant::now() });
        let server = open(&clock, &dir, &options, memory_len);
        Rig { server, clock, dir, options, memory_len }
    }

    /// Stops the broker and opens it again.
    pub(super) fn reopen(&mut self) {
        self.server.broker.close().unwrap();
        self.server = open(&self.clock, &self.dir, &self.options, self.memory_len);
    }

    pub(super) fn broker(&self) -> &Broker {
        &self.server.broker
    }

    /// Lets time pass, and what is due happen.
    pub(super) fn pass(&self, seconds: i64) {
        self.clock.wall_ms.fetch_add(seconds * 1_000, Ordering::SeqCst);
        self.broker().clock_was_set();
    }

    pub(super) fn ctx(&self) -> Context {
        let account = AccountId::of_tenant("public");
        Context {
            server: self.server.clone(),
            caller: Arc::new(Caller {
                account,
                region: "us-east-1".into(),
                namespace: Namespace::default(),
                principal: Principal::anonymous(),
                access_key_id: None,
            }),
            base_url: "http://localhost:4566".into(),
            delivery: Delivery::default(),
            latest_queue: Default::default(),
        }
    }

    pub(super) async fn call(&self, input: Input<'_>) -> Result<Output, AwsError> {
        let ctx = self.ctx();
        let output = self.server.sqs.call(&ctx, input).await;
        // It arrived.
        std::mem::forget(ctx.delivery);
        output
    }

    pub(super) async fn create(&self, name: &str, attributes: &[(&str, &str)]) -> String {
        self.try_create(name, attributes).await.unwrap()
    }

    pub(super) async fn try_create(
        &self,
        name: &str,
        attributes: &[(&str, &str)],
    ) -> Result<String, AwsError> {
        let input = crate::shapes::CreateQueueInput {
            queue_name: name.into(),
            attributes: pairs(attributes),
            tags: Pairs::default(),
        };
        match self.call(Input::CreateQueue(input)).await? {
            Output::CreateQueue(output) => Ok(output.queue_url),
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn set(&self, name: &str, attributes: &[(&str, &str)]) -> Result<(), AwsError> {
        let input =
            crate::shapes::SetQueueAttributesInput { queue_url: name.into(), attributes: pairs(attributes) };
        self.call(Input::SetQueueAttributes(input)).await.map(drop)
    }

    /// One attribute of a queue; an empty text when it has none.
    pub(super) async fn attribute(&self, name: &str, attribute: &str) -> String {
        let input = crate::shapes::GetQueueAttributesInput {
            queue_url: name.into(),
            attribute_names: vec![attribute.into()],
        };
        match self.call(Input::GetQueueAttributes(input)).await.unwrap() {
            Output::GetQueueAttributes(output) => {
                output.attributes.0.into_iter().map(|(_, value)| value).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    /// Messages visible, in flight and delayed.
    pub(super) async fn counts(&self, name: &str) -> [u64; 3] {
        let mut counts = [0; 3];
        let names = ["", "NotVisible", "Delayed"];
        for (count, suffix) in counts.iter_mut().zip(names) {
            let attribute = format!("ApproximateNumberOfMessages{suffix}");
            *count = self.attribute(name, &attribute).await.parse().unwrap();
        }
        counts
    }

    pub(super) async fn send(&self, name: &str, body: &str) -> String {
        self.sent(message(name, body)).await.unwrap().message_id
    }

    pub(super) async fn sent(
        &self,
        input: SendMessageInput<'_>,
    ) -> Result<crate::shapes::SendMessageOutput, AwsError> {
        match self.call(Input::SendMessage(input)).await? {
            Output::SendMessage(output) => Ok(output),
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn receive(&self, name: &str, count: i32) -> Vec<Message> {
        self.received(ReceiveMessageInput { max_number_of_messages: Some(count), ..asked(name) })
            .await
            .unwrap()
    }

    pub(super) async fn received(&self, input: ReceiveMessageInput<'_>) -> Result<Vec<Message>, AwsError> {
        match self.call(Input::ReceiveMessage(input)).await? {
            Output::ReceiveMessage(output) => Ok(output.messages),
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn bodies(&self, name: &str, count: i32) -> Vec<String> {
        self.receive(name, count).await.into_iter().map(|message| message.body).collect()
    }

    pub(super) async fn delete(&self, name: &str, handle: &str) -> Result<(), AwsError> {
        let input =
            crate::shapes::DeleteMessageInput { queue_url: name.into(), receipt_handle: handle.into() };
        self.call(Input::DeleteMessage(input)).await.map(drop)
    }

    pub(super) async fn hide(&self, name: &str, handle: &str, seconds: i32) -> Result<(), AwsError> {
        let input = crate::shapes::ChangeMessageVisibilityInput {
            queue_url: name.into(),
            receipt_handle: handle.into(),
            visibility_timeout: seconds,
        };
        self.call(Input::ChangeMessageVisibility(input)).await.map(drop)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.server.broker.close().unwrap();
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

fn open(
    clock: &Arc<HandClock>,
    dir: &std::path::Path,
    options: &Options,
    memory_budget_len: usize,
) -> Arc<Server> {
    let env = Env { clock: clock.clone(), ..env::real() };
    let mut formats = Formats::default();
    formats.register(super::format()).unwrap();
    formats.register(Arc::new(broker::plain::Plain)).unwrap();
    let settings =
        BrokerOptions { retention_interval_ms: 3_600_000, memory_budget_len, ..BrokerOptions::default() };
    Server::new(Broker::open(env, dir, settings, formats).unwrap().0, options.clone())
}

fn pairs<'a>(of: &'a [(&'a str, &'a str)]) -> Pairs<'a, crate::shapes::Text<'a>> {
    Pairs(of.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
}

/// A message for a queue.
pub(super) fn message<'a>(queue: &'a str, body: &'a str) -> SendMessageInput<'a> {
    SendMessageInput {
        queue_url: queue.into(),
        message_body: body.into(),
        delay_seconds: None,
        message_attributes: Pairs::default(),
        message_system_attributes: Pairs::default(),
        message_deduplication_id: None,
        message_group_id: None,
    }
}

/// A message of a group.
pub(super) fn grouped<'a>(queue: &'a str, group: &'a str, body: &'a str) -> SendMessageInput<'a> {
    SendMessageInput { message_group_id: Some(group.into()), ..message(queue, body) }
}

/// A receive that asks for nothing.
pub(super) fn asked(queue: &str) -> ReceiveMessageInput<'_> {
    ReceiveMessageInput {
        queue_url: queue.into(),
        attribute_names: Vec::new(),
        message_system_attribute_names: vec!["All".into()],
        message_attribute_names: vec!["All".into()],
        max_number_of_messages: None,
        visibility_timeout: None,
        wait_time_seconds: None,
        receive_request_attempt_id: None,
    }
}

/// A system attribute of a message.
pub(super) fn system<'m>(message: &'m Message, name: &str) -> Option<&'m str> {
    message.attributes.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
}

pub(super) fn key(name: &str) -> StreamKey {
    StreamKey::queue(&Namespace::default(), name)
}
