//! The server side: flows are accepted, each is a client side.
#![expect(clippy::disallowed_methods, reason = "io/: timers")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use libflow::{Cube, Flow, Incoming, Listener};
use tokio::task::JoinSet;

use super::core::SharedDoor;
use super::far::Far;
use super::orders::{Desk, Order};
use super::road::Road;
use super::tally::Tally;
use crate::cli::Carrier;
use crate::machine::door::ClientId;

/// Client sides at a time: each has an epoll and buffers of its own.
const MOST: usize = 512;
/// After an accept that failed.
const AGAIN: Duration = Duration::from_millis(500);
/// How long client sides may take to be told that it is over.
const ENDING: Duration = Duration::from_secs(2);

/// Client sides that are there.
pub(super) type Desks = Arc<Mutex<HashMap<ClientId, Desk>>>;

/// Serves a name.
pub(super) struct Server {
    listener: Listener,
    carrier: Carrier,
    door: SharedDoor,
    desks: Desks,
    tally: Arc<Tally>,
    next: u64,
}

impl Server {
    /// `tally` counts what all client sides have carried.
    pub(super) fn new(listener: Listener, carrier: Carrier, door: SharedDoor, desks: Desks, tally: Arc<Tally>) -> Self {
        Self { listener, carrier, door, desks, tally, next: 0 }
    }

    /// Until `stop` is over; then client sides are told.
    pub(super) async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut sides = JoinSet::new();
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                Some(_) = sides.join_next() => {}
                incoming = self.listener.incoming() => match incoming {
                    Ok(incoming) => {
                        if let Some(side) = self.admit(incoming, sides.len()) {
                            sides.spawn(side);
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "no flow can be accepted");
                        tokio::time::sleep(AGAIN).await;
                    }
                },
            }
        }
        drop(self.listener);
        let desks: Vec<Desk> = lock(&self.desks).values().cloned().collect();
        for desk in desks {
            desk.give(Order::Stop);
        }
        let _ = tokio::time::timeout(ENDING, async { while sides.join_next().await.is_some() {} }).await;
    }

    fn admit(&mut self, incoming: Incoming, there: usize) -> Option<impl Future<Output = ()> + Send + use<>> {
        self.next += 1;
        let (id, carrier) = (ClientId(self.next), self.carrier);
        let (door, desks, tally) = (self.door.clone(), self.desks.clone(), self.tally.clone());
        Some(async move {
            let wanted = match carrier {
                Carrier::Message => Cube::Message,
                Carrier::Stream => Cube::Stream,
            };
            let cube = incoming.qos().cube;
            if cube != wanted {
                let words = format!("a gameproxy with --carrier {} serves this name", wanted.as_str());
                let _ = incoming.refuse(&words).await;
            } else if there >= MOST {
                let _ = incoming.refuse(&format!("as many client sides are there as may be, {MOST}")).await;
            } else {
                match incoming.accept().await {
                    Ok(flow) => side(id, flow, carrier, door, desks, tally).await,
                    Err(error) => tracing::debug!(%error, "a flow came to nothing"),
                }
            }
        })
    }
}

async fn side(id: ClientId, flow: Flow, carrier: Carrier, door: SharedDoor, desks: Desks, tally: Arc<Tally>) {
    let (number, address) = (flow.id(), flow.peer().address.clone());
    let road = match carrier {
        Carrier::Message => Road::messages(flow),
        Carrier::Stream => match flow.into_stream().await {
            Ok(stream) => Road::stream(stream),
            Err(error) => return tracing::debug!(%error, "a flow came to nothing"),
        },
    };
    let (far, desk) = match Far::new(id, door, tally, &address) {
        Ok(made) => made,
        Err(error) => return tracing::error!(%error, "no client side can be taken"),
    };
    tracing::info!(flow = %number, peer = %address, "a client side is there");
    lock(&desks).insert(id, desk);
    let why = far.run(road).await;
    lock(&desks).remove(&id);
    tracing::info!(flow = %number, peer = %address, %why, "a client side is gone");
}

fn lock(desks: &Desks) -> std::sync::MutexGuard<'_, HashMap<ClientId, Desk>> {
    desks.lock().unwrap_or_else(PoisonError::into_inner)
}
