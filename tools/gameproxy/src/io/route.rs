//! What belongs to one player at the side of the game servers: its socket, and the queues.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::SendFlags;
use service::admit::Bucket;

use super::core::Put;
use super::upstream;
use crate::machine::door::{Choice, Player};
use crate::machine::queue::Queue;
use crate::machine::routes::Side;
use crate::said::rule::{Dropped, TokenAt, Way};

/// A player's route.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) socket: OwnedFd,
    pub(super) choice: Choice,
    pub(super) pace: Option<Bucket>,
    /// Datagrams that wait: the player's, the server's.
    pub(super) queues: [Queue<Vec<u8>>; 2],
    /// Longer than the redirect says, for fairness.
    pub(super) more: [Duration; 2],
    /// What each datagram to the server begins with.
    pub(super) header: Vec<u8>,
    pub(super) since: Instant,
    /// When the server last said something.
    pub(super) collected: Option<Instant>,
    /// The first datagram to the server since it last answered.
    pub(super) asked: Option<Instant>,
    /// How long the server takes to answer, smoothed.
    pub(super) answers_in: Option<Duration>,
    /// Whether its server is there, as was told last.
    pub(super) is_there: Option<bool>,
    pub(super) carried: [u64; 2],
}

impl Route {
    pub(super) fn new(now: Instant, socket: OwnedFd, choice: Choice, player: &Player) -> Self {
        let header = match choice.carriage.proxy_header {
            true => upstream::header(player),
            false => Vec::new(),
        };
        Self {
            socket,
            pace: choice.rate.map(Bucket::new),
            choice,
            queues: Default::default(),
            more: [Duration::ZERO; 2],
            header,
            since: now,
            collected: None,
            asked: None,
            answers_in: None,
            is_there: None,
            carried: [0; 2],
        }
    }

    /// By other rules.
    pub(super) fn change(&mut self, choice: Choice, player: &Player) {
        if choice.rate != self.choice.rate {
            self.pace = choice.rate.map(Bucket::new);
        }
        self.header = match choice.carriage.proxy_header {
            true => upstream::header(player),
            false => Vec::new(),
        };
        self.choice = choice;
    }

    pub(super) fn way(&self, from: Side) -> Way {
        match from {
            Side::Player => self.choice.carriage.up,
            Side::Server => self.choice.carriage.down,
        }
    }

    pub(super) fn send(&mut self, now: Instant, data: &[u8], scratch: &mut Vec<u8>) -> Result<(), Errno> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let send = |data: &[u8]| match rustix::net::send(&self.socket, data, flags) {
            // What the socket had to say was of an earlier datagram; this one has not gone.
            Err(Errno::CONNREFUSED) => rustix::net::send(&self.socket, data, flags),
            done => done,
        };
        let sent = match self.header.is_empty() {
            true => send(data),
            false => {
                scratch.clear();
                scratch.extend_from_slice(&self.header);
                scratch.extend_from_slice(data);
                send(scratch)
            }
        };
        sent?;
        self.asked.get_or_insert(now);
        self.carried[Side::Player as usize] += 1;
        Ok(())
    }

    pub(super) fn answered(&mut self, now: Instant) {
        if let Some(asked) = self.asked.take() {
            let took = now.saturating_duration_since(asked);
            self.answers_in = Some(self.answers_in.map_or(took, |before| (before * 7 + took) / 8));
        }
    }
}

pub(super) fn as_put(sent: Result<(), Errno>) -> Put {
    match sent {
        Ok(()) => Put::Done,
        Err(Errno::WOULDBLOCK | Errno::NOBUFS) => Put::Full,
        Err(errno) => Put::Dropped(reason(errno)),
    }
}

/// What the kernel's refusal of a datagram is counted as.
pub(super) fn reason(errno: Errno) -> Dropped {
    match errno {
        Errno::MSGSIZE => Dropped::TooLong,
        Errno::CONNREFUSED | Errno::HOSTUNREACH | Errno::NETUNREACH => Dropped::Unreachable,
        Errno::MFILE | Errno::NFILE => Dropped::TooManyPlayers,
        Errno::WOULDBLOCK | Errno::NOBUFS => Dropped::QueueFull,
        _ => Dropped::Refused,
    }
}

/// The datagram without its token.
pub(super) fn without_token(data: &[u8], at: Option<TokenAt>) -> Option<&[u8]> {
    match at {
        None => Some(data),
        Some(TokenAt::Front(bytes)) => data.get(usize::from(bytes)..),
        Some(TokenAt::Back(bytes)) => data.len().checked_sub(usize::from(bytes)).map(|end| &data[..end]),
    }
}
