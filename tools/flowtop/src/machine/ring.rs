//! The last minute of a flow, a slot for each second.

/// Slots of a [`Ring`].
pub const SLOTS: usize = 60;

/// One second of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Slot {
    /// Bytes per second to the peer.
    pub sent: f32,
    /// Bytes per second from the peer.
    pub received: f32,
    /// Microseconds; 0: not known.
    pub rtt_us: u32,
}

/// The slots of a minute, the oldest of which a new one replaces: 720 bytes, whatever happens.
#[derive(Clone, Debug)]
pub struct Ring {
    slots: [Slot; SLOTS],
    next: u8,
    filled: u8,
}

impl Default for Ring {
    fn default() -> Self {
        Self { slots: [Slot::default(); SLOTS], next: 0, filled: 0 }
    }
}

impl Ring {
    /// Adds a second, as often as it lasted seconds.
    pub fn push(&mut self, slot: Slot, seconds: usize) {
        for _ in 0..seconds.min(SLOTS) {
            self.slots[usize::from(self.next)] = slot;
            self.next = (self.next + 1) % SLOTS as u8;
            self.filled = (self.filled + 1).min(SLOTS as u8);
        }
    }

    /// How many seconds are known.
    pub fn len(&self) -> usize {
        usize::from(self.filled)
    }

    /// Whether nothing is known yet.
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// The last `count` seconds, the oldest first; fewer where fewer are known.
    pub fn last(&self, count: usize) -> impl Iterator<Item = Slot> + '_ {
        let count = count.min(self.len());
        let first = usize::from(self.next) + SLOTS - count;
        (0..count).map(move |at| self.slots[(first + at) % SLOTS])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(sent: f32) -> Slot {
        Slot { sent, ..Slot::default() }
    }

    #[test]
    fn the_oldest_goes() {
        let mut ring = Ring::default();
        assert!(ring.is_empty() && ring.last(5).next().is_none());
        for n in 0..65 {
            ring.push(slot(n as f32), 1);
        }
        let last: Vec<f32> = ring.last(100).map(|slot| slot.sent).collect();
        assert_eq!((last.len(), last[0], last[59]), (60, 5.0, 64.0));
        assert_eq!(ring.last(2).map(|slot| slot.sent).collect::<Vec<_>>(), [63.0, 64.0]);
    }

    #[test]
    fn a_pause_longer_than_the_ring_fills_it_once() {
        let mut ring = Ring::default();
        ring.push(slot(1.0), 1);
        ring.push(slot(7.0), usize::MAX);
        assert!(ring.len() == SLOTS && ring.last(SLOTS).all(|slot| slot.sent == 7.0));
    }
}
