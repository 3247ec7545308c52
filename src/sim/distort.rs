//! Faults at work: on the listing, on a page, on a whole answer.

use serde_json::{Value, json};

use super::endpoints::{View, never_found};
use super::faults::{BadItem, ErrorBody, Fault};
use super::generate::KEY_OBJECT;
use super::keys::{json_text, parse_object};
use super::organization::Organization;
use super::projects::PROJECT_KEY_OBJECT;
use super::reply::{Content, Data, Delivery, Page, Problem, Reply};
use super::request::{ApiRequest, Endpoint};

/// What the faults make of the listing.
pub(super) fn view(faults: &[Fault]) -> View {
    let mut view = View::default();
    for fault in faults {
        match fault {
            Fault::HiddenKey(id) => view.hidden.push(id.clone()),
            Fault::SkipAhead(keys) => view.skip_ahead = *keys,
            Fault::RepeatedPage => view.repeat_page = true,
            Fault::Overlap(keys) => view.overlap = *keys,
            Fault::FromTheBeginning => view.ignore_cursor = true,
            Fault::OtherOrder => view.descending = true,
            Fault::IgnoredFilters => view.ignore_filters = true,
            Fault::ForeignEntries => view.foreign_entries = true,
            Fault::OtherOrganization { organization, .. } => {
                view.instead = Some(std::sync::Arc::clone(organization));
            }
            _ => {}
        }
    }
    view
}

/// Applies one fault to an answer.
pub(super) fn distort(
    reply: &mut Reply,
    fault: &Fault,
    organization: &Organization,
    request: &ApiRequest,
) {
    if let Content::Page(page) = &mut reply.content {
        distort_page(page, fault);
    }
    if matches!(request.endpoint, Endpoint::Retrieve | Endpoint::Project | Endpoint::ProjectKey) {
        distort_retrieved(reply, fault, organization, request);
    }
    distort_delivery(reply, fault);
    match fault {
        Fault::Status { status, body, headers } => replace(reply, *status, body, headers),
        Fault::Header(name, value) => reply.headers.push((name.clone(), value.clone())),
        Fault::ContentType(content_type) => reply.content_type.clone_from(content_type),
        Fault::OrganizationHeader(id) => reply.organization.clone_from(id),
        Fault::OtherOrganization { organization, header: true } => {
            reply.organization = organization.organization_id().map(str::to_owned);
        }
        Fault::WrongJson => {
            let mut text = String::from_utf8_lossy(&reply.body()).into_owned();
            text.truncate(text.floor_char_boundary(text.len() / 2));
            reply.content = Content::Text(text);
        }
        _ => {}
    }
}

fn distort_delivery(reply: &mut Reply, fault: &Fault) {
    match fault {
        Fault::ResetConnection => reply.delivery = Delivery::Reset,
        Fault::Hang => reply.delivery = Delivery::Hang,
        Fault::CutBody => reply.delivery = Delivery::Cut,
        Fault::StallBody => reply.delivery = Delivery::Stall,
        Fault::DripBody { bytes, pause } => {
            reply.delivery = Delivery::Drip { bytes: (*bytes).max(1), pause: *pause };
        }
        Fault::HugeBody(bytes) => reply.pad_to = *bytes,
        Fault::GzipBomb(bytes) => {
            reply.pad_to = *bytes;
            reply.gzip = true;
        }
        Fault::Delay(delay) => reply.delay += *delay,
        _ => {}
    }
}

fn replace(reply: &mut Reply, status: u16, body: &ErrorBody, headers: &[(String, String)]) {
    let json = "application/json";
    let (content_type, text) = match body {
        ErrorBody::Envelope(message) => {
            let kind = match status {
                429 => "requests",
                500.. => "server_error",
                _ => "invalid_request_error",
            };
            let problem = Problem { message, kind, param: None, code: None };
            (Some(json), problem.envelope())
        }
        ErrorBody::BareString(message) => (Some(json), json!({ "error": message }).to_string()),
        ErrorBody::Html => (Some("text/html; charset=utf-8"), html(status)),
        ErrorBody::Json(text) => (Some(json), text.clone()),
        ErrorBody::Empty => (None, String::new()),
    };
    reply.status = status;
    reply.content_type = content_type.map(str::to_owned);
    reply.content = Content::Text(text);
    reply.headers.extend_from_slice(headers);
}

fn html(status: u16) -> String {
    format!(
        "<html>\r\n<head><title>{status}</title></head>\r\n<body>\r\n<center><h1>{status}</h1>\
         </center>\r\n<hr><center>proxy</center>\r\n</body>\r\n</html>\r\n"
    )
}

