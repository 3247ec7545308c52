//! Each rule both ways at its threshold, on keys and times of our choosing.

mod lists;
mod moves;
mod states;
mod thresholds;
pub(crate) mod whole;

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use self::whole::Evaluation;
use super::*;
use crate::clock::Timestamp;
use crate::inventory::{
    Alteration, Appearance, Changes, Key, Scope, Sent, Snapshot, field_changes,
};

/// 2026-01-01T00:00:00Z
const START: i64 = 1_767_225_600;
const DAY: i64 = 24 * 60 * 60;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix(seconds).unwrap()
}

fn key_id(id: &str) -> KeyId {
    KeyId::new(id).unwrap()
}

#[expect(clippy::unnecessary_wraps, reason = "it is what the fields of a key hold")]
fn shared(text: &str) -> Option<Arc<str>> {
    Some(Arc::from(text))
}

/// A key that breaks no rule for as long as nobody touches it: made at [`START`].
fn good(id: &str) -> Key {
    Key {
        name: shared("a name"),
        owner_type: shared("user"),
        owner_id: shared(id),
        created_at: Some(at(START)),
        last_used_at: Some(at(START)),
        expires_at: Some(Timestamp::MAX),
        ..Key::new(key_id(id), Scope::Admin)
    }
}

fn with_other(mut key: Key, path: &str, value: impl Into<Value>) -> Key {
    Arc::make_mut(&mut key.other).insert(path.to_owned(), value.into());
    key
}

/// An organization, and what is known of its past.
struct Case {
    rules: Rules,
    before: Snapshot,
    changes: Changes,
    past: Past,
}

impl Case {
    /// Keys that are as they were.
    fn of(keys: impl IntoIterator<Item = Key>) -> Self {
        let fields = ["name", "owner", "owner_id", "last_used_at", "expires_at"];
        let fields = fields.map(|field| (field.to_owned(), Sent::Always));
        let keys = keys.into_iter().map(|key| (key.id.clone(), key)).collect();
        Self {
            rules: Rules::default(),
            before: Snapshot { keys, exists: true, ..Snapshot::default() },
            changes: Changes { fields: fields.into(), ..Changes::default() },
            past: Past::default(),
        }
    }

    /// A key that was another one before.
    fn moved(before: &Key, after: Key) -> Self {
        let mut case = Self::of([before.clone()]);
        let changes = field_changes(before, &after);
        let owner_before = before.owner_id.clone();
        let alteration = Alteration { key: after, owner_before, more_than_use: true, changes };
        case.changes.altered.push(alteration);
        case
    }

    /// A key that is new.
    fn added(key: Key) -> Self {
        let mut case = Self::of([]);
        case.changes.appeared.add(&Appearance::Added(key));
        case
    }

    fn with(mut self, change: impl FnOnce(&mut Rules)) -> Self {
        change(&mut self.rules);
        self
    }

    fn evaluation(&self) -> Evaluation<'_> {
        let Self { rules, before, changes, past } = self;
        Evaluation { organization: "acme", rules, before, changes, past }
    }

    /// What breaks `rule` then.
    fn broken(&self, rule: Rule, now: i64) -> Vec<Finding> {
        let mut found = self.evaluation().findings(at(now));
        found.retain(|finding| finding.rule == rule);
        found.sort_by(|a, b| a.key_id.cmp(&b.key_id));
        found
    }

    #[track_caller]
    fn the(&self, rule: Rule, now: i64) -> Finding {
        let mut found = self.broken(rule, now);
        assert_eq!(found.len(), 1, "{rule}: {found:?}");
        found.remove(0)
    }

    /// Broken from `since` on, and not a second earlier.
    #[track_caller]
    fn begins(&self, rule: Rule, since: i64) {
        assert_eq!(self.broken(rule, since - 1), [], "a second before");
        for later in [0, 1, DAY] {
            assert_eq!(self.the(rule, since + later).since, at(since), "{later} s later");
        }
    }

    #[track_caller]
    fn never(&self, rule: Rule) {
        for now in [START, START + 89 * DAY, START + 10_000 * DAY] {
            assert_eq!(self.broken(rule, now), [], "at {now}");
        }
    }

    /// The same organization after a run at `now` that wrote everything down, and found nothing different.
    fn recorded(self, now: i64) -> Self {
        let Difference { opened, closed, happened, over } = self.evaluation().at(at(now));
        let mut case = self;
        for of in over {
            case.past.happened.remove(&of);
        }
        for finding in happened {
            let of = (finding.key_id.clone().unwrap(), finding.rule);
            case.past.happened.insert(of, Happening { finding, noticed_at: at(now) });
        }
        case.past.open.retain(|open| !closed.contains(&open.finding_id));
        let last = case.past.open.iter().map(|open| open.finding_id).max().unwrap_or(0);
        let numbered = opened.into_iter().zip(last + 1..);
        case.past.open.extend(numbered.map(|(finding, finding_id)| OpenFinding {
            finding_id,
            finding,
            opened_at: at(now),
        }));
        for alteration in std::mem::take(&mut case.changes.altered) {
            case.before.keys.insert(alteration.key.id.clone(), alteration.key);
        }
        for appearance in std::mem::take(&mut case.changes.appeared).all() {
            let key = appearance.key().clone();
            case.past.first_seen.entry(key.id.clone()).or_insert(at(now));
            case.before.keys.insert(key.id.clone(), key);
        }
        for key in std::mem::take(&mut case.changes.removed) {
            case.before.keys.remove(&key.id);
        }
        case
    }

    /// What another run then does to a key.
    fn then(mut self, after: Key) -> Self {
        let before = self.before.keys[&after.id].clone();
        let changes = field_changes(&before, &after);
        let owner_before = before.owner_id.clone();
        let alteration = Alteration { key: after, owner_before, more_than_use: true, changes };
        self.changes.altered.push(alteration);
        self
    }
}

