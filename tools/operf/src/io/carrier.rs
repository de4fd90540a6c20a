//! What carries the SDUs of a test: a flow or a bare socket. The tests are generic over it, so that both run the same loops.

use std::os::fd::AsFd;
use std::time::Duration;

/// Why a carrier carries no more.
#[derive(Clone, Debug)]
pub(crate) struct Gone(pub(crate) String);

/// A carrier; [`AsFd`] gives its socket, in blocking mode. No call allocates.
pub(crate) trait Carrier: AsFd {
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
