//! The storage engine under simulation: a random workload on [`store::Store`], a naive model, and crashes.
//!
//! Three types to know: [`Settings`] (one seed), [`run`] (play it) and [`Report`] (what was met, what was broken).

mod act;
mod crash;
mod model;
mod planted;
mod read;
mod repair;
mod report;
mod run;
mod runner;
mod settings;
mod state;
mod wait;

pub use planted::{MISTAKES, Mistake};
pub use report::Report;
pub use run::run;
pub(crate) use runner::sum_of;
pub use runner::{floors, run_seeds};
pub use settings::Settings;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_reproduces_its_run_byte_for_byte() {
        for seed in [1, 2, 3] {
            let settings = Settings { keep_trace: true, ops: 400, ..Settings::of(seed) };
            let (first, second) = (run(&settings), run(&settings));
            assert!(first.trace_text.as_ref().is_some_and(|text| text.len() > 10_000));
            assert_eq!(first.trace_text, second.trace_text);
            assert_eq!(first, second);
        }
    }

    #[test]
    fn different_seeds_are_different_runs() {
        let hash = |seed| run(&Settings { ops: 50, ..Settings::of(seed) }).trace_hash;
        assert_ne!(hash(1), hash(2));
    }

    #[test]
    fn the_engine_keeps_its_promises_on_a_few_seeds() {
        let report = run_seeds(1, 20, 1, &Settings { ops: 300, ..Settings::of(1) });
        assert_eq!(report.broken, Vec::<String>::new());
    }
}
