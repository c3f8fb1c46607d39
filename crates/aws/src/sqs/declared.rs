//! Queues that somebody declared beforehand, in a settings file: made when they are not there, and changed to what was
//! declared when they are. What is not declared of a queue stays as it is.

use std::sync::Arc;

use broker::{Principal, StreamSettings};
use model::{Namespace, StreamKey};

use super::{
    attributes::{Attributes, Redrive},
    create_queue::{create, default_redrive},
    queues::{check_name, stream_of},
};
use crate::{AccountId, Caller, Context, Server, door::Delivery};

/// A queue of the namespace `public/default`. What is `None` is as in a queue that says nothing of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeclaredQueue {
    /// As clients call it; one that ends in `.fifo` is a FIFO queue.
    pub name: String,
    /// Attributes that stand for themselves, by their names and as a client would give them.
    pub attributes: Vec<(&'static str, String)>,
    /// Its dead-letter queue, which is declared as well or there already.
    pub dead_letter: Option<String>,
    /// Receives before a message goes there, 1..=1000; 10 unless it says so.
    pub delivery_limit: Option<u32>,
    /// How long deleted messages are kept, milliseconds.
    pub history_ms: Option<u64>,
}

/// Receives before a message goes to its dead letters where nobody says, as AWS's console has it.
const RECEIVES_DEFAULT: u32 = 10;

impl Server {
    /// Makes and changes queues so that they are as declared. Answers after the commit; the error is for whoever declared.
    pub async fn declare(self: &Arc<Self>, queues: &[DeclaredQueue]) -> Result<(), String> {
        let ctx = Context {
            server: self.clone(),
            caller: Arc::new(Caller {
                account: AccountId::of_tenant("public"),
                region: self.options.region.as_str().into(),
                namespace: Namespace::default(),
                principal: Principal::anonymous(),
                access_key_id: None,
            }),
            base_url: "http://localhost".into(),
            delivery: Delivery::default(),
            latest_queue: Default::default(),
        };
        // All of them first: one may be the dead-letter queue of another.
        for queue in queues {
            queue.make(&ctx).await.map_err(|why| format!("queue {:?}: {why}", queue.name))?;
        }
        for queue in queues {
            queue.bring_about(&ctx).await.map_err(|why| format!("queue {:?}: {why}", queue.name))?;
        }
        Ok(())
    }
}

impl DeclaredQueue {
    fn is_fifo(&self) -> bool {
        self.name.ends_with(".fifo")
    }

    fn key(&self) -> StreamKey {
        StreamKey::queue(&Namespace::default(), &self.name)
    }

    async fn make(&self, ctx: &Context) -> Result<(), String> {
        if let Some(known) = stream_of(ctx, &self.key()) {
            if Attributes::of(known.settings()).is_fifo != self.is_fifo() {
                return Err(
                    "it is there, made as a queue of the other type: delete it, or rename it here".to_owned()
                );
            }
            return Ok(());
        }
        // Dead-letter queues of FIFO queues are named after them.
        match check_name(&self.name, self.is_fifo()) {
            Err(error) if !self.is_dead_letter_name() => return Err(text(error)),
            _ => {}
        }
        let now_s = super::now_s(ctx);
        let mut wanted = Attributes {
            is_fifo: self.is_fifo(),
            created_s: now_s,
            modified_s: now_s,
            ..Attributes::default()
        };
        self.assign(&mut wanted)?;
        if self.dead_letter.is_none() {
            wanted.redrive = default_redrive(ctx, &self.key(), &wanted).map_err(text)?;
        }
        let wait = create(ctx, self.key(), &wanted).map_err(text)?;
        ctx.broker().durable(wait).await.map_err(|error| error.to_string())
    }

    fn is_dead_letter_name(&self) -> bool {
        let base = self.name.strip_suffix(super::create_queue::DEAD_SUFFIX);
        base.is_some_and(|base| check_name(base, base.ends_with(".fifo")).is_ok())
    }

