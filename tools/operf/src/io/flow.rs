//! A flow as a carrier: libflow's blocking face.

use std::time::Duration;

use libflow::blocking::Flow;
use libflow::{Batch, FlowError};

use super::carrier::{Carrier, Gone};

/// A flow and the room for its batches.
pub(crate) struct FlowCarrier {
    flow: Flow,
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
