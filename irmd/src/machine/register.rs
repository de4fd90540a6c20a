//! Names in layers: IPCPs are told which names this host answers for.

use std::collections::BTreeSet;
use std::time::Instant;

use proto::Name;
use proto::v1::{self, Failure, FailureKind};

use super::name::Origin;
use super::{Answer, CallId, Caller, Effect, IpcpAnswer, IpcpCall, Irm, Parked, Reply, fail, parse_name};
use crate::config::check_layer;

/// Names that a returned IPCP is told at the same time.
const AT_A_TIME: usize = 64;

/// A call that waits until IPCPs have registered (or unregistered) a name.
#[derive(Debug)]
pub(super) struct Registering {
    name: Name,
    left: BTreeSet<String>,
    layers: BTreeSet<String>,
    failure: Option<Failure>,
    then: Then,
}

/// What the call wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// A process serves the name; it is unbound if no layer takes the name.
    Served(u32),
    /// Only to know.
    Registered,
    /// To know that the name is out.
    Unregistered,
}

impl Then {
    fn serves(self) -> bool {
        matches!(self, Self::Served(_))
    }
}

impl Irm {
    pub(super) fn name_register(
        &mut self,
        now: Instant,
        call: CallId,
        caller: &Caller,
        request: &v1::NameRegisterRequest,
    ) -> Answer {
        let (name, layer) = (parse_name(&request.name)?, request.layer.as_str());
        let text = if layer.is_empty() { "*" } else { layer };
        self.check_known_layer(text)?;
        self.check_owner(now, caller, &name)?;
        self.check_change(now, caller)?;
        self.check_calls()?;
        let Some(entry) = self.names.get_mut(name.as_str()) else { return Err(no_name(&name)) };
        entry.layers.insert(text);
        entry.origin = changed(entry.origin);
        self.names.note_serving();
        self.effects.push_back(Effect::Persist);
        self.register_now(call, &name, Then::Registered, |l| text == "*" || l == text);
        Ok(None)
    }

    pub(super) fn name_unregister(
        &mut self,
        now: Instant,
        call: CallId,
        caller: &Caller,
        request: &v1::NameUnregisterRequest,
    ) -> Answer {
        let (name, layer) = (parse_name(&request.name)?, request.layer.as_str());
        let text = if layer.is_empty() { "*" } else { layer };
        self.check_owner(now, caller, &name)?;
        self.check_change(now, caller)?;
        self.check_calls()?;
        let Some(entry) = self.names.get_mut(name.as_str()) else { return Err(no_name(&name)) };
        let everywhere = text == "*";
        if !everywhere && !entry.layers.named.contains(text) {
            let why = if entry.layers.all { "by itself, but in every layer; unregister it from *" } else { "" };
            let text = format!("{name} is not registered in layer {text} {why}");
            return Err(fail(FailureKind::NotFound, text.trim_end()));
        }
        if everywhere {
            entry.layers = super::name::Layers::default();
        } else {
            entry.layers.named.remove(text);
        }
        entry.origin = changed(entry.origin);
        self.names.note_serving();
        self.effects.push_back(Effect::Persist);
        self.unregister_unwanted(&name, Some(call));
        Ok(None)
    }

    /// Whether one more call may wait for IPCPs.
    pub(super) fn check_calls(&self) -> Result<(), Failure> {
        if self.calls.len() < self.settings.accepts + 2 * self.settings.pending {
            return Ok(());
        }
        Err(fail(FailureKind::Exhausted, "as many calls wait for this irmd as may; try again later"))
    }

    /// Whether a layer can be registered in: a layer that no IPCP was ever told of is a slip.
    pub(super) fn check_known_layer(&self, layer: &str) -> Result<(), Failure> {
        if layer == "*" {
            return Ok(());
        }
        check_layer(layer).map_err(|e| fail(FailureKind::Invalid, e))?;
        if self.ipcps.knows_layer(layer) {
            return Ok(());
        }
        Err(fail(FailureKind::NoSuchLayer, format!("no layer {layer} exists on this host; see irm ipcp list")))
    }

