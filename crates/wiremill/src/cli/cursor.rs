//! `wiremill cursor …`

use clap::Subcommand;
use serde_json::{Value, json};

use super::{context::Context, http::escaped, out, table};

/// What can be done with cursors.
#[derive(Subcommand)]
pub enum Verb {
    /// List cursors with how far they are behind
    Ls {
        #[command(flatten)]
        context: Context,
    },
    /// How far a cursor is behind on each partition
    Lag {
        name: String,
        #[command(flatten)]
        context: Context,
    },
    /// Who works on a cursor, and who differs from the others
    Members {
        name: String,
        #[command(flatten)]
        context: Context,
    },
    /// The last rebalances: when, why and whose doing
    History {
        name: String,
        #[command(flatten)]
        context: Context,
    },
    /// Put a member out
    Evict {
        name: String,
        /// Its id, as in `cursor members`
        member: String,
        #[command(flatten)]
        context: Context,
    },
    /// Move a cursor
    Seek {
        name: String,
        /// earliest, latest, an offset, or time:MILLISECONDS since the Unix epoch
        to: String,
        /// Which stream, when the cursor has positions on several
        #[arg(long)]
        stream: Option<String>,
        /// One partition; absent: all of the stream
        #[arg(long)]
        partition: Option<u32>,
        #[command(flatten)]
        context: Context,
    },
    /// Give another cursor the same positions
    Copy {
        name: String,
        to: String,
        #[command(flatten)]
        context: Context,
    },
    /// Let a cursor hold retention back while records are unread
    Protect {
        name: String,
        /// Up to this many bytes per partition; absent: no longer
        #[arg(long, value_name = "BYTES")]
        bytes_max: Option<u64>,
        #[command(flatten)]
        context: Context,
    },
    /// Delete a cursor with its positions
    Rm {
        name: String,
        /// Although it has members
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        context: Context,
    },
}

/// Runs the command.
pub async fn run(verb: Verb) -> Result<(), String> {
    match verb {
        Verb::Ls { context } => list(&context).await,
        Verb::Lag { name, context } => lag(&name, &context).await,
        Verb::Members { name, context } => members(&name, &context).await,
        Verb::History { name, context } => history(&name, &context).await,
        Verb::Evict { name, member, context } => {
            act(&context, &path(&name, "/evict"), json!({ "member": member })).await
        }
        Verb::Seek { name, to, stream, partition, context } => {
            let body = json!({ "to": to, "stream": stream, "partition": partition });
            let answer = context.client()?.post(&path(&name, "/seek"), body).await?;
            if answer["active_members"].as_u64() > Some(0) {
                let members = &answer["active_members"];
                out::note(&format!(
                    "members of {name}: {members}; they may commit their own positions over this"
                ));
            }
            context.rows(&answer, "moved", &[("PARTITION", "partition"), ("POSITION", "position")])
        }
        Verb::Copy { name, to, context } => act(&context, &path(&name, "/copy"), json!({ "to": to })).await,
        Verb::Protect { name, bytes_max, context } => {
            act(&context, &path(&name, "/protect"), json!({ "bytes_max": bytes_max })).await
        }
        Verb::Rm { name, force, context } => {
            let force = if force { "true" } else { "false" };
            let answer = context.client()?.delete(&path(&name, ""), &[("force", force)]).await?;
            if context.json { out::json(&answer) } else { Ok(()) }
        }
    }
}

fn path(name: &str, rest: &str) -> String {
    format!("/api/v1/cursors/{}{rest}", escaped(name))
}

/// Sends a change whose success needs no words.
async fn act(context: &Context, path: &str, body: Value) -> Result<(), String> {
    let answer = context.client()?.post(path, body).await?;
    if context.json { out::json(&answer) } else { Ok(()) }
}

async fn list(context: &Context) -> Result<(), String> {
    let answer = context.client()?.get("/api/v1/cursors", &[]).await?;
    let columns = [
        ("NAME", "name"),
        ("STREAMS", "streams"),
        ("STATE", "state"),
        ("MEMBERS", "members"),
        ("LAG", "lag_records"),
        ("LAG SIZE", "lag_bytes"),
        ("LAG AGE s", "lag_age_seconds"),
        ("HEADROOM s", "retention_headroom_seconds"),
        ("STATUS", "status"),
    ];
    context.rows(&answer, "cursors", &columns)
}

async fn lag(name: &str, context: &Context) -> Result<(), String> {
    let answer = context.client()?.get(&path(name, "/lag"), &[]).await?;
    let columns = [
        ("STREAM", "stream"),
        ("PARTITION", "partition"),
        ("POSITION", "position"),
        ("END", "end"),
        ("LAG", "lag_records"),
        ("LAG SIZE", "lag_bytes"),
        ("LAG AGE s", "lag_age_seconds"),
        ("HEADROOM s", "retention_headroom_seconds"),
        ("COMMITTED", "committed_at_ms"),
        ("STATUS", "status"),
    ];
    context.rows(&answer, "lag", &columns)
}

async fn members(name: &str, context: &Context) -> Result<(), String> {
    let answer = context.client()?.get(&path(name, "/members"), &[]).await?;
    if context.json {
        return out::json(&answer);
    }
    let rows: Vec<Value> = answer["members"].as_array().into_iter().flatten().map(member_row).collect();
    let columns = [
        ("MEMBER", "id"),
        ("CLIENT", "client_id"),
        ("SOFTWARE", "software"),
        ("ADDRESS", "address"),
        ("SESSION ms", "session_timeout_ms"),
        ("REBALANCE ms", "rebalance_timeout_ms"),
        ("ASSIGNORS", "assignors"),
        ("STREAMS", "subscription"),
        ("HAS", "has"),
        ("HEARTBEAT", "last_heartbeat_ms"),
        ("COMMIT", "last_commit_ms"),
        ("DIFFERS IN", "differs_in"),
    ];
    let state = answer["state"].as_str().unwrap_or("-");
    out::text(&format!("{name} is {state}\n\n{}", table::render(&rows, &columns)))
}

/// A member with software and assignment each in one cell.
fn member_row(member: &Value) -> Value {
    let mut row = member.clone();
    let part = |key: &str| member[key].as_str().unwrap_or_default();
    row["software"] = format!("{} {}", part("software"), part("software_version")).trim().into();
    let assigned = member["assignment"].as_array().into_iter().flatten();
    row["has"] = assigned
        .map(|one| format!("{}:{}", one["stream"].as_str().unwrap_or_default(), one["partition"]))
        .collect();
    row
}

async fn history(name: &str, context: &Context) -> Result<(), String> {
    let answer = context.client()?.get(&path(name, "/history"), &[]).await?;
    let columns = [
        ("AT", "at_ms"),
        ("TOOK ms", "took_ms"),
        ("GENERATION", "generation"),
        ("CAUSE", "cause"),
        ("REASON", "reason"),
        ("MEMBER", "member"),
        ("CLIENT", "client_id"),
        ("MEMBERS", "members"),
    ];
    context.rows(&answer, "rebalances", &columns)
}
