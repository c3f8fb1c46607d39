//! `wiremill stream …`

use clap::{Args, Subcommand, ValueEnum};
use hyper::Method;
use serde_json::{Map, Value, json};
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    context::Context,
    http::{Client, escaped},
    lines, out, table, time,
};

/// What can be done with streams.
#[derive(Subcommand)]
pub enum Verb {
    /// List the streams of a namespace
    Ls {
        #[command(flatten)]
        context: Context,
    },
    /// Make a stream
    Create {
        name: String,
        #[command(flatten)]
        spec: Spec,
        #[command(flatten)]
        context: Context,
    },
    /// Show settings, partitions and what they hold
    Describe {
        name: String,
        #[command(flatten)]
        kind: Kind,
        #[command(flatten)]
        context: Context,
    },
    /// Delete a stream with everything in it
    Rm {
        name: String,
        #[command(flatten)]
        kind: Kind,
        #[command(flatten)]
        context: Context,
    },
    /// Show records as they come
    Tail {
        name: String,
        #[command(flatten)]
        what: Window,
        #[command(flatten)]
        kind: Kind,
        #[command(flatten)]
        context: Context,
    },
    /// Publish a record, or every line of standard input as one
    Publish {
        name: String,
        /// The record's body; absent: one record per line of standard input
        body: Option<String>,
        /// Key: chooses the partition
        #[arg(long)]
        key: Option<String>,
        /// Header, repeatable
        #[arg(long = "header", value_name = "NAME=VALUE")]
        headers: Vec<String>,
        /// Partition, counted from 0
        #[arg(long)]
        partition: Option<u32>,
        #[command(flatten)]
        context: Context,
    },
}

/// Which of two streams of one name.
#[derive(Args)]
pub struct Kind {
    /// Log or queue; absent: the log, else the queue
    #[arg(long, value_enum)]
    kind: Option<KindName>,
}

#[derive(Clone, Copy, ValueEnum)]
enum KindName {
    Log,
    Queue,
}

impl Kind {
    fn query(&self) -> Vec<(&'static str, &'static str)> {
        match self.kind {
            None => Vec::new(),
            Some(KindName::Log) => vec![("kind", "log")],
            Some(KindName::Queue) => vec![("kind", "queue")],
        }
    }
}

/// What a stream is made with.
#[derive(Args)]
pub struct Spec {
    #[command(flatten)]
    kind: Kind,
    /// How many partitions; absent: the server's default, and one for a queue, which has no more
    #[arg(long)]
    partitions: Option<u32>,
    /// Whether records survive a crash
    #[arg(long, value_parser = ["fsync", "memory"])]
    durability: Option<String>,
    /// Delete records older than this, milliseconds
    #[arg(long, value_name = "MS")]
    retention_time_ms: Option<u64>,
    /// Delete the oldest records above this many stored bytes per partition
    #[arg(long, value_name = "BYTES")]
    retention_bytes: Option<u64>,
    /// Delete the oldest records above this many per partition
    #[arg(long, value_name = "COUNT")]
    retention_records: Option<u64>,
}

/// What of a stream is shown.
#[derive(Args)]
pub struct Window {
    /// One partition; absent: all
    #[arg(long)]
    partition: Option<u32>,
    /// earliest, latest, an offset, or time:MILLISECONDS since the Unix epoch
    #[arg(long, default_value = "latest")]
    from: String,
    /// End after this many records
    #[arg(long)]
    count: Option<u64>,
    /// End when there is nothing more yet
    #[arg(long)]
    no_follow: bool,
}

