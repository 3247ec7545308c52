//! A world of two organizations with the same key ids.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use keydrift::sim::{ANY_PORT, Organization, Server};
use tempfile::TempDir;

use super::{Keydrift, oracle, sql};

/// Two organizations, `acme` and `globex`, whose keys have the same ids.
pub struct Two {
    pub directory: TempDir,
    pub acme: Server,
    pub globex: Server,
}

impl Two {
    pub fn new(keys: usize) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let server = || Server::start_blocking(Organization::generate(7, keys), ANY_PORT);
        let (acme, globex) = (server().unwrap(), server().unwrap());
        let mut configuration = String::new();
        for (name, server) in [("acme", &acme), ("globex", &globex)] {
            let file = directory.path().join(format!("{name}.key"));
            std::fs::write(&file, server.organization().credential()).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
            let url = server.base_url();
            writeln!(
                configuration,
                "[organizations.{name}]\nbase_url = \"{url}\"\nadmin_key_file = \"{name}.key\""
            )
            .unwrap();
        }
        std::fs::write(directory.path().join("keydrift.toml"), configuration).unwrap();
        Self { directory, acme, globex }
    }

    pub fn database(&self) -> PathBuf {
        self.directory.path().join("keys.db")
    }

    pub fn keydrift(&self, args: &[&str]) -> Keydrift {
        let path = self.directory.path();
        Keydrift::new(path)
            .args(args)
            .arg("--config")
            .arg(path.join("keydrift.toml"))
            .arg("--database")
            .arg(self.database())
    }

    #[track_caller]
    pub fn check(&self, name: &str) {
        let server = if name == "acme" { &self.acme } else { &self.globex };
        let keys = server.organization().with(|organization| organization.keys().collect());
        let keys: Vec<_> = keys;
        oracle::check_consistent(&self.database());
        oracle::check_inventory(&self.database(), name, &keys);
    }

    pub fn statuses(&self) -> Vec<(String, String)> {
        let statement = "select organization, status from run_history order by run_id";
        let text = |value: &sql::Value| value.as_str().unwrap_or_default().to_owned();
        let rows = sql::rows(&self.database(), statement);
        rows.iter().map(|row| (text(&row["organization"]), text(&row["status"]))).collect()
    }

    /// The same of the runs behind the first `before`, sorted: runs of different organizations end in any order.
    pub fn statuses_behind(&self, before: usize) -> Vec<(String, String)> {
        let mut statuses = self.statuses().split_off(before);
        statuses.sort();
        statuses
    }

    /// The configuration file, to be changed.
    pub fn configuration(&self) -> PathBuf {
        self.directory.path().join("keydrift.toml")
    }
}

/// Sorted pairs of an organization and a status.
pub fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut pairs: Vec<_> =
        pairs.iter().map(|(name, status)| ((*name).to_owned(), (*status).to_owned())).collect();
    pairs.sort();
    pairs
}
