//! Names and bindings made by tools.

use std::time::Instant;

use proto::v1::{self, FailureKind};

use super::name::{Entry, Origin};
use super::permit::changed_rules;
use super::policy::Rank;
use super::program::Program;
use super::register::{changed, no_name};
use super::{Answer, CallId, Caller, Effect, Irm, Reply, RulesChange, fail, parse_name};
use crate::config::{Account, Policy, Rules, check_program_path};

/// Programs bound to one name.
const PROGRAMS: usize = 64;

impl Irm {
    pub(super) fn name_create(
        &mut self,
        now: Instant,
        caller: &Caller,
        request: &v1::NameCreateRequest,
        rules: &RulesChange,
    ) -> Answer {
        let name = parse_name(&request.name)?;
        let policy = Policy::from_message(request.policy());
        let rules = changed_rules(Rules::default(), rules)?;
        if !rules.is_empty() {
            self.check_rank(now, caller, &super::Command::Administers)?;
        }
        match self.names.get(name.as_str()).map(|entry| entry.origin) {
            // A process made it by serving it: from now on it stays.
            Some(Origin::Process) => self.check_owner(now, caller, &name)?,
            Some(_) => {
                let text = format!("the name {name} exists already; see irm name list");
                return Err(fail(FailureKind::AlreadyExists, text));
            }
            None => {}
        }
        self.make_name(now, &name, caller, caller.uid)?;
        let Some(entry) = self.names.get_mut(name.as_str()) else { return Ok(Some(Reply::Done)) };
        (entry.origin, entry.policy) = (Origin::Runtime, policy);
        // Its owner does not take away what an administrator said of it meanwhile.
        if !rules.is_empty() {
            entry.rules = rules;
        }
        self.effects.push_back(Effect::Persist);
        self.register_again(&name);
        Ok(Some(Reply::Done))
    }

    /// Sees that a name is there which lasts, or may be made to: `owner` is whose it becomes if it is new.
    fn make_name(&mut self, now: Instant, name: &proto::Name, caller: &Caller, owner: u32) -> Result<(), v1::Failure> {
        let lasts = self.names.get(name.as_str()).is_some_and(|entry| entry.origin != Origin::Process);
        if !lasts && self.rank(caller) == Rank::User {
            self.check_serve(now, caller, name)?;
            self.check_made(caller.uid)?;
        }
        self.check_change(now, caller)?;
        if self.names.get(name.as_str()).is_some() {
            return Ok(());
        }
        if self.names.len() >= self.settings.names {
            let text = format!("this irmd has {} names, as many as it may; destroy some", self.names.len());
            return Err(fail(FailureKind::Exhausted, text));
        }
        let entry = Entry::new(Policy::default(), Origin::Runtime, owner);
        self.names.insert(name.clone(), entry);
        self.info(format!("name {name} is made"));
        Ok(())
    }

    pub(super) fn name_destroy(&mut self, now: Instant, call: CallId, caller: &Caller, name: &str) -> Answer {
        let name = parse_name(name)?;
        self.check_owner(now, caller, &name)?;
        self.check_change(now, caller)?;
        self.check_calls()?;
        self.drop_name(&name, Some(call));
        self.effects.push_back(Effect::Persist);
        Ok(None)
    }

