//! Every fault that the simulation knows, at the start, in the middle and at the end of a list: the run
//! succeeds and is right, or fails and changes nothing, and the next one brings it all right.

use std::sync::Arc;
use std::time::Duration;

use keydrift::sim::{BadItem, EdgeIds, Endpoint, ErrorBody, Fault, Matcher, Organization};
use serde_json::{Value, json};

use crate::support::drills::{SYNCED_KEYS, for_each};
use crate::support::{Ran, World, oracle, sql};

/// One fault in one place.
#[derive(Debug, Clone, Copy)]
struct Drill {
    /// From this list request on, counted from 1; there are three.
    page: u64,
    /// At this request and all after it, not at this one alone.
    for_good: bool,
    /// On a database that knows nothing yet.
    first: bool,
}

impl Drill {
    const ALL: [Self; 6] = [
        Self { page: 1, for_good: false, first: false },
        Self { page: 2, for_good: false, first: false },
        Self { page: 3, for_good: false, first: false },
        Self { page: 1, for_good: true, first: false },
        Self { page: 2, for_good: true, first: false },
        Self { page: 1, for_good: false, first: true },
    ];
}

/// What must come of it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Then {
    /// `ok`, and the inventory is the truth.
    Whole,
    /// `ok`, and nothing is removed or changed. Nobody could tell that the list was short: keys that it
    /// lacks stay if they were known, and come with the next run if they were not.
    Short,
    /// `ok`, and nothing is removed or changed. Keys that nobody could tell were not ours go again.
    Strangers,
    Failed,
    Held,
}

use Then::{Failed, Held, Short, Strangers, Whole};

type Rule = fn(Drill) -> Then;

const HARMLESS: Rule = |_| Whole;
const FATAL: Rule = |_| Failed;
const PASSING: Rule = |drill| if drill.for_good { Failed } else { Whole };
/// Taken for the page size on the first page, for the cursor on others.
const LIMIT_OR_CURSOR: Rule = PASSING;
const CURSOR: Rule = |drill| match drill {
    Drill { page: 1, .. } | Drill { for_good: true, .. } => Failed,
    _ => Whole,
};
/// A whole list that begins with the newest key can be told for sure at its first page only; later, such a
/// page does not follow its cursor.
const OTHER_ORDER: Rule = |drill| match drill {
    Drill { page: 1, .. } | Drill { for_good: true, .. } => Failed,
    _ => Whole,
};
const SHORT: Rule = |_| Short;
const NOT_ON_THE_FIRST_PAGE: Rule = |drill| match drill {
    Drill { page: 1, for_good: false, .. } => Whole,
    _ => PASSING(drill),
};

fn refusals() -> Vec<(&'static str, Fault, &'static str, Rule)> {
    let html = |status| Fault::status_with(status, ErrorBody::Html);
    let json = |status, text: &str| Fault::status_with(status, ErrorBody::Json(text.to_owned()));
    let bare = ErrorBody::BareString("Not for you".to_owned());
    let no = |header| Fault::ContentType(header);
    let organization = |id: Option<&str>| Fault::OrganizationHeader(id.map(str::to_owned));
    let strangers = Arc::new(Organization::generate(99, SYNCED_KEYS));
    let other = |header| Fault::OtherOrganization { organization: Arc::clone(&strangers), header };
    vec![
        ("500", Fault::status(500), "status 500", PASSING),
        ("500 with other JSON", json(500, "[1]"), "a body that is not the API's", PASSING),
        ("502 without a body", Fault::status_with(502, ErrorBody::Empty), "status 502", PASSING),
        ("503 of a proxy", html(503), "an HTML page (title `503`)", PASSING),
        ("408", Fault::status(408), "status 408", PASSING),
        ("409", Fault::status(409), "status 409", PASSING),
        ("429", Fault::status(429), "status 429", PASSING),
        ("400", Fault::status(400), "status 400", LIMIT_OR_CURSOR),
        ("422", Fault::status(422), "status 422", LIMIT_OR_CURSOR),
        ("404", Fault::status(404), "status 404", CURSOR),
        ("404 of a proxy", html(404), "status 404", CURSOR),
        ("410", Fault::status(410), "status 410", CURSOR),
        ("418", Fault::status(418), "status 418", FATAL),
        ("401", Fault::status(401), "status 401", FATAL),
        ("403", Fault::status_with(403, bare), "Not for you", FATAL),
        ("204", Fault::no_content(), "status 204", FATAL),
        ("302", Fault::redirect(302, "https://login.example.com/"), "`login.example.com`", FATAL),
        ("308 to itself", Fault::redirect(308, "/v1/elsewhere"), "a redirect", FATAL),
        ("HTML", no(Some("text/html".to_owned())), "content type `text/html`", FATAL),
        ("no content type", no(None), "no content type", FATAL),
        ("a header", Fault::Header("x-new".to_owned(), "1".to_owned()), "", HARMLESS),
        ("no organization", organization(None), "", HARMLESS),
        ("a changed organization", organization(Some("org-other")), "org-other", |drill| {
            // With the same keys as ever it is another name, between two pages it is a mix.
            if drill.page == 1 && drill.for_good { Whole } else { Failed }
        }),
        ("another organization", other(true), "organization", FATAL),
        (
            "another organization that does not tell",
            other(false),
            "250 of 250",
            |drill| match drill {
                Drill { page: 1, for_good: true, .. } => Held,
                Drill { page: 1, .. } | Drill { for_good: true, .. } => Strangers,
                _ => Whole,
            },
        ),
    ]
}

