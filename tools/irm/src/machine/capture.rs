//! Which datagrams belong to what is captured.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};

use capture::Label;
use proto::shim::{Answer, Control, ControlKind, Request};
use proto::{Name, WireId, v1};

pub mod filter;

/// Most addresses and ids that a capture of a name keeps in mind; the oldest are forgotten.
const MOST: usize = 4_096;

/// What is captured.
#[derive(Debug)]
pub enum Subject {
    /// One flow.
    Flow(Flow),
    /// Allocations to a name, and what comes of them.
    Name(Named),
}

/// A flow to another host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// What the file says of it.
    pub label: Label,
    /// Where its shim listens.
    pub listen: SocketAddr,
    /// Both sides' ids of it; 0 where one is not known.
    ids: [WireId; 2],
}

/// Allocations to a name.
#[derive(Debug)]
pub struct Named {
    name: Name,
    /// Where this host's shims listen.
    listen: Vec<SocketAddr>,
    /// From where flows to the name were asked for.
    clients: Recent<SocketAddr>,
    ids: Recent<WireId>,
}

/// Why a flow cannot be captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It stays within the host.
    Local,
    /// It is not allocated yet.
    Pending,
    /// It is over.
    Over,
    /// irmd said something else than addresses.
    Unknown,
}

impl Unfit {
    /// What to say of it.
    pub fn text(&self, id: u64) -> String {
        match self {
            Self::Local => format!(
                "flow {id} stays within this host, between two sockets of the kernel: there are no packets to capture; \
                 `irm flow show {id}` counts what it carries, `strace -p PID` shows what its programs say"
            ),
            Self::Pending => format!(
                "flow {id} is not allocated yet; capture with `irm flow capture --name NAME`, which begins before its flow"
            ),
            Self::Over => format!("flow {id} is over; `irm flow list` shows those there are"),
            Self::Unknown => format!(
                "irmd does not say between which addresses flow {id} goes; `irm ipcp list` shows whether its IPCP is up"
            ),
        }
    }
}

impl Flow {
    /// From what irmd says of it, and where its shim listens.
    pub fn new(info: &v1::FlowInfo, listen: SocketAddr) -> Result<Self, Unfit> {
        match info.state() {
            v1::FlowState::Allocated if info.ipcp.is_empty() => return Err(Unfit::Local),
            v1::FlowState::Allocated => {}
            v1::FlowState::Pending => return Err(Unfit::Pending),
            _ => return Err(Unfit::Over),
        }
        let address = |text: &str| text.parse().map_err(|_| Unfit::Unknown);
        let label = Label {
            flow: info.flow_id,
            cube: super::text::cube(info.qos.as_ref()).to_owned(),
            local: address(&info.local_address)?,
            peer: address(&info.peer_address)?,
            layer: info.layer.clone(),
            name: info.name.clone(),
        };
        Ok(Self { label, listen, ids: [WireId(info.wire_id), WireId(info.peer_wire_id)] })
    }

    /// Its own port, or the listen port, where others' datagrams come, too.
    fn shares(&self) -> bool {
        self.label.local.port() == self.listen.port()
    }

    fn is_about(&self, id: WireId) -> bool {
        id.0 != 0 && self.ids.contains(&id)
    }

    fn wants(&self, from: SocketAddr, to: SocketAddr, payload: &[u8]) -> bool {
        let Label { local, peer, .. } = self.label;
        let ends = if self.shares() {
            [from, to] == [local, peer] || [to, from] == [local, peer]
        } else {
            from == local || to == local
        };
        ends || match Said::read(payload) {
            Some(Said::Control(control)) => self.is_about(control.sender) || self.is_about(control.receiver),
            Some(Said::Allocation { client, .. }) => self.is_about(client),
            None => false,
        }
    }
}

impl Named {
    /// Of a name, at a host whose shims listen there.
    pub fn new(name: Name, listen: Vec<SocketAddr>) -> Self {
        Self { name, listen, clients: Recent::default(), ids: Recent::default() }
    }

