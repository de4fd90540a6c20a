//! Who comes in, and where to: asked once for each new player, never for a datagram of one that is there.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use service::balance::Change;

pub use super::line::LineId;
use super::line::{Count, Line};
use super::names::Names;
use super::offer::Offer;
use super::{fair, matching};
pub use crate::said::frame::Player;
use crate::said::rule::{Carriage, Dropped, Query, Redirect, Rules, TokenAt};

/// Which client side a player comes through: the flow's number in this process, 0 where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub u64);

/// What a new player's route is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The redirect: the same number after the rules were read again, as long as it has the same name.
    pub line: LineId,
    /// The redirect's place in the rules of now.
    pub redirect: usize,
    /// The server's place in the redirect.
    pub target: usize,
    /// Its address.
    pub server: SocketAddr,
    /// How the datagrams are carried.
    pub carriage: Carriage,
    /// What is taken out of each datagram.
    pub strip: Option<TokenAt>,
    /// Datagrams a second, a second's worth at once.
    pub rate: Option<NonZeroU32>,
}

/// A server that is to be asked whether it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    /// Whose server it is.
    pub line: LineId,
    /// Its place in the redirect.
    pub target: usize,
    /// Where it is; `None`: its name is not known, so [`Door::checked`] is to be told that it did not answer.
    pub server: Option<SocketAddr>,
    /// What it is asked.
    pub query: Query,
}

/// A client side, as far as it matters.
#[derive(Clone, Debug, Default)]
struct Machine {
    /// Its addresses, its own and the one that it is seen at; none: not told yet.
    addresses: Option<Vec<IpAddr>>,
    /// The round trip to it.
    leg: Option<Duration>,
}

/// Lets players in.
#[derive(Debug, Default)]
pub struct Door {
    rules: Rules,
    names: Names,
    /// One for each redirect, in order.
    lines: Vec<Line>,
    /// Of redirects that are gone and still have players.
    gone: Vec<Line>,
    next: u64,
    all: Count,
    machines: HashMap<ClientId, Machine>,
    closed: bool,
}

impl Door {
    /// By these rules. Host names in them are not known until they are [learnt](Self::learn).
    pub fn new(rules: Rules) -> Self {
        let mut door = Self { rules, ..Self::default() };
        door.lines = door.rules.redirects.iter().map(|redirect| fresh(&mut door.next, redirect)).collect();
        door
    }

    /// The rules of now.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Other rules. Redirects that have the name of one before go on with its players and what is known of its servers. Players
    /// that are there are to be [revised](Self::revise).
    pub fn reload(&mut self, rules: Rules) {
        let mut before: HashMap<String, Line> =
            self.lines.drain(..).map(|line| (line.name().to_owned(), line)).collect();
        for redirect in &rules.redirects {
            let line = match before.remove(&redirect.name) {
                Some(line) => line.changed(redirect),
                None => fresh(&mut self.next, redirect),
            };
            self.lines.push(line);
        }
        self.gone.extend(before.into_values());
        self.gone.retain(|line| line.count.players() > 0);
        self.names.keep(&crate::said::file::names(&rules));
        self.rules = rules;
    }

    /// A name's addresses of now. Whether that is news, after which client sides are to be told, and players revised.
    pub fn learn(&mut self, name: &str, addresses: &[IpAddr]) -> bool {
        self.names.learn(name, addresses)
    }

    /// What is known of names.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// What client sides are told.
    pub fn offer(&self) -> Offer {
        Offer::of(&self.rules, &self.names)
    }

    /// A client side says which addresses its machine has; the one that it is seen at is to be among them.
    pub fn machine(&mut self, client: ClientId, addresses: Vec<IpAddr>) {
        self.machines.entry(client).or_default().addresses = Some(addresses);
    }

    /// The round trip to a client side.
    pub fn leg(&mut self, client: ClientId, round_trip: Duration) {
        self.machines.entry(client).or_default().leg = Some(round_trip);
    }

    /// A client side is gone; its players have left, each by itself.
    pub fn gone(&mut self, client: ClientId) {
        self.machines.remove(&client);
    }

