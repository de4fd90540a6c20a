//! What tools ask, over gRPC.
#![expect(clippy::disallowed_methods, reason = "io reads the clock")]

use std::sync::Arc;
use std::time::SystemTime;

use handoff::server::Server;
use proto::v1::irm_admin_server::IrmAdmin;
use proto::v1::{self, Failure, FailureKind};
use tokio::sync::Semaphore;
use tokio_stream::{Iter, StreamExt as _};
use tonic::{Request, Response, Status};

use ::identity::unix;

use super::api_irm::{caller, empty, nonsense};
use super::callers::Callers;
use super::calls::Asker;
use super::events::{self, Events, Wanted};
use super::identity::Identity as Host;
use super::ipcp::Links;
use super::listing;
use super::local::Sockets;
use super::users;
use crate::config::{Account, Identity, Rules};
use crate::machine::{Caller, Command, May, Reply, RulesChange};

/// The service.
pub(super) struct Tools {
    pub(super) asker: Asker,
    pub(super) events: Events,
    pub(super) sockets: Sockets,
    pub(super) links: Links,
    pub(super) handoff: Server,
    pub(super) callers: Callers,
    pub(super) identity: Host,
    pub(super) run_dir: String,
    /// Whose turn it is with what costs more than a look.
    pub(super) turn: Arc<Semaphore>,
}

/// Work with files, off the threads that serve.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    let failed = || Failure::new(FailureKind::Internal, "work with a file came to no end; please report it");
    users::aside(move || Some(work())).await.unwrap_or_else(|| Err(failed()))
}

/// An identity whose file of CAs was read. Only for administrators: it is any file of the host.
async fn read_cas(mut identity: Identity) -> Result<Identity, Failure> {
    if !matches!(identity, Identity::Ca(_)) {
        return Ok(identity);
    }
    let read = move || match identity.read(&super::identity::cas) {
        Ok(()) => Ok(identity),
        Err(why) => Err(Failure::new(FailureKind::Invalid, why)),
    };
    aside(read).await
}

fn identity_of(text: &str) -> Result<Identity, Failure> {
    Identity::try_from(text.to_owned()).map_err(|e| Failure::new(FailureKind::Invalid, e))
}

/// A listing's rows.
pub(super) type Rows<T> = Iter<std::vec::IntoIter<Result<T, Status>>>;

fn rows<T>(all: Vec<T>) -> Response<Rows<T>> {
    Response::new(tokio_stream::iter(all.into_iter().map(Ok).collect::<Vec<_>>()))
}

impl Tools {
    async fn ask<T>(&self, request: Request<T>, command: impl FnOnce(T) -> Command) -> Result<Reply, Status> {
        let caller = caller(&request)?;
        Ok(self.asker.ask(caller, command(request.into_inner())).await?)
    }

    /// Finds the users and groups that rules name. Only for administrators: it may take its time.
    async fn look_up(&self, caller: &Caller, said: v1::NameRules) -> Result<RulesChange, Failure> {
        let mut rules = Rules::default();
        rules.change(&said).map_err(|e| Failure::new(FailureKind::Invalid, e))?;
        let mut accounts: Vec<(Account, bool)> =
            rules.accounts().map(|(account, group)| (account.clone(), group)).collect();
        if said != v1::NameRules::default() {
            self.asker.ask(caller.clone(), Command::Administers).await?;
        }
        for (account, group) in accounts.iter_mut().filter(|(account, _)| account.id.is_none()) {
            let (text, is_group) = (account.as_str().to_owned(), *group);
            account.id = users::aside(move || users::id(&text, is_group)).await;
            if account.id.is_none() {
                return Err(users::missing(account.as_str(), *group));
            }
        }
        let mut cas: Vec<Identity> = rules.identities().map(|identity| identity.clone()).collect();
        for identity in &mut cas {
            *identity = read_cas(identity.clone()).await?;
        }
        Ok(RulesChange { said, accounts, cas })
    }

    /// An identity as a tool says it. Files of CAs only administrators have read.
    async fn identity_said(&self, caller: &Caller, text: &str) -> Result<Identity, Failure> {
        let identity = identity_of(text)?;
        if matches!(identity, Identity::Ca(_)) {
            self.asker.ask(caller.clone(), Command::Administers).await?;
        }
        read_cas(identity).await
    }

    /// A user whom an administrator names, with its groups.
    async fn user(&self, caller: &Caller, text: &str) -> Result<Caller, Failure> {
        let account = Account::user(text).map_err(|e| Failure::new(FailureKind::Invalid, e))?;
        if account.id != Some(caller.uid) {
            self.asker.ask(caller.clone(), Command::Administers).await?;
        }
        let found = account.clone();
        users::aside(move || users::caller(&found)).await.ok_or_else(|| users::missing(account.as_str(), false))
    }

