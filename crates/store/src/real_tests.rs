//! The engine on real files and threads.
#![allow(clippy::disallowed_methods)] // They are damaged behind its back.

use std::sync::{Arc, mpsc};

use model::Offset;

use crate::{
    Class, Durability, ReadLimits, Recovery, Store, StoreOptions, Upto, WalOptions,
    testing::{Commands, Notes, Scratch, batch},
};

fn open(dir: &Scratch, wal: impl FnOnce(&mut WalOptions)) -> model::Result<(Store<Notes>, Recovery)> {
    let options = StoreOptions { unflushed_len_max: 1 << 20, ..StoreOptions::default() };
    Store::open(env::real(), &dir.0, options, wal, Arc::new(Commands::default()))
}

fn small(options: &mut WalOptions) {
    (options.file_len, options.first_file_len, options.tail_len) = (256 << 10, 64 << 10, 128 << 10);
}

struct Wake(mpsc::SyncSender<()>);

impl std::task::Wake for Wake {
    fn wake(self: Arc<Self>) {
        self.0.try_send(()).ok();
    }
}

/// Waits for `seq` to be durable.
fn wait(store: &Store<Notes>, seq: model::Seq) {
    let (send, woken) = mpsc::sync_channel(1);
    store.wake_on_durable(seq, &std::task::Waker::from(Arc::new(Wake(send))));
    woken.recv().unwrap();
    assert!(store.failure().is_none());
    assert!(store.durable() >= seq);
}

/// Waits for what a thread of the engine does.
fn until(what: &str, holds: impl Fn() -> bool) {
    let clock = env::real().clock;
    let began_ns = clock.mono_ns();
    while !holds() {
        assert!(clock.mono_ns() - began_ns < 60_000_000_000, "not there after a minute: {what}");
        std::thread::yield_now();
    }
}

fn append(store: &Store<Notes>, log: &Arc<crate::Log<Notes>>, body: &[u8]) -> model::Seq {
    loop {
        match store.reserve(body.len(), Class::Publish) {
            Ok(permit) => {
                let mut locked = store.lock(&[log]);
                locked.log(log.id()).unwrap().append(batch(1, body));
                return store.commit(permit, locked);
            }
            Err(refused) => {
                assert_eq!(refused.kind(), model::ErrorKind::Throttled);
                let (send, woken) = mpsc::sync_channel(1);
                store.wake_on_room(Class::Publish, &std::task::Waker::from(Arc::new(Wake(send))));
                woken.recv().unwrap();
            }
        }
    }
}

fn count(store: &Store<Notes>, log: &Arc<crate::Log<Notes>>) -> u64 {
    let (mut from, mut records) = (Offset(0), 0);
    loop {
        let chunk = store.read_blocking(log, from, ReadLimits::default(), Upto::Stable).unwrap();
        for read in &chunk.batches {
            assert_eq!(read.batch.body[..8], read.batch.base.0.to_le_bytes());
            records += u64::from(read.batch.count);
        }
        if chunk.next <= from {
            return records;
        }
        from = chunk.next;
    }
}

/// Opens the directory again. A store that was dropped without closing holds it until the step that its workers were in
/// is over.
fn reopen(dir: &Scratch) -> (Store<Notes>, Recovery) {
    let clock = env::real().clock;
    let until_ns = clock.mono_ns() + 10_000_000_000;
    while clock.mono_ns() < until_ns {
        match open(dir, small) {
            Err(e) if e.kind() == model::ErrorKind::Unavailable => std::thread::yield_now(),
            opened => return opened.unwrap(),
        }
    }
    panic!("the directory was not given up within ten seconds");
}

