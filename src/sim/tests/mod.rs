//! The simulated organization, asked over HTTP by a client of a few lines.

mod audit_log;
mod faults;
mod listing;
mod projects;
mod truth;

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use super::{ANY_PORT, Handle, Organization, Server};

/// One answer, as far as it came.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Whether the body has the length that was promised.
    whole: bool,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn ids(&self) -> Vec<String> {
        let json = self.json();
        let data = json["data"].as_array().expect("data is an array");
        data.iter().map(|key| key["id"].as_str().expect("an id").to_owned()).collect()
    }

    fn has_more(&self) -> bool {
        self.json()["has_more"].as_bool().expect("has_more is a boolean")
    }
}

/// A server and a credential for it.
struct Site {
    server: Server,
    organization: Handle,
    credential: String,
}

impl Site {
    fn new(organization: Organization) -> Self {
        let credential = organization.credential().to_owned();
        let server = Server::start_blocking(organization, ANY_PORT).unwrap();
        Self { organization: server.organization(), server, credential }
    }

    fn of(keys: usize) -> Self {
        Self::new(Organization::generate(1, keys))
    }

    fn get(&self, path: &str) -> Answer {
        self.try_get(path).unwrap()
    }

    fn try_get(&self, path: &str) -> std::io::Result<Answer> {
        let authorization = format!("Authorization: Bearer {}", self.credential);
        self.send("GET", path, &[&authorization])
    }

    /// Sends one request on a connection of its own and reads to its end.
    fn send(&self, method: &str, path: &str, headers: &[&str]) -> std::io::Result<Answer> {
        let mut stream = TcpStream::connect(self.server.addr())?;
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: sim\r\nconnection: close\r\n");
        for header in headers {
            request.push_str(header);
            request.push_str("\r\n");
        }
        stream.write_all(format!("{request}\r\n").as_bytes())?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        parse(&bytes).ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into())
    }

    /// A page of the listing.
    fn page(&self, query: &str) -> Answer {
        self.get(&format!("/v1/organization/admin_api_keys?{query}"))
    }

    fn retrieve(&self, id: &str) -> Answer {
        self.get(&format!("/v1/organization/admin_api_keys/{id}"))
    }

    /// Lists as the simplest client does: on until `has_more` is false.
    fn scan(&self, limit: usize, order: &str) -> Vec<String> {
        let mut ids: Vec<String> = Vec::new();
        loop {
            let after = ids.last().map(|id| format!("&after={id}")).unwrap_or_default();
            let page = self.page(&format!("limit={limit}&order={order}{after}"));
            assert_eq!(page.status, 200, "{:?}", page.json());
            ids.extend(page.ids());
            if !page.has_more() {
                return ids;
            }
        }
    }

    fn ids(&self) -> Vec<String> {
        self.organization.with(|organization| organization.ids().map(str::to_owned).collect())
    }
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let body = bytes[end + 4..].to_vec();
    let promised = headers.iter().find(|(name, _)| name == "content-length");
    let whole = promised.is_none_or(|(_, length)| *length == body.len().to_string());
    Some(Answer { status, headers, body, whole })
}

fn distinct(ids: &[String]) -> usize {
    ids.iter().collect::<HashSet<_>>().len()
}
