//! A database as a process left it that could not go on.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::world::World;
use super::{oracle, sql};

pub type Items = Vec<Map<String, Value>>;

/// All keys of the organization as the API would list them now.
pub fn items(world: &World) -> Items {
    world.organization().with(|organization| organization.keys().collect())
}

/// Checks that what lies there is the state before the run or the one after it, and tells which: whether
/// the run is recorded as a good one. `runs` and `before` are what was there before it.
#[track_caller]
pub fn check(world: &World, database: &Path, runs: i64, before: &Items) -> bool {
    // In a copy, so that it is keydrift that recovers.
    let copy = Copy::of(database);
    let copy = copy.database();
    let new = count_runs(&copy) - runs;
    assert!(matches!(new, 0 | 1), "{new} runs of one sync");
    if !has_schema(&copy) {
        return false;
    }
    oracle::check_consistent(&copy);
    let good = format!("select count(*) from run_history where run_id > {runs} and status = 'ok'");
    let good = sql::integer(&copy, &good) == 1;
    let items = if good { &items(world) } else { before };
    oracle::check_inventory(&copy, "default", items);
    good
}

fn has_schema(database: &Path) -> bool {
    let statement = "select count(*) from sqlite_schema where name = 'run_history'";
    database.exists() && sql::integer(database, statement) == 1
}

pub fn count_runs(database: &Path) -> i64 {
    if has_schema(database) {
        sql::integer(database, "select count(*) from run_history")
    } else {
        0
    }
}

/// A database as it lies on the disk, in another place.
struct Copy(tempfile::TempDir);

impl Copy {
    fn of(database: &Path) -> Self {
        let copy = Self(tempfile::tempdir().expect("a temporary directory"));
        for suffix in ["", "-wal", "-journal"] {
            let from = beside(database, suffix);
            if from.exists() {
                std::fs::copy(from, beside(&copy.database(), suffix)).expect("a copy");
            }
        }
        copy
    }

    fn database(&self) -> PathBuf {
        self.0.path().join("keys.db")
    }
}

/// Removes a database with all that belongs to it.
pub fn forget(database: &Path) {
    for suffix in ["", "-wal", "-shm", "-journal", ".lock", ".checkpoints"] {
        let path = beside(database, suffix);
        if path.exists() {
            std::fs::remove_file(path).expect("a file of ours");
        }
    }
}

fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(suffix);
    PathBuf::from(path)
}
