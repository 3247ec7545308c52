//! The provider's JSON: a page of a listing, one key, an error.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::error::Error;
use super::fields::{Interned, Reader, Warnings};
use super::mask::Mask;
use super::plain;
use super::subject::Origin;
use crate::inventory::{KeyId, Project, Sighting};

/// The longest message of the API that is repeated, in characters.
const MESSAGE_CHARS: usize = 300;

/// The parameter without which the keys of a project may not be all.
const ACCESS_FILTER: &str = "owner_project_access";

/// JSON that has come whole. What is in its texts and numbers nobody has looked at.
#[derive(Debug)]
pub(super) struct Body(Vec<u8>);

impl Body {
    pub(super) fn new(bytes: Vec<u8>) -> serde_json::Result<Self> {
        serde_json::from_slice::<IgnoredAny>(&bytes)?;
        Ok(Self(bytes))
    }

    pub(super) fn read(&self) -> serde_json::Result<Value> {
        serde_json::from_slice(&self.0)
    }

    /// How many items it holds as a page.
    pub(super) fn count_items(&self) -> Option<usize> {
        #[derive(Deserialize)]
        struct Items {
            data: Vec<IgnoredAny>,
        }
        serde_json::from_slice::<Items>(&self.0).ok().map(|items| items.data.len())
    }
}

#[cfg(test)]
impl From<Value> for Body {
    fn from(json: Value) -> Self {
        Self::new(json.to_string().into_bytes()).unwrap()
    }
}

/// One page of a listing.
#[derive(Debug)]
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    /// `None` where the API does not say.
    pub(super) has_more: Option<bool>,
}

/// Why an answer is not a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Malformed {
    /// It is not JSON, from this line and column on.
    Json(usize, usize),
    Page(&'static str),
    /// The item, counted from 1.
    Item(usize, &'static str),
}

impl Malformed {
    pub(super) fn explain(self, at: Box<Origin>) -> Error {
        match self {
            Self::Json(line, column) => Error::WrongJson { at, line, column },
            Self::Page(problem) => Error::WrongPage { at, problem },
            Self::Item(item, problem) => Error::WrongItem { at, item, problem },
        }
    }
}

/// Reads a page. What `read` answers with `Ok(None)` is left out.
pub(super) fn parse_page<T>(
    body: &Body,
    mut read: impl FnMut(Value) -> Result<Option<T>, &'static str>,
) -> Result<Page<T>, Malformed> {
    let body = body.read().map_err(|error| Malformed::Json(error.line(), error.column()))?;
    let Value::Object(mut body) = body else {
        return Err(Malformed::Page("it is not an object"));
    };
    let has_more = match body.get("has_more") {
        None | Some(Value::Null) => None,
        Some(Value::Bool(more)) => Some(*more),
        Some(_) => return Err(Malformed::Page("`has_more` is neither true nor false")),
    };
    let data = match body.remove("data") {
        Some(Value::Array(data)) => data,
        Some(_) => return Err(Malformed::Page("`data` is not an array")),
        None => return Err(Malformed::Page("it has no `data`")),
    };
    let items = data.into_iter().enumerate().filter_map(|(at, item)| {
        read(item).map_err(|problem| Malformed::Item(at + 1, problem)).transpose()
    });
    Ok(Page { items: items.collect::<Result<_, _>>()?, has_more })
}

/// The id of an item of a page. It is kept and sent back as it is, so that it must not be a secret.
pub(super) fn read_id<'a>(
    members: &'a Map<String, Value>,
    mask: &Mask,
) -> Result<&'a str, &'static str> {
    match members.get("id") {
        Some(Value::String(id)) if id.is_empty() => Err("its `id` is empty"),
        Some(Value::String(id)) if mask.masked(id).is_some() => Err("its `id` looks like a secret"),
        Some(Value::String(id)) => Ok(id),
        Some(_) => Err("its `id` is not a string"),
        None => Err("it has no `id`"),
    }
}

/// Reads the pages of one listing of keys: the admin keys, or those of a project.
pub(super) struct PageParser<'a> {
    mask: &'a Mask,
    project: Option<&'a Project>,
    interned: Interned,
    known: plain::Known,
    pub(super) warnings: Warnings,
}

impl<'a> PageParser<'a> {
    pub(super) fn new(mask: &'a Mask, project: Option<&'a Project>) -> Self {
        let (interned, known) = (Interned::default(), plain::Known::default());
        Self { mask, project, interned, known, warnings: Warnings::default() }
    }

    pub(super) fn parse(&mut self, body: &Body) -> Result<Page<Sighting>, Malformed> {
        if self.project.is_none()
            && let Some(page) =
                plain::read_page(&body.0, self.mask, &mut self.interned, &mut self.known)
        {
            return Ok(page);
        }
        self.parse_thoroughly(body)
    }

    pub(super) fn parse_thoroughly(&mut self, body: &Body) -> Result<Page<Sighting>, Malformed> {
        parse_page(body, |item| self.parse_key(item).map(Some))
    }

    fn parse_key(&mut self, item: Value) -> Result<Sighting, &'static str> {
        let Value::Object(members) = item else {
            return Err("it is not an object");
        };
        let id = KeyId::new(read_id(&members, self.mask)?).ok_or("its `id` is empty")?;
        let reader = Reader::new(id, self.mask, &mut self.interned, &mut self.warnings);
        Ok(match self.project {
            None => reader.read_admin_key(members),
            Some(project) => reader.read_project_key(members, project),
        })
    }
}

/// Whether `body` is the key with this id.
pub(super) fn is_key(body: &Body, id: &KeyId) -> bool {
    let body = body.read().ok();
    body.as_ref().and_then(|body| body.get("id")).and_then(Value::as_str) == Some(id.as_str())
}

/// What an answer other than 200 says about itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ErrorBody {
    /// One readable line.
    pub(super) message: String,
    /// The scopes that the message says are missing.
    pub(super) scopes: Vec<String>,
    /// Whether it is `owner_project_access` that the message, or `param`, is about.
    pub(super) is_about_access_filter: bool,
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
        let param = error.and_then(|error| error.get("param")).and_then(Value::as_str);
        let texts = [Some(message), param];
        let is_about_access_filter =
            texts.into_iter().flatten().any(|text| text.contains(ACCESS_FILTER));
        let masked = mask.masked(message).unwrap_or_else(|| message.to_owned());
        let scopes = missing_scopes(&masked);
        return ErrorBody {
            message: cut(&masked),
            scopes,
            is_about_access_filter,
            is_envelope: is_json,
        };
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
