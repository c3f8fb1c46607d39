//! Incremental fetch sessions (KIP-227): a client names its partitions once and then only what changes.
//!
//! Sessions are a convenience: a client whose session was evicted is told so and begins a new one. Their number and the
//! partitions in them are bounded.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Sessions kept, as the original's `max.incremental.fetch.session.cache.slots`.
const SESSIONS_MAX: usize = 1_000;

/// Partitions in all sessions together, and in one request: some 200 bytes each.
pub(crate) const PARTITIONS_MAX: usize = 500_000;

/// A session that was idle for so long may be evicted for a new one, milliseconds.
const EVICTABLE_AFTER_MS: u64 = 120_000;

/// Closes the session, or asks for none.
pub(crate) const FINAL_EPOCH: i32 = -1;
/// Asks for a new session.
pub(crate) const INITIAL_EPOCH: i32 = 0;

/// Which partition: by topic id where the request's version has ids (the name is empty then), else by name, which the
/// partitions of a topic share.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PartitionKey {
    pub topic: Arc<str>,
    pub topic_id: [u8; 16],
    pub partition: i32,
}

impl PartitionKey {
    pub(crate) fn is_same_topic(&self, other: &PartitionKey) -> bool {
        // Within a request the name is shared: only that of another topic is compared byte by byte.
        self.topic_id == other.topic_id
            && (Arc::ptr_eq(&self.topic, &other.topic) || self.topic == other.topic)
    }
}

/// What a client wants of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub offset: i64,
    pub max_bytes: i32,
    /// The client's idea of the leader epoch; -1 = none.
    pub current_leader_epoch: i32,
    /// Epoch of the last record it has; -1 = none.
    pub last_fetched_epoch: i32,
}

/// What the client was told last of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub high_watermark: i64,
    pub log_start: i64,
}

#[derive(Debug)]
struct Session {
    epoch: i32,
    by_ids: bool,
    used_at_ms: u64,
    next_turn: u64,
    turns: BTreeMap<u64, Turn>,
    by_key: HashMap<PartitionKey, u64>,
}

/// One partition of a session.
#[derive(Debug)]
struct Turn {
    key: PartitionKey,
    wanted: Wanted,
    told: Option<Told>,
    /// What its topic id stood for when it was found first.
    name: Option<Arc<str>>,
}

/// Every session of this process.
#[derive(Debug, Default)]
pub(crate) struct FetchSessions {
    sessions: HashMap<i32, Session>,
    partitions: usize,
}

/// Why a session cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionError {
    NotFound,
    InvalidEpoch,
    /// The session was begun with names and goes on with ids, or the other way round.
    TopicIdMix,
    /// More partitions than anybody has.
    TooMany,
}

/// What a fetch covers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Goes into the answer; 0 = no session.
    pub session_id: i32,
    /// Whether only what changed is answered.
    pub incremental: bool,
    /// In the order in which they get their turn.
    pub partitions: Vec<(PartitionKey, Wanted)>,
}

/// The session part of one request.
pub(crate) struct Ask {
    pub session_id: i32,
    pub epoch: i32,
    pub by_ids: bool,
    pub partitions: Vec<(PartitionKey, Wanted)>,
    pub forgotten: Vec<PartitionKey>,
    /// Whether all of it may be kept: names that no topic has are not, since they may be long.
    pub is_keepable: bool,
}

impl FetchSessions {
    /// Begins, goes on with, or ends a session. `new_id` is a random number for a session that begins.
    pub(crate) fn plan(&mut self, ask: Ask, new_id: i32, now_ms: u64) -> Result<Plan, SessionError> {
        match ask.epoch {
            FINAL_EPOCH => {
                self.remove(ask.session_id);
                Ok(Plan { session_id: 0, incremental: false, partitions: ask.partitions })
            }
            INITIAL_EPOCH => {
                self.remove(ask.session_id);
                let session_id = self.begin(&ask, new_id, now_ms);
                Ok(Plan { session_id, incremental: false, partitions: ask.partitions })
            }
            _ => self.go_on(ask, now_ms),
        }
    }

