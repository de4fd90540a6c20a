//! The registry of flows: the states of a flow, and the table of its transitions.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use proto::v1::{self, Failure, FlowState};
use proto::{FlowId, Name, Token};

use super::CallId;
use super::quota::{Prefix, Usage};
use super::transitions::{Event, Kind, allowed};

/// All flows of this host.
#[derive(Debug)]
pub struct Flows {
    map: HashMap<FlowId, Flow>,
    /// The accepting ends of local flows, and the row each belongs to.
    ends: HashMap<FlowId, FlowId>,
    next: u64,
    pending: usize,
    users: Usage,
}

/// One flow. A local flow is one row with two ends.
#[derive(Debug)]
pub struct Flow {
    /// Its id; for a local flow that of the asking end.
    pub id: FlowId,
    /// The name that was allocated to.
    pub name: Name,
    /// Who asked; may be empty.
    pub source: String,
    /// What was asked for.
    pub qos: v1::QosSpec,
    /// When it was asked for.
    pub since: Instant,
    /// When this irmd first heard of it; later than `since` of a flow that outlived an earlier one.
    pub known: Instant,
    /// When it is given up unless it is allocated by then.
    pub deadline: Instant,
    /// The asking program's piggy-back.
    pub data: Vec<u8>,
    /// The state it is in.
    pub stage: Stage,
    /// How the two programs are joined.
    pub way: Way,
    /// Who its peer has shown to be.
    pub peer: Option<Box<Peer>>,
    /// What happened to it.
    pub past: super::history::Past,
}

/// Who is at the other host, as it showed in a handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The host, and the name it vouches for.
    pub shown: identity::Shown,
    /// Why that is believed, or let in.
    pub grounds: super::trust::Grounds,
}

/// How a flow's programs are joined, and who is at this host's ends.
#[derive(Debug)]
pub enum Way {
    /// A program here asks. Not yet known to be reached through a layer: it may become a local flow.
    Out(Box<Out>),
    /// Both programs are here.
    Local(Box<Local>),
    /// A peer asks through an IPCP.
    In(Box<In>),
}

/// This host asks.
#[derive(Debug)]
pub struct Out {
    /// Who asked.
    pub caller: v1::Process,
    /// For the ends, should it become a local flow.
    pub tokens: [Token; 2],
    /// The IPCP that holds it; empty while the first is being chosen.
    pub ipcp: String,
    /// That IPCP's layer.
    pub layer: String,
    /// Where the peer is, once known.
    pub peer_address: String,
    /// The peer is a classic shim.
    pub classic: bool,
    /// The key that the directory has beside the peer's address.
    pub host_key: Option<identity::Fingerprint>,
}

/// Both ends here.
#[derive(Debug)]
pub struct Local {
    /// Who asked.
    pub caller: v1::Process,
    /// What redeems the ends: the asking one, the accepting one.
    pub tokens: [Token; 2],
    /// The accepting end's id, once a program was found.
    pub peer: Option<FlowId>,
    /// Which ends were taken by their programs.
    pub taken: [bool; 2],
}

/// A peer asks.
#[derive(Debug)]
pub struct In {
    /// The IPCP that holds it.
    pub ipcp: String,
    /// Its layer.
    pub layer: String,
    /// What redeems it at the IPCP.
    pub token: Vec<u8>,
    /// Where.
    pub handoff: String,
    /// The peer.
    pub peer_address: String,
    /// The peer is a classic shim.
    pub classic: bool,
    /// The peer was shown to receive where it says it is.
    pub proven: bool,
    /// Whose share of flows it counts for.
    pub prefix: Option<Prefix>,
}

/// The state of a flow. A flow that has ended has no row.
#[derive(Debug)]
pub enum Stage {
    /// An IPCP is asked for it.
    Asking {
        /// The program's call.
        call: CallId,
        /// The attachment of the IPCP that is asked.
        attach: CallId,
        /// IPCPs to ask after this one.
        rest: VecDeque<String>,
        /// The failure to tell if no other reaches the name.
        failure: Option<Failure>,
    },
    /// An IPCP is asked, and the program is gone: what comes is deallocated.
    Abandoned,
    /// In the backlog of its name.
    Waiting {
        /// The asking side's call.
        call: CallId,
    },
    /// A program decides about it.
    Offered {
        /// The asking side's call.
        call: CallId,
        /// That program.
        to: v1::Process,
    },
    /// Its socket pair is being made.
    Opening {
        /// The asking side's call.
        call: CallId,
        /// Who accepts.
        to: v1::Process,
        /// The accept to answer; `None` where it was offered before.
        accept: Option<super::name::Accept>,
        /// The accepting program's piggy-back.
        data: Vec<u8>,
    },
    /// Both sides hold it, or may take it.
    Allocated {
        /// Who accepted, if that was here.
        to: Option<v1::Process>,
    },
}

impl Stage {
    /// The state without its data.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Asking { .. } => Kind::Asking,
            Self::Abandoned => Kind::Abandoned,
            Self::Waiting { .. } => Kind::Waiting,
            Self::Offered { .. } => Kind::Offered,
            Self::Opening { .. } => Kind::Opening,
            Self::Allocated { .. } => Kind::Allocated,
        }
    }

    /// The call that waits for the flow.
    pub fn call(&self) -> Option<CallId> {
        match self {
            Self::Asking { call, .. }
            | Self::Waiting { call }
            | Self::Offered { call, .. }
            | Self::Opening { call, .. } => Some(*call),
            Self::Abandoned | Self::Allocated { .. } => None,
        }
    }

    /// The program of this host that accepts it or decides about it, if one does.
    pub fn acceptor(&self) -> Option<&v1::Process> {
        match self {
            Self::Offered { to, .. } | Self::Opening { to, .. } => Some(to),
            Self::Allocated { to } => to.as_ref(),
            Self::Asking { .. } | Self::Abandoned | Self::Waiting { .. } => None,
        }
    }

    /// As shown in a listing.
    pub fn message(&self) -> FlowState {
        match self {
            Self::Abandoned => FlowState::Ending,
            Self::Allocated { .. } => FlowState::Allocated,
            _ => FlowState::Pending,
        }
    }
}

