//! Metrics over HTTP.

use std::net::SocketAddr;

use anyhow::Context as _;
use scrape::Page;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use super::control::Asked;
use crate::machine::metrics;
use crate::said::control::{Answer, Ask};

/// Scrapers that are served at a time.
const OPEN: usize = 16;

/// Takes the address, before rules are opened: the forwarder does not start half.
pub(super) fn listen(address: SocketAddr) -> anyhow::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address).with_context(|| {
        format!("metrics cannot be served at {address}; choose another --metrics, or stop what listens there")
    })?;
    listener.set_nonblocking(true)?;
    tracing::info!("metrics are at http://{}/metrics", listener.local_addr()?);
    Ok(listener)
}

/// Serves for ever, with what the forwarder answers.
pub(super) async fn serve(listener: TcpListener, asks: mpsc::Sender<Asked>) {
    scrape::serve(listener, "portfwd", OPEN, move |_| page(asks.clone())).await;
}

async fn page(asks: mpsc::Sender<Asked>) -> Option<Page> {
    let (answer, told) = oneshot::channel();
    asks.send(Asked { ask: Ask::Status { connections: 0 }, answer }).await.ok()?;
    let Ok(Answer::Status(status)) = told.await else { return None };
    Some(Page { text: metrics::page(*status).ok()?.into(), content_type: metrics::CONTENT_TYPE })
}
