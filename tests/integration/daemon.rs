//! `keydrift run`: the daemon as a process, with real signals and a real service manager's socket.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use keydrift::sim::{Fault, Matcher};
use rustix::process::Signal;

use crate::support::binary::Keydrift;
use crate::support::sql::Session;
use crate::support::started::{Gate, Started, until};
use crate::support::world::World;
use crate::support::{oracle, sql};

/// A schedule that never comes while a test runs.
const YEARLY: &str = "0 0 1 1 *";
const EACH_SECOND: &str = "* * * * * *";
/// What systemd would wait for a stop: the promise is five seconds.
const PROMISED: Duration = Duration::from_secs(5);

fn daemon(world: &World, cron: &str) -> Keydrift {
    world.keydrift(&["run"]).env("KEYDRIFT__SCHEDULE__CRON", cron)
}

fn runs(world: &World) -> Vec<(String, String)> {
    if !world.database().exists() {
        return Vec::new();
    }
    let rows =
        sql::try_rows(&world.database(), "select trigger, status from run_history order by run_id");
    // While the schema is being made.
    let rows = rows.unwrap_or_default();
    let text = |row: &serde_json::Map<String, sql::Value>, name: &str| {
        row[name].as_str().unwrap().to_owned()
    };
    rows.iter().map(|row| (text(row, "trigger"), text(row, "status"))).collect()
}

fn runs_are(world: &World, expected: &[(&str, &str)]) -> bool {
    runs(world)
        .iter()
        .map(|(trigger, status)| (trigger.as_str(), status.as_str()))
        .eq(expected.iter().copied())
}

/// Stops it, within the promised time.
#[track_caller]
fn stop(started: Started) -> String {
    let began = Instant::now();
    started.signal(Signal::TERM);
    let ran = started.exits(0);
    assert!(began.elapsed() < PROMISED, "{:?}", began.elapsed());
    ran.stderr
}

/// A service manager that listens.
struct Manager {
    socket: UnixDatagram,
    path: std::path::PathBuf,
    said: Vec<String>,
}

impl Manager {
    fn new(directory: &Path) -> Self {
        let path = directory.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket, path, said: Vec::new() }
    }

    fn has_heard(&mut self, what: &str) -> bool {
        let mut buffer = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            let text = String::from_utf8(buffer[..length].to_vec()).unwrap();
            self.said.extend(text.lines().map(str::to_owned));
        }
        self.said.iter().any(|line| line.contains(what))
    }

    #[track_caller]
    fn hears(&mut self, what: &str) {
        until(what, || self.has_heard(what));
    }
}

#[test]
fn it_syncs_at_start_on_schedule_and_when_asked_and_stops_when_told() {
    let world = World::new(30);
    let started = daemon(&world, EACH_SECOND).start();
    until("three runs", || runs(&world).len() >= 3);
    let before = runs(&world).iter().filter(|(trigger, _)| trigger == "manual").count();
    assert_eq!(before, 0);
    started.signal(Signal::USR1);
    until("a manual run", || runs(&world).iter().any(|(trigger, _)| trigger == "manual"));
    let log = stop(started);
    world.check();
    let runs = runs(&world);
    assert_eq!(runs[0], ("start".to_owned(), "ok".to_owned()));
    assert!(runs.iter().any(|(trigger, _)| trigger == "schedule"), "{runs:?}");
    assert!(runs.iter().all(|(_, status)| status == "ok"), "{runs:?}");
    // One line a run, nothing of single keys.
    assert_eq!(log.matches(" synced ").count(), runs.len(), "{log}");
    assert!(!log.contains("keydrift::event"), "{log}");
    // Everybody of the group can read what it leaves.
    assert_eq!(sql::value(&world.database(), "pragma journal_mode"), "delete");
}

