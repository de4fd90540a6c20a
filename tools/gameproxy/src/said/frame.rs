//! What goes between the two sides: one SDU of a message flow each, byte for byte as docs/gameproxy.md says; and the
//! original's encapsulation for byte streams.
//!
//! ```text
//! datagram   4 or 6 · orig ip (4 or 16) · client ip (4 or 16) · client port (4) · orig port (4) · data
//! end        1 · reason (1) · 4 or 6 · the same four words
//! ask        5 · 0 · 4 or 6 · the same four words
//! ping       2 · 8 bytes           pong   3 · the same 8 bytes
//! piece      7 · number (4) · place (1) · pieces (1) · bytes (of a datagram as above that fits no SDU)
//! control    16 · …                (what the server side tells the client side)
//!
//! byte stream   length (4) · orig ip (4) · client ip (4) · client port (4) · orig port (4) · data
//! ```
//! Words are in network order; the length counts everything but itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use thiserror::Error;

/// Where a player comes from and what it speaks to: with the flow that it comes through, the seed's quadruple.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Player {
    /// The address and port of the client side that the player speaks to.
    pub orig: SocketAddr,
    /// The player's own.
    pub client: SocketAddr,
}

impl Player {
    /// As the other side names it: without the link that an IPv6 address may be of.
    pub fn as_said(&self) -> Self {
        let plain = |address: SocketAddr| SocketAddr::new(address.ip(), address.port());
        Self { orig: plain(self.orig), client: plain(self.client) }
    }
}

/// The most that stands before the data, of an SDU or in a byte stream.
pub const HEAD: usize = 1 + 16 + 16 + 4 + 4;
/// What stands before the bytes of a piece.
pub const PIECE_HEAD: usize = 1 + 4 + 1 + 1;
/// The four words of the byte stream, which its length counts.
pub const WORDS: usize = 16;
/// The longest data of a datagram: that of UDP over IPv4 and IPv6.
pub const LONGEST: usize = 65_527;

const V4: u8 = 4;
const V6: u8 = 6;
const END: u8 = 1;
const PING: u8 = 2;
const PONG: u8 = 3;
const ASK: u8 = 5;
const PIECE: u8 = 7;
const CONTROL: u8 = 16;

/// An SDU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said<'a> {
    /// A game datagram, to or from a player.
    Datagram(Player, &'a [u8]),
    /// A player is gone, for this reason ([`crate::machine::routes::Over`]'s number).
    End(Player, u8),
    /// Whether the other side knows this player; one that does not says [`Self::End`].
    Ask(Player),
    /// To be answered at once.
    Ping(u64),
    /// The answer.
    Pong(u64),
    /// Of a datagram that fits no SDU.
    Piece(Piece<'a>),
    /// What the server side tells the client side about its configuration, and is told.
    Control(&'a [u8]),
}

/// A part of a [`Said::Datagram`], of its tag, words and data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Which datagram's, counted by who sends.
    pub number: u32,
    /// Which of its pieces, from 0.
    pub place: u8,
    /// How many it has.
    pub count: u8,
    /// Of all but the last as many.
    pub bytes: &'a [u8],
}

/// Why bytes are nothing that is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// Shorter than its kind is.
    #[error("it is cut off")]
    Short,
    /// Longer than its kind is.
    #[error("it goes on after its end")]
    Long,
    /// Its kind is none.
    #[error("{0} is no kind of SDU between gameproxies")]
    Kind(u8),
    /// A port has more than 16 bits.
    #[error("{0} is no port")]
    Port(u32),
    /// A length is none of the original's encapsulation: the stream cannot be read on.
    #[error("{0} is no length of an encapsulated datagram; is it a gameproxy or rq2proxy that speaks there?")]
    Length(u32),
}

