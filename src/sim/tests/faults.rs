//! Every fault, seen from the client's side.

use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::super::{BadItem, EdgeIds, ErrorBody, Fault, Matcher, Organization};
use super::{Answer, Site};

/// The second page of a listing of 50 keys in pages of 20, with a fault in all pages.
fn second_page(fault: Fault) -> (Site, Answer, Vec<String>) {
    let site = Site::of(50);
    let ids = site.ids();
    site.organization.fault(Matcher::list(), fault);
    let page = site.page(&format!("order=asc&after={}", ids[19]));
    (site, page, ids)
}

#[test]
fn rules_hold_for_the_requests_that_they_describe() {
    let statuses = |when: Matcher| {
        let site = Site::of(50);
        let ids = site.ids();
        let when = when_id(when, &ids[30]);
        site.organization.fault(when, Fault::status(500));
        let mut statuses = Vec::new();
        for after in [String::new(), format!("&after={}", ids[19]), format!("&after={}", ids[30])] {
            statuses.push(site.page(&format!("order=asc{after}")).status);
        }
        statuses.push(site.retrieve(&ids[30]).status);
        statuses.push(site.retrieve(&ids[31]).status);
        statuses
    };
    assert_eq!(statuses(Matcher::any()), [500, 500, 500, 500, 500]);
    assert_eq!(statuses(Matcher::list()), [500, 500, 500, 200, 200]);
    assert_eq!(statuses(Matcher::retrieve()), [200, 200, 200, 500, 500]);
    assert_eq!(statuses(Matcher::list().nth(2)), [200, 500, 200, 200, 200]);
    assert_eq!(statuses(Matcher::any().from(3)), [200, 200, 500, 500, 500]);
    assert_eq!(statuses(Matcher::any().first(2)), [500, 500, 200, 200, 200]);
    assert_eq!(statuses(Matcher::any().id("THE")), [200, 200, 500, 500, 200]);
    assert_eq!(statuses(Matcher::retrieve().id("THE")), [200, 200, 200, 500, 200]);
    assert_eq!(statuses(Matcher::any().page(0)), [500, 200, 200, 200, 200]);
    assert_eq!(statuses(Matcher::any().page(1)), [200, 500, 200, 200, 200]);
}

/// The id is known only once the organization is made.
fn when_id(when: Matcher, id: &str) -> Matcher {
    if when == Matcher::any().id("THE") {
        Matcher::any().id(id)
    } else if when == Matcher::retrieve().id("THE") {
        Matcher::retrieve().id(id)
    } else {
        when
    }
}

#[test]
fn clearing_the_faults_ends_them() {
    let (site, page, _) = second_page(Fault::status(503));
    assert_eq!(page.status, 503);
    site.organization.clear_faults();
    assert_eq!(site.page("").status, 200);
}

