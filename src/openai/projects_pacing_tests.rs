//! How many requests are under way at once, and when no more are made.

use std::time::Duration;

use super::super::super::test_server::NOW;
use super::*;

#[tokio::test]
async fn all_requests_of_a_session_share_one_budget() {
    let ids: Vec<String> = (0..30).map(|n| format!("p{n}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let server = Server::start(|request| {
        let first = request.query("after").is_none();
        page(if first { &["a"] } else { &["b"] }, first).in_a_crowd_of(5)
    })
    .await;
    let mut options = server.options();
    options.max_concurrency = 5;
    let session = test_server::session(options);
    let mut ignore = |_, _| {};
    let (listings, admin_keys, listed) =
        tokio::join!(scan(&session, &ids), session.scan(&mut ignore), session.list_projects());
    assert!(listings.values().all(|listing| listing.as_ref().unwrap().scan.keys == 2));
    assert_eq!((admin_keys.unwrap().keys, listed.unwrap().len()), (2, 2));
    assert_eq!(server.requests().len(), 64);
    assert_eq!(server.most_at_once(), 5, "as many as there may be, and never more");
}

#[tokio::test]
async fn whoever_waits_for_the_next_attempt_leaves_the_budget_to_others() {
    let mut asked = 0;
    let server = Server::start(move |request| {
        asked += 1;
        match request.segments()[1] {
            // Not before the others are through.
            "a" if asked == 1 => Reply::error(503, "x").with("retry-after-ms", "500"),
            _ => page(&["k"], false),
        }
    })
    .await;
    let mut options = server.options();
    options.max_concurrency = 1;
    let listings = scan(&test_server::session(options), &["a", "b", "c"]).await;
    assert!(listings.values().all(Result::is_ok));
    let order: Vec<String> = server.requests().iter().map(|r| r.segments()[1].to_owned()).collect();
    assert_eq!(order, ["a", "b", "c", "a"]);
}

#[tokio::test]
async fn an_api_that_wants_to_be_left_alone_ends_all_of_it_at_once() {
    let ids: Vec<String> = (0..50).map(|n| format!("p{n}")).collect();
    let mut ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    ids.insert(0, "waiting");
    let server = Server::start(|request| match request.segments()[1] {
        // Would sleep on for half an eternity.
        "waiting" => Reply::error(503, "x").with("retry-after", "110"),
        "p2" => Reply::error(429, "x").with("retry-after", "600"),
        _ => page(&["k"], false).in_a_crowd_of(2),
    })
    .await;
    let mut options = server.options();
    options.run_deadline = Duration::from_hours(1);
    options.max_concurrency = 2;
    let session = test_server::session(options);
    let listings =
        tokio::time::timeout(Duration::from_secs(30), scan(&session, &ids)).await.unwrap();
    assert_eq!(listings.len(), ids.len());
    assert!(matches!(error(&listings, "p2"), Error::Deferred { .. }));
    assert_eq!(
        error(&listings, "p49").to_string(),
        "page 1 of the keys of project `p49` was not asked for: the API wants to be left alone \
         until 2026-11-23T12:39:00Z"
    );
    for id in ["waiting", "p2", "p49"] {
        let until = error(&listings, id).deferred_until().unwrap().unix();
        assert_eq!(until, NOW + 600, "{id}");
        assert!(error(&listings, id).is_retryable());
    }
    let asked = server.requests().len();
    assert!(asked <= 5, "{asked}");
    // And nothing else is asked for in this session.
    assert!(matches!(session.list_projects().await, Err(Error::LeftAlone { .. })));
    assert_eq!(server.requests().len(), asked);
}

#[tokio::test]
async fn too_many_requests_in_the_end_hold_for_all_projects() {
    let server = Server::playing(vec![Reply::error(429, "x").with("retry-after", "20")]).await;
    let mut options = server.options();
    options.max_attempts = 1;
    options.max_concurrency = 1;
    let listings = scan(&test_server::session(options), &["a", "b", "c"]).await;
    assert!(matches!(error(&listings, "a"), Error::Deferred { .. }));
    assert!(matches!(error(&listings, "c"), Error::LeftAlone { .. }));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn after_the_deadline_every_project_left_says_so() {
    let server = Server::start(|request| match request.segments()[1] {
        "good" => page(&["k"], false),
        _ => Reply::hanging(),
    })
    .await;
    let mut options = server.options();
    options.run_deadline = Duration::from_millis(300);
    options.max_concurrency = 2;
    let session = test_server::session(options);
    let listings = scan(&session, &["good", "a", "b", "c", "d", "e"]).await;
    assert_eq!(keys(&listings, "good"), ["k"]);
    for id in ["a", "b", "c", "d", "e"] {
        assert_eq!(
            error(&listings, id).to_string(),
            format!("the run's time of 300ms was over at page 1 of the keys of project `{id}`")
        );
    }
    assert_eq!(server.requests().len(), 3, "who waits for the budget has not asked");
    assert_eq!(session.traffic().requests, 3);
}
