//! One connection: HTTP/1.1, request after request, within limits.

use std::{convert::Infallible, sync::Arc, time::Duration};

use hyper::{Request, body::Incoming, header::HOST, http::request::Parts, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};
use tracing::debug;

use super::{
    answer::{Answer, Protocol, closing},
    body,
    caller::LatestCaller,
    delivery::{Delivery, WatchedIo},
    dispatch::{self, Call},
    peek::PeekRequest,
    request_id::RequestId,
};
use crate::{
    AwsError, ConnectionInfo, Context, Server,
    shapes::Output,
    sigv4::{self, Credential},
    sqs::LatestQueue,
    sts,
};

/// Header lines of a request; SDKs send about fifteen.
const HEADERS_MAX: usize = 100;

/// Bytes of a request's head, and of what hyper reads ahead: as much as AWS's front takes in a URL and headers.
const HEAD_LEN_MAX: usize = 64 << 10;

/// Within this a request's head must be there, counted from the answer before: also how long a connection may idle.
/// Longer than SDKs keep idle connections, so that it is they who close them.
const HEAD_DEADLINE: Duration = Duration::from_secs(75);

/// Serves one connection until it ends; after `shutdown` turns true, until the request in flight is answered.
pub(crate) async fn serve<S>(
    server: Arc<Server>,
    stream: S,
    info: ConnectionInfo,
    shutdown: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let delivery = Delivery::default();
    let peer = info.peer;
    let door = Arc::new(Door {
        server,
        info,
        delivery: delivery.clone(),
        base_url: Mutex::default(),
        caller: LatestCaller::default(),
        queue: LatestQueue::default(),
    });
    let answer = move |request| {
        let door = door.clone();
        async move { door.answer(request).await }
    };
    if let Err(e) = run(stream, delivery, answer, shutdown).await {
        debug!(%peer, error = %e, "a connection ended early");
    }
}

/// Answers the requests of one connection through `answer`, whose future is dropped when the connection ends.
async fn run<S, F>(
    stream: S,
    delivery: Delivery,
    answer: impl Fn(Request<Incoming>) -> F + Send + 'static,
    mut shutdown: watch::Receiver<bool>,
) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let io = TokioIo::new(WatchedIo::new(stream, delivery));
    let service = service_fn(move |request| {
        let answer = answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_LEN_MAX)
        // Answers are short: one copy is cheaper than a second piece in the write.
        .writev(false)
        .serve_connection(io, service);
    let mut connection = std::pin::pin!(connection);
    let stopped = async { drop(shutdown.wait_for(|stop| *stop).await) };
    tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = stopped => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}

struct Door {
    server: Arc<Server>,
    info: ConnectionInfo,
    delivery: Delivery,
    /// Of the latest request: the next one has the same as a rule.
    base_url: Mutex<Option<Arc<str>>>,
    caller: LatestCaller,
    queue: LatestQueue,
}

impl Door {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let id = self.server.request_ids.next();
        let (parts, body) = request.into_parts();
        let protocol = dispatch::protocol(&parts.headers);
        let address = self.info.peer.ip();
        let answer = match body::read(&self.server, address, &parts, body).await {
            Ok((body, _until_answered)) => self.called(protocol, &parts, &body, id).await,
            // What is left of the body would be taken for the next request.
            Err(error) => {
                debug!(peer = %self.info.peer, path = parts.uri.path(), %error, "a body was not read");
                closing(protocol.failure(&error, id))
            }
        };
        self.delivery.answered();
        answer
    }

    async fn called(&self, mut protocol: Protocol, parts: &Parts, body: &[u8], id: RequestId) -> Answer {
        let outcome = self.call(&mut protocol, parts, body, id).await;
        outcome.unwrap_or_else(|error| protocol.failure(&error, id))
    }

    async fn call(
        &self,
        protocol: &mut Protocol,
        parts: &Parts,
        body: &[u8],
        id: RequestId,
    ) -> Result<Answer, AwsError> {
        let parameters = dispatch::parameters(*protocol, parts, body)?;
        let (caller, service) = {
            let credential = Credential::of(parts, &parameters);
            let caller = self.caller.or_anew(&self.server, parts, &parameters, body, credential.as_ref())?;
            (caller, credential.map(|credential| dispatch::service(credential.service)))
        };
        let ctx = Context {
            server: self.server.clone(),
            caller,
            base_url: self.base_url(parts),
            delivery: self.delivery.clone(),
            latest_queue: self.queue.clone(),
        };
        if let Some(peek) = PeekRequest::of(protocol, parts, body, &parameters)? {
            let output = Output::ReceiveMessage(peek.look(&ctx).await?);
            return Ok(protocol.success(&output, id));
        }
        let call = dispatch::call(protocol, parts, body, parameters, service)?;
        if self.server.checks_signatures() {
            sigv4::check_service(service.unwrap_or_default(), call.service())?;
        }
        match call {
            Call::Sqs(input) => Ok(protocol.success(&self.server.sqs.call(&ctx, input).await?, id)),
            Call::Sts(action) => {
                let mut result = Vec::new();
                sts::call(&ctx, &action, &mut result)?;
                Ok(protocol.xml(&action, id, |body| body.append(&mut result)))
            }
        }
    }

    /// Scheme and host under which queue URLs are reached: those that were asked for, so that clients which go to the
    /// host of a queue URL come back.
    fn base_url(&self, parts: &Parts) -> Arc<str> {
        let local;
        let host = match &self.info.advertised {
            Some((host, port)) => {
                local =
                    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
                local.as_str()
            }
            None => match host(parts) {
                Some(host) => host,
                None => {
                    local = self.info.local.to_string();
                    local.as_str()
                }
            },
        };
        let scheme = if self.info.tls { "https" } else { "http" };
        let mut latest = self.base_url.lock();
        match &*latest {
            Some(url) if url.strip_prefix(scheme).and_then(|url| url.strip_prefix("://")) == Some(host) => {
                url.clone()
            }
            _ => latest.insert(format!("{scheme}://{host}").into()).clone(),
        }
    }
}

