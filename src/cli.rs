//! The command line as it is written: arguments, help, examples. What they mean is decided elsewhere.

#![expect(
    clippy::doc_markdown,
    reason = "these comments are the help that people read in a terminal"
)]

mod findings;
mod note;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::inventory::{EventKind, Scope};
use crate::output::Format;
use crate::telemetry::LogFormat;

pub use findings::{Findings, RuleArg, SeverityArg};
pub use note::Note;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default())
    .placeholder(AnsiColor::Cyan.on_default());

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed: the API, the database, a refused credential, or a held run
  2  wrong command line, configuration or credential source
  3  the answer is the bad one: it drifted (with sync --exit-code), it is not healthy
  4  partly done: at least one organization is done and one is not

Try it without an account: keydrift demo";

/// Keeps the books on an organization's API keys: what there is, what changed, and when.
#[derive(Debug, Parser)]
#[command(
    name = "keydrift",
    version,
    styles = STYLES,
    max_term_width = 100,
    after_help = EXIT_CODES,
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Read this configuration file [default: $KEYDRIFT_CONFIG, else /etc/keydrift/keydrift.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Use this database file [setting: database.path]
    #[arg(long, global = true, value_name = "FILE")]
    pub database: Option<PathBuf>,
    /// Log more to stderr: what is done, with -vv also how, with -vvv everything (RUST_LOG wins)
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
    /// How log lines look; given, they go to stderr also where they would go to the journal
    #[arg(long, global = true, value_name = "FORMAT", value_enum)]
    pub log_format: Option<LogFormat>,
    /// Say nothing on stderr but warnings and errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Sync on schedule until told to stop: the daemon
    Run(Run),
    /// Sync each organization now and print what changed
    Sync(Sync),
    /// List the keys: the inventory, or what it was at another time
    Keys(Keys),
    /// List what changed: the audit history
    Log(Log),
    /// Tell one key's whole story
    Show(Show),
    /// List the keys that break a rule: stale, expiring, without an owner
    Findings(Findings),
    /// Say something of an event or a key, for good: a ticket, a reason
    Note(Note),
    /// List what differs between two times
    Diff(Diff),
    /// List the runs: when keydrift looked, and what came of it
    Runs(Runs),
    /// Tell whether all is well: exit code 3 if not
    Status(Status),
    /// Try all that is needed, and tell how to mend what fails: exit code 3 then
    Doctor(Doctor),
    /// Prove that the history is whole and unedited: exit code 3 if not
    Verify(Verify),
    /// Put a period of the history into one file for an auditor, or check such a file
    Evidence(Evidence),
    /// Copy the database, whole and checked, while it is in use
    Backup(Backup),
    /// Make a key that signs checkpoints, or accept a restored backup
    #[command(subcommand, arg_required_else_help = true)]
    Checkpoint(Checkpoint),
    /// Throw away what the retention policy no longer keeps
    Prune(Prune),
    /// Erase what is known of a person: name, e-mail and IP addresses
    Forget(Forget),
    /// Give an organization another name, and keep its history
    #[command(subcommand, arg_required_else_help = true)]
    Organization(Organization),
    /// Show what is configured, or what is wrong with it
    #[command(subcommand, arg_required_else_help = true)]
    Config(Config),
    /// Play a fortnight of a simulated organization, with no account and no network
    Demo(Demo),
    /// Print a shell's completion script
    Completions(Completions),
    /// Write the manual pages, for packages
    #[command(hide = true)]
    Man(Man),
}

const RUN_NOTES: &str = "\
Signals: SIGTERM and SIGINT stop it (a second one at once), SIGHUP reads the configuration anew,
SIGUSR1 syncs every organization now. Under systemd, see the unit keydrift.service.

Examples:
  keydrift run
  systemctl enable --now keydrift         as a service";

#[derive(Debug, Args)]
#[command(after_help = RUN_NOTES)]
pub struct Run {}

const SYNC_EXAMPLES: &str = "\
A run is held when too many keys are missing that nobody could confirm gone, and refused when the
answers seem to come from another organization. With --accept, keys that were missing then are
removed unless they answer now; if more are missing than were recorded, the run is held again.

Examples:
  OPENAI_ADMIN_KEY=… keydrift sync
  keydrift sync --exit-code --format ndjson     for a script: 3 if anything drifted
  keydrift sync --accept acme                   after a look at the provider's console";

