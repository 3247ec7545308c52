//! The database while runs are under way: the first one opens it, the last one closes it. Between runs the run
//! lock is free, so that somebody can sync by hand.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::checkpoint::{self, Shared};
use crate::config::Settings;
use crate::{store, sync};

#[derive(Debug, Default)]
pub(super) struct Database {
    open: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    shared: Arc<Shared>,
    /// How many have it.
    runs: usize,
    file: FileId,
}

/// Tells a file from another one of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    fn of(path: &Path) -> io::Result<Self> {
        let file = path.metadata()?;
        Ok(Self { device: file.dev(), inode: file.ino() })
    }
}

impl Database {
    /// Opens the database for a run, which gives it back with [`Database::leave`].
    ///
    /// One that is gone is not begun anew: somebody has to say what became of it. Nor is one used that took
    /// the place of the one that others have open.
    pub(super) async fn enter(&self, settings: &Settings) -> Result<Arc<Shared>, sync::Error> {
        let asked = Instant::now();
        let mut open = self.open.lock().await;
        let path = &settings.database.path;
        if !path.exists() {
            return Err(store::Error::Gone { path: path.clone() }.into());
        }
        let here = FileId::of(path).ok();
        if let Some(open) = open.as_mut() {
            if here != Some(open.file) {
                return Err(store::Error::Replaced { path: path.clone() }.into());
            }
            open.shared.hold_again(settings).await.map_err(explain)?;
            open.runs += 1;
            return Ok(Arc::clone(&open.shared));
        }
        // Whoever had to wait until another run gave up waiting for the lock has waited for it, too.
        let wait = settings.database.lock_timeout.saturating_sub(asked.elapsed());
        let opened = checkpoint::open(settings, wait, |holder| {
            tracing::info!(holder, "waiting for the run lock");
        });
        let (writer, checkpoints) = opened.await.map_err(explain)?;
        checkpoints.tell();
        let file = FileId::of(path)
            .map_err(|source| store::Error::CannotOpen { path: path.clone(), source })?;
        let shared = Arc::new(Shared::from((writer, checkpoints)));
        *open = Some(Open { shared: Arc::clone(&shared), runs: 1, file });
        Ok(shared)
    }

    /// Gives it back. The last one closes it.
    pub(super) async fn leave(&self, shared: Arc<Shared>) {
        let mut open = self.open.lock().await;
        drop(shared);
        if let Some(open) = open.as_mut() {
            open.runs -= 1;
        }
        let Some(last) = open.take_if(|open| open.runs == 0) else { return };
        // Who comes next waits until it is closed.
        if let Some(shared) = Arc::into_inner(last.shared)
            && let Err(error) = shared.close().await
        {
            tracing::info!(%error, "the database could not be tidied up");
        }
    }
}

fn explain(error: checkpoint::Error) -> sync::Error {
    match error {
        checkpoint::Error::Store(error) => error.into(),
        error => error.into(),
    }
}