    /// A player's first datagram: where it goes. Each that is let in [leaves](Self::leave) once.
    pub fn enter(&mut self, now: Instant, through: ClientId, player: Player, first: &[u8]) -> Result<Choice, Dropped> {
        if self.closed {
            return Err(Dropped::Stopping);
        }
        let place = self.place(through, player)?;
        let address = player.client.ip().to_canonical();
        let has_room = self.all.has_room(&self.rules.limits, through, address)
            && self.lines[place].count.has_room(&self.rules.redirects[place].limits, through, address);
        if !has_room {
            return Err(Dropped::TooManyPlayers);
        }
        let target = self.target(now, place, player.client, first)?;
        let server = self.server(&self.rules.redirects[place], target).ok_or(Dropped::NoServer)?;
        self.all.add(through, address);
        self.lines[place].add(target, server, through, address);
        Ok(self.choice(place, target, server))
    }

    /// From now on nobody is let in; who is there may stay.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// The first redirect that takes a player, who the list of all lets in.
    fn place(&self, through: ClientId, player: Player) -> Result<usize, Dropped> {
        if !matching::lets(&self.rules.access, &self.names, player.client) {
            return Err(Dropped::Denied);
        }
        let machine = self.machines.get(&through).and_then(|machine| machine.addresses.as_deref());
        let mut denied = false;
        for (place, redirect) in self.rules.redirects.iter().enumerate() {
            match matching::takes(redirect, &self.names, machine, player.orig, player.client) {
                Ok(()) => return Ok(place),
                Err(not) => denied |= matches!(not, matching::Not::Denied(_)),
            }
        }
        Err(if denied { Dropped::Denied } else { Dropped::NoRedirect })
    }

    /// The server for a player, among those that have its token and whose names are known.
    fn target(&mut self, now: Instant, place: usize, player: SocketAddr, first: &[u8]) -> Result<usize, Dropped> {
        let redirect = &self.rules.redirects[place];
        let token = match redirect.token {
            Some(at) => Some(token(at, first).ok_or(Dropped::NoToken)?),
            None => None,
        };
        let has_token = |target: usize| match token {
            Some(token) => redirect.to[target].tokens.iter().any(|own| own == token),
            None => true,
        };
        if !(0..redirect.to.len()).any(has_token) {
            return Err(Dropped::NoToken);
        }
        let out = |target: &usize| !has_token(*target) || self.server(redirect, *target).is_none();
        let excluded: Vec<usize> = (0..redirect.to.len()).filter(out).collect();
        let picked = self.lines[place].pick(now, player.ip(), &excluded);
        picked.ok_or(Dropped::NoServer)
    }

    fn server(&self, redirect: &Redirect, target: usize) -> Option<SocketAddr> {
        let place = &redirect.to.get(target)?.place;
        self.names.addresses(&place.host).first().map(|ip| SocketAddr::new(*ip, place.port))
    }

    fn choice(&self, place: usize, target: usize, server: SocketAddr) -> Choice {
        let redirect = &self.rules.redirects[place];
        Choice {
            line: self.lines[place].id,
            redirect: place,
            target,
            server,
            carriage: redirect.carriage,
            strip: redirect.token,
            rate: redirect.limits.rate.or(self.rules.limits.rate),
        }
    }

    /// A player that was let in is gone.
    pub fn leave(&mut self, through: ClientId, player: Player, choice: &Choice) {
        let address = player.client.ip().to_canonical();
        if let Some(line) = self.line_mut(choice.line) {
            line.remove(choice.server, through, address);
            self.all.remove(through, address);
        }
        self.gone.retain(|line| line.count.players() > 0);
    }

    /// What becomes of a player that is there, by the rules of now: its route changes to this, or is over. A server whose name
    /// has another address now keeps the players that it has.
    pub fn revise(&self, through: ClientId, player: Player, choice: &Choice) -> Option<Choice> {
        let place = self.place(through, player).ok()?;
        let line = self.lines.get(place).filter(|line| line.id == choice.line)?;
        let target = line.target_of(choice.server, |target| self.server(&self.rules.redirects[place], target))?;
        Some(self.choice(place, target, choice.server))
    }

