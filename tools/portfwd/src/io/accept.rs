//! Takes connections from a listening socket, as one of the workers that share it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::SocketFlags;
use tokio::io::Interest;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tool::watched;

use super::connection::carry;
use super::room::{self, Counted};
use super::running::Running;
use super::worker::{Phase, Worker};

/// Connections taken before others have their turn.
const AT_ONCE: usize = 16;
/// How long nothing is accepted when descriptors or memory ran out, unless a connection ends before.
const STARVED: Duration = Duration::from_millis(100);

/// What a rule's listening socket is doing.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    /// The rule as it is now; `None`: it takes no more connections.
    pub(crate) rules: watch::Receiver<Option<Arc<Running>>>,
    /// Whether the socket listens.
    pub(crate) open: watch::Receiver<bool>,
}

/// Accepts until the rule is taken away, and stays until its connections are over.
pub(crate) async fn accept(worker: Arc<Worker>, mut gate: Gate, socket: OwnedFd, tcp: bool) {
    let mut phase = worker.phase();
    let mut carried = JoinSet::new();
    let mut socket = Some(socket);
    let mut taken = gate.clone();
    while let Some(fd) = socket.take() {
        tokio::select! {
            biased;
            () = closed(&mut gate) => {}
            () = cut(&mut phase) => {}
            // The kernel says for ever that a socket which did not listen for a moment is over: it is watched anew.
            fd = taking(&worker, &mut taken, fd, tcp, &mut carried) => socket = fd,
        }
    }
    tokio::select! {
        biased;
        () = cut(&mut phase) => carried.shutdown().await,
        () = all(&mut carried) => {}
    }
}

/// The rule is taken away.
async fn closed(gate: &mut Gate) {
    // An error: whoever opened it is gone.
    let _ = gate.rules.wait_for(Option::is_none).await;
}

/// Connections are to be cut.
pub(crate) async fn cut(phase: &mut watch::Receiver<Phase>) {
    let _ = phase.wait_for(|phase| *phase == Phase::Cut).await;
}

/// All have ended.
pub(crate) async fn all(carried: &mut JoinSet<()>) {
    while carried.join_next().await.is_some() {}
}

/// Accepts while the socket listens, and gives it back when it does not.
async fn taking(
    worker: &Arc<Worker>,
    gate: &mut Gate,
    socket: OwnedFd,
    tcp: bool,
    carried: &mut JoinSet<()>,
) -> Option<OwnedFd> {
    let _ = gate.open.wait_for(|open| *open).await;
    let socket = match watched(socket, Interest::READABLE) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!(%error, "a listening socket cannot be watched; the rule takes no connections");
            return None;
        }
    };
    // The last connection's descriptor was of the last ones.
    let mut scarce = false;
    loop {
        let ready = tokio::select! {
            ready = socket.readable() => ready,
            Some(_) = carried.join_next() => continue,
            _ = gate.open.changed() => return Some(socket.into_inner()),
        };
        let Ok(mut ready) = ready else { return None };
        for _ in 0..AT_ONCE {
            // Between two connections the rule may change.
            let running = gate.rules.borrow().clone()?;
            if room::is_anybody_hungry() || scarce && !spare(&socket) {
                starved(worker, &running, Errno::MFILE).await;
                break;
            }
            scarce = false;
            match rustix::net::acceptfrom_with(&socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok((fd, from)) => {
                    let dialling = Counted::dialling();
                    scarce = room::is_scarce(&fd);
                    let client = from.and_then(super::socket::internet);
                    carried.spawn(carry(fd, dialling, client, tcp, running, worker.clone()));
                }
                Err(Errno::AGAIN) => {
                    ready.clear_ready();
                    break;
                }
                // It does not listen any more, which the gate tells soon.
                Err(Errno::INVAL) => {
                    drop(ready);
                    let _ = gate.open.wait_for(|open| !open).await;
                    return Some(socket.into_inner());
                }
                Err(errno) if is_starved(errno) => {
                    starved(worker, &running, errno).await;
                    break;
                }
                // The client went away before, or a filter has it so: the next one may be fine.
                Err(_) => {}
            }
        }
        tokio::task::yield_now().await;
    }
}

/// There are descriptors for another connection and its target.
fn spare(socket: &tokio::io::unix::AsyncFd<OwnedFd>) -> bool {
    socket.get_ref().try_clone().is_ok_and(|made| !room::is_scarce(&made))
}

fn is_starved(errno: Errno) -> bool {
    matches!(errno, Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
}

/// Descriptors or memory ran out: those who wait stay in the backlog until a connection ends.
async fn starved(worker: &Worker, running: &Running, errno: Errno) {
    worker.starved(running, &io::Error::from(errno));
    let _ = tokio::time::timeout(STARVED, worker.roster.freed()).await;
}