#[derive(Debug, Args)]
#[command(after_help = SYNC_EXAMPLES)]
pub struct Sync {
    #[command(flatten)]
    pub organization: OrganizationArg,
    /// Exit with 3 if anything drifted
    #[arg(long)]
    pub exit_code: bool,
    /// Take what the newest held or refused run of this organization recorded for true
    #[arg(long, value_name = "NAME", conflicts_with = "organization")]
    pub accept: Option<String>,
    /// Record the runs as scheduled ones: for a timer
    #[arg(long)]
    pub scheduled: bool,
    #[command(flatten)]
    pub format: FormatArg,
}

const KEYS_EXAMPLES: &str = "\
TIME is RFC 3339 (2026-11-23T12:29:00Z), a date or time in UTC (2026-10-01, 2026-10-01T12:00), now,
today, yesterday, or how long ago (7d, 12h). DURATION is a number and a unit (90d, 12h).

Examples:
  keydrift keys --stale 90d               not used for 90 days, or never in 90 days of life
  keydrift keys --as-of 2026-10-01        as they were then
  keydrift keys --removed --format csv    what is gone, for a spreadsheet";

#[derive(Debug, Args)]
#[command(after_help = KEYS_EXAMPLES)]
pub struct Keys {
    /// The keys as they were at this time
    #[arg(long, value_name = "TIME", conflicts_with_all = ["removed"])]
    pub as_of: Option<String>,
    /// The keys that are gone, instead of those that are there
    #[arg(long)]
    pub removed: bool,
    /// Only keys not used for this long, such as `90d`; unused ones count from their creation
    #[arg(long, value_name = "DURATION")]
    pub stale: Option<String>,
    /// Only admin keys, or only projects' keys
    #[arg(long, value_name = "SCOPE")]
    pub scope: Option<ScopeArg>,
    /// Only keys of the owner with this id or name
    #[arg(long, value_name = "OWNER")]
    pub owner: Option<String>,
    /// Only keys of the project with this id or name
    #[arg(long, value_name = "PROJECT")]
    pub project: Option<String>,
    #[command(flatten)]
    pub organization: OrganizationArg,
    #[command(flatten)]
    pub format: FormatArg,
}

const LOG_EXAMPLES: &str = "\
TIME is RFC 3339 (2026-11-23T12:29:00Z), a date or time in UTC (2026-10-01, 2026-10-01T12:00), now,
today, yesterday, or how long ago (7d, 12h).

Examples:
  keydrift log --since 7d
  keydrift log --since 2026-10-01 --until 2026-11-01 --event added,removed,restored
  keydrift log --key wxyz                 one key, by the end of its value
  keydrift log --since 7d --unexplained   drift that nobody has accounted for
  keydrift log --limit 20 --follow        the last twenty events, and then each new one";

#[derive(Debug, Args)]
#[command(after_help = LOG_EXAMPLES)]
pub struct Log {
    /// Only what was observed at this time or later
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only what was observed before this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Only one key: its id, the beginning of its id, its name, or the end of its value (3 or more)
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// Only this kind of event; several with commas
    #[arg(long, value_name = "EVENT", value_delimiter = ',')]
    pub event: Vec<EventArg>,
    /// Only drift that nothing explains, such as a note; without `used` events unless asked for
    #[arg(long)]
    pub unexplained: bool,
    /// Only the newest N events
    #[arg(long, value_name = "N")]
    pub limit: Option<u32>,
    /// The newest first
    #[arg(long)]
    pub reverse: bool,
    /// Go on printing events as they are recorded, until interrupted
    #[arg(long, conflicts_with_all = ["reverse", "until"])]
    pub follow: bool,
    #[command(flatten)]
    pub organization: OrganizationArg,
    #[command(flatten)]
    pub format: FormatArg,
}

const SHOW_EXAMPLES: &str = "\
Examples:
  keydrift show key_abc
  keydrift show 'Main Admin Key'
  keydrift show wxyz                       the end of a leaked key, or all of its last part";

#[derive(Debug, Args)]
#[command(after_help = SHOW_EXAMPLES)]
pub struct Show {
    /// The key's id, the beginning of its id, its name, or the end of its value (3 or more)
    #[arg(value_name = "KEY")]
    pub key: String,
    #[command(flatten)]
    pub organization: OrganizationArg,
    #[command(flatten)]
    pub format: FormatArg,
}

