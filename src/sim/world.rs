//! One server's whole state behind its lock: the organizations, the script, the faults, the log.

use std::collections::HashMap;
use std::time::Duration;

use super::distort::{distort, view};
use super::endpoints::answer;
use super::faults::{Counter, Fault, FaultRule, Matcher};
use super::http::http_date;
use super::organization::Organization;
use super::random::MutationKind;
use super::reply::{Content, Reply};
use super::request::{ApiRequest, Endpoint, LoggedRequest};

/// Something to do to the organization when its time has come.
pub(super) type Step = Box<dyn FnOnce(&mut Organization) + Send>;

/// Random changes between any two requests.
#[derive(Debug, Clone)]
pub struct Churn {
    mutations: usize,
    kinds: Vec<MutationKind>,
    rng: fastrand::Rng,
    started: bool,
}

impl Churn {
    /// So many random changes of the [usual](MutationKind::USUAL) kinds between any two requests.
    #[must_use]
    pub fn new(seed: u64, mutations: usize) -> Self {
        Self {
            mutations,
            kinds: MutationKind::USUAL.to_vec(),
            rng: fastrand::Rng::with_seed(seed),
            started: false,
        }
    }

    /// Only changes of these kinds.
    #[must_use]
    pub fn among(self, kinds: &[MutationKind]) -> Self {
        Self { kinds: kinds.to_vec(), ..self }
    }

    fn apply(&mut self, organization: &mut Organization) {
        // Between two requests: nothing before the first.
        if std::mem::replace(&mut self.started, true) {
            for _ in 0..self.mutations {
                organization.mutate_among(&mut self.rng, &self.kinds);
            }
        }
    }
}

/// Everything that requests see and move.
pub(super) struct World {
    /// The first one is the one that the handle works on; a credential of another opens that.
    pub(super) organizations: Vec<Organization>,
    pub(super) rules: Vec<FaultRule>,
    pub(super) latency: Duration,
    pub(super) churn: Option<Churn>,
    pub(super) log: Vec<LoggedRequest>,
    pub(super) lists: u64,
    script: Vec<(u64, Step)>,
    waiting: Vec<(Counter, Step)>,
    /// Which page each cursor asks for, of the ends of pages answered so far, list by list.
    pages: HashMap<(Endpoint, Option<String>, String), usize>,
    answered: u64,
}

impl World {
    pub(super) fn new(organization: Organization) -> Self {
        Self {
            organizations: vec![organization],
            rules: Vec::new(),
            latency: Duration::ZERO,
            churn: None,
            log: Vec::new(),
            lists: 0,
            script: Vec::new(),
            waiting: Vec::new(),
            pages: HashMap::new(),
            answered: 0,
        }
    }

    /// Plans a step before the list request that is `n` ahead.
    pub(super) fn plan(&mut self, n: u64, step: Step) {
        self.script.push((self.lists + n, step));
    }

    /// Plans a step before the first request of those described.
    pub(super) fn plan_before(&mut self, when: Matcher, step: Step) {
        self.waiting.push((Counter::new(when), step));
    }

    /// Answers a request, all that is scripted before it done first.
    pub(super) fn respond(&mut self, request: &ApiRequest) -> Reply {
        self.answered += 1;
        let page = self.page_index(request);
        self.live(request, page);
        let faults = self.faults(request, page);
        let at = self.addressed(request);
        let organization = &mut self.organizations[at];
        let mark = organization.mark();
        organization.record_use(request);
        let mut reply = answer(organization, request, &view(&faults));
        for fault in &faults {
            distort(&mut reply, fault, organization, request);
        }
        reply.delay += self.latency;
        let request_id = format!("req_{:032x}", self.answered);
        reply.headers.extend(usual_headers(&request_id, organization.now(), reply.delay));
        self.remember_cursor(request, &reply, page);
        let mut entry = request.to_logged(page, mark);
        entry.status = reply.status;
        entry.request_id = request_id;
        self.log.push(entry);
        reply
    }

    /// What happens in the organization before this request is answered.
    fn live(&mut self, request: &ApiRequest, page: Option<usize>) {
        let organization = &mut self.organizations[0];
        if let Some(churn) = &mut self.churn {
            churn.apply(organization);
        }
        let due = |(when, _): &mut (Counter, Step)| when.applies(request, page);
        for (_, step) in self.waiting.extract_if(.., due) {
            step(organization);
        }
        if request.endpoint == Endpoint::List {
            self.lists += 1;
            let lists = self.lists;
            for (_, step) in self.script.extract_if(.., |(when, _)| *when == lists) {
                step(organization);
            }
        }
    }

    fn page_index(&self, request: &ApiRequest) -> Option<usize> {
        if !request.is_list() {
            return None;
        }
        match request.after.as_deref() {
            None | Some("") => Some(0),
            Some(cursor) => self.pages.get(&place(request, cursor)).copied(),
        }
    }

    fn remember_cursor(&mut self, request: &ApiRequest, reply: &Reply, page: Option<usize>) {
        if let (Some(page), Content::Page(content)) = (page, &reply.content)
            && let Some(cursor) = content.last_id()
        {
            self.pages.insert(place(request, cursor), page + 1);
        }
    }

    fn faults(&mut self, request: &ApiRequest, page: Option<usize>) -> Vec<Fault> {
        self.rules
            .iter_mut()
            .filter_map(|rule| rule.applies(request, page).then(|| rule.fault.clone()))
            .collect()
    }

    /// The credential says which organization is meant; an unknown one is refused by the first.
    fn addressed(&self, request: &ApiRequest) -> usize {
        let Some(secret) = &request.bearer else {
            return 0;
        };
        let mut organizations = self.organizations.iter();
        organizations.position(|known| known.find_credential(secret).is_some()).unwrap_or(0)
    }
}

fn place(request: &ApiRequest, cursor: &str) -> (Endpoint, Option<String>, String) {
    (request.endpoint, request.project_id.clone(), cursor.to_owned())
}

fn usual_headers(request_id: &str, now: i64, delay: Duration) -> [(String, String); 4] {
    let processing_ms = delay.as_millis() + 7;
    [
        ("x-request-id".to_owned(), request_id.to_owned()),
        ("openai-version".to_owned(), "2020-10-01".to_owned()),
        ("openai-processing-ms".to_owned(), processing_ms.to_string()),
        ("date".to_owned(), http_date(now)),
    ]
}
