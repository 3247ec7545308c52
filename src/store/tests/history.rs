//! The history leads to the inventory, at any time.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::inventory::tests::any_world;
use crate::inventory::{Column, Key};

/// What one run of one of two organizations comes to: keys, which missing ones are gone, and if it failed.
pub(super) type Step = (bool, Option<(World, u64)>);

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (any::<bool>(), proptest::option::weighted(0.85, (any_world(), any::<u64>())));
    proptest::collection::vec(step, 1..8)
}

type State = (BTreeMap<KeyId, Key>, Option<KeyId>);

fn without_own_use((mut keys, own): State) -> BTreeMap<KeyId, Key> {
    if let Some(key) = own.and_then(|own| keys.get_mut(&own)) {
        key.set_shown(Column::LastUsedAt, None).unwrap();
    }
    keys
}

impl Books {
    pub(super) async fn step(&mut self, (first, turn): Step) -> Recorded {
        let name = if first { "a" } else { "b" };
        let Some((world, believed)) = turn else {
            let draft = self.draft(name);
            let withheld = Withholding { missing: vec![id("key_1"), id("7")], stranger: None };
            let outcome = if self.runs % 2 == 0 {
                Outcome::Failed { error: "e", withheld: None }
            } else {
                Outcome::Held { error: "h", withheld: &withheld }
            };
            return self.writer.record_run(&draft, &outcome).await.unwrap();
        };
        let before = self.whole(name).await;
        let mut missing: Vec<_> =
            before.keys.keys().filter(|id| !world.contains_key(id.as_str())).collect();
        missing.sort();
        let gone: Vec<&str> = missing
            .iter()
            .enumerate()
            .filter(|(place, _)| believed >> place & 1 == 1)
            .map(|(_, id)| id.as_str())
            .collect();
        self.sync_projects_as(name, &world, &gone).await
    }

    /// An honest history is never accused.
    pub(super) async fn check_whole(&self) {
        let mut reader = self.reader().await;
        let verdicts = reader.verify(&|_, _| None).await.unwrap();
        reader.close().await.unwrap();
        for verdict in verdicts {
            assert_eq!(verdict.problem, None, "{}", verdict.organization);
        }
    }
}

async fn live(steps: Vec<Step>) {
    let mut books = Books::new().await;
    let mut states: Vec<(Timestamp, &str, State)> = Vec::new();
    for step in steps {
        let name = if step.0 { "a" } else { "b" };
        let world = step.1.as_ref().map(|(world, _)| world.clone());
        let recorded = books.step(step).await;
        let Some(world) = world else { continue };
        let after = books.whole(name).await;
        assert_eq!(recorded.keys_after, after.keys.len() as u64);
        states.push((
            recorded.finished_at,
            name,
            (after.keys.into_iter().collect(), after.own_key),
        ));
        // The same world again is one row and nothing else.
        let sizes = books.sizes().await;
        books.sync_projects_as(name, &world, &[]).await;
        books.check_whole().await;
        let mut expected = sizes;
        expected[1] += 1;
        assert_eq!(books.sizes().await, expected);
    }
    let mut reader = books.reader().await;
    for (time, name, state) in states {
        let replayed = reader.replay(Some(name), time).await.unwrap().remove(name).unwrap();
        let own = state.1.clone();
        assert_eq!(without_own_use((replayed.keys, own)), without_own_use(state));
    }
    let broken = "select count(*) from pragma_foreign_key_check";
    assert_eq!(books.number(broken).await, 0);
    // What no foreign key says.
    let stray = "select count(*) from keys k where not exists (
                 select 1 from key_versions v where v.version = k.version and v.key = k.key)";
    assert_eq!(books.number(stray).await, 0);
    // The counts on the runs are those of the events.
    let sums =
        "select count(*) from runs r where baseline + added + restored + removed + used + changed
                <> (select count(*) from audit a where a.run_id = r.run_id)";
    assert_eq!(books.number(sums).await, 0);
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 200, ..ProptestConfig::with_cases(40) })]

    #[test]
    fn replay_leads_to_the_inventory_of_any_time(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(live(steps));
    }
}

