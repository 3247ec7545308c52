use serde_json::json;

use super::super::session::Session;
use super::super::test_server::{self, CREDENTIAL, Reply, Server, key};
use super::*;
use crate::clock::SystemClock;
use crate::inventory::KeyId;

async fn scan(session: &Session) -> Result<usize, Error> {
    session.scan(&mut |_, _| {}).await.map(|scan| scan.keys)
}

async fn scan_error(reply: Reply) -> (Error, Server) {
    let server = Server::playing(vec![reply]).await;
    let error = scan(&server.session()).await.unwrap_err();
    (error, server)
}

fn setup_error(change: impl FnOnce(&mut Options)) -> Option<Error> {
    let mut options = test_server::options("https://api.example/v1".parse().unwrap());
    change(&mut options);
    Client::new(options, CREDENTIAL, Arc::new(SystemClock)).err()
}

#[tokio::test]
async fn a_request_carries_the_credential_and_names_its_sender() {
    let server = Server::playing(vec![Reply::page(&["a"], false)]).await;
    let mut options = server.options();
    options.organization_id = Some("org-1".to_owned());
    scan(&test_server::session(options)).await.unwrap();
    let request = &server.requests()[0];
    assert_eq!(request.target, "/v1/organization/admin_api_keys?order=asc&limit=100");
    assert_eq!(request.header("authorization").unwrap(), format!("Bearer {CREDENTIAL}"));
    assert_eq!(request.header("openai-organization").unwrap(), "org-1");
    assert_eq!(request.header("accept-encoding").unwrap(), "gzip");
    let agent = request.header("user-agent").unwrap();
    assert_eq!(agent, concat!("keydrift/", env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_authorization_header_is_sensitive_and_bad_credentials_are_refused() {
    let options = test_server::options("https://api.example".parse().unwrap());
    let headers = default_headers(&options, CREDENTIAL).unwrap();
    assert!(headers[AUTHORIZATION].is_sensitive());
    assert!(!format!("{headers:?}").contains("OWNcredential"));
    for bad in ["", "line\nbreak", "nul\0"] {
        assert!(matches!(default_headers(&options, bad), Err(Error::InvalidCredential)));
    }
}

#[tokio::test]
async fn localhost_is_this_machine_without_asking_anybody() {
    let server = Server::playing(vec![Reply::page(&["a"], false)]).await;
    let mut options = server.options();
    options.base_url.set_host(Some("localhost")).unwrap();
    // On plain HTTP a proxy is never used: this one would fail.
    options.proxy = Some("http://127.0.0.1:1".parse().unwrap());
    assert_eq!(scan(&test_server::session(options)).await.unwrap(), 1);
}

#[tokio::test]
async fn a_redirect_is_named_and_not_followed() {
    let reply = Reply::raw(302, "text/html", "").with("location", "https://evil.example:8443/x?y");
    let (error, server) = scan_error(reply).await;
    assert_eq!(
        error.to_string(),
        "page 1 of the admin keys was answered with a redirect (request req_1) \
         to `evil.example:8443`, which is not followed"
    );
    assert_eq!(server.requests().len(), 1);
    let (error, _) = scan_error(Reply::raw(304, "text/html", "")).await;
    assert!(error.to_string().contains("to nowhere"), "{error}");
}

#[tokio::test]
async fn only_json_with_status_200_is_an_answer() {
    let (error, _) = scan_error(Reply::raw(200, "text/html", "<html>Log in</html>")).await;
    assert_eq!(
        error.to_string(),
        "page 1 of the admin keys was answered (request req_1) with content type `text/html` instead of JSON"
    );
    let (error, _) = scan_error(Reply::raw(200, "", "{}")).await;
    assert!(error.to_string().contains("no content type"), "{error}");
    for status in [201, 204, 206] {
        let (error, _) = scan_error(Reply::json(status, &json!({ "data": [] }))).await;
        assert!(matches!(error, Error::UnexpectedStatus { .. }), "{error}");
    }
    for content_type in
        ["application/json", "Application/JSON ; charset=x", "application/problem+json"]
    {
        let body = json!({ "data": [], "has_more": false }).to_string();
        let server = Server::playing(vec![Reply::raw(200, content_type, body)]).await;
        assert_eq!(scan(&server.session()).await.unwrap(), 0, "{content_type}");
    }
}

#[tokio::test]
async fn wrong_json_is_placed_but_not_repeated() {
    let (error, server) =
        scan_error(Reply::raw(200, "application/json", "{\"data\": [secret]}")).await;
    assert_eq!(
        error.to_string(),
        "page 1 of the admin keys is not valid JSON (request req_1): line 1, column 11"
    );
    assert_eq!(server.requests().len(), 1, "asking again would not help");
    let (error, _) = scan_error(Reply::json(200, &json!({ "object": "list" }))).await;
    assert_eq!(
        error.to_string(),
        "page 1 of the admin keys is not a list of keys (request req_1): it has no `data`"
    );
    let (error, _) =
        scan_error(Reply::json(200, &json!({ "data": [key("a"), { "id": 7 }] }))).await;
    assert_eq!(
        error.to_string(),
        "item 2 of page 1 of the admin keys is not a key (request req_1): its `id` is not a string"
    );
}

/// A gzip stream of `count` × 258 spaces, and nothing behind it.
fn gzip_of_spaces(count: usize) -> Vec<u8> {
    let mut bits: Vec<bool> = Vec::new();
    let mut push = |value: u32, len: u32, high_first: bool| {
        for n in 0..len {
            let at = if high_first { len - 1 - n } else { n };
            bits.push(value >> at & 1 == 1);
        }
    };
    push(1, 1, false); // the last block
    push(1, 2, false); // with the fixed codes
    push(0x30 + 0x20, 8, true);
    for _ in 0..count {
        push(0b1100_0101, 8, true); // 258 bytes
        push(0, 5, true); // from one byte ago
    }
    push(0, 7, true);
    let mut bytes = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    bytes
        .extend(bits.chunks(8).map(|byte| {
            byte.iter().enumerate().fold(0, |sum, (n, bit)| sum | u8::from(*bit) << n)
        }));
    bytes
}

#[tokio::test]
async fn the_cap_on_the_body_counts_decoded_bytes() {
    let bomb = gzip_of_spaces(MAX_BODY_BYTES / 258 + 10);
    assert!(bomb.len() < MAX_BODY_BYTES / 100);
    let reply = Reply::raw(200, "application/json", bomb).with("content-encoding", "gzip");
    let (error, server) = scan_error(reply).await;
    assert_eq!(
        error.to_string(),
        "the answer to page 1 of the admin keys is larger than 8388608 bytes (request req_1)"
    );
    assert_eq!(server.requests().len(), 1);
    let (error, _) =
        scan_error(Reply::raw(200, "application/json", " ".repeat(MAX_BODY_BYTES + 1))).await;
    assert!(matches!(error, Error::BodyTooLarge { .. }), "{error}");
}

#[tokio::test]
async fn each_refusal_has_its_own_error() {
    let (error, server) = scan_error(Reply::error(401, "Incorrect API key provided.")).await;
    assert_eq!(
        error.to_string(),
        "page 1 of the admin keys was refused with status 401 (request req_1): Incorrect API key provided"
    );
    assert!(error.hint().unwrap().contains("it was revoked"));
    assert!(!error.is_retryable());
    assert_eq!(server.requests().len(), 1);

    let bare = json!({ "error": "You have insufficient permissions. Missing scopes: api.management.read." });
    for status in [401, 403] {
        let (error, _) = scan_error(Reply::json(status, &bare)).await;
        assert!(error.to_string().ends_with("lacks the scope `api.management.read`"), "{error}");
        assert!(error.hint().unwrap().contains("create a new admin key"));
    }
    let (error, server) = scan_error(Reply::error(403, "No.").with("x-should-retry", "true")).await;
    assert!(matches!(error, Error::Forbidden { .. }), "{error}");
    assert_eq!(server.requests().len(), 1, "a refused credential is never tried again");

    let page = "<html><title>Bad Gateway</title></html>";
    let (error, _) = scan_error(Reply::raw(502, "text/html", page)).await;
    assert_eq!(
        error.to_string(),
        "page 1 of the admin keys failed with status 502 (request req_1): an HTML page (title `Bad Gateway`)"
    );
    assert!(error.is_retryable());
    let (error, _) = scan_error(Reply::error(429, &format!("slow down {CREDENTIAL}"))).await;
    assert!(matches!(error, Error::RateLimited { .. }), "{error}");
    assert!(!format!("{error:?}").contains("OWNcredential"));
    let (error, _) = scan_error(Reply::error(418, "teapot")).await;
    assert!(matches!(error, Error::Refused { status: 418, .. }), "{error}");
}

#[tokio::test]
async fn nobody_listening_is_unreachable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let session = test_server::session(test_server::options(base.parse().unwrap()));
    let error = scan(&session).await.unwrap_err();
    assert!(error.to_string().contains("could not reach the API for page 1"), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
    assert_eq!(session.traffic().requests, 3);
    assert_eq!(session.traffic().retries, 2);
}

#[test]
fn what_cannot_be_used_is_said_when_the_client_is_made() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = setup_error(|options| options.tls_ca_file = Some(file.path().to_owned())).unwrap();
    assert!(error.to_string().ends_with("it holds no certificate"), "{error}");
    let error = setup_error(|options| options.tls_ca_file = Some("/nowhere.pem".into())).unwrap();
    assert!(error.to_string().contains("/nowhere.pem"), "{error}");
    let error = setup_error(|options| options.organization_id = Some("a\nb".to_owned())).unwrap();
    assert!(matches!(error, Error::InvalidOrganizationId));
    let error = setup_error(|options| options.base_url = "http://api.example".parse().unwrap());
    assert!(matches!(error, Some(Error::InsecureUrl { .. })));
}

/// A server with a certificate of its own making, and that certificate.
async fn start_tls() -> (Url, String) {
    let (acceptor, pem) = test_server::tls(&[]);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("https://{}/v1", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(stream).await else {
                continue;
            };
            test_server::serve_once(stream, Reply::page(&["a"], false)).await;
        }
    });
    (base.parse().unwrap(), pem)
}

