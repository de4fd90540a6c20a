//! One connection, from the moment it is there to its line in the log.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::forward::{Broken, Opening, Verdict};

use super::dial::dial;
use super::live::Live;
use super::log;
use super::over::Seat;
use super::proxy;
use super::pump::Pump;
use super::room::Counted;
use super::roster::Listed;
use super::running::{Running, Target};
use super::socket::Socket;
use super::tls::Connector;
use super::wire::Wire;
use super::worker::Worker;
use crate::machine::cause::{Cause, Refusal};
use crate::machine::life::{Outcome, Side};
use crate::machine::text::label;
use crate::said::end::End;
use crate::said::rule::ProxyVersion;

/// A client that has no target yet. Dropped, it is reset: nothing of what it says has been read.
pub(crate) struct Unmet(Option<Wire>);

impl Unmet {
    fn met(mut self) -> Option<Wire> {
        self.0.take()
    }

    /// Waits until the client gives up.
    async fn gone(&mut self) {
        match &mut self.0 {
            Some(wire) => {
                poll_fn(|cx| wire.poll_broken(cx)).await;
            }
            None => std::future::pending().await,
        }
    }
}

impl Drop for Unmet {
    fn drop(&mut self) {
        if let Some(wire) = self.0.take() {
            wire.reset(Broken::Reset);
        }
    }
}

/// Carries a client that was accepted to a target and back.
pub(crate) async fn carry(
    fd: OwnedFd,
    dialling: Counted,
    client: Option<SocketAddr>,
    tcp: bool,
    running: Arc<Running>,
    worker: Arc<Worker>,
) {
    let Ok(socket) = Socket::new(fd, tcp) else { return };
    // Asked for only where somebody is told: it is a system call.
    let listener = if running.tells_listener() { socket.local() } else { None };
    let unmet = Unmet(Some(Wire::Socket(socket)));
    let place = running.admit(client);
    let live = Arc::new(Live::new(running, client, listener, now()));
    let mut entry = Entry::new(live, &worker);
    let _place = match place {
        Ok(place) => place,
        Err(refusal) => return entry.refused(&refusal),
    };
    let mut unmet = unmet;
    // In a box of its own, which is gone when the connection is made.
    if entry.live.running.speaks_first()
        && let Err(refusal) = Box::pin(welcome(&mut unmet, &mut entry, &worker)).await
    {
        drop(unmet);
        return entry.refused(&refusal);
    }
    let pump = match Box::pin(meet(unmet, &entry.live, worker.number)).await {
        Met::Target(client, target) => Pump::new(client, target, entry.live.clone(), now()),
        Met::Refusal(refusal) => return entry.refused(&refusal),
        Met::Left => return entry.left(),
    };
    drop(dialling);
    let outcome = pump.await;
    entry.ended(&outcome);
}

/// A connection's place among those that live, and its line in the log, which it gets however it ends: dropped before anything
/// was said of it, it was stopped.
pub(crate) struct Entry {
    pub(crate) live: Arc<Live>,
    listed: Option<Listed>,
}

impl Entry {
    pub(crate) fn new(live: Arc<Live>, worker: &Worker) -> Self {
        Self { listed: Some(worker.roster.list(live.clone())), live }
    }

    /// Another is the client, as a header says.
    fn renew(&mut self, live: Arc<Live>, worker: &Worker) {
        self.listed = Some(worker.roster.list(live.clone()));
        self.live = live;
    }

    /// It was carried to its end.
    pub(crate) fn ended(mut self, outcome: &Outcome) {
        ended(&self.live, outcome);
        self.listed = None;
    }

    /// No target took it.
    pub(crate) fn refused(mut self, refusal: &Refusal) {
        refused(&self.live, refusal);
        self.listed = None;
    }

    /// The client went away before a target had it.
    pub(crate) fn left(self) {
        self.ended(&Outcome::Broken { by: Some(Side::Client), cause: Cause::plain(Broken::Reset) });
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if self.listed.is_some() {
            ended(&self.live, &Outcome::Broken { by: None, cause: Cause::plain(Broken::Stopped) });
        }
    }
}

