//! The database at the beginning of a daemon's life, and at its end.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::Error;
use crate::checkpoint;
use crate::clock::{Clock, Timestamp};
use crate::config::Settings;
use crate::store::{self, Reader, Writer};

/// Brings the schema up to date, records what was cut short, and opens the database for reading.
pub(super) async fn prepare(
    settings: &Settings,
    clock: &dyn Clock,
) -> Result<(Reader, BTreeMap<String, Timestamp>), Error> {
    let database = &settings.database;
    let opened = checkpoint::open(settings, database.lock_timeout, |holder| {
        tracing::info!(holder, "waiting for the run lock");
    });
    let (mut writer, mut checkpoints) = match opened.await {
        Ok(opened) => opened,
        // Somebody syncs by hand, or reads. If the schema is as it should be, nothing has to be done before.
        Err(checkpoint::Error::Store(
            error @ (store::Error::Held { .. } | store::Error::Busy { .. }),
        )) => {
            tracing::warn!(%error, "the database cannot be written yet");
            let reader = Reader::open(&database.path).await.map_err(|_| error)?;
            return Ok((reader, BTreeMap::new()));
        }
        Err(checkpoint::Error::Store(error)) => return Err(error.into()),
        // No run begins on it, and each says so, until somebody has looked.
        Err(error) if error.is_departure() => {
            tracing::error!(%error, "the database is not as it was left");
            return Ok((Reader::open(&database.path).await?, BTreeMap::new()));
        }
        Err(error) => return Err(Error::Checkpoint(error)),
    };
    checkpoints.tell();
    loop {
        match writer.settle_run(clock.now()).await {
            Ok(Some(run)) => {
                let what = match run.owed {
                    None => "an earlier run was cut short; it is recorded now",
                    Some(_) => "an earlier run could not be recorded in its time; it is now",
                };
                tracing::warn!(org.label = run.organization, "{what}");
            }
            Ok(None) => break,
            // The next run tries again, and fails if it can't.
            Err(error) => {
                tracing::warn!(%error, "an earlier run could not be recorded yet");
                break;
            }
        }
    }
    let owed_until = writer.owed_until();
    checkpoints.keep(&mut writer).await;
    let reader = Reader::open(&database.path).await?;
    if let Err(error) = writer.close().await {
        tracing::info!(%error, "the database could not be tidied up");
    }
    Ok((reader, owed_until))
}

/// Leaves the database to its readers.
pub(super) async fn tidy_up(reader: Reader, database: &Path) -> Result<(), store::Error> {
    reader.close().await?;
    if database.exists() {
        Writer::open(database, Duration::ZERO, |_| {}).await?.retire().await?;
    }
    Ok(())
}
