//! Datagrams with a source of the sender's choice.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result, ensure};
use lab::Host;
use rustix::net::{AddressFamily, Protocol, SendFlags, SocketFlags, SocketType, ipproto, sendto, socket_with};

/// Forges datagrams from a host of the lab.
pub struct Forger(OwnedFd);

impl Forger {
    /// A raw socket at `host`.
    pub fn at(host: &Host) -> Result<Self> {
        let raw: Protocol = ipproto::RAW;
        let socket = host
            .inside(move || socket_with(AddressFamily::INET, SocketType::RAW, SocketFlags::CLOEXEC, Some(raw)))?
            .context("a raw socket; namespaces give the right to it")?;
        Ok(Self(socket))
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
