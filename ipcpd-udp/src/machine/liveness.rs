//! Whether a peer's host is still there, and the path between the two listen ports: kept per pair of hosts, not per
//! flow.
//!
//! A peer is known by its host id and boot id and the address its flows come from (two hosts may share one, and two may be
//! copies of one image), and is spoken to where it was last heard with both ids of a flow right. One flow of the pair
//! after the other lends its ids to a probe, so a flow that only one side still has is found in time. The asking side
//! probes more often than the accepting one: its datagrams keep its NAT open.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::ops::Bound;
use std::time::{Duration, Instant};

use proto::shim::{Control, ControlKind};
use proto::{BootId, HostId};

use super::flow::{Flow, Probing, State};
use super::meeting::is_carried_to;
use super::output::{Key, Output};
use super::rendezvous::punch::Way;
use super::table::Cause;
use super::{Reason, Shim};

/// Of flows whose QoS names none.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// A program may ask for less; it gets this.
const SHORTEST_TIMEOUT: Duration = Duration::from_secs(1);
/// The asking side is heard at least so often: NATs forget a silent path after 30 s.
const KEEP: Duration = Duration::from_secs(20);
/// Through NATs on both sides, each side is heard so often.
const CONSENT: Duration = Duration::from_secs(5);
/// An unanswered probe is repeated after a thirtieth of the timeout, within these bounds.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// The end takes a moment to reach a program: it begins this much before the timeout, or an eighth of it.
const MARGIN: Duration = Duration::from_secs(1);
/// Unanswered probes after which the programs' counts of SDUs are looked at for the first time.
const LOOK_AFTER: u32 = 2;
/// And after which another path is looked for, for flows that may move.
const SILENT_AFTER: u32 = 3;
/// While probes are answered, they are looked at so often.
const LOOK_PAUSE: Duration = Duration::from_secs(4);
/// A shim that restarted is asked again after this, as long as it says that it does not know its flows yet.
pub(super) const RECOVERING_PAUSE: Duration = Duration::from_secs(1);
/// A restarted shim says RECOVERING for so long: programs bring their flows back.
const RECOVERY: Duration = Duration::from_secs(5);
/// Between probes for accepted flows of which the peer's shim has not spoken yet.
const UNSURE_PAUSE: Duration = Duration::from_secs(1);
/// A probe that is due for so long was not forgotten: this host stood still (a paused machine, a stopped process).
const STOOD_STILL: Duration = Duration::from_secs(1);
/// Flows asked for at once when a peer's shim is seen to have restarted; each answer brings as many more.
const ASKED_AT_ONCE: usize = 4;

/// A shim, as its datagrams name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Peer {
    pub(super) host: HostId,
    pub(super) boot: BootId,
}

/// A peer shim, and the address its flows come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PairKey {
    of: Peer,
    ip: IpAddr,
}

/// What is known of the peer of one flow.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Vital {
    /// The pair the flow belongs to while it lives.
    pair: Option<PairKey>,
    /// The one it belonged to: whose shim hears of its end where the pair was heard last.
    was: Option<PairKey>,
    /// SDUs its program had received, and when they were counted.
    received: Option<(Instant, u64)>,
    /// Its own control datagrams came from another address than its SDUs do.
    pub(super) strayed: bool,
    /// SDUs came though probes went unanswered: the peer's host lives, its shim does not.
    carried: Option<Instant>,
}

/// This host and one peer.
#[derive(Debug)]
struct Pair {
    flows: BTreeSet<Key>,
    /// The flows' timeouts, and how many flows have each.
    timeouts: BTreeMap<Duration, usize>,
    /// Flows that this side asked for.
    asking: usize,
    /// Flows that came about through a rendezvous: both sides' NATs are kept open, and consent is asked for (RFC 7675).
    met: usize,
    /// Accepted flows of which the peer's shim has not spoken yet: their client may have given up unheard.
    unsure: BTreeSet<Key>,
    /// Flows that were brought back here, of which the peer's shim has not spoken since: it may have lost them meanwhile.
    brought_back: BTreeSet<Key>,
    /// Then one of several accepted flows is asked for, whatever was heard of others: what the peer has no longer, its
    /// own probes never name.
    turn: Instant,
    /// Where the peer's shim was last heard.
    at: Option<SocketAddr>,
    /// Where it was last heard of one flow only, from another address than the flows come from: where the peer's host has
    /// moved to, perhaps.
    elsewhere: Option<SocketAddr>,
    heard: Instant,
    /// Probes since then.
    unanswered: u32,
    /// Flows that may move were looked at, to see whether they are deaf.
    looked: Instant,
    /// The flow whose ids the last probe carried.
    last: Key,
    next: Instant,
}

