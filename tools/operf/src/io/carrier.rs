//! What carries the SDUs of a test: a flow or a bare socket. The tests are generic over it, so that both run the same loops.

use std::time::Duration;

/// Why a carrier carries no more.
#[derive(Clone, Debug)]
pub(crate) struct Gone(pub(crate) String);

/// A carrier. No call allocates.
pub(crate) trait Carrier {
    /// Sends one SDU, waiting for room. `false`: this SDU was not sent, the carrier still works.
    fn send(&mut self, sdu: &[u8]) -> Result<bool, Gone>;

    /// The next SDU's length, in `room`; `None` if none came for `wait`.
    fn recv(&mut self, room: &mut [u8], wait: Duration) -> Result<Option<usize>, Gone>;

    /// Sends `sdus`, `size` bytes each (the last may be shorter), in as few system calls as it can. How many were sent.
    fn send_batch(&mut self, sdus: &[u8], size: usize) -> Result<u64, Gone>;

    /// Receives what one system call brings and shows each SDU; `false` if nothing came for `wait`.
    fn recv_batch(&mut self, wait: Duration, each: &mut dyn FnMut(&[u8])) -> Result<bool, Gone>;
}
