//! Methods that manage: connection, channels, exchanges, queues, confirms.

use broker::Action;
use model::Seq;

use super::{Ending, Result, Session, consume::Consume, reply::ADDRESS};
use crate::{
    channel::{Channel, Failed},
    codec::{Method, Table, TableWriter, put_method},
    error::{Code, Exception},
    vhost::{
        Vhost,
        binding::{Binding, Target},
        exchange::{Asked, check_type, plain_name},
        queue::QueueSpec,
    },
};

type Done = std::result::Result<(), Exception>;

impl Session {
    pub(super) async fn connection_method(&mut self, method: Method<'_>) -> Result<Option<Ending>> {
        match method {
            Method::ConnectionClose { .. } => {
                self.leave().await;
                put_method(&mut self.out, 0, Method::ConnectionCloseOk {});
                Ok(Some(Ending::Done))
            }
            Method::ConnectionUpdateSecret { .. } => {
                self.update_rights().await.map_err(|refused| Failed::of(refused, &method))?;
                put_method(&mut self.out, 0, Method::ConnectionUpdateSecretOk {});
                Ok(None)
            }
            Method::ConnectionCloseOk {} => Ok(Some(Ending::Done)),
            _ => Err(Failed::of(self.unexpected(), &method)),
        }
    }

    pub(super) fn open_channel(&mut self, number: u16) -> Done {
        let max = self.channel_max;
        if self.channels.len() >= usize::from(max) {
            return Err(Exception::not_allowed(format!(
                "number of channels opened ({max}) has reached the negotiated channel_max ({max})"
            )));
        }
        self.channels.insert(number, Channel::new(number, &self.client));
        put_method(&mut self.out, number, Method::ChannelOpenOk { channel_id: b"" });
        Ok(())
    }

    /// Everything but publish and settle on an open channel. What was published and settled before comes first.
    pub(super) async fn manage(&mut self, number: u16, method: Method<'_>) -> Done {
        self.work_off().await.map_err(|failed| failed.exception)?;
        match method {
            Method::ChannelOpen { .. } => {
                Err(Exception::new(Code::ChannelError, "second 'channel.open' seen"))
            }
            Method::ChannelClose { .. } => {
                self.leave_channel(number).await;
                self.channels.remove(&number);
                self.tell_in_turn(number, Method::ChannelCloseOk {}).await;
                Ok(())
            }
            Method::ChannelCloseOk {} => Ok(()),
            Method::ChannelFlow { active: true } => {
                put_method(&mut self.out, number, Method::ChannelFlowOk { active: true });
                Ok(())
            }
            Method::ChannelFlow { active: false } => Err(Exception::not_implemented("active=false")),
            Method::AccessRequest { .. } => {
                put_method(&mut self.out, number, Method::AccessRequestOk { ticket: 1 });
                Ok(())
            }
            Method::ConfirmSelect { nowait } => {
                self.select_confirms(number)?;
                self.reply_to(number, nowait, Method::ConfirmSelectOk {})
            }
            Method::TxSelect {} | Method::TxCommit {} | Method::TxRollback {} => {
                self.transact(number, &method).await
            }
            _ if method.id().0 == 60 => self.basic(number, method).await,
            _ if method.id().0 == 50 => self.queue_method(number, method).await,
            _ => self.exchange_method(number, method).await,
        }
    }

    fn reply_to(&mut self, number: u16, nowait: bool, method: Method<'_>) -> Done {
        if !nowait {
            put_method(&mut self.out, number, method);
        }
        Ok(())
    }

    async fn basic(&mut self, number: u16, method: Method<'_>) -> Done {
        match method {
            Method::BasicQos { prefetch_size, prefetch_count, global } => {
                self.qos(number, prefetch_size, prefetch_count, global)
            }
            Method::BasicConsume {
                queue, consumer_tag: tag, no_ack, exclusive, nowait, arguments, ..
            } => self.consume(number, Consume { queue, tag, no_ack, exclusive, nowait, arguments }).await,
            Method::BasicCancel { consumer_tag, nowait } => self.cancel(number, consumer_tag, nowait).await,
            Method::BasicCancelOk { .. } => Ok(()),
            Method::BasicGet { queue, no_ack, .. } => self.get(number, queue, no_ack).await,
            Method::BasicRecover { requeue: false } | Method::BasicRecoverAsync { requeue: false } => {
                Err(Exception::not_implemented("requeue=false"))
            }
            Method::BasicRecover { .. } => {
                self.recover(number);
                self.reply_to(number, false, Method::BasicRecoverOk {})
            }
            Method::BasicRecoverAsync { .. } => {
                self.recover(number);
                Ok(())
            }
            _ => Err(unimplemented()),
        }
    }