    fn wants(&mut self, from: SocketAddr, to: SocketAddr, payload: &[u8]) -> bool {
        match Said::read(payload) {
            Some(Said::Control(control)) => {
                let known = self.ids.has(&control.sender) || self.ids.has(&control.receiver);
                if known && control.kind == ControlKind::Open {
                    // Where the client is behind its NAT.
                    self.clients.add(from);
                }
                known || self.is_of_client(from, to)
            }
            Some(Said::Allocation { name, asks, client, server }) => {
                if name == self.name {
                    self.clients.add(if asks { from } else { to });
                    self.ids.add(client);
                    if server.0 != 0 {
                        self.ids.add(server);
                    }
                }
                name == self.name || self.is_of_client(from, to)
            }
            None => {
                let port = |address: &SocketAddr| address.port() == to.port();
                if self.listen.iter().any(port)
                    && matches!(Request::decode(payload), Ok(Request::Classic(name)) if name == self.name)
                {
                    self.clients.add(from);
                }
                self.is_of_client(from, to)
            }
        }
    }

    fn is_of_client(&self, from: SocketAddr, to: SocketAddr) -> bool {
        self.clients.has(&from) || self.clients.has(&to)
    }
}

impl Subject {
    /// Whether a datagram belongs to it; of those the kernel lets through.
    pub fn wants(&mut self, from: SocketAddr, to: SocketAddr, payload: &[u8]) -> bool {
        match self {
            Self::Flow(flow) => flow.wants(from, to, payload),
            Self::Name(named) => named.wants(from, to, payload),
        }
    }

    /// What the kernel lets through: this host's addresses, each with the ports that matter, or all.
    pub fn places(&self) -> Vec<(IpAddr, Option<[u16; 2]>)> {
        match self {
            Self::Flow(Flow { label, listen, .. }) => {
                vec![(label.local.ip(), Some([label.local.port(), listen.port()]))]
            }
            Self::Name(named) => {
                let addresses: BTreeSet<IpAddr> = named.listen.iter().map(SocketAddr::ip).collect();
                addresses.into_iter().map(|address| (address, None)).collect()
            }
        }
    }

    /// It is this host that sends.
    pub fn is_outbound(&self, from: SocketAddr, to: SocketAddr) -> bool {
        match self {
            // Both ends may be of this host.
            Self::Flow(Flow { label, listen, .. }) => from == label.local || from == *listen && to != label.local,
            Self::Name(named) => named.listen.iter().any(|listen| listen.ip() == from.ip()),
        }
    }

    /// What is captured, in words.
    pub fn text(&self) -> String {
        match self {
            Self::Flow(flow) => {
                let Label { flow: id, cube, local, peer, name, .. } = &flow.label;
                format!("flow {id} to {}, {cube}, {local} <-> {peer}", super::text::printable(name))
            }
            Self::Name(named) => format!("allocations to {}", super::text::printable(named.name.as_str())),
        }
    }

    /// What the file says of itself.
    pub fn comment(&self) -> String {
        match self {
            Self::Flow(flow) => flow.label.to_string(),
            Self::Name(named) => format!("Flowring allocations to {} and the flows that come of them", named.name),
        }
    }
}

/// What an extended datagram says.
enum Said {
    Control(Control),
    Allocation { name: Name, asks: bool, client: WireId, server: WireId },
}

impl Said {
    fn read(payload: &[u8]) -> Option<Self> {
        if payload.first() == Some(&0) {
            return Control::decode(payload).ok().map(Self::Control);
        }
        let (name, answer) = Answer::overhear(payload).ok()?;
        let (asks, client, server) = match answer {
            Answer::ClassicEcho => return None,
            Answer::Returned(client) => (true, client, WireId(0)),
            Answer::OtherVersion { client, .. } => (false, client, WireId(0)),
            Answer::Extended { client, server, .. } => (false, client, server),
        };
        Some(Self::Allocation { name, asks, client, server })
    }
}

/// The last of what was seen.
#[derive(Debug)]
struct Recent<T> {
    order: VecDeque<T>,
    all: BTreeSet<T>,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self { order: VecDeque::new(), all: BTreeSet::new() }
    }
}

impl<T: Ord + Copy> Recent<T> {
    fn add(&mut self, one: T) {
        if !self.all.insert(one) {
            return;
        }
        self.order.push_back(one);
        if self.order.len() > MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.all.remove(&oldest);
        }
    }

    fn has(&self, one: &T) -> bool {
        self.all.contains(one)
    }
}

#[cfg(test)]
mod tests;
