//! What a service is told by signals.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What that was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// SIGHUP: read the rules again.
    Reload,
    /// SIGTERM, SIGINT: end.
    Stop,
}

/// Those that are listened to.
#[derive(Debug)]
pub struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on they end nothing by themselves.
    ///
    /// # Errors
    /// The system has no room for them.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next.
    pub async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.hangup.recv() => Told::Reload,
            () = Self::end(&mut self.terminate, &mut self.interrupt) => Told::Stop,
        }
    }

    /// Waits for the next that says to end.
    pub async fn stop(&mut self) {
        Self::end(&mut self.terminate, &mut self.interrupt).await;
    }

    async fn end(terminate: &mut Signal, interrupt: &mut Signal) {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}
