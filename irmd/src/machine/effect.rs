//! What goes into the machine and what comes out of it, as values.

use std::sync::Arc;
use std::time::Duration;

use proto::v1::{self, EndReason, Failure};
use proto::{FlowId, Name, Token};

use super::judge::Judging;
use super::quota::Quotas;
use super::ticket::Ticket;
use crate::config::{Account, Identity};

/// A call that waits for its one [`Reply`]. Minted by the owner, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// A process that the owner started, from [`Effect::StartIpcp`] or [`Effect::StartProgram`]. Minted by the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChildId(pub u64);

/// Who calls, as the kernel told it of the caller's socket.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Caller {
    /// Process id.
    pub pid: u32,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Its other groups, when it opened the socket.
    pub groups: Option<Arc<[u32]>>,
}

impl Caller {
    /// Its groups but the first.
    pub fn groups(&self) -> &[u32] {
        self.groups.as_deref().unwrap_or_default()
    }

    /// Whether it is a member of a group.
    pub fn is_member(&self, group: u32) -> bool {
        self.gid == group || self.groups().contains(&group)
    }
}

/// New rules of a name or pattern, whose users and groups were looked up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RulesChange {
    /// What was asked for.
    pub said: v1::NameRules,
    /// The accounts in it, and whether each is a group.
    pub accounts: Vec<(Account, bool)>,
    /// The files of CAs in it, read.
    pub cas: Vec<Identity>,
}

/// Who asks whom about a name: [`Command::NameMay`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct May {
    /// The name.
    pub name: String,
    /// The user who would; the caller if none is given.
    pub user: Option<Caller>,
    /// The host that would, instead.
    pub address: String,
}

/// The events that are kept and that the caller may hear of.
#[derive(Clone, Debug, Default)]
pub struct Past {
    /// Oldest first.
    pub records: Vec<super::history::Record>,
    /// The number of the oldest of all that are kept, the caller's or not; or of the next.
    pub first: u64,
    /// The number of the last of all.
    pub last: u64,
}

