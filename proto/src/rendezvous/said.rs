//! What these datagrams say.

use std::net::SocketAddr;

use crate::{BootId, HostId, Name, WireId};

/// What one datagram says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    // Server to anybody; not sealed, because nothing is known of who asked.
    /// Ask again with this cookie, at most [`MAX_COOKIE`](super::MAX_COOKIE) bytes.
    Cookie(Vec<u8>),
    /// No such session, or the wrong key: the same bytes for both.
    Unknown,

    // Member to server, from its listen port; and the answers.
    /// I am here: the first time, and again before the server forgets.
    Join(Join),
    /// You are.
    Joined(Joined),
    /// I am gone.
    Leave {
        /// The start of the shim that leaves.
        boot: BootId,
        /// Of this source.
        cookie: Vec<u8>,
    },
    /// You are.
    Left,
    /// The list of members has changed: ask by a [`Join`](Said::Join). Never answered, never repeated.
    News(Seen),

    // From a flow's socket to the server, and the answers.
    /// I want a flow to a name; this is my socket for it.
    Introduce(Introduce),
    /// The other side was told; ask again until it has come.
    Introducing,
    /// It will not be.
    NotIntroduced(Refusal),
    /// To the listen port of the member that has the name: somebody wants a flow. Open a socket and say MEET from it, or DECLINE.
    Introduction(Introduction),
    /// This is my socket for that attempt.
    Meet(Meet),
    /// From the listen port: no flow of that attempt.
    Decline {
        /// The asking side's id of the attempt.
        attempt: WireId,
        /// Why.
        refusal: Refusal,
    },
    /// To both sockets: where the other is. The header carries both ids.
    Meeting(Meeting),

    // Between the two flows' sockets, sealed with the attempt's key.
    /// Are you there?
    Hello(Hello),
    /// Yes: `echo` is the challenge of the hello, `seen_at` where it came from.
    HelloAnswer(Hello),
    /// The asking side has chosen this path; `echo` as in an answer.
    Chosen(Hello),

    // The relay, from a flow's socket to the relay's port.
    /// What comes from this socket goes to the other side of the attempt from now on, bare; and the opposite.
    Bind(Bind),
    /// It does.
    Bound(Bound),
    /// It does not.
    NotBound(Refusal),

    // Control datagrams of shims that do not reach each other.
    /// Say this to a member's listen port.
    Carry {
        /// To whom.
        to: HostId,
        /// At most [`MAX_CARRIED`](super::MAX_CARRIED) bytes.
        payload: Vec<u8>,
    },
    /// The header's member said this.
    Carried(Vec<u8>),

    // What kind of NAT is there; anybody may ask, nothing is sealed.
    /// Where do I come from?
    NatProbe {
        /// Answer from the server's other port.
        alternate: bool,
    },
    /// From there.
    NatSeen {
        /// The source of the probe.
        public: SocketAddr,
        /// The server's other port, or the other address and port, that takes probes, too.
        alternate: Option<SocketAddr>,
    },
    /// Say [`NatSeen`](Said::NatSeen) to another port of the address that this comes from: does its mapping still live? As
    /// RESPONSE-PORT of RFC 5780.
    NatReach {
        /// From 1,024 on.
        port: u16,
    },
}

/// How much of the list of members somebody has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Seen {
    /// Which list: random at every start of the server and every beginning of a session. 0: none.
    pub epoch: u64,
    /// All changes up to this one.
    pub version: u64,
}

/// How much of a member's names the server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct NamesAt {
    /// Which list: a member begins a new one when the server has none, or has lost count. 0: none.
    pub generation: u32,
    /// So many changes of it.
    pub count: u32,
}

/// One change of the names that a member has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameChange {
    /// The member serves the name.
    Add(Name),
    /// No longer.
    Remove(Name),
}

/// A member is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// Of this source, from an earlier answer; empty at first.
    pub cookie: Vec<u8>,
    /// This start of the member's shim. One that was replaced by another is not taken again.
    pub boot: BootId,
    /// What the member thinks its listen port's addresses are, at most [`MAX_LOCALS`](super::MAX_LOCALS).
    pub locals: Vec<SocketAddr>,
    /// What it has of the list of members.
    pub seen: Seen,
    /// What the server has of its names if it takes `names`: these changes come behind `names_at.count` others of the generation.
    pub names_at: NamesAt,
    /// Changes of its names, as many as fit.
    pub names: Vec<NameChange>,
    /// From the member to the server and back, microseconds; 0: not known.
    pub round_trip_us: u32,
}

/// What the server says to a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Where the member comes from.
    pub public: SocketAddr,
    /// What it has of the list once it has taken `changes`.
    pub seen: Seen,
    /// What the list has come to; where it is more, ask again at once.
    pub latest: u64,
    /// Forget the list first: `changes` begin anew.
    pub reset: bool,
    /// What the server has of the member's names.
    pub names_at: NamesAt,
    /// Be heard again within so many milliseconds.
    pub refresh_ms: u32,
    /// The port of the relay; 0: none.
    pub relay: u16,
    /// For the next datagram; changes with time.
    pub cookie: Vec<u8>,
    /// In their order.
    pub changes: Vec<Change>,
}

