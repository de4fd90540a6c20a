//! Requests for a name that nobody has: a shim answers them at once and keeps nothing.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use proto::shim::{Answer, DATAGRAM, Extension, Request};
use proto::{BootId, HostId, Name, Qos, WireId};

use crate::machine::doctor::facts::{Heard, Probe};

/// When requests are sent after the first, and when that is enough.
const AGAIN: [Duration; 2] = [Duration::from_millis(300), Duration::from_millis(800)];
pub(super) const ENOUGH: Duration = Duration::from_millis(1_400);

/// The name that is asked for, begun so that whoever sees it in a log or a capture knows where it is from.
pub(super) const NAME: &str = "flowring-doctor.";

/// Whom to ask, from which address.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) ipcp: String,
    pub(super) from: IpAddr,
    pub(super) to: SocketAddr,
    pub(super) names: Vec<String>,
}

/// Asks, and waits for an answer; blocks for [`ENOUGH`] at most, and not beyond `last`.
#[expect(clippy::disallowed_methods, reason = "sends and waits by the clock")]
pub(super) fn ask(question: Question, last: Instant) -> Probe {
    let began = Instant::now();
    let last = last.min(began + ENOUGH);
    let mut sent = 0;
    let heard = exchange(&question, began, last, &mut sent).unwrap_or_else(Heard::Unasked);
    let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    Probe { ipcp: question.ipcp, to: question.to, names: question.names, sent, ms, heard }
}

fn exchange(question: &Question, began: Instant, last: Instant, sent: &mut u32) -> Result<Heard, String> {
    let socket = open(question.from).map_err(|error| format!("no socket at {}: {error}", question.from))?;
    let (name, id, request) = request()?;
    let mut due = AGAIN.iter().map(|after| began + *after).filter(|due| *due < last).chain([last]);
    let mut until = began;
    let mut closed = 0;
    let mut buffer = [0; DATAGRAM + 1];
    loop {
        if left(until).is_zero() {
            let Some(next) = due.next() else { return Ok(Heard::Nothing) };
            until = next;
            if let Err(error) = socket.send_to(&request, question.to) {
                match told(&error) {
                    Some(Heard::Closed) => closed += 1,
                    Some(heard) => return Ok(heard),
                    None => return Err(format!("sending to {}: {error}", question.to)),
                }
            }
            *sent += 1;
        }
        // A timeout of nothing would be none at all.
        socket.set_read_timeout(Some(left(until).max(Duration::from_millis(1)))).map_err(|error| error.to_string())?;
        match socket.recv_from(&mut buffer) {
            Ok((length, from)) => {
                let bytes = buffer.get(..length).unwrap_or_default();
                if let Some(heard) = (from.ip() == question.to.ip()).then(|| answer(bytes, &name, id, began)).flatten()
                {
                    return Ok(heard);
                }
            }
            Err(error) => match told(&error) {
                // One may be of a shim that is just starting.
                Some(Heard::Closed) => closed += 1,
                Some(heard) => return Ok(heard),
                None if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) => {}
                None => return Err(format!("waiting for {}: {error}", question.to)),
            },
        }
        if closed > 1 {
            return Ok(Heard::Closed);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "waits by the clock")]
fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}

/// Unconnected, because a shim of 2016 answers from another port; told of ICMP all the same.
#[expect(clippy::disallowed_methods, reason = "the doctor's own socket")]
fn open(from: IpAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((from, 0))?;
    match from {
        IpAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?,
        IpAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?,
    }
    Ok(socket)
}

#[expect(clippy::disallowed_methods, reason = "draws ids")]
fn request() -> Result<(Name, WireId, Vec<u8>), String> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| error.to_string())?;
    let number = u128::from_ne_bytes(random);
    let (client, host) = (WireId(number as u64 | 1), HostId((number >> 64) as u64 | 1));
    let name = Name::new(&format!("{NAME}{client}")).map_err(|error| error.to_string())?;
    let extension = Extension {
        host,
        boot: BootId(host.0),
        client,
        source: String::new(),
        qos: Qos::default(),
        deadline_ms: u32::try_from(ENOUGH.as_millis()).unwrap_or(u32::MAX),
        listen_port: proto::shim::PORT,
        direct: false,
        data: Vec::new(),
        cookie: Vec::new(),
    };
    let bytes = Request::Extended(name.clone(), extension).encode();
    Ok((name, client, bytes))
}

fn answer(bytes: &[u8], name: &Name, id: WireId, began: Instant) -> Option<Heard> {
    match Answer::decode(bytes, name).ok()? {
        // Whatever it says: a shim is there and hears.
        Answer::Extended { client, .. } if client == id => {
            Some(Heard::Answer(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX)))
        }
        Answer::OtherVersion { version, client } if client == id => Some(Heard::OtherVersion(version)),
        Answer::ClassicEcho => Some(Heard::Echo),
        Answer::Returned(client) if client == id => Some(Heard::Echo),
        _ => None,
    }
}

/// What an error of the socket says of the peer; None: nothing.
fn told(error: &io::Error) -> Option<Heard> {
    match error.kind() {
        ErrorKind::ConnectionRefused => Some(Heard::Closed),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => {
            Some(Heard::Unreachable(words(error)))
        }
        ErrorKind::PermissionDenied => match error.raw_os_error() {
            // EACCES is what a router's "prohibited" becomes.
            Some(libc::EPERM) => Some(Heard::Forbidden),
            _ => Some(Heard::Unreachable("a router on the way forbids it".to_owned())),
        },
        _ => None,
    }
}

/// The kernel's words without their number.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// Any address of a family.
pub(super) fn any(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}
