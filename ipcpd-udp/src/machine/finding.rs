//! Where a flow goes: the directory asked, the asking programs that wait for its answer, and the next host where one has
//! no flow to give. And names of this host registered, here and in DNS.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::v1::{Failure, FailureKind};
use proto::{FlowId, Name};

use super::Shim;
use super::client::timeout_of;
use super::directory::answer::Host;
use super::directory::fingerprint::Fingerprint;
use super::directory::plan::Own;
use super::directory::registrar::Step;
use super::directory::trouble::Trouble;
use super::directory::{LookedUp, Place, Standing, Target, Updated, Waiter, place};
use super::failures::unknown;
use super::output::{Ask, Key, Output};

/// A host gets at least so long before the next one is asked.
const LEAST_SHARE: Duration = Duration::from_secs(1);
/// Asking programs that go on in one turn once their name was found: others get theirs in between.
const PER_TURN: usize = 32;

/// Programs that wait for the directory.
#[derive(Debug, Default)]
pub(super) struct Finding {
    /// By name; each with the deadline of its program.
    waiting: BTreeMap<Name, BTreeMap<Key, (Ask, Instant)>>,
    flows: HashMap<FlowId, (Name, Key)>,
    deadlines: std::collections::BTreeSet<(Instant, Key, FlowId)>,
    /// Found, and to go on one after the other.
    found: VecDeque<Found>,
}

#[derive(Debug)]
struct Found {
    key: Key,
    ask: Ask,
    deadline: Instant,
    answer: Arc<Answer>,
    since: Instant,
}

/// What was found, for all who waited for it.
#[derive(Debug)]
enum Answer {
    Known(super::directory::lookups::Known),
    Failed(Failure),
}

/// What is known of a name without asking anybody.
#[derive(Clone, Debug)]
pub struct Sources {
    /// It is registered here, and stands in DNS so.
    pub registered: Option<Standing>,
    /// Its row of the static table.
    pub row: Option<SocketAddr>,
    /// As it is written in DNS, or why it cannot be; none without a zone.
    pub domain: Option<Result<String, String>>,
    /// A DNS answer is kept for flows.
    pub kept: bool,
}

/// The other hosts that have a flow's name.
#[derive(Clone, Debug, Default)]
pub(super) struct Others {
    /// The key that the directory has of the one that is asked.
    pub(super) key: Option<Fingerprint>,
    /// In the order of asking.
    pub(super) hosts: Vec<Target>,
    /// The program waits so long.
    pub(super) until: Option<Instant>,
}

/// How long the first of `others` + 1 hosts is asked.
pub(super) fn share(left: Duration, others: usize) -> Duration {
    let hosts = u32::try_from(others + 1).unwrap_or(u32::MAX);
    (left / hosts).max(LEAST_SHARE).min(left)
}

impl Finding {
    pub(super) fn len(&self) -> usize {
        self.flows.len()
    }

    pub(super) fn has(&self, flow: FlowId) -> bool {
        self.flows.contains_key(&flow)
    }

    fn wait(&mut self, now: Instant, key: Key, ask: Ask) {
        let deadline = now + timeout_of(&ask);
        self.flows.insert(ask.flow, (ask.name.clone(), key));
        self.deadlines.insert((deadline, key, ask.flow));
        self.waiting.entry(ask.name.clone()).or_default().insert(key, (ask, deadline));
    }

    /// Takes out one that waits; says whether it was the last for its name.
    fn take(&mut self, flow: FlowId) -> Option<(Key, Ask, bool)> {
        let (name, key) = self.flows.remove(&flow)?;
        if let Some(index) = self.found.iter().position(|found| found.key == key) {
            return self.found.remove(index).map(|found| (key, found.ask, false));
        }
        let waiting = self.waiting.get_mut(&name)?;
        let (ask, deadline) = waiting.remove(&key)?;
        self.deadlines.remove(&(deadline, key, flow));
        let last = waiting.is_empty();
        if last {
            self.waiting.remove(&name);
        }
        Some((key, ask, last))
    }

