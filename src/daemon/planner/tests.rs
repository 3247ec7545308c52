use super::*;
use chrono_tz::Tz;
use proptest::prelude::*;

const HOUR: i64 = 3_600;
/// 2026-11-24T12:00:00Z
const NOON: i64 = 1_795_521_600;

fn time(after_noon: i64) -> Timestamp {
    Timestamp::from_unix(NOON + after_noon).unwrap()
}

fn nothing() -> BTreeSet<String> {
    BTreeSet::new()
}

fn schedule(cron: &str) -> Schedule {
    Schedule::new(cron.parse().unwrap(), Tz::UTC, Duration::ZERO, "", "")
}

/// A daemon that starts ten seconds after noon, with an hourly schedule.
fn started(run_at_start: bool, past: Past) -> Planner {
    let plan = Plan::new(schedule("0 * * * *"), run_at_start, past, time(10));
    Planner::new([("acme".to_owned(), plan)])
}

fn past(finished: i64) -> Past {
    let run = Some((time(finished - 2), time(finished)));
    Past { last: run, handled: run, ..Past::default() }
}

/// The run that begins then, as its trigger, and what it says of slots.
fn next(planner: &mut Planner, after_noon: i64) -> Option<(Trigger, u64, u64)> {
    planner
        .next(time(after_noon), &nothing())
        .map(|start| (start.trigger, start.missed, start.skipped))
}

fn end(planner: &mut Planner, began: i64, ended: i64, status: Status) {
    let (started_at, finished_at) = (time(began), time(ended));
    planner.ended("acme", &Ended { started_at, finished_at, status, deferred_until: None });
}

#[test]
fn a_first_start_runs_at_once_or_waits_for_the_slot() {
    let mut planner = started(true, Past::default());
    assert_eq!(next(&mut planner, 10), Some((Trigger::Start, 0, 0)));
    end(&mut planner, 10, 15, Status::Ok);
    assert_eq!(next(&mut planner, 16), None);
    assert_eq!(planner.next_at(time(16), &nothing()), Some(time(HOUR)));
    let mut planner = started(false, Past::default());
    assert_eq!(next(&mut planner, 3_599), None);
    assert_eq!(next(&mut planner, HOUR), Some((Trigger::Schedule, 0, 0)));
}

#[test]
fn slots_while_nobody_was_there_are_one_missed_run() {
    for run_at_start in [true, false] {
        let mut planner = started(run_at_start, past(-5 * HOUR));
        // 8, 9, 10, 11 and 12 o'clock.
        assert_eq!(next(&mut planner, 10), Some((Trigger::Missed, 5, 0)));
        end(&mut planner, 10, 15, Status::Ok);
        assert_eq!(next(&mut planner, 20), None);
    }
    // Restarted across a slot, however short that took.
    assert_eq!(next(&mut started(false, past(-5)), 10), Some((Trigger::Missed, 1, 0)));
    assert_eq!(next(&mut started(false, past(5)), 10), None);
}

#[test]
fn a_machine_that_slept_runs_once_and_says_what_it_missed() {
    let mut planner = started(false, past(5));
    assert_eq!(next(&mut planner, 5 * HOUR + 900), Some((Trigger::Missed, 5, 0)));
    end(&mut planner, 5 * HOUR + 900, 5 * HOUR + 910, Status::Ok);
    assert_eq!(next(&mut planner, 5 * HOUR + 911), None);
}

