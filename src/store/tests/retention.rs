//! Pruning and forgetting: an honest history is never accused, what is kept answers as before, and damage shows.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::Value;

use super::evidence::{Script, verify};
use super::*;
use crate::audit::{Problem, Verdict};
use crate::evidence;
use crate::inventory::tests::any_world;
use crate::inventory::{Inventory, Key, field_changes, is_erased, is_personal};

const NAMES: [&str; 2] = ["a", "b"];

impl Books {
    pub(super) fn now(&self) -> Timestamp {
        at(START + 60 * self.runs)
    }

    /// Throws away what is older than so many runs.
    pub(super) async fn prune(
        &mut self,
        name: &str,
        used: Option<u64>,
        events: Option<u64>,
    ) -> Option<Pruned> {
        let minutes = |runs: u64| Duration::from_mins(runs);
        let policy = Policy { used_events: used.map(minutes), events: events.map(minutes) };
        let now = self.now();
        self.writer.prune(name, policy, now, "tester").await.unwrap()
    }

    pub(super) async fn forget(&mut self, name: &str, owner_id: &str) -> Forgetting {
        let now = self.now();
        self.writer.forget(name, owner_id, now, "tester").await.unwrap()
    }

    pub(super) async fn verify(&self) -> Vec<Verdict> {
        self.reader().await.verify(&|_, _| None).await.unwrap()
    }

    pub(super) async fn problem(&self) -> Option<Problem> {
        self.verify().await.into_iter().find_map(|verdict| verdict.problem)
    }

    /// Edits behind the back of all triggers.
    pub(super) async fn damage(&mut self, sql: &str) {
        let triggers: Vec<String> = sqlx::query_scalar(
            "select 'drop trigger ' || name from sqlite_schema where type = 'trigger'",
        )
        .fetch_all(&mut self.writer.connection)
        .await
        .unwrap();
        for sql in
            triggers.into_iter().chain(["pragma foreign_keys = off".to_owned(), sql.to_owned()])
        {
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
                .execute(&mut self.writer.connection)
                .await
                .unwrap();
        }
    }

    /// Makes the history so far one from before there was a chain.
    async fn unchain(&mut self) {
        let triggers = self.triggers().await;
        self.damage(
            "update runs set digest = null; delete from parts; delete from notices where kind = 'unconfirmed';
             pragma foreign_keys = on",
        )
        .await;
        for (_, sql) in triggers {
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
                .execute(&mut self.writer.connection)
                .await
                .unwrap();
        }
    }

    pub(super) async fn triggers(&mut self) -> Vec<(String, String)> {
        sqlx::query_as("select name, sql from sqlite_schema where type = 'trigger' order by name")
            .fetch_all(&mut self.writer.connection)
            .await
            .unwrap()
    }
}

