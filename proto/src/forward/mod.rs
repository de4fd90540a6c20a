//! What two port forwarders say at the beginning of each stream, before the bytes of the connection that it carries; in
//! words in docs/portfwd.md.
//!
//! The side that opens the stream says an [`Opening`], waits, and is told an [`Answer`]. Then the connection's bytes follow
//! in both directions, between hosts in [`Pieces`]. Numbers are in network order.
//!
//! ```text
//!  0  2  "FW"
//!  2  1  version, 1
//!  3  1  1 opening, 2 answer
//!  4  2  length of the fields that follow, at most 1,018
//!  6     fields: type (1), length (2), value
//! ```
//!
//! | type | in | value |
//! |---|---|---|
//! | 1 client | opening | the client's address (4 or 16 bytes) and port (2); without it: a Unix socket's, or not to be told |
//! | 2 listener | opening | the address and port that the client connected to |
//! | 3 rule | opening | what the rule is called, text of at most 255 bytes |
//! | 4 verdict | answer | 1 byte; must be there |
//! | 5 words | answer | what happened, text of at most 200 bytes |
//!
//! A field stands once at most. An unknown type is skipped; one with its top bit set is an error. Later versions keep the
//! first six bytes.

pub mod datagram;
mod pieces;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

pub use pieces::{LONGEST_PIECE, PIECE_HEAD, Pieces, last_words, piece_head};

/// What every header begins with.
pub const MAGIC: [u8; 2] = *b"FW";
/// The version said here.
pub const VERSION: u8 = 1;
/// Bytes before the fields.
pub const HEAD: usize = 6;
/// Longest header, bytes.
pub const LONGEST: usize = 1024;
/// Longest name of a rule, bytes.
pub const MAX_RULE: usize = 255;
/// Longest words of an answer, bytes.
pub const MAX_WORDS: usize = 200;

const OPENING: u8 = 1;
const ANSWER: u8 = 2;
const CLIENT: u8 = 1;
const LISTENER: u8 = 2;
const RULE: u8 = 3;
const VERDICT: u8 = 4;
const WORDS: u8 = 5;
const CRITICAL: u8 = 0x80;

/// Said first: who is to be connected.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Opening {
    /// The client's address, which the opening side vouches for.
    pub client: Option<SocketAddr>,
    /// What the client connected to.
    pub listener: Option<SocketAddr>,
    /// The rule that it came through; may be empty.
    pub rule: String,
}

/// Said before the first byte goes back: whether a target took the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What became of it.
    pub verdict: Verdict,
    /// What happened, in words; may be empty.
    pub words: String,
}

/// What became of an [`Opening`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
#[repr(u8)]
pub enum Verdict {
    /// The target took the connection: its bytes follow.
    Connected = 1,
    /// The target's host refused.
    Refused = 2,
    /// No way to the target's host.
    Unreachable = 3,
    /// The target did not answer in time.
    TimedOut = 4,
    /// The target's name has no address.
    UnknownHost = 5,
    /// The far side's rule lets this client not in.
    NotPermitted = 6,
    /// Descriptors, or what the rule allows at a time, ran out.
    Exhausted = 7,
    /// All targets are known to be dead.
    NoTarget = 8,
    /// A header of another version.
    Version = 9,
    /// The far side is being stopped.
    Stopping = 10,
    /// Anything else; the words say what.
    Failed = 11,
}

/// Why a connection did not end cleanly: the reason that its stream is reset and stopped with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Broken {
    /// 0: the program that had it ended, or dropped it without a word.
    Dropped,
    /// 1: its client or its target reset it.
    Reset,
    /// 2: its client or its target is silent: the kernel gave up sending, or keep-alive did.
    TimedOut,
    /// 3: no way to its client or target any more.
    Unreachable,
    /// 4: it carried nothing for longer than a rule allows.
    Idle,
    /// 5: a forwarder was stopped, or told to end it.
    Stopped,
    /// 6: it was cut short: TLS ended without its closing word.
    Truncated,
    /// 7: the stream began with something else than a header.
    Protocol,
    /// 8: the forwarder could not go on.
    Failed,
    /// 9: another flow that the connection went through is gone.
    FlowGone,
    /// A reason of a later version.
    Other(u32),
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// It begins otherwise.
    Magic,
    /// Another version.
    Version(u8),
    /// An opening where an answer should be, or the other way round.
    Kind,
    /// Longer than a header may be.
    TooLong,
    /// Fields that are cut, doubled, out of bounds, missing, or must be understood and are not.
    Field,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Magic => "it does not begin as a forwarder's header does",
            Self::Version(version) => return write!(f, "it is of version {version}, this program speaks {VERSION}"),
            Self::Kind => "another kind of header should stand here",
            Self::TooLong => "it is longer than a header may be",
            Self::Field => "its fields are wrong",
        })
    }
}

