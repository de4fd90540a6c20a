//! Bytes from here to there, and the end of them.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};

use libflow::{EndReason, Flow, FlowError, Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::machine::conversation::End;
use crate::machine::text::printable;

/// Bytes moved at once.
const BLOCK: usize = 128 * 1024;
/// The longest SDU of any flow.
const LONGEST: usize = 65_536;
/// What a stream is reset with when this side's pipe, or its command, failed.
const FAILED: Reason = Reason(1);

/// How much went by.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) sent: AtomicU64,
    pub(super) received: AtomicU64,
}

/// Where a flow takes bytes.
pub(super) trait Outlet {
    /// How many at once, at most.
    fn block(&self) -> usize;
    async fn send(&mut self, bytes: &[u8]) -> Result<(), String>;
    /// There are no more: they are all, or they are not.
    fn end(&mut self, whole: bool) -> Result<(), String>;
}

/// Where a flow gives bytes.
pub(super) trait Inlet {
    /// 0 at the end.
    async fn recv(&mut self, room: &mut [u8]) -> Result<usize, String>;
    /// Nobody reads them any more.
    fn stop(&mut self);
}

impl Outlet for SendStream {
    fn block(&self) -> usize {
        BLOCK
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.write_all(bytes).await.map_err(|error| printable(&error.to_string()))
    }

    fn end(&mut self, whole: bool) -> Result<(), String> {
        if whole {
            return self.finish().map_err(|error| printable(&error.to_string()));
        }
        self.reset(FAILED);
        Ok(())
    }
}

impl Inlet for RecvStream {
    async fn recv(&mut self, room: &mut [u8]) -> Result<usize, String> {
        self.read(room).await.map_err(|error| printable(&error.to_string()))
    }

    fn stop(&mut self) {
        RecvStream::stop(self, Reason(0));
    }
}

/// A message flow, or a raw one.
#[derive(Clone, Copy)]
pub(super) struct Datagrams<'a>(pub(super) &'a Flow);

impl Outlet for Datagrams<'_> {
    fn block(&self) -> usize {
        self.0.sdu_limit().clamp(1, LONGEST)
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (sdu, more) = rest.split_at(rest.len().min(self.block()));
            match self.0.send(sdu).await {
                Ok(()) => rest = more,
                // The path has become narrower meanwhile.
                Err(FlowError::TooLong { limit, len }) if (1..len).contains(&limit) && self.block() < len => {}
                Err(error) => return Err(printable(&error.to_string())),
            }
        }
        Ok(())
    }

    fn end(&mut self, _whole: bool) -> Result<(), String> {
        Ok(())
    }
}

impl Inlet for Datagrams<'_> {
    async fn recv(&mut self, room: &mut [u8]) -> Result<usize, String> {
        match self.0.recv(room).await {
            Err(FlowError::Gone(EndReason::PeerDeallocated | EndReason::Deallocated)) => Ok(0),
            got => got.map_err(|error| printable(&error.to_string())),
        }
    }

    fn stop(&mut self) {}
}

/// From this side's pipe into the flow. `ended` says at the pipe's end whether that was all.
pub(super) async fn outward(
    mut input: impl AsyncRead + Unpin,
    outlet: &mut impl Outlet,
    ended: impl Future<Output = Result<(), String>>,
    tally: &Tally,
) -> End {
    let mut ended = std::pin::pin!(ended);
    let mut block = vec![0; BLOCK];
    loop {
        let room = outlet.block().min(BLOCK);
        let read = match input.read(&mut block[..room]).await {
            Ok(0) => ended.as_mut().await.map(|()| 0),
            read => read.map_err(|error| format!("cannot read the input: {error}")),
        };
        match read {
            Ok(0) => return outlet.end(true).map_or_else(End::Broken, |()| End::Clean),
            Ok(len) => {
                if let Err(words) = outlet.send(&block[..len]).await {
                    return End::Broken(words);
                }
                tally.sent.fetch_add(len as u64, Ordering::Relaxed);
            }
            Err(words) => {
                // The peer must not take what came for all there is; that it could not be told is the smaller news.
                let _ = outlet.end(false);
                return End::Local(words);
            }
        }
    }
}

/// From the flow into this side's pipe, which is closed at a clean end. Else it stays open: who reads it must not take a
/// broken stream's end for a clean one.
pub(super) async fn inward(inlet: &mut impl Inlet, output: &mut Option<impl AsyncWrite + Unpin>, tally: &Tally) -> End {
    let Some(pipe) = output else { return End::Unread };
    let mut block = vec![0; BLOCK.max(LONGEST)];
    let written = loop {
        let len = match inlet.recv(&mut block).await {
            Ok(0) => break pipe.shutdown().await,
            Ok(len) => len,
            Err(words) => return End::Broken(words),
        };
        tally.received.fetch_add(len as u64, Ordering::Relaxed);
        // A flush tells of an error now, not with the next write.
        let written = async {
            pipe.write_all(&block[..len]).await?;
            pipe.flush().await
        };
        if let Err(error) = written.await {
            inlet.stop();
            break Err(error);
        }
    };
    // A child's pipe ends when it is dropped, and not before.
    *output = None;
    match written {
        Ok(()) => End::Clean,
        Err(error) => unwritten(&error),
    }
}

fn unwritten(error: &std::io::Error) -> End {
    match error.kind() {
        ErrorKind::BrokenPipe => End::Unread,
        _ => End::Local(format!("cannot write the output: {error}")),
    }
}

#[cfg(test)]
mod tests;
