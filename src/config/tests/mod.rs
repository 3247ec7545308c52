//! Tests of loading as a whole. Here: which layer wins; what is refused and how the documents
//! agree stands in the files beside this one.

mod documents;
mod findings;
mod refusals;

use super::*;

/// A configuration in the making.
#[derive(Default)]
struct Setup {
    file: Option<Vec<u8>>,
    variables: Vec<(String, String)>,
    database: Option<PathBuf>,
}

impl Setup {
    fn file(text: impl AsRef<[u8]>) -> Self {
        Self { file: Some(text.as_ref().to_vec()), ..Self::default() }
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    fn database(mut self, path: &str) -> Self {
        self.database = Some(path.into());
        self
    }

    /// Loads with the file as the system's file, in a directory that messages show as `DIR`.
    fn load(&self) -> Result<Settings, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keydrift.toml");
        if let Some(text) = &self.file {
            std::fs::write(&path, text).unwrap();
        }
        let home = [("HOME".to_owned(), "/home/ann".to_owned())];
        let environment = home.iter().chain(&self.variables).cloned().collect();
        let database = self.database.as_deref();
        let inputs = Inputs { config_path: None, database, environment: &environment };
        load_with(&inputs, &path).map_err(|error| {
            let hint = error.hint().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
            format!("{error}{hint}").replace(directory.path().to_str().unwrap(), "DIR")
        })
    }

    fn problems(&self) -> String {
        self.load().err().unwrap_or_else(|| "no problem".to_owned())
    }

    fn effective(&self, key: &str) -> String {
        let rows = self.load().unwrap().effective();
        let row = rows.into_iter().find(|row| row.key == key).unwrap();
        format!("{} ({})", row.value, row.origin)
    }
}

