//! What carries the SDUs of a test: a flow or a bare socket. The tests are generic over it, so that both run the same loops.

use std::time::Duration;

use crate::machine::result::Path;

/// Why a carrier carries no more.
#[derive(Clone, Debug)]
pub(crate) struct Gone(pub(crate) String);

/// What another thread may do to a carrier whose loop waits.
pub(crate) trait Reins: Send + 'static {
    /// Sends an SDU if there is room.
    fn kick(&self, sdu: &[u8]);

    /// Wakes the loop with the end.
    fn shut(&self);
}

/// A carrier. Its calls do not allocate where they are one system call.
pub(crate) trait Carrier {
    /// For [`super::watch`].
    fn reins(&self) -> std::io::Result<Box<dyn Reins>>;

    /// What is known of the way there: of flows that measure it.
    fn path(&self) -> Option<Path> {
        None
    }

    /// Its work is done by other threads, too.
    fn has_helpers(&self) -> bool {
        self.path().is_some()
    }

    /// The load is over: what of it still waits here to be sent is given up, so that the last words need not wait behind it.
    fn drop_backlog(&mut self) -> Result<(), Gone> {
        Ok(())
    }

    /// Sends one SDU, waiting for room. `false`: this SDU was not sent, the carrier still works.
    fn send(&mut self, sdu: &[u8]) -> Result<bool, Gone>;

    /// Waits in the kernel for the next SDU: one system call, no deadline (see [`super::watch`]). Its length.
    fn recv(&mut self, room: &mut [u8]) -> Result<usize, Gone>;

    /// The same with a deadline, which may cost more calls; `None` if nothing came for `wait`.
    fn recv_within(&mut self, room: &mut [u8], wait: Duration) -> Result<Option<usize>, Gone>;

    /// Sends `sdus`, `size` bytes each (the last may be shorter), in as few system calls as it can. How many were sent.
    fn send_batch(&mut self, sdus: &[u8], size: usize) -> Result<u64, Gone>;

    /// Waits in the kernel, takes what is there and shows each SDU.
    fn recv_batch(&mut self, each: &mut dyn FnMut(&[u8])) -> Result<(), Gone>;
}

/// As libflow says it.
pub(crate) fn path(stats: libflow::PathStats) -> Path {
    Path {
        rtt_us: stats.rtt.as_secs_f64() * 1e6,
        congestion_window: stats.congestion_window,
        mtu: stats.mtu,
        datagrams_sent: stats.datagrams_sent,
        packets_lost: stats.packets_lost,
        bytes_sent: stats.bytes_sent,
    }
}
