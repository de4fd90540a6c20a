//! Frames: bytes to values and back.

use crate::error::Reason;

/// The kind of a message, whose bytes follow.
pub(crate) const MESSAGE: u8 = 1;
const OPEN: u8 = 2;
const FIN: u8 = 3;
const RESET: u8 = 4;
const STOP: u8 = 5;
const REFUSED: u8 = 6;
const ROOM: u8 = 7;
const CLOSE: u8 = 8;

/// The longest frame that is no message, bytes.
pub(crate) const MAX_CONTROL: usize = 17;

/// A stream, as one side sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct StreamId {
    /// Who knows it by this value opened it.
    pub(crate) ours: bool,
    /// Counted from 0 by the side that opened it; below 2^63.
    pub(crate) number: u64,
}

/// What is said beside messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Open(StreamId),
    Fin(StreamId),
    Reset(StreamId, Reason),
    Stop(StreamId, Reason),
    Refused(StreamId),
    Room { messages: u64, streams: u64 },
    Close,
}

/// What came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard<'a> {
    Message(&'a [u8]),
    Control(Frame),
}

/// No frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Garbage {
    #[error("an empty frame")]
    Empty,
    #[error("a frame of unknown kind {0}")]
    Kind(u8),
    #[error("a frame of kind {0} with the wrong length")]
    Length(u8),
}

impl Frame {
    /// Writes the frame as its sender says it; its length.
    pub(crate) fn encode(self, into: &mut [u8; MAX_CONTROL]) -> usize {
        let (kind, first, second) = match self {
            Self::Open(id) => (OPEN, Some(id.to_wire()), None),
            Self::Fin(id) => (FIN, Some(id.to_wire()), None),
            Self::Reset(id, reason) => (RESET, Some(id.to_wire()), Some(reason)),
            Self::Stop(id, reason) => (STOP, Some(id.to_wire()), Some(reason)),
            Self::Refused(id) => (REFUSED, Some(id.to_wire()), None),
            Self::Room { messages, streams } => {
                into[0] = ROOM;
                into[1..9].copy_from_slice(&messages.to_le_bytes());
                into[9..17].copy_from_slice(&streams.to_le_bytes());
                return 17;
            }
            Self::Close => (CLOSE, None, None),
        };
        let mut len = 1;
        into[0] = kind;
        if let Some(stream) = first {
            into[1..9].copy_from_slice(&stream.to_le_bytes());
            len = 9;
        }
        if let Some(Reason(reason)) = second {
            into[9..13].copy_from_slice(&reason.to_le_bytes());
            len = 13;
        }
        len
    }
}

impl StreamId {
    fn to_wire(self) -> u64 {
        self.number << 1 | u64::from(self.ours)
    }

    /// What its sender calls its own is the other side's.
    fn from_wire(value: u64) -> Self {
        Self { ours: value & 1 == 0, number: value >> 1 }
    }

    /// The same stream as the other side calls it.
    #[cfg(test)]
    pub(crate) fn turned(self) -> Self {
        Self { ours: !self.ours, ..self }
    }
}

impl<'a> Heard<'a> {
    /// Reads a frame as its receiver hears it.
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, Garbage> {
        let (&kind, body) = bytes.split_first().ok_or(Garbage::Empty)?;
        let wrong = Garbage::Length(kind);
        let frame = match kind {
            MESSAGE if body.is_empty() => return Err(wrong),
            MESSAGE => return Ok(Self::Message(body)),
            OPEN => Frame::Open(alone(body).ok_or(wrong)?),
            FIN => Frame::Fin(alone(body).ok_or(wrong)?),
            REFUSED => Frame::Refused(alone(body).ok_or(wrong)?),
            RESET => with_reason(body).map(|(id, reason)| Frame::Reset(id, reason)).ok_or(wrong)?,
            STOP => with_reason(body).map(|(id, reason)| Frame::Stop(id, reason)).ok_or(wrong)?,
            ROOM => {
                let (messages, streams) = body.split_first_chunk().ok_or(wrong)?;
                let streams = streams.try_into().map_err(|_| wrong)?;
                Frame::Room { messages: u64::from_le_bytes(*messages), streams: u64::from_le_bytes(streams) }
            }
            CLOSE if body.is_empty() => Frame::Close,
            CLOSE => return Err(wrong),
            other => return Err(Garbage::Kind(other)),
        };
        Ok(Self::Control(frame))
    }
}

