//! What this process shows of itself in handshakes: a key of its own, and irmd's certificates for it.
#![expect(clippy::disallowed_methods, reason = "io reads the clock")]

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use identity::{CertificateDer, PrivateKeyDer, ProgramKey};
use proto::protocol_version;
use proto::v1::{CertifyReply, CertifyRequest, Failure, FailureKind};

use super::keeper::{Command, Keeper};
use crate::error::CallError;

/// Certificates kept; beyond that all are asked for anew.
const KEPT: usize = 1024;

/// As what this process appears.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum As {
    /// The server of a name.
    Server(String),
    /// Who asks for a flow, by this name; empty: by none.
    Asking(String),
}

/// A chain, and the key of its first certificate.
pub(crate) struct Paper {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

/// The key is made when it is first needed, and dies with the process.
#[derive(Default)]
pub(crate) struct Papers {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    key: Option<ProgramKey>,
    chains: HashMap<As, (Vec<CertificateDer<'static>>, Instant)>,
}

impl Papers {
    /// Certificates for `who`, irmd's where none is kept that is fresh.
    pub(crate) async fn get(&self, keeper: &Keeper, who: As) -> Result<Paper, CallError> {
        if let Some(kept) = self.kept(&who)? {
            return Ok(kept);
        }
        let public_key = self.with(|state| state.key().map(ProgramKey::public_key))?;
        let reply = match certify(keeper, &who, public_key.clone()).await {
            // A program may call itself what it likes; its host vouches only for names that it may serve.
            Err(CallError::Failed(failure))
                if failure.kind() == FailureKind::NotPermitted && matches!(who, As::Asking(_)) =>
            {
                certify(keeper, &As::Asking(String::new()), public_key).await?
            }
            other => other?,
        };
        self.with(|state| state.keep(who, reply))
    }

    fn kept(&self, who: &As) -> Result<Option<Paper>, CallError> {
        self.with(|state| {
            let fresh = state.chains.get(who).filter(|(_, until)| Instant::now() < *until);
            let Some((chain, _)) = fresh else { return Ok(None) };
            let chain = chain.clone();
            state.key().map(|key| Some(Paper { chain, key: key.private_key() }))
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn key(&mut self) -> Result<&ProgramKey, CallError> {
        if self.key.is_none() {
            let failed = |error: identity::KeyError| Failure::new(FailureKind::Internal, error.to_string());
            self.key = Some(ProgramKey::generate().map_err(|error| CallError::Failed(failed(error)))?);
        }
        Ok(self.key.as_ref().expect("made above"))
    }

    fn keep(&mut self, who: As, reply: CertifyReply) -> Result<Paper, CallError> {
        let chain: Vec<_> = reply.chain.into_iter().map(CertificateDer::from).collect();
        if self.chains.len() >= KEPT {
            self.chains.clear();
        }
        let until = Instant::now() + Duration::from_secs(reply.renew_s.into());
        self.chains.insert(who, (chain.clone(), until));
        Ok(Paper { chain, key: self.key()?.private_key() })
    }
}

async fn certify(keeper: &Keeper, who: &As, public_key: Vec<u8>) -> Result<CertifyReply, CallError> {
    let (name, serving) = match who {
        As::Server(name) => (name.clone(), true),
        As::Asking(name) => (name.clone(), false),
    };
    let request = CertifyRequest { version: protocol_version(), name, serving, public_key };
    keeper.call(|reply| Command::Certify { request, reply }).await
}
