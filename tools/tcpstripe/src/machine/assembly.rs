//! Pieces of a stream by offset, put in order. What came twice is dropped; the first to come counts.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Buf, Bytes};

/// A piece that waits keeps the whole buffer it was read into; one that is much shorter is copied.
const WORTH_KEEPING: usize = 16 << 10;

/// Pieces that wait, and those whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    /// All before it has come.
    next: u64,
    ready: VecDeque<Bytes>,
    waiting: BTreeMap<u64, Bytes>,
    held: u64,
    pub(super) held_most: u64,
    pub(super) doubled: u64,
    pub(super) out_of_order: u64,
}

impl Assembly {
    /// All bytes before this offset have come.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Bytes that wait for those before them.
    pub(super) fn held(&self) -> u64 {
        self.held
    }

    /// The next bytes in order.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        self.ready.pop_front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    /// A piece that begins at `offset`.
    pub(super) fn insert(&mut self, offset: u64, piece: Bytes) {
        let (mut at, mut piece) = (offset, piece);
        // What lies before a piece that waits, and then again what lies behind it.
        while !piece.is_empty() {
            let covered = self.covered(at);
            if covered > at {
                let twice = (covered - at).min(piece.len() as u64);
                self.doubled += twice;
                piece.advance(twice as usize);
                at += twice;
                continue;
            }
            let room = self.waiting.range(at..).next().map_or(u64::MAX, |(next, _)| next - at);
            let part = piece.split_to(room.min(piece.len() as u64) as usize);
            let len = part.len() as u64;
            self.keep(at, part);
            at += len;
        }
    }

    /// Up to where, from `at` on, bytes have come; `at` itself if the one there has not.
    fn covered(&self, at: u64) -> u64 {
        if at < self.next {
            return self.next;
        }
        match self.waiting.range(..=at).next_back() {
            Some((offset, piece)) => (offset + piece.len() as u64).max(at),
            None => at,
        }
    }

    /// A piece of which nothing has come.
    fn keep(&mut self, at: u64, piece: Bytes) {
        if at > self.next {
            self.out_of_order += 1;
            self.held += piece.len() as u64;
            self.held_most = self.held_most.max(self.held);
            let piece = if piece.len() < WORTH_KEEPING { Bytes::copy_from_slice(&piece) } else { piece };
            self.waiting.insert(at, piece);
            return;
        }
        self.next += piece.len() as u64;
        self.ready.push_back(piece);
        while let Some(first) = self.waiting.first_entry()
            && *first.key() == self.next
        {
            let piece = first.remove();
            self.held -= piece.len() as u64;
            self.next += piece.len() as u64;
            self.ready.push_back(piece);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(assembly: &mut Assembly) -> Vec<u8> {
        std::iter::from_fn(|| assembly.pop()).flat_map(|piece| piece.to_vec()).collect()
    }

    #[test]
    fn a_gap_is_waited_for() {
        let mut assembly = Assembly::default();
        assembly.insert(3, Bytes::from_static(b"defg"));
        assert_eq!((assembly.next(), assembly.held(), assembly.pop()), (0, 4, None));
        assembly.insert(0, Bytes::from_static(b"abcd"));
        assert_eq!((assembly.next(), assembly.held(), assembly.doubled), (7, 0, 1));
        assert_eq!(all(&mut assembly), b"abcdefg");
        assembly.insert(2, Bytes::from_static(b"cd"));
        assert_eq!((assembly.pop(), assembly.doubled), (None, 3));
    }

    proptest! {
        /// Any pieces in any order, overlapping as they like: each byte once, in order, as soon as it is its turn.
        #[test]
        fn each_byte_once_in_order(pieces in prop::collection::vec((0_u64..300, 0_usize..60), 0..60)) {
            let text: Vec<u8> = (0..400_u32).map(|n| (n % 251) as u8).collect();
            let mut assembly = Assembly::default();
            let mut have = vec![false; 400];
            let mut got = Vec::new();
            for (offset, len) in pieces {
                let range = offset as usize..offset as usize + len;
                have[range.clone()].fill(true);
                assembly.insert(offset, Bytes::copy_from_slice(&text[range]));
                let first_gap = have.iter().position(|have| !have).unwrap_or(400);
                prop_assert_eq!(assembly.next(), first_gap as u64);
                let beyond = have[first_gap..].iter().filter(|have| **have).count();
                prop_assert_eq!(assembly.held(), beyond as u64);
                got.extend(all(&mut assembly));
                prop_assert_eq!(&got[..], &text[..first_gap]);
            }
        }
    }
}
