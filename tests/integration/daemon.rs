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
fn a_sync_by_hand_does_not_hide_what_was_missed() {
    let world = World::new(3);
    world.keydrift(&["sync", "--scheduled"]).succeeds();
    let synced = Instant::now();
    until("two slots have passed", || synced.elapsed() > Duration::from_millis(2_100));
    world.keydrift(&["sync"]).succeeds();
    let started = daemon(&world, "*/1 * * * * *").start();
    until("a run", || runs(&world).len() >= 3);
    stop(started);
    assert_eq!(runs(&world)[2], ("missed".to_owned(), "ok".to_owned()));
}

#[test]
fn slots_that_pass_while_it_waits_for_the_lock_are_counted() {
    let world = World::new(3);
    let started =
        daemon(&world, EACH_SECOND).env("KEYDRIFT__SCHEDULE__RUN_AT_START", "false").start();
    until("a run", || !runs(&world).is_empty());
    let lock = std::fs::File::open(world.path().join("keys.db.lock")).unwrap();
    lock.lock().unwrap();
    let locked = Instant::now();
    until("it waits", || started.stderr().contains("waiting for the run lock"));
    until("slots have passed", || locked.elapsed() > Duration::from_millis(3_200));
    lock.unlock().unwrap();
    let known = runs(&world).len();
    until("further runs", || runs(&world).len() >= known + 3);
    stop(started);
    let slots = "select strftime('%s', max(started_at)) - strftime('%s', min(started_at)) + 1 from run_history";
    let accounted = "select sum(trigger = 'schedule') + sum(skipped)
        - (select skipped from run_history order by run_id desc limit 1) from run_history";
    assert_eq!(sql::integer(&world.database(), accounted), sql::integer(&world.database(), slots));
    assert!(sql::integer(&world.database(), "select max(skipped) from run_history") >= 2);
}

#[test]
fn a_reader_does_not_keep_it_from_starting() {
    let world = World::new(3);
    world.sync();
    // As a clean stop leaves it.
    assert_eq!(sql::value(&world.database(), "pragma journal_mode = delete"), "delete");
    let mut reader = Session::open(&world.database());
    reader.run("begin");
    reader.run("select * from current_keys");
    let mut manager = Manager::new(world.path());
    let started = daemon(&world, YEARLY).env("NOTIFY_SOCKET", &manager.path).start();
    manager.hears("READY=1");
    manager.hears("locked by another program");
    reader.run("commit");
    reader.close();
    started.signal(Signal::USR1);
    until("it goes on", || {
        runs(&world).last().is_some_and(|(_, status)| status == "ok") && runs(&world).len() >= 3
    });
    stop(started);
    world.check();
}

