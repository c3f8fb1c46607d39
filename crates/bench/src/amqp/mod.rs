//! An AMQP 0-9-1 client as small as can be: frames encoded once, deliveries counted more than read.

pub(crate) mod backlog;
pub(crate) mod bindings;
pub(crate) mod compare;
pub(crate) mod confirm;
pub(crate) mod flow;
mod frames;
pub(crate) mod idle;
pub(crate) mod latency;
pub(crate) mod original;
pub(crate) mod tool;

use std::{io::Write, net::TcpStream, time::Duration};

use self::frames::{Frames, Method, short};
use crate::Failure;

/// How long an answer may take before the run is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which server.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub addr: String,
    /// Process id of the server, for its CPU and memory.
    pub pid: u32,
}

/// A connection with channel 1 open.
pub(crate) struct Client {
    pub stream: TcpStream,
    pub frames: Frames,
}

/// Class and method of what is waited for.
type Id = (u16, u16);

const DECLARE_OK: Id = (50, 11);
const BIND_OK: Id = (50, 21);
const DELETE_OK: Id = (50, 41);
const PURGE_OK: Id = (50, 31);
const CONSUME_OK: Id = (60, 21);
const QOS_OK: Id = (60, 11);
const CONFIRM_OK: Id = (85, 11);
const EXCHANGE_OK: Id = (40, 11);
const EXCHANGE_DELETE_OK: Id = (40, 21);

impl Target {
    pub(crate) fn connect(&self) -> Result<Client, Failure> {
        let stream = TcpStream::connect(&self.addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut client = Client { stream, frames: Frames::default() };
        client.stream.write_all(b"AMQP\x00\x00\x09\x01")?;
        client.until((10, 10))?;
        let mut start_ok = Method::new(0, (10, 11));
        start_ok.long(b"").short("PLAIN").long(b"\0guest\0guest").short("en_US");
        client.stream.write_all(&start_ok.frame())?;
        client.until((10, 30))?;
        let mut tune_ok = Method::new(0, (10, 31));
        tune_ok.raw(&2_047_u16.to_be_bytes()).raw(&131_072_u32.to_be_bytes()).raw(&[0, 0]);
        client.stream.write_all(&tune_ok.frame())?;
        let mut open = Method::new(0, (10, 40));
        open.short("/").short("").raw(&[0]);
        client.call(&open.frame(), (10, 41))?;
        let mut channel = Method::new(1, (20, 10));
        channel.short("");
        client.call(&channel.frame(), (20, 11))?;
        Ok(client)
    }
}

impl Client {
    /// Reads until that method comes; everything else is passed over, but for what ends channel or connection.
    pub(crate) fn until(&mut self, wanted: Id) -> Result<(), Failure> {
        loop {
            while let Some(frame) = self.frames.next()? {
                if frame.is_method(wanted) {
                    return Ok(());
                }
            }
            self.frames.fill(&mut self.stream)?;
        }
    }

    pub(crate) fn call(&mut self, frame: &[u8], wanted: Id) -> Result<(), Failure> {
        self.stream.write_all(frame)?;
        self.until(wanted)
    }

    /// Makes a queue anew.
    pub(crate) fn fresh_queue(&mut self, name: &str, is_durable: bool) -> Result<(), Failure> {
        self.delete_queue(name)?;
        self.call(&declare(name, is_durable), DECLARE_OK)
    }

    pub(crate) fn delete_queue(&mut self, name: &str) -> Result<(), Failure> {
        let mut delete = Method::new(1, (50, 40));
        delete.raw(&[0, 0]).short(name).raw(&[0]);
        self.call(&delete.frame(), DELETE_OK)
    }

    /// Takes everything out of a queue.
    pub(crate) fn purge_queue(&mut self, name: &str) -> Result<(), Failure> {
        let mut purge = Method::new(1, (50, 30));
        purge.raw(&[0, 0]).short(name).raw(&[0]);
        self.call(&purge.frame(), PURGE_OK)
    }

    /// Makes an exchange anew.
    pub(crate) fn fresh_exchange(&mut self, name: &str, kind: &str) -> Result<(), Failure> {
        self.delete_exchange(name)?;
        let mut declare = Method::new(1, (40, 10));
        declare.raw(&[0, 0]).short(name).short(kind).raw(&[2]).long(b"");
        self.call(&declare.frame(), EXCHANGE_OK)
    }

    pub(crate) fn delete_exchange(&mut self, name: &str) -> Result<(), Failure> {
        let mut delete = Method::new(1, (40, 20));
        delete.raw(&[0, 0]).short(name).raw(&[0]);
        self.call(&delete.frame(), EXCHANGE_DELETE_OK)
    }

    pub(crate) fn bind(&mut self, queue: &str, exchange: &str, key: &str) -> Result<(), Failure> {
        self.call(&bind(queue, exchange, key), BIND_OK)
    }

    pub(crate) fn confirm(&mut self) -> Result<(), Failure> {
        let mut select = Method::new(1, (85, 10));
        select.raw(&[0]);
        self.call(&select.frame(), CONFIRM_OK)
    }

    /// Consumes as `c`, without acknowledgements unless a prefetch says how many may be out.
    pub(crate) fn consume(&mut self, queue: &str, prefetch: Option<u16>) -> Result<(), Failure> {
        if let Some(prefetch) = prefetch {
            let mut qos = Method::new(1, (60, 10));
            qos.raw(&[0; 4]).raw(&prefetch.to_be_bytes()).raw(&[0]);
            self.call(&qos.frame(), QOS_OK)?;
        }
        let mut consume = Method::new(1, (60, 20));
        let flags = if prefetch.is_some() { 0 } else { 2 };
        consume.raw(&[0, 0]).short(queue).short("c").raw(&[flags]).long(b"");
        self.call(&consume.frame(), CONSUME_OK)
    }

    /// Has everything that was sent before handled.
    pub(crate) fn settle(&mut self) -> Result<(), Failure> {
        let mut qos = Method::new(1, (60, 10));
        qos.raw(&[0; 7]);
        self.call(&qos.frame(), QOS_OK)
    }
}

fn declare(name: &str, is_durable: bool) -> Vec<u8> {
    let mut declare = Method::new(1, (50, 10));
    declare.raw(&[0, 0]).short(name).raw(&[u8::from(is_durable) << 1]).long(b"");
    declare.frame()
}

fn bind(queue: &str, exchange: &str, key: &str) -> Vec<u8> {
    let mut bind = Method::new(1, (50, 20));
    bind.raw(&[0, 0]).short(queue).short(exchange).short(key).raw(&[0]).long(b"");
    bind.frame()
}

/// A message as it is published: three frames.
fn publish(exchange: &str, key: &str, body: &[u8], is_persistent: bool) -> Vec<u8> {
    let mut publish = Method::new(1, (60, 40));
    publish.raw(&[0, 0]).short(exchange).short(key).raw(&[0]);
    let mut all = publish.frame();
    all.extend(frames::content(body, is_persistent));
    all
}

/// Bytes of one delivery to the consumer `c`.
fn delivery_len(exchange: &str, key: &str, body: &[u8], is_persistent: bool) -> usize {
    let method = 8 + 4 + short("c").len() + 9 + short(exchange).len() + short(key).len();
    method + frames::content(body, is_persistent).len()
}
