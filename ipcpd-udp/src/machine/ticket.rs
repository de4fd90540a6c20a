//! Tickets: what a program shows to a restarted ipcpd to get its flow back. Sealed (HMAC-SHA-256) under a key that
//! only the ipcpd has, so a program cannot make itself a flow, or change the user, the peer or the ids of one.
//!
//! Layout, numbers in network order: version (1), flow id (8), our id (8), the peer's id (8), user (4), flags (1:
//! accepting, classic), cube (1), timeout (4), keep-alive (4), longest SDU (4), three addresses (local, peer, the
//! peer's listen port: family 4 or 6, address, port), the peer's host id and boot id (8, 8; 0 of a classic peer), the moment of the request (8: ms of the host's monotonic clock), name and
//! source (length 1, text), seal (32).

use std::net::{IpAddr, SocketAddr};

use handoff::kept::{self, Epoch, Reader, put_text};
use proto::{BootId, Cube, FlowId, HostId, Name, Qos, WireId};

use super::flow::Flow;
use super::liveness::Peer;
use super::rendezvous::punch::Way;

const VERSION: u8 = 3;
/// Without the moment of the request; taken still, from programs that a daemon of then gave it.
const AGELESS: u8 = 2;
/// A hand-over packet has room for tickets of 512 bytes; the source is for listings only and may be cut.
const LONGEST_SOURCE: usize = 92;

/// What a ticket says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// irmd's id of the flow.
    pub flow: FlowId,
    /// This side's random id.
    pub ours: WireId,
    /// The peer's.
    pub theirs: WireId,
    /// Whose flow it is.
    pub uid: u32,
    /// A program of this host accepted it.
    pub accepting: bool,
    /// The peer is a classic shim.
    pub classic: bool,
    /// What the peer's address is, where a rendezvous introduced the two.
    pub way: Option<Way>,
    /// What was asked of the flow.
    pub qos: Qos,
    /// Longest SDU, bytes.
    pub sdu_limit: u32,
    /// This end.
    pub local: SocketAddr,
    /// The peer's end.
    pub peer: SocketAddr,
    /// Where the peer's shim takes control datagrams.
    pub control: SocketAddr,
    /// The peer's host.
    pub host: HostId,
    /// The peer's ipcpd since its start.
    pub boot: BootId,
    /// When it was asked for, in the host's time ([`Epoch`]); 0: not known.
    pub born: u64,
    /// The name that was asked for.
    pub name: Name,
    /// Who asked.
    pub source: String,
}

impl Flow {
    pub(super) fn ticket(&self, epoch: Option<Epoch>) -> Ticket {
        Ticket {
            flow: self.id.unwrap_or_default(),
            ours: self.ours,
            theirs: self.theirs,
            uid: self.owner.uid,
            accepting: self.accepting,
            classic: self.classic,
            way: self.way,
            qos: self.qos,
            sdu_limit: self.sdu_limit,
            local: self.local.unwrap_or(self.control),
            peer: self.peer,
            control: self.control,
            host: self.of.unwrap_or_default().host,
            boot: self.of.unwrap_or_default().boot,
            born: epoch.map_or(0, |epoch| epoch.to_host(self.since)),
            name: self.name.clone(),
            source: proto::clip(&self.source, LONGEST_SOURCE).to_owned(),
        }
    }
}

impl Ticket {
    pub(super) fn of(&self) -> Option<Peer> {
        (!self.classic).then_some(Peer { host: self.host, boot: self.boot })
    }
}

/// The bytes of a ticket, with their seal.
pub fn seal(key: &[u8; 32], ticket: &Ticket) -> Vec<u8> {
    let mut out = vec![VERSION];
    for number in [ticket.flow.0, ticket.ours.0, ticket.theirs.0] {
        out.extend(number.to_be_bytes());
    }
    out.extend(ticket.uid.to_be_bytes());
    out.push(u8::from(ticket.accepting) | u8::from(ticket.classic) << 1 | way_code(ticket.way) << 2);
    out.push(ticket.qos.cube.code());
    for number in [ticket.qos.timeout_ms, ticket.qos.keepalive_ms, ticket.sdu_limit] {
        out.extend(number.to_be_bytes());
    }
    for address in [ticket.local, ticket.peer, ticket.control] {
        match address.ip() {
            IpAddr::V4(ip) => {
                out.push(4);
                out.extend(ip.octets());
            }
            IpAddr::V6(ip) => {
                out.push(6);
                out.extend(ip.octets());
            }
        }
        out.extend(address.port().to_be_bytes());
    }
    for number in [ticket.host.0, ticket.boot.0, ticket.born] {
        out.extend(number.to_be_bytes());
    }
    for text in [ticket.name.as_str(), &ticket.source] {
        put_text(&mut out, text);
    }
    kept::seal(key, out)
}

