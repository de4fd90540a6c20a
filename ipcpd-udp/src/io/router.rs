//! This host's router, asked by tasks of their own: the machine's waits for none of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway::{Client, Gateway, Granted, NotFound, Refusal};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::driver::Driver;
use crate::machine::mapping::{Asked, Step};

/// Questions under way at once; further ones wait. Home routers answer one after the other anyway.
const AT_ONCE: usize = 16;
/// What the last words to a router get.
const LAST: Duration = Duration::from_millis(700);

/// What came of a question.
pub(super) enum Heard {
    Found(u64, Result<(Gateway, Granted), NotFound>),
    Mapped(Asked, Result<Granted, Refusal>),
    /// Nobody waits for it.
    Nothing,
}

/// Questions under way.
pub(super) struct Router {
    client: Client,
    turns: Arc<Semaphore>,
    tasks: JoinSet<Heard>,
}

impl Default for Router {
    fn default() -> Self {
        Self { client: Client::default(), turns: Arc::new(Semaphore::new(AT_ONCE)), tasks: JoinSet::new() }
    }
}

impl Router {
    pub(super) fn ask(&mut self, step: Step) {
        let (client, turns) = (self.client.clone(), self.turns.clone());
        self.tasks.spawn(async move {
            let _turn = turns.acquire_owned().await;
            match step {
                Step::Find { towards, port, turn } => Heard::Found(turn, client.find(towards, port).await),
                Step::Map(asked) => Heard::Mapped(asked, client.map(asked.gateway, asked.port).await),
                Step::Unmap { gateway, port } => {
                    if let Err(refusal) = client.unmap(gateway, port).await {
                        tracing::debug!(router = %gateway.at, port = %port.local, "a mapping is left to its lifetime: {refusal}");
                    }
                    Heard::Nothing
                }
            }
        });
    }

    /// The next answer; never, while nothing is asked.
    pub(super) async fn heard(&mut self) -> Heard {
        match self.tasks.join_next().await {
            Some(Ok(heard)) => heard,
            Some(Err(error)) => {
                tracing::error!(%error, "a question to the router failed");
                Heard::Nothing
            }
            None => std::future::pending().await,
        }
    }

    /// At the end: what is still to be unmapped has a moment for it.
    pub(super) async fn end(&mut self) {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        let _ = timeout(LAST, all).await;
    }
}

impl Driver {
    pub(super) fn router_said(&mut self, now: Instant, heard: Heard) {
        match heard {
            Heard::Found(turn, result) => self.shim.router_found(now, turn, result),
            Heard::Mapped(asked, result) => self.shim.port_mapped(now, asked, result),
            Heard::Nothing => {}
        }
    }
}
