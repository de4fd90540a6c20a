//! Datagrams that fit no SDU of the flow go in pieces, and are joined again.

use std::collections::VecDeque;

pub use crate::said::frame::Piece;
use crate::said::frame::{HEAD, LONGEST, PIECE_HEAD};

/// Pieces of one datagram at most.
const MOST: usize = 128;
/// Datagrams of which some pieces have come: when one more begins the oldest is given up. Pieces of two that are sent one after the
/// other hardly mix; what waits here has lost one.
const UNDER_WAY: usize = 8;

/// Cuts what is said into pieces for SDUs of at most `limit` bytes; none where that takes too many.
pub fn cut(number: u32, whole: &[u8], limit: usize) -> Option<impl Iterator<Item = Piece<'_>>> {
    let room = limit.checked_sub(PIECE_HEAD).filter(|room| *room > 0)?;
    let pieces = whole.len().div_ceil(room);
    let count = u8::try_from(pieces).ok().filter(|_| (1..=MOST).contains(&pieces))?;
    Some((0..count).zip(whole.chunks(room)).map(move |(place, bytes)| Piece { number, place, count, bytes }))
}

/// What has come of datagrams that are not whole yet.
#[derive(Debug, Default)]
pub struct Pieces {
    under_way: VecDeque<Joining>,
}

#[derive(Debug)]
struct Joining {
    number: u32,
    /// By their places; what has not come is empty, as no piece is.
    parts: Vec<Vec<u8>>,
}

impl Pieces {
    /// A piece came: what was said, if it was the last that was missing.
    pub fn take(&mut self, piece: &Piece<'_>) -> Option<Vec<u8>> {
        let count = usize::from(piece.count);
        if count > MOST || piece.place >= piece.count || piece.bytes.is_empty() {
            return None;
        }
        let known = self.under_way.iter().position(|joining| joining.number == piece.number);
        let at = known.unwrap_or_else(|| self.begin(piece.number, count));
        let joining = &mut self.under_way[at];
        let so_far: usize = joining.parts.iter().map(Vec::len).sum();
        // Of another datagram of the same number, or longer than any datagram: who sends so is heard no further.
        if joining.parts.len() != count || so_far + piece.bytes.len() > HEAD + LONGEST {
            self.under_way.remove(at);
            return None;
        }
        let part = &mut joining.parts[usize::from(piece.place)];
        if part.is_empty() {
            part.extend_from_slice(piece.bytes);
        }
        if joining.parts.iter().any(Vec::is_empty) {
            return None;
        }
        self.under_way.remove(at).map(|joining| joining.parts.concat())
    }

    fn begin(&mut self, number: u32, count: usize) -> usize {
        if self.under_way.len() == UNDER_WAY {
            self.under_way.pop_front();
        }
        self.under_way.push_back(Joining { number, parts: vec![Vec::new(); count] });
        self.under_way.len() - 1
    }

    /// Bytes that wait for others.
    pub fn held(&self) -> usize {
        self.under_way.iter().flat_map(|joining| &joining.parts).map(Vec::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_fits_no_number_of_pieces_is_not_cut() {
        let count = |length: usize, limit: usize| cut(1, &vec![7; length], limit).map(Iterator::count);
        assert_eq!(count(1_400, 1_150), Some(2));
        assert_eq!(count(1_144 * 2, 1_150), Some(3), "a piece has a head");
        assert_eq!(count(HEAD + LONGEST, 1_150), Some(58));
        assert_eq!(count(10_000, 50), None);
        assert_eq!((count(10, PIECE_HEAD), count(10, 0)), (None, None));
    }

    #[test]
    fn what_is_never_whole_makes_room() {
        let mut pieces = Pieces::default();
        let whole = vec![3; 40_000];
        for number in 0..1000 {
            cut(number, &whole, 1_000).unwrap().skip(1).for_each(|piece| assert_eq!(pieces.take(&piece), None));
        }
        assert!(pieces.held() <= UNDER_WAY * whole.len() && pieces.under_way.len() == UNDER_WAY);
        // A flood of one number, and of pieces as long as may be.
        let long = vec![1; LONGEST];
        for place in 0..200 {
            let piece = Piece { number: 5, place, count: 200, bytes: &long };
            assert_eq!(pieces.take(&piece), None);
            let piece = Piece { number: u32::from(place), place: place % 100, count: 100, bytes: &long };
            assert_eq!(pieces.take(&piece), None);
        }
        assert!(pieces.held() <= UNDER_WAY * (HEAD + LONGEST), "{}", pieces.held());
        let odd = [
            Piece { number: 1, place: 2, count: 2, bytes: b"x" },
            Piece { number: 1, place: 0, count: 0, bytes: b"x" },
        ];
        odd.iter().for_each(|piece| assert_eq!(pieces.take(piece), None));
    }

    proptest! {
        /// Whatever order pieces come in, and however often: who has all of them is whole, once, as it was; who lost one never.
        #[test]
        fn all_that_came_whole_is_as_it_was(
            lengths in proptest::collection::vec(1_usize..3_000, 1..6),
            limit in 40_usize..1_200,
            lost in proptest::collection::vec(any::<prop::sample::Index>(), 0..3),
            order: u64,
        ) {
            let wholes: Vec<Vec<u8>> = lengths.iter().enumerate().map(|(n, length)| vec![n as u8; *length]).collect();
            let mut all: Vec<Piece<'_>> = Vec::new();
            for (number, whole) in wholes.iter().enumerate() {
                all.extend(cut(number as u32, whole, limit).unwrap());
            }
            let mut gone: Vec<u32> = Vec::new();
            for index in lost {
                if !all.is_empty() {
                    gone.push(all.remove(index.index(all.len())).number);
                }
            }
            // In any order.
            let mut seed = order;
            all.sort_by_cached_key(|_| { seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1); seed >> 33 });
            let (mut pieces, mut whole) = (Pieces::default(), Vec::new());
            for piece in &all {
                whole.extend(pieces.take(piece));
                if wholes[piece.number as usize].len() > limit && !whole.iter().any(|one: &Vec<u8>| one[0] == piece.number as u8) {
                    prop_assert_eq!(pieces.take(piece), None, "twice is once");
                }
            }
            whole.sort();
            let want: Vec<&Vec<u8>> = (0_u32..).zip(&wholes).filter(|(n, _)| !gone.contains(n)).map(|(_, one)| one).collect();
            prop_assert_eq!(whole.iter().collect::<Vec<_>>(), want);
        }
    }
}
