//! What tests of codecs share.

/// The seeds of a fuzz body: `usual` many, or as many as the environment variable `WIREMILL_FUZZ_SEEDS` asks for.
pub fn seeds(usual: u64) -> std::ops::Range<u64> {
    let asked = std::env::var("WIREMILL_FUZZ_SEEDS").ok();
    0..asked.and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// A small generator of random numbers (SplitMix64): the same seed gives the same values on every machine.
pub struct Rng(u64);

impl Rng {
    /// The numbers of `seed`.
    pub fn new(seed: u64) -> Self {
        Rng(seed)
    }

    /// 64 random bits.
    #[expect(clippy::should_implement_trait, reason = "it never ends, and is asked for one at a time")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}
