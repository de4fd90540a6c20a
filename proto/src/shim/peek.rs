//! A look at a request that costs next to nothing.

use super::header::{Header, Kind, Read};
use super::{DATAGRAM, field};
use crate::WireId;

/// What a server under load reads of an extended request before it spends anything on it. Only
/// [`Request::decode`](super::Request::decode) says whether the rest makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peek<'a> {
    /// The name asked for, not checked.
    pub name: &'a [u8],
    /// The client's id of the flow.
    pub client: WireId,
    /// The cookie, empty without one; not checked.
    pub cookie: &'a [u8],
}

impl<'a> Peek<'a> {
    /// Looks at a datagram that arrived on the listen port. `None`: no extended request of this version, or one
    /// that is not padded to [`DATAGRAM`] bytes.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        if bytes.len() != DATAGRAM {
            return None;
        }
        let end = bytes.iter().take(crate::Name::MAX + 1).position(|&byte| byte == 0)?;
        let (name, rest) = (&bytes[..end], &bytes[end + 1..]);
        let Ok(Some(Read::This(Header { kind: Kind::Request, client, .. }, fields))) = Header::read(rest) else {
            return None;
        };
        let mut cookie: &[u8] = &[];
        let take = |kind, value| {
            if kind == field::COOKIE {
                cookie = value;
            }
            true
        };
        field::each(fields, take).ok()?;
        Some(Self { name, client, cookie })
    }
}