const DIFF_EXAMPLES: &str = "\
What came and went, or changed and changed back in between, is no difference: `keydrift log` has it.
What changed for all keys at once, such as a new field, is no difference but a line on stderr.
TIME is RFC 3339 (2026-11-23T12:29:00Z), a date or time in UTC (2026-10-01, 2026-10-01T12:00), now,
today, yesterday, or how long ago (7d, 12h).

Examples:
  keydrift diff 7d now
  keydrift diff 2026-07-01 2026-10-01 --format csv";

#[derive(Debug, Args)]
#[command(after_help = DIFF_EXAMPLES)]
pub struct Diff {
    /// The earlier time
    #[arg(value_name = "FROM")]
    pub from: String,
    /// The later time
    #[arg(value_name = "TO")]
    pub to: String,
    #[command(flatten)]
    pub organization: OrganizationArg,
    #[command(flatten)]
    pub format: FormatArg,
}

const RUNS_EXAMPLES: &str = "\
Examples:
  keydrift runs --limit 10
  keydrift runs --organization acme --format json";

#[derive(Debug, Args)]
#[command(after_help = RUNS_EXAMPLES)]
pub struct Runs {
    /// Only the newest N runs
    #[arg(long, value_name = "N")]
    pub limit: Option<u32>,
    /// The newest first
    #[arg(long)]
    pub reverse: bool,
    #[command(flatten)]
    pub organization: OrganizationArg,
    #[command(flatten)]
    pub format: FormatArg,
}

const STATUS_NOTES: &str = "\
Not healthy (exit code 3) is an organization whose last success is older than two intervals of its
schedule, or that has a held run, or none that succeeded; and a history that is broken. It reads only
the configuration and the database: the daemon need not run, and no credential is needed.

Examples:
  keydrift status
  keydrift status --format json           for a monitoring check";

#[derive(Debug, Args)]
#[command(after_help = STATUS_NOTES)]
pub struct Status {
    #[command(flatten)]
    pub organization: OrganizationArg,
    #[command(flatten)]
    pub format: FormatArg,
}

const DOCTOR_NOTES: &str = "\
It reads each credential, asks the API for one admin key, three projects, one key of a project and
one entry of the audit log, and looks at the clock, the schedule, the database, its disk and the
checkpoint file. It changes nothing. Needed (exit code 3 if it fails) are the credential, its
permission, the admin keys, the right organization, a sound database that can be written, room on
its disk, and a history that agrees with its checkpoints; project keys if the setting was made or
worked before, audit logs if the setting was made. Run it as the user that runs keydrift.

Examples:
  keydrift doctor
  keydrift doctor --organization acme --format json
  sudo -u keydrift keydrift doctor        as the service is";

#[derive(Debug, Args)]
#[command(after_help = DOCTOR_NOTES)]
pub struct Doctor {
    #[command(flatten)]
    pub organization: OrganizationArg,
    #[command(flatten)]
    pub format: FormatArg,
}

const VERIFY_NOTES: &str = "\
It computes every digest of the chain anew, replays the history, and holds the result against the
inventory. Broken (exit code 3) is what was edited, dropped, inserted or moved: it names the first
bad run, and up to where the record is good. docs/audit-log.md says what that proves, and what not.
Checkpoints are those in the checkpoint file, if it is there and can be read, and those given.

Examples:
  keydrift verify
  keydrift verify --checkpoints copy.checkpoints --public-key acme+c74f20a3+ARpc2QcU…
  keydrift verify --journal               also against what the journal has
  keydrift verify --organization acme --format json";

#[derive(Debug, Args)]
#[command(after_help = VERIFY_NOTES)]
pub struct Verify {
    /// Hold it also against the checkpoints in this file; may be given several times
    #[arg(long, value_name = "FILE")]
    pub checkpoints: Vec<PathBuf>,
    /// Hold it also against the checkpoints in the journal, as journalctl gives them
    #[arg(long)]
    pub journal: bool,
    /// Only checkpoints signed by this key prove anything; may be given several times
    #[arg(long, value_name = "VKEY")]
    pub public_key: Vec<String>,
    #[command(flatten)]
    pub organization: OrganizationArg,
    #[command(flatten)]
    pub format: FormatArg,
}

