//! What a configuration says: who may play, which ports lead to which servers, and how their datagrams are carried.
//!
//! Both grammars ([`super`]) make these values; host names in them are looked up at the server.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

/// Datagrams that wait at most where nothing is delayed.
const QUEUE: u16 = 64;
/// And for each millisecond of a delay: of a player who sends or is sent 2,000 a second none is dropped.
const QUEUE_PER_MS: u128 = 2;
/// The longest queue, whatever the delay.
pub const LONGEST_QUEUE: u16 = 4096;

/// A whole configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Who may send to the client side. The first that matches decides; where none does, nobody may.
    pub access: Vec<Access>,
    /// In order: the first that matches a player's first datagram has it.
    pub redirects: Vec<Redirect>,
    /// What holds for all of them.
    pub limits: Limits,
}

/// An entry of an access list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// What becomes of whom it matches.
    pub verdict: Verdict,
    /// The players' addresses.
    pub from: Net,
    /// The players' ports, both ends belong to it.
    pub ports: (u16, u16),
}

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// May play.
    Allow,
    /// May not.
    Deny,
}

/// Addresses: those that are the same as `host` in all bits of `mask`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Net {
    /// One of them.
    pub host: Host,
    /// As the original has it a mask may have holes. Of the same family as the address; all ones unless said. A host name
    /// has the mask of what it is looked up to: `None`, all ones.
    pub mask: Option<IpAddr>,
}

/// An address, or a name that is looked up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// An address.
    Address(IpAddr),
    /// A name.
    Named(String),
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The host.
    pub host: Host,
    /// The port.
    pub port: u16,
}

/// Datagrams to a port of the client side go to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// What the status and the log call it.
    pub name: String,
    /// The client machine whose it is; `None`: that which has the address `from`.
    pub on: Option<Host>,
    /// Where players send to. An unspecified address stands for all of the machine's.
    pub from: Place,
    /// The servers, one at least.
    pub to: Vec<Target>,
    /// Who may use it, of those that the whole configuration's list lets in. Empty: all of them.
    pub access: Vec<Access>,
    /// How its datagrams are carried.
    pub carriage: Carriage,
    /// Which of several servers a player gets.
    pub balance: Balance,
    /// Whether servers are asked if they live.
    pub health: Option<Health>,
    /// Which part of a player's datagrams picks the server. Players without a known one are refused.
    pub token: Option<TokenAt>,
    /// Everyone is delayed to the slowest player's round trip, by so much at most.
    pub fair_ping: Option<Duration>,
    /// How many players, how fast.
    pub limits: Limits,
}

/// A game server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where it is.
    pub place: Place,
    /// Its tokens, where the redirect has [`Redirect::token`].
    pub tokens: Vec<Vec<u8>>,
}

/// How datagrams of a redirect are carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carriage {
    /// From player to server.
    pub up: Way,
    /// From server to player.
    pub down: Way,
    /// When a route is over.
    pub prune: Prune,
    /// Each player has an own source address of 127.0.0.0/8 towards servers on the loopback.
    pub own_source: bool,
    /// Each datagram to the server begins with a header of the PROXY protocol, version 2.
    pub proxy_header: bool,
}

/// What happens to datagrams in one direction, on top of what the way itself does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Each waits for so long.
    pub delay: Duration,
    /// And for up to so long more, each by chance.
    pub jitter: Duration,
    /// So many of a million are lost.
    pub loss: u32,
    /// So many wait at most, of one player. `None`: as many as its delay asks for, see [`Self::room`].
    pub queue: Option<u16>,
    /// Which is dropped when more come.
    pub full: Full,
}

impl Way {
    /// How many of a player's datagrams wait at most, where each waits for `more` than the way says.
    ///
    /// A delayed datagram waits although nothing is in its way. A queue that holds fewer than come within the delay would drop each
    /// before its time, and let none through: the room grows with the delay.
    pub fn room(&self, more: Duration) -> u16 {
        let wished = (self.delay + self.jitter + more).as_millis().saturating_mul(QUEUE_PER_MS);
        let grown = u16::try_from(wished).unwrap_or(u16::MAX).saturating_add(QUEUE).min(LONGEST_QUEUE);
        self.queue.unwrap_or(grown)
    }
}

/// Which datagram is dropped when a queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Full {
    /// The oldest: late is worse than lost.
    #[default]
    DropOld,
    /// The one that came.
    DropNew,
}

/// When a route is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prune {
    /// After so long a silence.
    pub after: Duration,
    /// Of whom.
    pub of: Silence,
}

/// Whose silence ends a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Silence {
    /// Of one side, whatever the other does: a server that never stops sending keeps no dead player.
    #[default]
    Either,
    /// Of both.
    Both,
}

/// Which of several servers a player gets, among those that live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Balance {
    /// One after the other.
    #[default]
    RoundRobin,
    /// By the player's address: the same player the same server, as long as that lives.
    Hash,
    /// The one with the fewest players.
    LeastPlayers,
}

/// How servers are asked if they live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// What they are asked.
    pub query: Query,
    /// So often.
    pub every: Duration,
    /// So many unanswered in a row make one dead.
    pub fails: NonZeroU32,
}

/// What a server is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Query {
    /// Quake II's connectionless `status`, which QuakeWorld answers, too.
    Quake2,
    /// Quake III's connectionless `getstatus`, as all games of its engine answer.
    Quake3,
    /// Valve's `A2S_INFO`, as games of the Source engine and many others answer.
    Source,
}

