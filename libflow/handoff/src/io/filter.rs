//! Socket filters: classic BPF programs over UDP header (8 bytes) and payload, as rules.
//!
//! And looking through a receive queue for what a filter would not have let in.
//!
//! A load beyond the datagram's end drops it, so every comparison is behind one of the length.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{BPF_ABS, BPF_B, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_LEN, BPF_RET, BPF_W};
use proto::shim::Unwanted;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, recvfrom};
use socket2::{SockFilter, SockRef};

const HEADER: usize = 8;
const DROP: u32 = 0;
const PASS: u32 = u32::MAX;

/// Which datagrams a filter drops: those of which all questions are answered yes.
#[derive(Clone, Debug)]
pub struct Rule(Vec<Ask>);

#[derive(Clone, Debug)]
enum Ask {
    /// Exactly so long, with the UDP header.
    Length(usize),
    /// At least so long, with the UDP header.
    AtLeast(usize),
    Word(u32, u32),
    Byte(u32, u8),
}

impl Rule {
    /// Every datagram.
    pub fn all() -> Self {
        Self(Vec::new())
    }

    /// Exactly this payload, at most 255 bytes of it.
    pub fn exactly(payload: &[u8]) -> Self {
        let mut asks = vec![Ask::Length(HEADER + payload.len())];
        asks.extend(compare(0, payload));
        Self(asks)
    }

    /// Payloads with these bytes at these offsets.
    pub fn with(parts: &[(usize, Vec<u8>)]) -> Self {
        let end = parts.iter().map(|(at, bytes)| HEADER + at + bytes.len()).max().unwrap_or(0);
        let mut asks = vec![Ask::AtLeast(end)];
        for (at, bytes) in parts {
            asks.extend(compare(*at, bytes));
        }
        Self(asks)
    }

    /// What keeps a flow's own datagrams from a program that reads the bare descriptor.
    pub fn unwanted(which: Unwanted) -> Vec<Self> {
        let prefixes = which.prefixes();
        std::iter::once(Self::exactly(b"")).chain(prefixes.iter().map(|parts| Self::with(parts))).collect()
    }

    /// Whether it would drop this payload.
    pub fn drops(&self, payload: &[u8]) -> bool {
        let at = |at: u32, n: usize| {
            let start = usize::try_from(at).ok()?.checked_sub(HEADER)?;
            payload.get(start..start.checked_add(n)?)
        };
        self.0.iter().all(|ask| match *ask {
            Ask::Length(n) => HEADER + payload.len() == n,
            Ask::AtLeast(n) => HEADER + payload.len() >= n,
            Ask::Word(offset, word) => at(offset, 4) == Some(&word.to_be_bytes()),
            Ask::Byte(offset, byte) => at(offset, 1) == Some(&[byte]),
        })
    }
}

/// Sets a socket's filter: what a rule fits is dropped, the rest passes. The kernel compiles it, which takes 20 to 45 µs.
pub fn attach(socket: BorrowedFd<'_>, rules: &[Rule]) -> io::Result<()> {
    SockRef::from(&socket).attach_filter(&program(rules))
}

/// Keeps a flow's own datagrams from whoever reads the bare descriptor. An SDU ahead of one in the queue goes with it.
pub fn keep_out(socket: BorrowedFd<'_>, unwanted: Unwanted) {
    // Only a locked filter cannot be replaced, and that drops everything already.
    let _ = attach(socket, &Rule::unwanted(unwanted));
    clear(socket, &mut [0; TELLS], |_, payload| unwanted.matches(payload));
}

/// So many bytes of a payload tell whether it is [`Unwanted`], with the longest name.
pub const TELLS: usize = 512;

/// Datagrams looked at in a queue; more do not fit into one of the usual size.
const MOST_QUEUED: u64 = 4096;

