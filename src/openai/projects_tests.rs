use std::collections::BTreeMap;

use serde_json::json;

use super::super::test_server::{self, Reply, Request, Server, key};
use super::*;

fn project(id: &str) -> Project {
    Project { id: Arc::from(id), name: None, archived_at: None, status: None }
}

fn projects(ids: &[&str]) -> Vec<Project> {
    ids.iter().map(|id| project(id)).collect()
}

/// A page of a list that shows no ages.
fn page(ids: &[&str], has_more: bool) -> Reply {
    let data: Vec<Value> = ids.iter().map(|id| json!({ "id": id, "created_at": 7 })).collect();
    Reply::json(200, &json!({ "data": data, "has_more": has_more }))
}

type Listings = BTreeMap<String, Result<ProjectListing, Error>>;

async fn scan(session: &Session, ids: &[&str]) -> Listings {
    let mut listings = BTreeMap::new();
    session
        .scan_projects(&mut projects(ids).into_iter(), &mut |project, listing| {
            let before = listings.insert(project.id.as_ref().to_owned(), listing);
            assert!(before.is_none(), "each project once");
            true
        })
        .await;
    listings
}

async fn scan_with(
    ids: &[&str],
    script: impl FnMut(&Request) -> Reply + Send + 'static,
) -> (Listings, Server) {
    let server = Server::start(script).await;
    let listings = scan(&server.session(), ids).await;
    (listings, server)
}

fn keys(listings: &Listings, project: &str) -> Vec<String> {
    let listing = listings[project].as_ref().unwrap_or_else(|e| panic!("{project}: {e}"));
    assert_eq!(listing.scan.keys, listing.sightings.len());
    listing.sightings.iter().map(|seen| seen.key.id.as_str().to_owned()).collect()
}

fn error<'a>(listings: &'a Listings, project: &str) -> &'a Error {
    match &listings[project] {
        Err(error) => error,
        Ok(_) => panic!("{project} was listed"),
    }
}

#[tokio::test]
async fn projects_are_listed_with_the_archived_ones_in_any_order() {
    let server = Server::start(|request| match request.query("after").as_deref() {
        // The newest first: nobody promised anything else.
        None => Reply::json(
            200,
            &json!({ "has_more": true, "data": [
                { "id": "p3", "name": "Three", "created_at": 30, "status": "active", "archived_at": null },
                { "id": "p2", "name": "Two", "created_at": 20, "status": "archived", "archived_at": 25 },
            ] }),
        ),
        Some(_) => Reply::json(
            200,
            &json!({ "has_more": false, "data": [{ "id": "p1", "created_at": 10 }] }),
        ),
    })
    .await;
    let listed = server.session().list_projects().await.unwrap();
    assert_eq!(listed.iter().map(|p| p.id.as_ref()).collect::<Vec<_>>(), ["p3", "p2", "p1"]);
    assert_eq!(listed[0].name.as_deref(), Some("Three"));
    assert_eq!(listed.iter().map(Project::is_archived).collect::<Vec<_>>(), [false, true, false]);
    assert_eq!(listed[1].archived_at.map(crate::clock::Timestamp::unix), Some(25));
    let targets: Vec<String> = server.requests().into_iter().map(|r| r.target).collect();
    assert_eq!(
        targets,
        [
            "/v1/organization/projects?include_archived=true&limit=100",
            "/v1/organization/projects?include_archived=true&limit=100&after=p2"
        ]
    );
}

