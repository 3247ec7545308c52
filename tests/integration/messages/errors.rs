//! Every error: what happened, to what, what to do next.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use keydrift::sim::{
    Access, BadItem, Endpoint, ErrorBody, Fault, LoggedRequest, Matcher, Organization,
};
use serde_json::json;

use super::{error, stable};
use crate::support::{History, Keydrift, World, sql};

/// The error of a command line on an eventful history.
#[track_caller]
fn misuse(args: &[&str]) -> String {
    let world = History::eventful().world;
    error(&world, &world.keydrift(args).exits(2))
}

#[test]
fn times_that_are_none() {
    insta::assert_snapshot!(misuse(&["log", "--since", "last week"]), @"
    error: `--since`: `last week` cannot be read
      caused by: not a time: expected RFC 3339 (`2026-11-23T12:29:00Z`), a date or a time in UTC (`2026-10-01`, `2026-10-01T12:00`), `now`, `today`, `yesterday` (from 00:00 UTC), or how long ago (`7d`, `12h`, `90m`)
    ");
    insta::assert_snapshot!(misuse(&["keys", "--stale", "90"]), @"
    error: `--stale`: `90` cannot be read
      caused by: not a duration: expected a number with its unit, such as `30s`, `15m`, `12h` or `90d`
    ");
    insta::assert_snapshot!(misuse(&["diff", "2026-10-05", "2026-10-04"]), @"
    error: `2026-10-05T00:00:00Z` is after `2026-10-04T00:00:00Z`
    hint: name the earlier time first
    ");
}

#[test]
fn organizations_that_are_none() {
    insta::assert_snapshot!(misuse(&["keys", "--organization", "acme"]), @"
    error: there is no organization `acme`
    hint: known: default
    ");
    insta::assert_snapshot!(misuse(&["sync", "--organization", "acme"]), @"
    error: there is no organization `acme`
    hint: known: default
    ");
    insta::assert_snapshot!(misuse(&["sync", "--accept", "acme"]), @"
    error: there is no organization `acme`
    hint: known: default
    ");
}

#[test]
fn keys_that_are_none_or_several() {
    let world = History::eventful().world;
    let shown = |text: &str| error(&world, &world.keydrift(&["show", text]).exits(1));
    insta::assert_snapshot!(shown("nobody"), @"
    error: no key has the id, the beginning of an id, the name or the end of a value `nobody`
    hint: `keydrift keys` and `keydrift keys --removed` list all there are
    ");
    insta::assert_snapshot!(shown("key_"), @"
    error: `key_` may mean 5 keys: default/key_main, default/key_deploy, default/key_own, default/key_quick, default/key_billing
    hint: write the whole id, and `--organization NAME` if two have it
    ");
}

#[test]
fn times_of_which_nothing_is_known() {
    let world = History::eventful().world;
    let ran = world.keydrift(&["keys", "--as-of", "2026-09-01"]).exits(1);
    insta::assert_snapshot!(error(&world, &ran), @"
    error: nothing is known of the time before 2026-10-01T08:00:00Z
    hint: ask for a later time
    ");
    let world = World::new(1);
    world.keydrift(&["sync"]).env("OPENAI_ADMIN_KEY", "sk-admin-unknown").exits(1);
    let ran = world.keydrift(&["diff", "1h", "now"]).exits(1);
    insta::assert_snapshot!(error(&world, &ran), @"
    error: nothing is known yet: no sync has succeeded so far
    hint: `keydrift runs` tells why; run `keydrift sync`
    ");
}

fn config(path: &Path) -> String {
    format!("--config={}", path.display())
}

/// The error of `config check` with this configuration file.
#[track_caller]
fn configuration(text: &str) -> String {
    let world = World::new(1);
    let path = world.path().join("keydrift.toml");
    fs::write(&path, text).unwrap();
    let ran = world.keydrift(&["config", "check"]).arg(config(&path)).exits(2);
    stable(&world, &ran.stderr)
}

#[test]
fn configurations_that_are_wrong() {
    insta::assert_snapshot!(configuration("[api]\npage_sise = 100\n"), @"
    error: unknown setting `api.page_sise` (in `DIR/keydrift.toml:2`)
    hint: did you mean `api.page_size`?
    ");
    insta::assert_snapshot!(configuration("[api]\npage_size = \"many\"\n"), @"
    error: `api.page_size` must be a whole number from 1 to 1000 (set by `DIR/keydrift.toml:2`)
    ");
    insta::assert_snapshot!(configuration("[apis]\n"), @"
    error: unknown section `[apis]` (in `DIR/keydrift.toml:1`)
    hint: did you mean `[api]`?
    ");
    insta::assert_snapshot!(configuration("[api\n"), @"
    error: the configuration file `DIR/keydrift.toml` is not TOML: line 1, column 5: unclosed table, expected `]`
    ");
    insta::assert_snapshot!(configuration("[organizations.acme]\nadmin_key = \"sk-admin-x\"\n"), @"
    error: `organizations.acme.admin_key` holds a credential, which has no place there (set by `DIR/keydrift.toml:2`)
    hint: write the admin key into a file of mode 600 and set `organizations.acme.admin_key_file` to its path
    ");
    insta::assert_snapshot!(configuration("[organizations.Acme]\n"), @"
    error: `Acme` is not a name for an organization: it must begin with a-z or 0-9 and hold only a-z, 0-9, `_` and `-`, 63 at most (set by `DIR/keydrift.toml:1`)
    ");
    insta::assert_snapshot!(configuration("[organizations.acme]\nbase_url = \"http://example.com\"\n"), @"
    error: `organizations.acme.base_url` must begin with `https://` (`http://` only to localhost, 127.0.0.0/8 or [::1]) (set by `DIR/keydrift.toml:2`)
    ");
    insta::assert_snapshot!(
        configuration("[api]\npage_sise = 1\nrun_deadline = \"soon\"\n[removal]\nguard_percent = 101\n"),
        @r#"
    error: the configuration has 3 problems:
      - unknown setting `api.page_sise` (in `DIR/keydrift.toml:2`); did you mean `api.page_size`?
      - `api.run_deadline` must be a duration from 100ms to 1d, such as "30s" or "15m" (set by `DIR/keydrift.toml:3`)
      - `removal.guard_percent` must be a whole number from 0 to 100 (set by `DIR/keydrift.toml:5`)
    "#
    );
}

#[test]
fn configuration_files_that_cannot_be_read() {
    let world = World::new(1);
    let ran = world.keydrift(&["keys", "--config=/nowhere/keydrift.toml"]).exits(2);
    insta::assert_snapshot!(error(&world, &ran), @"
    error: could not read the configuration file `/nowhere/keydrift.toml`
      caused by: No such file or directory (os error 2)
    hint: check the path given with `--config` or KEYDRIFT_CONFIG
    ");
    let ran = world.keydrift(&["keys"]).arg(config(world.path())).exits(2);
    insta::assert_snapshot!(error(&world, &ran), @"
    error: could not read the configuration file `DIR`
      caused by: Is a directory (os error 21)
    hint: name a TOML file with `--config` or KEYDRIFT_CONFIG
    ");
    let ran = Keydrift::new(world.path()).without_env("HOME").arg("keys").exits(2);
    insta::assert_snapshot!(error(&world, &ran), @"
    error: there is no directory for the database
    hint: pass `--database FILE`, or set `KEYDRIFT__DATABASE__PATH` or HOME
    ");
}

#[test]
fn credentials_that_are_missing_or_wrong() {
    let world = World::new(1);
    let with = |name: &str, value: &str| {
        let ran =
            world.keydrift(&["sync"]).without_env("OPENAI_ADMIN_KEY").env(name, value).exits(2);
        error(&world, &ran)
    };
    let file = |name: &str, text: &str, mode: u32| {
        let path = world.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.display().to_string()
    };
    let variable = "OPENAI_ADMIN_KEY_FILE";
    insta::assert_snapshot!(with("UNRELATED", "x"), @"
    error: there is no credential for organization `default`
    hint: set `organizations.default.admin_key_file`, OPENAI_ADMIN_KEY_FILE or OPENAI_ADMIN_KEY, or give the systemd credential `openai-admin-key.default` or `openai-admin-key`
    ");
    insta::assert_snapshot!(with("OPENAI_ADMIN_KEY", "sk-proj-abc"), @"
    error: the credential in variable `OPENAI_ADMIN_KEY` is a project API key, not an admin key
    hint: an owner of the organization can create an admin key, with read-only permission, at https://platform.openai.com/settings/organization/admin-keys
    ");
    insta::assert_snapshot!(with("OPENAI_ADMIN_KEY", "two words"), @"
    error: the credential in variable `OPENAI_ADMIN_KEY` has white space or control characters in it
    hint: it must be the admin key alone, on one line
    ");
    insta::assert_snapshot!(with(variable, "/nowhere/admin.key"), @"
    error: could not read the credential file `/nowhere/admin.key`
      caused by: No such file or directory (os error 2)
    hint: write the admin key into it, with mode 600, or correct the path
    ");
    insta::assert_snapshot!(with(variable, &file("open.key", "sk-admin-x", 0o644)), @"
    error: the credential file `DIR/open.key` can be read by every user (mode 644)
    hint: run `chmod 600 DIR/open.key`
    ");
    insta::assert_snapshot!(with(variable, &file("empty.key", "\n", 0o600)), @"
    error: the credential in file `DIR/empty.key` is empty
    hint: it must be the admin key alone, on one line
    ");
    insta::assert_snapshot!(with(variable, "sk-admin-in-the-wrong-variable"), @"
    error: `OPENAI_ADMIN_KEY_FILE` holds a credential, not the path of a file
    hint: set OPENAI_ADMIN_KEY to the key, or OPENAI_ADMIN_KEY_FILE to a file that holds it
    ");
    insta::assert_snapshot!(with(variable, "."), @"
    error: the credential file `.` is a directory, not a regular file
    hint: name a file that can be read again for each run
    ");
}

#[test]
fn a_check_of_the_configuration_reads_the_credentials() {
    let world = World::new(1);
    let write = |name: &str, text: &str, mode| {
        let path = world.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    write("good.key", "sk-admin-good\n", 0o600);
    write("open.key", "sk-admin-x", 0o644);
    write("empty.key", "", 0o600);
    write("project.key", "sk-proj-abc", 0o600);
    write("blank.key", "sk-admin two", 0o600);
    fs::create_dir(world.path().join("directory.key")).unwrap();
    let check = |files: &[&str]| {
        let path = world.path().join("keydrift.toml");
        let table =
            |file: &&str| format!("[organizations.{file}]\nadmin_key_file = \"{file}.key\"\n");
        fs::write(&path, files.iter().map(table).collect::<String>()).unwrap();
        let ran = world.keydrift(&["config", "check"]).arg(config(&path)).exits(2);
        assert!(ran.stdout.starts_with("SETTING "), "{ran}");
        stable(&world, &ran.stderr)
    };
    insta::assert_snapshot!(check(&["good", "missing"]), @"
    error: the credential of organization `missing` cannot be used
      caused by: could not read the credential file `DIR/missing.key`: No such file or directory (os error 2)
    hint: write the admin key into it, with mode 600, or correct the path
    ");
    insta::assert_snapshot!(check(&["good", "open"]), @"
    error: the credential of organization `open` cannot be used
      caused by: the credential file `DIR/open.key` can be read by every user (mode 644)
    hint: run `chmod 600 DIR/open.key`
    ");
    let several = check(&["missing", "open", "good", "empty", "project", "blank", "directory"]);
    insta::assert_snapshot!(several, @"
    error: 6 credentials cannot be used:
      - organization `blank`: the credential in file `DIR/blank.key` has white space or control characters in it; it must be the admin key alone, on one line
      - organization `directory`: the credential file `DIR/directory.key` is a directory, not a regular file; name a file that can be read again for each run
      - organization `empty`: the credential in file `DIR/empty.key` is empty; it must be the admin key alone, on one line
      - organization `missing`: could not read the credential file `DIR/missing.key`: No such file or directory (os error 2); write the admin key into it, with mode 600, or correct the path
      - organization `open`: the credential file `DIR/open.key` can be read by every user (mode 644); run `chmod 600 DIR/open.key`
      - organization `project`: the credential in file `DIR/project.key` is a project API key, not an admin key; an owner of the organization can create an admin key, with read-only permission, at https://platform.openai.com/settings/organization/admin-keys
    ");
}

/// The error of a sync of a known organization while something goes wrong.
#[track_caller]
fn api(when: Matcher, fault: Fault) -> String {
    let world = World::new(120);
    world.keydrift(&["sync"]).succeeds();
    world.organization().clear_requests();
    world.organization().fault(when, fault);
    let sync = world.keydrift(&["sync"]).env("KEYDRIFT__API__MAX_ATTEMPTS", "1");
    // So that it is known which request is which.
    let ran = sync.env("KEYDRIFT__API__SCAN", "sequential").exits(1);
    let requests = world.organization().requests();
    let mut text = error(&world, &ran);
    // The request that is named is one that was made.
    let of_keys =
        |request: &&LoggedRequest| matches!(request.endpoint, Endpoint::List | Endpoint::Retrieve);
    for (at, request) in requests.iter().filter(of_keys).enumerate() {
        text = text.replace(&request.request_id, &format!("REQUEST {}", at + 1));
    }
    assert!(!text.contains("req_"), "{text}");
    text
}

#[test]
fn answers_that_refuse() {
    let world = World::new(3);
    let refused = |secret: &str, access: Option<Access>| {
        world.organization().clear_requests();
        if let Some(access) = access {
            world.organization().with(|organization| organization.set_access(secret, access));
        }
        let ran = world.keydrift(&["sync"]).env("OPENAI_ADMIN_KEY", secret).exits(1);
        let request = &world.organization().requests()[0].request_id;
        error(&world, &ran).replace(request, "REQUEST")
    };
    insta::assert_snapshot!(refused("sk-admin-unknown-0123456789", None), @"
    error: could not sync organization `default`
      caused by: page 1 of the admin keys was refused with status 401 (request REQUEST): Incorrect API key provided: sk-admin***************6789. You can find your API key at https://platform.openai.com/account/api-keys
    hint: the credential is not an admin key of the organization, or it was revoked: owners make new ones at https://platform.openai.com/settings/organization/admin-keys
    ");
    insta::assert_snapshot!(refused("sk-admin-revoked-0123456789", Some(Access::Revoked)), @"
    error: could not sync organization `default`
      caused by: page 1 of the admin keys was refused with status 401 (request REQUEST): Incorrect API key provided: sk-admin***************6789. You can find your API key at https://platform.openai.com/account/api-keys
    hint: the credential is not an admin key of the organization, or it was revoked: owners make new ones at https://platform.openai.com/settings/organization/admin-keys
    ");
    insta::assert_snapshot!(refused("sk-none-project-0123456789", Some(Access::ProjectKey)), @"
    error: could not sync organization `default`
      caused by: page 1 of the admin keys was refused with status 401 (request REQUEST): This endpoint requires an admin API key, and the key provided is a project API key. You can create an admin API key at https://platform.openai.com/settings/organization/admin-keys
    hint: the credential is not an admin key of the organization, or it was revoked: owners make new ones at https://platform.openai.com/settings/organization/admin-keys
    ");
    let missing = Access::MissingScopes { status: 403 };
    insta::assert_snapshot!(refused("sk-admin-scopeless-123456789", Some(missing)), @"
    error: could not sync organization `default`
      caused by: page 1 of the admin keys was refused with status 403 (request REQUEST): the credential lacks the scope `api.management.read`
    hint: create a new admin key with read-only permission and use that: editing the scopes of an existing key often does not take
    ");
}

#[test]
fn a_refused_systemd_credential_is_a_copy() {
    let world = World::new(3);
    fs::write(world.path().join("openai-admin-key"), "sk-admin-replaced-0123456789").unwrap();
    let ran = world
        .keydrift(&["sync"])
        .without_env("OPENAI_ADMIN_KEY")
        .env("CREDENTIALS_DIRECTORY", world.path())
        .exits(1);
    let request = &world.organization().requests()[0].request_id;
    insta::assert_snapshot!(error(&world, &ran).replace(request, "REQUEST"), @"
    error: could not sync organization `default`
      caused by: page 1 of the admin keys was refused with status 401 (request REQUEST): Incorrect API key provided: sk-admin****************6789. You can find your API key at https://platform.openai.com/account/api-keys
    hint: the credential is not an admin key of the organization, or it was revoked: owners make new ones at https://platform.openai.com/settings/organization/admin-keys; if it was replaced, `systemctl restart` the service, whose systemd credential `openai-admin-key` is a copy made at start
    ");
}

#[test]
fn answers_that_fail() {
    let list = Matcher::list;
    let second = Matcher::list().nth(2);
    insta::assert_snapshot!(api(list(), Fault::status(500)), @"
    error: could not sync organization `default`
      caused by: page 1 of the admin keys failed with status 500 (request REQUEST 1): The server had an error while processing your request
    hint: nothing was changed: try again later
    ");
    insta::assert_snapshot!(api(second.clone(), Fault::status_with(502, ErrorBody::Html)), @"
    error: could not sync organization `default`
      caused by: page 2 of the admin keys failed with status 502 (request REQUEST 2): an HTML page (title `502`)
    hint: nothing was changed: try again later
    ");
    insta::assert_snapshot!(api(second.clone(), Fault::status(429)), @"
    error: could not sync organization `default`
      caused by: page 2 of the admin keys was refused with status 429 (request REQUEST 2): The server had an error while processing your request
    hint: nothing was changed: try again later
    ");
    insta::assert_snapshot!(
        api(list(), Fault::status(429).with_header("retry-after", "86400")).replace(char::is_numeric, "0"),
        @"
    error: could not sync organization `default`
      caused by: deferred until 0000-00-00T00:00:00Z, as the API asks: page 0 of the admin keys was refused with status 000 (request REQUEST 0): The server had an error while processing your request
    hint: nothing was changed: try again later
    "
    );
    insta::assert_snapshot!(api(list(), Fault::status(404)), @"
    error: could not sync organization `default`
      caused by: page 1 of the admin keys was refused with status 404 (request REQUEST 1): The server had an error while processing your request
    hint: check the base URL: it is used as it stands, and `/v1` is not added to it
    ");
    insta::assert_snapshot!(api(list(), Fault::status_with(403, ErrorBody::Empty)), @"
    error: could not sync organization `default`
      caused by: page 1 of the admin keys was refused with status 403 (request REQUEST 1): without a message
    hint: the credential may not list admin keys: use an admin key with read-only permission, made by an owner of the organization
    ");
    insta::assert_snapshot!(api(list(), Fault::redirect(302, "https://login.example/")), @"
    error: could not sync organization `default`
      caused by: page 1 of the admin keys was answered with a redirect (request REQUEST 1) to `login.example`, which is not followed
    hint: check the base URL: it must be the API itself, with its `/v1`, not a page or a login in front of it
    ");
    insta::assert_snapshot!(api(list(), Fault::no_content()), @"
    error: could not sync organization `default`
      caused by: page 1 of the admin keys was answered with status 204 (request REQUEST 1), not with 200
    hint: nothing was changed: try again, and if it lasts, ask the provider about that request
    ");
    insta::assert_snapshot!(api(second.clone(), Fault::CutBody), @"
    error: could not sync organization `default`
      caused by: the answer to page 2 of the admin keys was cut short (request REQUEST 2): end of file before message length reached
    hint: nothing was changed: try again later
    ");
    insta::assert_snapshot!(api(list(), Fault::ResetConnection), @"
    error: could not sync organization `default`
      caused by: could not reach the API for page 1 of the admin keys: Connection reset by peer (os error 104)
    hint: check the network and the base URL; proxies of the environment are not used, set `api.proxy`
    ");
}

#[test]
fn answers_that_are_no_list_of_keys() {
    let list = Matcher::list;
    let second = || Matcher::list().nth(2);
    insta::assert_snapshot!(api(second(), Fault::ContentType(Some("text/html".to_owned()))), @"
    error: could not sync organization `default`
      caused by: page 2 of the admin keys was answered (request REQUEST 2) with content type `text/html` instead of JSON
    hint: check the base URL: it must be the API itself, with its `/v1`, not a page or a login in front of it
    ");
    insta::assert_snapshot!(api(second(), Fault::WrongJson), @"
    error: could not sync organization `default`
      caused by: the answer to page 2 of the admin keys was cut short (request REQUEST 2): its JSON breaks off after 3828 bytes
    hint: nothing was changed: try again later
    ");
    insta::assert_snapshot!(api(second(), Fault::HugeBody(9 << 20)), @"
    error: could not sync organization `default`
      caused by: the answer to page 2 of the admin keys is larger than 8388608 bytes (request REQUEST 2)
    hint: nothing was changed: try again, and if it lasts, ask the provider about that request
    ");
    insta::assert_snapshot!(api(list(), Fault::MissingData), @"
    error: could not sync organization `default`
      caused by: page 1 of the admin keys is not a list of keys (request REQUEST 1): it has no `data`
    hint: nothing was changed: try again, and if it lasts, ask the provider about that request
    ");
    insta::assert_snapshot!(api(list(), Fault::DataInstead(json!("none"))), @"
    error: could not sync organization `default`
      caused by: page 1 of the admin keys is not a list of keys (request REQUEST 1): `data` is not an array
    hint: nothing was changed: try again, and if it lasts, ask the provider about that request
    ");
    insta::assert_snapshot!(api(list(), Fault::BadItem(4, BadItem::WithoutId)), @"
    error: could not sync organization `default`
      caused by: item 5 of page 1 of the admin keys is not a key (request REQUEST 1): it has no `id`
    hint: nothing was changed: try again, and if it lasts, ask the provider about that request
    ");
    insta::assert_snapshot!(api(list(), Fault::BadItem(4, BadItem::EmptyId)), @"
    error: could not sync organization `default`
      caused by: item 5 of page 1 of the admin keys is not a key (request REQUEST 1): its `id` is empty
    hint: nothing was changed: try again, and if it lasts, ask the provider about that request
    ");
    insta::assert_snapshot!(api(list(), Fault::BadItem(4, BadItem::Instead(json!(7)))), @"
    error: could not sync organization `default`
      caused by: item 5 of page 1 of the admin keys is not a key (request REQUEST 1): it is not an object
    hint: nothing was changed: try again, and if it lasts, ask the provider about that request
    ");
}

#[test]
fn lists_that_cannot_be_followed() {
    let world_ids = |text: String| {
        // The ids of the generated keys are long and of no interest.
        let words = text.split('`').map(|word| if word.starts_with("key_") { "KEY" } else { word });
        words.collect::<Vec<_>>().join("`")
    };
    let second = || Matcher::list().from(2);
    insta::assert_snapshot!(world_ids(api(second(), Fault::EmptyPageWithMore)), @"
    error: could not sync organization `default`
      caused by: the list could not be followed past its start: at page 11 of the admin keys (request REQUEST 11), the page is empty although more keys were promised, and going back did not help
    hint: nothing was changed: try again later
    ");
    insta::assert_snapshot!(world_ids(api(second(), Fault::FromTheBeginning)), @"
    error: could not sync organization `default`
      caused by: the list could not be followed past key `KEY`: at page 32 of the admin keys (request REQUEST 32), the page begins with an older key than its cursor, and going back did not help
    hint: nothing was changed: try again later
    ");
    insta::assert_snapshot!(world_ids(api(Matcher::list(), Fault::OtherOrder)), @"
    error: could not sync organization `default`
      caused by: page 1 of the admin keys lists the newest key first although the oldest was asked for (request REQUEST 1)
    hint: nothing was changed: try again, and if it lasts, ask the provider about that request
    ");
    let mixed = Fault::OrganizationHeader(Some("org-other".to_owned()));
    let text = api(Matcher::list().nth(2), mixed);
    let ours = Organization::generate(7, 120).organization_id().unwrap().to_owned();
    insta::assert_snapshot!(text.replace(&ours, "ORGANIZATION"), @"
    error: could not sync organization `default`
      caused by: page 2 of the admin keys came from organization `org-other`, the pages before it from `ORGANIZATION` (request REQUEST 2)
    hint: nothing was changed: try again, and if it lasts, ask the provider about that request
    ");
}

#[test]
fn runs_that_are_held_or_refused() {
    let world = World::new(40);
    world.keydrift(&["sync"]).succeeds();
    for _ in 0..20 {
        world.organization().fault(Matcher::list(), Fault::DropItem(1));
    }
    world.organization().fault(Matcher::retrieve(), Fault::status(400));
    let ran = world.keydrift(&["sync"]).exits(1);
    insta::assert_snapshot!(error(&world, &ran), @"
    error: the sync of organization `default` is held, nothing was changed
      caused by: 20 of 40 keys are missing and could not be confirmed gone; 12 would pass (`removal.guard_keys`, `removal.guard_percent`)
    hint: `keydrift runs --organization default --limit 1 --format json` names the keys (`missing`); if they are gone, run `keydrift sync --accept default`
    ");
    world.organization().clear_faults();
    world.organization().with(|organization| {
        let gone: Vec<String> = organization.ids().take(4).map(str::to_owned).collect();
        for id in &gone {
            assert!(organization.remove(id));
        }
    });
    let ran = world.keydrift(&["sync"]).env("KEYDRIFT__REMOVAL__CONFIRM_LIMIT", "2").exits(1);
    insta::assert_snapshot!(error(&world, &ran), @"
    error: the sync of organization `default` is held, nothing was changed
      caused by: 4 of 40 keys are missing, more than the 2 that may be looked up (`removal.confirm_limit`)
    hint: `keydrift runs --organization default --limit 1 --format json` names the keys (`missing`); if they are gone, run `keydrift sync --accept default`
    ");

    let ours = world
        .organization()
        .with(|organization| organization.organization_id().unwrap().to_owned());
    let other = Organization::generate(8, 12);
    let secret = other.credential().to_owned();
    let theirs = other.organization_id().unwrap().to_owned();
    world.organization().host(other);
    let ran = world.keydrift(&["sync"]).env("OPENAI_ADMIN_KEY", &secret).exits(1);
    let text = error(&world, &ran).replace(&ours, "OURS").replace(&theirs, "THEIRS");
    insta::assert_snapshot!(text, @"
    error: refused to sync organization `default`: this looks like another one
      caused by: the answers come from organization `THEIRS`, not from `OURS` as before, and only 0 of 40 known keys are in the list
    hint: check which organization the credential of `default` belongs to; if the list is right, run `keydrift sync --accept default`
    ");

    let world = World::new(3);
    world.keydrift(&["sync"]).succeeds();
    let ran = world.keydrift(&["sync", "--accept", "default"]).exits(1);
    insta::assert_snapshot!(error(&world, &ran), @"
    error: there is no held or refused run to accept since the last good one
    hint: run `keydrift sync` without `--accept`
    ");
}

#[test]
fn an_api_that_is_not_there() {
    let world = World::new(1);
    // A port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ran = world
        .keydrift(&["sync"])
        .env("OPENAI_BASE_URL", format!("http://{free}/v1"))
        .env("KEYDRIFT__API__MAX_ATTEMPTS", "1")
        .exits(1);
    insta::assert_snapshot!(error(&world, &ran), @"
    error: could not sync organization `default`
      caused by: could not reach the API for page 1 of the admin keys: Connection refused (os error 111)
    hint: check the network and the base URL; proxies of the environment are not used, set `api.proxy`
    ");
    world.organization().fault(Matcher::list(), Fault::Hang);
    let ran = world
        .keydrift(&["sync"])
        .env("KEYDRIFT__API__MAX_ATTEMPTS", "1")
        .env("KEYDRIFT__API__READ_TIMEOUT", "200ms")
        .exits(1);
    insta::assert_snapshot!(error(&world, &ran), @"
    error: could not sync organization `default`
      caused by: page 1 of the admin keys was not answered in time
    hint: nothing was changed: try again later
    ");
    let ran = world.keydrift(&["sync"]).env("KEYDRIFT__API__RUN_DEADLINE", "300ms").exits(1);
    insta::assert_snapshot!(error(&world, &ran), @"
    error: could not sync organization `default`
      caused by: the run's time of 300ms was over at page 1 of the admin keys
    hint: raise `api.run_deadline` if the organization is large
    ");
}

#[test]
fn databases_that_cannot_be_used() {
    let world = World::new(1);
    let with = |command: &str, path: &str| {
        let ran = Keydrift::new(world.path())
            .env("OPENAI_ADMIN_KEY", world.organization().credential())
            .env("OPENAI_BASE_URL", world.server.base_url())
            .env("KEYDRIFT__DATABASE__LOCK_TIMEOUT", "0s")
            .args([command, "--database", path])
            .exits(1);
        error(&world, &ran)
    };
    insta::assert_snapshot!(with("keys", "missing.db"), @"
    error: there is no database at `missing.db`
    hint: run `keydrift sync` first, or name the file with `--database`
    ");
    insta::assert_snapshot!(with("sync", "nowhere/keys.db"), @"
    error: the database `nowhere/keys.db` cannot be opened
      caused by: No such file or directory (os error 2)
    hint: check that the directory of `nowhere/keys.db` is there and yours to use
    ");
    insta::assert_snapshot!(with("keys", "."), @"
    error: the database `.` cannot be opened
      caused by: is a directory
    hint: name a file with `--database` or the setting `database.path`
    ");
    insta::assert_snapshot!(with("sync", "."), @"
    error: the database `.` cannot be opened
      caused by: is a directory
    hint: name a file with `--database` or the setting `database.path`
    ");
    fs::write(world.path().join("text.db"), "this is no database, but it is long enough to be one")
        .unwrap();
    insta::assert_snapshot!(with("keys", "text.db"), @"
    error: `text.db` is no SQLite database
    hint: name another file with `--database` or the setting `database.path`; this one was left as it is
    ");
    insta::assert_snapshot!(with("sync", "text.db"), @"
    error: `text.db` is no SQLite database
    hint: name another file with `--database` or the setting `database.path`; this one was left as it is
    ");
    let other = world.path().join("other.db");
    fs::write(&other, "").unwrap();
    sql::rows(&other, "create table notes (text)");
    insta::assert_snapshot!(with("keys", "other.db"), @"
    error: `other.db` is a SQLite database, but not one of keydrift's
    hint: name another file with `--database` or the setting `database.path`; this one was left as it is
    ");
    insta::assert_snapshot!(with("sync", "other.db"), @"
    error: `other.db` is a SQLite database, but not one of keydrift's
    hint: name another file with `--database` or the setting `database.path`; this one was left as it is
    ");
    fs::write(world.path().join("empty.db"), "").unwrap();
    insta::assert_snapshot!(with("keys", "empty.db"), @"
    error: the database `empty.db` was written by an older keydrift (schema 0, this one reads NEWEST)
    hint: `keydrift sync` brings the file up to date; reading commands never change it
    ");
}

#[test]
fn a_database_that_another_sync_holds() {
    let world = World::new(1);
    world.keydrift(&["sync"]).succeeds();
    let wait = std::time::Duration::ZERO;
    let writer = sql::block_on(keydrift::store::Writer::open(&world.database(), wait, |_| {}));
    let ran = world.keydrift(&["sync"]).env("KEYDRIFT__DATABASE__LOCK_TIMEOUT", "0s").exits(1);
    let us = std::process::id().to_string();
    insta::assert_snapshot!(error(&world, &ran).replace(&us, "PID"), @"
    error: process PID is using the database `DIR/keys.db`
    hint: wait for it to end, or let this one wait longer with the setting `database.lock_timeout`
    ");
    // Readers do not care.
    world.keydrift(&["keys"]).succeeds();
    drop(writer);
    world.keydrift(&["sync"]).succeeds();
}

#[test]
fn a_database_that_is_damaged() {
    let world = World::new(200);
    world.keydrift(&["sync"]).succeeds();
    let mut bytes = fs::read(world.database()).unwrap();
    let from = bytes.len() / 8;
    bytes[from..].fill(0xa5);
    fs::write(world.database(), bytes).unwrap();
    insta::assert_snapshot!(error(&world, &world.keydrift(&["keys"]).exits(1)), @"
    error: the database `DIR/keys.db` is damaged
      caused by: error returned from database: (code: 11) database disk image is malformed
    hint: keep a copy of `DIR/keys.db` as it is, then restore a backup; `sqlite3 FILE 'pragma integrity_check'` says more
    ");
    insta::assert_snapshot!(error(&world, &world.keydrift(&["log"]).exits(1)), @"
    error: the database `DIR/keys.db` is damaged
      caused by: error returned from database: (code: 11) database disk image is malformed
    hint: keep a copy of `DIR/keys.db` as it is, then restore a backup; `sqlite3 FILE 'pragma integrity_check'` says more
    ");
}

#[test]
fn a_database_of_a_newer_version() {
    let world = World::new(1);
    world.keydrift(&["sync"]).succeeds();
    sql::rows(
        &world.database(),
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
         values (9999, 'from the future', 1, x'00', 0)",
    );
    insta::assert_snapshot!(error(&world, &world.keydrift(&["keys"]).exits(1)), @"
    error: the database `DIR/keys.db` was written by a newer keydrift (schema 9999, this one knows NEWEST)
    hint: use the newer keydrift; the file was left as it is
    ");
    insta::assert_snapshot!(error(&world, &world.keydrift(&["sync"]).exits(1)), @"
    error: the database `DIR/keys.db` was written by a newer keydrift (schema 9999, this one knows NEWEST)
    hint: use the newer keydrift; the file was left as it is
    ");
}

#[test]
fn a_full_standard_output() {
    let Ok(full) = fs::OpenOptions::new().write(true).open("/dev/full") else { return };
    let world = World::new(1);
    world.keydrift(&["sync"]).succeeds();
    let output = world.keydrift(&["keys"]).command.stdout(full).output().unwrap();
    insta::assert_snapshot!(String::from_utf8(output.stderr).unwrap(), @"
    error: could not write to standard output
      caused by: No space left on device (os error 28)
    ");
}

#[test]
fn the_demo_has_nowhere_to_listen() {
    let world = World::new(1);
    let home = tempfile::tempdir().unwrap();
    let ran = Keydrift::new(home.path()).args(["demo", "--serve", "0.0.0.0:8080"]).exits(2);
    insta::assert_snapshot!(error(&world, &ran), @"
    error: `0.0.0.0:8080` is not an address of this machine alone
    hint: the simulated organization listens on loopback only, such as `127.0.0.1:8080`
    ");
    let taken = world.server.addr().to_string();
    let ran = Keydrift::new(home.path()).args(["demo", "--serve", &taken]).exits(1);
    insta::assert_snapshot!(error(&world, &ran), @"
    error: could not listen on `ADDR` for the simulated organization
      caused by: Address already in use (os error 98)
    hint: name another port, or let one be found: `--serve 127.0.0.1:0`
    ");
}
