//! One connection: frames in, answers out in the order of their requests.
//!
//! One read fills the buffer; every whole frame in it is handled before anything is written back. A Produce is staged at
//! once and its answer waits for the commit while later Produces are staged behind it; every other request is answered
//! before the next one is looked at, as the original does.

use std::{collections::VecDeque, future::Future, io, pin::Pin, sync::Arc, time::Duration};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf},
    sync::watch,
    time::{Instant, sleep_until},
};
use wire::FrameBuffer;

use crate::{
    answer_budget::AnswerBudget,
    request_budget::{RequestBudget, Share},
};

/// Produces that may wait for their commit at a time. Clients have five in flight, generators more; bounded because
/// each holds a task's state.
const WAITING_MAX: usize = 1_024;

/// Bytes taken in while an answer is awaited: enough to notice that the client is gone, and to read on at once.
const READ_AHEAD_MAX: usize = 256 * 1024;

/// Frames up to this length are not charged to the budget: most are far below, and so is what one read brings.
const UNCHARGED_LEN_MAX: usize = 64 * 1024;

/// Bytes charged ahead of those that arrived, at most: what one read brings.
const CHARGED_AHEAD_MAX: usize = 1 << 20;

/// How often a long frame has to have come on.
const PROGRESS_EVERY: Duration = Duration::from_secs(60);

/// Bytes that have to arrive in that time of a long frame while others wait for what it holds: one that trickles in must
/// not hold them up. Else one byte will do, as for short frames.
const PROGRESS_LEN_MIN: usize = 4 << 20;

/// How long a client may read nothing of its answers while others need the room that they take, or the process stops.
/// Else it has the idle time.
const UNREAD_MAX: Duration = Duration::from_secs(60);

/// How often that is looked at for a client that reads nothing.
const UNREAD_LOOK: Duration = Duration::from_secs(5);

/// Parts of one vectored write.
const PARTS_MAX: usize = 64;

/// What becomes of one request.
pub(crate) enum Step {
    /// The whole answer, length prefix included.
    Answer(Vec<Bytes>),
    /// The answer follows; requests behind it may be looked at meanwhile.
    Later(Answering),
    /// The answer follows; nothing behind it is looked at before.
    Barrier(Answering),
    /// As a barrier, but what it waits for is up to others: it holds nothing of its frame meanwhile.
    Poll(Answering),
    /// No answer is owed.
    Silent,
    /// The connection cannot go on, for this reason.
    Close(String),
}

/// An answer on its way. An error closes the connection, for that reason.
pub(crate) type Answering = Pin<Box<dyn Future<Output = Result<Vec<Bytes>, String>> + Send>>;

/// What handles the requests of a connection.
pub(crate) trait Handler: Send {
    /// Handles one frame.
    fn handle(&mut self, frame: Bytes) -> Step;
    /// The largest frame taken now: small before authentication.
    fn frame_len_max(&self) -> usize;
    /// Whether nothing more is taken: the last answer was a refusal that ends the connection.
    fn is_over(&self) -> bool;
}

/// Why a connection ended.
pub(crate) enum End {
    /// The client closed it, or it broke.
    Gone,
    /// It was idle for too long.
    Idle,
    /// The process stops.
    Shutdown,
    /// The client did what cannot be answered.
    Broken(String),
}

/// What bounds a connection.
#[derive(Clone)]
pub(crate) struct Limits {
    /// How long it may be idle.
    pub idle_max: Duration,
    /// Bytes that long frames of all connections may take together.
    pub requests: Arc<RequestBudget>,
    /// Bytes that answers of all connections may take until they are read.
    pub answers: Arc<AnswerBudget>,
}

/// Serves one connection until it ends.
pub(crate) async fn run<S: AsyncRead + AsyncWrite + Send>(
    stream: S,
    handler: &mut impl Handler,
    limits: Limits,
    shutdown: watch::Receiver<bool>,
) -> End {
    let (reader, writer) = tokio::io::split(stream);
    let mut connection = Connection {
        reader,
        writer,
        frames: FrameBuffer::new(handler.frame_len_max()),
        waiting: VecDeque::new(),
        out: VecDeque::new(),
        limits,
        shutdown,
        long: None,
        is_gone: false,
    };
    match connection.serve(handler).await {
        Ok(never) => match never {},
        Err(end) => end,
    }
}

struct Connection<S> {
    reader: ReadHalf<S>,
    writer: WriteHalf<S>,
    frames: FrameBuffer,
    waiting: VecDeque<Answering>,
    out: VecDeque<Bytes>,
    limits: Limits,
    shutdown: watch::Receiver<bool>,
    /// The frame under way, if it is a long one.
    long: Option<Long>,
    /// The client closed its side, or the connection broke: what came whole is done, and nothing is answered any more.
    is_gone: bool,
}

