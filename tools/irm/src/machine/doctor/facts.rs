//! What `irm doctor` looked at, as plain values. `io/doctor` gathers them.

use std::net::{IpAddr, SocketAddr};

use proto::v1;

use super::proc::UdpRow;

/// A fact, or why it is not known.
pub type Known<T> = Result<T, String>;

/// Everything that was looked at.
#[derive(Debug)]
pub struct Facts {
    /// Who looks.
    pub here: Here,
    /// The run directory; the error says why none could be chosen.
    pub run_dir: Known<Folder>,
    /// Another run directory in which an irmd answers, where this one has none.
    pub elsewhere: Option<String>,
    /// irmd at its socket.
    pub irmd: Irmd,
    /// Processes called irmd on this host, with this one's own pid and those of other networks left out.
    pub others: Known<Vec<u32>>,
    /// Its IPCPs.
    pub ipcps: Vec<Ipcp>,
    /// Sockets of IPCPs in the run directory that irmd does not list.
    pub strangers: Vec<Stranger>,
    /// The interfaces of this network.
    pub interfaces: Known<Vec<Interface>>,
    /// The UDP sockets of this network.
    pub udp: Known<Vec<UdpRow>>,
    /// Who holds a UDP socket, by its inode: process and command, where that could be seen.
    pub holders: Vec<Holder>,
    /// Requests for a name that cannot be, to the IPCPs' own addresses.
    pub own_probes: Vec<Probe>,
    /// The same to peers.
    pub peer_probes: Vec<Probe>,
    /// Peers beyond those that were asked.
    pub peers_left_out: usize,
    /// `nft -j list ruleset`.
    pub firewall: Known<String>,
    /// What each layer with DNS said of a name that cannot be.
    pub zones: Vec<Zone>,
    /// Names that a layer could not register.
    pub names: Known<Vec<v1::NameInfo>>,
    /// The name that was asked about.
    pub name: Option<(String, Known<v1::NameResolveReply>)>,
    /// The clock.
    pub clock: Clock,
    /// This host's certificate: not before, not after; unix time, seconds.
    pub certificate: Known<(i64, i64)>,
    /// Where irmd keeps what it knows.
    pub state: Known<State>,
    /// Processes that hold flows, and the daemons.
    pub processes: Vec<Process>,
    /// The kernel and its settings.
    pub system: System,
}

/// Who looks, and when.
#[derive(Clone, Debug)]
pub struct Here {
    /// The user.
    pub uid: u32,
    /// The protocol version that this tool speaks.
    pub version: u32,
    /// Its build.
    pub build: String,
    /// Unix time, seconds.
    pub now: u64,
    /// systemd has a unit for irmd, and the run directory is the unit's.
    pub unit: bool,
}

/// A folder or file.
#[derive(Clone, Debug)]
pub struct Folder {
    /// Where.
    pub path: String,
    /// None: it does not exist.
    pub about: Option<Owner>,
}

/// Whose a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// Permissions, the lower twelve bits.
    pub mode: u32,
}

/// irmd, as far as it could be reached.
#[derive(Debug)]
pub enum Irmd {
    /// No run directory, so no irmd.
    Nowhere,
    /// No socket.
    Missing,
    /// A socket without a listener.
    Dead,
    /// A socket that this user may not use.
    Forbidden,
    /// It did not answer for so long, milliseconds; `pid` 0: not known. `stopped`: by a signal.
    Silent {
        /// Of who listens there.
        pid: u32,
        /// It is stopped.
        stopped: bool,
        /// How long it was waited for.
        ms: u64,
    },
    /// Something answered, and not as an irmd does.
    Strange(String),
    /// It answered.
    Up {
        /// Its own account.
        status: Box<v1::StatusReply>,
        /// Its user, as the kernel told it.
        uid: u32,
        /// How long that took, milliseconds.
        ms: u64,
    },
}

impl Irmd {
    /// Its account, where it answered.
    pub fn status(&self) -> Option<&v1::StatusReply> {
        match self {
            Self::Up { status, .. } => Some(status),
            _ => None,
        }
    }
}

/// An IPCP of irmd's list.
#[derive(Debug)]
pub struct Ipcp {
    /// What irmd says.
    pub info: v1::IpcpInfo,
    /// Its process is stopped by a signal.
    pub stopped: bool,
}

/// A socket `ipcp-NAME.sock` that irmd does not speak of.
#[derive(Debug)]
pub struct Stranger {
    /// The IPCP's name.
    pub name: String,
    /// The socket.
    pub socket: String,
    /// Somebody listens.
    pub alive: bool,
    /// Who, where that is known; else 0.
    pub pid: u32,
}

