//! From an answer to bytes on a connection, with all the ways in which they may fail to arrive.

use std::convert::Infallible;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::reply::{Delivery, Reply};
use super::request::ApiRequest;
use super::world::World;

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// How many requests are being answered, and how many were at most at once.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Flights {
    now: usize,
    pub(super) most: usize,
}

impl Flights {
    pub(super) fn forget_most(&mut self) {
        self.most = self.now;
    }
}

/// What all connections of a server share.
pub(super) struct Shared {
    world: Mutex<World>,
    flights: Mutex<Flights>,
}

impl Shared {
    pub(super) fn new(world: World) -> Self {
        Self { world: Mutex::new(world), flights: Mutex::default() }
    }

    /// A step of a test's script may have panicked: what it left behind is still the state.
    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn flights(&self) -> MutexGuard<'_, Flights> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request being answered.
struct Flight<'a>(&'a Shared);

impl<'a> Flight<'a> {
    fn begin(shared: &'a Shared) -> Self {
        let mut flights = shared.flights();
        flights.now += 1;
        flights.most = flights.most.max(flights.now);
        Self(shared)
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.0.flights().now -= 1;
    }
}

/// Serves one connection to its end.
pub(super) async fn serve_connection(stream: TcpStream, shared: Arc<Shared>) {
    let reset = Arc::new(AtomicBool::new(false));
    let asked_reset = Arc::clone(&reset);
    let service = service_fn(move |request: Request<Incoming>| {
        let (shared, reset) = (Arc::clone(&shared), Arc::clone(&reset));
        async move { respond(&request, &shared, &reset).await }
    });
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // How a connection ended is the client's affair: cutting it is a fault on demand.
    let ended = (&mut connection).await;
    if ended.is_err() && asked_reset.load(Ordering::SeqCst) {
        let stream = connection.into_parts().io.into_inner();
        // Without lingering, closing sends a reset; where it cannot be set, a plain end.
        stream.set_zero_linger().ok();
    }
}

async fn respond(
    request: &Request<Incoming>,
    shared: &Shared,
    reset: &AtomicBool,
) -> io::Result<Response<Body>> {
    let _flight = Flight::begin(shared);
    let request = ApiRequest::parse(request);
    let reply = shared.world().respond(&request);
    if !reply.delay.is_zero() {
        tokio::time::sleep(reply.delay).await;
    }
    match reply.delivery {
        Delivery::Hang => std::future::pending().await,
        Delivery::Reset => {
            reset.store(true, Ordering::SeqCst);
            Err(io::ErrorKind::ConnectionReset.into())
        }
        _ => Ok(response(&reply)),
    }
}

fn response(reply: &Reply) -> Response<Body> {
    let bytes = Bytes::from(reply.body());
    let length = bytes.len();
    let mut response = Response::new(body(bytes, reply.delivery));
    *response.status_mut() =
        StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    // Nothing but a value that HTTP cannot carry is left out.
    let mut put = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            headers.append(name, value);
        }
    };
    if let Some(content_type) = &reply.content_type {
        put(CONTENT_TYPE, content_type);
    }
    if let Some(organization) = &reply.organization {
        put(HeaderName::from_static("openai-organization"), organization);
    }
    if reply.gzip {
        put(CONTENT_ENCODING, "gzip");
    }
    if reply.status != 204 {
        put(CONTENT_LENGTH, &length.to_string());
    }
    for (name, value) in &reply.headers {
        if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
            put(name, value);
        }
    }
    response
}

fn body(bytes: Bytes, delivery: Delivery) -> Body {
    match delivery {
        Delivery::Cut => broken(&bytes, false),
        Delivery::Stall => broken(&bytes, true),
        Delivery::Drip { bytes: step, pause } => drip(bytes, step, pause),
        _ => Full::new(bytes).map_err(|never: Infallible| match never {}).boxed_unsync(),
    }
}

/// Half of the bytes, and then either nothing more or the connection's end.
fn broken(bytes: &Bytes, stays_open: bool) -> Body {
    let half = bytes.slice(..bytes.len() / 2);
    let steps = stream::unfold(Some(half), move |half| async move {
        if let Some(half) = half {
            return Some((Ok(Frame::data(half)), None));
        }
        if stays_open {
            std::future::pending::<()>().await;
        }
        // What was sent so far is flushed while this waits.
        tokio::task::yield_now().await;
        Some((Err(io::Error::from(io::ErrorKind::ConnectionAborted)), None))
    });
    BodyExt::boxed_unsync(StreamBody::new(steps))
}

fn drip(bytes: Bytes, step: usize, pause: Duration) -> Body {
    let steps = stream::unfold(bytes, move |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        tokio::time::sleep(pause).await;
        let drop = rest.split_to(step.min(rest.len()));
        Some((Ok(Frame::data(drop)), rest))
    });
    BodyExt::boxed_unsync(StreamBody::new(steps))
}

/// An HTTP date, within the years that one can write.
pub(super) fn http_date(unix_seconds: i64) -> String {
    const LAST: u64 = 253_402_300_799;
    let seconds = u64::try_from(unix_seconds).unwrap_or(0).min(LAST);
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds))
}
