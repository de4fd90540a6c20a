//! Metrics over HTTP.

use std::net::SocketAddr;

use anyhow::Context as _;
use scrape::Page;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use super::control::{Answer, Asked, Question};
use crate::machine::figures::CONTENT_TYPE;

/// Scrapers that are served at a time.
const OPEN: usize = 16;

/// Takes the address, before anything else is opened: no program starts half.
pub fn listen(address: SocketAddr) -> anyhow::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address).with_context(|| {
        format!("metrics cannot be served at {address}; choose another --metrics, or stop what listens there")
    })?;
    listener.set_nonblocking(true)?;
    tracing::info!("metrics are at http://{}/metrics", listener.local_addr()?);
    Ok(listener)
}

/// Serves for ever: `ask` is asked each time, and its answer written as `page` does.
pub async fn serve<Q, F>(
    listener: TcpListener,
    program: &'static str,
    asks: mpsc::Sender<Asked<Q>>,
    ask: fn() -> Q,
    page: F,
) where
    Q: Question,
    F: Fn(Q::Status) -> Option<String> + Clone + Send + Sync + 'static,
{
    let answer = move |_| {
        let (asks, page) = (asks.clone(), page.clone());
        async move {
            let (answer, told) = oneshot::channel();
            asks.send(Asked { ask: ask(), answer }).await.ok()?;
            let Ok(Answer::Status(status)) = told.await else { return None };
            Some(Page { text: page(*status)?.into(), content_type: CONTENT_TYPE })
        }
    };
    scrape::serve(listener, program, OPEN, answer).await;
}
