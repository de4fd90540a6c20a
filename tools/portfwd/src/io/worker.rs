//! A thread that forwards, with a runtime of its own: what it carries never changes threads.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use super::roster::Roster;
use super::running::Running;

/// Whether connections go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// They do.
    Run,
    /// They are reset.
    Cut,
}

/// A thread that forwards.
#[derive(Debug)]
pub(crate) struct Worker {
    /// The connections that it carries.
    pub(crate) roster: Arc<Roster>,
    /// Which one it is, from 0.
    pub(crate) number: usize,
    handle: Handle,
    phase: watch::Receiver<Phase>,
    began: Instant,
    /// Milliseconds since then at which it was last said that there is no room.
    said: AtomicU64,
}

/// Its end: dropped, the thread ends with all that it carries.
#[derive(Debug)]
pub(crate) struct Thread {
    _stop: oneshot::Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts the thread of this number.
    pub(crate) fn start(number: usize, phase: watch::Receiver<Phase>) -> io::Result<(Arc<Self>, Thread)> {
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, started) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name(format!("portfwd-{number}")).spawn(move || {
            match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => {
                    let _ = ready.send(Ok(runtime.handle().clone()));
                    // An error: the sender is gone, which is how it stops.
                    let _ = runtime.block_on(stopped);
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                }
            }
        })?;
        let handle = started.recv().map_err(io::Error::other)??;
        let worker = Self {
            roster: Arc::default(),
            number,
            handle,
            phase,
            began: super::connection::now(),
            said: AtomicU64::new(u64::MAX),
        };
        Ok((Arc::new(worker), Thread { _stop: stop, thread: Some(thread) }))
    }

    /// Has `task` run on this thread.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(task);
    }

    /// Runs what makes something of the thread's runtime.
    pub(crate) fn within<T>(&self, make: impl FnOnce() -> T) -> T {
        let _within = self.handle.enter();
        make()
    }

    /// Whether connections go on.
    pub(crate) fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.clone()
    }

    /// Says that there is no room for connections, once a second at most.
    pub(crate) fn starved(&self, running: &Running, error: &io::Error) {
        let now = super::connection::now().saturating_duration_since(self.began).as_millis() as u64;
        let last = self.said.load(Ordering::Relaxed);
        if last == u64::MAX || now.saturating_sub(last) >= 1000 {
            self.said.store(now, Ordering::Relaxed);
            tracing::warn!(
                rule = %running.rule.name,
                %error,
                "no connection can be accepted; those that wait stay in the backlog. Raise the limit (ulimit -n), or set max-connections"
            );
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        // The field's own drop comes too late.
        let (stop, _) = oneshot::channel();
        drop(std::mem::replace(&mut self._stop, stop));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
