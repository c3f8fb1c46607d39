//! confirm.select and tx: what a channel does with what is published on it.

use super::Session;
use crate::{
    channel::{Publishing, transaction::Transaction},
    codec::{Method, put_method},
    error::Exception,
};

impl Session {
    pub(super) fn select_confirms(&mut self, number: u16) -> Result<(), Exception> {
        let Some(channel) = self.channels.get_mut(&number) else { return Ok(()) };
        match channel.publishing {
            Publishing::Plain => channel.publishing = Publishing::Confirmed(0),
            Publishing::Confirmed(_) => {}
            Publishing::Transaction(_) => {
                return Err(Exception::precondition("cannot switch from tx to confirm mode"));
            }
        }
        Ok(())
    }

    pub(super) async fn transact(&mut self, number: u16, method: &Method<'_>) -> Result<(), Exception> {
        let Some(channel) = self.channels.get_mut(&number) else { return Ok(()) };
        let answer = match (method, &mut channel.publishing) {
            (Method::TxSelect {}, Publishing::Confirmed(_)) => {
                return Err(Exception::precondition("cannot switch from confirm to tx mode"));
            }
            (Method::TxSelect {}, Publishing::Transaction(_)) => Method::TxSelectOk {},
            (Method::TxSelect {}, publishing) => {
                *publishing = Publishing::Transaction(Box::default());
                Method::TxSelectOk {}
            }
            (Method::TxRollback {}, Publishing::Transaction(transaction)) => {
                std::mem::take(&mut **transaction).roll_back(&channel.deliveries);
                Method::TxRollbackOk {}
            }
            (_, Publishing::Transaction(transaction)) => {
                let transaction = std::mem::take(&mut **transaction);
                self.commit(number, transaction).await?;
                Method::TxCommitOk {}
            }
            _ => return Err(Exception::precondition("channel is not transactional")),
        };
        put_method(&mut self.out, number, answer);
        Ok(())
    }

    /// Stores and settles in one unit, and waits for its sync.
    async fn commit(&mut self, number: u16, mut transaction: Transaction) -> Result<(), Exception> {
        let Some(channel) = self.channels.get(&number) else { return Ok(()) };
        let (mut own, mut apart) = transaction.settlements(&channel.deliveries);
        let (broker, vhost) = (self.server.broker.clone(), self.vhost()?);
        self.note_held(number);
        let mut batches = transaction.intake.take();
        let settlements = own.settlements();
        let kept = loop {
            match batches.publish(&vhost, &settlements) {
                Ok(kept) => break kept,
                Err(error) if error.kind() == model::ErrorKind::Closed && !settlements.is_empty() => {
                    // A queue is gone with what was to be settled there: the rest goes on without it.
                    own.make(&broker).await?;
                    break batches.publish(&vhost, &[])?;
                }
                Err(error) => self
                    .wait_for_room(error, batches.volatile_len())
                    .await
                    .map_err(|failed| failed.exception)?,
            }
        };
        own.made();
        apart.make(&broker).await?;
        if !kept.letters.is_empty() {
            let wait = self.store_letters(&kept).await.map_err(|failed| failed.exception)?;
            self.staged = self.staged.max(wait);
        }
        self.staged = self.staged.max(kept.answer.wait);
        self.durable(self.staged).await?;
        self.flush();
        self.client.push(&mut transaction.returned);
        match kept.is_partial {
            true => Err(Exception::precondition("partial tx completion")),
            false => Ok(()),
        }
    }
}
