//! The kernel of a played host: sockets, ports, filters, who gets a datagram.

use super::host::{Host, Number};
use super::*;

pub(super) struct Socket {
    pub(super) key: Option<Key>,
    pub(super) holder: Option<FlowId>,
    pub(super) filter: Filter,
    pub(super) watch: bool,
    /// Bound to no address of the host.
    pub(super) anywhere: bool,
    /// A second one on a flow's port.
    pub(super) catcher: bool,
    pub(super) queue: Vec<(SocketAddr, Vec<u8>)>,
    pub(super) revoked: bool,
    /// Of those that arrived, how many the filter dropped.
    pub(super) dropped: u32,
}

impl Socket {
    fn new(key: Key) -> Self {
        let (filter, queue) = (Filter::Flow, Vec::new());
        let (key, holder) = (Some(key), None);
        Self { key, holder, filter, watch: false, anywhere: false, catcher: false, queue, revoked: false, dropped: 0 }
    }
}

impl Host {
    /// Closes a socket that neither the shim nor a program has.
    pub(super) fn sweep(&mut self, number: Number) {
        if self.sockets.get(&number).is_some_and(|socket| socket.key.is_none() && socket.holder.is_none()) {
            self.sockets.remove(&number);
            self.kernel.close(number);
        }
    }

    pub(super) fn socket(&mut self, key: Key) -> &mut Socket {
        let number = self.by_key[&key];
        self.sockets.get_mut(&number).expect("an open socket")
    }

    pub(super) fn open(&mut self, now: Instant, key: Key, port: u16, watch: bool) {
        let local = SocketAddr::new(self.listen.ip(), port);
        self.count += 1;
        let number = self.count;
        let result = if self.dice(self.manners.trouble) {
            self.story.trouble(key, self.caller);
            Err(OpenError::Exhausted)
        } else {
            self.kernel.bind(number, local, false).map(|()| local).map_err(|_| OpenError::PortInUse)
        };
        let anywhere = self.follows && self.shim.as_ref().unwrap().may_go_along(key);
        if result.is_ok() {
            self.sockets.insert(number, Socket { watch, anywhere, ..Socket::new(key) });
            self.by_key.insert(key, number);
        }
        let any = SocketAddr::new(ANYWHERE, port);
        self.shim.as_mut().unwrap().opened(now, key, result.map(|local| if anywhere { any } else { local }));
    }

    /// Takes a descriptor for a socket that is bound later.
    pub(super) fn reserve(&mut self, now: Instant, key: Key) {
        self.count += 1;
        let number = self.count;
        let result = if self.dice(self.manners.trouble) {
            self.story.trouble(key, self.caller);
            Err(OpenError::Exhausted)
        } else {
            self.sockets.insert(number, Socket::new(key));
            self.by_key.insert(key, number);
            Ok(self.listen)
        };
        self.shim.as_mut().unwrap().opened(now, key, result);
    }

    /// Binds that to the listen port, and connects it. What comes in between is the listener's.
    pub(super) fn join(&mut self, now: Instant, key: Key, peer: SocketAddr, filter: Filter) {
        let number = self.by_key[&key];
        self.kernel.bind(number, self.listen, true).expect("all share it");
        assert_eq!(self.kernel.find(self.listen, peer), Some(number), "two flows of one address");
        self.connect(now, key, peer, filter);
    }

    /// Opens a second socket on the flow's port; the two share it while the second is bound.
    pub(super) fn catch(&mut self, key: Key) {
        if self.dice(self.manners.trouble) {
            return;
        }
        self.count += 1;
        let (flows, number) = (self.by_key[&key], self.count);
        let (local, _) = self.kernel.ends(flows).expect("an open socket");
        self.kernel.share(flows, true);
        self.kernel.bind(number, local, true).expect("shared for this moment");
        self.kernel.share(flows, false);
        self.sockets.insert(number, Socket { watch: true, catcher: true, ..Socket::new(key) });
        assert_eq!(self.catchers.insert(key, number), None, "a second catcher");
    }

    pub(super) fn uncatch(&mut self, key: Key) {
        if let Some(number) = self.catchers.remove(&key) {
            self.sockets.get_mut(&number).expect("an open socket").key = None;
            self.sweep(number);
        }
    }

