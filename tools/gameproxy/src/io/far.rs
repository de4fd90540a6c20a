//! The server side of one way to a client side: its routes, and nobody else's.
#![expect(clippy::disallowed_methods, reason = "io/: the clock")]

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Instant;

use datagrams::Batch;
use rustix::event::epoll;

use super::core::{AGAIN, Core, SharedDoor};
use super::orders::{Desk, ORDERS, Order, Orders, Report, WaySeen, orders};
use super::road::Road;
use super::tally::{Counts, Tally};
use super::wait::{Sockets, until};
use crate::machine::door::{ClientId, Door, Player};
use crate::machine::pulse::Pulse;
use crate::machine::routes::Over;
use crate::machine::tell::Teller;
use crate::said::frame::{Malformed, Said};
use crate::said::offer::About;
use crate::said::rule::Dropped;

/// One client side, as its server side has it.
pub(super) struct Far {
    core: Core,
    sockets: Sockets,
    orders: Orders,
    tally: Arc<Tally>,
    batch: Batch,
    pulse: Pulse,
    door: SharedDoor,
    through: ClientId,
    /// What the client side is told; `None`: the rules are longer than it takes.
    teller: Option<Teller>,
    /// Who it is, for the log and the status, and the address that it is seen at.
    peer: String,
}

/// What is answered to what was heard.
#[derive(Default)]
struct Answers {
    pong: Option<u64>,
    /// What it says of its configuration.
    control: Vec<Vec<u8>>,
}

/// Of that, so much is heeded of one batch.
const CONTROLS: usize = 16;

impl Far {
    pub(super) fn new(
        through: ClientId,
        door: SharedDoor,
        tally: Arc<Tally>,
        peer: &str,
    ) -> anyhow::Result<(Self, Desk)> {
        let epoll: Arc<OwnedFd> = Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?);
        let (desk, orders) = orders(&epoll)?;
        let core = Core::new(epoll.clone(), door.clone(), through, tally.clone(), super::seed());
        let teller = teller(&lock(&door));
        let far = Self {
            core,
            sockets: Sockets::new(epoll)?,
            orders,
            tally,
            batch: Batch::new(),
            pulse: Pulse::new(Instant::now()),
            door,
            through,
            teller,
            peer: peer.to_owned(),
        };
        Ok((far, desk))
    }

    /// Carries until the way is over; why it is.
    pub(super) async fn run(mut self, mut road: Road) -> String {
        let why = loop {
            let mut due = self.core.poll_timeout();
            if road.settle() {
                due = due.into_iter().chain([Instant::now() + AGAIN]).min();
            }
            if road.speaks() {
                due = due.into_iter().chain([self.pulse.poll_timeout()]).min();
            }
            tokio::select! {
                heard = road.hear() => {
                    if let Err(over) = heard.and_then(|()| self.heard(Instant::now(), &mut road)) {
                        break over;
                    }
                }
                ready = self.sockets.wait() => match ready {
                    Ok(()) => {
                        if !self.collect(Instant::now(), &mut road) {
                            break "it is stopped".to_owned();
                        }
                    }
                    Err(error) => break error.to_string(),
                },
                () = until(due) => {}
            }
            let now = Instant::now();
            self.core.release(now, &mut |player, data| road.datagram(player, data));
            self.core.expire(now, &mut |player, over| road.say(&Said::End(*player, over as u8)));
            if road.speaks() {
                if let Some(number) = self.pulse.poll_ping(now) {
                    road.say(&Said::Ping(number));
                    if let Some(round_trip) = self.pulse.round_trip() {
                        lock(&self.door).leg(self.through, round_trip);
                    }
                    self.core.level();
                }
                if self.pulse.is_silent(now) {
                    break "the other side is silent".to_owned();
                }
            }
        };
        self.core.end_those(|_, _| Some(Over::Stopped), &mut |player, over| road.say(&Said::End(*player, over as u8)));
        lock(&self.door).gone(self.through);
        road.end().await;
        why
    }

    /// What came over the way.
    fn heard(&mut self, now: Instant, road: &mut Road) -> Result<(), String> {
        let Self { core, tally, pulse, .. } = self;
        pulse.heard(now);
        let mut answers = Answers::default();
        let mut ended: Vec<(Player, Over)> = Vec::new();
        let taken = road.take(|said| take(now, core, tally, pulse, &mut answers, &mut ended, said));
        ended.iter().for_each(|(player, over)| road.say(&Said::End(*player, *over as u8)));
        if let Some(number) = answers.pong {
            road.say(&Said::Pong(number));
        }
        for bytes in &answers.control {
            match About::parse(bytes) {
                Ok(about) => self.answer(&about, road),
                Err(_) => self.tally.dropped(Dropped::Malformed),
            }
        }
        taken
    }

    /// The client side says something of its configuration.
    fn answer(&mut self, about: &About<'_>, road: &mut Road) {
        let seen = self.peer.parse::<SocketAddr>().ok().map(|peer| peer.ip());
        if let About::Have { own, .. } = about {
            let addresses = own.iter().copied().chain(seen).map(|ip| ip.to_canonical()).collect();
            lock(&self.door).machine(self.through, addresses);
        }
        let Some(teller) = &self.teller else { return };
        for about in teller.answer(about, seen) {
            control(road, &about);
        }
    }

    /// The rules, or what is known of their names, have changed.
    fn revise(&mut self, now: Instant, road: &mut Road) {
        self.core.revise(now, &mut |player, over| road.say(&Said::End(*player, over as u8)));
        let teller = teller(&lock(&self.door));
        let before = self.teller.as_ref().map(Teller::number);
        if let Some(teller) = teller.as_ref().filter(|teller| before != Some(teller.number())) {
            control(road, &teller.news());
        }
        self.teller = teller;
    }

    /// What servers say, and what this is told; false: to stop.
    fn collect(&mut self, now: Instant, road: &mut Road) -> bool {
        let Self { core, sockets, batch, .. } = self;
        let mut told = false;
        for number in sockets.ready() {
            match number {
                ORDERS => told = true,
                number => core.collect(now, number, batch, &mut |player, data| road.datagram(player, data)),
            }
        }
        !told || self.heed(now, road)
    }

    fn heed(&mut self, now: Instant, road: &mut Road) -> bool {
        while let Some(order) = self.orders.take() {
            match order {
                Order::Stop => return false,
                // It has no ports.
                Order::Front(_) | Order::Close => {}
                Order::Revise => self.revise(now, road),
                Order::Look(answer) => {
                    let _ = answer.send(Report {
                        // Those of all client sides are one, so that what one has carried is not forgotten with it.
                        counts: Counts::default(),
                        players: self.core.seen(now).collect(),
                        ports: Vec::new(),
                        way: Some(WaySeen {
                            other: self.peer.clone(),
                            up: true,
                            round_trip: self.pulse.round_trip(),
                            players: self.core.len(),
                        }),
                    });
                }
            }
        }
        true
    }
}