/// A network interface.
#[derive(Clone, Debug)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Switched on.
    pub up: bool,
    /// Has a carrier.
    pub running: bool,
    /// The loopback.
    pub loopback: bool,
    /// Bytes; 0: not known.
    pub mtu: u32,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// Who holds a socket.
#[derive(Clone, Debug)]
pub struct Holder {
    /// The socket's.
    pub inode: u64,
    /// The process.
    pub pid: u32,
    /// Its command.
    pub command: String,
}

/// What came of requests to a shim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// An extended shim answered, after so many microseconds.
    Answer(u64),
    /// A shim that speaks another version of the protocol did.
    OtherVersion(u8),
    /// A classic shim echoed.
    Echo,
    /// The port is closed.
    Closed,
    /// A router or this host said that there is no way; in the kernel's words.
    Unreachable(String),
    /// This host's own firewall forbids sending.
    Forbidden,
    /// Nothing came.
    Nothing,
    /// It could not be asked at all.
    Unasked(String),
}

/// Requests to one shim.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The IPCP it was asked for.
    pub ipcp: String,
    /// The shim.
    pub to: SocketAddr,
    /// Names that are to be there.
    pub names: Vec<String>,
    /// Requests sent.
    pub sent: u32,
    /// How long it was waited for, milliseconds.
    pub ms: u64,
    /// What came.
    pub heard: Heard,
}

/// What a layer's DNS said of a name that cannot be.
#[derive(Debug)]
pub struct Zone {
    /// The IPCP.
    pub ipcp: String,
    /// Its layer.
    pub layer: String,
    /// The zone.
    pub zone: String,
    /// Its answer; `Ok(None)`: none within the time. The error: why nobody was asked.
    pub said: Known<Option<v1::NameResolveReply>>,
    /// How long it was waited for, milliseconds.
    pub ms: u64,
}

/// The clock.
#[derive(Debug)]
pub struct Clock {
    /// Whether something keeps it right, by the kernel's word.
    pub synchronised: Known<bool>,
    /// A file of irmd's that was written in the future, and by how many seconds.
    pub ahead: Option<(String, u64)>,
}

/// The state directory.
#[derive(Clone, Debug)]
pub struct State {
    /// Where, and whose.
    pub folder: Folder,
    /// irmd's user.
    pub uid: u32,
    /// The file system is mounted read-only.
    pub read_only: bool,
    /// Where it is mounted.
    pub mount: String,
    /// Bytes that irmd's user may still write.
    pub free: u64,
    /// The host's key.
    pub key: Known<Folder>,
}

/// A process whose limits matter.
#[derive(Clone, Debug)]
pub struct Process {
    /// `irmd`, `ipcpd-udp`, or a program's command.
    pub program: String,
    /// Its number.
    pub pid: u32,
    /// A daemon of ours.
    pub daemon: bool,
    /// Flows it holds.
    pub flows: u32,
    /// How many descriptors it may have open, and how far it may raise that itself.
    pub limit: Known<(u64, u64)>,
    /// How many it has.
    pub open: Known<u64>,
    /// Since it started, milliseconds.
    pub age_ms: Known<u64>,
    /// Its program file was replaced or deleted.
    pub replaced: Known<bool>,
    /// Memory of its control group: used, limit; bytes. None: no limit.
    pub memory: Known<Option<(u64, u64)>>,
    /// The systemd unit that it belongs to, where it does.
    pub unit: Option<String>,
}

/// The kernel.
#[derive(Clone, Debug)]
pub struct System {
    /// Its release, as `uname -r` says.
    pub release: String,
    /// `net.core.` `rmem_max`, `wmem_max`, `rmem_default`, `wmem_default`: bytes.
    pub buffers: Vec<(&'static str, Known<u64>)>,
    /// UDP datagrams delivered, and lost to full queues, since boot (of this network).
    pub queues: Known<(u64, u64)>,
    /// UDP_SEGMENT can be set.
    pub segment: Known<bool>,
    /// UDP_GRO can be set.
    pub receive: Known<bool>,
    /// Entries of the table of connection tracking, and how many fit. None: there is none.
    pub conntrack: Known<Option<(u64, u64)>>,
    /// Settings that forbid user namespaces to ordinary users, with the value that allows them.
    pub no_user_namespaces: Option<(&'static str, &'static str)>,
    /// Settings that switch IPv6 off.
    pub no_ipv6: Vec<String>,
}
