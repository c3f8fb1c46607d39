//! The disk: how long a sync really takes, and how much room there is.

use std::{
    io::IoSlice,
    path::Path,
    time::{Duration, Instant},
};

use env::{Env, Open};

use super::{Finding, Verdict, existing, finding};

/// Syncs that are measured at most.
const SYNCS: usize = 500;
/// And how long at most.
const LIMIT: Duration = Duration::from_secs(3);
/// What the log writes at least per commit.
const WRITE_LEN: usize = 4096;
/// Below this, a lone durable publish is no longer what one expects of a server.
const SLOW: Duration = Duration::from_millis(20);
/// A sync that is this fast has asked nothing but memory.
const UNBELIEVABLE: Duration = Duration::from_micros(5);
/// Measures where the data directory is or would be. `free_space_min_len` is the setting.
pub fn examine(data_dir: &Path, free_space_min_len: u64) -> Vec<Finding> {
    let env = env::real();
    let folder = existing(data_dir);
    let shown = data_dir.display();
    let mut all = vec![match env.files.free_bytes(folder) {
        Ok(free) if free < free_space_min_len => {
            let text =
                format!("{} MiB for {shown}: below free_space_min_len, publishes are refused", free >> 20);
            finding(Verdict::Bad, "free space", text)
        }
        Ok(free) => finding(Verdict::Good, "free space", format!("{} MiB for {shown}", free >> 20)),
        Err(e) => finding(Verdict::Bad, "free space", e.to_string()),
    }];
    all.push(match sync_latencies(&env, folder) {
        Err(e) => finding(Verdict::Bad, "sync", format!("{} cannot be written: {e}", folder.display())),
        Ok(sorted) => judge(&sorted),
    });
    all
}

fn judge(sorted: &[Duration]) -> Finding {
    let (half, most) = (percentile(sorted, 50), percentile(sorted, 99));
    let figures = format!("p50 {half:.1?}, p99 {most:.1?} over {} syncs of {WRITE_LEN} bytes", sorted.len());
    if half < UNBELIEVABLE {
        let text =
            format!("{figures}: too fast for any disk; a power cut may take back what was acknowledged");
        return finding(Verdict::Beware, "sync", text);
    }
    if half > SLOW {
        return finding(
            Verdict::Beware,
            "sync",
            format!("{figures}: every lone durable publish waits that long"),
        );
    }
    finding(Verdict::Good, "sync", figures)
}

/// What write and sync take together, sorted; on a file that is allocated, like the log's.
fn sync_latencies(env: &Env, folder: &Path) -> std::io::Result<Vec<Duration>> {
    let path = folder.join(format!(".wiremill-doctor-{:016x}", env.random.u64()));
    let file = env.files.open(&path, Open::Create)?;
    let measured = (|| {
        file.write_all_at(&[IoSlice::new(&vec![0; SYNCS * WRITE_LEN])], 0)?;
        file.sync()?;
        let block = [0x5a; WRITE_LEN];
        let began = Instant::now();
        let mut all = Vec::with_capacity(SYNCS);
        while all.len() < SYNCS && began.elapsed() < LIMIT {
            let one = Instant::now();
            file.write_all_at(&[IoSlice::new(&block)], (all.len() * WRITE_LEN) as u64)?;
            file.sync()?;
            all.push(one.elapsed());
        }
        all.sort_unstable();
        Ok(all)
    })();
    env.files.remove(&path)?;
    measured
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_taken_from_sorted_figures() {
        let sorted: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(percentile(&sorted, 50), Duration::from_millis(51));
        assert_eq!(percentile(&sorted, 99), Duration::from_millis(100));
        assert_eq!(percentile(&[], 50), Duration::ZERO);
    }

    #[test]
    fn a_folder_that_is_writable_is_measured_and_left_clean() {
        let folder = std::env::temp_dir().join(format!("wiremill-doctor-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let figures = sync_latencies(&env::real(), &folder).unwrap();
        assert!(!figures.is_empty() && figures.is_sorted());
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
        std::fs::remove_dir(&folder).unwrap();
    }
}
