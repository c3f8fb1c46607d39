//! `wiremill route …`

use clap::Subcommand;
use serde_json::{Value, json};

use super::{context::Context, http::escaped, out, table};

/// What can be done with routes.
#[derive(Subcommand)]
pub enum Verb {
    /// List the explicit routes
    Ls {
        #[command(flatten)]
        context: Context,
    },
    /// Add a route from an address, which may be a pattern, to a stream or to an address of another dialect
    Add {
        /// kafka:TOPIC, sqs:QUEUE, nats:SUBJECT or amqp:EXCHANGE/KEY; between dots, * is one token and # any number,
        /// and a last > one or more
        from: String,
        /// log:NAME (or kafka:NAME), queue:NAME (or sqs:NAME, amqp:NAME), or an address, nats:SUBJECT or
        /// amqp:EXCHANGE/KEY, with {token.N}, {address} and {key} in it; elsewhere KIND://TENANT/SPACE/NAME
        to: String,
        /// Key of the records in the stream, such as '{token.2}' or '{address}'; absent: their own
        #[arg(long)]
        key: Option<String>,
        #[command(flatten)]
        context: Context,
    },
    /// Remove a route, by its number or by its ends
    Rm {
        /// The route's number, or DIALECT:ADDRESS as it was added
        from: String,
        /// Where it leads
        to: Option<String>,
        #[command(flatten)]
        context: Context,
    },
    /// Say who would get a record that is published to an address, and why
    Explain {
        /// DIALECT:ADDRESS, such as kafka:orders, nats:orders.new or amqp:events/order.created
        address: String,
        #[command(flatten)]
        context: Context,
    },
}

const COLUMNS: [(&str, &str); 5] =
    [("ID", "id"), ("FROM", "from"), ("TO", "to"), ("KEY", "key"), ("TARGET EXISTS", "target_exists")];

/// Runs the command.
pub async fn run(verb: Verb) -> Result<(), String> {
    match verb {
        Verb::Ls { context } => {
            let answer = context.client()?.get("/api/v1/routes", &[]).await?;
            context.rows(&answer, "routes", &COLUMNS)
        }
        Verb::Add { from, to, key, context } => {
            let body = json!({ "from": from, "to": to, "key": key });
            let answer = context.client()?.post("/api/v1/routes", body).await?;
            context.either(&answer, &table::render(std::slice::from_ref(&answer), &COLUMNS))
        }
        Verb::Rm { from, to, context } => {
            if to.is_none() && from.parse::<u64>().is_err() {
                return Err(
                    "a route is removed by its number, or by both its ends: route rm FROM TO".to_owned()
                );
            }
            let client = context.client()?;
            let answer = match &to {
                None => client.delete(&format!("/api/v1/routes/{}", escaped(&from)), &[]).await?,
                Some(to) => client.delete("/api/v1/routes", &[("from", &from), ("to", to)]).await?,
            };
            if context.json { out::json(&answer) } else { Ok(()) }
        }
        Verb::Explain { address, context } => {
            let answer = context.client()?.get("/api/v1/routes/explain", &[("address", &address)]).await?;
            context.either(&answer, &explained(&answer))
        }
    }
}

fn explained(answer: &Value) -> String {
    let none = Vec::new();
    let targets = answer["targets"].as_array().unwrap_or(&none);
    let note = answer["note"].as_str().unwrap_or_default();
    if targets.is_empty() {
        return if note.is_empty() { "nobody would get it\n".to_owned() } else { format!("{note}\n") };
    }
    let columns = [("WHO", "who"), ("KIND", "kind"), ("PARTITIONS", "partitions"), ("WHY", "why")];
    let mut out = table::render(targets, &columns);
    if !note.is_empty() {
        out.push_str(&format!("\n{note}\n"));
    }
    out
}
