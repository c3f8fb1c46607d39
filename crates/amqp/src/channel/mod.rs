//! A channel: what was delivered on it and not settled, who consumes on it, what is published on it.
//!
//! - [`deliveries`] is the half that consumers write to: delivery tags, what is out, credit;
//! - [`consumer`] takes messages off a queue for one consumer;
//! - [`assembly`] puts a published message together from its frames;
//! - [`settling`] gathers what becomes of deliveries; [`transaction`] lets it wait.

pub(crate) mod assembly;
pub(crate) mod consumer;
pub(crate) mod deliveries;
pub(crate) mod settling;
pub(crate) mod transaction;

use std::{collections::HashMap, sync::Arc};

use model::StreamId;
use tokio::task::JoinHandle;

use self::{assembly::Assembly, consumer::Consumer, deliveries::Deliveries, transaction::Transaction};
use crate::{client::Client, codec::Method, error::Exception, vhost::queue::Queue};

/// What a channel does with what is published on it.
#[derive(Default)]
pub(crate) enum Publishing {
    /// Nothing is said.
    #[default]
    Plain,
    /// Each message is confirmed; the number of the last one.
    Confirmed(u64),
    /// It waits for the commit.
    Transaction(Box<Transaction>),
}

/// A consumer of replies: its tag, and what its requests name as their address.
pub(crate) struct Replies {
    pub consumer_tag: String,
    pub address: String,
}

/// A consumer and the task that serves it.
pub(crate) struct Running {
    pub consumer: Arc<Consumer>,
    task: JoinHandle<()>,
}

impl Running {
    pub(crate) fn new(consumer: Arc<Consumer>, task: JoinHandle<()>) -> Self {
        Running { consumer, task }
    }

    /// Whether the server ended it.
    pub(crate) fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Resolves when nothing is delivered to it any more; it has to be stopped before.
    pub(crate) async fn ended(mut self) {
        if let Err(error) = (&mut self.task).await {
            tracing::error!(%error, "a consumer did not end as it should");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An open channel.
pub(crate) struct Channel {
    pub deliveries: Arc<Deliveries>,
    pub assembly: Assembly,
    pub publishing: Publishing,
    /// The queue that was declared last: what an empty name means.
    pub last_queue: Option<String>,
    /// Messages that each later consumer may have out; 0 = any number.
    pub prefetch: u16,
    pub consumers: HashMap<String, Running>,
    /// Takes messages one by one.
    pub getter: HashMap<Arc<str>, Arc<deliveries::Lessee>>,
    /// The consumer of replies that need no queue.
    pub replies: Option<Replies>,
    /// It was closed by the server; everything but the client's word on that is ignored.
    pub is_closing: bool,
    /// What it held when that was counted last, bytes.
    pub counted_len: usize,
}

impl Channel {
    pub(crate) fn new(number: u16, client: &Arc<Client>) -> Self {
        Channel {
            deliveries: Arc::new(Deliveries::new(client.clone(), number)),
            assembly: Assembly::default(),
            publishing: Publishing::default(),
            last_queue: None,
            prefetch: 0,
            consumers: HashMap::new(),
            getter: HashMap::new(),
            replies: None,
            is_closing: false,
            counted_len: 0,
        }
    }

    /// Bytes of messages that are not whole or not committed.
    pub(crate) fn held_len(&self) -> usize {
        let transaction = match &self.publishing {
            Publishing::Transaction(transaction) => transaction.len(),
            _ => 0,
        };
        self.assembly.held_len() + transaction
    }

    /// Tells the queues of its consumers, or that one, what those may have, where that changed.
    pub(crate) fn tell_capacities(&self, of: Option<&Queue>) {
        let id = |running: &Running| running.consumer.lessee.queue.stream.id();
        let is_meant = |running: &&Running| of.is_none_or(|queue| queue.stream.id() == id(running));
        let mut sharers: HashMap<StreamId, u64> = HashMap::new();
        for running in self.consumers.values().filter(is_meant) {
            *sharers.entry(id(running)).or_default() += 1;
        }
        for running in self.consumers.values().filter(is_meant) {
            let sharers = sharers.get(&id(running)).copied().unwrap_or(1);
            running.consumer.share_limit(sharers, &self.deliveries);
        }
    }

    /// The queue that a name means.
    pub(crate) fn queue_name<'n>(&'n self, name: &'n str) -> Result<&'n str, Exception> {
        if !name.is_empty() {
            return Ok(name);
        }
        let none = || Exception::not_found("no previously declared queue");
        self.last_queue.as_deref().ok_or_else(none)
    }
}

/// An error, and the method that it answers.
#[derive(Debug)]
pub(crate) struct Failed {
    pub exception: Exception,
    pub class: u16,
    pub method: u16,
}

impl Failed {
    pub(crate) fn of(exception: Exception, method: &Method<'_>) -> Self {
        let (class, method) = method.id();
        Failed { exception, class, method }
    }
}
