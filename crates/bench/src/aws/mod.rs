//! An SQS client as small as can be: requests encoded once, answers read for their status and what is asked of them.

pub(crate) mod backlog;
pub(crate) mod compare;
pub(crate) mod drain;
pub(crate) mod latency;
pub(crate) mod send;
pub(crate) mod storm;

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use clap::Args;

use crate::Failure;

/// Which server, which queue.
#[derive(Args, Clone, Debug)]
pub(crate) struct Target {
    /// Address of the server.
    #[arg(long, default_value = "127.0.0.1:4566")]
    pub addr: String,
    /// Queue; made when it is not there.
    #[arg(long, default_value = "bench")]
    pub queue: String,
    /// Account of the access key.
    #[arg(long, default_value = "000000000000")]
    pub account: String,
    /// Process id of the server, for its CPU and memory.
    #[arg(long)]
    pub pid: Option<u32>,
}

impl Target {
    /// Makes the queue, a FIFO queue if its name says so, and answers its URL.
    pub(crate) fn create_queue(&self) -> Result<String, Failure> {
        let mut connection = Connection::open(&self.addr)?;
        let attributes = match self.queue.ends_with(".fifo") {
            true => ", \"Attributes\": {\"FifoQueue\": \"true\"}",
            false => "",
        };
        let body = format!("{{\"QueueName\": \"{}\"{attributes}}}", self.queue);
        let answer = connection.call(&self.request("CreateQueue", &body))?;
        let url = texts(answer, "QueueUrl").next().ok_or("no queue URL in the answer")?;
        Ok(url.to_owned())
    }

    /// A whole request, ready to be sent again and again. The signature is as wide as a real one and is checked by nobody.
    pub(crate) fn request(&self, operation: &str, body: &str) -> Vec<u8> {
        let Target { addr, account, .. } = self;
        format!(
            "POST / HTTP/1.1\r\nHost: {addr}\r\nAccept-Encoding: identity\r\nX-Amz-Target: AmazonSQS.{operation}\r\n\
             Content-Type: application/x-amz-json-1.0\r\nx-amzn-query-mode: true\r\nUser-Agent: bench\r\n\
             X-Amz-Date: 20150830T123600Z\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential={account}/20150830/us-east-1/sqs/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date;x-amz-target;x-amzn-query-mode, \
             Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }

    /// The request that deletes what an answer to a receive has; `None` when it has nothing.
    pub(crate) fn deletion(&self, url: &str, answer: &str) -> Option<(Vec<u8>, usize)> {
        let entries: Vec<String> = texts(answer, "ReceiptHandle")
            .enumerate()
            .map(|(id, handle)| format!("{{\"Id\": \"{id}\", \"ReceiptHandle\": \"{handle}\"}}"))
            .collect();
        if entries.is_empty() {
            return None;
        }
        let json = format!("{{\"QueueUrl\": \"{url}\", \"Entries\": [{}]}}", entries.join(", "));
        Some((self.request("DeleteMessageBatch", &json), entries.len()))
    }
}

/// A body of `len` bytes that begins with `head`.
pub(crate) fn message(head: &str, len: usize) -> String {
    let mut body = head.to_owned();
    body.extend(('a'..='z').cycle().take(len.saturating_sub(head.len())));
    body
}

/// Bytes that one read takes at most; most answers come in one.
const READ_LEN: usize = 64 << 10;

/// One connection, with what it has read.
pub(crate) struct Connection {
    addr: String,
    stream: TcpStream,
    /// Filled up to `end`; up to `begin` it was answered before.
    buffer: Vec<u8>,
    begin: usize,
    end: usize,
}

impl Connection {
    pub(crate) fn open(addr: &str) -> Result<Connection, Failure> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        Ok(Connection { addr: addr.to_owned(), stream, buffer: vec![0; READ_LEN], begin: 0, end: 0 })
    }

    pub(crate) fn send(&mut self, request: &[u8]) -> Result<(), Failure> {
        Ok(self.stream.write_all(request)?)
    }

    pub(crate) fn call(&mut self, request: &[u8]) -> Result<&str, Failure> {
        self.send(request)?;
        self.answer()
    }

    /// The body of the next answer; a status other than 200 ends the run.
    pub(crate) fn answer(&mut self) -> Result<&str, Failure> {
        loop {
            let unread = self.buffer.get(self.begin..self.end).unwrap_or_default();
            if let Some(Head { status, whole_len, body_len, closes }) = head(unread)
                && unread.len() >= whole_len
            {
                self.begin += whole_len;
                if closes {
                    // A server that closes after each answer pays for it in the figures.
                    self.stream = TcpStream::connect(&self.addr)?;
                    self.stream.set_nodelay(true)?;
                }
                let body = std::str::from_utf8(&self.buffer[self.begin - body_len..self.begin])?;
                if status != 200 {
                    return Err(format!("status {status}: {body}").into());
                }
                return Ok(body);
            }
            self.read()?;
        }
    }

    fn read(&mut self) -> Result<(), Failure> {
        self.buffer.copy_within(self.begin..self.end, 0);
        (self.begin, self.end) = (0, self.end - self.begin);
        if self.buffer.len() - self.end < READ_LEN / 2 {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        match self.stream.read(&mut self.buffer[self.end..])? {
            0 => Err("the server closed the connection".into()),
            len => {
                self.end += len;
                Ok(())
            }
        }
    }
}

/// What the head of an answer says.
struct Head {
    status: u16,
    /// Bytes of the whole answer.
    whole_len: usize,
    body_len: usize,
    closes: bool,
}

/// The head, once it is there.
fn head(bytes: &[u8]) -> Option<Head> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let status = head.get(9..12)?.parse().ok()?;
    let mut found = Head { status, whole_len: end + 4, body_len: 0, closes: false };
    for line in head.split("\r\n").skip(1) {
        let Some((name, value)) = line.split_once(':') else { continue };
        if name.eq_ignore_ascii_case("content-length") {
            found.body_len = value.trim().parse().ok()?;
            found.whole_len += found.body_len;
        } else if name.eq_ignore_ascii_case("connection") {
            found.closes = value.trim().eq_ignore_ascii_case("close");
        }
    }
    Some(found)
}

/// The texts under `name` in a JSON answer, as they are written there.
pub(crate) fn texts<'a>(answer: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let mark = format!("\"{name}\":");
    let mut rest = answer;
    std::iter::from_fn(move || {
        let from = rest.find(&mark)? + mark.len();
        let value = rest[from..].trim_start().strip_prefix('"')?;
        let end = value.find('"')?;
        rest = &value[end..];
        Some(&value[..end])
    })
}
