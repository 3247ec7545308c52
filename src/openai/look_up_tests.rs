use LookUp::{Gone, Present, Unknown};
use serde_json::json;

use super::super::ahead::Told;
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
    session.look_up_all(&[inquiry], organization, 10, &Early::new()).await
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

fn in_project(project: &str, missing: &[&str], controls: Vec<Control>) -> Inquiry {
    Inquiry { place: Place::Project(Arc::from(project)), missing: ids(missing), controls }
}

fn key_of(project: &str, key: &str) -> Control {
    Control::Key(Place::Project(Arc::from(project)), KeyId::new(key).unwrap())
}

fn live(project: &str) -> Reply {
    Reply::json(200, &json!({ "id": project, "status": "active", "archived_at": null }))
}

async fn look_up_each(
    inquiries: &[Inquiry],
    most_unknown: usize,
    script: impl FnMut(&Request) -> Reply + Send + 'static,
) -> (HashMap<String, LookUp>, Server) {
    let server = Server::start(script).await;
    let answers = server.session().look_up_all(inquiries, None, most_unknown, &Early::new()).await;
    (answers.into_iter().map(|(id, answer)| (id.as_str().to_owned(), answer)).collect(), server)
}

#[tokio::test]
async fn each_key_is_asked_for_at_its_place_and_its_control_there() {
    let inquiries = [
        Inquiry {
            place: Place::Admin,
            missing: ids(&["m1"]),
            controls: vec![admin(&ids(&["l1"])[0])],
        },
        in_project("p1", &["m2"], vec![key_of("p1", "l2")]),
        in_project("p/2", &["m3"], vec![Control::Project(Arc::from("p/2"))]),
    ];
    let (answers, server) = look_up_each(&inquiries, 10, |request| match request.segments()[..] {
        ["admin_api_keys", "l1"] | ["projects", "p1", "api_keys", "l2"] => {
            found(request.last_segment())
        }
        ["projects", "p%2F2"] => live("p/2"),
        ["projects", "p1", "api_keys", "m2"] => found("m2"),
        _ => gone(),
    })
    .await;
    assert_eq!((answers["m1"], answers["m2"], answers["m3"]), (Gone, Present, Gone));
    // Where nothing is gone, nothing has to vouch for it again.
    assert_eq!(server.requests().len(), 3 + 2 + 3);
}

#[tokio::test]
async fn only_the_project_itself_in_use_vouches_for_its_keys() {
    for (answer, believed) in [
        (live("p"), Gone),
        (Reply::json(200, &json!({ "id": "p" })), Gone),
        (live("q"), Unknown),
        (Reply::json(200, &json!({ "id": "p", "status": "archived" })), Unknown),
        (Reply::json(200, &json!({ "id": "p", "archived_at": 7 })), Unknown),
        (Reply::json(200, &json!({ "id": "p", "archived_at": "x", "status": null })), Unknown),
        (Reply::json(200, &json!(["p"])), Unknown),
        (Reply::error(403, "no"), Unknown),
        (gone(), Unknown),
    ] {
        let inquiry = in_project("p", &["m"], vec![Control::Project(Arc::from("p"))]);
        let script = answer.clone();
        let (answers, _) = look_up_each(&[inquiry], 10, move |request| {
            if request.segments().len() == 2 { script.clone() } else { gone() }
        })
        .await;
        assert_eq!(answers["m"], believed, "{answer:?}");
    }
}

#[tokio::test]
async fn a_project_that_goes_in_between_takes_no_key_with_it() {
    let inquiry = in_project("p", &["m"], vec![Control::Project(Arc::from("p"))]);
    let mut asked = 0;
    let (answers, _) = look_up_each(&[inquiry], 10, move |_| {
        asked += 1;
        if asked == 1 { live("p") } else { gone() }
    })
    .await;
    assert_eq!(answers["m"], Unknown);
}

#[tokio::test]
async fn controls_are_tried_in_their_order_and_no_more_than_three() {
    let controls = ["a", "a", "b", "c", "d"].map(|key| key_of("p", key)).to_vec();
    let inquiry = in_project("p", &["m"], controls);
    let (answers, server) =
        look_up_each(std::slice::from_ref(&inquiry), 10, |request| match request.last_segment() {
            "d" => found("d"),
            _ => gone(),
        })
        .await;
    assert_eq!(answers["m"], Unknown);
    let asked = |server: &Server| -> Vec<String> {
        server.requests().iter().map(|request| request.last_segment().to_owned()).collect()
    };
    assert_eq!(asked(&server), ["a", "b", "c"]);
    let (answers, server) = look_up_each(&[inquiry], 10, |request| match request.last_segment() {
        "b" => found("b"),
        _ => gone(),
    })
    .await;
    assert_eq!(answers["m"], Gone);
    assert_eq!(asked(&server), ["a", "b", "m", "a", "b"]);
}

