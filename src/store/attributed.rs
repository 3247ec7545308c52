//! Who did it: attributions as the views show them, for those who verify, and for those who forget.

use sqlx::SqliteConnection;

use super::evidence::{parse_salt, seals};
use super::forget::{Person, Place};
use super::rows::row;
use crate::audit::{AttributionRecord, ERASED, Erased, Explained};

row! {
    #[expect(clippy::struct_field_names, reason = "they are columns of a view")]
    struct Attribution {
        attribution_id: i64,
        run_id: i64,
        organization: String,
        event_id: i64,
        log_id: String,
        action: String,
        acted_at: Option<String>,
        actor_type: Option<String>,
        actor_id: Option<String>,
        actor_email: Option<String>,
        actor_key_id: Option<String>,
        actor_ip_address: Option<String>,
        actor_scopes: Option<String>,
        salt: Option<String>,
        of_organization: Option<String>,
        of_run_id: Option<i64>,
        of_event: Option<String>,
    }
}

impl Attribution {
    fn into_record(self, erased: &Erased) -> (String, AttributionRecord) {
        let erased = erased.get(&("attribution".to_owned(), self.attribution_id));
        let explains = self.of_organization.zip(self.of_run_id).zip(self.of_event);
        let record = AttributionRecord {
            attribution_id: self.attribution_id,
            run_id: self.run_id,
            event_id: self.event_id,
            log_id: self.log_id,
            action: self.action,
            // What is no time fits no digest either.
            acted_at: self.acted_at.unwrap_or_default(),
            actor_type: self.actor_type,
            actor_id: self.actor_id,
            actor_email: self.actor_email,
            actor_key_id: self.actor_key_id,
            actor_ip_address: self.actor_ip_address,
            actor_scopes: self.actor_scopes,
            salt: parse_salt(self.salt.as_deref()),
            erased: seals(erased, |_| true),
            explains: explains.map(|((organization, run_id), event)| Explained {
                organization,
                run_id,
                event,
            }),
        };
        (self.organization, record)
    }
}

/// The attributions of the runs after `after`, up to and with `last`, each with its organization.
pub(super) async fn load_attributions(
    connection: &mut SqliteConnection,
    (after, last): (i64, i64),
    erased: &Erased,
) -> Result<Vec<(String, AttributionRecord)>, sqlx::Error> {
    let rows: Vec<Attribution> = sqlx::query_as(
        "select t.attribution_id, t.run_id, t.organization, t.event_id, t.log_id, t.action, t.acted_at,
                t.actor_type, t.actor_id, t.actor_email, t.actor_key_id, t.actor_ip_address,
                t.actor_scopes, s.salt, e.organization as of_organization, e.run_id as of_run_id,
                e.event as of_event
         from attribution_history t
         join attribution_salts s on s.attribution_id = t.attribution_id
         left join audit_history e on e.event_id = t.event_id
         where t.run_id > ?1 and t.run_id <= ?2 order by t.run_id, t.attribution_id",
    )
    .bind(after)
    .bind(last)
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| row.into_record(erased)).collect())
}

/// The addresses of a person in attributions.
pub(super) async fn find_in_attributions(
    connection: &mut SqliteConnection,
    person: &Person<'_>,
    erased: &Erased,
) -> Result<Vec<Place>, sqlx::Error> {
    let runs: Vec<i64> = sqlx::query_scalar(
        "select distinct t.run_id from actors p join attributions t on t.actor = p.actor
         where p.organization = ?1 and p.id = ?2 order by 1",
    )
    .bind(person.organization)
    .bind(person.owner_id)
    .fetch_all(&mut *connection)
    .await?;
    let mut places = Vec::new();
    for run_id in runs {
        for (_, of) in load_attributions(connection, (run_id - 1, run_id), erased).await? {
            if !person.is_theirs(of.salt) {
                continue;
            }
            let seals = of.seals();
            places.extend(seals.into_iter().map(|(field, seal)| Place {
                table: "attribution",
                id: of.attribution_id,
                key_id: None,
                side: None,
                field: field.to_owned(),
                seal,
            }));
        }
    }
    Ok(places)
}

/// Erases the addresses of a person who acted. The triggers must be lifted.
pub(super) async fn erase_actor(
    connection: &mut SqliteConnection,
    person: &Person<'_>,
) -> Result<(), sqlx::Error> {
    for sql in [
        "update attributions set ip_address = iif(ip_address is null, null, ?3)
         where actor in (select actor from actors where organization = ?1 and id = ?2)",
        "update actors set email = iif(email is null, null, ?3), salt = null
         where organization = ?1 and id = ?2",
    ] {
        sqlx::query(sql)
            .bind(person.organization)
            .bind(person.owner_id)
            .bind(ERASED)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}
