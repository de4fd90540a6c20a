//! What one track runs over.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use libflow::{Flow, Reason, Stream};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::TcpStream;

use super::sockets;
use crate::machine::Path;

/// Why a flow's stream is reset: the group was given up.
const GIVEN_UP: Reason = Reason(1);
/// How long what was finished may take to arrive.
const CLOSE: Duration = Duration::from_secs(30);

/// A TCP connection, or a stream flow with its one stream.
pub(super) enum Carrier {
    Tcp(TcpStream),
    Flow { stream: Stream, flow: Box<Flow> },
}

impl Carrier {
    pub(super) fn path(&self) -> Path {
        match self {
            Self::Tcp(stream) => sockets::path(stream),
            Self::Flow { flow, .. } => flow.path().map_or_else(Path::default, |stats| Path {
                rtt: (!stats.rtt.is_zero()).then_some(stats.rtt),
                window: (stats.congestion_window > 0).then_some(stats.congestion_window),
                lost: stats.packets_lost,
            }),
        }
    }

    /// In words, for people.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Tcp(stream) => stream.peer_addr().map_or_else(|_| "tcp".to_owned(), |peer| format!("tcp {peer}")),
            Self::Flow { flow, .. } => match flow.peer().address.as_str() {
                "" => format!("flow {} {}", flow.id().0, flow.peer().layer),
                address => format!("flow {} {address}", flow.id().0),
            },
        }
    }

    /// Reads what is there into `buffer`, growing it by at most `most`; 0 at the end.
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => {
                // Nothing is set aside for a track that has nothing to say.
                ready!(stream.poll_read_ready(cx))?;
                fill(stream, cx, buffer, most)
            }
            Self::Flow { stream, .. } => fill(stream, cx, buffer, most),
        }
    }

    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, parts: [&[u8]; 2]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, &parts.map(IoSlice::new)),
            Self::Flow { stream, .. } => {
                let part = if parts[0].is_empty() { parts[1] } else { parts[0] };
                Pin::new(stream).poll_write(cx, part)
            }
        }
    }

    /// No more is sent; what was sent arrives.
    pub(super) fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Flow { stream, .. } => Pin::new(stream).poll_shutdown(cx),
        }
    }

    /// Ends it after it has been finished: what is under way arrives.
    pub(super) async fn close(self) {
        match self {
            Self::Tcp(stream) => sockets::release(&stream),
            Self::Flow { stream, flow } => {
                drop(stream);
                // Late: the peer is gone, and dropping it tells whoever still listens.
                let _ = tokio::time::timeout(CLOSE, flow.dealloc()).await;
            }
        }
    }

    /// Gives it up: the peer sees that it broke.
    pub(super) async fn reset(self) {
        match self {
            // Its linger time is zero: closing resets.
            Self::Tcp(stream) => drop(stream),
            Self::Flow { mut stream, flow } => {
                stream.reset(GIVEN_UP);
                drop(stream);
                let _ = tokio::time::timeout(CLOSE, flow.dealloc()).await;
            }
        }
    }
}

fn fill(
    from: &mut (impl AsyncRead + Unpin),
    cx: &mut Context<'_>,
    buffer: &mut BytesMut,
    most: usize,
) -> Poll<io::Result<usize>> {
    buffer.reserve(most);
    // It keeps nothing between two polls: what was read is in the buffer, or in the kernel.
    let reading = std::pin::pin!(from.read_buf(buffer));
    reading.poll(cx)
}
