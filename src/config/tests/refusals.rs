//! What is refused, and that no message shows a value.

use super::*;
use proptest::prelude::*;

#[test]
fn all_problems_are_reported_at_once_without_any_value() {
    let setup = Setup::file(
        "top = 1\n[api]\npage_size = 0\npage_sze = 7\nmax_concurrency = \"many-SECRET\"\n\
         read_timeout = 30\nconnect_timeout = \"5\"\nmax_attempts = 2026-01-01\n\
         proxy = \"socks5://user:SECRET@host\"\ntls_ca_file = \"none.pem\"\n\
         [removal]\nguard_percent = 101\n[timetable]\ncron = \"SECRET\"\n[databse]\n\
         [organizations.Acme]\n[organizations.b]\nbase_url = \"http://SECRET.example\"\n\
         organization_id = \"SEC RET\"\nadmin_key_file = \"~/SECRET\"\n",
    )
    .with("KEYDRIFT__API__RUN_DEADLINE", "SECRET")
    .with("KEYDRIFT__API__PAGESIZE", "SECRET")
    .with("KEYDRIFT__ORGANIZATIONS__A.B__BASE_URL", "SECRET")
    .with("KEYDRIFT__XYZZY", "SECRET");
    let text = setup.problems();
    assert!(!text.contains("SECRET") && !text.contains("SEC RET"), "{text}");
    insta::assert_snapshot!(text, @r#"
    the configuration has 20 problems:
      - unknown setting `top` (in `DIR/keydrift.toml:1`); the sections are `database`, `checkpoint`, `api`, `removal`, `retention`, `findings`, `schedule`, `metrics`, `heartbeat`, `organizations`
      - unknown setting `api.page_sze` (in `DIR/keydrift.toml:4`); did you mean `api.page_size`?
      - unknown section `[timetable]` (in `DIR/keydrift.toml:13`); the sections are `database`, `checkpoint`, `api`, `removal`, `retention`, `findings`, `schedule`, `metrics`, `heartbeat`, `organizations`
      - unknown section `[databse]` (in `DIR/keydrift.toml:15`); did you mean `[database]`?
      - `Acme` is not a name for an organization: it must begin with a-z or 0-9 and hold only a-z, 0-9, `_` and `-`, 63 at most (set by `DIR/keydrift.toml:16`)
      - unknown variable `KEYDRIFT__API__PAGESIZE`; did you mean `KEYDRIFT__API__PAGE_SIZE`?
      - `a.b` is not a name for an organization: it must begin with a-z or 0-9 and hold only a-z, 0-9, `_` and `-`, 63 at most (set by `KEYDRIFT__ORGANIZATIONS__A.B__BASE_URL`)
      - unknown variable `KEYDRIFT__XYZZY`; the variables are KEYDRIFT__SECTION__KEY, the sections `database`, `checkpoint`, `api`, `removal`, `retention`, `findings`, `schedule`, `metrics`, `heartbeat`, `organizations`
      - `api.page_size` must be a whole number from 1 to 1000 (set by `DIR/keydrift.toml:3`)
      - `api.max_concurrency` must be a whole number from 1 to 64 (set by `DIR/keydrift.toml:5`)
      - `api.connect_timeout` must be a duration from 100ms to 5m, such as "30s" or "15m" (set by `DIR/keydrift.toml:7`)
      - `api.read_timeout` must be a duration from 100ms to 10m, such as "30s" or "15m" (set by `DIR/keydrift.toml:6`)
      - `api.run_deadline` must be a duration from 100ms to 1d, such as "30s" or "15m" (set by `KEYDRIFT__API__RUN_DEADLINE`)
      - `api.max_attempts` must be a whole number from 1 to 20 (set by `DIR/keydrift.toml:8`)
      - `api.proxy` must begin with `http://` or `https://` (set by `DIR/keydrift.toml:9`)
      - `api.tls_ca_file` (set by `DIR/keydrift.toml:10`): `DIR/none.pem` could not be read: No such file or directory (os error 2)
      - `removal.guard_percent` must be a whole number from 0 to 100 (set by `DIR/keydrift.toml:12`)
      - `organizations.b.base_url` must begin with `https://` (`http://` only to localhost, 127.0.0.0/8 or [::1]) (set by `DIR/keydrift.toml:18`)
      - `organizations.b.admin_key_file` must be written out: `~` is not expanded here (set by `DIR/keydrift.toml:20`)
      - `organizations.b.organization_id` must be 1 to 256 ASCII characters without white space (set by `DIR/keydrift.toml:19`)
    "#);
}

#[test]
fn an_unknown_setting_names_the_nearest_one() {
    let one = |file: &str| Setup::file(file).problems();
    insta::assert_snapshot!(one("[api]\npage_sze = 7"), @"
    unknown setting `api.page_sze` (in `DIR/keydrift.toml:2`)
    hint: did you mean `api.page_size`?
    ");
    insta::assert_snapshot!(one("[database]\npage_size = 7"), @"
    unknown setting `database.page_size` (in `DIR/keydrift.toml:2`)
    hint: did you mean `api.page_size`?
    ");
    insta::assert_snapshot!(one("page_size = 7"), @"
    unknown setting `page_size` (in `DIR/keydrift.toml:1`)
    hint: did you mean `api.page_size`?
    ");
    insta::assert_snapshot!(one("[Api]\npage_size = 7"), @"
    unknown section `[Api]` (in `DIR/keydrift.toml:1`)
    hint: did you mean `[api]`?
    ");
    insta::assert_snapshot!(one("[organizations.a]\nbase_ulr = \"\""), @"
    unknown setting `organizations.a.base_ulr` (in `DIR/keydrift.toml:2`)
    hint: did you mean `organizations.a.base_url`?
    ");
    insta::assert_snapshot!(one("[removal]\nxyzzy = 7"), @"
    unknown setting `removal.xyzzy` (in `DIR/keydrift.toml:2`)
    hint: the settings there are `guard_keys`, `guard_percent`, `confirm_limit`
    ");
    insta::assert_snapshot!(one("[xyzzy]"), @"
    unknown section `[xyzzy]` (in `DIR/keydrift.toml:1`)
    hint: the sections are `database`, `checkpoint`, `api`, `removal`, `retention`, `findings`, `schedule`, `metrics`, `heartbeat`, `organizations`
    ");
    insta::assert_snapshot!(one("\"api.page_size\" = 7"), @"
    unknown setting `api.page_size` (in `DIR/keydrift.toml:1`)
    hint: did you mean `api.page_size`?
    ");
    insta::assert_snapshot!(one("api = 7"), @"`api` must be a section, `[api]` (set by `DIR/keydrift.toml:1`)");
    insta::assert_snapshot!(one("[[organizations]]"), @"`organizations` must be a section, `[organizations.NAME]` (set by `DIR/keydrift.toml:1`)");
    insta::assert_snapshot!(one("[organizations]\nacme = 7"), @"`organizations.acme` must be a section, `[organizations.NAME]` (set by `DIR/keydrift.toml:2`)");
    let variable = |name| Setup::default().with(name, "7").problems();
    insta::assert_snapshot!(variable("KEYDRIFT__API__PAGESIZE"), @"
    unknown variable `KEYDRIFT__API__PAGESIZE`
    hint: did you mean `KEYDRIFT__API__PAGE_SIZE`?
    ");
    insta::assert_snapshot!(variable("KEYDRIFT__PAGE_SIZE"), @"
    unknown variable `KEYDRIFT__PAGE_SIZE`
    hint: did you mean `KEYDRIFT__API__PAGE_SIZE`?
    ");
    insta::assert_snapshot!(variable("KEYDRIFT__ORGANIZATIONS__ACME__BASE_ULR"), @"
    unknown variable `KEYDRIFT__ORGANIZATIONS__ACME__BASE_ULR`
    hint: did you mean `KEYDRIFT__ORGANIZATIONS__ACME__BASE_URL`?
    ");
    insta::assert_snapshot!(variable("KEYDRIFT__ORGANIZATIONS__BASE_URL"), @"
    unknown variable `KEYDRIFT__ORGANIZATIONS__BASE_URL`
    hint: did you mean `KEYDRIFT__ORGANIZATIONS__NAME__BASE_URL`?
    ");
    insta::assert_snapshot!(variable("KEYDRIFT__"), @"
    unknown variable `KEYDRIFT__`
    hint: the variables are KEYDRIFT__SECTION__KEY, the sections `database`, `checkpoint`, `api`, `removal`, `retention`, `findings`, `schedule`, `metrics`, `heartbeat`, `organizations`
    ");
}

#[test]
fn a_credential_in_the_wrong_place_is_refused_and_never_shown() {
    for file in [
        "[organizations.acme]\nadmin_key = \"sk-admin-SECRET\"",
        "[organizations]\nadmin_key = \"sk-admin-SECRET\"",
        "admin_key = \"sk-admin-SECRET\"",
        "[api]\nadmin_key = 5",
        "[api]\nxyzzy = \"sk-admin-SECRET\"",
        "[organizations.acme]\nadmin_key_file = \"sk-admin-SECRET\"",
        "[organizations.acme]\norganization_id = \"sk-admin-SECRET\"",
        "[database]\npath = \"sk-admin-SECRET\"",
        "[organizations.sk-admin-SECRET]",
        "[organizations.\"sk-admin-SECRET\"]\nx = 1",
        "[api]\nsk-admin-SECRET = 1",
        "admin_key = \"sk-admin-SECRET",
    ] {
        let text = Setup::file(file).problems();
        assert_ne!(text, "no problem", "{file}");
        assert!(!text.contains("SECRET"), "{file}: {text}");
    }
    let named = Setup::default().with("KEYDRIFT__ORGANIZATIONS__SK-ADMIN-SECRET__BASE_ULR", "x");
    assert!(!named.problems().to_lowercase().contains("secret"), "{}", named.problems());
    let key = "sk-admin-SECRET";
    let variable = Setup::default().with("KEYDRIFT__ORGANIZATIONS__ACME__ADMIN_KEY", key);
    insta::assert_snapshot!(variable.problems(), @"
    `KEYDRIFT__ORGANIZATIONS__ACME__ADMIN_KEY` holds a credential, which has no place there
    hint: write the admin key into a file of mode 600 and set `KEYDRIFT__ORGANIZATIONS__ACME__ADMIN_KEY_FILE` to its path
    ");
    let file = Setup::file("[organizations.acme]\nadmin_key = \"sk-admin-SECRET\"");
    insta::assert_snapshot!(file.problems(), @"
    `organizations.acme.admin_key` holds a credential, which has no place there (set by `DIR/keydrift.toml:2`)
    hint: write the admin key into a file of mode 600 and set `organizations.acme.admin_key_file` to its path
    ");
    let file = Setup::file("[organizations.acme]\nadmin_key_file = \"sk-admin-SECRET\"");
    insta::assert_snapshot!(file.problems(), @"
    `organizations.acme.admin_key_file` holds a credential, which has no place there (set by `DIR/keydrift.toml:2`)
    hint: write the admin key into a file of mode 600 and set `organizations.acme.admin_key_file` to its path
    ");
}

#[test]
fn a_file_that_is_no_toml_names_line_and_column_without_the_text() {
    insta::assert_snapshot!(Setup::file("[api]\npage_size = = 5").problems(), @"the configuration file `DIR/keydrift.toml` is not TOML: line 2, column 13: extra `=`, expected nothing");
    insta::assert_snapshot!(Setup::file("[api]\nproxy = \"http://u:SECRET").problems(), @r#"the configuration file `DIR/keydrift.toml` is not TOML: line 2, column 25: invalid basic string, expected `"`"#);
    insta::assert_snapshot!(Setup::file("[api]\n[api]\n").problems(), @"the configuration file `DIR/keydrift.toml` is not TOML: line 2, column 2: duplicate key");
    insta::assert_snapshot!(Setup::file(b"[api]\n# \xc3\xa9 \xff").problems(), @"the configuration file `DIR/keydrift.toml` is not UTF-8: line 2, column 5");
    insta::assert_snapshot!(Setup::file(vec![b'#'; (1 << 20) + 1]).problems(), @"the configuration file `DIR/keydrift.toml` is larger than 1 MiB");
}

#[test]
fn a_named_file_must_exist_and_the_flag_wins_over_the_variable() {
    let environment = Environment::from_iter([("KEYDRIFT_CONFIG", "/nowhere/a.toml")]);
    let flag = Some(Path::new("/nowhere/b.toml"));
    let text = |config_path| {
        let inputs = Inputs { config_path, database: None, environment: &environment };
        let error = load(&inputs).unwrap_err();
        format!("{error}\nhint: {}", error.hint().unwrap())
    };
    insta::assert_snapshot!(text(None), @"
    could not read the configuration file `/nowhere/a.toml`
    hint: check the path given with `--config` or KEYDRIFT_CONFIG
    ");
    assert!(text(flag).contains("/nowhere/b.toml"));
}

#[test]
fn a_directory_for_a_file_is_an_error() {
    let environment = Environment::default();
    let config_path = Some(Path::new("/"));
    let inputs = Inputs { config_path, database: None, environment: &environment };
    insta::assert_snapshot!(load(&inputs).unwrap_err(), @"could not read the configuration file `/`");
}

#[test]
fn a_text_that_is_not_utf8_is_an_error_of_its_variable() {
    use std::os::unix::ffi::OsStringExt;
    let value = std::ffi::OsString::from_vec(vec![b'a', 0xff]);
    let variables = [("KEYDRIFT__DATABASE__PATH".into(), value), ("HOME".into(), "/".into())];
    let environment =
        Environment::from_iter::<[(std::ffi::OsString, std::ffi::OsString); 2]>(variables);
    let inputs = Inputs { config_path: None, database: None, environment: &environment };
    insta::assert_snapshot!(load_with(&inputs, Path::new("/nowhere")).unwrap_err(), @"`database.path` must be the path of a file, in quotes (set by `KEYDRIFT__DATABASE__PATH`)");
}

#[test]
fn a_file_of_roots_must_hold_certificates() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("roots.pem");
    let setup = Setup::default().with("KEYDRIFT__API__TLS_CA_FILE", path.to_str().unwrap());
    let shown = || setup.problems().replace(directory.path().to_str().unwrap(), "DIR");
    insta::assert_snapshot!(shown(), @"`api.tls_ca_file` (set by `KEYDRIFT__API__TLS_CA_FILE`): `DIR/roots.pem` could not be read: No such file or directory (os error 2)");
    std::fs::write(&path, "no certificate").unwrap();
    insta::assert_snapshot!(shown(), @"`api.tls_ca_file` (set by `KEYDRIFT__API__TLS_CA_FILE`): `DIR/roots.pem` holds no certificate in PEM format (`-----BEGIN CERTIFICATE-----`)");
    std::fs::write(&path, "-----BEGIN CERTIFICATE-----\n").unwrap();
    assert_eq!(shown(), "no problem");
}

proptest! {
    #[test]
    fn no_file_makes_loading_panic_or_shows_its_values(text in "(\\[(api|removal|database|organizations|organizations\\.[a-z.]{1,3}|[a-z]{1,3})\\]\n|[a-z_\"]{1,4} = (\"SECRET\"|[0-9]{1,3}|\\[\"SECRET\"\\]|\\{ a = \"SECRET\" \\})\n|page_size = (\"SECRET\"|[0-9]{1,20})\n){0,8}") {
        if let Err(text) = Setup::file(text).load() {
            prop_assert!(!text.contains("SECRET"), "{}", text);
        }
    }

    #[test]
    fn a_number_is_taken_exactly_within_its_range(number in prop_oneof![0_u64..1_100, any::<u64>()]) {
        let text = number.to_string();
        let loaded = Setup::default().with("KEYDRIFT__API__PAGE_SIZE", &text).load();
        prop_assert_eq!(loaded.is_ok(), (1..=1000).contains(&number));
        let file = Setup::file(format!("[api]\npage_size = {number}")).load();
        if i64::try_from(number).is_ok() {
            prop_assert_eq!(file.is_ok(), loaded.is_ok());
        } else {
            prop_assert!(file.is_err());
        }
    }
}

#[test]
fn checkpoints_never_go_into_the_database_or_what_sqlite_keeps_beside_it() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("keys.db");
    std::fs::write(&database, "").unwrap();
    std::fs::hard_link(&database, directory.path().join("linked.db")).unwrap();
    std::fs::create_dir(directory.path().join("sub")).unwrap();
    let with = |name: &str| {
        let path = directory.path().join(name).display().to_string();
        let setup = Setup::default().database(database.to_str().unwrap());
        let problems = setup.with("KEYDRIFT__CHECKPOINT__PATH", &path).problems();
        problems.replace(directory.path().to_str().unwrap(), "DIR")
    };
    insta::assert_snapshot!(with("keys.db"), @"
    `checkpoint.path` is the database itself, or one of the files that belong to it
    hint: leave it out, for a file beside the database, or name a file of its own
    ");
    let refused = with("keys.db");
    for name in [
        "keys.db-wal",
        "keys.db-shm",
        "keys.db-journal",
        "keys.db.lock",
        "./keys.db",
        "sub/../keys.db-wal",
        "linked.db",
    ] {
        assert_eq!(with(name), refused, "{name}");
    }
    assert_eq!(with("keys.db.checkpoints"), "no problem");
    assert_eq!(with("sub/keys.db"), "no problem");
}
