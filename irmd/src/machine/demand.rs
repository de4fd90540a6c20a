//! Programs that are started when a flow arrives and nobody accepts.

use std::time::Instant;

use proto::v1::{EventKind, FailureKind};
use proto::{FlowId, Name};

use super::adopt::RETURN_WITHIN;
use super::flow::{Flow, Way};
use super::name::Policy;
use super::program::{HELP_AFTER, Plan};
use super::transitions::Event;
use super::{ChildId, Effect, Irm, Timer, fail};

/// What to do for a name whose flows wait.
enum Step {
    Nothing,
    Look(Instant),
    /// This program, for the flow that has waited longest.
    Start(usize, FlowId),
    GiveUp(String),
}

impl Irm {
    /// Flows may wait for the name: sees that a program comes.
    pub(super) fn demand(&mut self, now: Instant, name: &Name) {
        let timer = Timer::Name(name.clone());
        match self.next_step(now, name) {
            Step::Nothing => self.timers.clear(&timer),
            Step::Look(at) => self.timers.set(timer, at),
            Step::Start(index, oldest) => {
                let child = self.next_child();
                let Some(program) = self.names.get_mut(name.as_str()).and_then(|e| e.programs.get_mut(index)) else {
                    return;
                };
                program.started(child, now);
                let (path, args) = (program.path.clone(), program.args.clone());
                let user = program.uid(self.settings.uid);
                self.programs.insert(child, name.clone());
                self.timers.set(timer, now + super::program::ACCEPTS_WITHIN);
                self.info(format!("starting {path} as user {user}: a flow for {name} waits"));
                self.note(oldest, EventKind::Started, Some(path.as_str().into()));
                self.effects.push_back(Effect::StartProgram { child, name: name.clone(), path, args, user });
            }
            Step::GiveUp(why) => {
                self.timers.clear(&timer);
                let rows = self.names.get_mut(name.as_str()).map(|e| std::mem::take(&mut e.backlog));
                for row in rows.unwrap_or_default() {
                    self.fail_flow(row, Event::Failed, fail(FailureKind::NobodyAccepts, why.clone()));
                }
            }
        }
    }

    /// Whether a program is started for the flow: not for one that a stranger may have forged.
    fn may_start(&self, flow: &Flow) -> bool {
        match &flow.way {
            Way::In(arrived) => arrived.proven || arrived.classic && self.options.classic_starts,
            Way::Out(_) | Way::Local(_) => true,
        }
    }

    fn next_step(&self, now: Instant, name: &Name) -> Step {
        let Some(entry) = self.names.get(name.as_str()) else { return Step::Nothing };
        if !entry.starts() {
            return Step::Nothing;
        }
        let mut waiting = entry.backlog.iter().filter_map(|row| self.flows.get(*row));
        let Some(oldest) = waiting.find(|flow| self.may_start(flow)) else { return Step::Nothing };
        let served = entry.processes().next().is_some();
        let autos: Vec<(usize, Plan)> = entry
            .programs
            .iter()
            .enumerate()
            .filter(|(_, program)| program.auto)
            .map(|(index, program)| (index, program.plan(now)))
            .collect();
        // Processes that serve the name get a moment to come back to accepting.
        if served && oldest.since + HELP_AFTER > now {
            return Step::Look(oldest.since + HELP_AFTER);
        }
        // After a restart those that serve it may not have come back yet.
        if !served && self.is_returning(now) {
            return Step::Look(self.since + RETURN_WITHIN);
        }
        let wait = autos.iter().filter_map(|(_, plan)| if let Plan::Wait(until) = plan { Some(*until) } else { None });
        if let Some(until) = wait.min() {
            return Step::Look(until);
        }
        let can = autos.iter().filter(|(_, plan)| *plan == Plan::Start).map(|(index, _)| *index);
        let next = match entry.policy {
            Policy::Spill => can.min(),
            Policy::RoundRobin => can.min_by_key(|index| entry.programs[*index].running()),
        };
        if let Some(index) = next {
            return Step::Start(index, oldest.id);
        }
        let paused = autos.into_iter().find_map(|(_, plan)| match plan {
            Plan::Paused(until, why) => Some((until, why)),
            _ => None,
        });
        match paused {
            Some((until, _)) if served => Step::Look(until),
            Some((until, why)) => {
                let seconds = until.saturating_duration_since(now).as_secs() + 1;
                Step::GiveUp(format!("{why}; it is tried again in {seconds} s, see its output in irmd's log"))
            }
            None => Step::Nothing,
        }
    }

    /// A program that an earlier irmd started for the name still runs: it may yet be on its way to accepting. What to call
    /// it; `None`: it is bound to the name no more. To be called before [`Self::begin`].
    pub fn found_program(&mut self, now: Instant, name: &str, path: &str) -> Option<ChildId> {
        let child = self.next_child();
        let program = self.names.get_mut(name)?.programs.iter_mut().find(|program| program.path == path)?;
        program.started(child, now);
        self.programs.insert(child, Name::new(name).ok()?);
        Some(child)
    }

    /// A program that was to be started has been, or could not be.
    pub fn program_started(&mut self, now: Instant, child: ChildId, started: Result<u32, String>) {
        if let Err(why) = started {
            self.child_exited(now, child, &format!("could not be started ({why})"));
        }
    }

    /// A child has ended, `how` ("exited with status 1").
    pub fn child_exited(&mut self, now: Instant, child: ChildId, how: &str) {
        let Some(name) = self.programs.remove(&child) else { return self.ipcp_exited(now, child, how) };
        let Some(entry) = self.names.get_mut(name.as_str()) else { return };
        let Some(program) = entry.programs.iter_mut().find(|p| p.owns(child)) else { return };
        let early = program.ended(child, how, now);
        let path = program.path.clone();
        if early {
            self.warn(format!("{path}, started for {name}, {how} before it accepted"));
        } else {
            self.info(format!("{path}, started for {name}, {how}"));
        }
        self.demand(now, &name);
    }
}
