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
const PIECES_MAX: usize = 256;

/// After so many reads what else there is gets its turn, however much a client sends.
const LOOK_EVERY: u32 = 16;

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

/// What a connection waits for.
enum Event {
    /// So many bytes came; none: the client is gone.
    Read(usize),
    Time,
    /// A user changed.
    Users,
    /// The process stops.
    Stop,
    /// It has stayed as long as it may while the process stops.
    Leave,
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
        let timer = sleep_until(Instant::now() + FIRST_PING.min(interval));
        tokio::pin!(timer);
        let (mut heard, mut leave_at, mut reads) = (false, None, 0u32);
        loop {
            if let Some(end) = self.handle(&mut buffer).await {
                return end;
            }
            let missing = self.session.wanted().saturating_sub(buffer.len());
            buffer.reserve(missing.clamp(READ_LEN, GROW_MAX));
            reads = reads.wrapping_add(1);
            let due = if reads % LOOK_EVERY == 0 { self.due(timer.deadline(), leave_at) } else { None };
            let event = match due {
                Some(event) => event,
                None => tokio::select! {
                    biased;
                    read = self.reader.read_buf(&mut buffer) => Event::Read(read.unwrap_or(0)),
                    () = &mut timer => Event::Time,
                    () = self.session.users.changed() => Event::Users,
                    _ = self.shutdown.wait_for(|stop| *stop), if leave_at.is_none() => Event::Stop,
                    () = at(leave_at) => Event::Leave,
                },
            };
            let end = match event {
                Event::Read(0) => Some(End::Gone),
                Event::Read(_) => {
                    heard = true;
                    self.session.note_active();
                    None
                }
                Event::Time => {
                    timer.as_mut().reset(Instant::now() + interval);
                    self.look_for_client(std::mem::take(&mut heard))
                }
                Event::Users => self.look_at_user().await,
                Event::Stop => {
                    self.session.say_goodbye();
                    leave_at = self.spread().map(|spread| Instant::now() + spread);
                    leave_at.is_none().then_some(End::Shutdown)
                }
                Event::Leave => Some(End::Shutdown),
            };
            if let Some(end) = end {
                return end;
            }
        }
    }

    /// What else there is than reading, of a client that always has something to read.
    fn due(&mut self, timer_at: Instant, leave_at: Option<Instant>) -> Option<Event> {
        let now = Instant::now();
        if leave_at.is_some_and(|at| now >= at) {
            Some(Event::Leave)
        } else if leave_at.is_none() && *self.shutdown.borrow() {
            Some(Event::Stop)
        } else if self.session.users.take() {
            Some(Event::Users)
        } else {
            (now >= timer_at).then_some(Event::Time)
        }
    }

    /// Asks whether the client is there, unless it was heard since the last time.
    fn look_for_client(&mut self, heard: bool) -> Option<End> {
        if !self.session.is_in() {
            self.session.end("Authentication Timeout");
            return Some(End::Closed(Ending::Told("Authentication Timeout")));
        }
        if !heard || self.session.pings_out == 0 {
            if self.session.pings_out >= self.server.options.pings_out_max {
                self.session.end("Stale Connection");
                return Some(End::Stale);
            }
            self.session.ping();
        }
        None
    }

    /// How long this connection stays when the process stops, so that clients do not come elsewhere all at once; `None` where
    /// it goes at once.
    fn spread(&self) -> Option<Duration> {
        let over_ms = Some(self.server.options.lame_duck_ms).filter(|over_ms| *over_ms > 0)?;
        Some(Duration::from_millis(self.server.seed() % over_ms))
    }

    /// A user changed: who may not be here any more goes.
    async fn look_at_user(&mut self) -> Option<End> {
        self.session.watch_users();
        if !self.session.is_in() {
            return None;
        }
        let connect = self.session.connect().clone();
        let ending = match self.server.authenticate(self.session.id(), &connect).await {
            Some(principal) => self.session.renew(principal).err()?,
            None => self.session.refuse_entry(),
        };
        Some(End::Closed(ending))
    }

    /// Handles what is there and hands over what came of it.
    async fn handle(&mut self, buffer: &mut BytesMut) -> Option<End> {
        loop {
            let step = self.session.handle(buffer);
            self.session.work_off().await;
            if let Some(laggard) = self.session.flush() {
                hold_up(laggard).await;
            } else if self.session.take_turn() {
                tokio::task::yield_now().await;
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

/// Resolves then; without a time, never.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
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
