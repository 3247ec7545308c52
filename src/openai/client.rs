//! One request to the API and its answer.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderValue, LOCATION,
};
use reqwest::{Certificate, ClientBuilder, Response, redirect};
use url::Url;
use zeroize::Zeroizing;

use super::address::{Endpoints, LOCALHOST};
use super::error::Error;
use super::mask::Mask;
use super::retry::{Advice, Backoff};
use super::subject::{Origin, Subject};
use super::wire::{Body, ErrorBody, parse_error};
use crate::clock::{Clock, Timestamp};

/// The largest answer that is read, after decompression.
const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;
/// As much of an error's body is read.
const MAX_ERROR_BYTES: usize = 64 * 1024;

/// How to reach the API.
#[derive(Clone)]
pub struct Options {
    /// Used as it stands: `/v1` is not added.
    pub base_url: Url,
    /// Sent as `OpenAI-Organization`.
    pub organization_id: Option<String>,
    /// 0: leave it to the API.
    pub page_size: u32,
    /// Whether pages of one list may be asked for side by side.
    pub side_by_side: bool,
    /// How many requests are under way at once.
    pub max_concurrency: usize,
    pub connect_timeout: Duration,
    /// Between two pieces of an answer.
    pub read_timeout: Duration,
    /// For one attempt as a whole.
    pub request_timeout: Duration,
    /// For all requests of a run.
    pub run_deadline: Duration,
    /// How often one request is tried, the first time included.
    pub max_attempts: u32,
    /// Proxies of the environment are not used. Never used for plain HTTP to this machine.
    pub proxy: Option<Url>,
    /// A PEM file of roots to trust beside the system's.
    pub tls_ca_file: Option<PathBuf>,
}

/// A client with one credential.
pub struct Client {
    http: reqwest::Client,
    pub(super) endpoints: Endpoints,
    pub(super) options: Options,
    pub(super) mask: Mask,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) backoff: Backoff,
    skew: Mutex<Option<i64>>,
}

/// An answer that the API itself can have given.
#[derive(Debug)]
pub(super) enum Answer {
    /// 200, with JSON.
    Found(Found),
    /// 400 or above.
    Refused(Refusal),
}

#[derive(Debug)]
pub(super) struct Found {
    pub(super) body: Body,
    pub(super) request_id: Option<String>,
    pub(super) organization: Option<String>,
}

#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) request_id: Option<String>,
    pub(super) organization: Option<String>,
    pub(super) advice: Advice,
    pub(super) error: ErrorBody,
}