#[derive(Debug, Clone)]
enum Step {
    Sync(World, u64),
    Fail,
    Prune(Option<u64>, Option<u64>),
    Forget(&'static str),
}

/// As the worlds of other tests, with e-mail addresses.
fn addressed() -> impl Strategy<Value = World> {
    let email = prop_oneof![
        4 => "[a-c]@example".prop_map(Value::from),
        1 => Just(json!(["a@example", "b@example"])),
        1 => Just(json!("erased")),
        1 => Just(json!(7)),
    ];
    (any_world(), proptest::collection::vec(proptest::option::weighted(0.7, email), 7)).prop_map(
        |(mut world, emails)| {
            for (item, email) in world.values_mut().zip(emails) {
                if let (Some(owner), Some(email)) =
                    (item.get_mut("owner").and_then(Value::as_object_mut), email)
                {
                    owner.insert("email".to_owned(), email);
                }
            }
            world
        },
    )
}

fn steps() -> impl Strategy<Value = Vec<(bool, Step)>> {
    let horizon = || proptest::option::weighted(0.7, 0_u64..8);
    let step = prop_oneof![
        6 => (addressed(), any::<u64>()).prop_map(|(world, gone)| Step::Sync(world, gone)),
        1 => Just(Step::Fail),
        3 => (horizon(), horizon()).prop_map(|(used, events)| {
            // `events` is never shorter.
            Step::Prune(used, events.map(|events| events.max(used.unwrap_or(0))))
        }),
        2 => proptest::sample::select(vec!["user-1", "user-2"]).prop_map(Step::Forget),
    ];
    proptest::collection::vec((prop::bool::weighted(0.75), step), 2..14)
}

/// What there was before there was a chain, if anything.
fn older() -> impl Strategy<Value = Vec<(bool, World, u64)>> {
    let sync = (prop::bool::weighted(0.75), addressed(), any::<u64>());
    prop_oneof![2 => Just(Vec::new()), 1 => proptest::collection::vec(sync, 1..5)]
}

/// What was answered right after a run.
struct State {
    run_id: i64,
    at: Timestamp,
    name: &'static str,
    inventory: Inventory,
    own: Option<KeyId>,
}

/// The same, as far as one can say of values that were erased on one side.
fn assert_same(found: &Inventory, expected: &Inventory, own: Option<&KeyId>) {
    assert_eq!(found.keys.keys().collect::<Vec<_>>(), expected.keys.keys().collect::<Vec<_>>());
    for (id, key) in &expected.keys {
        let changes = field_changes(&found.keys[id], key);
        let differ = changes.iter().find(|change| {
            let erased = is_erased(change.old.as_deref()) || is_erased(change.new.as_deref());
            // Nor does the history say anything of our own use.
            let ours = own == Some(id) && change.field == "last_used_at";
            !(ours || erased && is_personal(&change.field))
        });
        assert_eq!(differ, None, "{id}");
    }
}

async fn one(books: &mut Books, name: &'static str, step: Step, states: &mut Vec<State>) {
    match step {
        Step::Fail => {
            let draft = books.draft(name);
            let outcome = Outcome::Failed { error: "e", withheld: None };
            books.writer.record_run(&draft, &outcome).await.unwrap();
        }
        Step::Sync(world, believed) => {
            let before = books.whole(name).await;
            let mut missing: Vec<String> = before.keys.keys().map(ToString::to_string).collect();
            missing.retain(|id| !world.contains_key(id));
            missing.sort();
            let gone = missing.iter().enumerate().filter(|(place, _)| believed >> place & 1 == 1);
            let gone: Vec<&str> = gone.map(|(_, id)| id.as_str()).collect();
            let recorded = books.sync_projects_as(name, &world, &gone).await;
            let at = recorded.finished_at;
            let mut known = books.reader().await.replay(Some(name), at).await.unwrap();
            let inventory = known.remove(name).unwrap();
            let own = books.whole(name).await.own_key;
            states.push(State { run_id: recorded.run_id, at, name, inventory, own });
        }
        Step::Prune(used, events) => {
            let triggers = books.triggers().await;
            if let Some(pruned) = books.prune(name, used, events).await {
                // Again, there is nothing.
                assert_eq!(books.prune(name, used, events).await, None, "{pruned:?}");
            }
            assert_eq!(books.triggers().await, triggers);
        }
        Step::Forget(owner_id) => {
            let triggers = books.triggers().await;
            let known = books.forget(name, owner_id).await != Forgetting::Unknown;
            let again = if known { Forgetting::Before } else { Forgetting::Unknown };
            assert_eq!(books.forget(name, owner_id).await, again);
            assert_eq!(books.triggers().await, triggers);
            for state in states.iter_mut().filter(|state| known && state.name == name) {
                let keys = state.inventory.keys.values_mut();
                keys.filter(|key| key.owner_id.as_deref() == Some(owner_id))
                    .for_each(Key::erase_personal);
            }
        }
    }
}

async fn live(older: Vec<(bool, World, u64)>, steps: Vec<(bool, Step)>) {
    let mut books = Books::new().await;
    let mut states = Vec::new();
    let is_older = !older.is_empty();
    for (first, world, gone) in older {
        let name = NAMES[usize::from(!first)];
        one(&mut books, name, Step::Sync(world, gone), &mut states).await;
    }
    if is_older {
        books.unchain().await;
        assert_eq!(books.problem().await, None);
    }
    for (first, step) in steps {
        one(&mut books, NAMES[usize::from(!first)], step, &mut states).await;
        assert_eq!(books.problem().await, None);
        assert_eq!(books.reader().await.find_break().await.unwrap(), None);
    }
    let mut reader = books.reader().await;
    let mut horizons = BTreeMap::new();
    for name in NAMES {
        let horizon = reader.load_horizon(name).await.unwrap();
        horizons.insert(name, horizon.map_or(0, |horizon| horizon.run_id));
    }
    for State { run_id, at, name, inventory, own } in states {
        match reader.replay(Some(name), at).await {
            Ok(mut found) => assert_same(&found.remove(name).unwrap(), &inventory, own.as_ref()),
            Err(Error::NotKept { .. }) => assert!(run_id < horizons[name], "{run_id}"),
            Err(error) => panic!("{error}"),
        }
        assert!(run_id >= horizons[name] || reader.replay(Some(name), at).await.is_err());
    }
    drop(reader);
    let broken = "select count(*) from pragma_foreign_key_check";
    assert_eq!(books.number(broken).await, 0);
    let path = books.path();
    let mut packs = Vec::new();
    for (from, to) in
        [(0, books.runs), (books.runs / 2, books.runs), (books.runs / 2, books.runs - 1)]
    {
        packs.extend(pack(&books, from, to).await);
    }
    let ours = verify(&path).await;
    let directory = books.close().await;
    if let Some(mut script) = Script::start() {
        let (theirs, said) = script.verify(&path);
        assert_eq!(theirs, ours, "{said}");
        for pack in packs {
            let (theirs, said) = script.verify(pack.path());
            assert!(theirs.values().all(Option::is_none), "{said}");
        }
    }
    drop(directory);
}

/// The history between two runs as a pack that was unpacked, if all of it is kept. It holds by itself.
async fn pack(books: &Books, from: i64, to: i64) -> Option<TempDir> {
    let (from, to) = (at(START + 60 * from), at(START + 60 * to));
    let period = match books.reader().await.load_period(from, to, &|_, _| None).await {
        Err(Error::NotKept { .. }) => return None,
        period => period.unwrap(),
    };
    let (configuration, checkpoints) = (BTreeMap::new(), String::new());
    let context = evidence::Context { from, to, configuration, checkpoints, key: None };
    let bytes = evidence::write(Vec::new(), &context, &period).unwrap();
    let files = evidence::archive::read(&bytes[..]).unwrap();
    let verdicts = evidence::check::verify(&files).unwrap();
    let problem = verdicts.into_iter().find_map(|verdict| verdict.problem);
    assert_eq!(problem, None, "{from} to {to}");
    let directory = super::evidence::directory();
    for (name, content) in files {
        std::fs::write(directory.path().join(name), content).unwrap();
    }
    Some(directory)
}

/// Packs of a history of three runs hold, also by the script.
async fn assert_packs_hold(books: &Books) {
    let mut script = Script::start();
    for (from, to) in [(0, 3), (1, 3), (2, 3), (1, 2)] {
        let pack = pack(books, from, to).await.unwrap();
        if let Some(script) = &mut script {
            let (theirs, said) = script.verify(pack.path());
            assert!(theirs.values().all(Option::is_none), "{said}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 300, ..ProptestConfig::with_cases(60) })]

    #[test]
    fn an_honest_history_holds_however_it_is_pruned_and_whoever_is_forgotten(
        older in older(), steps in steps(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(live(older, steps));
    }
}

#[tokio::test]
async fn a_pack_holds_where_who_was_forgotten_since_had_the_name_of_somebody_else() {
    let mut books = Books::new().await;
    let owned = |owner_id: &str| {
        let owner = json!({"id": owner_id, "type": "user", "name": "Bob"});
        world([("k", json!({"name": "K", "created_at": 1_760_000_000, "owner": owner}))])
    };
    for owner_id in ["user-2", "user-1", "user-1"] {
        books.sync(&owned(owner_id), &[]).await;
    }
    books.forget(ORG, "user-1").await;
    assert_packs_hold(&books).await;
    assert_eq!(books.problem().await, None);
}

#[tokio::test]
async fn a_pack_holds_where_who_was_forgotten_took_over_a_key_of_nobody() {
    let mut books = Books::new().await;
    let first =
        world([("7", json!({"owner": {"email": "c@example"}, "permissions": 0, "scope": "\""}))]);
    let taken = json!({
        "created_at": 1_760_259_200, "name": "ba", "owner": {"id": "user-2", "role": "owner"},
        "scope": 2_651_997_361_207_832_375_i64,
    });
    let other = json!({
        "name": {}, "owner": {"email": "c@example", "id": "user-1", "name": "json:"},
        "scope": 8_813_692_464_376_324_910_i64,
    });
    books.sync_projects_as(ORG, &world([]), &[]).await;
    books.unchain().await;
    books.sync_projects_as(ORG, &first, &[]).await;
    books.sync_projects_as(ORG, &world([("7", taken), ("json:1", other)]), &[]).await;
    books.forget(ORG, "user-2").await;
    assert_eq!(books.problem().await, None);
    assert_packs_hold(&books).await;
}