    /// Changes the queue where it is not as declared.
    async fn bring_about(&self, ctx: &Context) -> Result<(), String> {
        let known = stream_of(ctx, &self.key()).ok_or("it was deleted meanwhile")?;
        let settings = known.settings();
        let mut wanted = Attributes::of(settings);
        self.assign(&mut wanted)?;
        if let Some(redrive) = self.redrive(ctx)? {
            wanted.redrive = Some(redrive);
        }
        let is_as_declared = wanted == Attributes::of(settings)
            && self.history_ms.is_none_or(|history_ms| settings.history_ms == Some(history_ms));
        if is_as_declared {
            return Ok(());
        }
        wanted.modified_s = super::now_s(ctx);
        let change = |settings: &mut StreamSettings| {
            wanted.put(settings);
            settings.history_ms = self.history_ms.or(settings.history_ms);
            Ok(())
        };
        ctx.broker().alter_stream(known.key(), change).await.map(drop).map_err(|error| error.to_string())
    }

    fn assign(&self, to: &mut Attributes) -> Result<(), String> {
        self.attributes.iter().try_for_each(|(name, value)| to.set(name, value)).map_err(text)
    }

    fn redrive(&self, ctx: &Context) -> Result<Option<Redrive>, String> {
        let Some(name) = &self.dead_letter else { return Ok(None) };
        let receive_count_max = self.delivery_limit.unwrap_or(RECEIVES_DEFAULT);
        if !(1..=1_000).contains(&receive_count_max) {
            return Err("delivery_limit must be from 1 to 1000".to_owned());
        }
        let target = stream_of(ctx, &StreamKey::queue(&Namespace::default(), name)).ok_or_else(|| {
            format!("its dead_letter {name:?} is not there; declare it as well, as [queues.{name:?}]")
        })?;
        Ok(Some(Redrive { target: target.key().clone(), receive_count_max }))
    }
}

fn text(error: crate::AwsError) -> String {
    error.message.into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqs::testing::Rig;

    fn declared(name: &str) -> DeclaredQueue {
        DeclaredQueue { name: name.to_owned(), ..DeclaredQueue::default() }
    }

    #[tokio::test]
    async fn declared_queues_are_made_once_and_changed_where_they_differ() {
        let rig = Rig::new();
        let jobs = DeclaredQueue {
            attributes: vec![("VisibilityTimeout", "7".to_owned())],
            dead_letter: Some("dead".to_owned()),
            history_ms: Some(5_000),
            ..declared("jobs")
        };
        rig.server.declare(&[jobs.clone(), declared("dead"), declared("q.fifo")]).await.unwrap();
        assert_eq!(rig.attribute("jobs", "VisibilityTimeout").await, "7");
        let policy = rig.attribute("jobs", "RedrivePolicy").await;
        assert!(policy.contains(":dead\"") && policy.contains(":10}"), "{policy}");
        assert_eq!(rig.attribute("q.fifo", "FifoQueue").await, "true");
        rig.send("jobs", "a").await;
        rig.set("jobs", &[("DelaySeconds", "3")]).await.unwrap();

        let jobs = DeclaredQueue { attributes: vec![("VisibilityTimeout", "8".to_owned())], ..jobs };
        rig.server.declare(&[jobs]).await.unwrap();
        assert_eq!(rig.attribute("jobs", "VisibilityTimeout").await, "8");
        assert_eq!(rig.attribute("jobs", "DelaySeconds").await, "3", "what is not declared stays");
        assert_eq!(rig.bodies("jobs", 1).await, ["a"], "and so do messages");
    }

    #[tokio::test]
    async fn what_cannot_be_is_refused_with_the_queue_s_name() {
        let rig = Rig::new();
        let lost = DeclaredQueue { dead_letter: Some("nowhere".to_owned()), ..declared("jobs") };
        let long = DeclaredQueue { attributes: vec![("DelaySeconds", "901".to_owned())], ..declared("jobs") };
        for (queue, expected) in [
            (lost, "its dead_letter \"nowhere\" is not there"),
            (long, "Invalid value for the parameter DelaySeconds"),
            (declared("a b"), "Can only include alphanumeric characters"),
        ] {
            let why = rig.server.declare(std::slice::from_ref(&queue)).await.unwrap_err();
            assert!(why.starts_with(&format!("queue {:?}: {expected}", queue.name)), "{why}");
        }
    }
}