/// Runs the command.
pub async fn run(verb: Verb) -> Result<(), String> {
    match verb {
        Verb::Ls { context } => {
            let answer = context.client()?.get("/api/v1/streams", &[]).await?;
            let columns = [
                ("NAME", "name"),
                ("KIND", "kind"),
                ("PARTITIONS", "partitions"),
                ("RECORDS", "records"),
                ("SIZE", "bytes"),
                ("DURABILITY", "durability"),
            ];
            context.rows(&answer, "streams", &columns)
        }
        Verb::Create { name, spec, context } => {
            let answer = context.client()?.post("/api/v1/streams", creation(&name, &spec)).await?;
            context.either(&answer, &described(&answer))
        }
        Verb::Describe { name, kind, context } => {
            let answer = context.client()?.get(&path(&name), &kind.query()).await?;
            context.either(&answer, &described(&answer))
        }
        Verb::Rm { name, kind, context } => {
            let answer = context.client()?.delete(&path(&name), &kind.query()).await?;
            if context.json { out::json(&answer) } else { Ok(()) }
        }
        Verb::Tail { name, what, kind, context } => tail(&name, &what, &kind, &context).await,
        Verb::Publish { name, body, key, headers, partition, context } => {
            Publish { partition, kind: Vec::new(), ..Publish::to_queue(&context, name, key, &headers)? }
                .run(body)
                .await
        }
    }
}

fn path(name: &str) -> String {
    format!("/api/v1/streams/{}", escaped(name))
}

fn creation(name: &str, spec: &Spec) -> Value {
    let mut settings = Map::new();
    let mut set = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            settings.insert(key.to_owned(), value);
        }
    };
    set("durability", spec.durability.clone().map(Value::from));
    set("retention_time_ms", spec.retention_time_ms.map(Value::from));
    set("retention_bytes", spec.retention_bytes.map(Value::from));
    set("retention_records", spec.retention_records.map(Value::from));
    let mut body = json!({ "name": name, "settings": settings });
    if let Some(partitions) = spec.partitions {
        body["partitions"] = partitions.into();
    }
    if let Some((_, kind)) = spec.kind.query().first() {
        body["kind"] = (*kind).into();
    }
    body
}

fn described(stream: &Value) -> String {
    let mut out =
        table::facts(stream, &["name", "namespace", "kind", "id", "partitions", "records", "bytes"]);
    let settings = ["durability", "time", "retention_time_ms", "retention_bytes", "retention_records"];
    out.push('\n');
    out.push_str(&table::facts(&stream["settings"], &settings));
    if stream["extras"].as_object().is_some_and(|extras| !extras.is_empty()) {
        out.push_str(&format!("\nof a dialect  {}\n", stream["extras"]));
    }
    out.push('\n');
    let columns = [
        ("PARTITION", "partition"),
        ("START", "start"),
        ("END", "durable_end"),
        ("RECORDS", "records"),
        ("SIZE", "bytes"),
        ("EPOCH", "epoch"),
    ];
    let none = Vec::new();
    out.push_str(&table::render(stream["partition_list"].as_array().unwrap_or(&none), &columns));
    out
}

fn header(text: &str) -> Result<Value, String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("--header {text:?} is not NAME=VALUE"))?;
    Ok(json!([name, value]))
}

async fn tail(name: &str, what: &Window, kind: &Kind, context: &Context) -> Result<(), String> {
    let client = context.client()?;
    let partitions = match what.partition {
        Some(one) => vec![one],
        None => {
            let stream = client.get(&path(name), &kind.query()).await?;
            let count =
                stream["partitions"].as_u64().and_then(|count| u32::try_from(count).ok()).unwrap_or(0);
            (0..count).collect()
        }
    };
    let (found, mut rows) = mpsc::channel(64);
    let mut tasks = JoinSet::new();
    for partition in partitions {
        let reader = Reader {
            client: client.clone(),
            path: format!("{}/records", path(name)),
            kind: kind.query(),
            partition: partition.to_string(),
            follow: !what.no_follow,
        };
        tasks.spawn(reader.run(what.from.clone(), found.clone()));
    }
    drop(found);
    let mut left = what.count.unwrap_or(u64::MAX);
    while left > 0 {
        let Some((partition, row)) = rows.recv().await else { break };
        show(&partition, row, context.json)?;
        left -= 1;
    }
    if left > 0 {
        while let Some(ended) = tasks.join_next().await {
            ended.map_err(|e| e.to_string())??;
        }
    }
    Ok(())
}

