//! What runs open and close is what judging anew finds, whatever happened before.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

use super::*;
use crate::findings::tests::whole::Evaluation;
use crate::findings::{Exception, Past, Rule, Rules, Severity};
use crate::inventory::EventKind;
use crate::store::findings::load_past;
use crate::store::snapshot::ids_json;

const DAY: i64 = 24 * 60 * 60;

impl Books {
    /// One good run that ends at `now` and judges.
    async fn judge(&mut self, world: &World, gone: &[&str], rules: &Rules, now: i64) -> Recorded {
        let (changes, before) = self.compare_all(ORG, world, gone).await;
        let draft = RunDraft { started_at: at(now), finished_at: at(now), ..self.draft(ORG) };
        let outcome = Outcome::Ok {
            changes: &changes,
            header: None,
            attributed: &Attributed::default(),
            judge: Some(Judge { rules, before: &before }),
        };
        self.writer.record_run(&draft, &outcome).await.unwrap()
    }

    async fn findings(&self, history: bool) -> Vec<FindingRow> {
        let mut rows = Vec::new();
        let filter = FindingFilter { history, ..FindingFilter::default() };
        let mut reader = self.reader().await;
        reader.list_findings(&filter, |row| push(&mut rows, row)).await.unwrap();
        reader.close().await.unwrap();
        rows
    }

    /// What is broken, found without knowing what was open; what happened once left out.
    async fn anew(&mut self, rules: &Rules, now: i64) -> BTreeSet<(Option<String>, String)> {
        let before = self.whole(ORG).await;
        let changes = Changes {
            fields: before.fields.clone(),
            own_key: before.own_key.clone(),
            ..Changes::default()
        };
        let ids = ids_json(before.keys.keys());
        let known = load_past(&mut self.writer.connection, 1, &ids).await.unwrap();
        let past = Past { open: Vec::new(), happened: HashMap::new(), ..known };
        let evaluation = Evaluation {
            organization: ORG,
            rules,
            before: &before,
            changes: &changes,
            past: &past,
        };
        let found = evaluation.findings(at(now)).into_iter();
        found.map(|it| (it.key_id.map(|id| id.to_string()), it.rule.to_string())).collect()
    }
}

/// A key that may break anything.
fn any_key(rng: &mut fastrand::Rng, now: i64) -> Value {
    let created = now - rng.i64(0..200) * DAY;
    let used = created + rng.i64(0..200) * DAY;
    let mut item = json!({
        "name": (["one", "two", ""][rng.usize(..3)]),
        "redacted_value": format!("sk-{}-****{:04}", ["admin", "admin", "proj"][rng.usize(..3)], rng.u16(..1000)),
        "created_at": created,
        "last_used_at": used.min(now),
        "expires_at": now + rng.i64(-30..60) * DAY,
        "owner": { "type": (["user", "service_account"][rng.usize(..2)]), "id": "ada" },
        "owner_project_access": (["active", "inactive"][rng.usize(..2)]),
        "project_archived_at": at(now - rng.i64(0..100) * DAY).to_string(),
    });
    if rng.u8(..4) == 0 {
        item["owner"]["id"] = Value::Null;
    }
    for field in [
        "name",
        "created_at",
        "last_used_at",
        "expires_at",
        "owner_project_access",
        "project_archived_at",
    ] {
        if rng.u8(..4) == 0 {
            item[field] = Value::Null;
        }
    }
    item
}

/// Changes one thing of the world. Returns the key that is gone, if one is.
fn happen(rng: &mut fastrand::Rng, world: &mut World, now: i64) -> Option<String> {
    let ids: Vec<String> = world.keys().cloned().collect();
    let picked = rng.choice(&ids).cloned();
    match (rng.u8(..8), picked) {
        (0..=1, _) | (_, None) => {
            world.insert(format!("key_{:02}", rng.u8(..24)), any_key(rng, now));
            None
        }
        (2, Some(key_id)) => {
            world.remove(&key_id);
            Some(key_id)
        }
        (3..=4, Some(key_id)) => {
            world.get_mut(&key_id).unwrap()["last_used_at"] = json!(now - rng.i64(0..3) * DAY);
            None
        }
        (5, Some(key_id)) => {
            let back = [Value::Null, json!(now - rng.i64(50..300) * DAY)];
            world.get_mut(&key_id).unwrap()["last_used_at"] = back[rng.usize(..2)].clone();
            None
        }
        (6, Some(key_id)) => {
            let fresh = any_key(rng, now);
            let field = ["name", "expires_at", "owner", "owner_project_access"][rng.usize(..4)];
            world.get_mut(&key_id).unwrap()[field] = fresh[field].clone();
            None
        }
        (_, Some(_)) => None,
    }
}

