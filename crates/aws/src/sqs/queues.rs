//! Queues are streams of that kind: how names, URLs and ARNs go from one to the other, and who may do what.

use std::sync::Arc;

use broker::{Action, Broker, KeySharing, Order, QUEUE_WORK, Stream, Work, WorkSpec};
use model::{Kind, Namespace, PartitionIndex, Seq, StreamKey, alias};
use parking_lot::Mutex;

use super::{
    attributes::Attributes,
    validate::{ENTRY_ID_LEN_MAX, is_word},
};
use crate::{AccountId, AwsError, Caller, Context};

/// Messages of one queue that may be in flight.
pub(crate) const IN_FLIGHT_MAX: u64 = 120_000;

/// Longest name of a queue, with its suffix.
const NAME_LEN_MAX: usize = ENTRY_ID_LEN_MAX;

const FIFO_SUFFIX: &str = ".fifo";

/// Beginnings of names that have no face in other dialects.
const HIDDEN: [&str; 5] = ["__", "$", "amq.", "KV_", "OBJ_"];

/// A queue that a request names.
#[derive(Clone)]
pub(crate) struct Queue {
    pub stream: Arc<Stream>,
    pub attributes: Arc<Attributes>,
}

/// The queue that a connection asked for before: the same as a rule.
#[derive(Clone, Default)]
pub(crate) struct LatestQueue(Arc<Mutex<Option<Latest>>>);

struct Latest {
    url: String,
    caller: Arc<Caller>,
    /// Of the catalog: no queue has changed while it is the same.
    generation: u64,
    queue: Queue,
}

impl LatestQueue {
    fn find(&self, ctx: &Context, url: &str) -> Option<Queue> {
        let latest = self.0.lock();
        let Latest { url: known, caller, generation, queue } = latest.as_ref()?;
        let is_same = known == url
            && *generation == ctx.broker().catalog_generation()
            && (Arc::ptr_eq(caller, &ctx.caller) || looks_alike(caller, &ctx.caller));
        is_same.then(|| queue.clone())
    }

    fn remember(&self, ctx: &Context, url: &str, generation: u64, queue: &Queue) {
        let (url, caller, queue) = (url.to_owned(), ctx.caller.clone(), queue.clone());
        *self.0.lock() = Some(Latest { url, caller, generation, queue });
    }
}

/// Whether a URL means the same to both: callers whose signatures are checked are made anew for each request. What each
/// may do is asked all the same.
fn looks_alike(one: &Caller, other: &Caller) -> bool {
    one.namespace == other.namespace
        && one.account == other.account
        && one.region == other.region
        && one.principal.name == other.principal.name
}

impl Queue {
    /// The queue of a URL, if the caller may do `action` to it.
    pub(crate) fn find(ctx: &Context, url: &str, action: Action) -> Result<Queue, AwsError> {
        if let Some(queue) = Queue::latest(ctx, url, action)? {
            return Ok(queue);
        }
        let generation = ctx.broker().catalog_generation();
        let queue = Queue::by_key(ctx, &ctx.queue(url)?, action)?;
        ctx.latest_queue.remember(ctx, url, generation, &queue);
        Ok(queue)
    }

    /// The queue of a URL if it is the one that the connection asked for last.
    fn latest(ctx: &Context, url: &str, action: Action) -> Result<Option<Queue>, AwsError> {
        let Some(queue) = ctx.latest_queue.find(ctx, url) else { return Ok(None) };
        authorize(ctx, action, &queue.stream.key().name)?;
        Ok(Some(queue))
    }

    /// The queue of a key, if the caller may do `action` to it.
    pub(crate) fn by_key(ctx: &Context, key: &StreamKey, action: Action) -> Result<Queue, AwsError> {
        let stream = stream_of(ctx, key).ok_or_else(AwsError::no_such_queue)?;
        authorize(ctx, action, &stream.key().name)?;
        let attributes = Arc::new(Attributes::of(stream.settings()));
        Ok(Queue { stream, attributes })
    }

    /// The queue of a URL, if the caller may do anything to it.
    pub(crate) fn seen(ctx: &Context, url: &str) -> Result<Queue, AwsError> {
        let key = ctx.queue(url)?;
        Queue::by_key(ctx, &key, any_of(ctx, &key))
    }