    /// Asks the IPCPs of the layers for which `which` holds; `call` is answered when all have.
    pub(super) fn register_now(&mut self, call: CallId, name: &Name, then: Then, which: impl Fn(&str) -> bool) {
        let mut wait =
            Registering { name: name.clone(), left: BTreeSet::new(), layers: BTreeSet::new(), failure: None, then };
        let mut calls = Vec::new();
        for ipcp in self.ipcps.iter().filter(|i| which(i.layer())) {
            let Some(attach) = ipcp.operational() else { continue };
            // Who registers by hand wants to know how it stands in the layer's directory, also of a name that is there.
            if ipcp.registered.contains(name) && then != Then::Registered {
                wait.layers.insert(ipcp.layer().to_owned());
            } else {
                wait.left.insert(ipcp.name.clone());
                calls.push((ipcp.name.clone(), attach));
            }
        }
        for (ipcp, attach) in calls {
            let what = match (self.registration(name), then) {
                (IpcpCall::Register(name, starts), Then::Registered) => IpcpCall::Publish(name, starts),
                (what, _) => what,
            };
            self.ask(&ipcp, attach, what);
        }
        self.wait_for(call, wait);
    }

    fn registration(&self, name: &Name) -> IpcpCall {
        IpcpCall::Register(name.clone(), self.needs_proof(name))
    }

    /// Whether callers of the name must have shown that they receive where they say they are.
    fn needs_proof(&self, name: &Name) -> bool {
        self.names.get(name.as_str()).is_some_and(|entry| entry.starts() || self.judges_addresses(name))
    }

    /// Programs were bound to the name, or unbound, or its rules changed: its layers hear again whether callers are to
    /// be proven.
    pub(super) fn register_again(&mut self, name: &Name) {
        let told = |i: &&super::ipcp::Ipcp| i.registered.contains(name);
        let calls: Vec<_> =
            self.ipcps.iter().filter(told).filter_map(|i| Some((i.name.clone(), i.operational()?))).collect();
        for (ipcp, attach) in calls {
            self.ask(&ipcp, attach, self.registration(name));
        }
    }

    fn wait_for(&mut self, call: CallId, wait: Registering) {
        if wait.left.is_empty() {
            return self.finish(call, wait);
        }
        self.calls.insert(call, Parked::Registering(wait));
    }

    fn finish(&mut self, call: CallId, wait: Registering) {
        match (wait.then, wait.failure) {
            (Then::Served(pid), Some(failure)) if wait.layers.is_empty() => {
                self.unserve_failed(&wait.name, pid);
                self.refuse(call, failure);
            }
            (Then::Served(_), _) => self.reply(call, Reply::Served(wait.layers.into_iter().collect())),
            (Then::Registered, Some(failure)) => self.refuse(call, failure),
            (Then::Unregistered, Some(failure)) if failure.kind() == FailureKind::DirectoryFailed => {
                self.refuse(call, failure);
            }
            _ => self.reply(call, Reply::Done),
        }
    }

    /// Tells a freshly bootstrapped IPCP every name of its layer.
    pub(super) fn register_all(&mut self, ipcp: &str) {
        let Some(at) = self.ipcps.get(ipcp) else { return };
        let Some(attach) = at.operational() else { return };
        let layer = at.layer();
        let names: Vec<Name> =
            self.names.iter().filter(|(_, e)| e.layers.contains(layer)).map(|(name, _)| name.clone()).collect();
        let Some(at) = self.ipcps.get_mut(ipcp) else { return };
        at.to_register = names.into();
        // Some at a time: there may be very many. Each answer asks for the next.
        let first: Vec<Name> = at.to_register.drain(..at.to_register.len().min(AT_A_TIME)).collect();
        for name in first {
            self.ask(ipcp, attach, self.registration(&name));
        }
    }

    /// An IPCP was told that it answers for the name, and whether that `starts` programs; `published`: and it was to say
    /// so to others.
    pub(super) fn registered(
        &mut self,
        ipcp: &str,
        name: &Name,
        starts: bool,
        published: bool,
        answer: Result<IpcpAnswer, Failure>,
    ) {
        let Some(at) = self.ipcps.get_mut(ipcp) else { return };
        let layer = at.layer().to_owned();
        if let (Some(next), Some(attach)) = (at.to_register.pop_front(), at.operational()) {
            self.ask(ipcp, attach, self.registration(&next));
        }
        let wanted = self.names.get(name.as_str()).is_some_and(|e| e.layers.contains(&layer));
        // A program was bound or unbound, or a rule changed, while the IPCP was being told.
        let changed = wanted && self.needs_proof(name) != starts;
        let Some(at) = self.ipcps.get_mut(ipcp) else { return };
        // The IPCP answers for the name, and goes on telling its directory.
        let unsaid = matches!(&answer, Err(failure) if failure.kind() == FailureKind::DirectoryFailed);
        let outcome = match answer {
            answer if answer.is_ok() || unsaid => {
                at.registered.insert(name.clone());
                let attach = at.operational();
                match attach {
                    Some(attach) if !wanted => self.ask(ipcp, attach, IpcpCall::Unregister(name.clone())),
                    Some(attach) if changed => self.ask(ipcp, attach, self.registration(name)),
                    _ => {}
                }
                answer.map(|_| layer)
            }
            Ok(_) => Ok(layer),
            Err(failure) => {
                self.warn(format!("{name} could not be registered in layer {layer} by {ipcp}: {failure}"));
                Err(failure)
            }
        };
        self.settle(ipcp, Some((name, published)), Some(outcome));
    }

