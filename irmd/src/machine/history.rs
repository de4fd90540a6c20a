//! What happened to flows: the last events, the flows that ended lately, and counts by reason.
//!
//! An event costs a push into a ring: what it tells of a flow is shared between the flow's events.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::FlowId;
use proto::v1::{self, EndReason, EventKind, Failure, FailureKind};

use super::flow::{Flow, Way};
use super::metrics::{Side, Took};
use super::{Caller, Command, Irm};

/// How long a flow that ended is listed.
pub const ENDED_FOR: Duration = Duration::from_secs(60);
/// How many of them are.
pub const ENDED: usize = 1_024;
/// Steps of one flow that are kept: its first ones.
const STEPS: usize = 16;
/// Longest text of a stranger that an event keeps, bytes.
const TEXT: usize = 300;

/// Whom an event is about, as far as it was known then.
#[derive(Debug, Default, PartialEq)]
pub struct Subject {
    /// The flow; `None`: refused before it was one.
    pub flow: Option<FlowId>,
    /// The name, as it was asked for.
    pub name: String,
    /// Who asked.
    pub source: String,
    /// What was asked for.
    pub qos: v1::QosSpec,
    /// A peer host asked.
    pub accepting: bool,
    /// The process of this host that asked.
    pub asker: Option<v1::Process>,
    /// Where the peer is, once known.
    pub peer_address: String,
    /// The layer it goes through.
    pub layer: String,
    /// The process of this host that accepts, once the flow is allocated.
    pub acceptor: Option<v1::Process>,
}

/// One event.
#[derive(Clone, Debug)]
pub struct Record {
    /// Counts up from 1.
    pub number: u64,
    /// When.
    pub at: Instant,
    /// What.
    pub kind: EventKind,
    /// To whom.
    pub subject: Arc<Subject>,
    /// Why it was refused.
    pub failure: FailureKind,
    /// Why it ended.
    pub ended: EndReason,
    /// More, in words.
    pub words: Option<Arc<str>>,
    /// Since it was asked for, or allocated.
    pub took: Duration,
    /// Requests sent.
    pub asked: u32,
}

impl Record {
    /// Whether a process of the user is at one of its ends.
    pub fn concerns(&self, uid: u32) -> bool {
        let is = |process: &Option<v1::Process>| process.as_ref().is_some_and(|process| process.uid == uid);
        is(&self.subject.asker) || is(&self.subject.acceptor)
    }
}

/// One step of a flow.
#[derive(Clone, Debug)]
pub struct Step {
    /// What.
    pub kind: EventKind,
    /// When.
    pub at: Instant,
    /// More, in words.
    pub words: Option<Arc<str>>,
}

impl Step {
    /// As a listing shows it.
    pub fn shown(&self, now: Instant) -> v1::FlowStep {
        let ms_ago = now.saturating_duration_since(self.at).as_millis();
        v1::FlowStep {
            kind: self.kind.into(),
            ms_ago: u64::try_from(ms_ago).unwrap_or(u64::MAX),
            what: self.kind.word().replace('_', " "),
            why: self.words.as_deref().unwrap_or_default().to_owned(),
        }
    }
}

/// What a flow carries of its past: little, as there are many flows. Whom an event is about is said anew for each.
#[derive(Debug, Default)]
pub struct Past {
    /// When the first step was.
    began: Option<Instant>,
    allocated: Option<Instant>,
    /// Why it was not allocated.
    refused: FailureKind,
    /// It is allocated: who accepts is told from now on.
    settled: bool,
    steps: Vec<Brief>,
}

/// A step, as it is kept.
#[derive(Debug)]
struct Brief {
    // Most have none.
    words: Option<Box<Arc<str>>>,
    /// Milliseconds since the first one.
    after: u32,
    kind: EventKind,
}

