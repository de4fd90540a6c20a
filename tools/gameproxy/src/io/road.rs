//! What goes between the two sides goes over this: a message flow, or a byte stream.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use libflow::{Flow, FlowError};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::core::Put;
use crate::machine::pieces::{self, Pieces};
use crate::said::frame::{HEAD, LONGEST, Malformed, Player, Said, WORDS, decapsulate, encapsulate};
use crate::said::rule::Dropped;

/// What waits to be written to a byte stream at most; then players' datagrams wait in their own queues, and old ones are dropped
/// there.
const UNWRITTEN: usize = 64 << 10;
/// So much that found no room is kept: the ends of all players of a client side at once.
const OWED: usize = 16_384;
/// Room for what comes over a byte stream: more than a datagram, so that there is some whenever whole ones are taken.
const CAME: usize = 2 * (4 + WORDS + LONGEST);

/// A byte stream of any kind.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A way to the other side.
#[expect(clippy::large_enum_variant, reason = "there is one of it for each way")]
pub(super) enum Road {
    /// Each SDU is something said.
    Messages(Messages),
    /// The original's encapsulation.
    Stream(Stream),
}

/// A message flow, and what came.
pub(super) struct Messages {
    flow: Flow,
    came: libflow::Batch,
    scratch: Vec<u8>,
    /// What is no player's datagram, and found no room: it goes as soon as there is some.
    owed: VecDeque<Vec<u8>>,
    /// Of datagrams that fit no SDU: what has come, how many were sent.
    pieces: Pieces,
    cut: u32,
}

/// A byte stream, what came, and what is to go.
pub(super) struct Stream {
    stream: Box<dyn Duplex>,
    /// What came: up to `filled`, of which what is before `taken` is taken.
    came: Vec<u8>,
    filled: usize,
    taken: usize,
    /// What is to go; the first so many bytes of it are gone.
    going: Vec<u8>,
    gone: usize,
}

/// Why a way is over, for the log.
pub(super) type Over = String;

impl Road {
    /// Over a message flow.
    pub(super) fn messages(flow: Flow) -> Self {
        Self::Messages(Messages {
            flow,
            came: libflow::Batch::new(),
            scratch: Vec::with_capacity(2048 + HEAD),
            owed: VecDeque::new(),
            pieces: Pieces::default(),
            cut: 0,
        })
    }

    /// Over a byte stream.
    pub(super) fn stream(stream: impl Duplex + 'static) -> Self {
        Self::Stream(Stream {
            stream: Box::new(stream),
            came: vec![0; CAME],
            filled: 0,
            taken: 0,
            going: Vec::with_capacity(UNWRITTEN),
            gone: 0,
        })
    }

    /// Whether more than datagrams go over it.
    pub(super) fn speaks(&self) -> bool {
        matches!(self, Self::Messages(_))
    }

    /// Sends a player's datagram.
    pub(super) fn datagram(&mut self, player: &Player, data: &[u8]) -> Put {
        match self {
            Self::Messages(messages) => messages.put(&Said::Datagram(*player, data)),
            Self::Stream(stream) => stream.put(player, data),
        }
    }

    /// Sends something else, now or as soon as there is room; the original says nothing else.
    pub(super) fn say(&mut self, said: &Said<'_>) {
        if let Self::Messages(messages) = self {
            messages.settle();
            if (!messages.owed.is_empty() || messages.put(said) == Put::Full) && messages.owed.len() < OWED {
                let mut bytes = Vec::new();
                said.put(&mut bytes);
                messages.owed.push_back(bytes);
            }
        }
    }

    /// Sends what found no room before; whether there is still something, which is to be tried again in a moment.
    pub(super) fn settle(&mut self) -> bool {
        match self {
            Self::Messages(messages) => messages.settle(),
            Self::Stream(_) => false,
        }
    }

    /// Waits until something has come, and writes what is to go meanwhile. Cancel-safe.
    pub(super) async fn hear(&mut self) -> Result<(), Over> {
        match self {
            Self::Messages(Messages { flow, came, .. }) => {
                flow.recv_batch(came).await.map(drop).map_err(|error| error.to_string())
            }
            Self::Stream(stream) => stream.hear().await,
        }
    }