#[test]
fn a_status_comes_with_every_kind_of_body_and_header() {
    let answer = |fault| second_page(fault).1;
    let limited = answer(Fault::status(429).with_header("retry-after-ms", "20"));
    assert_eq!((limited.status, limited.header("retry-after-ms")), (429, Some("20")));
    assert_eq!(limited.json()["error"]["type"], "requests");
    let dated = answer(Fault::status(503).with_retry_after_date(784_111_777));
    assert_eq!(dated.header("retry-after"), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
    assert_eq!(dated.json()["error"]["type"], "server_error");
    let bare = answer(Fault::status_with(403, ErrorBody::BareString("no".to_owned())));
    assert_eq!(bare.json(), json!({ "error": "no" }));
    let html = answer(Fault::status_with(502, ErrorBody::Html));
    assert_eq!(html.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(html.body.starts_with(b"<html>"));
    let other = answer(Fault::status_with(404, ErrorBody::Json("{\"detail\":1}".to_owned())));
    assert_eq!(other.json(), json!({ "detail": 1 }));
    let nothing = answer(Fault::no_content());
    assert_eq!((nothing.status, nothing.body.len()), (204, 0));
    let moved = answer(Fault::redirect(307, "http://127.0.0.1:9/v1"));
    assert_eq!((moved.status, moved.header("location")), (307, Some("http://127.0.0.1:9/v1")));
    assert!(moved.header("x-request-id").is_some());
}

#[test]
fn headers_can_be_wrong_on_a_right_answer() {
    let (site, page, _) = second_page(Fault::ContentType(Some("text/html".to_owned())));
    assert_eq!((page.header("content-type"), page.ids().len()), (Some("text/html"), 20));
    site.organization.clear_faults();
    site.organization.fault(Matcher::list().nth(1), Fault::ContentType(None));
    site.organization
        .fault(Matcher::list().from(2), Fault::OrganizationHeader(Some("org-other".to_owned())));
    site.organization.fault(Matcher::list(), Fault::Header("x-more".to_owned(), "1".to_owned()));
    let first = site.page("");
    assert_eq!((first.header("content-type"), first.header("x-more")), (None, Some("1")));
    assert_ne!(first.header("openai-organization"), Some("org-other"));
    assert_eq!(site.page("").header("openai-organization"), Some("org-other"));
}

#[test]
fn has_more_can_lie_or_lack() {
    assert!(!second_page(Fault::EarlyEnd).1.has_more());
    let (_, page, _) = second_page(Fault::EmptyPageWithMore);
    assert!(page.ids().is_empty() && page.has_more());
    let (_, page, _) = second_page(Fault::EmptyList);
    assert!(page.ids().is_empty() && !page.has_more());
    let (site, page, ids) = second_page(Fault::MissingHasMore);
    assert!(page.json().get("has_more").is_none());
    assert!(site.page(&format!("after={}", ids[49])).ids().is_empty(), "and then an empty page");
    let (site, _, ids) = second_page(Fault::EndlessHasMore);
    assert!(site.page(&format!("after={}", ids[48])).has_more());
}

#[test]
fn pages_can_hold_other_keys_than_they_should() {
    let ids_of = |fault| {
        let (_, page, ids) = second_page(fault);
        (page.ids(), ids)
    };
    let (page, ids) = ids_of(Fault::RepeatedPage);
    assert_eq!(page, ids[..20]);
    let (page, ids) = ids_of(Fault::FromTheBeginning);
    assert_eq!(page, ids[..20]);
    let (page, ids) = ids_of(Fault::Overlap(3));
    assert_eq!(page, ids[17..37]);
    let (page, ids) = ids_of(Fault::SkipAhead(5));
    assert_eq!(page, ids[25..45]);
    let (page, ids) = ids_of(Fault::DropItem(0));
    assert_eq!(page, ids[21..40]);
    let (page, ids) = ids_of(Fault::DuplicateItem(2));
    assert_eq!((page.len(), &page[0], &page[1]), (21, &ids[22], &ids[20]));
    let (page, ids) = ids_of(Fault::OtherOrder);
    assert_eq!(page, ids[..19].iter().rev().cloned().collect::<Vec<_>>());
    let (page, ids) = ids_of(Fault::ShuffledItems);
    assert_ne!(page, ids[20..40]);
    let mut sorted = [page.clone(), ids[20..40].to_vec()];
    for ids in &mut sorted {
        ids.sort();
    }
    assert_eq!((&sorted[0], page.last()), (&sorted[1], Some(&ids[39])));
}

#[test]
fn a_hidden_key_is_never_listed_but_still_found() {
    let site = Site::of(50);
    let id = site.ids()[19].clone();
    site.organization.fault(Matcher::list(), Fault::HiddenKey(id.clone()));
    let scanned = site.scan(20, "asc");
    assert!(scanned.len() == 49 && !scanned.contains(&id));
    assert_eq!(site.retrieve(&id).status, 200);
}

#[test]
fn another_organization_can_answer_with_or_without_saying_so() {
    for header in [false, true] {
        let other = Arc::new(Organization::generate(77, 30));
        let fault = Fault::OtherOrganization { organization: Arc::clone(&other), header };
        let (site, page, _) = second_page(fault);
        assert_eq!(page.ids(), other.ids().take(20).collect::<Vec<_>>());
        let named = page.header("openai-organization");
        assert_eq!(named == other.organization_id(), header);
        assert_eq!(site.retrieve(&page.ids()[0]).status, 404, "only lists lie");
    }
}

#[test]
fn the_json_can_be_wrong_in_every_way() {
    let json_of = |fault| second_page(fault).1.json();
    assert!(json_of(Fault::MissingData).get("data").is_none());
    assert_eq!(json_of(Fault::DataInstead(json!({})))["data"], json!({}));
    let id = |bad| json_of(Fault::BadItem(2, bad))["data"][2]["id"].clone();
    assert_eq!(id(BadItem::EmptyId), "");
    assert_eq!(id(BadItem::NumberId), 42);
    assert_eq!(id(BadItem::NullId), Value::Null);
    let without = json_of(Fault::BadItem(99, BadItem::WithoutId));
    assert!(without["data"][19].get("id").is_none() && without["data"][19].is_object());
    let text = json_of(Fault::BadItem(0, BadItem::Instead(json!("key"))));
    assert_eq!(text["data"][0], "key");
    let (_, broken, _) = second_page(Fault::WrongJson);
    assert!(broken.whole && serde_json::from_slice::<Value>(&broken.body).is_err());
    assert_eq!(broken.header("content-type"), Some("application/json"));
}

#[test]
fn edge_ids_can_be_anything() {
    let json_of = |edges| second_page(Fault::EdgeIds(edges)).1.json();
    assert_eq!(json_of(EdgeIds::Null)["last_id"], Value::Null);
    assert!(json_of(EdgeIds::Missing).get("first_id").is_none());
    assert_eq!(json_of(EdgeIds::Last("x".to_owned()))["last_id"], "x");
}

#[test]
fn unknown_fields_and_full_secrets_can_turn_up() {
    let page = second_page(Fault::UnknownFields).1.json();
    assert!(page.get("next_cursor").is_some());
    assert!(
        page["data"][0].get("risk").is_some() && page["data"][0]["owner"]["department"] == "R&D"
    );
    let site = Site::of(3);
    site.organization.fault(Matcher::any(), Fault::FullSecret("sk-admin-MARK".to_owned()));
    assert_eq!(site.page("").json()["data"][1]["value"], "sk-admin-MARK");
    assert_eq!(site.retrieve(&site.ids()[0]).json()["value"], "sk-admin-MARK");
}

#[test]
fn look_ups_can_lie() {
    let site = Site::of(3);
    let (living, gone) = (site.ids()[0].clone(), site.ids()[1].clone());
    site.organization.with(|organization| organization.remove(&gone));
    assert_eq!((site.retrieve(&living).status, site.retrieve(&gone).status), (200, 404));
    site.organization.fault(Matcher::retrieve().first(2), Fault::RetrieveAlwaysFound);
    assert_eq!(site.retrieve(&gone).json()["id"], gone);
    assert_eq!(site.retrieve("key_never").json()["id"], "key_never");
    site.organization.fault(Matcher::retrieve().first(1), Fault::RetrieveNeverFound);
    let denied = site.retrieve(&living);
    assert_eq!((denied.status, &denied.json()["error"]["code"]), (404, &Value::Null));
    site.organization.fault(Matcher::retrieve(), Fault::RetrieveOtherId("key_x".to_owned()));
    assert_eq!(site.retrieve(&gone).json()["id"], "key_x");
}

#[test]
fn connections_can_fail_in_every_way() {
    let site = Site::of(50);
    let fail = |fault| {
        site.organization.clear_faults();
        site.organization.fault(Matcher::list(), fault);
        site.try_get("/v1/organization/admin_api_keys")
    };
    let reset = fail(Fault::ResetConnection).unwrap_err();
    assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset, "{reset}");
    let cut = fail(Fault::CutBody).unwrap();
    assert!(cut.status == 200 && !cut.whole && cut.body.len() > 1_000);
    let drip = Fault::DripBody { bytes: 1_000, pause: Duration::from_millis(1) };
    let dripped = fail(drip).unwrap();
    assert!(dripped.whole && dripped.ids().len() == 20);
    site.organization.clear_faults();
    assert_eq!(site.page("").status, 200, "the server goes on");
}

#[test]
fn a_hanging_answer_hangs_until_the_client_goes() {
    let site = Site::of(50);
    for (fault, expected) in [(Fault::Hang, 0), (Fault::StallBody, 1_000)] {
        site.organization.clear_faults();
        site.organization.fault(Matcher::list(), fault);
        let mut stream = std::net::TcpStream::connect(site.server.addr()).unwrap();
        let head = format!("authorization: Bearer {}\r\nhost: x", site.credential);
        let request = format!("GET /v1/organization/admin_api_keys HTTP/1.1\r\n{head}\r\n\r\n");
        std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(150))).unwrap();
        let mut bytes = Vec::new();
        let error = stream.read_to_end(&mut bytes).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
        assert_eq!(bytes.len() > 1_000, expected > 0);
    }
    assert_eq!(site.organization.most_in_flight(), 1, "they were over when their clients went");
}

