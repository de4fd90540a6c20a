//! What goes into the machine beside datagrams and time, and what comes out of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use proto::shim::{Binding, Unwanted};
use proto::v1::{EndReason, Failure};
use proto::{BootId, FlowId, HostId, Name, Qos, Token, WireId};

use super::directory::fingerprint::Fingerprint;
use super::directory::plan::{Aim, Own};
use super::directory::{Dns, Waiter};
use super::load::Limits;
use super::mapping::Step;
use super::rendezvous::Rendezvous;

/// The machine's own number of a flow, from its first moment on, when irmd has given it no id yet. Never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key(pub u64);

/// What a shim is set up with; does not change while it runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The layer's name.
    pub layer: String,
    /// Configured address of this host, and the listen port.
    pub listen: SocketAddr,
    /// This host, kept over restarts.
    pub host: HostId,
    /// This start of the ipcpd.
    pub boot: BootId,
    /// How many there were before it: flows begin on other ports than the last one's.
    pub start: u64,
    /// Ports for the asking side's sockets, both ends included.
    pub cp: (u16, u16),
    /// Ports for the accepting side's sockets, both ends included.
    pub sp: (u16, u16),
    /// When a classic caller gets its echo.
    pub echo: Echo,
    /// Accepting side's sockets share the listen port, and only programs of this user may have them; `sp` is of no
    /// meaning then.
    pub shares: Option<u32>,
    /// Flows at most, in any state; each may hold a descriptor.
    pub max_flows: usize,
    /// Flows at most that wait for a program's answer.
    pub max_pending: usize,
    /// Key under which tickets are sealed.
    pub ticket_key: [u8; 32],
    /// Where load begins.
    pub limits: Limits,
    /// How names are found and registered beyond this host and its table.
    pub dns: Option<Dns>,
    /// The session that the layer's members meet in.
    pub rendezvous: Option<Rendezvous>,
    /// This host's router is asked to map ports.
    pub map_ports: bool,
}

/// When a classic caller gets its echo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Echo {
    /// Once the program accepted.
    #[default]
    OnAccept,
    /// At once, as in 2016.
    OnArrival,
}

/// Who may take a flow's socket.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Owner {
    /// The process.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its command, for listings; may be empty.
    pub command: Arc<str>,
}

/// A program of this host asks for a flow.
#[derive(Clone, Debug)]
pub struct Ask {
    /// irmd's id of the flow.
    pub flow: FlowId,
    /// Where to.
    pub name: Name,
    /// Who asks; empty or a name.
    pub source: String,
    /// What is asked of the flow.
    pub qos: Qos,
    /// Given up after this long; zero: 5 s. At most 60 s.
    pub timeout: Duration,
    /// Piggy-back, at most [`proto::shim::MAX_DATA`] bytes.
    pub data: Vec<u8>,
    /// Who may take the socket.
    pub owner: Owner,
}

/// A program of this host accepts a flow that a peer asked for.
#[derive(Clone, Debug)]
pub struct Accept {
    /// irmd's id of the flow.
    pub flow: FlowId,
    /// Who may take the socket.
    pub owner: Owner,
    /// Piggy-back of the answer.
    pub data: Vec<u8>,
}

/// Which socket a datagram arrived on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// The listen port.
    Listen,
    /// The port cp from which a flow is being asked for.
    Flow(Key),
    /// The second socket on an accepted flow's sp: what does not come from the address that asked.
    Catcher(Key),
}

/// Why no socket was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// Another socket holds the port.
    PortInUse,
    /// No descriptor or no memory is left.
    Exhausted,
    /// The configured address is no longer on this host.
    NoSuchAddress,
    /// Anything else, in the system's words.
    Other(String),
}

/// What the network said instead of an answer (ICMP), or the system instead of sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// Nothing listens on the port.
    Port,
    /// The host or its network cannot be reached.
    Host,
}

/// What a flow's socket lets through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Nothing.
    Nothing,
    /// Everything but empty datagrams: keep-alives stay out of programs' sight.
    Flow,
    /// The same without control datagrams to our id: OPEN comes to the flow's port. Left to the program.
    NoControl(WireId),
    /// On the listen port: the same without requests to (name, the client's id), and without control datagrams to our id.
    NoRequests(Name, WireId, WireId),
    /// On the listen port: the same without requests of a classic caller: the name, the name and a NUL.
    NoRepeats(Name),
    /// The same without late answers to (name, our id). Left to the program.
    NoAnswers(Name, WireId),
    /// The same without late echoes of a classic shim: the name, the name and a NUL, our request returned.
    NoEchoes(Name, WireId),
}

