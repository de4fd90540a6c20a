//! What gRPC handlers ask of the task that owns the machine.

use proto::rendezvous::Seen;
use proto::v1::{self, Failure};
use proto::{FlowId, Name};
use std::net::SocketAddr;
use std::time::Instant;
use tokio::sync::{oneshot, watch};

use crate::config::Bootstrap;
use crate::machine::{Ask, Key};

/// Where an answer goes. A caller that went away is no error.
pub(super) type Reply<T> = oneshot::Sender<Result<T, Failure>>;

/// How some names stand in DNS, and the last of them where more follow.
pub(super) type Registrations = (Vec<v1::Registration>, Option<Name>);

/// One call.
pub(super) enum Command {
    Bootstrap(Box<Bootstrap>, Reply<v1::BootstrapReply>),
    Register {
        name: Name,
        /// A program may be started for a flow to it.
        starts: bool,
        /// Answered once DNS has it, or not.
        wait: bool,
        reply: Reply<()>,
    },
    Unregister {
        name: Name,
        wait: bool,
        reply: Reply<()>,
    },
    Resolve(Name, Reply<v1::ResolveReply>),
    /// Behind which name; and where the next page begins.
    Registrations(Option<Name>, Reply<Registrations>),
    AddHost(Name, SocketAddr, Reply<()>),
    RemoveHost(Name, Reply<()>),
    Alloc(Box<Ask>, Reply<v1::AllocReply>),
    /// The caller of `Alloc` no longer waits.
    Cancel(FlowId),
    Dealloc(FlowId, Reply<()>),
    Page(Key, Reply<Page>),
    Counts(Key, Reply<Counts>),
    Flow(FlowId, Reply<v1::FlowInfo>),
    Report(Reply<v1::ReportReply>),
    /// Names of other hosts that begin so, and what tells when to ask again.
    Names(Name, Reply<Known>),
    Retire(Reply<()>),
    /// irmd took this IPCP, which asked it to at this moment.
    Attached(Instant),
    Shutdown(Reply<()>),
}

/// Some rows of the flow listing, and where the next page begins; nowhere after the last.
pub(super) struct Page {
    pub(super) rows: Vec<v1::FlowInfo>,
    pub(super) next: Option<Key>,
}

/// Some rows of counts, and where the next page begins.
pub(super) struct Counts {
    pub(super) page: v1::FlowCountsReply,
    pub(super) next: Option<Key>,
}

/// Names, and what changes when they may have.
pub(super) type Known = (v1::NamesReply, watch::Receiver<Moment>);

/// A state of what is known of other hosts' names: of the session, of the static table.
pub(super) type Moment = (Seen, u64);

impl Command {
    /// Answers with a failure, whatever the call was.
    pub(super) fn fail(self, failure: Failure) {
        match self {
            Self::Bootstrap(_, reply) => drop(reply.send(Err(failure))),
            Self::Register { reply, .. }
            | Self::Unregister { reply, .. }
            | Self::AddHost(_, _, reply)
            | Self::RemoveHost(_, reply)
            | Self::Dealloc(_, reply)
            | Self::Retire(reply)
            | Self::Shutdown(reply) => drop(reply.send(Err(failure))),
            Self::Alloc(_, reply) => drop(reply.send(Err(failure))),
            Self::Page(_, reply) => drop(reply.send(Err(failure))),
            Self::Counts(_, reply) => drop(reply.send(Err(failure))),
            Self::Flow(_, reply) => drop(reply.send(Err(failure))),
            Self::Resolve(_, reply) => drop(reply.send(Err(failure))),
            Self::Registrations(_, reply) => drop(reply.send(Err(failure))),
            Self::Names(_, reply) => drop(reply.send(Err(failure))),
            Self::Report(reply) => drop(reply.send(Err(failure))),
            Self::Cancel(_) | Self::Attached(_) => {}
        }
    }
}
