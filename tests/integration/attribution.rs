//! Who did it, as the provider's audit log tells: attached, shown, chained, and never in the way.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use keydrift::clock::{Clock as _, SystemClock};
use keydrift::sim::{
    ANY_PORT, Actor, AuditDelay, AuditLogging, AuditWriting, Endpoint, Fault, Handle, Matcher,
    Organization, Server,
};
use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Gate, Keydrift, Ran, World, sql};

const AUDIT_LOGS: &str = "KEYDRIFT__ORGANIZATIONS__DEFAULT__AUDIT_LOGS";

/// A world whose organization keeps an audit log, synced once, and two of its keys.
fn watched() -> (World, [String; 2]) {
    let world = World::of(Organization::generate(7, 12).with_audit_logs());
    sync(&world).succeeds();
    let ids = world.organization().with(|organization| {
        organization.act_as(Some(ana("ana@example.com")));
        let own = organization.credential()[organization.credential().len() - 4..].to_owned();
        let keys: Vec<Value> = organization.keys().map(Value::from).collect();
        let others = keys.iter().filter(|key| !key["redacted_value"].to_string().contains(&own));
        others.map(|key| key["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    });
    (world, [ids[0].clone(), ids[1].clone()])
}

fn ana(email: &str) -> Actor {
    Actor::Session {
        user: "user-ana".to_owned(),
        email: email.to_owned(),
        ip_address: "198.51.100.7".to_owned(),
    }
}

/// A sync that asks the audit log, at the time that it is on this machine.
fn sync(world: &World) -> Keydrift {
    let now = SystemClock.now().unix();
    world.organization().with(|organization| organization.set_now(now));
    world.keydrift(&["sync"]).env(AUDIT_LOGS, "true").env("KEYDRIFT__API__MAX_ATTEMPTS", "1")
}

/// The key and who did what to it, of each attribution.
fn attributions(world: &World) -> Vec<String> {
    let rows = sql::rows(
        &world.database(),
        "select e.event || ' ' || e.key_id || ' ' || (t.run_id - e.run_id) || ' '
             || ifnull(t.actor_id, '-') || ' ' || ifnull(t.actor_email, '-') as line
         from attribution_history t join audit_history e on e.event_id = t.event_id
         order by t.attribution_id",
    );
    rows.iter().map(|row| row["line"].as_str().unwrap().to_owned()).collect()
}

fn remove(world: &World, id: &str) {
    world.organization().with(|organization| assert!(organization.remove(id)));
}

fn notices(world: &World) -> Vec<String> {
    let rows = sql::rows(&world.database(), "select notice from run_history order by run_id");
    rows.iter().map(|row| row["notice"].as_str().unwrap_or_default().to_owned()).collect()
}

/// What the script says of a database or a pack; loudly, where there is no Python.
#[expect(clippy::print_stderr, reason = "nobody may take it for tested")]
#[track_caller]
fn script_says(path: &Path, code: i32) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/verify_keydrift.py");
    let Ok(output) = Command::new("python3").arg("-B").arg(script).arg(path).output() else {
        eprintln!("!!! there is no python3: docs/verify_keydrift.py is NOT TESTED");
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
}

#[track_caller]
fn is_whole(world: &World) {
    world.check();
    world.keydrift(&["verify"]).succeeds();
    script_says(&world.database(), 0);
}

#[test]
fn log_and_show_say_who_did_it_from_where_and_when() {
    let (world, [gone, renamed]) = watched();
    world.organization().with(|organization| {
        organization.rename(&renamed, "renamed");
        organization.remove(&gone);
    });
    sync(&world).succeeds();
    is_whole(&world);
    // Asked for just these keys, once.
    let mut requests = world.organization().requests();
    requests.retain(|request| request.endpoint == Endpoint::AuditLogs);
    let [request] = requests.as_slice() else { panic!("{requests:?}") };
    let asked = |name: &str| {
        let pairs = url::form_urlencoded::parse(request.query.as_bytes());
        let mut values: Vec<String> =
            pairs.filter(|(key, _)| key == name).map(|(_, value)| value.into_owned()).collect();
        values.sort();
        values
    };
    let mut ids = [gone.clone(), renamed.clone()];
    ids.sort();
    assert_eq!(asked("resource_ids[]"), ids);
    assert_eq!(asked("event_types[]"), ["api_key.deleted", "api_key.updated"]);
    let acted_at =
        sql::value(&world.database(), "select acted_at from audit_history where event = 'removed'");
    let acted_at = acted_at.as_str().unwrap();
    let who = format!("deleted by ana@example.com from 198.51.100.7 at {acted_at}");
    let log = world.keydrift(&["log"]).succeeds();
    assert!(log.stdout.contains(&who), "{log}");
    assert!(log.stdout.contains("updated by ana@example.com from 198.51.100.7 at "), "{log}");
    let show = world.keydrift(&["show", &gone]).succeeds();
    let (_, time) = acted_at.trim_end_matches('Z').split_once('T').unwrap();
    // Where the day ends in between, times have their date.
    if show.stdout.contains(&format!("at {time}")) {
        let said = format!("; deleted by ana@example.com from 198.51.100.7 at {time}");
        let line = show.stdout.lines().find(|line| line.contains(&said)).unwrap();
        assert!(line.trim_start().starts_with("removed between "), "{show}");
    }
    let json = world.keydrift(&["log", "--event", "removed", "--format", "ndjson"]).succeeds();
    let event: Value = serde_json::from_str(json.stdout.trim()).unwrap();
    assert_eq!(event["actor_type"], "user");
    assert_eq!(event["actor_id"], "user-ana");
    assert_eq!(event["actor_ip_address"], "198.51.100.7");
    assert_eq!(event["acted_at"], acted_at);
    assert_eq!(event["actor_key_id"], Value::Null);
    let csv = world.keydrift(&["log", "--format", "csv"]).succeeds();
    let header = csv.stdout.lines().next().unwrap();
    assert!(
        header.ends_with(
            "new_value,actor_type,actor_id,actor_email,actor_key_id,actor_ip_address,acted_at,actor_scopes,notes"
        ),
        "{header}"
    );
    // Not asked for, nothing is.
    world.organization().clear_requests();
    world.keydrift(&["sync"]).succeeds();
    assert_eq!(world.organization().count(Endpoint::AuditLogs), 0);
    // And where there is nothing to explain, neither.
    sync(&world).succeeds();
    assert_eq!(world.organization().count(Endpoint::AuditLogs), 0);
}

#[test]
fn keys_and_service_accounts_act_too_and_some_do_unknown() {
    let (world, [first, second]) = watched();
    let acts = |actor, id: &str, name: &str| {
        world.organization().with(|organization| {
            organization.act_as(Some(actor));
            organization.rename(id, name);
        });
    };
    let service =
        Actor::ServiceAccountKey { key: "key_ci".to_owned(), service_account: "svc-1".to_owned() };
    acts(service, &first, "by the service");
    acts(Actor::Unknown, &second, "by nobody");
    sync(&world).succeeds();
    let rows = sql::rows(
        &world.database(),
        "select key_id, actor_type, actor_id, actor_key_id, acted_at is not null as known
         from audit_history where event = 'changed' and field = 'name'",
    );
    for row in rows {
        assert_eq!(row["known"], 1);
        if row["key_id"] == first.as_str() {
            assert_eq!(row["actor_type"], "service_account");
            assert_eq!(
                (&row["actor_id"], &row["actor_key_id"]),
                (&"svc-1".into(), &"key_ci".into())
            );
        } else {
            assert!(row["actor_type"].is_null() && row["actor_id"].is_null());
        }
    }
    let log = world.keydrift(&["log"]).succeeds();
    assert!(log.stdout.contains("updated by service account svc-1 with key key_ci at "), "{log}");
    assert!(log.stdout.contains("updated by somebody unknown at "), "{log}");
    let open = world.keydrift(&["log", "--unexplained"]).succeeds();
    assert!(open.stdout.contains(&second) && !open.stdout.contains(&first), "{open}");
    is_whole(&world);
}

#[test]
fn late_entries_come_with_a_later_run_and_double_or_foreign_ones_do_no_harm() {
    let (world, [late, double]) = watched();
    world.organization().with(|organization| {
        organization.audit_writing =
            AuditWriting { delay: AuditDelay::Requests(1), ..AuditWriting::default() };
        organization.remove(&late);
        organization.audit_writing = AuditWriting { copies: 2, ..AuditWriting::default() };
        organization.remove(&double);
    });
    world.organization().fault(Matcher::audit_logs(), Fault::ForeignEntries);
    world.organization().fault(Matcher::audit_logs(), Fault::DuplicateItem(0));
    sync(&world).succeeds();
    let early = format!("removed {double} 0 user-ana ana@example.com");
    assert_eq!(attributions(&world), [early.as_str(); 2]);
    sync(&world).succeeds();
    let came = format!("removed {late} 1 user-ana ana@example.com");
    assert_eq!(attributions(&world), [early.as_str(), &early, &came]);
    // All is known: nobody is asked any more.
    world.organization().clear_requests();
    sync(&world).succeeds();
    assert_eq!(world.organization().count(Endpoint::AuditLogs), 0);
    is_whole(&world);
}

#[test]
fn what_the_log_leaves_out_stays_open_and_costs_nothing() {
    let (world, [gone, _]) = watched();
    world.organization().with(|organization| {
        organization.audit_writing = AuditWriting { copies: 0, ..AuditWriting::default() };
        organization.remove(&gone);
    });
    for _ in 0..2 {
        sync(&world).succeeds();
        assert_eq!(attributions(&world), [""; 0]);
    }
    assert_eq!(notices(&world).concat(), "");
    // It answers with all that it has, and none of it is of this key.
    world.organization().fault(Matcher::audit_logs(), Fault::IgnoredFilters);
    sync(&world).succeeds();
    assert_eq!(attributions(&world), [""; 0]);
    is_whole(&world);
}

#[test]
fn without_audit_logging_it_is_said_once_and_once_when_it_is_back() {
    for status in [401, 403, 404] {
        let (world, [first, second]) = watched();
        let switch = |logging| {
            world.organization().with(|organization| organization.audit_logging = logging);
        };
        switch(AuditLogging::Refused { status });
        remove(&world, &first);
        sync(&world).succeeds();
        sync(&world).succeeds();
        switch(AuditLogging::On);
        remove(&world, &second);
        sync(&world).succeeds();
        sync(&world).succeeds();
        switch(AuditLogging::Refused { status });
        sync(&world).succeeds();
        let said: Vec<_> = notices(&world).iter().map(|notice| kind(notice)).collect();
        assert_eq!(said, ["", "no", "", "again", "", "no"], "{status}: {:?}", notices(&world));
        assert_eq!(attributions(&world), [format!("removed {second} 0 user-ana ana@example.com")]);
        is_whole(&world);
    }
    // An empty list says nothing yet: entries come late.
    let (world, [first, _]) = watched();
    world.organization().with(|organization| organization.audit_logging = AuditLogging::Empty);
    remove(&world, &first);
    sync(&world).succeeds();
    assert_eq!(notices(&world).concat(), "");
}

fn kind(notice: &str) -> &'static str {
    match notice {
        "" => "",
        "the audit log can be read again" => "again",
        text if text
            .starts_with("the audit log may not be read, so that events lack who did it: ") =>
        {
            "no"
        }
        text if text
            .starts_with("the audit log could not be read, so that events lack who did it: ") =>
        {
            "fails"
        }
        _ => "?",
    }
}

#[test]
fn a_log_that_fails_costs_the_run_nothing_and_a_later_run_asks_again() {
    for fault in [
        Fault::status(503),
        Fault::status(400),
        Fault::status(429).with_header("retry-after", "86400"),
        Fault::MissingData,
        Fault::DataInstead(Value::from(7)),
    ] {
        let (world, [gone, _]) = watched();
        remove(&world, &gone);
        world.organization().fault(Matcher::audit_logs(), fault.clone());
        let ran = sync(&world).succeeds();
        assert!(ran.stderr.contains("the audit log could not be read"), "{fault:?}: {ran}");
        let run = sql::rows(&world.database(), "select * from run_history where run_id = 2");
        assert_eq!((&run[0]["status"], &run[0]["removed"]), (&"ok".into(), &1.into()), "{fault:?}");
        assert!(run[0]["deferred_until"].is_null(), "{fault:?}");
        assert_eq!(attributions(&world), [""; 0]);
        // A plain refusal is not answered with smaller pages.
        assert_eq!(world.organization().count(Endpoint::AuditLogs), 1, "{fault:?}");
        sync(&world).succeeds();
        world.organization().clear_faults();
        sync(&world).succeeds();
        assert_eq!(attributions(&world), [format!("removed {gone} 2 user-ana ana@example.com")]);
        // It is said when it begins and when it is over, and not in between.
        let said: Vec<_> = notices(&world).iter().map(|notice| kind(notice)).collect();
        assert_eq!(said, ["", "fails", "", "again"], "{fault:?}: {:?}", notices(&world));
        is_whole(&world);
    }
}

#[test]
fn told_to_stop_it_records_what_it_has_seen_and_does_not_wait_for_the_log() {
    let (world, [gone, _]) = watched();
    remove(&world, &gone);
    let gate = Gate::before(&world.organization(), Matcher::audit_logs());
    let started = sync(&world).start();
    gate.is_reached();
    started.signal(Signal::TERM);
    let ran: Ran = started.ends();
    gate.open();
    assert_eq!(ran.code, Some(0), "{ran}");
    let removed = "select removed from run_history where run_id = 2 and status = 'ok'";
    assert_eq!(sql::value(&world.database(), removed), 1);
    assert_eq!(attributions(&world), [""; 0]);
    sync(&world).succeeds();
    assert_eq!(attributions(&world).len(), 1);
    is_whole(&world);
}

/// `keydrift verify` and the script agree on where an erased value may be said to have been.
#[test]
fn an_erased_value_that_was_elsewhere_is_told_by_both_verifiers() {
    let (world, [gone, _]) = watched();
    let both = |code| {
        world.keydrift(&["verify"]).exits(code);
        script_says(&world.database(), code);
    };
    remove(&world, &gone);
    sync(&world).succeeds();
    world.keydrift(&["forget", "user-ana"]).succeeds();
    both(0);
    let owner = "select w.id from keys k join key_versions v on v.version = k.version join owners w on w.owner = v.owner
                 where w.id is not null and w.name is not null and w.name <> 'erased' limit 1";
    let owner = sql::value(&world.database(), owner);
    world.keydrift(&["forget", owner.as_str().unwrap()]).succeeds();
    both(0);
    sql::rows(&world.database(), "drop trigger erased_no_update");
    let places = sql::rows(&world.database(), "select distinct place from erased order by 1");
    assert_eq!(places.len(), 2, "{places:?}");
    for place in ["attribution", "event"] {
        for edit in ["key_id = 'zz'", "side = iif(side is null, 'old', null)"] {
            let mine =
                format!("where rowid = (select min(rowid) from erased where place = '{place}')");
            let before =
                sql::rows(&world.database(), &format!("select key_id, side from erased {mine}"));
            sql::rows(&world.database(), &format!("update erased set {edit} {mine}"));
            both(3);
            let side =
                before[0]["side"].as_str().map_or("null".to_owned(), |side| format!("'{side}'"));
            sql::rows(
                &world.database(),
                &format!("update erased set key_id = null, side = {side} {mine}"),
            );
            both(0);
        }
    }
}

#[test]
fn who_acted_is_forgotten_for_good_and_packs_and_verifiers_are_content() {
    let (world, [gone, other]) = watched();
    remove(&world, &gone);
    sync(&world).succeeds();
    let packed = |name: &str| {
        let path = world.path().join(name);
        let until = SystemClock.now().to_string();
        let arguments =
            ["evidence", "--from", "2000-01-01", "--to", &until, "-o", path.to_str().unwrap()];
        world.keydrift(&arguments).succeeds();
        pack_is_whole(&path);
        path
    };
    let before = packed("before.tar.gz");
    let edited =
        edit_pack(&before, "attribution_history.ndjson", "ana@example.com", "bob@example.com");
    let ran = Keydrift::new(world.path()).args(["evidence", "verify"]).arg(&edited).exits(3);
    assert!(ran.stdout.contains("run 2"), "{ran}");
    let ran = world.keydrift(&["forget", "user-ana"]).succeeds();
    assert!(ran.stdout.contains("`user-ana` is forgotten: 2 values erased"), "{ran}");
    is_whole(&world);
    packed("after.tar.gz");
    remove(&world, &other);
    sync(&world).succeeds();
    assert_eq!(
        attributions(&world),
        [format!("removed {gone} 0 user-ana erased"), format!("removed {other} 0 user-ana -")]
    );
    let log = world.keydrift(&["log"]).succeeds();
    assert!(log.stdout.contains("deleted by user-ana at "), "{log}");
    is_whole(&world);
    packed("later.tar.gz");
    for file in ["keys.db", "keys.db-wal", "after.tar.gz", "later.tar.gz"] {
        let content = std::fs::read(world.path().join(file)).unwrap_or_default();
        for trace in ["ana@example.com", "198.51.100.7"] {
            assert!(
                !content.windows(trace.len()).any(|window| window == trace.as_bytes()),
                "{file}"
            );
        }
    }
}

/// By the binary with nothing but the file, and by the script in it.
#[track_caller]
fn pack_is_whole(pack: &Path) {
    let home = tempfile::tempdir().unwrap();
    Keydrift::new(home.path()).args(["evidence", "verify"]).arg(pack).succeeds();
    let files = keydrift::evidence::archive::read(std::fs::File::open(pack).unwrap()).unwrap();
    assert!(files.contains_key("attribution_history.ndjson"));
    for (name, content) in files {
        std::fs::write(home.path().join(name), content).unwrap();
    }
    script_says(home.path(), 0);
}

/// The pack as somebody edits it who puts the manifest right as well.
fn edit_pack(pack: &Path, name: &str, from: &str, to: &str) -> PathBuf {
    use keydrift::evidence::{MANIFEST, Manifest, archive};
    let mut files = archive::read(std::fs::File::open(pack).unwrap()).unwrap();
    let text = String::from_utf8(files[name].clone()).unwrap();
    assert!(text.contains(from), "{text}");
    files.insert(name.to_owned(), text.replace(from, to).into_bytes());
    let mut manifest = Manifest::read(&files[MANIFEST]).unwrap();
    for entry in &mut manifest.files {
        let content = &files[&entry.name];
        (entry.bytes, entry.sha256) = (content.len() as u64, archive::sha256(content));
    }
    files.insert(MANIFEST.to_owned(), serde_json::to_vec_pretty(&manifest).unwrap());
    let path = pack.with_extension("edited");
    let mut builder = archive::Builder::new(std::fs::File::create(&path).unwrap(), 0);
    for (name, content) in &files {
        builder.add(name, content).unwrap();
    }
    builder.finish().unwrap();
    path
}

#[test]
fn two_organizations_with_equal_ids_keep_their_own_testimony() {
    let directory = tempfile::tempdir().unwrap();
    let mut configuration = String::new();
    let servers = ["acme", "globex"].map(|name| {
        let organization = Organization::generate(7, 12).with_audit_logs();
        let server = Server::start_blocking(organization, ANY_PORT).unwrap();
        let file = directory.path().join(format!("{name}.key"));
        std::fs::write(&file, server.organization().credential()).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let url = server.base_url();
        writeln!(
            configuration,
            "[organizations.{name}]\nbase_url = \"{url}\"\nadmin_key_file = \"{name}.key\"\naudit_logs = true"
        )
        .unwrap();
        server
    });
    std::fs::write(directory.path().join("keydrift.toml"), configuration).unwrap();
    let database = directory.path().join("keys.db");
    let keydrift = |arguments: &[&str]| {
        let configuration = directory.path().join("keydrift.toml");
        let keydrift = Keydrift::new(directory.path()).args(arguments);
        keydrift.arg("--config").arg(configuration).arg("--database").arg(&database)
    };
    let each = |act: &dyn Fn(&mut Organization, &str)| {
        for (server, name) in servers.iter().zip(["acme", "globex"]) {
            server.organization().with(|organization| act(organization, name));
        }
    };
    each(&|organization, _| organization.set_now(SystemClock.now().unix()));
    keydrift(&["sync"]).succeeds();
    let gone = servers[0].organization().with(|organization| {
        let own = organization.credential()[organization.credential().len() - 4..].to_owned();
        let mut keys = organization.keys().map(Value::from);
        let key = keys.find(|key| !key["redacted_value"].to_string().contains(&own)).unwrap();
        key["id"].as_str().unwrap().to_owned()
    });
    each(&|organization, name| {
        organization.set_now(SystemClock.now().unix());
        organization.act_as(Some(ana(&format!("ana@{name}.example"))));
        organization.remove(&gone);
    });
    keydrift(&["sync"]).succeeds();
    keydrift(&["forget", "user-ana", "--organization", "globex"]).succeeds();
    let rows = sql::rows(
        &database,
        "select organization || ' ' || key_id || ' ' || actor_email as line from audit_history
         where event = 'removed' order by organization",
    );
    let lines: Vec<_> = rows.iter().map(|row| row["line"].as_str().unwrap().to_owned()).collect();
    assert_eq!(lines, [format!("acme {gone} ana@acme.example"), format!("globex {gone} erased")]);
    keydrift(&["verify"]).succeeds();
    script_says(&database, 0);
}

#[test]
fn no_text_of_the_log_does_harm_in_any_format() {
    let (world, [gone, _]) = watched();
    let email = "=cmd|' /C calc'!A0\u{1b}[31m\n\u{202e}moc.elpmaxe@ana";
    let act = |organization: &Handle| {
        organization.with(|organization| {
            organization.act_as(Some(ana(email)));
            organization.remove(&gone);
        });
    };
    act(&world.organization());
    sync(&world).succeeds();
    let stored = sql::value(
        &world.database(),
        "select actor_email from audit_history where event = 'removed'",
    );
    assert_eq!(stored, email);
    for arguments in [
        &["log"][..],
        &["show", &gone],
        &["log", "--format", "json"],
        &["log", "--format", "ndjson"],
        &["log", "--format", "csv"],
        &["show", &gone, "--format", "json"],
        &["show", &gone, "--format", "csv"],
    ] {
        let ran = world.keydrift(arguments).succeeds();
        assert!(ran.stdout.contains("moc.elpmaxe@ana"), "{arguments:?}: {ran}");
        for bad in ['\u{1b}', '\u{202e}', '\r'] {
            assert!(!ran.stdout.contains(bad), "{arguments:?}: {ran}");
        }
        if arguments.contains(&"csv") {
            assert!(!ran.stdout.contains(",=cmd") && !ran.stdout.contains(",\"=cmd"), "{ran}");
        }
    }
    is_whole(&world);
}
