//! What stands before this host, by RFC 4787's words, found out by asking the server from the listen port; and which two kinds
//! do not reach each other.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proto::WireId;
use proto::rendezvous::{Filtering, Head, Mapping, Nat, Said};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::Rng;

use super::Sends;

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(400);
/// Each question is said so often.
const TIMES: u32 = 3;

/// What is being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Where are you?
    Where,
    /// Does what comes from the other port arrive, to which nothing was sent? First, because asking there changes that.
    Filtering,
    /// Where am I seen from the other port?
    Mapping,
}

/// The questions.
#[derive(Clone, Debug)]
pub struct Survey {
    server: SocketAddr,
    local: SocketAddr,
    head: Head,
    step: Step,
    public: Option<SocketAddr>,
    other: Option<SocketAddr>,
    sent: u32,
    next: Instant,
    found: Nat,
    over: bool,
}

impl Survey {
    /// Begins. `local`: the listen port's own address. `head`: this member.
    pub fn new(now: Instant, server: SocketAddr, local: SocketAddr, head: Head, rng: &mut ChaCha12Rng) -> Self {
        let head = Head { sender: WireId(rng.next_u64().max(1)), receiver: WireId(0), ..head };
        Self {
            server,
            local,
            head,
            step: Step::Where,
            public: None,
            other: None,
            sent: 0,
            next: now,
            found: Nat::default(),
            over: false,
        }
    }

    /// What was found, once all was asked.
    pub fn found(&self) -> Option<Nat> {
        self.over.then_some(self.found)
    }

    /// The server's other port, once it said which.
    pub fn other(&self) -> Option<SocketAddr> {
        self.other
    }

    /// Whether a datagram answers one of these questions.
    pub fn is_answer(&self, from: SocketAddr, head: &Head) -> bool {
        head.receiver == self.head.sender && (from == self.server || Some(from) == self.other)
    }

    /// An answer came.
    pub fn handle(&mut self, now: Instant, from: SocketAddr, said: &Said, out: &mut Sends) {
        let Said::NatSeen { public, alternate } = said else { return };
        match self.step {
            Step::Where if from == self.server => {
                self.public = Some(*public);
                // Of one address or two, but no stranger's port 53.
                self.other =
                    alternate.filter(|other| other.is_ipv4() == self.server.is_ipv4() && *other != self.server);
                if *public == self.local {
                    self.found.mapping = Mapping::None;
                }
                let next = if self.other.is_some() { Step::Filtering } else { return self.over = true };
                self.go(now, next, out);
            }
            Step::Filtering if Some(from) == self.other => {
                self.found.filtering = Filtering::Open;
                self.go(now, Step::Mapping, out);
            }
            Step::Mapping if Some(from) == self.other => {
                if self.found.mapping == Mapping::Unknown {
                    let same = self.public == Some(*public);
                    self.found.mapping = if same { Mapping::EndpointIndependent } else { Mapping::PortDependent };
                }
                self.over = true;
            }
            _ => {}
        }
    }