    pub(super) fn bind_program(&mut self, now: Instant, caller: &Caller, request: v1::BindProgramRequest) -> Answer {
        let name = parse_name(&request.name)?;
        let program = request.program.unwrap_or_default();
        let user = match program.user.as_str() {
            "" => None,
            user => Some(Account::user(user).map_err(|e| fail(FailureKind::Invalid, e))?),
        };
        let user = self.runs_as(now, caller, user)?;
        check_program_path(&program.path).map_err(|e| fail(FailureKind::Invalid, e))?;
        let size: usize = program.args.iter().map(String::len).sum();
        if program.args.len() > 1_024 || size > 65_536 || program.args.iter().any(|arg| arg.contains('\0')) {
            let text = "a program takes at most 1,024 arguments of 64 KiB together, without NUL; shorten them";
            return Err(fail(FailureKind::Invalid, text));
        }
        if self.rank(caller) == Rank::User {
            self.check_programs(caller.uid)?;
            if self.names.get(name.as_str()).is_some() {
                self.check_owner(now, caller, &name)?;
            }
        }
        let uid = user.id.unwrap_or(self.settings.uid);
        if uid == caller.uid {
            // Else it would be started only to be refused.
            self.check_serve(now, caller, &name)?;
        }
        self.make_name(now, &name, caller, uid)?;
        let Some(entry) = self.names.get_mut(name.as_str()) else { return Ok(Some(Reply::Done)) };
        if entry.programs.iter().any(|p| p.path == program.path) {
            let text = format!("{} is bound to {name} already; unbind it first to change it", program.path);
            return Err(fail(FailureKind::AlreadyExists, text));
        }
        if entry.programs.len() >= PROGRAMS {
            let text = format!("{name} has {PROGRAMS} programs, as many as it may; unbind some");
            return Err(fail(FailureKind::Exhausted, text));
        }
        let before = entry.starts();
        entry.programs.push(Program::new(program.path, program.args, program.auto_start).run_as(user));
        // A bound name stays, even if a process had made it.
        entry.origin = Origin::Runtime;
        let changed = before != entry.starts();
        self.names.note_serving();
        self.effects.push_back(Effect::Persist);
        if changed {
            self.register_again(&name);
        }
        self.demand(now, &name);
        Ok(Some(Reply::Done))
    }

    pub(super) fn unbind_program(
        &mut self,
        now: Instant,
        caller: &Caller,
        request: &v1::UnbindProgramRequest,
    ) -> Answer {
        let name = parse_name(&request.name)?;
        self.check_owner(now, caller, &name)?;
        self.check_change(now, caller)?;
        let Some(entry) = self.names.get_mut(name.as_str()) else { return Err(no_name(&name)) };
        let (before, started) = (entry.programs.len(), entry.starts());
        entry.programs.retain(|p| p.path != request.path);
        if entry.programs.len() == before {
            let text = format!("{} is not bound to {name}; see irm name list", request.path);
            return Err(fail(FailureKind::NotFound, text));
        }
        entry.origin = changed(entry.origin);
        let changed = started != entry.starts();
        self.names.note_serving();
        self.effects.push_back(Effect::Persist);
        if changed {
            self.register_again(&name);
        }
        Ok(Some(Reply::Done))
    }

    pub(super) fn bind_process(&mut self, now: Instant, request: &v1::BindProcessRequest) -> Answer {
        let name = parse_name(&request.name)?;
        let Some(entry) = self.names.get_mut(name.as_str()) else { return Err(no_name(&name)) };
        let Some(process) = self.processes.get_mut(request.pid) else {
            let text =
                format!("process {} has no lease with this irmd; only programs that use libflow do", request.pid);
            return Err(fail(FailureKind::NotFound, text));
        };
        if !entry.bind(request.pid) {
            let text = format!("process {} is bound to {name} already; see irm name list", request.pid);
            return Err(fail(FailureKind::AlreadyExists, text));
        }
        process.serves.insert(name.clone());
        self.names.note_serving();
        self.demand(now, &name);
        Ok(Some(Reply::Done))
    }

    pub(super) fn unbind_process(&mut self, request: &v1::UnbindProcessRequest) -> Answer {
        let name = parse_name(&request.name)?;
        let Some(entry) = self.names.get(name.as_str()) else { return Err(no_name(&name)) };
        if !entry.serves(request.pid) {
            let text = format!("process {} is not bound to {name}; see irm name list", request.pid);
            return Err(fail(FailureKind::NotFound, text));
        }
        self.unbind(&name, request.pid);
        Ok(Some(Reply::Done))
    }

    /// A row for the static directory of an IPCP.
    pub(super) fn host_add(&mut self, call: CallId, request: v1::HostAddRequest) -> Answer {
        let host = request.host.unwrap_or_default();
        crate::config::check_host(&host.name, &host.address).map_err(|e| fail(FailureKind::Invalid, e))?;
        self.host_change(call, &request.ipcp, super::IpcpCall::AddHost(call, host))
    }

    pub(super) fn host_remove(&mut self, call: CallId, request: &v1::HostRemoveRequest) -> Answer {
        self.host_change(call, &request.ipcp, super::IpcpCall::RemoveHost(call, request.name.clone()))
    }
}
