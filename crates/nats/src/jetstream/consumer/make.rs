//! Making a consumer, and changing one.

use std::sync::Arc;

use broker::{Broker, Claim, Settlement, Span, Spans, Verdict, Work, WorkSpec};
use model::{Offset, Seq};

use super::{
    super::{
        account::{Account, Bound},
        advisory::Done,
        config::RetentionPolicy,
        error::ApiError,
        time,
    },
    Consumer,
    book::Parts,
    config::{AckPolicy, ConsumerConfig, DeliverPolicy},
};
use crate::{core::subject, server::Server};

type Made<T> = Result<T, ApiError>;

/// What a client wants to happen when the consumer is there, or is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    CreateOrUpdate,
    Create,
    Update,
}

fn broken(error: &model::Error) -> ApiError {
    match error.kind() {
        model::ErrorKind::NotFound | model::ErrorKind::Closed => ApiError::stream_not_found(),
        _ => ApiError::consumer_create(error.text()),
    }
}

/// Makes the consumer or changes it. Durable when this returns, as far as it is to last.
pub(crate) async fn make(
    server: &Server,
    account: &Account,
    bound: &Bound,
    config: ConsumerConfig,
    action: Action,
) -> Made<Arc<Consumer>> {
    let (broker, batch_max) = (&server.broker, server.options.request_batch_max);
    let mut config = config.with_defaults(&bound.config, batch_max);
    config.check(&bound.config, batch_max)?;
    if config.name.is_empty() {
        config.name = match config.is_durable() {
            true => config.durable_name.clone(),
            false => new_name(broker),
        };
    }
    check_dead_letter(account, bound, &config)?;
    let start = start(broker, bound, &config).await?;
    let (consumer, wait, firsts) = {
        let _changing = account.changing.lock();
        if let Some(known) = account.consumers.find(bound, &config.name) {
            let wait = change(account, bound, &known, config, action)?;
            (known, wait, None)
        } else {
            if action == Action::Update {
                return Err(ApiError::consumer(10_149, "consumer does not exist"));
            }
            check_room(account, bound, &config)?;
            let (consumer, wait) = enter(broker, account, bound, config, &start)?;
            (consumer, wait, Some(start.firsts))
        }
    };
    if let Some(firsts) = firsts {
        if let Some(work) = &consumer.work {
            skip_between(broker, work, consumer.start, &firsts).await.map_err(|error| broken(&error))?;
        }
        account.consumers.start(&consumer, firsts);
        account.consumers.advise_of_consumer(&consumer, Done::Created);
    }
    broker.durable(wait).await.map_err(|error| broken(&error))?;
    Ok(consumer)
}

/// Whether a stream takes the dead letters, and not so that this consumer gets them.
fn check_dead_letter(account: &Account, bound: &Bound, config: &ConsumerConfig) -> Made<()> {
    let Some(to) = config.dead_letter() else { return Ok(()) };
    account.generations();
    let Some(taker) = account.taker(to.as_bytes()) else {
        return Err(ApiError::invalid_config("no stream takes the subject for dead letters"));
    };
    let patterns = config.patterns();
    let is_wanted = patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(to.as_bytes()));
    if taker.name() == bound.name() && is_wanted {
        return Err(ApiError::invalid_config("the subject for dead letters forms a cycle"));
    }
    Ok(())
}

/// Whether the stream takes one more.
fn check_room(account: &Account, bound: &Bound, config: &ConsumerConfig) -> Made<()> {
    let count = account.consumers.count_of(bound);
    let max = usize::try_from(bound.config.max_consumers).ok().filter(|max| *max > 0);
    if max.is_some_and(|max| count >= max) {
        return Err(ApiError::consumer(10_026, "maximum consumers limit reached"));
    }
    if !bound.config.is_work_queue() {
        return Ok(());
    }
    if config.ack_policy != AckPolicy::Explicit {
        return Err(ApiError::consumer(10_098, "workqueue stream requires explicit ack"));
    }
    if config.deliver_policy != DeliverPolicy::All {
        return Err(ApiError::consumer(10_101, "consumer must be deliver all on workqueue stream"));
    }
    if count > 0 && config.filters().is_empty() {
        let text = "multiple non-filtered consumers not allowed on workqueue stream";
        return Err(ApiError::consumer(10_099, text));
    }
    check_alone(&account.consumers.of_stream(bound), config)
}

/// On a work queue, no message is for two consumers.
fn check_alone(others: &[Arc<Consumer>], config: &ConsumerConfig) -> Made<()> {
    let own = config.patterns();
    let meets = |other: &Arc<Consumer>| {
        let theirs = other.config().patterns();
        let overlaps = |one| theirs.iter().any(|two| super::super::config::overlap(one, two));
        other.name != config.name && (theirs.is_empty() || own.is_empty() || own.iter().any(overlaps))
    };
    if others.iter().any(meets) {
        return Err(ApiError::consumer(10_100, "filtered consumer not unique on workqueue stream"));
    }
    Ok(())
}

