//! The machine's owner: one task that feeds it and does what it says.
#![expect(clippy::disallowed_methods, reason = "io reads the clock and owns the machine's timer")]

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use handoff::server::{AdoptionId, Event, Process, Server};
use handoff::service::Service;
use proto::v1::{self, Failure};
use proto::{FlowId, Name};
use tokio::process::Child;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::calls::{Ask, Gone};
use super::events::Events;
use super::ipcp::{self, Links};
use super::local::{self, Pairs};
use super::place;
use super::spawn::{self, Children};
use super::state::State;
use super::users;
use crate::machine::{
    Adopted, CallId, Caller, ChildId, Effect, IpcpAnswer, IpcpCall, Irm, LOCAL_SDU_LIMIT, Level, Reply,
};

/// Events of the hand-over that are taken before a command, so that a process' lease is known before its words.
const EVENTS_FIRST: usize = 1_024;
/// How long IPCPs may take to end when irmd does.
const IPCPS_END: Duration = Duration::from_secs(2);
/// How long answers may take to leave at the end.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// What comes in.
pub(super) struct Inputs {
    pub(super) asks: mpsc::Receiver<Ask>,
    pub(super) gone: Arc<Gone>,
    pub(super) events: mpsc::Receiver<Event>,
}

/// The machine and all that it acts upon.
pub(super) struct Core {
    pub(super) irm: Irm,
    pub(super) handoff: Server,
    pub(super) links: Links,
    pub(super) children: Children,
    pub(super) state: State,
    pub(super) calls: HashMap<CallId, oneshot::Sender<Reply>>,
    pub(super) pairs: Pairs,
    pub(super) events: Events,
    pub(super) jobs: JoinSet<Done>,
    /// At SIGTERM the IPCPs go on: a service manager restarts irmd.
    pub(super) leave_ipcps: bool,
    pub(super) service: Service,
    /// A tool asked for the end of all.
    pub(super) shut_down: bool,
}

/// What a job ends with.
pub(super) enum Done {
    Answered(Box<Answered>),
    Exited { child: ChildId, how: String },
    Known { start: Start, user: Result<Option<users::Login>, String> },
}

/// A program to be started.
pub(super) struct Start {
    child: ChildId,
    name: Name,
    path: String,
    args: Vec<String>,
}

/// An IPCP's answer, with what it was asked.
pub(super) struct Answered {
    ipcp: String,
    attach: CallId,
    what: IpcpCall,
    answer: Result<IpcpAnswer, Failure>,
}

enum Input {
    Ask(Option<Ask>),
    Event(Option<Event>),
    Done(Done),
    Gone,
    Timeout,
}

impl Core {
    /// Runs until `stop` is done; then stops the IPCPs that irmd started.
    pub(super) async fn run(mut self, mut inputs: Inputs, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        self.after_input();
        loop {
            let timeout = self.irm.poll_timeout();
            let input = tokio::select! {
                () = &mut stop => break,
                () = self.service.watchdog() => {
                    self.service.alive(&self.irm.summary());
                    continue;
                }
                ask = inputs.asks.recv() => Input::Ask(ask),
                event = inputs.events.recv() => Input::Event(event),
                Some(done) = self.jobs.join_next() => match done {
                    Ok(done) => Input::Done(done),
                    Err(error) => {
                        tracing::warn!("a job of irmd failed: {error}; please report it");
                        continue;
                    }
                },
                () = inputs.gone.wait() => Input::Gone,
                () = sleep_until(timeout) => Input::Timeout,
            };
            // Whoever went away gets nothing any more, before anything is given away.
            let now = Instant::now();
            logs::note_late(timeout, now);
            for call in inputs.gone.take() {
                self.calls.remove(&call);
                self.irm.cancelled(now, call);
            }
            self.handle(now, input, &mut inputs.events);
            self.after_input();
            if self.shut_down {
                break;
            }
        }
        self.stop(&mut inputs.events).await;
    }

