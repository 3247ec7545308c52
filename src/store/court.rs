//! Judging the keys of a run, inside its transaction: those that are different, those that are due, and all of them
//! where they are judged on another basis than before.

mod namesakes;

use std::collections::{BTreeSet, HashMap, HashSet};

use sqlx::SqliteConnection;

use namesakes::Newcomer;

use super::findings::{
    FindingBook, FindingCounts, load_open_of_organization, load_past, write_findings,
};
use super::record::{Judge, Numbers};
use super::snapshot::{ids_json, load_keys};
use super::write::json;
use crate::clock::Timestamp;
use crate::findings::{Basis, Difference, Judgement, Past, Subject};
use crate::inventory::{
    Alteration, Appearance, Changes, Column, EventKind, Key, KeyId, Scope, Snapshot,
};

/// Keys that are judged together.
const SOME: usize = 500;

/// One run's judging.
pub(super) struct Court<'a> {
    basis: Basis<'a>,
    digest: String,
    /// Whether all keys are judged.
    is_whole: bool,
    before: &'a Snapshot,
    changes: &'a Changes,
    now: Timestamp,
    pub(super) book: FindingBook,
    newcomers: Vec<Newcomer>,
    /// How many more admin keys there are than before.
    more_admin_keys: i64,
    /// Keys that came back: they are judged as those that were there.
    restored: Vec<KeyId>,
}

impl<'a> Court<'a> {
    pub(super) async fn convene(
        connection: &mut SqliteConnection,
        numbers: &Numbers,
        judge: &Judge<'a>,
        organization: &'a str,
        changes: &'a Changes,
        now: Timestamp,
    ) -> Result<Self, sqlx::Error> {
        let before = judge.before;
        let basis = Basis {
            organization,
            rules: judge.rules,
            fields: &changes.fields,
            own: [changes.own_key.as_ref(), before.own_key.as_ref()],
        };
        let judged_by: Option<String> =
            sqlx::query_scalar("select judged_by from organizations where organization = ?1")
                .bind(numbers.organization)
                .fetch_one(&mut *connection)
                .await?;
        let digest = basis.digest(now);
        Ok(Self {
            basis,
            is_whole: judged_by.as_ref() != Some(&digest),
            digest,
            before,
            changes,
            now,
            book: FindingBook::open(connection).await?,
            newcomers: Vec::new(),
            more_admin_keys: 0,
            restored: Vec::new(),
        })
    }

    /// Judges keys that were not there before, each with its row.
    pub(super) fn judge_appeared(&mut self, some: &[(i64, Appearance)]) -> Judgement {
        let mut past = Past::default();
        for (row, appearance) in some {
            let key = appearance.key();
            self.more_admin_keys += i64::from(key.scope == Scope::Admin);
            if appearance.kind() == EventKind::Restored {
                self.restored.push(key.id.clone());
                continue;
            }
            // One that has expired is no namesake, and never will be.
            let is_live = key.expires_at.is_none_or(|at| self.now < at);
            if let Some(number) = self.before.outline.namesake(key).filter(|_| is_live) {
                self.newcomers.push(Newcomer { number, row: *row, created_at: key.created_at });
            }
            if key.created_at.is_none() {
                // It is first seen now.
                past.first_seen.insert(key.id.clone(), self.now);
            }
        }
        let is_new = |appearance: &Appearance| appearance.kind() != EventKind::Restored;
        let new = some.iter().map(|(_, appearance)| appearance).filter(|it| is_new(it));
        let subjects: Vec<Subject<'_>> =
            new.map(|it| Subject { key: it.key(), before: None, use_moved: false }).collect();
        let Judgement { difference, due } = self.basis.judge(&subjects, &past, self.now);
        let mut due = due.into_iter();
        let due = some.iter().map(|(_, it)| if is_new(it) { due.next().flatten() } else { None });
        Judgement { difference, due: due.collect() }
    }

