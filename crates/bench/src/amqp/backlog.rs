//! A backlog of messages: filled, left alone while the server is killed, drained.

use std::{
    io::{Read, Write},
    time::{Duration, Instant},
};

use super::{PATIENCE, Target, confirm::Outstanding, declare, delivery_len, frames::ack_upto, publish};
use crate::{Failure, process::Usage};

/// Confirms that are waited for.
const WINDOW: usize = 4_000;
const PREFETCH: u16 = 2_000;

pub(crate) struct Filled {
    pub per_s: f64,
    pub rss_mib: f64,
    /// The most so far.
    pub peak_mib: f64,
}

/// Messages of a backlog.
#[derive(Clone, Copy)]
pub(crate) struct Messages {
    pub len: usize,
    pub is_persistent: bool,
}

pub(crate) struct Drained {
    pub per_s: f64,
    pub cpu_s_per_million: f64,
    pub rss_mib: f64,
}

fn queue(index: usize) -> String {
    format!("bench.backlog.{index:05}")
}

/// Makes so many queues with so many messages each, in turn among the queues.
pub(crate) fn fill(
    target: &Target,
    queues: usize,
    each: usize,
    Messages { len, is_persistent }: Messages,
) -> Result<Filled, Failure> {
    let mut client = target.connect()?;
    for group in (0..queues).collect::<Vec<_>>().chunks(100) {
        let all: Vec<u8> = group.iter().flat_map(|index| declare(&queue(*index), true)).collect();
        client.stream.write_all(&all)?;
        for _ in group {
            client.until(super::DECLARE_OK)?;
        }
    }
    client.confirm()?;
    let body = vec![b'x'; len];
    let publish = |index| publish("", &queue(index), &body, is_persistent);
    let messages: Vec<Vec<u8>> = (0..queues).map(publish).collect();
    let (mut out, began, total) = (Outstanding::default(), Instant::now(), queues * each);
    let (mut sent, mut confirmed, mut bytes) = (0, 0, Vec::new());
    while confirmed < total {
        let free = (WINDOW - out.open()).min(total - sent);
        bytes.clear();
        for number in sent..sent + free {
            bytes.extend_from_slice(&messages[number % queues]);
        }
        sent += free;
        out.sent(free, Instant::now());
        client.stream.write_all(&bytes)?;
        client.frames.fill(&mut client.stream)?;
        while let Some(frame) = client.frames.next()? {
            if frame.is_method((60, 80)) {
                out.confirmed(frame.tag(), frame.is_multiple(), |_| confirmed += 1);
            }
        }
    }
    let per_s = total as f64 / began.elapsed().as_secs_f64();
    let usage = Usage::of(Some(target.pid))?;
    Ok(Filled { per_s, rss_mib: usage.rss_mib, peak_mib: usage.peak_mib })
}

/// Takes everything out of the first of the queues.
pub(crate) fn drain(
    target: &Target,
    count: usize,
    Messages { len, is_persistent }: Messages,
) -> Result<Drained, Failure> {
    let mut client = target.connect()?;
    let body = vec![b'x'; len];
    let len = delivery_len("", &queue(0), &body, is_persistent);
    let (before, began) = (Usage::of(Some(target.pid))?, Instant::now());
    client.consume(&queue(0), Some(PREFETCH))?;
    let (mut bytes, mut part, mut acked) = (client.frames.take().len(), vec![0; 512 << 10], 0);
    client.stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    while bytes / len < count {
        match client.stream.read(&mut part)? {
            0 => return Err("the server cut the consumer off".into()),
            read => bytes += read,
        }
        let received = bytes / len;
        if received - acked >= usize::from(PREFETCH / 4) {
            client.stream.write_all(&ack_upto(received as u64))?;
            acked = received;
        }
        if began.elapsed() > PATIENCE {
            return Err(format!("{received} of {count} messages came in a minute").into());
        }
    }
    client.stream.write_all(&ack_upto(count as u64))?;
    let (took_s, after) = (began.elapsed().as_secs_f64(), Usage::of(Some(target.pid))?);
    Ok(Drained {
        per_s: count as f64 / took_s,
        cpu_s_per_million: (after.cpu_s - before.cpu_s) / (count as f64 / 1e6),
        rss_mib: after.rss_mib,
    })
}
