//! The ends of a rule, as they are written.
//!
//! | written | is |
//! |---|---|
//! | `7005` | a TCP port: where it listens, of all addresses; as a target, of this host |
//! | `10.0.0.1:7005`, `[fd00::1]:7005` | a TCP port of an address |
//! | `[fe80::1%eth0]:7005` | of a link-local address, with its interface's name or number |
//! | `*:7005`, `:7005` | as `7005` |
//! | `host.example:7005` | a TCP port of a host, found by its name |
//! | `8000-8099`, `10.0.0.1:8000-8099` | ports, the last included |
//! | `tcp:…` | any of the above |
//! | `udp:…` | the same of UDP |
//! | `unix:/path`, `unix:@name` | a Unix stream socket; with `@` in the abstract namespace |
//! | `flow:NAME` | a flow: served where it listens, allocated as a target |

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use proto::Name;

/// Longest host name, bytes (RFC 1035, 2.3.4, without the last dot).
const MAX_HOST: usize = 253;
/// Longest path of a Unix socket, bytes: `sun_path` without its NUL.
const MAX_PATH: usize = 107;

/// Longest name of an interface, bytes: `IFNAMSIZ` without its NUL.
const MAX_INTERFACE: usize = 15;

/// What may stand before an end's first colon.
const KINDS: [&str; 4] = ["tcp", "udp", "unix", "flow"];

/// One end of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// TCP.
    Tcp(Place),
    /// UDP.
    Udp(Place),
    /// A Unix stream socket. A path that begins with `@` is of the abstract namespace.
    Unix(PathBuf),
    /// A flow to, or the service of, a name.
    Flow(Name),
}

/// Ports of a host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Whose.
    pub host: Host,
    /// Which.
    pub ports: Ports,
}

/// A host, as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// None was written: all addresses of this host where it listens, its loopback as a target.
    This,
    /// An address; of IPv6 perhaps with its zone's number (`fe80::1%2`), else 0.
    Address(IpAddr, u32),
    /// An address of IPv6 with its zone's name, an interface of this host (`fe80::1%eth0`).
    Zoned(Box<(Ipv6Addr, String)>),
    /// A name, in small letters, whose addresses are looked up.
    Named(String),
}

/// Ports in a row, the last included. Never 0, never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ports {
    first: u16,
    last: u16,
}

/// Why some text is no end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndError {
    /// Nothing was written.
    #[error("nothing stands where an end should; write a port, ADDRESS:PORT, HOST:PORT, unix:/path or flow:NAME")]
    Empty,
    /// No port from 1 to 65535.
    #[error("'{0}' is no port; give a number from 1 to 65535, or two with a '-' between them")]
    Port(String),
    /// The last port is smaller than the first.
    #[error("the ports {0}-{1} go backwards; write {1}-{0}")]
    Backwards(u16, u16),
    /// An address or a host without a port.
    #[error("'{0}' has no port; write {0}:PORT")]
    NoPort(String),
    /// IPv6 without brackets.
    #[error("an IPv6 address needs brackets; write [{0}]:PORT")]
    Brackets(String),
    /// What stands in the brackets is no address.
    #[error("'{0}' is no IPv6 address")]
    Address(String),
    /// A link-local address alone, which every interface has.
    #[error("{0} is of one link; write [{0}%INTERFACE]:PORT, such as [{0}%eth0]:80")]
    Zone(Ipv6Addr),
    /// No host's name.
    #[error("'{0}' is no host; a host's name has letters, digits, '-' and dots between them, 253 characters at most")]
    Host(String),
    /// The path of a Unix socket.
    #[error("'{0}' is no path of a Unix socket; write unix:/path or unix:@name, 107 bytes at most")]
    Path(String),
    /// The name of a flow.
    #[error("'{0}' is no name of a flow: {1}")]
    Name(String, proto::NameError),
    /// A word before a colon that is neither a kind of end nor a host with a port.
    #[error("'{0}' is no kind of end; there are tcp:, udp:, unix: and flow:")]
    Kind(String),
}

