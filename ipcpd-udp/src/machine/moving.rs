//! Message and stream flows through a rendezvous, on their way to another path: both sides' sockets are introduced again, and hellos
//! go out. Relayed flows look for a direct one from time to time, docs/decisions/0040; all look for any when theirs is gone
//! ([`super::roaming`]).
//!
//! It is the flow's own socket that hellos go from: what they open is then open for the flow. Only the program reads there, and
//! hands over what is ours; until there is a path, the flow notices nothing. Then both programs are told where to send.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proto::rendezvous::{FlowIds, Introduction, Meeting, Nat, Refusal, Seen};
use proto::{FlowId, HostId, WireId};
use rand_chacha::rand_core::Rng;

use super::flow::{Flow, State};
use super::meeting::{is_carried_to, way_word};
use super::output::{Key, Output};
use super::rendezvous::attempt::{Attempt, ROUNDS};
use super::rendezvous::punch::{Way, Won};
use super::roaming::Adrift;
use super::{Reason, Shim, ticket};

/// From the flow's beginning to the first attempt, and between two in which something may have changed; doubles.
pub(super) const FIRST_PAUSE: Duration = Duration::from_secs(5);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// What one attempt gets; this side goes on answering hellos until then.
const PATIENCE: Duration = Duration::from_secs(6);
/// Attempts of one side that have led nowhere yet, at most; and when another one looks again.
const MOST_AT_ONCE: usize = 64;
/// Those that one other host may have asked for.
const MOST_OF_HOST: usize = 8;
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// The server has not heard this host where it is now: a round trip.
const NOT_SEEN: Duration = Duration::from_millis(50);

/// Of a flow that may move.
#[derive(Debug)]
pub(super) struct Moving {
    under_way: Option<UnderWay>,
    /// Asking side: the next attempt; none while the flow is direct and all is well.
    next: Option<Instant>,
    pause: Duration,
    round: u8,
    /// When the last attempt began.
    began: Option<Instant>,
    /// What both sides looked like then.
    look: Surroundings,
}

/// An attempt, and until when.
#[derive(Debug)]
struct UnderWay {
    /// The asking side's host and id of it: what comes twice is one.
    of: WireId,
    attempt: Attempt,
    began: Instant,
    until: Instant,
    /// It has led somewhere.
    done: bool,
}

/// What a path depends on: where this host is seen and what is before it, and where the other is. A box that gives the listen port another
/// port has forgotten the flows' ports, too.
type Surroundings = (Option<SocketAddr>, Nat, Option<SocketAddr>);

impl Default for Moving {
    fn default() -> Self {
        Self { under_way: None, next: None, pause: FIRST_PAUSE, round: 0, began: None, look: Surroundings::default() }
    }
}

impl Moving {
    /// The attempt under way.
    pub(super) fn attempt(&mut self) -> Option<&mut Attempt> {
        self.under_way.as_mut().map(|under_way| &mut under_way.attempt)
    }

    pub(super) fn wake(&self) -> Option<Instant> {
        match &self.under_way {
            Some(UnderWay { attempt, until, .. }) => attempt.poll_timeout().map(|at| at.min(*until)).or(Some(*until)),
            None => self.next,
        }
    }

    /// Hellos go out, or did a moment ago.
    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// Hellos go out, and none was answered.
    fn is_open(&self) -> bool {
        self.under_way.as_ref().is_some_and(|under_way| !under_way.done)
    }

    /// Whoever asks for another attempt may have one so long after the last.
    pub(super) fn rest(&self, now: Instant) -> Duration {
        self.began.map_or(Duration::ZERO, |began| (began + FIRST_PAUSE).saturating_duration_since(now))
    }

