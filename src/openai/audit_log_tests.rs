use serde_json::json;

use super::super::test_server::{self, NOW, Reply, Request, Server};
use super::*;

fn ids(names: &[&str]) -> Vec<KeyId> {
    names.iter().map(|name| KeyId::new(name).unwrap()).collect()
}

fn time(seconds: i64) -> Timestamp {
    Timestamp::from_unix(seconds).unwrap()
}

fn query(keys: &[&str]) -> AuditQuery {
    AuditQuery {
        key_ids: ids(keys),
        actions: KeyAction::ALL.to_vec(),
        from: time(NOW - 3600),
        until: time(NOW),
    }
}

fn entry(id: &str, kind: &str, key: &str, at: i64) -> Value {
    json!({
        "object": "organization.audit_log", "id": id, "type": kind, "effective_at": at,
        "actor": {
            "type": "session",
            "session": {
                "ip_address": "198.51.100.7",
                "user": { "id": "user-1", "email": "ana@example.com" }
            }
        },
        kind: { "id": key }
    })
}

fn page(entries: &[Value], has_more: bool) -> Reply {
    Reply::json(200, &json!({ "object": "list", "data": entries, "has_more": has_more }))
}

async fn list(
    query: &AuditQuery,
    script: impl FnMut(&Request) -> Reply + Send + 'static,
) -> (Result<Vec<AuditEntry>, Error>, Server) {
    let server = Server::start(script).await;
    let entries = server.session().list_audit_entries(query).await;
    (entries, server)
}

async fn list_ids(query: &AuditQuery, entries: Vec<Value>) -> Vec<String> {
    let (listed, _) = list(query, move |_| page(&entries, false)).await;
    listed.unwrap().iter().map(|entry| entry.log_id.as_ref().to_owned()).collect()
}

#[tokio::test]
async fn just_these_keys_acts_and_seconds_are_asked_for() {
    let mut asked = query(&["key_1", "key/2", "key_1"]);
    asked.actions = vec![KeyAction::Deleted, KeyAction::Created, KeyAction::Created];
    let (entries, server) = list(&asked, |_| page(&[], false)).await;
    assert!(entries.unwrap().is_empty());
    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(
        requests[0].target,
        "/v1/organization/audit_logs?effective_at%5Bgte%5D=1795433340&effective_at%5Blte%5D=1795436940\
         &event_types%5B%5D=api_key.created&event_types%5B%5D=api_key.deleted\
         &resource_ids%5B%5D=key_1&resource_ids%5B%5D=key%2F2&limit=100"
    );
    assert_eq!(requests[0].queries("resource_ids[]"), ["key_1", "key/2"]);
}

#[tokio::test]
async fn nothing_to_ask_asks_nothing() {
    let nobody = query(&[]);
    let mut no_acts = query(&["k"]);
    no_acts.actions.clear();
    let mut never = query(&["k"]);
    never.until = time(NOW - 3601);
    for query in [nobody, no_acts, never] {
        let (entries, server) = list(&query, |_| Reply::error(500, "x")).await;
        assert!(entries.unwrap().is_empty());
        assert!(server.requests().is_empty());
    }
}