impl<'a> Said<'a> {
    /// Reads an SDU.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(sdu: &'a [u8]) -> Result<Self, Malformed> {
        let (&kind, rest) = sdu.split_first().ok_or(Malformed::Short)?;
        match kind {
            V4 | V6 => {
                let (player, data) = words(kind, rest)?;
                Ok(Self::Datagram(player, data))
            }
            END | ASK => {
                let (head, rest) = rest.split_at_checked(2).ok_or(Malformed::Short)?;
                match words(head[1], rest)? {
                    (player, []) if kind == ASK => Ok(Self::Ask(player)),
                    (player, []) => Ok(Self::End(player, head[0])),
                    _ => Err(Malformed::Long),
                }
            }
            PING | PONG => {
                let bytes: [u8; 8] = match rest.len() {
                    0..8 => return Err(Malformed::Short),
                    8 => rest.try_into().map_err(|_| Malformed::Short)?,
                    _ => return Err(Malformed::Long),
                };
                let number = u64::from_be_bytes(bytes);
                Ok(if kind == PING { Self::Ping(number) } else { Self::Pong(number) })
            }
            PIECE => {
                let (&[a, b, c, d, place, count], bytes) = rest.split_first_chunk().ok_or(Malformed::Short)?;
                Ok(Self::Piece(Piece { number: u32::from_be_bytes([a, b, c, d]), place, count, bytes }))
            }
            CONTROL => Ok(Self::Control(rest)),
            kind => Err(Malformed::Kind(kind)),
        }
    }

    /// Appends the SDU to `out`.
    pub fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Datagram(player, data) => {
                out.push(family(player));
                put_words(player, out);
                out.extend_from_slice(data);
            }
            Self::End(player, reason) => {
                out.extend_from_slice(&[END, *reason, family(player)]);
                put_words(player, out);
            }
            // As long as its answer.
            Self::Ask(player) => {
                out.extend_from_slice(&[ASK, 0, family(player)]);
                put_words(player, out);
            }
            Self::Ping(number) => {
                out.push(PING);
                out.extend_from_slice(&number.to_be_bytes());
            }
            Self::Pong(number) => {
                out.push(PONG);
                out.extend_from_slice(&number.to_be_bytes());
            }
            Self::Piece(Piece { number, place, count, bytes }) => {
                out.push(PIECE);
                out.extend_from_slice(&number.to_be_bytes());
                out.extend_from_slice(&[*place, *count]);
                out.extend_from_slice(bytes);
            }
            Self::Control(bytes) => {
                out.push(CONTROL);
                out.extend_from_slice(bytes);
            }
        }
    }
}

/// Of both addresses: a socket speaks one family.
fn family(player: &Player) -> u8 {
    if player.orig.is_ipv4() && player.client.is_ipv4() { V4 } else { V6 }
}

fn put_words(player: &Player, out: &mut Vec<u8>) {
    let Player { orig, client } = player;
    match (orig.ip(), client.ip()) {
        (IpAddr::V4(orig), IpAddr::V4(client)) => {
            out.extend_from_slice(&orig.octets());
            out.extend_from_slice(&client.octets());
        }
        (orig, client) => {
            out.extend_from_slice(&v6(orig).octets());
            out.extend_from_slice(&v6(client).octets());
        }
    }
    out.extend_from_slice(&u32::from(client.port()).to_be_bytes());
    out.extend_from_slice(&u32::from(orig.port()).to_be_bytes());
}

fn v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

/// The four words, and what stands after them.
fn words(family: u8, bytes: &[u8]) -> Result<(Player, &[u8]), Malformed> {
    let (orig, client, rest) = match family {
        V4 => {
            let (ips, rest) = bytes.split_first_chunk::<8>().ok_or(Malformed::Short)?;
            let ip = |at: usize| IpAddr::V4(Ipv4Addr::new(ips[at], ips[at + 1], ips[at + 2], ips[at + 3]));
            (ip(0), ip(4), rest)
        }
        V6 => {
            let (orig, rest) = bytes.split_first_chunk::<16>().ok_or(Malformed::Short)?;
            let (client, rest) = rest.split_first_chunk::<16>().ok_or(Malformed::Short)?;
            // Mapped ones are what they stand for: one player has one key.
            (Ipv6Addr::from(*orig).to_canonical(), Ipv6Addr::from(*client).to_canonical(), rest)
        }
        kind => return Err(Malformed::Kind(kind)),
    };
    let (client_port, rest) = port(rest)?;
    let (orig_port, rest) = port(rest)?;
    Ok((Player { orig: SocketAddr::new(orig, orig_port), client: SocketAddr::new(client, client_port) }, rest))
}

fn port(bytes: &[u8]) -> Result<(u16, &[u8]), Malformed> {
    let (word, rest) = bytes.split_first_chunk::<4>().ok_or(Malformed::Short)?;
    let word = u32::from_be_bytes(*word);
    Ok((u16::try_from(word).map_err(|_| Malformed::Port(word))?, rest))
}

/// Appends a datagram as the original encapsulates it; false, and nothing, where it has no room for the addresses or the
/// data.
pub fn encapsulate(player: &Player, data: &[u8], out: &mut Vec<u8>) -> bool {
    if family(player) != V4 || data.len() > LONGEST {
        return false;
    }
    out.extend_from_slice(&((data.len() + WORDS) as u32).to_be_bytes());
    put_words(player, out);
    out.extend_from_slice(data);
    true
}

/// A datagram in a byte stream: whose, the data, how many bytes of the stream it takes.
pub type Encapsulated<'a> = (Player, &'a [u8], usize);

/// The first encapsulated datagram of a byte stream, and how many bytes it takes; `None`: more bytes are needed.
///
/// # Errors
/// The stream is none of encapsulated datagrams, and cannot be read on.
pub fn decapsulate(bytes: &[u8]) -> Result<Option<Encapsulated<'_>>, Malformed> {
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length);
    let counted = length as usize;
    if !(WORDS..=WORDS + LONGEST).contains(&counted) {
        return Err(Malformed::Length(length));
    }
    let Some(body) = rest.get(..counted) else { return Ok(None) };
    let (player, data) = words(V4, body)?;
    Ok(Some((player, data, 4 + counted)))
}

#[cfg(test)]
mod tests;
