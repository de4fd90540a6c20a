//! The header of an allocation extension: 40 bytes, numbers in network order.
//!
//! ```text
//!  0  4  "Flow"
//!  4  1  version, 1
//!  5  1  kind: 1 request, 2 answer
//!  6  2  length of header and fields, bytes
//!  8  8  host id of the sender
//! 16  8  boot id of the sender
//! 24  8  the client's id of the flow
//! 32  8  the server's id of the flow; 0 in a request
//! ```

use super::Malformed;
use crate::{BootId, HostId, WireId};

/// First bytes of every extension and, after a NUL, of every control datagram.
pub const MAGIC: [u8; 4] = *b"Flow";

/// Version of the extension and of the control datagrams.
pub const VERSION: u8 = 1;

pub(super) const LENGTH: usize = 40;
/// Where the client's id stands; part of [`super::answer_prefix`].
pub(super) const CLIENT_ID: usize = 24;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Request,
    Answer,
}

pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) host: HostId,
    pub(super) boot: BootId,
    pub(super) client: WireId,
    pub(super) server: WireId,
}

pub(super) enum Read<'a> {
    /// A header of this version and the bytes of its fields.
    This(Header, &'a [u8]),
    /// Another version's; its first 8 bytes and the client's id keep their place in every version.
    Other { version: u8, client: WireId },
}

impl Header {
    pub(super) fn write(&self, fields: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC);
        out.push(VERSION);
        out.push(match self.kind {
            Kind::Request => 1,
            Kind::Answer => 2,
        });
        let length = u16::try_from(LENGTH + fields.len()).expect("fields are bounded far below 64 KiB");
        out.extend_from_slice(&length.to_be_bytes());
        for number in [self.host.0, self.boot.0, self.client.0, self.server.0] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(fields);
    }

    /// Reads what follows the name's NUL. `None`: no extension, so the sender is a classic shim.
    pub(super) fn read(bytes: &[u8]) -> Result<Option<Read<'_>>, Malformed> {
        if !bytes.starts_with(&MAGIC) {
            return Ok(None);
        }
        let fixed: &[u8; LENGTH] = bytes.first_chunk().ok_or(Malformed::Truncated)?;
        let number = |at: usize| u64::from_be_bytes(fixed[at..at + 8].try_into().expect("8 bytes"));
        let client = WireId(number(CLIENT_ID));
        if fixed[4] != VERSION {
            return Ok(Some(Read::Other { version: fixed[4], client }));
        }
        let kind = match fixed[5] {
            1 => Kind::Request,
            2 => Kind::Answer,
            _ => return Err(Malformed::Header),
        };
        let length = usize::from(u16::from_be_bytes([fixed[6], fixed[7]]));
        if length < LENGTH {
            return Err(Malformed::Header);
        }
        let fields = bytes.get(LENGTH..length).ok_or(Malformed::Truncated)?;
        let header =
            Self { kind, host: HostId(number(8)), boot: BootId(number(16)), client, server: WireId(number(32)) };
        Ok(Some(Read::This(header, fields)))
    }
}