    pub(super) fn unregistered(&mut self, ipcp: &str, name: &Name, answer: Result<IpcpAnswer, Failure>) {
        if let Some(at) = self.ipcps.get_mut(ipcp) {
            at.registered.remove(name);
            // It was registered again meanwhile.
            let wanted = self.names.get(name.as_str()).is_some_and(|e| e.layers.contains(at.layer()));
            if let Some(attach) = at.operational().filter(|_| wanted) {
                self.ask(ipcp, attach, self.registration(name));
            }
        }
        self.settle(ipcp, Some((name, true)), Some(answer.map(|_| String::new())));
    }

    /// An IPCP is gone: nobody waits for its word on names any more. It is told them when it comes back.
    pub(super) fn settle_all(&mut self, ipcp: &str) {
        self.settle(ipcp, None, None);
    }

    fn settle(&mut self, ipcp: &str, name: Option<(&Name, bool)>, outcome: Option<Result<String, Failure>>) {
        let mut over = Vec::new();
        for (call, parked) in &mut self.calls {
            let Parked::Registering(wait) = parked else { continue };
            // Who waits for the directory is not served by the word that the IPCP knows.
            let meant =
                |(name, published): (&Name, bool)| *name == wait.name && (published || wait.then != Then::Registered);
            if !name.is_none_or(meant) || !wait.left.remove(ipcp) {
                continue;
            }
            match &outcome {
                Some(Ok(layer)) => drop(wait.layers.insert(layer.clone())),
                // Its layer has the name; others hear of it once the directory can be told.
                Some(Err(failure)) if failure.kind() == FailureKind::DirectoryFailed && wait.then.serves() => {
                    wait.layers.insert(self.ipcps.get(ipcp).map(|i| i.layer().to_owned()).unwrap_or_default());
                }
                Some(Err(failure)) => wait.failure = Some(failure.clone()),
                None => {}
            }
            if wait.left.is_empty() {
                over.push(*call);
            }
        }
        over.sort_unstable();
        for call in over {
            if let Some(Parked::Registering(wait)) = self.calls.remove(&call) {
                self.finish(call, wait);
            }
        }
    }

    /// Takes a name that exists no more out of every layer.
    pub(super) fn unregister_everywhere(&mut self, name: &Name, call: Option<CallId>) {
        self.unregister_unwanted(name, call);
    }

    /// Takes a name out of the layers it is no longer wanted in; `call` is answered when all have.
    fn unregister_unwanted(&mut self, name: &Name, call: Option<CallId>) {
        let entry = self.names.get(name.as_str());
        let unwanted = |layer: &str| !entry.is_some_and(|e| e.layers.contains(layer));
        let calls: Vec<(String, CallId)> = self
            .ipcps
            .iter()
            .filter(|i| i.registered.contains(name) && unwanted(i.layer()))
            .filter_map(|i| Some((i.name.clone(), i.operational()?)))
            .collect();
        let left = calls.iter().map(|(ipcp, _)| ipcp.clone()).collect();
        for (ipcp, attach) in calls {
            let name = name.clone();
            self.ask(&ipcp, attach, if call.is_some() { IpcpCall::Retract(name) } else { IpcpCall::Unregister(name) });
        }
        if let Some(call) = call {
            let (layers, then) = (BTreeSet::new(), Then::Unregistered);
            self.wait_for(call, Registering { name: name.clone(), left, layers, failure: None, then });
        }
    }
}

/// What a tool changed is written down, wherever the entry came from.
pub(super) fn changed(origin: Origin) -> Origin {
    match origin {
        Origin::Config | Origin::Runtime => Origin::Runtime,
        Origin::Process => Origin::Process,
    }
}

pub(super) fn no_name(name: &Name) -> Failure {
    fail(FailureKind::NotFound, format!("no name {name} on this host; make it with irm name create {name}"))
}