#[tokio::test]
async fn a_time_is_answered_with_the_state_after_the_last_good_run() {
    let mut books = Books::new().await;
    books.sync(&two_keys(), &[]).await;
    books.sync_as("other", &world([("x", json!({}))]), &[]).await;
    let mut one = two_keys();
    one.remove("key_2");
    books.sync(&one, &["key_2"]).await;
    let mut reader = books.reader().await;
    let mut sizes = async |name: Option<&str>, seconds: i64| {
        let found = reader.replay(name, at(START + seconds)).await;
        found.map(|found| {
            found.into_iter().map(|(name, i)| (name, i.keys.len())).collect::<Vec<_>>()
        })
    };
    let row = |name: &str, keys| (name.to_owned(), keys);
    let Err(Error::BeforeHistory { first }) = sizes(None, 0).await else { panic!("before") };
    assert_eq!(first, at(START + 1));
    assert_eq!(sizes(None, 1).await.unwrap(), [row(ORG, 2)]);
    assert_eq!(sizes(None, 120).await.unwrap(), [row(ORG, 2), row("other", 1)]);
    assert_eq!(sizes(None, 121).await.unwrap(), [row(ORG, 1), row("other", 1)]);
    assert!(matches!(sizes(Some("other"), 5).await, Err(Error::BeforeHistory { .. })));
    assert_eq!(sizes(Some("nobody"), 500).await.unwrap(), []);
}

#[tokio::test]
async fn notices_are_part_of_the_history() {
    let mut books = Books::new().await;
    books.sync(&world([("a", json!({})), ("b", json!({}))]), &[]).await;
    let owned = json!({"tier": "\0 'x\"", "owner": {"name": "json:1"}, "expires_at": "soon"});
    let after =
        world([("a", owned.clone()), ("b", json!({"tier": null, "owner": null, "expires_at": 5}))]);
    let recorded = books.sync(&after, &[]).await;
    assert!(!recorded.counts.is_drift());
    let replayed = books.reader().await.replay(None, Timestamp::MAX).await.unwrap();
    assert_eq!(replayed[ORG].keys[&id("a")], sighting("a", &owned).key);
    assert_eq!(replayed[ORG].keys[&id("b")].expires_at, Some(at(5)));
}

#[tokio::test]
async fn the_index_that_the_past_is_asked_by_is_held_against_the_events() {
    let never = |_: &str, _: Timestamp| None;
    for (run_id, edit) in [
        (
            1,
            "drop trigger runs_no_update; update runs set last_version = last_version + 1 where run_id = 1",
        ),
        (
            2,
            "drop trigger runs_no_update; update runs set last_version = last_version - 1 where run_id = 2",
        ),
        (
            4,
            "drop trigger runs_no_update; update runs set last_version = last_version - 1 where run_id = 4",
        ),
    ] {
        let mut books = Books::new().await;
        let mut world = two_keys();
        books.sync(&world, &[]).await;
        for name in ["x", "y", "z"] {
            world.get_mut("key_1").unwrap()["name"] = json!(name);
            books.sync(&world, &[]).await;
        }
        let verdicts = books.reader().await.verify(&never).await.unwrap();
        assert_eq!(verdicts[0].problem, None);
        books.execute(edit).await.unwrap();
        let problem = books.reader().await.verify(&never).await.unwrap().remove(0).problem.unwrap();
        assert!(problem.what.contains("`last_version`"), "{problem:?}");
        assert!([run_id, run_id + 1].contains(&problem.run_id.unwrap()), "{problem:?}");
    }
}