fn deliveries() -> Vec<(&'static str, Fault, &'static str, Rule)> {
    let drip = |bytes, ms| Fault::DripBody { bytes, pause: Duration::from_millis(ms) };
    let too_large = "larger than 8388608 bytes";
    vec![
        ("latency", Fault::Delay(Duration::from_millis(20)), "", HARMLESS),
        ("a reset connection", Fault::ResetConnection, "could not reach the API", PASSING),
        ("no answer", Fault::Hang, "not answered in time", PASSING),
        ("a cut body", Fault::CutBody, "cut short", PASSING),
        ("a stalled body", Fault::StallBody, "not answered in time (request req_", PASSING),
        ("a body in pieces", drip(8_000, 2), "", HARMLESS),
        ("a dripping body", drip(100, 100), "not answered in time (request req_", PASSING),
        ("broken JSON", Fault::WrongJson, "breaks off", PASSING),
        ("a huge body", Fault::HugeBody(9 << 20), too_large, FATAL),
        ("a body that grows", Fault::GzipBomb(9 << 20), too_large, FATAL),
    ]
}

fn lists() -> Vec<(&'static str, Fault, &'static str, Rule)> {
    let stuck = "could not be followed past";
    let hidden = World::synced().some_ids(1).remove(0);
    vec![
        ("an early end", Fault::EarlyEnd, "", |drill| if drill.page < 3 { Short } else { Whole }),
        ("no end", Fault::EndlessHasMore, stuck, PASSING),
        ("no word of an end", Fault::MissingHasMore, "", HARMLESS),
        ("an empty page", Fault::EmptyPageWithMore, stuck, PASSING),
        ("an empty list", Fault::EmptyList, "", |drill| match drill {
            Drill { page: 1, first: true, .. } => Short,
            Drill { page: 1, .. } => Held,
            _ => PASSING(drill),
        }),
        ("a hidden key", Fault::HiddenKey(hidden), "", |drill| {
            // It is one of the first page.
            if drill.page == 1 { Short } else { Whole }
        }),
        ("a key less", Fault::DropItem(3), "", SHORT),
        ("keys passed over", Fault::SkipAhead(5), "", SHORT),
        ("a key twice", Fault::DuplicateItem(5), "", HARMLESS),
        ("a page again", Fault::RepeatedPage, stuck, NOT_ON_THE_FIRST_PAGE),
        ("pages that overlap", Fault::Overlap(5), stuck, NOT_ON_THE_FIRST_PAGE),
        ("from the beginning", Fault::FromTheBeginning, stuck, NOT_ON_THE_FIRST_PAGE),
        ("the other order", Fault::OtherOrder, "newest key first", OTHER_ORDER),
        ("no order", Fault::ShuffledItems, "", HARMLESS),
    ]
}

