//! Configuration in and out.

use std::time::{Duration, Instant};

use proto::Name;
use proto::v1::{self, Failure, FailureKind};

use super::alloc::down;
use super::ipcp::{Ipcp, State};
use super::name::{Entry, Layers, Origin};
use super::program::Program;
use super::register::changed;
use super::{Answer, CallId, Effect, IpcpAnswer, IpcpCall, Irm, Parked, Reply, fail};
use crate::config::{self, Config, NameEntry, Rules};

impl Irm {
    /// Takes in a configuration: `origin` says whether it is irmd.toml or what was made at run time. An entry takes
    /// the place of an earlier one of the same name. To be called before [`Self::begin`].
    pub fn restore(&mut self, config: &Config, origin: Origin) {
        if origin == Origin::Config {
            self.options = config.options.clone();
            self.settings.timeout = Duration::from_millis(config.options.timeout_ms.into());
            self.settings.backlog = config.options.backlog as usize;
            self.history.keep(config.options.events as usize);
            self.settings.quotas = config.options.quotas(self.settings.uid);
        }
        for entry in &config.ipcps {
            let mut ipcp = Ipcp::new(&entry.name, origin, entry.restart, entry.bootstrap());
            ipcp.state = State::Down;
            ipcp.start = entry.start;
            match self.ipcps.get_mut(&entry.name) {
                Some(old) => {
                    *old = ipcp;
                    self.info(format!("runtime.toml takes the place of irmd.toml's IPCP {}", entry.name));
                }
                None => self.ipcps.push(ipcp),
            }
        }
        for entry in &config.rules {
            self.patterns.set(entry.pattern.clone(), entry.rules(), origin);
        }
        config.trust.iter().for_each(|entry| self.trust.pin(entry.clone(), origin));
        for entry in &config.names {
            let Ok(name) = Name::new(&entry.name) else { continue };
            if self.names.remove(name.as_str()).is_some() {
                self.info(format!("runtime.toml takes the place of irmd.toml's name {name}"));
            }
            self.names.insert(name, self.restored(entry, origin));
        }
    }

    fn restored(&self, from: &NameEntry, origin: Origin) -> Entry {
        let own = self.settings.uid;
        let owner = from.owner.as_ref().map_or(own, |owner| owner.id.unwrap_or(u32::MAX));
        let mut entry = Entry::new(from.policy, origin, owner);
        entry.rules = from.rules();
        let mut layers = Layers::default();
        from.layers.iter().for_each(|layer| layers.insert(layer));
        entry.layers = layers;
        entry.programs = from.programs.iter().map(program).collect();
        entry
    }

    /// Starts the IPCPs that were restored.
    pub fn begin(&mut self, now: Instant) {
        let names: Vec<String> = self.ipcps.iter().map(|i| i.name.clone()).collect();
        for name in names {
            if let Some(ipcp) = self.ipcps.get_mut(&name).filter(|ipcp| ipcp.start) {
                ipcp.state = State::Starting(None);
                self.start_ipcp(now, &name);
            }
        }
    }

    /// IPCPs that end with this daemon: those that it started, in this life or an earlier one; when all is shut down,
    /// those that others started, too.
    pub fn ipcps_to_stop(&self, all: bool) -> Vec<String> {
        let own = |i: &&Ipcp| all || i.start && i.origin != Origin::Process;
        self.ipcps.iter().filter(own).map(|i| i.name.clone()).collect()
    }

    /// How things stand, in a few words.
    pub fn summary(&self) -> String {
        let up = self.ipcps.iter().filter(|i| i.operational().is_some()).count();
        let (names, flows) = (self.names.len(), self.flows.len());
        let ending = if self.is_shutting_down() { "shutting down: " } else { "" };
        format!("{ending}{flows} flows, {names} names, {up} of {} IPCPs in their layers", self.ipcps.len())
    }

    /// What was made at run time, to be written down.
    pub fn made_at_run_time(&self) -> Config {
        Config { options: config::Options::default(), ..self.config(&[Origin::Runtime]) }
    }

