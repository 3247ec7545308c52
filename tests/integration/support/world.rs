//! A simulated organization, a directory of its own, and the binary pointed at both.

use std::path::{Path, PathBuf};

use keydrift::sim::{ANY_PORT, Handle, Organization, Server};
use tempfile::TempDir;

use super::binary::{Keydrift, Ran};
use super::oracle;

pub struct World {
    pub directory: TempDir,
    pub server: Server,
    /// Kept, so that nobody needs to ask a simulation that is held up.
    credential: String,
}

impl World {
    /// An organization of `keys` keys, and no database yet.
    pub fn new(keys: usize) -> Self {
        Self::of(Organization::generate(7, keys))
    }

    pub fn of(organization: Organization) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let server = Server::start_blocking(organization, ANY_PORT).expect("the simulation");
        let credential = server.organization().credential();
        Self { directory, server, credential }
    }

    pub fn organization(&self) -> Handle {
        self.server.organization()
    }

    pub fn database(&self) -> PathBuf {
        self.path().join("keys.db")
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// `keydrift ARGS --database FILE`, with the credential and the address of the simulation.
    pub fn keydrift(&self, args: &[&str]) -> Keydrift {
        self.keydrift_on(&self.database(), args)
    }

    /// The same with another database, or another name of it.
    pub fn keydrift_on(&self, database: &Path, args: &[&str]) -> Keydrift {
        Keydrift::new(self.path())
            .env("OPENAI_ADMIN_KEY", &self.credential)
            .env("OPENAI_BASE_URL", self.server.base_url())
            .args(args)
            .arg("--database")
            .arg(database)
    }

    /// A sync that must succeed, and then hold against the truth.
    #[track_caller]
    pub fn sync(&self) -> Ran {
        let ran = self.keydrift(&["sync"]).succeeds();
        self.check();
        ran
    }

    /// The database against the simulated organization's own state.
    #[track_caller]
    pub fn check(&self) {
        self.check_at(&self.database());
    }

    /// The same with another database.
    #[track_caller]
    pub fn check_at(&self, database: &Path) {
        oracle::check_consistent(database);
        let keys = self.organization().with(|organization| organization.keys().collect::<Vec<_>>());
        oracle::check_inventory(database, "default", &keys);
    }
}
