//! `udp:5353 -> udp:10.0.0.1:53`: from a socket to sockets.

use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use proto::forward::Broken;
use tokio::io::Interest;
use tool::watched;

use super::batch::{Batch, Sending};
use super::upward::{From, Upward, sent};
use super::{AT_ONCE, Client, Rules, batch, changed, until};
use crate::io::accept::cut;
use crate::io::running::Running;
use crate::io::worker::Worker;
use crate::machine::cause::Cause;

/// Serves until the rule is taken away; then its sessions end.
pub(crate) async fn serve(worker: Arc<Worker>, mut rules: Rules, clients: OwnedFd) {
    let Some(running) = rules.borrow_and_update().clone() else { return };
    let name = running.rule.name.clone();
    if let Err(error) = run(&worker, &mut rules, running, &clients).await {
        tracing::error!("rule {name} cannot carry datagrams any more: {error}");
    }
}

async fn run(worker: &Arc<Worker>, rules: &mut Rules, running: Arc<Running>, clients: &OwnedFd) -> std::io::Result<()> {
    let mut phase = worker.phase();
    let mut upward = Upward::<Client>::new(running, worker.clone())?;
    upward.watch(clients)?;
    let local = rustix::net::getsockname(clients).ok().and_then(|local| SocketAddr::try_from(local).ok());
    let ready = watched(upward.epoll()?, Interest::READABLE)?;
    loop {
        tokio::select! {
            () = cut(&mut phase) => break,
            running = changed(rules) => match running {
                Some(running) => upward.change(running),
                None => break,
            },
            () = until(upward.poll_timeout()) => upward.expire(Instant::now()),
            guard = ready.readable() => {
                let mut guard = guard?;
                let now = Instant::now();
                let deliver = |running: &Running, batch: &Batch, keys: &[(usize, Client)]| {
                    answer(running, clients.as_fd(), batch, keys);
                };
                let more = upward.turn(now, deliver, |upward| take(upward, now, clients.as_fd(), local))?;
                if !more {
                    guard.clear_ready();
                }
                drop(guard);
                tokio::task::yield_now().await;
            }
        }
    }
    upward.end(&Cause::plain(Broken::Stopped));
    Ok(())
}

/// What clients say goes to their targets.
fn take(upward: &mut Upward<Client>, now: Instant, clients: BorrowedFd<'_>, local: Option<SocketAddr>) {
    super::with_batch(|batch| {
        for _ in 0..AT_ONCE {
            batch.clear();
            // An error is a client's that is gone, and was told of an answer; or there is nothing.
            if batch.receive(clients).is_err() {
                break;
            }
            for place in 0..batch.len() {
                let (received, bytes) = batch.get(place);
                let Some(address) = received.from else { continue };
                let listener = local.map(|local| SocketAddr::new(received.to.unwrap_or(local.ip()), local.port()));
                let client = SocketAddr::new(address.ip().to_canonical(), address.port());
                let key = Client { address, local: received.to };
                upward.forward(now, From { key, client: Some(client), listener }, bytes, received.segment);
            }
            if !batch.is_full() {
                break;
            }
        }
    });
}

/// What targets say goes to their clients.
pub(super) fn answer(running: &Running, clients: BorrowedFd<'_>, batch: &Batch, keys: &[(usize, Client)]) {
    let mut sending: Vec<Sending<'_>> = Vec::with_capacity(keys.len());
    for (place, client) in keys {
        let (received, bytes) = batch.get(*place);
        sending.push(Sending { bytes, segment: received.segment, to: Some(client.address), from: client.local });
    }
    send_all(running, clients, &sending);
}

/// Sends all that the socket has room for; what it has none for is dropped and counted.
pub(super) fn send_all(running: &Running, clients: BorrowedFd<'_>, mut sending: &[Sending<'_>]) {
    while let Some(first) = sending.first() {
        let gone = match batch::send(clients, &sending[..sending.len().min(batch::MANY)]) {
            Ok(gone) => gone.max(1),
            Err(_) => {
                // The first cannot go so: alone, in parts, or not at all.
                match sent(clients, first) {
                    Ok(()) => {}
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                        running.counters.dropped("client's queue full", 1);
                    }
                    Err(_) => running.counters.dropped("client unreachable", 1),
                }
                1
            }
        };
        sending = &sending[gone..];
    }
}