/// Where in a datagram its token is; it is taken out before delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenAt {
    /// Its first so many bytes.
    Front(u8),
    /// Its last.
    Back(u8),
}

/// How many players, how fast. `None`: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Players at a time.
    pub players: Option<NonZeroU32>,
    /// Players at a time of one address.
    pub per_address: Option<NonZeroU32>,
    /// Players at a time of one client side (a flow).
    pub per_client: Option<NonZeroU32>,
    /// Datagrams a second of one player, a second's worth at once.
    pub rate: Option<NonZeroU32>,
}

/// Why a datagram was dropped, or a player not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Dropped {
    /// The access list does not let its sender in.
    Denied,
    /// No redirect is for it.
    NoRedirect,
    /// Its server's name is not known yet, or no server lives.
    NoServer,
    /// As many players are there as may be.
    TooManyPlayers,
    /// Its player sends more than may be.
    TooFast,
    /// It has no known token.
    NoToken,
    /// Its player's queue was full, and it the oldest (or newest, as was chosen).
    QueueFull,
    /// It waited in vain for room, for too long.
    Late,
    /// The configuration loses some.
    Lost,
    /// It does not fit what it has to go through.
    TooLong,
    /// Nobody listens at the server's port (ICMP said so).
    Unreachable,
    /// It belongs to no player that is there.
    NoPlayer,
    /// It is nothing that this program says.
    Malformed,
    /// No flow is there for now.
    NoFlow,
    /// The kernel refused it.
    Refused,
    /// Nobody new is let in: the proxy is being stopped.
    Stopping,
}

impl Dropped {
    /// All of them, each at the place of its number.
    pub const ALL: [Self; 16] = [
        Self::Denied,
        Self::NoRedirect,
        Self::NoServer,
        Self::TooManyPlayers,
        Self::TooFast,
        Self::NoToken,
        Self::QueueFull,
        Self::Late,
        Self::Lost,
        Self::TooLong,
        Self::Unreachable,
        Self::NoPlayer,
        Self::Malformed,
        Self::NoFlow,
        Self::Refused,
        Self::Stopping,
    ];

    /// In metrics and the status.
    pub fn label(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::NoRedirect => "no redirect",
            Self::NoServer => "no server",
            Self::TooManyPlayers => "too many players",
            Self::TooFast => "too fast",
            Self::NoToken => "no token",
            Self::QueueFull => "queue full",
            Self::Late => "late",
            Self::Lost => "lost on purpose",
            Self::TooLong => "too long",
            Self::Unreachable => "unreachable",
            Self::NoPlayer => "no player",
            Self::Malformed => "malformed",
            Self::NoFlow => "no flow",
            Self::Refused => "refused",
            Self::Stopping => "stopping",
        }
    }
}

impl Redirect {
    /// One as the original's statement makes it: everything else as it is by default.
    pub fn new(from: Place, to: Place) -> Self {
        Self {
            name: from.to_string(),
            on: None,
            from,
            to: vec![Target { place: to, tokens: Vec::new() }],
            access: Vec::new(),
            carriage: Carriage::default(),
            balance: Balance::default(),
            health: None,
            token: None,
            fair_ping: None,
            limits: Limits::default(),
        }
    }
}

impl Default for Way {
    fn default() -> Self {
        Self { delay: Duration::ZERO, jitter: Duration::ZERO, loss: 0, queue: None, full: Full::default() }
    }
}

impl Default for Prune {
    fn default() -> Self {
        Self { after: Duration::from_secs(10), of: Silence::default() }
    }
}

impl From<SocketAddr> for Place {
    fn from(address: SocketAddr) -> Self {
        Self { host: Host::Address(address.ip()), port: address.port() }
    }
}

impl Place {
    /// A place as it is written in TOML and on the command line: `HOST:PORT`, or where `any` address will do a port alone.
    ///
    /// # Errors
    /// What is wrong with it, in one sentence.
    pub fn parse(text: &str, any: bool) -> Result<Self, String> {
        super::toml::place(text, any)
    }

    /// Its address, where it is no name.
    pub fn address(&self) -> Option<SocketAddr> {
        match self.host {
            Host::Address(ip) => Some(SocketAddr::new(ip, self.port)),
            Host::Named(_) => None,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(ip) => ip.fmt(f),
            Self::Named(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host {
            Host::Address(ip) => SocketAddr::new(ip, self.port).fmt(f),
            Host::Named(ref name) => write!(f, "{name}:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_holds_what_comes_within_the_delay() {
        let ms = Duration::from_millis;
        let way = |delay: u64, jitter: u64| Way { delay: ms(delay), jitter: ms(jitter), ..Way::default() };
        assert_eq!(way(0, 0).room(ms(0)), 64);
        assert_eq!(way(100, 10).room(ms(5)), 64 + 230);
        assert_eq!(way(10_000, 10_000).room(ms(0)), LONGEST_QUEUE);
        assert_eq!(Way { queue: Some(3), ..way(100, 0) }.room(ms(0)), 3, "as was said");
    }

    #[test]
    fn each_reason_has_the_place_of_its_number() {
        for (place, dropped) in Dropped::ALL.into_iter().enumerate() {
            assert_eq!(dropped as usize, place);
        }
    }
}