/// What a sealed ticket says; `None` for any other bytes.
pub fn open(key: &[u8; 32], sealed: &[u8]) -> Option<Ticket> {
    let mut body = kept::unseal(key, sealed)?;
    let [version] = body.array()?;
    if ![VERSION, AGELESS].contains(&version) {
        return None;
    }
    let [flow, ours, theirs] = [body.u64()?, body.u64()?, body.u64()?];
    let uid = body.u32()?;
    let [flags, cube] = body.array()?;
    let qos = Qos { cube: Cube::from_code(cube)?, timeout_ms: body.u32()?, keepalive_ms: body.u32()? };
    let ticket = Ticket {
        flow: FlowId(flow),
        ours: WireId(ours),
        theirs: WireId(theirs),
        uid,
        accepting: flags & 1 != 0,
        classic: flags & 2 != 0,
        way: way_of(flags >> 2),
        qos,
        sdu_limit: body.u32()?,
        local: address(&mut body)?,
        peer: address(&mut body)?,
        control: address(&mut body)?,
        host: HostId(body.u64()?),
        boot: BootId(body.u64()?),
        born: if version == AGELESS { 0 } else { body.u64()? },
        name: Name::new(body.text()?).ok()?,
        source: body.text()?.to_owned(),
    };
    body.is_empty().then_some(ticket)
}

/// Three bits; 0 in tickets of those who knew no rendezvous.
fn way_code(way: Option<Way>) -> u8 {
    match way {
        None => 0,
        Some(Way::Local) => 1,
        Some(Way::Public) => 2,
        Some(Way::Mapped) => 3,
        Some(Way::Relayed) => 4,
        Some(Way::Predicted) => 6,
    }
}

fn way_of(code: u8) -> Option<Way> {
    match code & 7 {
        1 => Some(Way::Local),
        2 => Some(Way::Public),
        3 => Some(Way::Mapped),
        4 => Some(Way::Relayed),
        6 => Some(Way::Predicted),
        _ => None,
    }
}

fn address(body: &mut Reader<'_>) -> Option<SocketAddr> {
    let ip: IpAddr = match body.array()? {
        [4] => body.array::<4>()?.into(),
        [6] => body.array::<16>()?.into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, body.u16()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ticket() -> Ticket {
        Ticket {
            flow: FlowId(7),
            ours: WireId(u64::MAX),
            theirs: WireId(3),
            uid: 1000,
            accepting: true,
            classic: false,
            way: None,
            qos: Qos { keepalive_ms: 15_000, ..Qos::raw() },
            sdu_limit: 1472,
            local: "[fd00::1]:40000".parse().unwrap(),
            peer: "[fd00::2]:40001".parse().unwrap(),
            control: "[fd00::2]:3359".parse().unwrap(),
            host: HostId(5),
            boot: BootId(6),
            born: 1 << 40,
            name: Name::new(&"n".repeat(255)).unwrap(),
            source: "s".repeat(LONGEST_SOURCE),
        }
    }

    #[test]
    fn only_the_sealed_bytes_open() {
        let key = [7; 32];
        let sealed = seal(&key, &ticket());
        assert!(sealed.len() <= handoff::server::MAX_TICKET, "{}", sealed.len());
        assert_eq!(open(&key, &sealed), Some(ticket()));
        assert_eq!(open(&[8; 32], &sealed), None);
        for at in 0..sealed.len() {
            let mut forged = sealed.clone();
            forged[at] ^= 1;
            assert_eq!(open(&key, &forged), None, "byte {at}");
            assert_eq!(open(&key, &sealed[..at]), None, "cut at {at}");
        }
    }

    proptest! {
        #[test]
        fn opening_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(open(&[1; 32], &bytes), None);
            // Past the seal, too: total over what a later version of ours may have sealed.
            let _ = open(&[1; 32], &kept::seal(&[1; 32], bytes));
        }
    }

    /// What daemons of earlier versions sealed, as they did: programs bring it to later ones.
    #[test]
    fn tickets_of_earlier_versions_stay_good() {
        let body = |version: u8, born: &[u8]| {
            let mut body = vec![version];
            for number in [7, u64::MAX, 3] {
                body.extend(number.to_be_bytes());
            }
            body.extend([0, 0, 3, 232, 1, 1, 0, 0, 0, 0, 0, 0, 58, 152, 0, 0, 5, 192]);
            for address in [[1, 0x9c, 0x40], [2, 0x9c, 0x41], [2, 0x0d, 0x1f]] {
                body.extend([6, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
                body.extend(address);
            }
            for number in [5u64, 6] {
                body.extend(number.to_be_bytes());
            }
            body.extend(born);
            body.extend(b"\x04echo\x02me");
            kept::seal(&[7; 32], body)
        };
        let said = Ticket { name: Name::new("echo").unwrap(), source: "me".into(), ..ticket() };
        assert_eq!(open(&[7; 32], &body(2, &[])), Some(Ticket { born: 0, ..said.clone() }));
        let third = body(3, &(1u64 << 40).to_be_bytes());
        assert_eq!(open(&[7; 32], &third), Some(said.clone()));
        assert_eq!(seal(&[7; 32], &said), third);
        assert_eq!(open(&[7; 32], &body(4, &[])), None);
    }
}
