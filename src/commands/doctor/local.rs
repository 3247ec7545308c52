//! What is on this machine: the database, its disk, the checkpoint file, the schedule.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat, statvfs};

use super::row::{Check, Outcome, Row};
use crate::checkpoint::{self, Comparison, Look};
use crate::clock::Timestamp;
use crate::commands::open_reader;
use crate::commands::status::{self, Verdict};
use crate::config::{OrganizationSettings, Settings};
use crate::output::count;
use crate::store::{self, Reader};

const MIB: u64 = 1 << 20;
/// With less than the first, a run may not be recorded; less than the second is told of.
const FREE_NEEDED: u64 = 32 * MIB;
const FREE_TOLD: u64 = 256 * MIB;
/// What to do about a database that is damaged.
const KEEP: &str = "keep a copy of it as it is, then restore a backup; `keydrift verify` says more";
/// What SQLite and the run lock keep beside the database.
const BESIDE: [&str; 3] = ["-wal", "-shm", ".lock"];

/// Opens the database to read, if it can be, and looks at it.
pub(super) async fn examine_database(settings: &Settings) -> (Row, Option<Reader>) {
    let path = &settings.database.path;
    match open_reader(settings).await {
        Ok(mut reader) => {
            let row = look_at(path, &mut reader).await;
            (row, Some(reader))
        }
        Err(error) => (unopened(settings, &error), None),
    }
}

async fn look_at(path: &Path, reader: &mut Reader) -> Row {
    const CHECK: Check = Check::Database;
    let found = match reader.glance().await {
        Ok(None) => reader.find_break().await,
        found => found,
    };
    match found {
        Err(error) => return unread(CHECK, error.to_string(), error.hint()),
        Ok(Some(what)) => {
            return Row::failed(CHECK, format!("`{}` is not sound: {what}", path.display()))
                .costing("the history cannot be proven, and may not be read or written any more")
                .mend(KEEP);
        }
        Ok(None) => {}
    }
    match find_unwritable(path) {
        Some(unwritable) => {
            let detail = format!("`{}` cannot be written by this user", unwritable.display());
            Row::failed(CHECK, detail).mend(format!(
                "run keydrift as the user that the database belongs to, or make `{}` writable for this one",
                unwritable.display()
            ))
        }
        None => Row::ok(
            CHECK,
            format!(
                "`{}` opens, SQLite finds no damage, and it can be written; `keydrift verify` proves the history",
                path.display()
            ),
        ),
    }
}

/// What is to be said of a database that is not there, or cannot be read.
fn unopened(settings: &Settings, error: &anyhow::Error) -> Row {
    const CHECK: Check = Check::Database;
    let path = &settings.database.path;
    match error.downcast_ref() {
        Some(store::Error::Missing { .. }) => {
            let directory = directory_of(path);
            let made = existing(&directory, settings.database.is_default);
            if is_writable(&made, true) {
                return Row::ok(
                    CHECK,
                    format!("`{}` is not there yet: the first sync makes it", path.display()),
                );
            }
            let what =
                if made.is_dir() { "cannot be written by this user" } else { "is no directory" };
            Row::failed(CHECK, format!("there is no database, and `{}` {what}", made.display())).mend(
                "create the directory for the user that runs keydrift, or name another place with `--database` \
                 or the setting `database.path`",
            )
        }
        Some(error @ store::Error::Older { .. }) => Row::warning(CHECK, error.to_string())
            .costing("nothing can be read from it before that")
            .mend("`keydrift sync` brings the file up to date; reading commands never change it"),
        Some(error) => explain(Row::failed(CHECK, told(error)), error.hint()),
        None => {
            let hint = error.downcast_ref().and_then(checkpoint::Error::hint);
            explain(Row::failed(CHECK, error.to_string()), hint)
        }
    }
}

