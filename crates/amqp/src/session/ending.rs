//! How channels and sessions end.

use model::Seq;

use super::Session;
use crate::{
    channel::{Failed, Publishing, deliveries::Deliveries},
    codec::{Method, put_method},
    intake::Answer,
};

impl Session {
    /// Closes a channel with an error.
    pub(super) async fn fail_channel(&mut self, number: u16, failed: &Failed) {
        self.leave_channel(number).await;
        if let Some(channel) = self.channels.get_mut(&number) {
            channel.is_closing = true;
        }
        let text = failed.exception.text();
        let method = Method::ChannelClose {
            code: failed.exception.code.number(),
            text: &text,
            class: failed.class,
            method: failed.method,
        };
        self.tell_in_turn(number, method).await;
    }

    /// Tells the end of a channel after the confirms of what was published on it: after it, a client takes them for a
    /// breach of the protocol, or for those of a new channel of the same number.
    pub(super) async fn tell_in_turn(&mut self, number: u16, method: Method<'_>) {
        let mut frames = Vec::new();
        put_method(&mut frames, number, method);
        self.answer(Answer { wait: Seq(0), frames }).await;
    }

    /// Ends everything that goes on on a channel: consumers stop, what is out goes back.
    pub(super) async fn leave_channel(&mut self, number: u16) {
        self.end_replies(number, None);
        let Some(channel) = self.channels.get_mut(&number) else { return };
        let consumers: Vec<_> = channel.consumers.drain().map(|(_, consumer)| consumer).collect();
        let deliveries = channel.deliveries.clone();
        if let Publishing::Transaction(transaction) = std::mem::take(&mut channel.publishing) {
            transaction.roll_back(&deliveries);
        }
        self.forget_held(number);
        for running in &consumers {
            Deliveries::stop(&running.consumer.lessee);
        }
        self.give_back(&deliveries);
        consumers.iter().for_each(|running| self.left(&running.consumer));
        // Before the consumers leave: whose turn is next finds what comes back in its place.
        if let Err(failed) = self.work_off().await {
            tracing::warn!(error = %failed.exception, "what was out on a channel could not be given back");
        }
        for running in consumers {
            running.ended().await;
        }
    }

    /// Takes the session apart: whatever it had goes back or goes away.
    pub(crate) async fn leave(&mut self) {
        let numbers: Vec<u16> = self.channels.keys().copied().collect();
        for number in numbers {
            self.leave_channel(number).await;
        }
        self.channels.clear();
        if let Some(vhost) = &self.vhost {
            vhost.drop_owned(self.owned.take(), self.client.id);
        }
    }

    /// Answers a client that closed the connection as it was told that it ends.
    pub(crate) fn tell_close_ok(&mut self) {
        put_method(&mut self.out, 0, Method::ConnectionCloseOk {});
        self.flush();
    }

    /// Tells the client why the connection ends.
    pub(crate) fn tell_end(&mut self, failed: &Failed) {
        let text = failed.exception.text();
        let method = Method::ConnectionClose {
            code: failed.exception.code.number(),
            text: &text,
            class: failed.class,
            method: failed.method,
        };
        put_method(&mut self.out, 0, method);
        self.flush();
    }
}
