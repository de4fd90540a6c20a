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
        let more = |now: u64, seen: u64| now.saturating_sub(seen);
        let Counters { sdus_sent, bytes_sent, sdus_received, bytes_received, send_errors, receive_errors } =
            &mut self.total;
        for (sum, now, seen) in [
            (sdus_sent, now.sdus_sent, seen.sdus_sent),
            (bytes_sent, now.bytes_sent, seen.bytes_sent),
            (sdus_received, now.sdus_received, seen.sdus_received),
            (bytes_received, now.bytes_received, seen.bytes_received),
            (send_errors, now.send_errors, seen.send_errors),
            (receive_errors, now.receive_errors, seen.receive_errors),
        ] {
            *sum = sum.saturating_add(more(now, seen));
        }
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
