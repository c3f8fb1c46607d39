//! How long a server takes to be back that was killed with much stored.

use std::{
    io::Write,
    path::PathBuf,
    time::{Duration, Instant},
};

use super::{Target, ask, lines::Lines, settle};
use crate::{Failure, compare::broker::Running};

const STREAM: &str = "STORED";

/// Bytes of one message: large, so that storing is not what takes the time.
const MESSAGE_LEN: usize = 256 << 10;

/// Messages on their way to be acknowledged.
const WINDOW: u64 = 64;

pub(crate) struct Report {
    pub stored_gib: f64,
    /// From the start of the process until it accepts connections, and until it has said what the stream holds.
    pub accepts_s: f64,
    pub answers_s: f64,
}

/// Stores `gib` for so long at the most, kills the server, and starts it again with `start` on the same directory.
pub(crate) fn run(
    running: Running,
    start: impl FnOnce(PathBuf) -> Result<Running, Failure>,
    gib: u64,
    limit: Duration,
) -> Result<Report, Failure> {
    let stored = store(&running.addr, gib, limit)?;
    let dir = running.kill()?;
    let began = Instant::now();
    let running = start(dir)?;
    let target = Target { addr: running.addr.clone(), pid: None };
    let accepts_s = running.ready_after.as_secs_f64();
    let answer = ask(&mut target.connect()?, &format!("$JS.API.STREAM.INFO.{STREAM}"), "")?;
    let answers_s = began.elapsed().as_secs_f64();
    if !answer.contains(&format!("\"messages\":{stored},")) {
        return Err(format!("{stored} messages were acknowledged, and now: {answer}").into());
    }
    let stored_gib = (stored * MESSAGE_LEN as u64) as f64 / f64::from(1 << 30);
    Ok(Report { stored_gib, accepts_s, answers_s })
}

/// How many messages were stored.
fn store(addr: &str, gib: u64, limit: Duration) -> Result<u64, Failure> {
    let target = Target { addr: addr.to_owned(), pid: None };
    let mut stream = target.connect()?;
    let config = format!(r#"{{"name":"{STREAM}","subjects":["stored"],"storage":"file"}}"#);
    ask(&mut stream, &format!("$JS.API.STREAM.CREATE.{STREAM}"), &config)?;
    stream.write_all(b"SUB _INBOX.stored 8\r\n")?;
    settle(&mut stream)?;
    let command = format!("PUB stored _INBOX.stored {MESSAGE_LEN}\r\n{}\r\n", "x".repeat(MESSAGE_LEN));
    let count = (gib << 30) / MESSAGE_LEN as u64;
    let (mut lines, began) = (Lines::default(), Instant::now());
    let (mut sent, mut stored) = (0, 0);
    while stored < sent || (sent < count && began.elapsed() < limit) {
        let may_send = sent < count && began.elapsed() < limit;
        while may_send && sent < count && sent - stored < WINDOW {
            stream.write_all(command.as_bytes())?;
            sent += 1;
        }
        lines.fill(&mut stream)?;
        while let Some(message) = lines.next()? {
            if !message.body.starts_with(b"{\"stream\"") {
                return Err(
                    format!("a message was refused: {}", String::from_utf8_lossy(message.body)).into()
                );
            }
            stored += 1;
        }
    }
    Ok(stored)
}
