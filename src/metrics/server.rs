//! Metrics and health over HTTP, for whoever may reach the address.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::Metrics;

const MOST_CONNECTIONS: usize = 32;
const SLOWEST_HEADER: Duration = Duration::from_secs(10);
/// However long somebody would like to keep a connection.
const LONGEST_CONNECTION: Duration = Duration::from_mins(5);

/// How the daemon is, from one moment to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The database is open and runs are made.
    Ready,
    Stopping,
}

/// Answers until it is dropped.
pub async fn serve(listener: TcpListener, metrics: Metrics, state: watch::Receiver<State>) {
    let slots = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (metrics, state) = (metrics.clone(), state.clone());
                tokio::spawn(async move {
                    converse(stream, metrics, state).await;
                    drop(slot);
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: others need them more.
                tracing::debug!(%error, "a connection to the metrics could not be taken");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, metrics: Metrics, state: watch::Receiver<State>) {
    let service = service_fn(|request: Request<hyper::body::Incoming>| {
        let response = answer(request.method(), request.uri().path(), &metrics, *state.borrow());
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(SLOWEST_HEADER)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(LONGEST_CONNECTION, connection).await {
        Ok(Ok(())) | Err(_) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection to the metrics ended badly"),
    }
}

fn answer(method: &Method, path: &str, metrics: &Metrics, state: State) -> Response<Full<Bytes>> {
    const PLAIN: &str = "text/plain; charset=utf-8";
    const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
    let known = matches!(path, "/metrics" | "/healthz" | "/readyz");
    let (status, kind, body) = match path {
        _ if known && !matches!(*method, Method::GET | Method::HEAD) => {
            (StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET and HEAD\n".to_owned())
        }
        "/metrics" => match metrics.render() {
            Ok(text) => (StatusCode::OK, METRICS, text),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, PLAIN, format!("{error}\n")),
        },
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
