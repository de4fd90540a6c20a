//! Metrics over HTTP. Each scraper gets one answer and [`LIFE`] for it; when [`OPEN`] are there the oldest makes room for the
//! newest, so that those who hold on keep nobody out.
#![expect(clippy::disallowed_methods, reason = "io/: timers; scrapers are tasks of a JoinSet")]

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};

use super::control::Asked;
use crate::machine::metrics;
use crate::said::control::{Answer, Ask};

/// Scrapers that are served at a time.
const OPEN: usize = 16;
/// How long one may take, from its first byte to the last of the answer.
const LIFE: Duration = Duration::from_secs(10);
/// Longest head of a request, bytes.
const HEAD: usize = 16 * 1024;
/// Accepting pauses this long when descriptors ran out, rather than spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
        order.push_back(open.spawn(scraper(stream, asks.clone())));
    }
}

async fn scraper(stream: TcpStream, asks: mpsc::Sender<Asked>) {
    let service = service_fn(move |request| {
        let asks = asks.clone();
        async move { Ok::<_, Infallible>(answer(&request, &asks).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(LIFE)
        .max_buf_size(HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(LIFE, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!("a scraper was not served: {error}"),
        Err(_) => tracing::debug!("a scraper was too slow"),
    }
}

async fn answer(request: &Request<Incoming>, asks: &mpsc::Sender<Asked>) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "ask with GET\n");
    }
    match request.uri().path() {
        "/metrics" => {}
        "/" => return text(StatusCode::OK, "portfwd of Flowring; its metrics are at /metrics\n"),
        _ => return text(StatusCode::NOT_FOUND, "metrics are at /metrics\n"),
    }
    let (answer, told) = oneshot::channel();
    let asked = asks.send(Asked { ask: Ask::Status { connections: 0 }, answer }).await;
    let page = match (asked, told.await) {
        (Ok(()), Ok(Answer::Status(status))) => metrics::page(*status).ok(),
        _ => None,
    };
    let Some(page) = page else {
        return text(StatusCode::SERVICE_UNAVAILABLE, "portfwd is stopping; ask again when it runs\n");
    };
    let mut response = Response::new(Full::new(page.into()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
    response
}

fn text(status: StatusCode, words: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(words.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
