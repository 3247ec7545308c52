//! Listing the admin keys with several requests under way: in segments where a snapshot gives cursors (`segments`),
//! else from both ends until these meet. What that cannot do, the listing page by page does.
//!
//! While pages are awaited, keys that the finished part of the list should have held and did not are looked up.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tracing::instrument;

use super::both_ends::Meeting;
use super::client::Answer;
use super::error::Error;
use super::listing::{Listing, Read, explain_stuck, is_about_cursor};
use super::scan::{AdminKeys, Scan, ScanProgress};
use super::segments::{Boundary, Hindrance, Segments, Taken, Wanted};
use super::session::Session;
use super::subject::{Origin, Subject};
use super::walk::{Item, Verdict, Walk};
use crate::inventory::{KeyId, LookUp, Scope, Sighting};

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
const MOST_ARRIVED: usize = 32;

/// How often a listed key vouches once more. More would be more requests than it spares.
const MOST_CLOSINGS: u32 = 3;

/// What look-ups told while the list was read. Only answers that a listed key vouched for before.
pub type Early = HashMap<KeyId, Told>;

/// What one of them told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    pub answer: LookUp,
    /// Whether a listed key vouched for it afterwards, too.
    pub is_vouched: bool,
}

/// An answer to what was wanted.
type Arrived = (Wanted, Subject, Result<Answer, Error>);
type Answers<'a> = FuturesUnordered<Request<'a, Arrived>>;
type LookUps<'a> = FuturesUnordered<Request<'a, (Question, Option<LookUp>)>>;

type Request<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A request that is on its way, rather than when somebody waits for its answer.
fn begun<'a, T: Send + 'a>(mut request: Request<'a, T>) -> Request<'a, T> {
    match (&mut request).now_or_never() {
        None => request,
        Some(answered) => std::future::ready(answered).boxed(),
    }
}

/// What a look-up is for.
#[derive(Debug)]
enum Question {
    Missing(Scope, KeyId),
    /// Whether what is listed is found.
    Control(Scope),
    /// Whether it still is, after these were not.
    Closing(Scope, Vec<KeyId>),
}

/// How the look-ups of a scope stand.
#[derive(Debug)]
enum Voucher {
    Asked(KeyId),
    Vouches(KeyId),
    /// What is listed is not found: nothing else is asked for.
    Fails,
}

/// Look-ups beside the listing.
struct Asking<'a> {
    session: &'a Session,
    organization: Option<String>,
    vouchers: HashMap<Scope, Voucher>,
    queue: VecDeque<(Scope, KeyId)>,
    under_way: LookUps<'a>,
    told: Early,
    /// Keys that are gone, until somebody vouches for it once more.
    gone: HashMap<Scope, Vec<KeyId>>,
    closings: u32,
}

impl<'a> Asking<'a> {
    fn new(session: &'a Session, organization: Option<String>) -> Self {
        Self {
            session,
            organization,
            vouchers: HashMap::new(),
            queue: VecDeque::new(),
            under_way: LookUps::new(),
            told: Early::new(),
            gone: HashMap::new(),
            closings: 0,
        }
    }

    /// Asks for what it may, within so many requests.
    fn ask(&mut self, room: usize, audience: &dyn Audience) {
        let mut waiting = VecDeque::new();
        while self.under_way.len() < room
            && let Some((scope, id)) = self.queue.pop_front()
        {
            match self.vouchers.get(&scope) {
                Some(Voucher::Vouches(_)) => {
                    self.look_up(id.clone(), Question::Missing(scope, id));
                }
                Some(Voucher::Fails) => {}
                Some(Voucher::Asked(_)) => waiting.push_back((scope, id)),
                None => {
                    waiting.push_back((scope, id));
                    // One of the other scope may be missing next.
                    for scope in [Scope::Admin, Scope::Project] {
                        self.ask_for_control(scope, audience);
                    }
                    self.vouchers.entry(scope).or_insert(Voucher::Fails);
                }
            }
        }
        waiting.append(&mut self.queue);
        self.queue = waiting;
    }

    /// Asks for a listed key of the scope, once.
    fn ask_for_control(&mut self, scope: Scope, audience: &dyn Audience) {
        if !self.vouchers.contains_key(&scope)
            && let Some(control) = audience.listed(scope)
        {
            self.look_up(control.clone(), Question::Control(scope));
            self.vouchers.insert(scope, Voucher::Asked(control));
        }
    }

