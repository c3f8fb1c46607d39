//! Looking at messages without receiving them: nothing of a queue changes. For people who develop against it, under the
//! path that existing tools read.

use broker::{Action, ChunkBatch, GrantRun, ReadLimits, RecordState, Span, Work};
use model::{ErrorKind, Offset, StreamKey};

use super::{
    queues::Queue,
    received::{self, NO_HANDLE, Taken, Wanted},
};
use crate::{
    AwsError, Context,
    shapes::{Message, ReceiveMessageOutput},
};

/// Messages that are shown at most.
const SHOWN_MAX: usize = 10_000;

/// Bytes of bodies that are shown, about.
const SHOWN_LEN_MAX: usize = 32 << 20;

/// Bytes read at a time.
const READ_LEN: usize = 1 << 20;

/// Which messages are looked at.
pub(crate) struct Peek {
    /// Also those that are in flight.
    pub show_invisible: bool,
    /// Also those whose time has not come.
    pub show_delayed: bool,
}

/// What was found so far.
#[derive(Default)]
struct Shown {
    messages: Vec<Message>,
    len: usize,
}

impl Shown {
    fn is_enough(&self) -> bool {
        self.messages.len() >= SHOWN_MAX || self.len >= SHOWN_LEN_MAX
    }
}

impl Peek {
    /// The messages of a queue, oldest first.
    pub(crate) async fn look(
        &self,
        ctx: &Context,
        key: &StreamKey,
    ) -> Result<ReceiveMessageOutput, AwsError> {
        let queue = Queue::by_key(ctx, key, Action::Read)?;
        let mut shown = Shown::default();
        for work in queue.works(ctx.broker())?.0 {
            self.look_through(ctx, &queue, &work, &mut shown).await?;
        }
        Ok(ReceiveMessageOutput { messages: shown.messages })
    }

    async fn look_through(
        &self,
        ctx: &Context,
        queue: &Queue,
        work: &Work,
        shown: &mut Shown,
    ) -> Result<(), AwsError> {
        let partition = work.partition();
        let mut from = partition.bounds().start;
        while !shown.is_enough() {
            let chunk = match ctx.broker().read(partition, from, ReadLimits::bytes(READ_LEN)).await {
                Ok(chunk) => chunk,
                // What was there is deleted meanwhile.
                Err(e) if e.kind() == ErrorKind::NotFound && from < partition.bounds().start => {
                    from = partition.bounds().start;
                    continue;
                }
                Err(e) => return Err(e.into()),
            };
            for part in &chunk.batches {
                self.look_at(ctx, queue, work, part, from, shown)?;
            }
            if chunk.next <= from {
                break;
            }
            from = chunk.next;
        }
        Ok(())
    }

    fn look_at(
        &self,
        ctx: &Context,
        queue: &Queue,
        work: &Work,
        part: &ChunkBatch,
        from: Offset,
        shown: &mut Shown,
    ) -> Result<(), AwsError> {
        let batch = &part.batch;
        let delay_ms = queue.stream.settings().delay_ms;
        let due_ms = batch.append_time_ms.saturating_add_unsigned(delay_ms);
        let is_early = delay_ms > 0 && due_ms > super::now_ms(ctx);
        let is_there = |index: &u32| {
            let is_dropped = part.dropped.as_ref().is_some_and(|gone| gone.contains(*index));
            batch.base.plus(u64::from(*index)) >= from && !is_dropped && !batch.flags.control
        };
        for index in (0..batch.count).filter(is_there) {
            let offset = batch.base.plus(u64::from(index));
            let seen = self.seen(work.state(offset)?, offset, is_early);
            let Some((is_visible, is_delayed, run)) = seen else { continue };
            if shown.is_enough() {
                break;
            }
            let one = Taken { batch: batch.clone(), offset, run };
            let mut message = received::render(ctx, queue, work.partition(), &one, &Wanted::all())?;
            message.receipt_handle = NO_HANDLE.to_owned();
            let marks = [
                ("IsVisible", self.show_invisible, is_visible),
                ("IsDelayed", self.show_delayed, is_delayed),
            ];
            let marks = marks.into_iter().filter(|(_, is_wanted, _)| *is_wanted);
            message.attributes.0.extend(marks.map(|(name, _, is_so)| (name, is_so.to_string())));
            shown.len += message.body.len();
            shown.messages.push(message);
        }
        Ok(())
    }

    /// Whether a record is visible and whether it waits, with the delivery that it had last; `None` when it is not shown.
    fn seen(&self, state: RecordState, offset: Offset, is_early: bool) -> Option<(bool, bool, GrantRun)> {
        let run = |attempt, first_delivery_ms| GrantRun {
            span: Span::one(offset),
            attempt,
            is_redelivered: attempt > 1,
            is_first: attempt <= 1,
            first_delivery_ms,
        };
        match state {
            RecordState::Settled | RecordState::Beyond => None,
            RecordState::Leased(lease) => {
                self.show_invisible.then(|| (false, false, run(lease.attempt, lease.first_delivery_ms)))
            }
            RecordState::Delayed(_) => self.show_delayed.then(|| (true, true, run(0, None))),
            RecordState::Ready { attempts: 0 } if is_early => {
                self.show_delayed.then(|| (true, true, run(0, None)))
            }
            RecordState::Ready { attempts } => Some((true, false, run(attempts, None))),
            RecordState::Exhausted => Some((true, false, run(0, None))),
        }
    }
}
