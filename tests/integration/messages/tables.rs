//! Every command's table, on a small history at fixed times.

use super::stable;
use crate::support::{History, World};

#[track_caller]
fn table(world: &World, args: &[&str]) -> String {
    let ran = world.keydrift(args).succeeds();
    stable(world, &format!("{}--- stderr\n{}", ran.stdout, ran.stderr))
}

#[test]
fn table_of_keys() {
    let world = History::eventful().world;
    insta::assert_snapshot!(table(&world, &["keys"]), @"
    SCOPE  KEY         NAME            VALUE              OWNER         CREATED               LAST USED
    admin  key_main    Main Admin Key  sk-admin-****Main  Ada Lovelace  2025-01-01T00:00:00Z  2026-10-02T07:30:00Z
    admin  key_deploy  ci deploy (eu)  sk-admin-****Dply  ci            2025-04-01T00:00:00Z  -
    admin  key_own     keydrift        sk-admin-****47HX  Ada Lovelace  2025-10-01T00:00:00Z  -
    admin  key_quick   quick test      sk-admin-****Quck  Ada Lovelace  2026-10-02T00:13:20Z  2026-10-07T07:00:00Z
    --- stderr
    4 keys
    ");
}

#[test]
fn table_of_keys_that_were_removed() {
    let world = History::eventful().world;
    insta::assert_snapshot!(table(&world, &["keys", "--removed"]), @"
    SCOPE    KEY          NAME            VALUE             OWNER  CREATED               LAST USED  REMOVED
    project  key_billing  billing export  sk-proj-****Bill  ci     2025-07-01T00:00:00Z  -          2026-10-07T08:00:00Z
    --- stderr
    1 key
    ");
}

#[test]
fn table_of_keys_as_of_a_time() {
    let world = History::eventful().world;
    insta::assert_snapshot!(table(&world, &["keys", "--as-of", "2026-10-02"]), @"
    SCOPE    KEY          NAME            VALUE              OWNER         CREATED               LAST USED
    admin    key_main     Main Admin Key  sk-admin-****Main  Ada Lovelace  2025-01-01T00:00:00Z  2026-08-29T10:40:00Z
    admin    key_deploy   ci deploy       sk-admin-****Dply  ci            2025-04-01T00:00:00Z  -
    project  key_billing  billing export  sk-proj-****Bill   ci            2025-07-01T00:00:00Z  -
    admin    key_own      keydrift        sk-admin-****47HX  Ada Lovelace  2025-10-01T00:00:00Z  -
    --- stderr
    4 keys as of 2026-10-02T00:00:00Z
    as of 2026-10-02T00:00:00Z: what run 1 observed between 2026-10-01T08:00:00Z and 2026-10-01T08:00:00Z; the next good run began at 2026-10-02T08:00:00Z
    warning: 2026-10-02T00:00:00Z lies in a gap: nothing was observed between 2026-10-01T08:00:00Z and 2026-10-02T08:00:00Z
    ");
}

#[test]
fn table_of_log() {
    let world = History::eventful().world;
    insta::assert_snapshot!(table(&world, &["log"]), @r#"
    OBSERVED              EVENT     KEY          NAME            WHAT
    2026-10-01T08:00:00Z  baseline  key_main     Main Admin Key  sk-admin-****Main of Ada Lovelace
    2026-10-01T08:00:00Z  baseline  key_deploy   ci deploy       sk-admin-****Dply of ci
    2026-10-01T08:00:00Z  baseline  key_billing  billing export  sk-proj-****Bill of ci
    2026-10-01T08:00:00Z  baseline  key_own      keydrift        sk-admin-****47HX of Ada Lovelace
    2026-10-02T08:00:00Z  added     key_quick    quick test      sk-admin-****Quck of Ada Lovelace
    2026-10-02T08:00:00Z  used      key_main     Main Admin Key  2026-08-29T10:40:00Z → 2026-10-02T07:30:00Z
    2026-10-02T08:00:00Z  changed   key_deploy   ci deploy (eu)  name: ci deploy → ci deploy (eu)
    2026-10-03T08:00:00Z  removed   key_quick    quick test      sk-admin-****Quck of Ada Lovelace
    2026-10-06T08:00:00Z  restored  key_quick    quick test      sk-admin-****Quck of Ada Lovelace
    2026-10-06T08:00:00Z  changed   key_deploy   ci deploy (eu)  expires_at: - → 2027-01-01T00:00:00Z
    2026-10-06T08:00:00Z  changed   key_deploy   ci deploy (eu)  permissions: - → ["a","b"]
    2026-10-07T08:00:00Z  changed   key_deploy   ci deploy (eu)  permissions: ["a","b"] → -
    2026-10-07T08:00:00Z  used      key_quick    quick test      never → 2026-10-07T07:00:00Z
    2026-10-07T08:00:00Z  removed   key_billing  billing export  sk-proj-****Bill of ci
    --- stderr
    14 events
    "#);
}

#[test]
fn table_of_log_without_events() {
    let world = History::eventful().world;
    insta::assert_snapshot!(table(&world, &["log", "--event", "restored", "--until", "2026-10-02"]), @"
    --- stderr
    no events match
    ");
}

#[test]
fn table_of_show() {
    let world = History::eventful().world;
    insta::assert_snapshot!(table(&world, &["show", "Dply"]), @r#"
    key key_deploy
    state           present
    organization    default
    scope           admin
    name            ci deploy (eu)
    redacted_value  sk-admin-****Dply
    owner_type      service_account
    owner_id        svc_ci
    owner_name      ci
    owner_role      member
    created_at      2025-04-01T00:00:00Z
    expires_at      2027-01-01T00:00:00Z
    other           tier: standard
    first_seen_at   2026-10-01T08:00:00Z
    last_seen_at    2026-10-07T08:00:00Z

    history
    BETWEEN               AND                   EVENT     WHAT
    -                     2026-10-01T08:00:00Z  baseline  sk-admin-****Dply of ci
    2026-10-01T08:00:00Z  2026-10-02T08:00:00Z  changed   name: ci deploy → ci deploy (eu)
    2026-10-03T08:00:00Z  2026-10-06T08:00:00Z  changed   expires_at: - → 2027-01-01T00:00:00Z
    2026-10-03T08:00:00Z  2026-10-06T08:00:00Z  changed   permissions: - → ["a","b"]
    2026-10-06T08:00:00Z  2026-10-07T08:00:00Z  changed   permissions: ["a","b"] → -
    --- stderr
    "#);
}

#[test]
fn table_of_show_a_removed_key() {
    let world = History::eventful().world;
    insta::assert_snapshot!(table(&world, &["show", "billing export"]), @"
    key key_billing
    state           removed, seen gone at 2026-10-07T08:00:00Z
    organization    default
    scope           project
    name            billing export
    redacted_value  sk-proj-****Bill
    owner_type      service_account
    owner_id        svc_ci
    owner_name      ci
    owner_role      member
    created_at      2025-07-01T00:00:00Z
    other           tier: standard
    first_seen_at   2026-10-01T08:00:00Z
    last_seen_at    2026-10-06T08:00:00Z

    history
    BETWEEN               AND                   EVENT     WHAT
    -                     2026-10-01T08:00:00Z  baseline  sk-proj-****Bill of ci
    2026-10-06T08:00:00Z  2026-10-07T08:00:00Z  removed   sk-proj-****Bill of ci
    --- stderr
    ");
}

#[test]
fn table_of_show_our_own_key() {
    let world = History::eventful().world;
    insta::assert_snapshot!(table(&world, &["show", "key_own"]), @"
    key key_own
    state           present; the credential that keydrift uses
    organization    default
    scope           admin
    name            keydrift
    redacted_value  sk-admin-****47HX
    owner_type      user
    owner_id        user-ada
    owner_name      Ada Lovelace
    owner_role      owner
    created_at      2025-10-01T00:00:00Z
    other           tier: standard
    first_seen_at   2026-10-01T08:00:00Z
    last_seen_at    2026-10-07T08:00:00Z

    history
    BETWEEN  AND                   EVENT     WHAT
    -        2026-10-01T08:00:00Z  baseline  sk-admin-****47HX of Ada Lovelace
    --- stderr
    ");
}

#[test]
fn table_of_diff() {
    let world = History::eventful().world;
    insta::assert_snapshot!(table(&world, &["diff", "2026-10-02", "2026-10-08"]), @"
    KEY          NAME            DIFFERENCE  WHAT
    key_billing  billing export  removed     sk-proj-****Bill of ci
    key_deploy   ci deploy (eu)  changed     name: ci deploy → ci deploy (eu)
    key_deploy   ci deploy (eu)  changed     expires_at: - → 2027-01-01T00:00:00Z
    key_main     Main Admin Key  used        2026-08-29T10:40:00Z → 2026-10-02T07:30:00Z
    key_quick    quick test      added       sk-admin-****Quck of Ada Lovelace
    --- stderr
    1 added, 1 removed, 1 used, 2 changed between 2026-10-02T00:00:00Z and 2026-10-08T00:00:00Z
    the API now sends `tier`: 3 keys, left out
    as of 2026-10-02T00:00:00Z: what run 1 observed between 2026-10-01T08:00:00Z and 2026-10-01T08:00:00Z; the next good run began at 2026-10-02T08:00:00Z
    warning: 2026-10-02T00:00:00Z lies in a gap: nothing was observed between 2026-10-01T08:00:00Z and 2026-10-02T08:00:00Z
    as of 2026-10-08T00:00:00Z: what run 7 observed between 2026-10-07T08:00:00Z and 2026-10-07T08:00:00Z; no good run followed
    warning: 2026-10-08T00:00:00Z lies in a gap: nothing was observed since 2026-10-07T08:00:00Z
    ");
}

#[test]
fn table_of_diff_of_nothing() {
    let world = History::eventful().world;
    insta::assert_snapshot!(table(&world, &["diff", "2026-10-04", "2026-10-05"]), @"
    --- stderr
    nothing differs between 2026-10-04T00:00:00Z and 2026-10-05T00:00:00Z
    as of 2026-10-04T00:00:00Z: what run 3 observed between 2026-10-03T08:00:00Z and 2026-10-03T08:00:00Z; the next good run began at 2026-10-06T08:00:00Z
    warning: 2026-10-04T00:00:00Z lies in a gap: nothing was observed between 2026-10-03T08:00:00Z and 2026-10-06T08:00:00Z
    as of 2026-10-05T00:00:00Z: what run 3 observed between 2026-10-03T08:00:00Z and 2026-10-03T08:00:00Z; the next good run began at 2026-10-06T08:00:00Z
    warning: 2026-10-05T00:00:00Z lies in a gap: nothing was observed between 2026-10-03T08:00:00Z and 2026-10-06T08:00:00Z
    ");
}

#[test]
fn table_of_runs() {
    let world = History::eventful().world;
    insta::assert_snapshot!(table(&world, &["runs"]), @"
    RUN  TRIGGER   STARTED               STATUS  KEYS  ADDED  RESTORED  REMOVED  USED  CHANGED  UNCONF.
    1    schedule  2026-10-01T08:00:00Z  ok         4      0         0        0     0        0        0
    2    schedule  2026-10-02T08:00:00Z  ok         5      1         0        0     1        1        0
    3    schedule  2026-10-03T08:00:00Z  ok         4      0         0        1     0        0        0
    4    schedule  2026-10-04T08:00:00Z  failed     0      0         0        0     0        0        0
         the keys could not be listed: page 1 of the admin keys failed with status 503 (request req_0000000000000000000000000000000a): The server had an error while processing your request
    5    schedule  2026-10-05T08:00:00Z  held       3      0         0        0     0        0        1
         held: nothing was changed: 1 of 4 keys is missing and could not be confirmed gone; 0 would pass (`removal.guard_keys`, `removal.guard_percent`)
    6    schedule  2026-10-06T08:00:00Z  ok         5      0         1        0     0        2        0
         the API now sends `tier`
    7    schedule  2026-10-07T08:00:00Z  ok         4      0         0        1     1        1        0
    --- stderr
    7 runs
    ");
}

/// A sync's own times are the machine's: the line's shape is held by the tests of the commands.
fn without_times(text: &str) -> String {
    let hide = |line: &str| match line.split_once(" in ") {
        Some((start, rest)) if line.ends_with(" requests)") || line.ends_with(" request)") => {
            format!("{start} in TIME {}", &rest[rest.find('(').unwrap_or(0)..])
        }
        _ if line.starts_with("20") => format!("TIME                {}", &line[20..]),
        _ => line.to_owned(),
    };
    text.lines().map(hide).collect::<Vec<_>>().join("\n")
}

#[test]
fn table_of_a_first_sync_and_of_a_second() {
    let history = History::small();
    let world = &history.world;
    insta::assert_snapshot!(without_times(&table(world, &["sync"])), @"
    default: 4 keys, 0 added, 0 removed, 0 used, 0 changed in TIME (2 requests)
    --- stderr
    default: first listing: 4 keys recorded as found (baseline), not as drift
    ");
    world.organization().with(|organization| {
        organization.rename("key_main", "payments");
        organization.remove("key_billing");
        organization.set_field("key_deploy", "last_used_at", 1_790_000_000);
        organization.set_field_everywhere("tier", &"standard".into());
    });
    insta::assert_snapshot!(without_times(&table(world, &["sync"])), @"
    OBSERVED              EVENT    KEY          NAME            WHAT
    TIME                  changed  key_main     payments        name: Main Admin Key → payments
    TIME                  used     key_deploy   ci deploy       never → 2026-09-21T14:13:20Z
    TIME                  removed  key_billing  billing export  sk-proj-****Bill of ci
    default: 3 keys, 0 added, 1 removed, 1 used, 1 changed in TIME (5 requests)
    --- stderr
    warning: default: the API now sends `tier`
    ");
}

#[test]
fn table_of_the_configuration() {
    let world = World::new(1);
    insta::assert_snapshot!(table(&world, &["config", "check"]), @"
    SETTING                                      VALUE                                SET BY
    database.path                                DIR/keys.db              --database
    database.lock_timeout                        30s                                  default
    checkpoint.path                              DIR/keys.db.checkpoints  default
    checkpoint.key_file                          (none)                               default
    api.page_size                                100                                  default
    api.max_concurrency                          8                                    default
    api.scan                                     side_by_side                         default
    api.connect_timeout                          10s                                  default
    api.read_timeout                             30s                                  default
    api.request_timeout                          1m                                   default
    api.run_deadline                             15m                                  default
    api.max_attempts                             5                                    default
    api.proxy                                    (none)                               default
    api.tls_ca_file                              (none)                               default
    removal.guard_keys                           10                                   default
    removal.guard_percent                        30                                   default
    removal.confirm_limit                        5000                                 default
    retention.used_events                        (none)                               default
    retention.events                             (none)                               default
    schedule.cron                                0 * * * *                            default
    schedule.timezone                            UTC                                  default
    schedule.jitter                              1m                                   default
    schedule.run_at_start                        true                                 default
    metrics.listen                               (none)                               default
    heartbeat.url                                (none)                               default
    findings.never_used                          90d                                  default
    findings.unused                              90d                                  default
    findings.admin_key_age                       90d                                  default
    findings.project_key_age                     (none)                               default
    findings.expires_within                      14d                                  default
    findings.silence                             90d                                  default
    findings.stay_open                           30d                                  default
    findings.max_admin_keys                      10                                   default
    findings.disabled                            (none)                               default
    findings.exceptions                          (none)                               default
    organizations.default.base_url               http://ADDR/v1            OPENAI_BASE_URL
    organizations.default.admin_key_file         (none)                               default
    organizations.default.organization_id        (none)                               default
    organizations.default.project_keys           true                                 default
    organizations.default.audit_logs             false                                default
    organizations.default.schedule.cron          0 * * * *                            schedule.cron
    organizations.default.schedule.timezone      UTC                                  schedule.timezone
    organizations.default.schedule.jitter        1m                                   schedule.jitter
    organizations.default.schedule.run_at_start  true                                 schedule.run_at_start
    organizations.default.heartbeat.url          (none)                               heartbeat.url
    organizations.default.credential             variable `OPENAI_ADMIN_KEY`          OPENAI_ADMIN_KEY
    --- stderr
    ");
}

#[test]
fn a_time_that_is_yet_to_come_is_answered_with_what_is_known_and_a_warning() {
    let world = History::eventful().world;
    let ran = world.keydrift(&["keys", "--as-of", "2100-01-01"]).succeeds();
    assert!(ran.stderr.contains("2100-01-01T00:00:00Z is yet to come"), "{ran}");
    let ran = world.keydrift(&["keys", "--as-of", "2026-10-08"]).succeeds();
    assert!(!ran.stderr.contains("is yet to come"), "{ran}");
}