/// What a client has to say before it is connected: who it is, by the PROXY protocol, and TLS' handshake.
async fn welcome(unmet: &mut Unmet, entry: &mut Entry, worker: &Worker) -> Result<(), Refusal> {
    let running = entry.live.running.clone();
    let options = &running.rule.options;
    if options.proxy_in
        && let Some(Wire::Socket(socket)) = &mut unmet.0
    {
        match within(options.connect_timeout, proxy::read(socket)).await {
            Ok(Some((client, listener))) => {
                let live = Live::new(running.clone(), Some(client), Some(listener), entry.live.since);
                entry.renew(Arc::new(live), worker);
            }
            // Who brought it speaks for itself.
            Ok(None) => {}
            Err(words) => return Err(Refusal::here(Verdict::Failed, format!("its PROXY header: {words}"))),
        }
        if let Some(client) = entry.live.client {
            running.admit_address(client)?;
        }
    }
    if let Some(tls) = &running.tls
        && let Some(Wire::Socket(socket)) = unmet.0.take()
    {
        match within(options.connect_timeout, async { tls.accept(socket).await.map_err(|error| error.to_string()) })
            .await
        {
            Ok(wire) => unmet.0 = Some(wire),
            Err(words) => return Err(Refusal::here(Verdict::Failed, format!("its TLS handshake: {words}"))),
        }
    }
    Ok(())
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let done = tokio::time::timeout(limit, work).await;
    done.unwrap_or_else(|_| Err(format!("it did not come within {limit:?}")))
}

/// What became of looking for a target.
enum Met {
    Target(Wire, Wire),
    Refusal(Refusal),
    /// The client went away.
    Left,
}

async fn meet(mut unmet: Unmet, live: &Live, worker: usize) -> Met {
    let target = tokio::select! {
        biased;
        target = target(live, worker) => target,
        () = unmet.gone() => return Met::Left,
    };
    match (target, unmet.met()) {
        (Ok(wire), Some(client)) => Met::Target(client, wire),
        (Ok(_), None) => Met::Left,
        (Err(refusal), client) => {
            drop(Unmet(client));
            Met::Refusal(refusal)
        }
    }
}

/// The first target that takes the connection; `worker` is the number of this thread's.
pub(crate) async fn target(live: &Live, worker: usize) -> Result<Wire, Refusal> {
    let mut last = None;
    for (index, target, claim) in live.running.targets(live.client) {
        let tried = one(live, target, worker).await;
        live.running.tried(index, tried.as_ref().err());
        match tried {
            Ok(wire) => {
                live.joined(index, || claim);
                return Ok(wire);
            }
            // Another target would not have it either.
            Err(refusal) if refusal.is_own() => return Err(refusal),
            Err(refusal) => last = Some(refusal),
        }
    }
    Err(last.unwrap_or_else(|| Refusal::here(Verdict::NoTarget, "all targets are known to be dead")))
}

async fn one(live: &Live, target: &Target, worker: usize) -> Result<Wire, Refusal> {
    let options = &live.rule().options;
    let wire = match (&target.end, target.flows.get(worker)) {
        (End::Flow(_), Some(flows)) => {
            let rule = live.rule().name.clone();
            let opening = Opening { client: live.client, listener: live.listener, rule };
            let (stream, seat): (_, Seat) = flows.connect(&opening, options.connect_timeout).await?;
            Wire::stream(stream, Some(seat))
        }
        _ => Wire::Socket(dial(target, options.connect_timeout, options.keepalive).await?),
    };
    match (options.proxy_out, &target.tls) {
        (None, None) => Ok(wire),
        (version, tls) => Box::pin(introduce(live, wire, version, tls.as_ref())).await,
    }
}

/// What a target is to hear first: who the client is, by the PROXY protocol, and TLS' handshake.
async fn introduce(
    live: &Live,
    mut wire: Wire,
    version: Option<ProxyVersion>,
    tls: Option<&Connector>,
) -> Result<Wire, Refusal> {
    let limit = live.rule().options.connect_timeout;
    if let Some(version) = version {
        let header = proxy::header(version, live.client, live.listener);
        let written = within(limit, async { wire.write_all(&header).await.map_err(|cause| cause.to_string()) }).await;
        written.map_err(|words| {
            Refusal::here(Verdict::Failed, format!("the target does not take the PROXY header: {words}"))
        })?;
    }
    match (tls, wire) {
        (Some(tls), Wire::Socket(socket)) => {
            let shaken = within(limit, async { tls.connect(socket).await.map_err(|error| error.to_string()) }).await;
            shaken.map_err(|words| Refusal::here(Verdict::Failed, format!("the target's TLS handshake: {words}")))
        }
        (_, wire) => Ok(wire),
    }
}

/// No target took it.
fn refused(live: &Live, refusal: &Refusal) {
    live.running.counters.refused(refusal.label());
    log::refused(live, refusal, now());
}

/// A client's datagram was not taken. Each could be another forged client's: counted, and no line in the log.
pub(crate) fn turned_away(live: &Live, refusal: &Refusal) {
    live.running.counters.refused(refusal.label());
    tracing::debug!(rule = %live.rule().name, client = ?live.client, why = %refusal, "a datagram is dropped");
}

/// It was carried to its end.
pub(crate) fn ended(live: &Live, outcome: &Outcome) {
    live.running.counters.ended(label(outcome));
    log::ended(live, outcome, now());
}

#[expect(clippy::disallowed_methods, reason = "io reads the clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
