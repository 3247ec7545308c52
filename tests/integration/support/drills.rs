//! What drills need: an organization synced before, what a database says, and many cases side by side.

use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use keydrift::sim::{Fault, Handle, Organization};
use serde_json::{Map, Value};
use tempfile::TempDir;

use super::{Keydrift, World, oracle, sql};

/// The keys of [`World::synced`].
pub const SYNCED_KEYS: usize = 250;

const SEED: u64 = 7;

/// What a failed run must leave as it was.
#[derive(Debug, PartialEq)]
pub struct Content {
    pub keys: Vec<Map<String, Value>>,
    pub history: Vec<Map<String, Value>>,
}

impl Content {
    #[track_caller]
    pub fn of(database: &Path) -> Self {
        Self {
            keys: sql::rows(database, "select * from all_keys order by organization, key_id"),
            history: sql::rows(database, "select * from audit_history order by event_id"),
        }
    }
}

impl World {
    /// An organization of 250 keys, and a database that an earlier sync of it has left.
    pub fn synced() -> Self {
        static SYNCED: OnceLock<TempDir> = OnceLock::new();
        let template = SYNCED.get_or_init(|| {
            let world = Self::of(Organization::generate(SEED, SYNCED_KEYS));
            world.sync();
            world.directory
        });
        let world = Self::of(Organization::generate(SEED, SYNCED_KEYS));
        std::fs::copy(template.path().join("keys.db"), world.database()).expect("a copy");
        world
    }

    /// A world whose files are in memory if the machine has a place for such.
    pub fn in_memory(organization: Organization) -> Self {
        let mut world = Self::of(organization);
        if let Ok(directory) = tempfile::tempdir_in("/dev/shm") {
            world.directory = directory;
        }
        world
    }

    /// A sync that tries nothing more than twice, and waits no longer than this fault is worth: an honest
    /// answer may take its time where many tests run.
    pub fn hasty_sync(&self, fault: &Fault) -> Keydrift {
        let slow = matches!(fault, Fault::Hang | Fault::StallBody | Fault::DripBody { .. });
        self.keydrift(&["sync"])
            .env("KEYDRIFT__API__MAX_ATTEMPTS", "2")
            .env("KEYDRIFT__API__READ_TIMEOUT", if slow { "1s" } else { "30s" })
            .env("KEYDRIFT__API__REQUEST_TIMEOUT", if slow { "2s" } else { "60s" })
    }

    pub fn ids(&self) -> Vec<String> {
        self.organization().ids()
    }

    /// Ids of some keys that are not our own.
    pub fn some_ids(&self, count: usize) -> Vec<String> {
        self.organization().some_ids(count)
    }

    /// The newest row of the run history.
    #[track_caller]
    pub fn last_run(&self) -> Map<String, Value> {
        let query = "select * from run_history order by run_id desc limit 1";
        sql::rows(&self.database(), query).pop().expect("a run")
    }

    #[track_caller]
    pub fn content(&self) -> Content {
        Content::of(&self.database())
    }

    /// The events that were recorded after `before`.
    #[track_caller]
    pub fn events_since(&self, before: &Content) -> Vec<Map<String, Value>> {
        let mut history = self.content().history;
        let new = history.split_off(before.history.len());
        assert_eq!(history, before.history, "the history is append-only");
        new
    }

    /// The newest run changed nothing, and says why. Gives its row.
    #[track_caller]
    pub fn check_nothing_changed(&self, before: &Content, status: &str) -> Map<String, Value> {
        let run = self.last_run();
        assert_eq!(run["status"], status, "{run:?}");
        assert!(run["error"].as_str().is_some_and(|error| !error.is_empty()), "{run:?}");
        assert_eq!(self.content(), *before);
        oracle::check_consistent(&self.database());
        run
    }
}

/// Looks at the simulated organization that tests often need.
pub trait Look {
    fn ids(&self) -> Vec<String>;
    fn some_ids(&self, count: usize) -> Vec<String>;
}

impl Look for Handle {
    fn ids(&self) -> Vec<String> {
        self.with(|organization| organization.ids().map(str::to_owned).collect())
    }

    fn some_ids(&self, count: usize) -> Vec<String> {
        let credential = self.credential();
        let own = self.with(|organization| organization.own_key(&credential).map(str::to_owned));
        let mut ids = self.ids();
        ids.retain(|id| Some(id) != own.as_ref());
        // From all over the list.
        let step = (ids.len() / count.max(1)).max(1);
        let some: Vec<String> = ids.into_iter().step_by(step).take(count).collect();
        assert_eq!(some.len(), count);
        some
    }
}

/// Runs a test for each case, some at a time: mostly they wait. A panic names its case.
pub fn for_each<T: Sync>(
    cases: &[T],
    name: impl Fn(&T) -> String + Sync,
    test: impl Fn(&T) + Sync,
) {
    const AT_ONCE: usize = 8;
    let next = AtomicUsize::new(0);
    let failed = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            let worker = || {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let name = name(case);
                    let thread = std::thread::Builder::new().name(name);
                    let done = thread.spawn_scoped(scope, || test(case)).expect("a thread").join();
                    if done.is_err() {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            };
            scope.spawn(worker);
        }
    });
    let failed = failed.into_inner();
    assert_eq!(failed, 0, "so many of {} cases failed", cases.len());
}
