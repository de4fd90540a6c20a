//! A flow as a carrier: libflow's blocking face, one system call per SDU.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use libflow::blocking::Flow;
use libflow::{Batch, FlowError};

use super::carrier::{Carrier, Gone};

/// A flow and the room for its batches.
pub(crate) struct FlowCarrier {
    pub(crate) flow: Flow,
    batch: Batch,
}

impl FlowCarrier {
    /// Around an allocated flow.
    pub(crate) fn new(flow: Flow) -> Self {
        Self { flow, batch: Batch::new() }
    }
}

fn gone(error: FlowError) -> Gone {
    Gone(match error {
        FlowError::Gone(reason) => reason.to_string(),
        other => other.to_string(),
    })
}

/// A full sending queue passes, like a lost datagram.
fn passes(error: &FlowError) -> bool {
    matches!(error, FlowError::Io(error) if error.raw_os_error() == Some(libc::ENOBUFS))
}

impl AsFd for FlowCarrier {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.flow.as_fd()
    }
}

impl Carrier for FlowCarrier {
    fn send(&mut self, sdu: &[u8]) -> Result<bool, Gone> {
        match self.flow.send(sdu) {
            Ok(()) => Ok(true),
            Err(error) if passes(&error) => Ok(false),
            Err(error) => Err(gone(error)),
        }
    }

    fn recv(&mut self, room: &mut [u8]) -> Result<usize, Gone> {
        self.flow.recv(room).map_err(gone)
    }

    fn recv_within(&mut self, room: &mut [u8], wait: Duration) -> Result<Option<usize>, Gone> {
        match self.flow.recv_within(room, wait) {
            Ok(len) => Ok(Some(len)),
            Err(FlowError::TimedOut(_)) => Ok(None),
            Err(error) => Err(gone(error)),
        }
    }

    fn send_batch(&mut self, sdus: &[u8], size: usize) -> Result<u64, Gone> {
        match self.flow.send_batch(sdus, size) {
            Ok(sent) => Ok(sent as u64),
            Err(error) if passes(&error) => Ok(0),
            Err(error) => Err(gone(error)),
        }
    }

    fn recv_batch(&mut self, each: &mut dyn FnMut(&[u8])) -> Result<(), Gone> {
        self.flow.recv_batch(&mut self.batch).map_err(gone)?;
        self.batch.iter().for_each(each);
        Ok(())
    }
}