/// A long frame that is not whole yet.
struct Long {
    share: Share,
    /// When it is looked at whether it came on.
    look_at: Instant,
    /// Bytes of it that were there at the last look.
    len_before: usize,
}

impl Long {
    fn look_later(&mut self, len: usize) {
        (self.look_at, self.len_before) = (Instant::now() + PROGRESS_EVERY, len);
    }
}

enum Never {}

impl<S: AsyncRead + AsyncWrite + Send> Connection<S> {
    async fn serve(&mut self, handler: &mut impl Handler) -> Result<Never, End> {
        loop {
            self.handle_frames(handler).await?;
            self.flush().await?;
            if self.is_gone {
                // What had to wait for answers before it.
                self.handle_frames(handler).await?;
                return Err(End::Gone);
            }
            if *self.shutdown.borrow() && self.waiting.is_empty() {
                return Err(End::Shutdown);
            }
            self.charge().await?;
            if self.is_gone {
                continue;
            }
            let look_at = self.long.as_ref().map(|long| long.look_at);
            let idle_at = Instant::now() + self.limits.idle_max;
            let full = self.waiting.len() >= WAITING_MAX;
            tokio::select! {
                biased;
                answer = front(&mut self.waiting), if !self.waiting.is_empty() => self.take(answer)?,
                read = self.reader.read_buf(self.frames.room()), if !full => self.received(read),
                () = sleep_until(look_at.unwrap_or(idle_at)), if look_at.is_some() && !full => self.look_at_progress()?,
                () = sleep_until(idle_at), if self.waiting.is_empty() => return Err(End::Idle),
                () = stopped(&mut self.shutdown), if self.waiting.is_empty() => return Err(End::Shutdown),
            }
        }
    }

    /// Takes a long frame's bytes from the budget as they arrive; waits for them if need be, so that a crowd of long frames
    /// comes in one after another rather than all into memory.
    async fn charge(&mut self) -> Result<(), End> {
        let pending = self.frames.pending_len().map_err(|e| End::Broken(e.to_string()))?;
        let Some(len) = pending.filter(|len| *len > UNCHARGED_LEN_MAX) else { return Ok(()) };
        let arrived = self.frames.buffered_len().min(len);
        let mut long = self.long.take().unwrap_or_else(|| Long {
            share: self.limits.requests.share(),
            look_at: Instant::now() + PROGRESS_EVERY,
            len_before: arrived,
        });
        if arrived > UNCHARGED_LEN_MAX && !long.share.covers(arrived) {
            // About as much again follows with the next reads.
            let charged = len.min(arrived + arrived.min(CHARGED_AHEAD_MAX));
            if !long.share.try_grow(charged) {
                // What was promised before goes first: it may be what holds the budget.
                self.drain().await?;
                if !self.is_gone {
                    long.share.grow(charged).await;
                }
                long.look_later(arrived);
            }
        }
        self.long = Some(long);
        Ok(())
    }

    /// Gives up on a long frame that does not come on.
    fn look_at_progress(&mut self) -> Result<(), End> {
        let Some(long) = &mut self.long else { return Ok(()) };
        let arrived = self.frames.buffered_len();
        let least = if self.limits.requests.is_short() { PROGRESS_LEN_MIN } else { 1 };
        if arrived.saturating_sub(long.len_before) < least {
            return Err(End::Broken("a long frame did not come on".to_owned()));
        }
        long.look_later(arrived);
        Ok(())
    }

    /// Handles every whole frame that is there.
    async fn handle_frames(&mut self, handler: &mut impl Handler) -> Result<(), End> {
        while self.waiting.len() < WAITING_MAX || self.is_gone {
            self.frames.set_max_len(handler.frame_len_max());
            let frame = self.frames.next_frame().map_err(|e| End::Broken(e.to_string()))?;
            let Some(frame) = frame else { return Ok(()) };
            // Held until the frame is handled; what is staged of it counts in the queue to the disk.
            let held = self.long.take();
            match handler.handle(frame) {
                Step::Answer(_) | Step::Later(_) | Step::Poll(_) if self.is_gone => {}
                Step::Answer(parts) if self.waiting.is_empty() => self.out.extend(parts),
                Step::Answer(parts) => self.waiting.push_back(Box::pin(std::future::ready(Ok(parts)))),
                Step::Later(answering) => self.waiting.push_back(answering),
                Step::Barrier(answering) => self.pass_barrier(answering, false).await?,
                Step::Poll(answering) => {
                    drop(held);
                    self.pass_barrier(answering, true).await?;
                }
                Step::Silent => {}
                Step::Close(why) => {
                    self.drain().await?;
                    return Err(End::Broken(why));
                }
            }
            if handler.is_over() {
                self.drain().await?;
                return Err(End::Broken("authentication failed".to_owned()));
            }
        }
        Ok(())
    }

