use serde_json::json;

use super::super::test_server::{self, Reply, Request, Server, key};
use super::*;

async fn scan_all(session: &Session) -> Result<(Vec<String>, Scan), Error> {
    let mut ids = Vec::new();
    let scan = session
        .scan(&mut |keys, progress| {
            ids.extend(keys.iter().map(|seen| seen.key.id.as_str().to_owned()));
            assert_eq!(progress.keys, ids.len());
        })
        .await?;
    assert_eq!(scan.keys, ids.len());
    Ok((ids, scan))
}

async fn scan_of(
    script: impl FnMut(&Request) -> Reply + Send + 'static,
) -> (Result<(Vec<String>, Scan), Error>, Server) {
    let server = Server::start(script).await;
    let result = scan_all(&server.session()).await;
    (result, server)
}

async fn scan_playing(replies: Vec<Reply>) -> (Result<(Vec<String>, Scan), Error>, Server) {
    let server = Server::playing(replies).await;
    let result = scan_all(&server.session()).await;
    (result, server)
}

/// What the server does with a cursor that is gone.
#[derive(Debug, Clone, Copy)]
enum Vanished {
    Status(u16),
    Empty { has_more: bool },
    FromTheStart,
}

/// The keys `a` to `z`; `l` is deleted when it has become the cursor.
fn letters_without_l(vanished: Vanished, sends_has_more: bool) -> impl FnMut(&Request) -> Reply {
    let mut letters: Vec<String> = ('a'..='z').map(String::from).collect();
    move |request| {
        let after = request.query("after");
        let limit: usize = request.query("limit").unwrap().parse().unwrap();
        if after.as_deref() == Some("l") {
            letters.retain(|letter| letter != "l");
        }
        let at = after.as_ref().map(|after| letters.iter().position(|letter| letter == after));
        let from = match (at, vanished) {
            (None, _) | (Some(None), Vanished::FromTheStart) => 0,
            (Some(Some(at)), _) => at + 1,
            (Some(None), Vanished::Status(status)) => return Reply::error(status, "no such key"),
            (Some(None), Vanished::Empty { has_more }) => {
                return Reply::json(
                    200,
                    &json!({ "data": [], "has_more": sends_has_more.then_some(has_more) }),
                );
            }
        };
        let data: Vec<_> = letters[from..].iter().take(limit).map(|id| key(id)).collect();
        let more = from + data.len() < letters.len();
        Reply::json(200, &json!({ "data": data, "has_more": sends_has_more.then_some(more) }))
    }
}

#[tokio::test]
async fn a_cursor_deleted_in_mid_scan_loses_no_key_however_the_server_takes_it() {
    let ways = [400, 404, 410, 422].map(Vanished::Status).into_iter().chain([
        Vanished::Empty { has_more: true },
        Vanished::Empty { has_more: false },
        Vanished::FromTheStart,
    ]);
    for vanished in ways {
        for (page_size, sends_has_more) in [(1, true), (3, true), (4, true), (12, true), (4, false)]
        {
            let server = Server::start(letters_without_l(vanished, sends_has_more)).await;
            let mut options = server.options();
            options.page_size = page_size;
            let result = scan_all(&test_server::session(options)).await;
            let (ids, scan) = result.unwrap_or_else(|e| panic!("{vanished:?} {page_size}: {e}"));
            assert_eq!(ids, ('a'..='z').map(String::from).collect::<Vec<_>>(), "{vanished:?}");
            assert_eq!(scan.restarts, 0, "{vanished:?} {page_size}");
            // With pages of 3, `l` is a cursor too.
            assert!(!sends_has_more || scan.lost_cursors > 0, "{vanished:?} {page_size}");
        }
    }
}

#[tokio::test]
async fn pages_are_asked_for_after_the_last_item_and_last_id_is_not_read() {
    let first = json!({ "data": [key("a"), key("b")], "has_more": true, "last_id": "zzz" });
    let (result, server) =
        scan_playing(vec![Reply::json(200, &first), Reply::page(&["c"], false)]).await;
    let (ids, scan) = result.unwrap();
    assert_eq!(ids, ["a", "b", "c"]);
    assert_eq!((scan.pages, scan.shifts, scan.lost_cursors), (2, 0, 0));
    assert_eq!(server.requests()[1].query("after").unwrap(), "b");
    assert_eq!(server.requests()[1].query("order").unwrap(), "asc");
}

#[tokio::test]
async fn an_id_with_odd_characters_is_a_good_cursor() {
    let odd = "a b/c?d&e\"ü\u{1b}[31m";
    let first = json!({ "data": [key(odd)], "has_more": true });
    let (result, server) = scan_playing(vec![
        Reply::json(200, &first),
        Reply::json(200, &json!({ "data": [], "has_more": false })),
        Reply::json(200, &json!({ "data": [key(odd)], "has_more": false })),
    ])
    .await;
    assert_eq!(result.unwrap().0, [odd]);
    assert_eq!(server.requests()[1].query("after").unwrap(), odd);
}

#[tokio::test]
async fn an_endless_repetition_ends_in_an_error() {
    for reply in
        [Reply::page(&["a", "b"], true), Reply::json(200, &json!({ "data": [], "has_more": true }))]
    {
        let (result, server) = scan_playing(vec![reply]).await;
        let error = result.unwrap_err();
        assert!(matches!(error, Error::LostCursor { .. }), "{error}");
        assert!(server.requests().len() < 40, "{}", server.requests().len());
    }
    let replies = vec![Reply::page(&["a", "b"], true), Reply::error(404, "x")];
    let (result, _) = scan_playing(replies).await;
    let error = result.unwrap_err().to_string();
    // The list cannot even be begun again.
    assert!(error.contains("was refused with status 404"), "{error}");
}

