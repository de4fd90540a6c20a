//! What an engine is told, and by whom: a bounded queue that its epoll hears of.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use tokio::sync::oneshot;

use super::core::Seen;
use super::tally::Counts;
use crate::machine::front::Front;

/// Marks the orders among what an epoll says.
pub(super) const ORDERS: u64 = u64::MAX;
/// Orders that wait.
const ROOM: usize = 64;

/// What an engine is told.
#[derive(Debug)]
pub(super) enum Order {
    /// The ports, and who may send, are these from now on.
    Front(Front),
    /// The door has other rules, or knows other addresses: players change, or go, and the client side is told.
    Revise,
    /// Nobody new is let in any more.
    Close,
    /// Somebody looks.
    Look(oneshot::Sender<Report>),
    /// It is over.
    Stop,
}

/// How an engine is.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What it has carried.
    pub counts: Counts,
    /// Its players.
    pub players: Vec<Seen>,
    /// The ports that are open.
    pub ports: Vec<std::net::SocketAddr>,
    /// The way to the other side; none: there is no other.
    pub way: Option<WaySeen>,
}

/// The way to the other side.
#[derive(Clone, Debug, Default)]
pub struct WaySeen {
    /// The other side, as it is called.
    pub other: String,
    /// Whether it is there.
    pub up: bool,
    /// To it and back, smoothed.
    pub round_trip: Option<Duration>,
    /// How many players go over it.
    pub players: usize,
}

/// Where orders are given.
#[derive(Clone, Debug)]
pub(super) struct Desk {
    sender: SyncSender<Order>,
    bell: Arc<OwnedFd>,
}

/// Where they are taken.
#[derive(Debug)]
pub(super) struct Orders {
    receiver: Receiver<Order>,
    bell: Arc<OwnedFd>,
}

/// Both; `epoll` hears of orders as [`ORDERS`].
pub(super) fn orders(epoll: &OwnedFd) -> Result<(Desk, Orders), Errno> {
    let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    epoll::add(epoll, &*bell, EventData::new_u64(ORDERS), EventFlags::IN)?;
    let (sender, receiver) = sync_channel(ROOM);
    Ok((Desk { sender, bell: bell.clone() }, Orders { receiver, bell }))
}

impl Desk {
    /// Gives an order; false when it cannot be taken: the engine is gone, or does not come to take any.
    pub(super) fn give(&self, order: Order) -> bool {
        match self.sender.try_send(order) {
            Ok(()) => {
                let _ = rustix::io::write(&*self.bell, &1_u64.to_ne_bytes());
                true
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }
}

impl Orders {
    /// The next order.
    pub(super) fn take(&self) -> Option<Order> {
        let order = self.receiver.try_recv().ok();
        if order.is_none() {
            // Empty: the bell is silent until the next. One that is given in between rings again.
            let _ = rustix::io::read(&*self.bell, &mut [0; 8]);
            return self.receiver.try_recv().ok();
        }
        order
    }
}
