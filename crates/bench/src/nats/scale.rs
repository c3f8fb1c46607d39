//! Streams of many subjects, streams of which most is deleted, streams of many consumers. Each part is bounded in time and
//! says how far it came.

use std::{
    io::Write,
    net::TcpStream,
    time::{Duration, Instant},
};

use super::{Target, ask, lines::Lines, settle};
use crate::{Failure, histogram::Histogram, process::Usage};

const STREAM: &str = "SCALE";

/// Messages on their way to be acknowledged.
const WINDOW: u64 = 2_000;

/// Requests whose latency is measured at a time.
const ASKED: u64 = 1_000;

/// What came of one part.
pub(crate) struct Report {
    /// Messages stored, or consumers made.
    pub count: u64,
    pub per_s: f64,
    /// p50 and p99 of a request of the API, microseconds: at the beginning, and with all of it there.
    pub before_us: [u32; 2],
    pub after_us: [u32; 2],
    pub rss_mib: f64,
}

/// Makes the stream anew.
fn make(stream: &mut TcpStream, more: &str) -> Result<(), Failure> {
    // One that is not there cannot be deleted.
    let _not_there = ask(stream, &format!("$JS.API.STREAM.DELETE.{STREAM}"), "");
    let config = format!(r#"{{"name":"{STREAM}","subjects":["scale.>"],"storage":"file"{more}}}"#);
    ask(stream, &format!("$JS.API.STREAM.CREATE.{STREAM}"), &config).map(drop)
}

/// Publishes `count` messages of 128 B, each to `subject` of its number, for so long at the most. How many, and how fast.
fn fill(
    stream: &mut TcpStream,
    count: u64,
    limit: Duration,
    subject: impl Fn(u64) -> String,
) -> Result<(u64, f64), Failure> {
    stream.write_all(b"SUB _INBOX.filled 5\r\n")?;
    settle(stream)?;
    let body = "x".repeat(128);
    let (mut lines, began) = (Lines::default(), Instant::now());
    let (mut sent, mut stored, mut out) = (0, 0, Vec::new());
    while stored < sent || (sent < count && began.elapsed() < limit) {
        let may_send = sent < count && began.elapsed() < limit;
        while may_send && sent < count && sent - stored < WINDOW {
            write!(out, "PUB {} _INBOX.filled 128\r\n{body}\r\n", subject(sent))?;
            sent += 1;
        }
        stream.write_all(&out)?;
        out.clear();
        lines.fill(stream)?;
        while let Some(message) = lines.next()? {
            if !message.body.starts_with(b"{\"stream\"") {
                return Err(
                    format!("a message was refused: {}", String::from_utf8_lossy(message.body)).into()
                );
            }
            stored += 1;
        }
    }
    stream.write_all(b"UNSUB 5\r\n")?;
    settle(stream)?;
    Ok((stored, stored as f64 / began.elapsed().as_secs_f64()))
}

/// p50 and p99 of requests one after another, microseconds.
fn latency(target: &Target, request: impl Fn(u64) -> (String, String)) -> Result<[u32; 2], Failure> {
    let mut stream = target.connect()?;
    stream.write_all(b"SUB _INBOX.timed 6\r\n")?;
    settle(&mut stream)?;
    let (mut lines, mut latencies) = (Lines::default(), Histogram::default());
    for number in 0..ASKED {
        let (subject, body) = request(number);
        let began = Instant::now();
        write!(stream, "PUB {subject} _INBOX.timed {}\r\n{body}\r\n", body.len())?;
        loop {
            lines.fill(&mut stream)?;
            if let Some(message) = lines.next()? {
                if message.body.windows(8).any(|part| part == b"\"error\":") {
                    let why = String::from_utf8_lossy(message.body).into_owned();
                    return Err(format!("{subject} was refused: {why}").into());
                }
                break;
            }
        }
        latencies.record(began.elapsed().as_micros());
    }
    Ok([0.5, 0.99].map(|share| latencies.quantile(share)))
}

/// A stream with a message of each of many subjects: the last message of a subject is asked for.
pub(crate) fn subjects(target: &Target, count: u64, limit: Duration) -> Result<Report, Failure> {
    let mut stream = target.connect()?;
    make(&mut stream, r#","max_msgs_per_subject":1"#)?;
    let subject = |number: u64| format!("scale.{}.{}", number % 1_000, number / 1_000);
    fill(&mut stream, 1_000, limit, subject)?;
    let of = |count: u64| {
        move |number: u64| {
            let body = format!(r#"{{"last_by_subj":"{}"}}"#, subject(number * 7_919 % count));
            (format!("$JS.API.STREAM.MSG.GET.{STREAM}"), body)
        }
    };
    let before_us = latency(target, of(1_000))?;
    let (count, per_s) = fill(&mut stream, count, limit, subject)?;
    let after_us = latency(target, of(count))?;
    let rss_mib = Usage::of(target.pid)?.rss_mib;
    Ok(Report { count, per_s, before_us, after_us, rss_mib })
}

/// A stream nine tenths of whose messages are deleted, all over it: the next message of a subject is asked for, from
/// everywhere.
pub(crate) fn deleted(target: &Target, count: u64, limit: Duration) -> Result<Report, Failure> {
    let mut stream = target.connect()?;
    make(&mut stream, "")?;
    let (count, per_s) = fill(&mut stream, count, limit, |number| format!("scale.{}", number % 10))?;
    let next = move |number: u64| {
        let body = format!(r#"{{"seq":{},"next_by_subj":"scale.0"}}"#, number * 7_919 % (count - 20) + 1);
        (format!("$JS.API.STREAM.MSG.GET.{STREAM}"), body)
    };
    let before_us = latency(target, next)?;
    for number in 1..10 {
        let body = format!(r#"{{"filter":"scale.{number}"}}"#);
        ask(&mut stream, &format!("$JS.API.STREAM.PURGE.{STREAM}"), &body)?;
    }
    let after_us = latency(target, next)?;
    let rss_mib = Usage::of(target.pid)?.rss_mib;
    Ok(Report { count, per_s, before_us, after_us, rss_mib })
}

/// What a stream with so many consumers takes.
pub(crate) struct Crowd {
    pub consumers: u64,
    /// How fast the last of them came.
    pub per_s: f64,
    /// p50 and p99, microseconds: of asking for one of them, and of a publish until its acknowledgement.
    pub info_us: [u32; 2],
    pub publish_us: [u32; 2],
    pub rss_mib: f64,
}

/// A stream whose consumers become more: each of `counts`, in one run.
pub(crate) fn consumers(target: &Target, counts: &[u64], limit: Duration) -> Result<Vec<Crowd>, Failure> {
    let mut stream = target.connect()?;
    make(&mut stream, "")?;
    let (mut crowds, mut there) = (Vec::new(), 0);
    for count in counts {
        let (made, per_s) = create(&mut stream, there, *count, limit)?;
        there = made;
        let info = |number: u64| {
            (format!("$JS.API.CONSUMER.INFO.{STREAM}.c{}", number * 7_919 % made), String::new())
        };
        let info_us = latency(target, info)?;
        let publish_us = latency(target, |number| (format!("scale.{}", number % made), "x".repeat(128)))?;
        let rss_mib = Usage::of(target.pid)?.rss_mib;
        crowds.push(Crowd { consumers: made, per_s, info_us, publish_us, rss_mib });
    }
    Ok(crowds)
}

/// Makes consumers from number `from` up to `to`, for so long at the most. How many there are, and how fast they came.
fn create(stream: &mut TcpStream, from: u64, to: u64, limit: Duration) -> Result<(u64, f64), Failure> {
    stream.write_all(b"SUB _INBOX.made 7\r\n")?;
    settle(stream)?;
    let (mut lines, began) = (Lines::default(), Instant::now());
    let (mut sent, mut made, mut out) = (from, from, Vec::new());
    while made < sent || (sent < to && began.elapsed() < limit) {
        let may_send = sent < to && began.elapsed() < limit;
        while may_send && sent < to && sent - made < 100 {
            let body = format!(
                r#"{{"stream_name":"{STREAM}","config":{{"durable_name":"c{sent}","ack_policy":"explicit","filter_subject":"scale.{sent}"}}}}"#
            );
            let subject = format!("$JS.API.CONSUMER.CREATE.{STREAM}.c{sent}.scale.{sent}");
            write!(out, "PUB {subject} _INBOX.made {}\r\n{body}\r\n", body.len())?;
            sent += 1;
        }
        stream.write_all(&out)?;
        out.clear();
        lines.fill(stream)?;
        while let Some(message) = lines.next()? {
            if message.body.windows(8).any(|part| part == b"\"error\":") {
                return Err(format!("no consumer: {}", String::from_utf8_lossy(message.body)).into());
            }
            made += 1;
        }
    }
    stream.write_all(b"UNSUB 7\r\n")?;
    settle(stream)?;
    Ok((made, (made - from) as f64 / began.elapsed().as_secs_f64()))
}
