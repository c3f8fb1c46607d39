//! Many durable queues that nobody uses: how fast they are made, and what they take.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use super::{DECLARE_OK, Target, declare};
use crate::{Failure, process::Usage};

/// Declarations that are asked for at a time.
const AHEAD: usize = 500;

pub(crate) struct Report {
    pub made: usize,
    pub made_per_s: f64,
    pub rss_mib: f64,
}

/// Makes up to `count` queues within the time.
pub(crate) fn run(target: &Target, count: usize, within: Duration) -> Result<Report, Failure> {
    let mut client = target.connect()?;
    let (began, mut made) = (Instant::now(), 0);
    while made < count && began.elapsed() < within {
        let group = made..count.min(made + AHEAD);
        let all: Vec<u8> =
            group.clone().flat_map(|index| declare(&format!("bench.idle.{index:06}"), true)).collect();
        client.stream.write_all(&all)?;
        for _ in group.clone() {
            client.until(DECLARE_OK)?;
        }
        made = group.end;
    }
    let made_per_s = made as f64 / began.elapsed().as_secs_f64();
    Ok(Report { made, made_per_s, rss_mib: Usage::of(Some(target.pid))?.rss_mib })
}
