//! Positions of named cursors. Each lies on the log it is about; an index says on which logs a cursor has one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use cursor::{Commit, CursorEntry, PositionCursor};
use model::{Error, Namespace, Offset, PartitionIndex, Result, Seq, StreamId};
use store::{Class, LockedLog};

use super::Broker;
use crate::{
    log_state::{
        LogState,
        positions::{Held, Move, Positions, is_idle},
    },
    position::{CursorKey, Position, PositionView},
    stream::{Partition, closed},
};

/// What a commit takes in the queue beside its metadata, bytes.
const COMMIT_OVERHEAD_LEN: usize = 600;

/// On which partitions each cursor has a position.
#[derive(Default)]
pub(crate) struct CursorIndex {
    places: BTreeMap<Arc<CursorKey>, Places>,
}

/// Where one cursor has positions.
#[derive(Default)]
struct Places {
    at: BTreeSet<(StreamId, PartitionIndex)>,
    /// How many bytes it holds back in each of them, and in those to come.
    protect_len: Option<u64>,
}

impl CursorIndex {
    /// `protected` is for how many bytes the cursor is protected from now on, where that changed.
    fn insert(
        &mut self,
        key: &Arc<CursorKey>,
        place: (StreamId, PartitionIndex),
        protected: Option<Option<u64>>,
    ) {
        let places = self.places.entry(key.clone()).or_default();
        places.at.insert(place);
        places.protect_len = protected.unwrap_or(places.protect_len);
    }

    /// For how many bytes a cursor is protected that has no position at `place` yet.
    fn protect_len_for(&self, key: &CursorKey, place: (StreamId, PartitionIndex)) -> Option<u64> {
        self.places.get(key).filter(|places| !places.at.contains(&place))?.protect_len
    }

    fn remove(&mut self, key: &CursorKey, place: (StreamId, PartitionIndex)) {
        if let Some(places) = self.places.get_mut(key) {
            places.at.remove(&place);
            if places.at.is_empty() {
                self.places.remove(key);
            }
        }
    }
}

impl Broker {
    /// Moves a cursor's positions, all in one unit; makes the cursor when it is not there. [`model::ErrorKind::Closed`]
    /// when one of the streams was deleted, [`model::ErrorKind::Limit`] for metadata beyond 32 KiB; then nothing moves.
    pub fn commit_positions(
        &self,
        cursor: &CursorKey,
        commits: Vec<(Arc<Partition>, Position)>,
    ) -> Result<Seq> {
        if commits.iter().any(|(_, position)| position.metadata.len() > cursor::METADATA_LEN_MAX) {
            return Err(Error::limit(format!(
                "commit metadata is longer than {} bytes",
                cursor::METADATA_LEN_MAX
            )));
        }
        self.inner.counters.committed_positions.add(commits.len() as u64);
        let metadata_len: usize = commits.iter().map(|(_, position)| position.metadata.len()).sum();
        let key = self.shared_key(cursor);
        let now_ms = self.env().clock.wall_ms();
        let partitions: Vec<_> = commits.iter().map(|(partition, _)| partition.clone()).collect();
        let mut commits = commits.into_iter();
        self.change_positions(&key, &partitions, metadata_len, |held| {
            let Some((_, position)) = commits.next() else { return Ok(None) };
            held.set(position.into_commit(now_ms)).map(Some)
        })
    }

    /// The one copy of a cursor's name, if it has positions already.
    fn shared_key(&self, cursor: &CursorKey) -> Arc<CursorKey> {
        let index = self.inner.cursors.lock();
        index.places.get_key_value(cursor).map_or_else(|| Arc::new(cursor.clone()), |(key, _)| key.clone())
    }

    /// Lets `change` make an entry for the cursor on each of `partitions`, in their order and in one unit.
    pub(crate) fn change_positions(
        &self,
        key: &Arc<CursorKey>,
        partitions: &[Arc<Partition>],
        extra_len: usize,
        mut change: impl FnMut(&mut PositionCursor) -> Result<Option<CursorEntry>>,
    ) -> Result<Seq> {
        let permit =
            self.store().reserve(COMMIT_OVERHEAD_LEN * partitions.len() + extra_len, Class::Drain)?;
        let logs: Vec<_> = partitions.iter().map(|partition| partition.log()).collect();
        let mut locked = self.store().lock(&logs);
        for partition in partitions {
            if locked.log(partition.log_id())?.core().is_deleted() {
                return Err(closed());
            }
        }
        let now_ms = locked.now_ms();
        let mut rests_on = Seq(0);
        for partition in partitions {
            let mut log = locked.log(partition.log_id())?;
            self.change_position(key, partition, &mut log, now_ms, &mut change)?;
            rests_on = rests_on.max(log.core().applied());
        }
        Ok(self.store().commit(permit, locked).max(rests_on))
    }

