//! Who gets past the listen port when many ask: the first look at every request, before anything is spent on it.
//!
//! A request with a valid cookie always passes: its caller receives where it says it is. Others pass while the shim is
//! calm. A loaded one tells extended callers to come back with a cookie, keeping nothing, and lets classic callers,
//! who know no cookies, in by a trickle. What starts a program needs a cookie at all times.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use pace::{Bucket, Pace, Prefix, Prefixes};
use proto::shim::{Peek, Verdict};
use proto::{Name, WireId};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::cookie::Jar;
use super::flow::Flow;
use super::table::Phase;
use super::{Reason, Shim};

/// A rate above the mark is load for at least this long.
const HOLD: Duration = Duration::from_secs(1);
/// Answers to requests that nothing is kept of, in all: 64,000/s.
const ANSWERS: Pace = Pace::per_second(64_000, Duration::from_millis(250));
/// Classic requests that a loaded shim takes, in all: 100/s.
const CLASSICS: Pace = Pace::per_second(100, Duration::from_secs(1));
/// Requests per prefix, and those with a valid cookie by themselves: 16,000/s, so that one host may allocate as fast as it
/// can (5,000/s on two slow cores).
const PER_PREFIX: Pace = Pace::per_second(16_000, Duration::from_secs(1));
/// What one without takes of it when loaded: 1,000/s for extended callers, 100/s for classic ones.
const LOADED: u32 = 16;
const LOADED_CLASSIC: u32 = 160;

/// Where load begins, and what one prefix may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Loaded from so many flows that wait for a program's answer.
    pub pending: usize,
    /// Loaded above so many requests without a valid cookie per second, a tenth of which may come at once.
    pub rate: u32,
    /// Flows that wait for a program's answer, from one prefix (/24, /56).
    pub pending_per_prefix: usize,
}

impl Default for Limits {
    /// 256 pending, 16,000 requests per second, 1,024 pending of one prefix.
    fn default() -> Self {
        Self { pending: 256, rate: 16_000, pending_per_prefix: 1_024 }
    }
}

/// What the gate remembers: nothing that a stranger can make longer.
#[derive(Debug)]
pub(super) struct Load {
    rng: ChaCha12Rng,
    jar: Jar,
    arrivals: Bucket,
    answers: Bucket,
    classics: Bucket,
    prefixes: Prefixes,
    /// Of proven callers: nobody else can spend these.
    proven: Prefixes,
    loaded_until: Option<Instant>,
    /// Flows that wait for a program's answer. At most as many entries as there are such flows.
    pending: HashMap<Prefix, usize>,
}

impl Load {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        // A stream of its own: what the gate draws can be told from nothing else that the shim draws.
        let mut rng = ChaCha12Rng::from_seed(seed);
        rng.set_stream(1);
        Self {
            jar: Jar::new(&mut || key(&mut rng)),
            arrivals: Bucket::default(),
            answers: Bucket::default(),
            classics: Bucket::default(),
            prefixes: Prefixes::new(|| rng.next_u64()),
            proven: Prefixes::new(|| rng.next_u64()),
            rng,
            loaded_until: None,
            pending: HashMap::new(),
        }
    }

    fn turn(&mut self, now: Instant) {
        self.jar.turn(now, &mut || key(&mut self.rng));
    }

    /// A flow's phase changed, or it is new (from `None`).
    pub(super) fn count_pending(&mut self, flow: &Flow, before: Option<Phase>) {
        let pends = |phase| matches!(phase, Phase::Reserving | Phase::Waiting);
        let Some(request) = &flow.request else { return };
        let (was, is) = (before.is_some_and(pends), pends(flow.state.phase()));
        let prefix = Prefix::of(request.from.ip());
        match (was, is) {
            (false, true) => *self.pending.entry(prefix).or_default() += 1,
            (true, false) => {
                if let Some(count) = self.pending.get_mut(&prefix) {
                    *count -= 1;
                    if *count == 0 {
                        self.pending.remove(&prefix);
                    }
                }
            }
            _ => {}
        }
    }

    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }
}

fn key(rng: &mut ChaCha12Rng) -> [u8; 16] {
    let mut key = [0; 16];
    rng.fill_bytes(&mut key);
    key
}

impl Shim {
    /// Whether a program may be started for a flow to a registered name: then whoever asks for one is proven first.
    pub fn starts(&mut self, name: &Name, starts: bool) {
        self.directory.starts(name, starts);
    }

