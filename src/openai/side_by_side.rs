//! Listing the admin keys with several requests under way: in segments where a snapshot gives cursors (`segments`),
//! else from both ends until these meet. What that cannot do, the listing page by page does.
//!
//! While pages are awaited, keys that the finished part of the list should have held and did not are looked up (`ahead`).

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tracing::instrument;

use super::ahead::{Asking, Early, Request, begun};
use super::both_ends::Meeting;
use super::client::Answer;
use super::error::Error;
use super::listing::{Listing, Read, explain_stuck, is_about_cursor};
use super::scan::{AdminKeys, Scan, ScanProgress};
use super::segments::{Boundary, Hindrance, Segments, Taken, Wanted};
use super::session::Session;
use super::subject::{Origin, Subject};
use super::walk::{Item, Verdict, Walk};
use crate::inventory::{KeyId, Scope, Sighting};

/// Who a scan hands its keys to.
pub trait Audience: Send {
    /// Waits until there is somebody to take keys. All else is asked for after that.
    fn ready(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;

    /// Takes the new keys of a page. Where the list could not be read side by side after all, or where the server
    /// began anew at a cursor that was lost, a key may come again.
    fn take(&mut self, sightings: Vec<Sighting>, progress: ScanProgress);

    /// The keys of the snapshot up to a boundary (`None`: all of them) that were not among these, each once: they may
    /// be looked up.
    fn missing(&mut self, until: Option<&Boundary>) -> Vec<(Scope, KeyId)>;

    /// A key of that scope that was, and that is still there as far as anybody knows.
    fn listed(&self, scope: Scope) -> Option<KeyId>;
}

/// Answers that wait for somebody to take them. With more, no more is asked for.
const MOST_ARRIVED: usize = 16;

/// An answer to what was wanted.
type Arrived = (Wanted, Subject, Result<Answer, Error>);
type Answers<'a> = FuturesUnordered<Request<'a, Arrived>>;

/// A list in segments, and what was asked for of it and is not dealt with.
struct Reading<'a> {
    session: &'a Session,
    segments: Segments,
    asking: Asking<'a>,
    pages: Answers<'a>,
    /// In the order in which they came.
    arrived: VecDeque<Arrived>,
    /// Pages that were asked for, the first one included.
    asked: u64,
    /// Up to where what is missing was asked about.
    told: usize,
    /// Whether all has been seen, and asked about.
    is_whole: bool,
}

impl<'a> Reading<'a> {
    fn new(
        session: &'a Session,
        listing: &Listing<'_, AdminKeys<'_>>,
        boundaries: Vec<Boundary>,
    ) -> Self {
        Self {
            session,
            segments: Segments::new(boundaries),
            asking: Asking::new(session, listing.organization.clone()),
            pages: Answers::new(),
            arrived: VecDeque::new(),
            asked: listing.pages,
            told: 0,
            is_whole: false,
        }
    }

    /// Asks for what there is room for.
    fn ask(&mut self, limit: Option<u32>, audience: &mut dyn Audience) {
        if !self.is_whole && self.segments.is_complete() {
            self.is_whole = true;
            // What is still under way is of no use any more.
            self.pages.clear();
            self.arrived.clear();
            self.asking.queue.extend(audience.missing(None));
        } else if !self.is_whole && self.segments.front_number() > self.told {
            self.told = self.segments.front_number();
            self.asking.queue.extend(audience.missing(self.segments.front()));
        }
        // Look-ups come first, as who waits for them waits for the last one; but they leave pages their half.
        let at_once = self.session.at_once();
        self.asking.ask(if self.is_whole { at_once } else { (at_once / 2).max(1) }, audience);
        if self.is_whole {
            return;
        }
        while self.pages.len() + self.asking.under_way.len() < at_once
            && self.arrived.len() < MOST_ARRIVED
        {
            let Some(wanted) = self.segments.next() else {
                self.asking.close();
                break;
            };
            self.asked += 1;
            let page = self.session.ask_for_page(wanted, limit, self.asked, false);
            self.pages.push(begun(page.boxed()));
        }
    }
}

