//! New players: let in, given a route and a socket.

use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;

use super::{Core, Route, door};
use crate::io::route::reason;
use crate::io::upstream;
use crate::machine::door::{Choice, Player};
use crate::machine::routes::{Over, RouteId};
use crate::said::rule::Dropped;

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
        match upstream::open(choice, player) {
            Err(Errno::MFILE | Errno::NFILE) => {
                let oldest = self.routes.to_evict().ok_or(Dropped::TooManyPlayers)?;
                self.close(oldest, Over::Evicted, ended);
                upstream::open(choice, player).map_err(reason)
            }
            done => done.map_err(reason),
        }
    }
}