    /// The directory has answered for the name.
    fn answered(&mut self, now: Instant, name: &Name, answer: Answer) {
        let answer = Arc::new(answer);
        for (key, (ask, deadline)) in self.waiting.remove(name).unwrap_or_default() {
            self.deadlines.remove(&(deadline, key, ask.flow));
            self.found.push_back(Found { key, ask, deadline, answer: answer.clone(), since: now });
        }
    }
}

impl Shim {
    /// A program of this host asks for a flow. [`Output::Allocated`] or [`Output::Failed`] follows, or this fails at once.
    pub fn flow_alloc(&mut self, now: Instant, ask: Ask) -> Result<Key, Failure> {
        self.check(&ask)?;
        let place = self.directory.find(now, &mut self.rng, &ask.name, self.settings.listen);
        if place == Place::Asking {
            return self.look_up(now, ask);
        }
        let key = self.next_key();
        self.go_to(now, key, ask, place).map(|()| key)
    }

    fn go_to(&mut self, now: Instant, key: Key, ask: Ask, place: Place) -> Result<(), Failure> {
        match place {
            Place::At(target, others) => self.ask(now, key, ask, target, others),
            Place::Here => Err(unknown(&ask.name, "serves it on this host only: its flows are local flows")),
            // The last to be asked, and about every name: one that came a moment ago is on no list yet.
            Place::Unknown(_) if self.member.is_some() => self.ask_rendezvous(now, key, ask, 0),
            Place::Unknown(why) => Err(unknown(&ask.name, &why)),
            Place::Outage(sentence) => Err(Failure::new(FailureKind::DirectoryFailed, &*sentence)),
            Place::Asking => {
                Err(Failure::new(FailureKind::Internal, "the directory was asked twice; please report this"))
            }
        }
    }

    fn look_up(&mut self, now: Instant, ask: Ask) -> Result<Key, Failure> {
        match self.directory.domain(&ask.name) {
            Some(Err(_)) if self.member.is_some() => {
                let key = self.next_key();
                return self.ask_rendezvous(now, key, ask, 0).map(|()| key);
            }
            Some(Err(error)) => return Err(unknown(&ask.name, &format!("has no row for it, and {error}"))),
            Some(Ok(domain)) if self.directory.want(now, &ask.name) => {
                self.out(Output::LookUp { name: ask.name.clone(), domain });
            }
            _ => {}
        }
        let key = self.next_key();
        self.finding.wait(now, key, ask);
        Ok(key)
    }

    /// A look-up has ended.
    pub fn looked_up(&mut self, now: Instant, name: &Name, looked_up: &LookedUp) {
        let own = self.settings.listen;
        let (known, next) = self.directory.looked_up(now, name, looked_up, own);
        self.finding.answered(now, name, Answer::Known(known));
        if let Some(name) = next
            && let Some(Ok(domain)) = self.directory.domain(&name)
        {
            self.out(Output::LookUp { name, domain });
        }
        self.go_on(now);
    }

    /// Programs whose name was found go on, some at a time.
    fn go_on(&mut self, now: Instant) {
        for _ in 0..PER_TURN {
            let Some(Found { key, mut ask, deadline, answer, .. }) = self.finding.found.pop_front() else { return };
            self.finding.flows.remove(&ask.flow);
            ask.timeout = deadline.saturating_duration_since(now).max(Duration::from_millis(1));
            let result = match &*answer {
                Answer::Known(known) => {
                    let place = place(now, &mut self.rng, known);
                    self.go_to(now, key, ask, place)
                }
                Answer::Failed(failure) => Err(failure.clone()),
            };
            if let Err(failure) = result {
                self.out(Output::Failed { key, failure });
            }
        }
    }

    /// The caller no longer waits for the directory.
    pub(super) fn stop_looking(&mut self, flow: FlowId) {
        let Some((key, ask, last)) = self.finding.take(flow) else { return };
        if last {
            self.directory.forget(&ask.name);
        }
        let failure = Failure::new(FailureKind::Internal, "the caller no longer waits for the flow");
        self.out(Output::Failed { key, failure });
    }

