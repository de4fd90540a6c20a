//! The client side of one server side: the ports that players send to, and the way, which is made again whenever it is lost.
#![expect(clippy::disallowed_methods, reason = "io/: the clock and timers")]

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datagrams::Batch;
use rustix::event::epoll;

use super::core::{AGAIN, Put};
use super::dial::Dial;
use super::edge::{Edge, PORT};
use super::far::control;
use super::orders::{Desk, ORDERS, Order, Orders, Report, WaySeen, orders};
use super::own;
use super::road::Road;
use super::tally::Tally;
use super::wait::{Sockets, until};
use crate::machine::again::Again;
use crate::machine::door::Player;
use crate::machine::front::Front;
use crate::machine::pulse::Pulse;
use crate::machine::routes::{Over, RouteId, Routes, Side};
use crate::machine::tell::{Learner, Learnt};
use crate::said::frame::Said;
use crate::said::offer::About;
use crate::said::rule::{Dropped, Prune, Silence};

/// Players at a time.
const MOST: usize = 16_384;
/// The server side decides when a player is gone, and says so. What it said may be lost, or what the player said: after so long
/// a silence on both sides it is asked whether it knows the player, and again when that was twice as long.
const ASK: Prune = Prune { after: Duration::from_secs(3), of: Silence::Both };
/// Then a player is forgotten, whatever the server side knows.
const FORGET: Duration = Duration::from_secs(120);
/// Ports that could not be opened are tried again so often.
pub(super) const OPEN_AGAIN: Duration = Duration::from_secs(1);
/// How often the machine's addresses are looked at.
const LOOK: Duration = Duration::from_secs(5);
/// Of what one batch says of the configuration so much is heeded: all parts that are asked for at once.
const CONTROLS: usize = 32;

type Dialling = Pin<Box<dyn Future<Output = Result<Road, String>> + Send>>;

/// One server side, as its client side has it.
pub(super) struct Near {
    dial: Dial,
    edge: Edge,
    /// By what is said of them between the two sides, each with the address that its datagrams come from: one of a single link
    /// has that link in it, which nobody else knows.
    players: Routes<Player, SocketAddr>,
    sockets: Sockets,
    orders: Orders,
    tally: Arc<Tally>,
    batch: Batch,
    way: Way,
    again: Again,
    open_again: Option<Instant>,
    /// What it learns from the server side; `None`: it was told on its command line.
    learner: Option<Learner>,
    /// When it looks at the machine's addresses.
    look: Instant,
    /// Nobody new may play: it is being stopped.
    closed: bool,
}

/// The way to the server side.
#[expect(clippy::large_enum_variant, reason = "there is one of it for each way")]
enum Way {
    There(Road, Pulse),
    Dialling(Dialling),
    Waiting(Instant),
}

/// What has happened.
#[expect(clippy::large_enum_variant, reason = "it is taken apart where it is made")]
enum News {
    Came(Result<(), String>),
    Dialled(Result<Road, String>),
    Ready(std::io::Result<()>),
    Due,
}

