//! Where the credential comes from, what a bad one leads to, whose keys it opens, and that it is seen nowhere.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use keydrift::sim::{Access, Endpoint, ErrorBody, Fault, Matcher, Organization};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{Keydrift, Ran, World, oracle, sql};

/// A file of the world's directory, with this mode.
fn write(world: &World, name: &str, content: &str, mode: u32) -> PathBuf {
    let path = world.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

/// `keydrift sync` without any credential.
fn sync_without(world: &World) -> Keydrift {
    world.keydrift(&["sync"]).without_env("OPENAI_ADMIN_KEY")
}

fn sync_with(world: &World, credential: &str) -> Keydrift {
    world.keydrift(&["sync"]).env("OPENAI_ADMIN_KEY", credential)
}

/// It is a mistake of the command line: exit code 2, and nothing was asked or recorded.
#[track_caller]
fn is_mistaken(world: &World, command: Keydrift, said: &[&str]) -> Ran {
    let ran = command.exits(2);
    for text in said {
        assert!(ran.stderr.contains(text), "{text} is missing: {ran}");
    }
    assert_eq!(world.organization().requests(), []);
    assert!(!world.database().exists(), "nothing to record yet");
    ran
}

#[test]
fn no_credential_at_all_names_every_place_for_one() {
    let world = World::new(3);
    let said = [
        "no credential for organization `default`",
        "organizations.default.admin_key_file",
        "OPENAI_ADMIN_KEY_FILE",
        "openai-admin-key.default",
    ];
    is_mistaken(&world, sync_without(&world), &said);
    is_mistaken(&world, sync_with(&world, ""), &said);
}

#[test]
fn a_credential_that_cannot_be_one_is_refused_before_anything_is_asked() {
    let world = World::new(3);
    let key = "sk-admin-aaaaaaaaaabbbbbbbbbb";
    let no_admin_key = "not an admin key";
    for (content, fault) in [
        ("\n".to_owned(), "is empty"),
        (format!("{key}\n{key}\n"), "more than one line"),
        (format!("{key} "), "white space"),
        (format!("{key}\u{7}"), "control characters"),
        (format!("{key}é"), "ASCII"),
        ("sk-proj-abcdefghijklmnop".to_owned(), no_admin_key),
        ("sk-svcacct-abcdefghijklmnop".to_owned(), no_admin_key),
    ] {
        let by_variable = sync_with(&world, &content);
        let ran = is_mistaken(&world, by_variable, &[fault, "variable `OPENAI_ADMIN_KEY`"]);
        assert!(!ran.stderr.contains(key), "{ran}");
        let path = write(&world, "admin.key", &content, 0o600);
        let by_file = sync_without(&world).env("OPENAI_ADMIN_KEY_FILE", &path);
        let ran = is_mistaken(&world, by_file, &[fault, "admin.key"]);
        assert!(!ran.stderr.contains(key), "{ran}");
    }
}

#[test]
fn a_key_file_that_every_user_can_read_is_refused_with_what_to_do() {
    let world = World::new(3);
    let credential = world.organization().credential();
    for mode in [0o644, 0o604] {
        let path = write(&world, "admin.key", &credential, mode);
        let command = sync_without(&world).env("OPENAI_ADMIN_KEY_FILE", &path);
        let hint = format!("chmod 600 {}", path.display());
        is_mistaken(&world, command, &["can be read by every user", &hint]);
    }
    for mode in [0o600, 0o640, 0o400] {
        let path = write(&world, &format!("{mode:o}.key"), &credential, mode);
        sync_without(&world).env("OPENAI_ADMIN_KEY_FILE", &path).succeeds();
        world.check();
    }
}

#[test]
fn a_key_file_that_is_not_there_or_no_file_is_a_clear_error() {
    let world = World::new(3);
    let missing = world.path().join("missing.key");
    let command = sync_without(&world).env("OPENAI_ADMIN_KEY_FILE", &missing);
    is_mistaken(&world, command, &["could not read the credential file", "missing.key"]);
    let command = sync_without(&world).env("OPENAI_ADMIN_KEY_FILE", world.path());
    is_mistaken(&world, command, &["not a regular file"]);
    let key = world.organization().credential();
    let command = sync_without(&world).env("OPENAI_ADMIN_KEY_FILE", &key);
    let ran = is_mistaken(&world, command, &["holds a credential, not the path of a file"]);
    assert!(!ran.stderr.contains(&key), "{ran}");
}

#[test]
fn the_sources_of_the_credential_are_taken_in_their_order() {
    let world = World::new(5);
    let credentials = world.path().join("credentials");
    let config = write(
        &world,
        "keydrift.toml",
        "[organizations.default]\nadmin_key_file = \"own.key\"\n"
            .replace("own.key", world.path().join("own.key").to_str().unwrap())
            .as_str(),
        0o644,
    );
    // From the last to the first. Only the newest one works, so that it must be the one taken.
    let mut works: Option<String> = None;
    for source in 0..5 {
        let secret = world.organization().with(|organization| {
            if let Some(before) = works.take() {
                organization.set_access(&before, Access::Revoked);
            }
            organization.issue_credential("of this source")
        });
        works = Some(secret.clone());
        let name = ["variable.key", "file.key", "credentials/openai-admin-key"];
        match source {
            0..3 => write(&world, name[source], &secret, 0o600),
            3 => write(&world, "credentials/openai-admin-key.default", &secret, 0o600),
            _ => write(&world, "own.key", &secret, 0o600),
        };
        let variable = fs::read_to_string(world.path().join("variable.key")).unwrap();
        let mut command = sync_with(&world, &variable);
        if source >= 1 {
            command = command.env("OPENAI_ADMIN_KEY_FILE", world.path().join("file.key"));
        }
        if source >= 2 {
            command = command.env("CREDENTIALS_DIRECTORY", &credentials);
        }
        if source >= 4 {
            command = command.arg("--config").arg(&config);
        }
        command.succeeds();
        world.check();
    }
}

#[test]
fn systemds_credentials_are_found_by_name_and_their_modes_are_systemds() {
    let world = World::new(5);
    let credential = world.organization().credential();
    let directory = world.path().join("credentials");
    write(&world, "credentials/openai-admin-key", &credential, 0o444);
    sync_without(&world).env("CREDENTIALS_DIRECTORY", &directory).succeeds();
    world.check();

    let mut second = Organization::generate(8, 3);
    second.records_own_use = false;
    write(&world, "credentials/openai-admin-key.second", second.credential(), 0o440);
    let keys: Vec<_> = second.keys().collect();
    world.organization().host(second);
    let url = world.server.base_url();
    let text = format!(
        "[organizations.default]\nbase_url = \"{url}\"\n[organizations.second]\nbase_url = \"{url}\"\n"
    );
    let config = write(&world, "keydrift.toml", &text, 0o644);
    let with_config = |world: &World| {
        sync_without(world).without_env("OPENAI_BASE_URL").arg("--config").arg(&config)
    };
    with_config(&world).env("CREDENTIALS_DIRECTORY", &directory).succeeds();
    world.check();
    oracle::check_inventory(&world.database(), "second", &keys);

    // An unnamed one serves one organization only.
    fs::remove_file(directory.join("openai-admin-key.second")).unwrap();
    let ran = with_config(&world).env("CREDENTIALS_DIRECTORY", &directory).exits(2);
    assert!(ran.stderr.contains("`default`, `second` lack a credential"), "{ran}");
}

#[test]
fn a_key_file_is_read_anew_for_each_run() {
    let world = World::new(5);
    let organization = world.organization();
    let path = write(&world, "admin.key", &format!("{}\n", organization.credential()), 0o600);
    let sync = || sync_without(&world).env("OPENAI_ADMIN_KEY_FILE", &path);
    sync().succeeds();
    let own = sql::value(&world.database(), "select key_id from current_keys where own_key = 1");
    let new = organization.with(|organization| {
        let new = organization.issue_credential("rotated");
        let old = organization.credential().to_owned();
        organization.set_access(&old, Access::Revoked);
        organization.remove(own.as_str().unwrap());
        new
    });
    sync().exits(1);
    write(&world, "admin.key", &format!("{new}\r\n"), 0o600);
    sync().succeeds();
    world.check();
    let now = sql::value(&world.database(), "select key_id from current_keys where own_key = 1");
    assert_ne!(now, own);
    let notice = world.last_run()["notice"].as_str().unwrap_or_default().to_owned();
    let told = sql::value(&world.database(), "select event from audit_history where event_id = 6");
    assert!(told == "added" || told == "removed", "{told} {notice}");
}

#[test]
fn a_credential_that_the_api_refuses_fails_the_run_and_says_why() {
    let world = World::new(5);
    let organization = world.organization();
    let cases = [
        (None, "Incorrect API key provided", "401", "not an admin key of the organization"),
        (Some(Access::Revoked), "Incorrect API key provided", "401", "it was revoked"),
        (Some(Access::ProjectKey), "requires an admin API key", "401", "not an admin key"),
        (
            Some(Access::MissingScopes { status: 401 }),
            "lacks the scope `api.management.read`",
            "401",
            "create a new admin key with read-only permission",
        ),
        (
            Some(Access::MissingScopes { status: 403 }),
            "lacks the scope `api.management.read`",
            "403",
            "create a new admin key with read-only permission",
        ),
    ];
    world.sync();
    let before = world.content();
    for (nth, (access, said, status, hint)) in cases.into_iter().enumerate() {
        let secret = format!("sk-admin-{nth}23456789abcdefghijklmnopqrstuvwxyz");
        if let Some(access) = access {
            organization.with(|organization| organization.set_access(&secret, access));
        }
        organization.clear_requests();
        let ran = sync_with(&world, &secret).exits(1);
        let run = world.check_nothing_changed(&before, "failed");
        let error = run["error"].as_str().unwrap();
        assert!(error.contains(said) && error.contains(&format!("status {status}")), "{error}");
        let requests = organization.requests();
        assert_eq!(requests.len(), 1, "not tried again");
        assert!(error.contains(&requests[0].request_id), "{error}");
        assert!(ran.stderr.contains(hint), "{ran}");
        assert!(!ran.stderr.contains(&secret), "{ran}");
    }
}

#[test]
fn missing_scopes_are_named_in_either_envelope() {
    let message = "You have insufficient permissions for this operation. Missing scopes: \
                   api.management.read, api.keys.read. Check your role.";
    for status in [401, 403] {
        for body in
            [ErrorBody::Envelope(message.to_owned()), ErrorBody::BareString(message.to_owned())]
        {
            let world = World::new(5);
            world.organization().fault(Matcher::list(), Fault::status_with(status, body));
            let ran = world.keydrift(&["sync"]).exits(1);
            let error = world.last_run()["error"].as_str().unwrap().to_owned();
            let scopes = "the credential lacks the scopes `api.management.read`, `api.keys.read`";
            assert!(error.contains(scopes), "{error}");
            assert!(ran.stderr.contains("create a new admin key"), "{ran}");
            assert_eq!(world.organization().requests().len(), 1);
        }
    }
}

/// An organization of one key beside another one of one key, with their credentials.
fn two_organizations(headers: bool) -> (World, Organization) {
    let make = |seed| {
        let mut organization = Organization::generate(seed, 1);
        organization.records_own_use = false;
        if !headers {
            organization.set_organization_id(None);
        }
        organization
    };
    let world = World::of(make(7));
    let other = make(8);
    world.organization().host(other.clone());
    world.sync();
    (world, other)
}

#[test]
fn a_credential_swapped_for_another_organizations_is_refused_until_it_is_accepted() {
    for headers in [true, false] {
        let (world, other) = two_organizations(headers);
        let before = world.content();
        let theirs: Vec<_> = other.keys().collect();
        for _ in 0..2 {
            let ran = sync_with(&world, other.credential()).exits(1);
            let run = world.check_nothing_changed(&before, "failed");
            let error = run["error"].as_str().unwrap();
            assert!(error.contains("this looks like another organization"), "{error}");
            let why = if headers {
                format!(
                    "come from organization `{}`, not from `{}`",
                    other.organization_id().unwrap(),
                    Organization::generate(7, 1).organization_id().unwrap()
                )
            } else {
                "the only known key is not in the list".to_owned()
            };
            assert!(error.contains(&why), "{error}");
            assert!(ran.stderr.contains("keydrift sync --accept default"), "{ran}");
        }
        assert_eq!(world.organization().count(Endpoint::Retrieve), 0);

        let accept = world.keydrift(&["sync", "--accept", "default"]);
        accept.env("OPENAI_ADMIN_KEY", other.credential()).succeeds();
        oracle::check_consistent(&world.database());
        oracle::check_inventory(&world.database(), "default", &theirs);
        let events = world.events_since(&before);
        let kinds: Vec<_> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
        assert_eq!((kinds.len(), kinds.contains(&"removed")), (2, true), "{kinds:?}");
        let notice = world.last_run()["notice"].as_str().unwrap().to_owned();
        assert!(notice.contains("accepted what refused run 3 had recorded: "), "{notice}");

        // From now on the first organization is the other one.
        let before = world.content();
        world.keydrift(&["sync"]).exits(1);
        world.check_nothing_changed(&before, "failed");
        sync_with(&world, other.credential()).succeeds();
        oracle::check_inventory(&world.database(), "default", &theirs);
    }
}

#[test]
fn what_was_accepted_for_one_stranger_does_not_hold_for_another() {
    let (world, other) = two_organizations(true);
    let before = world.content();
    let third = Organization::generate(9, 1);
    world.organization().host(third.clone());
    sync_with(&world, other.credential()).exits(1);
    let accept = world.keydrift(&["sync", "--accept", "default"]);
    accept.env("OPENAI_ADMIN_KEY", third.credential()).exits(1);
    world.check_nothing_changed(&before, "failed");
}

#[test]
fn another_header_with_most_keys_in_common_is_a_notice_and_with_fewer_is_refused() {
    for (kept, passes) in [(10, true), (6, true), (5, false), (0, false)] {
        let world = World::new(10);
        world.sync();
        let before = world.content();
        world.organization().with(|organization| {
            organization.set_organization_id(Some("org-renamed"));
            let ids: Vec<String> = organization.ids().map(str::to_owned).collect();
            let gone = ids.iter().take(10 - kept);
            gone.for_each(|id| assert!(organization.remove(id)));
            for _ in 0..3 {
                organization.add();
            }
        });
        if passes {
            world.sync();
            let notice = world.last_run()["notice"].as_str().unwrap().to_owned();
            assert!(notice.contains("`org-renamed` now"), "{notice}");
            world.sync();
            assert_eq!(world.last_run()["notice"], Value::Null, "it is remembered");
        } else {
            world.keydrift(&["sync"]).exits(1);
            let run = world.check_nothing_changed(&before, "failed");
            let error = run["error"].as_str().unwrap();
            assert!(error.contains(&format!("only {kept} of 10 known keys")), "{error}");
            world.keydrift(&["sync", "--accept", "default"]).succeeds();
            world.check();
            let removed = "select removed from run_history order by run_id desc limit 1";
            assert_eq!(sql::value(&world.database(), removed), 10 - kept);
            world.sync();
        }
    }
}

#[test]
fn a_header_that_comes_or_goes_is_no_news_while_the_keys_are_the_same() {
    let world = World::new(5);
    let header = world.organization().with(|sim| sim.organization_id().unwrap().to_owned());
    for id in [None, Some(header.as_str()), None, Some(header.as_str())] {
        world.organization().with(|organization| organization.set_organization_id(id));
        world.sync();
    }
    let query = "select count(*) from audit_history where event <> 'baseline'";
    assert_eq!(sql::integer(&world.database(), query), 0);
    // And what it was before it went is not forgotten.
    let before = world.content();
    world.organization().with(|organization| organization.set_organization_id(None));
    world.sync();
    let events = world.events_since(&before);
    assert_eq!(events, []);
    let ids = world.ids();
    world.organization().with(|organization| {
        organization.set_organization_id(Some("org-other"));
        for id in &ids {
            assert!(organization.remove(id));
        }
        organization.add();
    });
    world.keydrift(&["sync"]).exits(1);
}

#[test]
fn the_organization_id_is_sent_as_a_header() {
    let world = World::new(5);
    let organization = world.organization();
    let id = organization.with(|sim| sim.organization_id().unwrap().to_owned());
    world.sync();
    let sent = |organization: &keydrift::sim::Handle| {
        organization.requests().pop().unwrap().header("openai-organization").map(str::to_owned)
    };
    assert_eq!(sent(&organization), None);
    world.keydrift(&["sync"]).env("OPENAI_ORG_ID", &id).succeeds();
    assert_eq!(sent(&organization), Some(id));
    let ran = world.keydrift(&["sync"]).env("OPENAI_ORG_ID", "org-wrong").exits(1);
    assert_eq!(sent(&organization).as_deref(), Some("org-wrong"));
    assert!(ran.stderr.contains("header should match organization"), "{ran}");
    let ran = world.keydrift(&["sync"]).env("OPENAI_ORG_ID", "org a\nb").exits(2);
    assert!(ran.stderr.contains("OPENAI_ORG_ID"), "{ran}");
}

/// Insists that `secret` is nowhere in what was said, nor in any file beside the database.
#[track_caller]
fn is_nowhere(world: &World, ran: Option<&Ran>, secret: &str, what: &str) {
    if let Some(ran) = ran {
        assert!(!ran.stdout.contains(secret), "{what}: on stdout");
        assert!(!ran.stderr.contains(secret), "{what}: on stderr");
    }
    let mut files = 0;
    for entry in fs::read_dir(world.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "key") || path.is_dir() {
            continue;
        }
        files += 1;
        let bytes = fs::read(&path).unwrap();
        let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "{what}: in {}", path.display());
    }
    assert!(files >= 2, "the database and the lock");
}

