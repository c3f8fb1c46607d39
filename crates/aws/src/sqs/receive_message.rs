//! ReceiveMessage.

use std::time::Duration;

use broker::{
    Action, Allowance, Claim, Count, HolderId, LeaseAsk, LeaseKind, LeaseTime, Leased, Settlement, Span,
    Spans, Verdict, Watch, Work,
};
use model::{Seq, StreamId};
use tokio::time::{Instant, timeout_at};

use super::{
    attempts::Remembered,
    attributes::WAIT_MAX_S,
    queues::Queue,
    received::{self, Taken, Wanted},
    settling::check_visibility,
    validate,
};
use crate::{
    AwsError, Context,
    shapes::{ReceiveMessageInput, ReceiveMessageOutput},
};

/// Messages of one receive.
const MESSAGES_MAX: i32 = 10;

/// A receive whose parameters are in order.
struct Plan {
    count: u64,
    wait: Duration,
    visibility_ms: u64,
    attempt_id: Option<String>,
    wanted: Wanted,
}

pub(super) async fn call(
    ctx: &Context,
    input: ReceiveMessageInput<'_>,
) -> Result<ReceiveMessageOutput, AwsError> {
    let queue = Queue::find_or_create(ctx, &input.queue_url, Action::Read).await?;
    let plan = plan(&queue, input)?;
    let (works, opened) = queue.works(ctx.broker())?;
    if let Some(id) = &plan.attempt_id
        && let Some(messages) = again(ctx, &queue, &works, &plan, id).await?
    {
        return Ok(ReceiveMessageOutput { messages });
    }
    let holder = ctx.broker().new_holder_id();
    let undone = works.clone();
    ctx.unless_delivered(move || {
        for work in &undone {
            // Whether the queue is still there does not matter any more.
            drop(work.release_all(holder, Count::Keep));
        }
    });
    let Some((work, taken, wait)) = wait_for_some(ctx, &queue, &works, &plan, holder).await? else {
        return Ok(ReceiveMessageOutput { messages: Vec::new() });
    };
    ctx.broker().durable(wait.max(opened)).await?;
    if let Some(id) = plan.attempt_id {
        let deadline_ms = work.leases(taken.first().map_or(Default::default(), |one| one.offset), 1)?;
        let deadline_ms = deadline_ms.first().and_then(|lease| lease.deadline_ms);
        let of = Remembered::new(work.partition().log_id(), holder, &taken, deadline_ms, super::now_ms(ctx));
        ctx.server.sqs.attempts.lock().remember((queue.stream.id(), id), of);
    }
    let render = |one: &Taken| received::render(ctx, &queue, work.partition(), one, &plan.wanted);
    Ok(ReceiveMessageOutput { messages: taken.iter().map(render).collect::<Result<_, _>>()? })
}

fn plan(queue: &Queue, input: ReceiveMessageInput<'_>) -> Result<Plan, AwsError> {
    let count = input.max_number_of_messages.unwrap_or(1);
    if !(1..=MESSAGES_MAX).contains(&count) {
        return Err(AwsError::invalid_value(
            count,
            "MaxNumberOfMessages",
            "Must be between 1 and 10, if provided.",
        ));
    }
    let wait_s = match input.wait_time_seconds {
        None => queue.attributes.wait_s,
        Some(seconds) => u32::try_from(seconds).ok().filter(|_| seconds <= WAIT_MAX_S).ok_or_else(|| {
            AwsError::invalid_value(seconds, "WaitTimeSeconds", "Must be >= 0 and <= 20, if provided.")
        })?,
    };
    let visibility_s = match input.visibility_timeout {
        None => queue.attributes.visibility_s,
        Some(seconds) => {
            check_visibility(seconds)?;
            u32::try_from(seconds).unwrap_or(0)
        }
    };
    let attempt_id = input.receive_request_attempt_id.map(|id| id.into_owned());
    if let Some(id) = &attempt_id {
        validate::id("ReceiveRequestAttemptId", id).map_err(AwsError::invalid_parameter_value)?;
        if !queue.attributes.is_fifo {
            return Err(AwsError::invalid_value(
                id,
                "ReceiveRequestAttemptId",
                "The request include parameter that is not valid for this queue type.",
            ));
        }
    }
    let system = match input.message_system_attribute_names.is_empty() {
        true => &input.attribute_names,
        false => &input.message_system_attribute_names,
    };
    let names = input.message_attribute_names.iter().map(AsRef::as_ref);
    Ok(Plan {
        count: u64::try_from(count).unwrap_or(1),
        wait: Duration::from_secs(wait_s.into()),
        visibility_ms: u64::from(visibility_s) * 1_000,
        attempt_id,
        wanted: Wanted::of(system.iter().map(AsRef::as_ref), names)?,
    })
}

/// Takes a waiting receive off its queue, however it ends.
struct Waiting<'w> {
    works: &'w [Work],
    holder: HolderId,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        for work in self.works {
            drop(work.leave(self.holder));
        }
    }
}

type Found<'w> = Option<(&'w Work, Vec<Taken>, Seq)>;

