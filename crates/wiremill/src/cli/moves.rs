//! Starting a move and following it.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::{context::Context, http::Client, out, queue};

/// How often a move is asked how far it is.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// Columns of a list of moves.
pub const COLUMNS: [(&str, &str); 7] = [
    ("ID", "id"),
    ("TO", "to"),
    ("STATE", "state"),
    ("MOVED", "moved"),
    ("OF", "to_move"),
    ("STARTED", "started_at_ms"),
    ("REASON", "reason"),
];

/// Which records.
#[derive(Args)]
pub struct Filter {
    /// Only records with this key
    #[arg(long)]
    key: Option<String>,
    /// Only records whose body contains this text
    #[arg(long, value_name = "TEXT")]
    contains: Option<String>,
    /// Only records with this header
    #[arg(long, value_name = "NAME=VALUE")]
    header: Option<String>,
}

impl Filter {
    fn body(&self) -> Result<Value, String> {
        let header = match &self.header {
            None => None,
            Some(text) => {
                let pair = text.split_once('=');
                Some(pair.ok_or_else(|| format!("--header {text:?} is not NAME=VALUE"))?)
            }
        };
        Ok(json!({ "key": self.key, "body_contains": self.contains, "header": header }))
    }
}

/// How fast, and whether at all.
#[derive(Args)]
pub struct Pace {
    /// Records per second, at most 500; absent: as fast as they are taken
    #[arg(long)]
    rate: Option<u32>,
    /// Show what would be moved, and move nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not wait for the end; `queue moves` tells how far it is
    #[arg(long)]
    no_wait: bool,
}

/// Starts a move out of the queue `name` and follows it to its end.
pub async fn run(
    name: &str,
    to: Option<&str>,
    filter: &Filter,
    pace: &Pace,
    context: &Context,
) -> Result<(), String> {
    let client = context.client()?;
    let body = json!({ "to": to, "rate": pace.rate, "filter": filter.body()?, "dry_run": pace.dry_run });
    let path = format!("{}/moves", queue::path(name));
    let mut answer = client.post(&path, body).await?;
    if pace.dry_run {
        if context.json {
            return out::json(&answer);
        }
        let count = answer["would_move"].clone();
        return out::text(&format!("{}{count} records would be moved\n", queue::records(&mut answer)));
    }
    if !pace.no_wait {
        answer = follow(&client, &path, &answer["id"], context.json).await?;
    }
    say(&answer, context)
}

/// Has a queue replay what it keeps, and follows that to its end.
pub async fn replay(
    name: &str,
    age_ms: u64,
    to: Option<&str>,
    rate: Option<u32>,
    context: &Context,
) -> Result<(), String> {
    let client = context.client()?;
    let body = json!({ "age_ms": age_ms, "to": to, "rate": rate });
    let mut answer = client.post(&format!("{}/replay", queue::path(name)), body).await?;
    if answer["id"].is_null() {
        // A queue over a log was set back.
        return context.either(&answer, &format!("{} records are ready now\n", answer["ready"]));
    }
    answer = follow(&client, &format!("{}/moves", queue::path(name)), &answer["id"], context.json).await?;
    say(&answer, context)
}

fn say(answer: &Value, context: &Context) -> Result<(), String> {
    let said = match answer["state"].as_str() {
        Some("running") => format!("move {} is running\n", answer["id"]),
        _ => format!("{} records moved\n", answer["moved"]),
    };
    context.either(answer, &said)?;
    match answer["state"].as_str() {
        Some("failed") => Err(format!("the move ended early: {}", answer["reason"].as_str().unwrap_or("-"))),
        _ => Ok(()),
    }
}

/// Asks how far it is until it ended, and says it.
async fn follow(client: &Client, path: &str, id: &Value, quiet: bool) -> Result<Value, String> {
    let mut told = None;
    loop {
        let answer = client.get(path, &[]).await?;
        let rows = answer["moves"].as_array().cloned().unwrap_or_default();
        let one = rows.into_iter().find(|one| one["id"] == *id);
        let one = one.ok_or("the move is not remembered any more")?;
        if !matches!(one["state"].as_str(), Some("running" | "cancelling")) {
            return Ok(one);
        }
        if !quiet && told.as_ref() != Some(&one["moved"]) {
            out::note(&format!("{} of about {} records moved", one["moved"], one["to_move"]));
            told = Some(one["moved"].clone());
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}