    /// Takes what has come. `Err`: the stream cannot be read on.
    pub(super) fn take(&mut self, mut each: impl FnMut(Result<Said<'_>, Malformed>)) -> Result<(), Over> {
        match self {
            Self::Messages(messages) => {
                for sdu in messages.came.iter() {
                    match Said::parse(sdu) {
                        Ok(Said::Piece(piece)) => {
                            let Some(whole) = messages.pieces.take(&piece) else { continue };
                            // Nothing but datagrams is ever cut.
                            each(Said::parse(&whole).and_then(|said| match said {
                                Said::Datagram(..) => Ok(said),
                                _ => Err(Malformed::Kind(whole[0])),
                            }));
                        }
                        said => each(said),
                    }
                }
                messages.came.clear();
                Ok(())
            }
            Self::Stream(stream) => stream.take(each),
        }
    }

    /// Ends it, once what was sent has been delivered.
    pub(super) async fn end(self) {
        if let Self::Messages(messages) = self {
            messages.flow.dealloc().await;
        }
    }
}

impl Messages {
    fn settle(&mut self) -> bool {
        while let Some(first) = self.owed.front() {
            if self.flow.try_send(first).is_err_and(|error| matches!(error, FlowError::WouldBlock)) {
                return true;
            }
            self.owed.pop_front();
        }
        false
    }

    fn put(&mut self, said: &Said<'_>) -> Put {
        self.scratch.clear();
        said.put(&mut self.scratch);
        match self.flow.try_send(&self.scratch) {
            Err(FlowError::TooLong { limit, .. }) => self.put_pieces(limit),
            sent => outcome(sent),
        }
    }

    /// Sends what is in the scratch buffer in pieces. Those that are gone when there is no room for the rest are gone in vain.
    fn put_pieces(&mut self, limit: usize) -> Put {
        self.cut = self.cut.wrapping_add(1);
        let Some(pieces) = pieces::cut(self.cut, &self.scratch, limit) else { return Put::Dropped(Dropped::TooLong) };
        let mut sdu = Vec::with_capacity(limit);
        for piece in pieces {
            sdu.clear();
            Said::Piece(piece).put(&mut sdu);
            match outcome(self.flow.try_send(&sdu)) {
                Put::Done => {}
                Put::Full if piece.place > 0 => return Put::Dropped(Dropped::QueueFull),
                not => return not,
            }
        }
        Put::Done
    }
}

/// What the flow made of an SDU.
fn outcome(sent: Result<(), FlowError>) -> Put {
    match sent {
        Ok(()) => Put::Done,
        Err(FlowError::WouldBlock) => Put::Full,
        Err(FlowError::TooLong { .. }) => Put::Dropped(Dropped::TooLong),
        // Who hears learns of it, too.
        Err(FlowError::Gone(_)) => Put::Dropped(Dropped::NoFlow),
        Err(_) => Put::Dropped(Dropped::Refused),
    }
}

impl Stream {
    fn put(&mut self, player: &Player, data: &[u8]) -> Put {
        if self.gone == self.going.len() {
            self.going.clear();
            self.gone = 0;
        }
        if self.going.len() + data.len() + HEAD > UNWRITTEN {
            return Put::Full;
        }
        match encapsulate(player, data, &mut self.going) {
            true => Put::Done,
            // IPv6.
            false => Put::Dropped(Dropped::TooLong),
        }
    }

    async fn hear(&mut self) -> Result<(), Over> {
        self.came.copy_within(self.taken..self.filled, 0);
        self.filled -= std::mem::take(&mut self.taken);
        poll_fn(|context| {
            while self.gone < self.going.len() {
                match Pin::new(&mut self.stream).poll_write(context, &self.going[self.gone..]) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err("it takes no more".to_owned())),
                    Poll::Ready(Ok(written)) => self.gone += written,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error.to_string())),
                    Poll::Pending => break,
                }
            }
            let mut buffer = ReadBuf::new(&mut self.came[self.filled..]);
            match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                    Poll::Ready(Err("the other side ended it".to_owned()))
                }
                Poll::Ready(Ok(())) => {
                    self.filled += buffer.filled().len();
                    Poll::Ready(Ok(()))
                }
                Poll::Ready(Err(error)) => Poll::Ready(Err(error.to_string())),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    fn take(&mut self, mut each: impl FnMut(Result<Said<'_>, Malformed>)) -> Result<(), Over> {
        loop {
            match decapsulate(&self.came[self.taken..self.filled]) {
                Ok(Some((player, data, length))) => {
                    each(Ok(Said::Datagram(player, data)));
                    self.taken += length;
                }
                Ok(None) => return Ok(()),
                Err(malformed) => {
                    each(Err(malformed));
                    return Err(malformed.to_string());
                }
            }
        }
    }
}
