//! Which snapshots are kept, and why: a pure function of a list, a policy and the time.
//!
//! It must not know files, stores or configuration. It is written to err on the side of keeping:
//!
//! - The newest good snapshot is always kept.
//! - Nothing goes while the clock is in doubt: earlier than the newest snapshot, or more than
//!   [`CLOCK_GAP_MAX_S`] after it.
//! - Counts are counts of snapshots and of periods *that have one*, never ages: a clock that runs wild
//!   makes one wrong snapshot, and that costs at most one right one.
//! - A snapshot that is not good never takes the place of a good one. The policy is applied twice, to
//!   the good ones and to all; what either keeps stays. So a damaged snapshot, which may hold what
//!   nothing else does, stays as long as it would if it were whole.

use jiff::{Timestamp, tz::TimeZone};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A clock further than this past the newest snapshot is in doubt: 90 days.
pub const CLOCK_GAP_MAX_S: i64 = 90 * 86_400;

/// What a decision must know of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its name; unique in the list.
    pub id: String,
    /// When it was taken, in seconds since 1970-01-01T00:00:00Z.
    pub time_s: i64,
    /// Whether it was verified and is not known to be damaged.
    pub good: bool,
}

/// How many snapshots are kept. A count of a period keeps the newest snapshot of each of the newest
/// that many periods that have one. All zero keeps the newest good one alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Policy {
    /// That many newest.
    pub last: u32,
    /// One for each of that many hours.
    pub hourly: u32,
    /// One for each of that many days.
    pub daily: u32,
    /// One for each of that many weeks, which begin on Monday.
    pub weekly: u32,
    /// One for each of that many months.
    pub monthly: u32,
    /// One for each of that many years.
    pub yearly: u32,
}

impl Policy {
    /// That many newest, and no more.
    #[must_use]
    pub const fn newest(count: u32) -> Self {
        Self { last: count, hourly: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0 }
    }

    fn periods(&self) -> [(Period, u32); 5] {
        [
            (Period::Hour, self.hourly),
            (Period::Day, self.daily),
            (Period::Week, self.weekly),
            (Period::Month, self.monthly),
            (Period::Year, self.yearly),
        ]
    }
}

/// A span of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Period {
    /// `2026-11-23 04h`; the two that a clock change makes of one are two.
    Hour,
    /// `2026-11-23`.
    Day,
    /// `2026-W48`, as in ISO 8601.
    Week,
    /// `2026-11`.
    Month,
    /// `2026`.
    Year,
}

impl Period {
    /// As in a policy: `hourly`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hour => "hourly",
            Self::Day => "daily",
            Self::Week => "weekly",
            Self::Month => "monthly",
            Self::Year => "yearly",
        }
    }

    /// Which one a moment falls in. Moments that no calendar reaches fall in the first or the last.
    fn of(self, time_s: i64, zone: &TimeZone) -> String {
        let (first, last) = (Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
        let edge = if time_s < first { Timestamp::MIN } else { Timestamp::MAX };
        let time = Timestamp::from_second(time_s.clamp(first, last)).unwrap_or(edge);
        let time = time.to_zoned(zone.clone());
        match self {
            Self::Hour => time.strftime("%Y-%m-%d %Hh %:z").to_string(),
            Self::Day => time.strftime("%Y-%m-%d").to_string(),
            Self::Week => time.strftime("%G-W%V").to_string(),
            Self::Month => time.strftime("%Y-%m").to_string(),
            Self::Year => time.strftime("%Y").to_string(),
        }
    }
}

/// Why a snapshot is kept, or goes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// Among the newest: the `rank`th of `count`.
    Last {
        /// From 1, the newest.
        rank: u32,
        /// What the policy says.
        count: u32,
    },
    /// The newest of its period, which is the `rank`th of `count` that have one.
    Newest {
        /// Its kind.
        period: Period,
        /// Which one: `2026-W48`.
        name: String,
        /// From 1, the newest.
        rank: u32,
        /// What the policy says.
        count: u32,
    },
    /// No good one is newer.
    NewestGood,
    /// The clock is in doubt, and nothing goes.
    Clock(ClockDoubt),
    /// No rule keeps it: it goes.
    NoRule,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Last { rank, count } => write!(f, "last {rank} of {count}"),
            Self::Newest { period, name, rank, count } => {
                write!(f, "{} {rank} of {count} ({name})", period.name())
            }
            Self::NewestGood => f.write_str("the newest good one"),
            Self::Clock(doubt) => write!(f, "{doubt}"),
            Self::NoRule => f.write_str("no rule keeps it"),
        }
    }
}