    /// Answers everything that waits, and then this. A client that went away waits for nothing: a long poll of its ends
    /// here, but what it asked to be done is done, and so is what it sent behind. Nor does the end of the process wait for
    /// others to do what a long poll waits for.
    async fn pass_barrier(&mut self, mut answering: Answering, is_poll: bool) -> Result<(), End> {
        self.drain().await?;
        while !(is_poll && self.is_gone) {
            let ahead = !self.is_gone && self.frames.buffered_len() < READ_AHEAD_MAX;
            tokio::select! {
                biased;
                answer = &mut answering => {
                    self.take(answer)?;
                    return Ok(());
                }
                read = self.reader.read_buf(self.frames.room()), if ahead => self.received(read),
                () = stopped(&mut self.shutdown), if is_poll => return Err(End::Shutdown),
            }
        }
        Ok(())
    }

    fn received(&mut self, read: io::Result<usize>) {
        self.is_gone |= !matches!(read, Ok(1..));
    }

    async fn drain(&mut self) -> Result<(), End> {
        while !self.waiting.is_empty() && !self.is_gone {
            let answer = front(&mut self.waiting).await;
            self.take(answer)?;
        }
        self.flush().await
    }

    /// Queues the front answer, and every one behind it that is ready too.
    fn take(&mut self, answer: Result<Vec<Bytes>, String>) -> Result<(), End> {
        self.out.extend(answer.map_err(End::Broken)?);
        let mut ctx = std::task::Context::from_waker(std::task::Waker::noop());
        while let Some(next) = self.waiting.front_mut() {
            match next.as_mut().poll(&mut ctx) {
                std::task::Poll::Pending => break,
                std::task::Poll::Ready(answer) => {
                    self.waiting.pop_front();
                    self.out.extend(answer.map_err(End::Broken)?);
                }
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), End> {
        let began = self.long.as_ref().map(|_| Instant::now());
        while !self.out.is_empty() && !self.is_gone {
            let parts: Vec<io::IoSlice<'_>> =
                self.out.iter().take(PARTS_MAX).map(|part| io::IoSlice::new(part)).collect();
            let mut written = tokio::select! {
                biased;
                written = self.writer.write_vectored(&parts) => match written {
                    Ok(written) if written > 0 => written,
                    _ => {
                        self.is_gone = true;
                        break;
                    }
                },
                () = unread_for_too_long(&self.limits, &self.shutdown, self.long.is_some()) => return Err(End::Gone),
            };
            while let Some(part) = self.out.front_mut() {
                let taken = written.min(part.len());
                part.advance(taken);
                written -= taken;
                if !part.is_empty() {
                    break;
                }
                self.out.pop_front();
            }
        }
        if let (Some(long), Some(began)) = (&mut self.long, began) {
            // Nothing was read meanwhile.
            long.look_at += began.elapsed();
        }
        if self.is_gone {
            self.out.clear();
            self.waiting.clear();
            return Ok(());
        }
        self.is_gone = self.writer.flush().await.is_err();
        Ok(())
    }
}

/// Resolves when a client that reads nothing has had all the time that it may have.
async fn unread_for_too_long(limits: &Limits, shutdown: &watch::Receiver<bool>, has_share: bool) {
    let began = Instant::now();
    let mut looked_at = began + UNREAD_MAX.min(limits.idle_max);
    loop {
        sleep_until(looked_at).await;
        let is_in_the_way = limits.answers.is_short() || has_share && limits.requests.is_short();
        if is_in_the_way || *shutdown.borrow() || looked_at >= began + limits.idle_max {
            return;
        }
        looked_at = (looked_at + UNREAD_LOOK).min(began + limits.idle_max);
    }
}

/// Resolves when the process stops.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // Whoever would say so is gone too.
    drop(shutdown.wait_for(|stop| *stop).await);
}

/// Resolves with the front answer, which is taken off.
async fn front(waiting: &mut VecDeque<Answering>) -> Result<Vec<Bytes>, String> {
    let Some(answering) = waiting.front_mut() else { return std::future::pending().await };
    let answer = answering.as_mut().await;
    waiting.pop_front();
    answer
}

#[cfg(test)]
mod tests;