/// What is said of the past comes from versions that no view shows: they may not say what the events do not.
#[tokio::test]
async fn a_version_of_a_key_that_the_past_is_read_from_is_held_against_the_events() {
    let never = |_: &str, _: Timestamp| None;
    for (run_id, edit) in [
        // Made by a change.
        (
            2,
            "drop trigger key_versions_no_update;
             update key_versions set project_name = 'elsewhere' where version = 3",
        ),
        (
            2,
            "drop trigger owners_no_update;
             update owners set role = 'nobody'
             where owner = (select owner from key_versions where version = 3)",
        ),
        // Made by a notice.
        (
            3,
            "drop trigger key_versions_no_update;
             update key_versions set other = '{\"tier\": \"gold\"}' where version = 4",
        ),
        (3, "drop trigger key_versions_no_delete; delete from key_versions where version = 4"),
        // By it the past is counted.
        (1, "drop trigger runs_no_update; update runs set last_event_id = 1 where run_id = 1"),
        (2, "drop trigger runs_no_update; update runs set keys_after = 3 where run_id = 2"),
    ] {
        let mut books = Books::new().await;
        let mut world = two_keys();
        books.sync(&world, &[]).await;
        let owner = json!({"id": "user-9", "name": "Nina", "role": "owner"});
        world.get_mut("key_1").unwrap()["owner"] = owner;
        world.get_mut("key_1").unwrap()["name"] = json!("x");
        books.sync(&world, &[]).await;
        for key in ["key_1", "key_2"] {
            world.get_mut(key).unwrap()["tier"] = json!("silver");
        }
        books.sync(&world, &[]).await;
        // So that the inventory rests on none of these.
        for key in ["key_1", "key_2"] {
            world.get_mut(key).unwrap()["name"] = json!("y");
            world.get_mut(key).unwrap()["owner"] = json!({"id": "user-8"});
        }
        books.sync(&world, &[]).await;
        let verdicts = books.reader().await.verify(&never).await.unwrap();
        assert_eq!(verdicts[0].problem, None);
        books.execute(edit).await.unwrap();
        let verdict = books.reader().await.verify(&never).await.unwrap().remove(0);
        let problem = verdict.problem.unwrap();
        assert_eq!(problem.run_id, Some(run_id), "{edit}: {problem:?}");
        let good_until = verdict.good_until.map_or(0, |(run_id, _)| run_id);
        assert_eq!(good_until, run_id - 1, "{edit}");
    }
}

/// What a view shows as nothing may still be read by who does not ask the view.
#[tokio::test]
async fn what_no_view_shows_is_damage_where_the_past_is_read_from_it() {
    let never = |_: &str, _: Timestamp| None;
    let used = |at: i64| json!({"name": "One", "last_used_at": START + at});
    for edit in [
        "drop trigger audit_no_update; update audit set version = 1 where event = 'used'",
        "update keys set last_used_at = 253402300800 where key = 2",
        "drop trigger key_versions_no_update;
         update key_versions set expires_at = -99999999999999 where version = 2",
        "drop trigger audit_no_update;
         update audit set new_value = 253402300800 where event_id = 2",
        "drop trigger runs_no_update; update runs set last_version = 99 where run_id = 3",
    ] {
        let mut books = Books::new().await;
        books.sync(&world([("a", used(1)), ("b", json!({}))]), &[]).await;
        let mut renamed = used(1);
        renamed["tier"] = json!("gold");
        books.sync(&world([("a", renamed.clone()), ("b", json!({"tier": "gold"}))]), &[]).await;
        renamed["last_used_at"] = json!(START + 70);
        renamed["tier"] = json!("silver");
        books.sync(&world([("a", renamed), ("b", json!({"tier": "gold"}))]), &[]).await;
        let verdicts = books.reader().await.verify(&never).await.unwrap();
        assert_eq!(verdicts[0].problem, None);
        books.execute(edit).await.unwrap();
        let verdict = books.reader().await.verify(&never).await.unwrap().remove(0);
        assert!(verdict.problem.is_some(), "{edit}");
    }
}
