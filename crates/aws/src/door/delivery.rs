//! Whether the first byte of an answer was written.
//!
//! HTTP/1.1 answers one request after the other, so a connection has one [`Delivery`], which goes through this for each
//! request:
//!
//! ```text
//!   the operation runs      unless_delivered(undo)   → running
//!   it has an answer        answered()               → unwritten
//!   a byte is written       written()                → forgotten
//!   the connection ends     drop of the last handle  → running and unwritten are called
//! ```
//!
//! Before the first byte [`WatchedIo`] looks whether the client has closed its side: the machine's buffers would take the
//! bytes of an answer that nobody will read.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

type Undo = Box<dyn FnOnce() + Send>;

/// What to undo when an answer does not get out; shared by a connection and the request that it is at.
#[derive(Clone, Default)]
pub(crate) struct Delivery(Arc<Shared>);

#[derive(Default)]
struct Shared {
    undo: Mutex<Undos>,
    /// Whether `undo.unwritten` has anything, for a look without the lock.
    unwritten: AtomicBool,
}

#[derive(Default)]
struct Undos {
    running: Vec<Undo>,
    unwritten: Vec<Undo>,
}

impl Delivery {
    /// See [`crate::Context::unless_delivered`].
    pub(crate) fn unless_delivered(&self, undo: impl FnOnce() + Send + 'static) {
        self.0.undo.lock().running.push(Box::new(undo));
    }

    /// The operation is done: its answer is what is written next.
    pub(crate) fn answered(&self) {
        let mut undo = self.0.undo.lock();
        if !undo.running.is_empty() {
            let mut running = std::mem::take(&mut undo.running);
            undo.unwritten.append(&mut running);
            self.0.unwritten.store(true, Ordering::Release);
        }
    }

    fn is_unwritten(&self) -> bool {
        self.0.unwritten.load(Ordering::Acquire)
    }

    fn written(&self) {
        let forgotten = std::mem::take(&mut self.0.undo.lock().unwritten);
        self.0.unwritten.store(false, Ordering::Release);
        drop(forgotten);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let Undos { running, unwritten } = std::mem::take(self.undo.get_mut());
        unwritten.into_iter().chain(running).for_each(|undo| undo());
    }
}

/// How long a client may take none of the bytes that wait for it before its connection is cut: what it is answered is
/// kept in memory meanwhile.
const WRITE_DEADLINE: Duration = Duration::from_secs(30);

/// Bytes that are taken from a client in the look whether it is still there.
const LOOK_LEN: usize = 256;

/// A connection's bytes, told to its [`Delivery`].
pub(crate) struct WatchedIo<S> {
    inner: S,
    delivery: Delivery,
    /// Bytes that a look took: read before others.
    early: Vec<u8>,
    /// Ends when the client has taken nothing for too long; there while bytes wait for it.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> WatchedIo<S> {
    pub(crate) fn new(inner: S, delivery: Delivery) -> Self {
        WatchedIo { inner, delivery, early: Vec::new(), stalled: None }
    }