/// Puts a new consumer in.
fn enter(
    broker: &Broker,
    account: &Account,
    bound: &Bound,
    config: ConsumerConfig,
    start: &Start,
) -> Made<(Arc<Consumer>, Seq)> {
    let created_ms = broker.env().clock.wall_ms();
    let lasts = config.lasts(&bound.config);
    let is_read =
        config.ack_policy == AckPolicy::None && !lasts && bound.config.retention == RetentionPolicy::Limits;
    let (work, opened) = if is_read {
        (None, Seq(0))
    } else {
        let spec = WorkSpec {
            leased_max: config.ack_pending_max(),
            start: Some(start.at),
            filter: config.filters(),
            ..WorkSpec::default()
        };
        let name = account.consumers.work_name(&config.name);
        let (work, wait) = broker.open_work(&bound.partition, &name, spec).map_err(|error| broken(&error))?;
        (Some(work), if lasts { wait } else { Seq(0) })
    };
    let parts = Parts { config, created_ms, start: start.at, work, firsts: start.firsts.clone(), lasts };
    let shown = bound.name().to_owned();
    let consumer = account.consumers.enter(&bound.stream, &bound.partition, shown, parts);
    let kept = account.consumers.keep(&consumer).map_err(|error| broken(&error))?;
    Ok((consumer, opened.max(kept)))
}

/// Gives a consumer that is there another configuration, as far as that is allowed.
fn change(
    account: &Account,
    bound: &Bound,
    known: &Arc<Consumer>,
    config: ConsumerConfig,
    action: Action,
) -> Made<Seq> {
    let old = known.config();
    if action == Action::Create && config != *old {
        return Err(ApiError::consumer(10_148, "consumer already exists"));
    }
    if config == *old {
        return account.consumers.keep(known).map_err(|error| broken(&error));
    }
    if bound.config.is_work_queue() {
        check_alone(&account.consumers.of_stream(bound), &config)?;
    }
    old.check_update(&config, known.is_bound())?;
    let mut wait = Seq(0);
    if let Some(work) = &known.work {
        if config.filters() != old.filters() {
            wait = work.set_filter(config.filters()).map_err(|error| broken(&error))?;
        }
        work.set_limits(None, config.ack_pending_max()).map_err(|error| broken(&error))?;
    }
    known.set_config(config);
    Ok(wait.max(account.consumers.keep(known).map_err(|error| broken(&error))?))
}

/// Where a consumer begins, and which messages come before that.
#[derive(Debug, Default)]
struct Start {
    at: Offset,
    /// The last messages of each subject, ascending.
    firsts: Vec<Offset>,
}

async fn start(broker: &Broker, bound: &Bound, config: &ConsumerConfig) -> Made<Start> {
    let partition = &bound.partition;
    bound.shed(broker);
    let (begin, end) = (partition.bounds().start, partition.staged_end());
    let mut patterns = config.patterns();
    if patterns.is_empty() {
        patterns.extend(subject::pattern(b">"));
    }
    let at = |at: Offset| Ok(Start { at, firsts: Vec::new() });
    match config.deliver_policy {
        DeliverPolicy::All => at(begin),
        DeliverPolicy::New => at(end),
        DeliverPolicy::Last => {
            let last = patterns.iter().filter_map(|pattern| partition.last_under(pattern, end)).max();
            at(last.unwrap_or(end))
        }
        DeliverPolicy::ByStartSequence => at(Offset(config.opt_start_seq - 1).clamp(begin, end)),
        DeliverPolicy::ByStartTime => {
            let at_ms = config.opt_start_time.as_deref().and_then(time::parse).unwrap_or(0);
            let found = broker.search_time(partition, at_ms).await.map_err(|error| broken(&error))?;
            at(found.map_or(end, |(offset, _)| offset))
        }
        DeliverPolicy::LastPerSubject => {
            let lasts = patterns.iter().flat_map(|pattern| partition.lasts_under(pattern, end, usize::MAX));
            let mut firsts: Vec<Offset> = lasts.collect();
            firsts.sort_unstable();
            firsts.dedup();
            Ok(Start { at: firsts.first().copied().unwrap_or(end), firsts })
        }
    }
}

/// Passes over what is not among the last messages of each subject.
async fn skip_between(broker: &Broker, work: &Work, start: Offset, firsts: &[Offset]) -> model::Result<()> {
    let mut between = Spans::new();
    let mut at = start;
    for first in firsts {
        if *first > at {
            between.add(Span::new(at, *first));
        }
        at = first.plus(1);
    }
    if between.is_empty() {
        return Ok(());
    }
    let settlement =
        Settlement { work: work.clone(), spans: between, claim: Claim::Nobody, verdict: Verdict::Accept };
    broker.settle(vec![settlement]).await.map(drop)
}

/// A name that nobody chose.
fn new_name(broker: &Broker) -> String {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut left = broker.env().random.u128();
    let letter = |_| {
        let at = (left % 62) as usize;
        left /= 62;
        char::from(ALPHABET[at])
    };
    (0..8).map(letter).collect()
}