/// A scan of which the first page is there.
pub struct Opening<'a> {
    listing: Listing<'a, AdminKeys<'a>>,
    first: Read<Sighting>,
    subject: Subject,
}

impl Session {
    /// Asks for the first page, alone: where the credential or the page size is refused, nothing more is asked.
    pub async fn open_scan(&self) -> Result<Opening<'_>, Error> {
        let mut listing = Listing::new(self, self.admin_keys());
        loop {
            let subject = Subject::Page(listing.pages + 1);
            match self.list_page(&listing, &subject).await? {
                Answer::Found(found) => {
                    let first = listing.read(found, &subject)?;
                    return Ok(Opening { listing, first, subject });
                }
                Answer::Refused(refusal) => listing.take_refusal(refusal, &subject)?,
            }
        }
    }

    /// Lists every key, as [`Session::scan`] does and with the same promise, in a few round trips where it can.
    /// `boundaries`: keys of the last snapshot in the order of their age, about a page from each other.
    #[instrument(name = "openai.scan", level = "debug", skip_all, fields(segments.total = boundaries.len() + 1))]
    pub async fn scan_side_by_side(
        &self,
        opening: Opening<'_>,
        boundaries: Vec<Boundary>,
        audience: &mut dyn Audience,
    ) -> Result<(Scan, Early), Error> {
        let Opening { mut listing, first, subject } = opening;
        let mut early = Early::new();
        let at_once = self.client.options.max_concurrency;
        let is_one_by_one =
            !self.client.options.side_by_side || at_once < 2 || first.has_more != Some(true);
        // In segments, pages are asked for meanwhile.
        if is_one_by_one || boundaries.is_empty() {
            audience.ready().await;
        }
        let rest = if is_one_by_one {
            !listing.take_read(first, &subject, &mut |keys, progress| {
                audience.take(keys, progress);
            })?
        } else if boundaries.is_empty() {
            self.list_from_both_ends(&mut listing, first, &subject, audience).await?;
            false
        } else {
            let told = self.list_in_segments(&mut listing, boundaries, first, audience).await?;
            let is_whole = told.is_some();
            early = told.unwrap_or_default();
            !is_whole
        };
        if rest {
            let on_items = &mut |keys, progress| audience.take(keys, progress);
            self.list_rest(&mut listing, on_items).await?;
        }
        Ok((listing.conclude(), early))
    }

    async fn ask_for_page(
        &self,
        wanted: Wanted,
        limit: Option<u32>,
        page: u64,
        newest_first: bool,
    ) -> Arrived {
        let subject = Subject::Page(page);
        let endpoints = &self.client.endpoints;
        let after = wanted.after.as_deref();
        let url = if newest_first {
            endpoints.newest_url(limit, after)
        } else {
            endpoints.list_url(limit, after)
        };
        let answer = self.fetch(url, &subject).await;
        (wanted, subject, answer)
    }

    /// `None`: it was ruled out, and `listing` goes on from where its own walk is.
    async fn list_in_segments(
        &self,
        listing: &mut Listing<'_, AdminKeys<'_>>,
        boundaries: Vec<Boundary>,
        first: Read<Sighting>,
        audience: &mut dyn Audience,
    ) -> Result<Option<Early>, Error> {
        let mut reading = Reading::new(self, listing, boundaries);
        let mut first = reading.segments.next().map(|wanted| (wanted, Subject::Page(1), first));
        let mut hindrance = None;
        let mut is_ready = false;
        while hindrance.is_none() {
            reading.ask(listing.limit, audience);
            if is_ready && let Some((wanted, subject, read)) = first.take() {
                let segments = &mut reading.segments;
                hindrance = take_page(listing, segments, &wanted, &subject, read, audience)?;
                continue;
            }
            if is_ready && let Some((wanted, subject, answer)) = reading.arrived.pop_front() {
                let segments = &mut reading.segments;
                hindrance =
                    self.take_answer(listing, segments, &wanted, &subject, answer?, audience)?;
                continue;
            }
            if reading.is_whole && reading.asking.is_idle() {
                break;
            }
            let Reading { pages, asking, arrived, is_whole, .. } = &mut reading;
            tokio::select! {
                biased;
                () = audience.ready(), if !is_ready => is_ready = true,
                Some(answered) = pages.next(), if !*is_whole => {
                    arrived.push_back(answered);
                    while let Some(Some(answered)) = pages.next().now_or_never() {
                        arrived.push_back(answered);
                    }
                }
                Some((question, answer)) = asking.under_way.next() => asking.take(question, answer),
                else => hindrance = Some("nothing is left to ask for"),
            }
        }
        let Reading { segments, asking, .. } = reading;
        let handed = listing.others;
        listing.walk = segments.into_first();
        // What the first walk has not seen, others have.
        listing.others = handed.saturating_sub(listing.walk.len());
        if let Some(why) = hindrance {
            tracing::warn!("{why}: the list is read page by page");
            return Ok(None);
        }
        Ok(Some(asking.told))
    }

    fn take_answer(
        &self,
        listing: &mut Listing<'_, AdminKeys<'_>>,
        segments: &mut Segments,
        wanted: &Wanted,
        subject: &Subject,
        answer: Answer,
        audience: &mut dyn Audience,
    ) -> Result<Option<&'static str>, Error> {
        match answer {
            Answer::Found(found) => {
                let read = listing.read(found, subject)?;
                take_page(listing, segments, wanted, subject, read, audience)
            }
            Answer::Refused(refusal) if wanted.after.is_some() && is_about_cursor(&refusal) => {
                tracing::debug!(http.status = refusal.status, "a cursor is lost");
                hindered(segments.refuse(wanted.segment, refusal.status), wanted, subject)
            }
            Answer::Refused(refusal) => Err(self.explain_refusal(refusal, subject)),
        }
    }

    async fn list_from_both_ends(
        &self,
        listing: &mut Listing<'_, AdminKeys<'_>>,
        first: Read<Sighting>,
        subject: &Subject,
        audience: &mut dyn Audience,
    ) -> Result<(), Error> {
        let mut newest = Walk::default();
        let mut meeting = Meeting::default();
        // Until the other end turns out to be of no use.
        let mut has_other_end = true;
        let mut pages = Answers::new();
        let mut under_way = [false; 2];
        let first_places = first.places.clone();
        let mut end = listing
            .take_read(first, subject, &mut |keys, progress| audience.take(keys, progress))?;
        meeting.take_oldest(&first_places, &listing.walk, &newest);
        let mut asked = listing.pages;
        while !end {
            for (at, is_under_way) in under_way.iter_mut().enumerate() {
                if !*is_under_way && (at == 0 || has_other_end) {
                    let walk = if at == 0 { &listing.walk } else { &newest };
                    let wanted = Wanted { segment: at, after: walk.cursor().map(str::to_owned) };
                    asked += 1;
                    pages.push(self.ask_for_page(wanted, listing.limit, asked, at == 1).boxed());
                    *is_under_way = true;
                }
            }
            let Some((wanted, subject, answer)) = pages.next().await else { break };
            under_way[wanted.segment] = false;
            end = match (wanted.segment, answer?) {
                (0, Answer::Found(found)) => {
                    let read = listing.read(found, &subject)?;
                    let places = read.places.clone();
                    let end = take_oldest(listing, &newest, read, &subject, audience)?;
                    meeting.take_oldest(&places, &listing.walk, &newest);
                    end || has_other_end && meeting.is_complete()
                }
                (0, Answer::Refused(refusal)) => {
                    listing.take_refusal(refusal, &subject)?;
                    false
                }
                (_, Answer::Found(found)) => {
                    let read = listing.read(found, &subject)?;
                    let places = read.places.clone();
                    let end = take_newest(listing, &mut newest, read, audience);
                    has_other_end = end.is_some();
                    meeting.take_newest(&places, &listing.walk, &newest);
                    end == Some(true) || has_other_end && meeting.is_complete()
                }
                // Whatever it is, the list can be read from its beginning.
                (_, Answer::Refused(_)) => {
                    has_other_end = false;
                    false
                }
            };
        }
        Ok(())
    }
}