#[test]
fn a_failed_run_is_tried_again_after_1_2_4_8_minutes_until_the_next_slot() {
    let mut planner = started(false, past(5));
    assert_eq!(next(&mut planner, HOUR), Some((Trigger::Schedule, 0, 0)));
    let mut now = HOUR;
    let mut delays = Vec::new();
    loop {
        end(&mut planner, now, now + 3, Status::Failed);
        let failed = now + 3;
        now = (failed..=2 * HOUR)
            .find(|now| planner.next_at(time(*now), &nothing()) == Some(time(*now)))
            .unwrap();
        assert_eq!(next(&mut planner, now - 1), None);
        match next(&mut planner, now).unwrap() {
            (Trigger::Retry, 0, 0) => delays.push((now - failed) / 60),
            other => {
                assert_eq!((other, now), ((Trigger::Schedule, 0, 0), 2 * HOUR));
                break;
            }
        }
    }
    assert_eq!(delays, [1, 2, 4, 8, 16]);
    // The slot's own run begins anew.
    end(&mut planner, now, now + 3, Status::Failed);
    assert_eq!(planner.next_at(time(now + 3), &nothing()), Some(time(now + 63)));
}

#[test]
fn a_held_run_is_not_tried_again_before_the_next_slot() {
    let mut planner = started(false, past(5));
    assert_eq!(next(&mut planner, HOUR), Some((Trigger::Schedule, 0, 0)));
    end(&mut planner, HOUR, HOUR + 3, Status::Held);
    assert_eq!(planner.next_at(time(HOUR + 3), &nothing()), Some(time(2 * HOUR)));
}

#[test]
fn the_api_is_left_alone_for_as_long_as_it_asks_but_not_for_ever() {
    let deferred = |until: i64| {
        let mut planner = started(false, past(5));
        next(&mut planner, HOUR).unwrap();
        let deferred_until = Some(time(until));
        let (started_at, finished_at, status) = (time(HOUR), time(HOUR + 3), Status::Failed);
        planner.ended("acme", &Ended { started_at, finished_at, status, deferred_until });
        planner
    };
    let mut planner = deferred(3 * HOUR + 600);
    assert_eq!(next(&mut planner, 2 * HOUR), None);
    assert_eq!(next(&mut planner, 3 * HOUR + 599), None);
    assert_eq!(next(&mut planner, 3 * HOUR + 600), Some((Trigger::Retry, 0, 2)));
    // Somebody who asks for it gets it all the same.
    let mut planner = deferred(3 * HOUR + 600);
    planner.request_all();
    assert_eq!(next(&mut planner, HOUR + 10), Some((Trigger::Manual, 0, 0)));
    let mut planner = deferred(1_000 * HOUR);
    assert_eq!(next(&mut planner, 2 * HOUR), None);
    assert_eq!(next(&mut planner, 26 * HOUR).unwrap().0, Trigger::Retry);
    // What has passed already is no reason to hurry.
    assert_eq!(next(&mut deferred(HOUR), HOUR + 4), None);
}

#[test]
fn a_process_that_is_killed_again_and_again_waits_longer_each_time() {
    let killed = |killed| {
        let past = Past { cut_short: true, failures: killed, killed, ..past(5) };
        let planner = started(true, past);
        planner.next_at(time(10), &nothing()).unwrap().unix() - NOON
    };
    assert_eq!([killed(1), killed(2), killed(3), killed(4)], [10, 3 + 60, 3 + 120, 3 + 240]);
    assert_eq!(killed(32), 3 + HOUR);
}

#[test]
fn a_run_that_was_stopped_is_made_up_for_at_the_next_start() {
    let stopped = Past { cut_short: true, failures: 1, ..past(5) };
    assert_eq!(next(&mut started(false, stopped), 10), Some((Trigger::Retry, 0, 0)));
    let failed = Past { failures: 1, ..past(5) };
    let mut planner = started(false, failed);
    assert_eq!(next(&mut planner, 10), None);
    assert_eq!(next(&mut planner, 65), Some((Trigger::Retry, 0, 0)));
}

#[test]
fn who_asks_during_a_run_gets_one_more() {
    let mut planner = started(true, Past::default());
    next(&mut planner, 10).unwrap();
    planner.request_all();
    planner.request_all();
    end(&mut planner, 10, 15, Status::Ok);
    assert_eq!(next(&mut planner, 15), Some((Trigger::Manual, 0, 0)));
    end(&mut planner, 15, 16, Status::Ok);
    assert_eq!(next(&mut planner, 16), None);
}

