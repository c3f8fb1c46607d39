//! What deleting messages and changing their visibility have in common.

use broker::{Claim, Count, RecordState, Settlement, Span, Verdict, Work};
use model::Offset;

use super::{attributes::VISIBILITY_MAX_S, handle::Handle, queues::Queue};
use crate::{AwsError, Context};

/// Deletes messages, all in one unit. Answers after the commit, each handle with its outcome.
pub(super) async fn delete<'a>(
    ctx: &Context,
    queue: &Queue,
    handles: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<Result<(), AwsError>>, AwsError> {
    let (works, _) = queue.works(ctx.broker())?;
    let handles: Vec<&str> = handles.into_iter().collect();
    let opened: Vec<_> = handles.iter().map(|text| open(ctx, &works, text)).collect();
    let settle = |_: usize, work: &Work, handle: Handle| {
        // An old handle still deletes from a standard queue, whoever has the message.
        let claim = if queue.attributes.is_fifo { Claim::Attempt(handle.attempt) } else { Claim::Anyone };
        Ok(Settlement {
            work: work.clone(),
            spans: Span::one(handle.offset).into(),
            claim,
            verdict: Verdict::Accept,
        })
    };
    settle_all(ctx, &handles, opened, settle, |text| {
        AwsError::invalid_value(text, "ReceiptHandle", "The receipt handle has expired.")
    })
    .await
}

/// Changes for how long messages are hidden, all in one unit. Answers after the commit.
pub(super) async fn change_visibility(
    ctx: &Context,
    queue: &Queue,
    changes: &[(&str, i32)],
) -> Result<Vec<Result<(), AwsError>>, AwsError> {
    let (works, _) = queue.works(ctx.broker())?;
    let handles: Vec<&str> = changes.iter().map(|(text, _)| *text).collect();
    let opened: Vec<_> = changes
        .iter()
        .map(|(text, seconds)| {
            check_visibility(*seconds)?;
            open(ctx, &works, text)
        })
        .collect();
    let now_ms = ctx.broker().env().clock.wall_ms();
    let settle = |at: usize, work: &Work, handle: Handle| {
        let (text, seconds) = changes.get(at).copied().unwrap_or_default();
        let state = work.state(handle.offset)?;
        let lease = match state {
            RecordState::Leased(lease) => Some(lease),
            RecordState::Settled | RecordState::Beyond => return Err(not_there(text)),
            RecordState::Delayed(_) | RecordState::Exhausted | RecordState::Ready { .. } => None,
        };
        let claim = if queue.attributes.is_fifo { Claim::Attempt(handle.attempt) } else { Claim::Anyone };
        let received_ms = lease.map_or(now_ms, |lease| lease.delivered_at_ms);
        let total_s = now_ms.saturating_sub(received_ms) / 1_000 + i64::from(seconds);
        if total_s > i64::from(VISIBILITY_MAX_S) {
            return Err(AwsError::invalid_value(
                seconds,
                "VisibilityTimeout",
                "Total VisibilityTimeout for the message is beyond the limit [43200 seconds]",
            ));
        }
        let verdict = match seconds {
            0 => Verdict::Release { delay_ms: 0, count: Count::Add },
            _ => Verdict::Extend { deadline_ms: Some(now_ms.saturating_add(i64::from(seconds) * 1_000)) },
        };
        Ok(Settlement { work: work.clone(), spans: Span::one(handle.offset).into(), claim, verdict })
    };
    // A message of a standard queue that is visible again stays so, and AWS says nothing of it.
    settle_all(ctx, &handles, opened, settle, not_there).await
}

/// Refuses a visibility timeout that no message may have.
pub(super) fn check_visibility(seconds: i32) -> Result<(), AwsError> {
    if (0..=VISIBILITY_MAX_S).contains(&seconds) {
        return Ok(());
    }
    Err(AwsError::invalid_value(seconds, "VisibilityTimeout", "Must be between 0 and 43200, if provided."))
}