#[test]
fn what_was_acknowledged_is_there_after_closing_and_after_dropping_without_closing() {
    let dir = Scratch::new("reopen");
    let mut expected = 0u64;
    for round in 0..4 {
        let (store, recovery) = reopen(&dir);
        assert!(recovery.torn.is_none() && recovery.damaged.is_empty());
        let logs = match store.logs() {
            logs if logs.is_empty() => (0..3)
                .map(|_| {
                    let permit = store.reserve(0, Class::Drain).unwrap();
                    store.create_log(permit, store.next_log_id(), Offset(0), Durability::Fsync).unwrap().0
                })
                .collect(),
            logs => logs,
        };
        for log in &logs {
            assert_eq!(count(&store, log), expected);
        }
        let mut last = model::Seq(0);
        for offset in expected..expected + 2_000 {
            let mut body = offset.to_le_bytes().to_vec();
            body.resize(if offset % 100 == 0 { 20_000 } else { 200 }, 1);
            for log in &logs {
                last = append(&store, log, &body);
            }
        }
        expected += 2_000;
        wait(&store, last);
        for log in &logs {
            assert_eq!(count(&store, log), expected);
        }
        if round % 2 == 0 {
            // The bound was passed, so that the background work is at it.
            until("a checkpoint", || store.stats().unwrap().checkpoints > 0);
            store.close().unwrap();
        }
    }
}

#[test]
fn a_second_start_on_one_directory_is_refused_and_names_the_holder() {
    let dir = Scratch::new("twice");
    let (store, _) = open(&dir, small).unwrap();
    let refused = open(&dir, small).err().unwrap();
    assert_eq!(refused.kind(), model::ErrorKind::Unavailable);
    assert!(refused.text().contains(&format!("process {}", std::process::id())), "{refused}");
    let incarnation = store.incarnation_id().unwrap();
    store.close().unwrap();
    let (store, _) = open(&dir, small).unwrap();
    assert_eq!(store.incarnation_id(), Some(incarnation));
}

#[test]
fn a_directory_of_a_newer_format_is_refused() {
    let dir = Scratch::new("newer");
    open(&dir, small).unwrap().0.close().unwrap();
    let path = dir.0.join("FORMAT");
    let text = std::fs::read_to_string(&path).unwrap();
    let newer = text.replace("wiremill data 1", "wiremill data 2");
    std::io::Write::write_all(
        &mut std::fs::OpenOptions::new().write(true).open(&path).unwrap(),
        newer.as_bytes(),
    )
    .unwrap();
    let refused = open(&dir, small).err().unwrap();
    assert_eq!(refused.kind(), model::ErrorKind::Invalid);
    assert!(refused.text().contains("format 2"), "{refused}");
}

#[test]
fn a_hundred_thousand_idle_logs_restart_in_under_a_second() {
    let dir = Scratch::new("many");
    let (store, _) = open(&dir, |_| {}).unwrap();
    let mut last = model::Seq(0);
    for _ in 0..100_000 {
        let permit = store.reserve(0, Class::Drain).unwrap();
        last = store.create_log(permit, store.next_log_id(), Offset(0), Durability::Fsync).unwrap().1;
    }
    wait(&store, last);
    store.close().unwrap();
    let clock = env::real().clock;
    let before = clock.mono_ns();
    let (store, _) = open(&dir, |_| {}).unwrap();
    let took_ms = (clock.mono_ns() - before) / 1_000_000;
    println!("100,000 logs restored in {took_ms} ms (unoptimised build: {})", cfg!(debug_assertions));
    assert_eq!(store.stats().unwrap().logs, 100_000);
    assert!(took_ms < if cfg!(debug_assertions) { 10_000 } else { 1_000 });
    store.close().unwrap();
}

