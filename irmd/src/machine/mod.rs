//! What irmd decides. Contains no socket, no clock, no random source and starts nothing: one owner calls
//! [`Irm::command`] and the other inputs with the time, and does what [`Irm::poll_effect`] says.
//!
//! One registry per noun: [`name`], [`process`], [`program`], [`ipcp`], [`flow`]. The verbs, which join them:
//! `alloc` (a program here asks), `arrive` (a peer asks), `accept` (a program takes), `serve` (names and who serves
//! them), `demand` (programs started when needed), `supervise` (IPCPs), `register` (names in layers), `leave`
//! (ends), `adopt` (flows that outlived an irmd), `judge` (identities), `admin`, `list`, `restore`. Who may do it is judged in
//! [`policy`], asked through `permit`; which host is trusted with a name in [`trust`].
//!
//! Every call gets exactly one reply unless it is cancelled before; every wait has a deadline; every table a bound.

mod accept;
mod admin;
mod adopt;
mod alloc;
mod arrive;
mod attach;
mod demand;
mod effect;
pub mod flow;
pub mod history;
pub mod ipcp;
mod judge;
mod leave;
mod list;
pub mod metrics;
pub mod name;
mod permit;
pub mod policy;
pub mod process;
pub mod program;
pub mod quota;
mod register;
mod resolve;
mod restore;
mod serve;
mod shutdown;
mod supervise;
#[cfg(test)]
mod tests;
pub mod ticket;
mod timers;
pub mod transitions;
pub mod trust;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use handoff::kept::Epoch;
use proto::v1::{self, Failure, FailureKind};
use proto::{FlowId, Name, protocol_version};

pub use adopt::{Adopted, RETURN_WITHIN};
pub use effect::{
    CallId, Caller, ChildId, Command, Effect, End, FlowRow, IpcpAnswer, IpcpCall, Level, Listed, Local, May, Past,
    Reply, RulesChange, Settings, Started,
};
use flow::Flows;
use ipcp::Ipcps;
pub use judge::Judging;
use name::Names;
use process::Processes;
pub use quota::Quotas;
use register::Registering;
use timers::{Timer, Timers};

/// Longest SDU of a local flow, bytes.
pub const LOCAL_SDU_LIMIT: u32 = 65_536;

/// Done with a reply, parked (`None`), or failed.
type Answer = Result<Option<Reply>, Failure>;

/// All that irmd knows and decides.
#[derive(Debug)]
pub struct Irm {
    settings: Settings,
    options: crate::config::Options,
    names: Names,
    /// Rules of patterns of names.
    patterns: policy::Patterns,
    refusals: permit::Refusals,
    trust: trust::Trust,
    changes: quota::Changes,
    processes: Processes,
    ipcps: Ipcps,
    flows: Flows,
    timers: Timers,
    epoch: Epoch,
    calls: HashMap<CallId, Parked>,
    programs: HashMap<ChildId, Name>,
    shutdown: Option<shutdown::Shutdown>,
    /// What was said last of an IPCP that could not attach.
    not_taken: Option<String>,
    accepting: usize,
    /// Pairs whose making was asked for and not yet told of.
    opening: usize,
    next_child: u64,
    since: Instant,
    /// What was refused, by quota or bound.
    refused: BTreeMap<&'static str, u64>,
    effects: VecDeque<Effect>,
    history: history::History,
    /// The last moment that was heard of.
    now: Instant,
}

/// What a call waits for.
#[derive(Debug)]
enum Parked {
    /// A flow of the name.
    Accept { name: Name, pid: u32 },
    /// The flow to be allocated or accepted.
    Flow(FlowId),
    /// Answers of IPCPs to a registration.
    Registering(Registering),
    /// An IPCP's start, bootstrap or end.
    Ipcp(String),
    /// irmd's end.
    Shutdown,
    /// Nothing: it is an IPCP's attachment, whose end is told by cancelling it.
    Attach(String),
}

