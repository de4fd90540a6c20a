//! When the screen asks irmd, and for what.

use std::time::{Duration, Instant};

use proto::FlowId;

use super::{Ask, Pane, Screen};

/// More unknown flows than this are asked for by one listing.
const FEW: usize = 32;

/// Listings of all flows come this far apart at least: while thousands of flows come and go, only what is seen is asked for.
const LISTING: Duration = Duration::from_secs(5);

/// What is known of a flow that is seen is asked again after this long; who its peer is may be known by now.
const STALE: Duration = Duration::from_secs(5);

impl Screen {
    /// Time has come; early and repeated calls do nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.sentence.as_ref().is_some_and(|(_, until)| *until <= now) {
            self.sentence = None;
        }
        if now < self.due {
            return;
        }
        self.due = now + self.interval;
        if self.waiting || self.paused {
            return;
        }
        self.waiting = true;
        self.ask(Ask::Counts);
        if let Pane::Flow(id) = self.pane {
            self.ask(Ask::Detail(id));
        }
    }

    /// Asks for what is not known of flows, and again for what is seen and may have changed.
    pub(super) fn ask_for(&mut self, now: Instant, unknown: Vec<FlowId>) {
        let may_list = self.listed.is_none_or(|at| now.saturating_duration_since(at) >= LISTING);
        if unknown.len() > FEW && may_list {
            self.listed = Some(now);
            self.ask(Ask::List);
            return;
        }
        let mut wanted = if unknown.len() > FEW { Vec::new() } else { unknown };
        for at in self.seen() {
            let flow = &self.flows.all()[*at];
            let stale = flow.facts.as_ref().is_none_or(|facts| {
                facts.state != flow.counts.state || now.saturating_duration_since(facts.asked) >= STALE
            });
            if stale && !wanted.contains(&flow.counts.id) {
                wanted.push(flow.counts.id);
            }
        }
        if !wanted.is_empty() {
            self.ask(Ask::Show(wanted));
        }
    }
}