#[test]
fn what_was_missed_is_told_though_the_run_that_tells_it_is_killed() {
    let world = World::new(120);
    world.keydrift(&["sync", "--scheduled"]).succeeds();
    let synced = Instant::now();
    until("two slots have passed", || synced.elapsed() > Duration::from_millis(2_100));
    let gate = Gate::before_list(&world.organization(), 2);
    let started = daemon(&world, "*/1 * * * * *").start();
    gate.is_reached();
    assert!(started.kill());
    gate.open();
    world.sync();
    let run = "select trigger || ' ' || status || ' ' || notice from run_history where run_id = 2";
    let run = sql::value(&world.database(), run);
    assert!(run.as_str().unwrap().starts_with("missed failed "), "{run}");
    assert!(run.as_str().unwrap().contains("of the schedule missed since 20"), "{run}");
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

#[test]
fn a_second_signal_ends_it_at_once() {
    let world = World::new(12);
    let started = daemon(&world, YEARLY).start();
    until("a run", || runs(&world).len() == 1);
    // A run that can't be written, because another program keeps the database to itself.
    let mut other = Session::open(&world.database());
    other.run("begin immediate");
    let asked = world.organization().requests().len();
    started.signal(Signal::USR1);
    until("the next run", || world.organization().requests().len() > asked);
    started.signal(Signal::TERM);
    until("it stops", || started.stderr().contains("stopping"));
    started.signal(Signal::INT);
    let ran = started.exits(1);
    assert!(ran.stderr.contains("stopped at once by a second SIGINT"), "{ran}");
    other.run("rollback");
    other.close();
    world.sync();
    let error = sql::value(&world.database(), "select error from run_history where run_id = 2");
    assert!(error.as_str().unwrap().starts_with("interrupted: "), "{error}");
}

#[test]
fn a_reload_takes_a_valid_configuration_and_keeps_the_old_one_otherwise() {
    let world = World::new(3);
    let config = world.path().join("keydrift.toml");
    let write = |text: &str| std::fs::write(&config, text).unwrap();
    write(&format!("[schedule]\ncron = \"{YEARLY}\"\n"));
    let mut manager = Manager::new(world.path());
    let started = world
        .keydrift(&["run", "--config", config.to_str().unwrap()])
        .env("NOTIFY_SOCKET", &manager.path)
        .start();
    until("the run at start", || runs(&world).len() == 1);
    write("[schedule]\ncron = \"never\"\nmistake = 1\n");
    started.signal(Signal::HUP);
    manager.hears("the new configuration is invalid, the old one holds");
    let log = started.stderr();
    assert!(log.contains("schedule.cron") && log.contains("schedule.mistake"), "{log}");
    write(&format!("[schedule]\ncron = \"{EACH_SECOND}\"\n"));
    started.signal(Signal::HUP);
    until("scheduled runs", || runs(&world).len() >= 3);
    write(&format!("[database]\npath = \"other.db\"\n[schedule]\ncron = \"{YEARLY}\"\n"));
    stop(started);
}

#[test]
fn failed_runs_are_recorded_told_and_made_up_for() {
    let world = World::new(3);
    let key = world.path().join("key");
    let mut manager = Manager::new(world.path());
    let started = daemon(&world, EACH_SECOND)
        .without_env("OPENAI_ADMIN_KEY")
        .env("OPENAI_ADMIN_KEY_FILE", &key)
        .env("NOTIFY_SOCKET", &manager.path)
        .start();
    // No credential yet: it stays up, and each slot is a failed run that says what to do.
    until("two failed runs", || runs(&world).len() >= 2);
    assert!(runs(&world).iter().all(|(_, status)| status == "failed"));
    manager.hears("failed: the credential could not be read");
    // The key comes, with no restart.
    let secret = world.organization().credential();
    std::fs::write(&key, &secret).unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    until("a good run", || runs(&world).last().is_some_and(|(_, status)| status == "ok"));
    let log = stop(started);
    world.check();
    let warned = |line: &str| line.contains(" WARN ") && line.contains("not synced");
    assert!(log.lines().any(warned), "{log}");
    assert!(!log.contains(&secret));
}

#[test]
fn a_run_that_is_killed_is_known_at_the_next_start() {
    let world = World::new(250);
    let gate = Gate::before_list(&world.organization(), 2);
    let started = daemon(&world, YEARLY).start();
    gate.is_reached();
    assert!(started.kill());
    gate.open();
    let started = daemon(&world, YEARLY).start();
    until("the next run", || runs_are(&world, &[("start", "failed"), ("start", "ok")]));
    stop(started);
    world.check();
    let error = sql::value(&world.database(), "select error from run_history where run_id = 1");
    assert!(error.as_str().unwrap().starts_with("interrupted: "), "{error}");
}

#[test]
fn the_api_is_left_alone_as_long_as_it_asks() {
    let world = World::new(3);
    let fault = Fault::status(429).with_header("retry-after", "7200");
    world.organization().fault(Matcher::list(), fault);
    let started = daemon(&world, EACH_SECOND).start();
    until("the deferred run", || runs_are(&world, &[("start", "failed")]));
    let asked = world.organization().requests().len();
    let began = Instant::now();
    until("three slots have passed", || began.elapsed() > Duration::from_secs(3));
    assert_eq!(world.organization().requests().len(), asked);
    assert!(runs_are(&world, &[("start", "failed")]));
    stop(started);
    let deferred =
        "select strftime('%s', deferred_until) - strftime('%s', finished_at) from run_history";
    assert!((7_199..=7_202).contains(&sql::integer(&world.database(), deferred)));
    // Nor is it asked after a restart; but somebody who wants to may.
    let started = daemon(&world, EACH_SECOND).start();
    until("it is ready", || started.stderr().contains(" ready "));
    world.organization().clear_faults();
    started.signal(Signal::USR1);
    until("a manual run", || runs(&world).last().is_some_and(|(trigger, _)| trigger == "manual"));
    assert_eq!(runs(&world).len(), 2);
    stop(started);
}

#[test]
fn somebody_can_sync_by_hand_while_it_runs() {
    let world = World::new(120);
    let started = daemon(&world, EACH_SECOND).start();
    until("a run", || !runs(&world).is_empty());
    for _ in 0..3 {
        world.keydrift(&["sync"]).succeeds();
        world.keydrift(&["keys"]).succeeds();
        world.keydrift(&["status"]).succeeds();
    }
    stop(started);
    world.check();
    assert_eq!(runs(&world).iter().filter(|(trigger, _)| trigger == "manual").count(), 3);
    assert!(runs(&world).iter().all(|(_, status)| status == "ok"));
}

#[test]
fn a_database_that_disappears_is_not_begun_anew() {
    let world = World::new(3);
    let started = daemon(&world, EACH_SECOND).start();
    until("a run", || !runs(&world).is_empty());
    let aside = world.path().join("aside.db");
    std::fs::rename(world.database(), &aside).unwrap();
    until("it says so", || started.stderr().contains("is gone"));
    assert!(!world.database().exists());
    std::fs::rename(&aside, world.database()).unwrap();
    until("it goes on, and records the runs it could not", || {
        let runs = runs(&world);
        runs.iter().any(|(_, status)| status == "failed")
            && runs.last().is_some_and(|(_, status)| status == "ok")
    });
    stop(started);
    world.check();
}

fn get(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn metrics_and_health_are_served_and_heartbeats_sent() {
    let world = World::new(12);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let switch = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/ping/s3cret?rid=1", switch.local_addr().unwrap());
    let beats = std::thread::spawn(move || {
        let mut beats = Vec::new();
        for stream in switch.incoming().take(2) {
            let mut stream = stream.unwrap();
            let mut head = [0; 2048];
            let length = stream.read(&mut head).unwrap();
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                .unwrap();
            beats.push(String::from_utf8_lossy(&head[..length]).lines().next().unwrap().to_owned());
        }
        beats
    });
    let started = daemon(&world, YEARLY)
        .env("KEYDRIFT__METRICS__LISTEN", port.to_string())
        .env("KEYDRIFT__HEARTBEAT__URL", &url)
        .start();
    until("a run", || runs_are(&world, &[("start", "ok")]));
    world.organization().fault(Matcher::list(), Fault::status(401));
    started.signal(Signal::USR1);
    until("a failed run", || runs(&world).len() == 2);
    let beats = beats.join().unwrap();
    assert_eq!(beats, ["GET /ping/s3cret?rid=1 HTTP/1.1", "GET /ping/s3cret/fail?rid=1 HTTP/1.1"]);
    let address = format!("127.0.0.1:{port}");
    let ask = |path: &str| {
        get(&address, &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"))
    };
    let metrics = ask("/metrics");
    for line in [
        "keydrift_runs_total{organization=\"default\",status=\"ok\"} 1",
        "keydrift_runs_total{organization=\"default\",status=\"failed\"} 1",
        "keydrift_api_requests_total{code=\"401\",organization=\"default\"} 1",
        "keydrift_keys{organization=\"default\",scope=\"admin\"}",
        "keydrift_events_total{event=\"baseline\",organization=\"default\"} 12",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    world.organization().with(|organization| {
        for key in organization.keys() {
            assert!(!metrics.contains(key["id"].as_str().unwrap()));
        }
    });
    assert!(ask("/healthz").starts_with("HTTP/1.1 200"));
    assert!(ask("/readyz").starts_with("HTTP/1.1 200"));
    assert!(ask("/").starts_with("HTTP/1.1 404"));
    assert!(get(&address, "POST /metrics HTTP/1.0\r\n\r\n").contains(" 405 "));
    assert!(get(&address, "nonsense\r\n\r\n").contains(" 400 "));
    let log = stop(started);
    assert!(!log.contains("s3cret"), "{log}");
}

#[test]
fn what_is_done_by_hand_beside_it_shows_in_the_metrics() {
    let world = World::new(40);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let started = daemon(&world, YEARLY)
        .env("KEYDRIFT__METRICS__LISTEN", port.to_string())
        .env("KEYDRIFT__REMOVAL__CONFIRM_LIMIT", "1")
        .start();
    until("a run", || runs_are(&world, &[("start", "ok")]));
    let shows = |line: &str| {
        let line = format!("keydrift_{line}\n");
        let question = "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n";
        let what = line.clone();
        until(&what, || get(&format!("127.0.0.1:{port}"), question).contains(&line));
    };
    shows("run_held{organization=\"default\"} 0");
    world.organization().with(|organization| {
        let ids: Vec<String> = organization.ids().skip(2).map(str::to_owned).collect();
        assert!(ids.iter().all(|id| organization.remove(id)));
    });
    started.signal(Signal::USR1);
    shows("run_held{organization=\"default\"} 1");
    world.keydrift(&["sync", "--accept", "default"]).succeeds();
    shows("run_held{organization=\"default\"} 0");
    // Nothing of it was the daemon's own.
    shows("runs_total{organization=\"default\",status=\"ok\"} 1");
    stop(started);
    world.check();
}

#[test]
fn what_makes_a_start_impossible_is_said_with_the_right_exit_code() {
    let world = World::new(3);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ran = daemon(&world, YEARLY).env("KEYDRIFT__METRICS__LISTEN", &address).exits(1);
    assert!(ran.stderr.contains(&format!("cannot listen at {address}")), "{ran}");
    let ran = daemon(&world, "0 0 30 2 *").exits(2);
    assert!(
        ran.stderr.contains("schedule.cron") && ran.stderr.contains("comes true some day"),
        "{ran}"
    );
    let ran = daemon(&world, YEARLY).env("KEYDRIFT__SCHEDULE__TIMEZONE", "Europe/Berln").exits(2);
    assert!(ran.stderr.contains("did you mean `Europe/Berlin`?"), "{ran}");
    std::fs::write(world.database(), "no database").unwrap();
    let ran = daemon(&world, YEARLY).exits(1);
    assert!(ran.stderr.contains("is no SQLite database"), "{ran}");
}

#[test]
fn json_lines_are_json_whatever_they_hold() {
    let world = World::new(3);
    let args = ["run", "--log-format", "json", "-vvv"];
    let started = world.keydrift(&args).env("KEYDRIFT__SCHEDULE__CRON", EACH_SECOND).start();
    until("two runs", || runs(&world).len() >= 2);
    started.signal(Signal::TERM);
    let log = started.exits(0).stderr;
    assert!(!log.contains(&world.organization().credential()));
    let lines: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let run = lines.iter().find(|line| line["message"] == "synced").unwrap();
    assert_eq!(run["org.label"], "default");
    assert_eq!(run["run.id"], 1);
    assert_eq!(run["message_id"].as_str().unwrap().len(), 32);
}

#[test]
fn the_error_that_ends_it_is_a_json_line_too() {
    let world = World::new(3);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let run = || world.keydrift(&["run", "--log-format", "json"]);
    let last = |stderr: &str| -> serde_json::Value {
        let lines: Vec<_> =
            stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        lines.last().cloned().unwrap()
    };
    let ran = run().env("KEYDRIFT__METRICS__LISTEN", &address).exits(1);
    let line = last(&ran.stderr);
    assert_eq!(line["level"], "ERROR");
    let error = line["error"].as_str().unwrap();
    assert!(error.starts_with(&format!("cannot listen at {address} ")), "{error}");
    assert!(error.ends_with("free the address, or set another `metrics.listen`"), "{error}");
    let wrong = run().env("KEYDRIFT__SCHEDULE__CRON", "x").env("KEYDRIFT__METRICS__LISTEN", "x");
    let line = last(&wrong.exits(2).stderr);
    let error = line["error"].as_str().unwrap();
    assert!(error.contains("schedule.cron") && error.contains("metrics.listen"), "{error}");
    // Where nothing is logged, it is said all the same.
    let ran = run().env("RUST_LOG", "off").env("KEYDRIFT__METRICS__LISTEN", &address).exits(1);
    assert!(ran.stderr.starts_with("error: cannot listen"), "{ran}");
}

#[test]
fn a_second_signal_ends_it_at_once_and_promises_nothing() {
    let world = World::new(250);
    let gate = Gate::before_list(&world.organization(), 2);
    let started = daemon(&world, YEARLY).start();
    gate.is_reached();
    // What holds the run up longer than its word to stop: another writer.
    let mut other = Session::open(&world.database());
    other.run("begin immediate");
    started.signal(Signal::TERM);
    until("it is told", || started.stderr().contains("stopping by="));
    started.signal(Signal::TERM);
    let ran = started.exits(1);
    assert!(ran.stderr.contains("stopped at once by a second SIGTERM"), "{ran}");
    assert!(ran.stderr.contains("hint: it is recorded as a whole, or not at all"), "{ran}");
    gate.open();
}