fn alone(body: &[u8]) -> Option<StreamId> {
    Some(StreamId::from_wire(u64::from_le_bytes(body.try_into().ok()?)))
}

fn with_reason(body: &[u8]) -> Option<(StreamId, Reason)> {
    let (stream, reason) = body.split_first_chunk()?;
    let reason = u32::from_le_bytes(reason.try_into().ok()?);
    Some((StreamId::from_wire(u64::from_le_bytes(*stream)), Reason(reason)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stream() -> impl Strategy<Value = StreamId> {
        (any::<bool>(), 0..1_u64 << 63).prop_map(|(ours, number)| StreamId { ours, number })
    }

    fn frame() -> impl Strategy<Value = Frame> {
        let reason = || any::<u32>().prop_map(Reason);
        prop_oneof![
            stream().prop_map(Frame::Open),
            stream().prop_map(Frame::Fin),
            (stream(), reason()).prop_map(|(id, reason)| Frame::Reset(id, reason)),
            (stream(), reason()).prop_map(|(id, reason)| Frame::Stop(id, reason)),
            stream().prop_map(Frame::Refused),
            any::<(u64, u64)>().prop_map(|(messages, streams)| Frame::Room { messages, streams }),
            Just(Frame::Close),
        ]
    }

    fn turned(frame: Frame) -> Frame {
        match frame {
            Frame::Open(id) => Frame::Open(id.turned()),
            Frame::Fin(id) => Frame::Fin(id.turned()),
            Frame::Reset(id, reason) => Frame::Reset(id.turned(), reason),
            Frame::Stop(id, reason) => Frame::Stop(id.turned(), reason),
            Frame::Refused(id) => Frame::Refused(id.turned()),
            other => other,
        }
    }

    proptest! {
        #[test]
        fn what_is_said_is_heard_from_the_other_side(frame in frame()) {
            let mut bytes = [0; MAX_CONTROL];
            let len = frame.encode(&mut bytes);
            prop_assert_eq!(Heard::decode(&bytes[..len]), Ok(Heard::Control(turned(frame))));
            for cut in 0..len {
                prop_assert!(Heard::decode(&bytes[..cut]).is_err(), "cut to {} of {}", cut, len);
            }
        }

        #[test]
        fn any_bytes_are_a_frame_or_garbage(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(Heard::Control(heard)) = Heard::decode(&bytes) {
                let mut again = [0; MAX_CONTROL];
                let len = turned(heard).encode(&mut again);
                prop_assert_eq!(&again[..len], &bytes[..]);
            }
        }
    }

    #[test]
    fn garbage_is_called_by_its_name() {
        for (bytes, garbage) in [
            (&[][..], Garbage::Empty),
            (&[0], Garbage::Kind(0)),
            (&[9, 1, 2], Garbage::Kind(9)),
            (&[MESSAGE], Garbage::Length(MESSAGE)),
            (&[FIN, 1, 2, 3], Garbage::Length(FIN)),
            (&[OPEN; 10], Garbage::Length(OPEN)),
            (&[ROOM; 16], Garbage::Length(ROOM)),
            (&[ROOM; 18], Garbage::Length(ROOM)),
            (&[CLOSE, 0], Garbage::Length(CLOSE)),
        ] {
            assert_eq!(Heard::decode(bytes), Err(garbage), "{bytes:?}");
        }
    }
}
