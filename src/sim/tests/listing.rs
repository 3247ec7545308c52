//! Paging, look-ups, refusals and headers, without any fault.

use std::net::SocketAddr;
use std::time::Instant;

use serde_json::{Value, json};

use super::super::{
    ANY_PORT, AboveMaxLimit, Access, Endpoint, Organization, Server, VanishedCursor,
};
use super::{Site, distinct};

#[test]
fn every_size_is_listed_whole_in_both_orders() {
    for keys in [0, 1, 20, 99, 100, 101, 250] {
        let site = Site::of(keys);
        let ascending = site.scan(100, "asc");
        assert_eq!(ascending, site.ids(), "{keys} keys");
        assert_eq!(distinct(&ascending), keys);
        let mut descending = site.scan(7, "desc");
        descending.reverse();
        assert_eq!(descending, ascending);
    }
}

#[test]
fn a_page_has_the_shape_of_the_reference() {
    let site = Site::of(30);
    let page = site.page("order=asc").json();
    assert_eq!(page["object"], "list");
    assert_eq!(page["data"].as_array().unwrap().len(), 20, "the default limit");
    assert_eq!(page["first_id"], page["data"][0]["id"]);
    assert_eq!(page["last_id"], page["data"][19]["id"]);
    assert_eq!(page["has_more"], true);
    for key in page["data"].as_array().unwrap() {
        assert_eq!(key["object"], "organization.admin_api_key");
        assert!(key["id"].as_str().unwrap().starts_with("key_"));
        assert_eq!(key["id"].as_str().unwrap().len(), 28);
        assert!(key["redacted_value"].as_str().unwrap().starts_with("sk-"));
        assert!(key["created_at"].is_i64());
        for field in ["name", "last_used_at", "expires_at"] {
            assert!(key.get(field).is_some(), "{field} is sent, if only as null");
        }
        assert!(key["owner"]["object"].as_str().unwrap().starts_with("organization."));
        assert!(key["owner"]["created_at"].is_i64());
    }
}

#[test]
fn the_same_seed_is_the_same_organization_and_another_is_not() {
    let whole = |seed| Organization::generate(seed, 500).keys().collect::<Vec<_>>();
    assert_eq!(whole(1), whole(1));
    let other: Vec<_> = Organization::generate(2, 500).ids().map(str::to_owned).collect();
    assert!(whole(1).iter().all(|key| !other.contains(&key["id"].as_str().unwrap().to_owned())));
}

#[test]
fn a_generated_organization_is_as_mixed_as_a_real_one() {
    let organization = Organization::generate(3, 2_000);
    let keys: Vec<_> = organization.keys().collect();
    let count = |test: &dyn Fn(&Value) -> bool| {
        keys.iter().filter(|key| test(&Value::Object((*key).clone()))).count()
    };
    let ties = keys.windows(2).filter(|two| two[0]["created_at"] == two[1]["created_at"]).count();
    assert!(ties > 10, "{ties} ties");
    assert!(
        keys.windows(2).all(|two| two[0]["created_at"].as_i64() <= two[1]["created_at"].as_i64())
    );
    assert!(count(&|key| key["name"].is_null()) > 5);
    assert!(count(&|key| key["last_used_at"].is_null()) > 100);
    assert!(count(&|key| key["expires_at"].is_i64()) > 100);
    let project = |key: &Value| key["redacted_value"].as_str().unwrap().starts_with("sk-proj-");
    assert!(count(&project) > 50);
    assert_eq!(count(&|key| project(key) && key["owner"]["type"] != "service_account"), 0);
    let owners: std::collections::HashSet<String> =
        keys.iter().map(|key| key["owner"]["id"].to_string()).collect();
    assert!(owners.len() > 100 && owners.len() < 1_000, "{} owners share", owners.len());
}

#[test]
fn a_limit_above_the_maximum_is_refused_or_clamped() {
    let site = Site::of(120);
    let refused = site.page("limit=101&order=asc");
    assert_eq!(refused.status, 400);
    assert_eq!(refused.json()["error"]["type"], "invalid_request_error");
    assert_eq!(refused.json()["error"]["param"], "limit");
    site.organization.with(|organization| organization.paging.above_max = AboveMaxLimit::Clamp);
    assert_eq!(site.page("limit=1000").ids().len(), 100);
    site.organization.with(|organization| organization.paging.max_limit = 10);
    assert_eq!(site.page("").ids().len(), 10);
    for (query, param) in [("limit=0", "limit"), ("limit=x", "limit"), ("order=up", "order")] {
        let refused = site.page(query);
        assert_eq!((refused.status, &refused.json()["error"]["param"]), (400, &json!(param)));
    }
}

