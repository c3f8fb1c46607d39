//! Bodies within limits, and the memory that long ones may take while they are read and handled.
//!
//! What one caller takes of it is bounded, so that slow bodies of one never keep others from theirs.

use std::{
    collections::HashMap,
    future::poll_fn,
    net::IpAddr,
    pin::pin,
    sync::{Arc, Weak},
    task::Poll,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::{
    body::{Body, Incoming},
    http::request::Parts,
};
use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::{AwsError, Server, sigv4::Credential};

/// Bytes of a request's body. Messages of 1 MiB, in a form or in JSON that escapes each byte of a text in three
/// (`%C3%A9`, `\u00e9`), with as much again for what is round them.
pub(crate) const BODY_LEN_MAX: usize = 4 << 20;

/// Bodies up to here are not counted against the budget: a connection costs about as much without.
const UNCOUNTED_LEN: usize = 64 << 10;

/// Within this a body must be there, counted from its head.
pub(super) const BODY_DEADLINE: Duration = Duration::from_secs(30);

/// How long a body waits for memory before its sender is told to slow down. Shorter than [`BODY_DEADLINE`], so that the
/// sender hears the reason.
const ROOM_WAIT: Duration = Duration::from_secs(10);

/// One caller may take this part of the memory.
const SHARE: usize = 4;

/// Callers that are known before those without a body on its way are forgotten.
const CALLERS_SWEPT: usize = 1_024;

/// Who sends a body, as far as that is known before it is read: a proxy has one address for many keys, and a key that
/// was not proven is not to stand for others elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Sender {
    address: IpAddr,
    access_key_id: Option<String>,
}

impl Sender {
    /// The sender of a request from `address`. A key that nobody has counts as none.
    pub(super) fn of(server: &Server, address: IpAddr, parts: &Parts) -> Sender {
        let no_parameters = Vec::new();
        let key = Credential::of(parts, &no_parameters).map(|credential| credential.key.to_owned());
        let is_known =
            |key: &String| !server.checks_signatures() || server.broker.users().access_key(key).is_some();
        Sender { address, access_key_id: key.filter(is_known) }
    }
}

/// Memory for the long bodies of all connections.
pub(crate) struct BodyRoom {
    all: Arc<Semaphore>,
    /// Bytes of one sender at a time.
    share_len: usize,
    by_sender: Mutex<HashMap<Sender, Weak<Semaphore>>>,
}

/// What a body takes of the memory, until it is dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    _of_sender: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl BodyRoom {
    /// A quarter of the broker's memory, and never less than two bodies.
    pub(crate) fn new(memory_budget_len: usize) -> BodyRoom {
        let len = (memory_budget_len / 4).clamp(2 * BODY_LEN_MAX, Semaphore::MAX_PERMITS);
        let share_len = (len / SHARE).max(BODY_LEN_MAX);
        BodyRoom { all: Arc::new(Semaphore::new(len)), share_len, by_sender: Mutex::default() }
    }

    /// Takes `len` bytes, at most [`BODY_LEN_MAX`], once the sender's share and the whole have them.
    async fn take(&self, sender: &Sender, len: usize) -> Result<Taken, AwsError> {
        let len = u32::try_from(len).map_err(|_| too_long())?;
        let of_sender = self.share_of(sender);
        let taking = async {
            let _of_sender = of_sender.acquire_many_owned(len).await?;
            let _of_all = self.all.clone().acquire_many_owned(len).await?;
            Ok(Taken { _of_sender, _of_all })
        };
        match timeout(ROOM_WAIT, taking).await {
            Ok(taken) => taken.map_err(|_: tokio::sync::AcquireError| {
                AwsError::service_unavailable("The server is stopping.")
            }),
            Err(_) => Err(AwsError::request_throttled("Too many long requests are on their way.")),
        }
    }

    fn share_of(&self, sender: &Sender) -> Arc<Semaphore> {
        let mut by_sender = self.by_sender.lock();
        if let Some(share) = by_sender.get(sender).and_then(Weak::upgrade) {
            return share;
        }
        if by_sender.len() >= CALLERS_SWEPT {
            by_sender.retain(|_, share| share.strong_count() > 0);
        }
        let share = Arc::new(Semaphore::new(self.share_len));
        by_sender.insert(sender.clone(), Arc::downgrade(&share));
        share
    }
}