fn contents() -> Vec<(&'static str, Fault, &'static str, Rule)> {
    let bad = |how| Fault::BadItem(7, how);
    let secret = "sk-admin-abcdefghijklmnopqrstuvwxyz0123456789";
    vec![
        ("no data", Fault::MissingData, "it has no `data`", FATAL),
        ("null for data", Fault::DataInstead(Value::Null), "`data` is not an array", FATAL),
        ("an object for data", Fault::DataInstead(json!({})), "`data` is not an array", FATAL),
        ("an item without an id", bad(BadItem::WithoutId), "it has no `id`", FATAL),
        ("an item with an empty id", bad(BadItem::EmptyId), "its `id` is empty", FATAL),
        ("an item with a number", bad(BadItem::NumberId), "its `id` is not a string", FATAL),
        ("an item with null", bad(BadItem::NullId), "its `id` is not a string", FATAL),
        ("no item", bad(BadItem::Instead(json!("key"))), "it is not an object", FATAL),
        ("null for the page's ends", Fault::EdgeIds(EdgeIds::Null), "", HARMLESS),
        ("no ends of the page", Fault::EdgeIds(EdgeIds::Missing), "", HARMLESS),
        ("another end", Fault::EdgeIds(EdgeIds::Last("key_none".to_owned())), "", HARMLESS),
        ("full secrets", Fault::FullSecret(secret.to_owned()), "", HARMLESS),
    ]
}

/// So much like another fault that a page in the middle will do.
const ALIKE: [&str; 10] = [
    "500 with other JSON",
    "502 without a body",
    "408",
    "409",
    "422",
    "410",
    "null for data",
    "an item with null",
    "an item with a number",
    "no content type",
];

fn drill_all(faults: &[(&'static str, Fault, &'static str, Rule)]) {
    let mut cases: Vec<_> =
        faults.iter().flat_map(|fault| Drill::ALL.map(|drill| (fault, drill))).collect();
    cases.retain(|((name, ..), drill)| drill.page == 2 || !ALIKE.contains(name));
    let name = |((name, ..), drill): &(&(&str, Fault, &str, Rule), Drill)| {
        let Drill { page, for_good, first } = drill;
        let lasting = if *for_good { "for good" } else { "once" };
        let state = if *first { "first sync" } else { "synced before" };
        format!("{name}, {lasting}, page {page}, {state}")
    };
    for_each(&cases, name, |((_, fault, error, rule), drill)| {
        drill_one(fault, error, rule(*drill), *drill);
        drill_side_by_side(fault, rule(*drill), *drill);
    });
}

fn drill_one(fault: &Fault, error: &str, then: Then, drill: Drill) {
    let world = if drill.first { World::new(SYNCED_KEYS) } else { World::synced() };
    let organization = world.organization();
    let before = (!drill.first).then(|| world.content());
    let lists = Matcher::list();
    let when = if drill.for_good { lists.from(drill.page) } else { lists.nth(drill.page) };
    organization.fault(when, fault.clone());
    let ran = world.hasty_sync(fault).env("KEYDRIFT__API__SCAN", "sequential").run();
    oracle::check_consistent(&world.database());
    match then {
        Whole => {
            assert_eq!(ran.code, Some(0), "{ran}");
            world.check();
        }
        Short | Strangers => assert_eq!(ran.code, Some(0), "{ran}"),
        Failed | Held => check_failed(&world, &ran, then, error),
    }
    if let Some(before) = &before {
        let strange = |event: &Value| then == Strangers && event == "added";
        let events = world.events_since(before);
        assert!(events.iter().all(|event| strange(&event["event"])), "{events:?}");
        if matches!(then, Failed | Held) {
            assert_eq!(world.content(), *before);
        } else if then == Short {
            assert!(world.last_run()["unconfirmed"].as_u64() > Some(0));
            world.check();
        }
    }
    if then != Whole {
        organization.clear_faults();
        world.sync();
        let query = "select count(*) from audit_history where event not in ('baseline', 'added')";
        let expected = if then == Strangers { "removed" } else { "" };
        let wrong = format!("{query} and event <> '{expected}'");
        assert_eq!(sql::integer(&world.database(), &wrong), 0);
    }
}

/// The same fault where pages are asked for side by side, and nobody knows which request comes when: all is right or
/// nothing is changed, and the next run brings it right.
fn drill_side_by_side(fault: &Fault, then: Then, drill: Drill) {
    let world = if drill.first { World::new(SYNCED_KEYS) } else { World::synced() };
    let organization = world.organization();
    let before = (!drill.first).then(|| world.content());
    let lists = Matcher::list();
    let when = if drill.for_good { lists.from(drill.page) } else { lists.nth(drill.page) };
    organization.fault(when, fault.clone());
    let ran = world.hasty_sync(fault).run();
    oracle::check_consistent(&world.database());
    let may_be_strange = matches!(then, Short | Strangers);
    match ran.code {
        Some(0) if !may_be_strange => world.check(),
        Some(0) => {}
        _ => {
            assert_eq!(ran.code, Some(1), "{ran}");
            assert!(before.as_ref().is_none_or(|before| world.content() == *before), "{ran}");
        }
    }
    if let Some(before) = &before {
        let strange = |event: &Value| then == Strangers && event == "added";
        let events = world.events_since(before);
        assert!(events.iter().all(|event| strange(&event["event"])), "{events:?}");
    }
    organization.clear_faults();
    world.sync();
    let query = "select count(*) from audit_history where event not in ('baseline', 'added')";
    let expected = if then == Strangers { "removed" } else { "" };
    let wrong = format!("{query} and event <> '{expected}'");
    assert_eq!(sql::integer(&world.database(), &wrong), 0);
}