#[test]
fn what_a_project_says_of_itself_is_read_with_care() {
    let mask = Mask::new(test_server::CREDENTIAL);
    let read = |item: Value| read_project(item, &mask, &mut Warnings::default());
    let secret = "sk-proj-ABCDEFGHijklmnop0123456789";
    for (item, archived, status) in [
        (json!({ "archived_at": "last week" }), true, Some("archived")),
        (json!({ "archived_at": 1.5, "status": "active" }), false, Some("active")),
        (json!({ "status": 7 }), false, Some("7")),
        (json!({ "status": secret }), false, Some("sk-proj-****6789")),
        (json!({ "status": null, "archived_at": null }), false, None),
    ] {
        let mut item = item;
        item["id"] = json!("p");
        let project = read(item.clone()).unwrap();
        assert_eq!(project.is_archived(), archived, "{item}");
        assert_eq!(project.status.as_deref(), status, "{item}");
    }
    let named = |name: Value| read(json!({ "id": "p", "name": name })).unwrap().name;
    assert_eq!(named(json!(format!("x {secret}"))).as_deref(), Some("x sk-proj-****6789"));
    assert_eq!((named(json!(7)), named(json!(null))), (None, None));
    for (item, problem) in [
        (json!(1), "it is not an object"),
        (json!({ "id": "" }), "its `id` is empty"),
        (json!({ "id": secret }), "its `id` looks like a secret"),
    ] {
        assert_eq!(read(item), Err(problem));
    }
}

#[tokio::test]
async fn a_truncated_list_of_projects_is_an_error() {
    for (replies, problem) in [
        (
            vec![page(&["p1"], true), page(&[], true)],
            "the list could not be followed past its start: at page 5 of the projects (request req_1), \
             the page is empty although more projects were promised, and going back did not help",
        ),
        (
            vec![page(&["p1", "p2"], true)],
            "the list could not be followed past project `p1`: at page 12 of the projects (request req_1), \
             the page only repeats projects that were listed before, and going back did not help",
        ),
        (
            vec![page(&["p1"], true), Reply::error(500, "oops")],
            "page 2 of the projects failed with status 500 (request req_1): oops",
        ),
        (
            vec![page(&["p1"], true), Reply::json(200, &json!({ "data": {} }))],
            "page 2 of the projects is not a list of projects (request req_1): `data` is not an array",
        ),
        (
            vec![Reply::json(200, &json!({ "data": [{ "id": "p" }, {}], "has_more": false }))],
            "item 2 of page 1 of the projects is not a project (request req_1): it has no `id`",
        ),
    ] {
        let server = Server::playing(replies).await;
        let error = server.session().list_projects().await.unwrap_err();
        assert_eq!(error.to_string(), problem);
        assert!(!error.is_missing_permission(), "{error}");
    }
}

#[tokio::test]
async fn whoever_may_not_read_projects_is_told_what_is_missing() {
    let scopes = "You have insufficient permissions for this operation. Missing scopes: api.management.read.";
    for (reply, missing, hint) in [
        (
            Reply::error(403, scopes),
            true,
            "reading projects and their keys needs `api.management.read`: create a new admin key with \
             read-only permission and use that: editing the scopes of an existing key often does not take",
        ),
        (
            Reply::error(403, "no"),
            true,
            "reading projects and their keys needs an admin key with read-only permission \
             (`api.management.read`), made by an owner of the organization",
        ),
        (
            Reply::error(401, "no"),
            false,
            "reading projects and their keys needs an admin key with read-only permission \
             (`api.management.read`), and this credential is none, or it was revoked: owners make new \
             ones at https://platform.openai.com/settings/organization/admin-keys",
        ),
        (
            Reply::error(404, "no"),
            true,
            "check the base URL: it is used as it stands, and `/v1` is not added to it",
        ),
    ] {
        let server = Server::playing(vec![reply]).await;
        let error = server.session().list_projects().await.unwrap_err();
        assert_eq!(error.is_missing_permission(), missing, "{error}");
        assert_eq!(error.hint().unwrap(), hint);
    }
}

#[tokio::test]
async fn a_refused_page_size_falls_back_and_no_page_asks_for_more_than_a_hundred() {
    let server = Server::start(|request| match request.query("limit").as_deref() {
        Some("20") => page(&["a"], false),
        _ => Reply::error(400, "Invalid 'limit'"),
    })
    .await;
    let mut options = server.options();
    options.page_size = 1000;
    let session = test_server::session(options);
    assert_eq!(session.list_projects().await.unwrap().len(), 1);
    assert_eq!(keys(&scan(&session, &["p"]).await, "p"), ["a"]);
    let limits: Vec<_> = server.requests().iter().map(|r| r.query("limit").unwrap()).collect();
    assert_eq!(limits, ["100", "50", "20", "100", "50", "20"]);
}

