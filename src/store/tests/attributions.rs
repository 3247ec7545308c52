//! Who did it: attached by the run or a later one, never twice, erased on request, pruned with its run.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::evidence::{Script, verify};
use super::*;
use crate::inventory::{
    Actor, AuditEntry, EventKind, KeyAction, PATIENCE, attributable, attribute,
};

const NOBODY: fn(&str, Timestamp) -> Option<Timestamp> = |_, _| None;

#[expect(clippy::unnecessary_wraps, reason = "so that actors read well")]
fn text(text: &str) -> Option<Arc<str>> {
    Some(Arc::from(text))
}

/// The same person as an owner of the world.
fn user(id: &str, email: &str, ip_address: &str) -> Actor {
    Actor {
        kind: text("session"),
        user_id: text(id),
        email: text(email),
        ip_address: text(ip_address),
        ..Actor::default()
    }
}

fn service() -> Actor {
    Actor {
        kind: text("api_key"),
        key_id: text("key_acting"),
        service_account_id: text("svc-1"),
        ip_address: text("2001:db8::7"),
        ..Actor::default()
    }
}

fn ana() -> Actor {
    user("user-ana", "ana@example.com", "198.51.100.7")
}

fn entry(log_id: &str, action: KeyAction, key_id: &str, seconds: i64, actor: Actor) -> AuditEntry {
    let (log_id, key_id) = (Arc::from(log_id), id(key_id));
    let scopes = Some(vec!["api.management.read".to_owned()]);
    AuditEntry { log_id, action, key_id, happened_at: at(START + seconds), actor, scopes }
}

impl Books {
    /// What a run that finds these changes would make of the entries of the log.
    async fn attributed(
        &mut self,
        organization: &str,
        changes: &Changes,
        now: Timestamp,
        entries: &[AuditEntry],
    ) -> Attributed {
        let since = now.saturating_sub(PATIENCE);
        let before = self.writer.load_unattributed(organization, since).await.unwrap();
        let log_ids: BTreeSet<&str> = entries.iter().map(|entry| &*entry.log_id).collect();
        let attached = self.writer.load_attached(organization, &log_ids).await.unwrap();
        let mut events = before.recent;
        if let Some(after) = before.previous_started_at {
            events.extend(attributable(changes, after, now).unwrap());
        }
        let attributions = attribute(&events, entries, &attached);
        Attributed { attributions, silences: vec![(Silence::Refused, false)] }
    }

    /// Some entries for what changed and what is not explained yet: early, late, several, and none.
    pub(super) async fn some_attributions(
        &mut self,
        organization: &str,
        changes: &Changes,
        now: Timestamp,
    ) -> Attributed {
        let before = self.writer.load_unattributed(organization, Timestamp::MIN).await.unwrap();
        let new =
            before.previous_started_at.map(|after| attributable(changes, after, now).unwrap());
        let events: Vec<_> = before.recent.into_iter().chain(new.into_iter().flatten()).collect();
        let mut rng = fastrand::Rng::with_seed(self.runs.unsigned_abs());
        let mut entries = Vec::new();
        for event in events.iter().filter(|event| !event.attributed) {
            for _ in 0..[0, 0, 0, 1, 2][rng.usize(0..5)] {
                let actor = match rng.u8(0..5) {
                    0 => user("user-1", "one@example.com", "192.0.2.1"),
                    1 => user("user-2", "two@example.com", "192.0.2.2"),
                    2 => Actor::default(),
                    3 => service(),
                    _ => Actor { user_id: None, ..user("", "three@example.com", "192.0.2.3") },
                };
                entries.push(AuditEntry {
                    log_id: format!("log-{}-{}", self.runs, entries.len()).into(),
                    action: event.action().unwrap(),
                    key_id: event.key_id.clone(),
                    happened_at: event.observed_at,
                    actor,
                    scopes: rng.bool().then(|| vec!["a\"b".to_owned()]),
                });
            }
        }
        let silences = vec![(Silence::Refused, organization == "a")];
        Attributed { attributions: attribute(&events, &entries, &BTreeSet::new()), silences }
    }

    /// A run that asks the log.
    async fn ask(
        &mut self,
        name: &str,
        world: &World,
        gone: &[&str],
        log: &[AuditEntry],
    ) -> Recorded {
        let changes = self.compare(name, world, gone).await;
        let draft = self.draft(name);
        let attributed = self.attributed(name, &changes, draft.finished_at, log).await;
        let outcome =
            Outcome::Ok { changes: &changes, header: None, attributed: &attributed, judge: None };
        self.writer.record_run(&draft, &outcome).await.unwrap()
    }

