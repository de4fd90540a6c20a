//! What the registry knows, counted.

use std::collections::BTreeMap;

use proto::v1::{self, Cube, EndReason, FailureKind, FlowState};

use super::{Side, Took};
use crate::machine::flow::{Flow, Way};
use crate::machine::{Answer, Irm, Reply};

/// The layer of flows that look for one: no layer can be named so.
pub const LOOKING: &str = "*";
/// The layer of flows within the host.
pub const LOCAL: &str = "local";

/// The registry's numbers at a moment.
#[derive(Clone, Debug, Default)]
pub struct Census {
    /// Flows by layer, cube and state.
    pub flows: BTreeMap<(String, Cube, FlowState), u64>,
    /// Names.
    pub names: u64,
    /// Processes with a lease.
    pub processes: u64,
    /// IPCPs as the registry knows them.
    pub ipcps: Vec<v1::IpcpInfo>,
    /// What was denied, named as in `irm status`.
    pub refused: BTreeMap<&'static str, u64>,
    /// What was asked for and not allocated, and why.
    pub refusals: BTreeMap<(Side, FailureKind), u64>,
    /// Flows that ended after they had been allocated.
    pub ended: BTreeMap<EndReason, u64>,
    /// Allocations.
    pub took: Took,
}

impl Irm {
    /// Counts all. The owner does not give this to callers: it is for metrics.
    pub(in crate::machine) fn census(&self) -> Answer {
        let mut flows: BTreeMap<(&str, Cube, FlowState), u64> = BTreeMap::new();
        let layers = self.ipcps.iter().map(|ipcp| ipcp.layer()).filter(|layer| !layer.is_empty());
        for layer in layers.chain([LOCAL, LOOKING]) {
            for cube in [Cube::Raw, Cube::Message, Cube::Stream] {
                let states = [FlowState::Pending, FlowState::Allocated];
                flows.extend(states.into_iter().map(|state| ((layer, cube, state), 0)));
            }
        }
        for flow in self.flows.iter() {
            let cube = match flow.qos.cube() {
                Cube::Unspecified => Cube::Raw,
                cube => cube,
            };
            *flows.entry((layer(flow), cube, flow.stage.message())).or_default() += 1;
        }
        Ok(Some(Reply::Census(Box::new(Census {
            flows: flows.into_iter().map(|((layer, cube, state), n)| ((layer.to_owned(), cube, state), n)).collect(),
            names: self.names.len() as u64,
            processes: self.processes.len() as u64,
            ipcps: self.ipcp_infos(),
            refused: self.refused.clone(),
            refusals: self.history.refusals.clone(),
            ended: self.history.ends.clone(),
            took: self.history.took.clone(),
        }))))
    }
}

fn layer(flow: &Flow) -> &str {
    let layer = match &flow.way {
        Way::Local(_) => return LOCAL,
        Way::Out(out) => &out.layer,
        Way::In(arrived) => &arrived.layer,
    };
    if layer.is_empty() { LOOKING } else { layer }
}
