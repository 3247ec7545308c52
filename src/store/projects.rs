//! What is remembered of projects, and of how each kind of list sends its fields.

use std::sync::Arc;

use sqlx::SqliteConnection;

use super::write::json;
use crate::inventory::{FieldStates, KnownProject, KnownProjects, Sent};

/// The kinds of lists that keys come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Admin,
    Projects,
}

impl Source {
    pub(super) const fn table(self) -> &'static str {
        match self {
            Self::Admin => "fields",
            Self::Projects => "project_fields",
        }
    }

    pub(super) const fn select(self) -> &'static str {
        match self {
            Self::Admin => "select field, sent from fields where organization = ?1",
            Self::Projects => "select field, sent from project_fields where organization = ?1",
        }
    }

    const fn upsert(self) -> &'static str {
        match self {
            Self::Admin => {
                "insert into fields (organization, field, sent)
                 select ?1, value ->> 0, value ->> 1 from json_each(?2) where true
                 on conflict (organization, field) do update set sent = excluded.sent
                 where sent <> excluded.sent"
            }
            Self::Projects => {
                "insert into project_fields (organization, field, sent)
                 select ?1, value ->> 0, value ->> 1 from json_each(?2) where true
                 on conflict (organization, field) do update set sent = excluded.sent
                 where sent <> excluded.sent"
            }
        }
    }

    const fn delete(self) -> &'static str {
        match self {
            Self::Admin => {
                "delete from fields where organization = ?1
                 and field not in (select value ->> 0 from json_each(?2))"
            }
            Self::Projects => {
                "delete from project_fields where organization = ?1
                 and field not in (select value ->> 0 from json_each(?2))"
            }
        }
    }
}

/// Writes nothing if they are as they were.
pub(super) async fn write_fields(
    connection: &mut SqliteConnection,
    source: Source,
    organization: i64,
    fields: &FieldStates,
) -> Result<(), sqlx::Error> {
    let fields: Vec<(&str, &str)> = fields
        .iter()
        .map(|(field, sent): (&String, &Sent)| (field.as_str(), sent.as_str()))
        .collect();
    let fields = json(&fields);
    for sql in [source.upsert(), source.delete()] {
        sqlx::query(sql).bind(organization).bind(&fields).execute(&mut *connection).await?;
    }
    Ok(())
}

/// A row of `projects`, but for its organization.
type Row = (String, Option<String>, bool, bool, Option<i64>);

pub(super) async fn load_projects(
    connection: &mut SqliteConnection,
    organization: i64,
) -> Result<KnownProjects, sqlx::Error> {
    let (were_listed, problem): (bool, Option<String>) = sqlx::query_as(
        "select projects_listed, projects_problem from organizations where organization = ?1",
    )
    .bind(organization)
    .fetch_one(&mut *connection)
    .await?;
    let rows: Vec<Row> = sqlx::query_as(
        "select project_id, name, was_listed, appeared, last_listed_run from projects
         where organization = ?1",
    )
    .bind(organization)
    .fetch_all(connection)
    .await?;
    let known = |(id, name, was_listed, appeared, last_listed_run): Row| {
        let name = name.map(Arc::from);
        (Arc::from(id), KnownProject { name, was_listed, appeared, last_listed_run })
    };
    Ok(KnownProjects { were_listed, problem, by_id: rows.into_iter().map(known).collect() })
}

/// Writes nothing if they are as they were.
pub(super) async fn write_projects(
    connection: &mut SqliteConnection,
    organization: i64,
    projects: &KnownProjects,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update organizations set projects_listed = ?2, projects_problem = ?3
         where organization = ?1 and (projects_listed <> ?2 or projects_problem is not ?3)",
    )
    .bind(organization)
    .bind(projects.were_listed)
    .bind(&projects.problem)
    .execute(&mut *connection)
    .await?;
    let rows: Vec<_> = projects
        .by_id
        .iter()
        .map(|(id, known)| {
            let KnownProject { name, was_listed, appeared, last_listed_run } = known;
            (&**id, name.as_deref(), u8::from(*was_listed), u8::from(*appeared), last_listed_run)
        })
        .collect();
    sqlx::query(
        "insert into projects (organization, project_id, name, was_listed, appeared, last_listed_run)
         select ?1, value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4
         from json_each(?2) where true
         on conflict (organization, project_id) do update set name = excluded.name,
             was_listed = excluded.was_listed, appeared = excluded.appeared,
             last_listed_run = excluded.last_listed_run
         where name is not excluded.name or was_listed <> excluded.was_listed
             or appeared <> excluded.appeared or last_listed_run is not excluded.last_listed_run",
    )
    .bind(organization)
    .bind(json(&rows))
    .execute(connection)
    .await?;
    Ok(())
}
