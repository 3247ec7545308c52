use LookUp::{Gone, Present, Unknown};
use serde_json::json;

use super::super::test_server::{self, Reply, Request, Server, key};
use super::*;

fn ids(names: &[&str]) -> Vec<KeyId> {
    names.iter().map(|name| KeyId::new(name).unwrap()).collect()
}

fn found(name: &str) -> Reply {
    Reply::json(200, &key(name))
}

fn gone() -> Reply {
    Reply::error(404, "No such key.")
}

fn admin(id: &KeyId) -> Control {
    Control::Key(Place::Admin, id.clone())
}

/// Looks up `missing` where admin keys are, with these listed ones to vouch for the answers.
async fn look_up(
    session: &Session,
    missing: &[KeyId],
    listed: &[KeyId],
    organization: Option<&str>,
) -> HashMap<KeyId, LookUp> {
    let controls = listed.iter().map(admin).collect();
    let inquiry = Inquiry { place: Place::Admin, missing: missing.to_vec(), controls };
    session.look_up_all(&[inquiry], organization, 10).await
}

/// The answers for `missing`, where the keys `l1` to `l3` were listed.
async fn look_up_with(
    missing: &[&str],
    script: impl FnMut(&Request) -> Reply + Send + 'static,
) -> (Vec<LookUp>, Server) {
    let server = Server::start(script).await;
    let missing = ids(missing);
    let listed = ids(&["l1", "l2", "l3"]);
    let answers = look_up(&server.session(), &missing, &listed, Some("org-1")).await;
    (missing.iter().map(|id| answers[id]).collect(), server)
}

/// Answers listed keys with themselves, and others as told.
fn with_listed(mut others: impl FnMut(&str) -> Reply) -> impl FnMut(&Request) -> Reply {
    move |request| match request.last_segment() {
        listed if listed.starts_with('l') => found(listed),
        other => others(other),
    }
}

