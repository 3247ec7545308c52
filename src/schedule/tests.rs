use super::*;
use proptest::prelude::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn schedule(cron: &str, zone: &str) -> Schedule {
    let zone: Tz = zone.parse().unwrap();
    Schedule::new(cron.parse().unwrap(), zone, Duration::ZERO, "", "")
}

/// The slots of a span, as the local clock shows them and in UTC.
fn slots(cron: &str, zone: &str, from: &str, until: &str) -> Vec<String> {
    let schedule = schedule(cron, zone);
    let mut time = at(from);
    let mut slots = Vec::new();
    while let Some(next) = schedule.next_after(time).filter(|next| *next <= at(until)) {
        slots.push(next.to_string());
        time = next;
    }
    assert_eq!(schedule.slots_between(at(from), at(until)), slots.len() as u64);
    slots
}

#[test]
fn every_hour_and_every_second() {
    assert_eq!(
        slots("0 * * * *", "UTC", "2026-11-24T11:59:59Z", "2026-11-24T13:00:00Z"),
        ["2026-11-24T12:00:00Z", "2026-11-24T13:00:00Z"]
    );
    assert_eq!(
        slots("* * * * * *", "UTC", "2026-11-24T11:59:57Z", "2026-11-24T12:00:00Z").len(),
        3
    );
    assert_eq!(
        slots("0 9 * * 1-5", "Asia/Kolkata", "2026-11-20T12:00:00Z", "2026-11-24T00:00:00Z"),
        ["2026-11-23T03:30:00Z"]
    );
}

#[test]
fn a_daily_job_in_the_gap_of_spring_runs_once_right_after_it() {
    // 29 March 2026: from 02:00 to 03:00, at 01:00 UTC.
    let berlin =
        |cron| slots(cron, "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z");
    assert_eq!(berlin("30 2 * * *"), ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]);
    assert_eq!(berlin("15,45 2 * * *").len(), 3);
    assert_eq!(berlin("30 3 * * *"), ["2026-03-29T01:30:00Z", "2026-03-30T01:30:00Z"]);
    assert_eq!(
        slots("0 2 * * *", "America/New_York", "2026-03-07T12:00:00Z", "2026-03-09T12:00:00Z"),
        ["2026-03-08T07:00:00Z", "2026-03-09T06:00:00Z"]
    );
}

