//! A deadline for loops that wait in the kernel: a deadline in the call would cost a system call per SDU. A thread of its
//! own looks now and then whether the loop got on; if not, it wakes the loop with an SDU or by shutting the socket.

use std::io::Result;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use rustix::net::{SendFlags, Shutdown, send, shutdown};

use super::carrier::{Carrier, Reins};

/// Looks per `patience`: a loop that stands still is found that much later at most.
const LOOKS: u32 = 5;

/// What to do about a loop that does not get on.
pub(crate) struct Watching {
    /// How long it may take for one step.
    pub(crate) patience: Duration,
    /// Sent to the peer, which answers it and so wakes the loop.
    pub(crate) kick: Option<Vec<u8>>,
    /// So many times `patience`, and the socket is shut.
    pub(crate) times: u32,
}

/// The watching thread; it ends when this is dropped.
pub(crate) struct Watch {
    progress: Arc<AtomicU64>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Watches a loop on `carrier`.
    pub(crate) fn start(carrier: &impl Carrier, watching: Watching) -> Result<Self> {
        let reins = carrier.reins()?;
        let progress = Arc::new(AtomicU64::new(0));
        let (stop, stopped) = channel();
        let seen = progress.clone();
        let thread = Builder::new().name("watch".into()).spawn(move || {
            let (mut looks, mut last) = (0, 0);
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(watching.patience / LOOKS) {
                let now = seen.load(Ordering::Relaxed);
                looks = if now == last { looks + 1 } else { 0 };
                last = now;
                if looks > 0 && looks % LOOKS == 0 {
                    act(&*reins, &watching, looks / LOOKS);
                }
            }
        })?;
        Ok(Self { progress, stop: Some(stop), thread: Some(thread) })
    }

    /// The loop got on.
    pub(crate) fn step(&self) {
        // One writer; a plain store costs nothing beside the system call.
        self.progress.store(self.progress.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }
}

/// The loop has stood still for `times` its patience.
fn act(reins: &dyn Reins, watching: &Watching, times: u32) {
    if times >= watching.times {
        reins.shut();
    } else if let Some(kick) = &watching.kick {
        reins.kick(kick);
    }
}

/// A socket's.
impl Reins for OwnedFd {
    fn kick(&self, sdu: &[u8]) {
        let _ = send(self, sdu, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    }

    fn shut(&self) {
        let _ = shutdown(self, Shutdown::Both);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
