//! Times as signatures write them: `20150830T123600Z`.

use wire::time::{Utc, days_of};

/// Seconds since the Unix epoch, `None` when the text is no such time.
pub(super) fn parse(text: &str) -> Option<i64> {
    let digits = |range: std::ops::Range<usize>| -> Option<i64> {
        let part = text.get(range)?;
        part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok())?
    };
    let is_shaped = text.len() == 16 && text.get(8..9) == Some("T") && text.ends_with('Z');
    let (year, month, day) = (digits(0..4)?, digits(4..6)?, digits(6..8)?);
    let (hour, minute, second) = (digits(9..11)?, digits(11..13)?, digits(13..15)?);
    let in_range = (1..=12).contains(&month) && (1..=31).contains(&day);
    if !is_shaped || !in_range || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    Some(days_of(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// The text of a time, seconds since the Unix epoch.
pub(super) fn format(epoch_s: i64) -> String {
    let Utc { year, month, day, hour, minute, second, .. } = Utc::of_ms(epoch_s.saturating_mul(1_000));
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written() {
        for (text, epoch_s) in [
            ("19700101T000000Z", 0),
            ("20150830T123600Z", 1_440_938_160),
            ("20240229T235959Z", 1_709_251_199),
            ("20000301T000000Z", 951_868_800),
            ("99991231T000000Z", 253_402_214_400),
        ] {
            assert_eq!(parse(text), Some(epoch_s), "{text}");
            assert_eq!(format(epoch_s), text);
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for wrong in [
            "",
            "20150830",
            "20150830T123600",
            "2015-08-30T12:36:00Z",
            "20151330T123600Z",
            "20150830T243600Z",
            "20150830T12360éZ",
            "+0150830T123600Z",
            "20150830 123600Z",
            "20150832T123600Z",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
