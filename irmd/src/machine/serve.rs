//! Processes that serve names.

use std::time::Instant;

use proto::Name;
use proto::v1::{self, Failure, FailureKind};

use super::name::{Entry, Origin};
use super::quota::over;
use super::register::Then;
use super::{Answer, CallId, Caller, Irm, Reply, check_version, fail, parse_name};
use crate::config::Policy;

impl Irm {
    pub(super) fn serve(&mut self, now: Instant, call: CallId, caller: &Caller, request: &v1::ServeRequest) -> Answer {
        check_version(request.version)?;
        let name = parse_name(&request.name)?;
        if self.processes.get(caller.pid).is_none_or(|p| p.process.uid != caller.uid) {
            let text = format!("process {} has no lease with irmd; open one at {}", caller.pid, self.settings.handoff);
            return Err(fail(FailureKind::NotPermitted, text));
        }
        for layer in &request.layers {
            self.check_known_layer(layer)?;
        }
        self.check_calls()?;
        self.check_served(caller, &name)?;
        self.find_or_create(now, &name, caller, request.create)?;
        let Some(entry) = self.names.get_mut(name.as_str()) else { return Ok(Some(Reply::Done)) };
        let new = entry.bind(caller.pid);
        if new {
            self.effects
                .push_back(super::Effect::Log(super::Level::Info, format!("process {} serves {name}", caller.pid)));
        }
        let all = request.layers.is_empty() || request.layers.iter().any(|l| l == "*");
        if request.register {
            entry.layers.all |= all;
            entry.layers.named.extend(request.layers.iter().filter(|l| *l != "*").cloned());
        }
        if new || request.register {
            self.names.note_serving();
        }
        if let Some(process) = self.processes.get_mut(caller.pid) {
            process.serves.insert(name.clone());
        }
        let wanted = |layer: &str| request.register && (all || request.layers.iter().any(|l| l == layer));
        self.register_now(call, &name, Then::Served(caller.pid), wanted);
        self.demand(now, &name);
        Ok(None)
    }

    /// Whether the process may serve one more name. Each process of a user counts by itself.
    fn check_served(&mut self, caller: &Caller, name: &Name) -> Result<(), Failure> {
        if self.is_unlimited(caller.uid) || self.processes.get(caller.pid).is_some_and(|p| p.serves.contains(name)) {
            return Ok(());
        }
        let served = self.processes.served_by(caller.uid);
        if served < self.settings.quotas.names {
            return Ok(());
        }
        let text = over(caller.uid, "serves", served, "names", "names-per-user", "stop serving some");
        Err(self.exhausted("refused_names_per_user", text))
    }

    fn find_or_create(&mut self, now: Instant, name: &Name, caller: &Caller, create: bool) -> Result<(), Failure> {
        if let Some(entry) = self.names.get(name.as_str()) {
            // An administrator may have bound this very process.
            return if entry.serves(caller.pid) { Ok(()) } else { self.check_serve(now, caller, name) };
        }
        if !create {
            let text = format!("the name {name} does not exist; create it with irm name create {name}");
            return Err(fail(FailureKind::UnknownName, text));
        }
        self.check_serve(now, caller, name)?;
        let all = self.names.len();
        if all >= self.settings.names {
            let text = format!("this irmd has {all} names, as many as it may; destroy some");
            return Err(self.exhausted("refused_names", text));
        }
        let entry = Entry::new(Policy::default(), Origin::Process, caller.uid);
        self.names.insert(name.clone(), entry);
        Ok(())
    }

    pub(super) fn unserve(&mut self, caller: &Caller, name: &str) -> Answer {
        let name = parse_name(name)?;
        if !self.processes.get(caller.pid).is_some_and(|p| p.serves.contains(&name)) {
            let text = format!("process {} does not serve {name}; there is nothing to end", caller.pid);
            return Err(fail(FailureKind::NotFound, text));
        }
        self.unbind(&name, caller.pid);
        Ok(Some(Reply::Done))
    }

    /// No layer took the name that a process wanted to serve: it does not serve it.
    pub(super) fn unserve_failed(&mut self, name: &Name, pid: u32) {
        self.unbind(name, pid);
    }
}