struct Reader {
    client: Client,
    path: String,
    kind: Vec<(&'static str, &'static str)>,
    partition: String,
    follow: bool,
}

impl Reader {
    async fn run(self, mut from: String, found: mpsc::Sender<(String, Value)>) -> Result<(), String> {
        loop {
            let wait = if self.follow { "30000" } else { "0" };
            let mut query =
                vec![("partition", self.partition.as_str()), ("from", from.as_str()), ("wait_ms", wait)];
            query.extend(&self.kind);
            let mut answer = self.client.get(&self.path, &query).await?;
            let rows = answer["records"].as_array_mut().map(std::mem::take).unwrap_or_default();
            let ended = rows.is_empty() && !self.follow;
            for row in rows {
                if found.send((self.partition.clone(), row)).await.is_err() {
                    return Ok(());
                }
            }
            if ended {
                return Ok(());
            }
            from = answer["next"].to_string();
        }
    }
}

fn show(partition: &str, mut row: Value, json: bool) -> Result<(), String> {
    if json {
        row["partition"] = partition.parse::<u32>().map_or(Value::Null, Value::from);
        return out::text(&format!("{row}\n"));
    }
    let at = row["append_time_ms"].as_i64().map_or_else(String::new, time::utc);
    let text = |name: &str| {
        let encoded = || row[format!("{name}_base64")].as_str().map(|text| format!("base64:{text}"));
        row[name].as_str().map(str::to_owned).or_else(encoded).unwrap_or_else(|| "-".to_owned())
    };
    out::text(&format!("{partition}:{}  {at}  {}  {}\n", row["offset"], text("key"), text("body")))
}

/// Publishes records from the command line.
pub struct Publish {
    client: Client,
    name: String,
    kind: Vec<(&'static str, &'static str)>,
    key: Option<String>,
    headers: Vec<Value>,
    partition: Option<u32>,
    json: bool,
}

impl Publish {
    /// A publish to the queue `name`.
    pub fn to_queue(
        context: &Context,
        name: String,
        key: Option<String>,
        headers: &[String],
    ) -> Result<Publish, String> {
        let headers = headers.iter().map(|text| header(text)).collect::<Result<Vec<_>, _>>()?;
        let kind = vec![("kind", "queue")];
        Ok(Publish {
            client: context.client()?,
            name,
            kind,
            key,
            headers,
            partition: None,
            json: context.json,
        })
    }

    /// Publishes `body`, or every line of standard input.
    pub async fn run(&self, body: Option<String>) -> Result<(), String> {
        match body {
            Some(body) => self.send(vec![body]).await,
            None => self.lines().await,
        }
    }

    async fn lines(&self) -> Result<(), String> {
        let mut lines = lines::of(std::io::BufReader::new(std::io::stdin()));
        while let Some(some) = lines.next().await? {
            self.send(some).await?;
        }
        Ok(())
    }

    async fn send(&self, bodies: Vec<String>) -> Result<(), String> {
        let record = |body: String| json!({ "key": self.key, "body": body, "headers": self.headers });
        let records: Vec<Value> = bodies.into_iter().map(record).collect();
        let request = json!({ "partition": self.partition, "records": records });
        let target = format!("{}/records", path(&self.name));
        let answer = self.client.call(Method::POST, &target, &self.kind, Some(request)).await?;
        let rows = answer["records"].as_array().cloned().unwrap_or_default();
        if self.json {
            out::json(&answer)?;
        } else {
            let stored = rows.iter().filter(|row| row["error"].is_null());
            let lines = stored.map(|row| format!("{}:{}\n", row["partition"], row["offset"]));
            out::text(&lines.collect::<String>())?;
        }
        let refused: Vec<&Value> =
            rows.iter().map(|row| &row["error"]).filter(|error| !error.is_null()).collect();
        match refused.first() {
            None => Ok(()),
            Some(first) => {
                let why = first["message"].as_str().unwrap_or_default();
                Err(format!("{} of {} records were refused: {why}", refused.len(), rows.len()))
            }
        }
    }
}