fn distort_page(page: &mut Page, fault: &Fault) {
    match fault {
        Fault::EarlyEnd => page.has_more = Some(false),
        Fault::EndlessHasMore => page.has_more = Some(true),
        Fault::MissingHasMore => page.has_more = None,
        Fault::EmptyPageWithMore => *page = Page::new(Vec::new(), true),
        Fault::EmptyList => *page = Page::new(Vec::new(), false),
        Fault::DropItem(at) if *at < page.items.len() => drop(page.items.remove(*at)),
        Fault::DuplicateItem(at) => {
            if let Some(item) = page.items.get(*at).cloned() {
                page.items.insert(0, item);
            }
        }
        Fault::ShuffledItems => shuffle(page),
        Fault::MissingData => page.data = Data::Missing,
        Fault::DataInstead(value) => page.data = Data::Instead(value.clone()),
        Fault::BadItem(at, bad) => spoil(page, *at, bad),
        Fault::EdgeIds(edges) => page.edges = edges.clone(),
        Fault::UnknownFields => add_unknown_fields(page),
        Fault::FullSecret(secret) => {
            for item in &mut page.items {
                item.json = with_secret(&item.json, secret);
            }
        }
        _ => {}
    }
}

/// Turns everything but the last item round by half, which leaves no order.
fn shuffle(page: &mut Page) {
    if let Some((_, rest)) = page.items.split_last_mut() {
        rest.rotate_left(rest.len() / 2);
    }
}

fn spoil(page: &mut Page, at: usize, bad: &BadItem) {
    let Some(last) = page.items.len().checked_sub(1) else {
        return;
    };
    let item = &mut page.items[at.min(last)];
    let mut key = parse_object(&item.json);
    let id = match bad {
        BadItem::WithoutId => None,
        BadItem::EmptyId => Some(Value::from("")),
        BadItem::NumberId => Some(Value::from(42)),
        BadItem::NullId => Some(Value::Null),
        BadItem::Instead(value) => {
            item.json = value.to_string();
            item.id = None;
            return;
        }
    };
    match id {
        Some(id) => drop(key.insert("id".to_owned(), id)),
        None => drop(key.remove("id")),
    }
    item.json = json_text(&key);
    item.id = None;
}

fn add_unknown_fields(page: &mut Page) {
    page.extra.push(("next_cursor", Value::from("b3BhcXVl")));
    page.extra.push(("total", json!({ "estimate": 12 })));
    for item in &mut page.items {
        let mut key = parse_object(&item.json);
        key.insert("permissions".to_owned(), json!(["api.management.read"]));
        key.insert("risk".to_owned(), json!({ "score": 0.5, "reasons": [] }));
        if let Some(Value::Object(owner)) = key.get_mut("owner") {
            owner.insert("department".to_owned(), Value::from("R&D"));
        }
        item.json = json_text(&key);
    }
}

fn with_secret(json: &str, secret: &str) -> String {
    let mut key = parse_object(json);
    key.insert("value".to_owned(), Value::from(secret));
    json_text(&key)
}

fn distort_retrieved(
    reply: &mut Reply,
    fault: &Fault,
    organization: &Organization,
    request: &ApiRequest,
) {
    let replacement = match (fault, reply.status) {
        (Fault::RetrieveNeverFound, 200) => never_found(request).into(),
        (Fault::RetrieveAlwaysFound, 404) => Reply::json(200, remembered(organization, request)),
        (Fault::RetrieveOtherId(other), 200 | 404) => {
            let mut key = parse_object(&remembered(organization, request));
            key.insert("id".to_owned(), Value::from(other.as_str()));
            Reply::json(200, json_text(&key))
        }
        (Fault::FullSecret(secret), 200) => match &reply.content {
            Content::Text(text) => Reply::json(200, with_secret(text, secret)),
            Content::Page(_) => return,
        },
        _ => return,
    };
    reply.status = replacement.status;
    reply.content_type = replacement.content_type;
    reply.content = replacement.content;
}

/// The JSON of what is looked up: as it is, as it was before it went, or as good as any.
fn remembered(organization: &Organization, request: &ApiRequest) -> String {
    let id = request.key_id.as_deref().or(request.project_id.as_deref()).unwrap_or_default();
    let rows = match (request.endpoint, &request.project_id) {
        (Endpoint::Project, _) => Some(&organization.projects.rows),
        (_, Some(project)) => organization.projects.home(project).map(|home| &home.keys),
        (_, None) => Some(&organization.admin),
    };
    if let Some(record) = rows.and_then(|rows| rows.remembered(id)) {
        return record.to_json();
    }
    let mut made_up = json!({
        "object": if request.project_id.is_some() { PROJECT_KEY_OBJECT } else { KEY_OBJECT },
        "id": id,
        "name": null,
        "redacted_value": "sk-admin-****0000",
        "created_at": organization.now(),
        "last_used_at": null,
        "expires_at": null,
        "owner": { "type": "user", "object": "organization.user" },
    });
    if request.endpoint == Endpoint::Project {
        made_up["object"] = "organization.project".into();
    }
    made_up.to_string()
}
