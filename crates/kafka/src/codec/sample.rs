//! Random values of every message, from a seed, for the tests.

use std::borrow::Cow;

use super::{ErrorCode, Records, Uuid, Version};

pub(crate) use wire::testing::Rng;

/// A type that random values can be made of.
pub(crate) trait Sample {
    fn sample(rng: &mut Rng, version: Version) -> Self;
}

macro_rules! integer_samples {
    ($($ty:ident)*) => {$(
        impl Sample for $ty {
            fn sample(rng: &mut Rng, _: Version) -> Self {
                match rng.below(4) {
                    0 => 0,
                    1 => $ty::MAX,
                    2 => $ty::MAX.wrapping_add(1),
                    _ => (rng.next() & 0xff) as $ty,
                }
            }
        }
    )*};
}

integer_samples!(i8 i16 u16 i32 i64);

impl Sample for bool {
    fn sample(rng: &mut Rng, _: Version) -> Self {
        rng.below(2) == 1
    }
}

impl Sample for Uuid {
    fn sample(rng: &mut Rng, _: Version) -> Self {
        let mut id = [0; 16];
        id[0] = rng.below(256) as u8;
        id[15] = 1;
        Uuid(id)
    }
}

const TEXTS: [&str; 5] =
    ["", "a", "orders.eu-west", "überraschend", "2f0c9e0a_with_a_longer_name-0123456789"];

impl Sample for &str {
    fn sample(rng: &mut Rng, _: Version) -> Self {
        TEXTS[rng.below(TEXTS.len())]
    }
}

impl Sample for &[u8] {
    fn sample(rng: &mut Rng, version: Version) -> Self {
        <&str>::sample(rng, version).as_bytes()
    }
}

impl Sample for Cow<'_, str> {
    fn sample(rng: &mut Rng, version: Version) -> Self {
        Cow::Borrowed(Sample::sample(rng, version))
    }
}

impl Sample for Cow<'_, [u8]> {
    fn sample(rng: &mut Rng, version: Version) -> Self {
        Cow::Borrowed(Sample::sample(rng, version))
    }
}

impl Sample for ErrorCode {
    fn sample(rng: &mut Rng, version: Version) -> Self {
        ErrorCode(Sample::sample(rng, version))
    }
}

impl Sample for Records<'_> {
    fn sample(rng: &mut Rng, version: Version) -> Self {
        Records::Slice(Sample::sample(rng, version))
    }
}

impl<T: Sample> Sample for Option<T> {
    fn sample(rng: &mut Rng, version: Version) -> Self {
        (rng.below(3) > 0).then(|| T::sample(rng, version))
    }
}

impl<T: Sample> Sample for Vec<T> {
    fn sample(rng: &mut Rng, version: Version) -> Self {
        (0..rng.below(4)).map(|_| T::sample(rng, version)).collect()
    }
}