    /// Event, log, actor, e-mail and address of each attribution.
    async fn attributions(&mut self) -> Vec<String> {
        sqlx::query_scalar(
            "select event_id || ' ' || log_id || ' ' || run_id || ' ' || ifnull(actor_id, '-') || ' '
                 || ifnull(actor_email, '-') || ' ' || ifnull(actor_ip_address, '-')
             from attribution_history order by attribution_id",
        )
        .fetch_all(&mut self.writer.connection)
        .await
        .unwrap()
    }

    async fn assert_whole(&self) {
        assert_eq!(self.problem().await, None);
        if let Some(mut script) = Script::start() {
            let (theirs, said) = script.verify(&self.path());
            assert_eq!(theirs, verify(&self.path()).await, "{said}");
        }
    }
}

fn renamed(name: &str) -> World {
    let mut keys = two_keys();
    keys.get_mut("key_1").unwrap()["name"] = json!(name);
    keys
}

fn one_key() -> World {
    let mut keys = two_keys();
    keys.remove("key_2");
    keys
}

fn deleted(log_id: &str, seconds: i64) -> AuditEntry {
    entry(log_id, KeyAction::Deleted, "key_2", seconds, ana())
}

#[tokio::test]
async fn a_run_attaches_what_explains_its_events_and_a_later_one_what_came_late() {
    let mut books = Books::new().await;
    books.sync(&two_keys(), &[]).await;
    let foreign = entry("log-0", KeyAction::Deleted, "key_9", 30, ana());
    let early = entry("log-1", KeyAction::Updated, "key_1", 40, service());
    let mut both = renamed("Renamed");
    both.remove("key_2");
    let log = [foreign.clone(), early.clone(), early.clone()];
    books.ask(ORG, &both, &["key_2"], &log).await;
    assert_eq!(books.attributions().await, ["3 log-1 2 svc-1 - 2001:db8::7"]);
    // The log brings all it has each time, and the other one is there now.
    let log = [deleted("log-2", 50), foreign, early];
    books.ask(ORG, &both, &[], &log).await;
    let now = ["3 log-1 2 svc-1 - 2001:db8::7", "4 log-2 3 user-ana ana@example.com 198.51.100.7"];
    assert_eq!(books.attributions().await, now);
    books.ask(ORG, &both, &[], &log).await;
    assert_eq!(books.attributions().await, now);
    books.assert_whole().await;
    // The events show them, and their digest is what it was.
    let events = books.events().await;
    let removed = events.iter().find(|event| event.event == "removed").unwrap();
    assert_eq!(removed.actor_type.as_deref(), Some("user"));
    assert_eq!(removed.acted_at.as_deref(), Some(&*at(START + 50).to_string()));
    assert_eq!(removed.actor_scopes.as_deref(), Some("[\"api.management.read\"]"));
    let parts = "select count(*) from run_parts where part = 'attributions'";
    assert_eq!(books.number(parts).await, 2);
}

#[tokio::test]
async fn after_a_day_an_event_is_not_asked_about_any_more() {
    let mut books = Books::new().await;
    books.sync(&two_keys(), &[]).await;
    books.sync(&one_key(), &["key_2"]).await;
    let observed = at(START + 61);
    for (seconds, count) in [(0, 1), (24 * 3_600, 1), (24 * 3_600 + 1, 0)] {
        let now = observed.saturating_add(Duration::from_secs(seconds));
        let since = now.saturating_sub(PATIENCE);
        let recent = books.writer.load_unattributed(ORG, since).await.unwrap().recent;
        assert_eq!(recent.len(), count, "{seconds}");
    }
    let recent = books.writer.load_unattributed(ORG, observed).await.unwrap().recent;
    assert_eq!((recent[0].after, recent[0].observed_at), (at(START), observed));
}