impl Past {
    /// What happened, oldest first.
    pub fn steps(&self) -> impl DoubleEndedIterator<Item = Step> + '_ {
        let began = self.began;
        self.steps.iter().filter_map(move |step| {
            let at = began? + Duration::from_millis(step.after.into());
            Some(Step { kind: step.kind, at, words: step.words.as_deref().cloned() })
        })
    }

    fn step(&mut self, at: Instant, kind: EventKind, words: Option<&Arc<str>>) {
        let began = *self.began.get_or_insert(at);
        let after = u32::try_from(at.saturating_duration_since(began).as_millis()).unwrap_or(u32::MAX);
        if self.steps.capacity() == 0 {
            self.steps.reserve_exact(6);
        }
        self.steps.push(Brief { words: words.cloned().map(Box::new), after, kind });
    }
}

/// A flow that is over.
#[derive(Debug)]
pub struct Gone {
    /// What it was.
    pub flow: Flow,
    /// When it ended.
    pub at: Instant,
    /// Why; unspecified where it was never allocated.
    pub ended: EndReason,
    /// Why it was never allocated.
    pub failure: FailureKind,
    /// The same in words.
    pub words: Option<Arc<str>>,
    /// What its ends had carried: this one's, and for a local flow the accepting one's.
    pub counters: [Option<v1::Counters>; 2],
}

impl Gone {
    /// Whether `id` named it, or its accepting end.
    pub fn is(&self, id: FlowId) -> bool {
        let peer = if let Way::Local(local) = &self.flow.way { local.peer } else { None };
        self.flow.id == id || peer == Some(id)
    }
}

/// All of it.
#[derive(Debug, Default)]
pub struct History {
    ring: VecDeque<Record>,
    most: usize,
    /// Records since they were taken, while somebody follows: more than the ring holds may come at once.
    news: Option<Vec<Record>>,
    last: u64,
    gone: VecDeque<Gone>,
    requested: u64,
    allocated: u64,
    /// By which side of the flow this host would have been, and why.
    pub(super) refusals: BTreeMap<(Side, FailureKind), u64>,
    pub(super) ends: BTreeMap<EndReason, u64>,
    pub(super) took: Took,
}

impl History {
    /// Keeps so many events.
    pub fn new(most: usize) -> Self {
        Self { most, ..Self::default() }
    }

    /// Keeps so many from now on.
    pub fn keep(&mut self, most: usize) {
        self.most = most;
        while self.ring.len() > most {
            self.ring.pop_front();
        }
    }

    /// The number of the last event; 0: none yet.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// The kept events with a higher number, oldest first.
    pub fn after(&self, number: u64) -> impl Iterator<Item = &Record> {
        let kept = u64::try_from(self.ring.len()).unwrap_or(u64::MAX);
        let skip = number.saturating_sub(self.last - kept);
        self.ring.iter().skip(usize::try_from(skip).unwrap_or(usize::MAX))
    }

    /// The number of the oldest that is kept, or of the next.
    pub fn first(&self) -> u64 {
        self.ring.front().map_or(self.last + 1, |record| record.number)
    }

    /// Whether somebody follows what happens from now on.
    pub fn follow(&mut self, followed: bool) {
        match (followed, &self.news) {
            (true, None) => self.news = Some(Vec::new()),
            (false, Some(_)) => self.news = None,
            _ => {}
        }
    }

