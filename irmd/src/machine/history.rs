//! What happened to flows: the last events, the flows that ended lately, and counts by reason.
//!
//! An event costs a push into a ring: what it tells of a flow is shared between the flow's events.

mod noting;
mod record;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::FlowId;
use proto::v1::{self, EndReason, EventKind, Failure, FailureKind};

pub(super) use self::record::process_words;
pub use self::record::{Gone, Past, Record, Step, Subject};
use super::flow::{Flow, Way};
use super::metrics::{Side, Took};

/// How long a flow that ended is listed.
pub const ENDED_FOR: Duration = Duration::from_secs(60);
/// How many of them are.
pub const ENDED: usize = 1_024;
/// Steps of one flow that are kept: its first ones.
const STEPS: usize = 16;
/// Longest text of a stranger that an event keeps, bytes.
const TEXT: usize = 300;

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
