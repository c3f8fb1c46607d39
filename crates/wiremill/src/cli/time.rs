//! Times for people, in UTC.

use wire::time::{SPAN_UNITS, Utc, span_ms};

/// `2026-01-31 23:59:59.123Z` of milliseconds since the Unix epoch.
pub fn utc(at_ms: i64) -> String {
    let Utc { year, month, day, hour, minute, second, ms } = Utc::of_ms(at_ms);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// Milliseconds of `500ms`, `30s`, `5m`, `12h` or `3d`.
pub fn duration_ms(text: &str) -> Result<u64, String> {
    span_ms(text).ok_or_else(|| format!("{text:?} is not a time such as 500ms, 30s, 5m, 12h or 3d"))
}

/// A span of time with its largest whole unit.
pub fn span(ms: i64) -> String {
    let ms = u64::try_from(ms).unwrap_or(0);
    let fits = |(_, unit_ms): &&(&str, u64)| ms >= *unit_ms;
    let (name, unit_ms) = SPAN_UNITS.iter().rev().find(fits).unwrap_or(&SPAN_UNITS[0]);
    format!("{}{name}", ms / unit_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_shown_with_a_unit() {
        for (text, ms) in [("0ms", 0), ("500ms", 500), ("30s", 30_000), ("5m", 300_000), ("3d", 259_200_000)]
        {
            assert_eq!(duration_ms(text), Ok(ms));
            assert_eq!(span(i64::try_from(ms).unwrap()), text);
        }
        for wrong in
            ["", "5", "s", "-1s", "1.5h", "3 d", "3w", "99999999999999999999s", "18446744073709551615d"]
        {
            assert!(duration_ms(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_are_shown_in_the_calendar() {
        for (at_ms, expected) in [
            (0, "1970-01-01 00:00:00.000Z"),
            (951_782_400_000, "2000-02-29 00:00:00.000Z"),
            (951_868_799_999, "2000-02-29 23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01 00:00:00.000Z"),
            (-1, "1969-12-31 23:59:59.999Z"),
            (1_795_253_400_000, "2026-11-21 09:30:00.000Z"),
        ] {
            assert_eq!(utc(at_ms), expected);
        }
    }
}