    /// The first look at a request. `Some`: it goes on, and whether its caller is proven to receive at `from`.
    pub(super) fn gate(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) -> Option<bool> {
        let peek = Peek::read(bytes);
        if let Some(Peek { name, client, cookie }) = peek
            && !cookie.is_empty()
        {
            self.load.turn(now);
            if self.load.jar.is_ours(cookie, from, client, name) {
                self.counters.count(Reason::CookieValid);
                // One cookie may come ten thousand times a second.
                let may = self.load.proven.take(now, PER_PREFIX, Prefix::of(from.ip()), 1);
                if !may {
                    self.counters.count(Reason::PrefixRate);
                }
                return may.then_some(true);
            }
            self.counters.count(Reason::CookieStale);
        }
        let loaded = self.is_loaded(now);
        let units = match (loaded, peek) {
            (false, _) => 1,
            (true, Some(_)) => LOADED,
            (true, None) => LOADED_CLASSIC,
        };
        if !self.load.prefixes.take(now, PER_PREFIX, Prefix::of(from.ip()), units) {
            self.counters.count(Reason::PrefixRate);
            return None;
        }
        match peek {
            Some(Peek { name, client, .. }) if loaded || self.shares() || self.directory.needs_cookie(name) => {
                self.want_cookie(now, from, client, name);
                None
            }
            None if loaded && !self.lets_classic_in(now) => {
                self.counters.count(Reason::ClassicLoad);
                None
            }
            _ => Some(false),
        }
    }

    /// Whether state is made for proven callers only. To be asked once for each request that brings no proof.
    fn is_loaded(&mut self, now: Instant) -> bool {
        let Limits { pending, rate, .. } = self.settings.limits;
        if !self.load.arrivals.take(now, Pace::per_second(rate, Duration::from_millis(100)), 1) {
            self.load.loaded_until = Some(now + HOLD);
        }
        // Whoever is not proven gets a quarter of the flows there can be: nobody can fill them all with forged ones.
        self.load.loaded_until.is_some_and(|until| now < until)
            || self.waiting() >= pending
            || self.flows.len() >= self.settings.max_flows.div_ceil(4)
    }

    fn lets_classic_in(&mut self, now: Instant) -> bool {
        let room =
            self.waiting() < self.settings.max_pending / 2 && self.flows.len() < self.settings.max_flows.div_ceil(2);
        room && self.load.classics.take(now, CLASSICS, 1)
    }

    fn want_cookie(&mut self, now: Instant, from: SocketAddr, client: WireId, name: &[u8]) {
        let Ok(name) = Name::from_bytes(name) else { return self.counters.count(Reason::BadName) };
        if !self.may_answer(now) {
            return;
        }
        self.load.turn(now);
        let cookie = self.load.jar.bake(from, client, name.as_str().as_bytes());
        let bytes =
            self.verdict(client, WireId(0), Verdict::Cookie, "", Vec::new(), None).with_cookie(&cookie).encode(&name);
        self.counters.count(Reason::CookieWanted);
        self.answer(from, bytes);
    }

    /// Whether one more answer may be given to somebody nothing is known of; counted where not.
    pub(super) fn may_answer(&mut self, now: Instant) -> bool {
        let may = self.load.answers.take(now, ANSWERS, 1);
        if !may {
            self.counters.count(Reason::AnswerRate);
        }
        may
    }

    /// Whether an unknown sender of a control datagram gets an answer; counted where not.
    pub(super) fn may_answer_control(&mut self, now: Instant, from: SocketAddr) -> bool {
        if !self.load.prefixes.take(now, PER_PREFIX, Prefix::of(from.ip()), 1) {
            self.counters.count(Reason::PrefixRate);
            return false;
        }
        self.may_answer(now)
    }

    /// Whether as many flows from this prefix wait for programs as may.
    pub(super) fn is_crowded(&mut self, from: IpAddr) -> bool {
        let waiting = self.load.pending.get(&Prefix::of(from)).copied().unwrap_or(0);
        let crowded = waiting >= self.settings.limits.pending_per_prefix;
        if crowded {
            self.counters.count(Reason::PrefixPending);
        }
        crowded
    }

    /// Flows that wait for a program's answer.
    pub(super) fn waiting(&self) -> usize {
        self.tallied(Phase::Waiting) + self.tallied(Phase::Reserving)
    }
}