    fn handle(&mut self, now: Instant, input: Input, events: &mut mpsc::Receiver<Event>) {
        self.irm.clock(now);
        match input {
            // The asker of a closed reply is gone already; its cancellation has been.
            Input::Ask(Some(ask)) if !ask.reply.is_closed() => {
                for _ in 0..EVENTS_FIRST {
                    let Ok(event) = events.try_recv() else { break };
                    self.event(event);
                }
                self.calls.insert(ask.call, ask.reply);
                self.irm.command(now, ask.call, ask.caller, ask.command);
            }
            Input::Event(Some(event)) => self.event(event),
            Input::Done(Done::Answered(answered)) => {
                let Answered { ipcp, attach, what, answer } = *answered;
                self.irm.ipcp_answered(now, &ipcp, attach, what, answer);
            }
            Input::Done(Done::Exited { child, how }) => {
                self.children.reaped(child);
                self.irm.child_exited(now, child, &how);
            }
            Input::Done(Done::Known { start, user }) => self.started(start, user),
            Input::Timeout => self.irm.handle_timeout(now),
            Input::Ask(_) | Input::Event(None) | Input::Gone => {}
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::LeaseOpened(process) => self.irm.lease_opened(v1::Process {
                pid: process.pid,
                uid: process.uid,
                gid: process.gid,
                command: place::command(process.pid),
            }),
            Event::LeaseClosed { process, flows, figures, last_of_process } => {
                self.irm.lease_closed(process.pid, process.uid, &flows, last_of_process);
                for (flow, figures) in flows.into_iter().zip(figures) {
                    self.irm.carried(flow, figures.counters);
                }
            }
            Event::Taken { flow, .. } => self.irm.taken(flow),
            Event::NotTaken { flow } => self.irm.not_taken(flow),
            Event::Released { flow, counters } => {
                self.irm.released(flow);
                self.irm.carried(flow, counters);
            }
            // Flows within this host never move.
            Event::Heard { .. } => {}
            Event::Suspect { flow } => self.irm.suspected(flow),
            Event::Adopt { adoption, process, ticket, socket, .. } => self.adopt(adoption, process, ticket, socket),
        }
    }

    /// A program brings its end of a local flow back, after a restart of irmd.
    fn adopt(&mut self, adoption: AdoptionId, process: Process, ticket: Vec<u8>, socket: OwnedFd) {
        let (cookie, over) = local::look_at(&socket);
        // Whom a ticket was given to is a user; groups do not count.
        let caller = Caller { pid: process.pid, uid: process.uid, gid: process.gid, groups: Default::default() };
        match self.irm.adopt(Instant::now(), caller, &ticket, cookie, over) {
            Ok(Adopted { end, row }) => {
                let socket = Arc::new(socket);
                self.handoff.adopted(adoption, end, socket.clone(), LOCAL_SDU_LIMIT, ticket);
                match row {
                    Some(row) => self.pairs.bring_back(row, end, socket),
                    // The other program ended while no irmd ran.
                    None => self.handoff.gone(end, v1::EndReason::PeerUnknown),
                }
            }
            Err(failure) => {
                tracing::warn!(pid = process.pid, uid = process.uid, "a flow was not taken back: {failure}");
                self.handoff.denied(adoption, failure);
            }
        }
    }

    fn after_input(&mut self) {
        let (mut changed, mut known_changed) = (false, false);
        while let Some(effect) = self.irm.poll_effect() {
            match effect {
                Effect::Persist => changed = true,
                Effect::PersistKnown => known_changed = true,
                effect => self.effect(effect),
            }
        }
        if changed {
            self.state.save(&self.irm.made_at_run_time());
        }
        if known_changed {
            self.state.save_known(self.irm.known_hosts());
        }
        self.state.reserve(self.irm.next_flow());
        self.tell_followers();
        self.events.serve(self.irm.serving());
    }

    fn tell_followers(&mut self) {
        let history = self.irm.history_mut();
        history.take_news().into_iter().for_each(|record| self.events.tell(record));
        history.follow(self.events.is_followed());
    }

    fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::Reply(call, reply) => self.reply(call, reply),
            Effect::OpenLocal { row, ends } => {
                let made = self.pairs.open(row, *ends, &self.handoff);
                self.irm.local_opened(row, made);
            }
            Effect::CloseLocal { row, over } => self.pairs.close(row, over),
            Effect::Withdraw(token, failure) => self.handoff.withdraw(token, failure),
            Effect::Gone(flow, reason) => {
                self.carried(flow);
                self.handoff.gone(flow, reason);
            }
            Effect::Forget(flow) => {
                self.carried(flow);
                self.handoff.forget(flow);
            }
            Effect::Connect { ipcp, socket, pid } => {
                self.children.attached(&ipcp, pid);
                self.links.connect(&ipcp, &socket);
            }
            Effect::Disconnect(ipcp) => {
                self.children.detached(&ipcp);
                self.links.disconnect(&ipcp);
            }
            Effect::Call { ipcp, attach, what } => {
                let client = self.links.get(&ipcp);
                self.jobs.spawn(async move {
                    let answer = ipcp::ask(client, &ipcp, &what).await;
                    Done::Answered(Box::new(Answered { ipcp, attach, what, answer }))
                });
            }
            Effect::StartIpcp { ipcp, child } => {
                let (started, process) = self.children.start_ipcp(&ipcp, child);
                self.watch(child, process);
                self.irm.ipcp_started(Instant::now(), &ipcp, child, started);
            }
            Effect::StartProgram { child, name, path, args, user } => {
                self.start_program(Start { child, name, path, args }, user)
            }
            Effect::Kill { child, hard } => self.children.kill(child, hard),
            Effect::KillAttached { ipcp } => self.children.kill_attached(&ipcp),
            Effect::Stop => self.shut_down = true,
            Effect::FlowLog(flow, text) => tracing::debug!(flow = flow.0, "{text}"),
            Effect::Log(Level::Info, text) => tracing::info!("{text}"),
            Effect::Log(Level::Warn, text) => tracing::warn!("{text}"),
            Effect::Persist | Effect::PersistKnown => {}
        }
    }

    fn reply(&mut self, call: CallId, reply: Reply) {
        if let Some(waiting) = self.calls.remove(&call) {
            // The caller may just have gone: what it was given runs out by itself.
            let _ = waiting.send(reply);
        }
    }

    /// An end of a local flow is over: what it carried goes with its slot.
    fn carried(&mut self, end: FlowId) {
        if let Some(counters) = self.handoff.counters(end) {
            self.irm.carried(end, counters);
        }
    }

    /// Starts a program, at once as irmd's own user, else when the user is looked up: that may take its time.
    fn start_program(&mut self, start: Start, user: u32) {
        let own = rustix::process::geteuid().as_raw();
        if user == own {
            return self.started(start, Ok(None));
        }
        if own != 0 {
            let why = format!("irmd runs as user {own} and can start nothing as user {user}; run it as root");
            return self.started(start, Err(why));
        }
        self.jobs.spawn_blocking(move || Done::Known { start, user: users::Login::of(user).map(Some) });
    }

    fn started(&mut self, start: Start, user: Result<Option<users::Login>, String>) {
        let Start { child, name, path, args } = start;
        let spawned = user.and_then(|user| self.children.start_program(child, name.as_str(), &path, &args, user));
        let (started, process) = match spawned {
            Ok((pid, process)) => (Ok(pid), Some(process)),
            Err(why) => (Err(why), None),
        };
        self.watch(child, process);
        self.irm.program_started(Instant::now(), child, started);
    }

    /// Reaps a child when it ends.
    fn watch(&mut self, child: ChildId, process: Option<Child>) {
        let Some(mut process) = process else { return };
        self.jobs.spawn(async move { Done::Exited { child, how: spawn::how(process.wait().await) } });
    }

    /// Programs that an earlier irmd started are known again, and their end is seen.
    pub(super) fn find_programs(&mut self, now: Instant) {
        for program in self.children.programs_of_before() {
            let Some(child) = self.irm.found_program(now, &program.name, &program.path) else { continue };
            tracing::info!(
                "{}, started for {} by an earlier irmd (pid {}), still runs",
                program.path,
                program.name,
                program.pid
            );
            let Some(ended) = self.children.found(child, program) else { continue };
            self.jobs.spawn(async move {
                ended.await;
                Done::Exited { child, how: "ended".to_owned() }
            });
        }
    }

    /// The reverse of the start: IPCPs first, then what is waited for, then the files.
    async fn stop(mut self, events: &mut mpsc::Receiver<Event>) {
        tracing::info!("irmd is stopping; flows go on");
        self.service.stopping();
        events.close();
        // Whoever waits is told at once.
        self.calls.clear();
        if self.shut_down || !self.leave_ipcps {
            self.stop_ipcps().await;
        }
        if self.shut_down {
            // Who asked for it is told before the sockets go.
            tokio::time::sleep(LAST_WORDS).await;
        }
        self.state.release(self.irm.next_flow());
    }

    async fn stop_ipcps(&mut self) {
        let which = self.irm.ipcps_to_stop(self.shut_down);
        if self.shut_down {
            // Not at a restart: names stay served over an upgrade.
            let mut leaving = JoinSet::new();
            for (ipcp, link) in self.links.all() {
                leaving.spawn(async move { super::ipcp::retire(link, &ipcp).await });
            }
            leaving.join_all().await;
        }
        self.children.stop_ipcps(&which, false);
        let deadline = Instant::now() + IPCPS_END;
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        while self.children.ipcps_live(&which) {
            if Instant::now() > deadline {
                tracing::warn!("an IPCP did not end within {} s and is killed", IPCPS_END.as_secs());
                self.children.stop_ipcps(&which, true);
                break;
            }
            tick.tick().await;
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