/// A whole body, with what it takes of the memory when it is long.
pub(super) async fn read(
    server: &Server,
    address: IpAddr,
    parts: &Parts,
    body: Incoming,
) -> Result<(Bytes, Option<Taken>), AwsError> {
    if body.is_end_stream() {
        return Ok((Bytes::new(), None));
    }
    let announced = body.size_hint().exact().and_then(|len| usize::try_from(len).ok());
    if announced.is_some_and(|len| len > BODY_LEN_MAX) {
        return Err(too_long());
    }
    let room = |len| async move { server.body_room.take(&Sender::of(server, address, parts), len).await };
    let mut reading = pin!(read_all(body, announced.unwrap_or(BODY_LEN_MAX), room));
    // Most bodies are there with their head, and need no timer.
    match poll_fn(|cx| Poll::Ready(reading.as_mut().poll(cx))).await {
        Poll::Ready(read) => read,
        Poll::Pending => timeout(BODY_DEADLINE, reading).await.unwrap_or_else(|_| {
            Err(AwsError::request_timeout("The request's body was not received in time."))
        }),
    }
}

async fn read_all<R: Future<Output = Result<Taken, AwsError>>>(
    mut body: Incoming,
    expected_len: usize,
    room: impl Fn(usize) -> R,
) -> Result<(Bytes, Option<Taken>), AwsError> {
    let mut first: Option<Bytes> = None;
    let mut whole = BytesMut::new();
    let mut taken = None;
    while let Some(frame) = body.frame().await {
        let broken = |_| AwsError::malformed_input("The request's body ended early.");
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        let len = first.as_ref().map_or(0, Bytes::len).max(whole.len()) + data.len();
        if len > BODY_LEN_MAX {
            return Err(too_long());
        }
        if len > UNCOUNTED_LEN && taken.is_none() {
            taken = Some(room(expected_len).await?);
        }
        // A body that came in one piece is not copied.
        match first.take() {
            None if whole.is_empty() => first = Some(data),
            earlier => {
                if whole.is_empty() {
                    whole.reserve(expected_len.min(UNCOUNTED_LEN));
                }
                whole.extend_from_slice(&earlier.unwrap_or_default());
                whole.extend_from_slice(&data);
            }
        }
    }
    Ok((first.unwrap_or_else(|| whole.freeze()), taken))
}

fn too_long() -> AwsError {
    AwsError::request_too_long(format!("The request's body has more than {BODY_LEN_MAX} bytes."))
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn sender(key: &str) -> Sender {
        Sender { address: [127, 0, 0, 1].into(), access_key_id: Some(key.to_owned()) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_sender_whose_share_is_taken_is_told_to_slow_down_and_others_are_not() {
        let room = BodyRoom::new(64 << 20);
        let held = room.take(&sender("a"), BODY_LEN_MAX).await.unwrap();
        let began = Instant::now();
        let refused = room.take(&sender("a"), 1).await.unwrap_err();
        assert_eq!((refused.code, began.elapsed()), ("RequestThrottled", ROOM_WAIT));
        let other = room.take(&sender("b"), BODY_LEN_MAX).await.unwrap();
        assert_eq!(began.elapsed(), ROOM_WAIT, "at once");
        drop(held);
        room.take(&sender("a"), BODY_LEN_MAX).await.unwrap();
        drop(other);
    }

    #[tokio::test]
    async fn the_smallest_memory_has_room_for_bodies_of_two_senders() {
        let room = BodyRoom::new(1);
        let one = room.take(&sender("a"), BODY_LEN_MAX).await.unwrap();
        let two = room.take(&sender("b"), BODY_LEN_MAX).await.unwrap();
        drop((one, two));
    }

    #[tokio::test]
    async fn senders_without_a_body_on_its_way_are_forgotten() {
        let room = BodyRoom::new(1);
        for number in 0..10 * CALLERS_SWEPT {
            drop(room.take(&sender(&number.to_string()), 1).await.unwrap());
        }
        assert!(room.by_sender.lock().len() <= CALLERS_SWEPT);
    }
}
