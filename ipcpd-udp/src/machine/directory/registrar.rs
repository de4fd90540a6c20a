//! Names of this host in DNS: when each is written, refreshed, tried again, taken out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::Name;
use proto::v1::{Failure, FailureKind};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::Rng;

use super::plan::Aim;
use super::trouble::Trouble;

/// Updates under way; more wait for one of them to end.
const MOST_AT_ONCE: usize = 8;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A caller who waits for the server's word waits so long.
const PATIENCE: Duration = Duration::from_secs(4);
/// An update that `io` never reports on is over after this.
const LOST: Duration = Duration::from_secs(30);

/// A call that waits for a name server's word; its owner's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Waiter(pub u64);

/// What came of an update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Updated {
    /// Done, or why not.
    pub result: Result<(), Trouble>,
    /// Which server took it, or was asked.
    pub server: String,
}

/// How a name stands in DNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The name.
    pub name: Name,
    /// In one word.
    pub state: &'static str,
    /// Its domain name; empty where it has none.
    pub domain: Arc<str>,
    /// The record lives so long without a refresh.
    pub lives: Option<Duration>,
    /// What the last try came to.
    pub failure: Option<Arc<str>>,
    /// The next try or refresh.
    pub next: Option<Duration>,
}

/// What is to be done or said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::machine) enum Step {
    Update {
        name: Name,
        domain: Arc<str>,
        aim: Aim,
    },
    Tell {
        waiter: Waiter,
        result: Result<(), Failure>,
    },
    /// An update of a name came to nothing, for the first time or with another reason than before.
    Warn(Arc<str>),
}

#[derive(Debug)]
struct Entry {
    domain: Arc<str>,
    wanted: bool,
    phase: Phase,
    pause: Duration,
    /// The record in the zone is void after this.
    expires: Option<Instant>,
    failure: Option<Arc<str>>,
    waiters: BTreeSet<Waiter>,
    /// What is written changed while an update was under way.
    renewed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing to do before this.
    Idle(Instant),
    /// Its turn comes when one of the updates under way ends.
    Ready,
    /// An update is under way since then.
    AtWork(Instant, Aim),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Entry(Name),
    Waiter(Waiter),
}

#[derive(Debug, Default)]
pub(in crate::machine) struct Registrar {
    entries: BTreeMap<Name, Entry>,
    waiting: BTreeMap<Waiter, (Name, Instant)>,
    timers: BTreeSet<(Instant, Timer)>,
    ready: VecDeque<Name>,
    at_work: usize,
    lifetime: Duration,
    stopping: bool,
    steps: VecDeque<Step>,
}

impl Registrar {
    pub(in crate::machine) fn new(lifetime: Duration) -> Self {
        Self { lifetime, ..Self::default() }
    }

    pub(in crate::machine) fn step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    /// The name is to stand in DNS. `waiter` hears how that went, at once where it stands there already.
    pub(in crate::machine) fn publish(&mut self, now: Instant, name: &Name, domain: &str, waiter: Option<Waiter>) {
        let entry = self.entries.entry(name.clone()).or_insert_with(|| Entry::new(domain, now));
        let fresh = !std::mem::replace(&mut entry.wanted, true);
        if let Some(waiter) = waiter {
            let stands = matches!(entry.phase, Phase::Idle(_))
                && !fresh
                && entry.failure.is_none()
                && entry.expires.is_some_and(|at| now < at);
            if stands {
                return self.steps.push_back(Step::Tell { waiter, result: Ok(()) });
            }
            self.wait(now, name, waiter);
        }
        // Who asks by hand has mended something, perhaps: now is the time to try again.
        if fresh || waiter.is_some() {
            self.hurry(name);
        }
        self.begin(now);
    }

    /// What stands there is to be written anew, as soon as it may.
    pub(in crate::machine) fn renew(&mut self, now: Instant) {
        for name in self.entries.keys().cloned().collect::<Vec<_>>() {
            match self.entries.get_mut(&name) {
                Some(entry) if entry.wanted && matches!(entry.phase, Phase::AtWork(..)) => entry.renewed = true,
                Some(entry) if entry.wanted => self.hurry(&name),
                _ => {}
            }
        }
        self.begin(now);
    }