    /// What a write came to, or an error when writes have come to nothing for too long.
    fn in_time<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let deadline = self.stalled.get_or_insert_with(|| Box::pin(sleep(WRITE_DEADLINE)));
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> WatchedIo<S> {
    /// Fails when the client has closed its side.
    fn look(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if !self.early.is_empty() {
            return Ok(());
        }
        let mut bytes = [0; LOOK_LEN];
        let mut buf = ReadBuf::new(&mut bytes);
        match Pin::new(&mut self.inner).poll_read(cx, &mut buf) {
            Poll::Pending => Ok(()),
            Poll::Ready(Ok(())) if buf.filled().is_empty() => Err(io::ErrorKind::BrokenPipe.into()),
            Poll::Ready(Ok(())) => {
                self.early.extend_from_slice(buf.filled());
                Ok(())
            }
            Poll::Ready(Err(e)) => Err(e),
        }
    }

    /// Writes through `write`, with a look before and a word after when an answer waits for its first byte.
    fn poll_watched(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if !self.delivery.is_unwritten() {
            return write(Pin::new(&mut self.inner), cx);
        }
        self.look(cx)?;
        let len = ready!(write(Pin::new(&mut self.inner), cx))?;
        if len > 0 {
            self.delivery.written();
        }
        Poll::Ready(Ok(len))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WatchedIo<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.early.is_empty() {
            return Pin::new(&mut this.inner).poll_read(cx, buf);
        }
        let len = this.early.len().min(buf.remaining());
        buf.put_slice(this.early.get(..len).unwrap_or_default());
        this.early.drain(..len);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WatchedIo<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = this.poll_watched(cx, |inner, cx| inner.poll_write(cx, buf));
        this.in_time(cx, outcome)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = this.poll_watched(cx, |inner, cx| inner.poll_write_vectored(cx, parts));
        this.in_time(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.inner).poll_flush(cx);
        this.in_time(cx, outcome)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    /// A delivery and how often something was undone.
    fn counted() -> (Delivery, Arc<AtomicUsize>) {
        (Delivery::default(), Arc::default())
    }

    fn register(delivery: &Delivery, undone: &Arc<AtomicUsize>) {
        let undone = undone.clone();
        delivery.unless_delivered(move || {
            undone.fetch_add(1, Ordering::SeqCst);
        });
    }

    #[tokio::test]
    async fn an_answer_whose_first_byte_was_written_is_not_undone() {
        let (delivery, undone) = counted();
        let (client, server) = duplex(1);
        let mut io = WatchedIo::new(server, delivery.clone());
        register(&delivery, &undone);
        delivery.answered();
        assert_eq!(io.write(b"answer").await.unwrap(), 1);
        drop((client, io, delivery));
        assert_eq!(undone.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn an_answer_to_a_client_that_has_closed_is_undone_though_the_bytes_would_be_taken() {
        let (delivery, undone) = counted();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        client.write_all(b"x").await.unwrap();
        let mut io = WatchedIo::new(server, delivery.clone());
        let mut byte = [0];
        io.read_exact(&mut byte).await.unwrap();
        register(&delivery, &undone);
        client.shutdown().await.unwrap();
        // Its end has arrived when a read sees it; the look must see the same.
        io.inner.readable().await.unwrap();
        delivery.answered();
        assert!(io.write(b"answer").await.is_err());
        drop((io, delivery));
        assert_eq!(undone.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn an_operation_that_is_dropped_is_undone() {
        let (delivery, undone) = counted();
        let (_client, server) = duplex(64);
        let mut io = WatchedIo::new(server, delivery.clone());
        register(&delivery, &undone);
        // Bytes of an earlier answer say nothing of this one.
        io.write_all(b"earlier").await.unwrap();
        drop((io, delivery));
        assert_eq!(undone.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_for_too_long_is_cut_off_and_a_slow_one_is_not() {
        let (client, server) = duplex(1);
        let mut io = WatchedIo::new(server, Delivery::default());
        assert_eq!(io.write_all(b"answer").await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(client);

        let (mut client, server) = duplex(1);
        let mut io = WatchedIo::new(server, Delivery::default());
        let reading = tokio::spawn(async move {
            let mut byte = [0];
            for _ in 0..6 {
                sleep(WRITE_DEADLINE - Duration::from_secs(1)).await;
                client.read_exact(&mut byte).await.unwrap();
            }
        });
        io.write_all(b"answer").await.unwrap();
        reading.await.unwrap();
    }

    #[tokio::test]
    async fn bytes_that_a_look_took_are_read_first() {
        let (delivery, undone) = counted();
        let (mut client, server) = duplex(64);
        let mut io = WatchedIo::new(server, delivery.clone());
        client.write_all(b"pipelined").await.unwrap();
        register(&delivery, &undone);
        delivery.answered();
        io.write_all(b"answer").await.unwrap();
        client.write_all(b" more").await.unwrap();
        let mut read = [0; 14];
        io.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"pipelined more");
        drop((io, delivery));
        assert_eq!(undone.load(Ordering::SeqCst), 0);
    }
}