/// It ended with 1, left a row that says why, and names the page and the answer.
#[track_caller]
fn check_failed(world: &World, ran: &Ran, then: Then, error: &str) {
    assert_eq!(ran.code, Some(1), "{ran}");
    let run = world.last_run();
    let status = if then == Held { "held" } else { "failed" };
    assert_eq!(run["status"], status, "{run:?}");
    let text = run["error"].as_str().unwrap();
    assert!(text.contains(error), "{error} is not in: {text}");
    let said = ran.stderr.replace("\n  ", " ");
    assert!(said.contains(error), "{error} is not in: {said}");
    let of_a_page = text.contains("the keys could not be listed");
    assert!(!of_a_page || text.contains(" of the admin keys"), "{text}");
    let requests = world.organization().requests();
    let answered = !text.contains("could not reach the API") && !text.contains("no answer");
    if of_a_page && answered {
        let known = |request: &keydrift::sim::LoggedRequest| text.contains(&request.request_id);
        let silent = text.contains("not answered in time");
        assert!(silent || requests.iter().any(known), "no request id in: {text}");
    }
}

#[test]
fn a_refused_page_changes_nothing_or_is_overcome() {
    drill_all(&refusals());
}

#[test]
fn a_page_that_does_not_arrive_changes_nothing_or_is_overcome() {
    drill_all(&deliveries());
}

#[test]
fn a_list_that_is_no_list_never_removes_a_key() {
    drill_all(&lists());
}

#[test]
fn a_page_that_is_no_page_changes_nothing() {
    drill_all(&contents());
}

/// Faults of look-ups, and whether an answer with it still tells the truth.
fn look_up_faults() -> Vec<(&'static str, Fault, bool)> {
    let strangers = Arc::new(Organization::generate(99, 20));
    let other = |header| Fault::OtherOrganization { organization: Arc::clone(&strangers), header };
    let organization = |id: Option<&str>| Fault::OrganizationHeader(id.map(str::to_owned));
    let html = |status| Fault::status_with(status, ErrorBody::Html);
    let drip = |bytes, ms| Fault::DripBody { bytes, pause: Duration::from_millis(ms) };
    vec![
        ("500", Fault::status(500), false),
        ("429 for an hour", Fault::status(429).with_header("retry-after", "3600"), false),
        ("404", Fault::status(404), false),
        ("404 of a proxy", html(404), false),
        ("404 without a body", Fault::status_with(404, ErrorBody::Empty), false),
        ("410", Fault::status(410), false),
        ("401", Fault::status(401), false),
        ("204", Fault::no_content(), false),
        ("302", Fault::redirect(302, "https://login.example.com/"), false),
        ("HTML", Fault::ContentType(Some("text/html".to_owned())), false),
        ("another organization", other(true), false),
        ("another organization that does not tell", other(false), false),
        ("a changed organization", organization(Some("org-other")), false),
        ("no organization", organization(None), true),
        ("a reset connection", Fault::ResetConnection, false),
        ("no answer", Fault::Hang, false),
        ("a cut body", Fault::CutBody, false),
        ("a stalled body", Fault::StallBody, false),
        ("a body in pieces", drip(50, 1), true),
        ("a huge body", Fault::HugeBody(9 << 20), false),
        ("broken JSON", Fault::WrongJson, false),
        ("always found", Fault::RetrieveAlwaysFound, false),
        ("never found", Fault::RetrieveNeverFound, false),
        ("another key", Fault::RetrieveOtherId("key_other".to_owned()), false),
        ("a header", Fault::Header("x-new".to_owned(), "1".to_owned()), true),
        ("a full secret", Fault::FullSecret("sk-admin-0123456789abcdefghijkl".to_owned()), true),
    ]
}

