//! Name servers: asked where a name is, and told which names this host serves.
//!
//! Each look-up and each update is a task of its own with its own time limit, so that a slow server delays nobody but who
//! waits for it. The machine bounds how many there are.
#![expect(clippy::disallowed_methods, reason = "io reads the clock")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use proto::Name;
use proto::v1::{self, Failure, FailureKind};
use tokio::task::JoinSet;

use super::command::Reply;
use crate::config::dns::Dns as Config;
use crate::machine::Sources;
use crate::machine::directory::plan::{Aim, Own};
use crate::machine::directory::trouble::Trouble;
use crate::machine::directory::{LookedUp, Updated};

mod exchange;
mod key;
mod lookup;
mod message;
mod servers;
#[cfg(test)]
pub(super) mod tests;
mod update;

use servers::Servers;

/// Questions under way at most: those of the machine, which bounds its own, and as many of people who look.
const MOST_TASKS: usize = 256;

/// What one layer asks and tells name servers.
pub(super) struct Dns {
    config: Arc<Config>,
    servers: Servers,
    v6: bool,
    tasks: JoinSet<Done>,
}

/// What has come of a task.
pub(super) enum Done {
    LookedUp(Name, LookedUp),
    Updated(Name, Updated),
    /// For `irm name resolve`; with the records as in a zone file.
    Resolved(Box<Resolved>),
}

/// A look-up that somebody wants to see.
pub(super) struct Resolved {
    pub(super) name: Name,
    pub(super) sources: Sources,
    pub(super) looked_up: LookedUp,
    pub(super) lines: Vec<String>,
    pub(super) reply: Reply<v1::ResolveReply>,
}

impl Dns {
    /// Nothing is asked yet. Fails where the key cannot be used.
    pub(super) fn new(config: &Config, listen: SocketAddr) -> Result<Self, String> {
        if let Some(path) = &config.key_file {
            key::read(path)?;
        }
        let servers = Servers::new(config.servers.clone());
        Ok(Self { config: Arc::new(config.clone()), servers, v6: listen.is_ipv6(), tasks: JoinSet::new() })
    }

    /// Asks where the name is; [`Done::LookedUp`] follows.
    pub(super) fn look_up(&mut self, name: Name, domain: String) {
        let (servers, v6) = (self.servers.now(), self.v6);
        self.tasks.spawn(async move {
            let (looked_up, _) = lookup::look_up(servers, &domain, v6).await;
            Done::LookedUp(name, looked_up)
        });
    }

    /// The same for somebody who wants to see it; [`Done::Resolved`] follows.
    pub(super) fn resolve(&mut self, name: Name, domain: String, sources: Sources, reply: Reply<v1::ResolveReply>) {
        if self.tasks.len() >= MOST_TASKS {
            let text = format!("{MOST_TASKS} questions to name servers are under way already; try again later");
            return drop(reply.send(Err(Failure::new(FailureKind::Exhausted, text))));
        }
        let (servers, v6) = (self.servers.now(), self.v6);
        self.tasks.spawn(async move {
            let (looked_up, lines) = lookup::look_up(servers, &domain, v6).await;
            Done::Resolved(Box::new(Resolved { name, sources, looked_up, lines, reply }))
        });
    }

    /// Changes the zone; [`Done::Updated`] follows.
    pub(super) fn update(&mut self, own: Own, domain: &str, aim: Aim) {
        let (servers, config) = (self.servers.now(), self.config.clone());
        let domain = domain.to_owned();
        self.tasks.spawn(async move {
            let name = own.name.clone();
            Done::Updated(name, update::update(&config, servers, &own, &domain, aim).await)
        });
    }

    /// What has come of the next task to end; never, while there is none.
    pub(super) async fn done(&mut self) -> Done {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(done)) => return done,
                // The machine gives up on what it never hears of.
                Some(Err(error)) => tracing::error!(%error, "a task that asked a name server failed"),
                None => std::future::pending().await,
            }
        }
    }
}

/// Seconds since 1970.
fn wall() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The key's file, as it is now.
fn key_of(path: Option<&PathBuf>) -> Result<crate::machine::directory::key::Key, Trouble> {
    let path = path.ok_or_else(|| Trouble::Key("there is no key; give its file with --dns-key".into()))?;
    key::read(path).map_err(Trouble::Key)
}
