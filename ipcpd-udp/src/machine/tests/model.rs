//! What must come of it all: a reference that knows nothing of the machine's states. The world writes down what
//! programs did and were told and what stood on the wire ([`Story`]); [`judge`] reads two hosts' stories when all is
//! quiet.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use proto::shim::Binding;

/// What the asking program was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Allocated,
    Failed(Failure),
    /// By irmd: the shim is not there (any more).
    IpcpDown,
}

/// What was done with a flow on one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Deed {
    Released,
    Died,
    Admin,
    NotTaken,
    /// Its end fell into a time without a shim.
    Unseen,
}

/// One `flow_alloc`.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) flow: FlowId,
    pub(super) key: Option<Key>,
    at: Instant,
    within: Duration,
    /// The id under which it stands on the wire.
    wire: Option<WireId>,
    pub(super) cancelled: bool,
    pub(super) told: Vec<(Instant, Told)>,
    requests: u32,
    /// Verdicts for it that arrived before it was told, from the listen port or from another.
    heard: Vec<(Verdict, bool)>,
    /// Whose they were: starts of the peer's shim. What one said after the next one's first word is of no use to anybody.
    boots: Vec<BootId>,
    /// The port of the flow at the peer, as an acceptance from the listen port names it.
    sp: Option<u16>,
    /// OPENED arrived from there.
    opened: bool,
    unreachable: u32,
    trouble: bool,
}

impl Asked {
    pub(super) fn new(flow: FlowId, at: Instant, within: Duration) -> Self {
        Self {
            flow,
            key: None,
            at,
            within,
            wire: None,
            cancelled: false,
            told: Vec::new(),
            requests: 0,
            heard: Vec::new(),
            boots: Vec::new(),
            sp: None,
            opened: false,
            unreachable: 0,
            trouble: false,
        }
    }

    /// How long it waited for its answer, whatever that was.
    pub(super) fn waited(&self) -> Option<Duration> {
        self.told.first().map(|(at, _)| *at - self.at)
    }

    /// How long it took, if it came to a flow.
    pub(super) fn took(&self) -> Option<Duration> {
        match self.told[..] {
            [(at, Told::Allocated)] => Some(at - self.at),
            _ => None,
        }
    }
}

/// One end of a flow, as irmd and programs know it.
#[derive(Clone, Debug, Default)]
pub(super) struct End {
    /// This side's id and the peer's; none while no socket was offered.
    pub(super) ids: Option<(WireId, WireId)>,
    /// Accepting side: who asked, by the request.
    caller: Option<WireId>,
    boot: u64,
    /// What its program's handshake is bound to.
    binding: Option<Binding>,
    deeds: BTreeSet<Deed>,
    pub(super) ended: Vec<EndReason>,
}

impl End {
    /// The shim has told irmd of its end.
    pub(super) fn was_told(&self) -> bool {
        !self.ended.is_empty()
    }

    /// The last of a flow that the peer's program closed while nothing was in the way.
    pub(super) fn heard_of_dealloc(&self) -> Result<(), String> {
        match self.ended[..] {
            [EndReason::PeerDeallocated] => Ok(()),
            _ => Err(format!("its peer's program closed it, and in 5 s it was told {:?}", self.ended)),
        }
    }
}

/// All that happened on one host.
#[derive(Clone, Debug, Default)]
pub(super) struct Story {
    pub(super) asked: Vec<Asked>,
    pub(super) ends: BTreeMap<FlowId, End>,
    /// Callers that a program refused.
    pub(super) refused: BTreeSet<WireId>,
    pub(super) crashes: Vec<Instant>,
    /// Its host has been at another address.
    pub(super) went: bool,
    /// How many SDUs programs sent.
    pub(super) sent: BTreeMap<FlowId, u64>,
    /// What programs read.
    pub(super) read: Vec<(FlowId, Vec<u8>)>,
    /// Requests that reached irmd: by whom, in which life of the shim.
    arrivals: BTreeSet<(WireId, u64)>,
    /// Callers for whom no socket could be made here.
    no_socket: BTreeSet<WireId>,
}

impl Story {
    /// SDUs that a flow's program has read.
    pub(super) fn received(&self, flow: FlowId) -> u64 {
        self.read.iter().filter(|(of, _)| *of == flow).count() as u64
    }

    fn asking(&mut self, key: Key) -> Option<&mut Asked> {
        // Keys begin anew with every start of the shim.
        self.asked.iter_mut().rev().find(|asked| asked.key == Some(key))
    }

    pub(super) fn requested(&mut self, key: Key, bytes: &[u8]) {
        if let Ok(Request::Extended(_, extension)) = Request::decode(bytes)
            && let Some(asked) = self.asking(key)
        {
            asked.wire = Some(extension.client);
            asked.requests += 1;
        }
    }

