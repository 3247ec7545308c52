//! Notes: what people said of events and keys, each an act and so a link of the chain.

use serde_json::{Value, json};
use sqlx::Connection;

use super::adopt::chain_on;
use super::chain::append_act;
use super::error::Error;
use super::links::latest_time;
use super::rows::row;
use super::{Reader, Writer};
use crate::audit::ActKind;
use crate::clock::Timestamp;

/// What a note is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Noted {
    Event(i64),
    /// By its id.
    Key(String),
}

row! {
    /// A row of the view `note_history`.
    #[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
    pub struct NoteRow {
        pub note_id: i64,
        pub noted_at: String,
        pub author: String,
        pub text: String,
    }
}

/// The notes on an event, as a column of a query of `audit_history`: a JSON array, oldest first.
pub(super) const NOTES_COLUMN: &str = "(
    select json_group_array(json_object(
        'note_id', note_id, 'noted_at', noted_at, 'author', author, 'text', text))
    from (select note_id, noted_at, author, text from note_history n
          where n.event_id = audit_history.event_id
            and n.organization = audit_history.organization
          order by note_id)) as notes";

/// That nothing explains an event of `audit_history`: no note on it, none on its key that came later, no entry of
/// the audit log that says who it was. One line for each thing that explains.
pub(super) const UNEXPLAINED: &str = "
    and not exists (select 1 from note_history n where n.event_id = audit_history.event_id and n.organization = audit_history.organization)
    and not exists (select 1 from note_history n where n.key_id = audit_history.key_id and n.organization = audit_history.organization and n.after_run_id >= audit_history.run_id)
    and not exists (select 1 from attributions a join actors p on p.actor = a.actor where a.event_id = audit_history.event_id and coalesce(p.id, p.email, p.key_id) is not null)
    ";

impl Writer {
    /// Records a note of an organization's, never earlier than the last run and act. Returns its number.
    pub async fn note(
        &mut self,
        organization: &str,
        noted: &Noted,
        text: &str,
        now: Timestamp,
        actor: &str,
    ) -> Result<i64, Error> {
        let recorded = self.append_note(organization, noted, text, now, actor).await;
        recorded.map_err(|source| self.failed(source))
    }

    async fn append_note(
        &mut self,
        name: &str,
        noted: &Noted,
        text: &str,
        now: Timestamp,
        actor: &str,
    ) -> Result<i64, sqlx::Error> {
        let detail = match noted {
            Noted::Event(event_id) => json!({ "event_id": event_id, "text": text }),
            Noted::Key(key_id) => json!({ "key_id": key_id, "text": text }),
        };
        let mut transaction = self.connection.begin_with("begin immediate").await?;
        let acted_at = latest_time(&mut transaction, now).await?;
        let organization: i64 =
            sqlx::query_scalar("select organization from organizations where name = ?1")
                .bind(name)
                .fetch_one(&mut *transaction)
                .await?;
        let mut head = chain_on(&mut transaction, organization, acted_at).await?;
        let (kind, detail) = (ActKind::Noted, detail.to_string());
        let note_id =
            append_act(&mut transaction, organization, &mut head, kind, acted_at, actor, &detail)
                .await?;
        transaction.commit().await?;
        Ok(note_id)
    }
}

impl Reader {
    /// The notes on a key itself, oldest first.
    pub async fn list_key_notes(
        &mut self,
        organization: &str,
        key_id: &str,
    ) -> Result<Vec<NoteRow>, Error> {
        sqlx::query_as(
            "select note_id, noted_at, author, text from note_history
             where organization = ?1 and key_id = ?2 order by note_id",
        )
        .bind(organization)
        .bind(key_id)
        .fetch_all(&mut self.connection)
        .await
        .map_err(|source| self.failed(source))
    }
}

/// The texts of a JSON array of notes.
#[must_use]
pub fn note_texts(notes: &str) -> Vec<String> {
    let notes: Vec<Value> = serde_json::from_str(notes).unwrap_or_default();
    let text = |note: &Value| note["text"].as_str().map(str::to_owned);
    notes.iter().filter_map(text).collect()
}