/// All pairs; at most as many as flows.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    of: BTreeMap<PairKey, Pair>,
    timers: BTreeSet<(Instant, PairKey)>,
}

impl Pair {
    fn timeout(&self) -> Duration {
        self.timeouts.first_key_value().map_or(DEFAULT_TIMEOUT, |(timeout, _)| *timeout)
    }

    /// The flow to be asked for next.
    fn candidate(&self) -> Option<Key> {
        let next = |of: &BTreeSet<Key>| {
            of.range((Bound::Excluded(self.last), Bound::Unbounded)).next().or(of.first()).copied()
        };
        next(&self.unsure).or(next(&self.flows))
    }

    /// From one probe to the next, while they are answered.
    fn period(&self) -> Duration {
        match self {
            Self { met: 1.., .. } => (self.timeout() / 3).min(CONSENT),
            Self { asking: 1.., .. } => (self.timeout() / 3).min(KEEP),
            _ => self.timeout() / 2,
        }
    }
}

impl Pairs {
    pub(super) fn first(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Whether the shim of a pair was last heard from there.
    pub(super) fn speaks(&self, from: SocketAddr) -> bool {
        self.of.values().any(|pair| pair.at == Some(from))
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.of.is_empty() && self.timers.is_empty()
    }

    fn arm(&mut self, key: PairKey, next: Instant) {
        if let Some(pair) = self.of.get_mut(&key) {
            self.timers.remove(&(pair.next, key));
            pair.next = next;
            self.timers.insert((next, key));
        }
    }
}

impl Flow {
    fn timeout(&self) -> Duration {
        match self.qos.timeout_ms {
            0 => DEFAULT_TIMEOUT,
            ms => Duration::from_millis(ms.into()).max(SHORTEST_TIMEOUT),
        }
    }

    fn pair_key(&self) -> Option<PairKey> {
        self.of.filter(|_| !self.classic).map(|of| PairKey { of, ip: self.peer.ip() })
    }
}

/// Silence after which a flow's end begins.
fn limit(timeout: Duration) -> Duration {
    timeout - (timeout / 8).min(MARGIN)
}

impl Shim {
    /// This shim was started again, and programs may have flows to bring back: for 5 s it says RECOVERING of what it
    /// does not know. Not to be called at a host's first start.
    pub fn recover(&mut self, now: Instant) {
        self.recovering = Some(now + RECOVERY);
        self.ports.restarted(now);
    }

    pub(super) fn recovers(&mut self, now: Instant) -> bool {
        let recovers = self.recovering.is_some_and(|until| now < until);
        if recovers {
            self.counters.count(Reason::SaidRecovering);
        } else {
            self.recovering = None;
        }
        recovers
    }

    /// The flow lives: its peer's host is watched from now on.
    pub(super) fn pair(&mut self, now: Instant, key: Key) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let Some(to) = flow.pair_key().filter(|_| flow.vital.pair.is_none()) else { return };
        let (asking, timeout) = (!flow.accepting, flow.timeout());
        let (knocked, met) = (flow.path.knocked, flow.way.is_some());
        flow.vital = Vital { pair: Some(to), ..Vital::default() };
        let fresh = !self.pairs.of.contains_key(&to);
        let pair = self.pairs.of.entry(to).or_insert_with(|| Pair {
            flows: BTreeSet::new(),
            timeouts: BTreeMap::new(),
            asking: 0,
            met: 0,
            unsure: BTreeSet::new(),
            brought_back: BTreeSet::new(),
            turn: now + DEFAULT_TIMEOUT,
            at: None,
            elsewhere: None,
            heard: now,
            looked: now,
            unanswered: 0,
            last: key,
            next: now,
        });
        pair.flows.insert(key);
        *pair.timeouts.entry(timeout).or_default() += 1;
        pair.asking += usize::from(asking);
        pair.met += usize::from(met);
        let unheard = pair.at.is_none();
        if !asking {
            pair.unsure.insert(key);
        }
        pair.turn = pair.turn.min(now + pair.period());
        let next = if fresh { now + pair.period() } else { pair.next.min(now + pair.period()) };
        // From now on the accepting side's shim can reach this one, through whatever NAT.
        if asking && (fresh || knocked) || met && unheard {
            self.probe(now, to, key);
        } else {
            self.pairs.arm(to, next);
        }
    }

