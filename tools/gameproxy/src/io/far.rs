//! The server side of one way to a client side: its routes, and nobody else's.
#![expect(clippy::disallowed_methods, reason = "io/: the clock")]

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use datagrams::Batch;
use rustix::event::epoll;

use super::core::{Core, SharedDoor};
use super::orders::{Desk, ORDERS, Order, Orders, Report, orders};
use super::road::Road;
use super::tally::Tally;
use super::wait::{Sockets, until};
use crate::machine::door::{ClientId, Player};
use crate::machine::pulse::Pulse;
use crate::machine::routes::Over;
use crate::said::frame::{Malformed, Said};
use crate::said::rule::Dropped;

/// One client side, as its server side has it.
pub(super) struct Far {
    core: Core,
    sockets: Sockets,
    orders: Orders,
    tally: Arc<Tally>,
    batch: Batch,
    pulse: Pulse,
}

/// What is answered to what was heard.
#[derive(Default)]
struct Answers {
    pong: Option<u64>,
}

impl Far {
    pub(super) fn new(through: ClientId, door: SharedDoor) -> anyhow::Result<(Self, Desk)> {
        let epoll: Arc<OwnedFd> = Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?);
        let tally = Arc::new(Tally::default());
        let (desk, orders) = orders(&epoll)?;
        let core = Core::new(epoll.clone(), door, through, tally.clone(), super::seed());
        let sockets = Sockets::new(epoll)?;
        Ok((Self { core, sockets, orders, tally, batch: Batch::new(), pulse: Pulse::new(Instant::now()) }, desk))
    }

    /// Carries until the way is over; why it is.
    pub(super) async fn run(mut self, mut road: Road) -> String {
        let why = loop {
            let mut due = self.core.poll_timeout();
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
                }
                if self.pulse.is_silent(now) {
                    break "the other side is silent".to_owned();
                }
            }
        };
        self.core.end_those(|_, _| Some(Over::Stopped), &mut |player, over| road.say(&Said::End(*player, over as u8)));
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
        taken
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
                Order::Front(front) => self.core.end_those(
                    |player, _| (!front.lets(player.client)).then_some(Over::Removed),
                    &mut |player, over| road.say(&Said::End(*player, over as u8)),
                ),
                Order::Look(answer) => {
                    let _ = answer.try_send(Report {
                        counts: self.tally.read(),
                        players: self.core.seen(now).collect(),
                        ports: Vec::new(),
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
        Ok(Said::Ping(number)) => answers.pong = Some(number),
        Ok(Said::Pong(number)) => pulse.pong(now, number),
        Ok(Said::Control(_)) | Err(_) => tally.dropped(Dropped::Malformed),
    }
}
