//! The asking side hears: answers on cp, from a shim of either kind.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proto::shim::{Answer, VERSION, Verdict};
use proto::v1::{Failure, FailureKind};
use proto::{Cube, Token, WireId};

use super::client::{FIRST_PAUSE_KNOWN, LONGEST_PAUSE_KNOWN};
use super::failures::refused;
use super::flow::{Asking, Joining, State};
use super::liveness::Peer;
use super::open::{Acceptance, Knocking};
use super::output::{Key, Output};
use super::peers::Known;
use super::table::Cause;
use super::{Reason, Shim};

/// After PENDING the acceptance may be lost: asked again after this, growing by half.
const FIRST_POLL: Duration = Duration::from_millis(300);
const LONGEST_POLL: Duration = Duration::from_secs(1);
/// Late echoes of a classic shim are kept from the program this long.
const LATE_ECHOES: Duration = Duration::from_secs(3);

impl Shim {
    /// A datagram arrived on cp.
    pub(super) fn handle_answer(&mut self, now: Instant, key: Key, from: SocketAddr, bytes: &[u8]) {
        let Some(flow) = self.flows.get_mut(&key) else { return self.counters.count(Reason::Late) };
        if !matches!(flow.state, State::Asking(_) | State::Promised(_) | State::Knocking(_)) {
            return self.counters.count(Reason::Late);
        }
        if from.ip() != flow.peer.ip() {
            return self.counters.count(Reason::Stranger);
        }
        if bytes.first() == Some(&0) {
            self.handle_opened(now, key, from, bytes);
            return self.settle(key);
        }
        let answer = match Answer::decode(bytes, &flow.name) {
            Ok(answer) => answer,
            Err(malformed) => return self.counters.count(malformed),
        };
        let (ours, from_listen, accepted) = (flow.ours, from == flow.peer, matches!(flow.state, State::Knocking(_)));
        if let Answer::Extended { host, boot, client, server, verdict, .. } = &answer
            && *client == ours
            && if *verdict == Verdict::Accepted { *server != WireId(0) } else { from_listen }
            && !flow.answers(Peer { host: *host, boot: *boot })
        {
            return self.counters.count(Reason::Late);
        }
        match answer {
            Answer::ClassicEcho => self.classic_echo(now, key, from),
            Answer::Returned(client) if client == ours => self.classic_echo(now, key, from),
            Answer::Extended { host, boot, client, server, verdict: Verdict::Accepted, data, server_port, .. }
                if client == ours =>
            {
                if server == WireId(0) {
                    return self.counters.count(Reason::Late);
                }
                self.measured(now, key).direct |= !from_listen;
                let accepted = Acceptance { server, of: Peer { host, boot }, data };
                match (from_listen, server_port) {
                    (false, _) => self.accepted_by_peer(key, from, accepted),
                    (true, Some(port)) => self.aside(now, key, port, accepted),
                    // Its flows are on the listen port.
                    (true, None) => self.accepted_by_peer(key, from, accepted),
                }
            }
            Answer::Extended { client, verdict, reason, cookie, .. } if client == ours && from_listen => {
                self.measured(now, key);
                self.undecided(now, key, verdict, &reason, cookie);
            }
            Answer::OtherVersion { version, client } if client == ours && from_listen => {
                // Accepted already: what says another version was damaged on its way.
                if accepted {
                    return self.counters.count(Reason::Late);
                }
                let text = format!(
                    "the shim at {from} speaks version {version}, this one version {VERSION}; update the older of the two"
                );
                self.fail(now, key, Cause::Refused, Failure::new(FailureKind::Invalid, text));
            }
            Answer::Returned(_) | Answer::Extended { .. } | Answer::OtherVersion { .. } => {
                self.counters.count(Reason::Spoofed);
            }
        }
        self.settle(key);
    }

    /// Whether what comes to the flow's socket is this machine's to read: a program's it is once it is connected.
    pub fn reads(&self, key: Key) -> bool {
        let Some(flow) = self.flows.get(&key) else { return self.sides.has(key) };
        match flow.state {
            State::Asking(_) | State::Promised(_) | State::Knocking(_) | State::Meeting(_) | State::Refusing(_) => true,
            State::Waiting(_) => flow.met.is_some(),
            _ => false,
        }
    }

