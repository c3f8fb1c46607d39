//! A topic exchange with many bindings: how fast they are made, and what is published through them.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use super::{BIND_OK, Target, bind, publish};
use crate::{Failure, process::Usage};

const EXCHANGE: &str = "bench.topic";
/// Queues that the bindings lead to.
const QUEUES: usize = 100;
/// Bindings that are asked for at a time.
const AHEAD: usize = 500;
/// Messages between two waits.
const BURST: usize = 500;
/// Messages until the queues are emptied: nobody consumes, and a publisher is held up once they fill the memory.
const BACKLOG_MAX: usize = 50_000;

pub(crate) struct Report {
    pub bindings_per_s: f64,
    pub published_per_s: f64,
    pub cpu_s_per_million: f64,
    pub rss_mib: f64,
}

fn queue(index: usize) -> String {
    format!("bench.topic.{index:03}")
}

/// The key of a binding: every tenth has a star, every hundredth a hash.
fn pattern(index: usize) -> String {
    let tenant = index / 100;
    match index % 100 {
        0 => format!("tenant.{tenant}.#"),
        rest if rest % 10 == 0 => format!("tenant.{tenant}.*.kind{rest}"),
        rest => format!("tenant.{tenant}.place{rest}.kind{rest}"),
    }
}

pub(crate) fn run(target: &Target, bindings: usize, seconds: u64) -> Result<Report, Failure> {
    let mut client = target.connect()?;
    client.fresh_exchange(EXCHANGE, "topic")?;
    for index in 0..QUEUES {
        client.fresh_queue(&queue(index), true)?;
    }
    let began = Instant::now();
    for from in (0..bindings).step_by(AHEAD) {
        let group = from..bindings.min(from + AHEAD);
        let all: Vec<u8> =
            group.clone().flat_map(|index| bind(&queue(index % QUEUES), EXCHANGE, &pattern(index))).collect();
        client.stream.write_all(&all)?;
        for _ in group {
            client.until(BIND_OK)?;
        }
    }
    let bindings_per_s = bindings as f64 / began.elapsed().as_secs_f64();
    // Keys that match nothing but the hash of another tenant would be easy: each matches three bindings and is not met twice
    // in a row. What is measured is the way into the queues, without the time in which they are emptied.
    let tenants = (bindings / 100).max(1);
    let (before, mut took, mut sent) = (Usage::of(Some(target.pid))?, Duration::ZERO, 0);
    while took < Duration::from_secs(seconds) {
        let burst: Vec<u8> = (sent..sent + BURST)
            .flat_map(|number| {
                let (tenant, place) = (number * 7 % tenants, 1 + number % 9);
                publish(EXCHANGE, &format!("tenant.{tenant}.place{place}.kind{place}"), b"x", false)
            })
            .collect();
        let began = Instant::now();
        client.stream.write_all(&burst)?;
        client.settle()?;
        took += began.elapsed();
        sent += BURST;
        if sent % BACKLOG_MAX == 0 {
            (0..QUEUES).try_for_each(|index| client.purge_queue(&queue(index)))?;
        }
    }
    let after = Usage::of(Some(target.pid))?;
    for index in 0..QUEUES {
        client.delete_queue(&queue(index))?;
    }
    client.delete_exchange(EXCHANGE)?;
    Ok(Report {
        bindings_per_s,
        published_per_s: sent as f64 / took.as_secs_f64(),
        cpu_s_per_million: (after.cpu_s - before.cpu_s) / (sent as f64 / 1e6),
        rss_mib: after.rss_mib,
    })
}