fn not_there(text: &str) -> AwsError {
    AwsError::invalid_value(
        text,
        "ReceiptHandle",
        "Message does not exist or is not available for visibility timeout change.",
    )
}

fn garbled() -> AwsError {
    AwsError::receipt_handle_is_invalid("The input receipt handle is invalid.")
}

/// The error of one entry of a batch: there AWS repeats a handle that is none.
pub(super) fn of_entry(error: AwsError, handle: &str) -> AwsError {
    if error != garbled() {
        return error;
    }
    AwsError::receipt_handle_is_invalid(format!(
        "The input receipt handle \"{handle}\" is not a valid receipt handle."
    ))
}

/// The cursor and delivery that a handle names.
fn open<'w>(ctx: &Context, works: &'w [Work], text: &str) -> Result<(&'w Work, Handle), AwsError> {
    if text.is_empty() {
        return Err(AwsError::missing("ReceiptHandle"));
    }
    let handle = ctx.server.sqs.sealer.open(text).ok_or_else(garbled)?;
    let work = works.iter().find(|work| work.partition().log_id() == handle.log);
    let found = work.filter(|work| handle.offset < work.partition().bounds().end);
    found.map(|work| (work, handle)).ok_or_else(|| {
        AwsError::receipt_handle_is_invalid(format!(
            "The receipt handle \"{text}\" is not valid for this queue."
        ))
    })
}

type Opened<'w> = Vec<Result<(&'w Work, Handle), AwsError>>;

/// Settles in one unit what may be settled, waits for the commit, and says what came of each. `stale` makes the error for a
/// delivery that is over.
async fn settle_all(
    ctx: &Context,
    handles: &[&str],
    opened: Opened<'_>,
    settle: impl Fn(usize, &Work, Handle) -> Result<Settlement, AwsError>,
    stale: impl Fn(&str) -> AwsError,
) -> Result<Vec<Result<(), AwsError>>, AwsError> {
    let mut settlements = Vec::new();
    let mut outcomes = Vec::with_capacity(handles.len());
    let mut offsets: Vec<Option<(usize, Offset)>> = Vec::with_capacity(handles.len());
    for (at, opened) in opened.into_iter().enumerate() {
        let settlement = opened.and_then(|(work, handle)| Ok((settle(at, work, handle)?, handle.offset)));
        match settlement {
            Ok((settlement, offset)) => {
                offsets.push(Some((add(&mut settlements, settlement), offset)));
                outcomes.push(Ok(()));
            }
            Err(error) => {
                offsets.push(None);
                outcomes.push(Err(error));
            }
        }
    }
    if settlements.is_empty() {
        return Ok(outcomes);
    }
    let claims: Vec<Claim> = settlements.iter().map(|one| one.claim).collect();
    let (settled, wait) = ctx.broker().settle(settlements).await?;
    ctx.broker().durable(wait).await?;
    for ((outcome, place), text) in outcomes.iter_mut().zip(offsets).zip(handles) {
        let Some((at, offset)) = place else { continue };
        let is_stale = settled.get(at).is_some_and(|settled| settled.stale.contains(offset));
        if is_stale && claims.get(at) != Some(&Claim::Anyone) {
            *outcome = Err(stale(text));
        }
    }
    Ok(outcomes)
}

/// Adds a settlement, to one that says the same of other records if there is such: what was received together is deleted
/// together as a rule, and a run of records costs as much as one. Answers its place.
fn add(settlements: &mut Vec<Settlement>, settlement: Settlement) -> usize {
    let log = settlement.work.partition().log_id();
    let says_the_same = |other: &Settlement| {
        other.work.partition().log_id() == log
            && other.claim == settlement.claim
            && other.verdict == settlement.verdict
    };
    match settlements.iter().position(says_the_same) {
        Some(at) => {
            if let Some(known) = settlements.get_mut(at) {
                known.spans.extend(settlement.spans.iter());
            }
            at
        }
        None => {
            settlements.push(settlement);
            settlements.len() - 1
        }
    }
}
