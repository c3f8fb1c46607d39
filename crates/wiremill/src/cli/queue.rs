//! `wiremill queue …`

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Map, Value, json};

use super::{
    context::Context,
    http::escaped,
    moves::{self, Filter, Pace},
    out,
    stream::Publish,
    table, time,
};

/// What can be done with queues.
#[derive(Subcommand)]
pub enum Verb {
    /// List the queues of a namespace with what waits in them
    Ls {
        #[command(flatten)]
        context: Context,
    },
    /// Make a queue
    Create {
        name: String,
        /// Work the records of this log as a queue; nothing is copied
        #[arg(long, value_name = "LOG")]
        over: Option<String>,
        #[command(flatten)]
        spec: Spec,
        #[command(flatten)]
        context: Context,
    },
    /// Show a queue's settings and what waits in it
    Describe {
        name: String,
        #[command(flatten)]
        context: Context,
    },
    /// Delete a queue with everything in it
    Rm {
        name: String,
        #[command(flatten)]
        context: Context,
    },
    /// Look at records without taking them
    Peek {
        name: String,
        #[command(flatten)]
        what: Look,
        #[command(flatten)]
        context: Context,
    },
    /// Publish a record, or every line of standard input as one
    Publish {
        name: String,
        /// The record's body; absent: one record per line of standard input
        body: Option<String>,
        /// Key
        #[arg(long)]
        key: Option<String>,
        /// Header, repeatable
        #[arg(long = "header", value_name = "NAME=VALUE")]
        headers: Vec<String>,
        #[command(flatten)]
        context: Context,
    },
    /// Delete everything that nobody holds
    Purge {
        name: String,
        #[command(flatten)]
        context: Context,
    },
    /// Delete single records that nobody holds, whether they are due or wait for their time
    Drop {
        name: String,
        /// Offsets, as `peek` shows them
        #[arg(required = true)]
        offsets: Vec<u64>,
        /// Partition that they are in
        #[arg(long, default_value_t = 0)]
        partition: u32,
        #[command(flatten)]
        context: Context,
    },
    /// Move what waits to another stream, in units: a record is here or there, never both
    Move {
        name: String,
        /// A queue, or log:NAME
        to: String,
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        pace: Pace,
        #[command(flatten)]
        context: Context,
    },
    /// Make settled records available again that the queue keeps (--history), as new records with their origin
    Replay {
        name: String,
        /// How far back, such as 2d; records are taken by when they were appended
        #[arg(long, value_name = "TIME", value_parser = time::duration_ms)]
        from: u64,
        /// Another queue, or log:NAME; absent: the queue itself
        #[arg(long)]
        to: Option<String>,
        /// Records per second, at most 500; absent: as fast as they are taken
        #[arg(long)]
        rate: Option<u32>,
        #[command(flatten)]
        context: Context,
    },
    /// Show the last moves out of a queue
    Moves {
        name: String,
        #[command(flatten)]
        context: Context,
    },
    /// Stop a move; what was moved stays moved
    Cancel {
        name: String,
        /// Its number, as in `queue moves`
        id: u64,
        #[command(flatten)]
        context: Context,
    },
}

/// What a queue is made with. Times are written as 500ms, 30s, 5m, 12h or 3d.
#[derive(Args)]
pub struct Spec {
    /// Queue for what cannot be worked off
    #[arg(long, value_name = "QUEUE")]
    dead_letter: Option<String>,
    /// Deliveries after which a record goes to the dead letters
    #[arg(long, value_name = "N")]
    delivery_limit: Option<u32>,
    /// How long a lease lasts unless it says otherwise
    #[arg(long, value_name = "TIME", value_parser = time::duration_ms)]
    lease: Option<u64>,
    /// How long each record waits before it can be delivered
    #[arg(long, value_name = "TIME", value_parser = time::duration_ms)]
    delay: Option<u64>,
    /// How long each record can be delivered
    #[arg(long, value_name = "TIME", value_parser = time::duration_ms)]
    ttl: Option<u64>,
    /// Records that may wait
    #[arg(long, value_name = "COUNT")]
    length_max: Option<u64>,
    /// Bytes that may wait
    #[arg(long, value_name = "BYTES")]
    bytes_max: Option<u64>,
    /// What happens above that
    #[arg(long, value_parser = ["drop_oldest", "refuse", "deflect"])]
    overflow: Option<String>,
    /// Bytes of one record
    #[arg(long, value_name = "BYTES")]
    record_len_max: Option<u32>,
    /// How long settled records are kept for `queue replay`
    #[arg(long, value_name = "TIME", value_parser = time::duration_ms)]
    history: Option<u64>,
    /// Whether records survive a crash
    #[arg(long, value_parser = ["fsync", "memory"])]
    durability: Option<String>,
}

impl Spec {
    fn settings(&self) -> Value {
        let mut settings = Map::new();
        let mut set = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                settings.insert(key.to_owned(), value);
            }
        };
        set("dead_letter", self.dead_letter.clone().map(Value::from));
        set("delivery_limit", self.delivery_limit.map(Value::from));
        set("lease_ms", self.lease.map(Value::from));
        set("delay_ms", self.delay.map(Value::from));
        set("ttl_ms", self.ttl.map(Value::from));
        set("length_max", self.length_max.map(Value::from));
        set("bytes_max", self.bytes_max.map(Value::from));
        set("overflow", self.overflow.clone().map(Value::from));
        set("record_len_max", self.record_len_max.map(Value::from));
        set("history_ms", self.history.map(Value::from));
        set("durability", self.durability.clone().map(Value::from));
        Value::Object(settings)
    }
}

