//! How this IPCP stands, in numbers.

use std::os::fd::{AsFd, BorrowedFd};

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
        let dropped = |socket: BorrowedFd<'_>| u64::from(own::overflown(socket).unwrap_or(0));
        let of_flows = self.sockets.values().map(|socket| dropped(socket.as_fd())).sum::<u64>() + self.overflown;
        let of_flows = of_flows.saturating_sub(self.overflown_before);
        let more = [
            ("dropped_queue_full", dropped(self.listen.get_ref().as_fd())),
            ("dropped_at_flows", of_flows),
            ("refused_leases", self.tools.hand.refused_leases()),
        ];
        let more = more.into_iter().filter(|(_, n)| *n > 0).map(|(name, n)| (name.to_owned(), n));
        let counters = counters.chain(more).collect();
        v1::ReportReply {
            flows: number(flows),
            pending: number(pending),
            counters,
            rss_bytes: rss_bytes(),
            session: self.shim.session_words().unwrap_or_default(),
            router_maps: self.shim.router_protocol().to_owned(),
            address: self.shim.settings().listen.to_string(),
            carried: Some(self.tools.hand.carried()),
        }
    }
}
