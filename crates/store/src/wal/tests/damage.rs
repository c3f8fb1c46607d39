//! The damage matrix: what is done to the files × where × whether a later frame proves what was there.
//!
//! The log under test has a frame per unit, three to a file, the first of them empty:
//!
//! ```text
//! file 1  header | open  | unit 1 | unit 2        file 3  header | unit 6 | unit 7 | unit 8
//! file 2  header | unit 3 | unit 4 | unit 5       file 4  header (prepared)
//! ```

use std::{io::IoSlice, sync::Arc};

use bytes::Bytes;
use env::{File, Open};
use model::{ErrorKind, LogId, Seq};

use super::rig::Disk;
use crate::{
    conformance::{
        Collected, WalRig, collect,
        wal::{apply, data, open, submit},
    },
    wal::{Lost, Place, Replayed, files::file_name, frame::PAGE_LEN},
};

const UNITS: u64 = 8;

/// What a replay is expected to say.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Every unit is there.
    Intact,
    /// The log ends before the last unit, which nothing proves.
    Cut,
    /// Refused; the file that is named, and the position.
    Corrupt(u64, u64),
}

struct Bench {
    rig: Disk,
}

impl Bench {
    fn new(tolerate: bool) -> Self {
        let rig = Disk::new(move |options| {
            (options.file_len, options.first_file_len) = (16 << 10, 16 << 10);
            options.tolerate_damage = tolerate;
        });
        let wal = open(&*rig.fresh(), Seq(0));
        for unit in 1..=UNITS {
            submit(&*wal, vec![data(100 + unit, 0, "the record")]);
            rig.run();
            apply(&*wal).unwrap();
        }
        drop(wal);
        rig.hands.drop_everything();
        Bench { rig }
    }

    fn file(&self, number: u64) -> Arc<dyn File> {
        env::real().files.open(&self.rig.dir().join(file_name(number)), Open::Write).unwrap()
    }

    fn write(&self, number: u64, at: u64, bytes: &[u8]) {
        self.file(number).write_all_at(&[IoSlice::new(bytes)], at).unwrap();
    }

    fn read(&self, number: u64, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.file(number).read_exact_at(&mut bytes, at).unwrap();
        bytes
    }

    fn flip(&self, number: u64, at: u64) {
        let byte = self.read(number, at, 1)[0];
        self.write(number, at, &[byte ^ 0x10]);
    }

    fn remove(&self, number: u64) {
        env::real().files.remove(&self.rig.dir().join(file_name(number))).unwrap();
    }

    fn replay(&self, from: u64) -> model::Result<(Replayed, Collected)> {
        collect(&*self.rig.again(), Seq(from))
    }

    fn verdict(&self) -> Verdict {
        match self.replay(0) {
            Ok((replayed, collected)) => {
                let seqs: Vec<u64> = collected.units.iter().map(|(seq, _)| seq.0).collect();
                assert_eq!(seqs, (1..=replayed.last.0).collect::<Vec<_>>());
                assert_eq!(replayed.lost, vec![]);
                match UNITS - replayed.last.0 {
                    0 => Verdict::Intact,
                    1 => Verdict::Cut,
                    more => panic!("{more} units are gone without a word"),
                }
            }
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::Corrupt, "{e}");
                assert!(e.text().contains("wiremill repair"), "{e}");
                let words = |after: &str| -> Option<u64> {
                    let rest = &e.text()[e.text().find(after)? + after.len()..];
                    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
                };
                let file = e.text().find(".wal").and_then(|end| e.text()[end - 20..end].parse().ok());
                Verdict::Corrupt(file.unwrap_or(0), words("position ").unwrap_or(0))
            }
        }
    }
}

/// Where the frame of `unit` lies; 0 is the one written when the log was opened.
fn place(unit: u64) -> (u64, u64) {
    (1 + unit / 3, PAGE_LEN * (1 + unit % 3))
}

#[test]
fn a_flipped_bit_anywhere_in_a_proven_frame_is_corruption_and_in_the_last_one_a_torn_tail() {
    let parts = [("magic", 0), ("salt", 9), ("number", 17), ("unit", 24), ("length", 40), ("previous", 44)];
    let parts = parts.into_iter().chain([("durable", 48), ("body crc", 57), ("crc", 63), ("body", 70)]);
    for (part, at) in parts {
        for unit in 0..=UNITS {
            let bench = Bench::new(false);
            let (file, frame_at) = place(unit);
            if part == "body" && unit == 0 {
                continue; // an empty frame has none
            }
            bench.flip(file, frame_at + at);
            let expected = if unit == UNITS { Verdict::Cut } else { Verdict::Corrupt(file, frame_at) };
            assert_eq!(bench.verdict(), expected, "{part} of unit {unit}");
        }
    }
}

#[test]
fn a_flipped_bit_in_the_padding_harms_nothing() {
    for unit in 0..=UNITS {
        let bench = Bench::new(false);
        let (file, frame_at) = place(unit);
        bench.flip(file, frame_at + 2000);
        assert_eq!(bench.verdict(), Verdict::Intact);
    }
}

