//! confirm.select and tx: what a channel does with what is published on it.

use std::sync::Arc;

use broker::Settlement;
use model::ErrorKind;

use super::Session;
use crate::{
    channel::{Publishing, deliveries::Deliveries, transaction::Transaction},
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
                self.held_less(number);
                Method::TxRollbackOk {}
            }
            (_, Publishing::Transaction(transaction)) => {
                let mut transaction = std::mem::take(&mut **transaction);
                let deliveries = channel.deliveries.clone();
                let committed = self.commit(&mut transaction, &deliveries).await;
                if committed.is_err() {
                    // What was not settled is out as before: it goes back with the channel, which ends for the error.
                    transaction.roll_back(&deliveries);
                }
                self.held_less(number);
                committed?;
                Method::TxCommitOk {}
            }
            _ => return Err(Exception::precondition("channel is not transactional")),
        };
        put_method(&mut self.out, number, answer);
        Ok(())
    }

    /// Stores and settles in one unit, rejects what may go to dead letters after it, and waits for the sync of all.
    async fn commit(
        &mut self,
        transaction: &mut Transaction,
        deliveries: &Arc<Deliveries>,
    ) -> Result<(), Exception> {
        let (mut own, mut apart) = transaction.settlements(deliveries);
        let (broker, vhost) = (self.server.broker.clone(), self.vhost()?);
        let mut batches = transaction.intake.take();
        let mut settlements = own.settlements();
        let kept = loop {
            match batches.publish(&vhost, &settlements) {
                Ok(kept) => break kept,
                // A queue is gone with what was to be settled there: the rest goes on without it.
                Err(error) if error.kind() == ErrorKind::Closed && forget_gone(&mut settlements) => {}
                Err(error) => self
                    .wait_for_room(error, batches.volatile_len())
                    .await
                    .map_err(|failed| failed.exception)?,
            }
        };
        own.made();
        transaction.committed();
        self.staged = self.staged.max(apart.make(&broker).await?);
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

/// Takes those out whose queue is gone. Whether there were any.
fn forget_gone(settlements: &mut Vec<Settlement>) -> bool {
    let before = settlements.len();
    settlements.retain(|one| !one.work.counts().is_err_and(|error| error.kind() == ErrorKind::Closed));
    settlements.len() < before
}
