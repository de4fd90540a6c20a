//! Datagrams to whomever, collected and sent many at a time.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;

use rustix::net::SendFlags;

use super::batch::{MANY, Sending, send};

/// Datagrams that go with the next [`flush`](Outbox::flush), with where they go through: a port's number.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    letters: Vec<Letter>,
}

#[derive(Clone, Copy, Debug)]
struct Letter {
    port: usize,
    to: SocketAddr,
    /// From which of this host's addresses, where the port is of several.
    from: Option<IpAddr>,
    end: usize,
}

impl Outbox {
    /// Takes a datagram; whether it is time to flush.
    pub fn put(&mut self, port: usize, to: SocketAddr, from: Option<IpAddr>, data: &[u8]) -> bool {
        self.bytes.extend_from_slice(data);
        self.letters.push(Letter { port, to, from, end: self.bytes.len() });
        self.letters.len() >= MANY
    }

    /// Sends all; `failed` is told of each that the kernel does not take.
    pub fn flush<'a>(
        &mut self,
        port: impl Fn(usize) -> Option<BorrowedFd<'a>>,
        mut failed: impl FnMut(rustix::io::Errno),
    ) {
        let mut begin = 0;
        let mut letters = self.letters.as_slice();
        while let Some(first) = letters.first() {
            let run = letters.iter().take(MANY).take_while(|letter| letter.port == first.port).count();
            let (now, rest) = letters.split_at(run);
            letters = rest;
            let end = now.last().map_or(begin, |last| last.end);
            match port(first.port) {
                Some(socket) => send_run(socket, now, &self.bytes, begin, &mut failed),
                None => now.iter().for_each(|_| failed(rustix::io::Errno::BADF)),
            }
            begin = end;
        }
        self.letters.clear();
        self.bytes.clear();
    }
}

fn send_run(
    socket: BorrowedFd<'_>,
    letters: &[Letter],
    bytes: &[u8],
    begin: usize,
    failed: &mut impl FnMut(rustix::io::Errno),
) {
    if let [Letter { to, from: None, end, .. }] = letters {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        if let Err(errno) = rustix::net::sendto(socket, &bytes[begin..*end], flags, to) {
            failed(errno);
        }
        return;
    }
    let nobody = SocketAddr::from(([0; 4], 0));
    let mut sending = [Sending { bytes: &[], segment: 0, to: Some(nobody), from: None }; MANY];
    let mut start = begin;
    for (place, letter) in sending.iter_mut().zip(letters) {
        *place = Sending { bytes: &bytes[start..letter.end], segment: 0, to: Some(letter.to), from: letter.from };
        start = letter.end;
    }
    let mut rest = &sending[..letters.len()];
    while !rest.is_empty() {
        let sent = match send(socket, rest) {
            Ok(sent) => sent.max(1),
            // The error is the first's: an earlier one's refusal by its host, or no room.
            Err(error) => {
                failed(rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO));
                1
            }
        };
        rest = &rest[sent.min(rest.len())..];
    }
}