#[test]
fn a_daily_job_in_the_hour_that_comes_twice_runs_the_first_time() {
    // 25 October 2026: from 03:00 back to 02:00, at 01:00 UTC.
    let berlin =
        |cron| slots(cron, "Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z");
    assert_eq!(berlin("30 2 * * *"), ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
    assert_eq!(berlin("0 3 * * *"), ["2026-10-25T02:00:00Z", "2026-10-26T02:00:00Z"]);
}

#[test]
fn an_hourly_job_runs_every_hour_across_both_changes() {
    for (from, until) in [
        ("2026-03-28T23:30:00Z", "2026-03-29T03:30:00Z"),
        ("2026-10-24T23:30:00Z", "2026-10-25T03:30:00Z"),
    ] {
        let hourly = slots("0 * * * *", "Europe/Berlin", from, until);
        assert_eq!(hourly.len(), 4, "{hourly:?}");
        assert_eq!(slots("*/15 * * * *", "Europe/Berlin", from, until).len(), 16);
        // Half an hour there.
        assert!(slots("0 * * * *", "Australia/Lord_Howe", from, until).len() >= 3);
    }
    // The minutes of an hour that is not there, and of one that is there twice.
    let two = |from, until| slots("*/15 2 * * *", "Europe/Berlin", from, until).len();
    assert_eq!(two("2026-03-28T22:00:00Z", "2026-03-29T12:00:00Z"), 0);
    assert_eq!(two("2026-10-24T22:00:00Z", "2026-10-25T12:00:00Z"), 8);
}

#[test]
fn a_day_that_a_zone_left_out_stops_nothing() {
    // Samoa had no 30 December 2011.
    let daily = slots("0 12 * * *", "Pacific/Apia", "2011-12-28T00:00:00Z", "2012-01-02T00:00:00Z");
    assert!(daily.len() >= 4, "{daily:?}");
    let hourly = slots("0 * * * *", "Pacific/Apia", "2011-12-28T00:00:00Z", "2012-01-02T00:00:00Z");
    assert_eq!(hourly.len(), 5 * 24);
}

#[test]
fn what_is_no_cron_expression_is_refused_with_a_reason() {
    let refused = |text: &str| text.parse::<Cron>().unwrap_err().to_string();
    for (text, reason) in [
        ("", "have five fields"),
        ("0 * * *", "have five fields"),
        ("0 0 0 1 1 * 2027", "have five fields"),
        ("@hourly", "have five fields"),
        ("61 * * * *", "be a cron expression: "),
        ("a b c d e", "be a cron expression: "),
        ("0 0 30 2 *", "be a cron expression that comes true some day"),
    ] {
        assert!(refused(text).starts_with(reason), "{text}: {}", refused(text));
    }
}

#[test]
fn the_offset_is_stable_bounded_and_spreads_a_fleet() {
    let cron: Cron = "0 * * * *".parse().unwrap();
    let of = |installation: &str| {
        Schedule::new(cron.clone(), Tz::UTC, Duration::from_mins(1), installation, "acme").offset
    };
    let offsets: BTreeSet<i64> = (0..500).map(|number| of(&number.to_string())).collect();
    assert!(offsets.len() > 55, "{offsets:?}");
    assert!(offsets.iter().all(|offset| (0..=60).contains(offset)));
    assert_eq!(of("f00d"), of("f00d"));
    // Never more than half of the way to the next slot.
    for (cron, most) in [("* * * * * *", 0), ("*/10 * * * * *", 5), ("* * * * *", 30)] {
        for number in 0..50_u8 {
            let hour = Duration::from_hours(1);
            let name = number.to_string();
            let schedule = Schedule::new(cron.parse().unwrap(), Tz::UTC, hour, &name, "acme");
            assert!(schedule.offset <= most, "{cron}");
        }
    }
}

#[test]
fn a_success_is_overdue_after_two_intervals_of_the_schedule() {
    let hourly = schedule("0 * * * *", "UTC");
    assert_eq!(hourly.overdue_at(at("2026-11-24T12:00:05Z")), at("2026-11-24T14:00:05Z"));
    assert_eq!(hourly.overdue_at(at("2026-11-24T11:59:50Z")), at("2026-11-24T13:59:50Z"));
    // Over a weekend nothing is late.
    let office = schedule("0 9-17 * * 1-5", "UTC");
    assert_eq!(office.overdue_at(at("2026-11-20T17:00:05Z")), at("2026-11-23T10:00:00Z"));
}

#[test]
fn the_seconds_of_the_slots_are_known() {
    let seconds = |cron: &str| schedule(cron, "UTC").seconds();
    assert_eq!(seconds("0 * * * *"), BTreeSet::from([0]));
    assert_eq!(seconds("*/20 * * * * *"), BTreeSet::from([0, 20, 40]));
    assert_eq!(seconds("* * * * * *").len(), 60);
    let moved = Schedule { offset: 70, ..schedule("*/20 * * * * *", "UTC") };
    assert_eq!(moved.seconds(), BTreeSet::from([10, 30, 50]));
}

/// The same the slow way: time by time, replaying two days for each slot at a fixed time.
mod slowly {
    use chrono::LocalResult;

    use super::*;

    pub(super) fn next_after(schedule: &Schedule, time: Timestamp) -> Option<Timestamp> {
        let from = schedule.instant(time)?;
        let next = if schedule.cron.is_interval() {
            next_instant(schedule, from)
        } else {
            next_fixed(schedule, from)
        };
        Timestamp::from_unix(next?.timestamp() + schedule.offset)
    }

    pub(super) fn slots_between(schedule: &Schedule, after: Timestamp, until: Timestamp) -> u64 {
        let next = |last: &Timestamp| next_after(schedule, *last);
        let slots = std::iter::successors(next(&after), next);
        slots.take_while(|slot| *slot <= until).count() as u64
    }

    /// The next instant whose local time fits.
    fn next_instant(schedule: &Schedule, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut from = after;
        loop {
            let offset = schedule.offset_at(from + SECOND);
            // As the clock shows it at the first instant in question, whatever it showed before.
            let next = (schedule.cron.next_local(local(from, offset))? - offset).and_utc();
            match schedule.clock_change(from + SECOND, from + DAY) {
                Some(change) if next >= change => from = change - SECOND,
                _ if schedule.offset_at(next) == offset => return Some(next),
                // Somewhere before `next` the clock is set, and nothing fits before that.
                _ => from = (next - DAY - DAY).max(from + DAY - SECOND),
            }
        }
    }

    /// The next instant that a local time stands for.
    fn next_fixed(schedule: &Schedule, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // From before any gap or repetition that may concern us.
        let mut time = local(after, schedule.offset_at(after)) - DAY - DAY;
        loop {
            time = schedule.cron.next_local(time)?;
            let around = time.and_utc();
            let instant = match schedule.zone.from_local_datetime(&time) {
                LocalResult::Single(time) | LocalResult::Ambiguous(time, _) => time.to_utc(),
                LocalResult::None => {
                    schedule.clock_change(around - DAY - DAY, around + DAY + DAY)?
                }
            };
            if instant > after {
                return Some(instant);
            }
        }
    }
}

#[test]
fn a_year_of_any_schedule_is_counted_at_once() {
    let (from, until) = (at("2025-11-24T12:00:00Z"), at("2026-11-24T12:00:00Z"));
    let year: u64 = 365 * 24 * 60 * 60;
    for (cron, slots) in [
        // The hour that comes twice has them once.
        ("0-59 0-59 0-23 * * *", year - 3600),
        ("* * * * * *", year),
        ("0-59 8-18 * * 1-5", 261 * 11 * 60),
        ("0 0 29 2 *", 0),
        ("0 0 1 1 *", 1),
    ] {
        let schedule = schedule(cron, "Europe/Berlin");
        let began = std::time::Instant::now();
        assert_eq!(schedule.slots_between(from, until), slots, "{cron}");
        assert!(schedule.next_after(from).is_some());
        // A hundred times as long as it takes.
        assert!(began.elapsed() < Duration::from_millis(50), "{cron}: {:?}", began.elapsed());
    }
    // A clock that is a long way off costs no more than a century.
    let each_second = schedule("* * * * * *", "UTC");
    assert_eq!(
        each_second.slots_between(at("1900-01-01T00:00:00Z"), at("9999-01-01T00:00:00Z")),
        36_525 * 86_400
    );
}

/// Values of a field: lists and ranges of single ones, and what stands for all.
fn field(least: u8, most: u8) -> impl Strategy<Value = String> {
    let value = least..=most;
    prop_oneof![
        2 => Just("*".to_owned()),
        1 => (2..=20_u8).prop_map(|step| format!("*/{step}")),
        2 => value.clone().prop_map(|value| value.to_string()),
        2 => (value.clone(), value.clone()).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        2 => prop::collection::vec(value, 1..5).prop_map(|values| {
            values.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
        }),
    ]
}

/// Dense and rare ones, of five fields and of six.
fn any_crons() -> impl Strategy<Value = String> {
    let second =
        prop_oneof![3 => Just(String::new()), 1 => field(0, 59).prop_map(|second| second + " ")];
    // The clocks are set in the small hours.
    let hour = prop_oneof![field(0, 23), field(0, 4)];
    let day = prop::sample::select(vec!["*", "*", "*", "1-15", "L", "15W", "*/2"]);
    let month = prop::sample::select(vec!["*", "*", "*", "3,4,10", "10-12"]);
    let weekday = prop::sample::select(vec!["*", "*", "*", "0", "1-5", "0#L", "SUN#2"]);
    (second, field(0, 59), hour, day, month, weekday).prop_map(
        |(second, minute, hour, day, month, weekday)| {
            format!("{second}{minute} {hour} {day} {month} {weekday}")
        },
    )
}

/// A zone, and an instant within some days of one at which its clock is set.
fn changes() -> impl Strategy<Value = (&'static str, Timestamp)> {
    let changes = [
        ("Europe/Berlin", "2026-03-29T01:00:00Z"),
        ("Europe/Berlin", "2026-10-25T01:00:00Z"),
        ("Europe/Dublin", "2026-10-25T01:00:00Z"),
        ("America/New_York", "2026-03-08T07:00:00Z"),
        ("America/New_York", "2026-11-01T06:00:00Z"),
        ("America/St_Johns", "2026-03-08T05:30:00Z"),
        ("America/Santiago", "2026-09-06T04:00:00Z"),
        ("Australia/Lord_Howe", "2026-04-04T15:00:00Z"),
        ("Australia/Lord_Howe", "2026-10-03T15:30:00Z"),
        ("Pacific/Chatham", "2026-09-26T14:00:00Z"),
        ("Antarctica/Troll", "2026-03-29T01:00:00Z"),
        ("Antarctica/Troll", "2026-10-25T01:00:00Z"),
        ("Africa/Casablanca", "2026-02-15T02:00:00Z"),
        ("Africa/Casablanca", "2026-03-22T02:00:00Z"),
        ("Pacific/Apia", "2011-12-30T10:00:00Z"),
        ("America/Sao_Paulo", "2018-11-04T03:00:00Z"),
        ("Asia/Pyongyang", "2018-05-04T15:00:00Z"),
        ("UTC", "2026-02-28T00:00:00Z"),
    ];
    (prop::sample::select(changes.to_vec()), -250_000..250_000_i64).prop_map(
        |((zone, change), more)| (zone, Timestamp::from_unix(at(change).unix() + more).unwrap()),
    )
}

fn crons() -> impl Strategy<Value = String> {
    let minute = prop_oneof![
        Just("*".to_owned()),
        (1..31_u8).prop_map(|step| format!("*/{step}")),
        (0..60_u8).prop_map(|minute| minute.to_string()),
        (0..60_u8, 0..60_u8).prop_map(|(a, b)| format!("{a},{b}")),
    ];
    let hour = prop_oneof![
        Just("*".to_owned()),
        (1..9_u8).prop_map(|step| format!("*/{step}")),
        (0..24_u8).prop_map(|hour| hour.to_string()),
        (0..4_u8).prop_map(|hour| hour.to_string()),
    ];
    let weekday = prop_oneof![3 => Just("*"), 1 => Just("1-5"), 1 => Just("0"), 1 => Just("6,0")];
    (minute, hour, weekday).prop_map(|(minute, hour, day)| format!("{minute} {hour} * * {day}"))
}

fn zones() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "Asia/Kolkata",
        "America/Sao_Paulo",
        "Pacific/Chatham",
    ])
}

