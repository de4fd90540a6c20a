//! What each datagram of a capture is, from those that came before it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use capture::Label;
use proto::shim::{Answer, Control, ControlKind, Extension, MAGIC, Malformed, PORT, Request, Verdict};
use proto::{Cube, Name, WireId};

/// Most flows, and requests without an answer, that are known of a capture. What comes beside is not told apart any more.
const MOST: usize = 1 << 16;

/// What a datagram is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It asks for a flow.
    Request(Request),
    /// It answers such a request.
    Answer(Name, Answer),
    /// Shims talk about a flow.
    Control(Control),
    /// A flow carries it.
    Data {
        /// Of [`Tap::flows`].
        flow: usize,
        /// From the side that asked for the flow; nobody knows where the capture began later.
        by_client: bool,
    },
    /// It goes to a listen port, or begins as one of ours, and is none.
    Malformed(Malformed),
}

/// A flow of the capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The name that was asked for.
    pub name: String,
    /// What it is carried as; not known of one that began before the capture.
    pub cube: Option<Cube>,
    /// Who asked; of a flow that began before the capture, this host's end.
    pub client: SocketAddr,
    /// Who accepted; else the other end.
    pub server: SocketAddr,
    /// What the client sent.
    pub up: Carried,
    /// What the server sent.
    pub down: Carried,
}

/// What went one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Datagrams with something in them: SDUs of raw flows, QUIC's of others.
    pub datagrams: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Empty ones.
    pub keepalives: u64,
}

/// A request that was seen.
#[derive(Clone, Debug)]
struct Asked {
    name: Name,
    /// The shim that was asked.
    listen: SocketAddr,
    /// The client's id of the flow and its cube; a classic request has none.
    extended: Option<(WireId, Cube)>,
    answered: bool,
}

/// Listens to a capture.
#[derive(Debug, Default)]
pub struct Tap {
    ports: BTreeSet<u16>,
    asked: BTreeMap<SocketAddr, Asked>,
    flows: Vec<Flow>,
    /// Which flow goes between two addresses, the smaller one first.
    between: BTreeMap<(SocketAddr, SocketAddr), usize>,
    /// Where the flow of a client's address goes.
    ends: BTreeMap<SocketAddr, (SocketAddr, SocketAddr)>,
    /// Which flow a client's id means.
    by_id: BTreeMap<WireId, usize>,
    beyond: u64,
}

impl Tap {
    /// Shims listen on these ports beside their own.
    pub fn new(ports: impl IntoIterator<Item = u16>) -> Self {
        Self { ports: ports.into_iter().chain([PORT]).collect(), ..Self::default() }
    }

    /// The flows heard of so far.
    pub fn flows(&self) -> &[Flow] {
        &self.flows
    }

    /// Allocations of flows beyond the first 65,536: what these carried is not counted.
    pub fn beyond(&self) -> u64 {
        self.beyond
    }

    /// The capture says which flow it is about.
    pub fn label(&mut self, label: &Label) {
        let cube = label.cube.parse().ok();
        let flow = Flow::new(label.name.clone(), cube, label.local, label.peer);
        self.learn(flow, None);
    }

    /// The next datagram, of so many bytes, which the capture may have cut; nothing where it is no business of Flowring's.
    pub fn hear(&mut self, from: SocketAddr, to: SocketAddr, payload: &[u8], length: usize) -> Option<Heard> {
        match look(payload) {
            Ok(Some(Heard::Control(control))) => {
                self.control(&control, from, to);
                return Some(Heard::Control(control));
            }
            Ok(Some(Heard::Request(request))) => return Some(self.request(request, from, to)),
            Ok(Some(Heard::Answer(name, answer))) => {
                self.answer(&name, &answer, from, to);
                return Some(Heard::Answer(name, answer));
            }
            // It only looks like one of ours where nobody speaks our language.
            Err(malformed) if self.is_listen(from) || self.is_listen(to) => return Some(Heard::Malformed(malformed)),
            _ => {}
        }
        self.bare(from, to, payload, length)
    }

    /// Without an extension: an SDU, a classic request or echo, or nothing of ours.
    fn bare(&mut self, from: SocketAddr, to: SocketAddr, payload: &[u8], length: usize) -> Option<Heard> {
        if let Some(flow) = self.between.get(&ordered(from, to)).copied() {
            let by_client = self.flows[flow].client == from;
            self.flows[flow].count(by_client, length);
            return Some(Heard::Data { flow, by_client });
        }
        if self.is_listen(to) {
            return Some(match Request::decode(payload) {
                Ok(request) => self.request(request, from, to),
                Err(malformed) => Heard::Malformed(malformed),
            });
        }
        // What comes first to who asked, from the host that was asked; a doubled request has two echoes.
        let asked = self.asked.get_mut(&to).filter(|asked| asked.listen.ip() == from.ip())?;
        let name = asked.name.clone();
        match Answer::decode(payload, &name) {
            Ok(answer) => {
                asked.answered = true;
                let cube = asked.extended.map_or(Cube::Raw, |(_, cube)| cube);
                self.learn(Flow::new(name.to_string(), Some(cube), to, from), None);
                Some(Heard::Answer(name, answer))
            }
            Err(malformed) => (!asked.answered).then_some(Heard::Malformed(malformed)),
        }
    }