impl Near {
    /// With these ports; or, without any, with those that the server side tells it.
    pub(super) fn new(dial: Dial, front: Option<Front>) -> anyhow::Result<(Self, Desk)> {
        let epoll: Arc<OwnedFd> = Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?);
        let tally = Arc::new(Tally::default());
        let (desk, orders) = orders(&epoll)?;
        let edge = Edge::new(epoll.clone(), tally.clone());
        let mut near = Self {
            way: Way::Waiting(Instant::now()),
            dial,
            edge,
            players: Routes::new(MOST),
            sockets: Sockets::new(epoll)?,
            orders,
            tally,
            batch: Batch::new(),
            again: Again::default(),
            open_again: None,
            learner: front.is_none().then(|| Learner::new(Instant::now(), own::addresses())),
            look: Instant::now() + LOOK,
            closed: false,
        };
        if let Some(front) = front {
            near.set(Instant::now(), front);
        }
        Ok((near, desk))
    }

    /// The ports, and who may send, are these from now on.
    fn set(&mut self, now: Instant, front: Front) {
        let allowed = front.clone();
        let failed = self.edge.set(front);
        for (at, error) in &failed {
            tracing::error!("the port {at} cannot be opened: {error}; it is tried again each second");
        }
        self.open_again = (!failed.is_empty()).then(|| now + OPEN_AGAIN);
        let gone = self.players.iter().filter(|(_, player, _)| !allowed.lets(player.client));
        let gone: Vec<_> = gone.map(|(id, ..)| id).collect();
        for id in gone {
            if let Some((player, _)) = self.players.close(id) {
                self.tally.over(Over::Removed);
                self.say(&Said::End(player, Over::Removed as u8));
            }
        }
    }

    fn say(&mut self, said: &Said<'_>) {
        if let Way::There(road, _) = &mut self.way {
            road.say(said);
        }
    }

    /// Carries until it is told to stop.
    pub(super) async fn run(mut self) -> anyhow::Result<()> {
        loop {
            let news = self.news().await;
            let now = Instant::now();
            match news {
                News::Came(heard) => {
                    if let Err(over) = heard.and_then(|()| self.heard(now)) {
                        self.lost(now, &over);
                    }
                }
                News::Dialled(Ok(road)) => {
                    tracing::info!("the way to {} is there", self.dial);
                    self.way = Way::There(road, Pulse::new(now));
                    if let Some(learner) = &mut self.learner {
                        learner.begin(now);
                    }
                }
                News::Dialled(Err(why)) => {
                    if self.again.is_news() {
                        tracing::warn!("there is no way to {}: {why}; it is tried again and again", self.dial);
                    }
                    self.way = Way::Waiting(now + self.again.failed(now));
                }
                News::Ready(ready) => {
                    ready?;
                    if !self.collect(now) {
                        break;
                    }
                }
                News::Due => {}
            }
            self.edge.flush();
            self.tick(now);
        }
        let all: Vec<Player> = self.players.iter().map(|(_, player, _)| *player).collect();
        for player in all {
            self.say(&Said::End(player, Over::Stopped as u8));
        }
        if let Way::There(road, _) = self.way {
            road.end().await;
        }
        Ok(())
    }

    async fn news(&mut self) -> News {
        let due = self.due();
        let way = async {
            match &mut self.way {
                Way::There(road, _) => News::Came(road.hear().await),
                Way::Dialling(dialling) => News::Dialled(dialling.await),
                Way::Waiting(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            news = way => news,
            ready = self.sockets.wait() => News::Ready(ready),
            () = until(due) => News::Due,
        }
    }

    fn due(&mut self) -> Option<Instant> {
        let way = match &mut self.way {
            Way::There(road, pulse) if road.speaks() => {
                let learn = self.learner.as_ref().map(|learner| learner.poll_timeout().min(self.look));
                let owed = road.settle().then(|| Instant::now() + AGAIN);
                learn.into_iter().chain(owed).chain([pulse.poll_timeout()]).min()
            }
            Way::There(..) | Way::Dialling(_) => None,
            Way::Waiting(until) => Some(*until),
        };
        [way, self.players.poll_timeout(), self.open_again].into_iter().flatten().min()
    }

    /// What time brings.
    fn tick(&mut self, now: Instant) {
        while let Some((id, over)) = self.players.poll_silent(now) {
            self.silent(now, id, over);
        }
        if self.open_again.is_some_and(|due| due <= now) {
            let failed = self.edge.open_missing();
            self.open_again = (!failed.is_empty()).then(|| now + OPEN_AGAIN);
        }
        match &mut self.way {
            Way::Waiting(until) if *until <= now => self.way = Way::Dialling(self.dial.begin()),
            Way::There(road, pulse) if road.speaks() => {
                if let Some(number) = pulse.poll_ping(now) {
                    road.say(&Said::Ping(number));
                }
                if pulse.is_silent(now) {
                    return self.lost(now, "the other side is silent");
                }
                self.learn(now);
            }
            _ => {}
        }
    }

    /// Nobody has said anything to or of a player for long.
    fn silent(&mut self, now: Instant, id: RouteId, over: Over) {
        let silence = self.players.silence(now, id).unwrap_or(FORGET);
        if silence < FORGET {
            let Some(player) = self.players.get(id).map(|(player, _)| *player) else { return };
            self.players.look_again(now + silence.min(FORGET - silence), id);
            self.say(&Said::Ask(player));
        } else if let Some((player, _)) = self.players.close(id) {
            self.tally.over(over);
            self.say(&Said::End(player, over as u8));
        }
    }

    /// Says what it has, and asks for what it has not.
    fn learn(&mut self, now: Instant) {
        let (Some(learner), Way::There(road, _)) = (&mut self.learner, &mut self.way) else { return };
        let mut moved = false;
        if self.look <= now {
            self.look = now + LOOK;
            moved = learner.moved(now, own::addresses());
        }
        while let Some(about) = learner.poll(now) {
            control(road, &about);
        }
        if moved && let Some(front) = learner.front() {
            self.set(now, front);
        }
    }

    /// What the server side says of the configuration.
    fn learnt(&mut self, now: Instant, bytes: &[u8]) {
        let Some(learner) = &mut self.learner else { return };
        let learnt = match About::parse(bytes) {
            Ok(about) => learner.heard(now, &about),
            Err(malformed) => Learnt::Nonsense(malformed),
        };
        match (learnt, learner.front()) {
            (Learnt::Front, Some(front)) => {
                tracing::info!(ports = ?front.ports, "{} says which ports are this machine's", self.dial);
                if front.ports.is_empty() {
                    tracing::warn!(
                        "no redirect of {} is for an address of this machine; see on and the redirects' addresses",
                        self.dial
                    );
                }
                self.set(now, front);
            }
            (Learnt::Nonsense(malformed), _) => {
                self.tally.dropped(Dropped::Malformed);
                tracing::debug!("what {} says of its configuration is not understood: {malformed}", self.dial);
            }
            _ => {}
        }
    }

    /// The way is lost. Players are kept: their next datagrams make their routes again.
    fn lost(&mut self, now: Instant, why: &str) {
        tracing::warn!("the way to {} is lost: {why}; it is made again", self.dial);
        self.way = Way::Waiting(now + self.again.failed(now));
    }

    /// What the server side says.
    fn heard(&mut self, now: Instant) -> Result<(), String> {
        let Self { way, edge, players, tally, again, .. } = self;
        let Way::There(road, pulse) = way else { return Ok(()) };
        // Not before: a way that is lost as soon as it is there would be made again and again without a pause.
        again.worked();
        pulse.heard(now);
        let mut pong = None;
        let mut controls: Vec<Vec<u8>> = Vec::new();
        let taken = road.take(|said| match said {
            Ok(Said::Datagram(player, data)) => match heard_of(now, players, &player) {
                Some(client) => {
                    edge.put(&Player { client, ..player }, data);
                    tally.carried(Side::Server, data.len());
                }
                // Nobody here has sent from there: no server makes this side send to whom it likes.
                None => tally.dropped(Dropped::NoPlayer),
            },
            Ok(Said::End(player, over)) => {
                if players.find(&player).and_then(|id| players.close(id)).is_some() {
                    tally.over(Over::Told);
                    tracing::debug!(target: "gameproxy::player", client = %player.client, over, "a player went");
                }
            }
            Ok(Said::Ping(number)) => pong = Some(number),
            Ok(Said::Pong(number)) => {
                pulse.pong(now, number);
                edge.set_leg(pulse.round_trip());
            }
            // Who is there is the server side's to say.
            Ok(Said::Ask(_)) => {}
            Ok(Said::Control(bytes)) if controls.len() < CONTROLS => controls.push(bytes.to_vec()),
            // It is asked for again.
            Ok(Said::Control(_)) => {}
            // A piece is put together with others before it is heard.
            Ok(Said::Piece(_)) | Err(_) => tally.dropped(Dropped::Malformed),
        });
        if let Some(number) = pong {
            road.say(&Said::Pong(number));
        }
        controls.iter().for_each(|bytes| self.learnt(now, bytes));
        taken
    }

    /// What players say, and what this is told; false: to stop.
    fn collect(&mut self, now: Instant) -> bool {
        let Self { edge, players, sockets, batch, way, tally, closed, .. } = self;
        let mut told = false;
        for number in sockets.ready() {
            match number {
                ORDERS => told = true,
                number if number & PORT != 0 => edge.take(now, number, batch, |player, data, front| {
                    let put = match known(now, players, &player, front, *closed) {
                        Ok(()) => up(way, &player, data),
                        Err(why) => Put::Dropped(why),
                    };
                    match put {
                        Put::Done => tally.carried(Side::Player, data.len()),
                        Put::Full => tally.dropped(Dropped::QueueFull),
                        Put::Dropped(why) => tally.dropped(why),
                    }
                }),
                _ => {}
            }
        }
        !told || self.heed(now)
    }

    fn heed(&mut self, now: Instant) -> bool {
        while let Some(order) = self.orders.take() {
            match order {
                Order::Stop => return false,
                Order::Front(front) => self.set(now, front),
                // It has no door.
                Order::Revise => {}
                Order::Close => self.closed = true,
                Order::Look(answer) => {
                    let report = Report {
                        counts: self.tally.read(),
                        players: Vec::new(),
                        ports: self.edge.open_ports().collect(),
                        way: Some(WaySeen {
                            other: self.dial.to_string(),
                            up: matches!(self.way, Way::There(..)),
                            round_trip: match &self.way {
                                Way::There(_, pulse) => pulse.round_trip(),
                                _ => None,
                            },
                            players: self.players.len(),
                        }),
                    };
                    let _ = answer.send(report);
                }
            }
        }
        true
    }
}

/// The player is there from now on, if it may be.
fn known(
    now: Instant,
    players: &mut Routes<Player, SocketAddr>,
    player: &Player,
    front: &Front,
    closed: bool,
) -> Result<(), Dropped> {
    let said = player.as_said();
    let id = match players.find(&said) {
        Some(id) => id,
        None if closed => return Err(Dropped::Stopping),
        None if !front.lets(player.client) => return Err(Dropped::Denied),
        None => {
            if !players.has_room() {
                let oldest = players.to_evict().ok_or(Dropped::TooManyPlayers)?;
                players.close(oldest);
            }
            players.open(now, said, ASK, player.client).ok_or(Dropped::TooManyPlayers)?
        }
    };
    if let Some(client) = players.heard(now, id, Side::Player) {
        *client = player.client;
    }
    Ok(())
}

/// Where a player is of whom the server side says something.
fn heard_of(now: Instant, players: &mut Routes<Player, SocketAddr>, player: &Player) -> Option<SocketAddr> {
    players.heard(now, players.find(player)?, Side::Server).copied()
}

fn up(way: &mut Way, player: &Player, data: &[u8]) -> Put {
    match way {
        Way::There(road, _) => road.datagram(player, data),
        _ => Put::Dropped(Dropped::NoFlow),
    }
}