fn told(error: &store::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// How much room there is where the database is, or will be.
pub(super) fn examine_disk(settings: &Settings) -> Row {
    const CHECK: Check = Check::DiskSpace;
    let path = &settings.database.path;
    let directory = existing(&directory_of(path), true);
    let disk = match statvfs(&directory) {
        Ok(disk) => disk,
        Err(error) => {
            return Row::warning(
                CHECK,
                format!("`{}` does not tell: {error}", directory.display()),
            )
            .costing("nobody knows when it will be full");
        }
    };
    let size = path.metadata().map_or(0, |file| file.len());
    let free = Free {
        bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
        files: (disk.f_files > 0).then_some(disk.f_favail),
    };
    judge_disk(free, size, &directory)
}

/// What is left for an ordinary user.
#[derive(Debug, Clone, Copy)]
struct Free {
    bytes: u64,
    /// `None`: the file system does not count them.
    files: Option<u64>,
}

fn judge_disk(free: Free, size: u64, directory: &Path) -> Row {
    const CHECK: Check = Check::DiskSpace;
    let left = format!("{} free in `{}`", mebibytes(free.bytes), directory.display());
    let mend = "free some space, or move the database; `[retention]` and `keydrift prune --vacuum` make it smaller";
    if free.files == Some(0) {
        return Row::failed(CHECK, format!("{left}, but no room for another file"))
            .needed(true)
            .mend("remove some files of that file system");
    }
    match free.bytes {
        0..FREE_NEEDED => Row::failed(CHECK, left).needed(true).mend(mend),
        bytes if bytes < FREE_TOLD => Row::warning(CHECK, left).mend(mend),
        bytes if bytes < size => {
            Row::warning(CHECK, format!("{left}, and the database has {}", mebibytes(size)))
                .costing("there is no room for a backup there, nor for `keydrift prune --vacuum`")
                .mend(mend)
        }
        _ => Row::ok(CHECK, left),
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", crate::output::grouped(bytes / MIB))
}

/// The checkpoint file, the key that signs, and whether the database agrees with them.
pub(super) async fn examine_checkpoint(settings: &Settings, reader: Option<&mut Reader>) -> Row {
    const CHECK: Check = Check::Checkpoint;
    let file = &settings.checkpoint.path;
    let (look, compared) = match reader {
        None => (None, None),
        Some(reader) => match look_at_checkpoints(settings, reader).await {
            Ok((look, compared)) => (Some(look), Some(compared)),
            Err(error) => return unread(CHECK, error.to_string(), error.hint()),
        },
    };
    if let Some(departure) = look.as_ref().and_then(|look| look.departure.as_ref()) {
        return explain(Row::failed(CHECK, departure.to_string()), departure.hint())
            .costing("nothing is recorded any more until somebody has looked")
            .needed(true);
    }
    if let Some((name, what)) = compared.as_ref().and_then(|compared| compared.bad.as_ref()) {
        return Row::failed(CHECK, format!("{name}: {what} (`{}`)", file.display()))
            .costing("the history was rewritten, or the file was: one of them proves nothing from there on")
            .mend("keep a copy of both; `keydrift verify` says how far the history is good")
            .needed(true);
    }
    if let Some(unusable) = look.as_ref().and_then(|look| look.unusable.as_ref()) {
        return Row::failed(CHECK, unusable.clone())
            .mend("put it in order, or name another file in `checkpoint.path`");
    }
    let key = match checkpoint::load_key(&settings.checkpoint) {
        Ok(key) => key,
        Err(error) => return Row::failed(CHECK, error.to_string()).mend(error.hint()),
    };
    if let Some(row) = unusable_file(settings) {
        return row;
    }
    let signed =
        if key.is_some() { "signed" } else { "not signed: there is no `checkpoint.key_file`" };
    let behind: usize = look.iter().flat_map(|look| look.missing.values()).sum();
    match compared {
        None => Row::ok(
            CHECK,
            format!("`{}` is not there yet: the first run makes it; {signed}", file.display()),
        ),
        Some(compared) => judge_checkpoints(&compared, behind, file, signed),
    }
}

/// What is to be said of the checkpoints in a file that could be read, and of those that are not there.
fn judge_checkpoints(compared: &Comparison, behind: usize, file: &Path, signed: &str) -> Row {
    const CHECK: Check = Check::Checkpoint;
    let path = file.display();
    let number = count(compared.agree, "checkpoint");
    if let Some(why) = &compared.unreadable {
        return Row::failed(CHECK, format!("`{path}` cannot be read: {why}"))
            .mend(format!("make `{path}` readable for this user"));
    }
    if !compared.without.is_empty() {
        let names: Vec<String> = compared.without.iter().map(|name| format!("`{name}`")).collect();
        let names = names.join(", ");
        let what = if file.exists() {
            format!("`{path}` has no checkpoint of {names}, whose history has links")
        } else {
            format!("`{path}` is missing, though the history of {names} has links")
        };
        return Row::warning(CHECK, format!("{what}: {number} compared")).mend(
            "bring the file back from a copy, and hold the history against it with `keydrift verify`; the next run \
             makes a checkpoint only of what is there then",
        );
    }
    if compared.damaged > 0 {
        let parts = count(compared.damaged, "part");
        return Row::warning(
            CHECK,
            format!("{parts} of `{path}` cannot be read as a checkpoint; {number} in it compared, and agree"),
        )
        .mend("compare the file with a copy; `keydrift verify --journal` takes in those of the journal, too");
    }
    if behind > 1 {
        let links = count(u64::try_from(behind).unwrap_or(u64::MAX), "link");
        return Row::warning(
            CHECK,
            format!("{links} of the history have no checkpoint in `{path}`; {number} compared, and agree"),
        )
        .mend("the next run makes them; if not, the log says why");
    }
    if compared.agree == 0 {
        return Row::ok(
            CHECK,
            format!("there is no history yet to compare with `{path}`; {signed}"),
        );
    }
    let given_up = match compared.abandoned {
        0 => String::new(),
        abandoned => format!(" ({abandoned} were given up)"),
    };
    Row::ok(CHECK, format!("the history agrees with {number} in `{path}`{given_up}; {signed}"))
}

/// How the newest checkpoints, and how all of them are to the history.
async fn look_at_checkpoints(
    settings: &Settings,
    reader: &mut Reader,
) -> Result<(Look, Comparison), checkpoint::Error> {
    let look = checkpoint::look(settings, reader).await?;
    Ok((look, checkpoint::compare_all(settings, reader).await?))
}

fn unusable_file(settings: &Settings) -> Option<Row> {
    let file = &settings.checkpoint.path;
    let (what, is_directory) = if file.exists() {
        (file.clone(), false)
    } else {
        (existing(&directory_of(file), settings.database.is_default), true)
    };
    if is_writable(&what, is_directory) {
        return None;
    }
    let detail = format!("`{}` cannot be written by this user", what.display());
    let row = Row::failed(Check::Checkpoint, detail);
    Some(row.mend(format!("make `{}` writable for the user that runs keydrift", what.display())))
}

/// When the organization was synced, and when it is due.
pub(super) async fn examine_schedule(
    organization: &OrganizationSettings,
    reader: Option<&mut Reader>,
    now: Timestamp,
) -> Row {
    let name = organization.name.as_str();
    let row = match reader {
        Some(reader) => judge_schedule(organization, reader, now).await,
        // The offset within the jitter is the database's.
        None => Ok(never_synced(organization, "", now)),
    };
    let explained = |error: store::Error| {
        let hint = error.hint();
        unread(Check::Schedule, error.to_string(), hint)
    };
    row.unwrap_or_else(explained).of(name)
}

fn never_synced(organization: &OrganizationSettings, installation: &str, now: Timestamp) -> Row {
    let due = due(organization.schedule(installation).next_after(now));
    Row::ok(Check::Schedule, format!("there was no run yet; {due}"))
}

fn due(next: Option<Timestamp>) -> String {
    match next {
        Some(next) => format!("due next at {next}"),
        None => "never due again".to_owned(),
    }
}

async fn judge_schedule(
    organization: &OrganizationSettings,
    reader: &mut Reader,
    now: Timestamp,
) -> Result<Row, store::Error> {
    let installation = reader.installation().await?;
    let health = reader.load_health(organization.name.as_str(), now).await?;
    let Some(last) = health.last_run.as_ref() else {
        return Ok(never_synced(organization, &installation, now));
    };
    let ran = format!("last run at {}: {}", last.finished_at, last.status);
    let schedule = organization.schedule(&installation);
    let finding = status::judge(organization, &schedule, health, None, now);
    let due = due(finding.next_run_at);
    let outcome = match finding.verdict {
        Verdict::Ok | Verdict::NotWatched => {
            return Ok(Row::ok(Check::Schedule, format!("{ran}; {due}")));
        }
        Verdict::Failing => Outcome::Warning,
        Verdict::Late | Verdict::Held | Verdict::NeverSynced | Verdict::Broken => Outcome::Failed,
    };
    let problem = finding.problem.clone().unwrap_or_default();
    let mend = status::advise(&finding);
    Ok(Row::new(Check::Schedule, outcome, format!("{problem}; {due}")).mend(mend))
}

/// What could not be read from a database that is open.
fn unread(check: Check, detail: String, hint: Option<String>) -> Row {
    Row::failed(check, detail).mend(hint.unwrap_or_else(|| KEEP.to_owned()))
}

fn explain(row: Row, hint: Option<String>) -> Row {
    match hint {
        Some(hint) => row.mend(hint),
        None => row,
    }
}

fn directory_of(file: &Path) -> PathBuf {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or_else(|| Path::new(".")).to_owned()
}

/// The directory or, if it would be made, the nearest one above that is there.
fn existing(directory: &Path, would_be_made: bool) -> PathBuf {
    let mut above = directory.ancestors().filter(|above| !above.as_os_str().is_empty());
    match above.find(|above| above.exists()) {
        Some(found) if would_be_made => found.to_owned(),
        None if would_be_made => PathBuf::from("."),
        _ => directory.to_owned(),
    }
}

/// Of the database, what is beside it and its directory: the first that cannot be written.
fn find_unwritable(database: &Path) -> Option<PathBuf> {
    let beside = BESIDE.into_iter().map(|suffix| {
        let mut name = database.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    });
    let mut files = std::iter::once(database.to_owned()).chain(beside);
    let file = files.find(|file| file.exists() && !is_writable(file, false));
    let directory =
        || Some(directory_of(database)).filter(|directory| !is_writable(directory, true));
    file.or_else(directory)
}

/// Whether this process may write it: with its own rights now, and on this file system.
fn is_writable(path: &Path, is_directory: bool) -> bool {
    let access = if is_directory { Access::WRITE_OK | Access::EXEC_OK } else { Access::WRITE_OK };
    path.is_dir() == is_directory && accessat(CWD, path, access, AtFlags::EACCESS).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disk_space_is_judged_by_what_is_left_and_by_what_the_database_needs() {
        let judge = |bytes, files, size| judge_disk(Free { bytes, files }, size, Path::new("/d"));
        let outcome = |bytes, size| judge(bytes, Some(7), size).outcome;
        assert_eq!(outcome(FREE_NEEDED - 1, 0), Outcome::Failed);
        assert_eq!(outcome(FREE_NEEDED, 0), Outcome::Warning);
        assert_eq!(outcome(FREE_TOLD - 1, 0), Outcome::Warning);
        assert_eq!(outcome(FREE_TOLD, 0), Outcome::Ok);
        assert_eq!(outcome(FREE_TOLD, FREE_TOLD), Outcome::Ok);
        assert_eq!(outcome(FREE_TOLD, FREE_TOLD + 1), Outcome::Warning);
        assert!(judge(0, None, 0).is_fatal() && judge(u64::MAX, Some(0), 0).is_fatal());
        assert_eq!(judge(u64::MAX, None, 0).outcome, Outcome::Ok);
        assert_eq!(judge(5_000 * MIB, None, 0).detail, "5 000 MiB free in `/d`");
    }

    #[test]
    fn a_place_that_is_not_there_yet_is_judged_by_what_is_above() {
        let home = tempfile::tempdir().unwrap();
        let deep = home.path().join("a/b");
        assert_eq!(existing(&deep, true), home.path());
        assert_eq!(existing(&deep, false), deep);
        assert_eq!(existing(home.path(), false), home.path());
        assert!(is_writable(home.path(), true) && !is_writable(&deep, true));
        assert!(!is_writable(home.path(), false), "a directory is no file to write");
        let database = home.path().join("x.db");
        assert_eq!(find_unwritable(&database), None);
        std::fs::create_dir(home.path().join("x.db-wal")).unwrap();
        assert_eq!(find_unwritable(&database), Some(home.path().join("x.db-wal")));
    }
}
