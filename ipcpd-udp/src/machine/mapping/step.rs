//! What a router is asked.

use std::net::Ipv4Addr;

use gateway::{Gateway, Port};

use crate::machine::output::Key;

/// What a mapping is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Of {
    /// The listen port.
    Listen,
    /// A flow's own socket.
    Flow(Key),
}

/// What is to be asked of a router. Only [`Step::Unmap`] has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Look for one that maps this port; report by [`crate::machine::Shim::router_found`].
    Find {
        /// The router on the way there.
        towards: Ipv4Addr,
        /// The listen port.
        port: Port,
        /// To be given back.
        turn: u64,
    },
    /// Map a port, or renew its mapping; report by [`crate::machine::Shim::port_mapped`].
    Map(Asked),
    /// End a mapping.
    Unmap {
        /// Whose.
        gateway: Gateway,
        /// Which.
        port: Port,
    },
}

/// One question, which its answer brings back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What for.
    pub of: Of,
    /// Another one each time.
    pub turn: u64,
    /// Who is asked.
    pub gateway: Gateway,
    /// What for.
    pub port: Port,
}
