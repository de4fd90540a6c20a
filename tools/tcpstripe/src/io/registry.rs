//! The groups that run, and what came of those that ran.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::tie::{Command, Outcome};
use crate::machine::{State, View};

/// Commands that wait for a group: its tracks, mostly.
const COMMANDS: usize = 80;
/// How long a group may take to say how it is.
const ANSWER: Duration = Duration::from_secs(2);

/// All groups of this program.
pub(super) struct Registry {
    groups: Mutex<BTreeMap<u64, Entry>>,
    next: AtomicU64,
    max: usize,
    totals: Mutex<Totals>,
}

struct Entry {
    rule: Arc<str>,
    client: String,
    since: Instant,
    commands: mpsc::Sender<Command>,
}

/// What groups that are over came to, and what never became one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Groups that ended both ways as they should.
    pub complete: u64,
    /// Those that were cut short.
    pub broken: u64,
    /// Clients, or tracks of new groups, that were one too many.
    pub refused: u64,
    /// Tracks that were no tracks, or of groups that are not there.
    pub strangers: u64,
    /// Bytes that groups took from their local sides.
    pub bytes_out: u64,
    /// Bytes that they delivered.
    pub bytes_in: u64,
}

/// A group as `tcpstripe status` shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GroupStatus {
    /// The rule it belongs to, as written.
    pub rule: String,
    /// Its client, or who opened its tracks.
    pub client: String,
    /// Its age.
    pub seconds: f64,
    /// What its tracks run over, in the order of the view's tracks.
    pub carriers: Vec<String>,
    /// Its counters.
    pub view: View,
}

/// A place among the groups; given back when dropped.
pub(super) struct Place {
    registry: Arc<Registry>,
    number: u64,
}

impl Registry {
    /// At most `max` groups at a time.
    pub(super) fn new(max: usize) -> Arc<Self> {
        let (groups, totals) = (Mutex::default(), Mutex::default());
        Arc::new(Self { groups, next: AtomicU64::new(1), max, totals })
    }

    fn groups(&self) -> MutexGuard<'_, BTreeMap<u64, Entry>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn totals_mut(&self) -> MutexGuard<'_, Totals> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a group, unless there are as many as may be.
    pub(super) fn enter(
        self: &Arc<Self>,
        rule: &Arc<str>,
        client: String,
    ) -> Option<(Place, mpsc::Sender<Command>, mpsc::Receiver<Command>)> {
        let mut groups = self.groups();
        if groups.len() >= self.max {
            drop(groups);
            self.totals_mut().refused += 1;
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = mpsc::channel(COMMANDS);
        let entry = Entry { rule: rule.clone(), client, since: Instant::now(), commands: sender.clone() };
        groups.insert(number, entry);
        Some((Place { registry: self.clone(), number }, sender, receiver))
    }

    /// Somebody came who is no track.
    pub(super) fn stranger(&self) {
        self.totals_mut().strangers += 1;
    }

    /// Tells all groups to end; each resets its client or target.
    pub(super) fn stop(&self) {
        for entry in self.groups().values() {
            // Full: it is busy with tracks, and ends with the program.
            let _ = entry.commands.try_send(Command::Stop);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.groups().is_empty()
    }

    pub(super) fn totals(&self) -> Totals {
        self.totals_mut().clone()
    }

    /// Asks every group how it is, all at the same time.
    pub(super) async fn status(&self) -> Vec<GroupStatus> {
        let mut asked = Vec::new();
        for entry in self.groups().values() {
            let (reply, answer) = oneshot::channel();
            // Full: it still dials its target, and does not answer.
            let _ = entry.commands.try_send(Command::View(reply));
            let seconds = entry.since.elapsed().as_secs_f64();
            asked.push((entry.rule.to_string(), entry.client.clone(), seconds, answer));
        }
        let deadline = tokio::time::Instant::now() + ANSWER;
        let mut all = Vec::with_capacity(asked.len());
        for (rule, client, seconds, answer) in asked {
            // One that has just ended does not answer either.
            let answer = tokio::time::timeout_at(deadline, answer).await;
            let (view, carriers) = answer.ok().and_then(Result::ok).unwrap_or_default();
            all.push(GroupStatus { rule, client, seconds, carriers, view });
        }
        all
    }
}

impl Place {
    /// The group is over.
    pub(super) fn leave(self, outcome: &Outcome) {
        let mut totals = self.registry.totals_mut();
        match outcome.state {
            State::Done => totals.complete += 1,
            _ => totals.broken += 1,
        }
        totals.bytes_out += outcome.view.bytes_out;
        totals.bytes_in += outcome.view.bytes_in;
    }

    /// How long it has been there.
    pub(super) fn age(&self) -> Duration {
        self.registry.groups().get(&self.number).map_or(Duration::ZERO, |entry| entry.since.elapsed())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.registry.groups().remove(&self.number);
    }
}
