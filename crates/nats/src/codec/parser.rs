//! Operations out of a byte stream that may be split anywhere.
//!
//! Rules: verbs in any case; arguments separated by blanks and tabs; a line ends with LF, and a CR right before it is
//! not part of it; a payload is followed by exactly CRLF.

use memchr::memchr;

/// A part of the buffer that was parsed, by position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Range {
    start: u32,
    len: u32,
}

impl Range {
    fn new(start: usize, len: usize) -> Self {
        let narrow = |value| u32::try_from(value).unwrap_or(u32::MAX);
        Range { start: narrow(start), len: narrow(len) }
    }

    /// The bytes, out of the buffer that was parsed.
    pub(crate) fn of(self, buffer: &[u8]) -> &[u8] {
        let start = self.start as usize;
        buffer.get(start..start + self.len as usize).unwrap_or_default()
    }

    pub(crate) fn len(self) -> usize {
        self.len as usize
    }

    /// It, and so many bytes behind it.
    pub(crate) fn and(self, len: u32) -> Range {
        Range { len: self.len.saturating_add(len), ..self }
    }
}

/// A PUB or HPUB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Publish {
    pub subject: Range,
    pub reply: Option<Range>,
    /// Length of the header block within `payload`; `None` = PUB.
    pub headers_len: Option<usize>,
    /// Headers and body.
    pub payload: Range,
}

/// One operation of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// With its JSON.
    Connect(Range),
    Publish(Publish),
    Subscribe {
        subject: Range,
        queue: Option<Range>,
        sid: Range,
    },
    Unsubscribe {
        sid: Range,
        /// After so many deliveries over the subscription's life; 0 = now.
        max: u64,
    },
    Ping,
    Pong,
    /// What servers say of themselves, with its JSON: ignored.
    Info(Range),
    /// What servers send: taken and ignored.
    Ignored,
    /// An error that a client tells of, and goes.
    Error,
}

/// Why the stream cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No verb, or a payload without its end: the client is told and closed.
    UnknownOperation,
    /// The arguments are longer than allowed: told and closed.
    ControlLine,
    /// The payload is longer than allowed: told and closed.
    PayloadTooLong,
    /// Arguments that do not read: closed without a text.
    Arguments,
}

/// What one connection may send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of a control line after its verb.
    pub control_line_len_max: usize,
    /// Bytes of headers and body.
    pub payload_len_max: usize,
}

/// Finds operations at the start of a buffer. Keeps how far it looked, so that a byte at a time costs linear work.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    /// No look before so many bytes are there.
    wanted: usize,
    /// No line ends before this position.
    scanned: usize,
}

/// Bytes of the longest verb with the blank behind it.
const VERB_LEN_MAX: usize = 8;

impl Parser {
    /// The operation at the start of `buffer`, and how many bytes it takes; `None` until all of it is there. After an
    /// operation the caller passes what follows it.
    #[inline]
    pub(crate) fn next(&mut self, buffer: &[u8], limits: &Limits) -> Result<Option<(Op, usize)>, Fault> {
        // Nothing was scanned: no operation is under way, and nothing is wanted.
        if self.scanned == 0
            && let Some((publish, taken)) = plain_publish(buffer, limits)
        {
            return Ok(Some((Op::Publish(publish), taken)));
        }
        self.next_of_any_kind(buffer, limits)
    }

    fn next_of_any_kind(&mut self, buffer: &[u8], limits: &Limits) -> Result<Option<(Op, usize)>, Fault> {
        if buffer.len() < self.wanted || buffer.is_empty() {
            return Ok(None);
        }
        let line_max = limits.control_line_len_max + VERB_LEN_MAX;
        let Some(found) = memchr(b'\n', buffer.get(self.scanned..).unwrap_or_default()) else {
            self.scanned = buffer.len();
            let is_limited = !check_verb_begins(buffer)?;
            // What has no end yet may have a CR at its own.
            let is_long = is_limited && buffer.len() > line_max + 1 && {
                let skipped = Verb::of(buffer).map_or(0, Verb::len);
                let rest = buffer.get(skipped..buffer.len() - 1).unwrap_or_default();
                is_too_long(rest, limits)
            };
            return if is_long { Err(Fault::ControlLine) } else { Ok(None) };
        };
        let end = self.scanned + found;
        let line = buffer.get(..end).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let parsed = self.line(buffer, line, end + 1, limits)?;
        *self = match parsed {
            Some(_) => Parser::default(),
            None => Parser { scanned: end, wanted: self.wanted },
        };
        Ok(parsed)
    }

