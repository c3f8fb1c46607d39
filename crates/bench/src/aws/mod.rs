//! An SQS client as small as can be: requests encoded once, answers read for their status and what is asked of them.

pub(crate) mod compare;
pub(crate) mod drain;
pub(crate) mod latency;
pub(crate) mod send;

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
    /// Process id of the server, for its CPU and memory.
    #[arg(long)]
    pub pid: Option<u32>,
}

impl Target {
    /// Makes the queue and answers its URL.
    pub(crate) fn create_queue(&self) -> Result<String, Failure> {
        let mut connection = Connection::open(&self.addr)?;
        let body = format!("{{\"QueueName\":\"{}\"}}", self.queue);
        let answer = connection.call(&request(&self.addr, "CreateQueue", &body))?;
        let url = texts(&answer, "QueueUrl").next().ok_or("no queue URL in the answer")?;
        Ok(url.to_owned())
    }
}

/// A whole request, ready to be sent again and again. The signature is as wide as a real one and is checked by nobody.
pub(crate) fn request(addr: &str, operation: &str, body: &str) -> Vec<u8> {
    format!(
        "POST / HTTP/1.1\r\nHost: {addr}\r\nAccept-Encoding: identity\r\nX-Amz-Target: AmazonSQS.{operation}\r\n\
         Content-Type: application/x-amz-json-1.0\r\nx-amzn-query-mode: true\r\nUser-Agent: bench\r\n\
         X-Amz-Date: 20150830T123600Z\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential=test/20150830/us-east-1/sqs/aws4_request, \
         SignedHeaders=content-type;host;x-amz-date;x-amz-target;x-amzn-query-mode, \
         Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A body of `len` bytes that begins with `head`.
pub(crate) fn message(head: &str, len: usize) -> String {
    let mut body = head.to_owned();
    body.extend(('a'..='z').cycle().take(len.saturating_sub(head.len())));
    body
}

/// One connection, with what of the next answer it has read already.
pub(crate) struct Connection {
    addr: String,
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) fn open(addr: &str) -> Result<Connection, Failure> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        Ok(Connection { addr: addr.to_owned(), stream, buffer: Vec::new() })
    }

    pub(crate) fn send(&mut self, request: &[u8]) -> Result<(), Failure> {
        Ok(self.stream.write_all(request)?)
    }

    pub(crate) fn call(&mut self, request: &[u8]) -> Result<String, Failure> {
        self.send(request)?;
        self.answer()
    }

    /// The body of the next answer; a status other than 200 ends the run.
    pub(crate) fn answer(&mut self) -> Result<String, Failure> {
        loop {
            if let Some(Head { status, whole_len, body_len, closes }) = head(&self.buffer)
                && self.buffer.len() >= whole_len
            {
                let body =
                    String::from_utf8_lossy(&self.buffer[whole_len - body_len..whole_len]).into_owned();
                self.buffer.drain(..whole_len);
                if closes {
                    // A server that closes after each answer pays for it in the figures.
                    let addr = std::mem::take(&mut self.addr);
                    *self = Connection::open(&addr)?;
                }
                if status != 200 {
                    return Err(format!("status {status}: {body}").into());
                }
                return Ok(body);
            }
            let mut piece = [0; 64 << 10];
            match self.stream.read(&mut piece)? {
                0 => return Err("the server closed the connection".into()),
                len => self.buffer.extend_from_slice(&piece[..len]),
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
    let field = |wanted: &str| {
        head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case(wanted).then(|| value.trim())
        })
    };
    let body_len = field("content-length").and_then(|len| len.parse().ok()).unwrap_or(0);
    let closes = field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    Some(Head { status, whole_len: end + 4 + body_len, body_len, closes })
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
