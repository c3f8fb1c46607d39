//! Times as JSON has them: RFC 3339 in UTC.

use wire::time::{DAY_MS, Utc, days_of};

/// What stands for no time.
pub(crate) const NEVER: &str = "0001-01-01T00:00:00Z";

/// Milliseconds since the Unix epoch as text.
pub(crate) fn text(at_ms: i64) -> String {
    let Utc { year, month, day, hour, minute, second, ms } = Utc::of_ms(at_ms);
    let fraction = if ms == 0 { String::new() } else { format!(".{ms:03}").trim_end_matches('0').to_owned() };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

/// Milliseconds since the Unix epoch of a time as text; `None` when it does not read.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let (date, rest) = text.split_once(['T', 't'])?;
    let mut parts = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let zone_at = rest.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = rest.split_at_checked(zone_at)?;
    let mut parts = time.splitn(3, ':');
    let (hour, minute) = (parts.next()?.parse::<i64>().ok()?, parts.next()?.parse::<i64>().ok()?);
    let second: f64 = parts.next()?.parse().ok()?;
    let is_there = (0..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !is_there || !(0..24).contains(&hour) || !(0..60).contains(&minute) || !(0.0..61.0).contains(&second) {
        return None;
    }
    let zone_min = match zone {
        "Z" | "z" => 0,
        _ => {
            let (hours, minutes) = zone.get(1..)?.split_once(':')?;
            let ahead = hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?;
            if zone.starts_with('-') { -ahead } else { ahead }
        }
    };
    let whole = (hour * 60 + minute - zone_min) * 60_000;
    // Less than 61,000: it fits.
    Some(days_of(year, month, day) * DAY_MS + whole + (second * 1_000.0).round() as i64)
}

/// Nanoseconds of a span as Go writes it: `1h2m3.5s`, `20ms`; `None` when it does not read.
pub(crate) fn duration_ns(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at_checked(unit_at)?;
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(unit_end)?;
        let factor = match unit {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3_600e9,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * factor;
        rest = after;
    }
    // Far below the end of 64 bits, or not a span that anybody means.
    (!text.is_empty() && total < 9e18).then_some(total as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc_without_trailing_zeros() {
        for (at_ms, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400_120, "2000-02-29T00:00:00.12Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (1_700_000_000_000, "2023-11-14T22:13:20Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(text(at_ms), expected);
            assert_eq!(parse(expected), Some(at_ms));
        }
    }

    #[test]
    fn zones_are_taken_off_and_what_is_no_time_does_not_read() {
        assert_eq!(parse("1970-01-01T01:30:00.5+01:30"), Some(500));
        assert_eq!(parse("1969-12-31T23:00:00-01:00"), Some(0));
        for text in
            ["", "1970-01-01", "1970-13-01T00:00:00Z", "1970-01-01T24:00:00Z", "1970-01-01T00:00:00", "x"]
        {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