/// Why the clock is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockDoubt {
    /// It is earlier than the newest snapshot, by so many seconds.
    Behind(u64),
    /// It is later than the newest snapshot, by so many seconds.
    Ahead(u64),
}

impl fmt::Display for ClockDoubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Behind(s) => write!(f, "the clock is {s} s before the newest snapshot"),
            Self::Ahead(s) => {
                write!(f, "the clock is {} days after the newest snapshot", s / 86_400)
            }
        }
    }
}

/// What happens to one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The snapshot.
    pub id: String,
    /// Whether it stays.
    pub keep: bool,
    /// All that speak for it, or [`Reason::NoRule`]; never empty.
    pub reasons: Vec<Reason>,
}

/// A decision on every snapshot of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// One for each, the newest first.
    pub decisions: Vec<Decision>,
    /// Set if the clock is in doubt; then all stay. Whoever knows better asks again with the time of
    /// the newest snapshot: nothing else depends on the time.
    pub doubt: Option<ClockDoubt>,
}

impl Plan {
    /// Names of those that go.
    pub fn removed(&self) -> impl Iterator<Item = &str> {
        self.decisions.iter().filter(|decision| !decision.keep).map(|decision| &*decision.id)
    }
}

/// Decides what stays, in any order of `snapshots`. `zone` says where days begin.
#[must_use]
pub fn plan(snapshots: &[Snapshot], policy: &Policy, now_s: i64, zone: &TimeZone) -> Plan {
    let mut newest_first: Vec<&Snapshot> = snapshots.iter().collect();
    newest_first.sort_by(|a, b| (b.time_s, &b.id).cmp(&(a.time_s, &a.id)));
    let doubt = newest_first.first().and_then(|newest| clock_doubt(newest.time_s, now_s));

    let good: Vec<&Snapshot> = newest_first.iter().copied().filter(|one| one.good).collect();
    let mut reasons: BTreeMap<&str, Vec<Reason>> = BTreeMap::new();
    if let Some(newest) = good.first() {
        reasons.entry(&newest.id).or_default().push(Reason::NewestGood);
    }
    apply(policy, &good, zone, &mut reasons);
    if good.len() < newest_first.len() {
        let mut of_all = BTreeMap::new();
        apply(policy, &newest_first, zone, &mut of_all);
        for (id, why) in of_all {
            // What keeps it among the good ones says more.
            reasons.entry(id).or_insert(why);
        }
    }
    let decisions = newest_first.iter().map(|snapshot| {
        let mut reasons = reasons.remove(&*snapshot.id).unwrap_or_default();
        if reasons.is_empty() {
            reasons.push(doubt.map_or(Reason::NoRule, Reason::Clock));
        }
        let keep = !reasons.contains(&Reason::NoRule);
        Decision { id: snapshot.id.clone(), keep, reasons }
    });
    Plan { decisions: decisions.collect(), doubt }
}

fn clock_doubt(newest_s: i64, now_s: i64) -> Option<ClockDoubt> {
    let gap_s = now_s.abs_diff(newest_s);
    if now_s < newest_s {
        Some(ClockDoubt::Behind(gap_s))
    } else if gap_s > CLOCK_GAP_MAX_S.unsigned_abs() {
        Some(ClockDoubt::Ahead(gap_s))
    } else {
        None
    }
}

/// Collects what each rule keeps of a list, the newest first.
fn apply<'a>(
    policy: &Policy,
    newest_first: &[&'a Snapshot],
    zone: &TimeZone,
    reasons: &mut BTreeMap<&'a str, Vec<Reason>>,
) {
    for (snapshot, rank) in newest_first.iter().zip(1..=policy.last) {
        let reason = Reason::Last { rank, count: policy.last };
        reasons.entry(&snapshot.id).or_default().push(reason);
    }
    for (period, count) in policy.periods() {
        // By the names that were seen, not by the one before: where clocks go back, an hour that was
        // left can come again, and so can a day.
        let mut seen = BTreeSet::new();
        for snapshot in newest_first {
            let rank = u32::try_from(seen.len()).unwrap_or(u32::MAX).saturating_add(1);
            if rank > count {
                break;
            }
            let name = period.of(snapshot.time_s, zone);
            if seen.insert(name.clone()) {
                let reason = Reason::Newest { period, name, rank, count };
                reasons.entry(&snapshot.id).or_default().push(reason);
            }
        }
    }
}

#[cfg(test)]
mod tests;
