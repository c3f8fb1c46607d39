//! What others need of a connection.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};
use wire::Outbox;

use super::{pending::Pending, replies::Replies};

/// One connection as seen by those who publish to it.
#[derive(Debug)]
pub(crate) struct Client {
    /// Its number, unique in this process.
    pub id: u64,
    pub outbox: Outbox,
    takes_headers: AtomicBool,
    wants_echo: AtomicBool,
    is_slow: AtomicBool,
    /// Told when it is cut off.
    pub cut: Notify,
    notes_replies: AtomicBool,
    replies: Mutex<Replies>,
    /// What waits for all clients.
    pub pending: Arc<Pending>,
    pub counters: Counters,
}

/// What went in and out.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub in_messages: AtomicU64,
    pub in_bytes: AtomicU64,
    pub out_messages: AtomicU64,
    pub out_bytes: AtomicU64,
    /// When it was heard last, milliseconds since 1970.
    pub active_ms: AtomicI64,
    /// Subscriptions that it has.
    pub subscriptions: AtomicU64,
}

impl Client {
    pub(crate) fn new(id: u64, pending_len_max: usize, pending: Arc<Pending>) -> Self {
        Client {
            id,
            outbox: Outbox::new(pending_len_max),
            takes_headers: AtomicBool::new(false),
            wants_echo: AtomicBool::new(true),
            is_slow: AtomicBool::new(false),
            cut: Notify::new(),
            notes_replies: AtomicBool::new(false),
            replies: Mutex::default(),
            pending,
            counters: Counters::default(),
        }
    }

    /// Takes over what its CONNECT said.
    pub(crate) fn set_options(&self, takes_headers: bool, wants_echo: bool) {
        self.takes_headers.store(takes_headers, Ordering::Relaxed);
        self.wants_echo.store(wants_echo, Ordering::Relaxed);
    }

    /// Whether it reads headers; without, it gets bodies alone.
    pub(crate) fn takes_headers(&self) -> bool {
        self.takes_headers.load(Ordering::Relaxed)
    }

    /// Whether its own messages come back to it.
    pub(crate) fn wants_echo(&self) -> bool {
        self.wants_echo.load(Ordering::Relaxed)
    }

    /// It did not read what was sent to it: it is cut off.
    pub(crate) fn cut_off(&self) {
        self.is_slow.store(true, Ordering::Relaxed);
        self.outbox.close();
        self.cut.notify_one();
    }

    /// Whether it may answer what it is asked, see [`Client::note_reply`].
    pub(crate) fn set_notes_replies(&self, notes: bool) {
        self.notes_replies.store(notes, Ordering::Relaxed);
    }

    /// It was sent a message that names where to answer.
    pub(crate) fn note_reply(&self, reply: &[u8]) {
        if self.notes_replies.load(Ordering::Relaxed) {
            self.replies.lock().note(reply, Instant::now());
        }
    }

    /// Whether it was asked to answer there, and has not yet.
    pub(crate) fn take_reply(&self, reply: &[u8]) -> bool {
        self.replies.lock().take(reply, Instant::now())
    }

    /// Whether it was cut off.
    pub(crate) fn is_slow(&self) -> bool {
        self.is_slow.load(Ordering::Relaxed)
    }
}
