//! Ports that this host's router maps: which, until when, and what is asked of it next. docs/decisions/0044.
//!
//! A router is looked for once this host is a member, with the listen port; flows ask only a router that has answered then. A mapping
//! lives a few minutes and is renewed while what it is for lives, so what a killed daemon leaves behind ends by itself.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use gateway::{Gateway, Granted, NotFound, Port, Refusal};
use hmac::{Hmac, KeyInit, Mac};
use proto::rendezvous::{Filtering, Mapping, Nat, is_candidate, is_public};
use sha2::Sha256;

use super::output::Key;
pub use step::{Asked, Of, Step};

mod step;
mod words;

/// What a mapping is asked for; the router may give more or less.
const LIFETIME: Duration = Duration::from_secs(300);
/// One that lives shorter than this is none.
const SHORTEST: Duration = Duration::from_secs(20);
/// A renewal that got no answer is tried again after this, as long as the mapping lives.
const RETRY: Duration = Duration::from_secs(10);
/// What a flow waits for its mapping at most. Routers answer within some ms; a loaded one by UPnP within some hundred.
const HOLD: Duration = Duration::from_millis(300);
/// After so many questions in a row without an answer, it is looked for a router again.
const MOST_SILENT: u32 = 3;
/// Until it is looked for a router again where there was none; doubles.
const PAUSE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(1800));
/// An answer that does not come by then, never comes: whoever was to ask has failed.
const LOST: Duration = Duration::from_secs(60);
/// Flows with a mapping at most: routers hold some tens or hundreds for all their hosts.
pub(super) const MOST: usize = 64;

#[derive(Clone, Debug)]
enum Router {
    /// Nobody was asked yet.
    Unknown,
    Sought {
        since: Instant,
        turn: u64,
        pause: Duration,
    },
    Maps {
        gateway: Gateway,
        /// Others reach what it maps.
        useful: bool,
        silent: u32,
    },
    Not {
        why: NotFound,
        again: Instant,
        pause: Duration,
    },
}

#[derive(Clone, Copy, Debug)]
struct Held {
    outside: SocketAddrV4,
    ends: Instant,
}

impl Held {
    fn new(now: Instant, granted: Granted) -> Self {
        Self { outside: granted.outside, ends: now + Duration::from_secs(granted.lifetime.into()) }
    }
}

#[derive(Clone, Debug)]
enum Lease {
    /// Of before: asked for once there is a router again.
    Wanted(Option<Held>),
    Asked {
        turn: u64,
        since: Instant,
        held: Option<Held>,
        /// Nobody wants it any more.
        over: bool,
    },
    Held(Held, Instant),
    Refused,
}

#[derive(Clone, Debug)]
struct Entry {
    local: SocketAddrV4,
    lease: Lease,
}

/// Where this host is: what a mapping depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The listen port.
    pub(super) local: SocketAddrV4,
    /// The rendezvous.
    pub(super) server: SocketAddrV4,
    /// Where it sees the listen port.
    pub(super) public: SocketAddrV4,
}

/// All mappings of this host.
#[derive(Debug)]
pub(super) struct Mapper {
    secret: [u8; 32],
    place: Option<Place>,
    router: Router,
    ports: BTreeMap<Of, Entry>,
    turn: u64,
    /// What the router last said no with.
    refused: Option<Refusal>,
    steps: VecDeque<Step>,
}

impl Mapper {
    /// `secret` is the same over restarts: a restarted daemon renews what it had.
    pub(super) fn new(secret: [u8; 32]) -> Self {
        let (router, ports, steps) = (Router::Unknown, BTreeMap::new(), VecDeque::new());
        Self { secret, place: None, router, ports, turn: 0, refused: None, steps }
    }