#[tokio::test]
async fn entries_tell_who_did_what_from_where() {
    let by_key = |kind: &str, owner: Value| {
        let mut api_key = json!({ "id": "key_admin", "type": kind });
        api_key[kind] = owner;
        json!({ "type": "api_key", "api_key": api_key })
    };
    let mut created = entry("log_1", "api_key.created", "k", NOW - 30);
    created["api_key.created"]["data"] = json!({ "scopes": ["b.read", "a.write"] });
    let mut updated = entry("log_2", "api_key.updated", "k", NOW - 20);
    updated["api_key.updated"]["changes_requested"] = json!({ "scopes": ["c.read"] });
    updated["actor"] = by_key("service_account", json!({ "id": "sa-1" }));
    let mut deleted = entry("log_3", "api_key.deleted", "k", NOW - 10);
    deleted["actor"] = by_key("user", json!({ "id": "user-2", "email": "bo@example.com" }));
    let (listed, _) = list(&query(&["k"]), move |_| {
        page(&[deleted.clone(), updated.clone(), created.clone()], false)
    })
    .await;
    let listed = listed.unwrap();
    let text = |text: &str| Some(Arc::from(text));
    assert_eq!(
        listed[0],
        AuditEntry {
            log_id: Arc::from("log_1"),
            action: KeyAction::Created,
            key_id: ids(&["k"])[0].clone(),
            happened_at: time(NOW - 30),
            actor: Actor {
                kind: text("session"),
                user_id: text("user-1"),
                email: text("ana@example.com"),
                ip_address: text("198.51.100.7"),
                ..Actor::default()
            },
            scopes: Some(vec!["b.read".to_owned(), "a.write".to_owned()]),
        }
    );
    assert_eq!(listed[1].scopes.as_deref(), Some(["c.read".to_owned()].as_slice()));
    assert_eq!(
        listed[1].actor,
        Actor {
            kind: text("api_key"),
            key_id: text("key_admin"),
            service_account_id: text("sa-1"),
            ..Actor::default()
        }
    );
    assert_eq!(
        listed[2].actor,
        Actor {
            kind: text("api_key"),
            key_id: text("key_admin"),
            user_id: text("user-2"),
            email: text("bo@example.com"),
            ..Actor::default()
        }
    );
    assert_eq!(listed[2].scopes, None);
}

#[tokio::test]
async fn an_actor_may_be_anything() {
    for (actor, kind, email) in [
        (json!(null), None, None),
        (json!("ana"), None, None),
        (json!({ "type": "robot", "robot": {} }), Some("robot"), None),
        (json!({ "type": 7, "session": { "user": { "email": "a@b" } } }), None, Some("a@b")),
        (
            json!({ "type": "session", "session": { "user": { "email": "" } } }),
            Some("session"),
            None,
        ),
        // Of a person in a session, what stands beside it is not said to be about the act.
        (
            json!({ "type": "session", "api_key": { "user": { "email": "a@b" } } }),
            Some("session"),
            None,
        ),
    ] {
        let mut item = entry("log_1", "api_key.deleted", "k", NOW);
        item["actor"] = actor.clone();
        let (listed, _) = list(&query(&["k"]), move |_| page(&[item.clone()], false)).await;
        let actor_read = listed.unwrap().remove(0).actor;
        assert_eq!(actor_read.kind.as_deref(), kind, "{actor}");
        assert_eq!(actor_read.email.as_deref(), email, "{actor}");
    }
    let mut item = entry("log_1", "api_key.deleted", "k", NOW);
    item.as_object_mut().unwrap().remove("actor");
    let (listed, _) = list(&query(&["k"]), move |_| page(&[item.clone()], false)).await;
    assert_eq!(listed.unwrap()[0].actor, Actor::default());
}

#[tokio::test]
async fn what_was_not_asked_for_is_left_out() {
    let mut asked = query(&["k"]);
    asked.actions = vec![KeyAction::Deleted];
    let deleted = |id: &str, key: &str, at: i64| entry(id, "api_key.deleted", key, at);
    let mut mixed_up = deleted("mixed-up", "k", NOW);
    mixed_up["type"] = json!("project.deleted");
    let entries = vec![
        deleted("first-second", "k", NOW - 3600),
        deleted("too-early", "k", NOW - 3601),
        deleted("last-second", "k", NOW),
        deleted("too-late", "k", NOW + 1),
        deleted("other-key", "kk", NOW),
        entry("other-act", "api_key.created", "k", NOW),
        entry("other-kind", "login.failed", "k", NOW),
        mixed_up,
        deleted("last-second", "k", NOW),
    ];
    assert_eq!(list_ids(&asked, entries).await, ["first-second", "last-second"]);
}

