//! Accepted flows whose handshakes are under way: one that stalls holds up no other.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc};

use super::aside;
use crate::flow::Flow;

/// Handshakes of one listener at a time; meanwhile flows wait at irmd.
const AT_ONCE: usize = 512;

/// The handshakes of a listener.
pub(crate) struct Shaking {
    room: Arc<Semaphore>,
    done: Mutex<mpsc::Receiver<Done>>,
    tell: mpsc::Sender<Done>,
}

/// A flow whose handshake is through, and its place.
struct Done(Flow, #[expect(dead_code, reason = "given back when dropped")] OwnedSemaphorePermit);

impl Shaking {
    pub(crate) fn new() -> Self {
        let (tell, done) = mpsc::channel(AT_ONCE);
        Self { room: Arc::new(Semaphore::new(AT_ONCE)), done: Mutex::new(done), tell }
    }

    /// The next flow that is through. Loses none when dropped.
    pub(crate) async fn next(&self) -> Flow {
        let done = self.done.lock().await.recv().await;
        // `tell` lives as long as this does.
        match done {
            Some(Done(flow, _)) => flow,
            None => std::future::pending().await,
        }
    }

    /// Waits until another handshake may begin.
    pub(crate) async fn room(&self) -> OwnedSemaphorePermit {
        match self.room.clone().acquire_owned().await {
            Ok(room) => room,
            Err(_) => std::future::pending().await,
        }
    }

    /// Has a handshake done; what fails is no flow, and the peer has been told why.
    pub(crate) fn begin(
        &self,
        runtime: &Handle,
        room: OwnedSemaphorePermit,
        shake: impl Future<Output = Option<Flow>> + Send + 'static,
    ) {
        let tell = self.tell.clone();
        aside::detach(runtime, async move {
            if let Some(flow) = shake.await {
                // Refused only when the listener is gone.
                let _ = tell.send(Done(flow, room)).await;
            }
        });
    }
}
