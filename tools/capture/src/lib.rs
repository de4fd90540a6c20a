//! Captures of packets: files read and written, and packets read down to their UDP datagrams. Bytes in, values out.
//!
//! * [`Reader`]: pcap ([draft-ietf-opsawg-pcap]) and pcapng ([draft-ietf-opsawg-pcapng]) of either byte order, packet
//!   by packet as they come.
//! * [`datagram`]: what of a packet is a UDP datagram.
//! * [`Pcapng`]: a pcapng file, written; [`Label`]: what it says of the flow that it is about.
//! * [`datagrams`]: a packet that the kernel has not cut and checksummed yet, as those that go over the wire.
//!
//! * [`sent`]: all UDP datagrams of a file that is known to be small.
//!
//! It knows nothing of what datagrams carry: that is `proto`'s.
//!
//! [draft-ietf-opsawg-pcap]: https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcap/
//! [draft-ietf-opsawg-pcapng]: https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcapng/

mod file;
mod label;
mod offload;
mod udp;
mod write;

use std::net::SocketAddr;

pub use file::{Item, Packet, ReadError, Reader};
pub use label::Label;
pub use offload::{Offload, datagrams};
pub use udp::{Datagram, Link, Other, datagram};
pub use write::{Direction, Interface, Pcapng};

/// Longest packet that is captured, bytes: what a kernel may put together of many before it cuts them.
pub const LONGEST: usize = 1 << 18;

/// A UDP datagram of a file, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Where it comes from.
    pub from: SocketAddr,
    /// Where it goes.
    pub to: SocketAddr,
    /// What it carries.
    pub payload: Vec<u8>,
    /// Which way it went, where the file says so.
    pub direction: Option<Direction>,
}

/// All whole UDP datagrams of a file in their order; other packets are passed over. Keeps them all in memory.
///
/// # Errors
/// Where the file is damaged, cut off or none.
pub fn sent(file: &[u8]) -> Result<Vec<Sent>, ReadError> {
    let mut reader = Reader::new(file)?;
    let mut all = Vec::new();
    while let Some(item) = reader.next_item()? {
        let Item::Packet(Packet { link, data, direction, .. }) = item else { continue };
        if let Ok(found) = datagram(link, data)
            && found.is_whole()
        {
            all.push(Sent { from: found.from, to: found.to, payload: found.payload.to_vec(), direction });
        }
    }
    Ok(all)
}
