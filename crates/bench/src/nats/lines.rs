//! What a server sends, message by message.

use std::io::Read;

use crate::{Failure, received::Received};

/// What came, line by line.
#[derive(Default)]
pub(crate) struct Lines(Received);

/// One message. Other lines (INFO, PING, PONG, +OK) are passed over.
pub(crate) struct Message<'a> {
    /// Where an answer or acknowledgement goes; empty without one.
    pub reply: &'a str,
    /// Headers, if any, and body.
    pub body: &'a [u8],
    /// Whether it has headers and nothing else: how a server says that there is nothing.
    pub is_status: bool,
}

impl Lines {
    /// Takes in what the server has sent; waits for some of it.
    pub(crate) fn fill(&mut self, stream: &mut impl Read) -> Result<(), Failure> {
        self.0.fill(stream)
    }

    /// The next message that is here whole.
    pub(crate) fn next(&mut self) -> Result<Option<Message<'_>>, Failure> {
        loop {
            let rest = self.0.rest();
            let Some(end) = rest.windows(2).position(|two| two == b"\r\n") else { return Ok(None) };
            let line = std::str::from_utf8(&rest[..end])?;
            let mut words = line.split(' ');
            let verb = words.next().unwrap_or_default();
            if verb == "-ERR" {
                return Err(format!("the server says {line}").into());
            }
            if verb != "MSG" && verb != "HMSG" {
                self.0.pass(end + 2);
                continue;
            }
            let words: Vec<&str> = words.collect();
            let len: usize = words.last().ok_or("a message without a length")?.parse()?;
            let (numbers, is_status) = match verb {
                "HMSG" => (2, words.get(words.len().wrapping_sub(2)) == words.last()),
                _ => (1, false),
            };
            let body_at = end + 2;
            if rest.len() < body_at + len + 2 {
                return Ok(None);
            }
            // subject, sid, perhaps where to reply, then one or two numbers
            let reply = match words.as_slice() {
                [subject, sid, reply, ..] if words.len() > 2 + numbers => {
                    let at = verb.len() + subject.len() + sid.len() + 3;
                    at..at + reply.len()
                }
                _ => 0..0,
            };
            let message = self.0.pass(body_at + len + 2);
            let reply = std::str::from_utf8(&message[reply])?;
            return Ok(Some(Message { reply, body: &message[body_at..body_at + len], is_status }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_from_other_lines_however_they_arrive() {
        let sent = b"PING\r\nMSG a 1 3\r\nabc\r\nHMSG b 2 $JS.ACK.x 12 12\r\nNATS/1.0 404\r\n+OK\r\nMSG c 3 r 0\r\n\r\n";
        for part in [1, 7, sent.len()] {
            let (mut lines, mut seen) = (Lines::default(), Vec::new());
            for mut bytes in sent.chunks(part) {
                lines.fill(&mut bytes).unwrap();
                while let Some(message) = lines.next().unwrap() {
                    seen.push((message.reply.to_owned(), message.body.len(), message.is_status));
                }
            }
            let expected = [("", 3, false), ("$JS.ACK.x", 12, true), ("r", 0, false)];
            assert_eq!(seen, expected.map(|(reply, len, status)| (reply.to_owned(), len, status)));
        }
    }
}
