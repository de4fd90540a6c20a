//! An orderly end: nothing new is taken, flows may end by themselves for a while, then the daemons go.

use std::time::{Duration, Instant};

use proto::FlowId;
use proto::v1::{self, EndReason, Failure, FailureKind};

use super::flow::Way;
use super::ipcp::STOPS_WITHIN;
use super::transitions::Kind;
use super::{Answer, CallId, Command, Effect, IpcpCall, Irm, Parked, Reply, fail};

/// Longest drain.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// A shutdown under way.
#[derive(Debug)]
pub(super) struct Shutdown {
    /// Who is told when all is done.
    calls: Vec<CallId>,
    /// Flows that are left when draining is over are ended; else they go on without daemons.
    end_flows: bool,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    /// Flows may end by themselves until then.
    Draining(Instant),
    /// IPCPs end their flows, until then. So many flows were left.
    Ending(Instant, u32),
    /// The owner was told to stop.
    Over,
}

impl Irm {
    pub(super) fn shutdown(&mut self, now: Instant, call: CallId, request: v1::ShutdownRequest) -> Answer {
        self.check_calls()?;
        let drain = Duration::from_millis(request.drain_ms.into()).min(LONGEST);
        // A second word takes the place of the first: whoever drains may lose patience.
        let mut calls = match self.shutdown.take() {
            Some(over @ Shutdown { stage: Stage::Over, .. }) => {
                self.shutdown = Some(over);
                return Ok(Some(Reply::Stopped(self.left())));
            }
            Some(Shutdown { stage: stage @ Stage::Ending(..), mut calls, end_flows }) => {
                calls.push(call);
                self.calls.insert(call, Parked::Shutdown);
                self.shutdown = Some(Shutdown { calls, end_flows, stage });
                return Ok(None);
            }
            Some(Shutdown { calls, .. }) => calls,
            None => Vec::new(),
        };
        calls.push(call);
        self.calls.insert(call, Parked::Shutdown);
        let stage = Stage::Draining(now + drain);
        self.shutdown = Some(Shutdown { calls, end_flows: request.end_flows, stage });
        self.info(format!("shutting down: nothing new is taken, flows have {} ms to end", drain.as_millis()));
        self.go_on_shutting_down(now);
        Ok(None)
    }

    /// What may still be asked while irmd shuts down: to see, and to end what is there.
    pub(super) fn check_taking(&self, command: &Command) -> Result<(), Failure> {
        let new = matches!(
            command,
            Command::FlowAlloc(..)
                | Command::Serve(_)
                | Command::FlowReqArr(_)
                | Command::IpcpCreate(_)
                | Command::IpcpBootstrap(_)
                | Command::NameCreate(..)
                | Command::NameRegister(_)
                | Command::BindProgram(_)
                | Command::BindProcess(_)
        );
        if new && self.shutdown.is_some() {
            let text = "this irmd is shutting down and takes nothing new; ask again when it is back";
            return Err(fail(FailureKind::ShuttingDown, text));
        }
        Ok(())
    }

    pub(super) fn is_shutting_down(&self) -> bool {
        self.shutdown.is_some()
    }

    /// When [`go_on_shutting_down`](Self::go_on_shutting_down) has something to do.
    pub(super) fn shutdown_timeout(&self) -> Option<Instant> {
        match self.shutdown.as_ref()?.stage {
            Stage::Draining(_) if self.flows.is_empty() => Some(self.since),
            Stage::Ending(..) if self.ipcps.iter().all(|ipcp| ipcp.attach.is_none()) => Some(self.since),
            Stage::Draining(until) | Stage::Ending(until, _) => Some(until),
            Stage::Over => None,
        }
    }

    pub(super) fn go_on_shutting_down(&mut self, now: Instant) {
        while self.shutdown_timeout().is_some_and(|at| at <= now) {
            let Some(Shutdown { end_flows, stage, .. }) = &self.shutdown else { return };
            let left = self.left();
            match *stage {
                Stage::Draining(_) if *end_flows && left > 0 => self.end_all(now, left),
                Stage::Draining(_) => self.stop(left),
                Stage::Ending(_, left) => self.stop(left),
                Stage::Over => return,
            }
        }
    }

    fn left(&self) -> u32 {
        u32::try_from(self.flows.len()).unwrap_or(u32::MAX)
    }

    fn end_all(&mut self, now: Instant, left: u32) {
        let rows: Vec<(FlowId, Kind, bool)> =
            self.flows.iter().map(|f| (f.id, f.stage.kind(), matches!(f.way, Way::Local(_)))).collect();
        for (row, kind, local) in rows {
            match kind {
                Kind::Allocated if local => self.end_local(row, EndReason::Admin, false),
                // Its IPCP ends it.
                Kind::Allocated => {}
                _ => drop(self.end_flow(row)),
            }
        }
        let attached: Vec<_> = self.ipcps.iter().filter_map(|i| Some((i.name.clone(), i.attach?))).collect();
        for (ipcp, attach) in attached {
            self.ask(&ipcp, attach, IpcpCall::Shutdown);
        }
        if let Some(shutdown) = &mut self.shutdown {
            shutdown.stage = Stage::Ending(now + STOPS_WITHIN, left);
        }
    }

    fn stop(&mut self, left: u32) {
        let Some(shutdown) = &mut self.shutdown else { return };
        shutdown.stage = Stage::Over;
        for call in std::mem::take(&mut shutdown.calls) {
            self.reply(call, Reply::Stopped(left));
        }
        self.effects.push_back(Effect::Stop);
    }

    /// Who asked for the shutdown does not wait for it any more; it goes on.
    pub(super) fn shutdown_waiter_gone(&mut self, call: CallId) {
        if let Some(shutdown) = &mut self.shutdown {
            shutdown.calls.retain(|waiting| *waiting != call);
        }
    }
}