#[tokio::test]
async fn unknown_answers_of_all_inquiries_count_together() {
    let inquiries: Vec<Inquiry> = (0..50)
        .map(|n| {
            let project = format!("p{n}");
            in_project(&project, &[&format!("m{n}")], vec![key_of(&project, "l")])
        })
        .collect();
    let (answers, server) = look_up_each(&inquiries, 3, |request| match request.last_segment() {
        "l" => found("l"),
        _ => Reply::error(400, "x"),
    })
    .await;
    assert_eq!(answers.len(), 50);
    assert!(answers.values().all(|answer| *answer == Unknown));
    assert!(server.requests().len() < 20, "{}", server.requests().len());
    // So do those of which nothing could vouch for an answer.
    let (answers, server) = look_up_each(&inquiries, 3, |_| gone()).await;
    assert!(answers.values().all(|answer| *answer == Unknown));
    assert!(server.requests().len() < 10, "{}", server.requests().len());
}

#[tokio::test]
async fn inquiries_are_made_side_by_side_within_the_budget() {
    let inquiries: Vec<Inquiry> = (0..20)
        .map(|n| {
            let project = format!("p{n}");
            let missing: Vec<String> = (0..5).map(|k| format!("m{n}-{k}")).collect();
            let missing: Vec<&str> = missing.iter().map(String::as_str).collect();
            in_project(&project, &missing, vec![key_of(&project, "l")])
        })
        .collect();
    let (answers, server) = look_up_each(&inquiries, 0, |request| {
        let answer = if request.last_segment() == "l" { found("l") } else { gone() };
        answer.in_a_crowd_of(4)
    })
    .await;
    assert_eq!(answers.len(), 100);
    assert!(answers.values().all(|answer| *answer == Gone));
    assert_eq!((server.requests().len(), server.most_at_once()), (20 * 7, 4));
}

#[tokio::test]
async fn a_key_asked_for_at_two_places_is_gone_only_from_both() {
    for (at_q, told) in [(gone(), Gone), (found("m"), Present), (Reply::error(400, "x"), Unknown)] {
        let inquiries = ["p", "q"].map(|id| in_project(id, &["m"], vec![key_of(id, "l")]));
        let (answers, _) = look_up_each(&inquiries, 10, move |request| {
            match (request.segments()[1], request.last_segment()) {
                (_, "l") => found("l"),
                ("q", _) => at_q.clone(),
                _ => gone(),
            }
        })
        .await;
        assert_eq!(answers["m"], told);
    }
}

#[tokio::test]
async fn ids_that_are_no_segment_are_no_control_and_reach_nothing_else() {
    let inquiries = [
        in_project("..", &["m1"], vec![Control::Project(Arc::from(".."))]),
        in_project("", &["m2"], vec![Control::Project(Arc::from(""))]),
        in_project("../x", &[".", "a/b"], vec![key_of("../x", "l")]),
    ];
    let (answers, server) = look_up_each(&inquiries, 10, |request| match request.last_segment() {
        "l" => found("l"),
        _ => gone(),
    })
    .await;
    assert_eq!((answers["m1"], answers["m2"], answers["."]), (Unknown, Unknown, Unknown));
    assert_eq!(answers["a/b"], Gone);
    for request in server.requests() {
        assert!(matches!(
            request.segments()[..],
            ["projects", "..%2Fx", "api_keys", "l" | "a%2Fb"]
        ));
    }
}

/// How many requests it takes to settle on two keys that were found gone while the list was read.
async fn requests_after(is_vouched: [bool; 2]) -> (Vec<LookUp>, u64) {
    let server = Server::start(with_listed(|_| Reply::hanging())).await;
    let missing = ids(&["a", "b"]);
    let told = is_vouched.map(|is_vouched| Told { answer: LookUp::Gone, is_vouched });
    let early: Early = missing.iter().cloned().zip(told).collect();
    let controls = ids(&["l1", "l2"]).iter().map(admin).collect();
    let inquiry = Inquiry { place: Place::Admin, missing: missing.clone(), controls };
    let session = server.session();
    let answers = session.look_up_all(&[inquiry], None, 10, &early).await;
    (missing.iter().map(|id| answers[id]).collect(), session.traffic().requests)
}

#[tokio::test]
async fn what_was_vouched_for_before_and_after_is_not_asked_for_again() {
    let gone = vec![LookUp::Gone; 2];
    assert_eq!(requests_after([true, true]).await, (gone.clone(), 0));
    assert_eq!(requests_after([true, false]).await, (gone, 1));
}

#[tokio::test]
async fn a_project_is_not_vouched_for_by_the_admin_list() {
    let server = Server::start(|request: &Request| match request.last_segment() {
        "l1" => found("l1"),
        _ => gone(),
    })
    .await;
    let inquiry = in_project(
        "p",
        &["a"],
        vec![Control::Key(Place::Project("p".into()), ids(&["l1"])[0].clone())],
    );
    let told = Told { answer: LookUp::Gone, is_vouched: true };
    let early = Early::from([(ids(&["a"])[0].clone(), told)]);
    let session = server.session();
    let answers = session.look_up_all(&[inquiry], None, 10, &early).await;
    assert_eq!(answers[&ids(&["a"])[0]], LookUp::Gone);
    assert_eq!(session.traffic().requests, 3, "the key, and what vouches for it before and after");
}