#[test]
fn a_new_schedule_counts_from_now_and_what_waits_goes_on_waiting() {
    let mut planner = started(false, past(5));
    let plan = |cron| Plan::new(schedule(cron), true, Past::default(), time(1_000));
    planner.request_all();
    planner.reload([("acme".to_owned(), plan("*/5 * * * *"))], time(1_000));
    assert_eq!(next(&mut planner, 1_000), Some((Trigger::Manual, 0, 0)));
    end(&mut planner, 1_000, 1_001, Status::Ok);
    assert_eq!(planner.next_at(time(1_001), &nothing()), Some(time(1_200)));
    planner.reload([("other".to_owned(), plan("0 * * * *"))], time(1_100));
    assert_eq!(planner.next(time(1_100), &nothing()).unwrap().organization, "other");
    // The end of a run of one that is gone.
    end(&mut planner, 1_100, 1_101, Status::Ok);
}

fn two() -> Planner {
    let plan = |cron| Plan::new(schedule(cron), false, past(5), time(10));
    Planner::new([("a".to_owned(), plan("1 * * * *")), ("b".to_owned(), plan("0 13 * * *"))])
}

#[test]
fn of_several_the_one_that_waits_longest_is_next() {
    let mut planner = two();
    let start = planner.next(time(HOUR + 62), &nothing()).unwrap();
    assert_eq!((start.organization.as_str(), start.trigger), ("a", Trigger::Missed));
    let start = planner.next(time(HOUR + 62), &nothing()).unwrap();
    assert_eq!((start.organization.as_str(), start.trigger), ("b", Trigger::Missed));
    assert_eq!(planner.next(time(HOUR + 62), &nothing()), None);
}

#[test]
fn a_run_under_way_holds_up_its_own_organization_alone() {
    let mut planner = two();
    assert_eq!(planner.next(time(61), &nothing()).unwrap().organization, "a");
    let under_way = BTreeSet::from(["a".to_owned()]);
    assert_eq!(planner.next_at(time(61), &under_way), Some(time(HOUR)));
    // It takes until after the slots of both.
    let start = planner.next(time(HOUR), &under_way).unwrap();
    assert_eq!((start.organization.as_str(), start.trigger), ("b", Trigger::Schedule));
    assert_eq!((start.missed, start.skipped), (0, 0));
    assert_eq!(planner.next(time(HOUR + 300), &under_way), None);
    planner.request_all();
    assert_eq!(planner.next(time(HOUR + 300), &under_way).unwrap().organization, "b");
    assert_eq!(planner.next(time(HOUR + 300), &under_way), None);
    let (started_at, finished_at, status) = (time(61), time(HOUR + 301), Status::Ok);
    planner.ended("a", &Ended { started_at, finished_at, status, deferred_until: None });
    // Its slot during the run was counted on it; that somebody asked meanwhile is not forgotten.
    let start = planner.next(time(HOUR + 301), &nothing()).unwrap();
    assert_eq!((start.organization.as_str(), start.trigger), ("a", Trigger::Manual));
    assert_eq!((start.missed, start.skipped), (0, 0));
}

#[test]
fn a_clock_that_is_set_neither_stops_the_schedule_nor_makes_a_storm() {
    // A year ahead and back again.
    let mut planner = started(false, past(5));
    let year = 365 * 24 * HOUR;
    assert_eq!(next(&mut planner, year + 900).unwrap().0, Trigger::Missed);
    end(&mut planner, year + 900, year + 905, Status::Failed);
    assert_eq!(next(&mut planner, 1_000), None);
    assert_eq!(planner.next_at(time(1_000), &nothing()), Some(time(1_060)));
    assert_eq!(next(&mut planner, HOUR).unwrap().0, Trigger::Schedule);
    // Back by a few seconds right after a slot: not again.
    end(&mut planner, HOUR, HOUR + 1, Status::Ok);
    assert_eq!(next(&mut planner, HOUR - 3), None);
    assert_eq!(next(&mut planner, HOUR), None);
}

