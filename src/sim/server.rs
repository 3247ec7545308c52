//! The server on loopback, and the handle that moves what it serves.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::faults::{Fault, FaultRule, Matcher};
use super::http::{Flights, Shared, serve_connection};
use super::organization::Organization;
use super::request::{Endpoint, LoggedRequest};
use super::world::{Churn, World};

/// Any free port on loopback.
pub const ANY_PORT: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));

/// What the accepting loop runs on.
enum Running {
    Task(JoinHandle<()>),
    Thread(thread::JoinHandle<()>),
}

/// A running server. Dropping it ends it.
pub struct Server {
    addr: SocketAddr,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    running: Option<Running>,
}

impl Server {
    /// Serves the organization on the current tokio runtime. Outside of one, and for an address
    /// that is not loopback, it is an error.
    pub fn start(organization: Organization, addr: SocketAddr) -> io::Result<Self> {
        let runtime = tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
        let listener = TcpListener::from_std(bind(addr)?)?;
        let (stop, stopped) = watch::channel(false);
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared::new(World::new(organization)));
        let task = runtime.spawn(accept(listener, Arc::clone(&shared), stopped));
        Ok(Self { addr, shared, stop, running: Some(Running::Task(task)) })
    }

    /// Serves the organization on a thread of its own, for programs that have no runtime.
    pub fn start_blocking(organization: Organization, addr: SocketAddr) -> io::Result<Self> {
        let listener = bind(addr)?;
        let addr = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _inside = runtime.enter();
            TcpListener::from_std(listener)?
        };
        let (stop, stopped) = watch::channel(false);
        let shared = Arc::new(Shared::new(World::new(organization)));
        let accepting = accept(listener, Arc::clone(&shared), stopped);
        let thread = thread::Builder::new()
            .name("simulated-organization".to_owned())
            .spawn(move || runtime.block_on(accepting))?;
        Ok(Self { addr, shared, stop, running: Some(Running::Thread(thread)) })
    }

    /// Where the server listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What a client takes for the API's base URL: `http://127.0.0.1:PORT/v1`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.addr)
    }

    /// The organization and everything about how it is served.
    #[must_use]
    pub fn organization(&self) -> Handle {
        Handle { shared: Arc::clone(&self.shared) }
    }

    /// Closes every connection and the port, and returns once that is done.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        match self.running.take() {
            // A task that panicked has ended too.
            Some(Running::Task(task)) => drop(task.await),
            // It ends at once: it waits for nothing but the signal.
            Some(Running::Thread(thread)) => drop(thread.join()),
            None => {}
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("addr", &self.addr).finish_non_exhaustive()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        match self.running.take() {
            Some(Running::Task(task)) => task.abort(),
            Some(Running::Thread(thread)) => drop(thread.join()),
            None => {}
        }
    }
}

fn bind(addr: SocketAddr) -> io::Result<std::net::TcpListener> {
    if !addr.ip().is_loopback() {
        let message = format!(
            "the simulated organization listens on loopback only (such as 127.0.0.1:0), and \
             {addr} is not"
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let listener = std::net::TcpListener::bind(addr)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    // Dropped with this future, which ends them all.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            // The one change there is, or a server that is gone without a word: the same end.
            _ = stopped.changed() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    // Only a matter of speed.
                    stream.set_nodelay(true).ok();
                    connections.spawn(serve_connection(stream, Arc::clone(&shared)));
                }
                // Too many open files, or a client that went again: the next may do.
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }
}

/// The organization behind a running server, and how it is served. Clones are the same one. No
/// method waits for the network. What a closure is given is locked for as long as it runs: it must
/// not use a handle itself.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    /// Looks at the organization, or changes it.
    pub fn with<R>(&self, look: impl FnOnce(&mut Organization) -> R) -> R {
        look(&mut self.shared.world().organizations[0])
    }

    /// The secret that the organization accepts from the start.
    #[must_use]
    pub fn credential(&self) -> String {
        self.with(|organization| organization.credential().to_owned())
    }

    /// Serves one more organization: a request with one of its credentials is answered for it.
    pub fn host(&self, organization: Organization) {
        self.shared.world().organizations.push(organization);
    }

    /// Does this before the `n`th list request from now is answered; 1 is the next one.
    pub fn before_list(&self, n: u64, step: impl FnOnce(&mut Organization) + Send + 'static) {
        self.shared.world().plan(n.max(1), Box::new(step));
    }

    /// Does this once, before the first of the requests described from now is answered.
    pub fn before(&self, when: Matcher, step: impl FnOnce(&mut Organization) + Send + 'static) {
        self.shared.world().plan_before(when, Box::new(step));
    }

    /// Changes the organization at random between any two requests, or no more.
    pub fn set_churn(&self, churn: Option<Churn>) {
        self.shared.world().churn = churn;
    }

    /// Delays every answer. It tells how things stood when the request came in.
    pub fn set_latency(&self, latency: Duration) {
        self.shared.world().latency = latency;
    }

    /// Lets something go wrong. Where several faults hold for one answer, each changes it further,
    /// in the order in which they were set.
    pub fn fault(&self, when: Matcher, fault: Fault) {
        self.shared.world().rules.push(FaultRule::new(when, fault));
    }

    /// Lets nothing go wrong any more.
    pub fn clear_faults(&self) {
        self.shared.world().rules.clear();
    }

    /// Every request so far, in the order in which they were answered.
    #[must_use]
    pub fn requests(&self) -> Vec<LoggedRequest> {
        self.shared.world().log.clone()
    }

    /// Forgets the requests so far and the most at once.
    pub fn clear_requests(&self) {
        self.shared.world().log.clear();
        self.shared.flights().forget_most();
    }

    /// How many requests the log holds for this endpoint.
    #[must_use]
    pub fn count(&self, endpoint: Endpoint) -> usize {
        let world = self.shared.world();
        world.log.iter().filter(|request| request.endpoint == endpoint).count()
    }

    /// The most requests that were being answered at once.
    #[must_use]
    pub fn most_in_flight(&self) -> usize {
        let Flights { most, .. } = *self.shared.flights();
        most
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}
