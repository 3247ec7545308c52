//! How a list is cut into pages, whatever it lists.

use super::endpoints::View;
use super::keys::{Position, Record};
use super::organization::{AboveMaxLimit, Paging, VanishedCursor};
use super::reply::{Item, Page, Problem, Refusal};
use super::request::ApiRequest;
use super::rows::Rows;

/// A list that can be asked for.
pub(super) struct Source<'a> {
    pub(super) rows: &'a Rows,
    pub(super) paging: Paging,
    /// What a row is called in a message.
    pub(super) noun: &'static str,
    /// Whether the list knows the parameter `order`.
    pub(super) ordered: bool,
    /// Whether a row is among those asked for.
    pub(super) shows: &'a dyn Fn(&Record) -> bool,
}

/// The page that the request asks for.
pub(super) fn list(
    source: &Source<'_>,
    request: &ApiRequest,
    view: &View,
) -> Result<Page, Refusal> {
    let limit = parse_limit(source.paging, request.limit.as_deref())?;
    let order = request.order.as_deref().filter(|_| source.ordered);
    let descending = parse_order(order)? != view.descending;
    let cursor = match request.after.as_deref() {
        None | Some("") => None,
        Some(_) if view.ignore_cursor => None,
        Some(id) => match find_cursor(source, id, view)? {
            Cursor::After(position) => Some(position),
            Cursor::Start => None,
            Cursor::End => return Ok(Page::new(Vec::new(), false)),
        },
    };
    let steps = if view.repeat_page { limit } else { view.overlap };
    let cursor = cursor.and_then(|at| source.rows.table.step_back(at, steps, descending));
    let mut records = source
        .rows
        .table
        .past(cursor, descending)
        .filter(|record| !record.id.as_deref().is_some_and(|id| view.hides(id)))
        .filter(|record| (source.shows)(record))
        .skip(view.skip_ahead)
        .peekable();
    let items = records.by_ref().take(limit).map(Item::from).collect();
    Ok(Page::new(items, records.peek().is_some()))
}

/// Where a list begins.
enum Cursor {
    Start,
    After(Position),
    End,
}

fn find_cursor(source: &Source<'_>, id: &str, view: &View) -> Result<Cursor, Refusal> {
    if let Some(position) = source.rows.table.position(id) {
        return Ok(Cursor::After(position));
    }
    if view.instead.is_some() {
        return Ok(Cursor::Start);
    }
    let message = format!("No {} found with ID '{id}'.", source.noun);
    let problem = Problem::invalid_request(&message).param("after");
    match source.paging.vanished_cursor {
        VanishedCursor::NotFound404 => Err(Refusal::new(404, &problem)),
        VanishedCursor::BadRequest400 => Err(Refusal::new(400, &problem)),
        VanishedCursor::EmptyPage => Ok(Cursor::End),
        VanishedCursor::FromTheBeginning => Ok(Cursor::Start),
        VanishedCursor::Continues => {
            let gone = source.rows.gone(id);
            gone.map(|gone| Cursor::After(gone.position)).ok_or(Refusal::new(404, &problem))
        }
    }
}

pub(super) fn parse_limit(paging: Paging, limit: Option<&str>) -> Result<usize, Refusal> {
    let Some(text) = limit else {
        return Ok(paging.default_limit.min(paging.max_limit));
    };
    let refusal =
        |message: &str| Refusal::new(400, &Problem::invalid_request(message).param("limit"));
    match text.parse::<usize>() {
        Err(_) => Err(refusal("Invalid type for 'limit': expected an integer.")),
        Ok(0) => Err(refusal("Invalid 'limit': integer below minimum value.")),
        Ok(limit) if limit <= paging.max_limit => Ok(limit),
        Ok(limit) => match paging.above_max {
            AboveMaxLimit::Clamp => Ok(paging.max_limit),
            AboveMaxLimit::Refuse => Err(refusal(&format!(
                "Invalid 'limit': integer above maximum value. Expected a value <= {}, but got \
                 {limit} instead.",
                paging.max_limit
            ))),
        },
    }
}

/// True for descending.
fn parse_order(order: Option<&str>) -> Result<bool, Refusal> {
    match order {
        None | Some("asc") => Ok(false),
        Some("desc") => Ok(true),
        Some(other) => Err(unsupported("order", other, "'asc' and 'desc'")),
    }
}

pub(super) fn unsupported(parameter: &str, value: &str, supported: &str) -> Refusal {
    let message = format!("Invalid value: '{value}'. Supported values: {supported}.");
    Refusal::new(400, &Problem::invalid_request(&message).param(parameter))
}