/// Something that happens to the machine at some second.
#[derive(Debug, Clone)]
enum Happening {
    Nothing,
    Suspend(i64),
    Ask,
    Reload,
}

fn happenings() -> impl Strategy<Value = Vec<(i64, Happening)>> {
    let one = prop_oneof![
        3 => Just(Happening::Nothing),
        2 => (60..20_000_i64).prop_map(Happening::Suspend),
        1 => Just(Happening::Ask),
        1 => Just(Happening::Reload),
    ];
    prop::collection::vec((1..4_000_i64, one), 1..25)
}

proptest! {
    /// Slots are run, skipped or missed, each once; runs are never closer than they may be.
    #[test]
    fn every_slot_is_accounted_for_once(
        cron in prop::sample::select(vec!["0 * * * *", "*/5 * * * *", "*/20 * * * * *", "30 2,14 * * *"]),
        happenings in happenings(),
        lengths in prop::collection::vec((0..2_000_i64, prop::sample::select(vec![Status::Ok, Status::Ok, Status::Failed, Status::Held])), 1..10),
    ) {
        let schedule = schedule(cron);
        let plan = || Plan::new(schedule.clone(), false, Past::default(), time(0));
        let mut planner = Planner::new([("acme".to_owned(), plan())]);
        let mut lengths = lengths.into_iter().cycle();
        let (mut now, mut accounted, mut runs) = (0_i64, 0_u64, 0_u64);
        let mut failed_at: Option<i64> = None;
        for (after, happening) in happenings {
            let until = now + after;
            while now < until {
                now += 7;
                let Some(start) = planner.next(time(now), &nothing()) else { continue };
                runs += 1;
                accounted += start.missed + start.skipped + u64::from(start.trigger == Trigger::Schedule);
                if start.trigger == Trigger::Retry {
                    prop_assert!(failed_at.is_some_and(|failed| now >= failed + 60));
                }
                let (length, status) = lengths.next().unwrap();
                let began = now;
                now += length;
                accounted += schedule.slots_between(time(began), time(now));
                failed_at = (status == Status::Failed).then_some(now);
                end(&mut planner, began, now, status);
            }
            match happening {
                Happening::Suspend(seconds) => now += seconds,
                Happening::Ask => planner.request_all(),
                Happening::Reload => planner.reload([("acme".to_owned(), plan())], time(now)),
                Happening::Nothing => {}
            }
        }
        // What is still open.
        while let Some(start) = planner.next(time(now), &nothing()) {
            accounted += start.missed + start.skipped + u64::from(start.trigger == Trigger::Schedule);
            end(&mut planner, now, now, Status::Ok);
        }
        prop_assert_eq!(accounted, schedule.slots_between(time(0), time(now)), "{} runs", runs);
    }

    /// Whatever the clock does, a run comes within an interval, and there are not more than the schedule
    /// and the jumps explain.
    #[test]
    fn a_clock_that_jumps_is_followed(jumps in prop::collection::vec((1..7_000_i64, -300_000..300_000_i64), 1..15)) {
        let mut planner = Planner::new([("acme".to_owned(), Plan::new(schedule("*/10 * * * *"), false, Past::default(), time(0)))]);
        let (mut now, mut runs, mut passed, mut since_run) = (0_i64, 0_i64, 0_i64, 0_i64);
        for (stay, jump) in &jumps {
            for _ in 0..*stay {
                (now, passed, since_run) = (now + 1, passed + 1, since_run + 1);
                if planner.next(time(now), &nothing()).is_some() {
                    runs += 1;
                    since_run = 0;
                    end(&mut planner, now, now, Status::Ok);
                }
                prop_assert!(since_run <= 600 + 61, "nothing for {} s", since_run);
            }
            // From here it may take an interval again.
            (now, since_run) = (now + jump, 0);
        }
        let most = passed / 600 + 1 + i64::try_from(jumps.len()).unwrap() * 2;
        prop_assert!(runs <= most, "{} runs in {} s", runs, passed);
    }
}
