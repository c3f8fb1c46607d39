//! Times and durations as the original prints them.

use wire::time::Utc;

/// RFC 3339 in UTC, with milliseconds, of milliseconds since 1970.
pub(crate) fn rfc3339(ms: i64) -> String {
    let Utc { year, month, day, hour, minute, second, ms } = Utc::of_ms(ms);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// `1y2d3h4m5s`, from the largest unit that is there.
pub(crate) fn elapsed(ms: i64) -> String {
    let seconds = ms.max(0) / 1_000;
    let units = [("y", 31_536_000, i64::MAX), ("d", 86_400, 365), ("h", 3_600, 24), ("m", 60, 60)];
    let mut text = String::new();
    for (unit, len, modulus) in units {
        if seconds >= len {
            text += &format!("{}{unit}", seconds / len % modulus);
        }
    }
    text + &format!("{}s", seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (1_735_689_600_001, "2025-01-01T00:00:00.001Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(rfc3339(ms), text);
        }
    }

    #[test]
    fn durations_begin_with_their_largest_unit() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m0s"),
            (3_661, "1h1m1s"),
            (90_000, "1d1h0m0s"),
            (31_536_000, "1y0d0h0m0s"),
        ] {
            assert_eq!(elapsed(seconds * 1_000), text);
        }
    }
}
