use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use model::{LogId, Namespace, Seq, StreamId, StreamKey};
use store::Durability;

use super::{command::Section, *};
use crate::{
    documents::DocumentKey,
    settings::{DeadLetter, Facets, Mode, Overflow, Retention, StreamSettings, TimeSource},
    user::{Action, Permission, ScramVerifier},
};

fn key(name: &str) -> StreamKey {
    StreamKey::log(&Namespace::default(), name)
}

fn rich_settings() -> StreamSettings {
    StreamSettings {
        mode: Mode::Queue,
        durability: Durability::Memory,
        retention: Retention { time_ms: Some(7), bytes: Some(0), records: Some(u64::MAX) },
        batch_len_max: Some(1),
        record_len_max: Some(2),
        time: TimeSource::Append,
        length_max: Some(3),
        bytes_max: Some(4),
        overflow: Overflow::Deflect,
        limits_ready: true,
        dead_letter: Some(DeadLetter { target: key("dead"), route_key: Some("again".into()) }),
        delivery_limit: Some(5),
        exhaust: crate::Exhaust::WhenOffered,
        lease_ms: Some(6),
        delay_ms: 8,
        ttl_ms: Some(9),
        dedup_window_ms: 0,
        index_route_keys: true,
        entry_keys: vec!["a.*".into(), "b".into()],
        key_records_max: Some(5),
        key_overflow: Overflow::Refuse,
        expires_records: true,
        over: Some(key("base")),
        history_ms: Some(5),
        extras: BTreeMap::from([("x.a".into(), "1".into()), ("x.b".into(), String::new())]),
    }
}

fn record(name: &str, log: u64) -> StreamRecord {
    StreamRecord {
        key: key(name),
        id: StreamId(u128::from(log) << 70),
        settings: Arc::new(rich_settings()),
        facets: Facets { hidden: true, ..Facets::default() },
        logs: [LogId(log), LogId(log + 1)].into(),
    }
}

fn user() -> UserRecord {
    let verifier = ScramVerifier {
        salt: Bytes::from_static(b"salt"),
        iterations: 4096,
        stored_key: Bytes::from_static(b"stored"),
        server_key: Bytes::from_static(b"server"),
    };
    UserRecord {
        tenant: "public".into(),
        password: Some(verifier.clone()),
        sha256: None,
        sha512: Some(verifier),
        permissions: [Permission::allow(Action::Write, "orders.*"), Permission::deny(Action::Respond, "a")]
            .into(),
    }
}

fn document(name: &str) -> DocumentKey {
    DocumentKey { dialect: "plain".into(), namespace: Namespace::default(), name: name.into() }
}

fn commands() -> Vec<Command> {
    vec![
        Command::Init { incarnation: u128::MAX - 5, secret: 9 },
        Command::CreateStream(record("orders", 1)),
        Command::CreateStream(record("gone", 3)),
        Command::AlterStream { key: key("orders"), settings: Arc::default() },
        Command::AddPartitions { key: key("orders"), logs: [LogId(9)].into() },
        Command::DeleteStream { key: key("gone") },
        Command::LogsGone(vec![LogId(3)]),
        Command::ProducerIds { below: 1_000 },
        Command::PutDocument { key: document("kept"), body: Some(Bytes::from_static(b"body")) },
        Command::PutDocument { key: document("gone"), body: Some(Bytes::new()) },
        Command::PutDocument { key: document("gone"), body: None },
        Command::PutUser { name: "ann".into(), user: Box::new(user()) },
        Command::PutUser { name: "bob".into(), user: Box::new(user()) },
        Command::DeleteUser { name: "bob".into() },
        Command::PutEntry {
            section: Section::Routes,
            key: Bytes::from_static(b"1"),
            body: Some(Bytes::from_static(b"r")),
        },
        Command::PutEntry { section: Section::Routes, key: Bytes::from_static(b"2"), body: None },
    ]
}