fn take(
    now: Instant,
    core: &mut Core,
    tally: &Tally,
    pulse: &mut Pulse,
    answers: &mut Answers,
    ended: &mut Vec<(Player, Over)>,
    said: Result<Said<'_>, Malformed>,
) {
    match said {
        Ok(Said::Datagram(player, data)) => match core.find(&player) {
            Some(id) => core.forward(now, id, data),
            None => core.enter(now, player, data, &mut |player, over| ended.push((*player, over))),
        },
        Ok(Said::End(player, _)) => core.told(&player),
        Ok(Said::Ask(player)) if core.find(&player).is_some() => {}
        Ok(Said::Ask(player)) => ended.push((player, Over::PlayerSilent)),
        Ok(Said::Ping(number)) => answers.pong = Some(number),
        Ok(Said::Pong(number)) => pulse.pong(now, number),
        Ok(Said::Control(bytes)) if answers.control.len() < CONTROLS => answers.control.push(bytes.to_vec()),
        // What it wants to know it asks again.
        Ok(Said::Control(_)) => {}
        // A piece is put together with others before it is heard.
        Ok(Said::Piece(_)) | Err(_) => tally.dropped(Dropped::Malformed),
    }
}

/// Says something of the configuration.
pub(super) fn control(road: &mut Road, about: &About<'_>) {
    let mut bytes = Vec::new();
    about.put(&mut bytes);
    road.say(&Said::Control(&bytes));
}

fn lock(door: &SharedDoor) -> MutexGuard<'_, Door> {
    door.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is told of the rules of now.
fn teller(door: &Door) -> Option<Teller> {
    let teller = Teller::new(&door.offer());
    if teller.is_none() {
        tracing::error!("the rules are longer than client sides take, and are not told; give masks to some entries");
    }
    teller
}