#[test]
fn a_volatile_backlog_beyond_its_memory_is_spilled_and_read_back_and_its_file_goes_with_it() {
    let dir = Scratch::new("spill");
    let hands = Arc::new(crate::conformance::Hands::default());
    let env = hands.env(env::real().files, 3);
    let options =
        StoreOptions { volatile_len_max: 100_000, spill_len_max: 500_000, ..StoreOptions::default() };
    let (store, _) =
        Store::<Notes>::open(env, &dir.0, options, small, Arc::new(Commands::default())).unwrap();
    let permit = store.reserve(0, Class::Drain).unwrap();
    let log = store.create_log(permit, store.next_log_id(), Offset(0), Durability::Memory).unwrap().0;
    hands.run();
    let mut appended = 0u64;
    while store.reserve_volatile(1000).is_ok() {
        let mut body = appended.to_le_bytes().to_vec();
        body.resize(1000, 5);
        let mut locked = store.lock(&[&log]);
        locked.log(log.id()).unwrap().append(batch(1, &body));
        store.commit(store.reserve(0, Class::Drain).unwrap(), locked);
        appended += 1;
        hands.run();
    }
    assert!(appended > 400, "memory alone would have held a hundred: {appended}");
    let stats = store.stats().unwrap();
    assert!(stats.spilled_len > 300_000 && stats.spilled_len <= 500_000, "{stats:?}");
    assert_eq!(count(&store, &log), appended);
    let permit = store.reserve(0, Class::Drain).unwrap();
    let mut locked = store.lock(&[&log]);
    locked.log(log.id()).unwrap().trim(Offset(appended));
    store.commit(permit, locked);
    let stats = store.stats().unwrap();
    assert_eq!(stats.volatile_len, 0);
    // The file that is still written to stays; a start removes it.
    let files = || env::real().files.list(&dir.0.join("spill")).unwrap().len();
    assert!(files() <= 1);
    store.close().unwrap();
    drop((store, log));
    hands.drop_everything();
    open(&dir, small).unwrap().0.close().unwrap();
    assert_eq!(files(), 0);
}

#[test]
fn a_volatile_backlog_of_tiny_records_stays_within_its_share_of_memory() {
    const SHARE: u64 = 2 << 20;
    const LOGS: u64 = 20;
    const EACH: u64 = 4_000;
    let dir = Scratch::new("tiny");
    let hands = Arc::new(crate::conformance::Hands::default());
    let env = hands.env(env::real().files, 3);
    let options = StoreOptions { volatile_len_max: SHARE, ..StoreOptions::default() };
    let (store, _) =
        Store::<Notes>::open(env, &dir.0, options, small, Arc::new(Commands::default())).unwrap();
    let create = |_| {
        let permit = store.reserve(0, Class::Drain).unwrap();
        store.create_log(permit, store.next_log_id(), Offset(0), Durability::Memory).unwrap().0
    };
    let logs: Vec<_> = (0..LOGS).map(create).collect();
    hands.run();
    for number in 0..EACH {
        for log in &logs {
            assert!(store.reserve_volatile(16).is_ok(), "{:?}", store.stats());
            let mut body = number.to_le_bytes().to_vec();
            body.resize(16, 5);
            let mut locked = store.lock(&[log]);
            locked.log(log.id()).unwrap().append(batch(1, &body));
            store.commit(store.reserve(0, Class::Drain).unwrap(), locked);
        }
        hands.run();
    }
    let stats = store.stats().unwrap();
    // Their headers alone would take ten times their share.
    assert!(stats.volatile_len <= SHARE * 5 / 8 && stats.spilled_len > EACH * LOGS * 16, "{stats:?}");
    // What goes from a spilled run is not delivered any more, and the rest is.
    let mut locked = store.lock(&[&logs[0]]);
    locked.log(logs[0].id()).unwrap().drop_offsets(vec![Offset(0)..Offset(1), Offset(3_000)..Offset(3_100)]);
    store.commit(store.reserve(0, Class::Drain).unwrap(), locked);
    assert_eq!(logs[0].with(|core, _| core.records()), EACH - 101);
    let chunk = store.read_blocking(&logs[0], Offset(2_999), ReadLimits::default(), Upto::Stable).unwrap();
    let bases: Vec<u64> = chunk.batches.iter().map(|read| read.batch.base.0).take(2).collect();
    assert_eq!(bases, [2_999, 3_100]);
    for log in &logs[1..] {
        assert_eq!(count(&store, log), EACH);
    }
    for log in &logs {
        let mut locked = store.lock(&[log]);
        locked.log(log.id()).unwrap().trim(Offset(EACH));
        store.commit(store.reserve(0, Class::Drain).unwrap(), locked);
    }
    assert_eq!(store.stats().unwrap().volatile_len, 0);
}
