//! Which statistics slots of one lease are free.

/// A free-list over `0..total`. Slots never used before are handed out last-resort first-in order, so that the
/// sparse memory behind them is touched no more than needed.
#[derive(Debug)]
pub(crate) struct Slots {
    free: Vec<u32>,
    fresh: u32,
    total: u32,
}

impl Slots {
    pub(crate) fn new(total: u32) -> Self {
        Self { free: Vec::new(), fresh: 0, total }
    }

    /// A slot nobody uses, or `None` when all are in use.
    pub(crate) fn take(&mut self) -> Option<u32> {
        if let Some(slot) = self.free.pop() {
            return Some(slot);
        }
        (self.fresh < self.total).then(|| {
            self.fresh += 1;
            self.fresh - 1
        })
    }

    /// Gives a slot back. Each taken slot must be given back once.
    pub(crate) fn give_back(&mut self, slot: u32) {
        debug_assert!(slot < self.fresh && !self.free.contains(&slot));
        self.free.push(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    proptest! {
        #[test]
        fn a_slot_has_one_user_at_a_time(total in 0u32..9, choices in proptest::collection::vec(any::<(bool, u8)>(), 0..99)) {
            let mut slots = Slots::new(total);
            let mut used = HashSet::new();
            for (take, pick) in choices {
                if take {
                    match slots.take() {
                        Some(slot) => prop_assert!(slot < total && used.insert(slot)),
                        None => prop_assert_eq!(used.len(), total as usize),
                    }
                } else if let Some(slot) = used.iter().nth(pick as usize % used.len().max(1)).copied() {
                    used.remove(&slot);
                    slots.give_back(slot);
                }
            }
        }
    }
}