    /// At what programs count and the kernel says of local flows.
    fn looks(&self) -> listing::Looks {
        listing::Looks { handoff: self.handoff.clone(), sockets: self.sockets.clone() }
    }

    async fn done<T>(
        &self,
        request: Request<T>,
        command: impl FnOnce(T) -> Command,
    ) -> Result<Response<v1::Empty>, Status> {
        empty(&self.ask(request, command).await?)
    }
}

#[tonic::async_trait]
impl IrmAdmin for Tools {
    type IpcpListStream = Rows<v1::IpcpInfo>;
    type NameListStream = Rows<v1::NameInfo>;
    type FlowListStream = listing::Flows;
    type IdentityListStream = Rows<v1::TrustInfo>;
    type FlowEventsStream = events::Stream;
    type FlowCountsStream = listing::Counts;

    async fn status(&self, request: Request<v1::Empty>) -> Result<Response<v1::StatusReply>, Status> {
        match self.ask(request, |_| Command::Status).await? {
            Reply::Status(mut status) => {
                status.run_dir.clone_from(&self.run_dir);
                status.rss_bytes = super::place::resident();
                let here = [
                    ("refused_leases", self.handoff.refused_leases()),
                    ("refused_callers", self.callers.turned_away()),
                ];
                status.counters.extend(here.into_iter().filter(|(_, n)| *n > 0).map(|(what, n)| (what.to_owned(), n)));
                listing::add_reports(&self.links, &mut status.ipcps).await;
                Ok(Response::new(status))
            }
            other => Err(nonsense(&other).into()),
        }
    }

    async fn ipcp_create(&self, request: Request<v1::IpcpCreateRequest>) -> Result<Response<v1::Empty>, Status> {
        self.done(request, Command::IpcpCreate).await
    }

    async fn ipcp_bootstrap(
        &self,
        request: Request<v1::IpcpBootstrapRequest>,
    ) -> Result<Response<v1::IpcpBootstrapReply>, Status> {
        match self.ask(request, |request| Command::IpcpBootstrap(Box::new(request))).await? {
            Reply::Bootstrapped(address) => Ok(Response::new(v1::IpcpBootstrapReply { address })),
            other => Err(nonsense(&other).into()),
        }
    }

    async fn ipcp_destroy(&self, request: Request<v1::IpcpDestroyRequest>) -> Result<Response<v1::Empty>, Status> {
        self.done(request, Command::IpcpDestroy).await
    }

    async fn ipcp_list(&self, request: Request<v1::Empty>) -> Result<Response<Rows<v1::IpcpInfo>>, Status> {
        match self.ask(request, |_| Command::IpcpList).await? {
            Reply::Ipcps(mut ipcps) => {
                listing::add_reports(&self.links, &mut ipcps).await;
                Ok(rows(ipcps))
            }
            other => Err(nonsense(&other).into()),
        }
    }

    async fn host_add(&self, request: Request<v1::HostAddRequest>) -> Result<Response<v1::Empty>, Status> {
        self.done(request, Command::HostAdd).await
    }

    async fn host_remove(&self, request: Request<v1::HostRemoveRequest>) -> Result<Response<v1::Empty>, Status> {
        self.done(request, Command::HostRemove).await
    }

