//! Load generators and side-by-side runs.
//!
//! The generators send bytes that were encoded once, over blocking sockets, so that what they measure is the broker.
//! Every run prints the broker's CPU seconds per million messages beside the rate: on a shared machine that is the
//! steadier figure. Nothing here is a test: figures belong in `docs/benchmarks.md`, with the command that made them.

#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a load generator lives on the real clock"
)]

mod amqp;
mod aws;
mod compare;
mod histogram;
mod kafka;
mod log_files;
mod nats;
mod process;
mod received;

use clap::{Parser, Subcommand};

/// What goes wrong in a run ends it.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Parser)]
#[command(name = "bench", about = "Load generators and side-by-side runs")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Produce pre-encoded batches as fast as the window allows.
    KafkaProduce(kafka::produce::Args),
    /// Produce at a fixed rate and report the latency of each acknowledgement from its intended start.
    KafkaLatency(kafka::latency::Args),
    /// Single records with a deadline on each, at a fixed rate and at 80 % of the maximum: how many miss it.
    KafkaDeadlines(kafka::deadlines::Args),
    /// Read a topic from its beginning.
    KafkaFetch(kafka::fetch::Args),
    /// Wiremill and Apache Kafka in turn, same machine, same generator; medians.
    Kafka(compare::Args),
    /// Send messages as fast as the connections allow.
    AwsSend(aws::send::Args),
    /// Receive and delete what is in a queue.
    AwsDrain(aws::drain::Args),
    /// Send at a fixed rate and report how long each message took to a long poll.
    AwsLatency(aws::latency::Args),
    /// Receive before a deep backlog and many FIFO groups.
    AwsBacklog(aws::backlog::Args),
    /// What one tenant's storm does to the answers of another.
    AwsStorm(aws::storm::Args),
    /// Wiremill, ElasticMQ and moto in turn, same machine, same generator; medians.
    Aws(aws::compare::Args),
    /// Wiremill and nats-server in turn, same machine, same generator; medians.
    Nats(nats::compare::Args),
    /// Wiremill and RabbitMQ in turn, same machine, same generator; medians.
    Amqp(amqp::compare::Args),
    /// A reader that catches up from the disk while a producer goes on: how fast it is, and what it costs the producer.
    CatchUp(compare::catch_up::Args),
    /// Log files grown, reserved, zero-filled and recycled: what a sync into each costs.
    LogFiles(log_files::Args),
    /// Start to ready, idle memory and CPU, 100,000 streams, restart with 10 GB.
    Footprint(compare::footprint::Args),
}

fn main() -> Result<(), Failure> {
    match Cli::parse().command {
        Command::KafkaProduce(args) => kafka::produce::run(&args).map(|report| println!("{report}")),
        Command::KafkaLatency(args) => kafka::latency::run(&args).map(|report| println!("{report}")),
        Command::KafkaDeadlines(args) => kafka::deadlines::run(&args),
        Command::KafkaFetch(args) => kafka::fetch::run(&args).map(|report| println!("{report}")),
        Command::Kafka(args) => compare::run(&args),
        Command::AwsSend(args) => aws::send::run(&args).map(|report| println!("{report}")),
        Command::AwsDrain(args) => aws::drain::run(&args).map(|report| println!("{report}")),
        Command::AwsLatency(args) => aws::latency::run(&args).map(|report| println!("{report}")),
        Command::AwsBacklog(args) => aws::backlog::run(&args),
        Command::AwsStorm(args) => aws::storm::run(&args),
        Command::Aws(args) => aws::compare::run(&args),
        Command::Nats(args) => nats::compare::run(&args),
        Command::Amqp(args) => amqp::compare::run(&args),
        Command::CatchUp(args) => compare::catch_up::run(&args),
        Command::LogFiles(args) => log_files::run(&args),
        Command::Footprint(args) => compare::footprint::run(&args),
    }
}