impl Ports {
    /// From `first` to `last`, both included.
    pub fn new(first: u16, last: u16) -> Result<Self, EndError> {
        match (first, last) {
            (0, _) => Err(EndError::Port("0".to_owned())),
            _ if last < first => Err(EndError::Backwards(first, last)),
            _ => Ok(Self { first, last }),
        }
    }

    /// The first.
    pub fn first(self) -> u16 {
        self.first
    }

    /// The last.
    pub fn last(self) -> u16 {
        self.last
    }

    /// How many there are, 1 at least.
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(self) -> usize {
        usize::from(self.last - self.first) + 1
    }

    /// The port that stands `index` behind the first, if there are so many.
    pub fn get(self, index: usize) -> Option<u16> {
        (index < self.len()).then(|| self.first + u16::try_from(index).unwrap_or(u16::MAX))
    }

    /// All of them.
    pub fn iter(self) -> impl Iterator<Item = u16> {
        self.first..=self.last
    }
}

impl End {
    /// Its ports; `None` of Unix sockets and flows.
    pub fn ports(&self) -> Option<Ports> {
        match self {
            Self::Tcp(place) | Self::Udp(place) => Some(place.ports),
            Self::Unix(_) | Self::Flow(_) => None,
        }
    }

    /// The same end with this port alone; Unix sockets and flows as they are.
    pub fn with_port(&self, port: u16) -> Self {
        let only = |place: &Place| Place { host: place.host.clone(), ports: Ports { first: port, last: port } };
        match self {
            Self::Tcp(place) => Self::Tcp(only(place)),
            Self::Udp(place) => Self::Udp(only(place)),
            other => other.clone(),
        }
    }

    /// Datagrams go through it.
    pub fn is_udp(&self) -> bool {
        matches!(self, Self::Udp(_))
    }

    /// The host's name that is to be looked up.
    pub fn host_name(&self) -> Option<&str> {
        match self {
            Self::Tcp(Place { host: Host::Named(name), .. }) | Self::Udp(Place { host: Host::Named(name), .. }) => {
                Some(name)
            }
            _ => None,
        }
    }
}

impl FromStr for End {
    type Err = EndError;

    fn from_str(text: &str) -> Result<Self, EndError> {
        match text.split_once(':') {
            Some(("tcp", rest)) => place(rest).map(Self::Tcp),
            Some(("udp", rest)) => place(rest).map(Self::Udp),
            Some(("unix", path)) => socket_path(path).map(Self::Unix),
            Some(("flow", name)) => Name::new(name).map(Self::Flow).map_err(|e| EndError::Name(name.to_owned(), e)),
            _ => place(text).map(Self::Tcp),
        }
    }
}

fn socket_path(text: &str) -> Result<PathBuf, EndError> {
    let named = text.starts_with('/') || text.strip_prefix('@').is_some_and(|name| !name.is_empty());
    if named && text.len() > 1 && text.len() <= MAX_PATH && !text.contains('\0') {
        Ok(PathBuf::from(text))
    } else {
        Err(EndError::Path(text.to_owned()))
    }
}

fn place(text: &str) -> Result<Place, EndError> {
    if text.is_empty() {
        return Err(EndError::Empty);
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (inside, behind) = rest.split_once(']').ok_or_else(|| EndError::Address(text.to_owned()))?;
        let host = v6(inside).ok_or_else(|| EndError::Address(inside.to_owned()))?;
        let port = behind.strip_prefix(':').ok_or_else(|| EndError::NoPort(format!("[{inside}]")))?;
        if let Host::Address(IpAddr::V6(address), 0) = host
            && address.is_unicast_link_local()
        {
            return Err(EndError::Zone(address));
        }
        return Ok(Place { host, ports: ports(port)? });
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        // A number was meant to be a port, a word to be a host.
        let number = text.starts_with(|c: char| c.is_ascii_digit()) && !text.contains('.');
        return match number {
            true => Ok(Place { host: Host::This, ports: ports(text)? }),
            false if Host::from_str(text).is_ok() => Err(EndError::NoPort(text.to_owned())),
            false => Err(EndError::Host(text.to_owned())),
        };
    };
    if host.contains(':') {
        return Err(match (v6(text), host.split_once(':')) {
            (Some(_), _) => EndError::Brackets(text.to_owned()),
            (None, Some((kind, _))) if kind.chars().all(|c| c.is_ascii_alphabetic()) => EndError::Kind(kind.to_owned()),
            _ if v6(host).is_some() => EndError::Brackets(host.to_owned()),
            _ => EndError::Host(host.to_owned()),
        });
    }
    Ok(Place { host: host.parse()?, ports: ports(port)? })
}