/// Takes a page of the walk from the beginning. Whether that was the end of the list.
fn take_oldest(
    listing: &mut Listing<'_, AdminKeys<'_>>,
    newest: &Walk,
    read: Read<Sighting>,
    subject: &Subject,
    audience: &mut dyn Audience,
) -> Result<bool, Error> {
    let mut known = 0;
    let end = listing.take_read(read, subject, &mut |keys, progress| {
        let before = keys.len();
        let is_new = |it: &Sighting| !newest.has_seen(it.key.id.as_str());
        let keys: Vec<Sighting> = keys.into_iter().filter(is_new).collect();
        known = before - keys.len();
        audience.take(keys, progress);
    })?;
    // The other walk has handed them over, and this one has seen them too.
    listing.others = listing.others.saturating_sub(known);
    Ok(end)
}

/// Takes a page of the walk from the other end. Whether the list ended; `None`: such a walk is of no use here.
fn take_newest(
    listing: &mut Listing<'_, AdminKeys<'_>>,
    newest: &mut Walk,
    read: Read<Sighting>,
    audience: &mut dyn Audience,
) -> Option<bool> {
    let Read { items, places, has_more, .. } = read;
    let times = || places.iter().map(|(_, time)| time);
    // The server lists the newest first, and says so with times that fall.
    let falls = times().all(Option::is_some)
        && times().is_sorted_by(|a, b| a >= b)
        && (!newest.is_empty() || times().next() > times().next_back());
    if !falls {
        return None;
    }
    let ageless: Vec<Item> = places.iter().map(|(id, _)| (Arc::clone(id), None)).collect();
    match newest.accept(&ageless, has_more) {
        Err(_) => None,
        Ok(Verdict::SteppedBack(_)) => Some(false),
        Ok(Verdict::Taken { fresh, end }) => {
            let new = items
                .into_iter()
                .zip(fresh)
                .filter(|(item, fresh)| *fresh && !listing.walk.has_seen(item.key.id.as_str()));
            let new: Vec<Sighting> = new.map(|(item, _)| item).collect();
            listing.others += new.len();
            let progress = ScanProgress { pages: listing.pages, keys: listing.keys() };
            audience.take(new, progress);
            Some(end)
        }
    }
}

