//! One track of a running group: frames in, frames out.

use std::io;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};

use super::carrier::Carrier;
use super::sockets;
use crate::machine::{Broken, Group, Outgoing, Path, TrackId};
use crate::said::head::Head;

/// What a read asks for at first, and at most.
const READ: (usize, usize) = (4 << 10, 128 << 10);

/// A carrier and what is half read and half written on it.
pub(super) struct Track {
    pub(super) id: TrackId,
    /// Which of the group's tracks it is: what replaces it has the same.
    pub(super) index: u16,
    /// It is not replaced: there are to be fewer.
    pub(super) retired: bool,
    pub(super) carrier: Carrier,
    unsent: u32,
    incoming: BytesMut,
    want: usize,
    body_left: usize,
    /// The carrier gives no more.
    read_ended: bool,
    told_end: bool,
    outgoing: Option<Writing>,
    pub(super) finished: bool,
    /// Why nothing can be written any more. What was under way to here is read nevertheless: it may be the last word of all.
    write_broken: Option<String>,
}

enum Writing {
    Bytes { head: Head, written: usize, body: Bytes },
    Finish,
}

/// What came of moving bytes.
pub(super) enum Moved {
    /// Some did.
    Some,
    /// None: the carrier, or the group, has to do something first.
    None,
}

/// Why a track, or its group, does not go on.
pub(super) enum Failed {
    /// The carrier broke.
    Lost(String),
    /// The peer did what it must not.
    Broken(Broken),
}

impl From<Broken> for Failed {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Lost(error.to_string())
    }
}

impl Track {
    /// `first`: bytes that go out before all frames.
    pub(super) fn new(id: TrackId, index: u16, carrier: Carrier, first: Bytes) -> Self {
        let outgoing = (!first.is_empty()).then_some(Writing::Bytes { head: Head::default(), written: 0, body: first });
        Self {
            id,
            index,
            retired: false,
            carrier,
            unsent: 0,
            incoming: BytesMut::new(),
            want: READ.0,
            body_left: 0,
            read_ended: false,
            told_end: false,
            outgoing,
            finished: false,
            write_broken: None,
        }
    }

    /// What is known of its path by now; its socket is told how much of it is worth while to hold.
    pub(super) fn look_at_path(&mut self) -> Path {
        let path = self.carrier.path();
        if let Carrier::Tcp(stream) = &self.carrier {
            let unsent = path.unsent();
            if self.unsent.abs_diff(unsent) > unsent / 4 {
                // A socket that takes no such advice holds more: nothing is lost by it.
                let _ = sockets::set_unsent(stream, unsent);
                self.unsent = unsent;
            }
        }
        path
    }

    /// Its receiving half has ended, and the group knows.
    pub(super) fn is_read_out(&self) -> bool {
        self.told_end
    }

    /// Reads once, and passes on what is whole.
    pub(super) fn poll_in(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        group: &mut dyn Group,
    ) -> Result<Moved, Failed> {
        if self.told_end {
            return Ok(Moved::None);
        }
        // The group may have made room since.
        let passed = self.pass_on(now, group)?;
        if self.is_held_back() {
            return Ok(passed);
        }
        if self.read_ended {
            self.told_end = true;
            // A reset that a write has seen reads as an end.
            if let Some(why) = self.write_broken.take() {
                return Err(Failed::Lost(why));
            }
            match self.incoming.is_empty() {
                true => group.track_ended(now, self.id)?,
                false => return Err(Failed::Lost("it ended within a header".to_owned())),
            }
            return Ok(Moved::Some);
        }
        match self.carrier.poll_fill(cx, &mut self.incoming, self.want) {
            Poll::Pending => {
                if self.incoming.is_empty() && self.want > READ.0 {
                    self.incoming = BytesMut::new();
                }
                Ok(passed)
            }
            Poll::Ready(Err(error)) => Err(error.into()),
            Poll::Ready(Ok(0)) => {
                self.read_ended = true;
                Ok(Moved::Some)
            }
            Poll::Ready(Ok(len)) => {
                // Half of it unused is no reason to ask for less at once.
                let full = len >= self.want;
                self.want = if full {
                    self.want * 4
                } else if len * 8 < self.want {
                    self.want / 2
                } else {
                    self.want
                };
                self.want = self.want.clamp(READ.0, READ.1);
                self.pass_on(now, group)?;
                Ok(Moved::Some)
            }
        }
    }

    /// Bytes wait here because the group takes none now.
    fn is_held_back(&self) -> bool {
        self.body_left > 0 && !self.incoming.is_empty()
    }

    fn pass_on(&mut self, now: Instant, group: &mut dyn Group) -> Result<Moved, Failed> {
        let mut moved = Moved::None;
        while !self.incoming.is_empty() {
            if self.body_left == 0 {
                let Some((head, body)) = group.head(now, self.id, &self.incoming)? else { break };
                self.incoming.advance(head);
                self.body_left = body;
            } else {
                if !group.accepts(self.id) {
                    break;
                }
                let len = self.body_left.min(self.incoming.len());
                group.body(now, self.id, self.incoming.split_to(len).freeze())?;
                self.body_left -= len;
            }
            moved = Moved::Some;
        }
        Ok(moved)
    }

    /// Writes what is half written, else the next frame, as far as it goes.
    pub(super) fn poll_out(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        group: &mut dyn Group,
    ) -> Result<Moved, Failed> {
        if self.write_broken.is_some() {
            return Ok(Moved::None);
        }
        if self.outgoing.is_none() {
            self.outgoing = group.next(now, self.id).map(|next| match next {
                Outgoing::Bytes { head, body } => Writing::Bytes { head, written: 0, body },
                Outgoing::Finish => Writing::Finish,
            });
        }
        let mut moved = Moved::None;
        while let Some(outgoing) = &mut self.outgoing {
            match outgoing.poll(cx, &mut self.carrier) {
                Poll::Pending => break,
                Poll::Ready(Ok(false)) => {}
                Poll::Ready(Ok(true)) => {
                    self.finished |= matches!(outgoing, Writing::Finish);
                    self.outgoing = None;
                    group.sent(now, self.id);
                }
                // Reading tells when the rest is gone, too.
                Poll::Ready(Err(error)) => {
                    self.outgoing = None;
                    if self.told_end {
                        return Err(error.into());
                    }
                    self.write_broken = Some(error.to_string());
                }
            }
            moved = Moved::Some;
        }
        Ok(moved)
    }
}

impl Writing {
    /// Writes some of it; whether that was all.
    fn poll(&mut self, cx: &mut Context<'_>, carrier: &mut Carrier) -> Poll<io::Result<bool>> {
        match self {
            Self::Finish => carrier.poll_finish(cx).map_ok(|()| true),
            Self::Bytes { head, written, body } => {
                let len = match ready!(carrier.poll_write(cx, [&head[*written..], body])) {
                    Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Ok(len) => len,
                    Err(error) => return Poll::Ready(Err(error)),
                };
                let of_head = len.min(head.len() - *written);
                *written += of_head;
                body.advance(len - of_head);
                Poll::Ready(Ok(*written == head.len() && body.is_empty()))
            }
        }
    }
}
