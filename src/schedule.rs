//! When something is due: hourly, daily, weekly, monthly, or as cron text says.
//!
//! Pure: times come in as seconds since 1970 and go out as such; it must not know what is due, nor ask
//! a clock. Days and hours are those of a time zone:
//!
//! - A time of day that is skipped when clocks go forward is made up for right after the gap; one that
//!   comes twice when they go back counts once. What recurs within an hour (`*/10 * * * *`) follows
//!   the time that passes.
//! - A clock that is set changes nothing for good, because nothing is counted down: [`Schedule::due`]
//!   compares the time now with the times when it was done, and ignores those that are still to come.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::{Timestamp, tz::TimeZone};
use std::fmt;
use std::str::FromStr;

/// Longest text of a schedule, in bytes.
pub const TEXT_BYTES_MAX: usize = 256;

/// Schedules with a name, and the cron text that each stands for. Weeks begin on Monday, as they do
/// in [`crate::retention`].
pub const NAMED: [(&str, &str); 5] = [
    ("hourly", "0 * * * *"),
    ("daily", "0 0 * * *"),
    ("weekly", "0 0 * * 1"),
    ("monthly", "0 0 1 * *"),
    ("yearly", "0 0 1 1 *"),
];

/// Moments that recur.
#[derive(Debug, Clone)]
pub struct Schedule {
    text: String,
    cron: Cron,
}

/// A text that is no schedule.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// Longer than [`TEXT_BYTES_MAX`].
    #[error("a schedule has at most {TEXT_BYTES_MAX} bytes, this has {len}")]
    TooLong {
        /// Its length.
        len: usize,
    },
    /// Neither a name nor five fields.
    #[error(
        "`{text}` is no schedule: it is hourly, daily, weekly, monthly, yearly, or cron text of five \
         fields (minute hour day month weekday), as in \"30 2 * * *\""
    )]
    Form {
        /// As written.
        text: String,
    },
    /// A field that can't be read.
    #[error("`{text}` is no cron text: {cause}")]
    Cron {
        /// As written.
        text: String,
        /// What the parser says.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Nothing ever matches, as on a 31st of February.
    #[error("`{text}` never comes")]
    Never {
        /// As written.
        text: String,
    },
}

/// Whether something is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// It is.
    Now {
        /// The first moment that was missed; `None` if it was never done.
        since_s: Option<i64>,
    },
    /// Not before this moment, in seconds since 1970.
    At(i64),
    /// The calendar ends before it is.
    Never,
}

impl Schedule {
    /// As written, without white space around it.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The first moment after `time_s`, which is not itself one of them. `None` past the calendar's
    /// end.
    #[must_use]
    pub fn next_after(&self, time_s: i64, zone: &TimeZone) -> Option<i64> {
        let time = Timestamp::from_second(time_s).ok()?.to_zoned(zone.clone());
        let next = self.cron.find_next_occurrence(&time, false).ok()?;
        Some(next.timestamp().as_second())
    }

    /// Whether it is due at `now_s`, after having been done at the times `done_s`, in any order.
    ///
    /// Times after `now_s` are those of a clock that ran ahead. Where no moment of the schedule lies
    /// between, it was done for the moments until now; else they are ignored, for nothing would be
    /// done until that time has come again.
    #[must_use]
    pub fn due(&self, done_s: impl IntoIterator<Item = i64>, now_s: i64, zone: &TimeZone) -> Due {
        let coming_s = self.next_after(now_s, zone);
        let counts = |time_s: &i64| *time_s <= now_s || coming_s.is_some_and(|next| *time_s < next);
        let Some(last_s) = done_s.into_iter().filter(counts).max() else {
            return Due::Now { since_s: None };
        };
        match self.next_after(last_s, zone) {
            Some(next_s) if next_s <= now_s => Due::Now { since_s: Some(next_s) },
            Some(next_s) => Due::At(next_s),
            None => Due::Never,
        }
    }
}

