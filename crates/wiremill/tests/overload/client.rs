//! A client as small as can be: frames out, frames in.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::Duration,
};

const END: u8 = 0xce;

/// Class and method.
pub type Id = (u16, u16);

pub const ACK: Id = (60, 80);
pub const DELIVER: Id = (60, 60);
pub const BLOCKED: Id = (10, 60);

/// A frame that came.
pub struct Frame {
    pub kind: u8,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn id(&self) -> Option<Id> {
        let four: &[u8; 4] = self.payload.first_chunk().filter(|_| self.kind == 1)?;
        Some((u16::from_be_bytes([four[0], four[1]]), u16::from_be_bytes([four[2], four[3]])))
    }

    /// Of a confirm: its number, and whether it is of all up to it.
    pub fn confirm(&self) -> (u64, bool) {
        let tag: [u8; 8] = self.payload[4..12].try_into().unwrap();
        (u64::from_be_bytes(tag), self.payload[12] & 1 != 0)
    }

    /// Of a delivery: its tag.
    pub fn delivery_tag(&self) -> u64 {
        let at = 5 + usize::from(self.payload[4]);
        u64::from_be_bytes(self.payload[at..at + 8].try_into().unwrap())
    }
}

/// A connection with channel 1 open.
pub struct Client {
    pub stream: TcpStream,
    seen: Vec<u8>,
}

fn short(text: &str) -> Vec<u8> {
    let mut out = vec![text.len() as u8];
    out.extend_from_slice(text.as_bytes());
    out
}

pub fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend_from_slice(&channel.to_be_bytes());
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    out.extend_from_slice(payload);
    out.push(END);
    out
}

/// A method of channel 1, or of the connection.
pub fn method((class, number): Id, arguments: &[&[u8]]) -> Vec<u8> {
    let mut payload = class.to_be_bytes().to_vec();
    payload.extend_from_slice(&number.to_be_bytes());
    payload.extend(arguments.concat());
    frame(1, u16::from(class != 10), &payload)
}

/// Method and header of a persistent message of so many bytes.
pub fn begin(key: &str, len: usize) -> Vec<u8> {
    let mut out = method((60, 40), &[&[0, 0], &short(""), &short(key), &[0]]);
    let mut header = vec![0, 60, 0, 0];
    header.extend_from_slice(&(len as u64).to_be_bytes());
    header.extend_from_slice(&[0x10, 0, 2]);
    out.extend(frame(2, 1, &header));
    out
}

/// A whole persistent message.
pub fn message(key: &str, body: &[u8]) -> Vec<u8> {
    let mut out = begin(key, body.len());
    body.chunks(100_000).for_each(|piece| out.extend(frame(3, 1, piece)));
    out
}

impl Client {
    pub fn connect(address: &str) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut client = Client { stream, seen: Vec::new() };
        client.send(b"AMQP\x00\x00\x09\x01");
        client.until((10, 10));
        let capabilities = [&short("connection.blocked")[..], b"t\x01"].concat();
        let mut properties = [&short("capabilities")[..], b"F"].concat();
        properties.extend_from_slice(&(capabilities.len() as u32).to_be_bytes());
        properties.extend(capabilities);
        let len = (properties.len() as u32).to_be_bytes();
        let login = b"\x00\x00\x00\x0c\x00guest\x00guest";
        client.send(&method((10, 11), &[&len, &properties, &short("PLAIN"), login, &short("en_US")]));
        client.until((10, 30));
        client.send(&method((10, 31), &[&2_047_u16.to_be_bytes(), &131_072_u32.to_be_bytes(), &[0, 0]]));
        client.send(&method((10, 40), &[&short("/"), &short(""), &[0]]));
        client.until((10, 41));
        client.send(&method((20, 10), &[&short("")]));
        client.until((20, 11));
        client
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next frame that is no heartbeat.
    pub fn next(&mut self) -> io::Result<Frame> {
        loop {
            if let Some(head) = self.seen.first_chunk::<7>() {
                let len = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
                if self.seen.len() >= len + 8 {
                    let frame = Frame { kind: head[0], payload: self.seen[7..7 + len].to_vec() };
                    self.seen.drain(..len + 8);
                    if frame.kind != 8 {
                        return Ok(frame);
                    }
                    continue;
                }
            }
            let mut part = vec![0; 64 << 10];
            match self.stream.read(&mut part)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                len => self.seen.extend_from_slice(&part[..len]),
            }
        }
    }

    pub fn until(&mut self, id: Id) -> Frame {
        loop {
            let frame = self.next().unwrap();
            if frame.id() == Some(id) {
                return frame;
            }
        }
    }

    pub fn declare(&mut self, queue: &str) {
        self.send(&method((50, 10), &[&[0, 0], &short(queue), &[2], &[0; 4]]));
        self.until((50, 11));
    }

    pub fn confirm(&mut self) {
        self.send(&method((85, 10), &[&[0]]));
        self.until((85, 11));
    }

    /// Publishes, and waits for the confirm.
    pub fn put(&mut self, queue: &str, body: &[u8]) {
        self.send(&message(queue, body));
        self.until(ACK);
    }

    pub fn consume(&mut self, queue: &str, prefetch: u16) {
        self.send(&method((60, 10), &[&[0; 4], &prefetch.to_be_bytes(), &[0]]));
        self.until((60, 11));
        self.send(&method((60, 20), &[&[0, 0], &short(queue), &short("c"), &[0], &[0; 4]]));
        self.until((60, 21));
    }

    /// The next delivery: its tag and body.
    pub fn take(&mut self) -> (u64, Vec<u8>) {
        let tag = self.until(DELIVER).delivery_tag();
        let header = self.next().unwrap();
        let len = u64::from_be_bytes(header.payload[4..12].try_into().unwrap()) as usize;
        let mut body = Vec::new();
        while body.len() < len {
            body.extend(self.next().unwrap().payload);
        }
        (tag, body)
    }

    pub fn ack_upto(&mut self, tag: u64) {
        self.send(&method(ACK, &[&tag.to_be_bytes(), &[1]]));
    }
}
