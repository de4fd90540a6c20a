//! Which of a rule's targets takes the next connection, and which of them are taken for dead.
//!
//! ```text
//!         `fails` failures in a row          `retry` is over: one connection tries
//!   up ────────────────────────────► down ─────────────────────────────────────► down for another `retry`
//!   ▲                                 │ a connection or a check reaches it
//!   └─────────────────────────────────┘
//! ```
//!
//! Suspicion never refuses anybody: where every target is down, the one that has been down longest is asked first. How many
//! connections a target has is an input, since it outlives this value when a rule is loaded anew.

use std::hash::Hasher as _;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::{Duration, Instant};

use siphasher::sip::SipHasher13;

/// Which of several targets a connection gets, among those that live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Policy {
    /// One after the other.
    #[default]
    RoundRobin,
    /// The one with the fewest connections.
    LeastConnections,
    /// By the client's address: the same client the same target, as long as that lives.
    SourceHash,
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "round-robin" => Ok(Self::RoundRobin),
            "least-connections" => Ok(Self::LeastConnections),
            "source-hash" => Ok(Self::SourceHash),
            _ => Err(format!("balance is \"round-robin\", \"least-connections\" or \"source-hash\", not {text:?}")),
        }
    }
}

/// Which targets are taken for dead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// After so many failures in a row, of connections and checks.
    pub fails: NonZeroU32,
    /// A dead one is tried again after so long.
    pub retry: Duration,
    /// So often each is connected to, whether connections come or not. `None`: never.
    pub check: Option<Duration>,
}

impl Default for Health {
    fn default() -> Self {
        Self { fails: const { NonZeroU32::new(3).unwrap() }, retry: Duration::from_secs(1), check: None }
    }
}

/// What changed for a target, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was taken for alive, and no more.
    WentDown,
    /// It was taken for dead, and no more.
    CameUp,
}

/// The targets of one rule.
#[derive(Clone, Debug)]
pub struct Balance {
    policy: Policy,
    health: Health,
    targets: Vec<Target>,
    /// Whose turn it is.
    next: usize,
}

#[derive(Clone, Debug)]
struct Target {
    name: String,
    hash: u64,
    life: Life,
    check: Check,
    /// Checks say whether it lives: while it is dead no connection has to find out.
    checked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Up { failures: u32 },
    Down { since: Instant, until: Instant },
}

#[derive(Clone, Copy, Debug)]
enum Check {
    Never,
    /// As soon as somebody asks.
    First,
    At(Instant),
    UnderWay,
}

impl Balance {
    /// Targets known by their names, as the rule has them, which are checked when somebody first [asks](Self::poll_check).
    pub fn idle(policy: Policy, health: Health, names: impl IntoIterator<Item = String>) -> Self {
        let target = |name: String| Target {
            hash: hash(name.as_bytes()),
            name,
            life: Life::Up { failures: 0 },
            check: if health.check.is_some() { Check::First } else { Check::Never },
            checked: false,
        };
        let targets = names.into_iter().map(target).collect();
        Self { policy, health, targets, next: 0 }
    }

    /// Targets known by their names, as the rule has them. Where they are checked the first checks are spread over one
    /// interval.
    pub fn new(now: Instant, policy: Policy, health: Health, names: impl IntoIterator<Item = String>) -> Self {
        let mut balance = Self::idle(policy, health, names);
        if let Some(interval) = balance.health.check {
            let count = u32::try_from(balance.targets.len()).unwrap_or(u32::MAX);
            for (place, target) in balance.targets.iter_mut().enumerate() {
                let share = u32::try_from(place).unwrap_or(u32::MAX);
                target.check = Check::At(now + interval * share / count);
            }
        }
        balance
    }

    /// Takes over what the rule's former value knew of targets that stayed.
    pub fn inherit(&mut self, former: &Self) {
        for target in &mut self.targets {
            if let Some(known) = former.targets.iter().find(|known| known.name == target.name) {
                target.life = known.life;
            }
        }
        if let Some(count @ 1..) = Some(self.targets.len()) {
            self.next = former.next % count;
        }
    }

    /// The target for a client's next attempt, none where all have been tried. `open` tells how many connections a target
    /// has. A target that was down and since longer than `retry`, and that no check asks, is tried by this connection, and by no
    /// other for as long again.
    pub fn pick(
        &mut self,
        now: Instant,
        client: Option<IpAddr>,
        tried: &[usize],
        open: impl Fn(usize) -> u64,
    ) -> Option<usize> {
        let due = |target: &Target| match target.life {
            Life::Up { .. } => true,
            Life::Down { until, .. } => !target.checked && until <= now,
        };
        let fresh = |place: &usize| !tried.contains(place);
        let chosen = self
            .choose(client, &open, |place| fresh(&place) && due(&self.targets[place]))
            .or_else(|| (0..self.targets.len()).filter(fresh).min_by_key(|place| self.targets[*place].suspected()))?;
        if self.policy == Policy::RoundRobin {
            self.next = (chosen + 1) % self.targets.len();
        }
        if let Life::Down { until, .. } = &mut self.targets[chosen].life {
            *until = now + self.health.retry;
        }
        Some(chosen)
    }

