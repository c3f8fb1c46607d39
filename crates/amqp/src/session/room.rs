//! Room for what is published: a client that has to wait for it is told when it asked for that.

use std::time::Duration;

use model::ErrorKind;

use super::{Result, Session, internal};
use crate::{
    channel::{Failed, assembly::Assembly},
    codec::{Method, put_method},
    error::{Code, Exception},
};

/// Why connections are blocked, in the original's words.
const LOW_ON_MEMORY: &str = "low on memory";

/// How long a publish may wait for memory before its client is told.
const MEMORY_GRACE: Duration = Duration::from_millis(200);

/// Room in memory that is waited for at least, bytes: a batch takes more than its body.
const MEMORY_ROOM_LEN: usize = 1 << 20;

/// How long whoever waits for memory waits before it asks again.
const MEMORY_RETRY: Duration = Duration::from_millis(50);

impl Session {
    /// A publish that found no room waits for it: the client is slowed down, and told when it asked for that. Of what it
    /// publishes, memory alone keeps `volatile_len` bytes.
    pub(super) async fn wait_for_room(&mut self, error: model::Error, volatile_len: usize) -> Result<()> {
        let len = volatile_len.max(MEMORY_ROOM_LEN);
        match error.kind() {
            _ if self.client.outbox.is_closed() => Err(internal(error)),
            ErrorKind::Throttled if self.server.broker.is_memory_short(len) => {
                self.wait_for_memory(len).await;
                Ok(())
            }
            ErrorKind::Throttled => {
                self.server.broker.room().await;
                Ok(())
            }
            ErrorKind::Unavailable if self.server.broker.failure().is_none() => {
                self.wait_for_disk().await;
                Ok(())
            }
            _ => Err(internal(error)),
        }
    }

    /// Waits until the disk has more free space than it has to have.
    async fn wait_for_disk(&mut self) {
        self.tell_blocked("low on disk");
        loop {
            tokio::time::sleep(self.server.options.blocked_retry).await;
            if !self.server.broker.is_disk_short() || self.client.outbox.is_closed() {
                return self.tell_unblocked();
            }
        }
    }

    /// Waits until consumers have made room in memory; a client that waits for longer than a moment is told.
    async fn wait_for_memory(&mut self, len: usize) {
        let (broker, began) = (self.server.broker.clone(), tokio::time::Instant::now());
        let mut is_told = false;
        while broker.is_memory_short(len) && !self.client.outbox.is_closed() {
            if !is_told && began.elapsed() >= MEMORY_GRACE {
                self.tell_blocked(LOW_ON_MEMORY);
                is_told = true;
            }
            tokio::time::sleep(MEMORY_RETRY).await;
        }
        if is_told {
            self.tell_unblocked();
        }
    }

    /// Charges what is held of messages that are not whole or not committed. Where there is no memory for it, the client
    /// is not read from until there is; not for ever, as those who have the memory may wait for some as well.
    pub(super) async fn charge(&mut self) -> Result<()> {
        if self.held.set(self.held_len) {
            return Ok(());
        }
        self.tell_blocked(LOW_ON_MEMORY);
        let wait = self.server.options.memory_wait;
        let until = tokio::time::Instant::now() + wait;
        while !self.held.set(self.held_len) {
            if tokio::time::Instant::now() >= until || self.client.outbox.is_closed() {
                let text = "memory for messages that have not arrived whole is used up";
                let exception = Exception::new(Code::ResourceError, text);
                return Err(Failed { exception, class: 60, method: 40 });
            }
            tokio::time::sleep(MEMORY_RETRY.min(wait)).await;
        }
        self.tell_unblocked();
        Ok(())
    }

    /// What a channel holds has changed.
    pub(super) fn note_held(&mut self, number: u16) {
        if let Some(channel) = self.channels.get_mut(&number) {
            let now = channel.held_len();
            let before = std::mem::replace(&mut channel.counted_len, now);
            self.held_len = (self.held_len + now).saturating_sub(before);
        }
    }

    /// The same, where it can only be less: what is charged for it too much is given back at once.
    pub(super) fn held_less(&mut self, number: u16) {
        self.note_held(number);
        self.held.set(self.held_len);
    }

    /// A channel is gone with what it held.
    pub(super) fn forget_held(&mut self, number: u16) {
        if let Some(channel) = self.channels.get_mut(&number) {
            let before = std::mem::take(&mut channel.counted_len);
            channel.assembly = Assembly::default();
            self.held_len = self.held_len.saturating_sub(before);
            self.held.set(self.held_len);
        }
    }

    fn tell_blocked(&mut self, reason: &str) {
        if self.wants_blocked {
            self.flush();
            let mut frame = Vec::new();
            put_method(&mut frame, 0, Method::ConnectionBlocked { reason });
            self.client.send(&frame);
        }
    }

    fn tell_unblocked(&mut self) {
        if self.wants_blocked {
            let mut frame = Vec::new();
            put_method(&mut frame, 0, Method::ConnectionUnblocked {});
            self.client.send(&frame);
        }
    }
}