    async fn exchange_method(&mut self, number: u16, method: Method<'_>) -> Done {
        let vhost = self.vhost()?;
        match method {
            Method::ExchangeDeclare {
                exchange,
                kind,
                passive,
                durable,
                auto_delete,
                internal,
                nowait,
                arguments,
                ..
            } => {
                let name = plain_name(exchange);
                if !passive {
                    check_type(kind)?;
                }
                if name.is_empty() {
                    return Err(default_exchange());
                }
                if passive {
                    self.check_any("exchange", &name)?;
                    vhost.check_exchange(&name)?;
                    return self.reply_to(number, nowait, Method::ExchangeDeclareOk {});
                }
                self.check_may(Action::Configure, "exchange", &name)?;
                let asked = Asked { durable, auto_delete, internal, arguments };
                let may_lead_to = |other: &str| {
                    self.check_may(Action::Read, "exchange", &name)?;
                    self.check_may(Action::Write, "exchange", other)
                };
                let seq = vhost.declare_exchange(&name, kind, asked, &may_lead_to)?;
                self.answer_after(seq);
                self.reply_to(number, nowait, Method::ExchangeDeclareOk {})
            }
            Method::ExchangeDelete { exchange, if_unused, nowait, .. } => {
                let name = plain_name(exchange);
                vhost.check_deleted(&name)?;
                self.check_may(Action::Configure, "exchange", &name)?;
                let seq = vhost.delete_exchange(&name, if_unused)?;
                self.answer_after(seq);
                self.reply_to(number, nowait, Method::ExchangeDeleteOk {})
            }
            Method::ExchangeBind { destination, source, routing_key, nowait, arguments, .. } => {
                let target = Target::Exchange(plain_name(destination).into());
                self.bind(source, &binding_of(target, routing_key.0, arguments), true)?;
                self.reply_to(number, nowait, Method::ExchangeBindOk {})
            }
            Method::ExchangeUnbind { destination, source, routing_key, nowait, arguments, .. } => {
                let target = Target::Exchange(plain_name(destination).into());
                self.bind(source, &binding_of(target, routing_key.0, arguments), false)?;
                self.reply_to(number, nowait, Method::ExchangeUnbindOk {})
            }
            _ => Err(unimplemented()),
        }
    }

    /// Binds, or unbinds.
    fn bind(&mut self, source: &str, binding: &Binding, is_there: bool) -> Done {
        let vhost = self.vhost()?;
        let source = plain_name(source);
        let (what, name) = match &binding.target {
            Target::Queue(name) => ("queue", name),
            Target::Exchange(name) => ("exchange", name),
        };
        if what == "queue" && name.starts_with(ADDRESS) {
            return Err(Exception::refused("cannot bind or unbind to a volatile (direct reply-to) queue"));
        }
        self.check_may(Action::Write, what, name)?;
        if source.is_empty() || (what == "exchange" && name.is_empty()) {
            return Err(default_exchange());
        }
        self.check_may(Action::Read, "exchange", &source)?;
        let seq = match is_there {
            true => vhost.bind(&source, binding, self.client.id)?,
            false => vhost.unbind(&source, binding, self.client.id)?,
        };
        self.answer_after(seq);
        Ok(())
    }

