//! An IPCP attaches and joins its layer.

use std::time::Instant;

use proto::protocol_version;
use proto::v1::{self, Failure, FailureKind};

use super::ipcp::{Ipcp, State, Waiter};
use super::name::Origin;
use super::{Answer, CallId, Caller, Effect, IpcpAnswer, IpcpCall, Irm, Parked, Reply, Timer};
use super::{check_version, fail};

impl Irm {
    pub(super) fn attach(&mut self, now: Instant, call: CallId, caller: &Caller, request: v1::AttachRequest) -> Answer {
        let name = request.name;
        if let Err(failure) = check_version(request.version) {
            self.refused_attach(&name, caller.pid, &failure);
            return Err(failure);
        }
        if self.ipcps.get(&name).is_none() {
            self.check_new_ipcp(&name, &request.r#type)?;
            self.ipcps.push(Ipcp::new(&name, Origin::Process, false, None));
        }
        let Some(ipcp) = self.ipcps.get_mut(&name) else { return Ok(Some(Reply::Done)) };
        if ipcp.attach.is_some() || matches!(ipcp.state, State::Stopping(_)) {
            let text =
                format!("an IPCP {name} (pid {}) is attached already; stop it or choose another --name", ipcp.pid);
            return Err(fail(FailureKind::AlreadyExists, text));
        }
        let waiter = ipcp.state.waiter();
        ipcp.attach = Some(call);
        ipcp.found_until = None;
        ipcp.pid = caller.pid;
        ipcp.handoff = request.handoff;
        ipcp.state = State::Attached;
        if !request.layer.is_empty() {
            ipcp.config = Some((request.layer.clone(), request.config.unwrap_or_default()));
            ipcp.address = request.address;
            ipcp.state = State::Operational(now);
        }
        self.timers.clear(&Timer::Ipcp(name.clone()));
        self.effects.push_back(Effect::Connect { ipcp: name.clone(), socket: request.socket, pid: caller.pid });
        self.info(format!("IPCP {name} (pid {}) is attached", caller.pid));
        self.calls.insert(call, Parked::Attach(name.clone()));
        self.reply(call, Reply::Done);
        self.after_attach(&name, waiter);
        Ok(None)
    }

    /// It comes again and again: said once.
    fn refused_attach(&mut self, name: &str, pid: u32, why: &Failure) {
        let text = format!("IPCP {name} (pid {pid}) is not taken: {why}");
        if self.not_taken.as_ref() != Some(&text) {
            self.warn(text.clone());
            self.not_taken = Some(text);
        }
    }

    fn after_attach(&mut self, name: &str, waiter: Option<Waiter>) {
        let Some(ipcp) = self.ipcps.get(name) else { return };
        let operational = ipcp.operational().is_some();
        let address = ipcp.address.clone();
        match waiter {
            _ if operational => {
                if let Some(waiter) = waiter {
                    let made = if waiter.bootstrap { Reply::Bootstrapped(address) } else { Reply::Done };
                    self.reply(waiter.call, made);
                }
                self.tell_host_key(name);
                self.operational(name);
            }
            Some(waiter) if !waiter.bootstrap => {
                self.reply(waiter.call, Reply::Done);
                self.effects.push_back(Effect::Persist);
            }
            waiter if ipcp.config.is_some() => self.bootstrap(name, waiter),
            _ => {}
        }
    }

    /// Asks an attached IPCP to join its layer.
    pub(super) fn bootstrap(&mut self, name: &str, waiter: Option<Waiter>) {
        let Some(ipcp) = self.ipcps.get_mut(name) else { return };
        let (Some((layer, udp)), Some(attach)) = (ipcp.config.clone(), ipcp.attach) else { return };
        ipcp.state = State::Bootstrapping(waiter);
        let host_key = self.settings.host_key.clone();
        let request = v1::BootstrapRequest { version: protocol_version(), layer, udp: Some(udp), host_key };
        self.ask(name, attach, IpcpCall::Bootstrap(Box::new(request)));
    }

    /// One that came with its layer was not bootstrapped by us, and publishes names with the key of this host all the same: a
    /// second bootstrap that says what it has already tells it no more than that. Its answer changes nothing.
    fn tell_host_key(&mut self, name: &str) {
        let host_key = self.settings.host_key.clone();
        let Some(ipcp) = self.ipcps.get(name).filter(|_| !host_key.is_empty()) else { return };
        let (Some((layer, udp)), Some(attach)) = (ipcp.config.clone(), ipcp.attach) else { return };
        let request = v1::BootstrapRequest { version: protocol_version(), layer, udp: Some(udp), host_key };
        self.ask(name, attach, IpcpCall::Bootstrap(Box::new(request)));
    }

    pub(super) fn bootstrapped(&mut self, now: Instant, name: &str, answer: Result<IpcpAnswer, Failure>) {
        let Some(ipcp) = self.ipcps.get_mut(name) else { return };
        let waiter = ipcp.state.waiter();
        if !matches!(ipcp.state, State::Bootstrapping(_)) {
            return;
        }
        match answer {
            Ok(IpcpAnswer::Address(address)) => {
                ipcp.state = State::Operational(now);
                ipcp.address.clone_from(&address);
                if let Some(waiter) = waiter {
                    self.reply(waiter.call, Reply::Bootstrapped(address));
                    self.effects.push_back(Effect::Persist);
                }
                self.operational(name);
            }
            Ok(_) => {
                self.bootstrap_failed(now, name, waiter, fail(FailureKind::Internal, "the IPCP answered nonsense"))
            }
            Err(failure) => self.bootstrap_failed(now, name, waiter, failure),
        }
    }

    fn bootstrap_failed(&mut self, now: Instant, name: &str, waiter: Option<Waiter>, failure: Failure) {
        self.warn(format!("IPCP {name} could not be bootstrapped: {failure}"));
        let Some(ipcp) = self.ipcps.get_mut(name) else { return };
        ipcp.last_end = format!("bootstrap failed: {failure}");
        ipcp.state = State::Attached;
        if waiter.is_some() {
            ipcp.config = None;
        } else {
            let pause = ipcp.next_pause();
            self.timers.set(Timer::Ipcp(name.to_owned()), now + pause);
        }
        match waiter {
            // Told when the IPCP is gone, so that the next try finds its place free.
            Some(Waiter { call, made: true, .. }) => {
                ipcp.refusal = Some(failure);
                self.stop_ipcp(now, name, Some(call));
            }
            Some(waiter) => self.refuse(waiter.call, failure),
            None => {}
        }
    }

    /// An IPCP is in its layer: it learns our names, we learn its flows.
    fn operational(&mut self, name: &str) {
        let Some(ipcp) = self.ipcps.get(name) else { return };
        self.info(format!("IPCP {name} is in layer {} at {}", ipcp.layer(), ipcp.address));
        self.register_all(name);
        self.ask_for_flows(name);
    }

    pub(super) fn ask_for_flows(&mut self, name: &str) {
        if let Some(attach) = self.ipcps.get(name).and_then(Ipcp::operational) {
            self.ask(name, attach, IpcpCall::Flows);
        }
    }
}