    /// The peer gave an extended answer; how long the first one took.
    fn measured(&mut self, now: Instant, key: Key) -> &mut Known {
        let flow = self.flows.get(&key);
        let first = flow.is_some_and(|flow| matches!(&flow.state, State::Asking(asking) if asking.asked == 1));
        let (shim, since) = flow.map_or((self.settings.listen, now), |flow| (flow.peer, flow.since));
        let known = self.peers.remember(shim);
        if first {
            known.measured(now.saturating_duration_since(since));
        }
        known
    }

    /// Acceptance from sp.
    fn accepted_by_peer(&mut self, key: Key, from: SocketAddr, accepted: Acceptance) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let (deadline, told) = match flow.state {
            State::Asking(Asking { deadline, .. }) | State::Promised(Asking { deadline, .. }) => (deadline, None),
            State::Knocking(Knocking { deadline, told, .. }) => (deadline, told),
            _ => return,
        };
        if told.is_some() && accepted.data != flow.heard {
            // What the program was told stands. The same flow with other data was changed on its way; and of another one, which
            // the peer's shim made after a restart, the program cannot be told any more.
            if accepted.server != flow.theirs {
                return self.counters.count(Reason::Late);
            }
            return self.join(key, Cause::Accepted, deadline, from, told);
        }
        flow.theirs = accepted.server;
        flow.of = Some(accepted.of);
        flow.heard = accepted.data;
        self.join(key, Cause::Accepted, deadline, from, told);
    }

    fn classic_echo(&mut self, now: Instant, key: Key, from: SocketAddr) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        // A peer that has given an extended answer to this very request is no classic shim: someone strips extensions.
        // And a classic shim echoes from sp, never from where it listens.
        if !flow.starts.is_empty() || from == flow.peer {
            return self.counters.count(Reason::Spoofed);
        }
        if flow.qos.cube != Cube::Raw {
            let text = format!(
                "{from} answered for {} as a classic shim does, which carries raw flows only: it is one, or its answer was \
                 changed on the path; ask for QoS raw instead of {}, or have that host updated",
                flow.name,
                flow.qos.cube.as_str()
            );
            return self.fail(now, key, Cause::Refused, Failure::new(FailureKind::UnsupportedQos, text));
        }
        let (State::Asking(Asking { deadline, .. }) | State::Promised(Asking { deadline, .. })) = flow.state else {
            return self.counters.count(Reason::Spoofed);
        };
        flow.classic = true;
        flow.swap_at = Some(now + LATE_ECHOES);
        self.peers.forget(flow.peer);
        self.join(key, Cause::Accepted, deadline, from, None);
    }

    /// The flow's way is known: its socket is to be connected.
    pub(super) fn join(&mut self, key: Key, cause: Cause, deadline: Instant, peer: SocketAddr, told: Option<Token>) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        flow.peer = peer;
        flow.go(cause, State::Joining(Joining { deadline, told }));
        let filter = flow.filter();
        self.out(Output::Connect { key, peer, filter });
    }

    /// An extended answer from the listen port.
    fn undecided(&mut self, now: Instant, key: Key, verdict: Verdict, reason: &str, cookie: Vec<u8>) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let (State::Asking(asking) | State::Promised(asking)) = &mut flow.state else { return };
        asking.unreachable = 0;
        match verdict {
            Verdict::Pending => {
                if let State::Asking(asking) = &flow.state {
                    let asking = Asking {
                        next: now + FIRST_POLL,
                        pause: FIRST_POLL * 3 / 2,
                        longest: LONGEST_POLL,
                        steady: 0,
                        ..asking.clone()
                    };
                    flow.go(Cause::Pending, State::Promised(asking));
                }
            }
            // Once per cookie: whoever forges them gets no flood out of us.
            Verdict::Cookie if !cookie.is_empty() && cookie != asking.cookie => {
                asking.cookie = cookie;
                // It is an extended shim, with much to do: what it does not get it shall get soon.
                if let State::Asking(asking) = &mut flow.state {
                    (asking.pause, asking.longest, asking.steady) = (FIRST_PAUSE_KNOWN, LONGEST_PAUSE_KNOWN, 0);
                }
                self.request(now, key);
            }
            Verdict::Recovering => asking.recovering = true,
            Verdict::Cookie | Verdict::Accepted => {}
            refusal => {
                let failure = refused(refusal, reason, flow.name.as_str(), flow.peer);
                self.fail(now, key, Cause::Refused, failure);
            }
        }
    }
}
