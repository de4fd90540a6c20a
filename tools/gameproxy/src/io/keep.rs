//! What goes on beside the carrying: signals, who asks, names that are looked up, servers that are asked, rules that are read
//! again.
#![expect(clippy::disallowed_methods, reason = "io/: the clock and timers")]

use std::collections::BTreeSet;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use sd_notify::NotifyState;
use service::balance::Change;
use service::control;
use service::process::manager;
use service::reloads::Reloads;
use service::signals::{Signals, Told};
use service::source::Source;
use service::table::printable;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::core::SharedDoor;
use super::lookups::{Found, Lookups};
use super::orders::{Desk, Order};
use super::serve::Desks;
use super::tally::Tally;
use super::wait::until;
use super::{ask, own, report};
use crate::machine::door::{Check, ClientId, Door};
use crate::machine::front::Front;
use crate::said::control::{Answer, Ask};
use crate::said::file::{self, File, Options};

/// How often a watched file is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How often it is looked whether all players have gone.
const GONE: Duration = Duration::from_millis(50);
/// Servers that are asked at a time.
const ASKING: usize = 32;

pub(super) type Asked = control::Asked<Ask>;

/// What carries.
pub(super) enum Carrying {
    /// One process.
    Local(Desk),
    /// A server side: those of its client sides, and what all have carried.
    Sides(Desks, Arc<Tally>),
    /// A client side: one for each server side.
    Ways(Vec<Desk>),
}

impl Carrying {
    /// Where orders are given.
    pub(super) fn desks(&self) -> Vec<(ClientId, Desk)> {
        match self {
            Self::Local(desk) => vec![(ClientId::default(), desk.clone())],
            Self::Sides(desks, _) => {
                let desks = desks.lock().unwrap_or_else(PoisonError::into_inner);
                desks.iter().map(|(id, desk)| (*id, desk.clone())).collect()
            }
            Self::Ways(desks) => desks.iter().map(|desk| (ClientId::default(), desk.clone())).collect(),
        }
    }

    /// `local`, `server` or `client`.
    pub(super) fn role(&self) -> &'static str {
        match self {
            Self::Local(_) => "local",
            Self::Sides(..) => "server",
            Self::Ways(_) => "client",
        }
    }
}

/// Keeps what carries.
pub(super) struct Keeper {
    pub(super) carrying: Carrying,
    /// Where players are let in. At a client side: what its own file says, if it has one.
    pub(super) door: Option<SharedDoor>,
    pub(super) source: Option<Source>,
    pub(super) began: Instant,
    pub(super) reloads: Reloads,
    pub(super) stopping: bool,
    pub(super) unknown: BTreeSet<String>,
    lookups: Lookups,
    checks: JoinSet<(Check, Option<Duration>)>,
    watch: bool,
    drain: Duration,
}

/// What makes the keeper move.
enum News {
    Told(Told),
    Asked(Asked),
    Found(Found),
    Checked(Check, Option<Duration>),
    Look,
    Due,
}

impl Keeper {
    pub(super) fn new(
        carrying: Carrying,
        door: Option<SharedDoor>,
        source: Option<Source>,
        options: &Options,
        watch: bool,
        drain: Duration,
    ) -> Self {
        let mut keeper = Self {
            carrying,
            door,
            source,
            began: Instant::now(),
            reloads: Reloads::default(),
            stopping: false,
            unknown: BTreeSet::new(),
            lookups: Lookups::new(options.resolve),
            checks: JoinSet::new(),
            watch,
            drain,
        };
        keeper.look_up();
        keeper
    }

