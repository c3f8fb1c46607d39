//! `STREAM.INFO`: configuration and state, with subjects and deleted sequences where they are asked for.

use broker::Watch;
use model::Offset;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Answered, fields, stream};
use crate::{
    core::subject,
    jetstream::{
        account::{Account, Bound},
        api::message,
        config::{created_ms, shown},
        error::ApiError,
        time,
    },
    server::Server,
};

/// Subjects of one page.
const SUBJECTS_MAX: usize = 100_000;

/// Deleted sequences that are listed.
const DELETED_MAX: usize = 100_000;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Asked {
    deleted_details: bool,
    subjects_filter: String,
    offset: usize,
}

pub(super) async fn answer(server: &Server, account: &Account, name: &str, body: &[u8]) -> Answered {
    let asked: Asked = super::asked(body)?;
    let bound = stream(account, name)?;
    let mut all = fields([("total", 0.into()), ("offset", 0.into()), ("limit", 0.into())]);
    all.extend(describe(server, account, &bound).await?);
    all.insert("cluster".to_owned(), json!({ "leader": server.id }));
    let Some(Value::Object(state)) = all.get_mut("state") else { return Ok(all) };
    if asked.deleted_details {
        let (gone, total) = bound.partition.gaps(DELETED_MAX);
        if total > 0 {
            let gone: Vec<u64> = gone.into_iter().map(|offset| offset.0 + 1).collect();
            state.insert("deleted".to_owned(), gone.into());
        }
    }
    if !asked.subjects_filter.is_empty() {
        let pattern = subject::pattern(asked.subjects_filter.as_bytes())
            .ok_or_else(|| ApiError::invalid_config("invalid subject"))?;
        let found = bound.partition.route_keys(&pattern, asked.offset, SUBJECTS_MAX);
        let text = |key: &[u8]| String::from_utf8_lossy(key).into_owned();
        let subjects: Map<String, Value> =
            found.iter().map(|view| (text(&view.key), view.records.into())).collect();
        let total = bound.partition.count_route_keys(&pattern);
        if total > 0 {
            if !subjects.is_empty() {
                state.insert("subjects".to_owned(), subjects.into());
            }
            all.extend(fields([
                ("total", total.into()),
                ("offset", asked.offset.into()),
                ("limit", SUBJECTS_MAX.into()),
            ]));
        }
    }
    Ok(all)
}

/// Configuration, state and times of a stream.
pub(super) async fn describe(
    server: &Server,
    account: &Account,
    bound: &Bound,
) -> std::result::Result<Map<String, Value>, ApiError> {
    bound.shed(&server.broker);
    readable(server, bound).await?;
    let now_ms = server.broker.env().clock.wall_ms();
    Ok(fields([
        ("config", shown(&bound.config, bound.config.level())),
        ("created", time::text(created_ms(bound.stream.settings())).into()),
        ("state", state(server, account, bound).await?.into()),
        ("ts", time::text(now_ms).into()),
    ]))
}

/// Waits until what is staged now can be read: an answer that counts a message promises that it is there.
async fn readable(server: &Server, bound: &Bound) -> std::result::Result<(), ApiError> {
    let partition = &bound.partition;
    let (staged, watch) = (partition.staged_end(), Watch::new());
    loop {
        let bounds = partition.bounds();
        if bounds.stable_end >= staged || bounds.start >= staged || partition.check_open().is_err() {
            return Ok(());
        }
        partition.watch(Offset(staged.0 - 1), &watch);
        tokio::select! {
            () = watch.changed() => {}
            error = server.broker.failed() => return Err(ApiError::of(&error)),
        }
    }
}

/// Sequences of messages that are damaged and not served.
fn lost(server: &Server, bound: &Bound) -> Vec<u64> {
    let log = bound.partition.log_id();
    let damaged = server.broker.damaged().into_iter().filter(|(id, _)| *id == log);
    damaged.flat_map(|(_, range)| range.start.0 + 1..range.end.0 + 1).take(DELETED_MAX).collect()
}

async fn state(
    server: &Server,
    account: &Account,
    bound: &Bound,
) -> std::result::Result<Map<String, Value>, ApiError> {
    let (partition, stats) = (&bound.partition, bound.partition.stats());
    let bounds = partition.bounds();
    let first = message::at_or_after(server, bound, bounds.start).await?;
    let first_seq = match &first {
        Some(first) => first.seq,
        // Nothing was ever there.
        None if bounds.end.0 == 0 => 0,
        None => bounds.end.0 + 1,
    };
    let at = |ms: i64| if ms == 0 { time::NEVER.to_owned() } else { time::text(ms) };
    let mut state = fields([
        ("messages", stats.records.into()),
        ("bytes", stats.bytes.into()),
        ("first_seq", first_seq.into()),
        ("first_ts", at(first.map_or(0, |first| first.at_ms)).into()),
        ("last_seq", bounds.end.0.into()),
        ("last_ts", at(partition.last_append_time_ms()).into()),
    ]);
    let subjects = partition.route_key_count();
    if subjects > 0 {
        state.insert("num_subjects".to_owned(), subjects.into());
    }
    let (_, gone) = partition.gaps(0);
    if gone > 0 && stats.records > 0 {
        state.insert("num_deleted".to_owned(), gone.into());
    }
    let lost = lost(server, bound);
    if !lost.is_empty() {
        state.insert("lost".to_owned(), json!({ "msgs": lost }));
    }
    state.insert("consumer_count".to_owned(), account.consumers.count_of(bound).into());
    Ok(state)
}
