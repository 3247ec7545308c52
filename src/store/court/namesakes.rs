//! Judging keys that share a name and an owner.
//!
//! They lie anywhere in the list and there may be as many as there are keys: so they are gathered by numbers, a few
//! bytes for each, and judged a few groups at a time.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;

use futures_util::TryStreamExt;
use sqlx::SqliteConnection;

use super::super::findings::{load_past, write_findings};
use super::super::record::Numbers;
use super::super::snapshot::{ids_json, load_keys};
use super::super::write::{insert_all, json};
use super::{Court, SOME};
use crate::clock::Timestamp;
use crate::findings::{OpenFinding, Rule};
use crate::inventory::{Key, KeyId};

/// A key that is new and may have namesakes.
#[derive(Clone, Copy)]
pub(super) struct Newcomer {
    /// Shared with its namesakes.
    pub(super) number: u64,
    pub(super) row: i64,
    pub(super) created_at: Option<Timestamp>,
}

/// A key that may have namesakes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Member {
    /// The key at this place of the snapshot before.
    Before(u32),
    /// The newcomer at this place.
    New(u32),
    /// One of those that are looked at by their ids.
    Given(u32),
}

/// Keys by the number that they share with their namesakes; 0 for those that can have none.
#[derive(Default)]
struct Gathering {
    members: Vec<(u64, Member)>,
    given: Vec<KeyId>,
}

impl Gathering {
    fn give(&mut self, number: Option<u64>, id: KeyId) {
        let place = u32::try_from(self.given.len()).unwrap_or(u32::MAX);
        self.members.push((number.unwrap_or(0), Member::Given(place)));
        self.given.push(id);
    }

    fn sort(&mut self) {
        self.members.sort_unstable();
    }

    /// How many share a number, once they are sorted.
    fn count(&self, number: u64) -> usize {
        let start = self.members.partition_point(|(other, _)| *other < number);
        self.members[start..].partition_point(|(other, _)| *other == number)
    }

    /// The groups, by the first of each, once they are sorted. `alone`: also those of one, which has none.
    fn groups(&self, alone: bool) -> Vec<Range<usize>> {
        let mut groups = Vec::new();
        let mut start = 0;
        for group in self.members.chunk_by(|(a, _), (b, _)| a == b && *a > 0) {
            let range = start..start + group.len();
            start = range.end;
            if alone || group.len() > 1 || matches!(group[0].1, Member::Given(_)) {
                groups.push(range);
            }
        }
        groups.sort_unstable_by_key(|group| self.members[group.start].1);
        groups
    }
}

