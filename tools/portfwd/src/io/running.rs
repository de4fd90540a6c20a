//! A rule in force: what its connections share. Who is let in, which target is next and which are dead is decided by
//! [`Door`] and [`Balance`].
#![expect(clippy::disallowed_methods, reason = "io/: the clock")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use proto::forward::Verdict;
use service::balance::{Balance, Change};
use service::resolve::{Hosts, Named};
use service::table::printable;
use tokio::sync::watch;

use super::over::Flows;
use super::tls::{Acceptor, Connector};
use crate::machine::admit::{self, Door};
use crate::machine::cause::Refusal;
use crate::said::control::{RuleStatus, TargetStatus};
use crate::said::end::End;
use crate::said::rule::{Accept, Options, Rule};

/// How long a rule for datagrams is not opened, at most, because a target's host is looked up.
const LOOK_UP: Duration = Duration::from_secs(1);

/// A rule in force. A reload that changes its options makes another with the same counters; connections keep theirs.
#[derive(Debug)]
pub(crate) struct Running {
    /// What was written.
    pub(crate) rule: Rule,
    /// What it has counted, since the listening end was opened.
    pub(crate) counters: Arc<RuleCounters>,
    /// TLS of clients.
    pub(crate) tls: Option<Acceptor>,
    targets: Vec<Target>,
    door: Mutex<Door>,
    balance: Mutex<Balance>,
    /// Whether a target is believed to live.
    alive: watch::Sender<bool>,
}

/// A target of a rule in force.
#[derive(Debug)]
pub(crate) struct Target {
    /// What was written.
    pub(crate) end: End,
    /// Where its host's addresses are looked up.
    pub(crate) host: Option<Arc<Named>>,
    /// TLS of connections to it.
    pub(crate) tls: Option<Connector>,
    /// Flows to it, of each worker.
    pub(crate) flows: Vec<Flows>,
    /// As it is written.
    pub(crate) name: String,
    counters: Arc<TargetCounters>,
}

/// What a target has counted; it outlives the rule it is in.
#[derive(Debug, Default)]
struct TargetCounters {
    open: AtomicU64,
    connected: AtomicU64,
    failed: AtomicU64,
}

/// What a rule has counted.
#[derive(Debug, Default)]
pub(crate) struct RuleCounters {
    open: AtomicU32,
    accepted: AtomicU64,
    /// Bytes that clients, and targets, have said.
    pub(crate) carried: [AtomicU64; 2],
    refused: Reasons,
    ended: Reasons,
    dropped: Reasons,
}

