//! The task of a group: does what `machine/group.rs` decides.
#![expect(clippy::disallowed_methods, reason = "io reads the clock and owns the group's tasks")]

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::Qos;
use proto::v1::NamesReply;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::error::{AcceptError, AllocError};
use crate::flow::Flow;
use crate::group::GroupEvent;
use crate::listener::{Incoming, Listener};
use crate::machine::group::{Gathering, Link, Todo};
use crate::peer::EndReason;
use crate::stack::Stack;

/// Events that wait for the program.
pub(crate) const EVENTS: usize = 16;
/// A call may take so long: two rounds of hellos, a relay, a handshake.
const CALL_WITHIN: Duration = Duration::from_secs(15);

/// Whoever has a member's name may be leaving: that gets so long.
const LEAVING: Duration = Duration::from_secs(2);

/// Who gathers, and how.
pub(crate) struct Plan {
    pub(crate) stack: Stack,
    /// Of all members' names: "chat.".
    pub(crate) prefix: String,
    pub(crate) member: String,
    pub(crate) qos: Qos,
    pub(crate) layer: String,
    pub(crate) most: usize,
}

/// The members among names. What has further dots is not of this group.
pub(crate) fn members(names: &NamesReply, prefix: &str) -> BTreeSet<String> {
    let of = names.names.iter().filter_map(|known| known.name.strip_prefix(prefix));
    of.filter(|member| !member.is_empty() && !member.contains('.')).map(str::to_owned).collect()
}

/// Whether nobody has the name; who has it may be leaving, and gets a moment for that. A program that irmd is to start for the name is
/// nobody: the one that asks may be it.
pub(crate) async fn is_free(runtime: &Handle, names: &mut watch::Receiver<NamesReply>, name: &str) -> bool {
    let taken = |names: &NamesReply| names.names.iter().any(|known| known.name == name && !(known.here && known.idle));
    let over = {
        // Whoever joins may be in no runtime.
        let _timers = runtime.enter();
        tokio::time::sleep(LEAVING)
    };
    tokio::select! {
        free = async { names.wait_for(|names| !taken(names)).await.is_ok() } => free,
        () = over => false,
    }
}

enum Done {
    Called(String, Link, Result<Flow, AllocError>),
    Came(String, Result<Flow, AcceptError>),
    Ended(String, Link, EndReason),
}

struct Work {
    plan: Plan,
    machine: Gathering,
    flows: HashMap<Link, Arc<Flow>>,
    ends: HashMap<Link, EndReason>,
    jobs: JoinSet<Done>,
    tell: mpsc::Sender<GroupEvent>,
}

