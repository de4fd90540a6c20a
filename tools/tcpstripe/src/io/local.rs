//! The side of a group that is no track: a client, a target, or a file of our own.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncWrite, Interest};
use tokio::net::{TcpStream, UnixStream};

use super::sockets;

/// What a read asks for at first, and at most: two of the longest datagrams of the seed's framing, so that no crumb is left.
const READ: (usize, usize) = (4 << 10, 2 * 65_535);
/// Pieces written with one system call.
const PIECES: usize = 32;

/// Where bytes come from and go to.
pub(super) enum End {
    Tcp(Arc<TcpStream>),
    /// One end of a pair; the other is in this process.
    Pair(UnixStream),
}

/// An end, and what is half written to it.
pub(super) struct Local {
    end: End,
    incoming: BytesMut,
    want: usize,
    pub(super) read_ended: bool,
    outgoing: VecDeque<Bytes>,
    pub(super) shut: bool,
    /// Completes when the connection broke: also while nobody reads or writes.
    broke: Option<Pin<Box<dyn Future<Output = io::Error> + Send>>>,
}

impl Local {
    pub(super) fn tcp(stream: TcpStream) -> Self {
        let stream = Arc::new(stream);
        let watched = stream.clone();
        let broke = Box::pin(async move {
            loop {
                match watched.ready(Interest::ERROR).await {
                    Ok(ready) if ready.is_error() => match watched.take_error() {
                        Ok(Some(error)) => return error,
                        // Both ways are shut: no error, and none to come.
                        Ok(None) => std::future::pending().await,
                        Err(error) => return error,
                    },
                    Ok(_) => tokio::task::yield_now().await,
                    Err(error) => return error,
                }
            }
        });
        Self { broke: Some(broke), ..Self::new(End::Tcp(stream)) }
    }

    pub(super) fn pair(stream: UnixStream) -> Self {
        Self::new(End::Pair(stream))
    }

    fn new(end: End) -> Self {
        Self {
            end,
            incoming: BytesMut::new(),
            want: READ.0,
            read_ended: false,
            outgoing: VecDeque::new(),
            shut: false,
            broke: None,
        }
    }

    /// Whether it broke meanwhile.
    pub(super) fn poll_broke(&mut self, cx: &mut Context<'_>) -> Option<io::Error> {
        let broke = self.broke.as_mut()?;
        match broke.as_mut().poll(cx) {
            Poll::Ready(error) => {
                self.broke = None;
                Some(error)
            }
            Poll::Pending => None,
        }
    }

    /// Bytes, at most `room`; empty at the end.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, room: usize) -> Poll<io::Result<Bytes>> {
        loop {
            ready!(match &self.end {
                End::Tcp(stream) => stream.poll_read_ready(cx),
                End::Pair(stream) => stream.poll_read_ready(cx),
            })?;
            let most = self.want.min(room);
            // One buffer holds many short reads.
            if self.incoming.capacity() - self.incoming.len() < most.min(READ.0) {
                self.incoming.reserve(self.want);
            }
            let mut limited = bytes::BufMut::limit(&mut self.incoming, most);
            let read = match &self.end {
                End::Tcp(stream) => stream.try_read_buf(&mut limited),
                End::Pair(stream) => stream.try_read_buf(&mut limited),
            };
            match read {
                Ok(0) => {
                    self.read_ended = true;
                    // A reset that came behind the end reads as an end.
                    let End::Tcp(stream) = &self.end else { return Poll::Ready(Ok(Bytes::new())) };
                    return Poll::Ready(stream.take_error()?.map_or(Ok(Bytes::new()), Err));
                }
                Ok(len) => {
                    self.want = if len == self.want {
                        self.want * 4
                    } else if len * 8 < self.want {
                        self.want / 2
                    } else {
                        self.want
                    };
                    self.want = self.want.clamp(READ.0, READ.1);
                    return Poll::Ready(Ok(self.incoming.split().freeze()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.incoming.is_empty() && self.incoming.capacity() > READ.0 {
                        self.incoming = BytesMut::new();
                    }
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// More to write, unless enough waits already.
    pub(super) fn wants(&self) -> bool {
        self.outgoing.len() < PIECES
    }

    pub(super) fn push(&mut self, piece: Bytes) {
        self.outgoing.push_back(piece);
    }

    pub(super) fn is_written(&self) -> bool {
        self.outgoing.is_empty()
    }

    /// Writes once; how many bytes.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut parts = [IoSlice::new(&[]); PIECES];
        for (part, piece) in parts.iter_mut().zip(&self.outgoing) {
            *part = IoSlice::new(piece);
        }
        let parts = &parts[..self.outgoing.len().min(PIECES)];
        let mut written = loop {
            let (ready, written) = match &self.end {
                End::Tcp(stream) => (stream.poll_write_ready(cx), stream.try_write_vectored(parts)),
                End::Pair(stream) => (stream.poll_write_ready(cx), stream.try_write_vectored(parts)),
            };
            match written {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(ready)?,
                written => break written?,
            }
        };
        let all = written;
        while let Some(first) = self.outgoing.front_mut() {
            let len = first.len().min(written);
            first.advance(len);
            written -= len;
            if !first.is_empty() {
                break;
            }
            self.outgoing.pop_front();
        }
        Poll::Ready(Ok(all))
    }

    /// No more is written: who reads comes to the end.
    pub(super) fn shut_down(&mut self) -> io::Result<()> {
        self.shut = true;
        match &mut self.end {
            End::Tcp(stream) => socket2::SockRef::from(&**stream).shutdown(std::net::Shutdown::Write),
            // Never waits.
            End::Pair(stream) => {
                let cx = &mut Context::from_waker(std::task::Waker::noop());
                match Pin::new(stream).poll_shutdown(cx) {
                    Poll::Ready(done) => done,
                    Poll::Pending => Ok(()),
                }
            }
        }
    }

    /// All has been said both ways: it closes in order.
    pub(super) fn close(self) {
        if let End::Tcp(stream) = &self.end {
            sockets::release(stream);
        }
    }

    /// It was cut short: who reads is told (TCP: RST, since it lingers for no time).
    pub(super) fn reset(self) {
        drop(self);
    }
}