    /// The running configuration: what a restart would make, wherever it comes from.
    pub(super) fn export(&self) -> Config {
        self.config(&[Origin::Config, Origin::Runtime])
    }

    fn config(&self, origins: &[Origin]) -> Config {
        let ipcps = self.ipcps.iter().filter(|i| origins.contains(&i.origin)).filter(|i| !unfinished(i));
        let names = self.names.iter().filter(|(_, entry)| origins.contains(&entry.origin));
        Config {
            options: self.options.clone(),
            ipcps: ipcps.filter_map(|i| i.entry().ok()).collect(),
            names: names.map(|(name, entry)| written(name, entry, self.settings.uid)).collect(),
            rules: self
                .patterns
                .iter()
                .filter(|p| origins.contains(&p.origin))
                .map(|p| config::PatternEntry::new(p.pattern.clone(), p.rules.clone()))
                .collect(),
            trust: self.trust.pinned(origins),
        }
    }

    /// A change of an IPCP's static directory.
    pub(super) fn host_change(&mut self, call: CallId, name: &str, what: IpcpCall) -> Answer {
        let Some(ipcp) = self.ipcps.get_mut(name) else {
            return Err(fail(FailureKind::NotFound, format!("no IPCP {name} on this host; see irm ipcp list")));
        };
        if ipcp.config.is_none() {
            let text = format!("IPCP {name} is in no layer yet; see irm ipcp bootstrap");
            return Err(fail(FailureKind::Invalid, text));
        }
        let Some(attach) = ipcp.operational() else { return Err(down(name)) };
        self.calls.insert(call, Parked::Ipcp(name.to_owned()));
        self.ask(name, attach, what);
        Ok(None)
    }

    pub(super) fn host_added(
        &mut self,
        ipcp: &str,
        call: CallId,
        host: v1::StaticHost,
        answer: Result<IpcpAnswer, Failure>,
    ) {
        self.hosts_changed(ipcp, call, answer, |hosts| {
            hosts.retain(|h| h.name != host.name);
            hosts.push(host);
        });
    }

    pub(super) fn host_removed(&mut self, ipcp: &str, call: CallId, name: &str, answer: Result<IpcpAnswer, Failure>) {
        self.hosts_changed(ipcp, call, answer, |hosts| hosts.retain(|h| h.name != name));
    }

    fn hosts_changed(
        &mut self,
        name: &str,
        call: CallId,
        answer: Result<IpcpAnswer, Failure>,
        change: impl FnOnce(&mut Vec<v1::StaticHost>),
    ) {
        let waits = self.calls.contains_key(&call);
        if let (Ok(_), Some(ipcp)) = (&answer, self.ipcps.get_mut(name)) {
            if let Some((_, udp)) = &mut ipcp.config {
                change(&mut udp.hosts);
            }
            ipcp.origin = changed(ipcp.origin);
            self.effects.push_back(Effect::Persist);
        }
        match answer {
            _ if !waits => {}
            Ok(_) => self.reply(call, Reply::Done),
            Err(failure) => self.refuse(call, failure),
        }
    }
}

/// An IPCP whose making is not done: it goes again if it fails.
fn unfinished(ipcp: &Ipcp) -> bool {
    ipcp.state.waiter().is_some_and(|w| w.made) || matches!(ipcp.state, State::Stopping(_))
}

fn program(from: &config::Program) -> Program {
    let program = Program::new(from.path.clone(), from.args.clone(), from.auto);
    from.user.clone().map_or(program.clone(), |user| program.run_as(user))
}

fn written(name: &Name, entry: &Entry, own: u32) -> NameEntry {
    let Rules { serve, allow_local, allow_remote, deny_remote, identities } = entry.rules.clone();
    NameEntry {
        owner: (entry.owner != own).then(|| entry.owner.into()),
        serve,
        allow_local,
        allow_remote,
        deny_remote,
        identities,
        name: name.to_string(),
        policy: entry.policy,
        layers: entry.layers.to_texts(),
        programs: entry
            .programs
            .iter()
            .map(|p| config::Program { path: p.path.clone(), args: p.args.clone(), auto: p.auto, user: p.user.clone() })
            .collect(),
    }
}