impl Filter {
    /// What the program is to drop in the socket's place: the kernel takes 20 to 45 µs to compile a filter, a tenth of what
    /// an allocation costs. A program that reads the bare descriptor has libflow set it.
    pub fn left_to_program(&self) -> Option<Unwanted> {
        match self {
            Self::NoControl(ours) => Some(Unwanted::control(*ours)),
            Self::NoAnswers(name, ours) => Some(Unwanted::answers(name, *ours)),
            _ => None,
        }
    }
}

/// A flow that a peer asks for, for irmd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The name asked for.
    pub name: Name,
    /// Who asks: "John Day" for a classic caller.
    pub source: String,
    /// What is asked of the flow.
    pub qos: Qos,
    /// Redeems the socket once accepted.
    pub token: Token,
    /// The answer must be here this long from now.
    pub within: Duration,
    /// Piggy-back, unauthenticated.
    pub data: Vec<u8>,
    /// The caller's address and cp.
    pub peer: SocketAddr,
    /// The caller is a classic shim.
    pub classic: bool,
    /// The caller has shown that it receives at `peer`'s address: a program may be started for it.
    pub proven: bool,
}

/// What the owner of the machine is to do. Order matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Open the flow's socket on the configured address and this port; report by `opened`. `watch`: datagrams and
    /// errors on it are wanted until it is connected.
    Open {
        /// Whose socket.
        key: Key,
        /// On which port.
        port: u16,
        /// Whether to read it.
        watch: bool,
    },
    /// Ask a router.
    Router(Step),
    /// Send from the listen port.
    SendListen {
        /// Where to.
        to: SocketAddr,
        /// What.
        bytes: Vec<u8>,
    },
    /// Send from the flow's socket.
    SendFlow {
        /// From whose socket.
        key: Key,
        /// Where to; nowhere for a connected socket.
        to: Option<SocketAddr>,
        /// What; empty for a keep-alive.
        bytes: Vec<u8>,
    },
    /// Connect the flow's socket to the peer, see that nothing of a stranger stays in its queue, set the filter;
    /// report by `connected`.
    Connect {
        /// Whose socket.
        key: Key,
        /// Where to.
        peer: SocketAddr,
        /// What it lets through from now on.
        filter: Filter,
    },
    /// Take a descriptor for the flow's socket, which is to share the listen port; report by `opened`.
    Reserve {
        /// Whose socket.
        key: Key,
    },
    /// Bind that socket to the listen port, connect it to the peer, set the filter; hand over what came to it in
    /// between as of the listen port; report by `connected`.
    Join {
        /// Whose socket.
        key: Key,
        /// Where to.
        peer: SocketAddr,
        /// What it lets through from now on.
        filter: Filter,
    },
    /// Count what was dropped at the flow's socket, and the SDUs its program received; report by `dropped`.
    CheckDropped {
        /// The flow.
        key: Key,
        /// irmd's id of it.
        flow: FlowId,
    },
    /// Connect the flow's socket, which is on the listen port, to where nobody is, for all who hold it.
    Detach {
        /// Whose socket.
        key: Key,
    },
    /// Open a second, unconnected socket on the flow's port and read it; nothing is reported where that fails.
    Catch {
        /// Whose port.
        key: Key,
    },
    /// Close that second socket.
    Uncatch {
        /// Whose port.
        key: Key,
    },
    /// Connect the flow's socket to another address of its peer, for all who hold it.
    Move {
        /// Whose socket.
        key: Key,
        /// Where to.
        peer: SocketAddr,
    },
    /// Set another filter.
    Refilter {
        /// Whose socket.
        key: Key,
        /// What it lets through from now on.
        filter: Filter,
    },
    /// Tell irmd of the request; report by `answered`. A program may already redeem the token.
    Arrived {
        /// The flow.
        key: Key,
        /// What irmd is told.
        arrival: Arrival,
    },
    /// irmd's answer is no longer wanted.
    Abandon {
        /// The flow.
        key: Key,
    },
    /// The flow's socket is there to be taken.
    Offer {
        /// The flow.
        key: Key,
        /// irmd's id of it.
        flow: FlowId,
        /// What redeems it.
        token: Token,
        /// Who may.
        owner: Owner,
        /// Longest SDU, bytes.
        sdu_limit: u32,
        /// What a restarted ipcpd takes the flow back for.
        ticket: Vec<u8>,
        /// What of the socket's datagrams the program is to drop.
        unwanted: Option<Unwanted>,
        /// For its handshake; none for a raw flow.
        binding: Option<Binding>,
        /// The program must leave the socket connected, unless the flow may move.
        fixed: bool,
        /// The flow may move ([`Output::Moved`]): the program hands over what is the shim's.
        movable: bool,
    },
    /// The flow has another path: tell its program, and give it another ticket.
    Moved {
        /// irmd's id of the flow.
        flow: FlowId,
        /// Where its peer is.
        peer: SocketAddr,
        /// What that address is.
        way: &'static str,
        /// What a restarted ipcpd takes the flow back for.
        ticket: Vec<u8>,
    },
    /// A program may redeem the token already; it is offered or withdrawn later.
    Expect {
        /// Which.
        token: Token,
    },
    /// The token is void.
    Withdraw {
        /// Which.
        token: Token,
        /// What a program that redeems it is told.
        failure: Failure,
    },
    /// `flow_alloc` has succeeded. Where [`Output::Expect`] came before it, the socket follows, or the token is withdrawn.
    Allocated {
        /// The flow.
        key: Key,
        /// What redeems its socket.
        token: Token,
        /// The peer's address and sp.
        peer: SocketAddr,
        /// The peer's piggy-back, unauthenticated.
        data: Vec<u8>,
        /// The peer is a classic shim.
        classic: bool,
        /// What the directory has as the key of the peer's host.
        host_key: Option<Fingerprint>,
        /// Requests that were sent to the peer.
        asked: u32,
    },
    /// `flow_alloc` has failed.
    Failed {
        /// The flow.
        key: Key,
        /// Why.
        failure: Failure,
    },
    /// `flow_alloc` goes on under another key: the host that was asked had no flow to give, the next one is.
    Again {
        /// What it was.
        key: Key,
        /// What it is from now on.
        next: Key,
    },
    /// Ask name servers for the name; report by `looked_up`.
    LookUp {
        /// The name.
        name: Name,
        /// As it is written in DNS.
        domain: String,
    },
    /// Change the zone; report by `updated`.
    Update {
        /// This host's part of it.
        own: Own,
        /// The name as it is written in DNS.
        domain: Arc<str>,
        /// What is wanted.
        aim: Aim,
    },
    /// Tell a caller that waited for a name server's word.
    Tell {
        /// Which.
        waiter: Waiter,
        /// How it went.
        result: Result<(), Failure>,
    },
    /// Look the server up; report by `server_found`.
    FindServer {
        /// Its host, a name or an address, and its port.
        server: String,
    },
    /// Tell who reads the log that something goes well.
    Note {
        /// A sentence.
        text: Arc<str>,
    },
    /// Tell who reads the log.
    Warn {
        /// A sentence.
        text: Arc<str>,
    },
    /// Ask the kernel whether all that was sent has left; report by `sent_all`.
    CheckSent {
        /// The flow.
        key: Key,
    },
    /// Ask the kernel whether all that arrived was read; report by `read_all`.
    CheckRead {
        /// The flow.
        key: Key,
    },
    /// Read the program's count of SDUs sent; report by `counted`.
    Count {
        /// The flow.
        key: Key,
        /// irmd's id of it.
        flow: FlowId,
    },
    /// Read the program's counts of SDUs received and sent; report by `looked`.
    Look {
        /// The flow.
        key: Key,
        /// irmd's id of it.
        flow: FlowId,
    },
    /// Tell the program that its flow is over.
    Gone {
        /// Which.
        flow: FlowId,
        /// Why.
        reason: EndReason,
    },
    /// Take the socket away from whoever holds it, for good: nothing arrives or leaves any more.
    Revoke {
        /// The flow.
        key: Key,
    },
    /// The same, where the peer is done and the program is no enemy: nothing leaves, and nothing arrives unless the
    /// program connects the socket again.
    Retire {
        /// The flow.
        key: Key,
    },
    /// The flow has another socket from now on, and the one it had is closed. Both are watched, neither is connected.
    Swap {
        /// The flow.
        key: Key,
        /// Whose key the socket has had.
        with: Key,
    },
    /// Close this process' descriptor of the socket.
    Close {
        /// The flow.
        key: Key,
    },
    /// The program is done with the flow: its slot of the statistics is free.
    Forget {
        /// Which.
        flow: FlowId,
    },
    /// Tell irmd that the flow is over.
    Ended {
        /// Which.
        flow: FlowId,
        /// Why.
        reason: EndReason,
    },
    /// `stop` is done.
    Stopped,
}