    pub(super) fn next_finding(&self) -> Option<Instant> {
        let found = self.finding.found.front().map(|found| found.since);
        let deadline = self.finding.deadlines.first().map(|(at, ..)| *at);
        [found, deadline, self.directory.next()].into_iter().flatten().min()
    }

    pub(super) fn finding_timeout(&mut self, now: Instant) {
        self.go_on(now);
        self.lose_names(now);
        while let Some(&(at, _, flow)) = self.finding.deadlines.first()
            && at <= now
        {
            let Some((key, ask, last)) = self.finding.take(flow) else { break };
            if last {
                self.directory.forget(&ask.name);
            }
            let text =
                format!("the name servers have not said in time where {} is; see irm name resolve {0}", ask.name);
            self.out(Output::Failed { key, failure: Failure::new(FailureKind::DirectoryFailed, text) });
        }
        for name in self.directory.lost_lookups(now) {
            let records = Err(Trouble::NoAnswer);
            let server = "of the zone".to_owned();
            self.looked_up(now, &name, &LookedUp { records, absent: false, server, ttl: Duration::ZERO, wall: 0 });
        }
        self.directory.registrar.handle_timeout(now, &mut self.rng);
        self.directory_steps();
    }

    /// The host that was asked gave no flow: the next one that has the name is asked, if there is one and time for it.
    /// Gives the failure back where there is not.
    pub(super) fn ask_another(
        &mut self,
        now: Instant,
        key: Key,
        id: Option<FlowId>,
        failure: Failure,
    ) -> Option<Failure> {
        let worth = matches!(
            failure.kind(),
            FailureKind::TimedOut
                | FailureKind::UnknownName
                | FailureKind::NobodyAccepts
                | FailureKind::Exhausted
                // It may be a classic shim where another one is not.
                | FailureKind::UnsupportedQos
        ) && !self.full();
        let flow = self.flows.get_mut(&key)?;
        let until = flow.others.until.filter(|until| *until > now);
        let (Some(id), Some(until), true, false) = (id, until, worth, flow.others.hosts.is_empty()) else {
            return Some(failure);
        };
        let mut others = std::mem::take(&mut flow.others.hosts);
        let target = others.remove(0);
        let ask = Ask {
            flow: id,
            name: flow.name.clone(),
            source: flow.source.clone(),
            qos: flow.qos,
            timeout: until - now,
            data: flow.data.clone(),
            owner: flow.owner.clone(),
        };
        let next = self.next_key();
        match self.ask(now, next, ask, target, others) {
            Ok(()) => {
                self.out(Output::Again { key, next });
                None
            }
            Err(failure) => Some(failure),
        }
    }

    /// This host answers for the name from now on. Where DNS is to say so, `waiter` hears how that went
    /// ([`Output::Tell`]); `false`: there is nothing to wait for.
    pub fn register(&mut self, now: Instant, name: Name, waiter: Option<Waiter>) -> Result<bool, Failure> {
        self.directory.register(now, name.clone()).map_err(super::full)?;
        self.name_added(now, &name);
        if !self.directory.writes() {
            return Ok(false);
        }
        match self.directory.domain(&name) {
            Some(Ok(domain)) => self.directory.registrar.publish(now, &name, &domain, waiter),
            Some(Err(error)) if waiter.is_some() => {
                let text = format!("{error}; it is registered on this host only");
                return Err(Failure::new(FailureKind::DirectoryFailed, text));
            }
            Some(Err(error)) => {
                self.out(Output::Warn { text: format!("{error}; it is registered on this host only").into() })
            }
            None => return Ok(false),
        }
        self.directory_steps();
        Ok(waiter.is_some())
    }

    /// This host no longer answers for the name; flows to it go on. `waiter` as in [`Self::register`].
    pub fn unregister(&mut self, now: Instant, name: &Name, waiter: Option<Waiter>) -> Result<bool, Failure> {
        let known = self.directory.unregister(name);
        self.name_removed(now, name);
        let stands = self.directory.registrar.withdraw(now, name, waiter);
        self.directory_steps();
        if known || stands {
            return Ok(stands && waiter.is_some());
        }
        let text = format!("{name} is not registered in this layer; nothing to undo");
        Err(Failure::new(FailureKind::NotFound, text))
    }

