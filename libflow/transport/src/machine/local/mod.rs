//! Local flows: what two libflows say to each other over a flow's SEQPACKET pair, and what follows from it.
//!
//! One packet is one frame; integers are little-endian. The first byte is the frame's kind:
//!
//! | kind | name | then | meaning |
//! |---|---|---|---|
//! | 1 | MESSAGE | at least one byte | a message |
//! | 2 | OPEN | stream | a new stream; beside it travels one descriptor, the far end of a SOCK_STREAM pair |
//! | 3 | FIN | stream | the sender has written all to the stream that it will: what came is complete |
//! | 4 | RESET | stream, reason (4 bytes) | the sender gave the stream up: what came may be incomplete |
//! | 5 | STOP | stream, reason (4 bytes) | the sender of this frame reads no more of the stream; answered with FIN or RESET |
//! | 6 | REFUSED | stream | the OPEN came without its descriptor: its receiver had none left |
//! | 7 | ROOM | messages (8 bytes), streams (8 bytes) | how much the other side may send and open, counted from the flow's start |
//! | 8 | CLOSE | | the flow is over; nothing follows |
//!
//! A stream is 8 bytes: its number, counted from 0 by the side that opened it and shifted left by one, plus 1 if the
//! frame's sender opened it. The bytes of a stream go through its SOCK_STREAM pair, from kernel to kernel; FIN and RESET are
//! said *before* the direction is shut down there. So a reader at the end of its bytes finds the verdict said already, and
//! where there is none the other program died.
//!
//! **Bounds.** A side may send messages of [`MESSAGE_WINDOW`] together (each costs its length and [`MESSAGE_COST`]) and open
//! [`OPEN_STREAMS`] streams; ROOM raises both as messages are read and streams are over. So neither side ever has to leave
//! a frame unread for want of room, and no stream waits for a program that reads no messages.

mod exchange;
mod frame;
mod half;
mod hearing;
mod hostile;
mod room;

pub(crate) use exchange::{Attached, Exchange, Saying, Wake, Way};
pub(crate) use frame::{Frame, Heard, MAX_CONTROL, MESSAGE, StreamId};
pub(crate) use half::{Receiving, Sending};
pub(crate) use hostile::play;

/// Streams that a side may have opened and that are not over, taken or not.
pub(crate) const OPEN_STREAMS: u64 = 1024;
/// What unread messages may cost together.
pub(crate) const MESSAGE_WINDOW: u64 = 512 * 1024;
/// What a message costs beside its bytes.
pub(crate) const MESSAGE_COST: u64 = 64;

#[cfg(test)]
mod exchange_tests;