    /// Judges all others, when everything is written.
    pub(super) async fn conclude(
        mut self,
        connection: &mut SqliteConnection,
        numbers: &Numbers,
    ) -> Result<FindingCounts, sqlx::Error> {
        self.dismiss_removed(connection, numbers).await?;
        let altered: HashMap<&KeyId, &Alteration> =
            self.changes.altered.iter().map(|it| (&it.key.id, it)).collect();
        let due = load_due(connection, numbers.organization, self.now).await?;
        // New keys are judged already.
        let due: Vec<KeyId> =
            due.into_iter().filter(|id| self.before.outline.contains(id)).collect();
        let mut ids = self.known_keys(&due);
        loop {
            let some: Vec<KeyId> = ids.by_ref().take(SOME).collect();
            if some.is_empty() {
                break;
            }
            self.judge_known(connection, numbers, &some, &altered).await?;
        }
        self.judge_namesakes(connection, numbers, &due).await?;
        self.judge_number(connection, numbers).await?;
        if self.is_whole {
            sqlx::query("update organizations set judged_by = ?2 where organization = ?1")
                .bind(numbers.organization)
                .bind(&self.digest)
                .execute(connection)
                .await?;
        }
        Ok(self.book.counts)
    }

    /// What is gone breaks nothing.
    async fn dismiss_removed(
        &mut self,
        connection: &mut SqliteConnection,
        numbers: &Numbers,
    ) -> Result<(), sqlx::Error> {
        let mut removed: BTreeSet<KeyId> =
            self.changes.removed.iter().map(|key| key.id.clone()).collect();
        if self.is_whole {
            removed.extend(load_left_over(connection, numbers.organization).await?);
        }
        let removed: Vec<KeyId> = removed.into_iter().collect();
        for some in removed.chunks(SOME) {
            let past = load_past(connection, numbers.organization, &ids_json(some)).await?;
            let difference = Difference {
                closed: past.open.iter().map(|open| open.finding_id).collect(),
                over: past.happened.into_keys().collect(),
                ..Difference::default()
            };
            let nobody = |_: &KeyId| None;
            write_findings(connection, numbers.ids(), &difference, nobody, &mut self.book).await?;
        }
        Ok(())
    }

    /// The keys that were there before and are judged now.
    fn known_keys(&self, due: &[KeyId]) -> Box<dyn Iterator<Item = KeyId> + Send + 'a> {
        let restored = self.restored.clone().into_iter();
        if self.is_whole {
            return Box::new(self.before.outline.ids().chain(restored));
        }
        let altered = self.changes.altered.iter().map(|alteration| alteration.key.id.clone());
        let own = self.basis.own.into_iter().flatten().cloned();
        let own = own.filter(|id| self.before.outline.contains(id));
        let ids: BTreeSet<KeyId> =
            altered.chain(own).chain(due.iter().cloned()).chain(restored).collect();
        Box::new(ids.into_iter())
    }

    async fn judge_known(
        &mut self,
        connection: &mut SqliteConnection,
        numbers: &Numbers,
        ids: &[KeyId],
        altered: &HashMap<&KeyId, &Alteration>,
    ) -> Result<(), sqlx::Error> {
        // As they are now; what is gone is not among them.
        let keys = load_keys(connection, numbers.organization, ids).await?;
        let ids: Vec<&KeyId> = ids.iter().filter(|id| keys.contains_key(id)).collect();
        let past = load_past(connection, numbers.organization, &ids_json(ids.clone())).await?;
        let restored: HashSet<&KeyId> = self.restored.iter().collect();
        let subjects: Vec<Subject<'_>> = ids
            .iter()
            .map(|id| {
                let key = &keys[*id].1;
                let Some(alteration) = altered.get(id) else {
                    let before = (!restored.contains(id)).then_some(key);
                    return Subject { key, before, use_moved: false };
                };
                let mut told = alteration.changes.iter();
                let use_moved = told.any(|change| change.field == Column::LastUsedAt.name());
                Subject { key, before: self.before.keys.get(id), use_moved }
            })
            .collect();
        let Judgement { difference, due } = self.basis.judge(&subjects, &past, self.now);
        let key_of = |id: &KeyId| keys.get(id).map(|(row, _)| *row);
        write_findings(connection, numbers.ids(), &difference, key_of, &mut self.book).await?;
        let due = ids.iter().zip(due);
        let due: Vec<(i64, Option<i64>)> =
            due.map(|(id, due)| (keys[*id].0, due.map(Timestamp::unix))).collect();
        write_due(connection, &due).await
    }

    async fn judge_number(
        &mut self,
        connection: &mut SqliteConnection,
        numbers: &Numbers,
    ) -> Result<(), sqlx::Error> {
        let organization = numbers.organization;
        let admin = |key: &Key| i64::from(key.scope == Scope::Admin);
        let mut more = self.more_admin_keys;
        for key in &self.changes.removed {
            more -= admin(key);
        }
        for Alteration { key, .. } in &self.changes.altered {
            more += admin(key) - self.before.keys.get(&key.id).map_or(0, admin);
        }
        let admin_keys = i64::try_from(self.before.outline.admin_keys()).unwrap_or(i64::MAX);
        let admin_keys = usize::try_from(admin_keys.saturating_add(more)).unwrap_or(0);
        let open = load_open_of_organization(connection, organization).await?;
        let told = open.iter().find(|open| self.basis.tells_the_number(&open.finding));
        let began = match told {
            _ if !self.basis.are_too_many(admin_keys) => None,
            Some(open) => Some(open.finding.since),
            None => {
                let most = self.basis.rules.max_admin_keys;
                let began = load_first_too_many(connection, organization, most).await?;
                Some(began.unwrap_or(self.now))
            }
        };
        let past = Past { open, ..Past::default() };
        let difference = self.basis.judge_number(began, &past, self.now);
        let nobody = |_: &KeyId| None;
        write_findings(connection, numbers.ids(), &difference, nobody, &mut self.book).await
    }
}

