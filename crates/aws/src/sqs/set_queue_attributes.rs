//! SetQueueAttributes.

use std::sync::Arc;

use broker::{Action, StreamSettings};

use super::{attributes::Attributes, create_queue::assign, queues::Queue};
use crate::{AwsError, Context, shapes::SetQueueAttributesInput};

pub(super) async fn call(ctx: &Context, input: SetQueueAttributesInput<'_>) -> Result<(), AwsError> {
    let queue = Queue::find(ctx, &input.queue_url, Action::Configure)?;
    if input.attributes.0.is_empty() {
        return Err(AwsError::missing("Attributes"));
    }
    let name = queue.name();
    let retention_before = queue.attributes.retention_s;
    let changed = change(ctx, &queue, |attributes| assign(ctx, &name, attributes, &input.attributes)).await?;
    if changed.attributes.retention_s < retention_before {
        // What is too old now need not wait for the next round.
        ctx.broker().retain(&changed.stream);
    }
    Ok(())
}

/// Changes a queue's attributes as they are when the change is made. Answers after the commit, with the queue as it is then.
pub(super) async fn change(
    ctx: &Context,
    queue: &Queue,
    change: impl FnOnce(&mut Attributes) -> Result<(), AwsError>,
) -> Result<Queue, AwsError> {
    // Which settings a redrive policy may name is looked up in the catalog, which is locked while settings change.
    let mut refused = None;
    let before = &*queue.attributes;
    let mut after = before.clone();
    change(&mut after)?;
    after.modified_s = super::now_s(ctx);
    let altered = ctx
        .broker()
        .alter_stream(queue.stream.key(), |settings: &mut StreamSettings| {
            if Attributes::of(settings) != *before {
                refused = Some(());
                return Err(model::Error::new(
                    model::ErrorKind::Conflict,
                    "the queue was changed at the same time",
                ));
            }
            after.put(settings);
            Ok(())
        })
        .await;
    match altered {
        Ok(stream) => Ok(Queue { attributes: Arc::new(Attributes::of(stream.settings())), stream }),
        Err(_) if refused.is_some() => {
            Err(AwsError::service_unavailable("The queue was changed at the same time. Try again."))
        }
        Err(e) => Err(e.into()),
    }
}