impl Client {
    pub fn new(options: Options, credential: &str, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let endpoints = Endpoints::new(&options.base_url)?;
        let headers = default_headers(&options, credential)?;
        let builder = reqwest::Client::builder()
            .default_headers(headers)
            .user_agent(concat!("keydrift/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            // Every attempt is ours to count.
            .retry(reqwest::retry::never())
            .resolve_to_addrs("localhost", &LOCALHOST)
            .connect_timeout(options.connect_timeout)
            .read_timeout(options.read_timeout)
            .timeout(options.request_timeout);
        let (proxy, roots) = (options.proxy.as_ref(), options.tls_ca_file.as_deref());
        let builder = set_up_way_out(builder, endpoints.is_plain(), proxy, roots)?;
        let http = builder.build().map_err(|error| explain_setup(&error))?;
        let mask = Mask::new(credential);
        Ok(Self {
            http,
            endpoints,
            options,
            mask,
            clock,
            backoff: Backoff::default(),
            skew: Mutex::default(),
        })
    }

    /// One attempt.
    pub(super) async fn get(&self, url: Url, subject: &Subject) -> Result<Answer, Error> {
        let asked_at = self.clock.now();
        let response = self.http.get(url.clone()).send().await;
        let response = response.map_err(|error| self.explain(&error, subject, None))?;
        self.note_skew(&response, asked_at);
        let status = response.status().as_u16();
        let request_id = self.header(&response, "x-request-id");
        let origin = || Origin::new(subject, request_id.as_deref());
        match status {
            200 => self.read_found(response, subject).await.map(Answer::Found),
            300..=399 => {
                Err(Error::Redirected { at: origin(), target: self.target(&response, &url) })
            }
            400.. => Ok(Answer::Refused(self.read_refusal(response).await)),
            _ => Err(Error::UnexpectedStatus { at: origin(), status }),
        }
    }

    /// How many seconds the server's clock is ahead of ours, as far as its last answer told.
    #[must_use]
    pub fn clock_skew(&self) -> Option<i64> {
        *self.skew.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server wrote its `Date` some time between question and answer: most likely in the middle.
    fn note_skew(&self, response: &Response, asked_at: Timestamp) {
        let answered_at = self.clock.now();
        let middle = asked_at.unix() + (answered_at.unix() - asked_at.unix()) / 2;
        let date = response.headers().get(DATE).and_then(|value| value.to_str().ok());
        let date = date.and_then(|date| httpdate::parse_http_date(date).ok());
        let date = date.and_then(|date| date.duration_since(UNIX_EPOCH).ok());
        if let Some(date) = date.and_then(|date| i64::try_from(date.as_secs()).ok()) {
            let mut skew = self.skew.lock().unwrap_or_else(PoisonError::into_inner);
            *skew = Some(date.saturating_sub(middle));
        }
    }

    async fn read_found(&self, mut response: Response, subject: &Subject) -> Result<Found, Error> {
        let request_id = self.header(&response, "x-request-id");
        let organization = self.header(&response, "openai-organization");
        let origin = || Origin::new(subject, request_id.as_deref());
        if !is_json(&response) {
            let content_type = self.header(&response, CONTENT_TYPE.as_str());
            return Err(Error::NotJson { at: origin(), content_type });
        }
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > MAX_BODY_BYTES => {
                    return Err(Error::BodyTooLarge { at: origin(), limit: MAX_BODY_BYTES });
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(error) => return Err(self.explain(&error, subject, request_id.as_deref())),
            }
        }
        let bytes = body.len();
        match Body::new(body) {
            Ok(body) => Ok(Found { body, request_id, organization }),
            Err(error) if error.is_eof() => {
                let problem = format!("its JSON breaks off after {bytes} bytes");
                Err(Error::CutShort { at: origin(), problem })
            }
            Err(error) => {
                let (line, column) = (error.line(), error.column());
                Err(Error::WrongJson { at: origin(), line, column })
            }
        }
    }

    async fn read_refusal(&self, mut response: Response) -> Refusal {
        let mut body = Vec::new();
        // Whatever arrives of it will do.
        while let Ok(Some(chunk)) = response.chunk().await {
            body.extend_from_slice(&chunk);
            if body.len() >= MAX_ERROR_BYTES {
                body.truncate(MAX_ERROR_BYTES);
                break;
            }
        }
        Refusal {
            status: response.status().as_u16(),
            request_id: self.header(&response, "x-request-id"),
            organization: self.header(&response, "openai-organization"),
            advice: Advice::from_headers(response.headers(), self.clock.now()),
            error: parse_error(&body, is_json(&response), &self.mask),
        }
    }

    /// A header's text. A server may echo the credential anywhere, so that no secret is taken from here.
    fn header(&self, response: &Response, name: &str) -> Option<String> {
        let value = response.headers().get(name)?.to_str().ok()?;
        let text = self.mask.masked(value).unwrap_or_else(|| value.to_owned());
        (!text.is_empty()).then_some(text)
    }

    /// The host that a redirect leads to.
    fn target(&self, response: &Response, url: &Url) -> Option<String> {
        let target = url.join(&self.header(response, LOCATION.as_str())?).ok()?;
        let host = target.host_str()?;
        Some(target.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
    }

    /// What went wrong below HTTP, or within a body.
    fn explain(&self, error: &reqwest::Error, subject: &Subject, request: Option<&str>) -> Error {
        let at = Origin::new(subject, request);
        let problem = deepest(error);
        let problem = self.mask.masked(&problem).unwrap_or(problem);
        if error.is_timeout() {
            Error::TimedOut { at }
        } else if error.is_builder() {
            Error::InvalidRequest { at }
        } else if error.is_body() || error.is_decode() {
            Error::CutShort { at, problem }
        } else {
            Error::Unreachable { at, problem }
        }
    }
}

impl Refusal {
    pub(super) fn into_error(self, subject: &Subject) -> Error {
        let at = Origin::new(subject, self.request_id.as_deref());
        let status = self.status;
        let ErrorBody { message, scopes, .. } = self.error;
        match status {
            // The message first: a missing scope comes as 401 and as 403.
            _ if !scopes.is_empty() => Error::MissingScopes { at, status, scopes },
            401 => Error::Unauthorized { at, message },
            403 => Error::Forbidden { at, message },
            429 => Error::RateLimited { at, message },
            500.. => Error::ServerFault { at, status, message },
            _ => Error::Refused { at, status, message },
        }
    }
}

fn default_headers(options: &Options, credential: &str) -> Result<HeaderMap, Error> {
    if credential.is_empty() {
        return Err(Error::InvalidCredential);
    }
    // The header's own copy, and those that HTTP and TLS make of it, cannot be wiped.
    let bearer = Zeroizing::new(format!("Bearer {credential}"));
    let mut bearer = HeaderValue::from_str(&bearer).map_err(|_| Error::InvalidCredential)?;
    bearer.set_sensitive(true);
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, bearer);
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    if let Some(id) = &options.organization_id {
        let id = HeaderValue::from_str(id).map_err(|_| Error::InvalidOrganizationId)?;
        headers.insert("openai-organization", id);
    }
    Ok(headers)
}

/// The way out: the proxy, and whom to trust. Plain HTTP stays on this machine.
pub(crate) fn set_up_way_out(
    builder: ClientBuilder,
    is_plain: bool,
    proxy: Option<&Url>,
    tls_ca_file: Option<&Path>,
) -> Result<ClientBuilder, Error> {
    let mut builder = builder.no_proxy();
    // A proxy would carry plain HTTP, and the credential in it, to another machine.
    if let Some(proxy) = proxy.filter(|_| !is_plain) {
        let proxy = reqwest::Proxy::all(proxy.clone()).map_err(|_| Error::InvalidProxy)?;
        builder = builder.proxy(proxy);
    }
    let roots = tls_ca_file.map(load_roots).transpose()?.unwrap_or_default();
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // An error means that another thread was faster.
        drop(rustls::crypto::ring::default_provider().install_default());
    }
    if is_plain {
        // No roots at all, so that a machine without any will do.
        return Ok(builder.tls_certs_only([]));
    }
    Ok(builder.https_only(true).tls_certs_merge(roots))
}

fn load_roots(path: &Path) -> Result<Vec<Certificate>, Error> {
    let fail = |problem: String| Error::CaFile { path: path.to_owned(), problem };
    let pem = std::fs::read(path).map_err(|error| fail(error.to_string()))?;
    let roots = Certificate::from_pem_bundle(&pem).map_err(|_| fail("it is not PEM".to_owned()))?;
    if roots.is_empty() {
        return Err(fail("it holds no certificate".to_owned()));
    }
    Ok(roots)
}

fn explain_setup(error: &reqwest::Error) -> Error {
    let problem = deepest(error);
    if problem.contains("No CA certificates") {
        Error::NoCertificates
    } else {
        Error::Setup { problem }
    }
}

/// The cause behind all wrappings; it names neither the URL nor a header.
fn deepest(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn is_json(response: &Response) -> bool {
    let value = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next()).unwrap_or_default();
    let essence = essence.trim().to_ascii_lowercase();
    essence == "application/json" || essence.ends_with("+json")
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