/// The keys that may break other rules by now. `+`: not by the index of ids, in whose order the rows lie anywhere.
async fn load_due(
    connection: &mut SqliteConnection,
    organization: i64,
    now: Timestamp,
) -> Result<Vec<KeyId>, sqlx::Error> {
    let ids: Vec<String> = sqlx::query_scalar(
        "select key_id from keys
         where +organization = ?1 and due_at <= ?2 and removed_run is null",
    )
    .bind(organization)
    .bind(now.unix())
    .fetch_all(connection)
    .await?;
    Ok(ids.iter().filter_map(|id| KeyId::new(id)).collect())
}

/// Writes when keys are due, where that is another time than before.
async fn write_due(
    connection: &mut SqliteConnection,
    due: &[(i64, Option<i64>)],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update keys set due_at = j.due_at
         from (select value ->> 0 as key, value ->> 1 as due_at from json_each(?1)) j
         where keys.key = j.key and keys.due_at is not j.due_at",
    )
    .bind(json(&due))
    .execute(connection)
    .await?;
    Ok(())
}

/// Keys that are gone and of which something is open: what runs that did not judge left over.
async fn load_left_over(
    connection: &mut SqliteConnection,
    organization: i64,
) -> Result<Vec<KeyId>, sqlx::Error> {
    let ids: Vec<String> = sqlx::query_scalar(
        "select distinct k.key_id from finding_log f join keys k on k.key = f.key
         where f.organization = ?1 and f.closed_run is null and k.removed_run is not null",
    )
    .bind(organization)
    .fetch_all(connection)
    .await?;
    Ok(ids.iter().filter_map(|id| KeyId::new(id)).collect())
}

/// When the first admin key was made, or else seen, that is one too many. `+`: as in [`load_due`].
async fn load_first_too_many(
    connection: &mut SqliteConnection,
    organization: i64,
    most: u64,
) -> Result<Option<Timestamp>, sqlx::Error> {
    let born: Option<i64> = sqlx::query_scalar(
        "select ifnull(v.created_at,
                (select r.finished_at from runs r where r.run_id = k.first_seen_run)) as born
         from keys k
         cross join key_versions v on v.version = k.version
         where +k.organization = ?1 and k.removed_run is null and v.scope = 'admin'
         order by born limit 1 offset ?2",
    )
    .bind(organization)
    .bind(i64::try_from(most).unwrap_or(i64::MAX))
    .fetch_optional(connection)
    .await?;
    Ok(born.and_then(Timestamp::from_unix))
}
