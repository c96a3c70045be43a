//! Golden plans, the clock matrix, and what must hold of every plan.

use super::*;
use proptest::prelude::*;

fn at(text: &str) -> i64 {
    format!("{text}Z").parse::<Timestamp>().unwrap().as_second()
}

/// Snapshots are named by their times; a `!` in front marks one that is not good.
fn snapshots(times: &[&str]) -> Vec<Snapshot> {
    let read = |time: &&str| {
        let id = time.trim_start_matches('!');
        Snapshot { id: id.to_owned(), time_s: at(id), good: id == *time }
    };
    times.iter().map(read).collect()
}

fn kept(plan: &Plan) -> Vec<&str> {
    plan.decisions.iter().filter(|one| one.keep).map(|one| &*one.id).collect()
}

/// A plan as text, a line for each snapshot.
fn told(plan: &Plan) -> String {
    let line = |one: &Decision| {
        let reasons: Vec<String> = one.reasons.iter().map(ToString::to_string).collect();
        format!("{} {}: {}\n", if one.keep { "+" } else { "-" }, one.id, reasons.join("; "))
    };
    plan.decisions.iter().map(line).collect()
}

#[track_caller]
fn golden(times: &[&str], policy: Policy, zone: &str, expected: &str) {
    let list = snapshots(times);
    let now_s = list.iter().map(|one| one.time_s).max().unwrap() + 60;
    let zone = TimeZone::get(zone).unwrap();
    let expected: String = expected.lines().map(|line| format!("{}\n", line.trim())).collect();
    assert_eq!(told(&plan(&list, &policy, now_s, &zone)), expected.trim_start());
}

#[test]
fn a_number_keeps_that_many_newest() {
    golden(
        &["2026-11-20T00:00:00", "2026-11-22T00:00:00", "2026-11-21T00:00:00"],
        Policy::newest(2),
        "UTC",
        "+ 2026-11-22T00:00:00: the newest good one; last 1 of 2
         + 2026-11-21T00:00:00: last 2 of 2
         - 2026-11-20T00:00:00: no rule keeps it",
    );
}

#[test]
fn each_period_keeps_its_newest() {
    golden(
        &[
            "2024-12-30T12:00:00",
            "2025-12-28T12:00:00",
            "2025-12-29T12:00:00",
            "2025-12-31T08:00:00",
            "2025-12-31T09:10:00",
            "2025-12-31T09:50:00",
            "2026-01-01T09:00:00",
        ],
        Policy { hourly: 2, daily: 2, weekly: 2, monthly: 2, yearly: 3, ..Policy::default() },
        "UTC",
        "+ 2026-01-01T09:00:00: the newest good one; hourly 1 of 2 (2026-01-01 09h +00:00); daily 1 of 2 (2026-01-01); weekly 1 of 2 (2026-W01); monthly 1 of 2 (2026-01); yearly 1 of 3 (2026)
         + 2025-12-31T09:50:00: hourly 2 of 2 (2025-12-31 09h +00:00); daily 2 of 2 (2025-12-31); monthly 2 of 2 (2025-12); yearly 2 of 3 (2025)
         - 2025-12-31T09:10:00: no rule keeps it
         - 2025-12-31T08:00:00: no rule keeps it
         - 2025-12-29T12:00:00: no rule keeps it
         + 2025-12-28T12:00:00: weekly 2 of 2 (2025-W52)
         + 2024-12-30T12:00:00: yearly 3 of 3 (2024)",
    );
}

#[test]
fn days_are_those_of_the_zone() {
    let times = ["2026-11-22T22:30:00", "2026-11-22T23:30:00"];
    let policy = Policy { daily: 2, ..Policy::default() };
    golden(
        &times,
        policy,
        "UTC",
        "+ 2026-11-22T23:30:00: the newest good one; daily 1 of 2 (2026-11-22)
         - 2026-11-22T22:30:00: no rule keeps it",
    );
    golden(
        &times,
        policy,
        "Europe/Berlin",
        "+ 2026-11-22T23:30:00: the newest good one; daily 1 of 2 (2026-11-23)
         + 2026-11-22T22:30:00: daily 2 of 2 (2026-11-22)",
    );
}