#[tokio::test]
async fn the_keys_of_each_project_are_listed_whoever_owns_them() {
    let (listings, server) = scan_with(&["p1", "p2"], |request| {
        match (request.segments()[1], request.query("after").as_deref()) {
            ("p1", None) => Reply::json(
                200,
                // The newest first.
                &json!({ "data": [key("c"), key("b")], "has_more": true }),
            ),
            ("p1", Some("b")) => {
                Reply::json(200, &json!({ "data": [key("a")], "has_more": false }))
            }
            _ => page(&[], false),
        }
    })
    .await;
    assert_eq!(keys(&listings, "p1"), ["c", "b", "a"]);
    assert!(keys(&listings, "p2").is_empty());
    let first = server.requests().iter().find(|r| r.segments()[1] == "p1").unwrap().target.clone();
    assert_eq!(first, "/v1/organization/projects/p1/api_keys?owner_project_access=any&limit=100");
}

/// Projects that cannot be listed, and how the message about each begins.
const FAILING: [(&str, &str); 12] = [
    (
        "forbidden",
        "page 1 of the keys of project `forbidden` was refused with status 403 (request req_1): no",
    ),
    (
        "gone",
        "page 1 of the keys of project `gone` was refused with status 404 (request req_1): no such project",
    ),
    ("down", "page 1 of the keys of project `down` failed with status 503 (request req_1): busy"),
    (
        "halfway",
        "page 2 of the keys of project `halfway` failed with status 500 (request req_1): oops",
    ),
    (
        "archived",
        "page 2 of the keys of project `archived` was refused with status 404 (request req_1): archived",
    ),
    (
        "lost",
        "the list could not be followed past key `k`: at page 8 of the keys of project `lost`",
    ),
    (
        "malformed",
        "item 1 of page 1 of the keys of project `malformed` is not a key (request req_1): it has no `id`",
    ),
    (
        "html",
        "page 1 of the keys of project `html` was answered (request req_1) with content type `text/html`",
    ),
    ("cut", "the answer to page 1 of the keys of project `cut` was cut short (request req_1)"),
    (
        "elsewhere",
        "page 1 of the keys of project `elsewhere` came from organization `org-2`, the pages before it from `org-1`",
    ),
    ("..", "could not ask for page 1 of the keys of project `..`: its address is not a usable URL"),
    ("", "could not ask for page 1 of the keys of project ``: its address is not a usable URL"),
];

fn fail(request: &Request, is_first: bool) -> Reply {
    match request.segments()[1] {
        "forbidden" => Reply::error(403, "no"),
        "gone" => Reply::error(404, "no such project"),
        // A wait that a run can afford holds up nobody else.
        "down" => Reply::error(503, "busy").with("retry-after-ms", "1100"),
        "halfway" if !is_first => Reply::error(500, "oops"),
        // Whatever is asked for, the first page included.
        "archived" if !is_first => Reply::error(404, "archived"),
        "lost" => page(&["k"], true),
        "malformed" => Reply::json(200, &json!({ "data": [{}], "has_more": false })),
        "html" => Reply::raw(200, "text/html", "<html>"),
        "cut" => page(&["a"], false).cut_by(5),
        "elsewhere" => page(&["a"], false).with("openai-organization", "org-2"),
        "halfway" | "archived" => page(&["a"], true),
        id => page(&[id], false).with("openai-organization", "org-1"),
    }
}

#[tokio::test]
async fn a_project_that_fails_is_its_own_error_and_the_others_go_on() {
    let mut ids = vec!["good-1"];
    ids.extend(FAILING.map(|(id, _)| id));
    ids.push("good-2");
    let mut asked = std::collections::HashSet::new();
    let server = Server::start(move |request| {
        let is_first = asked.insert(request.segments()[1].to_owned());
        fail(request, is_first)
    })
    .await;
    let mut options = server.options();
    options.max_attempts = 1;
    let listings = scan(&test_server::session(options), &ids).await;
    assert_eq!(listings.len(), ids.len());
    for (id, problem) in FAILING {
        let message = error(&listings, id).to_string();
        assert!(message.starts_with(problem), "{id}: {message}");
        assert_eq!(error(&listings, id).deferred_until(), None, "{id}");
    }
    for id in ["good-1", "good-2"] {
        assert_eq!(keys(&listings, id), [id]);
    }
    assert!(error(&listings, "forbidden").is_missing_permission());
    assert!(!error(&listings, "gone").is_missing_permission());
}