    /// A datagram came to the port from which was asked. Programs at the peer may send what looks like an answer;
    /// only acceptance comes from where they do.
    pub(super) fn heard(&mut self, via: Via, from: SocketAddr, bytes: &[u8]) {
        let Via::Flow(key) = via else { return };
        if from.ip() == addr(STRANGER).ip() {
            return;
        }
        let Some(asked) = self.asking(key).filter(|asked| asked.told.is_empty()) else { return };
        for to in ["echo", "back", "nobody"] {
            if let Ok(Answer::Extended { boot, client, verdict, server_port, .. }) = Answer::decode(bytes, &name(to))
                && Some(client) == asked.wire
                && (from.port() == PORT || verdict == Verdict::Accepted)
            {
                match asked.boots.iter().position(|known| *known == boot) {
                    Some(known) if known + 1 < asked.boots.len() => continue,
                    Some(_) => {}
                    None => asked.boots.push(boot),
                }
                // Where flows are on the listen port, acceptance comes from there and names no other.
                let aside = verdict != Verdict::Accepted || server_port.is_some();
                asked.heard.push((verdict, from.port() == PORT && aside));
                asked.sp = asked.sp.or(server_port);
            }
        }
        let control = Control::decode(bytes);
        asked.opened |= asked.sp == Some(from.port())
            && control.is_ok_and(|c| c.kind == ControlKind::Opened && Some(c.receiver) == asked.wire);
    }

    pub(super) fn unreachable(&mut self, key: Key) {
        if let Some(asked) = self.asking(key) {
            asked.unreachable += 1;
        }
    }

    /// No socket for a flow: for one asked for here, or for one that the caller asked for.
    pub(super) fn trouble(&mut self, key: Key, caller: WireId) {
        match self.asking(key).filter(|asked| asked.told.is_empty()) {
            Some(asked) => asked.trouble = true,
            None => drop(self.no_socket.insert(caller)),
        }
    }

    pub(super) fn again(&mut self, key: Key, next: Key) {
        self.asking(key).expect("an answer to a question").key = Some(next);
    }

    pub(super) fn told(&mut self, now: Instant, key: Key, told: Told) {
        self.asking(key).expect("an answer to a question").told.push((now, told));
    }

    /// irmd says so to everybody who waits for the shim.
    pub(super) fn shim_is_down(&mut self, now: Instant) {
        for asked in self.asked.iter_mut() {
            asked.key = None;
            if asked.told.is_empty() {
                asked.told.push((now, Told::IpcpDown));
            }
        }
        // Accepted, and the shim was gone before there was a socket to take.
        for end in self.ends.values_mut().filter(|end| end.ids.is_none() && end.ended.is_empty()) {
            end.deeds.insert(Deed::Unseen);
        }
    }

    /// irmd hears of a request: once, whatever it says, however often the request is heard.
    pub(super) fn arrived(&mut self, caller: WireId, boot: u64) {
        let first = self.arrivals.insert((caller, boot));
        assert!(first || caller == WireId(0), "irmd is told of a request twice");
    }

    pub(super) fn accepted(&mut self, flow: FlowId, caller: WireId) {
        self.ends.entry(flow).or_default().caller = Some(caller);
    }

    pub(super) fn offered(&mut self, flow: FlowId, ids: (WireId, WireId), boot: u64, binding: Option<Binding>) {
        let end = self.ends.entry(flow).or_default();
        (end.ids, end.boot, end.binding) = (Some(ids), boot, binding);
    }

    pub(super) fn did(&mut self, flow: FlowId, deed: Deed) {
        match self.ends.get_mut(&flow) {
            Some(end) => drop(end.deeds.insert(deed)),
            None => {
                if let Some(asked) = self.asked.iter_mut().find(|asked| asked.flow == flow) {
                    asked.cancelled = true;
                }
            }
        }
    }

    pub(super) fn ended(&mut self, flow: FlowId, reason: EndReason) {
        self.ends.entry(flow).or_default().ended.push(reason);
    }

    /// The ends with these ids.
    fn with(&self, ours: WireId, theirs: WireId) -> impl Iterator<Item = &End> {
        self.ends.values().filter(move |end| end.ids == Some((ours, theirs)))
    }
}

/// Holds the stories of two hosts against what may happen. `Err`: what is wrong.
pub(super) fn judge(stories: [&Story; 2]) -> Result<(), String> {
    for (here, there) in [(stories[0], stories[1]), (stories[1], stories[0])] {
        for asked in &here.asked {
            answer_is_true(asked, here, there).map_err(|what| format!("{what}: {asked:?}"))?;
        }
        one_flow_per_request(here)?;
        for (flow, end) in &here.ends {
            let context = |what| format!("{what}: {flow} {end:?}; peer: {:?}", peers_of(end, there));
            match end.ended[..] {
                [] => Ok(()),
                [EndReason::AddressGone] if here.went => Ok(()),
                [EndReason::PeerDied | EndReason::PeerTimedOut] if here.went || there.went => Ok(()),
                [reason] => end_is_true(end, reason, there),
                _ => Err("ended twice"),
            }
            .map_err(context)?;
        }
    }
    Ok(())
}

fn peers_of<'a>(end: &End, there: &'a Story) -> Vec<&'a End> {
    let Some((ours, theirs)) = end.ids else { return Vec::new() };
    there.with(theirs, ours).collect()
}

