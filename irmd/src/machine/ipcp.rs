//! The registry of IPCPs: which there are, in which order they are asked, and the state each is in.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use proto::Name;
use proto::v1::{self, Failure, IpcpState, UdpConfig};

use super::name::Origin;
use super::{CallId, ChildId};
use crate::config;

/// How long a started IPCP may take to attach.
pub const ATTACHES_WITHIN: Duration = Duration::from_secs(5);
/// One that was found running may have been about to end: it is looked for again after this.
pub const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How long one that was told to stop may take.
pub const STOPS_WITHIN: Duration = Duration::from_secs(3);
/// The first pause before a restart; it doubles.
pub const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest one.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// An IPCP that was operational this long did not fail at its start: its pause is reset, so that it is back at once
/// however often it is killed.
pub const STEADY: Duration = Duration::from_secs(1);
/// How long a returned IPCP may take until every program has handed its flows back.
pub const RECONCILE_AFTER: Duration = Duration::from_secs(10);

/// All IPCPs, in the order in which they are asked for a name.
#[derive(Debug, Default)]
pub struct Ipcps {
    list: Vec<Ipcp>,
}

/// One IPCP.
#[derive(Debug)]
pub struct Ipcp {
    /// Its name.
    pub name: String,
    /// Its layer and what it is bootstrapped with, once known.
    pub config: Option<(String, UdpConfig)>,
    /// irmd starts its process; else somebody else does, a service manager say, and irmd bootstraps it.
    pub start: bool,
    /// Started again when it ends.
    pub restart: bool,
    /// Where it comes from; [`Origin::Process`]: started by hand.
    pub origin: Origin,
    /// The state it is in.
    pub state: State,
    /// Its process; 0 when it has none.
    pub pid: u32,
    /// Where it listens.
    pub address: String,
    /// Its hand-over socket.
    pub handoff: String,
    /// How often it was started again.
    pub restarts: u32,
    /// Found running and not attached yet: to be looked for again until then.
    pub found_until: Option<Instant>,
    /// How it ended last; empty if never.
    pub last_end: String,
    /// Why it is stopped, for the call that waits for its end; `None`: because that call asked for it.
    pub refusal: Option<Failure>,
    /// Names it was told to answer for.
    pub registered: BTreeSet<Name>,
    /// Names it is yet to be told.
    pub to_register: VecDeque<Name>,
    /// Our own child, while that lives.
    pub child: Option<ChildId>,
    /// That child's process.
    pub child_pid: u32,
    /// Its attachment, while that stands.
    pub attach: Option<CallId>,
    pause: Duration,
}

/// The state of an IPCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Started, not yet attached. With the call that waits for it.
    Starting(Option<Waiter>),
    /// Attached, not yet bootstrapped.
    Attached,
    /// Asked to bootstrap.
    Bootstrapping(Option<Waiter>),
    /// In its layer since then.
    Operational(Instant),
    /// Ended.
    Down,
    /// Told to stop, by this call; `None`: nobody waits.
    Stopping(Option<CallId>),
}

/// A call that waits for an IPCP's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiter {
    /// The call.
    pub call: CallId,
    /// It wants a bootstrap, not only a start.
    pub bootstrap: bool,
    /// It made the IPCP: if it fails, the IPCP goes again.
    pub made: bool,
}

impl State {
    /// The call that waits.
    pub fn waiter(&self) -> Option<Waiter> {
        match self {
            Self::Starting(waiter) | Self::Bootstrapping(waiter) => *waiter,
            _ => None,
        }
    }

    fn message(self) -> IpcpState {
        match self {
            Self::Starting(_) => IpcpState::Starting,
            Self::Attached | Self::Bootstrapping(_) => IpcpState::Attached,
            Self::Operational(_) => IpcpState::Operational,
            Self::Down | Self::Stopping(_) => IpcpState::Down,
        }
    }
}

