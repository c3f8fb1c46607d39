//! Requests for tests, from the bytes that clients sent.

use hyper::Request;

/// The request of `bytes`: a head as it went over the wire, an empty line, and the body.
pub(crate) fn request(bytes: &[u8]) -> Request<Vec<u8>> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let mut first = lines.next().unwrap().split(' ');
    let mut request = Request::builder().method(first.next().unwrap()).uri(first.next().unwrap());
    for line in lines {
        let (name, value) = line.split_once(':').unwrap();
        request = request.header(name, value.trim());
    }
    request.body(bytes[end + 4..].to_vec()).unwrap()
}
