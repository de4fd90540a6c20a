//! The programs of a played host, and irmd between them and the shim.

use super::host::{Host, Program, Task};
use super::model::{Asked, Deed, Told};
use super::*;
use proto::shim::Binding;

impl Host {
    /// A program asks for a flow.
    pub(super) fn ask(&mut self, now: Instant, to: &str, timeout: u64) -> FlowId {
        self.flows += 1;
        let flow = FlowId(self.flows);
        let mut asked = Asked::new(flow, now, ms(timeout));
        let ask = Ask {
            flow,
            name: name(to),
            source: String::new(),
            qos: [Qos::raw(), Qos::message(), Qos::stream()][(flow.0 % 3) as usize],
            timeout: ms(timeout),
            data: flow.0.to_be_bytes().to_vec(),
            owner: owner(),
        };
        match self.shim.as_mut().map(|shim| shim.flow_alloc(now, ask)) {
            Some(Ok(key)) => asked.key = Some(key),
            Some(Err(failure)) => asked.told.push((now, Told::Failed(failure))),
            None => asked.told.push((now, Told::IpcpDown)),
        }
        self.story.asked.push(asked);
        flow
    }

    /// irmd no longer wants the answer.
    pub(super) fn cancel(&mut self, now: Instant, flow: FlowId) {
        if let Some(asked) = self.story.asked.iter_mut().find(|asked| asked.flow == flow) {
            asked.cancelled = true;
        }
        if let Some(shim) = &mut self.shim {
            shim.cancel(now, flow);
        }
    }

    /// irmd ends a flow.
    pub(super) fn dealloc(&mut self, now: Instant, flow: FlowId) {
        self.story.did(flow, Deed::Admin);
        if let Some(shim) = &mut self.shim {
            shim.dealloc(now, flow);
        }
    }

    /// libflow says that the kernel refused an SDU.
    pub(super) fn suspect(&mut self, now: Instant, flow: FlowId) {
        if let Some(shim) = &mut self.shim {
            shim.suspect(now, flow);
        }
    }

    /// A program closes its flow, or dies with it open.
    pub(super) fn leave(&mut self, now: Instant, flow: FlowId, died: bool) {
        let Some(program) = self.programs.get_mut(&flow).filter(|program| program.holds) else { return };
        program.holds = false;
        let (number, gone) = (program.socket, program.gone);
        // One that was told of the end only closes what is over.
        if !gone {
            self.story.did(flow, if died { Deed::Died } else { Deed::Released });
        }
        if let Some(socket) = self.sockets.get_mut(&number) {
            socket.holder = None;
        }
        self.sweep(number);
        match &mut self.shim {
            Some(shim) if died => shim.died(now, flow),
            Some(shim) => shim.released(now, flow),
            None if gone => {}
            None => self.story.did(flow, Deed::Unseen),
        }
    }

    /// irmd's answer, and so the program's, about a request.
    pub(super) fn answer(&mut self, now: Instant, key: Key, accepts: bool) {
        let Some(caller) = self.arrived.remove(&key) else { return };
        let Some(shim) = &mut self.shim else { return };
        if accepts {
            self.flows += 1;
            let flow = FlowId(self.flows);
            self.story.accepted(flow, caller);
            shim.answered(now, key, Ok(Accept { flow, owner: owner(), data: b"welcome".to_vec() }));
        } else {
            self.story.refused.insert(caller);
            shim.answered(now, key, Err(Failure::new(FailureKind::Refused, "no")));
        }
    }

    pub(super) fn take(&mut self, now: Instant, flow: FlowId) {
        let slow = self.dice(self.manners.slow);
        let eager = self.dice(self.manners.talkative);
        let (Some(program), Some(shim)) = (self.programs.get_mut(&flow), &mut self.shim) else { return };
        // Without the shim's descriptor there is nothing to take: the flow is over already.
        let Some(socket) = self.sockets.get_mut(&program.socket).filter(|socket| socket.key.is_some()) else { return };
        (program.holds, program.slow, socket.holder) = (true, slow, Some(flow));
        shim.taken(now, flow);
        self.read_or_wait(now, flow);
        if eager {
            self.eager.push(flow);
        }
    }

    pub(super) fn adopt(&mut self, now: Instant, flow: FlowId) {
        let (Some(program), Some(shim)) = (self.programs.get(&flow).filter(|p| p.holds && !p.gone), &mut self.shim)
        else {
            return;
        };
        let number = program.socket;
        let Some((mut local, peer)) = self.kernel.ends(number) else { return };
        if self.sockets[&number].anywhere && peer.is_none() {
            local.set_ip(ANYWHERE);
        }
        match shim.adopt(now, &program.ticket, owner(), local, peer) {
            Ok(adopted) => {
                self.by_key.insert(adopted.key, number);
                self.sockets.get_mut(&number).unwrap().key = Some(adopted.key);
            }
            Err(failure) => panic!("a program's own flow is not taken back: {failure:?}"),
        }
    }

    pub(super) fn offer(&mut self, now: Instant, key: Key, flow: FlowId, ticket: Vec<u8>, binding: Option<Binding>) {
        let said = ticket::open(&self.settings.ticket_key, &ticket).expect("a ticket of its own");
        assert_eq!(binding.is_some(), said.qos.cube != proto::Cube::Raw, "of message and stream flows");
        self.story.offered(flow, (said.ours, said.theirs), self.boots, binding);
        let program =
            Program { socket: self.by_key[&key], ticket, slow: false, holds: false, goes_to: None, gone: false };
        assert!(self.programs.insert(flow, program).is_none(), "flow {flow} offered twice");
        if self.dice(self.manners.untaken) {
            self.later(now + ms(5000), Task::LetLie(flow));
        } else {
            let after = self.rng.next_u64() % (self.manners.takes_within + 1);
            self.later(now + ms(after), Task::Take(flow));
        }
    }

    /// Both programs' handshakes are done at once, and their sockets take what comes from anywhere.
    pub(super) fn let_move(&mut self, flow: FlowId) {
        let program = self.programs.get_mut(&flow).expect("a program's flow");
        program.goes_to = self.kernel.ends(program.socket).and_then(|(_, peer)| peer);
        self.kernel.dissolve(program.socket);
    }

    /// A datagram at the socket of a flow that may move: whether it is the shim's, which has it then.
    pub(super) fn hand_over(&mut self, now: Instant, flow: FlowId, from: SocketAddr, bytes: &[u8]) -> bool {
        let moves = self.programs.get(&flow).is_some_and(|program| program.goes_to.is_some());
        let ours = moves && proto::rendezvous::is_ours(bytes);
        if let (true, Some(shim)) = (ours, &mut self.shim) {
            shim.heard_by_program(now, flow, from, bytes);
        }
        ours
    }

    pub(super) fn read_or_wait(&mut self, now: Instant, flow: FlowId) {
        match self.programs.get(&flow).map(|program| program.slow) {
            Some(true) => {
                let after = u64::from(self.rng.next_u32() % 3000);
                self.later(now + ms(after), Task::Read(flow));
            }
            _ => self.read(flow),
        }
    }

    pub(super) fn read(&mut self, flow: FlowId) {
        let Some(program) = self.programs.get(&flow).filter(|program| program.holds) else { return };
        let Some(socket) = self.sockets.get_mut(&program.socket) else { return };
        for (_, bytes) in socket.queue.drain(..) {
            self.story.read.push((flow, bytes));
        }
    }
}