#[tokio::test]
async fn what_cannot_be_read_is_left_out_and_the_rest_is_not() {
    let good = entry("good", "api_key.deleted", "k", NOW);
    let spoiled = |name: &str, value: Value| {
        let mut item = entry("bad", "api_key.deleted", "k", NOW);
        item[name] = value;
        item
    };
    let secret = "sk-admin-ABCDEFGHijklmnop0123456789";
    let entries = vec![
        json!(7),
        json!({}),
        spoiled("id", json!("")),
        spoiled("id", json!(secret)),
        spoiled("type", json!(null)),
        spoiled("effective_at", json!("today")),
        spoiled("effective_at", json!(999_999_999_999_999_i64)),
        spoiled("api_key.deleted", json!("k")),
        spoiled("api_key.deleted", json!({ "id": "" })),
        spoiled("api_key.deleted", json!({})),
        good,
    ];
    assert_eq!(list_ids(&query(&["k"]), entries).await, ["good"]);
    for scopes in [json!("a"), json!([1]), json!({}), json!(null)] {
        let mut item = entry("log_1", "api_key.created", "k", NOW);
        item["api_key.created"]["data"] = json!({ "scopes": scopes });
        let (listed, _) = list(&query(&["k"]), move |_| page(&[item.clone()], false)).await;
        assert_eq!(listed.unwrap()[0].scopes, None);
    }
}

#[tokio::test]
async fn texts_are_masked() {
    let secret = "sk-admin-ABCDEFGHijklmnop0123456789";
    let mut item = entry("log_1", "api_key.created", "k", NOW);
    item["api_key.created"]["data"] = json!({ "scopes": [secret] });
    item["actor"] = json!({ "type": secret, "session": {
        "ip_address": test_server::CREDENTIAL, "user": { "id": secret, "email": secret }
    } });
    let (listed, _) = list(&query(&["k"]), move |_| page(&[item.clone()], false)).await;
    let all = format!("{listed:?}");
    assert!(!all.contains("0123456789"), "{all}");
    assert!(all.contains("****wxyz"), "{all}");
}

#[tokio::test]
async fn all_pages_are_read_also_those_without_an_entry_asked_for() {
    let (listed, server) = list(&query(&["k"]), |request| {
        let at = |id: &str, key: &str| entry(id, "api_key.deleted", key, NOW);
        match request.query("after").as_deref() {
            None => page(&[at("log_9", "k"), at("log_8", "other")], true),
            Some("log_8") => page(&[at("log_7", "other"), json!({})], true),
            // One seen already: the log grows while it is read.
            Some("log_7") => page(&[at("log_7", "other"), at("log_6", "k")], false),
            Some(after) => panic!("{after}"),
        }
    })
    .await;
    let listed: Vec<_> = listed.unwrap().into_iter().map(|entry| entry.log_id).collect();
    assert_eq!(listed, [Arc::from("log_6"), Arc::<str>::from("log_9")]);
    assert_eq!(server.requests().len(), 3);
    assert!(server.requests().iter().all(|request| request.query("resource_ids[]").is_some()));
}

#[tokio::test]
async fn a_log_without_end_is_given_up() {
    let mut next = 0;
    let (listed, server) = list(&query(&["k"]), move |_| {
        next += 1;
        page(&[entry(&format!("log_{next}"), "api_key.updated", "k", NOW)], true)
    })
    .await;
    assert_eq!(
        listed.unwrap_err().to_string(),
        "the list has more than 100 pages: given up at page 101 of the audit log"
    );
    assert_eq!(server.requests().len(), 100);
}

#[tokio::test]
async fn many_keys_are_asked_for_in_several_urls_of_bounded_length() {
    let names: Vec<String> = (0..200).map(|n| format!("key_{n:0>30}")).collect();
    let long = "k".repeat(5_000);
    let mut all: Vec<&str> = names.iter().map(String::as_str).collect();
    all.insert(100, &long);
    let (listed, server) = list(&query(&all), |request| {
        // One entry about each, and one that every answer repeats.
        let mut entries: Vec<Value> = request
            .queries("resource_ids[]")
            .iter()
            .map(|key| {
                entry(&format!("log-{}", &key[key.len() - 5..]), "api_key.deleted", key, NOW)
            })
            .collect();
        entries.push(entry(
            "log-shared",
            "api_key.deleted",
            "key_000000000000000000000000000000",
            NOW,
        ));
        page(&entries, false)
    })
    .await;
    assert_eq!(listed.unwrap().len(), 202);
    let base = server.base.as_str().len();
    let mut asked = 0;
    for request in server.requests() {
        let keys = request.queries("resource_ids[]").len();
        asked += keys;
        assert!(base + request.target.len() < 1_850 || keys == 1, "{}", request.target.len());
    }
    assert_eq!(asked, 201);
    assert!(server.requests().len() < 12, "{}", server.requests().len());
}