impl Ipcp {
    /// One that is about to be started.
    pub fn new(name: &str, origin: Origin, restart: bool, config: Option<(String, UdpConfig)>) -> Self {
        Self {
            name: name.to_owned(),
            config,
            start: true,
            restart,
            origin,
            state: State::Starting(None),
            pid: 0,
            address: String::new(),
            handoff: String::new(),
            restarts: 0,
            found_until: None,
            last_end: String::new(),
            refusal: None,
            registered: BTreeSet::new(),
            to_register: VecDeque::new(),
            child: None,
            child_pid: 0,
            attach: None,
            pause: FIRST_PAUSE,
        }
    }

    /// The attachment, if the IPCP is in its layer.
    pub fn operational(&self) -> Option<CallId> {
        match self.state {
            State::Operational(_) => self.attach,
            _ => None,
        }
    }

    /// Its layer; empty before bootstrap.
    pub fn layer(&self) -> &str {
        self.config.as_ref().map_or("", |(layer, _)| layer)
    }

    /// The pause before the next try; the one after will be longer.
    pub fn next_pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        pause
    }

    /// It ran well: pauses are short again.
    pub fn reset_pause(&mut self) {
        self.pause = FIRST_PAUSE;
    }

    /// As a row of a listing; counters are left to others.
    pub fn info(&self, flows: u32) -> v1::IpcpInfo {
        v1::IpcpInfo {
            name: self.name.clone(),
            r#type: "udp".into(),
            layer: self.layer().to_owned(),
            state: self.state.message().into(),
            pid: self.pid,
            address: self.address.clone(),
            flows,
            restarts: self.restarts,
            restart: self.restart,
            last_end: self.last_end.clone(),
            config: self.config.as_ref().map(|(_, udp)| udp.clone()),
            ..v1::IpcpInfo::default()
        }
    }

    /// As an entry of a configuration.
    pub fn entry(&self) -> Result<config::Ipcp, String> {
        let bootstrap = self.config.as_ref().map(|(layer, udp)| (layer.as_str(), udp));
        let entry = config::Ipcp::from_parts(&self.name, self.restart, bootstrap)?;
        Ok(config::Ipcp { start: self.start, ..entry })
    }
}

impl Ipcps {
    /// An IPCP by name.
    pub fn get(&self, name: &str) -> Option<&Ipcp> {
        self.list.iter().find(|i| i.name == name)
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Ipcp> {
        self.list.iter_mut().find(|i| i.name == name)
    }

    /// The IPCP that runs as our child `child`.
    pub fn of_child(&mut self, child: ChildId) -> Option<&mut Ipcp> {
        self.list.iter_mut().find(|i| i.child == Some(child))
    }

    /// A new one, asked after all others.
    pub fn push(&mut self, ipcp: Ipcp) {
        self.list.push(ipcp);
    }

    /// Takes one out.
    pub fn remove(&mut self, name: &str) -> Option<Ipcp> {
        let index = self.list.iter().position(|i| i.name == name)?;
        Some(self.list.remove(index))
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Ipcp> {
        self.list.iter()
    }

    /// Whether some IPCP is or was in `layer`.
    pub fn knows_layer(&self, layer: &str) -> bool {
        self.list.iter().any(|i| i.layer() == layer)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut ipcp = Ipcp::new("udp0", Origin::Runtime, true, None);
        let pauses: Vec<u128> = std::iter::from_fn(|| Some(ipcp.next_pause().as_millis())).take(9).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
        ipcp.reset_pause();
        assert_eq!(ipcp.next_pause(), FIRST_PAUSE);
    }

    #[test]
    fn ipcps_keep_their_order() {
        let mut ipcps = Ipcps::default();
        for name in ["b", "a", "c"] {
            ipcps.push(Ipcp::new(name, Origin::Runtime, true, Some((format!("layer-{name}"), UdpConfig::default()))));
        }
        assert!(ipcps.remove("a").is_some() && ipcps.remove("a").is_none());
        assert_eq!(ipcps.iter().map(|i| i.name.as_str()).collect::<Vec<_>>(), ["b", "c"]);
        assert!(ipcps.knows_layer("layer-c") && !ipcps.knows_layer("layer-a"));
        assert_eq!(ipcps.get("b").unwrap().info(3).state(), IpcpState::Starting);
    }
}