#[test]
fn no_secret_is_said_or_kept_whatever_the_api_answers() {
    let own = World::synced().organization().credential();
    let leaked = "sk-admin-LEAKEDabcdefghijklmnopqrstuvwxyz0123456789";
    let project = "sk-proj-LEAKEDabcdefghijklmnopqrstuvwxyz0123456789";
    let envelope = |status, text: String| Fault::status_with(status, ErrorBody::Envelope(text));
    let html = format!("<html><head><title>{own}</title></head><p>{leaked}</html>");
    let echo = format!("Incorrect API key provided: {own}, or {leaked}, or {project}.");
    let header = |name: &str| Fault::Header(name.to_owned(), own.clone());
    let type_of = |text: &str| Fault::ContentType(Some(text.to_owned()));
    let faults = [
        ("success", Fault::Header("x-harmless".to_owned(), "1".to_owned())),
        ("a full secret in `value`", Fault::FullSecret(leaked.to_owned())),
        ("our own in `value`", Fault::FullSecret(own.clone())),
        ("an echo", envelope(401, echo.clone())),
        ("a bare echo", Fault::status_with(403, ErrorBody::BareString(echo.clone()))),
        ("an echo of a server", envelope(500, echo.clone())),
        ("an echo about the page", envelope(400, echo)),
        ("an echo in HTML", Fault::status_with(502, ErrorBody::Json(html))),
        ("a request id", header("x-request-id")),
        ("an error's request id", envelope(418, "no".to_owned()).with_header("x-request-id", &own)),
        ("a content type", type_of(&format!("text/{own}"))),
        ("an organization", Fault::OrganizationHeader(Some(own.clone()))),
        ("a header", header("x-new")),
        ("a redirect", Fault::redirect(302, &format!("https://{own}.example.com/{own}"))),
        ("a wait", Fault::status(429).with_header("retry-after", &own)),
        ("wrong JSON", Fault::WrongJson),
        ("a cut body", Fault::CutBody),
        ("a reset connection", Fault::ResetConnection),
        ("no answer", Fault::Hang),
        ("secret data", Fault::DataInstead(json!({ "value": leaked, "own": own }))),
        ("a secret for an item", bad_item(json!(leaked))),
        ("a secret for an id", bad_item(json!({ "id": leaked }))),
        ("our own for an id", bad_item(json!({ "id": own }))),
    ];
    crate::support::drills::for_each(
        &faults,
        |(name, _)| (*name).to_owned(),
        |(name, fault)| {
            for first in [false, true] {
                let world = if first { World::new(30) } else { World::synced() };
                world.organization().fault(Matcher::any(), fault.clone());
                let gone = world.some_ids(1);
                world.organization().with(|organization| organization.remove(&gone[0]));
                let own = world.organization().credential();
                let loud = world.hasty_sync(fault).arg("-vvv").env("RUST_LOG", "trace").run();
                assert!(loud.stderr.contains("TRACE"), "{loud}");
                for secret in [own.as_str(), leaked, project] {
                    is_nowhere(&world, Some(&loud), secret, name);
                    // A host name is written in lower case.
                    is_nowhere(&world, Some(&loud), &secret.to_lowercase(), name);
                }
                oracle::check_consistent(&world.database());
            }
        },
    );
}