#[test]
fn the_hour_that_comes_twice_is_two() {
    golden(
        &["2026-10-25T00:30:00", "2026-10-25T01:30:00"],
        Policy { hourly: 2, ..Policy::default() },
        "Europe/Berlin",
        "+ 2026-10-25T01:30:00: the newest good one; hourly 1 of 2 (2026-10-25 02h +01:00)
         + 2026-10-25T00:30:00: hourly 2 of 2 (2026-10-25 02h +02:00)",
    );
}

#[test]
fn what_is_not_good_takes_nobodys_place() {
    golden(
        &[
            "2026-11-18T00:00:00",
            "!2026-11-19T00:00:00",
            "2026-11-20T00:00:00",
            "!2026-11-21T00:00:00",
            "!2026-11-22T00:00:00",
        ],
        Policy::newest(2),
        "UTC",
        "+ 2026-11-22T00:00:00: last 1 of 2
         + 2026-11-21T00:00:00: last 2 of 2
         + 2026-11-20T00:00:00: the newest good one; last 1 of 2
         - 2026-11-19T00:00:00: no rule keeps it
         + 2026-11-18T00:00:00: last 2 of 2",
    );
}

#[test]
fn an_empty_policy_keeps_the_newest_good_one() {
    golden(
        &["2026-11-20T00:00:00", "2026-11-21T00:00:00", "!2026-11-22T00:00:00"],
        Policy::default(),
        "UTC",
        "- 2026-11-22T00:00:00: no rule keeps it
         + 2026-11-21T00:00:00: the newest good one
         - 2026-11-20T00:00:00: no rule keeps it",
    );
    let nothing = plan(&[], &Policy::default(), 0, &TimeZone::UTC);
    assert_eq!(nothing, Plan { decisions: Vec::new(), doubt: None });
}

#[test]
fn nothing_goes_while_the_clock_is_in_doubt() {
    const DAY: i64 = 86_400;
    let list = snapshots(&["2026-11-20T00:00:00", "2026-11-21T00:00:00"]);
    let newest_s = list[1].time_s;
    let matrix = [
        (0, None),
        (3600, None),
        (CLOCK_GAP_MAX_S, None),
        (-1, Some(ClockDoubt::Behind(1))),
        (-50 * 365 * DAY, Some(ClockDoubt::Behind(50 * 365 * 86_400))),
        (CLOCK_GAP_MAX_S + 1, Some(ClockDoubt::Ahead(90 * 86_400 + 1))),
        (50 * 365 * DAY, Some(ClockDoubt::Ahead(50 * 365 * 86_400))),
    ];
    for (step_s, doubt) in matrix {
        let plan = plan(&list, &Policy::newest(1), newest_s + step_s, &TimeZone::UTC);
        assert_eq!(plan.doubt, doubt, "{step_s}");
        assert_eq!(plan.removed().count(), usize::from(doubt.is_none()), "{step_s}");
    }
    for now_s in [i64::MIN, i64::MAX] {
        let plan = plan(&list, &Policy::newest(1), now_s, &TimeZone::UTC);
        assert!(plan.doubt.is_some() && plan.removed().next().is_none());
    }
}

#[test]
fn a_day_that_a_country_skipped_is_no_trouble() {
    // Samoa had no 2011-12-30.
    golden(
        &["2011-12-30T09:30:00", "2011-12-30T10:30:00"],
        Policy { daily: 3, ..Policy::default() },
        "Pacific/Apia",
        "+ 2011-12-30T10:30:00: the newest good one; daily 1 of 3 (2011-12-31)
         + 2011-12-30T09:30:00: daily 2 of 3 (2011-12-29)",
    );
}