fn change_rules(rng: &mut fastrand::Rng, rules: &mut Rules, now: i64) {
    match rng.u8(..12) {
        0 => rules.disabled = [Rule::ALL[rng.usize(..Rule::ALL.len())]].into(),
        1 => rules.disabled.clear(),
        2 => rules.max_admin_keys = rng.u64(0..6),
        3 => rules.project_key_age = Some(Duration::from_hours(24 * rng.u64(1..100))),
        4 => rules.exceptions.push(Exception {
            key_id: format!("key_{:02}", rng.u8(..24)),
            rule: None,
            organization: None,
            reason: "why".to_owned(),
            until: at(now + rng.i64(0..60) * DAY),
            origin: String::new(),
        }),
        _ => {}
    }
}

/// Whether it is about something that happened once, and not about how a key is.
fn happened(rule: &str) -> bool {
    [Rule::WokeUp, Rule::UseWentBack].into_iter().any(|once| once.as_str() == rule)
}

#[tokio::test]
async fn what_is_open_is_what_judging_anew_finds_after_any_history() {
    let mut once = 0;
    for seed in 0..12 {
        let rng = &mut fastrand::Rng::with_seed(seed);
        let (mut books, mut world, mut rules) =
            (Books::new().await, World::new(), Rules::default());
        let (mut now, mut opened, mut closed) = (START, 0, 0);
        for _ in 0..20 {
            now += rng.i64(3_600..20 * DAY);
            change_rules(rng, &mut rules, now);
            let mut gone: Vec<String> = Vec::new();
            for _ in 0..rng.u8(..6) {
                gone.extend(happen(rng, &mut world, now));
            }
            gone.retain(|key_id| !world.contains_key(key_id));
            let gone: Vec<&str> = gone.iter().map(String::as_str).collect();
            let recorded = books.judge(&world, &gone, &rules, now).await;
            opened += recorded.findings.opened;
            closed += recorded.findings.closed;

            let open = books.findings(false).await;
            let states = open.iter().filter(|row| !happened(&row.rule));
            let states: BTreeSet<_> =
                states.map(|row| (row.key_id.clone(), row.rule.clone())).collect();
            assert_eq!(states, books.anew(&rules, now).await, "seed {seed}");
            once += check_what_happened(&books, &open, now).await;
            // The same world at the same time changes nothing.
            let again = books.judge(&world, &[], &rules, now).await;
            assert_eq!(again.findings, FindingCounts::default(), "seed {seed}");
        }
        let history = books.findings(true).await;
        assert_eq!(history.len() as u64, opened);
        let ended = history.iter().filter(|row| row.closed_run_id.is_some()).count();
        assert_eq!(ended as u64, closed);
        check_daily(&mut books).await;
        books.check_whole().await;
    }
    assert!(once > 10, "only {once} keys woke up or went back");
}

/// Each was noticed not too long ago, by a run that saw a use of that very key. Returns how many.
async fn check_what_happened(books: &Books, open: &[FindingRow], now: i64) -> usize {
    let used = EventFilter { kinds: vec![EventKind::Used], ..EventFilter::default() };
    let used = events(&mut books.reader().await, &used).await;
    let mut count = 0;
    for row in open.iter().filter(|row| happened(&row.rule)) {
        count += 1;
        let opened_at: Timestamp = row.opened_at.parse().unwrap();
        assert!(now < opened_at.unix() + 30 * DAY, "{row:?}");
        let key_id = row.key_id.as_deref().unwrap();
        // That run, or an earlier one where an exception hid it meanwhile.
        let told = used.iter().any(|it| {
            let at: Timestamp = it.observed_at.parse().unwrap();
            let in_time = it.run_id <= row.opened_run_id && now < at.unix() + 30 * DAY;
            in_time && it.key_id == key_id
        });
        assert!(told, "{row:?}");
    }
    count
}

/// The days add up to what is open now.
async fn check_daily(books: &mut Books) {
    for severity in Severity::ALL.map(Severity::as_str) {
        let (by_days, now): (i64, i64) = sqlx::query_as(
            "select (select open from findings_daily where severity = ?1 order by day desc limit 1),
                    (select count(*) from findings where severity = ?1)",
        )
        .bind(severity)
        .fetch_one(&mut books.writer.connection)
        .await
        .unwrap();
        assert_eq!(by_days, now, "{severity}");
    }
}

