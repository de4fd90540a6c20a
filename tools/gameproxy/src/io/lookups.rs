//! Host names of the rules are looked up, again and again.
#![expect(clippy::disallowed_methods, reason = "io/: timers; each name is a task of a JoinSet")]

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

/// A name that is not found is looked up again after so long at first, and later up to `resolve`.
const AGAIN: Duration = Duration::from_secs(1);
/// What was found waits for who reads it.
const ROOM: usize = 64;

/// What a look-up came to.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) name: String,
    pub(super) addresses: Result<Vec<IpAddr>, String>,
}

/// Names under way.
pub(super) struct Lookups {
    tasks: JoinSet<()>,
    names: HashMap<String, AbortHandle>,
    found: mpsc::Sender<Found>,
    inbox: mpsc::Receiver<Found>,
    every: Duration,
}

impl Lookups {
    pub(super) fn new(every: Duration) -> Self {
        let (found, inbox) = mpsc::channel(ROOM);
        Self { tasks: JoinSet::new(), names: HashMap::new(), found, inbox, every }
    }

    /// These names from now on, at once those that are new.
    pub(super) fn set(&mut self, names: &[&str]) {
        self.names.retain(|name, task| {
            let stays = names.contains(&name.as_str());
            if !stays {
                task.abort();
            }
            stays
        });
        while self.tasks.try_join_next().is_some() {}
        for name in names {
            if !self.names.contains_key(*name) {
                let task = self.tasks.spawn(keep((*name).to_owned(), self.every, self.found.clone()));
                self.names.insert((*name).to_owned(), task);
            }
        }
    }

    /// The next that was found, or was not. For ever where there is no name.
    pub(super) async fn next(&mut self) -> Found {
        match self.inbox.recv().await {
            Some(found) => found,
            // This has a sender of its own.
            None => std::future::pending().await,
        }
    }
}

async fn keep(name: String, every: Duration, found: mpsc::Sender<Found>) {
    let mut pause = AGAIN.min(every);
    loop {
        let looked = look_up(&name).await;
        let failed = looked.is_err();
        if found.send(Found { name: name.clone(), addresses: looked }).await.is_err() {
            return;
        }
        tokio::time::sleep(if failed { pause } else { every }).await;
        pause = if failed { (pause * 2).min(every) } else { AGAIN.min(every) };
    }
}

/// A name's addresses.
pub(super) async fn look_up(name: &str) -> Result<Vec<IpAddr>, String> {
    match tokio::net::lookup_host((name, 0)).await {
        Ok(found) => {
            let addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
            if addresses.is_empty() { Err("it has no address".to_owned()) } else { Ok(addresses) }
        }
        Err(error) => Err(error.to_string()),
    }
}
