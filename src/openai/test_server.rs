//! A scripted HTTP server on loopback, close to the bytes.

use std::fmt::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use url::Url;

use super::client::{Client, Options};
use super::retry::Backoff;
use super::session::Session;
use crate::clock::{ManualClock, Timestamp};

pub(super) const CREDENTIAL: &str = "sk-admin-OWNcredential0123456789wxyz";
/// 2026-11-23T12:29:00Z
pub(super) const NOW: i64 = 1_795_436_940;

/// The head of a request.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) target: String,
    pub(super) head: String,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<String> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    }

    /// The path's last segment, still encoded.
    pub(super) fn last_segment(&self) -> &str {
        self.target.split('?').next().unwrap().rsplit('/').next().unwrap()
    }

    pub(super) fn query(&self, name: &str) -> Option<String> {
        self.queries(name).into_iter().next()
    }

    pub(super) fn queries(&self, name: &str) -> Vec<String> {
        let url = Url::parse("http://x").unwrap().join(&self.target).unwrap();
        let named = url.query_pairs().filter(|(key, _)| key == name);
        named.map(|(_, value)| value.into_owned()).collect()
    }

    /// The path's segments below the organization, still encoded.
    pub(super) fn segments(&self) -> Vec<&str> {
        let path = self.target.split('?').next().unwrap();
        path.strip_prefix("/v1/organization/").unwrap().split('/').collect()
    }
}

/// An answer in the making.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    hangs: bool,
    /// How many bytes of the body are left out.
    cut: usize,
    /// It waits until this many requests have been under way at once.
    crowd: usize,
}

impl Reply {
    pub(super) fn raw(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let headers = vec![
            ("content-type".to_owned(), content_type.to_owned()),
            ("x-request-id".to_owned(), "req_1".to_owned()),
        ];
        Self { status, headers, body: body.into(), hangs: false, cut: 0, crowd: 0 }
    }

    pub(super) fn json(status: u16, body: &Value) -> Self {
        Self::raw(status, "application/json; charset=utf-8", body.to_string())
    }

    pub(super) fn error(status: u16, message: &str) -> Self {
        Self::json(status, &json!({ "error": { "message": message, "type": "x", "param": null } }))
    }

    /// A page of keys, each a second younger than the one before in the alphabet of ids.
    pub(super) fn page(ids: &[&str], has_more: bool) -> Self {
        let data: Vec<Value> = ids.iter().map(|id| key(id)).collect();
        Self::json(200, &json!({ "object": "list", "data": data, "has_more": has_more }))
    }

    pub(super) fn hanging() -> Self {
        Self { hangs: true, ..Self::raw(200, "application/json", "") }
    }

    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(super) fn cut_by(mut self, bytes: usize) -> Self {
        self.cut = bytes;
        self
    }

    pub(super) fn in_a_crowd_of(mut self, requests: usize) -> Self {
        self.crowd = requests;
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} Whatever\r\nconnection: close\r\n", self.status);
        for (name, value) in &self.headers {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        write!(head, "content-length: {}\r\n\r\n", self.body.len()).unwrap();
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&self.body[..self.body.len() - self.cut]);
        bytes
    }
}

/// A key whose age follows from its id.
pub(super) fn key(id: &str) -> Value {
    let created_at = 1_700_000_000 + i64::from(id.bytes().last().unwrap());
    json!({ "id": id, "object": "organization.admin_api_key", "name": id, "created_at": created_at })
}

/// Counts the requests that are under way at once.
pub(super) struct Crowd {
    now: AtomicUsize,
    most: watch::Sender<usize>,
}

impl Crowd {
    fn new() -> Self {
        Self { now: AtomicUsize::new(0), most: watch::Sender::new(0) }
    }

    fn enter(&self) {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.send_if_modified(|most| {
            let more = now > *most;
            *most = now.max(*most);
            more
        });
    }

