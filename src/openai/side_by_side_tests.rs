//! Listing side by side over HTTP, against the simulated organization.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::super::test_server;
use super::*;
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::inventory::LookUp;
use crate::openai::{Client, Options};
use crate::sim::{ANY_PORT, Churn, Endpoint, Fault, Matcher, Organization, Server, VanishedCursor};

/// Keeps what it is given.
#[derive(Default)]
struct Keeper {
    keys: BTreeMap<String, usize>,
    /// What a snapshot had, with the ages.
    known: Vec<(KeyId, i64)>,
    asked: usize,
    /// Until when answers wait for it.
    ready_at: Option<tokio::time::Instant>,
}

impl Audience for Keeper {
    fn ready(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let ready_at = self.ready_at;
        async move {
            if let Some(ready_at) = ready_at {
                tokio::time::sleep_until(ready_at).await;
            }
        }
        .boxed()
    }

    fn take(&mut self, sightings: Vec<Sighting>, _: ScanProgress) {
        for sighting in sightings {
            *self.keys.entry(sighting.key.id.to_string()).or_default() += 1;
        }
    }

    fn missing(&mut self, until: Option<&Boundary>) -> Vec<(Scope, KeyId)> {
        let until = until.map_or(i64::MAX, |boundary| boundary.created_at.unix());
        let end = self.known.partition_point(|(_, created)| *created <= until);
        let part = self.asked..end.max(self.asked);
        self.asked = part.end;
        let missing =
            self.known[part].iter().filter(|(id, _)| !self.keys.contains_key(id.as_str()));
        missing.map(|(id, _)| (Scope::Admin, id.clone())).collect()
    }

    fn listed(&self, _: Scope) -> Option<KeyId> {
        self.keys.keys().next().and_then(|id| KeyId::new(id))
    }
}

fn session(server: &Server, at_once: usize) -> Session {
    session_with(server, options(&server.base_url(), at_once))
}

fn session_with(server: &Server, options: Options) -> Session {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let client = Client::new(options, &server.organization().credential(), clock).unwrap();
    Session::new(Arc::new(client))
}

fn options(base_url: &str, at_once: usize) -> Options {
    Options {
        page_size: 10,
        max_concurrency: at_once,
        read_timeout: Duration::from_secs(5),
        request_timeout: Duration::from_secs(5),
        ..test_server::options(base_url.parse().unwrap())
    }
}

/// The keys of an organization and when they were made, oldest first.
fn snapshot(server: &Server) -> Vec<(KeyId, i64)> {
    server.organization().with(|organization| {
        let keys = organization.keys().map(|key| {
            let id = KeyId::new(key["id"].as_str().unwrap()).unwrap();
            (id, key["created_at"].as_i64().unwrap())
        });
        let mut keys: Vec<(KeyId, i64)> = keys.collect();
        keys.sort_by_key(|(_, created)| *created);
        keys
    })
}

/// Every so many of them whose second is theirs alone.
fn boundaries(known: &[(KeyId, i64)], every: usize) -> Vec<Boundary> {
    let alone = |at: usize| {
        at + 1 < known.len() && known[at - 1].1 < known[at].1 && known[at].1 < known[at + 1].1
    };
    let some = (1..known.len()).filter(|at| (at + 1).is_multiple_of(every) && alone(*at));
    some.map(|at| Boundary {
        id: known[at].0.clone().into(),
        created_at: Timestamp::from_unix(known[at].1).unwrap(),
    })
    .collect()
}

async fn scan(server: &Server, at_once: usize, known: &[(KeyId, i64)]) -> (Scan, Early, Keeper) {
    scan_in(&session(server, at_once), known).await
}

async fn scan_in(session: &Session, known: &[(KeyId, i64)]) -> (Scan, Early, Keeper) {
    let mut keeper = Keeper { known: known.to_vec(), ..Keeper::default() };
    let opening = session.open_scan().await.unwrap();
    let scanned = session.scan_side_by_side(opening, boundaries(known, 10), &mut keeper).await;
    let (scan, early) = scanned.unwrap();
    (scan, early, keeper)
}

fn ids(server: &Server) -> Vec<String> {
    let mut ids: Vec<String> =
        server.organization().with(|organization| organization.ids().map(str::to_owned).collect());
    ids.sort();
    ids
}

fn start(keys: usize) -> Server {
    Server::start(Organization::generate(3, keys), ANY_PORT).unwrap()
}

#[tokio::test]
async fn an_unchanged_organization_is_listed_with_as_many_requests_as_it_has_pages() {
    let server = start(200);
    let known = snapshot(&server);
    server.organization().set_latency(Duration::from_millis(30));
    let (scan, early, keeper) = scan(&server, 6, &known).await;
    assert_eq!(keeper.keys.keys().cloned().collect::<Vec<_>>(), ids(&server));
    assert!(keeper.keys.values().all(|times| *times == 1));
    assert_eq!(scan.keys, 200);
    assert!(early.is_empty());
    let requests = server.organization().count(Endpoint::List);
    let segments = boundaries(&known, 10).len() + 1;
    assert!(requests <= segments.max(20) + 1, "{requests} for {segments} segments");
    assert_eq!(server.organization().most_in_flight(), 6);
}