    /// The flow is over, or of another pair.
    pub(super) fn unpair(&mut self, key: Key) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let Some(from) = flow.vital.pair.take() else { return };
        flow.vital.was = Some(from);
        let Some(pair) = self.pairs.of.get_mut(&from) else { return };
        flow.control = pair.at.filter(|_| !flow.vital.strayed).unwrap_or(flow.control);
        pair.flows.remove(&key);
        pair.unsure.remove(&key);
        pair.brought_back.remove(&key);
        pair.asking -= usize::from(!flow.accepting);
        pair.met -= usize::from(flow.way.is_some());
        let timeout = flow.timeout();
        if let Some(count) = pair.timeouts.get_mut(&timeout) {
            *count -= 1;
            if *count == 0 {
                pair.timeouts.remove(&timeout);
            }
        }
        if pair.flows.is_empty() {
            self.pairs.timers.remove(&(pair.next, from));
            self.pairs.of.remove(&from);
        }
    }

    /// Where the peer's shim is told of a flow.
    pub(super) fn control_address(&self, flow: &Flow) -> SocketAddr {
        let pair = flow.vital.pair.or(flow.vital.was).filter(|_| !flow.vital.strayed);
        let pair = pair.and_then(|pair| self.pairs.of.get(&pair));
        pair.and_then(|pair| pair.at).unwrap_or(flow.control)
    }

    /// Where the end of a flow is told, too. A message or stream flow follows its client to another address, and its shim
    /// hears of that flow by flow. Whoever else is there learns the ids of a flow that is over.
    pub(super) fn moved_address(&self, flow: &Flow) -> Option<SocketAddr> {
        let pair = flow.vital.pair.or(flow.vital.was).filter(|_| flow.may_dissolve() && !flow.vital.strayed)?;
        self.pairs.of.get(&pair)?.elsewhere
    }

    /// A control datagram with both ids of a flow right.
    pub(super) fn heard(&mut self, now: Instant, key: Key, from: SocketAddr, control: &Control) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        // Some of its datagrams were still on their way through the server when the flow moved: no address of a path.
        let carried = is_carried_to(from).is_some() && flow.way != Some(Way::Relayed);
        if !carried {
            flow.control = from;
        }
        let Some(paired) = flow.vital.pair else { return };
        let of = Peer { host: control.host, boot: control.boot };
        if of != paired.of && control.kind != ControlKind::Recovering {
            self.restarted(now, key, paired, of, control.kind);
        }
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let Some(now_of) = flow.vital.pair else { return };
        flow.vital.strayed = from.ip() != now_of.ip && !carried;
        let Some(pair) = self.pairs.of.get_mut(&now_of) else { return };
        let path = from.ip() == now_of.ip || carried;
        let silent = path && pair.unanswered >= SILENT_AFTER;
        let heard: Vec<Key> = if silent { pair.flows.iter().copied().collect() } else { Vec::new() };
        pair.heard = now;
        pair.unanswered = 0;
        pair.unsure.remove(&key);
        pair.brought_back.remove(&key);
        // Another address than the flows come from is believed of this flow alone: behind it could be anybody who
        // allocated a flow under this peer's name.
        if from.ip() == now_of.ip {
            pair.at = Some(from);
        } else if !carried {
            pair.elsewhere = Some(from);
        }
        let pause = if control.kind == ControlKind::Recovering { RECOVERING_PAUSE } else { pair.period() };
        let next = if pair.flows.len() > pair.asking.max(1) { pair.turn.clamp(now, now + pause) } else { now + pause };
        let some: Vec<Key> = match control.kind {
            ControlKind::Recovering => Vec::new(),
            _ => pair.brought_back.iter().take(ASKED_AT_ONCE).copied().collect(),
        };
        self.pairs.arm(now_of, next);
        self.is_heard_again(&heard);
        self.look_at_all(now, now_of);
        for key in some {
            self.ask_for(now, key, Cause::Unconfirmed);
        }
    }

    /// The listen ports hear each other: whether the flows' own ports do, too, is another matter.
    fn look_at_all(&mut self, now: Instant, of: PairKey) {
        let Some(pair) = self.pairs.of.get_mut(&of).filter(|pair| pair.met > 0) else { return };
        if now < pair.looked + LOOK_PAUSE {
            return;
        }
        pair.looked = now;
        let may_move = |key: &&Key| self.flows.get(*key).is_some_and(Flow::may_move);
        for key in pair.flows.iter().filter(may_move).copied().collect::<Vec<_>>() {
            self.look(now, key, Duration::ZERO, false);
        }
    }

    /// A program brought the flow back: once the peer's shim is heard, it is asked for it.
    pub(super) fn brought_back(&mut self, key: Key) {
        let pair = self.flows.get(&key).and_then(|flow| flow.vital.pair).and_then(|pair| self.pairs.of.get_mut(&pair));
        if let Some(pair) = pair {
            pair.brought_back.insert(key);
        }
    }

    fn ask_for(&mut self, now: Instant, key: Key, cause: Cause) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        if let Some(pair) = flow.vital.pair.and_then(|pair| self.pairs.of.get_mut(&pair)) {
            pair.brought_back.remove(&key);
        }
        if matches!(flow.state, State::Held) {
            flow.go(cause, State::Probing(Probing { sent: 0, next: now }));
            self.probe_timeout(now, key);
            self.settle(key);
        }
    }

    /// The client asks again for a flow that it has: it has not heard the acceptance, but it is there.
    pub(super) fn heard_asking(&mut self, now: Instant, key: Key) {
        let Some(paired) = self.flows.get(&key).and_then(|flow| flow.vital.pair) else { return };
        let Some(pair) = self.pairs.of.get_mut(&paired) else { return };
        pair.heard = now;
        pair.unanswered = 0;
        let next = now + pair.period();
        self.pairs.arm(paired, next);
    }

    /// A flow's peer is a shim that was started again: the flow goes over to it, and it is asked for the others, some
    /// at each answer (were it all at once, one forged source would be sent thousands).
    fn restarted(&mut self, now: Instant, key: Key, before: PairKey, of: Peer, said: ControlKind) {
        self.counters.count(Reason::PeersRestarted);
        if said != ControlKind::NoSuchFlow {
            self.unpair(key);
            if let Some(flow) = self.flows.get_mut(&key) {
                flow.of = Some(of);
            }
            self.pair(now, key);
        }
        let Some(pair) = self.pairs.of.get(&before) else { return };
        let held = |other: &&Key| {
            **other != key && self.flows.get(*other).is_some_and(|flow| matches!(flow.state, State::Held))
        };
        let some: Vec<Key> = pair.flows.iter().filter(held).take(ASKED_AT_ONCE).copied().collect();
        for key in some {
            self.ask_for(now, key, Cause::Rebooted);
        }
    }

    /// Whether NO SUCH FLOW was asked for by a probe of the pair.
    pub(super) fn asked_for(&self, key: Key) -> bool {
        let pair = self.flows.get(&key).and_then(|flow| flow.vital.pair).and_then(|pair| self.pairs.of.get(&pair));
        pair.is_some_and(|pair| pair.last == key && pair.unanswered > 0)
    }

    /// Whether the peer's shim is not heard.
    pub(super) fn is_pair_silent(&self, key: Key) -> bool {
        let pair = self.flows.get(&key).and_then(|flow| flow.vital.pair).and_then(|pair| self.pairs.of.get(&pair));
        pair.is_none_or(|pair| pair.unanswered >= SILENT_AFTER)
    }

    pub(super) fn pairs_timeout(&mut self, now: Instant) {
        let due: Vec<PairKey> = self.pairs.timers.iter().take_while(|(at, _)| *at <= now).map(|(_, of)| *of).collect();
        for of in due {
            self.pair_timeout(now, of);
        }
    }

    fn pair_timeout(&mut self, now: Instant, of: PairKey) {
        self.stood_still(now, of);
        let Some(pair) = self.pairs.of.get(&of) else { return };
        let silence = now.saturating_duration_since(pair.heard);
        let late = silence >= limit(pair.timeout());
        let silent = pair.met > 0 && pair.unanswered >= SILENT_AFTER;
        if late || silent || pair.unanswered == LOOK_AFTER {
            let flows: Vec<Key> = pair.flows.iter().copied().collect();
            for key in flows {
                self.look(now, key, silence, late);
            }
        }
        let Some(pair) = self.pairs.of.get_mut(&of) else { return };
        let Some(key) = pair.candidate() else { return };
        pair.turn = now + if pair.unsure.is_empty() { pair.period() } else { UNSURE_PAUSE };
        self.probe(now, of, key);
    }

    /// Time in which this host could not ask is no silence of the peer's: without it a paused machine would end all its flows when it
    /// goes on, before it has read what waits for it.
    fn stood_still(&mut self, now: Instant, of: PairKey) {
        let Some(pair) = self.pairs.of.get_mut(&of) else { return };
        let still = now.saturating_duration_since(pair.next);
        if still < STOOD_STILL {
            return;
        }
        pair.heard += still;
        for key in &pair.flows {
            if let Some(flow) = self.flows.get_mut(key) {
                flow.vital.carried = flow.vital.carried.map(|at| at + still);
            }
        }
    }

    /// Asks for a flow's counts of SDUs: as the first of a silence, because its time is up, or whether it is deaf.
    fn look(&mut self, now: Instant, key: Key, silence: Duration, late: bool) {
        let Some(flow) = self.flows.get(&key) else { return };
        let Some(id) = flow.id else { return };
        let carried = flow.vital.carried.map_or(silence, |at| now.saturating_duration_since(at));
        if !late || carried.min(silence) >= limit(flow.timeout()) {
            self.out(Output::Look { key, flow: id });
        }
    }

    /// The program's counts of SDUs, as [`Output::Look`] asked for. SDUs that came during the silence say that the peer's
    /// host lives and only its shim is down; those that are not answered, that the flow's own path is gone.
    pub fn looked(&mut self, now: Instant, key: Key, received: u64, sent: u64) {
        self.listen(now, key, received, sent);
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let Some(pair) = flow.vital.pair.and_then(|pair| self.pairs.of.get(&pair)) else { return };
        let (limit, silent) = (limit(flow.timeout()), pair.unanswered >= SILENT_AFTER);
        let before = flow.vital.received.filter(|(at, _)| *at > pair.heard);
        flow.vital.received = Some((now, received));
        if before.is_some_and(|(_, before)| before != received) {
            flow.vital.carried = Some(now);
            return;
        }
        let last = flow.vital.carried.map_or(pair.heard, |at| at.max(pair.heard));
        if now.saturating_duration_since(last) >= limit {
            self.counters.count(Reason::PeersTimedOut);
            let reason = flow.reason_of_silence();
            self.peer_ended(now, key, Cause::TimedOut, reason);
            self.settle(key);
        } else if silent && before.is_some() {
            self.is_silent(now, key);
        }
    }

    /// Asks for one flow of the pair, in the name of all.
    fn probe(&mut self, now: Instant, of: PairKey, key: Key) {
        let Some(pair) = self.pairs.of.get_mut(&of) else { return };
        pair.last = key;
        pair.unanswered = pair.unanswered.saturating_add(1);
        let again = now + (pair.timeout() / 30).clamp(RETRY.0, RETRY.1);
        let end = pair.heard + limit(pair.timeout());
        let next = if end > now { again.min(end) } else { again };
        self.pairs.arm(of, next);
        let Some(flow) = self.flows.get(&key) else { return };
        let (to, ours, theirs) = (self.control_address(flow), flow.ours, flow.theirs);
        let unheard = self.pairs.of.get(&of).is_some_and(|pair| pair.at.is_none());
        let listens = flow.met.as_ref().filter(|_| unheard).map_or(Vec::new(), |met| met.listens.clone());
        self.counters.count(Reason::Probes);
        self.control(to, ControlKind::Probe, ours, theirs);
        // Through NATs: whichever it hears opens the way for the others' answers.
        for other in listens.into_iter().filter(|other| *other != to) {
            self.control(other, ControlKind::Probe, ours, theirs);
        }
    }
}