/// How often for which reason.
#[derive(Debug, Default)]
struct Reasons(Mutex<BTreeMap<&'static str, u64>>);

/// A connection's place in its rule.
#[derive(Debug)]
pub(crate) struct Place(Arc<RuleCounters>);

/// A connection's place in its target's count, from the moment that it is chosen: else all who come at once would choose the
/// same.
#[derive(Debug)]
pub(crate) struct Claim(Arc<TargetCounters>);

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Reasons {
    fn add(&self, reason: &'static str, count: u64) {
        *lock(&self.0).entry(reason).or_default() += count;
    }

    fn all(&self) -> BTreeMap<String, u64> {
        lock(&self.0).iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect()
    }
}

impl RuleCounters {
    /// Connections now.
    pub(crate) fn open(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    /// A connection was not let in, or reached no target.
    pub(crate) fn refused(&self, reason: &'static str) {
        self.refused.add(reason, 1);
    }

    /// A connection is over.
    pub(crate) fn ended(&self, reason: &'static str) {
        self.ended.add(reason, 1);
    }

    /// Datagrams went nowhere.
    pub(crate) fn dropped(&self, reason: &'static str, count: u64) {
        self.dropped.add(reason, count);
    }
}

impl Running {
    /// A rule in force from now on. What a former one knows of the same targets is kept. The error says which file is wrong.
    pub(crate) fn new(
        rule: Rule,
        counters: Arc<RuleCounters>,
        hosts: &Hosts,
        flows: impl Fn(&End, &Options) -> anyhow::Result<Vec<Flows>>,
        former: Option<&Self>,
    ) -> anyhow::Result<Arc<Self>> {
        let options = &rule.options;
        let tls = options.tls_in.as_ref().map(Acceptor::new).transpose()?;
        let mut targets = Vec::with_capacity(rule.targets.len());
        for end in &rule.targets {
            let known = former.and_then(|former| former.targets.iter().find(|known| known.end == *end));
            targets.push(Target {
                host: end.host_name().map(|name| hosts.named(name, options.resolve)),
                tls: options.tls_out.as_ref().map(|tls| Connector::new(tls, end)).transpose()?,
                flows: flows(end, options)?,
                name: end.to_string(),
                end: end.clone(),
                counters: known.map(|known| known.counters.clone()).unwrap_or_default(),
            });
        }
        let names = targets.iter().map(|target| target.name.clone());
        let mut balance = Balance::new(Instant::now(), options.balance, options.health.clone(), names);
        // Whoever waits for a target looks for one first.
        let mut alive = options.accept == Accept::Always;
        if let Some(former) = former {
            balance.inherit(&lock(&former.balance));
            alive = *former.alive.borrow();
        }
        let door = Mutex::new(Door::new(options));
        let (balance, alive) = (Mutex::new(balance), watch::Sender::new(alive));
        Ok(Arc::new(Self { counters, tls, targets, door, balance, alive, rule }))
    }

    /// Waits, not for long, for the addresses of targets that are named: datagrams do not wait for them.
    pub(crate) async fn look_up(&self) {
        let hosts: Vec<_> = self.targets.iter().filter_map(|target| target.host.clone()).collect();
        // All at the same time.
        hosts.iter().for_each(|host| drop(host.at_hand()));
        let all = async {
            for host in hosts {
                // What it comes to is in the log, and asked for again.
                let _ = host.addresses().await;
            }
        };
        let _ = tokio::time::timeout(LOOK_UP, all).await;
    }

    /// Whether somebody is told what a client connected to.
    pub(crate) fn tells_listener(&self) -> bool {
        self.rule.options.proxy_out.is_some() || self.targets.iter().any(|target| !target.flows.is_empty())
    }

    /// Whether a client has to say something before it is connected.
    pub(crate) fn speaks_first(&self) -> bool {
        self.rule.options.proxy_in || self.tls.is_some()
    }

    /// Whether a client is let in, of whom a header of the PROXY protocol told: [`Self::admit`] saw who brought it.
    pub(crate) fn admit_address(&self, client: SocketAddr) -> Result<(), Refusal> {
        let allowed = lock(&self.door).allows(client.ip());
        allowed.then_some(()).ok_or_else(|| self.told(admit::Refusal::Denied))
    }

    /// Whether a connection is let in.
    pub(crate) fn admit(&self, client: Option<SocketAddr>) -> Result<Place, Refusal> {
        self.counters.accepted.fetch_add(1, Ordering::Relaxed);
        let open = self.counters.open.fetch_add(1, Ordering::Relaxed);
        let place = Place(self.counters.clone());
        self.knock(client, open).map(|()| place)
    }

    /// The same of a client over UDP, where sessions are counted by who keeps them.
    pub(crate) fn admit_session(&self, client: Option<SocketAddr>) -> Result<Place, Refusal> {
        self.knock(client, 0)?;
        self.counters.accepted.fetch_add(1, Ordering::Relaxed);
        self.counters.open.fetch_add(1, Ordering::Relaxed);
        Ok(Place(self.counters.clone()))
    }

    fn knock(&self, client: Option<SocketAddr>, open: u32) -> Result<(), Refusal> {
        // Who brings headers of others' is judged by what they say.
        let client = client.map(|client| client.ip()).filter(|_| !self.rule.options.proxy_in);
        let admitted = lock(&self.door).admit(Instant::now(), client, open.into());
        admitted.map_err(|refusal| self.told(refusal))
    }

    fn told(&self, refusal: admit::Refusal) -> Refusal {
        let verdict = match refusal {
            admit::Refusal::Denied => Verdict::NotPermitted,
            admit::Refusal::TooMany | admit::Refusal::TooFast => Verdict::Exhausted,
        };
        Refusal::here(verdict, refusal.words(&self.rule.options))
    }

    /// A target, by its place in the rule.
    pub(crate) fn target(&self, place: usize) -> &Target {
        &self.targets[place]
    }

    /// Whether a target is taken for alive.
    pub(crate) fn is_up(&self, target: usize) -> bool {
        lock(&self.balance).is_up(target)
    }

    /// The targets that a connection is to try, one after the other, as long as none takes it.
    pub(crate) fn targets(&self, client: Option<SocketAddr>) -> impl Iterator<Item = (usize, &Target, Claim)> {
        // The first is taken nearly always: only who asks for a second remembers the first.
        let (mut last, mut tried) = (None, Vec::new());
        std::iter::from_fn(move || {
            tried.extend(last.take());
            let open = |place: usize| self.targets[place].counters.open.load(Ordering::Relaxed);
            let client = client.map(|client| client.ip());
            let mut balance = lock(&self.balance);
            let place = balance.pick(Instant::now(), client, &tried, open)?;
            // Counted before another looks.
            let claim = self.claim(place);
            drop(balance);
            last = Some(place);
            Some((place, &self.targets[place], claim))
        })
    }

    /// What trying a target came to.
    pub(crate) fn tried(&self, target: usize, refusal: Option<&Refusal>) {
        let counters = &self.targets[target].counters;
        match refusal {
            None => {
                counters.connected.fetch_add(1, Ordering::Relaxed);
                let change = lock(&self.balance).succeeded(target);
                self.changed(target, change, "");
            }
            // Nothing that a target did.
            Some(refusal) if refusal.is_own() => {}
            Some(refusal) => {
                counters.failed.fetch_add(1, Ordering::Relaxed);
                let change = lock(&self.balance).failed(Instant::now(), target);
                self.changed(target, change, &refusal.to_string());
            }
        }
    }

    /// A connection to a target is being made, or lives.
    pub(crate) fn claim(&self, target: usize) -> Claim {
        let counters = self.targets[target].counters.clone();
        counters.open.fetch_add(1, Ordering::Relaxed);
        Claim(counters)
    }

    /// The target that is to be connected to now, to see whether it lives; [`Self::checked`] is to follow.
    pub(crate) fn next_check(&self, now: Instant) -> Option<usize> {
        lock(&self.balance).poll_check(now)
    }

    /// What that came to.
    pub(crate) fn checked(&self, target: usize, refusal: Option<&Refusal>) {
        let change = lock(&self.balance).checked(Instant::now(), target, refusal.is_none());
        self.changed(target, change, &refusal.map(ToString::to_string).unwrap_or_default());
    }

    /// When to ask [`Self::next_check`] again.
    pub(crate) fn check_due(&self) -> Option<Instant> {
        let balance = lock(&self.balance);
        balance.poll_timeout()
    }

    /// Whether a target is believed to live.
    pub(crate) fn alive(&self) -> watch::Receiver<bool> {
        self.alive.subscribe()
    }

    fn changed(&self, target: usize, change: Option<Change>, why: &str) {
        let (rule, name) = (&self.rule.name, &self.targets[target].name);
        match change {
            Some(Change::WentDown) => tracing::warn!("rule {rule}: the target {name} is down: {}", printable(why)),
            Some(Change::CameUp) => tracing::info!("rule {rule}: the target {name} is up again"),
            None => {}
        }
        let alive = !lock(&self.balance).all_down();
        self.alive.send_if_modified(|before| std::mem::replace(before, alive) != alive);
    }

    /// How it is; `state` is what its listening end does.
    pub(crate) fn status(&self, state: String) -> RuleStatus {
        let counters = &self.counters;
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let balance = lock(&self.balance);
        let targets = self.targets.iter().enumerate().map(|(place, target)| TargetStatus {
            target: target.name.clone(),
            up: balance.is_up(place),
            open: load(&target.counters.open),
            connected: load(&target.counters.connected),
            failed: load(&target.counters.failed),
        });
        RuleStatus {
            name: self.rule.name.clone(),
            listen: self.rule.listen.to_string(),
            state,
            open: counters.open.load(Ordering::Relaxed).into(),
            accepted: load(&counters.accepted),
            bytes_in: load(&counters.carried[0]),
            bytes_out: load(&counters.carried[1]),
            refused: counters.refused.all(),
            ended: counters.ended.all(),
            dropped: counters.dropped.all(),
            targets: targets.collect(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
