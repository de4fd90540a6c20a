//! What irmd says, as flowtop takes it.

use proto::FlowId;

use super::event::Event;
use super::flow::{Counts, Detail, Facts};

/// About irmd and its host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// The host's own name.
    pub name: String,
    /// irmd's version.
    pub build: String,
    /// irmd's process; 0: never heard of.
    pub pid: u32,
    /// irmd's age.
    pub uptime_ms: u64,
    /// Layers and how many flows go over each.
    pub layers: Vec<(String, u32)>,
}

/// Something that irmd said.
#[derive(Debug)]
pub enum Told {
    /// What all flows have carried; about irmd.
    Counts(Box<Host>, Vec<Counts>),
    /// What is known of some flows.
    Rows(Vec<Facts>),
    /// One flow with its history; None: irmd knows no such flow.
    Detail(FlowId, Box<Option<Detail>>),
    /// What happened.
    Events(Vec<Event>),
    /// So many events were lost on their way.
    Missed(u64),
    /// What came of ending a flow.
    Ended(FlowId, Result<(), String>),
    /// irmd cannot be asked, and why.
    Lost(String),
}