    /// irmd took this IPCP, which asked for that at `before`. Names that it does not register again in time are
    /// registered no longer: who served them ended while no irmd ran.
    pub fn attached(&mut self, now: Instant, before: Instant) {
        self.directory.doubt(now, before);
    }

    fn lose_names(&mut self, now: Instant) {
        let lost = self.directory.lost_names(now);
        if let Some(first) = lost.first() {
            let text = format!(
                "{} names are registered no longer, {first} first: irmd was restarted and did not register them again",
                lost.len()
            );
            self.out(Output::Warn { text: text.into() });
        }
        for name in lost {
            let _ = self.unregister(now, &name, None);
        }
    }

    /// An update of the zone has ended.
    pub fn updated(&mut self, now: Instant, name: &Name, updated: Updated) {
        self.directory.registrar.updated(now, &mut self.rng, name, updated);
        self.directory_steps();
        self.stop_when_over(now);
    }

    /// This host's key is published with its names from now on; none: they are published without.
    pub fn host_key(&mut self, now: Instant, key: Option<Fingerprint>) {
        if self.host_key != key {
            self.host_key = key;
            self.rename(now);
        }
    }

    /// What stands in DNS of this host is to be written anew.
    pub(super) fn rename(&mut self, now: Instant) {
        self.directory.registrar.renew(now);
        self.directory_steps();
    }

    fn directory_steps(&mut self) {
        while let Some(step) = self.directory.next_step() {
            let output = match step {
                Step::Update { name, domain, aim } => Output::Update { own: self.own(name), domain, aim },
                Step::Tell { waiter, result } => Output::Tell { waiter, result },
                Step::Warn(text) => Output::Warn { text },
            };
            self.out(output);
        }
    }

    fn own(&self, name: Name) -> Own {
        let (lifetime, ttl) = self.settings.dns.as_ref().map_or((0, 0), |dns| (dns.lifetime, dns.ttl));
        Own { name, host: self.settings.host, at: self.settings.listen, key: self.host_key, lifetime, ttl }
    }

    pub(super) fn stop_finding(&mut self, now: Instant) {
        for name in self.finding.waiting.keys().cloned().collect::<Vec<_>>() {
            self.directory.forget(&name);
            let text = format!("the IPCP of layer {} is stopping; try later", self.settings.layer);
            self.finding.answered(now, &name, Answer::Failed(Failure::new(FailureKind::IpcpDown, text)));
        }
        self.directory.registrar.stop(now);
        self.directory_steps();
    }

    /// Takes every name out of DNS, tried once each; this host answers for them on.
    pub fn retire(&mut self, now: Instant) {
        self.directory.registrar.stop(now);
        self.directory_steps();
    }

    /// Whether names stand in DNS, or are on their way out.
    pub fn is_in_dns(&self) -> bool {
        !self.directory.registrar.is_idle()
    }

    /// How the names registered here stand in DNS, from `after` on.
    pub fn registrations(&self, now: Instant, after: Option<&Name>, most: usize) -> Vec<Standing> {
        self.directory.standings(now, after, most)
    }

    /// What is known of a name without asking anybody.
    pub fn sources(&self, now: Instant, name: &Name) -> Sources {
        Sources {
            registered: self.directory.answers_for(name).then(|| self.directory.standing(now, name)),
            row: self.directory.row(name),
            domain: self.directory.domain(name).map(|domain| domain.map_err(|error| error.to_string())),
            kept: self.directory.keeps(now, name),
        }
    }

    /// The hosts that an answer names, also those no flow goes to.
    pub fn hosts_of(&self, now: Instant, name: &Name, looked_up: &LookedUp) -> Vec<Host> {
        self.directory.hosts_of(now, name, looked_up, self.settings.listen)
    }
}