    /// What is to be asked next.
    pub(super) fn poll_step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    /// Nobody else can guess it, and each port has its own.
    fn nonce(&self, local: SocketAddrV4) -> [u32; 3] {
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&self.secret).expect("any length is a key");
        mac.update(b"flowring mapping");
        mac.update(&local.ip().octets());
        mac.update(&local.port().to_be_bytes());
        let bytes = mac.finalize().into_bytes();
        [0, 4, 8].map(|at| bytes[at..at + 4].iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    fn port(&self, local: SocketAddrV4, outside: u16) -> Port {
        let lifetime = u32::try_from(LIFETIME.as_secs()).unwrap_or(u32::MAX);
        Port { local, outside, nonce: self.nonce(local), lifetime }
    }

    fn turn(&mut self) -> u64 {
        self.turn += 1;
        self.turn
    }

    /// Where this host is now. Another router, or one that forgot what it mapped, shows by that.
    pub(super) fn at(&mut self, now: Instant, place: Place) {
        let Some(before) = self.place.replace(place) else { return self.find(now, PAUSE.0) };
        if before == place {
            return;
        }
        let moved = before.local.ip() != place.local.ip();
        if moved {
            // That router is no longer this host's, or this host's sockets are elsewhere.
            self.ports.clear();
        }
        self.find(now, PAUSE.0);
    }

    fn find(&mut self, now: Instant, pause: Duration) {
        let Some(place) = self.place else { return };
        let turn = self.turn();
        self.router = Router::Sought { since: now, turn, pause };
        for entry in self.ports.values_mut() {
            entry.lease = match entry.lease {
                Lease::Held(held, _) => Lease::Wanted(Some(held)),
                Lease::Asked { held, over: false, .. } => Lease::Wanted(held),
                _ => continue,
            };
        }
        let before = match self.ports.get(&Of::Listen).map(|entry| &entry.lease) {
            Some(Lease::Wanted(Some(held))) => held.outside.port(),
            _ => 0,
        };
        let port = self.port(place.local, before);
        self.steps.push_back(Step::Find { towards: *place.server.ip(), port, turn });
    }

    /// What came of looking for a router.
    pub(super) fn found(&mut self, now: Instant, turn: u64, result: Result<(Gateway, Granted), NotFound>) {
        let (Router::Sought { turn: asked, pause, .. }, Some(place)) = (self.router.clone(), self.place) else {
            return;
        };
        if asked != turn {
            return;
        }
        let (gateway, granted) = match result {
            Ok(found) => found,
            Err(why) => {
                self.ports.remove(&Of::Listen);
                self.router = Router::Not { why, again: now + pause, pause: (pause * 2).min(PAUSE.1) };
                return;
            }
        };
        let useful = self.is_useful(granted.outside);
        self.router = Router::Maps { gateway, useful, silent: 0 };
        if !useful {
            let port = self.port(place.local, granted.outside.port());
            self.ports.remove(&Of::Listen);
            return self.steps.push_back(Step::Unmap { gateway, port });
        }
        let lease = hold(now, granted);
        self.ports.insert(Of::Listen, Entry { local: place.local, lease });
        let wanted = |(of, entry): (&Of, &Entry)| matches!(entry.lease, Lease::Wanted(_)).then_some(*of);
        for of in self.ports.iter().filter_map(wanted).collect::<Vec<_>>() {
            self.ask(now, of);
        }
    }

    /// Others reach the address: it is where the rendezvous sees this host, or one of the whole Internet. Else another NAT is before
    /// the router.
    fn is_useful(&self, outside: SocketAddrV4) -> bool {
        let seen = self.place.is_some_and(|place| place.public.ip() == outside.ip());
        is_candidate(outside.into()) && (seen || is_public(IpAddr::V4(*outside.ip())))
    }

    /// A flow's socket is open and is to be met: until when to wait for its mapping, if there is to be one.
    pub(super) fn want(&mut self, now: Instant, key: Key, local: SocketAddr, nat: Nat) -> Option<Instant> {
        let Router::Maps { useful: true, silent, .. } = &self.router else { return None };
        let (SocketAddr::V4(local), Some(place)) = (local, self.place) else { return None };
        let of = Of::Flow(key);
        let fits = local.ip() == place.local.ip() && *silent < MOST_SILENT && needs(nat);
        if !fits || self.ports.contains_key(&of) || self.ports.len() > MOST {
            return None;
        }
        self.ports.insert(of, Entry { local, lease: Lease::Wanted(None) });
        self.ask(now, of);
        Some(now + HOLD)
    }

    /// A flow that came back after a restart and needs the mapping that it had: renewed once there is a router.
    pub(super) fn resume(&mut self, now: Instant, key: Key, local: SocketAddr) {
        let SocketAddr::V4(local) = local else { return };
        if self.ports.len() > MOST {
            return;
        }
        self.ports.insert(Of::Flow(key), Entry { local, lease: Lease::Wanted(None) });
        if matches!(self.router, Router::Maps { useful: true, .. }) {
            self.ask(now, Of::Flow(key));
        }
    }

    fn ask(&mut self, now: Instant, of: Of) {
        let Router::Maps { gateway, .. } = self.router else { return };
        let turn = self.turn();
        let Some(Entry { local, lease }) = self.ports.get_mut(&of) else { return };
        let held = match *lease {
            Lease::Held(held, _) | Lease::Wanted(Some(held)) => Some(held),
            Lease::Wanted(None) | Lease::Refused => None,
            Lease::Asked { .. } => return,
        };
        let local = *local;
        *lease = Lease::Asked { turn, since: now, held, over: false };
        let port = self.port(local, held.map_or(0, |held| held.outside.port()));
        self.steps.push_back(Step::Map(Asked { of, turn, gateway, port }));
    }

    /// What the router said to a question. Says what the flow has now.
    pub(super) fn answered(&mut self, now: Instant, asked: Asked, result: Result<Granted, Refusal>) {
        let Asked { of, turn, gateway, port } = asked;
        let mut end = |outside: u16| self.steps.push_back(Step::Unmap { gateway, port: Port { outside, ..port } });
        let known = self.ports.get_mut(&of).and_then(|entry| match entry.lease {
            Lease::Asked { turn: this, held, over, .. } if this == turn => Some((entry, held, over)),
            _ => None,
        });
        let Some((entry, held, over)) = known else {
            let Ok(granted) = result else { return };
            // Of before. What is wanted still is asked for again, and would end with this.
            return match self.ports.get_mut(&of).map(|entry| &mut entry.lease) {
                None => end(granted.outside.port()),
                Some(Lease::Wanted(held) | Lease::Asked { held, .. }) => {
                    held.get_or_insert(Held::new(now, granted));
                }
                Some(Lease::Held(..) | Lease::Refused) => {}
            };
        };
        match &result {
            Ok(granted) if over => end(granted.outside.port()),
            // It may have been done, and the word of it lost.
            Err(Refusal::Silent) if over => end(port.outside),
            Ok(granted) => entry.lease = hold(now, *granted),
            Err(Refusal::Silent) if held.is_some_and(|held| now + RETRY < held.ends) => {
                entry.lease = held.map_or(Lease::Refused, |held| Lease::Held(held, now + RETRY));
            }
            Err(_) => {
                entry.lease = Lease::Refused;
                // It may be there still.
                held.into_iter().for_each(|held| end(held.outside.port()));
            }
        }
        if over {
            self.ports.remove(&of);
        } else if let Ok(granted) = result
            && !self.is_useful(granted.outside)
        {
            self.ports.insert(of, Entry { local: port.local, lease: Lease::Refused });
            self.steps.push_back(Step::Unmap { gateway, port: Port { outside: granted.outside.port(), ..port } });
        }
        self.judge(now, of, result.err());
    }

    /// What an answer says of the router.
    fn judge(&mut self, now: Instant, of: Of, refusal: Option<Refusal>) {
        let Router::Maps { silent, .. } = &mut self.router else { return };
        *silent = if refusal == Some(Refusal::Silent) { *silent + 1 } else { 0 };
        let lost = *silent >= MOST_SILENT || of == Of::Listen && matches!(refusal, Some(Refusal::Said(_)));
        self.refused = refusal;
        if lost {
            self.find(now, PAUSE.0);
        }
    }

    /// What a mapping was for is over.
    pub(super) fn release(&mut self, of: Of) {
        let Router::Maps { gateway, .. } = self.router else {
            self.ports.remove(&of);
            return;
        };
        let Some(entry) = self.ports.get_mut(&of) else { return };
        if let Lease::Asked { over, .. } = &mut entry.lease {
            *over = true;
            return;
        }
        let Some(Entry { local, lease }) = self.ports.remove(&of) else { return };
        if let Lease::Held(held, _) = lease {
            let port = self.port(local, held.outside.port());
            self.steps.push_back(Step::Unmap { gateway, port });
        }
    }

    /// This host is elsewhere, and has no way to the router of before: that one's mappings end by themselves.
    pub(super) fn moved(&mut self) {
        self.ports.clear();
        (self.place, self.router) = (None, Router::Unknown);
    }

    /// This host leaves its session: nothing is mapped any more.
    pub(super) fn leave(&mut self) {
        for of in self.ports.keys().copied().collect::<Vec<_>>() {
            self.release(of);
        }
        (self.place, self.router) = (None, Router::Unknown);
    }

    fn held(&self, of: Of) -> Option<Held> {
        match self.ports.get(&of)?.lease {
            Lease::Held(held, _) => Some(held),
            Lease::Asked { held, over: false, .. } => held,
            Lease::Asked { .. } | Lease::Wanted(_) | Lease::Refused => None,
        }
    }

    /// Where others reach it.
    pub(super) fn outside(&self, of: Of) -> Option<SocketAddr> {
        self.held(of).map(|held| SocketAddr::V4(held.outside))
    }

    /// Time has passed: what is due is renewed.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        match self.router {
            Router::Not { again, pause, .. } if again <= now => self.find(now, pause),
            Router::Sought { since, pause, .. } if since + LOST <= now => self.find(now, (pause * 2).min(PAUSE.1)),
            _ => {}
        }
        let lost = |(of, entry): (&Of, &Entry)| {
            matches!(entry.lease, Lease::Asked { since, .. } if since + LOST <= now).then_some(*of)
        };
        for of in self.ports.iter().filter_map(lost).collect::<Vec<_>>() {
            let Some(Entry { local, lease }) = self.ports.remove(&of) else { continue };
            if let (Router::Maps { gateway, .. }, Lease::Asked { held, .. }) = (&self.router, lease) {
                let (gateway, outside) = (*gateway, held.map_or(0, |held| held.outside.port()));
                let port = self.port(local, outside);
                self.steps.push_back(Step::Unmap { gateway, port });
            }
        }
        let due =
            |(of, entry): (&Of, &Entry)| matches!(entry.lease, Lease::Held(_, renew) if renew <= now).then_some(*of);
        for of in self.ports.iter().filter_map(due).collect::<Vec<_>>() {
            self.ask(now, of);
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let router = match self.router {
            Router::Not { again, .. } => Some(again),
            Router::Sought { since, .. } => Some(since + LOST),
            Router::Unknown | Router::Maps { .. } => None,
        };
        let maps = matches!(self.router, Router::Maps { .. });
        self.ports.values().filter_map(|entry| entry.due(maps)).chain(router).min()
    }

    #[cfg(test)]
    pub(super) fn flows(&self) -> usize {
        self.ports.keys().filter(|of| **of != Of::Listen).count()
    }
}

impl Entry {
    /// When it is to be looked at; renewed it is only while there is a router.
    fn due(&self, maps: bool) -> Option<Instant> {
        match self.lease {
            Lease::Held(_, renew) => maps.then_some(renew),
            Lease::Asked { since, .. } => Some(since + LOST),
            Lease::Wanted(_) | Lease::Refused => None,
        }
    }
}

/// What the router granted, renewed at half its time; a router that promises years is asked again as soon as others.
fn hold(now: Instant, granted: Granted) -> Lease {
    let life = Duration::from_secs(granted.lifetime.into());
    if life < SHORTEST {
        return Lease::Refused;
    }
    Lease::Held(Held::new(now, granted), now + life.min(LIFETIME) / 2)
}

/// Whether a mapping may help: others do not reach this host's ports by hellos alone.
fn needs(nat: Nat) -> bool {
    nat.mapping != Mapping::None && (nat.mapping != Mapping::EndpointIndependent || nat.filtering != Filtering::Open)
}

#[cfg(test)]
mod tests;