    /// Until it is told to stop, and players have gone or patience is over. Then what carries is to be stopped.
    pub(super) async fn run(&mut self, asks: &mut mpsc::Receiver<Asked>) -> anyhow::Result<()> {
        let mut signals = Signals::new().context("signals cannot be caught")?;
        manager(&[NotifyState::Ready]);
        loop {
            let due = self.ask_servers(Instant::now());
            match self.news(&mut signals, asks, due).await {
                News::Told(Told::Reload) => drop(self.reload()),
                News::Look => {
                    if self.source.as_mut().is_some_and(Source::changed) {
                        drop(self.reload());
                    }
                }
                News::Found(found) => self.found(&found),
                News::Checked(check, answer) => self.checked(&check, answer),
                News::Due => {}
                News::Told(Told::Stop) => break,
                News::Asked(Asked { ask: Ask::Stop { drain_ms }, answer }) => {
                    self.drain = drain_ms.map_or(self.drain, Duration::from_millis);
                    let _ = answer.send(Answer::Done(format!("{} players are there", self.players().await)));
                    break;
                }
                News::Asked(asked) => self.answer(asked).await,
            }
        }
        self.stop(&mut signals, asks).await;
        Ok(())
    }

    async fn news(&mut self, signals: &mut Signals, asks: &mut mpsc::Receiver<Asked>, due: Option<Instant>) -> News {
        let watched = self.watch && self.source.is_some();
        tokio::select! {
            told = signals.next() => News::Told(told),
            Some(asked) = asks.recv() => News::Asked(asked),
            found = self.lookups.next() => News::Found(found),
            Some(Ok((check, answer))) = self.checks.join_next() => News::Checked(check, answer),
            () = tokio::time::sleep(LOOK), if watched => News::Look,
            () = until(due) => News::Due,
        }
    }

    async fn answer(&mut self, Asked { ask, answer }: Asked) {
        let said = match ask {
            Ask::Status { players } => Answer::Status(Box::new(report::status(self, players).await)),
            Ask::Reload => match self.reload() {
                Ok(words) => Answer::Done(words),
                Err(words) => Answer::Failed(words),
            },
            Ask::Stop { .. } => Answer::Done("it is being stopped".to_owned()),
        };
        // Who asked may be gone.
        let _ = answer.send(said);
    }

    /// Lets nobody in any more, and waits for those who are there.
    async fn stop(&mut self, signals: &mut Signals, asks: &mut mpsc::Receiver<Asked>) {
        self.stopping = true;
        manager(&[NotifyState::Stopping]);
        if self.drain.is_zero() {
            return;
        }
        match &self.door {
            Some(door) if !self.is_client() => lock(door).close(),
            _ => {
                for (_, desk) in self.carrying.desks() {
                    desk.give(Order::Close);
                }
            }
        }
        let end = Instant::now() + self.drain;
        let there = self.players().await;
        if there > 0 {
            tracing::info!(
                "stopping: {there} players may go on for {:?}; a second signal ends them at once",
                self.drain
            );
        }
        while self.players().await > 0 && Instant::now() < end {
            tokio::select! {
                () = signals.stop() => break,
                () = tokio::time::sleep(GONE) => {}
                Some(asked) = asks.recv() => match asked.ask {
                    Ask::Stop { drain_ms: Some(0) } => {
                        let _ = asked.answer.send(Answer::Done("its players are ended".to_owned()));
                        break;
                    }
                    Ask::Reload => {
                        let _ = asked.answer.send(Answer::Failed("it is being stopped".to_owned()));
                    }
                    _ => self.answer(asked).await,
                },
            }
        }
    }

    /// Reads the rules again. If anything is wrong with them all stays as it was. What it came to, or what is wrong, in a
    /// sentence.
    fn reload(&mut self) -> Result<String, String> {
        let done = self.take_rules().map_err(|error| printable(&format!("{error:#}")));
        match &done {
            Ok(words) => tracing::info!("reloaded: {words}"),
            Err(why) => tracing::error!("not reloaded, the rules are those of before: {why}"),
        }
        self.reloads.note(&done);
        done
    }

    fn take_rules(&mut self) -> anyhow::Result<String> {
        let (Some(source), Some(door)) = (&self.source, &self.door) else {
            return Err(anyhow!(
                "this {} reads no file; its rules are told or stand on its command line",
                self.carrying.role()
            ));
        };
        let file = read(source)?;
        let (redirects, entries) = (file.rules.redirects.len(), file.rules.access.len());
        lock(door).reload(match self.carrying {
            Carrying::Ways(_) => Front::part(file.rules),
            Carrying::Local(_) | Carrying::Sides(..) => file.rules,
        });
        self.look_up();
        self.changed();
        Ok(format!("{redirects} redirects, {entries} entries for all of them"))
    }

