//! The side of the game servers: a route and a socket for each player, and the queues between.

mod enter;

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use datagrams::Batch;
use rustix::io::Errno;
use service::balance::Change;

use super::edge::at_once;
use super::route::{Route, as_put, reason, without_token};
use super::tally::Tally;
use crate::machine::door::{Choice, ClientId, Door, Player};
use crate::machine::pool::Pool;
use crate::machine::queue::{Agenda, Chance, Fate, Item, Queue};
use crate::machine::routes::{Over, RouteId, Routes, Side};
use crate::said::rule::Dropped;

/// Players of one client side at a time, whatever the limits: each has a descriptor.
const MOST: usize = 16_384;
/// How soon a datagram that found no room is tried again.
pub(super) const AGAIN: Duration = Duration::from_millis(1);
/// A datagram that finds no room for so long is dropped.
const LATE: Duration = Duration::from_millis(250);

/// Who is let in is decided for all client sides together.
pub(super) type SharedDoor = Arc<Mutex<Door>>;

/// What became of a datagram on its way to the client side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// It goes.
    Done,
    /// There is no room now.
    Full,
    /// It cannot go.
    Dropped(Dropped),
}

/// Where datagrams for players go.
pub(super) type Sink<'a> = &'a mut dyn FnMut(&Player, &[u8]) -> Put;

/// Routes of the players that come through one client side.
#[derive(Debug)]
pub(super) struct Core {
    epoll: Arc<OwnedFd>,
    routes: Routes<Player, Route>,
    agenda: Agenda<(RouteId, Side)>,
    pool: Pool,
    scratch: Vec<u8>,
    door: SharedDoor,
    chance: Chance,
    through: ClientId,
    tally: Arc<Tally>,
    /// Somebody may be delayed for fairness.
    leveled: bool,
    /// Descriptors from this number on are not for players.
    reserved: u64,
    /// Routes whose server is not there while another is: their players go there with their next datagrams.
    astray: Vec<RouteId>,
}

/// A player, for who looks.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Who it is.
    pub player: Player,
    /// Where it plays.
    pub choice: Choice,
    /// How long it has been there.
    pub age: Duration,
    /// How long its server takes to answer, smoothed; `None`: it has not yet.
    pub answers_in: Option<Duration>,
    /// Datagrams carried: from the player, from the server.
    pub carried: [u64; 2],
    /// Datagrams that wait: the player's, the server's.
    pub waiting: [usize; 2],
}

impl Core {
    /// Without players. Their servers' sockets are watched by `epoll`, as the numbers of their routes.
    pub(super) fn new(epoll: Arc<OwnedFd>, door: SharedDoor, through: ClientId, tally: Arc<Tally>, seed: u64) -> Self {
        Self {
            epoll,
            routes: Routes::new(MOST),
            agenda: Agenda::default(),
            pool: Pool::default(),
            scratch: Vec::with_capacity(2048),
            door,
            chance: Chance::new(seed),
            through,
            tally,
            leveled: false,
            reserved: enter::reserved(),
            astray: Vec::new(),
        }
    }

    /// A player's route.
    pub(super) fn find(&self, player: &Player) -> Option<RouteId> {
        self.routes.find(player)
    }

    /// A player's datagram.
    pub(super) fn forward(&mut self, now: Instant, id: RouteId, data: &[u8]) {
        let Some(route) = self.routes.heard(now, id, Side::Player) else { return };
        if route.pace.as_mut().is_some_and(|pace| !pace.take(now)) {
            return self.tally.dropped(Dropped::TooFast);
        }
        let Some(data) = without_token(data, route.choice.strip) else { return self.tally.dropped(Dropped::NoToken) };
        let more = route.more[Side::Player as usize];
        match self.chance.fate(now, &route.choice.carriage.up, more) {
            Fate::Lost => self.tally.dropped(Dropped::Lost),
            Fate::At(due) => self.wait(now, id, Side::Player, due, data),
            // What waits goes first.
            Fate::Now if !route.queues[Side::Player as usize].is_empty() => self.wait(now, id, Side::Player, now, data),
            Fate::Now => match route.send(now, data, &mut self.scratch) {
                Ok(()) => self.tally.carried(Side::Player, data.len()),
                Err(Errno::WOULDBLOCK | Errno::NOBUFS) => self.wait(now, id, Side::Player, now, data),
                Err(errno) => self.tally.dropped(reason(errno)),
            },
        }
    }

