//! A stream as a carrier: SDUs behind their lengths.

use std::io::{BufReader, ErrorKind, Read, Result, Write};
use std::sync::Arc;
use std::time::Duration;

use libflow::blocking::{Flow, RecvHalf, SendHalf, Stream};

use super::carrier::{self, Carrier, Gone, Reins};
use crate::machine::result::Path;
use crate::machine::sdu;

/// What one read takes from the stream.
const READ: usize = 256 * 1024;
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

/// Reads one SDU; its length.
fn read(recv: &mut impl Read, room: &mut [u8]) -> std::result::Result<usize, Gone> {
    let mut length = [0; LENGTH];
    recv.read_exact(&mut length).map_err(gone)?;
    let length = u32::from_be_bytes(length) as usize;
    let into = room.get_mut(..length).ok_or_else(|| Gone(format!("the peer sent an SDU of {length} bytes")))?;
    recv.read_exact(into).map_err(gone)?;
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

    fn send(&mut self, sdu: &[u8]) -> std::result::Result<bool, Gone> {
        self.send_batch(sdu, sdu.len()).map(|_| true)
    }

    fn recv(&mut self, room: &mut [u8]) -> std::result::Result<usize, Gone> {
        read(&mut self.recv, room)
    }

    /// The peer answers, or the stream ends: there is nothing to give up before.
    fn recv_within(&mut self, room: &mut [u8], _wait: Duration) -> std::result::Result<Option<usize>, Gone> {
        read(&mut self.recv, room).map(Some)
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
            let length = read(&mut self.recv, &mut self.room)?;
            each(&self.room[..length]);
            if self.recv.buffer().len() < LENGTH + length {
                return Ok(());
            }
        }
    }
}