#[tokio::test]
async fn a_refused_filter_is_said_and_not_left_out() {
    for (message, requests) in [("Unknown parameter: 'owner_project_access'", 1), ("no", 4)] {
        let (listings, server) = scan_with(&["p"], move |_| Reply::error(400, message)).await;
        assert_eq!(
            error(&listings, "p").to_string(),
            format!(
                "page 1 of the keys of project `p` was refused with status 400 (request req_1) when \
                 asked for with `owner_project_access=any`, without which keys may be left out: {message}"
            )
        );
        assert_eq!(server.requests().len(), requests);
        assert!(server.requests().iter().all(|r| r.query("owner_project_access").is_some()));
    }
    let param = json!({ "error": { "message": "no", "param": "owner_project_access" } });
    let (listings, server) = scan_with(&["p"], move |_| Reply::json(422, &param)).await;
    assert!(matches!(error(&listings, "p"), Error::AccessFilterRefused { status: 422, .. }));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn ids_of_projects_are_one_segment_whatever_they_hold() {
    let odd = ["../x", "a/b?c#d", "%2e%2e", "a b\"\u{1b}", "..."];
    let (listings, server) = scan_with(&odd, |_| page(&["k"], false)).await;
    assert!(listings.values().all(Result::is_ok));
    for request in server.requests() {
        let segments = request.segments();
        assert_eq!((segments.len(), segments[0], segments[2]), (3, "projects", "api_keys"));
    }
    assert_eq!(server.requests().len(), odd.len());
}

#[tokio::test]
async fn warnings_are_those_of_the_project_and_traffic_that_of_all() {
    let server = Server::start(|request| {
        let mut item = key("k");
        if request.segments()[1] == "leaky" {
            item["value"] = json!("sk-proj-FULLsecret0123456789abcdefgh");
        }
        Reply::json(200, &json!({ "data": [item], "has_more": false }))
    })
    .await;
    let session = server.session();
    let listings = scan(&session, &["leaky", "tight"]).await;
    let dropped = |id: &str| listings[id].as_ref().unwrap().scan.warnings.values_dropped;
    assert_eq!((dropped("leaky"), dropped("tight")), (1, 0));
    assert_eq!((session.traffic().requests, session.traffic().pages), (2, 2));
}

#[tokio::test]
async fn projects_can_be_scanned_on_another_thread() {
    let server = Server::playing(vec![page(&["k"], false)]).await;
    let session = server.session();
    let scanning = tokio::spawn(async move {
        let listed = session.list_projects().await.unwrap();
        let mut found = 0;
        let on_project = &mut |_, listing: Result<ProjectListing, Error>| {
            found += listing.unwrap().scan.keys;
            true
        };
        session.scan_projects(&mut listed.into_iter(), on_project).await;
        found
    });
    assert_eq!(scanning.await.unwrap(), 1);
}

#[tokio::test]
async fn no_others_begin_where_it_is_enough() {
    let ids = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
    let server = Server::playing(ids.iter().map(|id| page(&[id], false)).collect()).await;
    let session = server.session();
    let mut projects = projects(&ids).into_iter();
    let mut listed = Vec::new();
    session
        .scan_projects(&mut projects, &mut |project, _| {
            listed.push(project.id.as_ref().to_owned());
            false
        })
        .await;
    // Two for each request that may be under way had begun.
    let begun = session.client.options.max_concurrency * 2;
    assert!(begun < ids.len());
    assert_eq!((listed.len(), projects.len()), (begun, ids.len() - begun));
}

#[path = "projects_pacing_tests.rs"]
mod pacing;