/// What a caller asks. Each is answered by exactly one [`Effect::Reply`], unless it is cancelled before.
#[derive(Clone, Debug)]
pub enum Command {
    /// A flow to a name. The tokens are fresh random values, for the two ends of a local flow.
    FlowAlloc(v1::FlowAllocRequest, [Token; 2]),
    /// Serve a name from now on.
    Serve(v1::ServeRequest),
    /// Serve it no longer.
    Unserve(v1::UnserveRequest),
    /// The next flow of a name.
    FlowAccept(v1::FlowAcceptRequest),
    /// Yes or no to a flow that was taken with `ask`.
    FlowAnswer(v1::FlowAnswerRequest),
    /// A certificate; whether the caller may have it.
    Certify(v1::CertifyRequest),
    /// Whether a flow's peer is the right one.
    Judge(Box<Judging>),
    /// An IPCP has come up. Its reply comes at once; [`super::Irm::cancelled`] says that the IPCP is gone.
    Attach(Box<v1::AttachRequest>),
    /// A peer asks for a flow through an IPCP.
    FlowReqArr(v1::FlowReqArrRequest),
    /// A flow of an IPCP is over.
    FlowEnded(v1::FlowEndedRequest),
    /// Flows were brought back to an IPCP.
    FlowsAdopted(Vec<v1::FlowInfo>),
    /// The daemon's figures.
    Status,
    /// All that metrics are made of.
    Census,
    /// Start an IPCP.
    IpcpCreate(v1::IpcpCreateRequest),
    /// Start an IPCP if need be, and let it join a layer.
    IpcpBootstrap(Box<v1::IpcpBootstrapRequest>),
    /// Stop an IPCP and forget it.
    IpcpDestroy(v1::IpcpDestroyRequest),
    /// Rows of all IPCPs.
    IpcpList,
    /// A row for an IPCP's static directory.
    HostAdd(v1::HostAddRequest),
    /// A row of it removed.
    HostRemove(v1::HostRemoveRequest),
    /// Nothing but whether the caller is an administrator: before something is looked up for it.
    Administers,
    /// Create a name.
    NameCreate(v1::NameCreateRequest, RulesChange),
    /// Say who may use a name, or the names of a pattern.
    NameRules(String, RulesChange),
    /// The rules of patterns.
    RuleList,
    /// Whether somebody may use a name.
    NameMay(May),
    /// Destroy a name.
    NameDestroy(v1::NameDestroyRequest),
    /// Rows of all names.
    NameList,
    /// Register a name in a layer.
    NameRegister(v1::NameRegisterRequest),
    /// Take it out of the layer.
    NameUnregister(v1::NameUnregisterRequest),
    /// The names that begin so and are served on this host.
    Names(v1::NamesRequest),
    /// Where a flow to a name would go.
    NameResolve(v1::NameResolveRequest),
    /// Bind a program to a name. Its user is given as a number.
    BindProgram(v1::BindProgramRequest),
    /// Bind a process to a name.
    BindProcess(v1::BindProcessRequest),
    /// Unbind a program.
    UnbindProgram(v1::UnbindProgramRequest),
    /// Unbind a process.
    UnbindProcess(v1::UnbindProcessRequest),
    /// Rows of flows, as far as this daemon knows them.
    FlowList(Listed),
    /// The events with a higher number.
    FlowEvents(u64),
    /// Which flows the caller may see.
    FlowSeen,
    /// One row.
    FlowShow(v1::FlowShowRequest),
    /// End a flow.
    FlowDealloc(v1::FlowDeallocRequest),
    /// Trust somebody with a name, or the names of a pattern, from now on.
    IdentityTrust {
        /// The name or pattern.
        name: String,
        /// Who; a file of CAs was read.
        who: Identity,
        /// This host's clock, seconds since 1970.
        wall: u64,
    },
    /// Trust somebody with it no longer, or nobody that is named there.
    IdentityForget(String, Option<Identity>),
    /// Rows of all that is trusted.
    IdentityList,
    /// Let one more into a name, or the names of a pattern, or one less; `None` ends that it asks for identity.
    IdentityAllow {
        /// The name or pattern.
        name: String,
        /// Who; a file of CAs was read.
        who: Option<Identity>,
        /// One less.
        remove: bool,
    },
    /// The running configuration.
    ConfigExport,
    /// irmd's orderly end.
    Shutdown(v1::ShutdownRequest),
}

/// The answer to a [`Command`].
#[derive(Clone, Debug)]
pub enum Reply {
    /// Not done, and why.
    Failed(Failure),
    /// Done; there is nothing more to say.
    Done,
    /// A flow, for the program that asked for it or accepts it.
    Handle(v1::FlowHandle),
    /// The layers in which the served name is registered now.
    Served(Vec<String>),
    /// A peer's request was accepted.
    Accepted(v1::FlowReqArrReply),
    /// Who a flow's peer is.
    Judged(v1::JudgeReply),
    /// So many are trusted no longer.
    Forgotten(u32),
    /// All that is trusted.
    Trusts(Vec<v1::TrustInfo>),
    /// Where a bootstrapped IPCP listens.
    Bootstrapped(String),
    /// Figures; resident memory and the directory are left to the owner.
    Status(v1::StatusReply),
    /// The registry's numbers.
    Census(Box<super::metrics::Census>),
    /// IPCPs; their counters are left to the owner.
    Ipcps(Vec<v1::IpcpInfo>),
    /// Names; how they stand in their layers' directories is left to the owner.
    Names(Vec<v1::NameInfo>),
    /// Names that something on this host serves, and whether that is a program yet to be started.
    NamesHere(std::collections::BTreeMap<String, bool>),
    /// What this host says of a name, and the IPCPs to ask, in order, with their layers; the owner asks them.
    Resolving(v1::ResolveStep, Vec<(String, String)>),
    /// Flows; counters are left to the owner.
    Flows(Vec<FlowRow>),
    /// The flows of one user, who may see no others.
    FlowsOf(u32, Vec<FlowRow>),
    /// Events, and whether only those that concern one user.
    Events(Past, Option<u32>),
    /// Local flows, and the only flows that the caller may see, unless it may see all.
    Seen(Vec<Local>, Option<std::collections::HashSet<u64>>),
    /// Rules of patterns.
    Rules(Vec<v1::RuleInfo>),
    /// Judgements.
    Rulings(Vec<v1::Ruling>),
    /// The configuration.
    Config(crate::config::Config),
    /// irmd ends now; so many flows are left.
    Stopped(u32),
}