#[test]
fn a_look_up_that_goes_wrong_never_removes_a_key() {
    let faults = look_up_faults();
    let whens = [
        ("the first", Matcher::retrieve().nth(1)),
        ("all", Matcher::retrieve()),
        ("all but the first", Matcher::retrieve().from(2)),
    ];
    let cases: Vec<_> =
        faults.iter().flat_map(|fault| whens.iter().map(move |when| (fault, when))).collect();
    let name = |((fault, ..), (when, _)): &(&(&str, Fault, bool), &(&str, Matcher))| {
        format!("{fault}, {when}")
    };
    for_each(&cases, name, |((fault_name, fault, harmless), (when, matcher))| {
        let world = World::synced();
        let organization = world.organization();
        let before = world.content();
        let ids = world.some_ids(7);
        let (gone, hidden) = ids.split_at(5);
        let gone = &sorted(gone.to_vec());
        organization.with(|organization| gone.iter().all(|id| organization.remove(id)));
        for id in hidden {
            organization.fault(Matcher::list(), Fault::HiddenKey(id.clone()));
        }
        organization.fault(matcher.clone(), fault.clone());
        world.hasty_sync(fault).env("KEYDRIFT__API__MAX_ATTEMPTS", "1").succeeds();
        oracle::check_consistent(&world.database());
        // A look-up that fails at first is one of a control key; there are others.
        let left_alone = fault_name.contains("for an hour");
        let told = *harmless || (*when == "the first" && !left_alone);
        assert_eq!(removed(&world.events_since(&before)), if told { &gone[..] } else { &[] });
        let unconfirmed = if told { 2 } else { 7 };
        assert_eq!(world.last_run()["unconfirmed"], unconfirmed);

        organization.clear_faults();
        world.sync();
        assert_eq!(removed(&world.events_since(&before)), gone[..], "each once");
    });
}

fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort();
    ids
}

/// The ids of the removed keys, sorted; and nothing else happened.
fn removed(events: &[serde_json::Map<String, Value>]) -> Vec<String> {
    let mut ids = Vec::new();
    for event in events {
        assert_eq!(event["event"], "removed", "{event:?}");
        ids.push(event["key_id"].as_str().unwrap().to_owned());
    }
    sorted(ids)
}

#[test]
fn unknown_fields_are_kept_and_those_of_all_keys_are_one_notice() {
    let world = World::synced();
    let before = world.content();
    world.organization().fault(Matcher::list(), Fault::UnknownFields);
    world.keydrift(&["sync"]).succeeds();
    oracle::check_consistent(&world.database());
    assert_eq!(world.events_since(&before), []);
    let notice = world.last_run()["notice"].as_str().unwrap().to_owned();
    for field in ["permissions", "risk.score", "risk.reasons", "owner.department"] {
        assert!(notice.contains(&format!("the API now sends `{field}`")), "{notice}");
    }
    let query = "select count(*) from current_keys
         where other ->> '$.permissions' = '[\"api.management.read\"]'
             and other ->> '$.\"risk.score\"' = 0.5";
    assert_eq!(sql::integer(&world.database(), query), 250);
    // The same again is no news.
    world.keydrift(&["sync"]).succeeds();
    assert_eq!(world.events_since(&before), []);
    assert_eq!(world.last_run()["notice"], Value::Null);
}

#[test]
fn an_unknown_object_of_some_keys_alone_is_an_event_for_each() {
    let world = World::synced();
    let before = world.content();
    let ids = world.some_ids(2);
    world.organization().with(|organization| {
        organization.set_field(&ids[0], "risk.score", 0.9);
        organization.set_field(&ids[1], "tier", "gold");
    });
    world.sync();
    let events = world.events_since(&before);
    let told: Vec<_> = events.iter().map(|e| (&e["key_id"], &e["field"], &e["event"])).collect();
    assert_eq!(told.len(), 2, "{told:?}, {:?}", world.last_run()["notice"]);
    for (id, field) in [(&ids[0], "risk.score"), (&ids[1], "tier")] {
        assert!(told.contains(&(&json!(id), &json!(field), &json!("changed"))), "{told:?}");
    }
}

/// A hasty sync with this fault on the first five list requests.
fn sync_with_five(fault: Fault, attempts: &str) -> (World, Ran, Duration) {
    let world = World::synced();
    world.organization().fault(Matcher::list().first(5), fault);
    let began = std::time::Instant::now();
    let ran = world.keydrift(&["sync"]).env("KEYDRIFT__API__MAX_ATTEMPTS", attempts).run();
    (world, ran, began.elapsed())
}

