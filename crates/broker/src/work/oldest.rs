//! How old the oldest record of a queue is that is not done with.

use model::Result;

use crate::{broker::Broker, stream::Stream};

impl Broker {
    /// For how long the oldest record of a queue has been there that is not settled, over its partitions, milliseconds;
    /// `None` when there is none. Read once for each record that is the oldest.
    pub async fn queue_age_ms(&self, queue: &Stream) -> Result<Option<u64>> {
        let mut oldest_ms: Option<i64> = None;
        for partition in queue.partitions() {
            let work = self.queue_work_there(queue, partition.index());
            let of_work = work.as_ref().and_then(|work| {
                work.with(|core, work| {
                    (work.cursor.floor(), core.stable_end(), work.oldest.as_deref().copied())
                })
                .ok()
            });
            let bounds = partition.bounds();
            // What nobody has worked yet waits from the start on.
            let (floor, end, known) = of_work.unwrap_or((bounds.start, bounds.stable_end, None));
            if floor >= end {
                continue;
            }
            let appended_ms = match known.filter(|(at, _)| *at == floor) {
                Some((_, appended_ms)) => Some(appended_ms),
                None => self.times_at(partition, floor).await?.map(|times| times.append_time_ms),
            };
            if let (Some(work), Some(appended_ms)) = (work, appended_ms) {
                // Gone meanwhile: nothing to remember it in.
                drop(work.with(|_, work| work.oldest = Some(Box::new((floor, appended_ms)))));
            }
            oldest_ms = oldest_ms.into_iter().chain(appended_ms).min();
        }
        let now_ms = self.env().clock.wall_ms();
        Ok(oldest_ms.map(|at_ms| u64::try_from(now_ms.saturating_sub(at_ms)).unwrap_or(0)))
    }
}