    fn change_position(
        &self,
        key: &Arc<CursorKey>,
        partition: &Partition,
        log: &mut LockedLog<'_, LogState>,
        now_ms: i64,
        change: &mut impl FnMut(&mut PositionCursor) -> Result<Option<CursorEntry>>,
    ) -> Result<()> {
        let (core, state) = log.parts();
        let positions = state.positions.get_or_insert_default();
        let held = positions.by_cursor.entry(key.clone()).or_default();
        let place = (partition.stream_id(), partition.index());
        let protected_before = held.cursor.protect_len();
        let entry = change(&mut held.cursor)?;
        let mut inherited = None;
        if let (Some(_), Some(commit)) = (&entry, held.cursor.commit()) {
            // To be compared with itself alone, so that offsets do; whether there is anything is exact.
            let lag = match core.first_from(commit.offset) {
                Some(_) => core.durable_end().since(commit.offset.max(core.start())),
                None => 0,
            };
            held.movement.add(Move { at_ms: now_ms, offset: commit.offset, lag });
            let protect_len = self.inner.cursors.lock().protect_len_for(key, place);
            inherited = protect_len.and_then(|len| held.cursor.protect(Some(len)));
        }
        let (gone, protect_len) = (is_idle(&held.cursor), held.cursor.protect_len());
        let protected = (protect_len != protected_before).then_some(protect_len);
        if gone {
            positions.by_cursor.remove(key);
            if positions.by_cursor.is_empty() {
                state.positions = None;
            }
        }
        let mut index = self.inner.cursors.lock();
        match gone {
            true => index.remove(key, place),
            false => index.insert(key, place, protected),
        }
        drop(index);
        for entry in inherited.into_iter().chain(entry) {
            log.note(Positions::note(key, &entry));
        }
        Ok(())
    }

    /// Every position of a cursor, ordered by stream and partition; `None` when there is no such cursor.
    pub fn positions(&self, cursor: &CursorKey) -> Option<Vec<PositionView>> {
        let places = self.places(cursor)?;
        let mut views: Vec<_> = places
            .into_iter()
            .filter_map(|place| {
                let (stream, partition) = self.partition_at(place)?;
                let position = self.position(cursor, &partition)?;
                Some(PositionView { stream, partition: partition.index(), position })
            })
            .collect();
        views.sort_by(|a, b| (&a.stream, a.partition).cmp(&(&b.stream, b.partition)));
        Some(views)
    }

    fn places(&self, cursor: &CursorKey) -> Option<Vec<(StreamId, PartitionIndex)>> {
        let index = self.inner.cursors.lock();
        index.places.get(cursor).map(|places| places.at.iter().copied().collect())
    }

    fn partition_at(
        &self,
        (stream, index): (StreamId, PartitionIndex),
    ) -> Option<(model::StreamKey, Arc<Partition>)> {
        let stream = self.stream_by_id(stream)?;
        let partition = stream.partition(index)?.clone();
        Some((stream.key().clone(), partition))
    }

    /// The partitions on which a cursor has a position; [`model::ErrorKind::NotFound`] when there is no such cursor.
    pub(crate) fn cursor_partitions(
        &self,
        cursor: &CursorKey,
    ) -> Result<Vec<(model::StreamKey, Arc<Partition>)>> {
        let places = self
            .places(cursor)
            .ok_or_else(|| Error::not_found(format!("there is no cursor {}", cursor.name)))?;
        let mut found: Vec<_> = places.into_iter().filter_map(|place| self.partition_at(place)).collect();
        found.sort_by(|a, b| (&a.0, a.1.index()).cmp(&(&b.0, b.1.index())));
        Ok(found)
    }

    /// A cursor's position on one partition.
    pub fn position(&self, cursor: &CursorKey, partition: &Partition) -> Option<Position> {
        self.held(cursor, partition, |held| held.cursor.commit().map(Position::from_commit))?
    }

    /// Looks at what a cursor holds on a partition.
    pub(crate) fn held<R>(
        &self,
        cursor: &CursorKey,
        partition: &Partition,
        look: impl FnOnce(&Held) -> R,
    ) -> Option<R> {
        partition.log().with(|_, state| state.positions.as_ref()?.by_cursor.get(cursor).map(look))
    }