    fn leave(&self) {
        self.now.fetch_sub(1, Ordering::SeqCst);
    }

    async fn gathered(&self, requests: usize) {
        self.most.subscribe().wait_for(|most| *most >= requests).await.unwrap();
        // Whoever else is coming comes now.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }
}

type Script = Box<dyn FnMut(&Request) -> Reply + Send>;

/// Answers each request as its script says and remembers it.
pub(super) struct Server {
    pub(super) base: Url,
    requests: Arc<Mutex<Vec<Request>>>,
    crowd: Arc<Crowd>,
}

impl Server {
    pub(super) async fn start(script: impl FnMut(&Request) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/v1", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(Box::new(script)));
        let crowd = Arc::new(Crowd::new());
        let server = Self {
            base: base.parse().unwrap(),
            requests: Arc::clone(&requests),
            crowd: Arc::clone(&crowd),
        };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, requests) = (Arc::clone(&script), Arc::clone(&requests));
                let crowd = Arc::clone(&crowd);
                tokio::spawn(async move { serve(stream, &script, &requests, &crowd).await });
            }
        });
        server
    }

    /// Answers with these, one after the other, and with the last for ever.
    pub(super) async fn playing(replies: Vec<Reply>) -> Self {
        let mut at = 0;
        Self::start(move |_| {
            let reply = replies[at.min(replies.len() - 1)].clone();
            at += 1;
            reply
        })
        .await
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// The most requests that were under way at once.
    pub(super) fn most_at_once(&self) -> usize {
        *self.crowd.most.borrow()
    }

    pub(super) fn options(&self) -> Options {
        options(self.base.clone())
    }

    pub(super) fn session(&self) -> Session {
        session(self.options())
    }
}

pub(super) async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    script: &Mutex<Script>,
    requests: &Mutex<Vec<Request>>,
    crowd: &Crowd,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let target = head.split(' ').nth(1).unwrap().to_owned();
    assert!(head.starts_with("GET "), "only GET may be sent");
    let request = Request { target, head };
    requests.lock().unwrap().push(request.clone());
    crowd.enter();
    let reply = (script.lock().unwrap())(&request);
    if reply.hangs {
        std::future::pending::<()>().await;
    }
    crowd.gathered(reply.crowd).await;
    crowd.leave();
    // The client may have gone.
    drop(stream.write_all(&reply.bytes()).await);
    drop(stream.shutdown().await);
}

/// What makes TLS of a connection, offering these protocols, with a certificate of its own making; and that
/// certificate.
pub(super) fn tls(protocols: &[&str]) -> (TlsAcceptor, String) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let mut config = config.with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    (TlsAcceptor::from(Arc::new(config)), made.cert.pem())
}

pub(super) fn options(base_url: Url) -> Options {
    Options {
        base_url,
        organization_id: None,
        page_size: 100,
        side_by_side: true,
        max_concurrency: 4,
        connect_timeout: Duration::from_secs(5),
        read_timeout: Duration::from_secs(20),
        request_timeout: Duration::from_secs(20),
        run_deadline: Duration::from_mins(1),
        max_attempts: 3,
        proxy: None,
        tls_ca_file: None,
    }
}

/// A session that does not wait between attempts unless it is told to.
pub(super) fn session(options: Options) -> Session {
    let clock = Arc::new(ManualClock::new(Timestamp::from_unix(NOW).unwrap()));
    let mut client = Client::new(options, CREDENTIAL, clock).unwrap();
    client.backoff = Backoff { first: Duration::ZERO, longest: Duration::ZERO };
    Session::new(Arc::new(client))
}

/// Answers one request, whatever it asks, on a stream of any kind.
pub(super) async fn serve_once(stream: impl AsyncRead + AsyncWrite + Unpin, reply: Reply) {
    let script: Mutex<Script> = Mutex::new(Box::new(move |_| reply.clone()));
    serve(stream, &script, &Mutex::new(Vec::new()), &Crowd::new()).await;
}
