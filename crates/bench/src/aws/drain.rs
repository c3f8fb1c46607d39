//! Receives in batches of ten and deletes what was received.

use std::time::{Duration, Instant};

use clap::Args as ClapArgs;

use super::{Connection, Target};
use crate::{Failure, process::Usage};

#[derive(ClapArgs, Clone, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    pub target: Target,
    /// Connections.
    #[arg(long, default_value_t = 16)]
    pub connections: usize,
    /// Ends after so many messages, or when the queue is empty.
    #[arg(long, default_value_t = 200_000)]
    pub messages: usize,
    /// Ends after so many seconds.
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
}

/// What a connection waits for.
enum Turn {
    Receive,
    Delete(usize),
    Done,
}

pub(crate) struct Report {
    pub messages_per_s: f64,
    cpu_s_per_million: f64,
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:>9.0} messages/s received and deleted   CPU {:>8.3} s/M messages",
            self.messages_per_s, self.cpu_s_per_million
        )
    }
}

pub(crate) fn run(args: &Args) -> Result<Report, Failure> {
    let addr = &args.target.addr;
    let url = args.target.create_queue()?;
    let receive = args.target.request(
        "ReceiveMessage",
        &format!("{{\"QueueUrl\": \"{url}\", \"MaxNumberOfMessages\": 10, \"VisibilityTimeout\": 600}}"),
    );
    let mut connections: Vec<(Connection, Turn)> = (0..args.connections)
        .map(|_| Ok((Connection::open(addr)?, Turn::Receive)))
        .collect::<Result<_, Failure>>()?;
    let before = Usage::of(args.target.pid)?;
    let begin = Instant::now();
    let until = begin + Duration::from_secs(args.seconds);
    for (connection, _) in &mut connections {
        connection.send(&receive)?;
    }
    let mut messages = 0;
    let mut waiting = connections.len();
    while waiting > 0 {
        let is_over = Instant::now() >= until;
        for (connection, turn) in &mut connections {
            let next = match turn {
                Turn::Done => continue,
                Turn::Receive => match args.target.deletion(&url, connection.answer()?) {
                    None => Turn::Done,
                    Some((request, count)) => {
                        connection.send(&request)?;
                        Turn::Delete(count)
                    }
                },
                Turn::Delete(count) => {
                    let answer = connection.answer()?;
                    if answer.contains("\"Code\"") {
                        return Err(format!("a message was not deleted: {answer}").into());
                    }
                    messages += *count;
                    if messages >= args.messages || is_over {
                        Turn::Done
                    } else {
                        connection.send(&receive)?;
                        Turn::Receive
                    }
                }
            };
            *turn = next;
            waiting -= usize::from(matches!(turn, Turn::Done));
        }
    }
    let elapsed_s = begin.elapsed().as_secs_f64();
    let after = Usage::of(args.target.pid)?;
    Ok(Report {
        messages_per_s: messages as f64 / elapsed_s,
        cpu_s_per_million: (after.cpu_s - before.cpu_s) / (messages.max(1) as f64 / 1e6),
    })
}
