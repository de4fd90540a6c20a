//! A stream, blocking.

use std::io::{Read, Result, Write};
use std::os::fd::OwnedFd;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{Bridge, Reason, RecvStream, SendStream, StreamError};

/// [`crate::Stream`] without a runtime: [`Read`] and [`Write`].
#[derive(Debug)]
pub struct Stream(crate::Stream);

impl From<crate::Stream> for Stream {
    fn from(stream: crate::Stream) -> Self {
        Self(stream)
    }
}

impl Stream {
    /// See [`crate::SendStream::finish`].
    pub fn finish(&mut self) -> std::result::Result<(), StreamError> {
        self.0.finish()
    }

    /// See [`crate::SendStream::stopped`].
    pub fn stopped(&mut self) -> std::result::Result<Option<Reason>, StreamError> {
        stopped(&mut self.0.send)
    }

    /// See [`crate::Stream::reset`].
    pub fn reset(&mut self, reason: Reason) {
        self.0.reset(reason);
    }

    /// See [`crate::Stream::into_fd`].
    pub fn into_fd(self) -> Result<(OwnedFd, Bridge)> {
        self.0.into_fd()
    }

    /// The halves, for two threads.
    pub fn into_split(self) -> (SendHalf, RecvHalf) {
        let (send, recv) = self.0.into_split();
        (SendHalf(send), RecvHalf(recv))
    }
}

/// The half that is written.
#[derive(Debug)]
pub struct SendHalf(SendStream);

/// The half that is read.
#[derive(Debug)]
pub struct RecvHalf(RecvStream);

impl SendHalf {
    /// See [`crate::SendStream::finish`].
    pub fn finish(&mut self) -> std::result::Result<(), StreamError> {
        self.0.finish()
    }

    /// See [`crate::SendStream::stopped`].
    pub fn stopped(&mut self) -> std::result::Result<Option<Reason>, StreamError> {
        stopped(&mut self.0)
    }

    /// See [`crate::SendStream::reset`].
    pub fn reset(&mut self, reason: Reason) {
        self.0.reset(reason);
    }
}

impl RecvHalf {
    /// See [`crate::RecvStream::stop`].
    pub fn stop(&mut self, reason: Reason) {
        self.0.stop(reason);
    }
}

fn read(half: &mut RecvStream, into: &mut [u8]) -> Result<usize> {
    let (held, mut room) = (half.held().clone(), ReadBuf::new(into));
    held.park(std::future::poll_fn(|cx| Pin::new(&mut *half).poll_read(cx, &mut room)))?;
    Ok(room.filled().len())
}

fn write(half: &mut SendStream, bytes: &[u8]) -> Result<usize> {
    half.held().clone().park(std::future::poll_fn(|cx| Pin::new(&mut *half).poll_write(cx, bytes)))
}

fn flush(half: &mut SendStream) -> Result<()> {
    half.held().clone().park(std::future::poll_fn(|cx| Pin::new(&mut *half).poll_flush(cx)))
}

fn stopped(half: &mut SendStream) -> std::result::Result<Option<Reason>, StreamError> {
    half.held().clone().park(half.stopped())
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        read(&mut self.0.recv, into)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        write(&mut self.0.send, bytes)
    }

    fn flush(&mut self) -> Result<()> {
        flush(&mut self.0.send)
    }
}

impl Read for RecvHalf {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        read(&mut self.0, into)
    }
}

impl Write for SendHalf {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        write(&mut self.0, bytes)
    }

    fn flush(&mut self) -> Result<()> {
        flush(&mut self.0)
    }
}