/// Sundays and others at which clocks are set somewhere, and days on which none is.
fn weeks() -> impl Strategy<Value = i64> {
    let starts = [
        "2026-03-06",
        "2026-03-27",
        "2026-04-03",
        "2026-10-02",
        "2026-10-23",
        "2026-10-30",
        "2026-06-01",
    ];
    let starts = starts.map(|day| at(&format!("{day}T00:00:00Z")).unix());
    (prop::sample::select(starts.to_vec()), 0..86_400_i64).prop_map(|(start, more)| start + more)
}

proptest! {
    /// However the clock is set.
    #[test]
    fn the_next_slot_and_their_number_are_those_of_the_slow_way(
        cron in any_crons(),
        (zone, start) in changes(),
        span in 0..400_000_u64,
        offset in 0..90_i64,
    ) {
        let schedule = Schedule { offset, ..schedule(&cron, zone) };
        let mut last = start;
        for _ in 0..12 {
            let next = schedule.next_after(last);
            prop_assert_eq!(next, slowly::next_after(&schedule, last), "after {}", last);
            let Some(next) = next else { break };
            // From between two slots too.
            last = Timestamp::from_unix(last.unix().midpoint(next.unix())).unwrap();
            prop_assert_eq!(schedule.next_after(last), Some(next), "after {}", last);
            last = next;
        }
        // What the slow way can do within the time of a test.
        let dense = schedule.slots_between(start, start.saturating_add(Duration::from_secs(100_000)));
        let until = start.saturating_add(Duration::from_secs(if dense > 300 { 3_000 } else { span }));
        prop_assert_eq!(schedule.slots_between(start, until), slowly::slots_between(&schedule, start, until));
    }

    #[test]
    fn slots_rise_and_counting_adds_up(cron in crons(), zone in zones(), start in weeks(), split in 0..400_000_i64) {
        let schedule = schedule(&cron, zone);
        let time = |more| Timestamp::from_unix(start + more).unwrap();
        let mut last = time(0);
        for _ in 0..50 {
            let next = schedule.next_after(last).unwrap();
            prop_assert!(next > last);
            // No slot is skipped by asking from just before it.
            prop_assert_eq!(schedule.next_after(next.saturating_sub(Duration::from_secs(1))), Some(next));
            last = next;
        }
        let end = 400_000;
        let parts = schedule.slots_between(time(0), time(split)) + schedule.slots_between(time(split), time(end));
        prop_assert_eq!(parts, schedule.slots_between(time(0), time(end)));
    }

    /// Minute by minute, without any of the above.
    #[test]
    fn slots_are_those_that_the_clock_on_the_wall_shows(cron in crons(), zone in zones(), start in weeks()) {
        const MINUTES: i64 = 3 * 24 * 60;
        let schedule = schedule(&cron, zone);
        let tz: Tz = zone.parse().unwrap();
        let parsed: Cron = cron.parse().unwrap();
        let start = start - start % 60;
        let fits = |minute: i64| {
            let local = DateTime::from_timestamp(start + minute * 60, 0).unwrap().with_timezone(&tz).naive_local();
            parsed.next_local(local - TimeDelta::seconds(1)) == Some(local)
        };
        let expected: Vec<i64> = (1..=MINUTES).filter(|minute| fits(*minute)).collect();
        let mut found = Vec::new();
        let mut last = Timestamp::from_unix(start).unwrap();
        while let Some(next) = schedule.next_after(last).filter(|next| next.unix() <= start + MINUTES * 60) {
            found.push((next.unix() - start) / 60);
            last = next;
        }
        if parsed.is_interval() {
            prop_assert_eq!(found, expected);
        } else {
            // A fixed time in a gap is made up for, and one that comes twice is taken once.
            let once = |minutes: &[i64]| minutes.len();
            prop_assert!(once(&found).abs_diff(once(&expected)) <= 2, "{:?} {:?}", found, expected);
        }
    }
}
