//! Where the work of message and stream flows runs: in the runtime that asks for the flow, else in one of libflow's own.

use std::io;
use std::sync::{Mutex, PoisonError};

use tokio::runtime::{Builder, Handle};
use tokio::task::{AbortHandle, JoinHandle};

/// The caller's runtime; for programs without one, a thread that is started once and stays.
pub(crate) fn runtime() -> io::Result<Handle> {
    static OWN: Mutex<Option<Handle>> = Mutex::new(None);
    if let Ok(handle) = Handle::try_current() {
        return Ok(handle);
    }
    let mut own = OWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*own {
        return Ok(handle.clone());
    }
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let run = move || runtime.block_on(std::future::pending::<()>());
    std::thread::Builder::new().name("libflow-quic".into()).spawn(run)?;
    Ok(own.insert(handle).clone())
}

/// Runs `work` in `runtime`; given up when the returned future is dropped. `None`: the runtime is shutting down.
pub(crate) async fn run<T: Send + 'static>(
    runtime: &Handle,
    work: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    let mut task = AbortOnDrop(runtime.spawn(work));
    match (&mut task.0).await {
        Ok(done) => Some(done),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => None,
    }
}

/// Has `work` done, whoever waits for it.
pub(crate) fn detach(runtime: &Handle, work: impl Future<Output = ()> + Send + 'static) {
    drop(runtime.spawn(work));
}

/// Has `work` done until it is aborted.
pub(crate) fn begin(runtime: &Handle, work: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
    runtime.spawn(work).abort_handle()
}

struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
