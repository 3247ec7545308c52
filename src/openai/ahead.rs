//! Looking up keys that the finished part of a list should have held and did not, while the rest is still read.
//!
//! A listed key has to vouch for the endpoint before anything else is asked, as with all look-ups (`look_up`). What
//! takes patience is left to these.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;

use futures_util::FutureExt;
use futures_util::stream::FuturesUnordered;

use super::session::Session;
use super::side_by_side::Audience;
use crate::inventory::{KeyId, LookUp, Scope};

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

pub(super) type Request<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A request that is on its way, rather than when somebody waits for its answer.
pub(super) fn begun<'a, T: Send + 'a>(mut request: Request<'a, T>) -> Request<'a, T> {
    match (&mut request).now_or_never() {
        None => request,
        Some(answered) => std::future::ready(answered).boxed(),
    }
}

type LookUps<'a> = FuturesUnordered<Request<'a, (Question, Option<LookUp>)>>;

/// What a look-up is for.
#[derive(Debug)]
pub(super) enum Question {
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
pub(super) struct Asking<'a> {
    session: &'a Session,
    organization: Option<String>,
    vouchers: HashMap<Scope, Voucher>,
    pub(super) queue: VecDeque<(Scope, KeyId)>,
    pub(super) under_way: LookUps<'a>,
    pub(super) told: Early,
    /// Keys that are gone, until somebody vouches for it once more.
    gone: HashMap<Scope, Vec<KeyId>>,
    closings: u32,
}

impl<'a> Asking<'a> {
    pub(super) fn new(session: &'a Session, organization: Option<String>) -> Self {
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
    pub(super) fn ask(&mut self, room: usize, audience: &dyn Audience) {
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
    pub(super) fn close(&mut self) {
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

    pub(super) fn take(&mut self, question: Question, answer: Option<LookUp>) {
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

    pub(super) fn is_idle(&self) -> bool {
        self.under_way.is_empty() && self.queue.is_empty()
    }
}