/// The host that was asked for, if it is one: it becomes part of URLs.
fn host(parts: &Parts) -> Option<&str> {
    let host = match parts.uri.authority() {
        Some(authority) => authority.as_str(),
        None => parts.headers.get(HOST)?.to_str().ok()?,
    };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    (!host.is_empty() && host.len() <= 255 && host.bytes().all(allowed)).then_some(host)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http_body_util::Full;
    use hyper::Response;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
        sync::Notify,
        task::JoinHandle,
    };

    use super::*;

    /// A connection whose every request registers something to undo, says that it runs, and answers when it may.
    struct Asked {
        client: TcpStream,
        serving: JoinHandle<hyper::Result<()>>,
        runs: Arc<Notify>,
        may_answer: Arc<Notify>,
        undone: Arc<AtomicUsize>,
        _stop: watch::Sender<bool>,
    }

    async fn ask(request: &[u8]) -> Asked {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let (stop, stopped) = watch::channel(false);
        let (runs, may_answer) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let undone = Arc::new(AtomicUsize::new(0));
        let delivery = Delivery::default();
        let answer = {
            let (runs, may_answer) = (runs.clone(), may_answer.clone());
            let (undone, delivery) = (undone.clone(), delivery.clone());
            move |_| {
                let (runs, may_answer) = (runs.clone(), may_answer.clone());
                let (undone, delivery) = (undone.clone(), delivery.clone());
                async move {
                    delivery.unless_delivered(move || {
                        undone.fetch_add(1, Ordering::SeqCst);
                    });
                    runs.notify_one();
                    may_answer.notified().await;
                    delivery.answered();
                    Response::new(Full::new(Bytes::from_static(b"answer")))
                }
            }
        };
        let serving = tokio::spawn(run(server, delivery, answer, stopped));
        client.write_all(request).await.unwrap();
        runs.notified().await;
        Asked { client, serving, runs, may_answer, undone, _stop: stop }
    }

    /// Returns when the runtime has seen whatever happened on the network before.
    async fn news_of_the_network() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        near.write_all(b"x").await.unwrap();
        far.read_exact(&mut [0]).await.unwrap();
    }

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";

    #[tokio::test]
    async fn an_operation_whose_client_goes_away_while_it_runs_is_dropped_and_undone() {
        let asked = ask(REQUEST).await;
        drop(asked.client);
        drop(asked.serving.await);
        assert_eq!(asked.undone.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn an_answer_that_finds_its_client_gone_is_undone() {
        // A second request behind the first keeps hyper from looking at the connection until it has answered.
        let asked = ask(&[REQUEST, REQUEST].concat()).await;
        drop(asked.client);
        news_of_the_network().await;
        asked.may_answer.notify_one();
        drop(asked.serving.await);
        assert!(asked.undone.load(Ordering::SeqCst) >= 1);
    }

    #[tokio::test]
    async fn an_answer_that_a_client_reads_is_not_undone_whatever_comes_after() {
        let mut asked = ask(REQUEST).await;
        asked.may_answer.notify_one();
        let mut read = Vec::new();
        while !read.ends_with(b"answer") {
            assert_ne!(asked.client.read_buf(&mut read).await.unwrap(), 0);
        }
        assert_eq!(asked.undone.load(Ordering::SeqCst), 0);
        // The next request on the same connection is on its own again.
        asked.client.write_all(REQUEST).await.unwrap();
        asked.runs.notified().await;
        drop(asked.client);
        drop(asked.serving.await);
        assert_eq!(asked.undone.load(Ordering::SeqCst), 1);
    }
}
