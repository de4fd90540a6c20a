//! Metrics over HTTP, on a thread of their own: a flood of scrapers costs irmd's calls nothing but the processor.
//!
//! All who wait share one [`gather::Gatherer`]'s walk, of which there are at most ten a second.

mod gather;
mod process;

use std::net::SocketAddr;
use std::thread::JoinHandle;

use anyhow::Context;
use scrape::Page;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use self::gather::{Gatherer, Scrapes};
use super::api_admin::Tools;
use crate::machine::metrics::Format;

/// Scrapers that are served at a time.
const OPEN: usize = 64;

/// The server; ends when it is dropped.
#[derive(Debug)]
pub(super) struct Metrics {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Takes the address; before anything else is begun, so that irmd does not start half.
pub(super) fn listen(address: SocketAddr) -> anyhow::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address).with_context(|| {
        format!("cannot serve metrics at {address}; choose another --metrics, or stop what listens there")
    })?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

impl Metrics {
    /// Starts to serve.
    pub(super) fn start(listener: std::net::TcpListener, tools: &Tools) -> anyhow::Result<Self> {
        let address = listener.local_addr()?;
        let gatherer = Gatherer::new(tools);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let work = async move {
            let Ok(listener) = TcpListener::from_std(listener) else { return };
            let (scrapes, gathering) = gather::start(gatherer);
            tokio::select! {
                () = scrape::serve(listener, "irmd", OPEN, move |accepted| page(scrapes.clone(), accepted)) => {}
                () = gathering => {}
                _ = stopped => {}
            }
        };
        let thread = std::thread::Builder::new().name("metrics".into()).spawn(move || runtime.block_on(work))?;
        tracing::info!("metrics are at http://{address}/metrics");
        if !address.ip().is_loopback() {
            tracing::warn!(
                "metrics at {address} can be read by whoever reaches it, without a word who asks; take 127.0.0.1 or \
                 a firewall if that is not meant"
            );
        }
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It has nothing to say; a panic of its is in the log.
            let _ = thread.join();
        }
    }
}

async fn page(scrapes: Scrapes, accepted: String) -> Option<Page> {
    let format = Format::accepted(&accepted);
    Some(Page { text: scrapes.scrape(format).await?, content_type: format.content_type() })
}
