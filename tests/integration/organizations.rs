//! Several organizations in one configuration and one database.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use keydrift::clock::{Clock as _, SystemClock, Timestamp};
use keydrift::sim::{Fault, Handle, Matcher, Organization};
use rustix::process::Signal;

use crate::full_disk::with_small_files;
use crate::support::two::{Two, pairs};
use crate::support::{Gate, Keydrift, Ran, sql, until};

fn go_down(organization: &Handle) {
    let fault = Fault::status(500).with_header("x-should-retry", "false");
    organization.fault(Matcher::any(), fault);
}

fn rows(ran: &Ran) -> Vec<serde_json::Map<String, sql::Value>> {
    serde_json::from_value(ran.json()).expect("an array of objects")
}

#[test]
fn equal_key_ids_of_two_organizations_do_not_collide() {
    let two = Two::new(120);
    two.keydrift(&["sync"]).succeeds();
    two.check("acme");
    two.check("globex");
    let both = "select count(*) from current_keys a join current_keys b using (key_id)
                where a.organization < b.organization";
    assert_eq!(sql::integer(&two.database(), both), 120);
    let id = two.acme.organization().with(|acme| {
        let id = acme.ids().nth(3).unwrap().to_owned();
        acme.remove(&id);
        id
    });
    let renamed = two.globex.organization().with(|globex| globex.rename(&id, "still here"));
    assert!(renamed);
    two.keydrift(&["sync"]).succeeds();
    two.check("acme");
    two.check("globex");
    let events = "select organization, event, key_id from audit_history where event <> 'baseline'
                  order by organization";
    assert_eq!(
        serde_json::json!(sql::rows(&two.database(), events)),
        serde_json::json!([
            {"organization": "acme", "event": "removed", "key_id": id},
            {"organization": "globex", "event": "changed", "key_id": id},
        ])
    );
}

/// What differs between then and now.
fn diff(two: &Two, name: &str, from: Timestamp) -> Vec<String> {
    let from = from.to_string();
    let args = ["diff", &from, "now", "--organization", name, "--format=json"];
    let rows = rows(&two.keydrift(&args).succeeds());
    rows.iter().map(|row| row["event"].as_str().unwrap().to_owned()).collect()
}

