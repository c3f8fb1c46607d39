//! Latencies, exactly: a run's samples fit in memory.

/// Samples in microseconds.
#[derive(Default)]
pub(crate) struct Histogram {
    samples_us: Vec<u32>,
}

impl Histogram {
    pub(crate) fn record(&mut self, us: u128) {
        self.samples_us.push(u32::try_from(us).unwrap_or(u32::MAX));
    }

    /// The value below which `share` (0..=1) of the samples lie, microseconds.
    pub(crate) fn quantile(&mut self, share: f64) -> u32 {
        self.samples_us.sort_unstable();
        let last = self.samples_us.len().saturating_sub(1);
        let at = ((self.samples_us.len() as f64 * share) as usize).min(last);
        self.samples_us.get(at).copied().unwrap_or(0)
    }

    pub(crate) fn absorb(&mut self, other: Histogram) {
        self.samples_us.extend(other.samples_us);
    }

    pub(crate) fn count(&self) -> usize {
        self.samples_us.len()
    }
}