/// One change of the list of members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A member came, or has other addresses.
    Member {
        /// Who.
        member: HostId,
        /// Where it is seen.
        public: SocketAddr,
        /// What it thinks; none where the server hides them.
        locals: Vec<SocketAddr>,
    },
    /// A member is gone, with all its names.
    Left(HostId),
    /// A member serves a name.
    Name(HostId, Name),
    /// No longer.
    NameGone(HostId, Name),
}

/// Changes that fit into one answer. [`Joined`] has as many as fit into 1,200 bytes; this counts them.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Those that fit.
    pub taken: Vec<Change>,
    bytes: usize,
}

impl Changes {
    /// Bytes for changes in one [`Joined`], and for names in one [`Join`].
    pub const ROOM: usize = 800;

    /// Takes one more, if it fits.
    pub fn take(&mut self, change: Change) -> bool {
        let length = 3 + match &change {
            Change::Member { locals, .. } => 8 + 19 * (1 + locals.len()),
            Change::Left(_) => 8,
            Change::Name(_, name) | Change::NameGone(_, name) => 8 + name.as_str().len(),
        };
        let fits = self.bytes + length <= Self::ROOM;
        if fits {
            self.bytes += length;
            self.taken.push(change);
        }
        fits
    }
}

impl NameChange {
    /// Bytes that it takes of [`Changes::ROOM`].
    pub fn length(&self) -> usize {
        let (Self::Add(name) | Self::Remove(name)) = self;
        3 + name.as_str().len()
    }
}

/// Somebody wants a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introduce {
    /// From a [`Joined`]: of this host's public address, whatever the port.
    pub cookie: Vec<u8>,
    /// To whom: a name that some member has.
    pub name: Name,
    /// To that member, of several that have the name; 0: to any.
    pub peer: HostId,
    /// The socket's own addresses.
    pub locals: Vec<SocketAddr>,
    /// Counts from 0; another one comes from another port, with another id.
    pub round: u8,
    /// What stands before this host.
    pub nat: Nat,
    /// What this host's router maps.
    pub mapped: Mapped,
    /// From this host to the server and back, microseconds; 0: not known.
    pub round_trip_us: u32,
    /// No flow is wanted: the two have one, which is to have another path.
    pub moves: Option<FlowIds>,
}

/// A flow that there is, by its two ends' ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowIds {
    /// Of the side that speaks.
    pub asker: WireId,
    /// Of the side that is asked.
    pub asked: WireId,
    /// The path that it had is gone, as far as the asking side knows: where no direct one is found, the relay does.
    pub adrift: bool,
}

/// To the member that has the name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introduction {
    /// Who asks.
    pub asker: HostId,
    /// Its id of the attempt.
    pub attempt: WireId,
    /// The server's, random: makes the attempt's key with the other three.
    pub nonce: [u8; 16],
    /// What is asked for.
    pub name: Name,
    /// As in [`Introduce`].
    pub round: u8,
    /// As in [`Introduce`].
    pub moves: Option<FlowIds>,
}

/// The socket of the side that is asked. The header's sender is its id of the flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meet {
    /// As in [`Introduce`].
    pub cookie: Vec<u8>,
    /// The asking side's id of the attempt.
    pub attempt: WireId,
    /// From the [`Introduction`].
    pub nonce: [u8; 16],
    /// The socket's own addresses.
    pub locals: Vec<SocketAddr>,
    /// As in [`Introduce`].
    pub nat: Nat,
    /// As in [`Introduce`].
    pub mapped: Mapped,
    /// As in [`Introduce`].
    pub round_trip_us: u32,
}

/// Addresses that a member's router hands on to it, because it was asked to (PCP, NAT-PMP, UPnP).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mapped {
    /// To the flow's socket.
    pub flow: Option<SocketAddr>,
    /// To the listen port.
    pub shim: Option<SocketAddr>,
}

/// Where the other side is. The header has its id of the flow as sender, and the reader's as receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meeting {
    /// Who it is.
    pub peer: HostId,
    /// Makes the attempt's key.
    pub nonce: [u8; 16],
    /// Where the other's socket is seen.
    pub public: SocketAddr,
    /// What that socket thinks; none where the server hides them.
    pub locals: Vec<SocketAddr>,
    /// Where the other's listen port is seen.
    pub shim_public: SocketAddr,
    /// What that thinks.
    pub shim_locals: Vec<SocketAddr>,
    /// Where the reader's own socket is seen.
    pub own_public: SocketAddr,
    /// What the other says of its NAT.
    pub nat: Nat,
    /// What the other's router maps.
    pub mapped: Mapped,
    /// Send the first hello so many microseconds after this arrived: then both sides' are on their way at once.
    pub start_us: u32,
}

