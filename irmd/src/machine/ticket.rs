//! Tickets of local flows: what a program shows to a restarted irmd, with its end of the pair, to have the flow listed
//! again. Sealed under a key that only irmd has: a program cannot make itself a flow, or change the user or the peer of
//! one.
//!
//! Layout, numbers in network order: version (1), the row's id (8), the accepting end's id (8), flags (1: accepting end; 2: message flow; 4: stream
//! flow), user (4), the socket's cookie (8), the moment of the request (8: ms of the host's monotonic clock), timeout (4),
//! keep-alive (4), name and source (length 1, text), seal (32).

use handoff::kept::{self, put_text};
use proto::v1::Cube;
use proto::{FlowId, Name};

/// What every ticket begins with; earlier versions stay good.
const VERSION: u8 = 1;
const ACCEPTING: u8 = 1;
const MESSAGE: u8 = 2;
const STREAM: u8 = 4;
/// The source is for listings only.
const LONGEST_SOURCE: usize = 100;

/// What a ticket says of one end of a local flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The asking end's id, which is the row's.
    pub row: FlowId,
    /// The accepting end's.
    pub peer: FlowId,
    /// It is the accepting end.
    pub accepting: bool,
    /// Whose end it is.
    pub uid: u32,
    /// The kernel's number of the end's socket (SO_COOKIE): never given twice while the host runs.
    pub cookie: u64,
    /// When the flow was asked for, in the host's time ([`kept::Epoch`]).
    pub born: u64,
    /// What was asked of the flow: timeout and keep-alive, ms.
    pub timeouts: [u32; 2],
    /// The kind of flow.
    pub cube: Cube,
    /// The name that was asked for.
    pub name: Name,
    /// Who asked; may be empty.
    pub source: String,
}

impl Ticket {
    /// The id of the end.
    pub fn end(&self) -> FlowId {
        if self.accepting { self.peer } else { self.row }
    }

    /// The bytes of the ticket, with their seal.
    pub fn seal(&self, key: &[u8; kept::KEY]) -> Vec<u8> {
        let mut out = vec![VERSION];
        for number in [self.row.0, self.peer.0] {
            out.extend(number.to_be_bytes());
        }
        let cube = match self.cube {
            Cube::Unspecified | Cube::Raw => 0,
            Cube::Message => MESSAGE,
            Cube::Stream => STREAM,
        };
        out.push(u8::from(self.accepting) | cube);
        out.extend(self.uid.to_be_bytes());
        for number in [self.cookie, self.born] {
            out.extend(number.to_be_bytes());
        }
        for number in self.timeouts {
            out.extend(number.to_be_bytes());
        }
        put_text(&mut out, self.name.as_str());
        put_text(&mut out, proto::clip(&self.source, LONGEST_SOURCE));
        kept::seal(key, out)
    }

    /// What sealed bytes say; `None` for any others.
    pub fn open(key: &[u8; kept::KEY], sealed: &[u8]) -> Option<Self> {
        let mut body = kept::unseal(key, sealed)?;
        let [version] = body.array()?;
        if version != VERSION {
            return None;
        }
        let (row, peer) = (FlowId(body.u64()?), FlowId(body.u64()?));
        let [flags] = body.array()?;
        let ticket = Self {
            row,
            peer,
            accepting: flags & ACCEPTING != 0,
            cube: match flags & !ACCEPTING {
                0 => Cube::Raw,
                MESSAGE => Cube::Message,
                STREAM => Cube::Stream,
                _ => return None,
            },
            uid: body.u32()?,
            cookie: body.u64()?,
            born: body.u64()?,
            timeouts: [body.u32()?, body.u32()?],
            name: Name::new(body.text()?).ok()?,
            source: body.text()?.to_owned(),
        };
        let sound = body.is_empty() && ticket.row != ticket.peer && ticket.row.0 > 0 && ticket.peer.0 > 0;
        sound.then_some(ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ticket() -> Ticket {
        Ticket {
            row: FlowId(7),
            peer: FlowId(8),
            accepting: true,
            uid: 1000,
            cookie: 1 << 50,
            born: 5_000,
            timeouts: [30_000, 0],
            cube: Cube::Raw,
            name: Name::new("echo").unwrap(),
            source: "me".into(),
        }
    }

    #[test]
    fn only_the_sealed_bytes_open() {
        let key = [7; 32];
        let longest = Ticket { name: Name::new(&"n".repeat(255)).unwrap(), source: "s".repeat(100), ..ticket() };
        let stream = Ticket { cube: Cube::Stream, ..ticket() };
        let message = Ticket { cube: Cube::Message, accepting: false, ..ticket() };
        for ticket in [ticket(), longest, stream, message, Ticket { accepting: false, ..ticket() }] {
            let sealed = ticket.seal(&key);
            assert!(sealed.len() <= handoff::server::MAX_TICKET, "{}", sealed.len());
            assert_eq!(Ticket::open(&key, &sealed), Some(ticket));
            assert_eq!(Ticket::open(&[8; 32], &sealed), None);
            for at in 0..sealed.len() {
                let mut forged = sealed.clone();
                forged[at] ^= 1;
                assert_eq!(Ticket::open(&key, &forged), None, "byte {at}");
                assert_eq!(Ticket::open(&key, &sealed[..at]), None, "cut at {at}");
            }
        }
        assert_eq!((ticket().end(), Ticket { accepting: false, ..ticket() }.end()), (FlowId(8), FlowId(7)));
    }

    /// As this version sealed it: programs bring it to later ones.
    #[test]
    fn a_ticket_of_this_version_stays_good() {
        let mut body = vec![1, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 8, 1, 0, 0, 3, 232];
        body.extend([0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x13, 0x88, 0, 0, 0x75, 0x30, 0, 0, 0, 0]);
        body.extend(b"\x04echo\x02me");
        let sealed = kept::seal(&[7; 32], body);
        assert_eq!(Ticket::open(&[7; 32], &sealed), Some(ticket()));
        assert_eq!(ticket().seal(&[7; 32]), sealed);
    }

    proptest! {
        #[test]
        fn opening_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(Ticket::open(&[1; 32], &bytes), None);
            let _ = Ticket::open(&[1; 32], &kept::seal(&[1; 32], bytes));
        }
    }
}
