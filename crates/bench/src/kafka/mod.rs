//! A Kafka client as small as can be: requests encoded once, answers read for their error code alone.

pub(crate) mod deadlines;
pub(crate) mod encode;
pub(crate) mod fetch;
pub(crate) mod latency;
pub(crate) mod produce;

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use clap::Args;

use crate::Failure;

/// How long a new topic's partitions may be without a leader.
const LEADERS_WITHIN: Duration = Duration::from_secs(30);

/// Which broker, which topic.
#[derive(Args, Clone, Debug)]
pub(crate) struct Target {
    /// Address of the broker.
    #[arg(long, default_value = "127.0.0.1:9092")]
    pub addr: String,
    /// Topic; made when it is not there.
    #[arg(long, default_value = "bench")]
    pub topic: String,
    /// Partitions of the topic.
    #[arg(long, default_value_t = 16)]
    pub partitions: i32,
    /// Process id of the broker, for its CPU and memory.
    #[arg(long)]
    pub pid: Option<u32>,
}

impl Target {
    pub(crate) fn connect(&self) -> Result<TcpStream, Failure> {
        let stream = TcpStream::connect(&self.addr)?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Makes the topic; one that is there is fine.
    pub(crate) fn create_topic(&self) -> Result<(), Failure> {
        let answer = call(&mut self.connect()?, &encode::create_topic(&self.topic, self.partitions))?;
        // throttle i32, topics: count i32, name, error i16
        let at = 4 + 4 + 4 + 2 + self.topic.len();
        match i16::from_be_bytes(answer.get(at..at + 2).ok_or("a short answer")?.try_into()?) {
            0 | 36 => self.await_leaders(),
            code => Err(format!("the topic cannot be made: error {code}").into()),
        }
    }
}

impl Target {
    /// Waits until every partition is led: the original answers a creation before that.
    fn await_leaders(&self) -> Result<(), Failure> {
        let mut stream = self.connect()?;
        let began = Instant::now();
        loop {
            let answer = call(&mut stream, &encode::list_ends(&self.topic, self.partitions))?;
            // correlation i32, topics: count i32, name, partitions: count i32, then each: index i32, error i16, two i64
            let parts = answer.get(4 + 4 + 2 + self.topic.len() + 4..).ok_or("a short answer")?;
            let codes = parts.chunks_exact(4 + 2 + 8 + 8).map(|part| i16::from_be_bytes([part[4], part[5]]));
            match codes.max() {
                Some(0) => return Ok(()),
                _ if began.elapsed() < LEADERS_WITHIN => thread::sleep(Duration::from_millis(20)),
                code => return Err(format!("the partitions are not led: error {code:?}").into()),
            }
        }
    }
}

/// Sends a request and reads its answer, correlation id first.
pub(crate) fn call(stream: &mut TcpStream, request: &[u8]) -> Result<Vec<u8>, Failure> {
    stream.write_all(request)?;
    let mut answer = Vec::new();
    read_frame(stream, &mut answer)?;
    Ok(answer)
}

/// Reads one length-prefixed frame into `frame`.
pub(crate) fn read_frame(stream: &mut impl Read, frame: &mut Vec<u8>) -> Result<(), Failure> {
    let mut len = [0; 4];
    stream.read_exact(&mut len)?;
    frame.resize(u32::from_be_bytes(len) as usize, 0);
    stream.read_exact(frame)?;
    Ok(())
}