impl std::error::Error for Malformed {}

impl Opening {
    /// The header.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = begin(OPENING);
        for (kind, address) in [(CLIENT, self.client), (LISTENER, self.listener)] {
            if let Some(address) = address {
                put_address(&mut out, kind, address);
            }
        }
        put_text(&mut out, RULE, &self.rule, MAX_RULE);
        end(out)
    }

    /// Reads the fields that [`Self::length`] told of.
    pub fn decode(fields: &[u8]) -> Result<Self, Malformed> {
        let mut opening = Self::default();
        each(fields, |kind, value| {
            match kind {
                CLIENT => opening.client = Some(address(value)?),
                LISTENER => opening.listener = Some(address(value)?),
                RULE => text(value, MAX_RULE)?.clone_into(&mut opening.rule),
                _ => return Some(false),
            }
            Some(true)
        })?;
        Ok(opening)
    }

    /// How many bytes of fields follow the first [`HEAD`] of an opening.
    pub fn length(head: [u8; HEAD]) -> Result<usize, Malformed> {
        length(head, OPENING)
    }
}

impl Answer {
    /// The target took the connection.
    pub fn connected() -> Self {
        Self { verdict: Verdict::Connected, words: String::new() }
    }

    /// The header.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = begin(ANSWER);
        put(&mut out, VERDICT, &[self.verdict as u8]);
        put_text(&mut out, WORDS, &self.words, MAX_WORDS);
        end(out)
    }

    /// Reads the fields that [`Self::length`] told of.
    pub fn decode(fields: &[u8]) -> Result<Self, Malformed> {
        let (mut verdict, mut words) = (None, String::new());
        each(fields, |kind, value| {
            match (kind, value) {
                (VERDICT, [code]) => verdict = Some(Verdict::from_code(*code)?),
                (WORDS, value) => text(value, MAX_WORDS)?.clone_into(&mut words),
                (VERDICT, _) => return None,
                _ => return Some(false),
            }
            Some(true)
        })?;
        Ok(Self { verdict: verdict.ok_or(Malformed::Field)?, words })
    }

    /// How many bytes of fields follow the first [`HEAD`] of an answer.
    pub fn length(head: [u8; HEAD]) -> Result<usize, Malformed> {
        length(head, ANSWER)
    }
}

impl Verdict {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Connected,
        Self::Refused,
        Self::Unreachable,
        Self::TimedOut,
        Self::UnknownHost,
        Self::NotPermitted,
        Self::Exhausted,
        Self::NoTarget,
        Self::Version,
        Self::Stopping,
        Self::Failed,
    ];

    /// A later version's refusal is a refusal; 0 is nothing.
    fn from_code(code: u8) -> Option<Self> {
        let known = Self::ALL.into_iter().find(|verdict| *verdict as u8 == code);
        known.or((code > 0).then_some(Self::Failed))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connected => "connected",
            Self::Refused => "the target refused",
            Self::Unreachable => "the target cannot be reached",
            Self::TimedOut => "the target did not answer",
            Self::UnknownHost => "the target's name has no address",
            Self::NotPermitted => "not permitted",
            Self::Exhausted => "no room for more connections",
            Self::NoTarget => "no target lives",
            Self::Version => "another version",
            Self::Stopping => "being stopped",
            Self::Failed => "failed",
        })
    }
}

impl Broken {
    const KNOWN: [Self; 10] = [
        Self::Dropped,
        Self::Reset,
        Self::TimedOut,
        Self::Unreachable,
        Self::Idle,
        Self::Stopped,
        Self::Truncated,
        Self::Protocol,
        Self::Failed,
        Self::FlowGone,
    ];

    /// The number that a stream is reset with.
    pub fn code(self) -> u32 {
        match self {
            Self::Dropped => 0,
            Self::Reset => 1,
            Self::TimedOut => 2,
            Self::Unreachable => 3,
            Self::Idle => 4,
            Self::Stopped => 5,
            Self::Truncated => 6,
            Self::Protocol => 7,
            Self::Failed => 8,
            Self::FlowGone => 9,
            Self::Other(code) => code,
        }
    }

