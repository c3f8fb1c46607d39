//! Direct reply-to: replies that go from the one who answers to the one who asked, through no queue.

use broker::Action;

use super::Session;
use crate::{
    channel::{Replies, assembly::Whole},
    codec::{Method, Properties, put_method},
    error::Exception,
};

/// The queue by which replies come without one, and how the addresses of those who ask begin.
pub(super) const REPLY_TO: &str = "amq.rabbitmq.reply-to";
pub(super) const ADDRESS: &str = "amq.rabbitmq.reply-to.";

impl Session {
    /// Consumes replies on a channel.
    pub(super) fn consume_replies(
        &mut self,
        number: u16,
        tag: &str,
        no_ack: bool,
        nowait: bool,
    ) -> Result<(), Exception> {
        let vhost = self.vhost()?;
        let Some(channel) = self.channels.get_mut(&number) else { return Ok(()) };
        if channel.consumers.contains_key(tag) {
            return Err(Exception::not_allowed(format!("attempt to reuse consumer tag '{tag}'")));
        }
        if !no_ack {
            return Err(Exception::precondition("reply consumer cannot acknowledge"));
        }
        if channel.replies.is_some() {
            return Err(Exception::precondition("reply consumer already set"));
        }
        let consumer_tag = if tag.is_empty() { vhost.generated("amq.ctag-") } else { tag.to_owned() };
        let address = vhost.generated(ADDRESS);
        self.server
            .replies
            .lock()
            .insert(address.clone(), (channel.deliveries.clone(), consumer_tag.clone()));
        if !nowait {
            put_method(&mut self.out, number, Method::BasicConsumeOk { consumer_tag: &consumer_tag });
        }
        channel.replies = Some(Replies { consumer_tag, address });
        Ok(())
    }

    /// Ends the consumer of replies, if it has that tag (`None`: whatever its tag).
    pub(super) fn end_replies(&mut self, number: u16, tag: Option<&str>) {
        let Some(channel) = self.channels.get_mut(&number) else { return };
        let is_meant = |replies: &mut Replies| tag.is_none_or(|tag| tag == replies.consumer_tag);
        if let Some(replies) = channel.replies.take_if(is_meant) {
            self.server.replies.lock().remove(&replies.address);
        }
    }

    /// Whether a channel has a consumer of replies, as one has to that asks for some.
    pub(super) fn check_asks(&self, number: u16) -> Result<(), Exception> {
        match self.channels.get(&number).and_then(|channel| channel.replies.as_ref()) {
            Some(_) => Ok(()),
            None => Err(Exception::precondition("fast reply consumer does not exist")),
        }
    }

    /// Properties with the address of the channel's replies, where they ask for one.
    pub(super) fn with_address(
        &self,
        number: u16,
        properties: &Properties<'_>,
    ) -> Result<Option<Vec<u8>>, Exception> {
        if properties.reply_to != Some(REPLY_TO.as_bytes()) {
            return Ok(None);
        }
        let replies = self.channels.get(&number).and_then(|channel| channel.replies.as_ref());
        let replies = replies.ok_or_else(|| Exception::precondition("fast reply consumer does not exist"))?;
        let addressed = Properties { reply_to: Some(replies.address.as_bytes()), ..*properties };
        let mut out = Vec::new();
        addressed.write(&mut out);
        Ok(Some(out))
    }

    /// Sends a reply to who asked. `None` for a message that is no reply; whether there is anybody who asked.
    pub(super) fn reply(&self, message: &Whole<'_>, properties: &[u8]) -> Result<Option<bool>, Exception> {
        if !message.exchange.is_empty() || !message.routing_key.starts_with(ADDRESS.as_bytes()) {
            return Ok(None);
        }
        self.check_may(Action::Write, "exchange", message.exchange)?;
        let Ok(address) = std::str::from_utf8(message.routing_key) else { return Ok(None) };
        let asked = self.server.replies.lock().get(address).cloned();
        Ok(Some(asked.is_some_and(|(deliveries, tag)| deliveries.reply(&tag, message, properties))))
    }

    /// Whether a name is that of a consumer of replies, and whether that is there. The name that everybody consumes them by
    /// always is.
    pub(super) fn is_reply_queue(&self, name: &str) -> Option<bool> {
        if name == REPLY_TO {
            return Some(true);
        }
        name.starts_with(ADDRESS).then(|| self.server.replies.lock().contains_key(name))
    }
}
