//! What a running process has used, from `/proc`.

use std::fs;

use crate::Failure;

/// CPU and memory of one process.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// User and system time of all its threads, seconds.
    pub cpu_s: f64,
    /// Memory in use now, MiB.
    pub rss_mib: f64,
    /// The most memory it had in use, MiB.
    pub peak_mib: f64,
}

impl Usage {
    /// Of the process `pid`; zeros when no process is asked for.
    pub(crate) fn of(pid: Option<u32>) -> Result<Usage, Failure> {
        let Some(pid) = pid else { return Ok(Usage::default()) };
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The command's name may hold spaces; the fields after it do not. utime and stime are fields 14 and 15.
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks: f64 = after_name
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<f64>().ok())
            .sum();
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let kib = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse::<f64>().ok())
                .unwrap_or(0.0)
        };
        // A clock tick is 1/100 s on every Linux that this runs on (USER_HZ).
        Ok(Usage { cpu_s: ticks / 100.0, rss_mib: kib("VmRSS:") / 1024.0, peak_mib: kib("VmHWM:") / 1024.0 })
    }
}