#[tokio::test]
async fn several_updates_are_all_attached_and_the_newest_is_shown() {
    let mut books = Books::new().await;
    books.sync(&two_keys(), &[]).await;
    let update =
        |log_id, seconds, actor| entry(log_id, KeyAction::Updated, "key_1", seconds, actor);
    let log = [update("log-2", 50, ana()), update("log-1", 40, service())];
    books.ask(ORG, &renamed("Renamed"), &[], &log).await;
    assert_eq!(books.attributions().await.len(), 2);
    let event = books.events().await.pop().unwrap();
    assert_eq!(event.actor_email.as_deref(), Some("ana@example.com"));
    assert_eq!(books.events().await.len(), 3);
    books.assert_whole().await;
}

#[tokio::test]
async fn equal_ids_of_two_organizations_do_not_collide() {
    let mut books = Books::new().await;
    for name in ["a", "b"] {
        books.sync_as(name, &two_keys(), &[]).await;
    }
    let bob = || user("user-ana", "other@example.com", "203.0.113.9");
    let log = entry("log-1", KeyAction::Deleted, "key_2", 90, bob());
    books.ask("b", &one_key(), &["key_2"], &[log]).await;
    books.ask("a", &one_key(), &["key_2"], &[deleted("log-1", 90)]).await;
    let found = books.attributions().await;
    assert_eq!(
        found,
        [
            "5 log-1 3 user-ana other@example.com 203.0.113.9",
            "6 log-1 4 user-ana ana@example.com 198.51.100.7"
        ]
    );
    books.assert_whole().await;
    // Whoever is forgotten in one of them is known in the other.
    assert!(matches!(books.forget("a", "user-ana").await, Forgetting::Done { places: 2 }));
    let found = books.attributions().await;
    assert_eq!(found[0], "5 log-1 3 user-ana other@example.com 203.0.113.9");
    assert_eq!(found[1], "6 log-1 4 user-ana erased erased");
    books.assert_whole().await;
}

#[tokio::test]
async fn who_only_acted_is_forgotten_for_good_and_is_not_known_again() {
    let mut books = Books::new().await;
    books.sync(&two_keys(), &[]).await;
    books.ask(ORG, &one_key(), &["key_2"], &[deleted("log-1", 50)]).await;
    assert_eq!(books.forget(ORG, "user-bob").await, Forgetting::Unknown);
    assert_eq!(books.forget(ORG, "user-ana").await, Forgetting::Done { places: 2 });
    assert_eq!(books.forget(ORG, "user-ana").await, Forgetting::Before);
    books.writer.scrub().await.unwrap();
    books.assert_whole().await;
    // As the owner of a key, too, and as who does something later.
    let mut owned = two_keys();
    owned.get_mut("key_2").unwrap()["owner"] =
        json!({"id": "user-ana", "name": "Ana", "email": "ana@example.com"});
    let back = entry("log-2", KeyAction::Created, "key_2", 110, ana());
    books.ask(ORG, &owned, &[], &[back]).await;
    let found = books.attributions().await;
    assert_eq!(found, ["3 log-1 2 user-ana erased erased", "4 log-2 3 user-ana - -"]);
    books.assert_whole().await;
    books.writer.scrub().await.unwrap();
    for entry in std::fs::read_dir(books.directory.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        for trace in ["ana@example.com", "198.51.100.7"] {
            assert!(
                !bytes.windows(trace.len()).any(|window| window == trace.as_bytes()),
                "{trace}"
            );
        }
    }
}

#[tokio::test]
async fn an_owner_who_acts_has_one_salt_and_is_forgotten_in_both_places() {
    for acts_first in [true, false] {
        let mut books = Books::new().await;
        let mut owned = two_keys();
        let person = json!({"id": "user-ana", "name": "Ana"});
        owned.get_mut("key_1").unwrap()["owner"] = person.clone();
        let first = if acts_first { two_keys() } else { owned.clone() };
        books.sync(&first, &[]).await;
        let mut gone = first.clone();
        gone.remove("key_2");
        books.ask(ORG, &gone, &["key_2"], &[deleted("log-1", 50)]).await;
        owned.remove("key_2");
        owned.insert("key_3".to_owned(), json!({"owner": person}));
        let made = entry("log-2", KeyAction::Created, "key_3", 110, ana());
        books.ask(ORG, &owned, &[], &[made]).await;
        let salts =
            "select count(distinct salt) from (select salt from owners where id = 'user-ana'
                     union all select salt from actors where id = 'user-ana')";
        assert_eq!(books.number(salts).await, 1);
        let Forgetting::Done { places } = books.forget(ORG, "user-ana").await else { panic!() };
        assert!(places >= 5, "{places}");
        let left =
            "select count(*) from (select salt from owners union all select salt from actors)
                    where salt is not null";
        assert!(books.number(left).await <= 1);
        books.assert_whole().await;
    }
}

