//! The one task that owns the server: datagrams, time, signals, who asks.
#![expect(clippy::disallowed_methods, reason = "io/: the clock and timers")]

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sd_notify::NotifyState;
use service::control;
use service::process::{manager, resident};
use service::reloads::Reloads;
use service::signals::{Signals, Told};
use service::table::printable;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use super::config::Given;
use super::events::Log;
use super::sockets::Sockets;
use crate::machine::{Role, Server, show};
use crate::said::control::{Answer, Ask, Status};
use crate::said::file::Options;

type Asked = control::Asked<Ask>;

/// What runs.
pub(super) struct Serving {
    server: Server,
    sockets: Sockets,
    ready: AsyncFd<OwnedFd>,
    given: Given,
    log: Log,
    began: Instant,
    drain: Duration,
    /// It ends then.
    end: Option<Instant>,
    reloads: Reloads,
}

/// What makes it move.
enum News {
    Datagrams,
    Due,
    Told(Told),
    Asked(Asked),
}

impl Serving {
    pub(super) fn new(server: Server, sockets: Sockets, given: Given, options: &Options) -> anyhow::Result<Self> {
        let ready = tool::watched(sockets.ready()?, Interest::READABLE).context("the sockets cannot be watched")?;
        Ok(Self {
            server,
            sockets,
            ready,
            given,
            log: Log::default(),
            began: Instant::now(),
            drain: options.drain.unwrap_or(Duration::ZERO),
            end: None,
            reloads: Reloads::default(),
        })
    }

    /// Until it is told to stop, and what was under way is over.
    pub(super) async fn run(mut self, asks: &mut mpsc::Receiver<Asked>) -> anyhow::Result<()> {
        let mut signals = Signals::new().context("signals cannot be caught")?;
        manager(&[NotifyState::Ready]);
        while !self.is_over() {
            match self.news(&mut signals, asks).await? {
                News::Datagrams | News::Due => {}
                News::Told(Told::Reload) => drop(self.reload()),
                News::Told(Told::Stop) => self.stop(),
                News::Asked(asked) => self.answer(asked),
            }
            let now = Instant::now();
            self.server.handle_timeout(now);
            self.put_out(now);
        }
        Ok(())
    }

    async fn news(&mut self, signals: &mut Signals, asks: &mut mpsc::Receiver<Asked>) -> anyhow::Result<News> {
        let due = [self.server.poll_timeout(), self.end].into_iter().flatten().min();
        tokio::select! {
            guard = self.ready.readable() => {
                let mut guard = guard.context("the sockets cannot be watched")?;
                let some = receive(&mut self.server, &mut self.sockets).context("the sockets cannot be waited for")?;
                if !some {
                    guard.clear_ready();
                }
                Ok(News::Datagrams)
            }
            () = until(due) => Ok(News::Due),
            told = signals.next() => Ok(News::Told(told)),
            Some(asked) = asks.recv() => Ok(News::Asked(asked)),
        }
    }

    /// Sends what there is to send and logs what there is to tell.
    fn put_out(&mut self, now: Instant) {
        let mut failed = 0;
        while let Some(sending) = self.server.poll_output() {
            self.sockets.send(sending.via, sending.to, &sending.bytes, |_| failed += 1);
        }
        self.sockets.flush(|_| failed += 1);
        for _ in 0..failed {
            self.server.not_sent();
        }
        while let Some(event) = self.server.poll_event() {
            self.log.write(now, &event);
        }
    }

    fn answer(&mut self, Asked { ask, answer }: Asked) {
        let said = match ask {
            Ask::Status { session } => Answer::Status(Box::new(self.status(session.as_deref()))),
            Ask::Reload => match self.reload() {
                Ok(words) => Answer::Done(words),
                Err(words) => Answer::Failed(words),
            },
            Ask::Stop { drain_ms } => {
                self.drain = drain_ms.map_or(self.drain, Duration::from_millis);
                self.stop();
                Answer::Done("it is being stopped".to_owned())
            }
        };
        // Who asked may be gone.
        let _ = answer.send(said);
    }

    fn status(&self, session: Option<&str>) -> Status {
        Status {
            build: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_ms: u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            file: self.given.source.as_ref().and_then(service::source::Source::name),
            reload_failed: self.reloads.why.clone(),
            reloads: self.reloads.taken,
            reloads_failed: self.reloads.failed,
            rss_bytes: resident(),
            ..self.server.status(Instant::now(), session)
        }
    }

    /// Reads all again. If anything is wrong with it all stays as it was.
    fn reload(&mut self) -> Result<String, String> {
        let done = match self.given.read() {
            // Sockets stay as they are.
            Ok((_, rules)) => {
                let words = show::counted(rules.sessions.len() as u64, "session");
                self.server.reload(rules);
                Ok(words)
            }
            Err(error) => Err(printable(&format!("{error:#}"))),
        };
        match &done {
            Ok(words) => tracing::info!("reloaded: {words}"),
            Err(why) => tracing::error!("not reloaded, all is as before: {why}"),
        }
        self.reloads.note(&done);
        done
    }

    /// Lets nobody in any more; a second time: ends at once.
    fn stop(&mut self) {
        manager(&[NotifyState::Stopping]);
        let now = Instant::now();
        let again = self.end.is_some();
        self.server.close();
        self.end = Some(if again { now } else { now + self.drain });
        if !again && !self.drain.is_zero() && !self.server.is_idle() {
            tracing::info!(
                "stopping: what is under way may go on for {:?}; a second signal ends it at once",
                self.drain
            );
        }
    }

    fn is_over(&self) -> bool {
        self.end.is_some_and(|end| self.server.is_idle() || end <= Instant::now())
    }
}

/// Takes a turn at each socket; whether there was anything. What is left is there at the next.
fn receive(server: &mut Server, sockets: &mut Sockets) -> std::io::Result<bool> {
    let (now, mut failed) = (Instant::now(), 0);
    let some = sockets.receive(
        |via, from, bytes| match via.role {
            Role::Relay => server.relay(now, via, from, bytes),
            Role::Main | Role::Other => {
                server.handle(now, via, from, bytes);
                None
            }
        },
        |_| failed += 1,
    )?;
    for _ in 0..failed {
        server.not_sent();
    }
    Ok(some)
}

/// Waits for a moment, or for ever.
async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