    fn is_listen(&self, address: SocketAddr) -> bool {
        self.ports.contains(&address.port())
    }

    fn request(&mut self, request: Request, from: SocketAddr, to: SocketAddr) -> Heard {
        let (name, extended) = match &request {
            Request::Classic(name) => (name, None),
            Request::Extended(name, Extension { client, qos, .. }) => (name, Some((*client, qos.cube))),
            Request::OtherVersion { name, client, .. } => (name, Some((*client, Cube::Raw))),
        };
        // A shim that copies without reading sends it back from sp: it is an echo then.
        if let (Some(asked), Some((client, cube))) = (self.asked.get_mut(&to), extended)
            && asked.extended.is_some_and(|(known, _)| known == client)
        {
            asked.answered = true;
            let name = name.clone();
            self.learn(Flow::new(name.to_string(), Some(cube), to, from), None);
            return Heard::Answer(name, Answer::Returned(client));
        }
        if extended.is_some() && self.ports.len() < 1_024 {
            self.ports.insert(to.port());
        }
        let again = self.asked.get(&from).is_some_and(|asked| asked.name == *name && asked.extended == extended);
        if !again && (self.asked.len() < MOST || self.asked.contains_key(&from)) {
            // Whoever asks anew from where a flow was has given that up.
            if let Some(between) = self.ends.remove(&from) {
                self.between.remove(&between);
            }
            self.asked.insert(from, Asked { name: name.clone(), listen: to, extended, answered: false });
        }
        Heard::Request(request)
    }

    fn answer(&mut self, name: &Name, answer: &Answer, from: SocketAddr, to: SocketAddr) {
        let Answer::Extended { client, verdict: Verdict::Accepted, server_port, .. } = answer else { return };
        let cube = self.asked.get(&to).and_then(|asked| asked.extended).map(|(_, cube)| cube);
        let server = SocketAddr::new(from.ip(), server_port.unwrap_or(from.port()));
        self.learn(Flow::new(name.to_string(), cube, to, server), Some(*client));
    }

    /// OPEN comes from where the flow's client is now.
    fn control(&mut self, control: &Control, from: SocketAddr, to: SocketAddr) {
        let flow = self.by_id.get(&control.sender).copied();
        if let (ControlKind::Open, Some(flow)) = (control.kind, flow)
            && self.flows[flow].server == to
            && self.flows[flow].client != from
            && self.between.len() < 2 * MOST
        {
            self.flows[flow].client = from;
            self.between.insert(ordered(from, to), flow);
        }
    }

    fn learn(&mut self, flow: Flow, id: Option<WireId>) {
        let between = ordered(flow.client, flow.server);
        if self.flows.len() >= MOST {
            self.beyond += u64::from(!self.between.contains_key(&between));
            return;
        }
        let known = self.between.get(&between).copied();
        let number = known.unwrap_or(self.flows.len());
        if let Some(known) = known {
            // The label of a capture knows less than the allocation that is in it.
            let known = &mut self.flows[known];
            known.cube = flow.cube.or(known.cube);
        } else {
            self.ends.insert(flow.client, between);
            self.between.insert(between, number);
            self.flows.push(flow);
        }
        if let Some(id) = id.filter(|_| self.by_id.len() < MOST) {
            self.by_id.insert(id, number);
        }
    }
}

impl Flow {
    fn new(name: String, cube: Option<Cube>, client: SocketAddr, server: SocketAddr) -> Self {
        Self { name, cube, client, server, up: Carried::default(), down: Carried::default() }
    }

    fn count(&mut self, by_client: bool, length: usize) {
        let carried = if by_client { &mut self.up } else { &mut self.down };
        if length == 0 {
            carried.keepalives += 1;
        } else {
            carried.datagrams += 1;
            carried.bytes += length as u64;
        }
    }
}

fn ordered(a: SocketAddr, b: SocketAddr) -> (SocketAddr, SocketAddr) {
    if a <= b { (a, b) } else { (b, a) }
}

/// What a payload says by itself. Nothing: it has no extension, so it may be anything.
pub fn look(payload: &[u8]) -> Result<Option<Heard>, Malformed> {
    if payload.first() == Some(&0) {
        // Not ours, or of another version.
        let ours = payload[1..].starts_with(&MAGIC);
        return if ours { Control::decode(payload).map(|control| Some(Heard::Control(control))) } else { Ok(None) };
    }
    let Some(end) = payload.iter().take(Name::MAX + 1).position(|byte| *byte == 0) else { return Ok(None) };
    if !payload[end + 1..].starts_with(&MAGIC) {
        return Ok(None);
    }
    match Answer::overhear(payload)? {
        // The bytes of a request; who sent them, they do not say.
        (_, Answer::Returned(_)) => Request::decode(payload).map(|request| Some(Heard::Request(request))),
        (name, answer) => Ok(Some(Heard::Answer(name, answer))),
    }
}

#[cfg(test)]
mod tests;