#[tokio::test]
async fn attributions_are_pruned_with_the_run_that_attached_them() {
    let mut books = Books::new().await;
    books.sync(&two_keys(), &[]).await;
    let update = entry("log-1", KeyAction::Updated, "key_1", 50, service());
    let mut both = renamed("Renamed");
    both.remove("key_2");
    books.ask(ORG, &both, &["key_2"], std::slice::from_ref(&update)).await;
    // Late, and so of an event that is pruned before it.
    books.ask(ORG, &both, &[], &[deleted("log-2", 50)]).await;
    let now = books.now();
    let policy = Policy { used_events: None, events: Some(Duration::from_secs(65)) };
    let plan = books.reader().await.plan_prune(ORG, policy, now).await.unwrap().unwrap();
    assert_eq!((plan.events, plan.attributions, plan.horizons.events), (4, 1, 2));
    let pruned = books.prune(ORG, None, Some(1)).await.unwrap();
    assert_eq!((pruned.events, pruned.attributions), (4, 1));
    assert_eq!(books.attributions().await, ["4 log-2 3 user-ana ana@example.com 198.51.100.7"]);
    books.assert_whole().await;
    books.sync(&both, &[]).await;
    let pruned = books.prune(ORG, None, Some(1)).await.unwrap();
    assert_eq!((pruned.events, pruned.attributions, pruned.horizons.events), (0, 1, 3));
    assert_eq!(books.attributions().await, [""; 0]);
    assert_eq!(books.number("select count(*) from actors").await, 0);
    books.assert_whole().await;
    // No number comes twice.
    let back = entry("log-3", KeyAction::Created, "key_2", 230, ana());
    let mut restored = both.clone();
    restored.insert("key_2".to_owned(), two_keys().remove("key_2").unwrap());
    books.ask(ORG, &restored, &[], &[back]).await;
    assert_eq!(books.number("select max(attribution_id) from attributions").await, 3);
    books.assert_whole().await;
    // The chain holds what is left of it.
    books
        .damage("update parts set digest = zeroblob(32) where part = 'attributions' and run_id = 2")
        .await;
    assert_eq!(books.problem().await.unwrap().run_id, Some(2));
}

#[tokio::test]
async fn what_was_said_of_the_log_is_remembered_until_it_is_no_longer_so() {
    for silence in Silence::ALL {
        let mut books = Books::new().await;
        for (is_so, said) in [
            (None, false),
            (Some(true), true),
            (Some(true), true),
            (None, true),
            (Some(false), false),
        ] {
            let changes = books.compare(ORG, &two_keys(), &[]).await;
            let draft = books.draft(ORG);
            let silences = is_so.map(|is_so| (silence, is_so)).into_iter().collect();
            let attributed = Attributed { silences, ..Attributed::default() };
            let outcome = Outcome::Ok {
                changes: &changes,
                header: None,
                attributed: &attributed,
                judge: None,
            };
            books.writer.record_run(&draft, &outcome).await.unwrap();
            let found = books.writer.load_unattributed(ORG, Timestamp::MIN).await.unwrap();
            let expected = if said { vec![silence] } else { Vec::new() };
            assert_eq!(found.silences, expected, "{silence:?}");
            let waits = said && silence == Silence::Waiting;
            assert_eq!(found.waiting_since.is_some(), waits, "{silence:?}");
        }
    }
}

