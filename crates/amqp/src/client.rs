//! What the tasks of one connection share.

use std::{
    future::poll_fn,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use tokio::sync::Notify;
use wire::{Gathered, Outbox};

/// Bytes that may wait for a client before those who send to it wait.
pub(crate) const OUTBOX_LEN: usize = 1 << 20;

/// One connection as seen by its consumers.
pub(crate) struct Client {
    /// Its number, unique in this process.
    pub id: u64,
    pub outbox: Outbox,
    /// Bytes of the longest frame, as negotiated.
    pub frame_max: AtomicUsize,
    /// The interval in which each side is to be heard, milliseconds; 0 = none is watched.
    pub heartbeat_ms: AtomicU64,
    /// It is told when the server cancels a consumer.
    pub wants_cancels: AtomicBool,
    /// Told when nothing can be sent any more.
    gone: Notify,
}

impl Client {
    pub(crate) fn new(id: u64, frame_max: usize) -> Self {
        Client {
            id,
            // Whoever sends waits above `OUTBOX_LEN`: what is there is one push of each more at most.
            outbox: Outbox::new(usize::MAX / 2),
            frame_max: AtomicUsize::new(frame_max),
            heartbeat_ms: AtomicU64::new(0),
            wants_cancels: AtomicBool::new(false),
            gone: Notify::new(),
        }
    }

    pub(crate) fn frame_max(&self) -> usize {
        self.frame_max.load(Relaxed)
    }

    /// Nothing can be sent any more: what goes on ends soon.
    pub(crate) fn end(&self) {
        self.outbox.close();
        self.gone.notify_one();
    }

    /// Whether nothing can be sent any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.outbox.is_closed()
    }

    /// Resolves when nothing can be sent any more.
    pub(crate) async fn ended(&self) {
        self.gone.notified().await;
    }

    /// Hands bytes over to the writer.
    pub(crate) fn send(&self, bytes: &[u8]) {
        let mut gathered = Gathered::default();
        gathered.slice(bytes);
        self.push(&mut gathered);
    }

    /// Hands over what was gathered. A client that is gone gets nothing.
    pub(crate) fn push(&self, gathered: &mut Gathered) {
        if !gathered.is_empty() {
            self.outbox.push(gathered);
        }
    }

    /// Whether the client has read enough for more to be sent.
    pub(crate) fn has_room_now(&self) -> bool {
        self.outbox.len() <= OUTBOX_LEN
    }

    /// Resolves when the client has read enough for more to be sent.
    pub(crate) async fn has_room(&self) {
        poll_fn(|ctx| self.outbox.poll_drained(ctx, OUTBOX_LEN)).await;
    }
}