#[test]
fn a_zeroed_page_is_damage_where_it_is_proven_and_the_end_where_it_is_not() {
    for unit in 0..=UNITS {
        let bench = Bench::new(false);
        let (file, frame_at) = place(unit);
        bench.write(file, frame_at, &[0; PAGE_LEN as usize]);
        let expected = if unit == UNITS { Verdict::Cut } else { Verdict::Corrupt(file, frame_at) };
        assert_eq!(bench.verdict(), expected, "unit {unit}");
    }
}

#[test]
fn a_truncated_file_is_damage_unless_the_log_goes_on_in_the_next() {
    for unit in 0..=UNITS {
        for keep in [0, 30, 64, 100] {
            let bench = Bench::new(false);
            let (file, frame_at) = place(unit);
            bench.file(file).set_len(frame_at + keep).unwrap();
            // The padding may be missing; everything that counts ends before it.
            let whole = keep == 100 || unit == 0 && keep == 64;
            let expected = match (unit, whole) {
                (2 | 5, true) => Verdict::Intact,
                (_, true) => Verdict::Corrupt(file, frame_at + PAGE_LEN),
                (_, false) => Verdict::Corrupt(file, frame_at),
            };
            assert_eq!(bench.verdict(), expected, "unit {unit}, {keep} bytes kept");
        }
    }
}

#[test]
fn a_missing_file_is_damage() {
    for file in 1..=3 {
        let bench = Bench::new(false);
        bench.remove(file);
        assert_eq!(bench.verdict(), Verdict::Corrupt(file, 0), "file {file}");
    }
    let bench = Bench::new(false);
    bench.remove(4);
    assert_eq!(bench.verdict(), Verdict::Intact, "a prepared file holds nothing");
}

#[test]
fn a_damaged_file_header_harms_nothing_while_the_chain_holds() {
    for file in 2..=4 {
        for at in [0, 9, 17, 25, 37] {
            let bench = Bench::new(false);
            bench.flip(file, at);
            assert_eq!(bench.verdict(), Verdict::Intact, "file {file}, byte {at}");
        }
    }
    let bench = Bench::new(false);
    bench.flip(1, 25);
    bench.flip(1, PAGE_LEN + 9);
    assert!(matches!(bench.verdict(), Verdict::Corrupt(..)), "neither header nor first frame");
}

#[test]
fn a_stale_frame_in_place_of_a_proven_one_is_damage() {
    for unit in 1..=UNITS {
        let bench = Bench::new(false);
        let ((file, frame_at), (from_file, from_at)) = (place(unit), place(unit - 1));
        let stale = bench.read(from_file, from_at, PAGE_LEN as usize);
        bench.write(file, frame_at, &stale);
        let expected = if unit == UNITS { Verdict::Cut } else { Verdict::Corrupt(file, frame_at) };
        assert_eq!(bench.verdict(), expected, "unit {unit}");
    }
}

#[test]
fn a_frame_in_place_of_the_one_before_it_is_damage_also_where_a_replay_begins() {
    let bench = Bench::new(false);
    (2..=4).for_each(|file| bench.remove(file));
    let (file, at) = place(1);
    let astray = bench.read(file, at, PAGE_LEN as usize);
    bench.write(file, at - PAGE_LEN, &astray);
    bench.write(file, at, &[0; PAGE_LEN as usize]);
    assert_eq!(bench.verdict(), Verdict::Corrupt(file, at), "unit 2 is there, out of its place");
}

#[test]
fn the_empty_frame_of_an_idle_log_proves_the_last_unit() {
    let bench = Bench::new(false);
    let wal = open(&*bench.rig.again(), Seq(0));
    submit(&*wal, vec![data(200, 0, "the last")]);
    bench.rig.run();
    let last = wal.next_commit().unwrap().place;
    bench.rig.hands.pass(1 << 30);
    bench.rig.run();
    drop(wal);
    bench.flip(last.file, last.at + 70);
    assert_eq!(bench.verdict(), Verdict::Corrupt(last.file, last.at));
}

#[test]
fn a_refusal_names_the_logs_concerned() {
    let bench = Bench::new(false);
    let (file, at) = place(4);
    bench.flip(file, at + 70);
    let refused = bench.replay(0).unwrap_err();
    assert!(refused.text().contains("logs concerned: 104"), "{refused}");
}

#[test]
fn damage_before_the_wanted_unit_does_not_matter() {
    let bench = Bench::new(false);
    let (file, at) = place(1);
    bench.flip(file, at);
    for from in 2..=UNITS {
        let (replayed, collected) = bench.replay(from).unwrap();
        assert_eq!((replayed.last, collected.units.len() as u64), (Seq(UNITS), UNITS - from));
    }
}