/// Runs until nobody listens, or the name is served no more.
pub(crate) async fn gather(
    plan: Plan,
    listener: Listener,
    mut names: watch::Receiver<NamesReply>,
    tell: mpsc::Sender<GroupEvent>,
) {
    let (arrived, mut arrivals) = mpsc::channel(1);
    let mut listening = JoinSet::new();
    // In a task of its own: a wait that is given up may have a flow already, and would refuse it.
    listening.spawn(listen(listener, arrived));
    let machine = Gathering::new(&plan.member, plan.most);
    let mut work = Work { plan, machine, flows: HashMap::new(), ends: HashMap::new(), jobs: JoinSet::new(), tell };
    names.mark_changed();
    loop {
        if work.carry_out().await.is_err() {
            return;
        }
        let deadline = work.machine.poll_timeout();
        tokio::select! {
            () = work.tell.closed() => return,
            Ok(()) = names.changed() => {
                let listed = members(&names.borrow_and_update(), &work.plan.prefix);
                work.machine.listed(Instant::now(), &listed);
            }
            incoming = arrivals.recv() => match incoming {
                Some(incoming) => work.arrived(incoming),
                None => return,
            },
            Some(done) = work.jobs.join_next() => {
                if let Ok(done) = done {
                    work.done(done);
                }
            }
            () = until(deadline) => work.machine.handle_timeout(Instant::now()),
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

async fn listen(listener: Listener, to: mpsc::Sender<Incoming>) {
    loop {
        match listener.incoming().await {
            Ok(incoming) => {
                if to.send(incoming).await.is_err() {
                    return;
                }
            }
            // One flow only.
            Err(AcceptError::Gone { .. } | AcceptError::Exhausted { .. }) => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(_) => return,
        }
    }
}

impl Work {
    /// Somebody calls: let in, if it is a member's name that it says.
    fn arrived(&mut self, incoming: Incoming) {
        let member = incoming.source().strip_prefix(&self.plan.prefix).filter(|member| !member.contains('.'));
        let said = match member.map(str::to_owned) {
            Some(member) if incoming.qos().cube == self.plan.qos.cube => {
                self.machine.calling(Instant::now(), &member).map(|()| member)
            }
            Some(_) => Err(format!("the group's flows are {} flows; ask for one", self.plan.qos.cube.as_str())),
            None => Err(format!("{:?} is no member; join the group", incoming.source())),
        };
        let vouched = format!("{}{}", self.plan.prefix, said.as_deref().unwrap_or_default());
        self.jobs.spawn(async move {
            match said {
                Ok(member) => Done::Came(member, admit(incoming, &vouched).await),
                Err(why) => {
                    let _ = incoming.refuse(&why).await;
                    Done::Came(String::new(), Err(AcceptError::Gone { message: why }))
                }
            }
        });
    }

    fn done(&mut self, done: Done) {
        let now = Instant::now();
        match done {
            Done::Called(member, link, result) => {
                let result = result.map(|flow| {
                    let vouched = flow.peer().identity.is_some();
                    self.hold(&member, link, flow);
                    vouched
                });
                let result = result.map_err(|error| error.to_string());
                self.machine.called(now, &member, link, result);
            }
            Done::Came(member, Ok(flow)) => {
                let (link, vouched) = (self.machine.link(), flow.peer().identity.is_some());
                self.hold(&member, link, flow);
                self.machine.came(now, &member, link, vouched);
            }
            Done::Came(member, Err(_)) => self.machine.came_not(&member),
            Done::Ended(member, link, why) => {
                self.ends.insert(link, why);
                self.machine.ended(now, &member, link);
                self.forget(link);
            }
        }
    }

    /// A flow that is here, until it ends.
    fn hold(&mut self, member: &str, link: Link, flow: Flow) {
        let flow = Arc::new(flow);
        let (member, watched) = (member.to_owned(), flow.clone());
        self.flows.insert(link, flow);
        self.jobs.spawn(async move {
            let why = watched.ended().await;
            Done::Ended(member, link, why)
        });
    }

    /// Nothing is left to be told of it, unless that is queued already.
    fn forget(&mut self, link: Link) {
        self.flows.remove(&link);
    }

    async fn carry_out(&mut self) -> Result<(), ()> {
        while let Some(todo) = self.machine.poll() {
            let event = match todo {
                Todo::Call(member, link) => {
                    self.call(member, link);
                    continue;
                }
                Todo::End(link) => {
                    if let Some(flow) = self.flows.remove(&link) {
                        flow.end();
                    }
                    continue;
                }
                Todo::Joined(member, link) => match self.flows.get(&link) {
                    Some(flow) => GroupEvent::Joined { member, flow: flow.clone() },
                    None => continue,
                },
                Todo::Left(member, link) => {
                    let why = self.ends.remove(&link).unwrap_or(EndReason::PeerUnknown);
                    GroupEvent::Left { member, why }
                }
                Todo::Unreached(member, why) => GroupEvent::Unreached { member, why },
            };
            self.tell.send(event).await.map_err(drop)?;
        }
        self.ends.clear();
        Ok(())
    }

    fn call(&mut self, member: String, link: Link) {
        let Plan { stack, prefix, qos, layer, .. } = &self.plan;
        let name = format!("{prefix}{member}");
        let asking = stack.alloc(&name).qos(*qos).layer(layer).source(&format!("{prefix}{}", self.plan.member));
        let asking = asking.timeout(CALL_WITHIN).into_future();
        self.jobs.spawn(async move { Done::Called(member, link, asking.await) });
    }
}

/// Accepts, and looks whether the host of who calls vouches for the name; of raw flows and those within a host nobody does.
async fn admit(incoming: Incoming, name: &str) -> Result<Flow, AcceptError> {
    let flow = incoming.accept().await?;
    match &flow.peer().identity {
        Some(identity) if identity.name != name => {
            let message = format!("{name} called, and its host vouches for {:?}", identity.name);
            Err(AcceptError::Gone { message })
        }
        _ => Ok(flow),
    }
}