    /// And back.
    pub fn from_code(code: u32) -> Self {
        Self::KNOWN.into_iter().find(|broken| broken.code() == code).unwrap_or(Self::Other(code))
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dropped => "dropped without a word",
            Self::Reset => "reset",
            Self::TimedOut => "silent for too long",
            Self::Unreachable => "not to be reached any more",
            Self::Idle => "idle for too long",
            Self::Stopped => "stopped",
            Self::Truncated => "cut short",
            Self::Protocol => "no forwarder's stream",
            Self::Failed => "failed",
            Self::FlowGone => "its flow is gone",
            Self::Other(code) => return write!(f, "ended for reason {code}"),
        })
    }
}

fn begin(kind: u8) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[VERSION, kind, 0, 0]);
    out
}

fn end(mut out: Vec<u8>) -> Vec<u8> {
    let length = u16::try_from(out.len() - HEAD).expect("fields are bounded");
    out[4..HEAD].copy_from_slice(&length.to_be_bytes());
    out
}

fn put(out: &mut Vec<u8>, kind: u8, value: &[u8]) {
    out.push(kind);
    out.extend_from_slice(&u16::try_from(value.len()).expect("values are bounded by their callers").to_be_bytes());
    out.extend_from_slice(value);
}

/// The first `longest` bytes of a text, with blanks for what is not to be printed; nothing for an empty one.
fn put_text(out: &mut Vec<u8>, kind: u8, text: &str, longest: usize) {
    let text = crate::clip(text, longest).replace(char::is_control, " ");
    if !text.is_empty() {
        put(out, kind, crate::clip(&text, longest).as_bytes());
    }
}

fn put_address(out: &mut Vec<u8>, kind: u8, address: SocketAddr) {
    let mut value = [0; 18];
    let ip = match address.ip().to_canonical() {
        IpAddr::V4(ip) => {
            value[..4].copy_from_slice(&ip.octets());
            4
        }
        IpAddr::V6(ip) => {
            value[..16].copy_from_slice(&ip.octets());
            16
        }
    };
    value[ip..ip + 2].copy_from_slice(&address.port().to_be_bytes());
    put(out, kind, &value[..ip + 2]);
}

fn length(head: [u8; HEAD], kind: u8) -> Result<usize, Malformed> {
    let [m1, m2, version, said, l1, l2] = head;
    if [m1, m2] != MAGIC {
        return Err(Malformed::Magic);
    }
    if version != VERSION {
        return Err(Malformed::Version(version));
    }
    if said != kind {
        return Err(Malformed::Kind);
    }
    let length = usize::from(u16::from_be_bytes([l1, l2]));
    if HEAD + length > LONGEST { Err(Malformed::TooLong) } else { Ok(length) }
}

/// Calls `take` for every field; it says whether it knows the type, and `None` where the value is wrong.
fn each<'a>(mut bytes: &'a [u8], mut take: impl FnMut(u8, &'a [u8]) -> Option<bool>) -> Result<(), Malformed> {
    let mut seen = [false; 256];
    while let Some((&[kind, l1, l2], rest)) = bytes.split_first_chunk::<3>() {
        let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([l1, l2]))).ok_or(Malformed::Field)?;
        bytes = rest;
        let twice = std::mem::replace(&mut seen[usize::from(kind)], true);
        let known = take(kind, value).ok_or(Malformed::Field)?;
        if twice || (!known && kind & CRITICAL != 0) {
            return Err(Malformed::Field);
        }
    }
    if bytes.is_empty() { Ok(()) } else { Err(Malformed::Field) }
}

fn address(value: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = value.split_last_chunk::<2>()?;
    let ip: IpAddr = match ip.len() {
        4 => <[u8; 4]>::try_from(ip).ok()?.into(),
        16 => <[u8; 16]>::try_from(ip).ok()?.into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip.to_canonical(), u16::from_be_bytes(*port)))
}

/// Text without control characters: it goes into logs.
fn text(value: &[u8], longest: usize) -> Option<&str> {
    let text = (value.len() <= longest).then_some(value).and_then(|value| std::str::from_utf8(value).ok())?;
    (!text.chars().any(char::is_control)).then_some(text)
}
