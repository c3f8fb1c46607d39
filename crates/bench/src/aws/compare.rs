//! Wiremill, ElasticMQ and moto in turn.
//!
//! Every part is bounded in time, not in messages, so that a server of a hundred messages a second takes no longer than
//! one of a hundred thousand.

use std::collections::BTreeMap;

use clap::Args as ClapArgs;

use super::{Target, backlog, drain, latency, send, storm};
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
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Messages of the deep backlog.
    #[arg(long, default_value_t = 1_000_000)]
    backlog: usize,
    /// Groups of the FIFO queue.
    #[arg(long, default_value_t = 100_000)]
    groups: usize,
    /// Leave the others out.
    #[arg(long)]
    alone: bool,
}

/// Bytes of each message's body.
const MESSAGE_LEN: usize = 1024;

/// Seconds before a figure: a JVM needs to see its load before it is fast.
const WARM_UP_S: u64 = 2;

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let mut rates: BTreeMap<(&str, &str), Vec<f64>> = BTreeMap::new();
    for round in 1..=args.rounds {
        println!("## round {round}");
        for Server { start, connections } in servers(args.alone) {
            throughput(args, &start()?, connections, &mut rates)?;
        }
    }
    for ((what, name), mut all) in rates {
        all.sort_by(f64::total_cmp);
        println!("{what:<28} {name:>10} median of {}: {:.0} messages/s", all.len(), all[all.len() / 2]);
    }
    println!("## long polls at a fixed rate, from due to received");
    for rate in [200, 5_000] {
        for Server { start, connections } in servers(args.alone) {
            if connections < CONNECTIONS {
                continue; // It takes neither rate.
            }
            let running = start()?;
            let target = target(&running, "latency");
            let load = latency::Args {
                target,
                message_len: MESSAGE_LEN,
                rate,
                senders: 64,
                receivers: 16,
                seconds: args.seconds,
            };
            println!("{:>10} {rate:>6}/s  {}", running.name, latency::run(&load)?);
        }
    }
    let running = broker::wiremill_on("aws", broker::scratch("wiremill")?, 19_566)?;
    println!("## Wiremill: one account at 200 messages/s, alone and while another sends all it can");
    storm::run(&storm::Args {
        target: target(&running, "storm"),
        rate: 200,
        connections: CONNECTIONS,
        message_len: MESSAGE_LEN,
        seconds: args.seconds,
    })?;
    println!("## Wiremill before a backlog: receive and delete by 10");
    backlog::run(&backlog::Args {
        target: target(&running, "deep"),
        backlog: args.backlog,
        groups: args.groups,
        message_len: MESSAGE_LEN,
        seconds: args.seconds,
    })
}

fn throughput<'n>(
    args: &Args,
    running: &Running,
    connections: usize,
    rates: &mut BTreeMap<(&'n str, &'n str), Vec<f64>>,
) -> Result<(), Failure> {
    let name = running.name;
    let mut note = |what, rate| rates.entry((what, name)).or_default().push(rate);
    for (what, batch) in [("SendMessage", 1), ("SendMessageBatch of 10", 10)] {
        let load = send::Args {
            target: target(running, &format!("send{batch}")),
            message_len: MESSAGE_LEN,
            batch,
            connections,
            seconds: args.seconds,
        };
        send::run(&send::Args { seconds: WARM_UP_S, ..load.clone() })?;
        let sent = send::run(&load)?;
        println!("{name:>10} {what:<28} {sent}");
        note(what, sent.messages_per_s);
        if batch == 10 {
            let (target, seconds) = (load.target.clone(), args.seconds);
            let drained = drain::run(&drain::Args {
                target,
                connections: connections.min(16),
                messages: usize::MAX,
                seconds,
            })?;
            println!("{name:>10} {:<28} {drained}", "receive and delete by 10");
            note("receive and delete by 10", drained.messages_per_s);
        }
    }
    Ok(())
}

struct Server {
    start: fn() -> Result<Running, Failure>,
    /// Connections that send.
    connections: usize,
}

/// Connections that send to a server that can do with them.
const CONNECTIONS: usize = 64;

fn servers(alone: bool) -> Vec<Server> {
    let wiremill = || broker::wiremill_on("aws", broker::scratch("wiremill")?, 19_566);
    let mut all = vec![Server { start: wiremill, connections: CONNECTIONS }];
    if !alone {
        let elasticmq = || broker::elasticmq(broker::scratch("elasticmq")?, 19_567);
        all.push(Server { start: elasticmq, connections: CONNECTIONS });
        // It takes tens of requests per second: with many on their way a run would end minutes after its time.
        let moto = || broker::moto(broker::scratch("moto")?, 19_568);
        all.push(Server { start: moto, connections: 2 });
    }
    all
}

fn target(running: &Running, queue: &str) -> Target {
    Target {
        addr: running.addr.clone(),
        queue: queue.to_owned(),
        account: "000000000000".to_owned(),
        pid: Some(running.pid()),
    }
}
