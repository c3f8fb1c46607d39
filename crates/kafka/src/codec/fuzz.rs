//! The decoders' fuzz bodies, from seeds: some in every test run, as many as are asked for by `cargo xtask fuzz`.
//! Whatever the bytes are, nothing panics, and what was understood is written back as it was read.

use wire::testing::seeds;

use super::{
    RequestHeader,
    records::tests::{fuzz_batch, golden_batches},
    sample::Rng,
    tests::{each_version, fuzz_bodies},
};

/// Seeds of an ordinary run; `cargo xtask fuzz` asks for more.
const SEEDS: u64 = 40;

/// Runs `body` once for each seed.
pub(crate) fn for_each_seed(mut body: impl FnMut(&mut Rng)) {
    for seed in seeds(SEEDS) {
        body(&mut Rng::new(seed));
    }
}

/// Changes, cuts or lengthens `bytes` in a few places; numbers at the ends of their ranges more often than others.
pub(crate) fn damage(rng: &mut Rng, bytes: &mut Vec<u8>) {
    for _ in 0..=rng.below(3) {
        let at = rng.below(bytes.len() + 1);
        match rng.below(5) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, rng.below(256) as u8),
            2 if at < bytes.len() => bytes[at] = rng.below(256) as u8,
            _ if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][rng.below(5)],
            _ => {}
        }
    }
}

pub(crate) fn noise(rng: &mut Rng, len_max: usize) -> Vec<u8> {
    (0..rng.below(len_max)).map(|_| rng.below(256) as u8).collect()
}

#[test]
fn fuzz_bodies_of_every_api_and_version_end_without_a_panic() {
    for_each_seed(|rng| {
        each_version(|case, version| {
            let mut bytes = (case.round_trip)(rng, version);
            damage(rng, &mut bytes);
            fuzz_bodies(case, version, &bytes);
            fuzz_bodies(case, version, &noise(rng, 80));
        });
    });
}

#[test]
fn fuzz_headers_are_read_or_refused() {
    for_each_seed(|rng| {
        for key in -1..90_i16 {
            let version = rng.below(21) as i16 - 2;
            let head = [&key.to_be_bytes()[..], &version.to_be_bytes(), &[0, 0, 0, 5]].concat();
            let mut frame = [head, noise(rng, 40)].concat();
            if rng.below(2) == 0 {
                damage(rng, &mut frame);
            }
            if let Ok((header, _)) = RequestHeader::read(&frame) {
                assert!((header.api.shown_min..=header.api.max).contains(&header.version.number));
            }
        }
    });
}

#[test]
fn fuzz_batches_never_panic_and_never_grow() {
    for_each_seed(|rng| {
        for good in golden_batches() {
            for _ in 0..100 {
                let mut bytes = good.clone();
                damage(rng, &mut bytes);
                fuzz_batch(&bytes);
            }
        }
    });
}