fn bad_item(item: Value) -> Fault {
    Fault::BadItem(3, keydrift::sim::BadItem::Instead(item))
}

#[test]
fn secrets_in_what_keys_are_called_are_masked_and_told() {
    let world = World::new(30);
    let own = world.organization().credential();
    let leaked = "sk-proj-LEAKEDabcdefghijklmnopqrstuvwxyz0123456789";
    let ids = world.some_ids(4);
    world.organization().with(|organization| {
        organization.rename(&ids[0], &format!("prod {leaked} (old)"));
        organization.set_field(&ids[1], "owner.name", own.clone());
        organization.set_field(
            &ids[2],
            "notes",
            json!({ "deep": [leaked, { own.clone(): leaked }] }),
        );
        organization.set_field(&ids[3], leaked, "a field's name");
    });
    let loud = world.keydrift(&["sync", "-vvv"]).env("RUST_LOG", "trace").succeeds();
    oracle::check_consistent(&world.database());
    for secret in [own.as_str(), leaked] {
        is_nowhere(&world, Some(&loud), secret, "a key's fields");
    }
    let notice = world.last_run()["notice"].as_str().unwrap().to_owned();
    for field in ["name", "owner_name"] {
        assert!(
            notice.contains(&format!("masked what looks like a secret in `{field}`")),
            "{notice}"
        );
    }
    let name = format!("select name from current_keys where key_id = '{}'", ids[0]);
    let name = sql::value(&world.database(), &name);
    let name = name.as_str().unwrap();
    assert!(name.starts_with("prod ") && name.ends_with(" (old)"), "{name}");
    // Every other command shows the same.
    for arguments in [&["keys"][..], &["log"], &["runs"], &["show", &ids[0]]] {
        for format in ["table", "json", "csv"] {
            let ran = world.keydrift(arguments).args(["--format", format]).succeeds();
            for secret in [own.as_str(), leaked] {
                is_nowhere(&world, Some(&ran), secret, "a listing");
            }
        }
    }
}