    fn line(
        &mut self,
        buffer: &[u8],
        line: &[u8],
        after: usize,
        limits: &Limits,
    ) -> Result<Option<(Op, usize)>, Fault> {
        let verb = Verb::of(line).ok_or(Fault::UnknownOperation)?;
        let skipped = verb.len();
        let rest = line.get(skipped..).unwrap_or_default();
        if !verb.is_free() && is_too_long(rest, limits) {
            return Err(Fault::ControlLine);
        }
        let arguments = Arguments::of(line, skipped);
        let op = match verb {
            Verb::Publish => return self.publish(buffer, &arguments, after, limits, false),
            Verb::PublishHeaders => return self.publish(buffer, &arguments, after, limits, true),
            Verb::Ping => Op::Ping,
            Verb::Pong => Op::Pong,
            Verb::Ok => Op::Ignored,
            Verb::Err => Op::Error,
            Verb::Connect | Verb::Info => {
                let blank = blank_len(rest);
                let json = Range::new(skipped + blank, rest.len() - blank);
                if verb == Verb::Info { Op::Info(json) } else { Op::Connect(json) }
            }
            Verb::Subscribe => match arguments.slice() {
                [subject, sid] => Op::Subscribe { subject: *subject, queue: None, sid: *sid },
                [subject, queue, sid] => Op::Subscribe { subject: *subject, queue: Some(*queue), sid: *sid },
                _ => return Err(Fault::Arguments),
            },
            Verb::Unsubscribe => match arguments.slice() {
                [sid] => Op::Unsubscribe { sid: *sid, max: 0 },
                [sid, max] => {
                    // A number that does not read is no limit, as the original has it.
                    let max = size(max.of(line)).unwrap_or(0);
                    Op::Unsubscribe { sid: *sid, max: max as u64 }
                }
                _ => return Err(Fault::Arguments),
            },
        };
        Ok(Some((op, after)))
    }

    fn publish(
        &mut self,
        buffer: &[u8],
        arguments: &Arguments,
        after: usize,
        limits: &Limits,
        with_headers: bool,
    ) -> Result<Option<(Op, usize)>, Fault> {
        let (subject, reply, headers_len, len) = match (arguments.slice(), with_headers) {
            ([subject, len], false) => (*subject, None, None, *len),
            ([subject, reply, len], false) => (*subject, Some(*reply), None, *len),
            ([subject, headers, len], true) => (*subject, None, Some(*headers), *len),
            ([subject, reply, headers, len], true) => (*subject, Some(*reply), Some(*headers), *len),
            _ => return Err(Fault::Arguments),
        };
        let len = size(len.of(buffer)).ok_or(Fault::Arguments)?;
        let headers_len = match headers_len {
            None => None,
            Some(headers) => {
                let headers_len = size(headers.of(buffer)).ok_or(Fault::Arguments)?;
                if headers_len > len {
                    return Err(Fault::Arguments);
                }
                Some(headers_len)
            }
        };
        if len > limits.payload_len_max {
            return Err(Fault::PayloadTooLong);
        }
        let end = after + len;
        match buffer.get(end..) {
            Some([b'\r', b'\n', ..]) => {
                let payload = Range::new(after, len);
                Ok(Some((Op::Publish(Publish { subject, reply, headers_len, payload }), end + 2)))
            }
            Some([]) | Some([b'\r']) | None => {
                self.wanted = end + 2;
                Ok(None)
            }
            Some(_) => Err(Fault::UnknownOperation),
        }
    }

    /// Bytes that the operation under way has at least, as far as known: what to make room for.
    pub(crate) fn wanted(&self) -> usize {
        self.wanted
    }
}

/// A publish as clients write it, whole: `PUB subject size`, one blank between, without a reply. Most of what comes is one;
/// everything else is read with all its liberties, and so is what is wrong with one.
#[inline]
fn plain_publish(buffer: &[u8], limits: &Limits) -> Option<(Publish, usize)> {
    let rest = buffer.strip_prefix(b"PUB ")?;
    let subject_len = rest.iter().position(|byte| *byte <= b' ').filter(|len| *len > 0)?;
    let after_subject = rest.get(subject_len..)?.strip_prefix(b" ")?;
    let (mut len, mut digit_count) = (0, 0);
    for byte in after_subject.iter().take(SIZE_DIGITS_MAX) {
        let Some(digit) = byte.checked_sub(b'0').filter(|digit| *digit <= 9) else { break };
        len = len * 10 + usize::from(digit);
        digit_count += 1;
    }
    let body = after_subject.get(digit_count..)?.strip_prefix(b"\r\n").filter(|_| digit_count > 0)?;
    let is_within =
        subject_len + 1 + digit_count <= limits.control_line_len_max && len <= limits.payload_len_max;
    if !is_within || body.get(len..len + 2) != Some(&b"\r\n"[..]) {
        return None;
    }
    let start = buffer.len() - body.len();
    let subject = Range::new(b"PUB ".len(), subject_len);
    let publish = Publish { subject, reply: None, headers_len: None, payload: Range::new(start, len) };
    Some((publish, start + len + 2))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Connect,
    Publish,
    PublishHeaders,
    Subscribe,
    Unsubscribe,
    Ping,
    Pong,
    Ok,
    Err,
    Info,
}

