//! Which SDUs arrived: counts each once, and those that came again or out of order. Constant memory, no allocation per SDU.

/// SDUs that may arrive out of order before a duplicate is no longer known as one.
pub const WINDOW: u64 = 65_536;

const WORDS: usize = (WINDOW / 64) as usize;

/// The receiver's view of the sequence.
#[derive(Debug)]
pub struct Arrivals {
    /// The sequence number after the highest seen.
    next: u64,
    /// A bit for each of the last [`WINDOW`] numbers below `next`.
    bits: Box<[u64]>,
    /// SDUs, each once.
    pub received: u64,
    /// SDUs that came again.
    pub duplicates: u64,
    /// SDUs that came after one sent later (RFC 4737), duplicates not among them.
    pub reordered: u64,
}

impl Default for Arrivals {
    fn default() -> Self {
        Self { next: 0, bits: vec![0; WORDS].into(), received: 0, duplicates: 0, reordered: 0 }
    }
}

impl Arrivals {
    /// Takes an SDU with the lowest 32 bits of its sequence number. `true` if it is none that came before.
    pub fn take(&mut self, low: u32) -> bool {
        // Nearest to `next`: half a turn either way.
        let ahead = low.wrapping_sub(self.next as u32).cast_signed();
        match self.next.checked_add_signed(ahead.into()) {
            // Below zero: nothing that was ever sent.
            None => false,
            Some(seq) if seq >= self.next => {
                self.advance(seq);
                self.received += 1;
                true
            }
            Some(seq) => self.take_old(seq),
        }
    }

    fn take_old(&mut self, seq: u64) -> bool {
        let (word, bit) = place(seq);
        if self.next - seq <= WINDOW {
            if self.bits[word] & bit != 0 {
                self.duplicates += 1;
                return false;
            }
            self.bits[word] |= bit;
        }
        self.received += 1;
        self.reordered += 1;
        true
    }

    fn advance(&mut self, seq: u64) {
        if seq - self.next >= WINDOW {
            self.bits.fill(0);
        } else {
            for skipped in self.next..seq {
                let (word, bit) = place(skipped);
                self.bits[word] &= !bit;
            }
        }
        let (word, bit) = place(seq);
        self.bits[word] |= bit;
        self.next = seq + 1;
    }
}

fn place(seq: u64) -> (usize, u64) {
    let slot = seq % WINDOW;
    ((slot / 64) as usize, 1 << (slot % 64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn counts(arrivals: &Arrivals) -> (u64, u64, u64) {
        (arrivals.received, arrivals.duplicates, arrivals.reordered)
    }

    #[test]
    fn in_order_out_of_order_and_again() {
        let mut arrivals = Arrivals::default();
        for (seq, want) in
            [(0, (1, 0, 0)), (2, (2, 0, 0)), (1, (3, 0, 1)), (1, (3, 1, 1)), (2, (3, 2, 1)), (3, (4, 2, 1))]
        {
            arrivals.take(seq);
            assert_eq!(counts(&arrivals), want, "{seq}");
        }
    }

    #[test]
    fn the_sequence_wraps() {
        let mut arrivals = Arrivals { next: (1 << 32) - 2, ..Arrivals::default() };
        for seq in [u32::MAX - 1, 0, u32::MAX, 1, 0] {
            arrivals.take(seq);
        }
        assert_eq!((counts(&arrivals), arrivals.next), ((4, 1, 1), (1 << 32) + 2));
    }

    #[test]
    fn numbers_before_the_first_and_great_jumps_do_no_harm() {
        let mut arrivals = Arrivals::default();
        assert!(!arrivals.take(u32::MAX));
        assert!(arrivals.take(i32::MAX as u32));
        assert!(arrivals.take(i32::MAX as u32 - WINDOW as u32 - 1));
        assert_eq!(counts(&arrivals), (2, 0, 1));
    }

    proptest! {
        #[test]
        fn as_a_set_says(seqs in prop::collection::vec(0u32..5_000, 0..2_000)) {
            let (mut arrivals, mut set, mut highest) = (Arrivals::default(), HashSet::new(), None);
            let (mut duplicates, mut reordered) = (0, 0);
            for seq in seqs {
                let first = set.insert(seq);
                prop_assert_eq!(arrivals.take(seq), first);
                duplicates += u64::from(!first);
                reordered += u64::from(first && Some(seq) < highest);
                highest = highest.max(Some(seq));
            }
            prop_assert_eq!(counts(&arrivals), (set.len() as u64, duplicates, reordered));
        }
    }
}