    pub(super) fn connect(&mut self, now: Instant, key: Key, peer: SocketAddr, filter: Filter) {
        let caller = self.callers.get(&key).copied().unwrap_or(self.caller);
        let result = if self.dice(self.manners.trouble) {
            self.story.trouble(key, caller);
            Err("trouble".to_owned())
        } else {
            Ok(1472)
        };
        let number = self.by_key[&key];
        self.kernel.connect(number, peer);
        if let Some((local, _)) = self.kernel.ends(number) {
            self.shim.as_mut().unwrap().is_at(key, local);
        }
        let socket = self.socket(key);
        (socket.filter, socket.watch) = (filter, false);
        // Up to the last datagram that is none of the flow's, what waited is dropped.
        let ours = |(from, bytes): &(SocketAddr, Vec<u8>)| *from == peer && !passes_not(&socket.filter, bytes);
        let keep = socket.queue.iter().rposition(|waiting| !ours(waiting)).map_or(0, |last| last + 1);
        socket.queue.drain(..keep);
        self.shim.as_mut().unwrap().connected(now, key, result);
    }

    /// A datagram arrives. `false`: nobody takes it.
    pub(super) fn arrive(&mut self, now: Instant, from: SocketAddr, to: SocketAddr, bytes: &[u8]) -> bool {
        if to == self.listen && self.kernel.find(to, from).is_none() {
            let Some(shim) = &mut self.shim else { return false };
            // None where bits changed and a classic request came of it.
            self.caller = match Request::decode(bytes) {
                Ok(Request::Extended(_, extension)) => extension.client,
                _ => WireId(0),
            };
            shim.handle_datagram(now, Via::Listen, from, bytes);
            return true;
        }
        let Some(number) = self.kernel.find(to, from) else { return false };
        let holder = self.sockets.get(&number).filter(|socket| !socket.revoked).and_then(|socket| socket.holder);
        if holder.is_some_and(|flow| self.hand_over(now, flow, from, bytes)) {
            return true;
        }
        let socket = self.sockets.get_mut(&number).expect("the kernel's socket");
        if let (true, Some(key), Some(shim)) = (socket.watch, socket.key, &mut self.shim) {
            let via = if socket.catcher { Via::Catcher(key) } else { Via::Flow(key) };
            self.story.heard(via, from, bytes);
            if let Ok(Request::Extended(_, extension)) = Request::decode(bytes) {
                self.caller = extension.client;
            }
            shim.handle_datagram(now, via, from, bytes);
        } else if socket.revoked || passes_not(&socket.filter, bytes) {
            socket.dropped += 1;
        } else {
            socket.queue.push((from, bytes.to_vec()));
            if let Some(flow) = socket.holder {
                self.read_or_wait(now, flow);
            }
        }
        true
    }

    /// ICMP: nothing is open where something was sent from here.
    pub(super) fn unreachable(&mut self, now: Instant, local: SocketAddr, peer: SocketAddr) {
        let Some(number) = self.kernel.find(local, peer) else { return };
        let socket = &self.sockets[&number];
        let Some(shim) = &mut self.shim else { return };
        match (socket.holder, socket.key) {
            // The program's next call fails, and libflow says so.
            (Some(flow), _) => shim.suspect(now, flow),
            (None, Some(key)) => {
                self.story.unreachable(key);
                shim.handle_unreachable(now, key, Unreachable::Port);
            }
            (None, None) => {}
        }
    }
}

/// The kernel's filters, in as far as the programs of this world care.
fn passes_not(filter: &Filter, bytes: &[u8]) -> bool {
    let request = |name, theirs| begins(bytes, &proto::shim::answer_prefix(name, theirs));
    let (name, ours) = match filter {
        Filter::Nothing => return true,
        Filter::Flow => return bytes.is_empty(),
        Filter::NoControl(ours) => return bytes.is_empty() || begins(bytes, &proto::shim::control_prefix(*ours)),
        Filter::NoRequests(name, theirs, ours) => {
            return passes_not(&Filter::NoControl(*ours), bytes) || request(name, *theirs);
        }
        Filter::NoRepeats(name) => return bytes.is_empty() || bytes == name.as_str().as_bytes(),
        Filter::NoAnswers(name, ours) | Filter::NoEchoes(name, ours) => (name, ours),
    };
    let text = name.as_str().as_bytes();
    let late = request(name, *ours);
    let control = begins(bytes, &proto::shim::control_prefix(*ours));
    bytes.is_empty() || late || control || matches!(filter, Filter::NoEchoes(..)) && bytes == text
}

fn begins(bytes: &[u8], prefix: &[(usize, Vec<u8>)]) -> bool {
    prefix.iter().all(|(at, want)| bytes.get(*at..).is_some_and(|rest| rest.starts_with(want)))
}
