//! A client that sends what it is told to, right or wrong, and reads what comes back.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::TcpStream,
    time::Duration,
};

use kafka::codec::{
    Request,
    api::api_versions::{ApiVersionsRequest, ApiVersionsResponse},
    decode_response, encode_request,
};

/// Far above what any answer here takes, for a machine that is busy.
const LIMIT: Duration = Duration::from_secs(30);

/// One connection.
pub struct Client {
    pub stream: TcpStream,
    pub client_id: &'static str,
    correlation: i32,
}

impl Client {
    pub fn connect(address: &str) -> Client {
        Client::over(TcpStream::connect(address).unwrap())
    }

    /// A client on a connection that is there.
    pub fn over(stream: TcpStream) -> Client {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        Client { stream, client_id: "wire-test", correlation: 0 }
    }

    /// Sends bytes as they are.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends a request without waiting; returns its correlation id.
    pub fn send<'a, R: Request<'a>>(&mut self, version: i16, request: &R) -> i32 {
        self.correlation += 1;
        let frame = self.frame(version, request, self.correlation);
        self.send_bytes(&frame);
        self.correlation
    }

    /// A request as it is on the wire, length included.
    pub fn frame<'a, R: Request<'a>>(&self, version: i16, request: &R, correlation: i32) -> Vec<u8> {
        encode_request(request, version, correlation, Some(self.client_id)).into_bytes().to_vec()
    }

    /// The next answer without its length; `None` when the connection was closed instead.
    pub fn receive(&mut self) -> Option<Vec<u8>> {
        self.next_frame().unwrap_or_else(|e| panic!("no answer: {e}"))
    }

    /// The next answer without its length; `None` when the connection ended, however it did.
    pub fn receive_unless_broken(&mut self) -> Option<Vec<u8>> {
        self.next_frame().unwrap_or_default()
    }

    fn next_frame(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut len = [0; 4];
        match self.stream.read(&mut len[..1]) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::ConnectionReset => return Ok(None),
            Err(e) => return Err(e),
        }
        self.stream.read_exact(&mut len[1..])?;
        let mut frame = vec![0; usize::try_from(u32::from_be_bytes(len)).unwrap()];
        self.stream.read_exact(&mut frame)?;
        Ok(Some(frame))
    }

    /// The next answer, which must be to `correlation`. Answers live as long as the process: it is a short one.
    pub fn take<'a, R: Request<'a>>(&mut self, version: i16, correlation: i32) -> R::Response<'static> {
        let frame = self.receive().unwrap_or_else(|| panic!("closed instead of an answer to {:?}", R::KEY));
        let frame: &'static [u8] = frame.leak();
        let (answered, response) = decode_response::<R>(frame, version)
            .unwrap_or_else(|e| panic!("{:?} version {version}: {e} in {frame:02x?}", R::KEY));
        assert_eq!(answered, correlation, "answers come in the order of their requests");
        response
    }

    /// Sends a request and waits for its answer.
    pub fn ask<'a, R: Request<'a>>(&mut self, version: i16, request: &R) -> R::Response<'static> {
        let correlation = self.send(version, request);
        self.take::<R>(version, correlation)
    }

    /// Whether the server closed the connection without another answer.
    pub fn is_closed(&mut self) -> bool {
        match self.stream.read(&mut [0; 1]) {
            Ok(0) => true,
            Ok(_) => false,
            Err(e) if e.kind() == ErrorKind::ConnectionReset => true,
            Err(e) => panic!("neither an answer nor a close: {e}"),
        }
    }

    /// Whether nothing comes for `time`: no answer, no close.
    pub fn is_silent_for(&mut self, time: Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).unwrap();
        let read = self.stream.peek(&mut [0; 1]);
        self.stream.set_read_timeout(Some(LIMIT)).unwrap();
        read.is_err_and(|e| matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }

    pub fn api_versions(&mut self) -> ApiVersionsResponse<'static> {
        let who = ApiVersionsRequest { client_software_name: "wire-test", client_software_version: "1" };
        self.ask(4, &who)
    }
}
