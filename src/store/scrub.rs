//! Giving space back, and with it every byte of what is no longer there.

use sqlx::SqliteConnection;

use super::Writer;
use super::error::Error;

impl Writer {
    /// Writes the whole file anew without what was deleted, and empties the log. It takes as much free space
    /// as the file is large. Fails if somebody reads what the log still holds.
    pub async fn scrub(&mut self) -> Result<(), Error> {
        match scrub(&mut self.connection).await {
            Ok(true) => Ok(()),
            Ok(false) => {
                let why = "somebody reads an earlier state of it".to_owned();
                Err(Error::NotScrubbed { path: self.path.clone(), why })
            }
            Err(source) => {
                let why = self.failed(source).to_string();
                Err(Error::NotScrubbed { path: self.path.clone(), why })
            }
        }
    }
}

async fn scrub(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    // The copy is as large as the database.
    sqlx::raw_sql("pragma temp_store = file; vacuum").execute(&mut *connection).await?;
    sqlx::raw_sql("pragma temp_store = memory").execute(&mut *connection).await?;
    // Only the first says whether the log was emptied.
    let (busy, _, _): (i64, i64, i64) =
        sqlx::query_as("pragma wal_checkpoint(truncate)").fetch_one(connection).await?;
    Ok(busy == 0)
}
