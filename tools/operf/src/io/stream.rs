//! A stream as a carrier: SDUs behind their lengths.

use std::io::{BufReader, ErrorKind, Read, Result, Write};
use std::sync::Arc;
use std::time::Duration;

use libflow::blocking::{Flow, RecvHalf, SendHalf, Stream};
use libflow::{Reason, StreamError};

use super::carrier::{self, Carrier, Gone, Reins};
use crate::machine::result::Path;
use crate::machine::sdu;

/// What one read takes from the stream.
const READ: usize = 256 * 1024;
/// Resets a stream of load whose time is over.
const LOAD_IS_OVER: Reason = Reason(1);
/// Before each SDU.
const LENGTH: usize = 4;

/// A stream of a flow.
pub(crate) struct StreamCarrier {
    flow: Arc<Flow>,
    send: SendHalf,
    recv: BufReader<RecvHalf>,
    out: Vec<u8>,
    room: Vec<u8>,
}

impl StreamCarrier {
    /// The side that asked for the flow opens its stream.
    pub(crate) fn open(flow: Flow) -> std::result::Result<Self, String> {
        let stream = flow.open_stream();
        Self::new(flow, stream)
    }

    /// The other accepts it.
    pub(crate) fn accept(flow: Flow) -> std::result::Result<Self, String> {
        let stream = flow.accept_stream();
        Self::new(flow, stream)
    }

    fn new(flow: Flow, stream: std::result::Result<Stream, libflow::StreamError>) -> std::result::Result<Self, String> {
        let (send, recv) = stream.map_err(|error| error.to_string())?.into_split();
        let (out, room) = (Vec::new(), vec![0; sdu::MAX]);
        Ok(Self { flow: Arc::new(flow), send, recv: BufReader::with_capacity(READ, recv), out, room })
    }

    fn go_on_with(&mut self, stream: std::result::Result<Stream, StreamError>) -> std::result::Result<(), Gone> {
        let (send, recv) = stream.map_err(|error| Gone(error.to_string()))?.into_split();
        (self.send, self.recv) = (send, BufReader::with_capacity(READ, recv));
        Ok(())
    }

    /// What was sent arrives, then the flow ends.
    pub(crate) fn dealloc(mut self) {
        let _ = self.send.finish();
        drop(self.send);
        if let Some(flow) = Arc::into_inner(self.flow) {
            flow.dealloc();
        }
    }
}

fn gone(error: std::io::Error) -> Gone {
    Gone(match error.kind() {
        ErrorKind::UnexpectedEof => "the peer finished its stream".to_owned(),
        _ => error.to_string(),
    })
}

/// Why nothing was read.
enum Stop {
    LoadIsOver,
    Gone(Gone),
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(StreamError::Reset(reason)) if *reason == LOAD_IS_OVER => Self::LoadIsOver,
            _ => Self::Gone(gone(error)),
        }
    }
}

impl From<Stop> for Gone {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::LoadIsOver => Self("the peer said twice that the load is over".to_owned()),
            Stop::Gone(gone) => gone,
        }
    }
}

/// Reads one SDU; its length.
fn read(recv: &mut impl Read, room: &mut [u8]) -> std::result::Result<usize, Stop> {
    let mut length = [0; LENGTH];
    recv.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    let too_long = || Stop::Gone(Gone(format!("the peer sent an SDU of {length} bytes")));
    recv.read_exact(room.get_mut(..length).ok_or_else(too_long)?)?;
    Ok(length)
}

struct StreamReins(Arc<Flow>);

impl Reins for StreamReins {
    /// Nothing is lost on a stream, so nothing need be woken.
    fn kick(&self, _sdu: &[u8]) {}

    fn shut(&self) {
        self.0.end();
    }
}

impl Carrier for StreamCarrier {
    fn reins(&self) -> Result<Box<dyn Reins>> {
        Ok(Box::new(StreamReins(self.flow.clone())))
    }

    fn path(&self) -> Option<Path> {
        self.flow.path().map(carrier::path)
    }

    /// A slow path may have seconds of it. The stream is reset; another carries the last words.
    fn drop_backlog(&mut self) -> std::result::Result<(), Gone> {
        self.send.reset(LOAD_IS_OVER);
        let stream = self.flow.open_stream();
        self.go_on_with(stream)
    }

    fn send(&mut self, sdu: &[u8]) -> std::result::Result<bool, Gone> {
        self.send_batch(sdu, sdu.len()).map(|_| true)
    }

    fn recv(&mut self, room: &mut [u8]) -> std::result::Result<usize, Gone> {
        match read(&mut self.recv, room) {
            Err(Stop::LoadIsOver) => {
                let stream = self.flow.accept_stream();
                self.go_on_with(stream)?;
                read(&mut self.recv, room).map_err(Gone::from)
            }
            other => other.map_err(Gone::from),
        }
    }

    /// The peer answers, or the stream ends: there is nothing to give up before.
    fn recv_within(&mut self, room: &mut [u8], _wait: Duration) -> std::result::Result<Option<usize>, Gone> {
        self.recv(room).map(Some)
    }

    fn send_batch(&mut self, sdus: &[u8], size: usize) -> std::result::Result<u64, Gone> {
        self.out.clear();
        for sdu in sdus.chunks(size) {
            self.out.extend((sdu.len() as u32).to_be_bytes());
            self.out.extend(sdu);
        }
        self.send.write_all(&self.out).map_err(gone)?;
        Ok(sdus.len().div_ceil(size) as u64)
    }

    fn recv_batch(&mut self, each: &mut dyn FnMut(&[u8])) -> std::result::Result<(), Gone> {
        loop {
            let mut room = std::mem::take(&mut self.room);
            let read = self.recv(&mut room);
            self.room = room;
            let length = read?;
            each(&self.room[..length]);
            if self.recv.buffer().len() < LENGTH + length {
                return Ok(());
            }
        }
    }
}
