//! Mistakes planted on purpose: the simulator is worth something only if it notices each of them.

use store::faults::{Fault, Faults};

use super::{Report, Settings, run};
use crate::Planted;

/// A mistake and what it takes to make it.
#[derive(Clone, Copy, Debug)]
pub struct Mistake {
    /// What the command line calls it.
    pub name: &'static str,
    disk: Planted,
    engine: Option<Fault>,
}

const HONEST: Planted = Planted { skip_sync: None, skip_dir_sync: false };

/// Every mistake that has to be noticed.
pub const MISTAKES: [Mistake; 10] = [
    Mistake { name: "sync-skipped", disk: Planted { skip_sync: Some("/wal/"), ..HONEST }, engine: None },
    Mistake { name: "dir-sync-forgotten", disk: Planted { skip_dir_sync: true, ..HONEST }, engine: None },
    Mistake { name: "ack-early", disk: HONEST, engine: Some(Fault::AckEarly) },
    Mistake { name: "cut-mid-log", disk: HONEST, engine: Some(Fault::CutMidLog) },
    Mistake { name: "second-entry-dropped", disk: HONEST, engine: Some(Fault::DropSecondEntry) },
    Mistake { name: "checkpoint-unsynced", disk: HONEST, engine: Some(Fault::CheckpointUnsynced) },
    Mistake { name: "recycle-pinned", disk: HONEST, engine: Some(Fault::RecyclePinned) },
    Mistake { name: "offset-reused", disk: HONEST, engine: Some(Fault::ReuseOffset) },
    Mistake { name: "repair-silent", disk: HONEST, engine: Some(Fault::RepairSilent) },
    Mistake { name: "repair-reuses-offsets", disk: HONEST, engine: Some(Fault::RepairReusesOffsets) },
];

impl Mistake {
    /// The mistake of that name.
    pub fn named(name: &str) -> Option<Mistake> {
        MISTAKES.into_iter().find(|mistake| mistake.name == name)
    }

    /// `settings` with this mistake in it.
    pub fn plant(&self, settings: &Settings) -> Settings {
        let planted = self.engine.map(Faults::plant).unwrap_or_default();
        Settings { disk_planted: self.disk, planted, ..settings.clone() }
    }

    /// The first seed of `seeds` in which it is noticed, with what was said.
    pub fn noticed(&self, mut seeds: std::ops::Range<u64>, ops: u64) -> Option<(u64, Report)> {
        seeds.find_map(|seed| {
            let settings = self.plant(&Settings { ops, ..Settings::of(seed) });
            // A panic is the engine's own assertion noticing it.
            let report = std::panic::catch_unwind(|| run(&settings)).unwrap_or_else(|_| {
                let mut report = Report::default();
                report.broken.push(format!("seed {seed}: panic"));
                report
            });
            (!report.broken.is_empty()).then_some((seed, report))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seeds in which each must be noticed; the simulation proper runs more.
    const SEEDS: std::ops::Range<u64> = 1..200;

    fn must_be_noticed(name: &str) {
        let mistake = Mistake::named(name).unwrap();
        assert!(mistake.noticed(SEEDS, 1000).is_some(), "{name} went unnoticed");
    }

    #[test]
    fn a_skipped_sync_is_noticed() {
        must_be_noticed("sync-skipped");
    }

    #[test]
    fn a_forgotten_folder_sync_is_noticed() {
        must_be_noticed("dir-sync-forgotten");
    }

    #[test]
    fn an_early_acknowledgement_is_noticed() {
        must_be_noticed("ack-early");
    }

    #[test]
    fn a_cut_at_damage_in_the_middle_is_noticed() {
        must_be_noticed("cut-mid-log");
    }

    #[test]
    fn a_lost_second_entry_of_a_unit_is_noticed() {
        must_be_noticed("second-entry-dropped");
    }

    #[test]
    fn a_checkpoint_with_unsynced_state_is_noticed() {
        must_be_noticed("checkpoint-unsynced");
    }

    #[test]
    fn a_recycled_file_under_a_reader_is_noticed() {
        must_be_noticed("recycle-pinned");
    }

    #[test]
    fn a_repair_that_does_not_say_what_is_lost_is_noticed() {
        must_be_noticed("repair-silent");
    }

    #[test]
    fn a_repair_that_gives_out_offsets_of_lost_records_is_noticed() {
        must_be_noticed("repair-reuses-offsets");
    }

    #[test]
    fn an_offset_used_again_after_a_crash_is_noticed() {
        must_be_noticed("offset-reused");
    }
}
