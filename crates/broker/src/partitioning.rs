//! Which partition a key belongs to.

/// The partition, of `count`, for a key: murmur2 with its sign bit taken off, modulo the count. That is what the widest
/// spread clients of partitioned logs choose, so that a record routed into a log lies where one that they send there does.
pub fn partition_of_key(key: &[u8], count: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % count.max(1)
}

/// MurmurHash2, 32 bits, with the seed that those clients use.
fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let mut hash = SEED ^ len;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let word = word.iter().rev().fold(0_u32, |word, byte| word << 8 | u32::from(*byte));
        let mixed = word.wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ (mixed ^ mixed >> R).wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        hash ^= rest.iter().rev().fold(0_u32, |word, byte| word << 8 | u32::from(*byte));
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ hash >> 13).wrapping_mul(M);
    hash ^ hash >> 15
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_hash_as_in_the_tests_of_the_original() {
        // UtilsTest.testMurmur2 of Apache Kafka.
        for (key, expected) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), expected, "{key}");
        }
    }

    #[test]
    fn a_partition_is_within_the_count() {
        for count in [0, 1, 2, 7] {
            assert!(partition_of_key(b"21", count) < count.max(1));
        }
    }
}