#[test]
fn a_key_is_looked_up_by_its_decoded_id() {
    let site = Site::of(3);
    let id = "a/b c\"d?é";
    site.organization.with(|organization| {
        let mut key = organization.keys().next().unwrap();
        key.insert("id".to_owned(), json!(id));
        organization.add_raw(&key);
    });
    let found = site.retrieve("a%2Fb%20c%22d%3F%C3%A9");
    assert_eq!((found.status, found.json()["id"].as_str()), (200, Some(id)));
    let logged = site.organization.requests().pop().unwrap();
    assert_eq!((logged.endpoint, logged.key_id.as_deref()), (Endpoint::Retrieve, Some(id)));
    let page = site.page("after=a%2Fb%20c%22d%3F%C3%A9&order=asc");
    assert_eq!(page.status, 200, "it is a cursor too");
}

#[test]
fn what_is_not_there_is_not_found_in_the_envelope() {
    let site = Site::of(3);
    for path in [
        "/v1/organization/admin_api_keys/key_none",
        "/v1/organization/admin_api_keys/",
        "/v1/organization/admin_api_keys/a/b",
        "/v1/models",
        "/organization/admin_api_keys",
    ] {
        let answer = site.get(path);
        assert_eq!(answer.status, 404, "{path}");
        let error = &answer.json()["error"];
        assert_eq!(error["type"], "invalid_request_error");
        assert!(
            error["message"].is_string() && error["param"].is_null() && error["code"].is_null()
        );
    }
}

#[test]
fn the_wrong_credentials_are_refused_each_in_its_own_way() {
    let site = Site::of(3);
    let path = "/v1/organization/admin_api_keys";
    let ask = |secret: &str| {
        site.send("GET", path, &[&format!("authorization: Bearer {secret}")]).unwrap()
    };
    site.organization.with(|organization| {
        organization.set_access("sk-admin-revoked", Access::Revoked);
        organization.set_access("sk-proj-1", Access::ProjectKey);
        organization.set_access("sk-admin-a", Access::MissingScopes { status: 401 });
        organization.set_access("sk-admin-b", Access::MissingScopes { status: 403 });
    });
    let none = site.send("GET", path, &[]).unwrap();
    assert_eq!(none.status, 401);
    assert!(
        none.json()["error"]["message"].as_str().unwrap().contains("didn't provide an API key")
    );
    for secret in ["sk-admin-unknown-0123456789", "sk-admin-revoked"] {
        let answer = ask(secret);
        assert_eq!(
            (answer.status, &answer.json()["error"]["code"]),
            (401, &json!("invalid_api_key"))
        );
        assert!(!String::from_utf8_lossy(&answer.body).contains(secret));
    }
    assert_eq!(ask("sk-proj-1").status, 401);
    for (secret, status) in [("sk-admin-a", 401), ("sk-admin-b", 403)] {
        let answer = ask(secret);
        assert_eq!(answer.status, status);
        assert!(
            answer.json()["error"]
                .as_str()
                .unwrap()
                .contains("Missing scopes: api.management.read")
        );
    }
    assert_eq!(site.send("POST", path, &[]).unwrap().status, 405);
    let other =
        [&*format!("authorization: Bearer {}", site.credential), "OpenAI-Organization: org-x"];
    let answer = site.send("GET", path, &other).unwrap();
    assert_eq!(
        (answer.status, &answer.json()["error"]["code"]),
        (401, &json!("mismatched_organization"))
    );
}

#[test]
fn answers_carry_the_headers_of_the_api_and_the_time_of_the_organization() {
    let site = Site::of(1);
    site.organization.with(|organization| organization.set_now(784_111_777));
    let answer = site.page("");
    assert_eq!(answer.header("date"), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("openai-version"), Some("2020-10-01"));
    assert!(answer.header("openai-processing-ms").is_some());
    let logged = site.organization.requests().pop().unwrap();
    assert_eq!(answer.header("x-request-id"), Some(logged.request_id.as_str()));
    let id =
        site.organization.with(|organization| organization.organization_id().map(str::to_owned));
    assert_eq!(answer.header("openai-organization"), id.as_deref());
    site.organization.with(|organization| organization.set_organization_id(None));
    assert_eq!(site.page("").header("openai-organization"), None);
}