#[test]
fn the_waits_that_the_api_asks_for_are_kept() {
    let unavailable = || Fault::status(503);
    let short = [
        unavailable().with_header("retry-after-ms", "1"),
        unavailable().with_header("retry-after", "0"),
        unavailable().with_header("retry-after", "3600").with_header("retry-after-ms", "1"),
    ];
    for_each(
        &short,
        |fault| format!("{fault:?}"),
        |fault| {
            // Our own waits would be eleven seconds at the least.
            let (world, ran, took) = sync_with_five(fault.clone(), "6");
            assert_eq!(ran.code, Some(0), "{ran}");
            assert!(took < Duration::from_secs(10), "{took:?}");
            world.check();
            let run = world.last_run();
            assert_eq!((run["requests"].as_i64(), run["retries"].as_i64()), (Some(9), Some(5)));
        },
    );
    let clock = keydrift::clock::SystemClock;
    let soon = keydrift::clock::Clock::now(&clock).unix() + 3;
    let long = [
        unavailable().with_header("retry-after-ms", "1200"),
        unavailable().with_header("retry-after", "1.2"),
        unavailable().with_retry_after_date(soon),
    ];
    for_each(
        &long,
        |fault| format!("{fault:?}"),
        |fault| {
            let (world, ran, took) = sync_with_five(fault.clone(), "2");
            assert_eq!(ran.code, Some(1), "{ran}");
            assert!(took > Duration::from_secs(1), "{took:?}");
            assert_eq!(world.last_run()["retries"], 1);
        },
    );
}

#[test]
fn x_should_retry_overrides_the_status() {
    let short = |status| Fault::status(status).with_header("retry-after-ms", "1");
    let (world, ran, _) = sync_with_five(short(418).with_header("x-should-retry", "true"), "6");
    assert_eq!(ran.code, Some(0), "{ran}");
    assert_eq!(world.last_run()["retries"], 5);
    let (world, ran, _) = sync_with_five(short(503).with_header("x-should-retry", "false"), "6");
    assert_eq!(ran.code, Some(1), "{ran}");
    assert_eq!(world.organization().count(Endpoint::List), 1);
    assert_eq!(world.last_run()["retries"], 0);
}

#[test]
fn a_refused_credential_is_never_tried_again() {
    for status in [401, 403] {
        let fault = Fault::status(status).with_header("retry-after-ms", "1");
        let (world, ran, _) = sync_with_five(fault.with_header("x-should-retry", "true"), "6");
        assert_eq!(ran.code, Some(1), "{ran}");
        assert_eq!(world.organization().requests().len(), 1);
        let run = world.last_run();
        assert_eq!((run["requests"].as_i64(), run["retries"].as_i64()), (Some(1), Some(0)));
    }
}

#[test]
fn a_wait_that_is_too_long_ends_the_run() {
    let fault = Fault::status(429).with_header("retry-after", "3600");
    let (world, ran, took) = sync_with_five(fault, "6");
    assert_eq!(ran.code, Some(1), "{ran}");
    assert!(took < Duration::from_mins(10), "{took:?}");
    let run = world.last_run();
    let error = run["error"].as_str().unwrap();
    assert!(error.contains("deferred until 20") && error.contains("status 429"), "{error}");
    assert_eq!(world.organization().requests().len(), 1);
}

#[test]
fn a_wait_that_no_attempt_is_left_for_is_recorded() {
    let world = World::synced();
    let fault = Fault::status(429).with_header("retry-after", "20");
    world.organization().fault(Matcher::list(), fault);
    world.keydrift(&["sync"]).env("KEYDRIFT__API__MAX_ATTEMPTS", "1").exits(1);
    let deferred =
        "select strftime('%s', deferred_until) - strftime('%s', finished_at) from run_history
                    order by run_id desc limit 1";
    assert!((20..=21).contains(&sql::integer(&world.database(), deferred)));
}

#[test]
fn a_run_ends_when_its_time_is_over() {
    let world = World::synced();
    let before = world.content();
    world.organization().fault(Matcher::list().from(2), Fault::status(503));
    let sync = world.keydrift(&["sync"]).env("KEYDRIFT__API__RUN_DEADLINE", "1s");
    sync.env("KEYDRIFT__API__MAX_ATTEMPTS", "20").exits(1);
    let run = world.check_nothing_changed(&before, "failed");
    let error = run["error"].as_str().unwrap();
    assert!(error.contains("the run's time of 1s was over") && error.contains("503"), "{error}");
}