#[tokio::test]
async fn a_failed_run_changes_no_finding_and_a_removed_keys_end() {
    let mut books = Books::new().await;
    let world = two_keys();
    let now = 1_760_000_000 + 1_000 * DAY;
    let recorded = books.judge(&world, &[], &Rules::default(), now).await;
    assert_eq!(recorded.findings, FindingCounts { opened: 2, closed: 0 });
    let before = books.findings(true).await;
    assert_eq!(before.iter().map(|row| row.rule.as_str()).collect::<Vec<_>>(), ["old", "old"]);
    books.fail("no network").await;
    assert_eq!(books.findings(true).await, before);
    let one = world.clone().into_iter().take(1).collect();
    let recorded = books.judge(&one, &["key_2"], &Rules::default(), now + DAY).await;
    assert_eq!(recorded.findings, FindingCounts { opened: 0, closed: 1 });
    let closed = &books.findings(true).await[1];
    assert_eq!(closed.closed_run_id, Some(recorded.run_id));
    assert_eq!(closed.closed_at, Some(at(now + DAY).to_string()));
    // Found again, it is another row.
    let recorded = books.judge(&world, &[], &Rules::default(), now + 2 * DAY).await;
    assert_eq!(recorded.findings, FindingCounts { opened: 1, closed: 0 });
    assert_eq!(books.findings(true).await.len(), 3);
}

#[tokio::test]
async fn findings_are_append_only_but_for_their_end() {
    let mut books = Books::new().await;
    let now = 1_760_000_000 + 1_000 * DAY;
    books.judge(&two_keys(), &[], &Rules::default(), now).await;
    books.judge(&two_keys(), &["key_9"], &Rules::default(), now + DAY).await;
    for sql in [
        "update finding_log set since = 0",
        "update finding_log set detail = 'nothing', closed_run = 2",
        "update finding_log set closed_run = null",
        "update finding_log set memory = 1, closed_run = 2",
        "update finding_log set key = null, closed_run = 2",
        "delete from finding_log",
        "insert or replace into finding_log select * from finding_log where finding_id = 1",
        "insert into finding_log (finding_id, organization, key, rule, severity, since, detail, opened_run)
         select 9, organization, key, rule, severity, since, detail, opened_run from finding_log
         where finding_id = 1",
    ] {
        let refused = books.execute(sql).await.unwrap_err();
        assert!(refused.contains("findings are append-only"), "{sql}: {refused}");
    }
    // An end comes after the beginning, and once.
    assert!(books.execute("update finding_log set closed_run = 1").await.is_err());
    books.execute("update finding_log set closed_run = 2 where finding_id = 1").await.unwrap();
    let again = "update finding_log set closed_run = 2 where finding_id = 1";
    assert!(books.execute(again).await.is_err());
}

#[tokio::test]
async fn pruning_and_forgetting_leave_findings_as_they_are() {
    let mut books = Books::new().await;
    let now = START + 1_000 * DAY;
    let owned = |used: i64| {
        let owner = json!({"id": "user_1", "type": "user", "name": "Ada Lovelace"});
        let item = json!({"name": "One", "owner": owner, "created_at": START, "last_used_at": used,
            "redacted_value": "sk-admin-****abcd"});
        world([("key_1", item)])
    };
    books.judge(&owned(START), &[], &Rules::default(), now).await;
    books.judge(&owned(now), &[], &Rules::default(), now + DAY).await;
    let before = books.findings(true).await;
    assert_eq!(before.len(), 3, "{before:?}");
    let policy = Policy { used_events: None, events: Some(Duration::from_mins(1)) };
    let pruned = books.writer.prune(ORG, policy, at(now + 10 * DAY), "ana").await.unwrap();
    assert!(pruned.is_some());
    let forgotten = books.writer.forget(ORG, "user_1", at(now + 11 * DAY), "ana").await.unwrap();
    assert!(matches!(forgotten, Forgetting::Done { .. }));
    assert_eq!(books.findings(true).await, before);
    let shown =
        books.number("select count(*) from finding_history where detail like '%Ada%'").await;
    assert_eq!(shown, 0);
    books.judge(&owned(now), &[], &Rules::default(), now + 12 * DAY).await;
    assert_eq!(books.findings(true).await, before, "the same key breaks the same rules");
    books.check_whole().await;
}
