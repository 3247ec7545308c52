//! A simulated organization, and the database of one who syncs it.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::ensure;
use keydrift::sim::{ANY_PORT, Handle, Organization, Server};
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

use crate::download;
use crate::process::{self, Cost};

/// What happens between two syncs, in parts of a thousand of the keys.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Life {
    pub(crate) used: usize,
    pub(crate) new: usize,
    pub(crate) gone: usize,
}

/// What a sync must have recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Expected {
    pub(crate) keys: usize,
    pub(crate) added: usize,
    pub(crate) removed: usize,
    pub(crate) used: usize,
}

pub(crate) struct Place {
    binary: PathBuf,
    server: Server,
    directory: TempDir,
}

impl Place {
    pub(crate) fn new(binary: &Path, keys: usize, latency: Duration) -> anyhow::Result<Self> {
        let server = Server::start_blocking(Organization::generate(7, keys), ANY_PORT)?;
        server.organization().set_latency(latency);
        Ok(Self { binary: binary.to_owned(), server, directory: TempDir::new()? })
    }

    pub(crate) fn organization(&self) -> Handle {
        self.server.organization()
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.directory.path().join("keydrift.db")
    }

    /// The binary, with nothing of this environment but what it needs to find the organization.
    pub(crate) fn keydrift(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.env_clear().current_dir(self.directory.path());
        command.env("OPENAI_ADMIN_KEY", self.organization().credential());
        command.env("OPENAI_BASE_URL", self.server.base_url());
        command.arg("--database").arg(self.database()).args(arguments);
        command
    }

    /// Runs `keydrift sync`, which must record what happened and nothing else.
    pub(crate) fn sync(
        &self,
        expected: Expected,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Cost> {
        self.organization().clear_requests();
        let mut command = self.keydrift(&["-q", "sync"]);
        let cost = process::run(command.envs(settings.iter().copied()))?;
        let recorded = self.recorded()?;
        ensure!(recorded == expected, "recorded {recorded:?} of {expected:?}");
        Ok(cost)
    }

    /// What the newest run says.
    pub(crate) fn recorded(&self) -> anyhow::Result<Expected> {
        let connection = self.read()?;
        let newest = "select keys_seen, added, removed, used from run_history
            where status = 'ok' and run_id = (select max(run_id) from run_history)";
        let recorded = connection.query_row(newest, [], |row| {
            let count = |column| row.get::<_, u32>(column).map(|count| count as usize);
            let [keys, added, removed, used] = [count(0)?, count(1)?, count(2)?, count(3)?];
            Ok(Expected { keys, added, removed, used })
        });
        Ok(recorded?)
    }

    pub(crate) fn read(&self) -> anyhow::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        Ok(Connection::open_with_flags(self.database(), flags)?)
    }

    /// Downloads every key over one connection, and gives back the seconds that this took.
    pub(crate) fn download(&self) -> anyhow::Result<f64> {
        let (credential, keys) = (self.organization().credential(), self.keys());
        let addr: SocketAddr = self.server.addr();
        self.organization().clear_requests();
        let began = Instant::now();
        let found = download::download(addr, &credential)?;
        let seconds = began.elapsed().as_secs_f64();
        ensure!(found == keys, "{found} keys came of {keys}");
        Ok(seconds)
    }

    pub(crate) fn keys(&self) -> usize {
        self.organization().with(|organization| organization.ids().count())
    }

    /// What a sync records that finds everything as it was.
    pub(crate) fn unchanged(&self) -> Expected {
        Expected { keys: self.keys(), ..Expected::default() }
    }

    /// Lets an hour pass in which this happens, spread over the whole listing.
    pub(crate) fn live(&self, life: Life) -> Expected {
        self.organization().with(|organization| {
            organization.advance(3_600);
            let own = organization.own_key(organization.credential()).map(str::to_owned);
            let ids = organization.ids().map(str::to_owned);
            let ids: Vec<String> = ids.filter(|id| Some(id) != own.as_ref()).collect();
            // Nobody sees the use of a key that is gone.
            let used = spread(&ids, share(ids.len(), life.used));
            let is_used: HashSet<&String> = used.iter().copied().collect();
            let idle: Vec<String> =
                ids.iter().filter(|id| !is_used.contains(id)).cloned().collect();
            let gone = spread(&idle, share(ids.len(), life.gone));
            let new = share(ids.len(), life.new);
            for id in &used {
                organization.touch(id);
            }
            for id in &gone {
                organization.remove(id);
            }
            for _ in 0..new {
                organization.add();
            }
            let keys = organization.ids().count();
            Expected { keys, added: new, removed: gone.len(), used: used.len() }
        })
    }
}

/// At least one, if any are asked for.
fn share(keys: usize, per_mille: usize) -> usize {
    if per_mille == 0 { 0 } else { (keys * per_mille / 1_000).max(1) }
}

/// So many, as far from each other as can be.
fn spread(ids: &[String], count: usize) -> Vec<&String> {
    (0..count).map(|at| &ids[at * ids.len() / count]).collect()
}