    async fn name_create(&self, request: Request<v1::NameCreateRequest>) -> Result<Response<v1::Empty>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let rules = self.look_up(&caller, request.rules.clone().unwrap_or_default()).await?;
        empty(&self.asker.ask(caller, Command::NameCreate(request, rules)).await?)
    }

    async fn name_rules(&self, request: Request<v1::NameRulesRequest>) -> Result<Response<v1::Empty>, Status> {
        let caller = caller(&request)?;
        let v1::NameRulesRequest { name, rules } = request.into_inner();
        let rules = self.look_up(&caller, rules.unwrap_or_default()).await?;
        empty(&self.asker.ask(caller, Command::NameRules(name, rules)).await?)
    }

    async fn rule_list(&self, request: Request<v1::Empty>) -> Result<Response<v1::RuleListReply>, Status> {
        match self.ask(request, |_| Command::RuleList).await? {
            Reply::Rules(rules) => Ok(Response::new(v1::RuleListReply { rules })),
            other => Err(nonsense(&other).into()),
        }
    }

    async fn name_may(&self, request: Request<v1::NameMayRequest>) -> Result<Response<v1::NameMayReply>, Status> {
        let caller = caller(&request)?;
        let v1::NameMayRequest { name, user, address } = request.into_inner();
        let user = match user.as_str() {
            "" => None,
            user => Some(self.user(&caller, user).await?),
        };
        match self.asker.ask(caller, Command::NameMay(May { name, user, address })).await? {
            Reply::Rulings(rulings) => Ok(Response::new(v1::NameMayReply { rulings })),
            other => Err(nonsense(&other).into()),
        }
    }

    async fn name_destroy(&self, request: Request<v1::NameDestroyRequest>) -> Result<Response<v1::Empty>, Status> {
        self.done(request, Command::NameDestroy).await
    }

    async fn name_list(&self, request: Request<v1::Empty>) -> Result<Response<Rows<v1::NameInfo>>, Status> {
        match self.ask(request, |_| Command::NameList).await? {
            Reply::Names(mut names) => {
                listing::add_registrations(&self.links, &mut names).await;
                Ok(rows(names))
            }
            other => Err(nonsense(&other).into()),
        }
    }

    async fn name_register(&self, request: Request<v1::NameRegisterRequest>) -> Result<Response<v1::Empty>, Status> {
        self.done(request, Command::NameRegister).await
    }

    async fn name_unregister(
        &self,
        request: Request<v1::NameUnregisterRequest>,
    ) -> Result<Response<v1::Empty>, Status> {
        self.done(request, Command::NameUnregister).await
    }

    async fn name_resolve(
        &self,
        request: Request<v1::NameResolveRequest>,
    ) -> Result<Response<v1::NameResolveReply>, Status> {
        let name = request.get_ref().name.clone();
        match self.ask(request, Command::NameResolve).await? {
            Reply::Resolving(here, ipcps) => {
                let steps = listing::resolve(&self.links, &name, here, ipcps).await;
                Ok(Response::new(v1::NameResolveReply { steps }))
            }
            other => Err(nonsense(&other).into()),
        }
    }

    async fn bind_program(&self, request: Request<v1::BindProgramRequest>) -> Result<Response<v1::Empty>, Status> {
        let caller = caller(&request)?;
        let mut request = request.into_inner();
        if let Some(program) = request.program.as_mut().filter(|program| !program.user.is_empty()) {
            program.user = self.user(&caller, &program.user).await?.uid.to_string();
        }
        empty(&self.asker.ask(caller, Command::BindProgram(request)).await?)
    }

    async fn bind_process(&self, request: Request<v1::BindProcessRequest>) -> Result<Response<v1::Empty>, Status> {
        self.done(request, Command::BindProcess).await
    }

    async fn unbind_program(&self, request: Request<v1::UnbindProgramRequest>) -> Result<Response<v1::Empty>, Status> {
        self.done(request, Command::UnbindProgram).await
    }

    async fn unbind_process(&self, request: Request<v1::UnbindProcessRequest>) -> Result<Response<v1::Empty>, Status> {
        self.done(request, Command::UnbindProcess).await
    }

    async fn flow_events(&self, request: Request<v1::FlowEventsRequest>) -> Result<Response<events::Stream>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let place = self.events.place(caller.uid)?;
        let follower = request.follow.then(|| self.events.follow());
        match self.asker.ask(caller, Command::FlowEvents(request.after)).await? {
            Reply::Events(past, only) => {
                Ok(Response::new(self.events.stream(past, follower, Wanted { request, only }, place)))
            }
            other => Err(nonsense(&other).into()),
        }
    }

    async fn flow_counts(&self, request: Request<v1::Empty>) -> Result<Response<listing::Counts>, Status> {
        match self.ask(request, |_| Command::FlowSeen).await? {
            Reply::Seen(local, only) => {
                // One of the users' at a time, as with listings.
                let turn = if only.is_some() { self.turn.clone().acquire_owned().await.ok() } else { None };
                Ok(Response::new(listing::counts(&self.links, &self.handoff, local, only, turn)))
            }
            other => Err(nonsense(&other).into()),
        }
    }

    async fn flow_list(&self, request: Request<v1::FlowListRequest>) -> Result<Response<listing::Flows>, Status> {
        let (caller, ended) = (caller(&request)?, request.get_ref().ended);
        let administers = self.asker.ask(caller.clone(), Command::Administers).await.is_ok();
        let (asker, links) = (self.asker.clone(), self.links.clone());
        let sources = listing::Sources { asker, links, looks: self.looks() };
        if administers {
            return Ok(Response::new(listing::flows(sources, caller, ended)));
        }
        // One at a time, however slowly it is read: a listing asks every IPCP for all its flows, and any user may want
        // one.
        let turn = self.turn.acquire().await;
        let all: Vec<_> = listing::flows(sources, caller, ended).collect().await;
        drop(turn);
        Ok(Response::new(Box::pin(tokio_stream::iter(all))))
    }

    async fn flow_show(&self, request: Request<v1::FlowShowRequest>) -> Result<Response<v1::FlowInfo>, Status> {
        match self.ask(request, Command::FlowShow).await? {
            Reply::Flows(mut known) => match known.pop() {
                Some(row) => Ok(Response::new(listing::flow(&self.links, &self.looks(), row).await)),
                None => Err(nonsense(&Reply::Flows(known)).into()),
            },
            other => Err(nonsense(&other).into()),
        }
    }

    async fn flow_dealloc(&self, request: Request<v1::FlowDeallocRequest>) -> Result<Response<v1::Empty>, Status> {
        self.done(request, Command::FlowDealloc).await
    }

    async fn identity_show(&self, _: Request<v1::Empty>) -> Result<Response<v1::IdentityShowReply>, Status> {
        Ok(Response::new(self.identity.show()?))
    }

    async fn identity_install(
        &self,
        request: Request<v1::IdentityInstallRequest>,
    ) -> Result<Response<v1::Empty>, Status> {
        let caller = caller(&request)?;
        self.asker.ask(caller, Command::Administers).await?;
        let (host, pem) = (self.identity.clone(), request.into_inner().pem);
        let _turn = self.turn.acquire().await;
        aside(move || host.install(&pem, SystemTime::now())).await?;
        Ok(Response::new(v1::Empty {}))
    }

    async fn identity_trust(&self, request: Request<v1::IdentityTrustRequest>) -> Result<Response<v1::Empty>, Status> {
        let caller = caller(&request)?;
        let v1::IdentityTrustRequest { name, identity } = request.into_inner();
        let who = self.identity_said(&caller, &identity).await?;
        let command = Command::IdentityTrust { name, who, wall: unix(SystemTime::now()) };
        empty(&self.asker.ask(caller, command).await?)
    }

    async fn identity_forget(
        &self,
        request: Request<v1::IdentityForgetRequest>,
    ) -> Result<Response<v1::IdentityForgetReply>, Status> {
        let caller = caller(&request)?;
        let v1::IdentityForgetRequest { name, identity } = request.into_inner();
        let who = Some(identity).filter(|text| !text.is_empty()).map(|text| identity_of(&text)).transpose()?;
        match self.asker.ask(caller, Command::IdentityForget(name, who)).await? {
            Reply::Forgotten(forgotten) => Ok(Response::new(v1::IdentityForgetReply { forgotten })),
            other => Err(nonsense(&other).into()),
        }
    }

    async fn identity_list(&self, request: Request<v1::Empty>) -> Result<Response<Rows<v1::TrustInfo>>, Status> {
        match self.ask(request, |_| Command::IdentityList).await? {
            Reply::Trusts(all) => Ok(rows(all)),
            other => Err(nonsense(&other).into()),
        }
    }

    async fn identity_allow(&self, request: Request<v1::IdentityAllowRequest>) -> Result<Response<v1::Empty>, Status> {
        let caller = caller(&request)?;
        let v1::IdentityAllowRequest { name, identity, remove } = request.into_inner();
        let who = match (identity.as_str(), remove) {
            ("", true) => None,
            // What goes need not be read.
            (text, true) => Some(identity_of(text)?),
            (text, false) => Some(self.identity_said(&caller, text).await?),
        };
        empty(&self.asker.ask(caller, Command::IdentityAllow { name, who, remove }).await?)
    }

    async fn log(&self, request: Request<v1::LogRequest>) -> Result<Response<v1::LogReply>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        if request != v1::LogRequest::default() {
            self.asker.ask(caller, Command::Administers).await?;
        }
        Ok(Response::new(v1::LogReply { states: super::logging::log(&self.links, &request).await? }))
    }

    async fn config_export(&self, request: Request<v1::Empty>) -> Result<Response<v1::ConfigExportReply>, Status> {
        match self.ask(request, |_| Command::ConfigExport).await? {
            Reply::Config(config) => {
                let toml = config.to_toml().map_err(|error| {
                    let text = format!("the configuration cannot be written as TOML: {error}; please report it");
                    Status::from(Failure::new(FailureKind::Internal, text))
                })?;
                Ok(Response::new(v1::ConfigExportReply { toml }))
            }
            other => Err(nonsense(&other).into()),
        }
    }

    async fn shutdown(&self, request: Request<v1::ShutdownRequest>) -> Result<Response<v1::ShutdownReply>, Status> {
        match self.ask(request, Command::Shutdown).await? {
            Reply::Stopped(flows) => Ok(Response::new(v1::ShutdownReply { flows })),
            other => Err(nonsense(&other).into()),
        }
    }
}