#[tokio::test]
async fn a_private_root_is_trusted_if_it_is_configured_and_not_otherwise() {
    let (base, pem) = start_tls().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pem).unwrap();
    let mut options = test_server::options(base);
    options.tls_ca_file = Some(file.path().to_owned());
    assert_eq!(scan(&test_server::session(options.clone())).await.unwrap(), 1);

    let (other_base, other_pem) = start_tls().await;
    options.base_url = other_base;
    let session = test_server::session(options);
    let error = scan(&session).await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    assert!(error.hint().unwrap().contains("tls_ca_file"));
    assert_eq!(
        session.traffic().requests,
        1,
        "a certificate does not become valid by asking again"
    );
    drop(other_pem);
}

#[tokio::test]
async fn an_id_longer_than_any_url_is_an_error_and_no_panic() {
    let server = Server::playing(vec![Reply::page(&["a"], false)]).await;
    let session = server.session();
    let id = KeyId::new(&"k".repeat(70_000)).unwrap();
    let url = session.client.endpoints.key_url(&id).unwrap();
    let error = session.fetch(url, &Subject::Key(id)).await.unwrap_err();
    assert!(matches!(error, Error::InvalidRequest { .. }), "{error:?}");
    assert!(error.to_string().len() < 300);
}

/// Runs one of the tests below in a process of its own that finds no certificates of the system.
fn run_without_certificates(test: &str) {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("openai::client::tests::{test}"), "--ignored"])
        .env("SSL_CERT_FILE", "/nowhere/certificates.pem")
        .env("SSL_CERT_DIR", "/nowhere")
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && shown.contains("1 passed"), "{shown}");
}

