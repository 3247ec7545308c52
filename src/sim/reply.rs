//! An answer on its way out: what it says, and how it will be delivered.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::keys::Record;

/// How the bytes of an answer get to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Delivery {
    #[default]
    Whole,
    /// Half of the promised bytes, then the end of the connection.
    Cut,
    /// Half of the promised bytes, then nothing, the connection open.
    Stall,
    /// A few bytes at a time.
    Drip { bytes: usize, pause: Duration },
    /// The connection is reset, without a byte of an answer.
    Reset,
    /// Nothing at all, the connection open.
    Hang,
}

/// What an answer says.
#[derive(Debug, Clone)]
pub(super) enum Content {
    Page(Page),
    Text(String),
}

/// An answer, before it is put into bytes.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) content_type: Option<String>,
    pub(super) organization: Option<String>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) content: Content,
    /// White space is added up to this many bytes.
    pub(super) pad_to: usize,
    pub(super) gzip: bool,
    pub(super) delivery: Delivery,
    pub(super) delay: Duration,
}

impl Reply {
    fn new(status: u16, content: Content) -> Self {
        Self {
            status,
            content_type: Some("application/json".to_owned()),
            organization: None,
            headers: Vec::new(),
            content,
            pad_to: 0,
            gzip: false,
            delivery: Delivery::default(),
            delay: Duration::ZERO,
        }
    }

    pub(super) fn json(status: u16, text: String) -> Self {
        Self::new(status, Content::Text(text))
    }

    pub(super) fn page(page: Page) -> Self {
        Self::new(200, Content::Page(page))
    }

    /// The bytes of the body.
    pub(super) fn body(&self) -> Vec<u8> {
        let mut body = match &self.content {
            Content::Page(page) => page.render(),
            Content::Text(text) => text.clone(),
        }
        .into_bytes();
        if body.len() < self.pad_to {
            body.resize(self.pad_to, b' ');
        }
        if self.gzip { compressed(&body) } else { body }
    }
}

/// An answer that says no.
#[derive(Debug)]
pub(super) struct Refusal {
    status: u16,
    body: String,
}

impl Refusal {
    /// In the API's error envelope.
    pub(super) fn new(status: u16, problem: &Problem<'_>) -> Self {
        Self { status, body: problem.envelope() }
    }

    /// In the other envelope, in which `error` is a bare string.
    pub(super) fn bare(status: u16, message: &str) -> Self {
        Self { status, body: json!({ "error": message }).to_string() }
    }
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Self {
        Self::json(refusal.status, refusal.body)
    }
}

fn compressed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    // Writing into memory does not fail.
    encoder.write_all(bytes).and_then(|()| encoder.finish()).unwrap_or_default()
}

/// What the API's error envelope says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Problem<'a> {
    pub(super) message: &'a str,
    pub(super) kind: &'a str,
    pub(super) param: Option<&'a str>,
    pub(super) code: Option<&'a str>,
}

impl<'a> Problem<'a> {
    pub(super) fn invalid_request(message: &'a str) -> Self {
        Self { message, kind: "invalid_request_error", param: None, code: None }
    }

    pub(super) fn param(self, param: &'a str) -> Self {
        Self { param: Some(param), ..self }
    }

    pub(super) fn code(self, code: &'a str) -> Self {
        Self { code: Some(code), ..self }
    }

    pub(super) fn envelope(&self) -> String {
        let error = json!({
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        });
        json!({ "error": error }).to_string()
    }
}

/// One element of a page's `data`.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) id: Option<Arc<str>>,
    pub(super) json: String,
}

impl From<&Record> for Item {
    fn from(record: &Record) -> Self {
        Self { id: record.id.clone(), json: record.to_json() }
    }
}

/// What a page says in `data`.
#[derive(Debug, Clone)]
pub(super) enum Data {
    Items,
    Missing,
    Instead(Value),
}

/// What a page says in `first_id` and `last_id`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum EdgeIds {
    /// The first and the last item's id.
    #[default]
    True,
    /// Null both.
    Null,
    /// Left out both.
    Missing,
    /// This id in `last_id`, whatever the last item's is.
    Last(String),
}

/// A page of the listing.
#[derive(Debug, Clone)]
pub(super) struct Page {
    pub(super) items: Vec<Item>,
    pub(super) data: Data,
    pub(super) has_more: Option<bool>,
    pub(super) edges: EdgeIds,
    /// Further members, written as they are.
    pub(super) extra: Vec<(&'static str, Value)>,
}

impl Page {
    pub(super) fn new(items: Vec<Item>, has_more: bool) -> Self {
        Self {
            items,
            data: Data::Items,
            has_more: Some(has_more),
            edges: EdgeIds::True,
            extra: Vec::new(),
        }
    }

    /// The cursor that a client takes from this page.
    pub(super) fn last_id(&self) -> Option<&str> {
        self.items.last()?.id.as_deref()
    }

    fn render(&self) -> String {
        let length = self.items.iter().map(|item| item.json.len() + 1).sum::<usize>();
        let mut text = String::with_capacity(length + 256);
        text.push_str("{\"object\":\"list\"");
        match &self.data {
            Data::Items => self.render_items(&mut text),
            Data::Missing => {}
            Data::Instead(value) => push_member(&mut text, "data", value),
        }
        let first = Value::from(self.items.first().and_then(|item| item.id.as_deref()));
        let last = Value::from(self.last_id());
        match &self.edges {
            EdgeIds::True => push_edges(&mut text, &first, &last),
            EdgeIds::Null => push_edges(&mut text, &Value::Null, &Value::Null),
            EdgeIds::Missing => {}
            EdgeIds::Last(id) => push_edges(&mut text, &first, &Value::from(id.as_str())),
        }
        if let Some(has_more) = self.has_more {
            push_member(&mut text, "has_more", &Value::from(has_more));
        }
        for (name, value) in &self.extra {
            push_member(&mut text, name, value);
        }
        text.push('}');
        text
    }

    fn render_items(&self, text: &mut String) {
        text.push_str(",\"data\":[");
        for (at, item) in self.items.iter().enumerate() {
            if at > 0 {
                text.push(',');
            }
            text.push_str(&item.json);
        }
        text.push(']');
    }
}

fn push_edges(text: &mut String, first: &Value, last: &Value) {
    push_member(text, "first_id", first);
    push_member(text, "last_id", last);
}

fn push_member(text: &mut String, name: &str, value: &Value) {
    text.push_str(",\"");
    text.push_str(name);
    text.push_str("\":");
    text.push_str(&value.to_string());
}