fn fail(kind: FailureKind, message: impl Into<String>) -> Failure {
    Failure::new(kind, message)
}

fn check_version(version: u32) -> Result<(), Failure> {
    let ours = protocol_version();
    if version == ours {
        return Ok(());
    }
    let text = format!(
        "the caller speaks protocol version {version} and this irmd version {ours}; install the same release of both"
    );
    Err(fail(FailureKind::Invalid, text))
}

fn parse_name(text: &str) -> Result<Name, Failure> {
    Name::new(text).map_err(|e| fail(FailureKind::Invalid, format!("{text:?} is no name: {e}; choose another")))
}

impl Irm {
    /// Nothing known yet. `now` is when the daemon started.
    pub fn new(now: Instant, settings: Settings) -> Self {
        Self {
            flows: Flows::new(settings.first_flow),
            epoch: Epoch { at: now, ms: settings.host_ms },
            settings,
            options: crate::config::Options::default(),
            names: Names::default(),
            patterns: policy::Patterns::default(),
            refusals: permit::Refusals::default(),
            trust: trust::Trust::default(),
            changes: quota::Changes::default(),
            processes: Processes::default(),
            ipcps: Ipcps::default(),
            timers: Timers::default(),
            calls: HashMap::new(),
            programs: HashMap::new(),
            shutdown: None,
            not_taken: None,
            accepting: 0,
            opening: 0,
            next_child: 1,
            since: now,
            refused: BTreeMap::new(),
            effects: VecDeque::new(),
            history: history::History::new(crate::config::EVENTS as usize),
            now,
        }
    }