const EVIDENCE_NOTES: &str = "\
The file has the inventory at both ends, every event and run between them with the gaps, the
settings without secrets, the chain with its checkpoints, and what it takes to check all of it
anywhere: with keydrift, or with the Python program in it. The same database, period and settings
give the same bytes. It holds all organizations of the database: their runs are numbered in common,
and none can be left out.

Examples:
  keydrift evidence --from 2026-07-01 --to 2026-10-01 -o q3.tar.gz
  keydrift evidence verify q3.tar.gz";

#[derive(Debug, Args)]
#[command(after_help = EVIDENCE_NOTES, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Evidence {
    #[command(subcommand)]
    pub action: Option<EvidenceAction>,
    /// The beginning: the first inventory is as of then
    #[arg(long, value_name = "TIME", required = true)]
    pub from: Option<String>,
    /// The end: the second inventory is as of then
    #[arg(long, value_name = "TIME", required = true)]
    pub to: Option<String>,
    /// The new file; one that is there already is an error
    #[arg(short, long, value_name = "FILE", required = true)]
    pub output: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum EvidenceAction {
    /// Check such a file, with no database: exit code 3 if it does not hold
    Verify(EvidenceVerify),
}

#[derive(Debug, Args)]
pub struct EvidenceVerify {
    /// The file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Hold it against the checkpoints in this file too; may be given several times
    #[arg(long, value_name = "FILE")]
    pub checkpoints: Vec<PathBuf>,
    /// Take nothing for signed but what is signed by this key; may be given several times
    #[arg(long, value_name = "KEY")]
    pub public_key: Vec<String>,
    #[command(flatten)]
    pub format: FormatArg,
}

const BACKUP_EXAMPLES: &str = "\
To restore it, stop the daemon and put the file in the place of the database.

Examples:
  keydrift backup /srv/backup/keydrift.db";