    fn begin(&mut self, ask: &Ask, new_id: i32, now_ms: u64) -> i32 {
        let id = new_id.checked_abs().unwrap_or(1).max(1);
        if ask.partitions.is_empty() || !ask.is_keepable || self.sessions.contains_key(&id) {
            return 0;
        }
        let fits = |sessions: &FetchSessions| {
            sessions.sessions.len() < SESSIONS_MAX
                && sessions.partitions + ask.partitions.len() <= PARTITIONS_MAX
        };
        if !fits(self) {
            self.evict_oldest(now_ms);
        }
        if !fits(self) {
            return 0;
        }
        let mut session = Session {
            epoch: 1,
            by_ids: ask.by_ids,
            used_at_ms: now_ms,
            next_turn: 0,
            turns: BTreeMap::new(),
            by_key: HashMap::new(),
        };
        for (key, wanted) in &ask.partitions {
            session.put(key.clone(), *wanted);
        }
        self.partitions += session.by_key.len();
        self.sessions.insert(id, session);
        id
    }

    fn go_on(&mut self, ask: Ask, now_ms: u64) -> Result<Plan, SessionError> {
        let session = self.sessions.get_mut(&ask.session_id).ok_or(SessionError::NotFound)?;
        if session.epoch != ask.epoch {
            return Err(SessionError::InvalidEpoch);
        }
        if session.by_ids != ask.by_ids {
            return Err(SessionError::TopicIdMix);
        }
        let before = session.by_key.len();
        if self.partitions + ask.partitions.len() > PARTITIONS_MAX || !ask.is_keepable {
            // It may not grow for ever: the client begins another, which is refused if it is as large.
            self.remove(ask.session_id);
            return Err(SessionError::NotFound);
        }
        for (key, wanted) in ask.partitions {
            session.put(key, wanted);
        }
        for key in &ask.forgotten {
            session.forget(key);
        }
        session.epoch = session.epoch.checked_add(1).unwrap_or(1);
        session.used_at_ms = now_ms;
        self.partitions = self.partitions + session.by_key.len() - before;
        let partitions: Vec<_> = session.turns.values().map(|turn| (turn.key.clone(), turn.wanted)).collect();
        if partitions.is_empty() {
            // As in the original: a session that is about nothing ends.
            self.remove(ask.session_id);
            return Ok(Plan { session_id: 0, incremental: false, partitions });
        }
        Ok(Plan { session_id: ask.session_id, incremental: true, partitions })
    }

    /// Whether this partition belongs into an incremental answer; notes what the client is told. `with_data` moves it
    /// behind the others, so that a busy partition does not starve them.
    pub(crate) fn tell(
        &mut self,
        session_id: i32,
        key: &PartitionKey,
        told: Told,
        with_data: bool,
        failed: bool,
    ) -> bool {
        let Some(session) = self.sessions.get_mut(&session_id) else { return true };
        let Some(turn) = session.by_key.get(key).copied() else { return true };
        let Some(known) = session.turns.get_mut(&turn) else { return true };
        let news = with_data || failed || known.told != Some(told);
        known.told = (!failed).then_some(told);
        if with_data && let Some(entry) = session.turns.remove(&turn) {
            session.by_key.insert(key.clone(), session.next_turn);
            session.turns.insert(session.next_turn, entry);
            session.next_turn += 1;
        }
        news
    }

    /// Notes what the topic id of `key` stands for.
    pub(crate) fn remember_name(&mut self, session_id: i32, key: &PartitionKey, name: Arc<str>) {
        let Some(session) = self.sessions.get_mut(&session_id) else { return };
        if let Some(turn) = session.by_key.get(key).and_then(|turn| session.turns.get_mut(turn)) {
            turn.name.get_or_insert(name);
        }
    }