    /// Lets what vouched before vouch once more, where nothing else is to be asked: what is told by then needs nobody
    /// to vouch for it when the list is read.
    fn close(&mut self) {
        if !self.is_idle() || self.gone.is_empty() || self.closings == MOST_CLOSINGS {
            return;
        }
        self.closings += 1;
        for (scope, gone) in std::mem::take(&mut self.gone) {
            if let Some(Voucher::Vouches(control)) = self.vouchers.get(&scope) {
                self.look_up(control.clone(), Question::Closing(scope, gone));
            }
        }
    }

    fn look_up(&self, id: KeyId, question: Question) {
        let (session, organization) = (self.session, self.organization.clone());
        let asked = async move {
            let answer = session.look_up(&id, organization.as_deref()).await;
            (question, answer)
        };
        self.under_way.push(begun(asked.boxed()));
    }

    fn take(&mut self, question: Question, answer: Option<LookUp>) {
        let is_there = answer == Some(LookUp::Present);
        match (question, answer) {
            (Question::Missing(scope, id), Some(answer @ (LookUp::Gone | LookUp::Present))) => {
                if answer == LookUp::Gone {
                    self.gone.entry(scope).or_default().push(id.clone());
                }
                self.told.insert(id, Told { answer, is_vouched: false });
            }
            (Question::Control(scope), _) if is_there => {
                if let Some(Voucher::Asked(control)) = self.vouchers.remove(&scope) {
                    self.vouchers.insert(scope, Voucher::Vouches(control));
                }
            }
            (Question::Closing(_, gone), _) if is_there => {
                for id in gone {
                    self.told.entry(id).and_modify(|told| told.is_vouched = true);
                }
            }
            // There is time enough, and patience, when the list is read.
            (
                Question::Missing(scope, _)
                | Question::Control(scope)
                | Question::Closing(scope, _),
                _,
            ) => {
                self.vouchers.insert(scope, Voucher::Fails);
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.under_way.is_empty() && self.queue.is_empty()
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
        let in_segments = self.client.options.side_by_side
            && at_once >= 2
            && first.has_more == Some(true)
            && !boundaries.is_empty();
        if !in_segments {
            audience.ready().await;
        }
        let rest =
            if !self.client.options.side_by_side || at_once < 2 || first.has_more != Some(true) {
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
        let mut segments = Segments::new(boundaries);
        let mut asking = Asking::new(self, listing.organization.clone());
        let mut pages = Answers::new();
        let (mut told, mut is_told) = (0, false);
        let mut first = segments.next().map(|wanted| (wanted, Subject::Page(1), first));
        let mut hindrance = None;
        let mut is_ready = false;
        let mut asked = listing.pages;
        let mut arrived: VecDeque<Arrived> = VecDeque::new();
        while hindrance.is_none() {
            if segments.is_complete() && !is_told {
                is_told = true;
                // What is still under way is of no use any more.
                pages.clear();
                arrived.clear();
                asking.queue.extend(audience.missing(None));
            } else if !is_told && segments.front_number() > told {
                told = segments.front_number();
                asking.queue.extend(audience.missing(segments.front()));
            }
            if is_ready && let Some((wanted, subject, read)) = first.take() {
                hindrance = take_page(listing, &mut segments, &wanted, &subject, read, audience)?;
                continue;
            }
            // Look-ups come first, as who waits for them waits for the last one; but they leave pages their half.
            let at_once = self.at_once();
            asking.ask(if is_told { at_once } else { (at_once / 2).max(1) }, audience);
            while !is_told
                && pages.len() + asking.under_way.len() < at_once
                && arrived.len() < MOST_ARRIVED
                && let Some(wanted) = segments.next()
            {
                asked += 1;
                let page = self.ask_for_page(wanted, listing.limit, asked, false).boxed();
                pages.push(begun(page));
            }
            if is_ready && let Some((wanted, subject, answer)) = arrived.pop_front() {
                hindrance =
                    self.take_answer(listing, &mut segments, &wanted, &subject, answer?, audience)?;
                continue;
            }
            if !is_told && pages.len() < at_once {
                asking.close();
            }
            if is_told && asking.is_idle() {
                break;
            }
            tokio::select! {
                biased;
                () = audience.ready(), if !is_ready => is_ready = true,
                Some(answered) = pages.next(), if !is_told => {
                    arrived.push_back(answered);
                    while let Some(Some(answered)) = pages.next().now_or_never() {
                        arrived.push_back(answered);
                    }
                }
                Some((question, answer)) = asking.under_way.next() => asking.take(question, answer),
                else => hindrance = Some("nothing is left to ask for"),
            }
        }
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
