//! Wiremill, ElasticMQ and moto in turn.

use std::collections::BTreeMap;

use clap::Args as ClapArgs;

use super::{Target, drain, latency, send};
use crate::{
    Failure,
    compare::broker::{self, Running},
};

#[derive(ClapArgs, Clone, Debug)]
pub(crate) struct Args {
    /// Interleaved rounds; medians are over these.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each run.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Leave the others out.
    #[arg(long)]
    alone: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let mut rates: BTreeMap<(&str, &str), Vec<f64>> = BTreeMap::new();
    for round in 1..=args.rounds {
        println!("## round {round}");
        for start in servers(args.alone) {
            let running = start()?;
            let name = running.name;
            let mut note = |what, rate| rates.entry((what, name)).or_default().push(rate);
            for (what, batch) in [("SendMessage, 64 connections", 1), ("SendMessageBatch of 10", 10)] {
                let load = send::Args {
                    target: target(&running, &format!("send{batch}")),
                    message_len: 1024,
                    batch,
                    connections: 64,
                    seconds: args.seconds,
                };
                // A JVM needs to see its load before it is fast; the first seconds are nobody's figure.
                send::run(&send::Args { seconds: 3, ..load.clone() })?;
                let sent = send::run(&load)?;
                println!("{name:>10} {what:<28} {sent}");
                note(what, sent.messages_per_s);
                if batch == 10 {
                    let messages = sent.messages.min(100_000);
                    let drained =
                        drain::run(&drain::Args { target: load.target.clone(), connections: 16, messages })?;
                    println!("{name:>10} {:<28} {drained}", "receive and delete by 10");
                    note("receive and delete by 10", drained.messages_per_s);
                }
            }
        }
    }
    for ((what, name), mut all) in rates {
        all.sort_by(f64::total_cmp);
        println!("{what:<28} {name:>10} median of {}: {:.0} messages/s", all.len(), all[all.len() / 2]);
    }
    println!("## long polls at a fixed rate, from due to received");
    for rate in [200, 5_000] {
        for start in servers(args.alone) {
            let running = start()?;
            let target = target(&running, "latency");
            let load = latency::Args {
                target,
                message_len: 1024,
                rate,
                senders: 8,
                receivers: 4,
                seconds: args.seconds,
            };
            println!("{:>10} {rate:>6}/s  {}", running.name, latency::run(&load)?);
        }
    }
    Ok(())
}

type Start = fn() -> Result<Running, Failure>;

fn servers(alone: bool) -> Vec<Start> {
    let mut all: Vec<Start> = vec![|| broker::wiremill_on("aws", broker::scratch("wiremill")?, 19_566)];
    if !alone {
        all.push(|| broker::elasticmq(broker::scratch("elasticmq")?, 19_567));
        all.push(|| broker::moto(broker::scratch("moto")?, 19_568));
    }
    all
}

fn target(running: &Running, queue: &str) -> Target {
    Target { addr: running.addr.clone(), queue: queue.to_owned(), pid: Some(running.pid()) }
}
