//! IPCPs: started, attached, bootstrapped, watched, started again, stopped.

use std::time::Instant;

use proto::FlowId;
use proto::v1::{self, Failure, FailureKind};

use super::alloc::down;
use super::fail;
use super::flow::{Flow, Stage};
use super::ipcp::{ATTACHES_WITHIN, Ipcp, LOOK_AGAIN, RECONCILE_AFTER, STEADY, STOPS_WITHIN, State, Waiter};
use super::name::Origin;
use super::transitions::Event;
use super::{Answer, CallId, ChildId, Effect, IpcpCall, Irm, Parked, Reply, Started, Timer};
use crate::config::check_ipcp_name;

/// IPCPs of one host.
const IPCPS: usize = 256;

impl Irm {
    pub(super) fn ipcp_create(&mut self, now: Instant, call: CallId, request: &v1::IpcpCreateRequest) -> Answer {
        self.check_new_ipcp(&request.name, &request.r#type)?;
        if self.ipcps.get(&request.name).is_some() {
            let text = format!("an IPCP {} exists already; see irm ipcp list", request.name);
            return Err(fail(FailureKind::AlreadyExists, text));
        }
        self.make_ipcp(now, &request.name, !request.no_restart, Waiter { call, bootstrap: false, made: true });
        Ok(None)
    }

    pub(super) fn ipcp_bootstrap(&mut self, now: Instant, call: CallId, request: v1::IpcpBootstrapRequest) -> Answer {
        let name = request.name;
        let udp = request.udp.unwrap_or_default();
        crate::config::Ipcp::from_parts(&name, true, Some((&request.layer, &udp)))
            .map_err(|e| fail(FailureKind::Invalid, e))?;
        let Some(ipcp) = self.ipcps.get_mut(&name) else {
            self.check_new_ipcp(&name, &request.r#type)?;
            self.make_ipcp(now, &name, !request.no_restart, Waiter { call, bootstrap: true, made: true });
            if let Some(ipcp) = self.ipcps.get_mut(&name) {
                ipcp.config = Some((request.layer, udp));
            }
            return Ok(None);
        };
        let waiter = Waiter { call, bootstrap: true, made: false };
        match ipcp.state {
            State::Attached => {
                ipcp.config = Some((request.layer, udp));
                ipcp.restart &= !request.no_restart;
                self.calls.insert(call, Parked::Ipcp(name.clone()));
                self.bootstrap(&name, Some(waiter));
                Ok(None)
            }
            State::Operational(_) | State::Bootstrapping(_) => {
                let text = format!("IPCP {name} is bootstrapped in layer {} already; destroy it first", ipcp.layer());
                Err(fail(FailureKind::AlreadyExists, text))
            }
            State::Starting(_) | State::Down | State::Stopping(_) => Err(fail(
                FailureKind::IpcpDown,
                format!("IPCP {name} is not running ({}); see irm ipcp list", ipcp.last_end),
            )),
        }
    }

    pub(super) fn check_new_ipcp(&self, name: &str, kind: &str) -> Result<(), Failure> {
        check_ipcp_name(name).map_err(|e| fail(FailureKind::Invalid, e))?;
        if !["", "udp"].contains(&kind) {
            let text = format!("there are no IPCPs of type {kind}; take udp");
            return Err(fail(FailureKind::Invalid, text));
        }
        if self.ipcps.len() >= IPCPS {
            return Err(fail(FailureKind::Exhausted, format!("{IPCPS} IPCPs are as many as may be; destroy some")));
        }
        Ok(())
    }

    fn make_ipcp(&mut self, now: Instant, name: &str, restart: bool, waiter: Waiter) {
        let mut ipcp = Ipcp::new(name, Origin::Runtime, restart, None);
        ipcp.state = State::Starting(Some(waiter));
        self.ipcps.push(ipcp);
        self.calls.insert(waiter.call, Parked::Ipcp(name.to_owned()));
        self.start_ipcp(now, name);
    }

    /// Lets an IPCP in the state `Starting` be started.
    pub(super) fn start_ipcp(&mut self, now: Instant, name: &str) {
        let child = self.next_child();
        self.timers.set(Timer::Ipcp(name.to_owned()), now + ATTACHES_WITHIN);
        self.effects.push_back(Effect::StartIpcp { ipcp: name.to_owned(), child });
    }

    /// What became of [`Effect::StartIpcp`].
    pub fn ipcp_started(&mut self, now: Instant, name: &str, child: ChildId, started: Started) {
        let Some(ipcp) = self.ipcps.get_mut(name) else {
            return self.effects.push_back(Effect::Kill { child, hard: true });
        };
        match started {
            Started::Spawned(pid) => {
                ipcp.found_until = None;
                ipcp.child = Some(child);
                ipcp.child_pid = pid;
                ipcp.pid = pid;
            }
            Started::Found => self.found_running(now, name),
            Started::Failed(why) => self.went_down(now, name, &format!("could not be started ({why})")),
        }
    }

    /// It attaches soon, unless it is just ending: its socket is the last to go.
    fn found_running(&mut self, now: Instant, name: &str) {
        let Some(ipcp) = self.ipcps.get_mut(name) else { return };
        let first = ipcp.found_until.is_none();
        ipcp.found_until.get_or_insert(now + ATTACHES_WITHIN);
        self.timers.set(Timer::Ipcp(name.to_owned()), now + LOOK_AGAIN);
        if first {
            self.info(format!("IPCP {name} runs already; it will attach"));
        }
    }

    /// An attachment has ended: the IPCP is gone, or will be.
    pub(super) fn detached(&mut self, now: Instant, name: &str) {
        self.went_down(now, name, "left without a word");
    }

    /// Our child has ended.
    pub(super) fn ipcp_exited(&mut self, now: Instant, child: ChildId, how: &str) {
        let Some(ipcp) = self.ipcps.of_child(child) else { return };
        let name = ipcp.name.clone();
        ipcp.child = None;
        match ipcp.state {
            // Another process attached under the name before our child could.
            _ if ipcp.attach.is_some() && ipcp.pid != ipcp.child_pid => {}
            State::Down => {
                ipcp.pid = 0;
                ipcp.last_end = how.to_owned();
                self.warn(format!("IPCP {name} {how}"));
                self.start_later(now, &name);
            }
            State::Stopping(_) if ipcp.attach.is_none() => self.remove_ipcp(now, &name),
            _ => self.went_down(now, &name, how),
        }
    }

    /// An IPCP ended, `how`.
    fn went_down(&mut self, now: Instant, name: &str, how: &str) {
        let Some(ipcp) = self.ipcps.get_mut(name) else { return };
        let (attach, waiter) = (ipcp.attach.take(), ipcp.state.waiter());
        let stopping = matches!(ipcp.state, State::Stopping(_));
        if matches!(ipcp.state, State::Operational(since) if since + STEADY <= now) {
            ipcp.reset_pause();
        }
        ipcp.registered.clear();
        ipcp.to_register.clear();
        ipcp.found_until = None;
        ipcp.last_end = how.to_owned();
        let running = ipcp.child.is_some();
        if !running {
            ipcp.pid = 0;
        }
        if !stopping {
            ipcp.state = State::Down;
            self.warn(format!("IPCP {name} {how}"));
        }
        self.timers.clear(&Timer::Reconcile(name.to_owned()));
        if let Some(attach) = attach {
            self.calls.remove(&attach);
            self.effects.push_back(Effect::Disconnect(name.to_owned()));
            self.fail_asking(now, name, attach);
        }
        self.settle_all(name);
        if let Some(waiter) = waiter {
            self.refuse(waiter.call, fail(FailureKind::IpcpDown, format!("IPCP {name} {how}; see irmd's log")));
            if waiter.made {
                return self.remove_ipcp(now, name);
            }
        }
        match (stopping, running) {
            (true, false) => self.remove_ipcp(now, name),
            // Its exit comes, or it is stuck and is killed.
            (_, true) => self.timers.set(Timer::Ipcp(name.to_owned()), now + STOPS_WITHIN),
            (false, false) => self.start_later(now, name),
        }
    }

    fn start_later(&mut self, now: Instant, name: &str) {
        let shutting_down = self.is_shutting_down();
        let Some(ipcp) = self.ipcps.get_mut(name) else { return };
        let timer = Timer::Ipcp(name.to_owned());
        if !ipcp.restart || !ipcp.start || ipcp.origin == Origin::Process || shutting_down {
            return self.timers.clear(&timer);
        }
        let pause = ipcp.next_pause();
        self.timers.set(timer, now + pause);
        self.info(format!("IPCP {name} is started again in {} ms", pause.as_millis()));
    }

    /// Flows that the IPCP was asked for: another may reach the name.
    fn fail_asking(&mut self, now: Instant, name: &str, gone: CallId) {
        let asked = |flow: &&Flow| match &flow.stage {
            Stage::Asking { attach, .. } => *attach == gone,
            Stage::Abandoned => flow.ipcp() == name,
            _ => false,
        };
        let mut rows: Vec<FlowId> = self.flows.iter().filter(asked).map(|flow| flow.id).collect();
        rows.sort_unstable();
        for row in rows {
            match self.flows.get(row).map(|flow| &flow.stage) {
                Some(Stage::Abandoned) => {
                    let gone = self.flows.end(row, Event::IpcpGone);
                    self.note_given_up(gone);
                }
                _ => self.try_next(now, row, down(name)),
            }
        }
    }

    pub(super) fn ipcp_timed_out(&mut self, now: Instant, name: &str) {
        let Some(ipcp) = self.ipcps.get_mut(name) else { return };
        let child = ipcp.child;
        match ipcp.state {
            State::Starting(_) if child.is_none() && ipcp.found_until.is_some_and(|until| now < until) => {
                self.start_ipcp(now, name);
            }
            State::Starting(_) => {
                self.kill(child, true);
                self.went_down(now, name, &format!("did not attach within {} s", ATTACHES_WITHIN.as_secs()));
            }
            State::Down if child.is_some() => {
                self.kill(child, true);
                self.timers.set(Timer::Ipcp(name.to_owned()), now + STOPS_WITHIN);
            }
            State::Down => {
                ipcp.state = State::Starting(None);
                ipcp.restarts += 1;
                self.start_ipcp(now, name);
            }
            State::Attached => self.bootstrap(name, None),
            State::Stopping(_) => {
                self.kill(child, true);
                if child.is_none() {
                    self.effects.push_back(Effect::KillAttached { ipcp: name.to_owned() });
                }
                self.remove_ipcp(now, name);
            }
            State::Bootstrapping(_) | State::Operational(_) => {}
        }
    }

    fn kill(&mut self, child: Option<ChildId>, hard: bool) {
        self.effects.extend(child.map(|child| Effect::Kill { child, hard }));
    }

    pub(super) fn ipcp_destroy(&mut self, now: Instant, call: CallId, name: &str) -> Answer {
        let Some(ipcp) = self.ipcps.get(name) else {
            return Err(fail(FailureKind::NotFound, format!("no IPCP {name} on this host; see irm ipcp list")));
        };
        if matches!(ipcp.state, State::Stopping(_)) {
            let text = format!("IPCP {name} is being destroyed already; see irm ipcp list");
            return Err(fail(FailureKind::AlreadyExists, text));
        }
        if let Some(waiter) = ipcp.state.waiter() {
            self.refuse(waiter.call, fail(FailureKind::IpcpDown, format!("IPCP {name} was destroyed meanwhile")));
        }
        self.calls.insert(call, Parked::Ipcp(name.to_owned()));
        self.stop_ipcp(now, name, Some(call));
        Ok(None)
    }

    /// Tells an IPCP to end its flows and go.
    pub(super) fn stop_ipcp(&mut self, now: Instant, name: &str, call: Option<CallId>) {
        let Some(ipcp) = self.ipcps.get_mut(name) else { return };
        ipcp.state = State::Stopping(call);
        let (attach, child) = (ipcp.attach, ipcp.child);
        match (attach, child) {
            (Some(attach), _) => self.ask(name, attach, IpcpCall::Shutdown),
            (None, Some(_)) => self.kill(child, false),
            (None, None) => return self.remove_ipcp(now, name),
        }
        self.timers.set(Timer::Ipcp(name.to_owned()), now + STOPS_WITHIN);
    }

    /// An IPCP is gone for good, and its flows with it.
    fn remove_ipcp(&mut self, now: Instant, name: &str) {
        let Some(ipcp) = self.ipcps.remove(name) else { return };
        self.kill(ipcp.child, false);
        self.timers.clear(&Timer::Ipcp(name.to_owned()));
        self.timers.clear(&Timer::Reconcile(name.to_owned()));
        if let Some(attach) = ipcp.attach {
            self.calls.remove(&attach);
            self.effects.push_back(Effect::Disconnect(name.to_owned()));
            self.fail_asking(now, name, attach);
            self.settle_all(name);
        }
        let held = |flow: &&Flow| flow.ipcp() == name && matches!(flow.stage, Stage::Allocated { .. });
        let rows: Vec<FlowId> = self.flows.iter().filter(held).map(|flow| flow.id).collect();
        for row in rows {
            let gone = self.flows.end(row, Event::Over);
            self.note_ended(gone, v1::EndReason::IpcpStopped, None);
        }
        if ipcp.origin != Origin::Process {
            self.effects.push_back(Effect::Persist);
        }
        self.info(format!("IPCP {name} is gone"));
        if let State::Stopping(Some(call)) = ipcp.state {
            self.reply(call, ipcp.refusal.map_or(Reply::Done, Reply::Failed));
        }
    }

    /// The caller that waited for an IPCP is gone; the IPCP stays.
    pub(super) fn waiter_gone(&mut self, name: &str, call: CallId) {
        let Some(ipcp) = self.ipcps.get_mut(name) else { return };
        match &mut ipcp.state {
            State::Starting(waiter) | State::Bootstrapping(waiter) if waiter.is_some_and(|w| w.call == call) => {
                *waiter = None;
            }
            State::Stopping(waits) if *waits == Some(call) => *waits = None,
            _ => {}
        }
    }

    /// After a pause an IPCP that came back is asked once more which flows it holds.
    pub(super) fn reconcile_later(&mut self, now: Instant, name: &str) {
        self.timers.set(Timer::Reconcile(name.to_owned()), now + RECONCILE_AFTER);
    }
}