/// A local flow, for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// Its id.
    pub flow: FlowId,
    /// That of the accepting end.
    pub peer: Option<FlowId>,
    /// How it stands.
    pub state: v1::FlowState,
    /// Since it was asked for, ms.
    pub age_ms: u64,
}

/// Which flows a listing asks for, of those that its caller may see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// Those that ended lately, too.
    pub ended: bool,
    /// IPCPs that tell of their flows themselves: their rows are left out, but for who has shown to be the peer.
    pub told_by: Vec<String>,
}

/// A flow as the registry knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowRow {
    /// The row to show; without counters.
    pub info: v1::FlowInfo,
    /// The other end's id, for a local flow that has one.
    pub peer: Option<FlowId>,
}

/// One end of a local flow, for hand-over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The end's own id.
    pub flow: FlowId,
    /// What redeems it.
    pub token: Token,
    /// The process that may.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
    /// What its program shows to the next irmd; to be sealed with the socket's cookie in it.
    pub ticket: Ticket,
}

/// What to ask of an IPCP. The owner hands it back with the answer to [`super::Irm::ipcp_answered`].
#[derive(Clone, Debug, PartialEq)]
pub enum IpcpCall {
    /// Join the layer.
    Bootstrap(Box<v1::BootstrapRequest>),
    /// Answer for a name, and whether a program may be started for a flow to it.
    Register(Name, bool),
    /// The same, answered once the layer's directory says so to others.
    Publish(Name, bool),
    /// No longer answer for it.
    Unregister(Name),
    /// The same, answered once the layer's directory says so to nobody.
    Retract(Name),
    /// A row for the static directory, on behalf of a call.
    AddHost(CallId, v1::StaticHost),
    /// A row of it removed.
    RemoveHost(CallId, String),
    /// Ask a peer for a flow. To be given up a second after the request's own timeout.
    Alloc(v1::AllocRequest),
    /// End a flow. No answer is expected.
    Dealloc(FlowId),
    /// Which flows it holds.
    Flows,
    /// End its flows and exit. No answer is expected.
    Shutdown,
}

/// What an IPCP answered.
#[derive(Clone, Debug, PartialEq)]
pub enum IpcpAnswer {
    /// Done.
    Done,
    /// Bootstrapped; it listens there.
    Address(String),
    /// The peer accepted.
    Allocated(v1::AllocReply),
    /// Its flows.
    Flows(Vec<v1::FlowInfo>),
}

