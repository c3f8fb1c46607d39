//! How fast a queue is worked when much lies in it: receives and deletes before a short backlog and before a deep one, in
//! one FIFO queue of few groups and in one of many. What is flat costs the same in both.

use std::time::Instant;

use clap::Args as ClapArgs;

use super::{Connection, Target, drain, message};
use crate::{Failure, process::Usage};

/// Messages and groups that the others are compared with.
const SHORT: usize = 10_000;

/// Messages of each group.
const PER_GROUP: usize = 3;

/// Connections that fill a queue.
const FILLERS: usize = 16;

#[derive(ClapArgs, Clone, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    pub target: Target,
    /// Messages in the deep queue, standard.
    #[arg(long, default_value_t = 1_000_000)]
    pub backlog: usize,
    /// Groups of the FIFO queue, three messages in each.
    #[arg(long, default_value_t = 100_000)]
    pub groups: usize,
    /// Bytes of each message's body.
    #[arg(long, default_value_t = 1024)]
    pub message_len: usize,
    /// How long each queue is worked, seconds.
    #[arg(long, default_value_t = 5)]
    pub seconds: u64,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let name = &args.target.queue;
    for count in [SHORT, args.backlog] {
        let queue = format!("{name}-{count}");
        worked(args, &queue, count, None, &format!("backlog of {count} messages"))?;
    }
    for groups in [SHORT, args.groups] {
        let queue = format!("{name}-{groups}.fifo");
        worked(args, &queue, groups * PER_GROUP, Some(groups), &format!("{groups} FIFO groups"))?;
    }
    Ok(())
}

/// Fills a queue with `count` messages, in turn of `groups` groups, and works it.
fn worked(args: &Args, queue: &str, count: usize, groups: Option<usize>, what: &str) -> Result<(), Failure> {
    let target = Target { queue: queue.to_owned(), ..args.target.clone() };
    let begin = Instant::now();
    fill(args, &target, count, groups)?;
    let filled_s = begin.elapsed().as_secs_f64();
    let load = drain::Args { target, connections: 16, messages: usize::MAX, seconds: args.seconds };
    let drained = drain::run(&load)?;
    let rss_mib = Usage::of(args.target.pid)?.rss_mib;
    println!("           {what:<28} {drained}   filled in {filled_s:.1} s, {rss_mib:.0} MiB");
    Ok(())
}

fn fill(args: &Args, target: &Target, count: usize, groups: Option<usize>) -> Result<(), Failure> {
    let url = target.create_queue()?;
    let body = message("", args.message_len);
    let batch = |from: usize| {
        let entry = |n: usize| {
            let fifo = groups.map_or_else(String::new, |groups| {
                format!(
                    ", \"MessageGroupId\": \"g{}\", \"MessageDeduplicationId\": \"{n}\"",
                    n % groups.max(1)
                )
            });
            format!("{{\"Id\": \"{n}\", \"MessageBody\": \"{body}\"{fifo}}}")
        };
        let entries: Vec<String> = (from..count.min(from + 10)).map(entry).collect();
        let json = format!("{{\"QueueUrl\": \"{url}\", \"Entries\": [{}]}}", entries.join(", "));
        target.request("SendMessageBatch", &json)
    };
    let mut connections: Vec<Connection> =
        (0..FILLERS).map(|_| Connection::open(&target.addr)).collect::<Result<_, _>>()?;
    // Without groups all batches are the same.
    let same = groups.is_none().then(|| batch(0));
    let mut starts = (0..count).step_by(10);
    let mut waiting: Vec<usize> = Vec::new();
    let mut idle: Vec<usize> = (0..connections.len()).collect();
    loop {
        for index in idle.drain(..) {
            let Some(from) = starts.next() else { continue };
            match &same {
                Some(request) => connections[index].send(request)?,
                None => connections[index].send(&batch(from))?,
            }
            waiting.push(index);
        }
        if waiting.is_empty() {
            return Ok(());
        }
        for index in waiting.drain(..) {
            let answer = connections[index].answer()?;
            if answer.contains("\"Code\"") {
                return Err(format!("an entry was refused: {answer}").into());
            }
            idle.push(index);
        }
    }
}
