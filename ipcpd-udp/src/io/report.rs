//! How this IPCP stands, in numbers.

use std::os::fd::AsFd;

use proto::v1;

use super::driver::Driver;
use super::limits::rss_bytes;
use super::sockopt as own;

impl Driver {
    /// How things stand, for a service manager.
    pub(super) fn summary(&self) -> String {
        let (flows, pending) = self.shim.census();
        let settings = self.shim.settings();
        format!("layer {} at {}: {flows} flows, {pending} of them pending", settings.layer, settings.listen)
    }

    pub(super) fn report(&self) -> v1::ReportReply {
        let (flows, pending) = self.shim.census();
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let counters = self.shim.counters().nonzero().map(|(name, n)| (name.to_owned(), n));
        // What the kernel dropped before we saw it.
        let overflown = own::overflown(self.listen.get_ref().as_fd()).unwrap_or(0).into();
        let overflown = (overflown > 0).then(|| ("dropped_queue_full".to_owned(), overflown));
        let leases = self.tools.hand.refused_leases();
        let leases = (leases > 0).then(|| ("refused_leases".to_owned(), leases));
        let counters = counters.chain(overflown).chain(leases).collect();
        v1::ReportReply {
            flows: number(flows),
            pending: number(pending),
            counters,
            rss_bytes: rss_bytes(),
            carried: Some(self.tools.hand.carried()),
        }
    }
}