#[test]
fn a_cut_tail_stays_cut_and_its_sequence_is_given_to_another_unit() {
    let bench = Bench::new(false);
    let (file, at) = place(UNITS);
    bench.flip(file, at + 70);
    let (replayed, _) = bench.replay(0).unwrap();
    assert_eq!(replayed.torn, Some((Place { file, at }, PAGE_LEN)));
    for round in 0..3 {
        let provider = bench.rig.again();
        let (replayed, collected) = collect(&*provider, Seq(0)).unwrap();
        assert_eq!((replayed.last, replayed.torn), (Seq(UNITS - 1 + round), None));
        let logs: Vec<_> = collected.units.iter().map(|(_, entries)| entries[0].log.0).collect();
        assert!(!logs.contains(&(100 + UNITS)), "what was cut came back");
        let wal = provider.open(&replayed, env::Signal::new()).unwrap();
        submit(&*wal, vec![data(300, round, "after the cut")]);
        bench.rig.run();
        assert_eq!(apply(&*wal), Some(Seq(UNITS + round)));
    }
}

#[test]
fn a_repair_serves_the_rest_and_says_what_is_lost() {
    for (part, at) in [("body", 70), ("header", 17)] {
        for unit in 1..UNITS {
            let bench = Bench::new(true);
            let (file, frame_at) = place(unit);
            bench.flip(file, frame_at + at);
            let provider = bench.rig.again();
            let (replayed, collected) = collect(&*provider, Seq(0)).unwrap();
            let seqs: Vec<u64> = collected.units.iter().map(|(seq, _)| seq.0).collect();
            assert_eq!(seqs, (1..=UNITS).filter(|seq| *seq != unit).collect::<Vec<_>>(), "{part}");
            let place = Place { file, at: frame_at };
            let lost = Lost { place, first: Seq(unit), last: Seq(unit), logs: vec![LogId(100 + unit)] };
            assert_eq!(replayed.lost, [lost]);
            let wal = provider.open(&replayed, env::Signal::new()).unwrap();
            submit(&*wal, vec![data(300, 0, "after the repair")]);
            bench.rig.run();
            assert_eq!(apply(&*wal), Some(Seq(UNITS + 1)));
            drop(wal);
            let (again, collected) = bench.replay(0).unwrap();
            assert_eq!((again.lost, collected.units.len() as u64), (replayed.lost, UNITS));
        }
    }
}

#[test]
fn a_repair_without_a_file_goes_on_clear_of_whatever_it_held() {
    for (missing, left) in [(1, 6), (2, 5), (3, 5)] {
        let bench = Bench::new(true);
        bench.remove(missing);
        let provider = bench.rig.again();
        let (replayed, collected) = collect(&*provider, Seq(0)).unwrap();
        assert_eq!(replayed.lost.len(), 1, "{replayed:?}");
        assert_eq!((collected.units.len(), replayed.lost[0].place.file), (left, missing));
        assert!(replayed.last >= Seq(UNITS));
        let wal = provider.open(&replayed, env::Signal::new()).unwrap();
        submit(&*wal, vec![data(300, 0, "after the repair")]);
        bench.rig.run();
        assert!(apply(&*wal) > Some(Seq(UNITS)));
    }
}

/// What a fuzzer of recovery does: harms the files in every way, and looks for an answer that is not a lie.
#[test]
fn whatever_is_done_to_the_files_a_replay_answers_and_invents_nothing() {
    let mut state = 0x5eed_0002u64;
    let mut dice = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    for round in 0..60 {
        let bench = Bench::new(round % 2 == 0);
        for _ in 0..1 + dice(4) {
            let (file, at, len) = (1 + dice(4), dice(16 << 10), dice(6000));
            let len = len.min((16 << 10) - at);
            match dice(4) {
                0 => bench.flip(file, at),
                1 => bench.write(file, at, &vec![dice(256) as u8; len as usize]),
                2 => {
                    let page = PAGE_LEN * dice(4);
                    let bytes = bench.read(1 + dice(4), page, PAGE_LEN as usize);
                    bench.write(file, PAGE_LEN * dice(4), &bytes);
                }
                _ => {
                    let noise: Vec<u8> = (0..len).map(|_| dice(256) as u8).collect();
                    bench.write(file, at, &noise);
                }
            }
        }
        match bench.replay(0) {
            Ok((replayed, collected)) => {
                let mut before = 0;
                for (seq, entries) in collected.units {
                    assert!(seq.0 > before && seq <= replayed.last, "round {round}");
                    assert_eq!(entries[0].log, LogId(100 + seq.0), "round {round}");
                    before = seq.0;
                }
            }
            Err(e) => assert_eq!(e.kind(), ErrorKind::Corrupt, "round {round}: {e}"),
        }
    }
}

#[test]
fn a_kept_file_is_not_cut_where_damage_hides_what_is_in_use() {
    let bench = Bench::new(false);
    let ((number, first), (_, last)) = (place(3), place(5));
    let before = bench.read(number, last, PAGE_LEN as usize);
    bench.flip(number, first + 9);
    let wal = open(&*bench.rig.again(), Seq(UNITS));
    let (footer, _) = wal.keep(number, last + PAGE_LEN, &[Bytes::from_static(b"footer")]).unwrap();
    assert!(footer.at >= last + PAGE_LEN, "{footer:?}");
    assert_eq!(bench.read(number, last, PAGE_LEN as usize), before);
}
