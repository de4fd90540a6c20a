//! What the user looks at, and what its keys do.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use proto::FlowId;

use super::event::Events;
use super::flow::{Detail, Facts, State};
use super::flows::Flows;
use super::order::{Column, Sort, places};
use super::told::{Host, Told};

mod asking;
mod pressing;

/// Steps of `+` and `-`, in milliseconds.
const INTERVALS: [u64; 9] = [100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000];

/// How long a sentence stays on the screen.
const SENTENCE: Duration = Duration::from_secs(6);

/// Questions that wait while irmd is slow to answer.
const MAX_ASKS: usize = 32;

/// Bytes of a filter.
pub const MAX_FILTER: usize = 200;

/// What fills the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pane {
    /// All flows.
    List,
    /// One of them.
    Flow(FlowId),
    /// What was refused.
    Refusals,
    /// Keys.
    Help,
}

/// What takes the keys before the pane does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dialog {
    /// The filter is typed; what it was before.
    Filter(String),
    /// What to sort by is chosen; where the cursor is among [`Column::ALL`].
    Sort(usize),
    /// Whether the flow is to be ended, in words.
    End(FlowId, String),
}

/// What the owner is to ask irmd for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// What all flows have carried, and about irmd.
    Counts,
    /// All that is known of all flows.
    List,
    /// All that is known of these.
    Show(Vec<FlowId>),
    /// One flow with its history.
    Detail(FlowId),
    /// To end a flow.
    End(FlowId),
}

/// How it begins.
#[derive(Clone, Debug)]
pub struct Start {
    /// Between two readings.
    pub interval: Duration,
    /// What is shown of all flows.
    pub filter: String,
    /// Their order.
    pub sort: Sort,
    /// What is looked at first.
    pub pane: Pane,
}

/// The screen's state.
#[derive(Debug)]
pub struct Screen {
    pub(super) flows: Flows,
    pub(super) events: Events,
    pub(super) host: Host,
    /// Why irmd cannot be asked; None: it can.
    pub(super) lost: Option<String>,
    pub(super) pane: Pane,
    pub(super) dialog: Option<Dialog>,
    pub(super) filter: String,
    pub(super) sort: Sort,
    pub(super) interval: Duration,
    pub(super) paused: bool,
    /// Places in `flows` of the rows.
    pub(super) rows: Vec<usize>,
    /// The row that keys are about; the flow in it, once the user chose one.
    pub(super) cursor: usize,
    held: Option<FlowId>,
    /// The first row that is seen, and how many fit.
    pub(super) top: usize,
    page: usize,
    /// First line that is seen of the pane that is no list.
    pub(super) scroll: usize,
    pub(super) detail: Option<Detail>,
    /// When the detail was told.
    pub(super) detail_at: Option<Instant>,
    sentence: Option<(String, Instant)>,
    asks: VecDeque<Ask>,
    due: Instant,
    /// Asked, and not answered.
    waiting: bool,
    listed: Option<Instant>,
    quit: bool,
}

impl Screen {
    /// A screen that asks at once.
    pub fn new(now: Instant, start: Start) -> Self {
        let held = if let Pane::Flow(id) = start.pane { Some(id) } else { None };
        Self {
            flows: Flows::default(),
            events: Events::default(),
            host: Host::default(),
            lost: None,
            pane: start.pane,
            dialog: None,
            filter: start.filter,
            sort: start.sort,
            interval: start.interval,
            paused: false,
            rows: Vec::new(),
            cursor: 0,
            held,
            top: 0,
            page: 1,
            scroll: 0,
            detail: None,
            detail_at: None,
            sentence: None,
            asks: VecDeque::new(),
            due: now,
            waiting: false,
            listed: None,
            quit: false,
        }
    }

    /// So many rows of flows fit on the screen.
    pub fn handle_page(&mut self, rows: usize) {
        self.page = rows.max(1);
        self.settle();
    }

    /// Takes what irmd said.
    pub fn handle_told(&mut self, now: Instant, told: Told) {
        match told {
            Told::Counts(host, counts) => {
                self.waiting = false;
                self.lost = None;
                self.events.count(now, host.allocated, host.refused());
                self.host = *host;
                if !self.paused {
                    let unknown = self.flows.read(now, &counts);
                    self.arrange();
                    self.ask_for(now, unknown);
                }
            }
            Told::Rows(rows) => {
                for facts in rows {
                    self.flows.learn(facts);
                }
                self.arrange();
            }
            Told::Detail(id, detail) => self.learn_detail(now, id, *detail),
            Told::Began(irmd) => self.events.begin(irmd),
            Told::Refused(refusal) => self.events.take(now, refusal),
            Told::Missed(count) => self.events.miss(count),
            Told::Ended(id, Ok(())) => self.say(now, format!("flow {id} is ended")),
            Told::Ended(id, Err(why)) => self.say(now, format!("flow {id} is not ended: {why}")),
            Told::Lost(why) => {
                self.waiting = false;
                self.lost = Some(why);
                self.flows.forget_rates();
            }
        }
    }

