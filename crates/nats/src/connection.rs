//! One connection: reading, writing, time.
//!
//! One read fills the buffer; every whole operation in it is handled; then everything that was gathered for others is
//! handed over. The writer runs beside that in the same task and takes whatever waits at once.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    sync::Arc,
    time::Duration,
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf},
    sync::{mpsc, watch},
    time::{Instant, sleep_until, timeout},
};
use wire::Gathered;

use crate::{
    codec::Connect,
    core::{client::Client, fanout::Laggard},
    jetstream::acks::{self, Waiting},
    server::Server,
    session::{Ending, Session, Step},
};

/// Room for one read.
const READ_LEN: usize = 64 * 1024;

/// Room given at once to a payload under way: memory follows bytes that arrived.
const GROW_MAX: usize = 1 << 20;

/// Pieces of one vectored write.
const PIECES_MAX: usize = 64;

/// How long a publisher is held up, at most, by a receiver that lags behind.
const STALL: Duration = Duration::from_millis(10);

/// When a new connection is asked first whether it is there, or told that it has not said who it is in time.
const FIRST_PING: Duration = Duration::from_secs(2);

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The client went.
    Gone,
    /// It was told to go, or broke the protocol.
    Closed(Ending),
    /// It does not answer.
    Stale,
    /// It does not read.
    Slow,
    /// The process stops.
    Shutdown,
}

/// Serves a connection until it ends.
pub(crate) async fn run<S>(
    stream: S,
    server: &Arc<Server>,
    (mut session, waiting): (Session, mpsc::Receiver<Waiting>),
    client: &Arc<Client>,
    shutdown: watch::Receiver<bool>,
) -> End
where
    S: AsyncRead + AsyncWrite + Send,
{
    let (reader, writer) = tokio::io::split(stream);
    let deadline = Duration::from_millis(server.options.write_deadline_ms);
    let mut writing = std::pin::pin!(write(writer, client, deadline));
    let end = {
        let mut reading = std::pin::pin!(Reader { reader, server, session: &mut session, shutdown }.run());
        let mut acking = std::pin::pin!(acks::run(server, waiting));
        tokio::select! {
            end = &mut reading => end,
            () = client.cut.notified() => return End::Slow,
            never = &mut acking => match never {},
            written = &mut writing => return if written.is_ok() && !client.is_slow() { End::Gone } else { End::Slow },
        }
    };
    session.leave();
    session.flush();
    client.outbox.close();
    // What it is told last still goes out, if it reads.
    tokio::select! {
        () = client.cut.notified() => End::Slow,
        written = &mut writing => match written {
            Ok(()) if client.is_slow() => End::Slow,
            _ => end,
        },
    }
}

struct Reader<'a, S> {
    reader: ReadHalf<S>,
    server: &'a Arc<Server>,
    session: &'a mut Session,
    shutdown: watch::Receiver<bool>,
}

impl<S: AsyncRead + AsyncWrite + Send> Reader<'_, S> {
    async fn run(mut self) -> End {
        let interval = Duration::from_millis(self.server.options.ping_interval_ms);
        let mut buffer = BytesMut::with_capacity(READ_LEN);
        self.session.greet();
        let mut ping_at = Instant::now() + FIRST_PING.min(interval);
        let mut heard = false;
        let timer = sleep_until(ping_at);
        tokio::pin!(timer);
        loop {
            if let Some(end) = self.handle(&mut buffer).await {
                return end;
            }
            let missing = self.session.wanted().saturating_sub(buffer.len());
            buffer.reserve(missing.clamp(READ_LEN, GROW_MAX));
            tokio::select! {
                biased;
                read = self.reader.read_buf(&mut buffer) => match read {
                    Ok(0) | Err(_) => return End::Gone,
                    Ok(_) => {
                        heard = true;
                        self.session.note_active();
                    }
                },
                () = &mut timer => {
                    if !self.session.is_in() {
                        self.session.end("Authentication Timeout");
                        return End::Closed(Ending::Told("Authentication Timeout"));
                    }
                    if !std::mem::take(&mut heard) || self.session.pings_out == 0 {
                        if self.session.pings_out >= self.server.options.pings_out_max {
                            self.session.end("Stale Connection");
                            return End::Stale;
                        }
                        self.session.ping();
                    }
                    ping_at = Instant::now() + interval;
                    timer.as_mut().reset(ping_at);
                }
                _ = self.shutdown.wait_for(|stop| *stop) => {
                    self.session.say_goodbye();
                    return End::Shutdown;
                }
            }
        }
    }

    /// Handles what is there and hands over what came of it.
    async fn handle(&mut self, buffer: &mut BytesMut) -> Option<End> {
        loop {
            let step = self.session.handle(buffer);
            self.session.work_off().await;
            if let Some(laggard) = self.session.flush() {
                hold_up(laggard).await;
            }
            match step {
                Step::Handled(len) => {
                    buffer.advance(len);
                    return None;
                }
                Step::Authenticate(len, connect) => {
                    buffer.advance(len);
                    if let Err(ending) = self.authenticate(*connect).await {
                        return Some(End::Closed(ending));
                    }
                }
                Step::End(ending) => return Some(End::Closed(ending)),
            }
        }
    }

    async fn authenticate(&mut self, connect: Connect) -> Result<(), Ending> {
        match self.server.authenticate(self.session.id(), &connect).await {
            Some(principal) => self.session.admit(connect, principal),
            None => Err(self.session.refuse_entry()),
        }
    }
}

/// A publisher waits for a receiver that lags behind, but not for long.
async fn hold_up(laggard: Laggard) {
    let Laggard { client, len } = laggard;
    let drained = poll_fn(|cx| client.outbox.poll_drained(cx, len));
    if timeout(STALL, drained).await.is_err() {
        tracing::trace!(client = client.id, "a receiver lags behind");
    }
}

/// Writes what waits until the outbox is closed and empty. An error when the client is gone, or reads too slowly.
async fn write<S>(mut writer: WriteHalf<S>, client: &Arc<Client>, deadline: Duration) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite,
{
    let mut taken = Gathered::default();
    while poll_fn(|cx| client.outbox.poll_take(cx, &mut taken)).await {
        let mut written = 0;
        while written < taken.len() {
            let mut pieces = [IoSlice::new(&[]); PIECES_MAX];
            let count = taken.pieces(written, &mut pieces);
            let pieces = pieces.get(..count).unwrap_or_default();
            match timeout(deadline, writer.write_vectored(pieces)).await {
                Ok(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => written += len?,
                Err(_) => {
                    client.cut_off();
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
        }
        timeout(deadline, writer.flush()).await.map_err(|_| io::ErrorKind::TimedOut)??;
        client.pending.sub(taken.len());
        taken.clear();
    }
    timeout(deadline, writer.shutdown()).await.map_err(|_| io::ErrorKind::TimedOut)?
}
