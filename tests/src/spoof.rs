//! Datagrams with a source of the sender's choice.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result, ensure};
use lab::Host;
use proto::shim::{Extension, PORT, Request};
use proto::{BootId, HostId, Name, Qos, WireId};
use rustix::net::{AddressFamily, Protocol, SendFlags, SocketFlags, SocketType, ipproto, sendto, socket_with};

/// Forges datagrams from a host of the lab.
pub struct Forger(OwnedFd);

impl Forger {
    /// A raw socket at `host`.
    pub fn at(host: &Host) -> Result<Self> {
        host.inside(Self::here)?
    }

    /// A raw socket in this thread's network.
    pub fn here() -> Result<Self> {
        let raw: Protocol = ipproto::RAW;
        let socket = socket_with(AddressFamily::INET, SocketType::RAW, SocketFlags::CLOEXEC, Some(raw));
        Ok(Self(socket.context("a raw socket; namespaces give the right to it")?))
    }

    /// Sends `payload` to `to` as if it came from `from`.
    pub fn send(&self, from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Result<()> {
        let packet = packet(from, to, payload)?;
        let sent = sendto(&self.0, &packet, SendFlags::empty(), &to).context("a forged datagram")?;
        ensure!(sent == packet.len(), "a forged datagram was cut");
        Ok(())
    }
}

/// An IPv4 packet with a UDP datagram. The kernel fills the header's checksum and length in; no UDP checksum.
fn packet(from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Result<Vec<u8>> {
    let udp_length = u16::try_from(8 + payload.len())?;
    let mut packet = vec![0x45, 0];
    packet.extend_from_slice(&(20 + udp_length).to_be_bytes());
    packet.extend_from_slice(&[0, 0, 0, 0, 64, 17, 0, 0]);
    let address = |ip: &Ipv4Addr| ip.octets();
    packet.extend_from_slice(&address(from.ip()));
    packet.extend_from_slice(&address(to.ip()));
    for number in [from.port(), to.port(), udp_length, 0] {
        packet.extend_from_slice(&number.to_be_bytes());
    }
    packet.extend_from_slice(payload);
    Ok(packet)
}

/// Well-formed requests for a name, no two from the same source, for a shim that is to be flooded.
pub struct Forgeries {
    to: SocketAddrV4,
    request: Vec<u8>,
    client_id: usize,
    state: u64,
}

impl Forgeries {
    /// Requests for `name` to the shim at `to`; `extended`, or bare names as of 2016.
    pub fn new(to: SocketAddrV4, name: &str, extended: bool) -> Result<Self> {
        let name = Name::new(name)?;
        let client_id = name.as_str().len() + 1 + 24;
        let extension = Extension {
            host: HostId(1),
            boot: BootId(2),
            client: WireId(3),
            source: "forged".into(),
            qos: Qos::raw(),
            deadline_ms: 5_000,
            listen_port: PORT,
            data: Vec::new(),
            direct: false,
            cookie: Vec::new(),
        };
        let request = if extended { Request::Extended(name, extension) } else { Request::Classic(name) };
        Ok(Self { to, request: request.encode(), client_id, state: 0x2545_f491_4f6c_dd1d })
    }

    /// Sends the next one.
    pub fn send(&mut self, forger: &Forger) -> Result<()> {
        for shift in [13, -7, 17] {
            self.state ^= if shift < 0 { self.state >> 7 } else { self.state << shift };
        }
        let random = self.state.to_be_bytes();
        if let Some(id) = self.request.get_mut(self.client_id..self.client_id + 8) {
            id.copy_from_slice(&random);
        }
        // Neither the lab's own 10.0.0.0/8 nor loopback.
        let address = Ipv4Addr::new(11 + random[0] % 110, random[1], random[2], random[3]);
        let port = 1024 + u16::from_be_bytes([random[4], random[5]]) % 60_000;
        forger.send(SocketAddrV4::new(address, port), self.to, &self.request)
    }
}