#[test]
fn every_slot_of_its_life_is_run_or_counted() {
    let world = World::new(250);
    let started =
        daemon(&world, EACH_SECOND).env("KEYDRIFT__SCHEDULE__RUN_AT_START", "false").start();
    until("a run", || !runs(&world).is_empty());
    // One run that lasts for several slots.
    let gate = Gate::before_list(&world.organization(), 2);
    gate.is_reached();
    let second = Instant::now();
    until("more than two seconds", || second.elapsed() > Duration::from_millis(2_500));
    gate.open();
    let known = runs(&world).len();
    until("further runs", || runs(&world).len() >= known + 3);
    stop(started);
    world.check();
    let slots = "select strftime('%s', max(started_at)) - strftime('%s', min(started_at)) + 1 from run_history";
    let accounted = "select sum(trigger = 'schedule') + sum(skipped)
        - (select skipped from run_history order by run_id desc limit 1) from run_history";
    assert_eq!(sql::integer(&world.database(), accounted), sql::integer(&world.database(), slots));
    assert!(sql::integer(&world.database(), "select max(skipped) from run_history") >= 2);
}

#[test]
fn slots_missed_while_it_was_down_are_one_run_that_says_so() {
    let world = World::new(3);
    world.sync();
    let synced = Instant::now();
    until("two slots have passed", || synced.elapsed() > Duration::from_millis(2_100));
    let started = daemon(&world, "*/1 * * * * *").start();
    until("a run", || runs(&world).len() >= 2);
    stop(started);
    assert_eq!(runs(&world)[1], ("missed".to_owned(), "ok".to_owned()));
    let notice = sql::value(&world.database(), "select notice from run_history where run_id = 2");
    let notice = notice.as_str().unwrap();
    assert!(notice.contains("of the schedule missed since 20"), "{notice}");
}

#[test]
fn the_service_manager_is_told_of_everything() {
    let world = World::new(1_204);
    let mut manager = Manager::new(world.path());
    let started = daemon(&world, YEARLY)
        .env("NOTIFY_SOCKET", &manager.path)
        .env("WATCHDOG_USEC", "4000000")
        .start();
    manager.hears("READY=1");
    let extended = manager.said.iter().position(|line| line.starts_with("EXTEND_TIMEOUT_USEC="));
    let ready = manager.said.iter().position(|line| line == "READY=1");
    assert!(extended.is_some() && extended < ready, "{:?}", manager.said);
    manager.hears("STATUS=1 204 keys; last run ");
    let status = manager.said.iter().find(|line| line.starts_with("STATUS=1 204")).unwrap();
    assert!(status.contains(" ok; next 00:00:"), "{status}");
    manager.said.clear();
    manager.hears("WATCHDOG=1");
    manager.said.clear();
    manager.hears("WATCHDOG=1");
    manager.said.clear();
    started.signal(Signal::HUP);
    manager.hears("READY=1");
    let said = manager.said.join("\n");
    assert!(said.contains("RELOADING=1\nMONOTONIC_USEC="), "{said}");
    manager.said.clear();
    stop(started);
    assert!(manager.has_heard("STOPPING=1"));
}

#[test]
fn it_is_ready_before_the_first_answer_and_stops_in_the_middle_of_a_scan() {
    let world = World::new(250);
    let mut manager = Manager::new(world.path());
    let gate = Gate::before_list(&world.organization(), 2);
    let started = daemon(&world, YEARLY).env("NOTIFY_SOCKET", &manager.path).start();
    gate.is_reached();
    manager.hears("READY=1");
    manager.hears("; syncing");
    stop(started);
    gate.open();
    assert!(runs_are(&world, &[("start", "failed")]));
    oracle::check_consistent(&world.database());
    // It is made up for, and nothing of it stood in the way.
    let started = daemon(&world, YEARLY).env("KEYDRIFT__SCHEDULE__RUN_AT_START", "false").start();
    until("a retry", || runs_are(&world, &[("start", "failed"), ("retry", "ok")]));
    stop(started);
    world.check();
}
