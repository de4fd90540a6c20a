//! Which sequence numbers were answered: the newest [`WINDOW`] of them, in constant memory.

/// Sequence numbers remembered. At 100,000 SDUs/s that is 0.6 s of replies.
pub const WINDOW: u64 = 65_536;

/// A bit for each of the newest sequence numbers.
#[derive(Debug)]
pub struct Window {
    bits: Box<[u64]>,
}

/// What a sequence number turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Its first answer.
    First,
    /// It was answered before.
    Again,
    /// Too old to know.
    Forgotten,
}

impl Default for Window {
    fn default() -> Self {
        Self { bits: vec![0; (WINDOW / 64) as usize].into() }
    }
}

impl Window {
    /// Forgets the answer that `seq` overwrites. Call it for each sequence number when it is sent, in order.
    pub fn open(&mut self, seq: u64) {
        let (word, bit) = Self::place(seq);
        self.bits[word] &= !bit;
    }

    /// Marks `seq` as answered; `newest` is the last one sent.
    pub fn mark(&mut self, seq: u64, newest: u64) -> Seen {
        if newest.saturating_sub(seq) >= WINDOW {
            return Seen::Forgotten;
        }
        let (word, bit) = Self::place(seq);
        let before = self.bits[word] & bit;
        self.bits[word] |= bit;
        if before == 0 { Seen::First } else { Seen::Again }
    }

    fn place(seq: u64) -> (usize, u64) {
        let slot = seq % WINDOW;
        ((slot / 64) as usize, 1 << (slot % 64))
    }
}

/// The whole sequence number of its lowest 32 bits: the newest one that is not above `newest`. `None` if there is none.
pub fn whole(low: u32, newest: u64) -> Option<u64> {
    newest.checked_sub(u64::from((newest as u32).wrapping_sub(low)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_numbers_wrap() {
        let wrap = 1u64 << 32;
        let table = [
            (5, 5, Some(5)),
            (1, 5, Some(1)),
            (6, 5, None),
            (u32::MAX, 5, None),
            (0, wrap, Some(wrap)),
            (u32::MAX, wrap, Some(wrap - 1)),
            (u32::MAX - 1, wrap + 3, Some(wrap - 2)),
            (4, wrap + 3, Some(4)),
        ];
        for (low, newest, want) in table {
            assert_eq!(whole(low, newest), want, "{low} at {newest}");
        }
    }

    #[test]
    fn answers_are_told_from_duplicates_across_wraps_of_the_window() {
        let mut window = Window::default();
        for seq in 1..3 * WINDOW {
            window.open(seq);
            assert_eq!(window.mark(seq, seq), Seen::First, "{seq}");
            assert_eq!(window.mark(seq, seq), Seen::Again, "{seq}");
        }
        let newest = 3 * WINDOW - 1;
        assert_eq!(window.mark(newest - WINDOW + 1, newest), Seen::Again);
        assert_eq!(window.mark(newest - WINDOW, newest), Seen::Forgotten);
    }
}