/// A hello, or what is said to one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Random, one for each address that is tried; stays the same when said again.
    pub challenge: u64,
    /// The other side's, in what is said to a hello; 0 in a hello.
    pub echo: u64,
    /// Where the hello that is answered came from; where the sender's own socket is seen, in a hello.
    pub seen_at: SocketAddr,
    /// What the sender's socket thinks.
    pub locals: Vec<SocketAddr>,
}

/// One side of a relayed flow. The header has this side's id as sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// As in [`Introduce`].
    pub cookie: Vec<u8>,
    /// The other side.
    pub peer: HostId,
    /// The asking side's id of the attempt.
    pub attempt: WireId,
    /// The server's.
    pub nonce: [u8; 16],
}

/// What a relay gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The other side is there, too.
    pub both: bool,
    /// Bytes a second, each way, 0: no limit.
    pub rate: u64,
    /// Bytes left for this flow, 0: no limit.
    pub left: u64,
    /// Bind again within so many milliseconds.
    pub refresh_ms: u32,
}

/// What stands between a member and the server, by RFC 4787's words; as the member found, and of no meaning to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Nat {
    /// Which of its datagrams are seen to come from the same address.
    pub mapping: Mapping,
    /// Who may send to that.
    pub filtering: Filtering,
    /// With another mapping for each port: from the port of one to that of the next; 0: not known, or in no order.
    pub step: i16,
    /// The member takes part in a search by many ports.
    pub search: bool,
}

/// RFC 4787, section 4.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Mapping {
    /// Not found out.
    #[default]
    Unknown,
    /// It is seen with its own address and port.
    None,
    /// All from one socket, wherever they go.
    EndpointIndependent,
    /// Each port that they go to has its own: "symmetric".
    PortDependent,
}

/// RFC 4787, section 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Filtering {
    /// Not found out.
    #[default]
    Unknown,
    /// Every port of an address that was sent to, at least.
    Open,
    /// Only ports that were sent to.
    PortDependent,
}

/// Why something will not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// No member has the name.
    UnknownName,
    /// The member that has it does not answer the server.
    Silent,
    /// Too many of it at once.
    TooMany,
    /// The one who asks has the name itself.
    Yourself,
    /// The member that is asked has no socket to give.
    Exhausted,
    /// The server has no relay, or not for this.
    NoRelay,
    /// The relay's quota is used up.
    Quota,
    /// Nothing is known of the attempt, or of the member.
    UnknownAttempt,
}

impl Refusal {
    const CODES: [(u8, Self); 8] = [
        (1, Self::UnknownName),
        (2, Self::Silent),
        (3, Self::TooMany),
        (4, Self::Yourself),
        (5, Self::Exhausted),
        (6, Self::NoRelay),
        (7, Self::Quota),
        (8, Self::UnknownAttempt),
    ];

    pub(super) fn code(self) -> u8 {
        Self::CODES.iter().find(|(_, known)| *known == self).map_or(0, |(code, _)| *code)
    }

    pub(super) fn from_code(code: u8) -> Option<Self> {
        Self::CODES.iter().find(|(known, _)| *known == code).map(|(_, refusal)| *refusal)
    }
}

impl Said {
    /// Kinds that nobody seals.
    pub(super) const BARE: [u8; 5] = [32, 33, 52, 53, 56];

    /// Kinds that ask the server something: JOIN, LEAVE, INTRODUCE, MEET, BIND, NAT PROBE, NAT REACH.
    pub(super) const ASKED: [u8; 7] = [34, 36, 39, 43, 49, 52, 56];

    pub(super) fn kind(&self) -> u8 {
        match self {
            Self::Cookie(_) => 32,
            Self::Unknown => 33,
            Self::Join(_) => 34,
            Self::Joined(_) => 35,
            Self::Leave { .. } => 36,
            Self::Left => 37,
            Self::News(_) => 38,
            Self::Introduce(_) => 39,
            Self::Introducing => 40,
            Self::NotIntroduced(_) => 41,
            Self::Introduction(_) => 42,
            Self::Meet(_) => 43,
            Self::Decline { .. } => 44,
            Self::Meeting(_) => 45,
            Self::Hello(_) => 46,
            Self::HelloAnswer(_) => 47,
            Self::Chosen(_) => 48,
            Self::Bind(_) => 49,
            Self::Bound(_) => 50,
            Self::NotBound(_) => 51,
            Self::NatProbe { .. } => 52,
            Self::NatSeen { .. } => 53,
            Self::Carry { .. } => 54,
            Self::Carried(_) => 55,
            Self::NatReach { .. } => 56,
        }
    }

    /// Whether the server is asked for an answer: such datagrams are padded.
    pub fn is_asked(&self) -> bool {
        Self::ASKED.contains(&self.kind())
    }
}
