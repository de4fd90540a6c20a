//! A redirect in force: how many play there, and how its servers are.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use service::balance::{Balance, Change, Health, Policy};

use super::door::ClientId;
use crate::said::rule::{Balance as Wanted, Limits, Redirect};

/// How long a server that was not there is left alone, where servers are not asked.
const RETRY: Duration = Duration::from_secs(1);
/// So many players in a row who learn that nobody is there make a server dead, where servers are not asked.
const FAILS: NonZeroU32 = NonZeroU32::new(3).unwrap();
/// A new measurement is this part of the whole, as TCP has it (RFC 6298, 2).
const NEWS: u32 = 8;

/// A redirect's number, which no other has or had in this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LineId(pub u64);

/// How many players there are: in all, by address, by client side.
#[derive(Clone, Debug, Default)]
pub struct Count {
    players: u32,
    by_address: HashMap<IpAddr, u32>,
    by_client: HashMap<ClientId, u32>,
}

impl Count {
    /// Players.
    pub fn players(&self) -> u32 {
        self.players
    }

    /// Client sides that have players here.
    pub fn clients(&self) -> impl Iterator<Item = ClientId> {
        self.by_client.keys().copied()
    }

    /// Whether another may come.
    pub fn has_room(&self, limits: &Limits, through: ClientId, address: IpAddr) -> bool {
        let below = |most: Option<NonZeroU32>, count: u32| most.is_none_or(|most| count < most.get());
        below(limits.players, self.players)
            && below(limits.per_address, self.by_address.get(&address).copied().unwrap_or(0))
            && below(limits.per_client, self.by_client.get(&through).copied().unwrap_or(0))
    }

    /// One came.
    pub fn add(&mut self, through: ClientId, address: IpAddr) {
        self.players += 1;
        *self.by_address.entry(address).or_default() += 1;
        *self.by_client.entry(through).or_default() += 1;
    }

    /// One went.
    pub fn remove(&mut self, through: ClientId, address: IpAddr) {
        self.players = self.players.saturating_sub(1);
        take(&mut self.by_address, address);
        take(&mut self.by_client, through);
    }
}

fn take<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, u32>, key: K) {
    if let Some(count) = counts.get_mut(&key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(&key);
        }
    }
}

/// A redirect in force.
#[derive(Clone, Debug)]
pub struct Line {
    /// Which.
    pub id: LineId,
    /// Its players.
    pub count: Count,
    name: String,
    balance: Balance,
    servers: Vec<Server>,
}

/// A server of it.
#[derive(Clone, Debug, Default)]
struct Server {
    name: String,
    /// Its players by the address that it had when they came.
    players: HashMap<SocketAddr, u32>,
    round_trip: Option<Duration>,
}

impl Line {
    /// A new one: its servers are taken for alive, and asked at once.
    pub fn new(id: LineId, redirect: &Redirect) -> Self {
        let names = redirect.to.iter().map(|target| target.place.to_string());
        let servers = names.clone().map(|name| Server { name, ..Server::default() }).collect();
        let policy = match redirect.balance {
            Wanted::RoundRobin => Policy::RoundRobin,
            Wanted::Hash => Policy::SourceHash,
            Wanted::LeastPlayers => Policy::LeastConnections,
        };
        let health = match redirect.health {
            Some(health) => Health { fails: health.fails, retry: health.every, check: Some(health.every) },
            None => Health { fails: FAILS, retry: RETRY, check: None },
        };
        let balance = Balance::idle(policy, health, names);
        Self { id, count: Count::default(), name: redirect.name.clone(), balance, servers }
    }

    /// The same with other rules: its players, and what is known of servers that stay, are kept.
    pub fn changed(self, redirect: &Redirect) -> Self {
        let mut line = Self { count: self.count, ..Self::new(self.id, redirect) };
        line.balance.inherit(&self.balance);
        let mut before = self.servers;
        for server in &mut line.servers {
            if let Some(known) = before.iter_mut().find(|known| known.name == server.name) {
                *server = std::mem::take(known);
            }
        }
        line
    }

    /// As the rules call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The server for a player: none of the excluded.
    pub fn pick(&mut self, now: Instant, player: IpAddr, excluded: &[usize]) -> Option<usize> {
        let servers = &self.servers;
        self.balance.pick(now, Some(player), excluded, |target| servers[target].count())
    }

    /// A player came.
    pub fn add(&mut self, target: usize, server: SocketAddr, through: ClientId, address: IpAddr) {
        self.count.add(through, address);
        if let Some(known) = self.servers.get_mut(target) {
            *known.players.entry(server).or_default() += 1;
        }
    }

    /// A player went.
    pub fn remove(&mut self, server: SocketAddr, through: ClientId, address: IpAddr) {
        self.count.remove(through, address);
        if let Some(known) = self.servers.iter_mut().find(|known| known.players.contains_key(&server)) {
            take(&mut known.players, server);
        }
    }

    /// Which server has this address now, or had it when its players came.
    pub fn target_of(&self, server: SocketAddr, now_at: impl Fn(usize) -> Option<SocketAddr>) -> Option<usize> {
        let had = |known: &Server| known.players.contains_key(&server);
        (0..self.servers.len()).find(|target| had(&self.servers[*target]) || now_at(*target) == Some(server))
    }

    /// A server answered a player, or its host says that nobody is there.
    pub fn answered(&mut self, now: Instant, server: SocketAddr, is_there: bool) -> Option<Change> {
        let target = self.servers.iter().position(|known| known.players.contains_key(&server))?;
        if is_there { self.balance.succeeded(target) } else { self.balance.failed(now, target) }
    }

    /// Whether a server is taken for alive.
    pub fn is_up(&self, target: usize) -> bool {
        self.balance.is_up(target)
    }

    /// The server that is to be asked now.
    pub fn poll_check(&mut self, now: Instant) -> Option<usize> {
        self.balance.poll_check(now)
    }

    /// What that came to.
    pub fn checked(&mut self, now: Instant, target: usize, answer: Option<Duration>) -> Option<Change> {
        if let (Some(server), Some(took)) = (self.servers.get_mut(target), answer) {
            server.round_trip = Some(smooth(server.round_trip, took));
        }
        self.balance.checked(now, target, answer.is_some())
    }

    /// When the next is to be asked.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.balance.poll_timeout()
    }

    /// Its servers: name, whether it is taken for alive, players, round trip to it if it is asked.
    pub fn servers(&self) -> impl Iterator<Item = (&str, bool, u64, Option<Duration>)> {
        let all = self.servers.iter().enumerate();
        all.map(|(target, server)| (&*server.name, self.balance.is_up(target), server.count(), server.round_trip))
    }
}

impl Server {
    fn count(&self) -> u64 {
        self.players.values().map(|count| u64::from(*count)).sum()
    }
}

/// A mean that follows what is new.
pub fn smooth(known: Option<Duration>, new: Duration) -> Duration {
    known.map_or(new, |known| (known * (NEWS - 1) + new) / NEWS)
}