    /// What a server says on a route. `batch` is used up.
    pub(super) fn collect(&mut self, now: Instant, number: u64, batch: &mut Batch, sink: Sink<'_>) {
        let id = RouteId::from_number(number);
        let Some((_, route)) = self.routes.get_mut(id) else { return };
        batch.clear();
        let most = at_once(now, &mut route.collected);
        match batch.receive_some(route.socket.as_fd(), most) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            // Nobody listens there, now. A server that is started again is found again by the same player.
            Err(error) => {
                let why = reason(Errno::from_io_error(&error).unwrap_or(Errno::IO));
                self.tally.dropped(why);
                if why == Dropped::Unreachable {
                    self.believe(now, id, false);
                }
            }
        }
        if !batch.is_empty() {
            self.believe(now, id, true);
        }
        for place in 0..batch.len() {
            self.down(now, id, batch.get(place).1, sink);
        }
    }

    /// Whether a player's server is there is told once, until it is otherwise: others may go elsewhere.
    fn believe(&mut self, now: Instant, id: RouteId, is_there: bool) {
        let Some((_, route)) = self.routes.get_mut(id) else { return };
        if route.is_there.replace(is_there) == Some(is_there) {
            return;
        }
        let mut door = door(&self.door);
        let change = door.answered(now, &route.choice, is_there);
        // One that has answered may be starting again, and knows its players then.
        if !is_there && route.answers_in.is_none() && door.has_other(&route.choice) {
            self.astray.push(id);
        }
        let (redirect, server) = (door.name_of(route.choice.line), route.choice.server);
        match change {
            Some(Change::WentDown) => tracing::warn!("redirect {redirect}: nobody is at the server {server}"),
            Some(Change::CameUp) => tracing::info!("redirect {redirect}: the server {server} is there again"),
            None => {}
        }
    }

    fn down(&mut self, now: Instant, id: RouteId, data: &[u8], sink: Sink<'_>) {
        let Some(route) = self.routes.heard(now, id, Side::Server) else { return };
        route.answered(now);
        let more = route.more[Side::Server as usize];
        match self.chance.fate(now, &route.choice.carriage.down, more) {
            Fate::Lost => self.tally.dropped(Dropped::Lost),
            Fate::At(due) => self.wait(now, id, Side::Server, due, data),
            Fate::Now if !route.queues[Side::Server as usize].is_empty() => self.wait(now, id, Side::Server, now, data),
            Fate::Now => {
                route.carried[Side::Server as usize] += 1;
                let Some((player, _)) = self.routes.get(id) else { return };
                match sink(player, data) {
                    Put::Done => self.tally.carried(Side::Server, data.len()),
                    Put::Full => self.wait(now, id, Side::Server, now, data),
                    Put::Dropped(why) => self.tally.dropped(why),
                }
            }
        }
    }

    /// A datagram waits in its route's queue.
    fn wait(&mut self, now: Instant, id: RouteId, from: Side, due: Instant, data: &[u8]) {
        let Some((_, route)) = self.routes.get_mut(id) else { return };
        let way = route.way(from);
        let (room, full) = (way.room(route.more[from as usize]), way.full);
        let queue = &mut route.queues[from as usize];
        // So much waits of all players together: each makes room for its own.
        if !self.pool.has_room(data.len())
            && let Some(old) = queue.pop_front()
        {
            self.pool.give(old);
            self.tally.dropped(Dropped::QueueFull);
        }
        let Some(what) = self.pool.take(data) else { return self.tally.dropped(Dropped::QueueFull) };
        let item = Item { due, came: now, what };
        if let Some(dropped) = queue.push(item, room, full) {
            self.pool.give(dropped);
            self.tally.dropped(Dropped::QueueFull);
        }
        // Due at once: there was no room, and is none this moment.
        match due <= now {
            true => self.agenda.arm_at((id, from), queue, now + AGAIN),
            false => self.agenda.arm((id, from), queue),
        }
    }

    /// Sends all that is due.
    pub(super) fn release(&mut self, now: Instant, sink: Sink<'_>) {
        while let Some((entry, (id, from))) = self.agenda.poll(now) {
            let Some((player, route)) = self.routes.get_mut(id) else { continue };
            let (player, way) = (*player, route.way(from));
            route.queues[from as usize].disarm(entry);
            let mut blocked = false;
            while let Some(item) = route.queues[from as usize].pop(now) {
                let late = now.saturating_duration_since(item.due);
                let put = match from {
                    Side::Player => as_put(route.send(now, &item.what, &mut self.scratch)),
                    Side::Server => sink(&player, &item.what),
                };
                match put {
                    Put::Done => {
                        self.tally.carried(from, item.what.len());
                        self.tally.late(late);
                        route.carried[from as usize] += u64::from(from == Side::Server);
                    }
                    Put::Dropped(why) => self.tally.dropped(why),
                    Put::Full if late > LATE + way.jitter => self.tally.dropped(Dropped::Late),
                    Put::Full => {
                        route.queues[from as usize].put_back(item);
                        blocked = true;
                        break;
                    }
                }
                self.pool.give(item.what);
            }
            let queue = &mut route.queues[from as usize];
            match blocked {
                true => self.agenda.arm_at((id, from), queue, now + AGAIN),
                false => self.agenda.arm((id, from), queue),
            }
        }
    }

    /// Ends the routes that somebody was silent on, or that lead nowhere; `ended` is told which.
    pub(super) fn expire(&mut self, now: Instant, ended: &mut dyn FnMut(&Player, Over)) {
        while let Some(id) = self.astray.pop() {
            self.close(id, Over::Unreachable, ended);
        }
        while let Some((id, over)) = self.routes.poll_silent(now) {
            self.close(id, over, ended);
        }
    }

    /// The client side says that a player is gone.
    pub(super) fn told(&mut self, player: &Player) {
        if let Some(id) = self.routes.find(player) {
            self.close(id, Over::Told, &mut |_, _| {});
        }
    }

    /// Ends all routes of which `over` says why.
    pub(super) fn end_those(
        &mut self,
        mut over: impl FnMut(&Player, &Choice) -> Option<Over>,
        ended: &mut dyn FnMut(&Player, Over),
    ) {
        let chosen = self.routes.iter().filter_map(|(id, player, route)| Some((id, over(player, &route.choice)?)));
        let chosen: Vec<(RouteId, Over)> = chosen.collect();
        for (id, over) in chosen {
            self.close(id, over, ended);
        }
    }

    /// Other rules: routes change, or end.
    pub(super) fn revise(&mut self, now: Instant, ended: &mut dyn FnMut(&Player, Over)) {
        let revised: Vec<(RouteId, Option<Choice>)> = {
            let door = door(&self.door);
            let revise =
                |(id, player, route): (_, &Player, &Route)| (id, door.revise(self.through, *player, &route.choice));
            self.routes.iter().map(revise).collect()
        };
        for (id, choice) in revised {
            match choice {
                None => self.close(id, Over::Removed, ended),
                Some(choice) => {
                    self.routes.set_prune(now, id, choice.carriage.prune);
                    if let Some((player, route)) = self.routes.get_mut(id) {
                        route.change(choice, player);
                    }
                }
            }
        }
        self.level();
    }

    /// Delays players by how much nearer they are than others, where that is wished.
    pub(super) fn level(&mut self) {
        let door = door(&self.door);
        if !door.is_fair() && !self.leveled {
            return;
        }
        self.leveled = door.is_fair();
        let more = |route: &Route| door.more(self.through, &route.choice);
        let all: Vec<(RouteId, [Duration; 2])> = self.routes.iter().map(|(id, _, route)| (id, more(route))).collect();
        for (id, more) in all {
            if let Some((_, route)) = self.routes.get_mut(id) {
                route.more = more;
            }
        }
    }

    fn close(&mut self, id: RouteId, over: Over, ended: &mut dyn FnMut(&Player, Over)) {
        let Some((player, mut route)) = self.routes.close(id) else { return };
        for item in route.queues.iter_mut().flat_map(Queue::drain) {
            self.pool.give(item.what);
        }
        let redirect = {
            let mut door = door(&self.door);
            let name = door.name_of(route.choice.line).to_owned();
            door.leave(self.through, player, &route.choice);
            name
        };
        self.tally.over(over);
        tracing::info!(target: "gameproxy::player", client = %player.client, orig = %player.orig, redirect, server = %route.choice.server,
            up = route.carried[0], down = route.carried[1], why = over.words(), "a player went");
        ended(&player, over);
    }

    /// When to [release](Self::release) and to [expire](Self::expire) at the latest.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        // Many end together: what ends a moment later costs nothing.
        let expire = self.routes.poll_timeout().map(|due| due + Duration::from_millis(50));
        [self.agenda.poll_timeout(), expire].into_iter().flatten().min()
    }

    /// How many players are there.
    pub(super) fn len(&self) -> usize {
        self.routes.len()
    }

    /// All players.
    pub(super) fn seen(&self, now: Instant) -> impl Iterator<Item = Seen> {
        self.routes.iter().map(move |(_, player, route)| Seen {
            player: *player,
            choice: route.choice.clone(),
            age: now.saturating_duration_since(route.since),
            answers_in: route.answers_in,
            carried: route.carried,
            waiting: route.queues.each_ref().map(Queue::len),
        })
    }
}

fn door(door: &SharedDoor) -> std::sync::MutexGuard<'_, Door> {
    door.lock().unwrap_or_else(PoisonError::into_inner)
}