/// An IPv6 address, perhaps with its zone's number or name.
fn v6(text: &str) -> Option<Host> {
    let Some((address, zone)) = text.split_once('%') else { return Some(Host::Address(text.parse().ok()?, 0)) };
    let address: Ipv6Addr = address.parse().ok()?;
    // As the kernel has them.
    let named = (1..=MAX_INTERFACE).contains(&zone.len())
        && zone.chars().all(|c| c != '/' && c != '%' && !c.is_whitespace() && !c.is_control());
    match zone.parse() {
        Ok(number) => Some(Host::Address(address.into(), number)),
        Err(_) if named && !zone.bytes().all(|b| b.is_ascii_digit()) => {
            Some(Host::Zoned(Box::new((address, zone.to_owned()))))
        }
        Err(_) => None,
    }
}

fn ports(text: &str) -> Result<Ports, EndError> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let value = if digits { text.parse::<u16>().ok() } else { None };
        value.filter(|port| *port > 0).ok_or_else(|| EndError::Port(text.to_owned()))
    };
    match text.split_once('-') {
        Some((first, last)) => Ports::new(number(first)?, number(last)?),
        None => number(text).map(|port| Ports { first: port, last: port }),
    }
}

impl FromStr for Host {
    type Err = EndError;

    fn from_str(text: &str) -> Result<Self, EndError> {
        if text.is_empty() || text == "*" {
            return Ok(Self::This);
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Address(address, 0));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let label = |label: &str| {
            let letters = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
            (1..=63).contains(&label.len()) && letters && !label.starts_with('-') && !label.ends_with('-')
        };
        // What looks like an address and is none is not looked up as a name: 10.0.0.256.
        let numbers = name.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        match name.len() <= MAX_HOST && !numbers && name.split('.').all(label) {
            true => Ok(Self::Named(name.to_ascii_lowercase())),
            false => Err(EndError::Host(text.to_owned())),
        }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => write!(f, "{}", self.first),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::This => write!(f, "{}", self.ports),
            Host::Address(IpAddr::V6(address), 0) => write!(f, "[{address}]:{}", self.ports),
            Host::Address(IpAddr::V6(address), zone) => write!(f, "[{address}%{zone}]:{}", self.ports),
            Host::Address(address, _) => write!(f, "{address}:{}", self.ports),
            Host::Zoned(zoned) => write!(f, "[{}%{}]:{}", zoned.0, zoned.1, self.ports),
            Host::Named(name) => write!(f, "{name}:{}", self.ports),
        }
    }
}

/// As it is written; parsed again it is the same.
impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A host that is called as a kind of end is.
            Self::Tcp(Place { host: Host::Named(name), ports }) if KINDS.contains(&name.as_str()) => {
                write!(f, "tcp:{name}:{ports}")
            }
            Self::Tcp(place) => write!(f, "{place}"),
            Self::Udp(place) => write!(f, "udp:{place}"),
            Self::Unix(path) => write!(f, "unix:{}", Path::display(path)),
            Self::Flow(name) => write!(f, "flow:{name}"),
        }
    }
}

#[cfg(test)]
#[path = "end_tests.rs"]
mod tests;