    fn go(&mut self, now: Instant, step: Step, out: &mut Sends) {
        (self.step, self.sent, self.next) = (step, 0, now);
        self.handle_timeout(now, out);
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Sends) {
        if self.over || now < self.next {
            return;
        }
        if self.sent == TIMES {
            if self.step == Step::Filtering {
                self.found.filtering = Filtering::PortDependent;
                return self.go(now, Step::Mapping, out);
            }
            if self.step == Step::Mapping && self.found.filtering == Filtering::PortDependent {
                // The other port does not answer when it is asked, either: its silence said nothing.
                self.found.filtering = Filtering::Unknown;
            }
            self.over = true;
            return;
        }
        let to = if self.step == Step::Mapping { self.other.unwrap_or(self.server) } else { self.server };
        let probe = Said::NatProbe { alternate: self.step == Step::Filtering };
        out.push_back((to, self.head.encode_bare(&probe)));
        self.sent += 1;
        self.next = now + PAUSE;
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Instant> {
        (!self.over).then_some(self.next)
    }
}

/// In words, as in "an endpoint-independent mapping and a port-dependent filter".
pub fn words(nat: Nat) -> String {
    let mapping = match nat.mapping {
        Mapping::Unknown => return "not found out".to_owned(),
        Mapping::None if nat.filtering == Filtering::PortDependent => {
            return "no NAT, and a firewall that filters by port".to_owned();
        }
        Mapping::None => return "no NAT".to_owned(),
        Mapping::EndpointIndependent => "a NAT with endpoint-independent mapping",
        Mapping::PortDependent => "a NAT with another mapping for each port (symmetric)",
    };
    let mapping = match nat.step {
        0 => mapping.to_owned(),
        step => format!("{mapping}, its ports in steps of {step},"),
    };
    match nat.filtering {
        Filtering::Unknown => mapping,
        Filtering::Open => format!("{mapping} that filters by address at most"),
        Filtering::PortDependent => format!("{mapping} that filters by port"),
    }
}

/// Why hellos between two such kinds cannot meet; `None` where they can, or where too little is known.
pub fn hindrance(own: Nat, peer: Nat) -> Option<&'static str> {
    let symmetric = |nat: Nat| nat.mapping == Mapping::PortDependent;
    let strict = |nat: Nat| nat.filtering == Filtering::PortDependent;
    if symmetric(own) && symmetric(peer) {
        Some("each side's port changes with where it sends to, so neither can know the other's")
    } else if symmetric(own) && strict(peer) {
        Some("this side's port changes with where it sends to, and the peer's filter passes only ports it has sent to")
    } else if symmetric(peer) && strict(own) {
        Some("the peer's port changes with where it sends to, and this side's filter passes only ports it has sent to")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use proto::HostId;
    use proto::rendezvous::{Envelope, SessionId};
    use rand_chacha::rand_core::SeedableRng;

    use super::*;
    use crate::machine::tests::origin;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// What is found by a host that the server's port sees at `main`, and the other one at `other` (not at all: it is dead);
    /// `passes`: what that says unasked comes through.
    fn found(main: &str, other: Option<&str>, passes: bool) -> Nat {
        let (server, second) = (at("198.51.100.1:3360"), at("198.51.100.1:3361"));
        let head = Head { session: SessionId::of(""), member: HostId(1), sender: WireId(1), receiver: WireId(0) };
        let (mut now, mut out) = (origin(), Sends::new());
        let mut survey = Survey::new(now, server, at("192.168.1.2:3359"), head, &mut ChaCha12Rng::seed_from_u64(1));
        survey.handle_timeout(now, &mut out);
        while survey.found().is_none() {
            while let Some((to, bytes)) = out.pop_front() {
                let said = Envelope::read(&bytes).unwrap().unsealed().unwrap();
                let Said::NatProbe { alternate } = said else { panic!("{said:?}") };
                let (from, public) = match (to == server, alternate) {
                    (true, false) => (server, Some(at(main))),
                    (true, true) => (second, other.filter(|_| passes).map(|_| at(main))),
                    (false, _) => (second, other.map(at)),
                };
                if let Some(public) = public {
                    survey.handle(now, from, &Said::NatSeen { public, alternate: Some(second) }, &mut out);
                }
            }
            let Some(next) = survey.poll_timeout() else { break };
            now = now.max(next);
            survey.handle_timeout(now, &mut out);
        }
        survey.found().unwrap()
    }

    #[test]
    fn a_port_that_is_dead_says_nothing_of_the_filter() {
        let (own, seen, another) = ("192.168.1.2:3359", "192.0.2.7:3359", "192.0.2.7:4000");
        type Row<'a> = (&'a str, Option<&'a str>, bool, Mapping, Filtering);
        let table: &[Row<'_>] = &[
            (own, Some(own), true, Mapping::None, Filtering::Open),
            (own, Some(own), false, Mapping::None, Filtering::PortDependent),
            (seen, Some(seen), false, Mapping::EndpointIndependent, Filtering::PortDependent),
            (seen, Some(another), false, Mapping::PortDependent, Filtering::PortDependent),
            (seen, None, false, Mapping::Unknown, Filtering::Unknown),
            (own, None, false, Mapping::None, Filtering::Unknown),
        ];
        for (main, other, passes, mapping, filtering) in table {
            let want = Nat { mapping: *mapping, filtering: *filtering, ..Nat::default() };
            assert_eq!(found(main, *other, *passes), want, "{main} {other:?} {passes}");
        }
    }
}