impl Court<'_> {
    /// Judges keys of one name and owner: those of which one came, went, or is another.
    pub(super) async fn judge_namesakes(
        &mut self,
        connection: &mut SqliteConnection,
        numbers: &Numbers,
        due: &[KeyId],
    ) -> Result<(), sqlx::Error> {
        let gathering = self.gather(connection, numbers.organization, due).await?;
        let (mut mixed, mut new) = (Vec::new(), Vec::new());
        let simply = !self.basis.excepts(Rule::SameNameAndOwner, self.now);
        for group in gathering.groups(!self.is_whole) {
            let group = gathering.members[group].iter().map(|(_, member)| *member);
            if simply && group.clone().all(|member| matches!(member, Member::New(_))) {
                new.push(group.filter_map(|member| self.newcomer(member)).collect::<Vec<_>>());
            } else {
                mixed.extend(group);
            }
            if mixed.len() >= SOME {
                self.judge_groups(connection, numbers, &gathering, &mixed).await?;
                mixed.clear();
            }
            if new.iter().map(Vec::len).sum::<usize>() >= SOME {
                self.judge_new(connection, numbers, &mut new).await?;
                new.clear();
            }
        }
        self.judge_groups(connection, numbers, &gathering, &mixed).await?;
        self.judge_new(connection, numbers, &mut new).await
    }

    fn newcomer(&self, member: Member) -> Option<Newcomer> {
        match member {
            Member::New(place) => self.newcomers.get(place as usize).copied(),
            Member::Before(_) | Member::Given(_) => None,
        }
    }

    /// Judges groups of keys that are all new: nothing was said of them before, and what there is to say is known.
    async fn judge_new(
        &mut self,
        connection: &mut SqliteConnection,
        numbers: &Numbers,
        groups: &mut [Vec<Newcomer>],
    ) -> Result<(), sqlx::Error> {
        let mut unnamed = Vec::new();
        for group in &mut *groups {
            group.sort_unstable_by_key(|new| new.created_at);
            // Their ids are asked for where they decide who is the newest, and of those who are.
            let same = group.chunk_by(|a, b| a.created_at == b.created_at);
            unnamed.extend(same.filter(|same| same.len() > 1).flatten().map(|new| new.row));
            unnamed.extend(group.last().map(|new| new.row));
        }
        let ids = load_ids(connection, &unnamed).await?;
        let mut opened = Vec::new();
        for group in groups {
            group.sort_by_key(|new| (new.created_at, ids.get(&new.row)));
            let Some(newest) = group.last().and_then(|new| ids.get(&new.row)) else { continue };
            // What shows no time was first seen now.
            let born: Vec<Timestamp> =
                group.iter().map(|new| new.created_at.unwrap_or(self.now)).collect();
            let found = self.basis.judge_new_namesakes(&born, newest, self.now);
            opened.extend(group.iter().map(|new| Some(new.row)).zip(found));
        }
        let opened = opened.iter().map(|(row, finding)| (*row, finding)).collect::<Vec<_>>();
        insert_all(connection, self.book.take(numbers.ids(), &opened)).await
    }

    /// The keys of all groups that have to be judged.
    async fn gather(
        &self,
        connection: &mut SqliteConnection,
        organization: i64,
        due: &[KeyId],
    ) -> Result<Gathering, sqlx::Error> {
        let outline = &self.before.outline;
        let altered = self.changes.altered.iter().filter(|it| it.more_than_use);
        let altered = altered.map(|it| &it.key.id);
        let given: BTreeSet<&KeyId> = altered.chain(due).chain(&self.restored).collect();
        let given: Vec<KeyId> = given.into_iter().cloned().collect();

        let mut gathering = Gathering::default();
        let mut touched: HashSet<u64> =
            self.changes.removed.iter().filter_map(|key| outline.namesake(key)).collect();
        for ids in given.chunks(SOME) {
            let now = load_keys(connection, organization, ids).await?;
            for id in ids {
                let number = now.get(id).and_then(|(_, key)| outline.namesake(key));
                let before = self.before.keys.get(id).and_then(|key| outline.namesake(key));
                touched.extend(number.into_iter().chain(before));
                gathering.give(number, id.clone());
            }
        }
        touched.extend(self.newcomers.iter().map(|new| new.number));
        let new = (0..).zip(&self.newcomers).map(|(place, new)| (new.number, Member::New(place)));
        gathering.members.extend(new);
        let given: HashSet<&KeyId> = given.iter().collect();
        for (place, number) in outline.namesakes() {
            if (self.is_whole || touched.contains(&number))
                && (given.is_empty()
                    || outline.id(place as usize).is_some_and(|id| !given.contains(&id)))
            {
                gathering.members.push((number, Member::Before(place)));
            }
        }
        gathering.sort();
        if self.is_whole {
            self.give_former(connection, organization, &given, &mut gathering).await?;
        }
        Ok(gathering)
    }

    /// Keys that were found to have a newer namesake and that are in no group by now.
    async fn give_former(
        &self,
        connection: &mut SqliteConnection,
        organization: i64,
        given: &HashSet<&KeyId>,
        gathering: &mut Gathering,
    ) -> Result<(), sqlx::Error> {
        let mut ids = sqlx::query_scalar::<_, String>(
            "select k.key_id from finding_log f join keys k on k.key = f.key
             where f.organization = ?1 and f.closed_run is null and f.rule = ?2",
        )
        .bind(organization)
        .bind(Rule::SameNameAndOwner.as_str())
        .fetch(connection);
        let mut former = Vec::new();
        while let Some(id) = ids.try_next().await? {
            let Some(id) = KeyId::new(&id) else { continue };
            let number = self.before.outline.namesake_number(&id);
            if !given.contains(&id) && number.is_none_or(|number| gathering.count(number) < 2) {
                former.push(id);
            }
        }
        for id in former {
            gathering.give(None, id);
        }
        gathering.sort();
        Ok(())
    }

    async fn judge_groups(
        &mut self,
        connection: &mut SqliteConnection,
        numbers: &Numbers,
        gathering: &Gathering,
        members: &[Member],
    ) -> Result<(), sqlx::Error> {
        if members.is_empty() {
            return Ok(());
        }
        let organization = numbers.organization;
        let mut ids = Vec::with_capacity(members.len());
        let mut rows = Vec::new();
        for member in members {
            match member {
                Member::Before(place) => ids.extend(self.before.outline.id(*place as usize)),
                Member::New(place) => rows.push(self.newcomers[*place as usize].row),
                Member::Given(place) => ids.push(gathering.given[*place as usize].clone()),
            }
        }
        ids.extend(load_ids(connection, &rows).await?.into_values());
        let keys = load_keys(connection, organization, &ids).await?;
        let mut past = load_past(connection, organization, &ids_json(&ids)).await?;
        past.open.retain(|OpenFinding { finding, .. }| finding.rule == Rule::SameNameAndOwner);
        let all: Vec<&Key> = keys.values().map(|(_, key)| key).collect();
        let difference = self.basis.judge_namesakes(&all, &past, self.now);
        let key_of = |id: &KeyId| keys.get(id).map(|(row, _)| *row);
        write_findings(connection, numbers.ids(), &difference, key_of, &mut self.book).await
    }
}

/// The ids of the keys in these rows.
async fn load_ids(
    connection: &mut SqliteConnection,
    rows: &[i64],
) -> Result<HashMap<i64, KeyId>, sqlx::Error> {
    if rows.is_empty() {
        return Ok(HashMap::new());
    }
    let ids: Vec<(i64, String)> = sqlx::query_as(
        "select k.key, k.key_id from json_each(?1) j cross join keys k on k.key = j.value",
    )
    .bind(json(&rows))
    .fetch_all(connection)
    .await?;
    Ok(ids.iter().filter_map(|(row, id)| Some((*row, KeyId::new(id)?))).collect())
}
