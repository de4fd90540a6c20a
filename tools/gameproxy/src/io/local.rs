//! Both sides in one process: a thread that waits for sockets and deadlines, and nothing between the sides.
#![expect(clippy::disallowed_methods, reason = "io/: the clock")]

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use datagrams::Batch;
use rustix::event::epoll;

use super::clock::{CLOCK, Clock};
use super::core::{Core, Put, SharedDoor};
use super::edge::{Edge, PORT};
use super::near::OPEN_AGAIN;
use super::orders::{Desk, ORDERS, Order, Orders, Report, orders};
use super::tally::Tally;
use crate::machine::door::ClientId;
use crate::machine::front::Front;
use crate::machine::routes::Over;
use crate::said::rule::Dropped;

/// Sockets that are looked at together.
const EVENTS: usize = 256;

/// The engine of one process.
pub(super) struct Local {
    epoll: Arc<OwnedFd>,
    edge: Edge,
    core: Core,
    orders: Orders,
    clock: Clock,
    tally: Arc<Tally>,
    /// When ports that could not be opened are tried again.
    open_again: Option<Instant>,
}

impl Local {
    /// With these ports open, or none.
    pub(super) fn open(front: Front, door: SharedDoor) -> anyhow::Result<(Self, Desk)> {
        let epoll = Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC).context("the kernel gives no epoll")?);
        let tally = Arc::new(Tally::default());
        let mut edge = Edge::new(epoll.clone(), tally.clone());
        if let Some((at, error)) = edge.set(front).into_iter().next() {
            return Err(error)
                .with_context(|| format!("the port {at} cannot be opened; is it taken, or no address of this host?"));
        }
        let (desk, orders) = orders(&epoll).context("the kernel gives no eventfd")?;
        let core = Core::new(epoll.clone(), door, ClientId::default(), tally.clone(), super::seed());
        let clock = Clock::new(&epoll).context("the kernel gives no clock")?;
        Ok((Self { epoll, edge, core, orders, clock, tally, open_again: None }, desk))
    }

    /// Carries until it is told to stop.
    pub(super) fn run(mut self) -> anyhow::Result<()> {
        let mut events = [const { std::mem::MaybeUninit::uninit() }; EVENTS];
        let mut batch = Batch::new();
        loop {
            let due = self.core.poll_timeout().into_iter().chain(self.open_again).min();
            self.clock.set(due).context("the clock cannot be set")?;
            let ready = match epoll::wait(&*self.epoll, &mut events, None) {
                Ok((ready, _)) => ready,
                Err(rustix::io::Errno::INTR) => continue,
                Err(errno) => return Err(errno).context("the sockets cannot be waited for"),
            };
            let now = Instant::now();
            for event in ready.iter() {
                match event.data.u64() {
                    CLOCK => self.clock.rang(),
                    ORDERS => {
                        if !self.heed(now) {
                            self.core.end_those(|_, _| Some(Over::Stopped), &mut |_, _| {});
                            return Ok(());
                        }
                    }
                    number if number & PORT != 0 => self.up(now, number, &mut batch),
                    number => self.down(now, number, &mut batch),
                }
            }
            let Self { edge, core, .. } = &mut self;
            core.release(now, &mut |player, data| {
                edge.put(player, data);
                Put::Done
            });
            edge.flush();
            core.expire(now, &mut |_, _| {});
            if self.open_again.is_some_and(|due| due <= now) {
                let failed = self.edge.open_missing();
                self.open_again = (!failed.is_empty()).then(|| now + OPEN_AGAIN);
            }
        }
    }

    fn up(&mut self, now: Instant, number: u64, batch: &mut Batch) {
        let Self { edge, core, tally, .. } = self;
        edge.take(now, number, batch, |player, data, front| match core.find(&player) {
            Some(id) => core.forward(now, id, data),
            None if front.lets(player.client) => core.enter(now, player, data, &mut |_, _| {}),
            None => tally.dropped(Dropped::Denied),
        });
    }

    fn down(&mut self, now: Instant, number: u64, batch: &mut Batch) {
        let Self { edge, core, .. } = self;
        core.collect(now, number, batch, &mut |player, data| {
            edge.put(player, data);
            Put::Done
        });
    }

    /// Does what it is told; false: to stop.
    fn heed(&mut self, now: Instant) -> bool {
        while let Some(order) = self.orders.take() {
            match order {
                Order::Stop => return false,
                Order::Look(answer) => {
                    let _ = answer.send(Report {
                        counts: self.tally.read(),
                        players: self.core.seen(now).collect(),
                        ports: self.edge.open_ports().collect(),
                        way: None,
                    });
                }
                Order::Front(front) => {
                    let failed = self.edge.set(front);
                    for (at, error) in &failed {
                        tracing::error!("the port {at} cannot be opened: {error}; it is tried again each second");
                    }
                    self.open_again = (!failed.is_empty()).then(|| now + OPEN_AGAIN);
                }
                Order::Revise => self.core.revise(now, &mut |_, _| {}),
                // Its door is.
                Order::Close => {}
            }
        }
        true
    }
}
