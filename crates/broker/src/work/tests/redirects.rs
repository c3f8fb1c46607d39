//! Dead letters that a dialect takes.

use super::*;
use crate::{Append, DEAD_LETTERS, DeadLetters, Letter, LetterReason, NewBatch, Overflow, testing::batch};

/// Sends each letter to two queues, with its reason as the body.
struct Both {
    targets: [Arc<Partition>; 2],
}

impl DeadLetters for Both {
    fn route(&self, letter: &Letter<'_>) -> Result<Vec<(Arc<Partition>, NewBatch)>> {
        let text = format!("{} {:?}", letter.stream.key().name, letter.reason);
        Ok(self.targets.iter().map(|target| (target.clone(), batch(&[&text]))).collect())
    }
}

fn redirected(rig: &Rig, settings: StreamSettings) -> (Arc<Partition>, [Arc<Partition>; 2]) {
    let targets = [queue(rig, "one"), queue(rig, "two")];
    let extras = [(DEAD_LETTERS.to_owned(), "dialect".to_owned())].into();
    (queue_with(rig, "jobs", StreamSettings { extras, ..settings }), targets)
}

#[test]
fn a_letter_goes_wherever_its_dialect_says_in_the_unit_that_takes_it_away() {
    let rig = Rig::new();
    let (partition, targets) = redirected(&rig, StreamSettings::default());
    rig.append(&partition, &["a", "b"]);
    let work = work(&rig, &partition);
    offsets(&rig, &work, ask(1, 10, LeaseKind::Recorded));
    let settlement = Settlement {
        work: work.clone(),
        spans: spans(&[0]),
        claim: Claim::Holder(HolderId(1)),
        verdict: Verdict::Reject,
    };
    let early = wait(rig.broker.settle(vec![settlement])).unwrap_err();
    assert_eq!(early.kind(), model::ErrorKind::Unavailable, "nobody takes it yet: it stays");
    rig.broker.register_dead_letters("dialect", Arc::new(Both { targets: targets.clone() }));
    assert_eq!(settle(&rig, &work, &[0], Verdict::Reject).done, spans(&[0]));
    for target in &targets {
        assert_eq!(rig.read(target, 0).unwrap(), [(0, format!("jobs {:?}", LetterReason::Rejected))]);
        let chunk = wait(rig.broker.read(target, Offset(0), crate::ReadLimits::default())).unwrap();
        let origin = chunk.batches[0].batch.origin.unwrap();
        assert_eq!((origin.log, origin.offset, origin.attempts), (partition.log_id(), Offset(0), 1));
    }
    assert_eq!(partition.stats().records, 1);
}

#[test]
fn a_letter_says_why_it_left() {
    let rig = Rig::new();
    let settings = StreamSettings {
        length_max: Some(1),
        overflow: Overflow::DropOldest,
        ttl_ms: Some(50),
        ..StreamSettings::default()
    };
    let (partition, targets) = redirected(&rig, settings);
    rig.broker.register_dead_letters("dialect", Arc::new(Both { targets: targets.clone() }));
    rig.append(&partition, &["a"]);
    rig.append(&partition, &["b"]);
    until(|| targets[0].bounds().durable_end == Offset(1));
    rig.advance(100);
    rig.broker.clock_was_set();
    until(|| targets[1].bounds().durable_end == Offset(2));
    let reasons: Vec<_> = rig.read(&targets[0], 0).unwrap().into_iter().map(|(_, text)| text).collect();
    assert_eq!(reasons, ["jobs Excess", "jobs Expired"]);
}

#[test]
fn a_queue_that_is_gone_gets_no_letter_and_the_others_do() {
    let rig = Rig::new();
    let (partition, targets) = redirected(&rig, StreamSettings::default());
    rig.broker.register_dead_letters("dialect", Arc::new(Both { targets: targets.clone() }));
    rig.publish(Append::new(&partition, batch(&["a"])));
    let work = work(&rig, &partition);
    offsets(&rig, &work, ask(1, 10, LeaseKind::Recorded));
    wait(rig.broker.delete_stream(&queue_key("one"))).unwrap();
    settle(&rig, &work, &[0], Verdict::Reject);
    assert_eq!(rig.read(&targets[1], 0).unwrap().len(), 1);
}

/// Notes where it is told to look, and leaves the place behind the letter.
struct Places {
    seen: parking_lot::Mutex<Vec<u32>>,
}

impl DeadLetters for Places {
    fn route(&self, letter: &Letter<'_>) -> Result<Vec<(Arc<Partition>, NewBatch)>> {
        self.seen.lock().push(letter.place.get().next);
        letter.place.set(model::Place { at: 0, next: letter.index + 1 });
        Ok(Vec::new())
    }
}

#[test]
fn the_letters_of_a_batch_are_found_one_after_the_other() {
    let rig = Rig::new();
    let (partition, _) = redirected(&rig, StreamSettings::default());
    let places = Arc::new(Places { seen: Default::default() });
    rig.broker.register_dead_letters("dialect", places.clone());
    rig.append(&partition, &["a", "b", "c"]);
    rig.append(&partition, &["d", "e"]);
    let work = work(&rig, &partition);
    offsets(&rig, &work, ask(1, 10, LeaseKind::Recorded));
    settle(&rig, &work, &[0, 1, 2, 3, 4], Verdict::Reject);
    assert_eq!(*places.seen.lock(), [0, 1, 2, 0, 1]);
}
