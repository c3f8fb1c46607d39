//! What the order of a cursor is told of records before it grants them: keys, levels, and which have to wait.

use cursor::OrderingKey;
use model::{Offset, RecordAttributes, Result};

use super::{
    KeySharing, Order,
    state::WorkState,
    window::{Need, Window},
};

/// Tells an order by keys of what was read ahead for it, as far as it has room now.
pub(super) fn tell_ahead(work: &mut WorkState, ahead: &Window, delay_ms: u64, now_ms: i64) -> Result<()> {
    let wanted = |work: &WorkState| work.cursor.wants().filter(|span| ahead.covers(span.start));
    let Some(first) = wanted(work) else { return Ok(()) };
    hold_from(work, ahead, first.start, delay_ms, now_ms);
    match wanted(work) {
        Some(span) => index(work, ahead, span.start, span.end.since(span.start)),
        None => Ok(()),
    }
}

/// Tells the cursor's order of the records of a window from `from` on, about `count` at most.
pub(super) fn index(work: &mut WorkState, window: &Window, from: Offset, count: u64) -> Result<()> {
    let mut run: Vec<(Offset, OrderingKey, bool, u8)> = Vec::new();
    let end = from.0.saturating_add(count);
    for (offset, _, row) in window.records_from(from).take_while(|(offset, ..)| offset.0 < end) {
        let key = key_of(work, row);
        let level = row.and_then(|row| row.priority).unwrap_or(0);
        if run.last().is_some_and(|last| last.0.plus(1) != offset) {
            tell_run(work, &run)?;
            run.clear();
        }
        run.push((offset, OrderingKey::of(key.unwrap_or_default()), key.is_some(), level));
    }
    tell_run(work, &run)
}

fn tell_run(work: &mut WorkState, run: &[(Offset, OrderingKey, bool, u8)]) -> Result<()> {
    let Some((base, ..)) = run.first() else { return Ok(()) };
    let told = if work.spec().order == Order::Priority {
        let levels: Vec<u8> = run.iter().map(|(_, _, _, level)| *level).collect();
        work.cursor.note_levels(*base, &levels)
    } else {
        let keys: Vec<_> = run.iter().map(|(_, key, has_key, _)| has_key.then_some(*key)).collect();
        work.cursor.note_keys(*base, &keys)
    };
    match told {
        // What lies before was settled meanwhile, or the window of keys is full: asked for again when it matters.
        Err(e) if e.kind() == model::ErrorKind::Conflict => Ok(()),
        told => told,
    }
}

pub(super) fn has_levels(work: &WorkState) -> bool {
    work.spec().order == Order::Priority
}

pub(super) fn is_fair(work: &WorkState) -> bool {
    work.spec().order == Order::Keyed(KeySharing::Fair)
}

/// The key by which a record is ordered.
fn key_of<'r>(work: &WorkState, row: Option<&'r RecordAttributes>) -> Option<&'r [u8]> {
    let row = row?;
    let record_key = if is_fair(work) { None } else { row.record_key.as_deref() };
    row.ordering_key.as_deref().or(record_key)
}

/// What a cursor's windows have to know.
pub(super) fn need(work: &WorkState) -> Need {
    // An order by keys was told of them when they were read ahead.
    if work.spec().order != Order::Priority && work.filter.is_empty() {
        Need::Stored
    } else {
        Need::Attributes
    }
}

/// Holds back the records of the window whose own time has not come.
pub(super) fn hold_back(work: &mut WorkState, window: &Window, now_ms: i64) {
    for (offset, _, row) in window.records() {
        if let Some(due_ms) = row.and_then(|row| row.deliver_at_ms).filter(|due_ms| *due_ms > now_ms) {
            work.cursor.hold_until(offset, due_ms);
        }
    }
}

/// Holds everything back from the first record of the window, from `from` on, that a uniform delay lets wait: what comes
/// later waits longer. For orders that choose; by offset, a lease stops at that record.
pub(super) fn hold_from(work: &mut WorkState, window: &Window, from: Offset, delay_ms: u64, now_ms: i64) {
    if delay_ms == 0 {
        return;
    }
    let is_early = |appended_ms: i64| appended_ms.saturating_add_unsigned(delay_ms) > now_ms;
    let first = window.records_from(from).find(|(_, appended_ms, _)| is_early(*appended_ms));
    if let Some((offset, appended_ms, _)) = first
        && work.held.as_deref().is_none_or(|(held, _)| offset < *held)
    {
        work.held = Some(Box::new((offset, appended_ms)));
        work.cursor.hold_from(Some(offset));
    }
}

/// Lets go of what a uniform delay held back, once its time has come. When the next of it is due, milliseconds since the
/// Unix epoch.
pub(super) fn let_go(work: &mut WorkState, delay_ms: u64, now_ms: i64) -> Option<i64> {
    let (_, appended_ms) = *work.held.as_deref()?;
    let due_ms = appended_ms.saturating_add_unsigned(delay_ms);
    if due_ms > now_ms {
        return Some(due_ms);
    }
    work.held = None;
    work.cursor.hold_from(None);
    None
}
