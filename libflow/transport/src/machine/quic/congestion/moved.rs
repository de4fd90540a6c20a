//! Another path under the same flow: what is known of the one before says nothing of it.

use std::time::Instant;

use super::Bbr;

impl Bbr {
    /// From packet `number` on, all take another path: it is found out anew, as at the start.
    pub(crate) fn moved(&mut self, now: Instant, number: u64) {
        let packet = u16::try_from(self.packet).unwrap_or(u16::MAX);
        *self = Self { first: number, ..Self::new(now, packet, self.random) };
    }

    /// Whether a packet took a path of before. What becomes of it is nothing of this one's: a heap that was under way when the path
    /// ended would end Startup with the first round.
    pub(crate) fn is_of_before(&self, number: u64) -> bool {
        number < self.first
    }
}
