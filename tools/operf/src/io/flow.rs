//! A flow as a carrier: libflow's blocking face, one system call per SDU of a raw flow.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use libflow::blocking::Flow;
use libflow::{Batch, Cube, FlowError};

use super::carrier::{self, Carrier, Gone, Reins};
use crate::machine::result::Path;

/// A flow and the room for its batches.
pub(crate) struct FlowCarrier {
    flow: Arc<Flow>,
    batch: Batch,
}

impl FlowCarrier {
    /// Around an allocated flow.
    pub(crate) fn new(flow: Flow) -> Self {
        Self { flow: Arc::new(flow), batch: Batch::new() }
    }

    /// Deallocates the flow.
    pub(crate) fn dealloc(self) {
        // The watching thread has ended with its loop.
        if let Some(flow) = Arc::into_inner(self.flow) {
            flow.dealloc();
        }
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

/// Of a flow that is encrypted on its socket.
impl Reins for Arc<Flow> {
    fn kick(&self, sdu: &[u8]) {
        let _ = self.try_send(sdu);
    }

    fn shut(&self) {
        self.end();
    }
}

impl Carrier for FlowCarrier {
    fn reins(&self) -> std::io::Result<Box<dyn Reins>> {
        Ok(match self.flow.qos().cube {
            // Shut, not ended: the daemon must not give its place in the statistics away under a loop that counts.
            Cube::Raw => Box::new(self.flow.as_fd().try_clone_to_owned()?),
            _ => Box::new(self.flow.clone()),
        })
    }

    fn path(&self) -> Option<Path> {
        self.flow.path().map(carrier::path)
    }

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
