//! What goes over a track that is a flow: frames, the same both ways. All numbers in network order.
//!
//! | kind | bytes behind it |
//! |---|---|
//! | 1 DATA | offset 64, size 32 (1 to 1,048,576), then so many bytes |
//! | 2 END | offset 64: how long the stream is in all |
//! | 3 ACK | received 64, limit 64, chunks 64 |
//! | 4 ABORT | reason 8 |

use super::head::Head;

/// The longest chunk, bytes.
pub const MAX_CHUNK: u32 = 1 << 20;

/// The greatest offset: what nobody sends, and no sum of it overflows.
pub const MAX_OFFSET: u64 = 1 << 62;

/// A frame; of DATA its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A chunk of the stream follows.
    Data {
        /// Where in the stream it begins.
        offset: u64,
        /// Bytes, 1 to [`MAX_CHUNK`].
        size: u32,
    },
    /// The stream ends here.
    End {
        /// Its length.
        offset: u64,
    },
    /// What came, and how much more may.
    Ack {
        /// All bytes before this offset have come; one more than the stream's length: its end has, too.
        received: u64,
        /// Bytes before this offset may be sent.
        limit: u64,
        /// DATA frames that came whole over this track.
        chunks: u64,
    },
    /// The stream is given up, both ways.
    Abort(Abort),
}

/// Why a group was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Abort {
    /// No reason that this version knows.
    Other(u8),
    /// The client, or the target, reset its connection.
    Reset,
    /// The target refused the connection.
    Refused,
    /// The target could not be reached.
    Unreachable,
    /// No track was left, and none came.
    NoTrack,
    /// The peer broke the protocol.
    Protocol,
    /// The program was told to stop.
    Stopped,
    /// There is no such group, or no more.
    NoGroup,
    /// The relay serves as many as it may.
    Busy,
}

impl Abort {
    /// All that have a meaning.
    pub const ALL: [Self; 8] = [
        Self::Reset,
        Self::Refused,
        Self::Unreachable,
        Self::NoTrack,
        Self::Protocol,
        Self::Stopped,
        Self::NoGroup,
        Self::Busy,
    ];

    fn code(self) -> u8 {
        match self {
            Self::Other(code) => code,
            Self::Reset => 1,
            Self::Refused => 2,
            Self::Unreachable => 3,
            Self::NoTrack => 4,
            Self::Protocol => 5,
            Self::Stopped => 6,
            Self::NoGroup => 7,
            Self::Busy => 8,
        }
    }

    fn of(code: u8) -> Self {
        Self::ALL.into_iter().find(|abort| abort.code() == code).unwrap_or(Self::Other(code))
    }

    /// In words that follow "because".
    pub fn words(self) -> &'static str {
        match self {
            Self::Other(_) => "the other end gave it up for a reason that this version does not know",
            Self::Reset => "the connection at the other end was reset",
            Self::Refused => "the target refused the connection",
            Self::Unreachable => "the target could not be reached",
            Self::NoTrack => "no track was left",
            Self::Protocol => "one end broke the protocol",
            Self::Stopped => "the other end was told to stop",
            Self::NoGroup => "the relay has no such group",
            Self::Busy => "the relay serves as many clients as it may",
        }
    }
}

/// What no end of ours sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A kind of frame that this version does not know.
    #[error("a frame of kind {0}")]
    Kind(u8),
    /// A chunk of no bytes, or of too many.
    #[error("a chunk of {0} bytes")]
    Size(u32),
    /// An offset that no stream reaches.
    #[error("an offset of {0}")]
    Offset(u64),
}

impl Frame {
    /// As bytes.
    pub fn encode(self) -> Head {
        match self {
            Self::Data { offset, size } => Head::of(&[&[1], &offset.to_be_bytes(), &size.to_be_bytes()]),
            Self::End { offset } => Head::of(&[&[2], &offset.to_be_bytes()]),
            Self::Ack { received, limit, chunks } => {
                Head::of(&[&[3], &received.to_be_bytes(), &limit.to_be_bytes(), &chunks.to_be_bytes()])
            }
            Self::Abort(abort) => Head::of(&[&[4, abort.code()]]),
        }
    }

    /// The frame that `bytes` begin with, and how many of them it takes; `None` while it is incomplete.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, Malformed> {
        let Some((kind, rest)) = bytes.split_first() else { return Ok(None) };
        let number = |at: usize| rest.get(at..at + 8)?.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
        let read = match kind {
            1 => number(0).zip(rest.get(8..12)).map(|(offset, size)| {
                let size = size.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
                (Self::Data { offset, size }, 13)
            }),
            2 => number(0).map(|offset| (Self::End { offset }, 9)),
            3 => number(0)
                .zip(number(8))
                .zip(number(16))
                .map(|((received, limit), chunks)| (Self::Ack { received, limit, chunks }, 25)),
            4 => rest.first().map(|code| (Self::Abort(Abort::of(*code)), 2)),
            other => return Err(Malformed::Kind(*other)),
        };
        read.map(|(frame, len)| frame.sound().map(|()| (frame, len))).transpose()
    }

    fn sound(self) -> Result<(), Malformed> {
        let far = |offset: u64| if offset > MAX_OFFSET { Err(Malformed::Offset(offset)) } else { Ok(()) };
        match self {
            Self::Data { size, .. } if !(1..=MAX_CHUNK).contains(&size) => Err(Malformed::Size(size)),
            Self::Data { offset, .. } | Self::End { offset } => far(offset),
            Self::Ack { received, limit, .. } => far(received).and(far(limit)),
            Self::Abort(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames() -> impl Strategy<Value = Frame> {
        let offset = 0..=MAX_OFFSET;
        prop_oneof![
            (offset.clone(), 1..=MAX_CHUNK).prop_map(|(offset, size)| Frame::Data { offset, size }),
            offset.clone().prop_map(|offset| Frame::End { offset }),
            (offset.clone(), offset, any::<u64>()).prop_map(|(received, limit, chunks)| Frame::Ack {
                received,
                limit,
                chunks
            }),
            any::<u8>().prop_map(|code| Frame::Abort(Abort::of(code))),
        ]
    }

    #[test]
    fn bytes_of_each_kind() {
        let table = [
            (Frame::Data { offset: 258, size: 772 }, "01 0000000000000102 00000304"),
            (Frame::End { offset: 5 }, "02 0000000000000005"),
            (Frame::Ack { received: 1, limit: 2, chunks: 3 }, "03 0000000000000001 0000000000000002 0000000000000003"),
            (Frame::Abort(Abort::Refused), "04 02"),
        ];
        for (frame, hex) in table {
            let written: String = frame.encode().iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(written, hex.replace(' ', ""));
        }
        assert_eq!(Frame::decode(&[9]), Err(Malformed::Kind(9)));
        let empty = Frame::Data { offset: 0, size: 0 }.encode();
        assert_eq!(Frame::decode(&empty), Err(Malformed::Size(0)));
        assert_eq!(Frame::decode(&Frame::End { offset: u64::MAX }.encode()), Err(Malformed::Offset(u64::MAX)));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(frame in frames(), more: Vec<u8>) {
            let mut bytes = frame.encode().to_vec();
                        for cut in 0..bytes.len() {
                prop_assert_eq!(Frame::decode(&bytes[..cut]), Ok(None));
            }
            let len = bytes.len();
            bytes.extend(more);
            prop_assert_eq!(Frame::decode(&bytes), Ok(Some((frame, len))));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            if let Ok(Some((frame, len))) = Frame::decode(&bytes) {
                prop_assert_eq!(&*frame.encode(), &bytes[..len]);
            }
        }
    }
}