#[test]
fn without_a_file_the_defaults_hold() {
    let settings = Setup::default().load().unwrap();
    assert_eq!(settings.database.path, Path::new("/home/ann/.local/share/keydrift/keydrift.db"));
    assert_eq!(settings.database.lock_timeout, Duration::from_secs(30));
    insta::assert_debug_snapshot!((&settings.api, settings.removal, &settings.organizations), @r#"
    (
        ApiSettings {
            page_size: 100,
            max_concurrency: 8,
            side_by_side: true,
            connect_timeout: 10s,
            read_timeout: 30s,
            request_timeout: 60s,
            run_deadline: 900s,
            max_attempts: 5,
            proxy: None,
            tls_ca_file: None,
        },
        RemovalSettings {
            guard_keys: 10,
            guard_percent: 30,
            confirm_limit: 5000,
        },
        [
            OrganizationSettings {
                name: OrgName(
                    "default",
                ),
                base_url: Url {
                    scheme: "https",
                    cannot_be_a_base: false,
                    username: "",
                    password: None,
                    host: Some(
                        Domain(
                            "api.openai.com",
                        ),
                    ),
                    port: None,
                    path: "/v1",
                    query: None,
                    fragment: None,
                },
                organization_id: None,
                project_keys: true,
                audit_logs: false,
                schedule: ScheduleSettings {
                    cron: Cron("0 * * * *"),
                    timezone: UTC,
                    jitter: 60s,
                    run_at_start: true,
                },
                heartbeat: None,
            },
        ],
    )
    "#);
}

#[test]
fn the_effective_configuration_names_every_setting_and_its_origin() {
    let rows = Setup::default().load().unwrap().effective();
    let keys: Vec<&str> = rows.iter().map(|row| row.key.as_str()).collect();
    for setting in &SETTINGS {
        let section = setting.section.replace("organizations", "organizations.default");
        assert!(keys.contains(&format!("{section}.{}", setting.key).as_str()), "{setting:?}");
    }
    let table: Vec<String> =
        rows.iter().map(|row| format!("{} = {} ({})", row.key, row.value, row.origin)).collect();
    insta::assert_snapshot!(table.join("\n"), @"
    database.path = /home/ann/.local/share/keydrift/keydrift.db (default, from HOME)
    database.lock_timeout = 30s (default)
    checkpoint.path = /home/ann/.local/share/keydrift/keydrift.db.checkpoints (default)
    checkpoint.key_file = (none) (default)
    api.page_size = 100 (default)
    api.max_concurrency = 8 (default)
    api.scan = side_by_side (default)
    api.connect_timeout = 10s (default)
    api.read_timeout = 30s (default)
    api.request_timeout = 1m (default)
    api.run_deadline = 15m (default)
    api.max_attempts = 5 (default)
    api.proxy = (none) (default)
    api.tls_ca_file = (none) (default)
    removal.guard_keys = 10 (default)
    removal.guard_percent = 30 (default)
    removal.confirm_limit = 5000 (default)
    retention.used_events = (none) (default)
    retention.events = (none) (default)
    schedule.cron = 0 * * * * (default)
    schedule.timezone = UTC (default)
    schedule.jitter = 1m (default)
    schedule.run_at_start = true (default)
    metrics.listen = (none) (default)
    heartbeat.url = (none) (default)
    findings.never_used = 90d (default)
    findings.unused = 90d (default)
    findings.admin_key_age = 90d (default)
    findings.project_key_age = (none) (default)
    findings.expires_within = 14d (default)
    findings.silence = 90d (default)
    findings.stay_open = 30d (default)
    findings.max_admin_keys = 10 (default)
    findings.disabled = (none) (default)
    findings.exceptions = (none) (default)
    organizations.default.base_url = https://api.openai.com/v1 (default)
    organizations.default.admin_key_file = (none) (default)
    organizations.default.organization_id = (none) (default)
    organizations.default.project_keys = true (default)
    organizations.default.audit_logs = false (default)
    organizations.default.schedule.cron = 0 * * * * (schedule.cron)
    organizations.default.schedule.timezone = UTC (schedule.timezone)
    organizations.default.schedule.jitter = 1m (schedule.jitter)
    organizations.default.schedule.run_at_start = true (schedule.run_at_start)
    organizations.default.heartbeat.url = (none) (heartbeat.url)
    organizations.default.credential = (none) (there is no credential for organization `default`)
    ");
}

#[test]
fn the_environment_wins_over_the_file_and_flags_over_both() {
    let file = "[database]\npath = \"/file.db\"\nlock_timeout = \"1m\"\n[api]\npage_size = 50\n";
    let setup = Setup::file(file).with("KEYDRIFT__API__PAGE_SIZE", "60");
    assert_eq!(setup.effective("api.page_size"), "60 (KEYDRIFT__API__PAGE_SIZE)");
    assert!(setup.effective("database.lock_timeout").starts_with("1m (/"));
    assert!(setup.effective("database.lock_timeout").ends_with("keydrift.toml:3)"));
    let setup = setup.with("KEYDRIFT__DATABASE__PATH", "/variable.db");
    let expected = "/variable.db (KEYDRIFT__DATABASE__PATH)";
    assert_eq!(setup.effective("database.path"), expected);
    let setup = setup.database("flag.db");
    assert_eq!(setup.effective("database.path"), "flag.db (--database)");
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let setup = Setup::file("[api]\npage_size = 50\n")
        .with("KEYDRIFT__API__PAGE_SIZE", "")
        .with("OPENAI_BASE_URL", "")
        .with("OPENAI_ORG_ID", "");
    let settings = setup.load().unwrap();
    assert_eq!(settings.api.page_size, 50);
    assert_eq!(settings.organizations[0].base_url.as_str(), "https://api.openai.com/v1");
    assert_eq!(settings.organizations[0].organization_id, None);
}

#[test]
fn numbers_may_be_written_as_toml_allows() {
    for (text, number) in [("1_000", 1000), ("0x64", 100), ("+5", 5), ("0b11", 3)] {
        let setup = Setup::file(format!("[api]\npage_size = {text}"));
        assert_eq!(setup.load().unwrap().api.page_size, number, "{text}");
    }
    assert!(Setup::file("[api]\npage_size = 99999999999999999999").load().is_err());
    assert!(Setup::file("[api]\npage_size = 50.0").load().is_err());
    assert!(Setup::file("api.page_size = 50").load().is_ok());
}

#[test]
fn numbers_with_leading_zeros_keep_their_value() {
    assert_eq!(
        Setup::default().with("KEYDRIFT__API__PAGE_SIZE", "0050").load().unwrap().api.page_size,
        50
    );
    let setup = Setup::file("[organizations.default]\norganization_id = \"0012345\"");
    assert!(setup.effective("organizations.default.organization_id").starts_with("0012345 "));
    let setup = Setup::default().with("OPENAI_ORG_ID", "0012345");
    let expected = "0012345 (OPENAI_ORG_ID)";
    assert_eq!(setup.effective("organizations.default.organization_id"), expected);
}

#[test]
fn the_database_goes_to_the_state_directory_then_to_the_users_data() {
    let at = |setup: Setup| setup.effective("database.path");
    let state = Setup::default().with("STATE_DIRECTORY", "/var/lib/a:/var/lib/b");
    assert_eq!(at(state), "/var/lib/a/keydrift.db (default, from STATE_DIRECTORY)");
    let data = Setup::default().with("XDG_DATA_HOME", "/data");
    assert_eq!(at(data), "/data/keydrift/keydrift.db (default, from XDG_DATA_HOME)");
    let relative = Setup::default().with("XDG_DATA_HOME", "data");
    let expected = "/home/ann/.local/share/keydrift/keydrift.db (default, from HOME)";
    assert_eq!(at(relative), expected);
    insta::assert_snapshot!(Setup::default().with("HOME", "").problems(), @"
    there is no directory for the database
    hint: pass `--database FILE`, or set `KEYDRIFT__DATABASE__PATH` or HOME
    ");
}

#[test]
fn a_relative_path_in_the_file_starts_from_the_files_directory() {
    let setup = Setup::file("[database]\npath = \"sub/keys.db\"");
    let path = setup.load().unwrap().database.path;
    assert!(path.is_absolute() && path.ends_with("sub/keys.db"), "{path:?}");
    let setup = Setup::default().with("KEYDRIFT__DATABASE__PATH", "sub/keys.db");
    assert_eq!(setup.load().unwrap().database.path, Path::new("sub/keys.db"));
}

#[test]
fn the_sdks_variables_serve_a_single_organization_only() {
    let set = |setup: Setup| {
        setup.with("OPENAI_BASE_URL", "http://127.0.0.1:9/v1/").with("OPENAI_ORG_ID", "org-1")
    };
    let one = set(Setup::file("[organizations.acme]"));
    assert_eq!(
        one.effective("organizations.acme.base_url"),
        "http://127.0.0.1:9/v1 (OPENAI_BASE_URL)"
    );
    assert_eq!(one.effective("organizations.acme.organization_id"), "org-1 (OPENAI_ORG_ID)");
    let own = set(Setup::file("[organizations.acme]\nbase_url = \"https://own.example\""));
    assert!(own.effective("organizations.acme.base_url").starts_with("https://own.example/ ("));
    let two = set(Setup::file("[organizations.acme]\n[organizations.b]"));
    assert_eq!(two.effective("organizations.b.base_url"), "https://api.openai.com/v1 (default)");
    assert_eq!(two.effective("organizations.b.organization_id"), "(none) (default)");
    let wrong = Setup::default().with("OPENAI_BASE_URL", "http://api.openai.com");
    insta::assert_snapshot!(wrong.problems(), @"`organizations.default.base_url` must begin with `https://` (`http://` only to localhost, 127.0.0.0/8 or [::1]) (set by `OPENAI_BASE_URL`)");
}

#[test]
fn variables_alone_make_organizations_and_reach_those_with_a_hyphen() {
    let setup = Setup::default().with("KEYDRIFT__ORGANIZATIONS__ACME__ADMIN_KEY_FILE", "/acme.key");
    let settings = setup.load().unwrap();
    assert_eq!(settings.organizations[0].name.as_str(), "acme");
    let source = settings.credential_source(&settings.organizations[0].name).unwrap();
    assert_eq!(source.to_string(), "file `/acme.key`");
    assert_eq!(source.origin(), "KEYDRIFT__ORGANIZATIONS__ACME__ADMIN_KEY_FILE");

    let setup = Setup::file("[organizations.acme-prod]")
        .with("KEYDRIFT__ORGANIZATIONS__ACME_PROD__ORGANIZATION_ID", "org-1");
    let settings = setup.load().unwrap();
    assert_eq!(settings.organizations.len(), 1);
    assert_eq!(settings.organizations[0].organization_id.as_deref(), Some("org-1"));

    let setup = Setup::default().with("KEYDRIFT__ORGANIZATIONS__A__B__ORGANIZATION_ID", "org-1");
    assert_eq!(setup.load().unwrap().organizations[0].name.as_str(), "a__b");
}

#[test]
fn other_variables_are_nobodys_business() {
    let setup = Setup::default()
        .with("KEYDRIFT_SERVICE_HOST", "10.0.0.1")
        .with("KEYDRIFT_CONFIG", "")
        .with("keydrift__x__y", "1");
    assert!(setup.load().is_ok());
}

#[test]
fn a_proxys_password_and_a_credential_are_shown_nowhere() {
    let setup = Setup::file("[api]\nproxy = \"http://robot:SECRET@proxy:3128\"")
        .with("OPENAI_ADMIN_KEY", "sk-admin-SECRET");
    let settings = setup.load().unwrap();
    assert!(setup.effective("api.proxy").starts_with("http://***:***@proxy:3128 ("));
    let source = setup.effective("organizations.default.credential");
    assert_eq!(source, "variable `OPENAI_ADMIN_KEY` (OPENAI_ADMIN_KEY)");
    let shown = format!("{settings:?} {:?}", settings.effective());
    assert!(!shown.contains("SECRET"), "{shown}");
}

#[test]
fn endpoints_are_appended_with_each_segment_encoded() {
    let endpoint = |base: &str| {
        let settings = Setup::default().with("OPENAI_BASE_URL", base).load().unwrap();
        settings.organizations[0].endpoint(["organization", "a/b ?#%\n"]).unwrap().to_string()
    };
    let expected = "https://host/v1/organization/a%2Fb%20%3F%23%25%0A";
    assert_eq!(endpoint("https://host/v1"), expected);
    assert_eq!(endpoint("https://host/v1/"), expected);
    assert_eq!(endpoint("https://host"), expected.replace("/v1", ""));
}

#[test]
fn events_are_kept_as_long_as_their_uses_at_least() {
    let settings =
        Setup::file("[retention]\nused_events = \"400d\"\nevents = \"7y\"").load().unwrap();
    let day = Duration::from_hours(24);
    assert_eq!(settings.retention.used_events, Some(day * 400));
    assert_eq!(settings.retention.events, Some(day * 2_555));
    let problem = Setup::file("[retention]\nused_events = \"400d\"\nevents = \"1y\"").problems();
    insta::assert_snapshot!(problem, @"`retention.events` must not be shorter than `retention.used_events`, which is 400d (set by `DIR/keydrift.toml:3`)");
    let problem = Setup::file("[retention]\nevents = \"10m\"").problems();
    insta::assert_snapshot!(problem, @r#"`retention.events` must be a duration from 1h to 100y, such as "30s" or "15m" (set by `DIR/keydrift.toml:2`)"#);
}