fn after(commands: impl IntoIterator<Item = Command>) -> CatalogState {
    let mut state = CatalogState::default();
    for (seq, command) in (1..).zip(commands) {
        state.apply(Seq(seq), command).unwrap();
    }
    state
}

#[test]
fn every_command_reads_back_as_written_and_none_reads_cut_short() {
    for command in commands() {
        let bytes = command.encode();
        assert_eq!(Command::decode(&bytes).unwrap(), command);
        for len in 0..bytes.len() {
            assert!(Command::decode(&bytes[..len]).is_err(), "{command:?} cut to {len}");
        }
    }
}

#[test]
fn an_unknown_version_of_a_command_is_refused() {
    let mut bytes = Command::ProducerIds { below: 1 }.encode().to_vec();
    bytes[0] = 2;
    assert!(Command::decode(&bytes).unwrap_err().text().contains("unknown version"));
}

#[test]
fn a_snapshot_of_a_newer_program_is_that_and_no_damage() {
    let mut bytes = after(commands()).snapshot();
    bytes[0] += 1;
    let catalog = CatalogState::restore(&bytes).err().unwrap();
    let none = |_| Err(model::Error::not_found("no annex"));
    let log =
        store::Attached::restore(&mut crate::log_state::LogState::default(), &[200], &none).unwrap_err();
    for refused in [catalog, log] {
        assert_eq!(refused.kind(), model::ErrorKind::Invalid, "{refused}");
        assert!(refused.text().contains("newer program"), "{refused}");
    }
}

#[test]
fn a_snapshot_holds_what_replaying_the_commands_gives() {
    let state = after(commands());
    let restored = CatalogState::restore(&state.snapshot()).unwrap();
    assert_eq!(restored.snapshot(), state.snapshot());
    assert_eq!(restored.applied, Seq(commands().len() as u64));
    assert_eq!(restored.log_id_max, LogId(9));
    let orders = restored.streams.get(&key("orders")).unwrap();
    assert_eq!(orders.logs(), [LogId(1), LogId(2), LogId(9)]);
    assert_eq!(**orders.settings(), StreamSettings::default());
    assert_eq!(restored.doomed.iter().copied().collect::<Vec<_>>(), [LogId(4)]);
    assert_eq!(restored.tenant_counts.values().sum::<usize>(), 1);
    assert_eq!(restored.users.keys().map(|name| &**name).collect::<Vec<_>>(), ["ann"]);
    assert_eq!(restored.documents.len(), 1);
}

#[test]
fn a_damaged_snapshot_is_refused_at_every_length() {
    let bytes = after(commands()).snapshot();
    for len in 0..bytes.len() {
        assert!(CatalogState::restore(&bytes[..len]).is_err(), "cut to {len}");
    }
}

#[test]
fn a_transient_stream_is_in_no_snapshot() {
    let transient = Facets { transient: true, ..Facets::default() };
    let state = after([Command::CreateStream(StreamRecord { facets: transient, ..record("reply", 1) })]);
    assert_eq!(state.streams.len(), 1);
    assert!(CatalogState::restore(&state.snapshot()).unwrap().streams.len() == 0);
}

#[test]
fn a_stream_that_is_created_again_is_another_one() {
    let again = StreamRecord { id: StreamId(77), ..record("orders", 5) };
    let state = after([
        Command::CreateStream(record("orders", 1)),
        Command::DeleteStream { key: key("orders") },
        Command::CreateStream(again),
    ]);
    assert_eq!(state.by_id.len(), 1);
    assert_eq!(state.streams.get(&key("orders")).unwrap().logs(), [LogId(5), LogId(6)]);
    assert!(state.doomed.contains(&LogId(1)));
}

#[test]
fn an_idle_stream_takes_little_room_in_the_snapshot() {
    let plain = StreamRecord { settings: Arc::default(), ..record("orders-000001", 1) };
    let mut out = Vec::new();
    plain.encode(&mut out);
    assert!(out.len() < 64, "{} bytes", out.len());
}
