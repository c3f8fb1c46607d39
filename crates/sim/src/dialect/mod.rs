//! The neutral dialect: everything that a dialect asks of [`broker::Broker`], at random, on a simulated machine that
//! crashes, beside a naive model.
//!
//! Three types to know: [`Settings`] (one seed), [`run`] (play it) and [`crate::storage::Report`] (what was met).
//!
//! The model folds every answered change with the unit it is in ([`model::Fact`]). After a crash the last unit that is
//! there is asked for, and the model takes back exactly what lies above: nothing acknowledged may be missing, nothing
//! else may have come back.

mod act;
mod check;
mod credit;
mod grant;
mod limits;
mod look;
#[allow(missing_docs)] // Read by this folder alone; each field says what it is.
mod model;
mod moved;
mod people;
mod planted;
mod publish;
mod run;
mod runner;
#[allow(missing_docs)] // The same.
mod streams;

pub use planted::{MISTAKES, noticed};
pub use run::{Settings, run};
pub use runner::{floors, run_seeds};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_of_the_dialect_reproduces_its_run_byte_for_byte() {
        for seed in [1, 2] {
            let settings = Settings { keep_trace: true, ops: 300, ..Settings::of(seed) };
            let (first, second) = (run(&settings), run(&settings));
            assert!(first.trace_text.as_ref().is_some_and(|text| text.len() > 10_000));
            assert_eq!(first.trace_text, second.trace_text);
            assert_eq!(first, second);
        }
    }

    #[test]
    fn the_broker_keeps_its_promises_on_a_few_seeds() {
        let report = run_seeds(1, 10, 1, &Settings { ops: 300, ..Settings::of(1) });
        assert_eq!(report.broken, Vec::<String>::new());
    }
}