/// Drops the queue's head up to the last datagram that is `unwanted` (from whom, which payload); how many. Does not touch
/// errors that wait at the socket. `buffer`: room for the part of a payload that tells.
pub fn clear(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    mut unwanted: impl FnMut(Option<SocketAddr>, &[u8]) -> bool,
) -> u64 {
    if all_read(socket) || peek_from(socket, 0).is_err() {
        return 0;
    }
    let (mut seen, mut last_unwanted) = (0, 0);
    // SDUs that keep coming are the peer's, and the queue is finite.
    while seen < MOST_QUEUED
        && let Ok((_, length, from)) = recvfrom(socket, &mut *buffer, RecvFlags::PEEK | RecvFlags::DONTWAIT)
    {
        seen += 1;
        if unwanted(from.and_then(|any| SocketAddr::try_from(any).ok()), &buffer[..length.min(buffer.len())]) {
            last_unwanted = seen;
        }
    }
    let _ = peek_from(socket, -1);
    for _ in 0..last_unwanted {
        let _ = recvfrom(socket, &mut *buffer, RecvFlags::DONTWAIT);
    }
    last_unwanted
}

/// Whether everything that arrived was read. Does not touch errors that wait at the socket.
pub fn all_read(socket: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(socket, PollFlags::IN)];
    let now = Timespec::default();
    poll(&mut fds, Some(&now)).is_ok() && !fds[0].revents().contains(PollFlags::IN)
}

/// Where in the receive queue, in bytes, the next peek begins; -1: always at its head.
#[expect(unsafe_code, reason = "SO_PEEK_OFF has no safe wrapper")]
fn peek_from(socket: BorrowedFd<'_>, offset: libc::c_int) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).expect("an int is small");
    // SAFETY: the kernel reads `length` bytes of `offset`, which lives across the call.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEEK_OFF, (&raw const offset).cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn program(rules: &[Rule]) -> Vec<SockFilter> {
    let mut out = Vec::new();
    for rule in rules {
        out.extend(when(&rule.0, DROP));
    }
    out.push(ret(PASS));
    out
}

fn compare(at: usize, bytes: &[u8]) -> Vec<Ask> {
    let mut asks = Vec::new();
    let mut at = u32::try_from(HEADER + at).expect("datagrams are short");
    let words = bytes.chunks_exact(4);
    let rest = words.remainder();
    for word in words {
        asks.push(Ask::Word(at, u32::from_be_bytes([word[0], word[1], word[2], word[3]])));
        at += 4;
    }
    for &byte in rest {
        asks.push(Ask::Byte(at, byte));
        at += 1;
    }
    asks
}

/// `verdict` when all questions are answered yes; else goes on behind.
fn when(asks: &[Ask], verdict: u32) -> Vec<SockFilter> {
    let mut out = Vec::new();
    for (n, ask) in asks.iter().enumerate() {
        // Behind each test: two instructions per question left, then the verdict.
        let no = u8::try_from(2 * (asks.len() - n - 1) + 1).expect("a name of 255 bytes makes 67 questions at most");
        let (load, test) = match *ask {
            Ask::Length(n) => (load(BPF_W | BPF_LEN, 0), (BPF_JEQ, length(n))),
            Ask::AtLeast(n) => (load(BPF_W | BPF_LEN, 0), (BPF_JGE, length(n))),
            Ask::Word(at, word) => (load(BPF_W | BPF_ABS, at), (BPF_JEQ, word)),
            Ask::Byte(at, byte) => (load(BPF_B | BPF_ABS, at), (BPF_JEQ, byte.into())),
        };
        out.push(load);
        out.push(SockFilter::new(code(BPF_JMP | test.0 | BPF_K), 0, no, test.1));
    }
    out.push(ret(verdict));
    out
}

fn load(mode: u32, at: u32) -> SockFilter {
    SockFilter::new(code(BPF_LD | mode), 0, 0, at)
}

fn ret(verdict: u32) -> SockFilter {
    SockFilter::new(code(BPF_RET | BPF_K), 0, 0, verdict)
}

fn code(code: u32) -> u16 {
    u16::try_from(code).expect("classic BPF codes have 16 bits")
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("datagrams are short")
}
