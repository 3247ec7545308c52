//! Where requests may go, and the URLs of the endpoints.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::{Host, Url};

use super::error::Error;
use crate::inventory::KeyId;

/// All but RFC 3986's unreserved characters. Stricter than the `url` crate, whose setters let tabs and
/// newlines vanish, so that one id would be asked for as another.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The API's endpoints under one base URL.
#[derive(Debug, Clone)]
pub(super) struct Endpoints {
    /// What all endpoints are below.
    organization: Url,
}

impl Endpoints {
    /// Takes the base URL as it stands, if requests with a credential may go there.
    pub(super) fn new(base: &Url) -> Result<Self, Error> {
        let problem = match base.scheme() {
            "http" | "https" if base.host().is_none() => "has no host",
            "http" | "https" if !base.username().is_empty() || base.password().is_some() => {
                "must not hold a user name or a password"
            }
            "http" | "https" if base.query().is_some() || base.fragment().is_some() => {
                "must not have a query or a fragment"
            }
            "http" if !is_loopback(base) => {
                let host = base.host_str().unwrap_or_default().to_owned();
                return Err(Error::InsecureUrl { host });
            }
            "http" | "https" => {
                let mut organization = base.clone();
                let path = base.path().trim_end_matches('/');
                organization.set_path(&format!("{path}/organization"));
                return Ok(Self { organization });
            }
            _ => "begins with neither `https://` nor `http://`",
        };
        Err(Error::InvalidUrl { problem })
    }

    pub(super) fn is_plain(&self) -> bool {
        self.organization.scheme() == "http"
    }

    /// The page of at most `limit` admin keys after `after`, oldest first.
    pub(super) fn list_url(&self, limit: Option<u32>, after: Option<&str>) -> Url {
        self.page("/admin_api_keys", "order=asc", limit, after)
    }

    /// The same from the other end, newest first.
    pub(super) fn newest_url(&self, limit: Option<u32>, after: Option<&str>) -> Url {
        self.page("/admin_api_keys", "order=desc", limit, after)
    }

    /// The page of at most `limit` projects after `after`, archived ones included.
    pub(super) fn projects_url(&self, limit: Option<u32>, after: Option<&str>) -> Url {
        self.page("/projects", "include_archived=true", limit, after)
    }

    /// The page of at most `limit` keys of a project after `after`, whatever their owners may do.
    pub(super) fn project_keys_url(
        &self,
        project: &str,
        limit: Option<u32>,
        after: Option<&str>,
    ) -> Option<Url> {
        let path = format!("/projects/{}/api_keys", segment(project)?);
        Some(self.page(&path, "owner_project_access=any", limit, after))
    }

    /// The page of the audit log with what `query` asks for.
    pub(super) fn audit_log_url(
        &self,
        query: &str,
        limit: Option<u32>,
        after: Option<&str>,
    ) -> Url {
        self.page("/audit_logs", query, limit, after)
    }

    /// One admin key. Like the others, `None` if the id cannot be written as one segment of a path.
    pub(super) fn key_url(&self, id: &KeyId) -> Option<Url> {
        Some(self.at(&format!("/admin_api_keys/{}", segment(id.as_str())?)))
    }

    /// One project.
    pub(super) fn project_url(&self, project: &str) -> Option<Url> {
        Some(self.at(&format!("/projects/{}", segment(project)?)))
    }

    /// One key of a project.
    pub(super) fn project_key_url(&self, project: &str, id: &KeyId) -> Option<Url> {
        let (project, key) = (segment(project)?, segment(id.as_str())?);
        Some(self.at(&format!("/projects/{project}/api_keys/{key}")))
    }

    fn page(&self, path: &str, query: &str, limit: Option<u32>, after: Option<&str>) -> Url {
        let limit = limit.map(|limit| format!("&limit={limit}")).unwrap_or_default();
        let after = after.map(|after| format!("&after={}", encode(after))).unwrap_or_default();
        let mut url = self.at(path);
        url.set_query(Some(&format!("{query}{limit}{after}")));
        url
    }

    fn at(&self, path: &str) -> Url {
        let mut url = self.organization.clone();
        url.set_path(&format!("{}{path}", self.organization.path()));
        url
    }
}

/// `id` as one segment of a path. `.` and `..` mean something else there, however they are encoded, and
/// nothing is no segment.
fn segment(id: &str) -> Option<String> {
    (!matches!(id, "" | "." | "..")).then(|| encode(id))
}

/// `text` as a part of a path's segment or a query's value.
pub(super) fn encode(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.to_canonical().is_loopback(),
        None => false,
    }
}

/// Where `localhost` is, whatever a name server says. The port is the URL's.
pub(super) const LOCALHOST: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
    SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 0),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(base: &str) -> Result<Endpoints, Error> {
        Endpoints::new(&Url::parse(base).unwrap())
    }

    fn id(text: &str) -> KeyId {
        KeyId::new(text).unwrap()
    }

    #[test]
    fn the_base_url_is_used_as_it_stands() {
        for base in ["https://api.example/v1", "https://api.example/v1/"] {
            let url = endpoints(base).unwrap().list_url(Some(100), None);
            assert_eq!(
                url.as_str(),
                "https://api.example/v1/organization/admin_api_keys?order=asc&limit=100"
            );
        }
        let url = endpoints("https://api.example").unwrap().list_url(None, Some("a b&c"));
        assert_eq!(
            url.as_str(),
            "https://api.example/organization/admin_api_keys?order=asc&after=a%20b%26c"
        );
    }

    #[test]
    fn plain_http_goes_to_this_machine_alone() {
        for base in [
            "http://localhost:1",
            "http://LOCALHOST",
            "http://127.0.0.1/v1",
            "http://127.9.9.9",
            "http://[::1]:80",
            "http://[::ffff:127.0.0.1]",
            "https://api.example",
        ] {
            assert!(endpoints(base).is_ok(), "{base}");
        }
        for base in [
            "http://api.example",
            "http://localhost.example",
            "http://10.0.0.1",
            "http://0.0.0.0",
            "http://[::2]",
            "http://127.0.0.1.example",
        ] {
            assert!(matches!(endpoints(base), Err(Error::InsecureUrl { .. })), "{base}");
        }
        for base in ["ftp://localhost", "https://u@api.example", "https://api.example?x", "data:x"]
        {
            assert!(matches!(endpoints(base), Err(Error::InvalidUrl { .. })), "{base}");
        }
    }

    #[test]
    fn an_id_is_one_segment_and_reaches_no_other_path() {
        let endpoints = endpoints("https://api.example/v1").unwrap();
        let path = |text: &str| {
            let url = endpoints.key_url(&id(text))?;
            assert!(url.query().is_none() && url.fragment().is_none());
            Some(url.path().strip_prefix("/v1/organization/admin_api_keys/").unwrap().to_owned())
        };
        for (text, encoded) in [
            ("key_a-b.c~", "key_a-b.c~"),
            ("a/b", "a%2Fb"),
            ("../x", "..%2Fx"),
            ("...", "..."),
            ("%2e%2e", "%252e%252e"),
            ("a b\"'", "a%20b%22%27"),
            ("a\tb\nc", "a%09b%0Ac"),
            ("a\\b?c#d", "a%5Cb%3Fc%23d"),
            ("ключ", "%D0%BA%D0%BB%D1%8E%D1%87"),
        ] {
            assert_eq!(path(text).as_deref(), Some(encoded), "{text}");
        }
        assert_eq!(path(&"k".repeat(10_000)).map(|path| path.len()), Some(10_000));
        assert_eq!((path("."), path("..")), (None, None));
    }
}
