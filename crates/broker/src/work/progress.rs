//! How far a cursor is, and what it is for.

use bytes::Bytes;
use model::{Offset, Result, Seq};
use store::Class;

use super::{OPEN_LEN, Work, gone, state};

/// How far a work cursor is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkProgress {
    /// Everything below is settled.
    pub floor: Offset,
    /// The offset after its last delivery.
    pub delivered_end: Offset,
    /// Records that were delivered and are not settled, whether somebody has them or they are to be delivered again.
    pub outstanding: u64,
    /// Those among them that were delivered more than once.
    pub redelivered: u64,
    /// Those among them that were released for ever: their delay never ends.
    pub parked: u64,
}

impl Work {
    /// How far the cursor is, after leases and delays have ended whose time has come. Takes time with what is out.
    pub fn progress(&self) -> Result<WorkProgress> {
        self.with_now(|work| {
            let outstanding = work.cursor.outstanding();
            WorkProgress {
                floor: work.cursor.floor(),
                delivered_end: work.cursor.delivered_end(),
                outstanding: outstanding.count,
                redelivered: outstanding.redelivered,
                parked: outstanding.parked,
            }
        })
    }

    /// Makes the cursor one for records whose route key matches one of `filter` (empty = all). What it passed over stays
    /// passed over. Wait for the sequence. [`model::ErrorKind::Invalid`] for a filter that does not read.
    pub fn set_filter(&self, filter: Vec<String>) -> Result<Seq> {
        let patterns = state::patterns_of(&filter)?;
        let store = self.broker.store();
        let len = OPEN_LEN + self.name.len() + filter.iter().map(String::len).sum::<usize>();
        let permit = store.reserve(len, Class::Drain)?;
        let mut locked = store.lock(&[self.partition.log()]);
        let mut log = locked.log(self.partition.log_id())?;
        let (core, state) = log.parts();
        let note: Bytes = state::filter_note(&self.name, &filter);
        let works = state.works.as_mut();
        if !works.is_some_and(|works| works.set_filter(&self.name, filter, patterns, Some(core))) {
            return Err(gone());
        }
        log.note(note);
        Ok(store.commit(permit, locked))
    }
}