impl Flow {
    /// The program on this host that asked, if it was one.
    pub fn caller(&self) -> Option<&v1::Process> {
        match &self.way {
            Way::Out(out) => Some(&out.caller),
            Way::Local(local) => Some(&local.caller),
            Way::In(_) => None,
        }
    }

    /// Where the peer is; empty for a local flow, and until it is known.
    pub fn peer_address(&self) -> &str {
        match &self.way {
            Way::Out(out) => &out.peer_address,
            Way::Local(_) => "",
            Way::In(arrived) => &arrived.peer_address,
        }
    }

    /// The IPCP that holds the flow; empty for a local one.
    pub fn ipcp(&self) -> &str {
        match &self.way {
            Way::Out(out) => &out.ipcp,
            Way::Local(_) => "",
            Way::In(arrived) => &arrived.ipcp,
        }
    }

    /// Moves to `next` because of `event`; gives the state it was in.
    fn step(&mut self, event: Event, next: Stage) -> Stage {
        debug_assert!(allowed(self.stage.kind(), event, next.kind()), "{:?} -{event:?}-> {:?}", self.stage, next);
        std::mem::replace(&mut self.stage, next)
    }
}

impl Flows {
    /// None yet; ids count from `first`.
    pub fn new(first: u64) -> Self {
        Self { map: HashMap::new(), ends: HashMap::new(), next: first.max(1), pending: 0, users: Usage::default() }
    }

    /// A fresh id.
    pub fn mint(&mut self) -> FlowId {
        let id = FlowId(self.next);
        self.next += 1;
        id
    }

    /// The id that will be minted next.
    pub fn next_id(&self) -> u64 {
        self.next
    }

    /// Ids up to this one are taken by flows that outlived their irmd.
    pub fn skip(&mut self, taken: FlowId) {
        self.next = self.next.max(taken.0.saturating_add(1));
    }

    /// A new row.
    pub fn insert(&mut self, flow: Flow) {
        self.pending += usize::from(flow.stage.kind() != Kind::Allocated);
        self.users.add(&flow);
        self.map.insert(flow.id, flow);
    }

    /// A row of an earlier irmd, with its ids.
    pub(super) fn restore(&mut self, flow: Flow) {
        self.skip(flow.id);
        if let Way::Local(local) = &flow.way
            && let Some(peer) = local.peer
        {
            self.skip(peer);
            self.ends.insert(peer, flow.id);
        }
        self.insert(flow);
    }

    /// Changes who is at the ends of a row.
    pub(super) fn change(&mut self, row: FlowId, change: impl FnOnce(&mut Flow)) {
        let Some(flow) = self.map.get_mut(&row) else { return };
        self.users.remove(flow);
        change(flow);
        self.users.add(flow);
    }

    /// The row that `id` names: its own, or the accepting end of a local flow.
    pub fn row(&self, id: FlowId) -> Option<FlowId> {
        if self.map.contains_key(&id) { Some(id) } else { self.ends.get(&id).copied() }
    }

    /// A row by its own id.
    pub fn get(&self, row: FlowId) -> Option<&Flow> {
        self.map.get(&row)
    }

    /// The same, to change what is not its state.
    pub fn get_mut(&mut self, row: FlowId) -> Option<&mut Flow> {
        self.map.get_mut(&row)
    }

    /// A row's next state; gives the one it was in. `None` if there is no such row.
    pub fn step(&mut self, row: FlowId, event: Event, next: Stage) -> Option<Stage> {
        let flow = self.map.get_mut(&row)?;
        let allocated = next.kind() == Kind::Allocated;
        self.users.remove(flow);
        let before = flow.step(event, next);
        self.users.add(flow);
        if allocated && before.kind() != Kind::Allocated {
            self.pending -= 1;
        }
        Some(before)
    }

    /// The accepting end of a local flow gets an id of its own.
    pub fn mint_peer(&mut self, row: FlowId) -> FlowId {
        let id = self.mint();
        if let Some(Flow { way: Way::Local(local), .. }) = self.map.get_mut(&row) {
            local.peer = Some(id);
            self.ends.insert(id, row);
        }
        id
    }

    /// A flow is over; gives what it was.
    pub fn end(&mut self, row: FlowId, event: Event) -> Option<Flow> {
        let flow = self.map.remove(&row)?;
        self.users.remove(&flow);
        debug_assert!(allowed(flow.stage.kind(), event, Kind::Ended), "{:?} -{event:?}-> Ended", flow.stage);
        self.pending -= usize::from(flow.stage.kind() != Kind::Allocated);
        if let Way::Local(local) = &flow.way
            && let Some(peer) = local.peer
        {
            self.ends.remove(&peer);
        }
        Some(flow)
    }

    /// What each user has of them.
    pub fn users(&self) -> &Usage {
        &self.users
    }

    /// All rows.
    pub fn iter(&self) -> impl Iterator<Item = &Flow> {
        self.map.values()
    }

    /// Rows that are not allocated.
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// All rows, counted.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }
}
