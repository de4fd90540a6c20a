//! Metrics over HTTP, on a thread of their own: a flood of scrapers costs irmd's calls nothing but the processor.
//!
//! Each scraper gets one answer and [`LIFE`] for it. When [`OPEN`] are there the oldest makes room for the newest, so
//! that those who hold on keep nobody out. All who wait share one [`gather::Gatherer`]'s walk, of which there are
//! at most ten a second.
#![expect(clippy::disallowed_methods, reason = "io owns the thread and its timers")]

mod gather;
mod process;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinSet};

use self::gather::{Gatherer, Scrapes};
use super::api_admin::Tools;
use crate::machine::metrics::Format;

/// Scrapers that are served at a time.
const OPEN: usize = 64;
/// How long one may take, from its first byte to the last of the answer.
const LIFE: Duration = Duration::from_secs(10);
/// How long the head of a request may take.
const HEAD: Duration = Duration::from_secs(5);
/// Longest head, bytes.
const HEAD_BYTES: usize = 16 * 1024;
/// Header lines of one request.
const HEADERS: usize = 64;
/// Accepting pauses this long when descriptors ran out, rather than spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
                () = serve(listener, scrapes) => {}
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

async fn serve(listener: TcpListener, scrapes: Scrapes) {
    let mut open = JoinSet::new();
    let mut order: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let stream = tokio::select! {
            Some(_) = open.join_next() => {
                order.retain(|scraper| !scraper.is_finished());
                continue;
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!("no scraper is let in for {ACCEPT_PAUSE:?}: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        if order.len() >= OPEN
            && let Some(oldest) = order.pop_front()
        {
            oldest.abort();
        }
        order.push_back(open.spawn(scraper(stream, scrapes.clone())));
    }
}

async fn scraper(stream: TcpStream, scrapes: Scrapes) {
    let service = service_fn(move |request| {
        let scrapes = scrapes.clone();
        async move { Ok::<_, Infallible>(answer(&request, &scrapes).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(LIFE, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!("a scraper was not served: {error}"),
        Err(_) => tracing::debug!("a scraper was too slow"),
    }
}

async fn answer(request: &Request<Incoming>, scrapes: &Scrapes) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "ask with GET\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/metrics" => {}
        "/" => return text(StatusCode::OK, "irmd of Flowring; its metrics are at /metrics\n"),
        _ => return text(StatusCode::NOT_FOUND, "metrics are at /metrics\n"),
    }
    let accepted = request.headers().get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let format = Format::accepted(&accepted.collect::<Vec<_>>().join(","));
    match scrapes.scrape(format).await {
        Some(page) => {
            let mut response = Response::new(Full::new(page));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
            response
        }
        None => text(StatusCode::SERVICE_UNAVAILABLE, "irmd is stopping; ask again when it runs\n"),
    }
}

fn text(status: StatusCode, words: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(words.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
