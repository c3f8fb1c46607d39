//! The Simple Queue Service over the broker: one file per operation.
//!
//! Beside them: [`attributes`] and [`redrive`] (queue attributes ↔ stream settings), [`queues`] (names ↔ streams),
//! [`message`], [`format`] and [`foreign`] (stored bytes, and other dialects'), [`handle`] and [`ids`] (what derives from a
//! record's place), [`sending`], [`received`] and [`settling`] (what operations have in common).

mod add_permission;
mod attempts;
mod attributes;
mod batches;
mod cancel_message_move_task;
mod change_message_visibility;
mod change_message_visibility_batch;
mod create_queue;
mod declared;
mod delete_message;
mod delete_message_batch;
mod delete_queue;
mod foreign;
mod format;
mod get_queue_attributes;
mod get_queue_url;
mod handle;
mod ids;
mod inert;
mod list_dead_letter_source_queues;
mod list_message_move_tasks;
mod list_queue_tags;
mod list_queues;
mod md5_lanes;
mod message;
mod move_tasks;
mod pages;
mod peek;
mod permissions;
mod purge_queue;
mod queues;
mod receive_message;
mod received;
mod recent;
mod redrive;
mod remove_permission;
mod send_message;
mod send_message_batch;
mod sending;
mod set_queue_attributes;
mod settling;
mod start_message_move_task;
mod tag_queue;
mod tags;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod untag_queue;
mod validate;

use std::sync::Arc;

use broker::{
    Broker,
    routing::{RouteCache, Routed},
};
use model::{Namespace, StreamKey};
use parking_lot::Mutex;

use self::{attempts::Attempts, handle::Sealer, recent::Recent};
pub use self::{
    declared::DeclaredQueue,
    format::{compose, format},
    inert::{InertSetting, inert_settings},
    sending::DIALECT,
};
pub(crate) use self::{peek::Peek, queues::LatestQueue};

use crate::{
    AwsError, Context,
    shapes::{Input, NoOutput, Output},
};

/// What the operations share, one for the process.
pub(crate) struct Service {
    sealer: Sealer,
    /// What ids of messages are made from.
    seed: u128,
    attempts: Mutex<Attempts>,
    recent: Mutex<Recent>,
    routes: Mutex<RouteCache>,
}

impl Service {
    pub(crate) fn new(broker: &Broker) -> Self {
        Service {
            sealer: Sealer::new(broker.secret()),
            seed: broker.incarnation_id(),
            attempts: Mutex::default(),
            recent: Mutex::default(),
            routes: Mutex::default(),
        }
    }

    /// Where messages of a queue go as well, by routes that people added.
    fn onward(&self, broker: &Broker, namespace: &Namespace, name: &str) -> Option<Arc<[Routed]>> {
        self.routes.lock().of(broker, namespace, sending::DIALECT, name.as_bytes())
    }

    /// Refuses to make a queue again within a minute of its deletion, where the dialect is as strict as AWS.
    fn check_not_deleted_recently(&self, ctx: &Context, key: &StreamKey) -> Result<(), AwsError> {
        if !ctx.options().strict_timing || !self.recent.lock().was_deleted(key, now_ms(ctx)) {
            return Ok(());
        }
        Err(AwsError::queue_deleted_recently(
            "You must wait 60 seconds after deleting a queue before you can create another with the same name.",
        ))
    }

    /// Calls the operation that `input` is of. The future is dropped when the connection ends.
    pub(crate) async fn call(&self, ctx: &Context, input: Input<'_>) -> Result<Output, AwsError> {
        dispatch(ctx, input).await
    }
}

#[rustfmt::skip] // One line for each operation.
async fn dispatch(ctx: &Context, input: Input<'_>) -> Result<Output, AwsError> {
    match input {
        Input::AddPermission(input) => {
            add_permission::call(ctx, input).await.map(|()| Output::AddPermission(NoOutput))
        }
        Input::CancelMessageMoveTask(input) => {
            cancel_message_move_task::call(ctx, input).await.map(Output::CancelMessageMoveTask)
        }
        Input::ChangeMessageVisibility(input) => change_message_visibility::call(ctx, input)
            .await
            .map(|()| Output::ChangeMessageVisibility(NoOutput)),
        Input::ChangeMessageVisibilityBatch(input) => {
            change_message_visibility_batch::call(ctx, input).await.map(Output::ChangeMessageVisibilityBatch)
        }
        Input::CreateQueue(input) => create_queue::call(ctx, input).await.map(Output::CreateQueue),
        Input::DeleteMessage(input) => {
            delete_message::call(ctx, input).await.map(|()| Output::DeleteMessage(NoOutput))
        }
        Input::DeleteMessageBatch(input) => {
            delete_message_batch::call(ctx, input).await.map(Output::DeleteMessageBatch)
        }
        Input::DeleteQueue(input) => {
            delete_queue::call(ctx, input).await.map(|()| Output::DeleteQueue(NoOutput))
        }
        Input::GetQueueAttributes(input) => {
            get_queue_attributes::call(ctx, input).await.map(Output::GetQueueAttributes)
        }
        Input::GetQueueUrl(input) => get_queue_url::call(ctx, input).await.map(Output::GetQueueUrl),
        Input::ListDeadLetterSourceQueues(input) => {
            list_dead_letter_source_queues::call(ctx, input).await.map(Output::ListDeadLetterSourceQueues)
        }
        Input::ListMessageMoveTasks(input) => {
            list_message_move_tasks::call(ctx, input).await.map(Output::ListMessageMoveTasks)
        }
        Input::ListQueueTags(input) => list_queue_tags::call(ctx, input).await.map(Output::ListQueueTags),
        Input::ListQueues(input) => list_queues::call(ctx, input).await.map(Output::ListQueues),
        Input::PurgeQueue(input) => {
            purge_queue::call(ctx, input).await.map(|()| Output::PurgeQueue(NoOutput))
        }
        Input::ReceiveMessage(input) => receive_message::call(ctx, input).await.map(Output::ReceiveMessage),
        Input::RemovePermission(input) => {
            remove_permission::call(ctx, input).await.map(|()| Output::RemovePermission(NoOutput))
        }
        Input::SendMessage(input) => send_message::call(ctx, input).await.map(Output::SendMessage),
        Input::SendMessageBatch(input) => {
            send_message_batch::call(ctx, input).await.map(Output::SendMessageBatch)
        }
        Input::SetQueueAttributes(input) => {
            set_queue_attributes::call(ctx, input).await.map(|()| Output::SetQueueAttributes(NoOutput))
        }
        Input::StartMessageMoveTask(input) => {
            start_message_move_task::call(ctx, input).await.map(Output::StartMessageMoveTask)
        }
        Input::TagQueue(input) => tag_queue::call(ctx, input).await.map(|()| Output::TagQueue(NoOutput)),
        Input::UntagQueue(input) => {
            untag_queue::call(ctx, input).await.map(|()| Output::UntagQueue(NoOutput))
        }
    }
}

/// Milliseconds since the Unix epoch.
fn now_ms(ctx: &Context) -> i64 {
    ctx.broker().env().clock.wall_ms()
}

/// Seconds since the Unix epoch.
fn now_s(ctx: &Context) -> i64 {
    now_ms(ctx).div_euclid(1_000)
}
