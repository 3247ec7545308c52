use std::io::Write;
use std::sync::Mutex;

use serde_json::json;

use super::super::test_server::{self, CREDENTIAL, NOW, Reply, Server};
use super::*;
use crate::clock::Timestamp;

async fn scan(session: &Session) -> Result<usize, Error> {
    session.scan(&mut |_, _| {}).await.map(|scan| scan.keys)
}

/// What a scan comes to if this is the first answer and a good page the second.
async fn after(first: Reply) -> (Result<usize, Error>, Traffic) {
    let server = Server::playing(vec![first, Reply::page(&["a"], false)]).await;
    let session = server.session();
    (scan(&session).await, session.traffic())
}

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    let body = json!({ "data": [], "has_more": false }).to_string();
    for first in [
        Reply::error(408, "x"),
        Reply::error(409, "x"),
        Reply::error(429, "x").with("retry-after-ms", "1"),
        Reply::error(500, "x").with("retry-after", "0"),
        Reply::raw(503, "text/html", "<html>"),
        Reply::error(404, "x").with("x-should-retry", "true"),
        Reply::page(&["a"], false).cut_by(5),
        Reply::raw(200, "application/json", &body[..9]),
        Reply::raw(200, "application/json", "not gzip").with("content-encoding", "gzip"),
    ] {
        let (result, traffic) = after(first.clone()).await;
        assert_eq!(result.unwrap(), 1, "{first:?}");
        assert_eq!(traffic, Traffic { requests: 2, retries: 1, pages: 1 }, "{first:?}");
    }
}

#[tokio::test]
async fn what_does_not_pass_is_not_tried_again() {
    for first in [
        Reply::error(401, "x"),
        Reply::error(403, "x"),
        Reply::error(404, "x"),
        Reply::error(500, "x").with("x-should-retry", "false"),
        Reply::raw(301, "text/html", ""),
    ] {
        let (result, traffic) = after(first.clone()).await;
        assert!(result.is_err(), "{first:?}");
        assert_eq!(traffic, Traffic { requests: 1, retries: 0, pages: 0 }, "{first:?}");
    }
}

#[tokio::test]
async fn attempts_are_bounded() {
    let server = Server::playing(vec![Reply::error(503, "overloaded")]).await;
    let session = server.session();
    let error = scan(&session).await.unwrap_err();
    assert!(matches!(error, Error::ServerFault { status: 503, .. }), "{error}");
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn an_attempt_that_hangs_is_given_up_and_repeated() {
    let server = Server::playing(vec![Reply::hanging(), Reply::page(&["a"], false)]).await;
    for read_alone in [true, false] {
        let mut options = server.options();
        if read_alone {
            options.read_timeout = Duration::from_millis(50);
        } else {
            options.request_timeout = Duration::from_millis(50);
        }
        assert_eq!(scan(&test_server::session(options)).await.unwrap(), 1);
    }
}

#[tokio::test]
async fn a_wait_that_no_run_can_afford_ends_it_at_once() {
    for (name, value, until) in [
        ("retry-after", "300", NOW + 300),
        ("retry-after-ms", "120500", NOW + 121),
        ("retry-after", "Mon, 23 Nov 2026 13:29:00 GMT", NOW + 3600),
    ] {
        let (result, traffic) = after(Reply::error(429, "x").with(name, value)).await;
        let error = result.unwrap_err();
        assert_eq!(error.deferred_until().unwrap().unix(), until, "{name}: {value}: {error}");
        assert_eq!(traffic.requests, 1);
        assert!(error.is_retryable());
        assert_eq!(error.request_id(), Some("req_1"));
    }
    // 100 s are fine in themselves, but not in a run of 60 s.
    let (result, _) = after(Reply::error(429, "x").with("retry-after", "100")).await;
    assert!(matches!(result, Err(Error::Deferred { .. })));
}

#[tokio::test]
async fn a_wait_that_is_asked_for_in_the_end_holds_for_the_next_run() {
    let scan_once = |reply: Reply| async move {
        let server = Server::playing(vec![reply]).await;
        let mut options = server.options();
        options.max_attempts = 1;
        scan(&test_server::session(options)).await.unwrap_err()
    };
    for (reply, until) in [
        (Reply::error(429, "x").with("retry-after", "20"), NOW + 20),
        (Reply::error(429, "x").with("retry-after", "110"), NOW + 110),
        (Reply::error(503, "x").with("retry-after-ms", "1500"), NOW + 2),
        (Reply::error(404, "x").with("retry-after", "20"), NOW + 20),
        (
            Reply::error(503, "x").with("retry-after", "20").with("x-should-retry", "false"),
            NOW + 20,
        ),
    ] {
        let error = scan_once(reply.clone()).await;
        let deferred = error.deferred_until().map(Timestamp::unix);
        assert_eq!(deferred, Some(until), "{reply:?}: {error}");
    }
    for reply in [
        Reply::error(429, "x"),
        Reply::error(429, "x").with("retry-after", "1"),
        // The next run may have another credential.
        Reply::error(401, "x").with("retry-after", "20"),
        Reply::error(403, "x").with("retry-after", "20"),
    ] {
        let error = scan_once(reply.clone()).await;
        assert_eq!(error.deferred_until(), None, "{reply:?}: {error}");
    }
}

#[tokio::test]
async fn the_deadline_ends_a_run_that_hangs_and_names_the_page() {
    let replies = vec![Reply::page(&["a"], true), Reply::hanging()];
    let server = Server::playing(replies).await;
    let mut options = server.options();
    options.run_deadline = Duration::from_millis(200);
    let session = test_server::session(options);
    let error = scan(&session).await.unwrap_err();
    assert_eq!(error.to_string(), "the run's time of 200ms was over at page 2 of the admin keys");
    assert!(error.is_retryable());
    // And nothing is asked any more.
    let requests = server.requests().len();
    assert!(matches!(scan(&session).await, Err(Error::DeadlineExceeded { .. })));
    assert_eq!(server.requests().len(), requests);
}

/// What is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_log_tells_of_pages_and_retries_and_of_no_secret() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    // As long as there is one subscriber alone, a place in the code that another test's thread reaches first is
    // taken for one that nobody listens to, here neither.
    let another = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default());
    let guard = tracing::subscriber::set_default(subscriber);
    let echo = format!("no, {CREDENTIAL}");
    let server = Server::playing(vec![
        Reply::error(500, &echo).with("retry-after-ms", "2"),
        Reply::page(&["a"], true),
        Reply::error(404, &echo),
        Reply::error(401, &echo),
    ])
    .await;
    let session = server.session();
    let error = scan(&session).await.unwrap_err();
    drop((guard, another));
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(!text.contains("OWNcredential"), "{text}");
    assert!(!format!("{error} {error:?}").contains("OWNcredential"));
    for part in [
        "openai.list_page{page.index=1}",
        "page 1 of the admin keys failed at the API, trying again http.status=500 \
         http.request_id=\"req_1\" attempt=1 retry_after_ms=2",
        "page.index=1 page.keys=1 http.status=200 http.request_id=\"req_1\" duration_ms=",
        "the cursor was refused, as if its key were gone; going back",
    ] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
}