impl FromStr for Schedule {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let text = text.trim();
        if text.len() > TEXT_BYTES_MAX {
            return Err(ScheduleError::TooLong { len: text.len() });
        }
        let written = || text.to_owned();
        let named = NAMED.iter().find(|(name, _)| *name == text).map(|(_, cron)| *cron);
        // `@daily`, and seconds or years in a sixth field, mean other things in other places.
        if named.is_none() && (text.contains('@') || text.split_whitespace().count() != 5) {
            return Err(ScheduleError::Form { text: written() });
        }
        let parser =
            CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser
            .parse(named.unwrap_or(text))
            .map_err(|cause| ScheduleError::Cron { text: written(), cause: cause.into() })?;
        let schedule = Self { text: written(), cron };
        match schedule.next_after(0, &TimeZone::UTC) {
            Some(_) => Ok(schedule),
            None => Err(ScheduleError::Never { text: written() }),
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Schedule {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn schedule(text: &str) -> Schedule {
        text.parse().unwrap()
    }

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).unwrap()
    }

    /// With an offset: `2026-03-29T01:30:00+01`.
    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_second()
    }

    #[track_caller]
    fn runs(text: &str, zone_name: &str, from: &str, expected: &[&str]) {
        let (schedule, zone) = (schedule(text), zone(zone_name));
        let mut time_s = at(from);
        for moment in expected {
            time_s = schedule.next_after(time_s, &zone).unwrap();
            let said = Timestamp::from_second(time_s).unwrap();
            assert_eq!(time_s, at(moment), "{said}, but expected {moment}");
        }
    }

    #[test]
    fn names_mean_what_they_say() {
        let from = "2026-11-23T04:05:06Z"; // a Monday
        runs("hourly", "UTC", from, &["2026-11-23T05:00Z", "2026-11-23T06:00Z"]);
        runs("daily", "UTC", from, &["2026-11-24T00:00Z", "2026-11-25T00:00Z"]);
        runs("weekly", "UTC", from, &["2026-11-30T00:00Z", "2026-12-07T00:00Z"]);
        runs("monthly", "UTC", from, &["2026-12-01T00:00Z", "2027-01-01T00:00Z"]);
        runs("yearly", "UTC", from, &["2027-01-01T00:00Z", "2028-01-01T00:00Z"]);
        runs("daily", "Asia/Kathmandu", from, &["2026-11-23T18:15Z"]);
        runs(" 30 2 29 2 * ", "UTC", from, &["2028-02-29T02:30Z", "2032-02-29T02:30Z"]);
        runs("0 9-17/4 * * mon-fri", "UTC", from, &["2026-11-23T09:00Z", "2026-11-23T13:00Z"]);
    }

    #[test]
    fn every_day_has_one_run_whatever_clocks_do() {
        // Forward at 02:00 on 2026-03-29, back at 03:00 on 2026-10-25.
        runs(
            "30 2 * * *",
            "Europe/Berlin",
            "2026-03-28T12:00+01",
            &["2026-03-29T03:00+02", "2026-03-30T02:30+02"],
        );
        runs(
            "30 2 * * *",
            "Europe/Berlin",
            "2026-10-24T12:00+02",
            &["2026-10-25T02:30+02", "2026-10-26T02:30+01"],
        );
        // Midnight itself is skipped: 2026-09-06 in Santiago.
        runs("daily", "America/Santiago", "2026-09-05T12:00-04", &["2026-09-06T01:00-03"]);
        // Half an hour: 2026-04-05 in Lord Howe.
        runs(
            "hourly",
            "Australia/Lord_Howe",
            "2026-04-05T01:10+11",
            &["2026-04-05T02:00+10:30", "2026-04-05T03:00+10:30"],
        );
    }

    #[test]
    fn what_recurs_within_an_hour_follows_the_time_that_passes() {
        runs(
            "*/30 * * * *",
            "Europe/Berlin",
            "2026-10-25T02:30+02",
            &["2026-10-25T02:00+01", "2026-10-25T02:30+01", "2026-10-25T03:00+01"],
        );
        runs(
            "*/30 * * * *",
            "Europe/Berlin",
            "2026-03-29T01:30+01",
            &["2026-03-29T03:00+02", "2026-03-29T03:30+02"],
        );
    }

    #[test]
    fn due_when_a_moment_was_missed() {
        let daily = schedule("daily");
        let (noon, midnight) = (at("2026-11-23T12:00Z"), at("2026-11-24T00:00Z"));
        let due = |done: &[i64], now_s| daily.due(done.iter().copied(), now_s, &TimeZone::UTC);
        assert_eq!(due(&[], noon), Due::Now { since_s: None });
        assert_eq!(due(&[noon - 86_400, noon], noon), Due::At(midnight));
        assert_eq!(due(&[noon], midnight - 1), Due::At(midnight));
        assert_eq!(due(&[noon], midnight), Due::Now { since_s: Some(midnight) });
        // Off for a week: one run, not seven.
        assert_eq!(due(&[noon], noon + 7 * 86_400), Due::Now { since_s: Some(midnight) });
        assert_eq!(due(&[midnight], midnight), Due::At(midnight + 86_400));
    }

    #[test]
    fn a_clock_that_ran_ahead_stops_nothing() {
        let (daily, noon) = (schedule("daily"), at("2026-11-23T12:00Z"));
        let in_50_years = noon + 50 * 365 * 86_400;
        let due = |done: [i64; 2], now_s| daily.due(done, now_s, &TimeZone::UTC);
        let tomorrow = noon + 86_400;
        assert!(matches!(due([noon, in_50_years], tomorrow), Due::Now { .. }));
        assert!(matches!(due([tomorrow, in_50_years], tomorrow), Due::At(_)));
        // Set back by two hours within a day: that day is done.
        assert!(matches!(due([noon, tomorrow], tomorrow - 7200), Due::At(_)));
        for now_s in [i64::MIN, i64::MAX] {
            assert_ne!(due([i64::MIN, i64::MAX], now_s), Due::At(now_s));
        }
    }

    #[test]
    fn no_schedules() {
        for text in ["", "Daily", "@daily", "dialy", "* * * *", "* * * * * *", "0 0 1 1 * 2030"] {
            assert!(matches!(text.parse::<Schedule>(), Err(ScheduleError::Form { .. })), "{text}");
        }
        for text in ["60 * * * *", "* 24 * * *", "* * 0 * *", "a b c d e", "5-1 * * * *"] {
            assert!(matches!(text.parse::<Schedule>(), Err(ScheduleError::Cron { .. })), "{text}");
        }
        let never = "0 0 31 2 *".parse::<Schedule>();
        assert!(matches!(never, Err(ScheduleError::Never { .. })), "{never:?}");
        let long = "0".repeat(TEXT_BYTES_MAX + 1).parse::<Schedule>();
        assert!(matches!(long, Err(ScheduleError::TooLong { len }) if len == TEXT_BYTES_MAX + 1));
    }

    proptest! {
        #[test]
        fn the_next_moment_is_later_and_none_is_between(
            time_s in 0_i64..4_000_000_000,
            minute in 0_u8..60,
            name in prop::sample::select(vec!["UTC", "Europe/Berlin", "Australia/Lord_Howe"]),
        ) {
            let (schedule, zone) = (schedule(&format!("{minute} * * * *")), zone(name));
            let next_s = schedule.next_after(time_s, &zone).unwrap();
            prop_assert!(next_s > time_s);
            prop_assert!(next_s - time_s <= 2 * 3600);
            prop_assert_eq!(schedule.next_after(next_s - 1, &zone), Some(next_s));
        }

        #[test]
        fn any_text_is_a_schedule_or_an_error(text in "[-0-9*/, LW#@a-z]{0,40}") {
            if let Ok(schedule) = text.parse::<Schedule>() {
                let _ = schedule.next_after(1_800_000_000, &TimeZone::UTC);
            }
        }
    }
}