#[test]
fn a_machine_without_certificates_is_told_so() {
    run_without_certificates("without_certificates");
}

#[tokio::test]
#[ignore = "run by `a_machine_without_certificates_is_told_so`, with its environment"]
async fn without_certificates() {
    let error = setup_error(|_| {}).unwrap();
    assert_eq!(error.to_string(), "no CA certificates were found on this machine");
    assert!(error.hint().unwrap().contains("ca-certificates"));
    // Neither loopback nor a root of one's own needs any.
    let server = Server::playing(vec![Reply::page(&["a"], false)]).await;
    assert_eq!(scan(&server.session()).await.unwrap(), 1);
    let (base, pem) = start_tls().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pem).unwrap();
    let mut options = test_server::options(base);
    options.tls_ca_file = Some(file.path().to_owned());
    assert_eq!(scan(&test_server::session(options)).await.unwrap(), 1);
}

#[tokio::test]
async fn the_last_answer_tells_how_far_the_clocks_are_apart() {
    // The clock of the tests stands still at 12:29:00.
    for (date, skew) in [
        (Some("Mon, 23 Nov 2026 12:29:07 GMT"), Some(7)),
        (Some("Mon, 23 Nov 2026 12:27:00 GMT"), Some(-120)),
        (Some("yesterday"), None),
        (None, None),
    ] {
        let page = Reply::page(&["a"], false);
        let reply = match date {
            Some(date) => page.with("date", date),
            None => page,
        };
        let server = Server::playing(vec![reply]).await;
        let session = server.session();
        assert_eq!(session.clock_skew(), None);
        scan(&session).await.unwrap();
        assert_eq!(session.clock_skew(), skew, "{date:?}");
    }
    // A refusal has a date, too, and an answer without one changes nothing.
    let server = Server::playing(vec![
        Reply::error(500, "x").with("date", "Mon, 23 Nov 2026 12:30:00 GMT"),
        Reply::page(&["a"], false),
    ])
    .await;
    let session = server.session();
    scan(&session).await.unwrap();
    assert_eq!(session.clock_skew(), Some(60));
}