    /// How much longer than its redirect says a player's datagrams wait, for fairness: from it, to it.
    pub fn more(&self, through: ClientId, choice: &Choice) -> [Duration; 2] {
        let bound = self.rules.redirects.get(choice.redirect).and_then(|redirect| redirect.fair_ping);
        let (Some(bound), Some(line)) = (bound, self.line(choice.line)) else { return [Duration::ZERO; 2] };
        let leg = |client: ClientId| self.machines.get(&client).and_then(|machine| machine.leg).unwrap_or_default();
        fair::more(leg(through), line.count.clients().map(leg), bound)
    }

    /// Whether anybody is delayed for fairness.
    pub fn is_fair(&self) -> bool {
        self.rules.redirects.iter().any(|redirect| redirect.fair_ping.is_some())
    }

    /// The server answered a player, or its host says that nobody is there.
    pub fn answered(&mut self, now: Instant, choice: &Choice, is_there: bool) -> Option<Change> {
        self.line_mut(choice.line)?.answered(now, choice.server, is_there)
    }

    /// Whether a player could go to another server of its redirect: one that is taken for alive, and has its tokens.
    pub fn has_other(&self, choice: &Choice) -> bool {
        let (Some(redirect), Some(line)) = (self.rules.redirects.get(choice.redirect), self.line(choice.line)) else {
            return false;
        };
        let tokens = |target: usize| redirect.to.get(target).map_or(&[][..], |target| &target.tokens);
        let shares =
            |target| redirect.token.is_none() || tokens(choice.target).iter().any(|own| tokens(target).contains(own));
        let could = |target| line.is_up(target) && self.server(redirect, target).is_some() && shares(target);
        (0..redirect.to.len()).any(|target| target != choice.target && could(target))
    }

    /// The server that is to be asked now; [`Self::checked`] follows once.
    pub fn poll_check(&mut self, now: Instant) -> Option<Check> {
        for place in 0..self.lines.len() {
            let Some(health) = self.rules.redirects[place].health else { continue };
            if let Some(target) = self.lines[place].poll_check(now) {
                let server = self.server(&self.rules.redirects[place], target);
                return Some(Check { line: self.lines[place].id, target, server, query: health.query });
            }
        }
        None
    }

    /// What a question came to: how long the answer took, or none.
    pub fn checked(&mut self, now: Instant, check: &Check, answer: Option<Duration>) -> Option<Change> {
        self.line_mut(check.line)?.checked(now, check.target, answer)
    }

    /// When to [ask](Self::poll_check) again.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.lines.iter().filter_map(Line::poll_timeout).min()
    }

    /// Each redirect of now with what is known of it, in order; then those that are gone and still have players.
    pub fn lines(&self) -> impl Iterator<Item = (Option<&Redirect>, &Line)> {
        let now = self.rules.redirects.iter().map(Some).zip(&self.lines);
        now.chain(self.gone.iter().map(|line| (None, line)))
    }

    /// A redirect's name.
    pub fn name_of(&self, line: LineId) -> &str {
        self.line(line).map_or("-", Line::name)
    }

    /// Players that are there.
    pub fn players(&self) -> u32 {
        self.all.players()
    }

    fn line(&self, id: LineId) -> Option<&Line> {
        self.lines.iter().chain(&self.gone).find(|line| line.id == id)
    }

    fn line_mut(&mut self, id: LineId) -> Option<&mut Line> {
        self.lines.iter_mut().chain(&mut self.gone).find(|line| line.id == id)
    }
}

fn fresh(next: &mut u64, redirect: &Redirect) -> Line {
    *next += 1;
    Line::new(LineId(*next), redirect)
}

/// The token in a datagram, if that is long enough to have one.
fn token(at: TokenAt, datagram: &[u8]) -> Option<&[u8]> {
    match at {
        TokenAt::Front(length) => datagram.get(..usize::from(length)),
        TokenAt::Back(length) => datagram.get(datagram.len().checked_sub(usize::from(length))?..),
    }
}

#[cfg(test)]
mod tests;
