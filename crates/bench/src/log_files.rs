//! How a log file is prepared, and what a sync of 4 KiB into it costs then (docs/adr/0005).

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt,
    path::PathBuf,
    time::Instant,
};

use clap::Args as ClapArgs;

use crate::{Failure, histogram::Histogram};

#[derive(ClapArgs, Clone, Debug)]
pub(crate) struct Args {
    /// Folder on the disk that is asked.
    #[arg(long, default_value = "target/bench")]
    dir: PathBuf,
    /// Length of a log file, MiB.
    #[arg(long, default_value_t = 64)]
    file_mib: u64,
    /// Writes of 4 KiB with a sync each, at most as many as fit.
    #[arg(long, default_value_t = 2_000)]
    writes: u64,
    /// Rounds; each tries every way once.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
}

const PAGE_LEN: usize = 4096;

/// Ways to have a file ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Nothing is prepared: every write makes it longer.
    Grown,
    /// Space is reserved, nothing is written.
    Reserved,
    /// Zeros are written and synced.
    Zeroed,
    /// An older log file, full of old frames, is used again.
    Recycled,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    fs::create_dir_all(&args.dir)?;
    let path = args.dir.join(format!("log-file-{}", std::process::id()));
    for round in 1..=args.rounds {
        for way in [Way::Grown, Way::Reserved, Way::Zeroed, Way::Recycled] {
            let outcome = attempt(args, way, &path);
            fs::remove_file(&path)?;
            println!("round {round} {:<9} {}", format!("{way:?}"), outcome?);
        }
    }
    Ok(())
}

fn attempt(args: &Args, way: Way, path: &PathBuf) -> Result<String, Failure> {
    let len = args.file_mib << 20;
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
    if way == Way::Recycled {
        fill(&file, len, 0xa5)?;
        file.sync_all()?;
    }
    let began = Instant::now();
    match way {
        Way::Grown | Way::Recycled => {}
        Way::Reserved => rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, len)?,
        Way::Zeroed => fill(&file, len, 0)?,
    }
    file.sync_all()?;
    let prepared = began.elapsed();
    let mut syncs = Histogram::default();
    let page = [0x5a; PAGE_LEN];
    for n in 0..args.writes.min(len / PAGE_LEN as u64) {
        file.write_all_at(&page, n * PAGE_LEN as u64)?;
        let began = Instant::now();
        file.sync_data()?;
        syncs.record(began.elapsed().as_micros());
    }
    let [p50, p99, p999, max] = [0.5, 0.99, 0.999, 1.0].map(|share| syncs.quantile(share));
    Ok(format!(
        "prepared in {:>7.1} ms   {} syncs: p50 {p50} p99 {p99} p99.9 {p999} max {max} us",
        prepared.as_secs_f64() * 1e3,
        syncs.count()
    ))
}

fn fill(file: &File, len: u64, byte: u8) -> Result<(), Failure> {
    let part = vec![byte; 1 << 20];
    for at in (0..len).step_by(part.len()) {
        file.write_all_at(&part, at)?;
    }
    Ok(())
}