/// A sync that has begun and waits for an answer that never comes.
struct Waiting {
    child: Child,
}

impl Waiting {
    fn begin(world: &World, mut command: Keydrift) -> Self {
        world.organization().fault(Matcher::list().from(2), Fault::Hang);
        let (in_hand, asked) = std::sync::mpsc::channel();
        world.organization().before_list(2, move |_| in_hand.send(()).expect("we wait for it"));
        let child = command.command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        asked.recv_timeout(std::time::Duration::from_secs(30)).expect("a second page is asked for");
        Self { child }
    }

    fn proc(&self, file: &str) -> Vec<u8> {
        fs::read(format!("/proc/{}/{file}", self.child.id())).unwrap_or_default()
    }

    fn end(mut self, signal: Signal) -> std::process::ExitStatus {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
        self.child.wait().unwrap()
    }
}

#[test]
fn the_credential_is_in_no_argument_and_with_a_file_in_no_variable() {
    let world = World::new(250);
    let credential = world.organization().credential();
    let path = write(&world, "admin.key", &credential, 0o600);
    let command = sync_without(&world).env("OPENAI_ADMIN_KEY_FILE", path).arg("-vvv");
    let waiting = Waiting::begin(&world, command);
    let contains = |bytes: &[u8], text: &str| {
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    };
    let line = waiting.proc("cmdline");
    assert!(contains(&line, "sync"), "the line is there");
    assert!(!contains(&line, &credential));
    let environ = waiting.proc("environ");
    assert!(environ.is_empty() || contains(&environ, "OPENAI_ADMIN_KEY_FILE"));
    assert!(!contains(&environ, &credential));
    // What it would leave if it were killed now.
    waiting.end(Signal::KILL);
    is_nowhere(&world, None, &credential, "a killed sync");
    world.organization().clear_faults();
    world.sync();
}

