//! Groups of programs that have flows with each other: what games and chats need.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use proto::{Name, Qos, protocol_version};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::error::{CallError, JoinError, ListenError};
use crate::flow::Flow;
use crate::io::aside;
use crate::io::gathering::{self, Plan};
use crate::io::keeper::{Command, Keeper};
use crate::peer::EndReason;
use crate::stack::Stack;

/// Members of a group, unless it says otherwise.
pub const MOST_MEMBERS: usize = 20;

/// A wish to be a member of a group; `.await` it.
#[must_use = "nobody joins until it is awaited"]
pub struct Join {
    stack: Stack,
    keeper: Arc<Keeper>,
    group: String,
    member: String,
    qos: Qos,
    layer: String,
    most: usize,
}

impl Join {
    pub(crate) fn new(stack: Stack, keeper: Arc<Keeper>, group: &str, member: &str) -> Self {
        let (group, member, layer) = (group.to_owned(), member.to_owned(), String::new());
        Self { stack, keeper, group, member, qos: Qos::message(), layer, most: MOST_MEMBERS }
    }

    /// What the flows are to be like; messages by default. All members say the same.
    pub fn qos(mut self, qos: Qos) -> Self {
        self.qos = qos;
        self
    }

    /// Only in this layer; by default in every one there is, this host itself before all.
    pub fn layer(mut self, layer: &str) -> Self {
        layer.clone_into(&mut self.layer);
        self
    }

    /// Members at most, this one with them: [`MOST_MEMBERS`] by default. All members say the same.
    pub fn most(mut self, most: usize) -> Self {
        self.most = most;
        self
    }

    async fn run(self) -> Result<Group, JoinError> {
        let Self { stack, keeper, group, member, qos, layer, most } = self;
        let prefix = format!("{group}.");
        let name = format!("{prefix}{member}");
        check(&group, &member, &name)?;
        let request =
            proto::v1::NamesRequest { version: protocol_version(), prefix: prefix.clone(), layer: layer.clone() };
        let mut names = keeper.call(|reply| Command::Names { request, reply }).await.map_err(of_call)?;
        let runtime = aside::runtime().map_err(ListenError::from_io)?;
        if !gathering::is_free(&runtime, &mut names, &name).await {
            return Err(JoinError::Taken { group, member });
        }
        let mut others = gathering::members(&names.borrow(), &prefix);
        others.remove(&member);
        if others.len() >= most {
            return Err(JoinError::Full { group, most });
        }
        let mut listen = stack.listen(&name);
        if !layer.is_empty() {
            listen = listen.layers([layer.as_str()]);
        }
        let listener = listen.await?;
        let (tell, events) = mpsc::channel(gathering::EVENTS);
        let plan = Plan { stack, prefix, member: member.clone(), qos, layer, most };
        let work = aside::begin(&runtime, gathering::gather(plan, listener, names, tell));
        Ok(Group { name: group, member, events, work })
    }
}

fn check(group: &str, member: &str, name: &str) -> Result<(), JoinError> {
    let invalid = |message: String| Err(JoinError::Listen(ListenError::Invalid { message }));
    if member.is_empty() || member.contains('.') {
        return invalid(format!("{member:?} is no member's name; give one without dots, such as alice"));
    }
    if group.is_empty() || group.ends_with('.') {
        return invalid(format!("{group:?} is no group's name; give one such as darkreign.chat"));
    }
    match Name::new(name) {
        Ok(_) => Ok(()),
        Err(error) => invalid(format!("{name:?}, which the member would serve, is no name: {error}")),
    }
}

fn of_call(error: CallError) -> JoinError {
    JoinError::Listen(error.into())
}

impl IntoFuture for Join {
    type Output = Result<Group, JoinError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// What happens in a group.
#[derive(Debug)]
pub enum GroupEvent {
    /// There is a flow to the member from now on. The group holds the flow, too.
    Joined {
        /// Its name within the group. On message and stream flows between hosts its host has vouched for it; on raw ones it
        /// is what the other side says.
        member: String,
        /// The flow with it; which of the two asked for it is of no meaning.
        flow: Arc<Flow>,
    },
    /// The flow is over. The member may come back, with another.
    Left {
        /// Who.
        member: String,
        /// How the flow ended.
        why: EndReason,
    },
    /// A member is known, and no flow to it comes about; it is tried again, and this is told once for each reason.
    Unreached {
        /// Who.
        member: String,
        /// What happened, to what, what to do next.
        why: String,
    },
}

/// A program's place in a group: as long as it lives, this program serves its member's name, and has one flow with each other
/// member.
///
/// Of two members the one with the lower name asks for the flow. A pair whose flow breaks is tried again as long as both are
/// known to be members. Flows that were told of outlive the group as long as the program holds them.
///
/// Members are known by the names that begin as the group's does: those served on this host, those of the members of a layer's
/// session with a rendezvous, those of static tables. Names that only DNS knows are not found: DNS lists none.
///
/// ```no_run
#[doc = include_str!("../examples/group.rs")]
/// ```
pub struct Group {
    name: String,
    member: String,
    events: mpsc::Receiver<GroupEvent>,
    work: AbortHandle,
}

impl Group {
    /// What happens next; `None`: this program may not serve its name any more, and the group is over. Loses nothing when dropped.
    /// Who does not ask holds the group up: no flow is taken until it does.
    pub async fn next(&mut self) -> Option<GroupEvent> {
        self.events.recv().await
    }

    /// The group's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// This member's name within it.
    pub fn member(&self) -> &str {
        &self.member
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.work.abort();
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("name", &self.name).field("member", &self.member).finish_non_exhaustive()
    }
}