    /// [`Queue::find`]; a queue that is not there is made with default attributes, if the dialect's settings say so.
    pub(crate) async fn find_or_create(ctx: &Context, url: &str, action: Action) -> Result<Queue, AwsError> {
        if let Some(queue) = Queue::latest(ctx, url, action)? {
            return Ok(queue);
        }
        let generation = ctx.broker().catalog_generation();
        let queue = Queue::by_key_or_create(ctx, &ctx.queue(url)?, action).await?;
        ctx.latest_queue.remember(ctx, url, generation, &queue);
        Ok(queue)
    }

    /// [`Queue::find_or_create`] by key.
    pub(crate) async fn by_key_or_create(
        ctx: &Context,
        key: &StreamKey,
        action: Action,
    ) -> Result<Queue, AwsError> {
        let found = Queue::by_key(ctx, key, action);
        let is_missing = matches!(&found, Err(e) if *e == AwsError::no_such_queue());
        if !is_missing || !ctx.options().auto_create_queues || key.namespace != ctx.caller().namespace {
            return found;
        }
        authorize(ctx, Action::Configure, &key.name)?;
        let is_fifo = key.name.ends_with(FIFO_SUFFIX);
        check_name(&key.name, is_fifo)?;
        let now_s = super::now_s(ctx);
        let mut wanted = Attributes { is_fifo, created_s: now_s, modified_s: now_s, ..Attributes::default() };
        wanted.redrive = super::create_queue::default_redrive(ctx, key, &wanted)?;
        match super::create_queue::create(ctx, key.clone(), &wanted) {
            Ok(wait) => ctx.broker().durable(wait).await?,
            Err(e) if e.code == "QueueAlreadyExists" => {}
            Err(e) => return Err(e),
        }
        Queue::by_key(ctx, key, action)
    }

    /// Its name, as it is shown.
    pub(crate) fn name(&self) -> String {
        shown_name(&self.stream)
    }

    /// Its URL.
    pub(crate) fn url(&self, ctx: &Context) -> String {
        ctx.queue_url(&self.name())
    }

    /// Its ARN.
    pub(crate) fn arn(&self, ctx: &Context) -> String {
        arn_of(ctx, self.stream.key())
    }

    /// The cursors that it is worked through, one per partition. The sequence says when they are durable.
    pub(crate) fn works(&self, broker: &Broker) -> Result<(Vec<Work>, Seq), AwsError> {
        works_of(broker, &self.stream, self.attributes.is_fifo)
    }
}

/// [`Queue::works`] of a stream.
pub(crate) fn works_of(
    broker: &Broker,
    stream: &Arc<Stream>,
    is_fifo: bool,
) -> Result<(Vec<Work>, Seq), AwsError> {
    let mut works = Vec::with_capacity(stream.partitions().len());
    let mut wait = Seq(0);
    for (index, partition) in (0..).zip(stream.partitions()) {
        let known = broker.work(partition, QUEUE_WORK).filter(|_| stream.settings().over.is_none());
        let (work, seq) = match known {
            Some(work) => (work, Seq(0)),
            None if stream.settings().over.is_some() => broker.stream_work(stream, PartitionIndex(index))?,
            None => broker.open_work(partition, QUEUE_WORK, spec(is_fifo))?,
        };
        works.push(work);
        wait = wait.max(seq);
    }
    Ok((works, wait))
}

/// How a queue of SQS is worked.
fn spec(is_fifo: bool) -> WorkSpec {
    WorkSpec {
        order: Order::Keyed(if is_fifo { KeySharing::Grant } else { KeySharing::Fair }),
        leased_max: Some(IN_FLIGHT_MAX),
        ..WorkSpec::default()
    }
}

/// An action that the caller may do to a queue, if there is one: who may only send has to find it and to know its limits.
pub(crate) fn any_of(ctx: &Context, key: &StreamKey) -> Action {
    let name = stream_of(ctx, key).map_or_else(|| key.name.clone(), |stream| stream.key().name.clone());
    allowed(ctx, &name).unwrap_or(Action::Read)
}

/// The first action that the caller may do to the queue of that name.
pub(crate) fn allowed(ctx: &Context, name: &str) -> Option<Action> {
    let principal = &ctx.caller().principal;
    [Action::Read, Action::Write, Action::Configure]
        .into_iter()
        .find(|action| principal.allows(*action, name))
}

