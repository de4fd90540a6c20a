//! What all flows together have carried here: a sum that never falls, whatever programs write into their slots.

use proto::v1::Counters;

/// The sum so far.
#[derive(Debug, Default)]
pub(crate) struct Carried {
    total: Counters,
}

impl Carried {
    /// The sum.
    pub(crate) fn total(&self) -> Counters {
        self.total
    }

    /// Adds what a flow has carried since it was `seen`. A count that fell, as only a hostile program's does, adds
    /// nothing and is begun again from.
    pub(crate) fn add(&mut self, seen: &mut Counters, now: Counters) {
        self.total.grow(*seen, now);
        *seen = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(bytes_sent: u64) -> Counters {
        Counters { bytes_sent, ..Counters::default() }
    }

    #[test]
    fn the_sum_grows_by_what_is_new_and_never_falls() {
        let mut carried = Carried::default();
        let mut seen = sent(100);
        for (now, want) in [(100, 0), (150, 50), (150, 50), (20, 50), (25, 55), (0, 55), (7, 62)] {
            carried.add(&mut seen, sent(now));
            assert_eq!(carried.total().bytes_sent, want, "{now}");
        }
        // One that claims more than there is.
        carried.add(&mut seen, sent(u64::MAX));
        assert_eq!(carried.total().bytes_sent, u64::MAX, "it is at its end");
    }
}
