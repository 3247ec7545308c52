//! The provider's JSON: a page of the listing, one key, an error.

use serde_json::{Map, Value};

use super::fields::{Interned, Reader, Warnings};
use super::mask::Mask;
use crate::inventory::{KeyId, Sighting};

/// The longest message of the API that is repeated, in characters.
const MESSAGE_CHARS: usize = 300;

/// One page of the listing.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) keys: Vec<Sighting>,
    /// `None` where the API does not say.
    pub(super) has_more: Option<bool>,
}

/// Why an answer is not a page of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Malformed {
    Page(&'static str),
    /// The item, counted from 1.
    Item(usize, &'static str),
}

/// Reads the pages of one scan.
pub(super) struct PageParser<'a> {
    mask: &'a Mask,
    interned: Interned,
    pub(super) warnings: Warnings,
}

impl<'a> PageParser<'a> {
    pub(super) fn new(mask: &'a Mask) -> Self {
        Self { mask, interned: Interned::default(), warnings: Warnings::default() }
    }

    pub(super) fn parse(&mut self, body: Value) -> Result<Page, Malformed> {
        let Value::Object(mut body) = body else {
            return Err(Malformed::Page("it is not an object"));
        };
        let has_more = match body.get("has_more") {
            None | Some(Value::Null) => None,
            Some(Value::Bool(more)) => Some(*more),
            Some(_) => return Err(Malformed::Page("`has_more` is neither true nor false")),
        };
        let items = match body.remove("data") {
            Some(Value::Array(items)) => items,
            Some(_) => return Err(Malformed::Page("`data` is not an array")),
            None => return Err(Malformed::Page("it has no `data`")),
        };
        let keys = items.into_iter().enumerate().map(|(at, item)| {
            self.parse_key(item).map_err(|problem| Malformed::Item(at + 1, problem))
        });
        Ok(Page { keys: keys.collect::<Result<_, _>>()?, has_more })
    }

    fn parse_key(&mut self, item: Value) -> Result<Sighting, &'static str> {
        let Value::Object(members) = item else {
            return Err("it is not an object");
        };
        let id = match members.get("id") {
            Some(Value::String(id)) => KeyId::new(id).ok_or("its `id` is empty")?,
            Some(_) => return Err("its `id` is not a string"),
            None => return Err("it has no `id`"),
        };
        if self.mask.masked(id.as_str()).is_some() {
            return Err("its `id` looks like a secret");
        }
        Ok(Reader::read(id, members, self.mask, &mut self.interned, &mut self.warnings))
    }
}

/// Whether `body` is the key with this id.
pub(super) fn is_key(body: &Value, id: &KeyId) -> bool {
    body.get("id").and_then(Value::as_str) == Some(id.as_str())
}

/// What an answer other than 200 says about itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ErrorBody {
    /// One readable line.
    pub(super) message: String,
    /// The scopes that the message says are missing.
    pub(super) scopes: Vec<String>,
    /// Whether it is the API that speaks: JSON with an `error`, and not something before it.
    pub(super) is_envelope: bool,
}

/// Reads the body of an error: either envelope of the API, an HTML page, or anything else.
pub(super) fn parse_error(body: &[u8], is_json: bool, mask: &Mask) -> ErrorBody {
    let json: Option<Map<String, Value>> = serde_json::from_slice(body).ok();
    let error = json.as_ref().and_then(|json| json.get("error"));
    let message = match error {
        Some(Value::String(message)) => Some(message.as_str()),
        Some(Value::Object(error)) => error.get("message").and_then(Value::as_str),
        _ => None,
    };
    if let Some(message) = message {
        let masked = mask.masked(message).unwrap_or_else(|| message.to_owned());
        let scopes = missing_scopes(&masked);
        return ErrorBody { message: cut(&masked), scopes, is_envelope: is_json };
    }
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    let message = if text.is_empty() {
        "without a message".to_owned()
    } else if looks_like_html(text) {
        html_title(text, mask)
    } else if json.is_some() {
        "a JSON object without an error message".to_owned()
    } else {
        "a body that is not the API's".to_owned()
    };
    ErrorBody { message, ..ErrorBody::default() }
}

/// Cuts a message, and says so.
fn cut(message: &str) -> String {
    let message = message.trim();
    match message.char_indices().nth(MESSAGE_CHARS) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None if message.is_empty() => "without a message".to_owned(),
        // The message becomes the end of a fragment.
        None => message.strip_suffix('.').unwrap_or(message).to_owned(),
    }
}

/// `Missing scopes: a, b.` somewhere in the message.
fn missing_scopes(message: &str) -> Vec<String> {
    const MARK: &str = "missing scopes:";
    // ASCII case alone, so that positions stay the same.
    let Some(at) = message.to_ascii_lowercase().find(MARK) else {
        return Vec::new();
    };
    let list = message[at + MARK.len()..].split(['\n', ';', '(']).next().unwrap_or_default();
    let list = list.split(". ").next().unwrap_or_default();
    let words = list.split([',', ' ']).map(|word| word.trim_matches(['.', '`', '\'', '"']));
    let is_scope = |word: &&str| {
        !word.is_empty()
            && word.len() <= 80
            && word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':'))
    };
    words
        .take_while(|word| word.is_empty() || is_scope(word))
        .filter(is_scope)
        .map(str::to_owned)
        .take(20)
        .collect()
}

fn looks_like_html(text: &str) -> bool {
    let start: String = text.chars().take(200).collect::<String>().to_ascii_lowercase();
    start.starts_with("<!doctype html") || start.contains("<html") || start.contains("<head")
}

fn html_title(text: &str, mask: &Mask) -> String {
    let lower = text.to_ascii_lowercase();
    let title = lower.find("<title>").and_then(|at| {
        let from = at + "<title>".len();
        lower[from..].find("</title>").map(|len| text[from..from + len].trim())
    });
    match title {
        Some(title) if !title.is_empty() => {
            let title = mask.masked(title).unwrap_or_else(|| title.to_owned());
            format!("an HTML page (title `{}`)", cut(&title))
        }
        _ => "an HTML page".to_owned(),
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