#[test]
fn being_asked_is_a_use_of_the_credentials_own_key() {
    let site = Site::of(40);
    let own = site.organization.with(|organization| {
        organization.set_now(2_000_000_000);
        organization.own_key(organization.credential()).unwrap().to_owned()
    });
    let tail = &site.credential[site.credential.len() - 4..];
    let key = site.retrieve(&own).json();
    assert_eq!(key["redacted_value"], format!("sk-admin-****{tail}"));
    assert_eq!(key["last_used_at"], 2_000_000_000);
    let used_now = site.organization.with(|organization| {
        organization.keys().filter(|key| key["last_used_at"] == 2_000_000_000).count()
    });
    assert_eq!(used_now, 1);
    site.organization.with(|organization| {
        organization.records_own_use = false;
        organization.advance(60);
    });
    assert_eq!(site.retrieve(&own).json()["last_used_at"], 2_000_000_000);
}

#[test]
fn a_new_credential_opens_the_organization_and_is_listed() {
    let mut site = Site::of(3);
    site.credential =
        site.organization.with(|organization| organization.issue_credential("second"));
    let id = site
        .organization
        .with(|organization| organization.own_key(&site.credential).unwrap().to_owned());
    assert!(site.scan(100, "asc").contains(&id));
}

#[test]
fn a_credential_of_another_hosted_organization_opens_that_one() {
    let mut site = Site::of(3);
    let other = Organization::generate(99, 5);
    let ids: Vec<String> = other.ids().map(str::to_owned).collect();
    let (id, secret) = (other.organization_id().unwrap().to_owned(), other.credential().to_owned());
    site.organization.host(other);
    site.credential = secret;
    assert_eq!(site.scan(100, "asc"), ids);
    assert_eq!(site.page("").header("openai-organization"), Some(id.as_str()));
}

#[test]
fn a_vanished_cursor_answers_as_it_was_told_to() {
    let site = Site::of(50);
    let ids = site.ids();
    let (cursor, first) = (&ids[9], &ids[0]);
    site.organization.with(|organization| organization.remove(cursor));
    let ask = |how| {
        site.organization.with(|organization| organization.paging.vanished_cursor = how);
        site.page(&format!("order=asc&limit=5&after={cursor}"))
    };
    for (how, status) in [(VanishedCursor::NotFound404, 404), (VanishedCursor::BadRequest400, 400)]
    {
        let answer = ask(how);
        assert_eq!((answer.status, &answer.json()["error"]["param"]), (status, &json!("after")));
    }
    let empty = ask(VanishedCursor::EmptyPage);
    assert!(empty.ids().is_empty() && !empty.has_more());
    assert_eq!(&ask(VanishedCursor::FromTheBeginning).ids()[0], first);
    assert_eq!(ask(VanishedCursor::Continues).ids(), &ids[10..15]);
}

#[test]
fn only_loopback_is_listened_on() {
    let addr: SocketAddr = "0.0.0.0:0".parse().unwrap();
    let error = Server::start_blocking(Organization::generate(1, 1), addr).err().unwrap();
    assert!(error.to_string().contains("loopback only"), "{error}");
    assert!(Server::start(Organization::generate(1, 1), ANY_PORT).is_err(), "no runtime");
}

#[tokio::test]
async fn a_server_on_a_runtime_answers_and_shuts_down() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = Server::start(Organization::generate(1, 2), ANY_PORT).unwrap();
    assert_eq!(server.base_url(), format!("http://{}/v1", server.addr()));
    let mut stream = tokio::net::TcpStream::connect(server.addr()).await.unwrap();
    stream.write_all(b"GET /v1/x HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut start = [0; 12];
    stream.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 404");
    let addr = server.addr();
    server.shutdown().await;
    assert!(tokio::net::TcpStream::connect(addr).await.is_err());
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.ok();
}

#[test]
fn a_hundred_thousand_keys_page_as_fast_as_a_hundred() {
    let begin = Instant::now();
    let site = Site::of(100_000);
    let generated = begin.elapsed();
    let ids = site.ids();
    let begin = Instant::now();
    for page in 0..100 {
        let at = page * 999;
        let answer = site.page(&format!("order=asc&limit=100&after={}", ids[at]));
        assert_eq!(answer.body.len() > 10_000, answer.whole);
    }
    let paged = begin.elapsed();
    // Generous: a walk over the keys for each page would take many times as long.
    assert!(paged.as_secs() < 5, "generated in {generated:?}, 100 pages in {paged:?}");
}
