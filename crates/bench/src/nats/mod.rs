//! A NATS client as small as can be: commands encoded once, messages counted more than read.

pub(crate) mod compare;
mod consume;
mod fan;
mod lines;
mod ordered;
mod request;
mod restart;
mod scale;
mod store;

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use crate::Failure;

/// How long an answer may take before the run is given up.
const PATIENCE: Duration = Duration::from_secs(20);

const PONG: &[u8] = b"PONG\r\n";

/// Which server.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub addr: String,
    /// Process id of the server, for its CPU and memory.
    pub pid: Option<u32>,
}

impl Target {
    /// A connection that is welcome: what is sent on it next is obeyed.
    pub(crate) fn connect(&self) -> Result<TcpStream, Failure> {
        let mut stream = TcpStream::connect(&self.addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let hello = r#"CONNECT {"verbose":false,"pedantic":false,"lang":"bench","version":"0","headers":true,"no_responders":true}"#;
        write!(stream, "{hello}\r\n")?;
        settle(&mut stream)?;
        Ok(stream)
    }
}

/// Waits until the server has handled everything that was sent so far. Nothing else may be on its way.
fn settle(stream: &mut TcpStream) -> Result<(), Failure> {
    stream.write_all(b"PING\r\n")?;
    let mut seen = Vec::new();
    let mut part = [0; 4096];
    // The server's own PING may come right behind.
    while !seen.windows(PONG.len()).any(|part| part == PONG) {
        let len = stream.read(&mut part)?;
        if len == 0 {
            return Err(format!("the server hung up: {}", String::from_utf8_lossy(&seen)).into());
        }
        seen.extend_from_slice(&part[..len]);
    }
    Ok(())
}

/// A request to the JetStream API whose answer is no error.
fn ask(stream: &mut TcpStream, subject: &str, body: &str) -> Result<String, Failure> {
    let inbox = "_INBOX.ask";
    write!(stream, "SUB {inbox} 90\r\nUNSUB 90 1\r\nPUB {subject} {inbox} {}\r\n{body}\r\n", body.len())?;
    let mut lines = lines::Lines::default();
    loop {
        lines.fill(stream)?;
        if let Some(message) = lines.next()? {
            let answer = String::from_utf8_lossy(message.body).into_owned();
            if answer.contains("\"error\"") || message.is_status {
                return Err(format!("{subject} was refused: {answer}").into());
            }
            return Ok(answer);
        }
    }
}