#[test]
fn the_process_leaves_no_core_dump_and_lets_nobody_look_in() {
    let unlimited = |program: &Path| {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "ulimit -c unlimited; exec \"$0\" \"$@\""]).arg(program);
        command
    };
    let world = World::new(250);
    let begin = |program: &Path, arguments: &[&str]| {
        let mut command = Keydrift::new(world.path());
        let mut shell = unlimited(program);
        shell.args(arguments).current_dir(world.path()).stdin(Stdio::null());
        command.command = shell;
        command
            .env("OPENAI_ADMIN_KEY", world.organization().credential())
            .env("OPENAI_BASE_URL", world.server.base_url())
            .arg("--database")
            .arg(world.database())
    };
    let ours = begin(Path::new(env!("CARGO_BIN_EXE_keydrift")), &["sync"]);
    let waiting = Waiting::begin(&world, ours);
    let pid = waiting.child.id();
    // The kernel gives what is of a process that cannot be dumped to root.
    let owner =
        std::os::unix::fs::MetadataExt::uid(&fs::metadata(format!("/proc/{pid}/mem")).unwrap());
    assert_eq!(owner, 0);
    let status = waiting.end(Signal::ABORT);
    assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()));
    assert!(!status.core_dumped(), "a core dump would hold the credential");
}