#[test]
fn bodies_can_be_huge_and_bombs_small() {
    const SIZE: usize = 9 * 1024 * 1024;
    let (_, huge, _) = second_page(Fault::HugeBody(SIZE));
    assert!(huge.whole && huge.body.len() == SIZE && huge.ids().len() == 20);
    let (_, bomb, _) = second_page(Fault::GzipBomb(SIZE));
    assert_eq!(bomb.header("content-encoding"), Some("gzip"));
    assert!(bomb.whole && bomb.body.len() < 64 * 1024);
    let mut decoded = Vec::new();
    flate2::read::GzDecoder::new(&*bomb.body).read_to_end(&mut decoded).unwrap();
    assert_eq!(decoded.len(), SIZE);
    assert!(serde_json::from_slice::<Value>(&decoded).is_ok());
}

#[test]
fn latency_delays_every_answer_and_lets_them_overlap() {
    let site = Site::of(5);
    site.organization.set_latency(Duration::from_millis(60));
    site.organization.fault(Matcher::retrieve(), Fault::Delay(Duration::from_millis(10)));
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| site.page(""));
        }
    });
    assert!(begin.elapsed() >= Duration::from_millis(60));
    assert!(site.organization.most_in_flight() > 1);
    let begin = Instant::now();
    site.retrieve("x");
    assert!(begin.elapsed() >= Duration::from_millis(70));
}

#[test]
fn faults_of_one_answer_add_up() {
    let site = Site::of(50);
    site.organization.fault(Matcher::list(), Fault::EarlyEnd);
    site.organization.fault(Matcher::list(), Fault::EdgeIds(EdgeIds::Null));
    let page = site.page("");
    assert!(!page.has_more() && page.json()["first_id"].is_null());
}