#[tokio::test]
async fn an_attribution_that_cannot_be_of_its_event_is_damage() {
    let found = async |edit: &str| {
        let mut books = Books::new().await;
        for name in [ORG, "other"] {
            books.sync_as(name, &two_keys(), &[]).await;
        }
        books.ask(ORG, &one_key(), &["key_2"], &[deleted("log-1", 100)]).await;
        books.ask("other", &one_key(), &["key_2"], &[]).await;
        books.sync(&renamed("Later"), &[]).await;
        // As if whoever edits it could compute all digests anew.
        books.damage(edit).await;
        let mut verdicts = books.reader().await.verify(&NOBODY).await.unwrap();
        verdicts.retain(|verdict| verdict.organization == ORG);
        let mut script = Script::start();
        let theirs = script.as_mut().map(|script| script.verify(&books.path()).0[ORG]);
        let problem = verdicts.remove(0).problem.unwrap();
        assert!(theirs.is_none_or(|run| run == problem.run_id), "{edit}: {theirs:?}");
        (problem.run_id, problem.what)
    };
    for (edit, run_id) in [
        ("update attributions set event_id = 6", 3),
        ("update attributions set event_id = 99", 3),
        ("update attributions set action = 'api_key.created'", 3),
        ("update attributions set log_id = 'log-2'", 3),
        ("update attributions set run_id = 1", 1),
        ("update attributions set run_id = 5", 3),
        ("delete from attributions", 3),
        ("update actors set email = 'eve@example.com'", 3),
        ("update actors set salt = randomblob(16)", 3),
        ("insert into attributions select 7, 2, event_id, 'log-9', action, acted_at, actor, null, null
          from attributions; delete from attributions where attribution_id = 1", 3),
        ("insert into attributions select 7, 5, event_id, 'log-9', action, acted_at, actor, null, null
          from attributions", 5),
    ] {
        let (found, what) = found(edit).await;
        assert_eq!(found, Some(run_id), "{edit}: {what}");
    }
}

/// The digests of links are no secret: what fits no event is damage all the same.
#[test]
fn a_record_fits_its_event_or_says_why_not() {
    use crate::audit::{AttributionRecord, Explained};
    let explained = |organization: &str, run_id, event: &str| {
        let (organization, event) = (organization.to_owned(), event.to_owned());
        Some(Explained { organization, run_id, event })
    };
    let record = |explains| AttributionRecord {
        attribution_id: 1,
        run_id: 5,
        event_id: 9,
        log_id: "log".to_owned(),
        action: "api_key.deleted".to_owned(),
        acted_at: at(0).to_string(),
        actor_type: None,
        actor_id: None,
        actor_email: None,
        actor_key_id: None,
        actor_ip_address: None,
        actor_scopes: None,
        salt: None,
        erased: <_>::default(),
        explains,
    };
    for (explains, unread, says) in [
        (explained("a", 5, "removed"), 0, None),
        (explained("a", 1, "removed"), 0, None),
        (explained("b", 5, "removed"), 0, Some("of an event of `b`")),
        (explained("a", 6, "removed"), 0, Some("which is later")),
        (explained("a", 5, "added"), 0, Some("does not fit")),
        (explained("a", 5, "used"), 0, Some("does not fit")),
        (None, 8, Some("which is not there")),
        (None, 9, None),
    ] {
        let why = record(explains).misfit("a", unread);
        assert_eq!(why.is_some(), says.is_some(), "{why:?}");
        assert!(says.is_none_or(|says| why.unwrap().contains(says)), "{says:?}");
    }
}

#[tokio::test]
async fn an_entry_of_nobody_explains_nothing_and_of_nobody_known_keeps_no_address() {
    let no_id = Actor {
        kind: text("session"),
        email: text("ana@example.com"),
        ip_address: text("198.51.100.7"),
        ..Actor::default()
    };
    let keyed = Actor { kind: text("api_key"), key_id: text("key_9"), ..Actor::default() };
    for (actor, unexplained) in [
        (Actor::default(), 1),
        (Actor { kind: text("robot"), ..Actor::default() }, 1),
        (no_id, 1),
        (keyed, 0),
        (service(), 0),
        (ana(), 0),
    ] {
        let mut books = Books::new().await;
        books.sync(&two_keys(), &[]).await;
        let gone = entry("log-1", KeyAction::Deleted, "key_2", 100, actor.clone());
        books.ask(ORG, &one_key(), &["key_2"], &[gone]).await;
        assert_eq!(books.number("select count(*) from attributions").await, 1, "{actor:?}");
        let stored = "select count(*) from attribution_history
             where actor_id is null and (actor_email is not null or actor_ip_address is not null)";
        assert_eq!(books.number(stored).await, 0, "{actor:?}");
        let filter = EventFilter {
            kinds: vec![EventKind::Removed],
            unexplained: true,
            ..EventFilter::default()
        };
        let mut listed = 0;
        let count = |_: EventRow| {
            listed += 1;
            Ok::<_, Error>(())
        };
        books.reader().await.list_events(&filter, count).await.unwrap();
        assert_eq!(listed, unexplained, "{actor:?}");
        books.check_whole().await;
    }
}