#[tokio::test]
async fn may_not_is_told_from_did_not_work_this_time() {
    let scopes = "Missing scopes: api.audit_logs.read.";
    for (reply, missing, problem, hint) in [
        (
            Reply::error(403, "Audit logging is not enabled."),
            true,
            "page 1 of the audit log was refused with status 403 (request req_1): Audit logging is not enabled",
            Some(
                "the audit log is there only where an owner has turned audit logging on, for an admin key \
                  with read-only permission (`api.audit_logs.read`)",
            ),
        ),
        (
            Reply::error(401, scopes),
            true,
            "page 1 of the audit log was refused with status 401 (request req_1): the credential lacks \
             the scope `api.audit_logs.read`",
            Some(
                "reading the audit log needs `api.audit_logs.read`: create a new admin key with read-only \
                  permission and use that: editing the scopes of an existing key often does not take",
            ),
        ),
        (
            Reply::error(404, "no"),
            true,
            "page 1 of the audit log was refused with status 404 (request req_1): no",
            Some("check the base URL: it is used as it stands, and `/v1` is not added to it"),
        ),
        (
            Reply::error(500, "x"),
            false,
            "page 1 of the audit log failed with status 500 (request req_1): x",
            None,
        ),
        (
            Reply::json(200, &json!({ "data": 7 })),
            false,
            "page 1 of the audit log is not a list of entries (request req_1): `data` is not an array",
            None,
        ),
    ] {
        let (listed, _) = list(&query(&["k"]), move |_| reply.clone()).await;
        let error = listed.unwrap_err();
        assert_eq!(error.to_string(), problem);
        assert_eq!(error.is_missing_permission(), missing, "{error}");
        assert_eq!(error.hint().as_deref(), hint);
    }
}

#[tokio::test]
async fn the_audit_log_can_be_read_on_another_thread() {
    let server = Server::playing(vec![page(&[], false)]).await;
    let session = server.session();
    let reading =
        tokio::spawn(async move { session.list_audit_entries(&query(&["k"])).await.is_ok() });
    assert!(reading.await.unwrap());
}

#[tokio::test]
async fn texts_that_are_too_long_are_cut() {
    let mut long = entry("log_1", "api_key.deleted", "k", NOW - 10);
    let user = &mut long["actor"]["session"]["user"];
    user["email"] = "é".repeat(300_000).into();
    user["id"] = "u".repeat(1_001).into();
    let mut fits = entry("log_2", "api_key.deleted", "k", NOW - 9);
    fits["actor"]["session"]["user"]["email"] = "é".repeat(320).into();
    let (listed, _) =
        list(&query(&["k"]), move |_| page(&[long.clone(), fits.clone()], false)).await;
    let listed = listed.unwrap();
    let email = |entry: usize| listed[entry].actor.email.as_deref().unwrap();
    assert_eq!(email(0), format!("{}…", "é".repeat(320)));
    assert_eq!(email(1), "é".repeat(320));
    let id = listed[0].actor.user_id.as_deref().unwrap();
    assert_eq!(id, format!("{}…", "u".repeat(1_000)));
}

#[tokio::test]
async fn a_query_that_is_refused_is_not_asked_again_with_smaller_pages() {
    for status in [400, 422] {
        let (listed, server) = list(&query(&["k"]), move |_| Reply::error(status, "no")).await;
        assert!(matches!(listed, Err(Error::Refused { .. })), "{listed:?}");
        assert_eq!(server.requests().len(), 1, "{status}");
    }
}
