//! A sign of life for a dead man's switch: a service that raises the alarm when none comes.

use std::time::Duration;

use reqwest::redirect;

use crate::config::{ApiSettings, HeartbeatUrl};
use crate::openai;

const TIMEOUT: Duration = Duration::from_secs(10);
/// Between one attempt and the next.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];

/// Tells of a run that has ended. Where nobody can be told, that is a line in the log: the service at the
/// other end notices by itself.
pub async fn beat(url: HeartbeatUrl, is_good: bool, api: ApiSettings) {
    let mut pauses = PAUSES.into_iter();
    let problem = loop {
        let problem = match ask(&url, is_good, &api).await {
            Ok(()) => return,
            Err(problem) => problem,
        };
        match pauses.next() {
            Some(pause) => tokio::time::sleep(pause).await,
            None => break problem,
        }
    };
    // The path is a secret.
    tracing::warn!(error = problem, "the heartbeat could not be sent to {url}");
}

async fn ask(url: &HeartbeatUrl, is_good: bool, api: &ApiSettings) -> Result<(), String> {
    let mut target = url.expose().clone();
    if !is_good {
        let path = format!("{}/fail", target.path().trim_end_matches('/'));
        target.set_path(&path);
    }
    let builder = reqwest::Client::builder()
        .user_agent(concat!("keydrift/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .timeout(TIMEOUT);
    let proxy = api.proxy.as_ref().map(crate::config::ProxyUrl::expose);
    let is_plain = target.scheme() == "http";
    let builder = openai::set_up_way_out(builder, is_plain, proxy, api.tls_ca_file.as_deref());
    let client = builder.map_err(|error| error.to_string())?.build();
    let client = client.map_err(|_| "the client could not be set up".to_owned())?;
    match client.get(target).send().await {
        Ok(response) if response.status().is_success() => Ok(()),
        Ok(response) => Err(format!("the answer was {}", response.status().as_u16())),
        Err(error) if error.is_timeout() => Err("no answer in time".to_owned()),
        Err(error) if error.is_connect() => Err("nobody could be reached there".to_owned()),
        Err(_) => Err("the request failed".to_owned()),
    }
}