/// What the owner is to do.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Answer a call.
    Reply(CallId, Reply),
    /// Make a socket pair and offer its ends; then call [`super::Irm::local_opened`] *before any other input*.
    OpenLocal {
        /// The flow.
        row: FlowId,
        /// The asking end, the accepting end.
        ends: Box<[End; 2]>,
    },
    /// Shut a local flow's pair down and close it.
    CloseLocal {
        /// The flow.
        row: FlowId,
        /// This end's program is gone: nobody will read its queue.
        over: Option<FlowId>,
    },
    /// A token that nobody redeemed is void.
    Withdraw(Token, Failure),
    /// Tell the program that holds this end that the flow is over.
    Gone(FlowId, EndReason),
    /// This end is over on both sides.
    Forget(FlowId),
    /// An IPCP attached: its calls go to this socket from now on.
    Connect {
        /// Its name.
        ipcp: String,
        /// Path of its gRPC socket.
        socket: String,
        /// Its process.
        pid: u32,
    },
    /// An IPCP is gone: no more calls to it.
    Disconnect(String),
    /// Ask something of an IPCP. `attach` tells its lives apart.
    Call {
        /// Its name.
        ipcp: String,
        /// The attachment it is asked under.
        attach: CallId,
        /// What.
        what: IpcpCall,
    },
    /// Start an IPCP's process, unless one of that name runs already; then call [`super::Irm::ipcp_started`].
    StartIpcp {
        /// Its name.
        ipcp: String,
        /// How to call its process.
        child: ChildId,
    },
    /// Start a program; then call [`super::Irm::program_started`].
    StartProgram {
        /// How to call its process.
        child: ChildId,
        /// For a flow to this name.
        name: Name,
        /// Absolute path.
        path: String,
        /// Its arguments.
        args: Vec<String>,
        /// The user it runs as.
        user: u32,
    },
    /// End a process that was started.
    Kill {
        /// Which.
        child: ChildId,
        /// At once (SIGKILL), not by asking (SIGTERM).
        hard: bool,
    },
    /// End a process that was found running, through the socket it attached by.
    KillAttached {
        /// The IPCP.
        ipcp: String,
    },
    /// What was made at run time has changed: write it down.
    Persist,
    /// The same for the hosts that are remembered.
    PersistKnown,
    /// End the daemon, and every IPCP that is attached or was started.
    Stop,
    /// A line for the log.
    Log(Level, String),
    /// A line about the life of a flow, for those who want to see them.
    FlowLog(FlowId, String),
}

/// How loud a log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Life of names, IPCPs and programs.
    Info,
    /// Something failed that somebody should look at.
    Warn,
}

/// What became of [`Effect::StartIpcp`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Started {
    /// A new process.
    Spawned(u32),
    /// One was there; it will attach.
    Found,
    /// Neither, and why.
    Failed(String),
}

/// Limits and defaults.
#[derive(Clone, Debug)]
pub struct Settings {
    /// irmd's own user, who may administrate beside root.
    pub uid: u32,
    /// irmd's process.
    pub pid: u32,
    /// What others know this host by, "SHA256:…"; IPCPs publish it with names.
    pub host_key: String,
    /// Where local flows are handed over.
    pub handoff: String,
    /// Flows that may wait per name.
    pub backlog: usize,
    /// Flows that may wait altogether.
    pub pending: usize,
    /// Accepts that may wait altogether, of one user a quarter.
    pub accepts: usize,
    /// Names.
    pub names: usize,
    /// What one user's programs may have.
    pub quotas: Quotas,
    /// Rows of flows.
    pub flows: usize,
    /// How long an allocation waits when the caller does not say.
    pub timeout: Duration,
    /// How long it waits at most.
    pub longest: Duration,
    /// The first flow id to mint.
    pub first_flow: u64,
    /// Seals the tickets of local flows; nobody else knows it.
    pub ticket_key: [u8; handoff::kept::KEY],
    /// What the host's monotonic clock says at the start, ms: ages of flows go on over restarts.
    pub host_ms: u64,
    /// An irmd ran here before: programs and IPCPs of its time may come back.
    pub restarted: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            uid: 0,
            pid: 0,
            host_key: String::new(),
            handoff: String::new(),
            backlog: 4_096,
            pending: 8_192,
            accepts: 16_384,
            names: 65_536,
            quotas: Quotas::default(),
            flows: 262_144,
            timeout: Duration::from_secs(5),
            longest: Duration::from_secs(60),
            first_flow: 1,
            ticket_key: [0; handoff::kept::KEY],
            host_ms: 0,
            restarted: false,
        }
    }
}
