#![expect(clippy::disallowed_methods, reason = "io owns timers; scrapers are tasks of a JoinSet")]

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

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

/// What a scraper gets.
#[derive(Clone, Debug)]
pub struct Page {
    /// The text.
    pub text: Bytes,
    /// Which format it is in.
    pub content_type: &'static str,
}

/// Serves for ever, `most` scrapers at a time. `page` is given the request's `Accept` and makes the page; `None` while
/// `program` stops.
pub async fn serve<F, P>(listener: TcpListener, program: &'static str, most: usize, page: F)
where
    F: Fn(String) -> P + Clone + Send + 'static,
    P: Future<Output = Option<Page>> + Send + 'static,
{
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
        if order.len() >= most
            && let Some(oldest) = order.pop_front()
        {
            oldest.abort();
        }
        order.push_back(open.spawn(scraper(stream, program, page.clone())));
    }
}

async fn scraper<F, P>(stream: TcpStream, program: &'static str, page: F)
where
    F: Fn(String) -> P + Clone + Send + 'static,
    P: Future<Output = Option<Page>> + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let page = page.clone();
        async move { Ok::<_, Infallible>(answer(&request, program, page).await) }
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

async fn answer<F, P>(request: &Request<Incoming>, program: &str, page: F) -> Response<Full<Bytes>>
where
    F: Fn(String) -> P,
    P: Future<Output = Option<Page>>,
{
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "ask with GET\n".to_owned());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/metrics" => {}
        "/" => return text(StatusCode::OK, format!("{program} of Flowring; its metrics are at /metrics\n")),
        _ => return text(StatusCode::NOT_FOUND, "metrics are at /metrics\n".to_owned()),
    }
    let accepted = request.headers().get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    match page(accepted.collect::<Vec<_>>().join(",")).await {
        Some(Page { text, content_type }) => {
            let mut response = Response::new(Full::new(text));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
            response
        }
        None => text(StatusCode::SERVICE_UNAVAILABLE, format!("{program} is stopping; ask again when it runs\n")),
    }
}

fn text(status: StatusCode, words: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(words)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
