//! Lines that the server sends.

/// `-ERR '<text>'` with its end.
pub(crate) fn error_line(text: &str) -> String {
    format!("-ERR '{text}'\r\n")
}

/// A decimal number, without an allocation.
pub(crate) struct Digits {
    bytes: [u8; 20],
    from: usize,
}

impl Digits {
    pub(crate) fn as_slice(&self) -> &[u8] {
        self.bytes.get(self.from..).unwrap_or_default()
    }
}

/// The digits of `value`.
pub(crate) fn digits(mut value: usize) -> Digits {
    let mut digits = Digits { bytes: [b'0'; 20], from: 20 };
    loop {
        digits.from -= 1;
        if let Some(place) = digits.bytes.get_mut(digits.from) {
            // A remainder of ten fits.
            *place = b'0' + (value % 10) as u8;
        }
        value /= 10;
        if value == 0 || digits.from == 0 {
            return digits;
        }
    }
}

/// What a requester gets whose request nobody listens to: status 503, and the subject of the request.
pub(crate) fn no_responders(reply: &[u8], sid: &[u8], subject: &[u8]) -> Vec<u8> {
    let block_len = b"NATS/1.0 503\r\nNats-Subject: \r\n\r\n".len() + subject.len();
    let mut line = Vec::with_capacity(block_len + reply.len() + sid.len() + 24);
    line.extend_from_slice(b"HMSG ");
    line.extend_from_slice(reply);
    line.push(b' ');
    line.extend_from_slice(sid);
    line.extend_from_slice(format!(" {block_len} {block_len}\r\nNATS/1.0 503\r\nNats-Subject: ").as_bytes());
    line.extend_from_slice(subject);
    line.extend_from_slice(b"\r\n\r\n\r\n");
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_decimal() {
        for value in [0, 1, 9, 10, 99, 100, 1_048_576, usize::MAX] {
            assert_eq!(digits(value).as_slice(), value.to_string().as_bytes());
        }
    }

    #[test]
    fn nobody_listening_is_said_with_the_subject() {
        let line = String::from_utf8(no_responders(b"_INBOX.1", b"7", b"svc.a")).unwrap();
        assert_eq!(line, "HMSG _INBOX.1 7 37 37\r\nNATS/1.0 503\r\nNats-Subject: svc.a\r\n\r\n\r\n");
        assert_eq!("NATS/1.0 503\r\nNats-Subject: svc.a\r\n\r\n".len(), 37);
    }
}
