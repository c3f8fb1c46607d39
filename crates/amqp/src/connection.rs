//! One connection: reading, writing, time.
//!
//! One read fills the buffer; every whole frame in it is handled; then what was published is stored and what was settled
//! is settled. The writer and the confirms run beside that in the same task.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use broker::Broker;
use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf},
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout},
};
use wire::Gathered;

use crate::{
    channel::Failed,
    client::Client,
    codec::{FrameKind, HEARTBEAT, Method, next_frame},
    error::{Code, Exception},
    intake::Answer,
    server::Server,
    session::{Ending, Session},
};

/// Room for one read.
const READ_LEN: usize = 64 * 1024;

/// Room given at once to a frame under way: memory follows bytes that arrived.
const GROW_MAX: usize = 1 << 20;

/// Pieces of one vectored write.
const PIECES_MAX: usize = 64;

/// How long a client may take to answer that its connection is closed.
const CLOSE_WAIT: Duration = Duration::from_secs(3);

/// How long the writer sleeps where no heartbeat is due.
const IDLE: Duration = Duration::from_secs(3_600);

/// How long a write may make no headway once the connection is to end.
const LAST_WRITE: Duration = Duration::from_secs(10);

/// Why a connection ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The client went.
    Gone,
    /// It said so, or was told to.
    Closed,
    /// It was closed without a word.
    Silent(&'static str),
    /// It was told why.
    Failed(String),
    /// It was not heard.
    Stale,
    /// The process stops.
    Shutdown,
}

/// Serves a connection until it ends.
pub(crate) async fn run<S>(
    stream: S,
    server: &Arc<Server>,
    (mut session, waiting): (Session, mpsc::Receiver<Answer>),
    client: &Arc<Client>,
    shutdown: watch::Receiver<bool>,
) -> End
where
    S: AsyncRead + AsyncWrite + Send,
{
    let (reader, writer) = tokio::io::split(stream);
    let mut writing = std::pin::pin!(write(writer, client));
    let mut answering = Box::pin(answer(&server.broker, client, waiting));
    let mut is_written = false;
    let end = {
        let mut reading =
            std::pin::pin!(Reader { reader, server, client, session: &mut session, shutdown }.run());
        let early = tokio::select! {
            end = &mut reading => Ok(end),
            () = &mut answering => Err(End::Failed("nothing is stored any more".to_owned())),
            _ = &mut writing => {
                is_written = true;
                Err(End::Gone)
            }
        };
        // Nobody takes answers any more: whoever has some goes on at once.
        drop(answering);
        match early {
            Ok(end) => end,
            Err(end) => {
                // What is being handled is handled to its end: half of it would leave messages with nobody.
                client.end();
                reading.await;
                end
            }
        }
    };
    session.leave().await;
    session.flush();
    client.outbox.close();
    // What it is told last still goes out, if it reads.
    if !is_written {
        drop(timeout(LAST_WRITE, writing).await);
    }
    end
}

/// Bytes that are read from a client before it has read what it was sent.
const AHEAD_LEN: usize = 1 << 20;

/// What came of waiting for the client.
enum Read {
    /// It sent something, or what it sent before can be handled.
    More,
    /// It is gone, or has not been heard.
    Over(End),
    /// It has to be told why it ends.
    Failed(Box<Failed>),
    /// The process stops.
    Stop,
}

struct Reader<'a, S> {
    reader: ReadHalf<S>,
    server: &'a Arc<Server>,
    client: &'a Arc<Client>,
    session: &'a mut Session,
    shutdown: watch::Receiver<bool>,
}

