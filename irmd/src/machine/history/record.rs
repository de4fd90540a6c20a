//! What is told of a flow: events, its own steps, and itself when it is over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::FlowId;
use proto::v1::{self, EndReason, EventKind, FailureKind};

use super::TEXT;
use crate::machine::flow::{Flow, Way};
use crate::machine::{Caller, Command};

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
    pub(super) began: Option<Instant>,
    pub(super) allocated: Option<Instant>,
    /// Why it was not allocated.
    pub(super) refused: FailureKind,
    /// It is allocated: who accepts is told from now on.
    pub(super) settled: bool,
    pub(super) steps: Vec<Brief>,
}

/// A step, as it is kept.
#[derive(Debug)]
pub(super) struct Brief {
    // Most have none.
    words: Option<Box<Arc<str>>>,
    /// Milliseconds since the first one.
    after: u32,
    pub(super) kind: EventKind,
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

    pub(super) fn step(&mut self, at: Instant, kind: EventKind, words: Option<&Arc<str>>) {
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

impl Subject {
    /// Of a command that asks for a flow; `None`: it asks for something else.
    pub(in crate::machine) fn of(caller: &Caller, command: &Command) -> Option<Self> {
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
    pub(in crate::machine) fn of_flow(flow: &Flow) -> Self {
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

/// A process, in words.
pub(in crate::machine) fn process_words(process: &v1::Process) -> Arc<str> {
    match process.command.as_str() {
        "" => process.pid.to_string().into(),
        command => format!("{command} ({})", process.pid).into(),
    }
}