#[tokio::test]
async fn the_three_answers() {
    let missing = [
        "here",
        "gone",
        "gone-bare",
        "other-id",
        "html",
        "odd-404",
        "error",
        "elsewhere",
        "no-json",
    ];
    let (answers, _) = look_up_with(
        &missing,
        with_listed(|name| match name {
            "here" => found("here").with("openai-organization", "org-1"),
            "gone" => gone(),
            "gone-bare" => Reply::json(404, &json!({ "error": "No such key" })),
            "other-id" => found("another"),
            "html" => Reply::raw(404, "text/html", r#"{"error":"x"}"#),
            "odd-404" => Reply::json(404, &json!({ "detail": "Not Found" })),
            "elsewhere" => gone().with("openai-organization", "org-2"),
            "no-json" => Reply::raw(200, "text/plain", "x"),
            _ => Reply::error(500, "x"),
        }),
    )
    .await;
    let told = [Present, Gone, Gone, Unknown, Unknown, Unknown, Unknown, Unknown, Unknown];
    assert_eq!(answers, told);
}

#[tokio::test]
async fn an_endpoint_that_always_says_404_is_not_believed() {
    let (answers, server) = look_up_with(&["a", "b"], |_| gone()).await;
    assert_eq!(answers, [LookUp::Unknown; 2]);
    assert_eq!(server.requests().len(), 3, "three listed keys, and no missing one");
}

#[tokio::test]
async fn an_endpoint_that_breaks_in_between_is_not_believed() {
    let mut asked = 0;
    let (answers, _) = look_up_with(&["a", "b", "here"], move |request| {
        asked += 1;
        match request.last_segment() {
            "here" => found("here"),
            "l1" if asked == 1 => found("l1"),
            _ => gone(),
        }
    })
    .await;
    assert_eq!(answers, [LookUp::Unknown, LookUp::Unknown, LookUp::Present]);
}

#[tokio::test]
async fn a_listed_key_may_have_gone_since() {
    let (answers, _) = look_up_with(&["a"], |request| match request.last_segment() {
        "l3" => found("l3"),
        _ => gone(),
    })
    .await;
    assert_eq!(answers, [LookUp::Gone]);
}

#[tokio::test]
async fn without_a_listed_key_nothing_is_believed_and_without_a_missing_one_nothing_is_asked() {
    let server = Server::playing(vec![gone()]).await;
    let session = server.session();
    let answers = look_up(&session, &ids(&["a"]), &[], None).await;
    assert_eq!(answers[&ids(&["a"])[0]], LookUp::Unknown);
    assert!(look_up(&session, &[], &ids(&["l1"]), None).await.is_empty());
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn ids_that_are_no_segment_are_unknown_and_odd_ones_are_encoded() {
    let long = "k".repeat(10_000);
    let missing = [".", "..", "../../x", "a/b c\"", &long];
    let (answers, server) = look_up_with(&missing, with_listed(|_| gone())).await;
    assert_eq!(answers, [Unknown, Unknown, Gone, Gone, Gone]);
    for request in server.requests() {
        let id = request.target.strip_prefix("/v1/organization/admin_api_keys/").unwrap();
        assert!(!id.contains('/') && id != "." && id != "..", "{id}");
    }
}

#[tokio::test]
async fn a_dead_endpoint_is_given_up_once_the_answers_no_longer_matter() {
    let missing: Vec<String> = (0..200).map(|n| format!("m{n}")).collect();
    let names: Vec<&str> = missing.iter().map(String::as_str).collect();
    let (answers, server) = look_up_with(&names, with_listed(|_| Reply::error(500, "x"))).await;
    assert!(answers.iter().all(|answer| *answer == LookUp::Unknown));
    assert!(server.requests().len() < 60, "{}", server.requests().len());
}

#[tokio::test]
async fn every_missing_key_is_asked_for_side_by_side() {
    let missing: Vec<String> = (0..100).map(|n| format!("m{n}")).collect();
    let names: Vec<&str> = missing.iter().map(String::as_str).collect();
    let (answers, server) = look_up_with(&names, with_listed(|_| gone())).await;
    assert!(answers.iter().all(|answer| *answer == LookUp::Gone));
    assert_eq!(server.requests().len(), 102);
}

#[tokio::test]
async fn an_api_that_wants_to_be_left_alone_is() {
    let (answers, server) = look_up_with(
        &["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"],
        with_listed(|_| Reply::error(429, "x").with("retry-after", "600")),
    )
    .await;
    assert!(answers.iter().all(|answer| *answer == LookUp::Unknown));
    assert!(server.requests().len() <= 5, "{}", server.requests().len());
}

#[tokio::test]
async fn after_the_deadline_the_rest_is_unknown() {
    let server = Server::start(with_listed(|_| Reply::hanging())).await;
    let mut options = server.options();
    options.run_deadline = std::time::Duration::from_millis(200);
    let session = test_server::session(options);
    let answers = look_up(&session, &ids(&["a", "b"]), &ids(&["l1"]), None).await;
    assert_eq!(answers.len(), 2);
    assert!(answers.values().all(|answer| *answer == LookUp::Unknown));
}

#[tokio::test]
async fn look_ups_can_run_on_another_thread() {
    let server = Server::start(with_listed(|_| gone())).await;
    let session = server.session();
    let asking =
        tokio::spawn(
            async move { look_up(&session, &ids(&["a"]), &ids(&["l1"]), None).await.len() },
        );
    assert_eq!(asking.await.unwrap(), 1);
}

#[tokio::test]
async fn a_404_that_speaks_of_scopes_says_nothing_of_the_key() {
    let message = "You have insufficient permissions. Missing scopes: api.management.read.";
    let (answers, _) = look_up_with(&["a"], with_listed(|_| Reply::error(404, message))).await;
    assert_eq!(answers, [LookUp::Unknown]);
}