    fn choose(
        &self,
        client: Option<IpAddr>,
        open: &impl Fn(usize) -> u64,
        may: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let count = self.targets.len();
        let mut turn = (0..count).map(|step| (self.next + step) % count).filter(|place| may(*place));
        match (self.policy, client) {
            (Policy::RoundRobin, _) => turn.next(),
            (Policy::LeastConnections, _) | (Policy::SourceHash, None) => turn.min_by_key(|place| open(*place)),
            (Policy::SourceHash, Some(client)) => {
                let client = client_hash(client);
                turn.max_by_key(|place| (mixed(client, self.targets[*place].hash), *place))
            }
        }
    }

    /// A connection reached the target.
    pub fn succeeded(&mut self, target: usize) -> Option<Change> {
        let life = &mut self.targets.get_mut(target)?.life;
        let was = std::mem::replace(life, Life::Up { failures: 0 });
        matches!(was, Life::Down { .. }).then_some(Change::CameUp)
    }

    /// A connection did not reach it, or a check did not.
    pub fn failed(&mut self, now: Instant, target: usize) -> Option<Change> {
        let (fails, until) = (self.health.fails.get(), now + self.health.retry);
        let life = &mut self.targets.get_mut(target)?.life;
        match life {
            Life::Up { failures } if *failures + 1 < fails => {
                *failures += 1;
                None
            }
            Life::Up { .. } => {
                *life = Life::Down { since: now, until };
                Some(Change::WentDown)
            }
            Life::Down { until: held, .. } => {
                *held = until;
                None
            }
        }
    }

    /// The target that is to be checked now; each is told once until [`Self::checked`].
    pub fn poll_check(&mut self, now: Instant) -> Option<usize> {
        let due = |target: &Target| match target.check {
            Check::First => true,
            Check::At(at) => at <= now,
            Check::Never | Check::UnderWay => false,
        };
        let place = self.targets.iter().position(due)?;
        self.targets[place].check = Check::UnderWay;
        Some(place)
    }

    /// What a check came to.
    pub fn checked(&mut self, now: Instant, target: usize, reached: bool) -> Option<Change> {
        let (interval, known) = self.health.check.zip(self.targets.get_mut(target))?;
        known.check = Check::At(now + interval);
        known.checked = true;
        if reached { self.succeeded(target) } else { self.failed(now, target) }
    }

    /// When the next check is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let at = |target: &Target| match target.check {
            Check::At(at) => Some(at),
            Check::Never | Check::First | Check::UnderWay => None,
        };
        self.targets.iter().filter_map(at).min()
    }

    /// Whether a target is taken for alive.
    pub fn is_up(&self, target: usize) -> bool {
        self.targets.get(target).is_some_and(|target| matches!(target.life, Life::Up { .. }))
    }

    /// Whether no target is: a listener that is to be closed then is closed now.
    pub fn all_down(&self) -> bool {
        (0..self.targets.len()).all(|target| !self.is_up(target))
    }

    /// When a target that is down may be tried again, where all are: for who closed the listener and has nobody to try with.
    pub fn next_trial(&self) -> Option<Instant> {
        let until = |target: &Target| match target.life {
            Life::Up { .. } => None,
            Life::Down { until, .. } => Some(until),
        };
        self.targets.iter().map(until).collect::<Option<Vec<_>>>()?.into_iter().min()
    }
}

impl Target {
    fn suspected(&self) -> Option<Instant> {
        match self.life {
            Life::Up { .. } => None,
            Life::Down { since, .. } => Some(since),
        }
    }
}

/// The key is no secret: every forwarder hashes alike.
fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(0x466c_6f77, 0x7269_6e67);
    hasher.write(bytes);
    hasher.finish()
}

fn client_hash(client: IpAddr) -> u64 {
    match client.to_canonical() {
        IpAddr::V4(v4) => hash(&v4.octets()),
        IpAddr::V6(v6) => hash(&v6.octets()),
    }
}

/// Of all targets the one with the highest of these is the client's (rendezvous hashing).
fn mixed(client: u64, target: u64) -> u64 {
    hash(&[client.to_le_bytes(), target.to_le_bytes()].concat())
}

#[cfg(test)]
mod tests;