#[tokio::test]
async fn answers_wait_for_whoever_takes_them() {
    let server = start(1_000);
    let known = snapshot(&server);
    let ready_at = Some(tokio::time::Instant::now() + Duration::from_millis(300));
    let mut keeper = Keeper { known: known.clone(), ready_at, ..Keeper::default() };
    let session = session(&server, 4);
    let opening = session.open_scan().await.unwrap();
    let boundaries = boundaries(&known, 10);
    let (scan, _) = session.scan_side_by_side(opening, boundaries, &mut keeper).await.unwrap();
    assert_eq!(scan.keys, 1_000);
    assert_eq!(keeper.keys.keys().cloned().collect::<Vec<_>>(), ids(&server));
    assert!(keeper.keys.values().all(|times| *times == 1));
}

#[tokio::test]
async fn what_is_gone_is_looked_up_while_the_list_is_read() {
    let server = start(200);
    let known = snapshot(&server);
    let gone = [known[15].0.clone(), known[19].0.clone(), known[120].0.clone()];
    server.organization().with(|organization| {
        for id in &gone {
            assert!(organization.remove(id.as_str()));
        }
    });
    for vanished in [
        VanishedCursor::NotFound404,
        VanishedCursor::BadRequest400,
        VanishedCursor::EmptyPage,
        VanishedCursor::FromTheBeginning,
        VanishedCursor::Continues,
    ] {
        server.organization().with(|organization| organization.paging.vanished_cursor = vanished);
        let (_, early, keeper) = scan(&server, 4, &known).await;
        assert_eq!(keeper.keys.keys().cloned().collect::<Vec<_>>(), ids(&server), "{vanished:?}");
        assert_eq!(early.len(), 3, "{vanished:?}");
        assert!(gone.iter().all(|id| early[id].answer == LookUp::Gone), "{vanished:?}");
    }
}

/// Takes the answers of everything that is asked for.
async fn answer_all(asking: &mut Asking<'_>, keeper: &Keeper) {
    while !asking.is_idle() {
        asking.ask(4, keeper);
        if let Some((question, answer)) = asking.under_way.next().await {
            asking.take(question, answer);
        }
    }
}

#[tokio::test]
async fn what_vouched_before_vouches_once_more_where_there_is_time() {
    let server = start(60);
    let known = snapshot(&server);
    let gone: Vec<KeyId> = [3, 40, 41].map(|at: usize| known[at].0.clone()).to_vec();
    let mut keeper = Keeper::default();
    keeper.keys.insert(known[7].0.to_string(), 1);
    server.organization().with(|organization| {
        for id in &gone {
            organization.remove(id.as_str());
        }
    });
    let session = session(&server, 4);
    let mut asking = Asking::new(&session, None);
    asking.queue.extend(gone[..2].iter().map(|id| (Scope::Admin, id.clone())));
    asking.close();
    assert!(asking.under_way.is_empty(), "others are to be asked for");
    answer_all(&mut asking, &keeper).await;
    assert!(gone[..2].iter().all(|id| !asking.told[id].is_vouched));
    asking.close();
    assert_eq!(asking.under_way.len(), 1);
    // What is told behind it is not what it vouches for.
    asking.queue.push_back((Scope::Admin, gone[2].clone()));
    answer_all(&mut asking, &keeper).await;
    let vouched: Vec<bool> = gone.iter().map(|id| asking.told[id].is_vouched).collect();
    assert_eq!(vouched, [true, true, false]);
    server.organization().fault(Matcher::retrieve(), Fault::status(404));
    asking.close();
    answer_all(&mut asking, &keeper).await;
    assert!(!asking.told[&gone[2]].is_vouched);
    asking.close();
    assert!(asking.is_idle(), "nothing is left that could vouch");
}

#[tokio::test]
async fn nothing_is_told_where_what_is_listed_cannot_be_looked_up() {
    let server = start(60);
    let known = snapshot(&server);
    server.organization().with(|organization| organization.remove(known[15].0.as_str()));
    server.organization().fault(Matcher::retrieve(), Fault::status(404));
    let (_, early, _) = scan(&server, 4, &known).await;
    assert!(early.is_empty());
    // The controls of both kinds of keys, and no more.
    assert_eq!(server.organization().count(Endpoint::Retrieve), 2);
}

#[tokio::test]
async fn without_a_snapshot_the_ends_meet() {
    let server = start(205);
    server.organization().set_latency(Duration::from_millis(20));
    let (scan, _, keeper) = scan(&server, 4, &[]).await;
    assert_eq!(keeper.keys.keys().cloned().collect::<Vec<_>>(), ids(&server));
    assert!(keeper.keys.values().all(|times| *times == 1));
    assert_eq!(scan.keys, 205);
    assert_eq!(server.organization().most_in_flight(), 2);
    assert!(server.organization().count(Endpoint::List) <= 21 + 2);
    let requests = server.organization().requests();
    let newest = requests.iter().filter(|it| it.parameters("order") == ["desc"]).count();
    assert!((8..=12).contains(&newest), "{newest} from the other end");
}

