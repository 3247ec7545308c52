//! What `--help` says.

use crate::support::Keydrift;

fn help(command: &[&str]) -> String {
    let home = tempfile::tempdir().unwrap();
    let long = Keydrift::new(home.path()).args(command).arg("--help").succeeds().stdout;
    let short = Keydrift::new(home.path()).args(command).arg("-h").succeeds().stdout;
    assert_eq!(long, short, "`-h` says as much as `--help`");
    assert!(long.lines().all(|line| line.chars().count() <= 100), "{long}");
    long
}

#[test]
fn help_of_keydrift() {
    insta::assert_snapshot!(help(&[]), @"
    Keeps the books on an organization's API keys: what there is, what changed, and when

    Usage: keydrift [OPTIONS] <COMMAND>

    Commands:
      run           Sync on schedule until told to stop: the daemon
      sync          Sync each organization now and print what changed
      keys          List the keys: the inventory, or what it was at another time
      log           List what changed: the audit history
      show          Tell one key's whole story
      findings      List the keys that break a rule: stale, expiring, without an owner
      note          Say something of an event or a key, for good: a ticket, a reason
      diff          List what differs between two times
      runs          List the runs: when keydrift looked, and what came of it
      status        Tell whether all is well: exit code 3 if not
      doctor        Try all that is needed, and tell how to mend what fails: exit code 3 then
      verify        Prove that the history is whole and unedited: exit code 3 if not
      evidence      Put a period of the history into one file for an auditor, or check such a file
      backup        Copy the database, whole and checked, while it is in use
      checkpoint    Make a key that signs checkpoints, or accept a restored backup
      prune         Throw away what the retention policy no longer keeps
      forget        Erase what is known of a person: name, e-mail and IP addresses
      organization  Give an organization another name, and keep its history
      config        Show what is configured, or what is wrong with it
      demo          Play a fortnight of a simulated organization, with no account and no network
      completions   Print a shell's completion script

    Options:
      -h, --help     Print help
      -V, --version  Print version

    Global options:
          --config <FILE>        Read this configuration file [default: $KEYDRIFT_CONFIG, else
                                 /etc/keydrift/keydrift.toml]
          --database <FILE>      Use this database file [setting: database.path]
      -v, --verbose...           Log more to stderr: what is done, with -vv also how, with -vvv
                                 everything (RUST_LOG wins)
          --log-format <FORMAT>  How log lines look; given, they go to stderr also where they would go
                                 to the journal [possible values: text, json]
      -q, --quiet                Say nothing on stderr but warnings and errors

    Exit codes:
      0  done
      1  failed: the API, the database, a refused credential, or a held run
      2  wrong command line, configuration or credential source
      3  the answer is the bad one: it drifted (with sync --exit-code), it is not healthy
      4  partly done: at least one organization is done and one is not

    Try it without an account: keydrift demo
    ");
}

#[test]
fn help_of_sync() {
    insta::assert_snapshot!(help(&["sync"]), @"
    Sync each organization now and print what changed

    Usage: keydrift sync [OPTIONS]

    Options:
          --organization <NAME>  Only this organization
          --exit-code            Exit with 3 if anything drifted
          --accept <NAME>        Take what the newest held or refused run of this organization recorded
                                 for true
          --scheduled            Record the runs as scheduled ones: for a timer
          --format <FORMAT>      How to print: for people, or for programs [default: table] [possible
                                 values: table, json, ndjson, csv]
      -h, --help                 Print help

    Global options:
          --config <FILE>        Read this configuration file [default: $KEYDRIFT_CONFIG, else
                                 /etc/keydrift/keydrift.toml]
          --database <FILE>      Use this database file [setting: database.path]
      -v, --verbose...           Log more to stderr: what is done, with -vv also how, with -vvv
                                 everything (RUST_LOG wins)
          --log-format <FORMAT>  How log lines look; given, they go to stderr also where they would go
                                 to the journal [possible values: text, json]
      -q, --quiet                Say nothing on stderr but warnings and errors

    A run is held when too many keys are missing that nobody could confirm gone, and refused when the
    answers seem to come from another organization. With --accept, keys that were missing then are
    removed unless they answer now; if more are missing than were recorded, the run is held again.

    Examples:
      OPENAI_ADMIN_KEY=… keydrift sync
      keydrift sync --exit-code --format ndjson     for a script: 3 if anything drifted
      keydrift sync --accept acme                   after a look at the provider's console
    ");
}

#[test]
fn help_of_keys() {
    insta::assert_snapshot!(help(&["keys"]), @"
    List the keys: the inventory, or what it was at another time

    Usage: keydrift keys [OPTIONS]

    Options:
          --as-of <TIME>         The keys as they were at this time
          --removed              The keys that are gone, instead of those that are there
          --stale <DURATION>     Only keys not used for this long, such as `90d`; unused ones count from
                                 their creation
          --scope <SCOPE>        Only admin keys, or only projects' keys [possible values: admin,
                                 project]
          --owner <OWNER>        Only keys of the owner with this id or name
          --project <PROJECT>    Only keys of the project with this id or name
          --organization <NAME>  Only this organization
          --format <FORMAT>      How to print: for people, or for programs [default: table] [possible
                                 values: table, json, ndjson, csv]
      -h, --help                 Print help

    Global options:
          --config <FILE>        Read this configuration file [default: $KEYDRIFT_CONFIG, else
                                 /etc/keydrift/keydrift.toml]
          --database <FILE>      Use this database file [setting: database.path]
      -v, --verbose...           Log more to stderr: what is done, with -vv also how, with -vvv
                                 everything (RUST_LOG wins)
          --log-format <FORMAT>  How log lines look; given, they go to stderr also where they would go
                                 to the journal [possible values: text, json]
      -q, --quiet                Say nothing on stderr but warnings and errors

    TIME is RFC 3339 (2026-11-23T12:29:00Z), a date or time in UTC (2026-10-01, 2026-10-01T12:00), now,
    today, yesterday, or how long ago (7d, 12h). DURATION is a number and a unit (90d, 12h).

    Examples:
      keydrift keys --stale 90d               not used for 90 days, or never in 90 days of life
      keydrift keys --as-of 2026-10-01        as they were then
      keydrift keys --removed --format csv    what is gone, for a spreadsheet
    ");
}

#[test]
fn help_of_log() {
    insta::assert_snapshot!(help(&["log"]), @"
    List what changed: the audit history

    Usage: keydrift log [OPTIONS]

    Options:
          --since <TIME>         Only what was observed at this time or later
          --until <TIME>         Only what was observed before this time
          --key <KEY>            Only one key: its id, the beginning of its id, its name, or the end of
                                 its value (3 or more)
          --event <EVENT>        Only this kind of event; several with commas [possible values:
                                 baseline, added, removed, restored, used, changed]
          --unexplained          Only drift that nothing explains, such as a note; without `used` events
                                 unless asked for
          --limit <N>            Only the newest N events
          --reverse              The newest first
          --follow               Go on printing events as they are recorded, until interrupted
          --organization <NAME>  Only this organization
          --format <FORMAT>      How to print: for people, or for programs [default: table] [possible
                                 values: table, json, ndjson, csv]
      -h, --help                 Print help

    Global options:
          --config <FILE>        Read this configuration file [default: $KEYDRIFT_CONFIG, else
                                 /etc/keydrift/keydrift.toml]
          --database <FILE>      Use this database file [setting: database.path]
      -v, --verbose...           Log more to stderr: what is done, with -vv also how, with -vvv
                                 everything (RUST_LOG wins)
          --log-format <FORMAT>  How log lines look; given, they go to stderr also where they would go
                                 to the journal [possible values: text, json]
      -q, --quiet                Say nothing on stderr but warnings and errors

    TIME is RFC 3339 (2026-11-23T12:29:00Z), a date or time in UTC (2026-10-01, 2026-10-01T12:00), now,
    today, yesterday, or how long ago (7d, 12h).

    Examples:
      keydrift log --since 7d
      keydrift log --since 2026-10-01 --until 2026-11-01 --event added,removed,restored
      keydrift log --key wxyz                 one key, by the end of its value
      keydrift log --since 7d --unexplained   drift that nobody has accounted for
      keydrift log --limit 20 --follow        the last twenty events, and then each new one
    ");
}

#[test]
fn help_of_show() {
    insta::assert_snapshot!(help(&["show"]), @"
    Tell one key's whole story

    Usage: keydrift show [OPTIONS] <KEY>

    Arguments:
      <KEY>  The key's id, the beginning of its id, its name, or the end of its value (3 or more)

    Options:
          --organization <NAME>  Only this organization
          --format <FORMAT>      How to print: for people, or for programs [default: table] [possible
                                 values: table, json, ndjson, csv]
      -h, --help                 Print help

    Global options:
          --config <FILE>        Read this configuration file [default: $KEYDRIFT_CONFIG, else
                                 /etc/keydrift/keydrift.toml]
          --database <FILE>      Use this database file [setting: database.path]
      -v, --verbose...           Log more to stderr: what is done, with -vv also how, with -vvv
                                 everything (RUST_LOG wins)
          --log-format <FORMAT>  How log lines look; given, they go to stderr also where they would go
                                 to the journal [possible values: text, json]
      -q, --quiet                Say nothing on stderr but warnings and errors

    Examples:
      keydrift show key_abc
      keydrift show 'Main Admin Key'
      keydrift show wxyz                       the end of a leaked key, or all of its last part
    ");
}

#[test]
fn help_of_diff() {
    insta::assert_snapshot!(help(&["diff"]), @"
    List what differs between two times

    Usage: keydrift diff [OPTIONS] <FROM> <TO>

    Arguments:
      <FROM>  The earlier time
      <TO>    The later time

    Options:
          --organization <NAME>  Only this organization
          --format <FORMAT>      How to print: for people, or for programs [default: table] [possible
                                 values: table, json, ndjson, csv]
      -h, --help                 Print help

    Global options:
          --config <FILE>        Read this configuration file [default: $KEYDRIFT_CONFIG, else
                                 /etc/keydrift/keydrift.toml]
          --database <FILE>      Use this database file [setting: database.path]
      -v, --verbose...           Log more to stderr: what is done, with -vv also how, with -vvv
                                 everything (RUST_LOG wins)
          --log-format <FORMAT>  How log lines look; given, they go to stderr also where they would go
                                 to the journal [possible values: text, json]
      -q, --quiet                Say nothing on stderr but warnings and errors

    What came and went, or changed and changed back in between, is no difference: `keydrift log` has it.
    What changed for all keys at once, such as a new field, is no difference but a line on stderr.
    TIME is RFC 3339 (2026-11-23T12:29:00Z), a date or time in UTC (2026-10-01, 2026-10-01T12:00), now,
    today, yesterday, or how long ago (7d, 12h).

    Examples:
      keydrift diff 7d now
      keydrift diff 2026-07-01 2026-10-01 --format csv
    ");
}

#[test]
fn help_of_runs() {
    insta::assert_snapshot!(help(&["runs"]), @"
    List the runs: when keydrift looked, and what came of it

    Usage: keydrift runs [OPTIONS]

    Options:
          --limit <N>            Only the newest N runs
          --reverse              The newest first
          --organization <NAME>  Only this organization
          --format <FORMAT>      How to print: for people, or for programs [default: table] [possible
                                 values: table, json, ndjson, csv]
      -h, --help                 Print help

    Global options:
          --config <FILE>        Read this configuration file [default: $KEYDRIFT_CONFIG, else
                                 /etc/keydrift/keydrift.toml]
          --database <FILE>      Use this database file [setting: database.path]
      -v, --verbose...           Log more to stderr: what is done, with -vv also how, with -vvv
                                 everything (RUST_LOG wins)
          --log-format <FORMAT>  How log lines look; given, they go to stderr also where they would go
                                 to the journal [possible values: text, json]
      -q, --quiet                Say nothing on stderr but warnings and errors

    Examples:
      keydrift runs --limit 10
      keydrift runs --organization acme --format json
    ");
}

#[test]
fn help_of_config() {
    insta::assert_snapshot!(help(&["config"]), @"
    Show what is configured, or what is wrong with it

    Usage: keydrift config [OPTIONS] <COMMAND>

    Commands:
      check  Print the configuration in effect, secrets masked, or what is wrong with it and where

    Options:
      -h, --help  Print help

    Global options:
          --config <FILE>        Read this configuration file [default: $KEYDRIFT_CONFIG, else
                                 /etc/keydrift/keydrift.toml]
          --database <FILE>      Use this database file [setting: database.path]
      -v, --verbose...           Log more to stderr: what is done, with -vv also how, with -vvv
                                 everything (RUST_LOG wins)
          --log-format <FORMAT>  How log lines look; given, they go to stderr also where they would go
                                 to the journal [possible values: text, json]
      -q, --quiet                Say nothing on stderr but warnings and errors
    ");
}

#[test]
fn help_of_config_check() {
    insta::assert_snapshot!(help(&["config", "check"]), @"
    Print the configuration in effect, secrets masked, or what is wrong with it and where

    Usage: keydrift config check [OPTIONS]

    Options:
          --format <FORMAT>  How to print: for people, or for programs [default: table] [possible
                             values: table, json, ndjson, csv]
      -h, --help             Print help

    Global options:
          --config <FILE>        Read this configuration file [default: $KEYDRIFT_CONFIG, else
                                 /etc/keydrift/keydrift.toml]
          --database <FILE>      Use this database file [setting: database.path]
      -v, --verbose...           Log more to stderr: what is done, with -vv also how, with -vvv
                                 everything (RUST_LOG wins)
          --log-format <FORMAT>  How log lines look; given, they go to stderr also where they would go
                                 to the journal [possible values: text, json]
      -q, --quiet                Say nothing on stderr but warnings and errors
    ");
}

#[test]
fn help_of_demo() {
    insta::assert_snapshot!(help(&["demo"]), @"
    Play a fortnight of a simulated organization, with no account and no network

    Usage: keydrift demo [OPTIONS]

    Options:
          --serve <ADDR>  Keep the simulated API up at this loopback address until interrupted; port 0:
                          any that is free
          --keys <N>      Add so many keys to the organization that is served: to try a large one
      -h, --help          Print help

    Global options:
          --config <FILE>        Read this configuration file [default: $KEYDRIFT_CONFIG, else
                                 /etc/keydrift/keydrift.toml]
          --database <FILE>      Use this database file [setting: database.path]
      -v, --verbose...           Log more to stderr: what is done, with -vv also how, with -vvv
                                 everything (RUST_LOG wins)
          --log-format <FORMAT>  How log lines look; given, they go to stderr also where they would go
                                 to the journal [possible values: text, json]
      -q, --quiet                Say nothing on stderr but warnings and errors

    Examples:
      keydrift demo
      keydrift demo --serve 127.0.0.1:0       keep the simulated API up, to try the other commands on it

    The demo reads no configuration and no credential, not even with --config or --database: it writes
    one new database under the temporary directory ($TMPDIR, else /tmp), and prints where.
    ");
}

#[test]
fn help_of_completions() {
    insta::assert_snapshot!(help(&["completions"]), @"
    Print a shell's completion script

    Usage: keydrift completions [OPTIONS] <SHELL>

    Arguments:
      <SHELL>  The shell to complete for [possible values: bash, elvish, fish, powershell, zsh]

    Options:
      -h, --help  Print help

    Global options:
          --config <FILE>        Read this configuration file [default: $KEYDRIFT_CONFIG, else
                                 /etc/keydrift/keydrift.toml]
          --database <FILE>      Use this database file [setting: database.path]
      -v, --verbose...           Log more to stderr: what is done, with -vv also how, with -vvv
                                 everything (RUST_LOG wins)
          --log-format <FORMAT>  How log lines look; given, they go to stderr also where they would go
                                 to the journal [possible values: text, json]
      -q, --quiet                Say nothing on stderr but warnings and errors

    Examples:
      keydrift completions bash > /etc/bash_completion.d/keydrift
      keydrift completions fish > ~/.config/fish/completions/keydrift.fish
    ");
}

#[test]
fn help_of_run() {
    insta::assert_snapshot!(help(&["run"]), @"
    Sync on schedule until told to stop: the daemon

    Usage: keydrift run [OPTIONS]

    Options:
      -h, --help  Print help

    Global options:
          --config <FILE>        Read this configuration file [default: $KEYDRIFT_CONFIG, else
                                 /etc/keydrift/keydrift.toml]
          --database <FILE>      Use this database file [setting: database.path]
      -v, --verbose...           Log more to stderr: what is done, with -vv also how, with -vvv
                                 everything (RUST_LOG wins)
          --log-format <FORMAT>  How log lines look; given, they go to stderr also where they would go
                                 to the journal [possible values: text, json]
      -q, --quiet                Say nothing on stderr but warnings and errors

    Signals: SIGTERM and SIGINT stop it (a second one at once), SIGHUP reads the configuration anew,
    SIGUSR1 syncs every organization now. Under systemd, see the unit keydrift.service.

    Examples:
      keydrift run
      systemctl enable --now keydrift         as a service
    ");
}

#[test]
fn help_of_status() {
    insta::assert_snapshot!(help(&["status"]), @"
    Tell whether all is well: exit code 3 if not

    Usage: keydrift status [OPTIONS]

    Options:
          --organization <NAME>  Only this organization
          --format <FORMAT>      How to print: for people, or for programs [default: table] [possible
                                 values: table, json, ndjson, csv]
      -h, --help                 Print help

    Global options:
          --config <FILE>        Read this configuration file [default: $KEYDRIFT_CONFIG, else
                                 /etc/keydrift/keydrift.toml]
          --database <FILE>      Use this database file [setting: database.path]
      -v, --verbose...           Log more to stderr: what is done, with -vv also how, with -vvv
                                 everything (RUST_LOG wins)
          --log-format <FORMAT>  How log lines look; given, they go to stderr also where they would go
                                 to the journal [possible values: text, json]
      -q, --quiet                Say nothing on stderr but warnings and errors

    Not healthy (exit code 3) is an organization whose last success is older than two intervals of its
    schedule, or that has a held run, or none that succeeded; and a history that is broken. It reads
    only
    the configuration and the database: the daemon need not run, and no credential is needed.

    Examples:
      keydrift status
      keydrift status --format json           for a monitoring check
    ");
}

#[test]
fn help_of_doctor() {
    insta::assert_snapshot!(help(&["doctor"]), @"
    Try all that is needed, and tell how to mend what fails: exit code 3 then

    Usage: keydrift doctor [OPTIONS]

    Options:
          --organization <NAME>  Only this organization
          --format <FORMAT>      How to print: for people, or for programs [default: table] [possible
                                 values: table, json, ndjson, csv]
      -h, --help                 Print help

    Global options:
          --config <FILE>        Read this configuration file [default: $KEYDRIFT_CONFIG, else
                                 /etc/keydrift/keydrift.toml]
          --database <FILE>      Use this database file [setting: database.path]
      -v, --verbose...           Log more to stderr: what is done, with -vv also how, with -vvv
                                 everything (RUST_LOG wins)
          --log-format <FORMAT>  How log lines look; given, they go to stderr also where they would go
                                 to the journal [possible values: text, json]
      -q, --quiet                Say nothing on stderr but warnings and errors

    It reads each credential, asks the API for one admin key, three projects, one key of a project and
    one entry of the audit log, and looks at the clock, the schedule, the database, its disk and the
    checkpoint file. It changes nothing. Needed (exit code 3 if it fails) are the credential, its
    permission, the admin keys, the right organization, a sound database that can be written, room on
    its disk, and a history that agrees with its checkpoints; project keys if the setting was made or
    worked before, audit logs if the setting was made. Run it as the user that runs keydrift.

    Examples:
      keydrift doctor
      keydrift doctor --organization acme --format json
      sudo -u keydrift keydrift doctor        as the service is
    ");
}

#[test]
fn help_of_backup() {
    insta::assert_snapshot!(help(&["backup"]), @"
    Copy the database, whole and checked, while it is in use

    Usage: keydrift backup [OPTIONS] <FILE>

    Arguments:
      <FILE>  The new file; one that is there already is an error

    Options:
      -h, --help  Print help

    Global options:
          --config <FILE>        Read this configuration file [default: $KEYDRIFT_CONFIG, else
                                 /etc/keydrift/keydrift.toml]
          --database <FILE>      Use this database file [setting: database.path]
      -v, --verbose...           Log more to stderr: what is done, with -vv also how, with -vvv
                                 everything (RUST_LOG wins)
          --log-format <FORMAT>  How log lines look; given, they go to stderr also where they would go
                                 to the journal [possible values: text, json]
      -q, --quiet                Say nothing on stderr but warnings and errors

    To restore it, stop the daemon and put the file in the place of the database.

    Examples:
      keydrift backup /srv/backup/keydrift.db
    ");
}

#[test]
fn help_of_verify() {
    insta::assert_snapshot!(help(&["verify"]), @"
    Prove that the history is whole and unedited: exit code 3 if not

    Usage: keydrift verify [OPTIONS]

    Options:
          --checkpoints <FILE>   Hold it also against the checkpoints in this file; may be given several
                                 times
          --journal              Hold it also against the checkpoints in the journal, as journalctl
                                 gives them
          --public-key <VKEY>    Only checkpoints signed by this key prove anything; may be given
                                 several times
          --organization <NAME>  Only this organization
          --format <FORMAT>      How to print: for people, or for programs [default: table] [possible
                                 values: table, json, ndjson, csv]
      -h, --help                 Print help

    Global options:
          --config <FILE>        Read this configuration file [default: $KEYDRIFT_CONFIG, else
                                 /etc/keydrift/keydrift.toml]
          --database <FILE>      Use this database file [setting: database.path]
      -v, --verbose...           Log more to stderr: what is done, with -vv also how, with -vvv
                                 everything (RUST_LOG wins)
          --log-format <FORMAT>  How log lines look; given, they go to stderr also where they would go
                                 to the journal [possible values: text, json]
      -q, --quiet                Say nothing on stderr but warnings and errors

    It computes every digest of the chain anew, replays the history, and holds the result against the
    inventory. Broken (exit code 3) is what was edited, dropped, inserted or moved: it names the first
    bad run, and up to where the record is good. docs/audit-log.md says what that proves, and what not.
    Checkpoints are those in the checkpoint file, if it is there and can be read, and those given.

    Examples:
      keydrift verify
      keydrift verify --checkpoints copy.checkpoints --public-key acme+c74f20a3+ARpc2QcU…
      keydrift verify --journal               also against what the journal has
      keydrift verify --organization acme --format json
    ");
}

#[test]
fn help_of_organization() {
    insta::assert_snapshot!(help(&["organization"]), @"
    Give an organization another name, and keep its history

    Usage: keydrift organization [OPTIONS] <COMMAND>

    Commands:
      rename  Give an organization another name; all of its past is shown under it

    Options:
      -h, --help  Print help

    Global options:
          --config <FILE>        Read this configuration file [default: $KEYDRIFT_CONFIG, else
                                 /etc/keydrift/keydrift.toml]
          --database <FILE>      Use this database file [setting: database.path]
      -v, --verbose...           Log more to stderr: what is done, with -vv also how, with -vvv
                                 everything (RUST_LOG wins)
          --log-format <FORMAT>  How log lines look; given, they go to stderr also where they would go
                                 to the journal [possible values: text, json]
      -q, --quiet                Say nothing on stderr but warnings and errors
    ");
}

#[test]
fn help_of_organization_rename() {
    insta::assert_snapshot!(help(&["organization", "rename"]), @"
    Give an organization another name; all of its past is shown under it

    Usage: keydrift organization rename [OPTIONS] <OLD> <NEW>

    Arguments:
      <OLD>  The name that it has
      <NEW>  The name that it gets: small letters, digits, `_` and `-`

    Options:
      -h, --help  Print help

    Global options:
          --config <FILE>        Read this configuration file [default: $KEYDRIFT_CONFIG, else
                                 /etc/keydrift/keydrift.toml]
          --database <FILE>      Use this database file [setting: database.path]
      -v, --verbose...           Log more to stderr: what is done, with -vv also how, with -vvv
                                 everything (RUST_LOG wins)
          --log-format <FORMAT>  How log lines look; given, they go to stderr also where they would go
                                 to the journal [possible values: text, json]
      -q, --quiet                Say nothing on stderr but warnings and errors

    Rename it in the configuration too ([organizations.NAME]), and reload the daemon: a sync under the
    old name is refused. That it was renamed is an act in the history, with the system user, which
    `keydrift verify` shows for ever; checkpoints keep the name under which the history began. A name
    that an organization had is never given to another one.

    Examples:
      keydrift organization rename default acme
    ");
}

#[test]
fn help_of_checkpoint() {
    insta::assert_snapshot!(help(&["checkpoint"]), @"
    Make a key that signs checkpoints, or accept a restored backup

    Usage: keydrift checkpoint [OPTIONS] <COMMAND>

    Commands:
      keygen  Make a new key that signs checkpoints, and print its public half
      accept  Take a database for good that departs from its checkpoints, and record that

    Options:
      -h, --help  Print help

    Global options:
          --config <FILE>        Read this configuration file [default: $KEYDRIFT_CONFIG, else
                                 /etc/keydrift/keydrift.toml]
          --database <FILE>      Use this database file [setting: database.path]
      -v, --verbose...           Log more to stderr: what is done, with -vv also how, with -vvv
                                 everything (RUST_LOG wins)
          --log-format <FORMAT>  How log lines look; given, they go to stderr also where they would go
                                 to the journal [possible values: text, json]
      -q, --quiet                Say nothing on stderr but warnings and errors
    ");
}

#[test]
fn help_of_checkpoint_keygen() {
    insta::assert_snapshot!(help(&["checkpoint", "keygen"]), @"
    Make a new key that signs checkpoints, and print its public half

    Usage: keydrift checkpoint keygen [OPTIONS] <FILE>

    Arguments:
      <FILE>  The new file; one that is there already is an error

    Options:
          --name <NAME>  The name of the key, which signatures carry [default: keydrift]
      -h, --help         Print help

    Global options:
          --config <FILE>        Read this configuration file [default: $KEYDRIFT_CONFIG, else
                                 /etc/keydrift/keydrift.toml]
          --database <FILE>      Use this database file [setting: database.path]
      -v, --verbose...           Log more to stderr: what is done, with -vv also how, with -vvv
                                 everything (RUST_LOG wins)
          --log-format <FORMAT>  How log lines look; given, they go to stderr also where they would go
                                 to the journal [possible values: text, json]
      -q, --quiet                Say nothing on stderr but warnings and errors

    The file is for the setting checkpoint.key_file, or for systemd's credential checkpoint-key. What is
    printed is the public key: keep it where the database is not, for `keydrift verify --public-key`.

    Examples:
      keydrift checkpoint keygen /etc/keydrift/checkpoint.key --name acme.example/keydrift
    ");
}

#[test]
fn help_of_checkpoint_accept() {
    insta::assert_snapshot!(help(&["checkpoint", "accept"]), @"
    Take a database for good that departs from its checkpoints, and record that

    Usage: keydrift checkpoint accept [OPTIONS] --reason <TEXT>

    Options:
          --reason <TEXT>        Why the database departs from its checkpoints
          --organization <NAME>  Only this organization
      -h, --help                 Print help

    Global options:
          --config <FILE>        Read this configuration file [default: $KEYDRIFT_CONFIG, else
                                 /etc/keydrift/keydrift.toml]
          --database <FILE>      Use this database file [setting: database.path]
      -v, --verbose...           Log more to stderr: what is done, with -vv also how, with -vvv
                                 everything (RUST_LOG wins)
          --log-format <FORMAT>  How log lines look; given, they go to stderr also where they would go
                                 to the journal [possible values: text, json]
      -q, --quiet                Say nothing on stderr but warnings and errors

    For a backup that was restored. That is an act in the history, with the reason and the system user,
    which `keydrift verify` shows for ever. What was recorded between backup and loss stays lost.

    Examples:
      keydrift checkpoint accept --reason 'disk failed on 3 October, backup of the night before'
    ");
}

#[test]
fn help_of_evidence() {
    insta::assert_snapshot!(help(&["evidence"]), @"
    Put a period of the history into one file for an auditor, or check such a file

    Usage: keydrift evidence [OPTIONS] --from <TIME> --to <TIME> --output <FILE>
           keydrift evidence <COMMAND>

    Commands:
      verify  Check such a file, with no database: exit code 3 if it does not hold

    Options:
          --from <TIME>    The beginning: the first inventory is as of then
          --to <TIME>      The end: the second inventory is as of then
      -o, --output <FILE>  The new file; one that is there already is an error
      -h, --help           Print help

    Global options:
          --config <FILE>        Read this configuration file [default: $KEYDRIFT_CONFIG, else
                                 /etc/keydrift/keydrift.toml]
          --database <FILE>      Use this database file [setting: database.path]
      -v, --verbose...           Log more to stderr: what is done, with -vv also how, with -vvv
                                 everything (RUST_LOG wins)
          --log-format <FORMAT>  How log lines look; given, they go to stderr also where they would go
                                 to the journal [possible values: text, json]
      -q, --quiet                Say nothing on stderr but warnings and errors

    The file has the inventory at both ends, every event and run between them with the gaps, the
    settings without secrets, the chain with its checkpoints, and what it takes to check all of it
    anywhere: with keydrift, or with the Python program in it. The same database, period and settings
    give the same bytes. It holds all organizations of the database: their runs are numbered in common,
    and none can be left out.

    Examples:
      keydrift evidence --from 2026-07-01 --to 2026-10-01 -o q3.tar.gz
      keydrift evidence verify q3.tar.gz
    ");
}

#[test]
fn help_of_evidence_verify() {
    insta::assert_snapshot!(help(&["evidence", "verify"]), @"
    Check such a file, with no database: exit code 3 if it does not hold

    Usage: keydrift evidence verify [OPTIONS] <FILE>

    Arguments:
      <FILE>  The file

    Options:
          --checkpoints <FILE>  Hold it against the checkpoints in this file too; may be given several
                                times
          --public-key <KEY>    Take nothing for signed but what is signed by this key; may be given
                                several times
          --format <FORMAT>     How to print: for people, or for programs [default: table] [possible
                                values: table, json, ndjson, csv]
      -h, --help                Print help

    Global options:
          --config <FILE>        Read this configuration file [default: $KEYDRIFT_CONFIG, else
                                 /etc/keydrift/keydrift.toml]
          --database <FILE>      Use this database file [setting: database.path]
      -v, --verbose...           Log more to stderr: what is done, with -vv also how, with -vvv
                                 everything (RUST_LOG wins)
          --log-format <FORMAT>  How log lines look; given, they go to stderr also where they would go
                                 to the journal [possible values: text, json]
      -q, --quiet                Say nothing on stderr but warnings and errors
    ");
}

#[test]
fn help_of_prune() {
    insta::assert_snapshot!(help(&["prune"]), @"
    Throw away what the retention policy no longer keeps

    Usage: keydrift prune [OPTIONS]

    Options:
          --dry-run              Only tell what would be thrown away
          --vacuum               Write the file anew without what was thrown away: takes as much free
                                 space as it is large
          --organization <NAME>  Only this organization
          --format <FORMAT>      How to print: for people, or for programs [default: table] [possible
                                 values: table, json, ndjson, csv]
      -h, --help                 Print help

    Global options:
          --config <FILE>        Read this configuration file [default: $KEYDRIFT_CONFIG, else
                                 /etc/keydrift/keydrift.toml]
          --database <FILE>      Use this database file [setting: database.path]
      -v, --verbose...           Log more to stderr: what is done, with -vv also how, with -vvv
                                 everything (RUST_LOG wins)
          --log-format <FORMAT>  How log lines look; given, they go to stderr also where they would go
                                 to the journal [possible values: text, json]
      -q, --quiet                Say nothing on stderr but warnings and errors

    The settings retention.used_events and retention.events say how long events are kept. Neither is
    set by default, and then nothing is ever thrown away. The runs, the digests and the inventory at
    the horizon stay, so that `keydrift verify` still holds; an earlier time can no longer be asked
    for. It is a link of the chain. The daemon does the same by itself, once a day, and gives no space
    back: new events fill it. Backups and copies are not touched.

    Examples:
      keydrift prune --dry-run                what would be thrown away
      keydrift prune --vacuum                 and make the file smaller
    ");
}

#[test]
fn help_of_forget() {
    insta::assert_snapshot!(help(&["forget"]), @"
    Erase what is known of a person: name, e-mail and IP addresses

    Usage: keydrift forget [OPTIONS] <OWNER_ID>

    Arguments:
      <OWNER_ID>  The owner's id (`owner_id` in `keydrift keys --format json`)

    Options:
          --organization <NAME>  Only this organization
      -h, --help                 Print help

    Global options:
          --config <FILE>        Read this configuration file [default: $KEYDRIFT_CONFIG, else
                                 /etc/keydrift/keydrift.toml]
          --database <FILE>      Use this database file [setting: database.path]
      -v, --verbose...           Log more to stderr: what is done, with -vv also how, with -vvv
                                 everything (RUST_LOG wins)
          --log-format <FORMAT>  How log lines look; given, they go to stderr also where they would go
                                 to the journal [possible values: text, json]
      -q, --quiet                Say nothing on stderr but warnings and errors

    It cannot be undone. The owner's name, e-mail and IP addresses are replaced by `erased` in the
    inventory and in the whole history, also as of who made, changed or deleted a key (`actor_id`);
    id, type and role stay, and so do the names of keys. The
    person stays forgotten: later syncs record none of it. It is a link of the chain, which still
    holds. The file is written anew, which takes as much free space as it is large. Backups, copies
    and what was printed or exported before are not touched.

    Examples:
      keydrift forget user-abc123
      keydrift forget user-abc123 --organization acme
    ");
}
