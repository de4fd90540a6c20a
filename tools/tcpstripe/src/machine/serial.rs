//! Datagrams by serial number, put in order.
//!
//! On the wire a serial has 16 bits. On one track serials only grow, so each is the next number above the track's last one
//! that is the same modulo 65,536: right as long as a sender lets no track fall 65,536 datagrams behind. Ours keep it well below
//! that ([`super::GAP`]); comparing with what was delivered last, as one would first think of, is wrong as soon as a slow track and many
//! short datagrams come together.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::Broken;

/// What a datagram costs beside its bytes: so short ones are bounded, too.
const COST: usize = 96;
/// A piece that waits keeps the whole buffer it was read into; one that is much shorter is copied.
const WORTH_KEEPING: usize = 16 << 10;

/// The full number of serial `wire` that comes on a track behind number `last`; `None` if it is `last` again.
pub(super) fn extend(last: u64, wire: u16) -> Option<u64> {
    // The low bits only: that is what a serial on the wire is.
    let ahead = wire.wrapping_sub(last as u16);
    (ahead != 0).then(|| last + u64::from(ahead))
}

/// A datagram, whole or the beginning of one.
#[derive(Debug, Default)]
struct Datagram {
    pieces: VecDeque<Bytes>,
    missing: usize,
    size: usize,
}

/// Datagrams that wait, and bytes whose turn it is.
#[derive(Debug)]
pub(super) struct Order {
    /// The datagram whose turn it is.
    next: u64,
    ready: VecDeque<Bytes>,
    ready_bytes: usize,
    waiting: BTreeMap<u64, Datagram>,
    held: usize,
    pub(super) held_most: usize,
    pub(super) out_of_order: u64,
}

impl Order {
    pub(super) fn new() -> Self {
        let (ready, waiting) = (VecDeque::new(), BTreeMap::new());
        Self { next: 1, ready, ready_bytes: 0, waiting, held: 0, held_most: 0, out_of_order: 0 }
    }

    /// The number whose turn it is.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Bytes, and what keeping them costs, that wait for those before them.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Bytes that have their turn and were not popped.
    pub(super) fn ready_bytes(&self) -> usize {
        self.ready_bytes
    }

    pub(super) fn pop(&mut self) -> Option<Bytes> {
        let piece = self.ready.pop_front()?;
        self.ready_bytes -= piece.len();
        Some(piece)
    }

    /// Nothing waits, neither for its turn nor to be written out.
    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.waiting.is_empty()
    }

    /// A datagram begins.
    pub(super) fn begin(&mut self, number: u64, size: usize) -> Result<(), Broken> {
        if number < self.next || self.waiting.contains_key(&number) {
            return Err(Broken(format!("datagram {number} came twice")));
        }
        if number > self.next {
            self.out_of_order += 1;
        }
        self.held += COST;
        self.waiting.insert(number, Datagram { pieces: VecDeque::new(), missing: size, size });
        self.advance();
        Ok(())
    }

    /// More of a datagram that has begun.
    pub(super) fn more(&mut self, number: u64, bytes: Bytes) {
        let Some(datagram) = self.waiting.get_mut(&number) else { return };
        datagram.missing = datagram.missing.saturating_sub(bytes.len());
        let waits = number > self.next;
        let bytes = if waits && bytes.len() < WORTH_KEEPING { Bytes::copy_from_slice(&bytes) } else { bytes };
        self.held += bytes.len();
        datagram.pieces.push_back(bytes);
        self.advance();
        self.held_most = self.held_most.max(self.held);
    }

    /// What has its turn becomes ready, also the beginning of a datagram that is not whole yet.
    fn advance(&mut self) {
        while let Some(mut first) = self.waiting.first_entry()
            && *first.key() == self.next
        {
            let datagram = first.get_mut();
            let bytes = datagram.pieces.iter().map(Bytes::len).sum::<usize>();
            self.held -= bytes;
            self.ready_bytes += bytes;
            self.ready.append(&mut datagram.pieces);
            if datagram.missing > 0 {
                return;
            }
            first.remove();
            self.held -= COST;
            self.next += 1;
        }
    }

    /// The first datagram that never came whole, if another did; for words of an error.
    pub(super) fn first_missing(&self) -> Option<u64> {
        let (first, datagram) = self.waiting.first_key_value()?;
        Some(if *first == self.next && datagram.missing < datagram.size { *first } else { self.next })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn serials_grow_beyond_their_bits() {
        for (last, wire, number) in [
            (0, 1, Some(1)),
            (0, 65_535, Some(65_535)),
            (65_535, 0, Some(65_536)),
            (65_535, 65_535, None),
            (65_536, 0, None),
            (199_999, (200_000 % 65_536) as u16, Some(200_000)),
            (1 << 40, 65_535, Some((1 << 40) + 65_535)),
        ] {
            assert_eq!(extend(last, wire), number, "{last} {wire}");
        }
    }

    #[test]
    fn a_datagram_whose_turn_it_is_leaves_in_pieces() {
        let mut order = Order::new();
        order.begin(2, 2).unwrap();
        order.more(2, Bytes::from_static(b"cd"));
        order.begin(1, 3).unwrap();
        order.more(1, Bytes::from_static(b"a"));
        assert_eq!((order.pop().as_deref(), order.pop()), (Some(&b"a"[..]), None));
        order.more(1, Bytes::from_static(b"b!"));
        assert_eq!(order.next(), 3);
        assert_eq!((order.pop().as_deref(), order.pop().as_deref()), (Some(&b"b!"[..]), Some(&b"cd"[..])));
        assert!(order.is_empty() && order.held() == 0);
        assert!(order.begin(2, 1).is_err(), "again");
        order.begin(3, 0).unwrap();
        assert_eq!(order.next(), 4, "an empty one has its turn, too");
    }

    proptest! {
        /// Tracks that carry each their share in order, read in any order: all of it, in order, though serials wrap.
        #[test]
        fn any_interleaving_of_tracks(shares in prop::collection::vec(0_usize..4, 1..400), reads in prop::collection::vec(0_usize..4, 400..401), start in 0_u64..200_000) {
            let mut order = Order { next: start + 1, ..Order::new() };
            let mut tracks: [VecDeque<u64>; 4] = Default::default();
            for (number, track) in (start + 1..).zip(&shares) {
                tracks[*track].push_back(number);
            }
            let mut last = [start; 4];
            let mut got = Vec::new();
            let mut reads = reads.iter().cycle();
            let mut idle = 0;
            while tracks.iter().any(|track| !track.is_empty()) {
                // After some in vain, whichever has something.
                let track = if idle < 8 { *reads.next().unwrap() } else { tracks.iter().position(|t| !t.is_empty()).unwrap() };
                let Some(number) = tracks[track].pop_front() else { idle += 1; continue };
                idle = 0;
                last[track] = extend(last[track], number as u16).unwrap();
                prop_assert_eq!(last[track], number);
                order.begin(number, 8).unwrap();
                order.more(number, Bytes::copy_from_slice(&number.to_be_bytes()));
                got.extend(std::iter::from_fn(|| order.pop()).map(|piece| u64::from_be_bytes(piece[..].try_into().unwrap())));
            }
            let all: Vec<u64> = (start + 1..start + 1 + shares.len() as u64).collect();
            prop_assert_eq!(got, all);
            prop_assert_eq!(order.held(), 0);
        }
    }
}