#[tokio::test]
async fn a_server_that_does_not_list_the_newest_first_is_read_from_its_beginning() {
    let server = start(95);
    server.organization().fault(Matcher::list().nth(2), Fault::OtherOrder);
    let (_, _, keeper) = scan(&server, 4, &[]).await;
    assert_eq!(keeper.keys.keys().cloned().collect::<Vec<_>>(), ids(&server));
    assert!(keeper.keys.values().all(|times| *times == 1));
}

#[tokio::test]
async fn every_lasting_key_is_listed_whatever_happens_between_two_requests() {
    for seed in 0..40 {
        let server = start(130);
        let known = snapshot(&server);
        let vanished = [
            VanishedCursor::NotFound404,
            VanishedCursor::EmptyPage,
            VanishedCursor::FromTheBeginning,
            VanishedCursor::Continues,
        ][usize::try_from(seed % 4).unwrap()];
        server.organization().with(|organization| {
            organization.paging.vanished_cursor = vanished;
            for (id, _) in known.iter().skip(5).step_by(17) {
                organization.remove(id.as_str());
            }
        });
        let from = server.organization().with(Organization::mark);
        server.organization().set_churn(Some(Churn::new(seed, 2)));
        let known = if seed % 3 == 0 { &[][..] } else { &known[..] };
        let (_, _, keeper) = scan(&server, 5, known).await;
        server.organization().set_churn(None);
        let until = server.organization().with(Organization::mark);
        let (lasting, existed) = server.organization().with(|organization| {
            (organization.lived_throughout(from, until), organization.lived_sometime(from, until))
        });
        for id in &lasting {
            assert!(keeper.keys.contains_key(id), "seed {seed}: {id} is missed");
        }
        for id in keeper.keys.keys() {
            assert!(existed.contains(id), "seed {seed}: {id} is invented");
        }
    }
}

/// How the requests came that somebody passed on.
#[derive(Default)]
struct Passage {
    connections: AtomicUsize,
    /// Requests that were not of HTTP/2.
    others: AtomicUsize,
}

/// Offers HTTP/2 in front of a server, whose answers it passes on. Where, and the certificate.
async fn offer_http2(server: &Server) -> (String, String, Arc<Passage>) {
    let (acceptor, pem) = test_server::tls(&["h2", "http/1.1"]);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let front = listener.local_addr().unwrap();
    let (passage, behind) = (Arc::new(Passage::default()), server.addr());
    let noted = Arc::clone(&passage);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            noted.connections.fetch_add(1, Ordering::SeqCst);
            let (acceptor, noted) = (acceptor.clone(), Arc::clone(&noted));
            tokio::spawn(async move {
                let stream = TokioIo::new(acceptor.accept(stream).await.unwrap());
                let service =
                    service_fn(move |request| pass_on(request, behind, Arc::clone(&noted)));
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                // It ends when the client goes.
                builder.serve_connection(stream, service).await.ok();
            });
        }
    });
    (format!("https://{front}/v1"), pem, passage)
}

async fn pass_on(
    request: hyper::Request<Incoming>,
    behind: SocketAddr,
    passage: Arc<Passage>,
) -> Result<hyper::Response<String>, reqwest::Error> {
    if request.version() != hyper::Version::HTTP_2 {
        passage.others.fetch_add(1, Ordering::SeqCst);
    }
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let client = reqwest::Client::builder().no_proxy().build()?;
    let asked = client.get(format!("http://{behind}{path}"));
    let authorization = request.headers()["authorization"].clone();
    let answer = asked.header("authorization", authorization).send().await?;
    let mut response = hyper::Response::builder().status(answer.status());
    for (name, value) in answer.headers().iter().filter(|(name, _)| {
        ["content-type", "openai-organization", "x-request-id"].contains(&name.as_str())
    }) {
        response = response.header(name, value);
    }
    Ok(response.body(answer.text().await?).unwrap())
}

#[tokio::test]
async fn where_http2_is_offered_all_requests_share_one_connection() {
    let server = start(200);
    let known = snapshot(&server);
    server.organization().set_latency(Duration::from_millis(30));
    let (base_url, pem, passage) = offer_http2(&server).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pem).unwrap();
    let options = Options { tls_ca_file: Some(file.path().to_owned()), ..options(&base_url, 6) };
    let (scan, _, keeper) = scan_in(&session_with(&server, options), &known).await;
    assert_eq!(keeper.keys.keys().cloned().collect::<Vec<_>>(), ids(&server));
    assert_eq!(scan.keys, 200);
    assert_eq!(server.organization().most_in_flight(), 6);
    assert_eq!(passage.connections.load(Ordering::SeqCst), 1);
    assert_eq!(passage.others.load(Ordering::SeqCst), 0);
}