    /// The name is to stand there no longer. `false`: it does not stand there.
    pub(in crate::machine) fn withdraw(&mut self, now: Instant, name: &Name, waiter: Option<Waiter>) -> bool {
        let Some(entry) = self.entries.get_mut(name) else { return false };
        entry.wanted = false;
        entry.pause = FIRST_PAUSE;
        let text = format!("{name} was unregistered meanwhile; register it again if that was a mistake");
        self.tell(name, Err(Failure::new(FailureKind::NotFound, text)));
        if let Some(waiter) = waiter {
            self.wait(now, name, waiter);
        }
        self.hurry(name);
        self.begin(now);
        true
    }

    /// Every name is taken out, once each: there is no later.
    pub(in crate::machine) fn stop(&mut self, now: Instant) {
        self.stopping = true;
        for name in self.entries.keys().cloned().collect::<Vec<_>>() {
            self.withdraw(now, &name, None);
        }
    }

    pub(in crate::machine) fn is_idle(&self) -> bool {
        self.entries.is_empty()
    }

    /// An update has ended.
    pub(in crate::machine) fn updated(&mut self, now: Instant, rng: &mut ChaCha12Rng, name: &Name, updated: Updated) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        let Phase::AtWork(since, aim) = entry.phase else { return };
        match updated.result {
            Ok(()) => {
                entry.failure = None;
                entry.pause = FIRST_PAUSE;
                // Counted from before the update was made: the record says no earlier than that.
                entry.expires = (aim == Aim::Publish).then(|| since + self.lifetime);
            }
            Err(trouble) => {
                let text: Arc<str> = trouble.of_update(name.as_str(), &entry.domain, &updated.server).into();
                if entry.failure.as_ref() != Some(&text) {
                    self.steps.push_back(Step::Warn(text.clone()));
                }
                entry.failure = Some(text);
            }
        }
        self.at_work -= 1;
        let fits = entry.wanted == (aim == Aim::Publish);
        let outcome = entry.outcome();
        let (wanted, failed) = (entry.wanted, entry.failure.is_some());
        let renewed = std::mem::take(&mut entry.renewed) && !failed;
        let gone = entry.expires.is_none_or(|at| at <= now);
        if fits {
            self.tell(name, outcome);
        }
        if fits && !wanted && (!failed || gone || self.stopping) {
            self.remove(name);
        } else if !fits || renewed {
            self.set(name, Phase::Idle(now));
        } else if failed {
            let Some(entry) = self.entries.get_mut(name) else { return };
            let pause = entry.pause;
            entry.pause = (pause * 2).min(LONGEST_PAUSE).min((self.lifetime / 3).max(FIRST_PAUSE));
            self.set(name, Phase::Idle(now + spread(rng, pause)));
        } else {
            self.set(name, Phase::Idle(now + spread(rng, self.lifetime / 3)));
        }
        self.handle_timeout(now, rng);
    }

    /// Time has passed.
    pub(in crate::machine) fn handle_timeout(&mut self, now: Instant, rng: &mut ChaCha12Rng) {
        while let Some((at, timer)) = self.timers.first().cloned()
            && at <= now
        {
            match timer {
                Timer::Waiter(waiter) => self.out_of_patience(waiter),
                Timer::Entry(name) => match self.entries.get(&name).map(|entry| entry.phase) {
                    Some(Phase::AtWork(..)) => {
                        let updated = Updated { result: Err(Trouble::NoAnswer), server: "of the zone".into() };
                        return self.updated(now, rng, &name, updated);
                    }
                    _ => self.hurry(&name),
                },
            }
        }
        self.begin(now);
    }

    /// When something is due.
    pub(in crate::machine) fn next(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    pub(in crate::machine) fn standing(&self, now: Instant, name: &Name) -> Option<Standing> {
        let entry = self.entries.get(name)?;
        let state = match (entry.wanted, entry.failure.is_some(), entry.expires) {
            (false, _, _) => "withdrawing",
            (true, true, _) => "failing",
            (true, false, Some(_)) => "published",
            (true, false, None) => "publishing",
        };
        let next = match entry.phase {
            Phase::Idle(at) => Some(at.saturating_duration_since(now)),
            Phase::Ready | Phase::AtWork(..) => Some(Duration::ZERO),
        };
        Some(Standing {
            name: name.clone(),
            state,
            domain: entry.domain.clone(),
            lives: entry.expires.map(|at| at.saturating_duration_since(now)),
            failure: entry.failure.clone(),
            next,
        })
    }

    /// Names that stand in DNS, or are on their way into it or out of it.
    pub(in crate::machine) fn names(&self, range: (Bound<&Name>, Bound<&Name>)) -> impl Iterator<Item = &Name> {
        self.entries.range::<Name, _>(range).map(|(name, _)| name)
    }

    /// Begins as many updates as may be under way.
    fn begin(&mut self, now: Instant) {
        while self.at_work < MOST_AT_ONCE
            && let Some(name) = self.ready.pop_front()
        {
            let Some(entry) = self.entries.get(&name).filter(|entry| entry.phase == Phase::Ready) else { continue };
            let (domain, aim) = (entry.domain.clone(), if entry.wanted { Aim::Publish } else { Aim::Withdraw });
            self.at_work += 1;
            self.set(&name, Phase::AtWork(now, aim));
            self.steps.push_back(Step::Update { name, domain, aim });
        }
    }

    /// What is idle gets its turn; what is at work goes on.
    fn hurry(&mut self, name: &Name) {
        if self.entries.get(name).is_some_and(|entry| matches!(entry.phase, Phase::Idle(_))) {
            self.set(name, Phase::Ready);
            self.ready.push_back(name.clone());
        }
    }

    fn set(&mut self, name: &Name, phase: Phase) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        let before = std::mem::replace(&mut entry.phase, phase);
        if let Some(at) = before.wake() {
            self.timers.remove(&(at, Timer::Entry(name.clone())));
        }
        if let Some(at) = phase.wake() {
            self.timers.insert((at, Timer::Entry(name.clone())));
        }
    }

    fn remove(&mut self, name: &Name) {
        if let Some(entry) = self.entries.remove(name)
            && let Some(at) = entry.phase.wake()
        {
            self.timers.remove(&(at, Timer::Entry(name.clone())));
        }
    }

    fn wait(&mut self, now: Instant, name: &Name, waiter: Waiter) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        entry.waiters.insert(waiter);
        let until = now + PATIENCE;
        self.waiting.insert(waiter, (name.clone(), until));
        self.timers.insert((until, Timer::Waiter(waiter)));
    }

    fn tell(&mut self, name: &Name, result: Result<(), Failure>) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        for waiter in std::mem::take(&mut entry.waiters) {
            if let Some((_, until)) = self.waiting.remove(&waiter) {
                self.timers.remove(&(until, Timer::Waiter(waiter)));
            }
            self.steps.push_back(Step::Tell { waiter, result: result.clone() });
        }
    }

    fn out_of_patience(&mut self, waiter: Waiter) {
        let Some((name, until)) = self.waiting.remove(&waiter) else { return };
        self.timers.remove(&(until, Timer::Waiter(waiter)));
        let Some(entry) = self.entries.get_mut(&name) else { return };
        entry.waiters.remove(&waiter);
        let text = match &entry.failure {
            Some(failure) => failure.to_string(),
            None => format!("the name server has not answered yet for {name}; see irm name list --json how it goes on"),
        };
        let result = Err(Failure::new(FailureKind::DirectoryFailed, text));
        self.steps.push_back(Step::Tell { waiter, result });
    }
}

impl Phase {
    fn wake(self) -> Option<Instant> {
        match self {
            Self::Idle(at) => Some(at),
            Self::Ready => None,
            Self::AtWork(since, _) => Some(since + LOST),
        }
    }
}

impl Entry {
    fn new(domain: &str, now: Instant) -> Self {
        Self {
            domain: domain.into(),
            wanted: false,
            phase: Phase::Idle(now),
            pause: FIRST_PAUSE,
            expires: None,
            failure: None,
            waiters: BTreeSet::new(),
            renewed: false,
        }
    }

    /// What a caller who waited is told.
    fn outcome(&self) -> Result<(), Failure> {
        let Some(text) = &self.failure else { return Ok(()) };
        let then = if self.wanted {
            "it is registered on this host, and DNS is tried again"
        } else {
            "it is no longer registered on this host, and DNS is tried again while the record lives"
        };
        Err(Failure::new(FailureKind::DirectoryFailed, format!("{text}; {then}")))
    }
}

/// A little more or less, so that hosts that started together do not ask together for ever.
fn spread(rng: &mut ChaCha12Rng, pause: Duration) -> Duration {
    pause * (90 + rng.next_u32() % 21) / 100
}