/// Refuses what the caller may not do to the queue `name`.
pub(crate) fn authorize(ctx: &Context, action: Action, name: &str) -> Result<(), AwsError> {
    if ctx.caller().principal.allows(action, name) {
        return Ok(());
    }
    Err(AwsError::access_denied(format!("Access to the resource {} is denied.", ctx.queue_url(name))))
}

/// The queue of a key, or the one whose alias the key's name is.
pub(crate) fn stream_of(ctx: &Context, key: &StreamKey) -> Option<Arc<Stream>> {
    let broker = ctx.broker();
    let exact = broker.stream(key).filter(|stream| has_face(stream) && shown_name(stream) == *key.name);
    exact.or_else(|| by_alias(broker, &key.namespace, &key.name))
}

fn by_alias(broker: &Broker, namespace: &Namespace, name: &str) -> Option<Arc<Stream>> {
    // Aliases end in a dash and six hex digits; other names cost no search.
    let (_, hash) = name.rsplit_once('-')?;
    if hash.len() != 6 || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    list(broker, namespace).into_iter().find(|stream| shown_name(stream) == name)
}

/// Every queue of a namespace that has a face here, by name.
pub(crate) fn list(broker: &Broker, namespace: &Namespace) -> Vec<Arc<Stream>> {
    let mut all = broker.streams(namespace, Some(Kind::Queue));
    all.retain(|stream| has_face(stream));
    all
}

fn has_face(stream: &Stream) -> bool {
    let facets = stream.facets();
    let is_private = facets.hidden || facets.exclusive || facets.auto_delete || facets.transient;
    !is_private && !HIDDEN.iter().any(|prefix| stream.key().name.starts_with(prefix))
}

/// The name under which a queue is shown.
pub(crate) fn shown_name(stream: &Stream) -> String {
    let name = &stream.key().name;
    if super::attributes::is_fifo(stream.settings()) {
        return name.to_string();
    }
    let is_legal = |c: char| u8::try_from(c).is_ok_and(is_word);
    alias(name, NAME_LEN_MAX, is_legal).unwrap_or_else(|| name.to_string())
}

/// The ARN of any queue.
pub(crate) fn arn_of(ctx: &Context, key: &StreamKey) -> String {
    let Namespace { tenant, space } = &key.namespace;
    let name = ctx.broker().stream(key).map_or_else(|| key.name.to_string(), |stream| shown_name(&stream));
    let caller = ctx.caller();
    if key.namespace == caller.namespace {
        return ctx.queue_arn(&name);
    }
    let region = if **space == *"default" { &ctx.options().region } else { &**space };
    format!("arn:aws:sqs:{region}:{}:{name}", AccountId::of_tenant(tenant))
}

/// Checks the name of a new queue.
pub(crate) fn check_name(name: &str, is_fifo: bool) -> Result<(), AwsError> {
    let base = name.strip_suffix(FIFO_SUFFIX);
    let is_word_name = |name: &str| !name.is_empty() && name.bytes().all(is_word);
    let is_legal = match base {
        Some(base) => is_fifo && is_word_name(base),
        None => !is_fifo && is_word_name(name),
    };
    if is_legal && name.len() <= NAME_LEN_MAX {
        return Ok(());
    }
    Err(AwsError::invalid_parameter_value(if is_fifo {
        "The name of a FIFO queue can only include alphanumeric characters, hyphens, or underscores, must end with .fifo suffix and be 1 to 80 in length"
    } else {
        "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length"
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_1_to_80_characters_and_those_of_fifo_queues_their_suffix() {
        let longest = "a".repeat(80);
        assert!(check_name("a-B_9", false).is_ok() && check_name(&longest, false).is_ok());
        assert!(
            check_name("a.fifo", true).is_ok()
                && check_name(&format!("{}.fifo", "a".repeat(75)), true).is_ok()
        );
        for (bad, is_fifo) in [
            ("", false),
            ("a b", false),
            ("a/b", false),
            ("a.fifo", false),
            (&"a".repeat(81), false),
            ("a", true),
            (".fifo", true),
            (&format!("{}.fifo", "a".repeat(76)), true),
        ] {
            assert_eq!(check_name(bad, is_fifo).unwrap_err().code, "InvalidParameterValue", "{bad}");
        }
    }
}