/// The same id goes, comes back, is used and is forgotten in one organization, and the other has its own story.
#[test]
fn equal_ids_have_a_story_each() {
    let two = Two::new(12);
    let id = two.acme.organization().with(|acme| {
        let own = acme.credential()[acme.credential().len() - 4..].to_owned();
        let other = |id: &&str| {
            acme.key(id).is_some_and(|key| !key["redacted_value"].as_str().unwrap().ends_with(&own))
        };
        let id = acme.ids().find(other).unwrap().to_owned();
        for key in ["owner.id", "owner.name"] {
            acme.set_field(&id, key, "user-shared");
        }
        id
    });
    two.globex.organization().with(|globex| {
        for key in ["owner.id", "owner.name"] {
            globex.set_field(&id, key, "user-shared");
        }
    });
    let sync = || {
        two.keydrift(&["sync"]).succeeds();
        two.check("acme");
        two.check("globex");
        two.keydrift(&["verify"]).succeeds();
    };
    sync();
    let first = SystemClock.now();
    until("the clock's next second", || SystemClock.now() > first);
    two.acme.organization().with(|acme| acme.remove(&id));
    two.globex.organization().with(|globex| globex.rename(&id, "still here"));
    sync();
    two.acme.organization().with(|acme| acme.restore(&id));
    two.globex.organization().with(|globex| globex.remove(&id));
    sync();
    let kinds = |name: &str| {
        let args = ["log", "--key", &id, "--organization", name, "--format=json"];
        let log = rows(&two.keydrift(&args).succeeds());
        log.iter().map(|event| event["event"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(kinds("acme"), ["baseline", "removed", "restored"]);
    assert_eq!(kinds("globex"), ["baseline", "changed", "removed"]);
    for args in [&["show", &id][..], &["log", "--key", &id]] {
        let either = two.keydrift(args).exits(1);
        let said = format!("error: `{id}` may mean 2 keys: acme/{id}, globex/{id}");
        assert!(either.stderr.starts_with(&said), "{either}");
        assert!(either.stderr.contains("`--organization NAME` if two have it"), "{either}");
    }
    assert_eq!(diff(&two, "acme", first), Vec::<String>::new());
    assert_eq!(diff(&two, "globex", first), ["removed"]);
    // The person of this id is one in each.
    two.keydrift(&["forget", "user-shared", "--organization", "acme"]).succeeds();
    two.keydrift(&["verify"]).succeeds();
    let owner = |name: &str| {
        let owner = format!(
            "select owner_name from all_keys where organization = '{name}' and key_id = '{id}'"
        );
        sql::value(&two.database(), &owner)
    };
    assert_eq!((owner("acme"), owner("globex")), ("erased".into(), "user-shared".into()));
}

#[test]
fn one_taken_out_of_the_configuration_keeps_its_history_and_is_not_watched() {
    let two = Two::new(10);
    two.keydrift(&["sync"]).succeeds();
    let configuration = std::fs::read_to_string(two.configuration()).unwrap();
    let globex = configuration.find("[organizations.globex]").unwrap();
    std::fs::write(two.configuration(), &configuration[..globex]).unwrap();
    two.globex.organization().with(Organization::add);
    let ran = two.keydrift(&["sync"]).succeeds();
    assert!(!ran.stdout.contains("globex"), "{ran}");
    let status = two.keydrift(&["status"]).succeeds();
    let line = |name: &str| status.stdout.lines().find(|line| line.starts_with(name)).unwrap();
    assert!(line("globex").contains("not watched"), "{status}");
    assert!(status.stdout.ends_with("healthy\n"), "{status}");
    let json = rows(&two.keydrift(&["status", "--format=json"]).succeeds());
    let watched: Vec<_> = json.iter().map(|row| (&row["organization"], &row["watched"])).collect();
    assert_eq!(serde_json::json!(watched), serde_json::json!([["acme", true], ["globex", false]]));
    for args in [&["keys"][..], &["log"], &["runs"], &["verify"], &["status"]] {
        let args = [args, &["--organization", "globex", "--format=json"]].concat();
        let rows = rows(&two.keydrift(&args).succeeds());
        assert!(!rows.is_empty(), "{args:?}");
        assert!(rows.iter().all(|row| row["organization"] == "globex"), "{rows:?}");
    }
    let ran = two.keydrift(&["sync", "--organization", "globex"]).exits(2);
    assert!(ran.stderr.contains("there is no organization `globex`"), "{ran}");
    // Back again, what happened meanwhile is one difference.
    std::fs::write(two.configuration(), configuration).unwrap();
    let ran = two.keydrift(&["sync"]).succeeds();
    assert!(ran.stdout.contains("globex: 11 keys, 1 added"), "{ran}");
    two.check("globex");
}

#[test]
fn an_organization_that_nobody_knows_is_told_with_those_that_are_known() {
    let two = Two::new(3);
    two.keydrift(&["sync"]).succeeds();
    let commands: [&[&str]; 12] = [
        &["keys"],
        &["log"],
        &["show", "key_1"],
        &["diff", "2020-01-01", "now"],
        &["runs"],
        &["status"],
        &["verify"],
        &["prune"],
        &["prune", "--dry-run"],
        &["forget", "user-1"],
        &["checkpoint", "accept", "--reason", "none"],
        &["sync"],
    ];
    for args in commands {
        let ran = two
            .keydrift(args)
            .args(["--organization", "initech"])
            .env("KEYDRIFT__RETENTION__EVENTS", "7y")
            .exits(2);
        assert!(ran.stderr.contains("error: there is no organization `initech`"), "{ran}");
        assert!(ran.stderr.contains("hint: known: acme, globex"), "{ran}");
    }
}

#[test]
fn one_organization_that_fails_stops_no_other_and_the_exit_code_says_so() {
    let two = Two::new(20);
    two.keydrift(&["sync"]).succeeds();
    let mut before = 2;
    for (down, up) in [("acme", "globex"), ("globex", "acme")] {
        let (broken, fine) =
            if down == "acme" { (&two.acme, &two.globex) } else { (&two.globex, &two.acme) };
        go_down(&broken.organization());
        let added = fine.organization().with(Organization::add);
        let ran = two.keydrift(&["sync", "--format=json"]).exits(4);
        let document = rows(&ran);
        let [event] = document.as_slice() else { panic!("{ran}") };
        assert_eq!(event["organization"], up);
        assert_eq!(event["key_id"], added.as_str());
        assert!(
            ran.stderr.contains(&format!("error: could not sync organization `{down}`")),
            "{ran}"
        );
        assert!(ran.stderr.contains(&format!("{up}: 21 keys, 1 added")), "{ran}");
        two.check(up);
        assert_eq!(two.statuses_behind(before), pairs(&[(up, "ok"), (down, "failed")]));
        before += 2;
        broken.organization().clear_faults();
    }
    go_down(&two.acme.organization());
    go_down(&two.globex.organization());
    let ran = two.keydrift(&["sync", "--format=json"]).exits(1);
    assert_eq!(ran.json(), serde_json::json!([]));
    // Drift that was asked for weighs less than that something was not done.
    two.globex.organization().clear_faults();
    two.globex.organization().with(Organization::add);
    two.keydrift(&["sync", "--exit-code"]).exits(4);
    two.acme.organization().clear_faults();
    two.acme.organization().with(Organization::add);
    two.keydrift(&["sync", "--exit-code"]).exits(3);
    two.keydrift(&["sync", "--exit-code"]).exits(0);
}

#[test]
fn the_output_for_programs_is_one_document_for_all_organizations() {
    let two = Two::new(20);
    two.keydrift(&["sync"]).succeeds();
    let change = || {
        for server in [&two.acme, &two.globex] {
            server.organization().with(|organization| {
                organization.add();
                organization.add();
            });
        }
    };
    change();
    let json = rows(&two.keydrift(&["sync", "--format=json"]).succeeds());
    assert_eq!(json.len(), 4);
    let names: Vec<_> = json.iter().map(|event| event["organization"].as_str().unwrap()).collect();
    assert_eq!(names, ["acme", "acme", "globex", "globex"]);
    change();
    let csv = two.keydrift(&["sync", "--format=csv"]).succeeds();
    let headers = csv.stdout.lines().filter(|line| line.starts_with("event_id,")).count();
    assert_eq!((headers, csv.stdout.lines().count()), (1, 5), "{csv}");
    change();
    let lines = two.keydrift(&["sync", "--format=ndjson"]).succeeds();
    let parsed: Vec<sql::Value> =
        lines.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(parsed.len(), 4);
    let nothing = two.keydrift(&["sync", "--format=json"]).succeeds();
    assert_eq!(nothing.json(), serde_json::json!([]));
}

#[test]
fn every_command_can_be_limited_to_one_organization() {
    let two = Two::new(20);
    let only = ["sync", "--organization", "globex"];
    two.keydrift(&only).succeeds();
    assert_eq!(two.statuses(), pairs(&[("globex", "ok")]));
    two.keydrift(&["sync"]).succeeds();
    let first = sql::value(&two.database(), "select max(finished_at) from run_history");
    let first = first.as_str().unwrap().to_owned();
    until("the clock's next second", || SystemClock.now().to_string() > first);
    for server in [&two.acme, &two.globex] {
        server.organization().with(Organization::add);
    }
    two.keydrift(&["sync"]).succeeds();
    let commands: [&[&str]; 6] = [
        &["keys"],
        &["keys", "--as-of", "2100-01-01"],
        &["log"],
        &["log", "--event", "added"],
        &["runs"],
        &["diff", &first, "2100-01-01"],
    ];
    for args in commands {
        let of = |organization: Option<&str>| {
            let mut args = args.to_vec();
            args.push("--format=json");
            args.extend(organization.map(|_| "--organization"));
            args.extend(organization);
            let ran = two.keydrift(&args).run();
            (ran.code, ran.clone(), if ran.code == Some(0) { rows(&ran) } else { Vec::new() })
        };
        let (code, ran, all) = of(None);
        assert_eq!(code, Some(0), "{ran}");
        let mut sum = 0;
        for name in ["acme", "globex"] {
            let (code, ran, some) = of(Some(name));
            assert_eq!(code, Some(0), "{ran}");
            assert!(!some.is_empty(), "{ran}");
            assert!(some.iter().all(|row| row["organization"] == name), "{ran}");
            sum += some.len();
        }
        assert_eq!(sum, all.len(), "{args:?}");
        let (code, ran, _) = of(Some("initech"));
        assert_eq!(code, Some(2), "{ran}");
        assert!(ran.stderr.contains("there is no organization `initech`"), "{ran}");
        assert!(ran.stderr.contains("hint: known: acme, globex"), "{ran}");
    }
    let id = two.acme.organization().with(|acme| acme.ids().next().unwrap().to_owned());
    let either = two.keydrift(&["show", &id]).run();
    assert_ne!(either.code, Some(0), "{either}");
    assert!(either.stderr.contains("--organization"), "{either}");
    let one = two.keydrift(&["show", &id, "--organization", "globex", "--format=json"]).succeeds();
    assert!(one.stdout.contains("\"globex\"") && !one.stdout.contains("\"acme\""), "{one}");
    two.keydrift(&["sync", "--organization", "initech"]).exits(2);
}

#[test]
fn a_reader_that_went_away_keeps_no_organization_from_being_synced() {
    let two = Two::new(20);
    two.keydrift(&["sync"]).succeeds();
    // More than a pipe and any buffer hold.
    two.acme.organization().with(|acme| {
        for _ in 0..1500 {
            acme.add();
        }
    });
    two.globex.organization().with(Organization::add);
    into_nowhere(two.keydrift(&["sync"]), 0);
    assert_eq!(two.statuses_behind(2), pairs(&[("acme", "ok"), ("globex", "ok")]));
    two.check("acme");
    two.check("globex");
    // And what was not done shows all the same.
    go_down(&two.globex.organization());
    into_nowhere(two.keydrift(&["sync"]), 4);
}

/// Runs it with an output that nobody reads.
#[track_caller]
fn into_nowhere(mut keydrift: Keydrift, code: i32) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ran = keydrift.command.stdout(writer).output().unwrap();
    let stderr = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(code), "{stderr}");
}

#[test]
fn the_run_of_each_organization_that_could_not_be_recorded_is_recorded_by_the_next_run() {
    let two = Two::new(400);
    two.keydrift(&["sync"]).succeeds();
    for server in [&two.acme, &two.globex] {
        server.organization().with(|organization| {
            organization.set_field_everywhere("name", &"x".repeat(1000).into());
        });
    }
    let ran = with_small_files(&two.keydrift(&["sync"]), 128 * 1024).exits(1);
    for name in ["acme", "globex"] {
        assert!(ran.stderr.contains(&format!("could not sync organization `{name}`")), "{ran}");
    }
    let told = |name| format!("an earlier run of `{name}` could not be recorded then");
    let ran = two.keydrift(&["sync", "--organization", "acme"]).succeeds();
    assert!(ran.stderr.contains(&told("globex")), "{ran}");
    assert!(ran.stderr.contains(&told("acme")), "{ran}");
    assert_eq!(
        two.statuses_behind(2),
        pairs(&[("acme", "failed"), ("acme", "ok"), ("globex", "failed")])
    );
    two.check("acme");
}

/// What `/metrics` of a daemon on this machine answers.
fn scrape(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn an_organization_that_is_removed_during_its_run_stays_out_of_the_metrics() {
    let two = Two::new(250);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let gate = Gate::before_list(&two.acme.organization(), 2);
    let daemon = two
        .keydrift(&["run"])
        .env("KEYDRIFT__METRICS__LISTEN", port.to_string())
        .env("KEYDRIFT__SCHEDULE__CRON", "0 0 1 1 *")
        .start();
    gate.is_reached();
    let file = two.configuration();
    let configuration = std::fs::read_to_string(&file).unwrap();
    let globex = configuration.find("[organizations.globex]").unwrap();
    std::fs::write(&file, &configuration[globex..]).unwrap();
    daemon.signal(Signal::HUP);
    until("the reload", || daemon.stderr().contains("configuration was read anew"));
    gate.open();
    until("its end", || two.statuses().len() == 2);
    daemon.signal(Signal::USR1);
    let other = "keydrift_runs_total{organization=\"globex\",status=\"ok\"} 2";
    until("the metrics of the other", || scrape(port).contains(other));
    assert_eq!(
        two.statuses_behind(0),
        pairs(&[("acme", "ok"), ("globex", "ok"), ("globex", "ok")])
    );
    let metrics = scrape(port);
    for gauge in
        ["keys", "run_held", "last_success_timestamp_seconds", "last_run_timestamp_seconds"]
    {
        let line = format!("keydrift_{gauge}{{organization=\"acme\"");
        assert!(!metrics.contains(&line), "{metrics}");
    }
    daemon.signal(Signal::TERM);
    daemon.exits(0);
}
