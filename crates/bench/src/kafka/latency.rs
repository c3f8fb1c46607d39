//! At a fixed rate: every latency counts from when the request was due, so that a stall is charged to all it delays.

use std::{
    fmt,
    io::Write,
    sync::mpsc,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use clap::Args as ClapArgs;

use super::{Target, encode, read_frame};
use crate::{Failure, histogram::Histogram, process::Usage};

#[derive(ClapArgs, Clone, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    pub target: Target,
    /// Bytes of each record's value.
    #[arg(long, default_value_t = 1024)]
    pub record_len: usize,
    /// Records of each request.
    #[arg(long, default_value_t = 1)]
    pub batch_records: usize,
    /// Requests per second.
    #[arg(long, default_value_t = 2_000)]
    pub rate: u64,
    /// How long, seconds.
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,
    /// Answers later than this are counted, milliseconds.
    #[arg(long, default_value_t = 20)]
    pub deadline_ms: u64,
}

pub(crate) struct Report {
    args: Args,
    missed: u64,
    total: u64,
    /// p50, p99, p99.9, p99.99 and the highest, microseconds.
    pub latencies_us: [u32; 5],
    cpu_s: f64,
    peak_mib: f64,
}

impl Report {
    /// Broker CPU seconds per million records.
    pub(crate) fn cpu_s_per_million(&self) -> f64 {
        self.cpu_s / ((self.total as usize * self.args.batch_records) as f64 / 1e6)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99, p999, p9999, max] = self.latencies_us;
        write!(
            f,
            "{} requests/s of {} x {} B for {} s: p50 {p50} p99 {p99} p99.9 {p999} p99.99 {p9999} max {max} us   \
             later than {} ms: {} of {}   CPU {:.3} s/M records   peak {:.0} MiB",
            self.args.rate,
            self.args.batch_records,
            self.args.record_len,
            self.args.seconds,
            self.args.deadline_ms,
            self.missed,
            self.total,
            self.cpu_s_per_million(),
            self.peak_mib,
        )
    }
}

pub(crate) fn run(args: &Args) -> Result<Report, Failure> {
    args.target.create_topic()?;
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64;
    let batch = encode::batch(args.batch_records, args.record_len, 7, now_ms);
    let requests: Vec<Vec<u8>> = (0..args.target.partitions)
        .map(|partition| encode::produce(&args.target.topic, &[(partition, &batch)], 1))
        .collect();
    let mut stream = args.target.connect()?;
    let mut reading = stream.try_clone()?;
    let topic = args.target.topic.clone();
    let (due, dues) = mpsc::channel::<Instant>();
    let deadline = Duration::from_millis(args.deadline_ms);
    let reader = thread::spawn(move || -> Result<(Histogram, u64), Failure> {
        let (mut latencies, mut missed) = (Histogram::default(), 0);
        let mut frame = Vec::new();
        for due in dues {
            read_frame(&mut reading, &mut frame)?;
            if let Some(code) = encode::produce_error(&frame, &topic) {
                return Err(format!("a batch was refused: error {code}").into());
            }
            let took = due.elapsed();
            missed += u64::from(took > deadline);
            latencies.record(took.as_micros());
        }
        Ok((latencies, missed))
    });
    let before = Usage::of(args.target.pid)?;
    let begin = Instant::now();
    let total = args.rate * args.seconds;
    for n in 0..total {
        let at = begin + Duration::from_nanos(n * 1_000_000_000 / args.rate.max(1));
        let wait = at.saturating_duration_since(Instant::now());
        if wait > Duration::from_micros(60) {
            thread::sleep(wait - Duration::from_micros(50));
        }
        while Instant::now() < at {
            thread::yield_now();
        }
        if due.send(at).is_err() {
            break;
        }
        stream.write_all(&requests[n as usize % requests.len()])?;
    }
    drop(due);
    let (mut latencies, missed) = reader.join().map_err(|_| "the reader panicked")??;
    let after = Usage::of(args.target.pid)?;
    let cpu_s = after.cpu_s - before.cpu_s;
    let latencies_us = [0.5, 0.99, 0.999, 0.9999, 1.0].map(|share| latencies.quantile(share));
    Ok(Report { args: args.clone(), missed, total, latencies_us, cpu_s, peak_mib: after.peak_mib })
}
