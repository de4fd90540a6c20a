//! Catchers: second sockets on the ports of flows that were accepted a moment ago, for clients whose middlebox shows
//! another address to the flow's port than to the listen port.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Instant;

use super::driver::Driver;
use super::socket::{self, Received};
use crate::machine::{Key, Via};

/// Datagrams read from one catcher before others get their turn; a client sends one at a time.
const PER_TURN: usize = 8;

impl Driver {
    /// Where no descriptor is left for it, the flow does without.
    pub(super) fn open_catcher(&mut self, key: Key) {
        let Some(socket) = self.sockets.get(&key) else { return };
        let opened = socket::catcher(socket.as_fd()).map_err(std::io::Error::from).and_then(|catcher| {
            self.asking.add_catcher(key, &catcher)?;
            Ok(catcher)
        });
        match opened {
            Ok(catcher) => drop(self.catchers.insert(key, catcher)),
            Err(error) => tracing::debug!(%error, "a flow has no second socket; symmetric NATs cannot reach it"),
        }
    }

    pub(super) fn read_catcher(&mut self, now: Instant, key: Key) {
        for _ in 0..PER_TURN {
            let Some(catcher) = self.catchers.get(&key) else { return };
            match socket::receive(catcher.as_fd(), &mut self.buffer) {
                Ok(Received::Datagram(length, from)) => {
                    self.shim.handle_datagram(now, Via::Catcher(key), from, &self.buffer[..length]);
                    self.carry_out(now);
                }
                // It never sends, so nothing is said of what it sent.
                Ok(Received::Unreachable(_)) => {}
                Ok(Received::Nothing) | Err(_) => return,
            }
        }
    }

    pub(super) fn move_flow(&mut self, key: Key, peer: SocketAddr) {
        let Some(socket) = self.sockets.get(&key) else { return };
        if let Err(errno) = socket::move_to(socket.as_fd(), peer) {
            tracing::warn!(%errno, %peer, "a flow's socket could not follow its client to the address its NAT shows");
        }
    }
}
