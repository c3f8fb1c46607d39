//! Reads a topic from its beginning until it has seen what it was asked for.

use std::{fmt, io::Write, time::Instant};

use clap::Args as ClapArgs;

use super::{Target, encode, read_frame};
use crate::{Failure, process::Usage};

#[derive(ClapArgs, Clone, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    pub target: Target,
    /// Records to read before stopping.
    #[arg(long, default_value_t = 5_000_000)]
    pub records: u64,
    /// Bytes asked for at a time.
    #[arg(long, default_value_t = 8 << 20)]
    pub max_len: i32,
}

pub(crate) struct Report {
    pub records_per_s: f64,
    pub mb_per_s: f64,
    pub cpu_s_per_million: f64,
    pub peak_mib: f64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>11.0} records/s {:>8.1} MB/s   CPU {:>7.3} s/M records   peak {:>6.0} MiB",
            self.records_per_s, self.mb_per_s, self.cpu_s_per_million, self.peak_mib
        )
    }
}

pub(crate) fn run(args: &Args) -> Result<Report, Failure> {
    let mut stream = args.target.connect()?;
    let mut positions = vec![0i64; args.target.partitions as usize];
    let (mut records, mut bytes, mut idle) = (0u64, 0u64, 0);
    let mut frame = Vec::new();
    let before = Usage::of(args.target.pid)?;
    let begin = Instant::now();
    let mut last = begin;
    while records < args.records && idle < 4 {
        stream.write_all(&encode::fetch(&args.target.topic, &positions, args.max_len))?;
        read_frame(&mut stream, &mut frame)?;
        let seen = take(&frame, &args.target.topic, &mut positions)?;
        idle = if seen == 0 { idle + 1 } else { 0 };
        if seen > 0 {
            last = Instant::now();
        }
        records += seen;
        bytes += frame.len() as u64;
    }
    // Until the last record came: what follows is waiting for none.
    let elapsed_s = (last - begin).as_secs_f64();
    let after = Usage::of(args.target.pid)?;
    Ok(Report {
        records_per_s: records as f64 / elapsed_s,
        mb_per_s: bytes as f64 / elapsed_s / 1e6,
        cpu_s_per_million: (after.cpu_s - before.cpu_s) / (records.max(1) as f64 / 1e6),
        peak_mib: after.peak_mib,
    })
}

/// Moves the positions past every whole batch of an answer and counts the records; batch headers alone are read.
fn take(answer: &[u8], topic: &str, positions: &mut [i64]) -> Result<u64, Failure> {
    let i32_at = |at: usize| -> Result<i32, Failure> {
        Ok(i32::from_be_bytes(answer.get(at..at + 4).ok_or("a short answer")?.try_into()?))
    };
    let i64_at = |at: usize| -> Result<i64, Failure> {
        Ok(i64::from_be_bytes(answer.get(at..at + 8).ok_or("a short answer")?.try_into()?))
    };
    // correlation, throttle, topics, name; then per partition: index, error, high watermark, stable offset, aborted, records
    let mut at = 4 + 4 + 4 + 2 + topic.len();
    let partitions = i32_at(at)?;
    at += 4;
    let mut seen = 0;
    for _ in 0..partitions {
        let index = i32_at(at)? as usize;
        let error = i16::from_be_bytes(answer.get(at + 4..at + 6).ok_or("a short answer")?.try_into()?);
        if error != 0 {
            return Err(format!("partition {index} cannot be read: error {error}").into());
        }
        at += 4 + 2 + 8 + 8;
        at += 4 + i32_at(at)?.max(0) as usize * 16;
        let end = at + 4 + i32_at(at)?.max(0) as usize;
        at += 4;
        while at + 61 <= end {
            let len = i32_at(at + 8)? as usize + 12;
            if at + len > end {
                break;
            }
            let next = i64_at(at)? + i64::from(i32_at(at + 23)?) + 1;
            let position = positions.get_mut(index).ok_or("a partition that was not asked for")?;
            if next > *position {
                *position = next;
                seen += i32_at(at + 57)? as u64;
            }
            at += len;
        }
        at = end;
    }
    Ok(seen)
}