/// Leases messages, waiting for the first as long as the receive may. Nothing polls: the queue tells when there may be one,
/// and when it is deleted.
async fn wait_for_some<'w>(
    ctx: &Context,
    queue: &Queue,
    works: &'w [Work],
    plan: &Plan,
    holder: HolderId,
) -> Result<Found<'w>, AwsError> {
    let deadline = Instant::now() + plan.wait;
    let watch = Watch::new();
    let mut waiting = None;
    loop {
        let some = lease(ctx, queue, works, plan, holder).await?;
        if some.is_some() || Instant::now() >= deadline {
            return Ok(some);
        }
        waiting.get_or_insert(Waiting { works, holder });
        works.iter().for_each(|work| work.wait(holder, &watch));
        if timeout_at(deadline, watch.changed()).await.is_err() {
            return Ok(None);
        }
    }
}

/// Leases what is there, from the first partition that has any.
async fn lease<'w>(
    ctx: &Context,
    queue: &Queue,
    works: &'w [Work],
    plan: &Plan,
    holder: HolderId,
) -> Result<Found<'w>, AwsError> {
    let mut is_full = false;
    // Of several partitions, another one comes first each time.
    let first = usize::try_from(holder.0).unwrap_or(0).checked_rem(works.len()).unwrap_or(0);
    let (tail, head) = (works.get(first..).unwrap_or_default(), works.get(..first).unwrap_or_default());
    for work in tail.iter().chain(head) {
        let ask = LeaseAsk {
            holder,
            allowance: Allowance::records(plan.count),
            kind: LeaseKind::Recorded,
            time: LeaseTime::Ms(plan.visibility_ms),
        };
        loop {
            let Leased { deliveries, wait, is_full: full, .. } = work.lease(ask).await?;
            is_full |= full;
            let taken = received::taken(deliveries);
            if taken.is_empty() {
                // What was moved to the dead letters is there before an answer says that it is not here.
                ctx.broker().durable(wait).await?;
                break;
            }
            let (fresh, expired) = by_age(ctx, queue, taken);
            drop_expired(ctx, work, &expired).await?;
            if !fresh.is_empty() {
                return Ok(Some((work, fresh, wait)));
            }
        }
    }
    if is_full && !queue.attributes.is_fifo {
        return Err(AwsError::over_limit("Too many messages in flight."));
    }
    Ok(None)
}

/// Messages, and those that are past the queue's retention: it counts from when a message was sent first, also after it was
/// moved between standard queues.
fn by_age(ctx: &Context, queue: &Queue, taken: Vec<Taken>) -> (Vec<Taken>, Vec<Taken>) {
    let Some(retention_ms) = queue.stream.settings().retention.time_ms else { return (taken, Vec::new()) };
    let now_ms = super::now_ms(ctx);
    let is_fifo = queue.attributes.is_fifo;
    taken.into_iter().partition(|one| {
        let sent_ms = if is_fifo { one.batch.append_time_ms } else { one.sent_ms() };
        sent_ms.saturating_add_unsigned(retention_ms) > now_ms
    })
}

async fn drop_expired(ctx: &Context, work: &Work, expired: &[Taken]) -> Result<(), AwsError> {
    if expired.is_empty() {
        return Ok(());
    }
    let spans: Spans = expired.iter().map(|one| Span::one(one.offset)).collect();
    let settlement = Settlement { work: work.clone(), spans, claim: Claim::Anyone, verdict: Verdict::Accept };
    ctx.broker().settle(vec![settlement]).await?;
    Ok(())
}

/// What a receive with this id gave before, if nothing has happened to it since: then it is hidden for as long again.
async fn again(
    ctx: &Context,
    queue: &Queue,
    works: &[Work],
    plan: &Plan,
    id: &str,
) -> Result<Option<Vec<crate::shapes::Message>>, AwsError> {
    let key: (StreamId, String) = (queue.stream.id(), id.to_owned());
    let now_ms = super::now_ms(ctx);
    let Some(known) = ctx.server.sqs.attempts.lock().find(&key, now_ms) else { return Ok(None) };
    let Some(work) = works.iter().find(|work| work.partition().log_id() == known.log) else {
        return Ok(None);
    };
    let Some(taken) = known.unchanged(ctx, work).await? else { return Ok(None) };
    let deadline_ms = Some(now_ms.saturating_add_unsigned(plan.visibility_ms));
    let spans: Spans = taken.iter().map(|one| Span::one(one.offset)).collect();
    let verdict = Verdict::Extend { deadline_ms };
    let settlement = Settlement { work: work.clone(), spans, claim: Claim::Holder(known.holder), verdict };
    let (_, wait) = ctx.broker().settle(vec![settlement]).await?;
    ctx.broker().durable(wait).await?;
    ctx.server.sqs.attempts.lock().remember(key, known.until(deadline_ms));
    let render = |one: &Taken| received::render(ctx, queue, work.partition(), one, &plan.wanted);
    Ok(Some(taken.iter().map(render).collect::<Result<_, _>>()?))
}
