//! Times and spans as text has them: the calendar that each dialect's own form is written from.

/// Milliseconds of a day.
pub const DAY_MS: i64 = 86_400_000;

/// Units of a span, milliseconds each, the smallest first.
pub const SPAN_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// A moment in UTC, in the proleptic Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Utc {
    /// Year; 0 is the one before the year 1.
    pub year: i64,
    /// Month, 1 to 12.
    pub month: i64,
    /// Day of the month, 1 to 31.
    pub day: i64,
    /// Hour, 0 to 23.
    pub hour: i64,
    /// Minute, 0 to 59.
    pub minute: i64,
    /// Second, 0 to 59.
    pub second: i64,
    /// Millisecond, 0 to 999.
    pub ms: i64,
}

impl Utc {
    /// The moment `at_ms` milliseconds after the Unix epoch.
    pub fn of_ms(at_ms: i64) -> Self {
        let (days, of_day) = (at_ms.div_euclid(DAY_MS), at_ms.rem_euclid(DAY_MS));
        let (year, month, day) = date(days);
        let (hour, minute) = (of_day / 3_600_000, of_day / 60_000 % 60);
        Utc { year, month, day, hour, minute, second: of_day / 1_000 % 60, ms: of_day % 1_000 }
    }
}

/// Days of a date after 1970-01-01. A day that its month has not counts on into the next.
pub fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month and day of a number of days after 1970-01-01. Counts in eras of 400 years from 0000-03-01, so that the leap
/// day is the last of its year.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

/// Milliseconds of a span such as `500ms`, `30s`, `5m`, `12h` or `3d`; `None` when it is not one.
pub fn span_ms(text: &str) -> Option<u64> {
    let (count, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let (_, unit_ms) = SPAN_UNITS.iter().find(|(name, _)| *name == unit)?;
    count.parse::<u64>().ok()?.checked_mul(*unit_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_dates_are_each_other_the_other_way_round() {
        for day in (-800_000..800_000).step_by(37) {
            let (year, month, of_month) = date(day);
            assert_eq!(days_of(year, month, of_month), day);
            assert!((1..=12).contains(&month) && (1..=31).contains(&of_month));
        }
        assert_eq!((date(0), date(11_016), date(-1)), ((1970, 1, 1), (2000, 2, 29), (1969, 12, 31)));
    }

    #[test]
    fn a_moment_has_its_parts() {
        let parts = Utc::of_ms(-1);
        assert_eq!((parts.year, parts.hour, parts.minute, parts.second, parts.ms), (1969, 23, 59, 59, 999));
    }
}
