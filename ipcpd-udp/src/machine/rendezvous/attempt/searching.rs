//! An attempt's search by many sockets or ports, after plain hellos came to nothing.

use std::net::SocketAddr;
use std::time::Instant;

use proto::rendezvous::{Malformed, Meeting};
use rand_chacha::ChaCha12Rng;

use super::super::punch::Punch;
use super::super::search::{self, Role, Search};
use super::{Attempt, Goal, HOPELESS, Stage};

/// A search, where one may do.
#[derive(Clone, Debug, Default)]
pub(super) enum Searching {
    #[default]
    No,
    /// The owner is to say whether there may be one.
    Wanted(Role),
    Under(Box<Search>),
    Over,
}

impl Attempt {
    /// Which part of a search would be this side's; none where there is a relay: it gives a flow at once, and what a search finds is
    /// another socket's path, to which no flow moves.
    pub(super) fn may_search(&self) -> Option<Role> {
        let peer = self.meeting.as_ref()?.nat;
        search::role(self.own_nat(), peer).filter(|_| self.setup.relay.is_none() && self.result.is_none())
    }

    pub(super) fn searches_until(&self) -> Option<Instant> {
        if let Searching::Under(search) = &self.searching { Some(search.until()) } else { None }
    }

    /// A search is wanted where hellos have come to nothing; one that goes on goes on.
    pub(super) fn search_timeout(&mut self, now: Instant) {
        let Stage::Punching(punch) = &self.stage else { return };
        match &mut self.searching {
            Searching::No if now >= punch.begins() + HOPELESS && !punch.heard_any() => {
                if let Some(role) = self.may_search() {
                    self.searching = Searching::Wanted(role);
                }
            }
            Searching::Under(search) if punch.won().is_none() => search.handle_timeout(now),
            _ => {}
        }
    }

    /// What the search is to be, and with whom; once. The owner says [`begin_search`](Self::begin_search).
    pub fn wants_search(&self) -> Option<(Role, &Meeting)> {
        match (&self.searching, &self.meeting) {
            (Searching::Wanted(role), Some(meeting)) if matches!(self.stage, Stage::Punching(_)) => {
                Some((*role, meeting))
            }
            _ => None,
        }
    }

    /// Whether there is room for one. Of who opens sockets, [`search::SOCKETS`] are to be reported, or fewer.
    pub fn begin_search(&mut self, now: Instant, may: bool, rng: &mut ChaCha12Rng) {
        let Some((role, meeting)) = self.wants_search().filter(|_| may) else {
            self.searching = Searching::Over;
            return;
        };
        let Stage::Punching(punch) = &self.stage else { return };
        let asking = matches!(self.goal, Goal::Ask { .. });
        let search = Search::new(now, role, asking, punch.speaks(), meeting, rng);
        self.searching = Searching::Under(Box::new(search));
        self.search_timeout(now);
    }

    /// The search, where one is under way.
    pub fn search(&mut self) -> Option<&mut Search> {
        if let Searching::Under(search) = &mut self.searching { Some(search) } else { None }
    }

    /// No more of it.
    pub fn end_search(&mut self) {
        self.searching = Searching::Over;
    }

    /// A datagram of this family at one of the search's sockets.
    pub fn handle_search(
        &mut self,
        now: Instant,
        socket: usize,
        from: SocketAddr,
        bytes: &[u8],
        rng: &mut ChaCha12Rng,
    ) -> Result<(), Malformed> {
        let search = self.search().ok_or(Malformed::Header)?;
        if search.handle(now, socket, from, bytes, rng)?.is_some() && self.result.is_none() {
            self.found_by = Some(socket);
        }
        Ok(())
    }

    /// The other side's first word that needs a path came to one of the search's sockets: it has the path, if a sealed hello came
    /// there, too.
    pub fn take_search(&mut self, socket: usize, from: SocketAddr) -> bool {
        let heard = self.search().is_some_and(|search| search.was_heard(socket, from));
        if heard && self.result.is_none() {
            self.found_by = Some(socket);
        }
        heard
    }

    /// The socket of the search that is to be the flow's from now on, once there is one: this attempt goes on there.
    pub fn take_found(&mut self) -> Option<(usize, SocketAddr)> {
        let socket = self.found_by.take()?;
        let Searching::Under(search) = std::mem::replace(&mut self.searching, Searching::Over) else { return None };
        let (punch, local) = search.give_up_for(socket)?;
        if let Some(won) = punch.won() {
            self.result.get_or_insert(Ok(won));
        }
        self.setup.locals = vec![local];
        self.stage = Stage::Punching(Box::new(punch));
        Some((socket, local))
    }

    /// When the search wants to be looked at, or to begin.
    pub(super) fn next_of_search(&self, punch: &Punch) -> Option<Instant> {
        match &self.searching {
            Searching::No => self.may_search().map(|_| punch.begins() + HOPELESS).filter(|_| !punch.heard_any()),
            Searching::Under(search) => search.poll_timeout(),
            Searching::Wanted(_) | Searching::Over => None,
        }
    }
}
