//! Metrics and health over HTTP, for whoever may reach the address.
//!
//! A connection gets one answer and little time. Where there are too many, the oldest gives way: those who ask
//! and go are through in a moment, so that nobody shuts them out by holding connections.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use super::Metrics;
use super::ask::Ask;

const MOST_CONNECTIONS: usize = 64;
/// From the connection to its end: for the request, and for taking the answer.
const LONGEST_CONNECTION: Duration = Duration::from_secs(10);

/// How the daemon is, from one moment to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The database is open and runs are made.
    Ready,
    Stopping,
}

/// What the answers are made of.
#[derive(Debug, Clone)]
pub struct Source {
    pub metrics: Metrics,
    pub state: watch::Receiver<State>,
    /// Brings the metrics up to date.
    pub ask: Ask,
}

/// Answers until it is dropped.
pub async fn serve(listener: TcpListener, source: Source) {
    let mut connections = JoinSet::new();
    let mut oldest_first: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                while connections.try_join_next().is_some() {}
                oldest_first.retain(|connection| !connection.is_finished());
                if oldest_first.len() >= MOST_CONNECTIONS
                    && let Some(oldest) = oldest_first.pop_front()
                {
                    oldest.abort();
                }
                let conversation = converse(stream, source.clone(), LONGEST_CONNECTION);
                oldest_first.push_back(connections.spawn(conversation));
            }
            Err(error) => {
                // Out of file descriptors, most likely: others need them more.
                tracing::debug!(%error, "a connection to the metrics could not be taken");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, source: Source, within: Duration) {
    let service = service_fn(async |request: Request<hyper::body::Incoming>| {
        Ok::<_, Infallible>(answer(request.method(), request.uri().path(), &source).await)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(within, connection).await {
        Ok(Ok(())) | Err(_) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection to the metrics ended badly"),
    }
}

async fn answer(method: &Method, path: &str, source: &Source) -> Response<Full<Bytes>> {
    const PLAIN: &str = "text/plain; charset=utf-8";
    const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
    let state = *source.state.borrow();
    let known = matches!(path, "/metrics" | "/healthz" | "/readyz");
    let (status, kind, body) = match path {
        _ if known && !matches!(*method, Method::GET | Method::HEAD) => {
            (StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET and HEAD\n".to_owned())
        }
        "/metrics" => {
            source.ask.once().await;
            match source.metrics.render() {
                Ok(text) => (StatusCode::OK, METRICS, text),
                Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, PLAIN, format!("{error}\n")),
            }
        }
        // Whoever answers is alive: the loop that takes no part in this has the watchdog.
        "/healthz" => (StatusCode::OK, PLAIN, "ok\n".to_owned()),
        "/readyz" if state == State::Ready => (StatusCode::OK, PLAIN, "ready\n".to_owned()),
        "/readyz" => (StatusCode::SERVICE_UNAVAILABLE, PLAIN, "stopping\n".to_owned()),
        _ => (StatusCode::NOT_FOUND, PLAIN, "/metrics, /healthz, /readyz\n".to_owned()),
    };
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn source() -> (Source, watch::Sender<State>) {
        let (say, state) = watch::channel(State::Ready);
        // Nobody is there to ask.
        let (ask, _) = Ask::new();
        (Source { metrics: Metrics::new().unwrap(), state, ask }, say)
    }

    async fn start() -> (SocketAddr, watch::Sender<State>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (source, say) = source();
        tokio::spawn(serve(listener, source));
        (address, say)
    }

    async fn send(address: SocketAddr, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = send(address, &format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// Answered at once: before any connection could have run out of its time.
    async fn is_answered(address: SocketAddr) {
        let answer = timeout(LONGEST_CONNECTION / 2, get(address, "/healthz")).await;
        assert!(answer.unwrap().starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn a_connection_gets_one_answer() {
        let (address, say) = start().await;
        assert!(get(address, "/metrics").await.contains("\r\n\r\n# HELP keydrift_"));
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        say.send_replace(State::Stopping);
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 503"));
        let two = "/healthz HTTP/1.1\r\nhost: x\r\n\r\nGET /healthz";
        assert_eq!(get(address, two).await.matches("HTTP/1.1").count(), 1);
    }

    #[tokio::test]
    async fn those_who_say_nothing_keep_nobody_waiting() {
        let (address, _say) = start().await;
        let mut silent = Vec::new();
        for _ in 0..3 * MOST_CONNECTIONS {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        is_answered(address).await;
        // The oldest had to give way.
        assert_eq!(silent[0].read(&mut [0; 1]).await.ok().unwrap_or(0), 0);
    }

    #[tokio::test]
    async fn those_who_ask_and_do_not_listen_keep_nobody_waiting() {
        let (address, _say) = start().await;
        let questions = "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n".repeat(500);
        let mut deaf = Vec::new();
        for _ in 0..MOST_CONNECTIONS {
            deaf.push(send(address, &questions).await);
        }
        is_answered(address).await;
    }

    #[tokio::test]
    async fn a_request_that_never_ends_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut stream = send(address, "GET /metrics HTTP/1.1\r\nhost: ").await;
        let (server, _) = listener.accept().await.unwrap();
        converse(server, source().0, Duration::from_millis(20)).await;
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
    }
}
