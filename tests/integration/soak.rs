//! A daemon over time: a run a second against an organization that changes and fails at random.
//!
//! Not part of the ordinary tests: `tests/soak [RUNS]` runs it, `.ci/run` for a short while.

use std::time::{Duration, Instant};

use keydrift::sim::{Fault, Matcher};
use rustix::process::Signal;

use crate::support::started::{Started, until};
use crate::support::world::World;
use crate::support::{oracle, sql};

/// What the process takes of the machine.
#[derive(Debug, Clone, Copy)]
struct Taken {
    resident_kib: u64,
    files: usize,
    threads: u64,
    log_bytes: u64,
}

fn taken(started: &Started, world: &World) -> Taken {
    let process = format!("/proc/{}", started.pid());
    let status = std::fs::read_to_string(format!("{process}/status")).unwrap();
    let number = |name: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let log = world.path().join("keys.db-wal");
    Taken {
        resident_kib: number("VmRSS:"),
        files: std::fs::read_dir(format!("{process}/fd")).unwrap().count(),
        threads: number("Threads:"),
        log_bytes: log.metadata().map_or(0, |file| file.len()),
    }
}

fn recorded(world: &World) -> i64 {
    let runs = sql::try_rows(&world.database(), "select count(*) as runs from runs");
    runs.ok().and_then(|rows| rows[0]["runs"].as_i64()).unwrap_or(0)
}

/// Something happens to the organization, or to its API. A changing list is not a failing one: what the
/// oracle knows of it is the state between two runs.
fn disturb(world: &World, chance: &mut fastrand::Rng) {
    let organization = world.organization();
    organization.clear_faults();
    for _ in 0..chance.u32(0..4) {
        organization.with(|organization| drop(organization.mutate(chance)));
    }
    let fault = match chance.u32(0..10) {
        0 => Fault::status(500),
        1 => Fault::status(401),
        2 => Fault::ResetConnection,
        3 => Fault::CutBody,
        4 => Fault::status(429).with_header("retry-after", "1"),
        _ => return,
    };
    let when = Matcher::any().nth(chance.u64(1..4));
    organization.fault(when, fault);
}

#[expect(clippy::print_stdout, reason = "what was measured is told")]
#[test]
#[ignore = "takes a second a run: see tests/soak"]
fn thousands_of_runs_leave_nothing_behind() {
    let runs: i64 = std::env::var("KEYDRIFT_SOAK_RUNS").map_or(60, |text| text.parse().unwrap());
    let seed = std::env::var("KEYDRIFT_SOAK_SEED")
        .map_or_else(|_| fastrand::u64(..), |text| text.parse().unwrap());
    println!("KEYDRIFT_SOAK_SEED={seed}");
    let mut chance = fastrand::Rng::with_seed(seed);
    let world = World::new(400);
    let started = world
        .keydrift(&["run"])
        .env("KEYDRIFT__SCHEDULE__CRON", "* * * * * *")
        .env("KEYDRIFT__SCHEDULE__RUN_AT_START", "false")
        .start();
    until("a first run", || recorded(&world) >= 1);
    let warm = (runs / 3).clamp(10, 300);
    let mut at_first: Option<Taken> = None;
    let mut last = Instant::now();
    while recorded(&world) < runs {
        let known = recorded(&world);
        disturb(&world, &mut chance);
        // A failed run is made up for by the next slot, a second later.
        until("another run", || {
            recorded(&world) > known || last.elapsed() > Duration::from_secs(15)
        });
        assert!(recorded(&world) > known, "no run for 15 s");
        last = Instant::now();
        if at_first.is_none() && recorded(&world) >= warm {
            at_first = Some(taken(&started, &world));
        }
    }
    // The truth in the end, in a quiet world.
    world.organization().clear_faults();
    let good = "select ifnull(max(run_id), 0) from runs where status = 'ok'";
    let known = sql::integer(&world.database(), good);
    until("a last good run", || sql::integer(&world.database(), good) > known);
    let (first, end) = (at_first.unwrap(), taken(&started, &world));
    started.signal(Signal::TERM);
    started.exits(0);
    println!("after {warm} runs {first:?}, after {} {end:?}", recorded(&world));
    world.check();
    oracle::check_consistent(&world.database());
    assert!(end.resident_kib < first.resident_kib * 5 / 4 + 2_048, "{first:?} {end:?}");
    assert!(end.files <= first.files + 3, "{first:?} {end:?}");
    assert!(end.threads <= first.threads + 3, "{first:?} {end:?}");
    assert!(end.log_bytes <= 17 << 20, "{first:?} {end:?}");
    // Every second of its life was a slot: it was run, passed during a run, or was missed and is told.
    let slots = "select strftime('%s', max(started_at)) - strftime('%s', min(started_at)) + 1 from run_history";
    let accounted = "select sum(trigger = 'schedule') + sum(skipped)
        - (select skipped from run_history order by run_id desc limit 1) from run_history";
    let missed = "select count(*) from run_history where trigger in ('missed')";
    assert_eq!(sql::integer(&world.database(), missed), 0);
    assert_eq!(sql::integer(&world.database(), accounted), sql::integer(&world.database(), slots));
}