#[test]
fn the_names_and_severities_of_the_rules_are_fixed() {
    let told = Rule::ALL.map(|rule| format!("{rule} {}", rule.severity().as_str())).join("\n");
    insta::assert_snapshot!(told, @"
    never_used medium
    unused medium
    old medium
    expires_soon medium
    expired low
    never_expires low
    no_name low
    owner_missing medium
    owner_without_access high
    admin_service_account medium
    used_after_archive high
    woke_up high
    use_went_back medium
    same_name_and_owner low
    too_many_admin_keys medium
    ");
    for rule in Rule::ALL {
        assert_eq!(Rule::parse(rule.as_str()), Some(rule));
    }
    for severity in Severity::ALL {
        assert_eq!(Severity::parse(severity.as_str()), Some(severity));
    }
    assert_eq!((Rule::parse("Old"), Severity::parse("")), (None, None));
    assert_eq!(Rule::nearest("never_expire"), Some(Rule::NeverExpires));
    assert_eq!(Rule::nearest("xyzzy"), None);
}

#[test]
fn a_key_that_nothing_is_wrong_with_breaks_no_rule() {
    let case = Case::of([good("a"), good("b")]);
    assert_eq!(case.evaluation().findings(at(START + 89 * DAY)), []);
    assert_eq!(case.evaluation().at(at(START + 89 * DAY)), Difference::default());
}

#[test]
fn a_rule_that_is_off_finds_nothing() {
    let everything = || {
        let mut key = Key::new(key_id("a"), Scope::Admin);
        key.created_at = Some(at(START));
        key.owner_type = shared("service_account");
        key
    };
    let case = Case::of([everything()]);
    let now = START + 100 * DAY;
    let broken: Vec<Rule> =
        case.evaluation().at(at(now)).opened.iter().map(|finding| finding.rule).collect();
    assert_eq!(
        broken,
        [
            Rule::NeverUsed,
            Rule::Old,
            Rule::NeverExpires,
            Rule::NoName,
            Rule::OwnerMissing,
            Rule::AdminServiceAccount
        ]
    );
    for rule in broken {
        let case = Case::of([everything()]).with(|rules| rules.disabled.extend([rule]));
        assert_eq!(case.broken(rule, now), []);
        assert_eq!(case.evaluation().findings(at(now)).len(), 5, "the others stay");
    }
}

#[test]
fn an_exception_counts_until_it_ends_for_its_key_and_rule_and_organization() {
    let until = START + 120 * DAY;
    let exception = |rule, organization: Option<&str>| Exception {
        key_id: "a".to_owned(),
        rule,
        organization: organization.map(str::to_owned),
        reason: "why".to_owned(),
        until: at(until),
        origin: String::new(),
    };
    let with =
        |exception| Case::of([good("a"), good("b")]).with(|rules| rules.exceptions.push(exception));
    for (exception, excepted) in [
        (exception(None, None), true),
        (exception(Some(Rule::Old), None), true),
        (exception(Some(Rule::Old), Some("acme")), true),
        (exception(Some(Rule::Unused), None), false),
        (exception(None, Some("other")), false),
    ] {
        let case = with(exception);
        let keys = |now| case.broken(Rule::Old, now).len();
        assert_eq!(keys(until - 1), if excepted { 1 } else { 2 });
        assert_eq!(keys(until), 2, "it has ended");
    }
    // What was open closes when an exception begins, and opens anew when it ends.
    let mut case = Case::of([good("a")]).recorded(START + 100 * DAY);
    let open: Vec<i64> = case.past.open.iter().map(|open| open.finding_id).collect();
    assert!(!open.is_empty());
    case.rules.exceptions.push(exception(None, None));
    let difference = case.evaluation().at(at(until - 1));
    assert_eq!(difference, Difference { closed: open, ..Difference::default() });
    let case = case.recorded(until - 1);
    assert_eq!(case.evaluation().at(at(until)).opened.len(), 2);
}

#[test]
fn what_is_as_it_was_opens_and_closes_nothing() {
    let mut key = good("a");
    key.name = None;
    let case = Case::of([key, good("b")]).recorded(START + 100 * DAY);
    assert_eq!(case.past.open.len(), 5);
    for later in [0, 1, 1_000 * DAY] {
        assert_eq!(case.evaluation().at(at(START + 100 * DAY + later)), Difference::default());
    }
}

#[test]
fn a_hundred_thousand_keys_are_judged() {
    let keys = (0..100_000).map(|number: i64| {
        let mut key = good(&format!("key_{number:06}"));
        key.created_at = Some(at(START - number % 200 * DAY));
        key.last_used_at = key.created_at.filter(|_| number % 3 > 0);
        key.expires_at = (number % 5 > 0).then_some(Timestamp::MAX);
        key
    });
    let case = Case::of(keys);
    let difference = case.evaluation().at(at(START));
    let expected = (0..100_000)
        .map(|number: i64| {
            let old = number % 200 >= 90;
            // Old, never used or unused, and without an expiry date.
            usize::from(old) * 2 + usize::from(number % 5 == 0)
        })
        .sum::<usize>();
    // One more: too many admin keys.
    assert_eq!(difference.opened.len(), expected + 1);
    assert!(difference.closed.is_empty());
    let case = case.recorded(START);
    assert_eq!(case.evaluation().at(at(START)), Difference::default());
}