fn answer_is_true(asked: &Asked, here: &Story, there: &Story) -> Result<(), &'static str> {
    let [(at, told)] = &asked.told[..] else { return Err("not one answer") };
    if *at > asked.at + asked.within {
        return Err("answered late");
    }
    let failure = match told {
        Told::IpcpDown => return Ok(()),
        Told::Allocated => {
            let Some((end, (ours, theirs))) = here.ends.get(&asked.flow).and_then(|end| Some((end, end.ids?))) else {
                return Err("allocated without a socket");
            };
            let peers: Vec<&End> = there.with(theirs, ours).collect();
            return match peers[..] {
                [peer] if peer.binding == end.binding => Ok(()),
                [_] => Err("allocated, and the two sides' handshakes are bound to different things"),
                _ => Err("allocated, and the peer has no such flow"),
            };
        }
        Told::Failed(failure) => failure,
    };
    let says = |verdict| asked.heard.iter().any(|(said, _)| *said == verdict);
    let theirs = |end: &&End| end.caller == asked.wire;
    let accepted = there.ends.values().find(theirs);
    let over = accepted.is_some_and(|end| !end.deeds.is_empty() || !end.ended.is_empty());
    // Accepted, but no way to the port of the flow.
    let shut = says(Verdict::Accepted) && !asked.heard.contains(&(Verdict::Accepted, false)) && !asked.opened;
    let truth = match failure.kind() {
        FailureKind::Refused => {
            let refused = asked.wire.is_some_and(|wire| there.refused.contains(&wire));
            refused || over
        }
        FailureKind::UnknownName => says(Verdict::UnknownName),
        // Known there; and either no program took it, or nothing of its acceptance came through.
        FailureKind::NobodyAccepts => {
            (says(Verdict::Pending) || says(Verdict::NobodyAccepts)) && !says(Verdict::Accepted)
        }
        FailureKind::TimedOut => {
            let undecided = |said| matches!(said, Verdict::Recovering | Verdict::Cookie);
            asked.unreachable >= 2 || asked.heard.iter().all(|(said, _)| undecided(*said)) || shut
        }
        FailureKind::Exhausted => asked.trouble || asked.wire.is_some_and(|wire| there.no_socket.contains(&wire)),
        FailureKind::Internal => asked.trouble || asked.cancelled,
        FailureKind::FlowGone => asked.cancelled || over,
        _ => false,
    };
    if !truth {
        return Err("failed for a reason that is not true");
    }
    if failure.asked > 0 && failure.asked != asked.requests && !shut {
        return Err("miscounted its requests");
    }
    Ok(())
}

/// One start of a shim makes one flow of a request at most, however often it is heard.
fn one_flow_per_request(here: &Story) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for (flow, end) in &here.ends {
        if let (Some(caller), Some(_)) = (end.caller, end.ids)
            && !seen.insert((caller, end.boot))
        {
            return Err(format!("a second flow of one request: {flow} {end:?}"));
        }
    }
    Ok(())
}

fn end_is_true(end: &End, reason: EndReason, there: &Story) -> Result<(), &'static str> {
    let did = |deed| end.deeds.contains(&deed);
    let peers = peers_of(end, there);
    let peer_did = |deeds: &[Deed]| peers.iter().any(|peer| deeds.iter().any(|deed| peer.deeds.contains(deed)));
    let caller = there.asked.iter().find(|asked| asked.wire.is_some() && asked.wire == end.caller);
    let gave_up = caller.is_some_and(|asked| asked.took().is_none());
    let truth = match reason {
        EndReason::Deallocated => did(Deed::Released),
        EndReason::ProgramDied => did(Deed::Died),
        EndReason::Admin => did(Deed::Admin),
        EndReason::NeverTaken => did(Deed::NotTaken) || end.ids.is_none(),
        EndReason::PeerDeallocated => peer_did(&[Deed::Released, Deed::Admin]) || gave_up,
        EndReason::PeerDied => peer_did(&[Deed::Died, Deed::NotTaken]) || gave_up,
        // The peer has it no longer, or its caller gave up before it knew; its shim is there, or does not answer.
        EndReason::PeerUnknown | EndReason::PeerTimedOut => {
            peers.is_empty() || peers.iter().any(|peer| !peer.deeds.is_empty())
        }
        _ => false,
    };
    if truth { Ok(()) } else { Err("ended for a reason that is not true") }
}

/// Both hosts' flows that live are each other's. `live`: of each host.
pub(super) fn mirrored(stories: [&Story; 2], live: [&[FlowId]; 2]) -> Result<(), String> {
    let ids = |n: usize, swap: bool| {
        let mut ids: Vec<_> = live[n]
            .iter()
            .map(|flow| {
                let (ours, theirs) = stories[n].ends[flow].ids.expect("a flow that was offered");
                if swap { (theirs, ours) } else { (ours, theirs) }
            })
            .collect();
        ids.sort();
        ids
    };
    let (ours, theirs) = (ids(0, false), ids(1, true));
    if ours == theirs { Ok(()) } else { Err(format!("flows without a peer: {ours:?} and {theirs:?}")) }
}
