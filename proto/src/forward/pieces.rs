//! The bytes of a connection between two hosts, in pieces, so that a reset stands behind the last byte before it.
//!
//! Behind the headers each direction of a stream of a flow *between hosts* is a row of pieces:
//!
//! ```text
//!  0  4  length, 1 to 1,048,576; 0: the connection broke here
//!  4     so many bytes of the connection; of one that broke: its reason (4 bytes), and nothing follows
//! ```
//!
//! The stream's own end between two pieces is the connection's. A stream that is reset without these words may have lost
//! what came before. Within a host there are no pieces: a local stream's reset takes nothing away.

use super::{Broken, Malformed};

/// Bytes before each piece.
pub const PIECE_HEAD: usize = 4;
/// Longest piece, bytes.
pub const LONGEST_PIECE: usize = 1 << 20;

/// What stands before a piece of so many bytes, 1 to [`LONGEST_PIECE`].
pub fn piece_head(length: usize) -> [u8; PIECE_HEAD] {
    debug_assert!((1..=LONGEST_PIECE).contains(&length));
    u32::try_from(length).unwrap_or(0).to_be_bytes()
}

/// The last that is said in a direction that broke.
pub fn last_words(broken: Broken) -> [u8; 2 * PIECE_HEAD] {
    let mut words = [0; 2 * PIECE_HEAD];
    words[PIECE_HEAD..].copy_from_slice(&broken.code().to_be_bytes());
    words
}

/// Takes pieces apart, as they come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pieces {
    /// Of the piece that is being read.
    left: usize,
    head: [u8; PIECE_HEAD],
    /// Bytes of `head` that have come.
    got: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    /// The reason is being read.
    Breaking,
    Broken(Broken),
}

impl Pieces {
    /// Takes what came, in `bytes`, and leaves the connection's own bytes at its beginning; how many.
    ///
    /// # Errors
    /// It is no row of pieces, or goes on behind its last words.
    pub fn strip(&mut self, bytes: &mut [u8]) -> Result<usize, Malformed> {
        let (mut from, mut kept) = (0, 0);
        while from < bytes.len() {
            if self.left > 0 {
                let some = self.left.min(bytes.len() - from);
                if kept != from {
                    bytes.copy_within(from..from + some, kept);
                }
                (from, kept, self.left) = (from + some, kept + some, self.left - some);
                continue;
            }
            self.head[self.got] = bytes[from];
            (from, self.got) = (from + 1, self.got + 1);
            if self.got == PIECE_HEAD {
                self.got = 0;
                self.number(u32::from_be_bytes(self.head))?;
            }
        }
        Ok(kept)
    }

    fn number(&mut self, number: u32) -> Result<(), Malformed> {
        match (self.state, number as usize) {
            (State::Open, 0) => self.state = State::Breaking,
            (State::Open, length) if length <= LONGEST_PIECE => self.left = length,
            (State::Open, _) => return Err(Malformed::TooLong),
            (State::Breaking, _) => self.state = State::Broken(Broken::from_code(number)),
            (State::Broken(_), _) => return Err(Malformed::Field),
        }
        Ok(())
    }

    /// The last words have come.
    pub fn broken(&self) -> Option<Broken> {
        match self.state {
            State::Broken(broken) => Some(broken),
            State::Open | State::Breaking => None,
        }
    }

    /// Between two pieces, where the stream may end.
    pub fn is_whole(&self) -> bool {
        self.left == 0 && self.got == 0 && self.state == State::Open
    }
}