    fn put_off(&mut self, now: Instant) {
        self.next = Some(now + self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}

/// Of all flows.
#[derive(Debug, Default)]
pub(super) struct Movers {
    /// Attempts under way.
    under_way: BTreeSet<Key>,
    /// Asking side: flows that may move.
    waiting: BTreeSet<Key>,
    /// What this host and the list of members were when the waiting ones were looked at; none: to be looked at.
    looked: Option<(Option<SocketAddr>, Nat, Seen)>,
}

impl Movers {
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_empty() && self.waiting.is_empty()
    }
}

impl Flow {
    /// Its program hands over what is the shim's, and the peer proves itself by more than its address.
    pub(super) fn may_move(&self) -> bool {
        self.way.is_some() && self.is_protected() && !self.classic
    }

    /// Its direct path, which may be as good as ever.
    fn present(&self) -> Option<(SocketAddr, Way)> {
        self.way.filter(|way| *way != Way::Relayed).map(|way| (self.peer, way))
    }

    /// Whether what was found is what it has, and what was predicted or searched for then: nothing that the server knows leads there.
    fn has(&self, won: Won) -> bool {
        self.present().is_some_and(|(at, _)| at == won.at) && is_carried_to(self.control).is_some()
    }

    pub(super) fn is_live(&self) -> bool {
        matches!(self.state, State::Held | State::Probing(_))
    }
}

/// Whether it was there and is somewhere else: what was not known before, or is not now, says nothing.
fn elsewhere(before: Option<SocketAddr>, now: Option<SocketAddr>) -> bool {
    before.zip(now).is_some_and(|(before, now)| before != now)
}

impl Shim {
    /// A program has the flow: from now on a direct path is looked for, if it has none, and another one when it needs one.
    pub(super) fn begin_moving(&mut self, now: Instant, key: Key) {
        let asks = |flow: &Flow| flow.may_move() && !flow.accepting && flow.moving.is_none();
        if self.member.is_none() || !self.flows.get(&key).is_some_and(asks) {
            return;
        }
        let mut look = self.flows.get(&key).map(|flow| self.surroundings(flow)).unwrap_or_default();
        // The list of members may be late; where the other was when the two met is known.
        let met = self.flows.get(&key).and_then(|flow| flow.met.as_ref()).and_then(|met| met.attempt.as_ref());
        look.2 = met.and_then(|attempt| attempt.meeting()).map(|meeting| meeting.shim_public).or(look.2);
        let first = now + FIRST_PAUSE + self.spread();
        if let Some(flow) = self.flows.get_mut(&key) {
            let next = (flow.way == Some(Way::Relayed)).then_some(first);
            flow.moving = Some(Box::new(Moving { next, look, ..Moving::default() }));
            self.movers.waiting.insert(key);
        }
    }

    /// Up to a second: flows that begin together do not ask together.
    pub(super) fn spread(&mut self) -> Duration {
        Duration::from_millis(u64::from(self.rng.next_u32() % 1000))
    }

    /// Asking side: the next attempt is one of the first again, unless one is out whose hellos may still be answered.
    pub(super) fn seek_soon(&mut self, now: Instant, key: Key, within: Duration) {
        let moving = self.flows.get_mut(&key).filter(|flow| !flow.accepting).and_then(|flow| flow.moving.as_mut());
        let Some(moving) = moving else { return };
        moving.pause = LOOK_AGAIN;
        moving.next = Some(moving.next.map_or(now + within, |next| next.min(now + within)));
        if !moving.is_open() {
            self.stop_attempt(key);
        }
    }

    /// Asking side: there is nothing more to look for.
    pub(super) fn seek_no_more(&mut self, key: Key) {
        if let Some(moving) = self.flows.get_mut(&key).and_then(|flow| flow.moving.as_mut()) {
            moving.next = None;
        }
    }

    /// What was under way began in another place, or has led somewhere.
    pub(super) fn stop_attempt(&mut self, key: Key) {
        if let Some(moving) = self.flows.get_mut(&key).and_then(|flow| flow.moving.as_mut()) {
            moving.under_way = None;
            self.movers.under_way.remove(&key);
        }
    }