    /// What happened since this was called last, as far as somebody followed.
    pub fn take_news(&mut self) -> Vec<Record> {
        self.news.as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn push(&mut self, mut record: Record) {
        self.last += 1;
        record.number = self.last;
        if let Some(news) = &mut self.news {
            news.push(record.clone());
        }
        if self.ring.len() >= self.most {
            self.ring.pop_front();
        }
        if self.most > 0 {
            self.ring.push_back(record);
        }
    }

    /// Flows that ended within [`ENDED_FOR`], newest last.
    pub fn gone(&self, now: Instant) -> impl DoubleEndedIterator<Item = &Gone> {
        self.gone.iter().filter(move |gone| gone.at + ENDED_FOR > now)
    }

    fn bury(&mut self, gone: Gone) {
        while self.gone.len() >= ENDED || self.gone.front().is_some_and(|old| old.at + ENDED_FOR <= gone.at) {
            self.gone.pop_front();
        }
        self.gone.push_back(gone);
    }

    /// Figures for `irm status`: asked for, allocated, refused by reason, ended by reason.
    pub fn figures(&self) -> v1::StatusReply {
        let mut refusals = std::collections::HashMap::new();
        for ((_, kind), n) in &self.refusals {
            *refusals.entry(kind.word().to_owned()).or_default() += n;
        }
        v1::StatusReply {
            flows_requested: self.requested,
            flows_allocated: self.allocated,
            refusals,
            ends: self.ends.iter().map(|(reason, n)| (reason.word().to_owned(), *n)).collect(),
            ..v1::StatusReply::default()
        }
    }

    fn note(&mut self, at: Instant, flow: &mut Flow, kind: EventKind, words: Option<Arc<str>>) {
        match kind {
            EventKind::Requested | EventKind::Arrived => self.requested += 1,
            EventKind::Allocated => {
                self.allocated += 1;
                flow.past.allocated = Some(at);
            }
            _ => {}
        }
        let began = flow.past.began.unwrap_or(at);
        if flow.past.steps.len() < STEPS {
            flow.past.step(at, kind, words.as_ref());
        }
        let record = record(at, kind, flow);
        let mut took = Duration::ZERO;
        if kind == EventKind::Allocated {
            took = at.saturating_duration_since(began);
            self.took.add(side(&record.subject), took, None);
        }
        self.push(Record { took, words, ..record });
    }

    fn asked_again(&mut self, at: Instant, flow: &mut Flow, asked: u32) {
        self.note(at, flow, EventKind::AskedAgain, Some(format!("{asked} requests sent").into()));
        if let Some(record) = self.ring.back_mut() {
            record.asked = asked;
        }
    }

    /// A request was refused before it was a flow.
    fn turned_away(&mut self, at: Instant, subject: Subject, failure: &Failure) {
        self.requested += 1;
        self.count_refusal(&subject, Duration::ZERO, failure.kind());
        let words = Some(proto::clip(&failure.message, TEXT).into());
        self.push(Record { failure: failure.kind(), words, ..about(at, EventKind::Refused, subject) });
    }

    fn count_refusal(&mut self, subject: &Subject, took: Duration, kind: FailureKind) {
        *self.refusals.entry((side(subject), kind)).or_default() += 1;
        self.took.add(side(subject), took, Some(kind));
    }

    /// Nobody waits for a flow any more, which is not allocated.
    fn abandoned(&mut self, at: Instant, flow: &mut Flow, failure: &Failure) {
        flow.past.refused = failure.kind();
        let words: Option<Arc<str>> = Some(proto::clip(&failure.message, TEXT).into());
        if failure.asked > 1 {
            self.asked_again(at, flow, failure.asked);
        }
        flow.past.step(at, EventKind::Refused, words.as_ref());
        let took = at.saturating_duration_since(flow.past.began.unwrap_or(at));
        let record = record(at, EventKind::Refused, flow);
        self.count_refusal(&record.subject, took, failure.kind());
        self.push(Record { failure: failure.kind(), words, took, asked: failure.asked, ..record });
    }

    /// The peer of a flow that is allocated was not trusted, and its program will not use it. Told once of each flow.
    fn untrusted(&mut self, at: Instant, flow: &mut Flow, failure: &Failure) {
        if flow.past.steps.iter().any(|step| step.kind == EventKind::Refused) {
            return;
        }
        let words: Option<Arc<str>> = Some(proto::clip(&failure.message, TEXT).into());
        flow.past.step(at, EventKind::Refused, words.as_ref());
        let record = record(at, EventKind::Refused, flow);
        *self.refusals.entry((side(&record.subject), failure.kind())).or_default() += 1;
        self.push(Record { failure: failure.kind(), words, ..record });
    }

    /// A flow was never allocated.
    fn refused(&mut self, at: Instant, mut flow: Flow, failure: &Failure) {
        self.abandoned(at, &mut flow, failure);
        self.given_up(at, flow);
    }

    /// One that nobody waited for any more is known not to be there now.
    fn given_up(&mut self, at: Instant, mut flow: Flow) {
        flow.data = Vec::new();
        let words = flow.past.steps().next_back().and_then(|step| step.words);
        let failure = flow.past.refused;
        self.bury(Gone { flow, at, ended: EndReason::Unspecified, failure, words, counters: [None; 2] });
    }

    /// A flow that was allocated is over.
    fn ended(&mut self, at: Instant, mut flow: Flow, ended: EndReason, words: &str, counters: Option<v1::Counters>) {
        *self.ends.entry(ended).or_default() += 1;
        let words: Option<Arc<str>> = Some(words.into());
        flow.past.step(at, EventKind::Ended, words.as_ref());
        let since = flow.past.allocated.unwrap_or(flow.since);
        let took = at.saturating_duration_since(since);
        let record = record(at, EventKind::Ended, &flow);
        self.push(Record { ended, words: words.clone(), took, ..record });
        let failure = FailureKind::Unspecified;
        self.bury(Gone { flow, at, ended, failure, words, counters: [counters, None] });
    }

    /// What an end of a flow that is over had carried: heard right after its end.
    fn carried(&mut self, end: FlowId, counters: v1::Counters) {
        for gone in self.gone.iter_mut().rev() {
            let peer = if let Way::Local(local) = &gone.flow.way { local.peer } else { None };
            let index = match end {
                id if id == gone.flow.id => 0,
                id if Some(id) == peer => 1,
                _ => continue,
            };
            gone.counters[index].get_or_insert(counters);
            return;
        }
    }
}

fn side(subject: &Subject) -> Side {
    if subject.accepting { Side::Accepting } else { Side::Asking }
}

fn record(at: Instant, kind: EventKind, flow: &Flow) -> Record {
    about(at, kind, Subject::of_flow(flow))
}

fn about(at: Instant, kind: EventKind, subject: Subject) -> Record {
    let subject = Arc::new(subject);
    let (failure, ended) = (FailureKind::Unspecified, EndReason::Unspecified);
    let took = Duration::ZERO;
    Record { number: 0, at, kind, subject, failure, ended, words: None, took, asked: 0 }
}

/// A process, in words.
pub(super) fn process_words(process: &v1::Process) -> Arc<str> {
    match process.command.as_str() {
        "" => process.pid.to_string().into(),
        command => format!("{command} ({})", process.pid).into(),
    }
}

impl Subject {
    /// Of a command that asks for a flow; `None`: it asks for something else.
    pub(super) fn of(caller: &Caller, command: &Command) -> Option<Self> {
        let clip = |text: &str| proto::clip(text, TEXT).to_owned();
        match command {
            Command::FlowAlloc(request, _) => Some(Self {
                name: clip(&request.name),
                source: clip(&request.source_name),
                qos: request.qos.unwrap_or_default(),
                asker: Some(v1::Process { pid: caller.pid, uid: caller.uid, gid: caller.gid, ..Default::default() }),
                layer: clip(&request.layer),
                ..Self::default()
            }),
            Command::FlowReqArr(request) => Some(Self {
                name: clip(&request.name),
                source: clip(&request.source_name),
                qos: request.qos.unwrap_or_default(),
                accepting: true,
                peer_address: clip(&request.peer_address),
                layer: clip(&request.layer),
                ..Self::default()
            }),
            _ => None,
        }
    }

