//! A sync that is killed at any moment leaves the state before it or the state after it, never one in
//! between, and the next one says what happened.

use std::time::{Duration, Instant};

use keydrift::clock::{Clock as _, SystemClock};
use keydrift::sim::Endpoint;
use rustix::process::Signal;

use crate::support::wreck::{self, Items};
use crate::support::{Gate, World, oracle, sql, until};

/// How long a sync takes.
#[derive(Debug, Clone, Copy)]
struct Span {
    whole: Duration,
    /// Until its first request: opening or making the database.
    opening: Duration,
    /// From its last request on: comparing, the transaction, closing.
    tail: Duration,
}

/// One sync, measured.
fn measure(world: &World, pages: usize) -> Span {
    let organization = world.organization();
    organization.clear_requests();
    let began = Instant::now();
    let sync = world.keydrift(&["sync"]).start();
    until("the first page is asked for", || organization.count(Endpoint::List) > 0);
    let opening = began.elapsed();
    until("as many pages are asked for", || organization.count(Endpoint::List) >= pages);
    let listed = began.elapsed();
    sync.exits(0);
    let whole = began.elapsed();
    Span { whole, opening, tail: whole.saturating_sub(listed) }
}

/// Starts a sync and kills it at a random moment: before its first request, at any time, or after its last
/// request.
/// Then everything must hold, and the next sync must say what happened.
#[track_caller]
fn kill_one(world: &World, pages: usize, span: Span, rng: &mut fastrand::Rng, before: &Items) {
    let organization = world.organization();
    let runs = wreck::count_runs(&world.database());
    organization.clear_requests();
    let began = Instant::now();
    let earliest = now();
    let sync = world.keydrift(&["sync"]).start();
    let delay = match rng.u8(..4) {
        0 => span.opening.mul_f64(rng.f64()),
        1 => span.whole.mul_f64(rng.f64()),
        _ => {
            until("as many pages are asked for", || organization.count(Endpoint::List) >= pages);
            began.elapsed() + span.tail.mul_f64(rng.f64())
        }
    };
    std::thread::sleep(delay.saturating_sub(began.elapsed()));
    sync.kill();
    let latest = now();
    let asked = organization.count(Endpoint::List) > 0;

    let committed = wreck::check(world, &world.database(), runs, before);

    let said = world.sync();
    let verified = world.keydrift(&["verify", "--format=json"]).succeeds().json();
    assert!(verified[0]["checkpoints"].as_i64() > Some(0), "{verified}");
    let statement = format!(
        "select status, trigger, error, cast(strftime('%s', started_at) as integer) as started_at
         from run_history where run_id > {runs} order by run_id"
    );
    let mut new = sql::rows(&world.database(), &statement);
    assert_eq!(new.pop().expect("a run")["status"], "ok");
    let [killed] = new.as_slice() else {
        assert!(!committed && !asked && new.is_empty(), "{new:?}");
        return;
    };
    assert_eq!(killed["trigger"], "manual");
    let started_at = killed["started_at"].as_i64().expect("a time");
    assert!((earliest..=latest).contains(&started_at), "{earliest} {started_at} {latest}");
    if committed {
        assert_eq!(killed["status"], "ok");
        assert!(!said.stderr.contains("interrupted"), "{said}");
    } else {
        assert_eq!(killed["status"], "failed");
        assert!(killed["error"].as_str().is_some_and(|error| error.starts_with("interrupted")));
        assert!(said.stderr.contains("an earlier run of `default` was interrupted"), "{said}");
    }
}

fn now() -> i64 {
    SystemClock.now().unix()
}

#[test]
fn a_first_sync_killed_at_any_moment_leaves_all_or_nothing() {
    let world = World::new(2000);
    let mut rng = fastrand::Rng::with_seed(20);
    let span = measure(&world, 20);
    for _ in 0..20 {
        wreck::forget(&world.database());
        kill_one(&world, 20, span, &mut rng, &Items::new());
    }
}

#[test]
fn a_sync_of_changes_killed_at_any_moment_leaves_all_or_nothing() {
    let world = World::new(200);
    let organization = world.organization();
    // The keys stay the same, so that it is known which page is the last.
    let change = |rng: &mut fastrand::Rng| {
        organization.with(|organization| {
            let ids: Vec<String> = organization.ids().map(str::to_owned).collect();
            for id in &ids {
                match rng.u8(..12) {
                    0..9 => continue,
                    9 => organization.touch(id),
                    10 => organization.change_owner(id),
                    _ => organization.rename(id, &format!("renamed {}", rng.u32(..))),
                };
            }
            organization.advance(60);
        });
    };
    let mut rng = fastrand::Rng::with_seed(30);
    world.sync();
    change(&mut rng);
    let span = measure(&world, 2);
    for _ in 0..30 {
        let before = wreck::items(&world);
        change(&mut rng);
        kill_one(&world, 2, span, &mut rng, &before);
    }
}

/// A sync that is stopped in the middle of its scan ends by itself, and its run is recorded.
#[track_caller]
fn stopped_by(signal: Signal, name: &str) {
    let world = World::new(250);
    world.sync();
    let gate = Gate::before_list(&world.organization(), 2);
    let sync = world.keydrift(&["sync"]).start();
    gate.is_reached();
    let before = sql::rows(&world.database(), "select * from audit_history");
    sync.signal(signal);
    let ran = sync.exits(1);
    gate.open();
    assert!(ran.stderr.contains(&format!("interrupted: stopped by {name}")), "{ran}");
    let statement = "select status, trigger, error, pages from run_history where run_id = 2";
    let runs = sql::rows(&world.database(), statement);
    let [run] = runs.as_slice() else { panic!("{runs:?}\n{ran}") };
    assert_eq!(run["status"], "failed");
    assert_eq!(run["trigger"], "manual");
    assert_eq!(run["pages"], 1);
    assert_eq!(run["error"], format!("interrupted: stopped by {name}"));
    assert_eq!(sql::rows(&world.database(), "select * from audit_history"), before);
    oracle::check_consistent(&world.database());
    let said = world.sync();
    assert_eq!(said.stderr, "");
    assert_eq!(sql::integer(&world.database(), "select count(*) from run_history"), 3);
}

#[test]
fn a_sync_stopped_by_sigterm_records_its_own_end() {
    stopped_by(Signal::TERM, "SIGTERM");
}

#[test]
fn a_sync_stopped_by_sigint_records_its_own_end() {
    stopped_by(Signal::INT, "SIGINT");
}