/// What of a queue is looked at.
#[derive(Args)]
pub struct Look {
    /// How many records
    #[arg(long, default_value_t = 20)]
    count: u64,
    /// The first offset
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Partition, for a queue over a log
    #[arg(long, default_value_t = 0)]
    partition: u32,
    /// Only records in this state
    #[arg(long, value_parser = ["ready", "leased", "delayed", "exhausted"])]
    state: Option<String>,
}

const COLUMNS: [(&str, &str); 8] = [
    ("NAME", "name"),
    ("OVER", "over"),
    ("READY", "ready"),
    ("LEASED", "leased"),
    ("DELAYED", "delayed"),
    ("OLDEST", "oldest_ms"),
    ("DEAD LETTERS TO", "dead_letter"),
    ("DELIVERY LIMIT", "delivery_limit"),
];

/// The path of a queue in the admin API.
pub fn path(name: &str) -> String {
    format!("/api/v1/queues/{}", escaped(name))
}

/// Runs the command.
pub async fn run(verb: Verb) -> Result<(), String> {
    match verb {
        Verb::Ls { context } => {
            context.rows(&context.client()?.get("/api/v1/queues", &[]).await?, "queues", &COLUMNS)
        }
        Verb::Create { name, over, spec, context } => {
            let mut body = json!({ "name": name, "settings": spec.settings() });
            if let Some(over) = over {
                body["over"] = over.into();
            }
            let answer = context.client()?.post("/api/v1/queues", body).await?;
            context.either(&answer, &described(&answer))
        }
        Verb::Describe { name, context } => {
            let answer = context.client()?.get(&path(&name), &[]).await?;
            context.either(&answer, &described(&answer))
        }
        Verb::Rm { name, context } => {
            let answer = context.client()?.delete(&path(&name), &[]).await?;
            if context.json { out::json(&answer) } else { Ok(()) }
        }
        Verb::Peek { name, what, context } => peek(&name, &what, &context).await,
        Verb::Publish { name, body, key, headers, context } => {
            Publish::to_queue(&context, name, key, &headers)?.run(body).await
        }
        Verb::Purge { name, context } => {
            let answer = context.client()?.post(&format!("{}/purge", path(&name)), json!({})).await?;
            context.either(&answer, &format!("{} records purged\n", answer["purged"]))
        }
        Verb::Drop { name, offsets, partition, context } => {
            let body = json!({ "offsets": offsets, "partition": partition });
            let answer = context.client()?.post(&format!("{}/drop", path(&name)), body).await?;
            context.either(&answer, &format!("{} records dropped\n", answer["dropped"]))
        }
        Verb::Move { name, to, filter, pace, context } => {
            moves::run(&name, Some(&to), &filter, &pace, &context).await
        }
        Verb::Replay { name, from, to, rate, context } => {
            moves::replay(&name, from, to.as_deref(), rate, &context).await
        }
        Verb::Moves { name, context } => {
            let answer = context.client()?.get(&format!("{}/moves", path(&name)), &[]).await?;
            context.rows(&answer, "moves", &moves::COLUMNS)
        }
        Verb::Cancel { name, id, context } => {
            let target = format!("{}/moves/{id}", path(&name));
            let answer = context.client()?.call(Method::DELETE, &target, &[], None).await?;
            context.either(&answer, &format!("{} records were moved\n", answer["moved"]))
        }
    }
}

fn described(queue: &Value) -> String {
    let mut out =
        table::facts(queue, &["name", "namespace", "over", "id", "ready", "leased", "delayed", "exhausted"]);
    out.push('\n');
    let settings = [
        "durability",
        "dead_letter",
        "delivery_limit",
        "lease_ms",
        "delay_ms",
        "ttl_ms",
        "length_max",
        "bytes_max",
        "overflow",
        "record_len_max",
        "history_ms",
        "retention_time_ms",
    ];
    out.push_str(&table::facts(&queue["settings"], &settings));
    if queue["extras"].as_object().is_some_and(|extras| !extras.is_empty()) {
        out.push_str(&format!("\nof a dialect  {}\n", queue["extras"]));
    }
    out
}

/// Shows records of a queue with their state.
pub async fn peek(name: &str, what: &Look, context: &Context) -> Result<(), String> {
    let (count, from, partition) =
        (what.count.to_string(), what.from.to_string(), what.partition.to_string());
    let mut query =
        vec![("count", count.as_str()), ("from", from.as_str()), ("partition", partition.as_str())];
    if let Some(state) = &what.state {
        query.push(("state", state));
    }
    let mut answer = context.client()?.get(&format!("{}/records", path(name)), &query).await?;
    if context.json {
        return out::json(&answer);
    }
    out::text(&records(&mut answer))
}

/// The records of an answer as a table.
pub fn records(answer: &mut Value) -> String {
    let mut rows = answer["records"].as_array_mut().map(std::mem::take).unwrap_or_default();
    for row in &mut rows {
        let age_ms = row["age_ms"].as_i64().unwrap_or(0);
        row["age"] = time::span(age_ms).into();
        let origin = row["origin"].clone();
        if let Some(stream) = origin["stream"].as_str() {
            row["came_from"] = format!("{stream} at {}", origin["offset"]).into();
            row["attempts_there"] = origin["attempts"].clone();
        }
        if let Some(encoded) = row["body_base64"].as_str() {
            row["body"] = format!("base64:{encoded}").into();
        }
    }
    let moved = rows.iter().any(|row| !row["came_from"].is_null());
    let mut columns = vec![
        ("OFFSET", "offset"),
        ("STATE", "state"),
        ("ATTEMPTS", "attempts"),
        ("AGE", "age"),
        ("KEY", "key"),
    ];
    if moved {
        columns.extend([("CAME FROM", "came_from"), ("ATTEMPTS THERE", "attempts_there")]);
    }
    columns.push(("BODY", "body"));
    table::render(&rows, &columns)
}