    /// The next thing to do, in order.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next().map(|(at, _)| at).into_iter().chain(self.shutdown_timeout()).min()
    }

    /// The id that the next flow will get: ids below are taken for ever.
    pub fn next_flow(&self) -> u64 {
        self.flows.next_id()
    }

    /// A caller asks something; `call` is what its reply will be under.
    pub fn command(&mut self, now: Instant, call: CallId, caller: Caller, command: Command) {
        self.clock(now);
        // Whoever is no IPCP can say of no peer that it asked.
        let ipcp = self.rank(&caller) == policy::Rank::Trusted;
        let asks = history::Subject::of(&caller, &command).filter(|asks| !asks.accepting || ipcp);
        let judges = if let Command::Judge(asked) = &command { Some(asked.flow) } else { None };
        match self.dispatch(now, call, &caller, command) {
            Ok(Some(reply)) => self.reply(call, reply),
            Ok(None) => {}
            Err(failure) => {
                self.note_turned_away(asks, &failure);
                if let Some(row) = judges.filter(|_| failure.kind() == FailureKind::Untrusted) {
                    self.note_untrusted(row, &failure);
                }
                self.reply(call, Reply::Failed(failure))
            }
        }
    }

    fn dispatch(&mut self, now: Instant, call: CallId, caller: &Caller, command: Command) -> Answer {
        self.check_taking(&command)?;
        self.check_rank(now, caller, &command)?;
        match command {
            Command::FlowAlloc(request, tokens) => self.flow_alloc(now, call, caller, request, tokens),
            Command::Serve(request) => self.serve(now, call, caller, &request),
            Command::Unserve(request) => self.unserve(caller, &request.name),
            Command::FlowAccept(request) => self.flow_accept(now, call, caller, &request),
            Command::FlowAnswer(request) => self.flow_answer(now, caller, request),
            Command::Certify(request) => self.certify(now, caller, &request),
            Command::Judge(asked) => self.judge(now, caller, &asked),
            Command::Names(request) => self.names_below(&request),
            other => self.dispatch_admin(now, call, caller, other),
        }
    }

    fn dispatch_admin(&mut self, now: Instant, call: CallId, caller: &Caller, command: Command) -> Answer {
        match command {
            Command::Attach(request) => self.attach(now, call, caller, *request),
            Command::FlowReqArr(request) => self.flow_req_arr(now, call, request),
            Command::Administers => Ok(Some(Reply::Done)),
            Command::FlowEnded(request) => self.flow_ended(&request),
            Command::FlowsAdopted(infos) => self.flows_adopted(now, infos),
            Command::Status => self.status(now),
            Command::Census => self.census(),
            Command::IpcpCreate(request) => self.ipcp_create(now, call, &request),
            Command::IpcpBootstrap(request) => self.ipcp_bootstrap(now, call, *request),
            Command::IpcpDestroy(request) => self.ipcp_destroy(now, call, &request.name),
            Command::IpcpList => Ok(Some(Reply::Ipcps(self.ipcp_infos()))),
            Command::HostAdd(request) => self.host_add(call, request),
            Command::HostRemove(request) => self.host_remove(call, &request),
            Command::NameCreate(request, rules) => self.name_create(now, caller, &request, &rules),
            Command::NameDestroy(request) => self.name_destroy(now, call, caller, &request.name),
            Command::NameList => Ok(Some(Reply::Names(self.name_infos(caller)))),
            Command::NameRules(name, change) => self.name_rules(&name, &change),
            Command::RuleList => self.rule_list(),
            Command::NameMay(asked) => self.name_may(now, caller, &asked),
            Command::NameRegister(request) => self.name_register(now, call, caller, &request),
            Command::NameUnregister(request) => self.name_unregister(now, call, caller, &request),
            Command::NameResolve(request) => self.name_resolve(&request),
            Command::BindProgram(request) => self.bind_program(now, caller, request),
            Command::BindProcess(request) => self.bind_process(now, &request),
            Command::UnbindProgram(request) => self.unbind_program(now, caller, &request),
            Command::UnbindProcess(request) => self.unbind_process(&request),
            Command::FlowList(listed) => self.flow_list(now, caller, &listed),
            Command::FlowEvents(after) => self.flow_events(caller, after),
            Command::FlowSeen => self.flow_seen(now, caller),
            Command::FlowShow(request) => self.flow_show(now, caller, FlowId(request.flow_id)),
            Command::FlowDealloc(request) => self.flow_dealloc(caller, FlowId(request.flow_id)),
            Command::IdentityTrust { name, who, wall } => self.identity_trust(now, caller, &name, who, wall),
            Command::IdentityForget(name, who) => self.identity_forget(caller, &name, who.as_ref()),
            Command::IdentityList => self.identity_list(caller),
            Command::IdentityAllow { name, who, remove } => self.identity_allow(&name, who, remove),
            Command::ConfigExport => Ok(Some(Reply::Config(self.export()))),
            Command::Shutdown(request) => self.shutdown(now, call, request),
            Command::FlowAlloc(..)
            | Command::Serve(_)
            | Command::Unserve(_)
            | Command::FlowAccept(_)
            | Command::FlowAnswer(_)
            | Command::Certify(_)
            | Command::Judge(_)
            | Command::Names(_) => Ok(None),
        }
    }

    /// Deadlines have passed. Early and repeated calls do nothing. Some may be left, for the next call.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.clock(now);
        if self.opening == 0 {
            self.go_on_shutting_down(now);
        }
        // A flow whose pair is being made is not to meet its own deadline, nor that of the accept it was given to.
        while self.opening == 0 {
            let Some(timer) = self.timers.pop(now) else { return };
            match timer {
                Timer::Accept(call) => self.accept_timed_out(call),
                Timer::Flow(row) => self.flow_timed_out(row),
                Timer::Ipcp(ipcp) => self.ipcp_timed_out(now, &ipcp),
                Timer::Reconcile(ipcp) => self.ask_for_flows(&ipcp),
                Timer::Name(name) => self.match_up(now, &name),
            }
        }
    }

    /// The caller of `call` is gone: it gets no reply any more. For an attachment: the IPCP is gone.
    pub fn cancelled(&mut self, now: Instant, call: CallId) {
        self.clock(now);
        match self.calls.remove(&call) {
            Some(Parked::Accept { name, pid }) => {
                if let Some(entry) = self.names.get_mut(name.as_str()) {
                    entry.withdraw(pid, call);
                }
                self.accept_is_over(pid, call);
            }
            Some(Parked::Flow(row)) => self.caller_gave_up(row),
            Some(Parked::Attach(ipcp)) => self.detached(now, &ipcp),
            Some(Parked::Ipcp(ipcp)) => self.waiter_gone(&ipcp, call),
            Some(Parked::Shutdown) => self.shutdown_waiter_gone(call),
            Some(Parked::Registering(_)) | None => {}
        }
    }

    /// An IPCP has answered what it was asked under the attachment `attach`.
    pub fn ipcp_answered(
        &mut self,
        now: Instant,
        ipcp: &str,
        attach: CallId,
        asked: IpcpCall,
        answer: Result<IpcpAnswer, Failure>,
    ) {
        self.clock(now);
        if let IpcpCall::Alloc(request) = asked {
            return self.asked(now, ipcp, attach, FlowId(request.flow_id), answer);
        }
        match asked {
            IpcpCall::AddHost(call, host) => self.host_added(ipcp, call, host, answer),
            IpcpCall::RemoveHost(call, name) => self.host_removed(ipcp, call, &name, answer),
            // The rest is about an IPCP's state: an answer of a life before is void.
            _ if self.ipcps.get(ipcp).and_then(|i| i.attach) != Some(attach) => {}
            IpcpCall::Bootstrap(_) => self.bootstrapped(now, ipcp, answer),
            IpcpCall::Register(name, starts) => self.registered(ipcp, &name, starts, false, answer),
            IpcpCall::Publish(name, starts) => self.registered(ipcp, &name, starts, true, answer),
            IpcpCall::Unregister(name) | IpcpCall::Retract(name) => self.unregistered(ipcp, &name, answer),
            IpcpCall::Flows => self.reconcile(now, ipcp, answer),
            IpcpCall::Alloc(_) | IpcpCall::Dealloc(_) | IpcpCall::Shutdown => {}
        }
    }

    /// Answers a call that has waited or that has just come.
    fn reply(&mut self, call: CallId, reply: Reply) {
        if !matches!(self.calls.get(&call), Some(Parked::Attach(_))) {
            self.calls.remove(&call);
        }
        self.effects.push_back(Effect::Reply(call, reply));
    }

    fn refuse(&mut self, call: CallId, failure: Failure) {
        self.reply(call, Reply::Failed(failure));
    }

    fn flow_log(&mut self, flow: FlowId, text: String) {
        self.effects.push_back(Effect::FlowLog(flow, text));
    }

    fn info(&mut self, text: String) {
        self.effects.push_back(Effect::Log(Level::Info, text));
    }

    fn warn(&mut self, text: String) {
        self.effects.push_back(Effect::Log(Level::Warn, text));
    }

    fn ask(&mut self, ipcp: &str, attach: CallId, what: IpcpCall) {
        self.effects.push_back(Effect::Call { ipcp: ipcp.to_owned(), attach, what });
    }

    fn next_child(&mut self) -> ChildId {
        let child = ChildId(self.next_child);
        self.next_child += 1;
        child
    }

    /// How long to wait for something that the caller wants within `asked_ms`; 0 leaves it to us.
    fn wait(&self, asked_ms: u32) -> Duration {
        match asked_ms {
            0 => self.settings.timeout,
            ms => Duration::from_millis(ms.into()).min(self.settings.longest),
        }
    }
}

fn known_qos(qos: Option<v1::QosSpec>) -> Result<v1::QosSpec, Failure> {
    Ok(proto::Qos::try_from(qos.unwrap_or_default())?.into())
}
