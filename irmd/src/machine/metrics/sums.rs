//! What flows have carried, summed by layer. An IPCP that starts again counts from nothing; the sum goes on.

use std::collections::{BTreeMap, HashMap};

use proto::v1::Counters;

/// Layers that are summed; more there are in no sane host's life.
const LAYERS: usize = 1_024;

/// The sums of an irmd's life.
#[derive(Debug, Default)]
pub struct Sums {
    /// By IPCP: its process, and what it said last.
    last: HashMap<String, (u32, Counters)>,
    total: BTreeMap<String, Counters>,
}

impl Sums {
    /// An IPCP, the process `pid` in `layer`, says what its flows have carried since it started. `older`: it ran before this
    /// irmd did, and what it carried until it is heard first is another's sum.
    pub fn heard(&mut self, ipcp: &str, pid: u32, older: bool, layer: &str, said: Counters) {
        if !self.total.contains_key(layer) && self.total.len() >= LAYERS {
            return;
        }
        let before = match self.last.get(ipcp) {
            Some((life, before)) if *life == pid => *before,
            None if older => said,
            _ => Counters::default(),
        };
        self.last.insert(ipcp.to_owned(), (pid, said));
        self.total.entry(layer.to_owned()).or_default().grow(before, said);
    }

    /// Only IPCPs that there still are can say more.
    pub fn keep(&mut self, is_there: impl Fn(&str) -> bool) {
        self.last.retain(|ipcp, _| is_there(ipcp));
    }

    /// By layer.
    pub fn totals(&self) -> impl Iterator<Item = (&str, Counters)> {
        self.total.iter().map(|(layer, counters)| (layer.as_str(), *counters))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_go_on_when_an_ipcp_starts_again_and_never_fall() {
        let mut sums = Sums::default();
        let bytes = |bytes_sent| Counters { bytes_sent, ..Counters::default() };
        // IPCP, process, whether it was there before, what it says; the layer's sum.
        for (ipcp, pid, older, said, want) in [
            ("a", 1, false, 10, 10),
            ("a", 1, false, 15, 15),
            ("b", 2, true, 1_000, 15),
            ("b", 2, true, 1_100, 115),
            ("a", 3, false, 20, 135),
            ("a", 3, false, 21, 136),
            ("a", 3, false, 0, 136),
            ("b", 2, true, 1_101, 137),
        ] {
            sums.heard(ipcp, pid, older, "net", bytes(said));
            assert_eq!(sums.totals().collect::<Vec<_>>(), [("net", bytes(want))], "{ipcp} {pid} {said}");
        }
        sums.keep(|ipcp| ipcp == "b");
        assert_eq!(sums.totals().collect::<Vec<_>>(), [("net", bytes(137))], "one that was destroyed has carried it");
    }

    #[test]
    fn layers_are_bounded() {
        let mut sums = Sums::default();
        for n in 0..2 * LAYERS {
            sums.heard("a", 1, false, &n.to_string(), Counters::default());
        }
        assert_eq!(sums.totals().count(), LAYERS);
    }
}