#[tokio::test]
async fn a_lost_place_names_page_cursor_and_request() {
    let (result, _) = scan_of(|request| match request.query("after") {
        None => Reply::page(&["a", "b"], true),
        Some(_) => Reply::error(404, "no such key"),
    })
    .await;
    let error = result.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the list could not be followed past key `a`: at page 5 of the admin keys (request req_1), \
         the cursor was refused with status 404, and going back did not help"
    );
}

#[tokio::test]
async fn the_newest_key_first_is_an_error() {
    let (result, _) = scan_playing(vec![Reply::page(&["c", "b"], true)]).await;
    assert!(matches!(result, Err(Error::WrongOrder { .. })));
}

#[tokio::test]
async fn a_refused_page_size_falls_back_to_smaller_ones_and_then_to_none() {
    for (accepted, tried) in [
        (Some("50"), vec![Some("100"), Some("50")]),
        (Some("20"), vec![Some("100"), Some("50"), Some("20")]),
        (None, vec![Some("100"), Some("50"), Some("20"), None]),
    ] {
        let (result, server) = scan_of(move |request| {
            if request.query("limit").as_deref() == accepted {
                let ids = if request.query("after").is_some() { ["b"] } else { ["a"] };
                return Reply::page(&ids, ids == ["a"]);
            }
            Reply::error(400, "Invalid 'limit'")
        })
        .await;
        assert_eq!(result.unwrap().0, ["a", "b"]);
        let limits: Vec<_> = server.requests().iter().map(|r| r.query("limit")).collect();
        let mut tried: Vec<_> = tried.into_iter().map(|limit| limit.map(str::to_owned)).collect();
        tried.push(accepted.map(str::to_owned));
        assert_eq!(limits, tried);
    }
    let mut at = 0;
    let (result, server) = scan_of(move |_| {
        at += 1;
        Reply::error(422, "no").with("x-request-id", &format!("req_{at}"))
    })
    .await;
    assert_eq!(server.requests().len(), 4);
    assert_eq!(result.unwrap_err().request_id(), Some("req_1"), "the first refusal counts");
}

#[tokio::test]
async fn answers_from_two_organizations_are_no_scan() {
    let org = "openai-organization";
    let (result, _) = scan_playing(vec![
        Reply::page(&["a"], true).with(org, "org-1"),
        Reply::page(&["b"], true).with(org, "org-1"),
        Reply::page(&["c"], true).with(org, "org-1"),
        Reply::page(&["d"], false).with(org, "org-2"),
    ])
    .await;
    assert_eq!(
        result.unwrap_err().to_string(),
        "page 4 of the admin keys came from organization `org-2`, \
         the pages before it from `org-1` (request req_1)"
    );
    let (result, _) = scan_playing(vec![
        Reply::page(&["a"], true).with(org, "org-1"),
        Reply::page(&["b"], false),
    ])
    .await;
    assert_eq!(result.unwrap().1.organization.as_deref(), Some("org-1"));
}

#[tokio::test]
async fn an_empty_list_is_a_scan_and_so_is_one_without_has_more() {
    let (result, _) = scan_playing(vec![Reply::page(&[], false)]).await;
    assert!(result.unwrap().0.is_empty());
    let (result, server) = scan_of(|request| {
        let ids = match request.query("after").as_deref() {
            None => vec![key("a"), key("b")],
            Some("a") => vec![key("b")],
            Some(_) => vec![],
        };
        Reply::json(200, &json!({ "data": ids }))
    })
    .await;
    let (ids, scan) = result.unwrap();
    assert_eq!(ids, ["a", "b"]);
    assert_eq!((scan.lost_cursors, server.requests().len()), (0, 3));
}

#[tokio::test]
async fn warnings_of_all_pages_are_summed_up() {
    let leaky = |id: &str, more: bool| {
        let mut item = key(id);
        item["value"] = json!("sk-admin-FULLsecret0123456789abcdefgh");
        Reply::json(200, &json!({ "data": [item], "has_more": more }))
    };
    let (result, _) = scan_playing(vec![leaky("a", true), leaky("b", false)]).await;
    assert_eq!(result.unwrap().1.warnings.values_dropped, 2);
}

#[tokio::test]
async fn a_failure_in_mid_scan_names_its_page_and_the_traffic_stays_readable() {
    let server =
        Server::playing(vec![Reply::page(&["a"], true), Reply::error(401, "revoked")]).await;
    let session = server.session();
    let error = scan_all(&session).await.unwrap_err();
    assert!(error.to_string().starts_with("page 2 of the admin keys was refused"), "{error}");
    assert_eq!((session.traffic().requests, session.traffic().pages), (2, 1));
}

#[tokio::test]
async fn a_scan_can_run_on_another_thread() {
    let server = Server::playing(vec![Reply::page(&["a"], false)]).await;
    let session = server.session();
    let scanning = tokio::spawn(async move { session.scan(&mut |_, _| {}).await.map(|s| s.keys) });
    assert_eq!(scanning.await.unwrap().unwrap(), 1);
}