#[derive(Debug, Args)]
#[command(after_help = BACKUP_EXAMPLES)]
pub struct Backup {
    /// The new file; one that is there already is an error
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

const PRUNE_NOTES: &str = "\
The settings retention.used_events and retention.events say how long events are kept. Neither is
set by default, and then nothing is ever thrown away. The runs, the digests and the inventory at
the horizon stay, so that `keydrift verify` still holds; an earlier time can no longer be asked
for. It is a link of the chain. The daemon does the same by itself, once a day, and gives no space
back: new events fill it. Backups and copies are not touched.

Examples:
  keydrift prune --dry-run                what would be thrown away
  keydrift prune --vacuum                 and make the file smaller";

#[derive(Debug, Args)]
#[command(after_help = PRUNE_NOTES)]
pub struct Prune {
    /// Only tell what would be thrown away
    #[arg(long, conflicts_with = "vacuum")]
    pub dry_run: bool,
    /// Write the file anew without what was thrown away: takes as much free space as it is large
    #[arg(long)]
    pub vacuum: bool,
    #[command(flatten)]
    pub organization: OrganizationArg,
    #[command(flatten)]
    pub format: FormatArg,
}

const FORGET_NOTES: &str = "\
It cannot be undone. The owner's name, e-mail and IP addresses are replaced by `erased` in the
inventory and in the whole history, also as of who made, changed or deleted a key (`actor_id`);
id, type and role stay, and so do the names of keys. The
person stays forgotten: later syncs record none of it. It is a link of the chain, which still
holds. The file is written anew, which takes as much free space as it is large. Backups, copies
and what was printed or exported before are not touched.

Examples:
  keydrift forget user-abc123
  keydrift forget user-abc123 --organization acme";

#[derive(Debug, Args)]
#[command(after_help = FORGET_NOTES)]
pub struct Forget {
    /// The owner's id (`owner_id` in `keydrift keys --format json`)
    #[arg(value_name = "OWNER_ID")]
    pub owner_id: String,
    #[command(flatten)]
    pub organization: OrganizationArg,
}

#[derive(Debug, Subcommand)]
pub enum Checkpoint {
    /// Make a new key that signs checkpoints, and print its public half
    Keygen(CheckpointKeygen),
    /// Take a database for good that departs from its checkpoints, and record that
    Accept(CheckpointAccept),
}

const KEYGEN_EXAMPLES: &str = "\
The file is for the setting checkpoint.key_file, or for systemd's credential checkpoint-key. What is
printed is the public key: keep it where the database is not, for `keydrift verify --public-key`.

Examples:
  keydrift checkpoint keygen /etc/keydrift/checkpoint.key --name acme.example/keydrift";

#[derive(Debug, Args)]
#[command(after_help = KEYGEN_EXAMPLES)]
pub struct CheckpointKeygen {
    /// The new file; one that is there already is an error
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The name of the key, which signatures carry
    #[arg(long, value_name = "NAME", default_value = "keydrift")]
    pub name: String,
}

const ACCEPT_NOTES: &str = "\
For a backup that was restored. That is an act in the history, with the reason and the system user,
which `keydrift verify` shows for ever. What was recorded between backup and loss stays lost.

Examples:
  keydrift checkpoint accept --reason 'disk failed on 3 October, backup of the night before'";

#[derive(Debug, Args)]
#[command(after_help = ACCEPT_NOTES)]
pub struct CheckpointAccept {
    /// Why the database departs from its checkpoints
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    #[command(flatten)]
    pub organization: OrganizationArg,
}

#[derive(Debug, Subcommand)]
pub enum Organization {
    /// Give an organization another name; all of its past is shown under it
    Rename(OrganizationRename),
}

const RENAME_NOTES: &str = "\
Rename it in the configuration too ([organizations.NAME]), and reload the daemon: a sync under the
old name is refused. That it was renamed is an act in the history, with the system user, which
`keydrift verify` shows for ever; checkpoints keep the name under which the history began. A name
that an organization had is never given to another one.

Examples:
  keydrift organization rename default acme";

#[derive(Debug, Args)]
#[command(after_help = RENAME_NOTES)]
pub struct OrganizationRename {
    /// The name that it has
    #[arg(value_name = "OLD")]
    pub old: String,
    /// The name that it gets: small letters, digits, `_` and `-`
    #[arg(value_name = "NEW")]
    pub new: String,
}

#[derive(Debug, Subcommand)]
pub enum Config {
    /// Print the configuration in effect, secrets masked, or what is wrong with it and where
    Check(ConfigCheck),
}

#[derive(Debug, Args)]
pub struct ConfigCheck {
    #[command(flatten)]
    pub format: FormatArg,
}

const DEMO_EXAMPLES: &str = "\
Examples:
  keydrift demo
  keydrift demo --serve 127.0.0.1:0       keep the simulated API up, to try the other commands on it

The demo reads no configuration and no credential, not even with --config or --database: it writes
one new database under the temporary directory ($TMPDIR, else /tmp), and prints where.";

#[derive(Debug, Args)]
#[command(after_help = DEMO_EXAMPLES)]
pub struct Demo {
    /// Keep the simulated API up at this loopback address until interrupted; port 0: any that is free
    #[arg(long, value_name = "ADDR")]
    pub serve: Option<SocketAddr>,
    /// Add so many keys to the organization that is served: to try a large one
    #[arg(long, value_name = "N", requires = "serve")]
    pub keys: Option<u32>,
}

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  keydrift completions bash > /etc/bash_completion.d/keydrift
  keydrift completions fish > ~/.config/fish/completions/keydrift.fish";

#[derive(Debug, Args)]
#[command(after_help = COMPLETIONS_EXAMPLES)]
pub struct Completions {
    /// The shell to complete for
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

#[derive(Debug, Args)]
pub struct Man {
    /// The directory to write them into
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}

#[derive(Debug, Args)]
pub struct OrganizationArg {
    /// Only this organization
    #[arg(long = "organization", value_name = "NAME", id = "organization")]
    pub name: Option<String>,
}

#[derive(Debug, Args)]
pub struct FormatArg {
    /// How to print: for people, or for programs
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum ScopeArg {
    Admin,
    Project,
}

impl From<ScopeArg> for Scope {
    fn from(arg: ScopeArg) -> Self {
        match arg {
            ScopeArg::Admin => Self::Admin,
            ScopeArg::Project => Self::Project,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum EventArg {
    Baseline,
    Added,
    Removed,
    Restored,
    Used,
    Changed,
}

impl From<EventArg> for EventKind {
    fn from(arg: EventArg) -> Self {
        match arg {
            EventArg::Baseline => Self::Baseline,
            EventArg::Added => Self::Added,
            EventArg::Removed => Self::Removed,
            EventArg::Restored => Self::Restored,
            EventArg::Used => Self::Used,
            EventArg::Changed => Self::Changed,
        }
    }
}