    async fn queue_method(&mut self, number: u16, method: Method<'_>) -> Done {
        let vhost = self.vhost()?;
        let name_of = |session: &Session, name: &str| match session.channels.get(&number) {
            Some(channel) => channel.queue_name(name).map(str::to_owned),
            None => Ok(name.to_owned()),
        };
        match method {
            Method::QueueDeclare {
                queue,
                passive,
                durable,
                exclusive,
                auto_delete,
                nowait,
                arguments,
                ..
            } => {
                let arguments = arguments.bytes().to_vec();
                let spec = QueueSpec { durable, exclusive, auto_delete, arguments };
                self.declare_queue(number, queue, passive, nowait, &spec).await
            }
            Method::QueueBind { queue, exchange, routing_key, nowait, arguments, .. } => {
                let name = name_of(self, queue)?;
                // Without a queue's and a key's name, the name is the key too.
                let is_bare = queue.is_empty() && routing_key.0.is_empty();
                let key = if is_bare { name.as_bytes() } else { routing_key.0 };
                let binding = binding_of(Target::Queue(plain_name(&name).into()), key, arguments);
                self.bind(exchange, &binding, true)?;
                self.reply_to(number, nowait, Method::QueueBindOk {})
            }
            Method::QueueUnbind { queue, exchange, routing_key, arguments, .. } => {
                let name = name_of(self, queue)?;
                let is_bare = queue.is_empty() && routing_key.0.is_empty();
                let key = if is_bare { name.as_bytes() } else { routing_key.0 };
                let binding = binding_of(Target::Queue(plain_name(&name).into()), key, arguments);
                self.bind(exchange, &binding, false)?;
                self.reply_to(number, false, Method::QueueUnbindOk {})
            }
            Method::QueuePurge { queue, nowait, .. } => {
                let name = name_of(self, queue)?;
                self.purge(number, &name, nowait).await
            }
            Method::QueueDelete { queue, if_unused, if_empty, nowait, .. } => {
                let name = plain_name(&name_of(self, queue)?);
                self.catch_up().await?;
                self.check_may(Action::Configure, "queue", &name)?;
                let deletion = vhost.find_queue(&name)?.map(|queue| queue.deletion.clone());
                let _answered_first = match deletion {
                    Some(deletion) => Some(deletion.write_owned().await),
                    None => None,
                };
                let (message_count, seq) =
                    vhost.delete_queue(&name, self.client.id, (if_unused, if_empty))?;
                self.answer_after(seq);
                self.sync_out().await.map_err(|failed| failed.exception)?;
                self.reply_to(number, nowait, Method::QueueDeleteOk { message_count })?;
                self.flush();
                Ok(())
            }
            _ => Err(unimplemented()),
        }
    }

    async fn declare_queue(
        &mut self,
        number: u16,
        queue: &str,
        passive: bool,
        nowait: bool,
        spec: &QueueSpec,
    ) -> Done {
        self.catch_up().await?;
        let vhost = self.vhost()?;
        let asked = plain_name(queue);
        if let Some(is_there) = self.is_reply_queue(&asked) {
            if !is_there {
                return Err(vhost.no_queue(&asked));
            }
            let declared = Method::QueueDeclareOk { queue: &asked, message_count: 0, consumer_count: 1 };
            return self.reply_to(number, nowait, declared);
        }
        let name = if asked.is_empty() && !passive { vhost.name_for(spec)? } else { asked };
        let (queue, seq) = if passive {
            self.check_any("queue", &name)?;
            let queue = vhost.queue(&name, self.client.id)?;
            // Who asks uses it as well.
            if !queue.arguments.is_quorum {
                vhost.touch(&queue);
            }
            (queue, Seq(0))
        } else {
            if !queue.is_empty() {
                Vhost::check_queue_name(&name)?;
            }
            self.check_may(Action::Configure, "queue", &name)?;
            let may_lead_to = |exchange: &str| {
                self.check_may(Action::Read, "queue", &name)?;
                self.check_may(Action::Write, "exchange", exchange)
            };
            vhost.declare_queue(&name, spec, self.client.id, &may_lead_to)?
        };
        if queue.owner == Some(self.client.id) {
            self.owned.add(&queue.name, |name| vhost.is_owned(name, self.client.id));
        }
        self.answer_after(seq);
        if let Some(channel) = self.channels.get_mut(&number) {
            channel.last_queue = Some(name.clone());
        }
        let (message_count, consumer_count) = (queue.ready(), queue.consumers());
        self.reply_to(number, nowait, Method::QueueDeclareOk { queue: &name, message_count, consumer_count })
    }

    async fn purge(&mut self, number: u16, name: &str, nowait: bool) -> Done {
        self.catch_up().await?;
        let vhost = self.vhost()?;
        self.check_may(Action::Read, "queue", name)?;
        let queue = vhost.queue(name, self.client.id)?;
        let count = self.server.broker.purge_queue(&queue.stream).await?;
        let message_count = u32::try_from(count).unwrap_or(u32::MAX);
        self.reply_to(number, nowait, Method::QueuePurgeOk { message_count })
    }
}

/// Arguments in another order make no other binding.
fn binding_of(target: Target, routing_key: &[u8], arguments: Table<'_>) -> Binding {
    let mut fields: Vec<_> = arguments.raw_fields().collect();
    fields.sort_by_key(|(name, _)| *name);
    let mut sorted = TableWriter::default();
    fields.iter().for_each(|(_, field)| sorted.raw(field));
    Binding { target, routing_key: routing_key.to_vec(), arguments: sorted.finish() }
}

fn default_exchange() -> Exception {
    Exception::refused("operation not permitted on the default exchange")
}

/// A method that only a server sends, or that nobody does.
fn unimplemented() -> Exception {
    Exception::new(Code::CommandInvalid, "unimplemented method")
}