    /// What the topic id of `key` stood for when the session met it first.
    pub(crate) fn name_of(&self, session_id: i32, key: &PartitionKey) -> Option<Arc<str>> {
        let session = self.sessions.get(&session_id)?;
        session.turns.get(session.by_key.get(key)?)?.name.clone()
    }

    fn remove(&mut self, id: i32) {
        if let Some(session) = self.sessions.remove(&id) {
            self.partitions -= session.by_key.len();
        }
    }

    fn evict_oldest(&mut self, now_ms: u64) {
        let oldest = self.sessions.iter().min_by_key(|(_, session)| session.used_at_ms);
        if let Some((&id, session)) = oldest
            && now_ms.saturating_sub(session.used_at_ms) >= EVICTABLE_AFTER_MS
        {
            self.remove(id);
        }
    }
}

impl Session {
    fn put(&mut self, key: PartitionKey, wanted: Wanted) {
        if let Some(turn) = self.by_key.get(&key)
            && let Some(known) = self.turns.get_mut(turn)
        {
            known.wanted = wanted;
            return;
        }
        self.by_key.insert(key.clone(), self.next_turn);
        self.turns.insert(self.next_turn, Turn { key, wanted, told: None, name: None });
        self.next_turn += 1;
    }

    fn forget(&mut self, key: &PartitionKey) {
        if let Some(turn) = self.by_key.remove(key) {
            self.turns.remove(&turn);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(partition: i32) -> PartitionKey {
        PartitionKey { topic: "t".into(), topic_id: [0; 16], partition }
    }

    fn wanted(offset: i64) -> Wanted {
        Wanted { offset, max_bytes: 1, current_leader_epoch: -1, last_fetched_epoch: -1 }
    }

    fn ask(session_id: i32, epoch: i32, partitions: &[(i32, i64)]) -> Ask {
        let partitions = partitions.iter().map(|(p, offset)| (key(*p), wanted(*offset))).collect();
        Ask { session_id, epoch, by_ids: false, partitions, forgotten: Vec::new(), is_keepable: true }
    }

    const TOLD: Told = Told { high_watermark: 5, log_start: 0 };

    #[test]
    fn a_session_remembers_its_partitions_and_answers_only_news() {
        let mut all = FetchSessions::default();
        let plan = all.plan(ask(0, INITIAL_EPOCH, &[(0, 0), (1, 0)]), 7, 0).unwrap();
        assert_eq!((plan.session_id, plan.incremental, plan.partitions.len()), (7, false, 2));
        assert!(all.tell(7, &key(0), TOLD, false, false));
        let plan = all.plan(ask(7, 1, &[(1, 9)]), 0, 0).unwrap();
        assert!(plan.incremental);
        assert_eq!(plan.partitions, [(key(0), wanted(0)), (key(1), wanted(9))]);
        assert!(!all.tell(7, &key(0), TOLD, false, false), "nothing new");
        assert!(all.tell(7, &key(0), Told { high_watermark: 6, ..TOLD }, false, false));
        assert!(
            all.tell(7, &key(0), Told { high_watermark: 6, ..TOLD }, false, true),
            "errors are always news"
        );
    }

    #[test]
    fn a_partition_with_data_gets_its_next_turn_after_the_others() {
        let mut all = FetchSessions::default();
        all.plan(ask(0, INITIAL_EPOCH, &[(0, 0), (1, 0)]), 7, 0).unwrap();
        all.tell(7, &key(0), TOLD, true, false);
        let plan = all.plan(ask(7, 1, &[]), 0, 0).unwrap();
        assert_eq!(plan.partitions, [(key(1), wanted(0)), (key(0), wanted(0))]);
    }

    #[test]
    fn forgotten_partitions_are_gone_and_ended_sessions_not_found() {
        let mut all = FetchSessions::default();
        all.plan(ask(0, INITIAL_EPOCH, &[(0, 0), (1, 0)]), 7, 0).unwrap();
        let mut forget = ask(7, 1, &[]);
        forget.forgotten = vec![key(0)];
        assert_eq!(all.plan(forget, 0, 0).unwrap().partitions, [(key(1), wanted(0))]);
        let last = all.plan(ask(7, FINAL_EPOCH, &[(3, 3)]), 0, 0).unwrap();
        assert_eq!((last.session_id, last.partitions.len()), (0, 1));
        assert_eq!(all.plan(ask(7, 2, &[]), 0, 0), Err(SessionError::NotFound));
        assert_eq!(all.partitions, 0);
    }

    #[test]
    fn a_wrong_epoch_or_a_mix_of_names_and_ids_is_refused() {
        let mut all = FetchSessions::default();
        all.plan(ask(0, INITIAL_EPOCH, &[(0, 0)]), 7, 0).unwrap();
        assert_eq!(all.plan(ask(7, 2, &[]), 0, 0), Err(SessionError::InvalidEpoch));
        let mut mixed = ask(7, 1, &[(1, 0)]);
        mixed.by_ids = true;
        assert_eq!(all.plan(mixed, 0, 0), Err(SessionError::TopicIdMix));
    }

    #[test]
    fn a_session_does_not_grow_beyond_the_cache() {
        let mut all = FetchSessions::default();
        all.plan(ask(0, INITIAL_EPOCH, &[(0, 0)]), 7, 0).unwrap();
        let many: Vec<(i32, i64)> = (0..PARTITIONS_MAX as i32).map(|partition| (partition, 0)).collect();
        assert_eq!(all.plan(ask(7, 1, &many), 0, 0), Err(SessionError::NotFound));
        assert_eq!(all.partitions, 0);
    }

    #[test]
    fn what_may_not_be_kept_is_served_without_a_session() {
        let mut all = FetchSessions::default();
        let unkept = |id, epoch| Ask { is_keepable: false, ..ask(id, epoch, &[(0, 0)]) };
        let plan = all.plan(unkept(0, INITIAL_EPOCH), 7, 0).unwrap();
        assert_eq!((plan.session_id, plan.partitions.len()), (0, 1));
        all.plan(ask(0, INITIAL_EPOCH, &[(0, 0)]), 7, 0).unwrap();
        assert_eq!(all.plan(unkept(7, 1), 0, 0), Err(SessionError::NotFound));
        assert_eq!(all.partitions, 0);
    }

    #[test]
    fn a_session_remembers_what_the_id_of_a_partition_stood_for_until_it_is_forgotten() {
        let mut all = FetchSessions::default();
        all.plan(ask(0, INITIAL_EPOCH, &[(0, 0), (1, 0)]), 7, 0).unwrap();
        all.remember_name(7, &key(0), "first".into());
        all.remember_name(7, &key(0), "other".into());
        all.remember_name(7, &key(9), "not in the session".into());
        all.tell(7, &key(0), TOLD, true, false);
        let names = |all: &FetchSessions| [0, 1, 9].map(|n| all.name_of(7, &key(n)));
        assert_eq!(names(&all), [Some("first".into()), None, None]);
        let mut forget = ask(7, 1, &[]);
        forget.forgotten = vec![key(0)];
        all.plan(forget, 0, 0).unwrap();
        assert_eq!(names(&all), [None, None, None]);
    }

    #[test]
    fn a_full_cache_evicts_only_what_was_idle_for_long() {
        let mut all = FetchSessions::default();
        for id in 1..=SESSIONS_MAX as i32 {
            assert_eq!(all.plan(ask(0, INITIAL_EPOCH, &[(0, 0)]), id, 0).unwrap().session_id, id);
        }
        let id = SESSIONS_MAX as i32 + 1;
        let young = all.plan(ask(0, INITIAL_EPOCH, &[(0, 0)]), id, EVICTABLE_AFTER_MS - 1).unwrap();
        assert_eq!(young.session_id, 0, "the client is served without a session");
        let old = all.plan(ask(0, INITIAL_EPOCH, &[(0, 0)]), id, EVICTABLE_AFTER_MS).unwrap();
        assert_eq!(old.session_id, id);
        assert_eq!(all.sessions.len(), SESSIONS_MAX);
    }
}
