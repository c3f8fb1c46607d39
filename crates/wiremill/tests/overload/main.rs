//! The built binary with more than the machine takes, by clients that behave badly or ask for more than there is: AMQP's and
//! SQS's, every byte over a socket, with clients of our own. Kafka's lies with its other tests. Together in one program,
//! because the long ones mostly wait and are run side by side.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::expect_used)] // Sockets, clocks, processes.

use std::time::Duration;

#[allow(dead_code, reason = "shared with the tests of the binary, which use more of it")]
#[path = "../binary/process.rs"]
mod process;

#[allow(dead_code, reason = "shared with the tests of SQS, which use more of it")]
#[path = "../sqs/client.rs"]
mod node;

mod amqp;
mod client;
mod sqs;

/// A broker with little memory, and room for what connections cost by themselves.
const BUDGET: &str = "64MiB";
const RESIDENT_MAX: u64 = 320 << 20;

/// One whose syncs take long, so that a few publishers have many times more than goes through.
const SLOW: [&str; 6] =
    ["--memory-budget-len", BUDGET, "--test-sync-delay-ms", "200", "--free-space-min-len", "0"];
/// The same, for reading what it has.
const QUICK: [&str; 2] = ["--memory-budget-len", BUDGET];

/// How long more is sent than the disk takes; a full run of everything (`cargo xtask test`) says a minute.
fn storm() -> Duration {
    let asked = std::env::var("WIREMILL_TEST_OVERLOAD_S").ok();
    asked.map_or(Duration::from_secs(3), |seconds| {
        Duration::from_secs(seconds.parse().expect("whole seconds"))
    })
}

/// Bytes that the process holds in memory.
fn resident_len(node: &node::Node) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.server.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1_024
}
