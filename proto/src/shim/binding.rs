//! What binds a flow's handshake to the request and the answer that made it.
//!
//! SHA-256 over these, in this order; numbers in network order, text and data behind their length (2 bytes):
//!
//! ```text
//! "flowring binding 1", the name
//! the client's host id, boot id and id of the flow      8, 8, 8
//! source
//! cube, timeout ms, keep-alive ms                       1, 4, 4
//! the request's data
//! the server's host id, boot id and id of the flow      8, 8, 8
//! the answer's data
//! ```
//!
//! That is all that either program acts upon. Cookie, deadline, ports and *direct* are not of it: they are not the same
//! in every repetition.

use std::fmt;

use sha2::{Digest, Sha256};

use super::Extension;
use crate::{BootId, HostId, Name, WireId};

const DOMAIN: &[u8] = b"flowring binding 1";

/// What one side sent and the other heard, hashed: the same at both only if nobody changed it on the path. No secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Binding(pub [u8; 32]);

/// The first half of a [`Binding`]: what was asked.
#[derive(Clone, Debug)]
pub struct Asked(Sha256);

impl Asked {
    /// Of a request: as it is sent, or as it was heard.
    pub fn new(name: &Name, said: &Extension) -> Self {
        let mut hash = Sha256::new();
        put(&mut hash, DOMAIN);
        put(&mut hash, name.as_str().as_bytes());
        for number in [said.host.0, said.boot.0, said.client.0] {
            hash.update(number.to_be_bytes());
        }
        put(&mut hash, said.source.as_bytes());
        hash.update([said.qos.cube.code()]);
        hash.update(said.qos.timeout_ms.to_be_bytes());
        hash.update(said.qos.keepalive_ms.to_be_bytes());
        put(&mut hash, &said.data);
        Self(hash)
    }

    /// With the acceptance: who accepted, under which id of the flow, with which piggy-back.
    pub fn answered(&self, host: HostId, boot: BootId, server: WireId, data: &[u8]) -> Binding {
        let mut hash = self.0.clone();
        for number in [host.0, boot.0, server.0] {
            hash.update(number.to_be_bytes());
        }
        put(&mut hash, data);
        Binding(hash.finalize().into())
    }
}

fn put(hash: &mut Sha256, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).expect("names and data are bounded far below 64 KiB");
    hash.update(length.to_be_bytes());
    hash.update(bytes);
}

impl Binding {
    /// From the bytes of a message; `None` unless there are exactly 32.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for Binding {
    /// 64 lower-case hexadecimal digits, as the handshake carries it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Binding({self})")
    }
}