    /// The names of the rules are looked up from now on.
    fn look_up(&mut self) {
        let Some(door) = &self.door else { return };
        let door = lock(door);
        let names = file::names(door.rules());
        self.unknown.retain(|name| names.contains(&name.as_str()));
        self.lookups.set(&names);
    }

    fn found(&mut self, found: &Found) {
        let Found { name, addresses } = found;
        let Some(door) = self.door.clone() else { return };
        match addresses {
            Ok(addresses) => {
                let news = lock(&door).learn(name, addresses);
                if self.unknown.remove(name) || news {
                    tracing::info!("{name} is {addresses:?}");
                }
                if news {
                    self.changed();
                }
            }
            Err(why) => {
                let is_named = file::names(lock(&door).rules()).contains(&name.as_str());
                if is_named && self.unknown.insert(name.clone()) {
                    let known = lock(&door).names().is_known(name);
                    let then = if known { "its last addresses are used" } else { "redirects that need it wait" };
                    tracing::warn!("{name} is not found ({why}); {then}");
                }
            }
        }
    }

    /// Whoever carries is told that the rules, or what is known of names, have changed.
    fn changed(&self) {
        let Some(door) = &self.door else { return };
        for (_, desk) in self.carrying.desks() {
            if !matches!(self.carrying, Carrying::Sides(..)) {
                let mut door = lock(door);
                door.machine(ClientId::default(), own::addresses());
                desk.give(Order::Front(local_front(&door)));
            }
            // One whose orders are full has stopped, or asks for what there is when it comes to it.
            if !desk.give(Order::Revise) {
                tracing::debug!("a side takes no orders");
            }
        }
    }

    /// Asks the servers that are to be asked; when the next are.
    fn ask_servers(&mut self, now: Instant) -> Option<Instant> {
        let door = self.door.clone()?;
        while self.checks.len() < ASKING
            && let Some(check) = lock(&door).poll_check(now)
        {
            match check.server {
                Some(server) => {
                    self.checks.spawn_blocking(move || (check, ask::ask(server, check.query)));
                }
                None => self.checked(&check, None),
            }
        }
        // A place among those that are asked is news, too.
        (self.checks.len() < ASKING).then(|| lock(&door).poll_timeout()).flatten()
    }

    fn checked(&mut self, check: &Check, answer: Option<Duration>) {
        let Some(door) = &self.door else { return };
        let mut door = lock(door);
        let change = door.checked(Instant::now(), check, answer);
        let redirect = door.name_of(check.line);
        match (change, check.server) {
            (Some(Change::WentDown), Some(server)) => {
                tracing::warn!("redirect {redirect}: the server {server} does not answer")
            }
            (Some(Change::WentDown), None) => tracing::warn!("redirect {redirect}: a server's name is not found"),
            (Some(Change::CameUp), _) => {
                tracing::info!("redirect {redirect}: a server answers again: {:?}", check.server)
            }
            (None, _) => {}
        }
    }

    /// Whether this is a client side, whose players another side lets in.
    pub(super) fn is_client(&self) -> bool {
        matches!(self.carrying, Carrying::Ways(_))
    }

    /// How many players are there.
    async fn players(&self) -> u64 {
        match &self.door {
            Some(door) if !self.is_client() => lock(door).players().into(),
            _ => report::over_ways(&self.carrying).await,
        }
    }
}

/// What one process does by the rules of now.
pub(super) fn local_front(door: &Door) -> Front {
    Front::here(door.rules(), door.names(), &own::addresses())
}

/// A configuration; what is hardly meant is told.
pub(super) fn read(source: &Source) -> anyhow::Result<File> {
    let file = source.read(File::parse)?;
    for doubt in file.doubts() {
        tracing::warn!("{}: {doubt}", source.name().unwrap_or_default());
    }
    Ok(file)
}

pub(super) fn lock(door: &SharedDoor) -> MutexGuard<'_, Door> {
    door.lock().unwrap_or_else(PoisonError::into_inner)
}