    /// The flow is over, or about to be.
    pub(super) fn stop_moving(&mut self, key: Key) {
        if let Some(flow) = self.flows.get_mut(&key)
            && flow.moving.take().is_some()
        {
            self.movers.waiting.remove(&key);
            self.movers.under_way.remove(&key);
        }
    }

    /// Its time, if it asked for one.
    pub(super) fn moving_timeout(&mut self, now: Instant, key: Key) {
        let Some(moving) = self.flows.get_mut(&key).and_then(|flow| flow.moving.as_mut()) else { return };
        match &mut moving.under_way {
            Some(under_way) if under_way.until <= now => self.attempt_over(now, key),
            Some(under_way) => {
                under_way.attempt.handle_timeout(now);
                self.moving_steps(now, key);
            }
            None if moving.next.is_some_and(|at| at <= now) => self.seek(now, key),
            None => {}
        }
    }

    /// The asking side asks to be introduced again.
    fn seek(&mut self, now: Instant, key: Key) {
        let crowded = self.open_attempts().count() >= MOST_AT_ONCE;
        let unseen = self.member.as_ref().is_some_and(|member| member.public().is_none());
        let id = self.wire_id();
        let look = self.flows.get(&key).map(|flow| self.surroundings(flow)).unwrap_or_default();
        let Some(flow) = self.flows.get(&key) else { return };
        let (local, ready) = (flow.local, flow.is_live() && !crowded && !unseen);
        let setup = self.setup(id, local, now + PATIENCE).filter(|_| ready && self.not_joined().is_none());
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let adrift = flow.place.adrift.is_some();
        let (name, ids) = (flow.name.clone(), FlowIds { asker: flow.ours, asked: flow.theirs, adrift });
        let present = flow.present();
        let of = flow.of;
        let Some(moving) = &mut flow.moving else { return };
        let (Some(mut setup), Some(of)) = (setup, of) else {
            moving.next = Some(now + if unseen { NOT_SEEN } else { LOOK_AGAIN });
            return;
        };
        // Else it has the relay, or what is better.
        setup.relay = setup.relay.filter(|_| adrift);
        self.ask_router(now, key, &mut setup);
        let Some(moving) = self.flows.get_mut(&key).and_then(|flow| flow.moving.as_mut()) else { return };
        moving.put_off(now);
        (moving.began, moving.look) = (Some(now), look);
        // Only the last round goes on to the relay.
        let round = if setup.relay.is_some() { ROUNDS - 1 } else { moving.round };
        let attempt = Attempt::seek(now, setup, name, of.host, round, ids).keeping(present);
        moving.round = (moving.round + 1) % ROUNDS;
        moving.under_way = Some(UnderWay { of: id, attempt, began: now, until: now + PATIENCE, done: false });
        self.movers.under_way.insert(key);
        self.counters.count(Reason::PathsSought);
        self.moving_steps(now, key);
    }

    /// The other side is asked to look for a path for a flow that there is.
    pub(super) fn introduced_again(
        &mut self,
        now: Instant,
        introduction: Introduction,
        ids: FlowIds,
    ) -> Result<(), Refusal> {
        let key = *self.by_wire.get(&ids.asked).ok_or(Refusal::UnknownAttempt)?;
        let flow = self.flows.get(&key).ok_or(Refusal::UnknownAttempt)?;
        let known = flow.is(ids.asked, ids.asker) && flow.of.is_some_and(|of| of.host == introduction.asker);
        if !known || !flow.may_move() || !flow.accepting || !flow.is_live() {
            return Err(Refusal::UnknownAttempt);
        }
        let known = flow.moving.as_ref().and_then(|moving| moving.under_way.as_ref());
        if known.is_some_and(|under_way| under_way.of == introduction.attempt) {
            return Ok(());
        }
        // One whose hellos are out is not given up for what may be an old word.
        let young = known.is_some_and(|under_way| !under_way.done && now < under_way.began + FIRST_PAUSE / 2);
        if self.stopping.is_some() || young || self.moves_too_many(key, introduction.asker) {
            return Err(Refusal::TooMany);
        }
        let (local, present, id) = (flow.local, flow.present(), self.wire_id());
        let mut setup = self.setup(id, local, now + PATIENCE).ok_or(Refusal::Exhausted)?;
        setup.relay = setup.relay.filter(|_| ids.adrift);
        self.ask_router(now, key, &mut setup);
        let of = introduction.attempt;
        let attempt = Attempt::meet(now, setup, introduction).keeping(present);
        if let Some(flow) = self.flows.get_mut(&key) {
            let under_way = UnderWay { of, attempt, began: now, until: now + PATIENCE, done: false };
            flow.moving.get_or_insert_default().under_way = Some(under_way);
        }
        self.movers.under_way.insert(key);
        self.counters.count(Reason::PathsSought);
        self.moving_steps(now, key);
        self.settle(key);
        Ok(())
    }

