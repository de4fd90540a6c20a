//! Socket filters: classic BPF programs over UDP header (8 bytes) and payload.
//!
//! A load beyond the datagram's end drops it, so every comparison is behind one of the length.

use libc::{BPF_ABS, BPF_B, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_LEN, BPF_RET, BPF_W};
use proto::shim::{answer_prefix, control_prefix};
use proto::{Name, WireId};
use socket2::SockFilter;

use crate::machine::Filter;

const HEADER: usize = 8;
const DROP: u32 = 0;
const PASS: u32 = u32::MAX;

/// What a datagram is asked; all questions of a rule must be answered yes.
#[derive(Clone)]
enum Ask {
    /// Exactly so long, with the UDP header.
    Length(usize),
    /// At least so long, with the UDP header.
    AtLeast(usize),
    Word(u32, u32),
    Byte(u32, u8),
}

/// The program for a filter. The first rule that fits drops the datagram; else it passes.
pub(super) fn program(filter: &Filter) -> Vec<SockFilter> {
    match filter {
        Filter::Nothing => vec![ret(DROP)],
        filter => drop_all(&rules(filter)),
    }
}

/// What the filter of a connected flow drops.
fn rules(filter: &Filter) -> Vec<Vec<Ask>> {
    let empty = vec![Ask::Length(HEADER)];
    match filter {
        Filter::Nothing => vec![vec![]],
        Filter::Flow => vec![empty],
        Filter::NoControl(ours) => vec![empty, control(*ours)],
        Filter::NoRequests(name, theirs, ours) => vec![empty, answer(name, *theirs), control(*ours)],
        Filter::NoRepeats(name) => [vec![empty], classic(name)].concat(),
        Filter::NoAnswers(name, ours) => vec![empty, answer(name, *ours), control(*ours)],
        Filter::NoEchoes(name, ours) => [vec![empty], classic(name), vec![answer(name, *ours)]].concat(),
    }
}

/// Whether the filter of a connected flow would have dropped this payload, for what arrived before it was set.
pub(super) fn drops(filter: &Filter, payload: &[u8]) -> bool {
    let holds = |ask: &Ask| {
        let at = |at: u32, n: usize| {
            let start = usize::try_from(at).ok()?.checked_sub(HEADER)?;
            payload.get(start..start.checked_add(n)?)
        };
        match *ask {
            Ask::Length(n) => HEADER + payload.len() == n,
            Ask::AtLeast(n) => HEADER + payload.len() >= n,
            Ask::Word(offset, word) => at(offset, 4) == Some(&word.to_be_bytes()),
            Ask::Byte(offset, byte) => at(offset, 1) == Some(&[byte]),
        }
    };
    rules(filter).iter().any(|rule| rule.iter().all(holds))
}

/// A classic request for the name, or its echo.
fn classic(name: &Name) -> Vec<Vec<Ask>> {
    let bytes = name.as_str().as_bytes();
    vec![exactly(bytes), exactly(&[bytes, &[0]].concat())]
}

/// An answer to our request, or our request itself: both carry our id in the same place.
fn answer(name: &Name, ours: WireId) -> Vec<Ask> {
    begins(&answer_prefix(name, ours))
}

/// OPEN, OPENED, or any other control datagram to our id.
fn control(ours: WireId) -> Vec<Ask> {
    begins(&control_prefix(ours))
}

fn begins(prefix: &[(usize, Vec<u8>)]) -> Vec<Ask> {
    let end = prefix.iter().map(|(at, bytes)| HEADER + at + bytes.len()).max().unwrap_or(0);
    let mut asks = vec![Ask::AtLeast(end)];
    for (at, bytes) in prefix {
        asks.extend(compare(*at, bytes));
    }
    asks
}

fn exactly(payload: &[u8]) -> Vec<Ask> {
    let mut asks = vec![Ask::Length(HEADER + payload.len())];
    asks.extend(compare(0, payload));
    asks
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

fn drop_all(rules: &[Vec<Ask>]) -> Vec<SockFilter> {
    let mut out = Vec::new();
    for rule in rules {
        out.extend(when(rule, DROP));
    }
    out.push(ret(PASS));
    out
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
