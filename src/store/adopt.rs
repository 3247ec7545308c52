//! A history from before there was a chain: the first link after it takes it in as it is found.

use sqlx::SqliteConnection;

use super::chain::{Head, append_act, load_head};
use super::evidence::{load_erased, load_notices, load_runs, stream_events};
use crate::audit::{ActKind, Part, PartHasher};
use crate::clock::Timestamp;

/// Who acts where nobody in particular does.
const ITSELF: &str = "keydrift";

/// Where the next link of an organization goes, behind an act that adopts its earlier history if that is not
/// in the chain yet.
pub(super) async fn chain_on(
    connection: &mut SqliteConnection,
    organization: i64,
    now: Timestamp,
) -> Result<Head, sqlx::Error> {
    let (mut head, is_unchained) = load_head(connection, organization).await?;
    if is_unchained {
        let detail = describe(connection, organization, &head).await?;
        let kind = ActKind::Adopted;
        append_act(connection, organization, &mut head, kind, now, ITSELF, &detail).await?;
    }
    Ok(head)
}

/// What there is: how many runs and events, their digest, and what no event tells.
async fn describe(
    connection: &mut SqliteConnection,
    organization: i64,
    head: &Head,
) -> Result<String, sqlx::Error> {
    let name: String = sqlx::query_scalar("select name from organizations where organization = ?1")
        .bind(organization)
        .fetch_one(&mut *connection)
        .await?;
    let erased = load_erased(connection).await?;
    let runs = load_runs(connection, Some(&name), 0, -1, i64::MAX).await?;
    let mut hasher = PartHasher::new(Part::Adopted);
    let (mut events, mut notices) = (0_u64, 0_u64);
    for run in &runs {
        let span: (i64, i64) = sqlx::query_as(
            "select ifnull((select max(last_event_id) from runs where run_id < ?1), 0) + 1, last_event_id
             from runs where run_id = ?1",
        )
        .bind(run.run_id)
        .fetch_one(&mut *connection)
        .await?;
        stream_events(connection, Some(&name), span, &erased, |event| {
            events += 1;
            event.with_event(|event| hasher.event(event));
        })
        .await?;
        hasher.run(&run.header(&head.origin));
        let told = load_notices(connection, (run.run_id - 1, run.run_id), &erased).await?;
        for (_, notice) in told {
            notices += 1;
            notice.with_item(|item| hasher.notice(item));
        }
    }
    let unconfirmed: Vec<(String, String)> = sqlx::query_as(
        "select a.key_id, a.last_seen_at from all_keys a
         join keys k on k.organization = ?1 and k.key_id = a.key_id
         where a.organization = ?2 and k.last_seen_run is not null and k.removed_run is null
         order by a.key_id",
    )
    .bind(organization)
    .bind(&name)
    .fetch_all(connection)
    .await?;
    let unconfirmed: serde_json::Map<String, serde_json::Value> =
        unconfirmed.into_iter().map(|(key_id, at)| (key_id, at.into())).collect();
    let digest = hasher.finish().map(|part| part.digest.to_string());
    let detail = serde_json::json!({
        "runs": runs.len(), "events": events, "notices": notices, "digest": digest,
        "unconfirmed": unconfirmed,
    });
    Ok(detail.to_string())
}
