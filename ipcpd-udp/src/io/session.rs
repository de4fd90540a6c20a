//! The driver's part in a session: its key is read, its server looked up, and people who look are told.

use std::net::SocketAddr;

use proto::rendezvous::{SessionId, SessionKey};
use proto::v1::{self, Failure, FailureKind, ResolveOutcome};
use proto::{HostId, Name};
use tokio::task::JoinSet;

use super::directory::step;
use super::driver::Driver;
use super::private;
use crate::config::Bootstrap;
use crate::machine::rendezvous::{Rendezvous, Session};

/// The session of a layer, if it has one.
pub(super) fn open(bootstrap: &Bootstrap, host: HostId) -> Result<Option<Rendezvous>, Failure> {
    let Some(via) = &bootstrap.via else { return Ok(None) };
    let secret = private::read(&via.key_file).map_err(|text| Failure::new(FailureKind::Invalid, text))?;
    if secret.trim_ascii_end().is_empty() {
        let text = format!("the key file {} is empty; write the session's key into it", via.key_file.display());
        return Err(Failure::new(FailureKind::Invalid, text));
    }
    let (id, key) = (SessionId::of(&via.session), SessionKey::new(&via.session, &secret));
    let session = Session { id, key, host, punch: via.punch };
    Ok(Some(Rendezvous { server: via.server.clone(), name: via.session.clone(), session }))
}

/// A look-up of the server, at most one at a time: the system's resolver may take long.
#[derive(Default)]
pub(super) struct Server(JoinSet<Option<SocketAddr>>);

impl Server {
    pub(super) fn find(&mut self, server: String, v6: bool) {
        if self.0.is_empty() {
            self.0.spawn(async move {
                let found = tokio::net::lookup_host(&server).await;
                match found {
                    Ok(mut all) => all.find(|at| at.is_ipv6() == v6),
                    Err(error) => {
                        tracing::warn!("the rendezvous {server} was not found ({error}); looked up again in a moment");
                        None
                    }
                }
            });
        }
    }

    /// What has come of the look-up; never, while there is none.
    pub(super) async fn found(&mut self) -> Option<SocketAddr> {
        match self.0.join_next().await {
            Some(found) => found.unwrap_or_default(),
            None => std::future::pending().await,
        }
    }
}

impl Driver {
    /// What the session's members have; nothing without a session.
    pub(super) fn session_step(&self, name: &Name) -> Option<v1::ResolveStep> {
        let words = self.shim.session_words()?;
        let members = self.shim.members_with(name);
        let host = |(id, at): (HostId, SocketAddr)| v1::ResolvedHost {
            address: at.to_string(),
            from: "member".into(),
            host: format!("{:016x}", id.0),
            ..Default::default()
        };
        let outcome = if members.is_empty() { ResolveOutcome::Unknown } else { ResolveOutcome::Found };
        let said = if members.is_empty() { format!("no other member has it; {words}") } else { words };
        Some(v1::ResolveStep { hosts: members.into_iter().map(host).collect(), ..step("rendezvous", outcome, said) })
    }
}