impl<S: AsyncRead + AsyncWrite + Send> Reader<'_, S> {
    async fn run(mut self) -> End {
        let mut buffer = BytesMut::with_capacity(READ_LEN);
        let opened_by = Instant::now() + self.server.options.handshake;
        loop {
            let (len, ending) = self.session.handle(&buffer).await;
            buffer.advance(len);
            match ending {
                None => {}
                Some(Ending::Silent(why)) => return End::Silent(why),
                Some(Ending::Done) => return End::Closed,
                Some(Ending::Told(failed)) => return self.close(&failed, Some(buffer)).await,
                Some(Ending::Broken(failed)) => return self.close(&failed, None).await,
            }
            let waits = self.session.is_cut() || !self.client.has_room_now();
            let missing = self.session.wanted(&buffer).saturating_sub(buffer.len());
            buffer.reserve(missing.clamp(READ_LEN, GROW_MAX));
            match self.read_on(&mut buffer, opened_by, waits).await {
                Read::More => {}
                Read::Over(end) => return end,
                Read::Failed(failed) => return self.close(&failed, Some(buffer)).await,
                Read::Stop => {
                    let exception = Exception::new(
                        Code::ConnectionForced,
                        "broker forced connection closure with reason 'shutdown'",
                    );
                    self.close(&Failed { exception, class: 0, method: 0 }, Some(buffer)).await;
                    return End::Shutdown;
                }
            }
        }
    }

    /// Reads what comes next, and meanwhile does what time brings. A client that has read little of what it was sent
    /// `waits`, until it has read more: what it sends until then is taken in, as far as there is room, and shows that it is
    /// there, as does that it reads.
    async fn read_on(&mut self, buffer: &mut BytesMut, opened_by: Instant, waits: bool) -> Read {
        let (mut heard, mut left) = (Instant::now(), self.client.outbox.len());
        loop {
            let patience = self.patience(opened_by, heard);
            let look_in = self.session.look_in();
            let reads = !waits || buffer.len() < AHEAD_LEN;
            let read = tokio::select! {
                () = self.client.has_room(), if waits => Some(Read::More),
                read = self.reader.read_buf(buffer), if reads => match read {
                    Ok(1..) if waits => {
                        heard = Instant::now();
                        None
                    }
                    Ok(1..) => Some(Read::More),
                    Ok(0) | Err(_) => Some(Read::Over(End::Gone)),
                },
                () = sleep(patience), if reads => {
                    let is_read = waits && self.client.outbox.len() < left;
                    (heard, left) = (Instant::now(), self.client.outbox.len());
                    (!is_read).then_some(Read::Over(End::Stale))
                }
                () = async { drop(self.shutdown.wait_for(|stop| *stop).await) } => Some(Read::Stop),
                () = self.client.ended() => Some(Read::Over(End::Gone)),
                () = sleep(look_in.unwrap_or(IDLE)), if look_in.is_some() => None,
                () = self.session.user_changed() => self.session.look_at_user().await.map(Read::Failed),
            };
            if let Some(read) = read {
                return read;
            }
            if let Some(failed) = self.session.end_overdue().await {
                return Read::Failed(failed);
            }
        }
    }

    /// How long the client, which was heard last then, may still be silent: two heartbeats, or until its connection has to
    /// be open.
    fn patience(&self, opened_by: Instant, heard: Instant) -> Duration {
        if !self.session.is_open() {
            return opened_by.saturating_duration_since(Instant::now());
        }
        match self.client.heartbeat_ms.load(Relaxed) {
            0 => Duration::MAX / 4,
            ms => Duration::from_millis(ms * 2).saturating_sub(heard.elapsed()),
        }
    }

    /// Tells the client that its connection ends, and waits a while for its word on that. `buffer` is what was read and
    /// not handled; `None` where what comes cannot be read any more.
    async fn close(mut self, failed: &Failed, buffer: Option<BytesMut>) -> End {
        self.session.leave().await;
        self.session.tell_end(failed);
        let is_in_step = buffer.is_some();
        let answered = timeout(CLOSE_WAIT, self.until_answered(buffer.unwrap_or_default(), is_in_step));
        drop(answered.await);
        End::Failed(failed.exception.text())
    }

    /// Reads on until the client agrees or is gone; everything but its own wish to close is passed over.
    async fn until_answered(&mut self, mut buffer: BytesMut, is_in_step: bool) {
        loop {
            while is_in_step && let Ok(Some(frame)) = next_frame(&buffer, self.client.frame_max()) {
                let payload = buffer.get(frame.payload.clone()).unwrap_or_default();
                let method = Some(payload).filter(|_| frame.kind == FrameKind::Method).map(Method::read);
                match method {
                    Some(Ok(Method::ConnectionCloseOk {})) => return,
                    // Both close at once: each is answered.
                    Some(Ok(Method::ConnectionClose { .. })) => self.session.tell_close_ok(),
                    _ => {}
                }
                buffer.advance(frame.len);
            }
            if !is_in_step || buffer.len() > GROW_MAX {
                buffer.clear();
            }
            buffer.reserve(READ_LEN);
            if !matches!(self.reader.read_buf(&mut buffer).await, Ok(1..)) {
                return;
            }
        }
    }
}

/// Sends confirms as what they confirm becomes durable, in order. Ends when nothing becomes durable any more.
async fn answer(broker: &Broker, client: &Client, mut waiting: mpsc::Receiver<Answer>) {
    while let Some(answer) = waiting.recv().await {
        if let Err(error) = broker.durable(answer.wait).await {
            tracing::error!(%error, "a confirm has to be left out");
            return;
        }
        client.send(&answer.frames);
    }
    std::future::pending().await
}

/// Writes what waits until the outbox is closed and empty, and heartbeats where nothing is written for half an interval.
async fn write<S>(mut writer: WriteHalf<S>, client: &Arc<Client>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite,
{
    let mut taken = Gathered::default();
    loop {
        let pause = match client.heartbeat_ms.load(Relaxed) {
            0 => IDLE,
            ms => Duration::from_millis((ms / 2).max(1)),
        };
        match timeout(pause, poll_fn(|cx| client.outbox.poll_take(cx, &mut taken))).await {
            Ok(true) => {}
            Ok(false) => break,
            Err(_) if pause == IDLE => continue,
            Err(_) => taken.slice(&HEARTBEAT),
        }
        let mut written = 0;
        while written < taken.len() {
            let mut pieces = [IoSlice::new(&[]); PIECES_MAX];
            let count = taken.pieces(written, &mut pieces);
            let pieces = pieces.get(..count).unwrap_or_default();
            match writer.write_vectored(pieces).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                len => written += len,
            }
        }
        writer.flush().await?;
        taken.clear();
    }
    writer.shutdown().await
}
