//! New players: let in, given a route and a socket.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Instant;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::{Core, Route, door};
use crate::io::route::reason;
use crate::io::upstream;
use crate::machine::door::{Choice, Player};
use crate::machine::routes::{Over, RouteId};
use crate::said::rule::Dropped;

/// Descriptors that players leave to who looks, to files that are read again and to new client sides.
const RESERVED: u64 = 32;

/// The number of the first that is not for players.
pub(super) fn reserved() -> u64 {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    limit - RESERVED.min(limit / 4)
}

impl Core {
    /// The first datagram of a player who is not there, who is let in or not. Whom it evicts is told to `ended`.
    pub(in crate::io) fn enter(
        &mut self,
        now: Instant,
        player: Player,
        data: &[u8],
        ended: &mut dyn FnMut(&Player, Over),
    ) {
        match self.open(now, player, data, ended) {
            Ok(id) => self.forward(now, id, data),
            Err(why) => self.tally.dropped(why),
        }
    }

    fn open(
        &mut self,
        now: Instant,
        player: Player,
        data: &[u8],
        ended: &mut dyn FnMut(&Player, Over),
    ) -> Result<RouteId, Dropped> {
        let choice = door(&self.door).enter(now, self.through, player, data)?;
        let socket = self.socket(&choice, &player, ended).inspect_err(|why| {
            door(&self.door).leave(self.through, player, &choice);
            let why = why.label();
            tracing::debug!(client = %player.client, server = %choice.server, why, "no socket for a player");
        });
        let mut route = Route::new(now, socket?, choice.clone(), &player);
        route.more = door(&self.door).more(self.through, &choice);
        let prune = choice.carriage.prune;
        let Some(id) = self.routes.open(now, player, prune, route) else {
            door(&self.door).leave(self.through, player, &choice);
            return Err(Dropped::TooManyPlayers);
        };
        let watched = self
            .routes
            .get(id)
            .map(|(_, route)| epoll::add(&*self.epoll, &route.socket, EventData::new_u64(id.number()), EventFlags::IN));
        if let Some(Err(errno)) = watched {
            self.close(id, Over::Stopped, ended);
            return Err(reason(errno));
        }
        self.tally.opened();
        let redirect = door(&self.door).name_of(choice.line).to_owned();
        tracing::info!(target: "gameproxy::player", client = %player.client, orig = %player.orig, redirect,
            server = %choice.server, "a player came");
        Ok(id)
    }

    /// A socket for a new player, who is let in. Where there are no more places, or descriptors, somebody whom no server answers
    /// makes room.
    fn socket(
        &mut self,
        choice: &Choice,
        player: &Player,
        ended: &mut dyn FnMut(&Player, Over),
    ) -> Result<OwnedFd, Dropped> {
        if !self.routes.has_room() {
            let oldest = self.routes.to_evict().ok_or(Dropped::TooManyPlayers)?;
            self.close(oldest, Over::Evicted, ended);
        }
        match self.open_socket(choice, player) {
            Err(Errno::MFILE | Errno::NFILE) => {
                let oldest = self.routes.to_evict().ok_or(Dropped::TooManyPlayers)?;
                self.close(oldest, Over::Evicted, ended);
                self.open_socket(choice, player).map_err(reason)
            }
            done => done.map_err(reason),
        }
    }

    /// The kernel gives the lowest number that is free: what has a high one has taken nearly the last.
    fn open_socket(&self, choice: &Choice, player: &Player) -> Result<OwnedFd, Errno> {
        let socket = upstream::open(choice, player)?;
        let is_reserved = u64::try_from(socket.as_raw_fd()).is_ok_and(|number| number >= self.reserved);
        if is_reserved { Err(Errno::MFILE) } else { Ok(socket) }
    }
}