    fn learn_detail(&mut self, now: Instant, id: FlowId, detail: Option<Detail>) {
        if self.pane != Pane::Flow(id) {
            return;
        }
        match detail {
            Some(detail) => {
                self.flows.learn(detail.facts.clone());
                self.detail = Some(detail);
                self.detail_at = Some(now);
            }
            // Gone, and forgotten by irmd: what was known last stays.
            None => match &mut self.detail {
                Some(detail) if detail.ended.is_none() => detail.ended = Some("irmd knows it no longer".to_owned()),
                Some(_) => {}
                None => {
                    self.say(now, format!("there is no flow {id}"));
                    self.pane = Pane::List;
                }
            },
        }
    }

    /// Notes a question, once; of two about details the later one.
    fn ask(&mut self, ask: Ask) {
        if matches!(ask, Ask::Detail(_)) {
            self.asks.retain(|other| !matches!(other, Ask::Detail(_)));
        }
        if !self.asks.contains(&ask) && self.asks.len() < MAX_ASKS {
            self.asks.push_back(ask);
        }
    }

    /// The next thing to ask irmd, if any.
    pub fn poll_ask(&mut self) -> Option<Ask> {
        self.asks.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called.
    pub fn poll_timeout(&self) -> Instant {
        self.sentence.as_ref().map_or(self.due, |(_, until)| self.due.min(*until))
    }

    /// Whether the user had enough.
    pub fn is_over(&self) -> bool {
        self.quit
    }

    /// What is to be read at the foot of the screen for a while.
    pub fn sentence(&self) -> Option<&str> {
        self.sentence.as_ref().map(|(text, _)| text.as_str())
    }

    /// Says a sentence to the user.
    pub fn say(&mut self, now: Instant, sentence: String) {
        self.sentence = Some((super::text::printable(&sentence), now + SENTENCE));
    }

    /// What fills the screen.
    pub fn pane(&self) -> Pane {
        self.pane
    }

    /// How many flows the filter takes.
    pub fn count(&self) -> usize {
        self.rows.len()
    }

    /// The row that keys are about, counted from the first of those that the filter takes.
    pub fn cursor(&self) -> usize {
        self.cursor
    }

    /// The rows that are seen.
    pub fn seen_rows(&self) -> std::ops::Range<usize> {
        self.top..self.rows.len().min(self.top + self.page)
    }

    /// The flow that keys are about, if there is any.
    pub fn chosen(&self) -> Option<FlowId> {
        match self.pane {
            Pane::Flow(id) => Some(id),
            _ => self.rows.get(self.cursor).map(|at| self.flows.all()[*at].counts.id),
        }
    }

    /// Facts of a flow: from its row, or from what was told last.
    pub fn facts(&self, id: FlowId) -> Option<&Facts> {
        let row = self.flows.get(id).and_then(|flow| flow.facts.as_deref());
        row.or_else(|| self.detail.as_ref().map(|detail| &detail.facts).filter(|facts| facts.id == id))
    }

    /// Filters and sorts anew; the cursor stays on the flow that the user chose, else where it is.
    fn arrange(&mut self) {
        self.rows = places(&self.flows, &self.filter, self.sort);
        if let Some(held) = self.held {
            match self.rows.iter().position(|at| self.flows.all()[*at].counts.id == held) {
                Some(row) => self.cursor = row,
                None => self.hold(self.cursor),
            }
        }
        self.settle();
    }

    /// Puts the cursor on a row, and keeps it on that flow.
    fn hold(&mut self, row: usize) {
        self.cursor = row.min(self.rows.len().saturating_sub(1));
        self.held = self.rows.get(self.cursor).map(|at| self.flows.all()[*at].counts.id);
        self.settle();
    }

    /// The cursor is on a row, the row on the screen, and the screen full if there are rows enough.
    fn settle(&mut self) {
        self.cursor = self.cursor.min(self.rows.len().saturating_sub(1));
        self.top = self.top.min(self.rows.len().saturating_sub(self.page));
        self.top = self.top.min(self.cursor).max((self.cursor + 1).saturating_sub(self.page));
    }

    /// Their places in the flows.
    pub(super) fn seen(&self) -> &[usize] {
        &self.rows[self.seen_rows()]
    }

    fn set_sort(&mut self, by: Column) {
        // The other way round is meant for one column.
        self.sort = Sort { by, reversed: by == self.sort.by && self.sort.reversed };
        self.arrange();
    }

    /// In words, what is to be confirmed before a flow is ended.
    fn end_words(&self, id: FlowId) -> String {
        let Some(facts) = self.facts(id) else { return format!("end flow {id}?") };
        let way = if facts.accepting { "accepted for" } else { "to" };
        let held = match facts.state {
            State::Pending => "wanted by",
            _ => "held by",
        };
        let holder = facts.holder.fit(usize::MAX).replacen(" (", " (pid ", 1);
        format!("end flow {id} {way} {} {held} {holder}?", facts.name)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a clock to begin with")]
mod tests;
