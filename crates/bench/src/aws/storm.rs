//! What one tenant's storm does to another's answers: one sends at a fixed rate, alone and while the other sends as fast
//! as its connections allow. Tenants are accounts; each has a queue of its own.

use std::thread;

use clap::Args as ClapArgs;

use super::{Target, latency, send};
use crate::Failure;

#[derive(ClapArgs, Clone, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    pub target: Target,
    /// Messages per second of the one that is measured.
    #[arg(long, default_value_t = 200)]
    pub rate: u64,
    /// Connections of the storm.
    #[arg(long, default_value_t = 64)]
    pub connections: usize,
    /// Bytes of each message's body.
    #[arg(long, default_value_t = 1024)]
    pub message_len: usize,
    /// How long, seconds.
    #[arg(long, default_value_t = 5)]
    pub seconds: u64,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let name = &args.target.queue;
    let of =
        |queue: String, account: &str| Target { queue, account: account.to_owned(), ..args.target.clone() };
    let calm = latency::Args {
        target: of(format!("{name}-calm"), "111111111111"),
        message_len: args.message_len,
        rate: args.rate,
        senders: 4,
        receivers: 2,
        seconds: args.seconds,
    };
    println!("           alone           {}", latency::run(&calm)?);
    let storm = send::Args {
        target: of(format!("{name}-storm"), "222222222222"),
        message_len: args.message_len,
        batch: 1,
        connections: args.connections,
        seconds: args.seconds + 2,
    };
    let raging = thread::spawn(move || send::run(&storm));
    let during = latency::run(&calm)?;
    let sent = raging.join().map_err(|_| "the storm panicked")??;
    println!("           in a storm      {during}");
    println!("           the storm       {sent}");
    Ok(())
}
