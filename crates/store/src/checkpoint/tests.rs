use crate::{
    Durability, StoreOptions,
    mem::MemWalOptions,
    testing::{World, batch},
};
use model::Offset;

/// A store with a checkpoint over logs in every state.
fn world() -> World {
    let world =
        World::new(MemWalOptions { eager: false, ..MemWalOptions::default() }, StoreOptions::default());
    let (a, b, c) =
        (world.create(Durability::Fsync), world.create(Durability::Memory), world.create(Durability::Fsync));
    for _ in 0..4 {
        world.append(&a, 300, &[7; 9_000]);
    }
    world.change(&a, |l| l.drop_offsets(vec![Offset(10)..Offset(20), Offset(500)..Offset(700)]));
    world.change(&a, |l| l.note("a note".into()));
    world.append(&b, 5, b"volatile");
    world.change(&c, |l| {
        l.append_at(Offset(1_000), 5, batch(1, b"after a gap"));
    });
    let permit = world.store.reserve(1, crate::Class::Drain).unwrap();
    let seq = world.store.command(permit, "a command".into(), |_| {});
    *world.catalog.0.lock() = (seq, vec!["a command".into()]);
    world.settle();
    world
}

/// Everything that can be asked of it.
fn state(world: &World) -> String {
    let logs = world.store.logs();
    let states = logs.iter().map(|log| {
        let live = world.live(log);
        let of_core = log.with(|core, notes| {
            let core =
                (core.id(), core.start(), core.durability(), core.records(), core.bytes(), core.epoch());
            format!("{core:?} {:?}", notes.notes)
        });
        format!("{of_core} {live:?}")
    });
    format!("{:?} {:?}", states.collect::<Vec<_>>(), world.catalog.0.lock().1)
}

#[test]
fn a_checkpoint_restores_what_a_replay_would_have() {
    let replayed = world().crash();
    replayed.settle();
    let expected = state(&replayed);
    assert_eq!(replayed.recovery.checkpoint, None);
    assert!(replayed.store.checkpoint(true).unwrap());
    let restored = replayed.crash();
    restored.settle();
    assert!(restored.recovery.checkpoint.is_some());
    assert_eq!(restored.recovery.replayed_units, 0);
    // The volatile log skips again: its epoch rises with every start.
    assert_eq!(state(&restored).replace("OwnerEpoch(2)", "OwnerEpoch(1)"), expected);
}

#[test]
fn whatever_byte_of_a_checkpoint_is_damaged_the_state_is_the_same() {
    let mut world = world().crash();
    world.settle();
    let expected = state(&world);
    let mut at = 0;
    loop {
        assert!(world.store.checkpoint(true).unwrap());
        let newest = *super::list(&world.blobs).unwrap().last().unwrap();
        let len = crate::blobs::Blobs::open(&world.blobs, &super::name(newest)).unwrap().len();
        if at >= len {
            return;
        }
        world.blobs.damage(&super::name(newest), usize::try_from(at).unwrap());
        world = world.crash();
        world.settle();
        assert_eq!(world.recovery.damaged_checkpoints.first(), Some(&newest), "byte {at}");
        let epochs = state(&world);
        let neutral = |text: &str| {
            text.split("OwnerEpoch")
                .map(|part| part.split_once(')').map_or(part, |p| p.1).to_owned())
                .collect::<Vec<_>>()
                .concat()
        };
        assert_eq!(neutral(&epochs), neutral(&expected), "byte {at}");
        at += 7;
    }
}

#[test]
fn without_any_readable_checkpoint_a_start_is_refused_if_the_log_does_not_reach_back() {
    let world =
        World::new(MemWalOptions { eager: false, file_len: 500, tail: false }, StoreOptions::default());
    let log = world.create(Durability::Fsync);
    for _ in 0..3 {
        for _ in 0..10 {
            world.append(&log, 1, &[1; 100]);
            world.settle();
        }
        assert!(world.store.checkpoint(true).unwrap());
    }
    for id in super::list(&world.blobs).unwrap() {
        world.blobs.damage(&super::name(id), 20);
    }
    drop(log);
    let refused = world.try_crash().err().unwrap();
    assert_eq!(refused.kind(), model::ErrorKind::Corrupt);
}
