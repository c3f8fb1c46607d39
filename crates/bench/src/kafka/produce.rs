//! As fast as the window allows.

use std::{
    collections::VecDeque,
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
    /// Records of each batch.
    #[arg(long, default_value_t = 100)]
    pub batch_records: usize,
    /// Requests that wait for their answer at a time, on each connection.
    #[arg(long, default_value_t = 5)]
    pub window: usize,
    /// Connections; each sends to its own share of the partitions.
    #[arg(long, default_value_t = 2)]
    pub connections: usize,
    /// Partitions in one request.
    #[arg(long, default_value_t = 8)]
    pub request_partitions: usize,
    /// How long, seconds.
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,
    /// How batches are packed; packed ones hold values that come to about half.
    #[arg(long, value_enum, default_value_t = Packing::None)]
    pub compression: Packing,
}

/// Ways to pack a batch.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    None,
    Lz4,
    Zstd,
}

pub(crate) struct Report {
    pub records_per_s: f64,
    pub mb_per_s: f64,
    pub cpu_s_per_million: f64,
    pub cpu_s_per_gb: f64,
    pub peak_mib: f64,
    pub p50_us: u32,
    pub p99_us: u32,
    pub p999_us: u32,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>11.0} records/s {:>8.1} MB/s   CPU {:>7.3} s/M records {:>7.3} s/GB   peak {:>6.0} MiB   \
             acknowledged p50 {} p99 {} p99.9 {} us",
            self.records_per_s,
            self.mb_per_s,
            self.cpu_s_per_million,
            self.cpu_s_per_gb,
            self.peak_mib,
            self.p50_us,
            self.p99_us,
            self.p999_us
        )
    }
}

struct Share {
    requests: u64,
    latencies: Histogram,
}

pub(crate) fn run(args: &Args) -> Result<Report, Failure> {
    args.target.create_topic()?;
    let before = Usage::of(args.target.pid)?;
    let begin = Instant::now();
    let until = begin + Duration::from_secs(args.seconds);
    let workers: Vec<_> = (0..args.connections)
        .map(|index| {
            let args = args.clone();
            thread::spawn(move || connection(&args, index, until))
        })
        .collect();
    let mut requests = 0;
    let mut latencies = Histogram::default();
    for worker in workers {
        let share = worker.join().map_err(|_| "a connection's thread panicked")??;
        requests += share.requests;
        latencies.absorb(share.latencies);
    }
    let elapsed_s = begin.elapsed().as_secs_f64();
    let after = Usage::of(args.target.pid)?;
    let partitions = args.request_partitions.min(args.target.partitions as usize);
    let records = (requests as usize * partitions * args.batch_records) as f64;
    let bytes = records * args.record_len as f64;
    let cpu_s = after.cpu_s - before.cpu_s;
    Ok(Report {
        records_per_s: records / elapsed_s,
        mb_per_s: bytes / elapsed_s / 1e6,
        cpu_s_per_million: cpu_s / (records / 1e6),
        cpu_s_per_gb: cpu_s / (bytes / 1e9),
        peak_mib: after.peak_mib,
        p50_us: latencies.quantile(0.5),
        p99_us: latencies.quantile(0.99),
        p999_us: latencies.quantile(0.999),
    })
}

fn connection(args: &Args, index: usize, until: Instant) -> Result<Share, Failure> {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64;
    let seed = index as u64 + 1;
    let batch = match args.compression {
        Packing::None => encode::batch(args.batch_records, args.record_len, seed, now_ms),
        packing => encode::packed_batch(packing, args.batch_records, args.record_len, seed, now_ms)?,
    };
    let per_request = args.request_partitions.min(args.target.partitions as usize);
    let requests: Vec<Vec<u8>> = (0..args.target.partitions as usize)
        .step_by(per_request.max(1))
        .map(|first| {
            let batches: Vec<(i32, &[u8])> = (first..first + per_request)
                .map(|p| ((p % args.target.partitions as usize) as i32, batch.as_slice()))
                .collect();
            encode::produce(&args.target.topic, &batches, 1)
        })
        .collect();
    let mut stream = args.target.connect()?;
    let mut reading = stream.try_clone()?;
    let (room, freed) = mpsc::channel();
    let topic = args.target.topic.clone();
    let (sent, starts) = mpsc::channel::<Instant>();
    let reader = thread::spawn(move || -> Result<Histogram, Failure> {
        let mut latencies = Histogram::default();
        let mut frame = Vec::new();
        for start in starts {
            read_frame(&mut reading, &mut frame)?;
            if let Some(code) = encode::produce_error(&frame, &topic) {
                return Err(format!("a batch was refused: error {code}").into());
            }
            latencies.record(start.elapsed().as_micros());
            if room.send(()).is_err() {
                break;
            }
        }
        Ok(latencies)
    });
    let mut turn: VecDeque<usize> = (0..requests.len()).collect();
    turn.rotate_left(index % requests.len().max(1));
    let mut free = args.window;
    while Instant::now() < until {
        if free == 0 {
            if freed.recv().is_err() {
                break;
            }
            free = 1;
        }
        free += freed.try_iter().count();
        free -= 1;
        let Some(next) = turn.front().copied() else { break };
        turn.rotate_left(1);
        if sent.send(Instant::now()).is_err() {
            break;
        }
        stream.write_all(&requests[next])?;
    }
    drop(sent);
    let latencies = reader.join().map_err(|_| "a reader panicked")??;
    Ok(Share { requests: latencies.count() as u64, latencies })
}