/// Every verb, and whether its name may be followed by anything at all.
const VERBS: &[(&[u8], Verb)] = &[
    (b"PUB", Verb::Publish),
    (b"HPUB", Verb::PublishHeaders),
    (b"SUB", Verb::Subscribe),
    (b"UNSUB", Verb::Unsubscribe),
    (b"CONNECT", Verb::Connect),
    (b"PING", Verb::Ping),
    (b"PONG", Verb::Pong),
    (b"+OK", Verb::Ok),
    (b"-ERR", Verb::Err),
    (b"INFO", Verb::Info),
];

impl Verb {
    /// The verb that `line` begins with. Those with arguments are followed by a blank, those with JSON by that at once if
    /// they like; the others by anything, which is not looked at.
    fn of(line: &[u8]) -> Option<Verb> {
        let begins = |name: &[u8]| line.get(..name.len()).is_some_and(|head| head.eq_ignore_ascii_case(name));
        let (name, verb) = *VERBS.iter().find(|(name, _)| begins(name))?;
        let next = line.get(name.len());
        let is_loose = verb.is_free() || matches!(verb, Verb::Connect | Verb::Info);
        (is_loose || next.is_some_and(|byte| is_blank(*byte))).then_some(verb)
    }

    /// Whether anything may follow, of any length, which is not looked at.
    fn is_free(self) -> bool {
        matches!(self, Verb::Ping | Verb::Pong | Verb::Ok)
    }

    fn len(self) -> usize {
        VERBS.iter().find(|(_, verb)| *verb == self).map_or(0, |(name, _)| name.len())
    }
}

/// Refuses a beginning that cannot become a verb before its line ends. Whether the verb is there and free of limits.
fn check_verb_begins(buffer: &[u8]) -> Result<bool, Fault> {
    if let Some(verb) = Verb::of(buffer) {
        return Ok(verb.is_free());
    }
    let could = VERBS
        .iter()
        .any(|(name, _)| name.get(..buffer.len()).is_some_and(|name| name.eq_ignore_ascii_case(buffer)));
    if could { Ok(false) } else { Err(Fault::UnknownOperation) }
}

/// Whether the arguments, or the blanks ahead of them, are longer than allowed. The original has no limit for the blanks.
fn is_too_long(rest: &[u8], limits: &Limits) -> bool {
    let blank = blank_len(rest.get(..=limits.control_line_len_max).unwrap_or(rest));
    blank > limits.control_line_len_max || rest.len() - blank > limits.control_line_len_max
}

fn blank_len(rest: &[u8]) -> usize {
    rest.iter().take_while(|byte| is_blank(**byte)).count()
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// Arguments that any operation takes, and one more to tell that there are too many.
const ARGUMENTS_MAX: usize = 5;

/// The arguments of a line, by position.
struct Arguments {
    found: [Range; ARGUMENTS_MAX],
    count: usize,
}

impl Arguments {
    fn of(line: &[u8], from: usize) -> Self {
        let mut arguments = Arguments { found: [Range::default(); ARGUMENTS_MAX], count: 0 };
        let mut start = None;
        for (at, byte) in line.iter().enumerate().skip(from) {
            match (is_blank(*byte), start) {
                (false, None) => start = Some(at),
                (true, Some(begin)) => {
                    arguments.add(Range::new(begin, at - begin));
                    start = None;
                }
                _ => {}
            }
        }
        if let Some(begin) = start {
            arguments.add(Range::new(begin, line.len() - begin));
        }
        arguments
    }

    fn add(&mut self, range: Range) {
        if let Some(place) = self.found.get_mut(self.count) {
            *place = range;
            self.count += 1;
        }
    }

    fn slice(&self) -> &[Range] {
        self.found.get(..self.count).unwrap_or_default()
    }
}

/// Digits of a size: nine, as many as the original reads, and far above any limit.
const SIZE_DIGITS_MAX: usize = 9;

fn size(digits: &[u8]) -> Option<usize> {
    if digits.is_empty() || digits.len() > SIZE_DIGITS_MAX {
        return None;
    }
    digits.iter().try_fold(0usize, |value, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        Some(value * 10 + usize::from(digit))
    })
}

#[cfg(test)]
mod tests;
