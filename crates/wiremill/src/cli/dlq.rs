//! `wiremill dlq …`: what could not be worked off.

use clap::Subcommand;

use super::{
    context::Context,
    moves::{self, Filter, Pace},
    queue::{self, Look},
};

/// What can be done with dead letters.
#[derive(Subcommand)]
pub enum Verb {
    /// List the queues that take dead letters, with whose
    Ls {
        #[command(flatten)]
        context: Context,
    },
    /// Show dead letters with where they came from and how often they were tried there
    Inspect {
        name: String,
        #[command(flatten)]
        what: Look,
        #[command(flatten)]
        context: Context,
    },
    /// Send dead letters back, each to the stream that it came from, or all to one
    Redrive {
        name: String,
        /// A queue, or log:NAME; absent: where each came from
        #[arg(long)]
        to: Option<String>,
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        pace: Pace,
        #[command(flatten)]
        context: Context,
    },
}

/// Runs the command.
pub async fn run(verb: Verb) -> Result<(), String> {
    match verb {
        Verb::Ls { context } => {
            let answer = context.client()?.get("/api/v1/dead-letters", &[]).await?;
            let columns = [("NAME", "name"), ("READY", "ready"), ("LEASED", "leased"), ("FROM", "from")];
            context.rows(&answer, "dead_letters", &columns)
        }
        Verb::Inspect { name, what, context } => queue::peek(&name, &what, &context).await,
        Verb::Redrive { name, to, filter, pace, context } => {
            moves::run(&name, to.as_deref(), &filter, &pace, &context).await
        }
    }
}