fn any_list() -> impl Strategy<Value = Vec<Snapshot>> {
    let near = 1_700_000_000_i64..1_702_600_000;
    let time_s = prop_oneof![
        8 => near,
        1 => any::<i64>(),
        1 => prop::sample::select(vec![i64::MIN, -1, 0, i64::MAX]),
    ];
    prop::collection::vec((time_s, prop::bool::weighted(0.8)), 0..40).prop_map(|list| {
        let one = |(index, (time_s, good))| Snapshot { id: format!("{index:02}"), time_s, good };
        list.into_iter().enumerate().map(one).collect()
    })
}

fn any_policy() -> impl Strategy<Value = Policy> {
    prop::array::uniform6(prop_oneof![4 => 0_u32..6, 1 => Just(u32::MAX)]).prop_map(
        |[last, hourly, daily, weekly, monthly, yearly]| Policy {
            last,
            hourly,
            daily,
            weekly,
            monthly,
            yearly,
        },
    )
}

fn any_zone() -> impl Strategy<Value = TimeZone> {
    let names = vec!["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Pacific/Apia"];
    prop::sample::select(names).prop_map(|name| TimeZone::get(name).unwrap())
}

proptest! {
    #[test]
    fn of_every_plan(list in any_list(), policy in any_policy(), zone in any_zone()) {
        let newest_s = list.iter().map(|one| one.time_s).max().unwrap_or(0);
        let now = plan(&list, &policy, newest_s, &zone);
        prop_assert!(now.doubt.is_none());

        // One decision each, with a reason, whatever the order.
        let mut ids: Vec<&str> = now.decisions.iter().map(|one| &*one.id).collect();
        ids.sort_unstable();
        prop_assert!(ids.iter().eq(list.iter().map(|one| &one.id)));
        prop_assert!(now.decisions.iter().all(|one| !one.reasons.is_empty()));
        let reversed: Vec<Snapshot> = list.iter().rev().cloned().collect();
        prop_assert_eq!(&plan(&reversed, &policy, newest_s, &zone), &now);

        // The newest good one stays, and as many good ones as `last` says, if there are.
        let stays = kept(&now);
        let good = || list.iter().filter(|one| one.good);
        if let Some(newest) = good().max_by_key(|one| (one.time_s, &one.id)) {
            prop_assert!(stays.contains(&&*newest.id));
        }
        let good_kept = good().filter(|one| stays.contains(&&*one.id)).count();
        prop_assert!(good_kept >= good().count().min(policy.last as usize));

        // What stays would stay again.
        let rest: Vec<Snapshot> =
            list.iter().filter(|one| stays.contains(&&*one.id)).cloned().collect();
        let again = plan(&rest, &policy, newest_s, &zone);
        prop_assert_eq!(again.removed().count(), 0);

        // A snapshot that is not good costs no good one its place.
        for index in 0..list.len() {
            let mut one_bad = list.clone();
            one_bad[index].good = false;
            let before: Vec<Snapshot> = [&list[..index], &list[index + 1..]].concat();
            let newest_before_s = before.iter().map(|one| one.time_s).max().unwrap_or(0);
            let without = plan(&before, &policy, newest_before_s, &zone);
            let with = plan(&one_bad, &policy, newest_s, &zone);
            for one in before.iter().filter(|one| one.good) {
                if kept(&without).contains(&&*one.id) {
                    prop_assert!(kept(&with).contains(&&*one.id), "{} was lost", one.id);
                }
            }
        }
    }

    #[test]
    fn no_clock_makes_it_panic(list in any_list(), policy in any_policy(), now_s in any::<i64>()) {
        let plan = plan(&list, &policy, now_s, &TimeZone::UTC);
        prop_assert!(plan.doubt.is_none() || plan.removed().next().is_none());
    }
}