    /// Whether there is no place for another attempt that this host asks for.
    fn moves_too_many(&self, key: Key, host: HostId) -> bool {
        let asked_by = |flow: &&Flow| flow.accepting && flow.of.is_some_and(|of| of.host == host);
        !self.movers.under_way.contains(&key)
            && (self.open_attempts().count() >= MOST_AT_ONCE
                || self.open_attempts().filter(asked_by).count() >= MOST_OF_HOST)
    }

    /// Flows whose attempts have led nowhere yet.
    fn open_attempts(&self) -> impl Iterator<Item = &Flow> {
        let flows = self.movers.under_way.iter().filter_map(|key| self.flows.get(key));
        flows.filter(|flow| flow.moving.as_ref().is_some_and(|moving| moving.is_open()))
    }

    /// A datagram came to a flow's socket that its program says is not its own.
    pub fn heard_by_program(&mut self, now: Instant, flow: FlowId, from: SocketAddr, bytes: &[u8]) {
        if from.port() == 0 || from.ip().is_unspecified() || from.ip().is_multicast() {
            return self.counters.count(Reason::Spoofed);
        }
        let Some(&key) = self.by_id.get(&flow) else { return self.counters.count(Reason::Late) };
        let moving = self.flows.get_mut(&key).and_then(|flow| flow.moving.as_mut());
        let Some(under_way) = moving.and_then(|moving| moving.under_way.as_mut()) else {
            return self.counters.count(Reason::Late);
        };
        if let Err(malformed) = under_way.attempt.handle(now, from, bytes, &mut self.rng) {
            self.counters.count(malformed);
        }
        self.moving_steps(now, key);
        self.settle(key);
    }

    /// What an attempt wants to send; and what came of it.
    pub(super) fn moving_steps(&mut self, now: Instant, key: Key) {
        let moving = self.flows.get_mut(&key).and_then(|flow| flow.moving.as_mut());
        let Some(under_way) = moving.and_then(|moving| moving.under_way.as_mut()) else { return };
        let mut sends = Vec::new();
        while let Some((to, bytes)) = under_way.attempt.poll_output() {
            sends.push((to, bytes, under_way.attempt.is_guess(to)));
        }
        let result = under_way.attempt.result().cloned();
        let found = matches!(result, Some(Ok(_))) && !std::mem::replace(&mut under_way.done, true);
        self.send_hellos(now, key, sends);
        match result {
            Some(Ok(won)) if found => self.take_path(now, key, won),
            Some(Err(_)) => self.attempt_over(now, key),
            _ => {}
        }
    }

    fn attempt_over(&mut self, now: Instant, key: Key) {
        self.movers.under_way.remove(&key);
        // What changed meanwhile was not looked at for this one.
        self.movers.looked = None;
        if self.flows.get(&key).is_some_and(|flow| flow.way == Some(Way::Relayed)) {
            self.release_mapping(key);
        }
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let accepting = flow.accepting;
        let Some(moving) = &mut flow.moving else { return };
        if moving.under_way.take().is_some_and(|under_way| !under_way.done) {
            self.counters.count(Reason::PathsNotFound);
        }
        if accepting {
            self.stop_moving(key);
        } else {
            moving.next = moving.next.map(|at| at.max(now + LOOK_AGAIN));
        }
    }

