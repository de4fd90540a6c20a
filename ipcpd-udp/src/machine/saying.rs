//! The accepting side speaks: to requests that come again, and what it says of a flow short of acceptance.

use std::net::SocketAddr;
use std::time::Instant;

use proto::WireId;
use proto::shim::{Answer, MAX_REASON, Verdict};

use super::answers;
use super::flow::{RequestKey, State};
use super::output::{Key, Output};
use super::{Reason, Shim};
use proto::clip;

impl Shim {
    /// Answers a request that is known already; says whether it was.
    pub(super) fn again(&mut self, now: Instant, request: &RequestKey, direct: bool) -> bool {
        if let Some(&key) = self.by_request.get(request) {
            let Some(flow) = self.flows.get_mut(&key) else { return false };
            let old = flow.answered.is_some_and(|at| now >= at + answers::CLASSIC);
            if flow.classic && old {
                return false;
            }
            flow.path.direct &= direct || flow.shared.is_some();
            self.counters.count(Reason::Duplicate);
            match flow.state {
                State::Reserving(_) | State::Waiting(_) | State::Accepting(_) => {
                    self.answer_flow(key, Verdict::Pending);
                }
                State::Offered | State::Held | State::Probing(_) if !flow.classic => self.say_accepted(now, key, None),
                State::Offered | State::Held | State::Probing(_) => self.answer_flow(key, Verdict::Accepted),
                _ => self.answer_flow(key, Verdict::Refused),
            }
            return true;
        }
        let Some(answer) = self.answers.find(now, request) else { return false };
        let answer = answer.map(<[u8]>::to_vec);
        self.counters.count(Reason::Duplicate);
        if let Some(answer) = answer {
            self.answer(request.from, answer);
        }
        true
    }

    /// Says how it stands with the flow, short of acceptance, from the listen port. What a classic caller cannot be told
    /// is not said; its echo comes from sp.
    pub(super) fn answer_flow(&mut self, key: Key, verdict: Verdict) {
        let Some(flow) = self.flows.get(&key) else { return };
        if flow.classic {
            if flow.local.is_some() && flow.answered.is_some() {
                let bytes = Answer::ClassicEcho.encode(&flow.name);
                self.counters.count(Reason::Answers);
                self.out(Output::SendFlow { key, to: None, bytes });
            }
            return;
        }
        let reason = if verdict == Verdict::Refused { "the flow is over already" } else { "" };
        let (name, peer) = (flow.name.clone(), flow.peer);
        let bytes = self.verdict(flow.theirs, WireId(0), verdict, reason, Vec::new(), None).encode(&name);
        self.answer_from(key, peer, bytes);
    }

    pub(super) fn verdict(
        &self,
        client: WireId,
        server: WireId,
        verdict: Verdict,
        reason: &str,
        data: Vec<u8>,
        server_port: Option<u16>,
    ) -> Answer {
        Answer::Extended {
            host: self.settings.host,
            boot: self.settings.boot,
            client,
            server,
            verdict,
            reason: clip(reason, MAX_REASON).to_owned(),
            data,
            cookie: Vec::new(),
            server_port,
        }
    }

    pub(super) fn answer(&mut self, to: SocketAddr, bytes: Vec<u8>) {
        self.counters.count(Reason::Answers);
        self.out(Output::SendListen { to, bytes });
    }
}