    /// Of a flow that begins, or was brought back.
    pub(super) fn of_flow(flow: &Flow) -> Self {
        let (layer, peer_address) = match &flow.way {
            Way::Out(out) => (out.layer.clone(), out.peer_address.clone()),
            Way::Local(_) => ("local".to_owned(), String::new()),
            Way::In(arrived) => (arrived.layer.clone(), arrived.peer_address.clone()),
        };
        Self {
            flow: Some(flow.id),
            name: flow.name.to_string(),
            source: flow.source.clone(),
            qos: flow.qos,
            accepting: matches!(flow.way, Way::In(_)),
            asker: flow.caller().filter(|process| process.pid != 0).cloned(),
            peer_address,
            layer,
            acceptor: flow.stage.acceptor().filter(|_| flow.past.settled).cloned(),
        }
    }
}

impl Irm {
    /// What happened, for the owner to tell followers of.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// The same, to take what is new of it.
    pub fn history_mut(&mut self) -> &mut History {
        &mut self.history
    }

    /// It is this moment: to be said before inputs that come without their time.
    pub fn clock(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    /// A flow begins, or comes back.
    pub(super) fn begun(&mut self, row: FlowId, kind: EventKind) {
        let Some(flow) = self.flows.get_mut(row) else { return };
        flow.past = Past::default();
        if kind == EventKind::Returned {
            flow.past.allocated = Some(flow.since);
            flow.past.settled = true;
        }
        self.history.note(self.now, flow, kind, None);
    }

    /// Something happened to a flow.
    pub(super) fn note(&mut self, row: FlowId, kind: EventKind, words: Option<Arc<str>>) {
        if let Some(flow) = self.flows.get_mut(row) {
            self.history.note(self.now, flow, kind, words);
        }
    }

    /// A flow is allocated, after so many requests to the peer.
    pub(super) fn note_allocated(&mut self, row: FlowId, asked: u32) {
        let Some(flow) = self.flows.get_mut(row) else { return };
        flow.past.settled = true;
        if asked > 1 {
            self.history.asked_again(self.now, flow, asked);
        }
        self.history.note(self.now, flow, EventKind::Allocated, None);
    }

    /// A request was refused before it was a flow.
    pub(super) fn note_turned_away(&mut self, subject: Option<Subject>, failure: &Failure) {
        if let Some(subject) = subject {
            self.history.turned_away(self.now, subject, failure);
        }
    }

    /// The other end of a flow that is back is back, too: events to come are told to its user.
    pub(super) fn note_whole(&mut self, row: FlowId) {
        if let Some(flow) = self.flows.get_mut(row) {
            flow.past.settled = true;
        }
    }

    /// The peer of a flow was not trusted.
    pub(super) fn note_untrusted(&mut self, row: FlowId, failure: &Failure) {
        if let Some(flow) = self.flows.get_mut(row) {
            self.history.untrusted(self.now, flow, failure);
        }
    }

    /// A flow that nobody waited for is known not to be there.
    pub(super) fn note_given_up(&mut self, flow: Option<Flow>) {
        if let Some(flow) = flow {
            self.history.given_up(self.now, flow);
        }
    }

    /// A flow was never allocated.
    pub(super) fn note_refused(&mut self, flow: Flow, failure: &Failure) {
        self.history.refused(self.now, flow, failure);
    }

    /// Nobody waits for a flow any more that an IPCP is asked for: its row stays until the IPCP has answered.
    pub(super) fn note_abandoned(&mut self, row: FlowId, failure: &Failure) {
        if let Some(flow) = self.flows.get_mut(row) {
            self.history.abandoned(self.now, flow, failure);
        }
    }

    /// A flow is over.
    pub(super) fn note_ended(&mut self, flow: Option<Flow>, why: EndReason, counters: Option<v1::Counters>) {
        if let Some(flow) = flow {
            self.history.ended(self.now, flow, why, super::arrive::words(why), counters);
        }
    }

    /// What an end of a local flow has carried; heard when it is over.
    pub fn carried(&mut self, end: FlowId, counters: v1::Counters) {
        self.history.carried(end, counters);
    }
}
