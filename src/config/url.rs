//! The URLs in a configuration: where requests may go.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::{Host, Url};

/// The proxy that every request goes through. It may hold a password: `Debug` and `Display` mask it.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyUrl(Url);

impl ProxyUrl {
    /// The whole URL, with its password: for the client alone.
    #[must_use]
    pub fn expose(&self) -> &Url {
        &self.0
    }
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = if self.0.username().is_empty() && self.0.password().is_none() {
            ""
        } else {
            "***:***@"
        };
        let port = self.0.port().map(|port| format!(":{port}")).unwrap_or_default();
        write!(f, "{}://{user}{}{port}", self.0.scheme(), self.0.host_str().unwrap_or_default())
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProxyUrl({self})")
    }
}

/// Where a heartbeat goes. Its path is a secret: `Debug` and `Display` mask it.
#[derive(Clone, PartialEq, Eq)]
pub struct HeartbeatUrl(Url);

impl HeartbeatUrl {
    /// The whole URL: for the client alone.
    #[must_use]
    pub fn expose(&self) -> &Url {
        &self.0
    }
}

impl fmt::Display for HeartbeatUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.0.port().map(|port| format!(":{port}")).unwrap_or_default();
        write!(f, "{}://{}{port}/…", self.0.scheme(), self.0.host_str().unwrap_or_default())
    }
}

impl fmt::Debug for HeartbeatUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HeartbeatUrl({self})")
    }
}

/// Reads the URL of a heartbeat. The error completes "must …".
pub(super) fn parse_heartbeat(text: &str) -> Result<HeartbeatUrl, &'static str> {
    let url = parse(text)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("begin with `https://` or `http://`");
    }
    if url.fragment().is_some() {
        return Err("have no fragment (`#`)");
    }
    Ok(HeartbeatUrl(url))
}

/// Reads a base URL. The error completes "must …".
///
/// The credential is sent there: only over TLS, or to this machine. The path is kept as it stands
/// but for slashes at its end, so that `/organization/…` can be appended.
pub(super) fn parse_base(text: &str) -> Result<Url, &'static str> {
    let mut url = parse(text)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("not hold a user name or password");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("have neither a query (`?`) nor a fragment (`#`)");
    }
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(&url) => {}
        "http" => {
            return Err(
                "begin with `https://` (`http://` only to localhost, 127.0.0.0/8 or [::1])",
            );
        }
        _ => return Err("begin with `https://`"),
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

/// Reads the URL of a proxy. The error completes "must …".
pub(super) fn parse_proxy(text: &str) -> Result<ProxyUrl, &'static str> {
    let url = parse(text)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("begin with `http://` or `https://`");
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err("end after host and port");
    }
    Ok(ProxyUrl(url))
}

fn parse(text: &str) -> Result<Url, &'static str> {
    const EXPECTED: &str = "be a URL, such as `https://host.example:8080`";
    // The parser would drop line feeds and tabs without a word.
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("not have white space or control characters in it");
    }
    let url = Url::parse(text).map_err(|_| EXPECTED)?;
    if url.host_str().is_none_or(str::is_empty) {
        return Err(EXPECTED);
    }
    Ok(url)
}

/// Appends path segments. Not with `Url::path_segments_mut`, which drops tabs and line feeds.
pub(super) fn append<'s>(base: &Url, segments: impl IntoIterator<Item = &'s str>) -> Option<Url> {
    const KEPT: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    let mut path = base.path().trim_end_matches('/').to_owned();
    for segment in segments {
        if matches!(segment, "" | "." | "..") {
            return None;
        }
        path.push('/');
        path.extend(utf8_percent_encode(segment, &KEPT));
    }
    let mut url = base.clone();
    url.set_path(&path);
    Some(url)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn base(text: &str) -> String {
        parse_base(text).map_or_else(|reason| format!("must {reason}"), String::from)
    }

    #[test]
    fn a_base_url_is_used_as_it_stands_but_for_slashes_at_its_end() {
        for (text, expected) in [
            ("https://api.openai.com/v1", "https://api.openai.com/v1"),
            ("https://api.openai.com/v1/", "https://api.openai.com/v1"),
            ("https://gateway.example:8443/a/b//", "https://gateway.example:8443/a/b"),
            ("https://host.example", "https://host.example/"),
            ("http://localhost:8080/v1", "http://localhost:8080/v1"),
            ("http://127.9.9.9/v1", "http://127.9.9.9/v1"),
            ("http://[::1]:80/v1", "http://[::1]/v1"),
        ] {
            assert_eq!(base(text), expected);
        }
    }

    #[test]
    fn a_base_url_that_would_leak_the_credential_is_refused() {
        for text in [
            "http://api.openai.com/v1",
            "http://10.0.0.1/v1",
            "http://localhost.example/v1",
            "http://[::ffff:127.0.0.1]/v1",
            "http://0.0.0.0/v1",
            "ftp://localhost/v1",
            "https://user@host/v1",
            "https://user:pass@host/v1",
            "https://:pass@host/v1",
            "https://host/v1?a=b",
            "https://host/v1#a",
            "https://host/v1?",
            "https://",
            "api.openai.com/v1",
            "",
            " https://host/v1",
            "https://ho\nst/v1",
            "file:///etc/passwd",
        ] {
            assert!(base(text).starts_with("must "), "{text}: {}", base(text));
        }
    }

    #[test]
    fn a_segment_that_no_url_can_carry_is_refused() {
        let base = parse_base("https://host/v1").unwrap();
        for segment in ["", ".", ".."] {
            assert_eq!(append(&base, ["keys", segment]), None);
        }
        let encoded = append(&base, ["keys", "%2e%2E"]).unwrap();
        assert_eq!(encoded.as_str(), "https://host/v1/keys/%252e%252E");
    }

    proptest! {
        #[test]
        fn any_other_segment_arrives_as_it_is(segment in any::<String>()) {
            prop_assume!(!matches!(segment.as_str(), "" | "." | ".."));
            let base = parse_base("https://host/v1").unwrap();
            let url = append(&base, ["keys", &segment]).unwrap();
            let sent: Vec<&str> = url.path_segments().unwrap().collect();
            prop_assert_eq!(&sent[..2], &["v1", "keys"]);
            let arrived = percent_encoding::percent_decode_str(sent[2]).decode_utf8().unwrap();
            prop_assert_eq!(arrived.as_ref(), segment.as_str());
            prop_assert_eq!(sent.len(), 3);
            prop_assert_eq!((url.query(), url.fragment()), (None, None));
        }
    }

    #[test]
    fn a_proxy_is_shown_without_its_password() {
        let proxy = parse_proxy("http://robot:hunter2@proxy.example:3128").unwrap();
        assert_eq!(proxy.to_string(), "http://***:***@proxy.example:3128");
        assert_eq!(format!("{proxy:?}"), "ProxyUrl(http://***:***@proxy.example:3128)");
        assert_eq!(proxy.expose().password(), Some("hunter2"));
        assert_eq!(parse_proxy("http://proxy:3128/").unwrap().to_string(), "http://proxy:3128");
    }

    #[test]
    fn what_is_no_proxy_is_refused() {
        for text in ["proxy:3128", "socks5://proxy:1080", "http://proxy/path", "http://proxy?a"] {
            assert!(parse_proxy(text).is_err(), "{text}");
        }
    }
}