    /// Takes positions away; those that are not there are no error.
    pub fn delete_positions(&self, cursor: &CursorKey, partitions: &[Arc<Partition>]) -> Result<Seq> {
        self.change_positions(&self.shared_key(cursor), partitions, 0, |held| Ok(held.clear()))
    }

    /// Deletes a cursor with all of its positions. Answers after the commit. [`model::ErrorKind::NotFound`] when there is
    /// no such cursor.
    pub async fn delete_cursor(&self, cursor: &CursorKey) -> Result<()> {
        let seq = self.stage_delete_cursor(cursor)?;
        self.durable(seq).await
    }

    /// [`Broker::delete_cursor`] without the wait.
    pub fn stage_delete_cursor(&self, cursor: &CursorKey) -> Result<Seq> {
        let partitions: Vec<_> =
            self.cursor_partitions(cursor)?.into_iter().map(|(_, partition)| partition).collect();
        let key = self.shared_key(cursor);
        let unprotected = self.change_positions(&key, &partitions, 0, |held| Ok(held.protect(None)))?;
        Ok(self.change_positions(&key, &partitions, 0, |held| Ok(held.clear()))?.max(unprotected))
    }

    /// The cursors of a namespace, by name.
    pub fn cursors(&self, namespace: &Namespace) -> Vec<CursorKey> {
        let index = self.inner.cursors.lock();
        let first = CursorKey { namespace: namespace.clone(), name: "".into() };
        let rest = index.places.range(first..).map(|(key, _)| CursorKey::clone(key));
        rest.take_while(|key| key.namespace == *namespace).collect()
    }

    /// Moves a cursor to `to` on each partition, whoever owns it. Answers after the commit.
    pub async fn seek(&self, cursor: &CursorKey, to: Vec<(Arc<Partition>, Offset)>) -> Result<()> {
        let commits = to.into_iter().map(|(partition, offset)| (partition, Position::at(offset))).collect();
        let seq = self.commit_positions(cursor, commits)?;
        self.durable(seq).await
    }

    /// Gives `to`, which may not be there yet, the positions of `from`. Answers after the commit.
    pub async fn copy_cursor(&self, from: &CursorKey, to: &CursorKey) -> Result<()> {
        let partitions = self.cursor_partitions(from)?;
        let position =
            |partition: Arc<Partition>| Some((partition.clone(), self.position(from, &partition)?));
        let commits = partitions.into_iter().filter_map(|(_, partition)| position(partition)).collect();
        let seq = self.commit_positions(to, commits)?;
        self.durable(seq).await
    }

    /// Lets a cursor hold retention back by up to `bytes_max` of unread records per partition, also of those on which it
    /// gets a position later; `None` = not at all.
    /// Answers after the commit. [`model::ErrorKind::NotFound`] when there is no such cursor.
    pub async fn protect(&self, cursor: &CursorKey, bytes_max: Option<u64>) -> Result<()> {
        let partitions: Vec<_> =
            self.cursor_partitions(cursor)?.into_iter().map(|(_, partition)| partition).collect();
        let seq = self
            .change_positions(&self.shared_key(cursor), &partitions, 0, |held| Ok(held.protect(bytes_max)))?;
        self.durable(seq).await
    }

    /// Takes the positions of a deleted log out of the index. Under the log's lock.
    pub(super) fn forget_positions(&self, partition: &Partition, state: &mut LogState) {
        let Some(positions) = state.positions.take() else { return };
        let mut index = self.inner.cursors.lock();
        for key in positions.by_cursor.keys() {
            index.remove(key, (partition.stream_id(), partition.index()));
        }
    }

    /// Puts the positions that a log has after a start into the index, and shares their names.
    pub(super) fn index_positions(&self, stream: StreamId, at: PartitionIndex, partition: &Partition) {
        partition.log().with(|_, state| {
            let Some(positions) = &state.positions else { return };
            let mut index = self.inner.cursors.lock();
            for (key, held) in &positions.by_cursor {
                index.insert(key, (stream, at), held.cursor.protect_len().map(Some));
            }
        });
    }
}

impl Position {
    fn into_commit(self, now_ms: i64) -> Commit {
        let committed_at_ms = if self.committed_at_ms == 0 { now_ms } else { self.committed_at_ms };
        let Position { offset, note, metadata, expires_at_ms, .. } = self;
        Commit { offset, metadata, note, committed_at_ms, expires_at_ms }
    }

    fn from_commit(commit: &Commit) -> Self {
        let Commit { offset, metadata, note, committed_at_ms, expires_at_ms } = commit.clone();
        Position { offset, note, metadata, committed_at_ms, expires_at_ms }
    }
}