fn take_page(
    listing: &mut Listing<'_, AdminKeys<'_>>,
    segments: &mut Segments,
    wanted: &Wanted,
    subject: &Subject,
    read: Read<Sighting>,
    audience: &mut dyn Audience,
) -> Result<Option<&'static str>, Error> {
    let Read { items, places, has_more, request_id } = read;
    match segments.accept(wanted.segment, &places, has_more) {
        Ok(Taken::Page(fresh)) => {
            let new = items.into_iter().zip(fresh).filter_map(|(item, new)| new.then_some(item));
            let new: Vec<Sighting> = new.collect();
            listing.others += new.len();
            let progress = ScanProgress { pages: listing.pages, keys: listing.others };
            audience.take(new, progress);
            Ok(None)
        }
        Ok(Taken::Nothing(lost)) => {
            if let Some(lost) = lost {
                let lost = lost.describe(subject);
                tracing::warn!(http.request_id = request_id, "lost the place in the list: {lost}");
            }
            Ok(None)
        }
        Err(hindrance) => hindered(Err(hindrance), wanted, subject),
    }
}

fn hindered(
    done: Result<(), Hindrance>,
    wanted: &Wanted,
    subject: &Subject,
) -> Result<Option<&'static str>, Error> {
    match done {
        Ok(()) => Ok(None),
        Err(Hindrance::RuledOut(why)) => Ok(Some(why)),
        Err(Hindrance::Stuck(stuck)) => {
            let cursor = wanted.after.as_deref().map(Arc::from);
            Err(explain_stuck(stuck, Origin::new(subject, None), cursor))
        }
    }
}

#[cfg(test)]
#[path = "side_by_side_tests.rs"]
mod tests;