    /// There is a path: the flow takes it, and all that is said of it.
    fn take_path(&mut self, now: Instant, key: Key, won: Won) {
        let Some(flow) = self.flows.get(&key) else { return };
        let Some(id) = flow.id.filter(|_| flow.is_live()) else { return };
        let under_way = flow.moving.as_ref().and_then(|moving| moving.under_way.as_ref());
        let Some(meeting) = under_way.and_then(|under_way| under_way.attempt.meeting()).cloned() else { return };
        let (kept, waits) = (flow.has(won), flow.is_unconfirmed());
        self.keep_mapping(key, won);
        if !kept {
            self.go_over(now, key, won, &meeting);
        }
        if let Some(flow) = self.flows.get_mut(&key) {
            (flow.place.adrift, flow.place.counts) = (None, None);
        }
        // Its hellos were.
        self.heard_asking(now, key);
        let again = (won.way == Way::Relayed).then(|| now + FIRST_PAUSE + self.spread());
        if let Some(moving) = self.flows.get_mut(&key).filter(|flow| !flow.accepting).and_then(|it| it.moving.as_mut())
        {
            (moving.next, moving.pause) = (again, FIRST_PAUSE);
        }
        // Its program need not hear, unless it is to try at once what it has tried in vain.
        if kept && !waits {
            return;
        }
        self.counters.count(Reason::PathsMoved);
        let Some(flow) = self.flows.get(&key) else { return };
        let ticket = ticket::seal(&self.settings.ticket_key, &flow.ticket(self.epoch));
        self.out(Output::Moved { flow: id, peer: flow.peer, way: way_word(flow.way), ticket });
    }

    /// The flow has another peer's address: the pair is another one, of hosts that reach each other, or do not.
    fn go_over(&mut self, now: Instant, key: Key, won: Won, meeting: &Meeting) {
        self.unpair(key);
        if let Some(flow) = self.flows.get_mut(&key) {
            (flow.peer, flow.way) = (won.at, Some(won.way));
            flow.met.get_or_insert_default().listens.clear();
        }
        self.listens_of(key, meeting);
        self.pair(now, key);
    }

    fn surroundings(&self, flow: &Flow) -> Surroundings {
        let Some(member) = &self.member else { return Surroundings::default() };
        let other = flow.of.and_then(|of| member.others().get(&of.host)).map(|other| other.public);
        (member.public(), member.nat(), other)
    }

    /// Something was heard of the session: where this host or the other is in another place than it was, a path is looked for soon.
    pub(super) fn look_around(&mut self, now: Instant) {
        let Some(member) = &self.member else { return };
        let look = (member.public(), member.nat(), member.seen());
        if self.movers.looked.replace(look) == Some(look) {
            return;
        }
        for key in self.movers.waiting.iter().copied().collect::<Vec<_>>() {
            let spread = self.spread();
            let Some(flow) = self.flows.get(&key) else { continue };
            let (look, relayed) = (self.surroundings(flow), flow.way == Some(Way::Relayed));
            let Some(moving) = self.flows.get_mut(&key).and_then(|flow| flow.moving.as_mut()) else { continue };
            let before = moving.look;
            if before == look || moving.is_open() {
                continue;
            }
            moving.look = (look.0.or(before.0), look.1, look.2.or(before.2));
            if elsewhere(before.0, look.0) || elsewhere(before.2, look.2) {
                self.set_adrift(now, key, Adrift::Seen, spread / 4);
            } else if let Some(began) = moving.began.filter(|_| relayed) {
                moving.pause = FIRST_PAUSE;
                let soon = (now + spread).max(began + FIRST_PAUSE);
                moving.next = moving.next.map(|next| next.min(soon));
                self.settle(key);
            }
        }
    }
}
