//! The forwarder's own task: opens and changes rules, listens to signals and to who asks, and ends when it is told to.
#![expect(clippy::disallowed_methods, reason = "io/: the clock and timers")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use sd_notify::NotifyState;
use service::control;
use service::process::{manager, resident};
use service::reloads::Reloads;
use service::signals::{Signals, Told};
use service::source::Source;
use service::table::printable;
use tokio::sync::mpsc;

use super::engine::{Engine, Opened};
use super::running::Running;
use crate::machine::reload::plan;
use crate::said::control::{Answer, Ask, Status};
use crate::said::end::End;
use crate::said::file::overlap;
use crate::said::rule::Rule;

/// How long connections may go on after SIGTERM, unless said otherwise.
pub(super) const DRAIN: Duration = Duration::from_secs(30);
/// How often a listening end that could not be taken over is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long the tasks of a listening end that was closed may take to let go of it.
const CLOSING: Duration = Duration::from_secs(2);
/// How often a watched file is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The rules in force, and where they come from.
pub(super) struct Forwarder {
    pub(super) engine: Arc<Engine>,
    source: Source,
    rules: Vec<InForce>,
    /// Rules that are taken away and still have connections.
    removed: Vec<Arc<Running>>,
    /// Ends that were closed a moment ago: the sockets' tasks may still be at it.
    closed: Vec<(Instant, End)>,
    reloads: Reloads,
    drain: Duration,
    began: Instant,
    pub(super) watch: bool,
    stopping: bool,
}

/// A rule in force.
struct InForce {
    running: Arc<Running>,
    /// Or why it does not listen.
    opened: Result<Opened, String>,
}

type Asked = control::Asked<Ask>;

/// What makes the forwarder move.
enum News {
    Told(Told),
    Asked(Asked),
    Look,
    Again,
}

impl Forwarder {
    /// Opens all rules, or none.
    pub(super) async fn open(
        engine: Engine,
        source: Source,
        rules: Vec<Rule>,
        drain: Duration,
    ) -> anyhow::Result<Self> {
        let mut in_force = Vec::with_capacity(rules.len());
        for rule in rules {
            let running = engine.running(rule, None)?;
            let opened = engine.open(running.clone()).await?;
            tracing::info!(rule = %running.rule, "forwards");
            in_force.push(InForce { running, opened: Ok(opened) });
        }
        Ok(Self {
            engine: Arc::new(engine),
            source,
            rules: in_force,
            removed: Vec::new(),
            closed: Vec::new(),
            reloads: Reloads::default(),
            drain,
            began: Instant::now(),
            watch: false,
            stopping: false,
        })
    }

    /// Forwards until it is told to stop, and its connections are over or its patience is. `ready` is called when signals are
    /// heeded.
    /// `_asker` keeps the channel open where nobody else asks.
    pub(super) async fn run(
        mut self,
        mut asks: mpsc::Receiver<Asked>,
        _asker: mpsc::Sender<Asked>,
        ready: impl FnOnce(),
    ) -> anyhow::Result<()> {
        let mut signals = Signals::new().context("signals cannot be caught")?;
        ready();
        manager(&[NotifyState::Ready, NotifyState::Status(&format!("{} rules", self.rules.len()))]);
        let mut drain = self.drain;
        loop {
            match self.news(&mut signals, &mut asks).await {
                News::Told(Told::Reload) => {
                    let _ = self.reload().await;
                }
                News::Look => {
                    if self.source.changed() {
                        let _ = self.reload().await;
                    }
                }
                News::Again => self.open_again().await,
                News::Told(Told::Stop) => break,
                News::Asked(Asked { ask: Ask::Stop { drain_ms }, answer }) => {
                    drain = drain_ms.map_or(drain, Duration::from_millis);
                    let _ = answer.send(Answer::Done(format!("{} connections are open", self.engine.count())));
                    break;
                }
                News::Asked(asked) => self.answer(asked).await,
            }
        }
        self.stop(signals, asks, drain).await;
        Ok(())
    }

    async fn news(&mut self, signals: &mut Signals, asks: &mut mpsc::Receiver<Asked>) -> News {
        let broken = self.rules.iter().any(|rule| rule.opened.is_err());
        let watched = self.watch && self.source.is_file();
        tokio::select! {
            told = signals.next() => News::Told(told),
            Some(asked) = asks.recv() => News::Asked(asked),
            () = tokio::time::sleep(LOOK), if watched => News::Look,
            () = tokio::time::sleep(AGAIN), if broken => News::Again,
        }
    }

    async fn answer(&mut self, Asked { ask, answer }: Asked) {
        let said = match ask {
            Ask::Status { connections } => Answer::Status(Box::new(self.status(connections))),
            Ask::Reload => match self.reload().await {
                Ok(words) => Answer::Done(words),
                Err(words) => Answer::Failed(words),
            },
            Ask::Stop { .. } => Answer::Done("it is being stopped".to_owned()),
        };
        // Who asked may be gone.
        let _ = answer.send(said);
    }

    /// Takes no connection any more, and waits for those that there are.
    async fn stop(mut self, mut signals: Signals, mut asks: mpsc::Receiver<Asked>, drain: Duration) {
        self.stopping = true;
        manager(&[NotifyState::Stopping]);
        for rule in self.rules.drain(..) {
            self.removed.push(rule.running);
        }
        let open = self.engine.count();
        if open > 0 {
            tracing::info!("stopping: {open} connections may go on for {drain:?}; a second signal ends them at once");
        }
        let engine = self.engine.clone();
        let drained = engine.drain(drain);
        tokio::pin!(drained);
        let left = loop {
            tokio::select! {
                left = &mut drained => break left,
                () = signals.stop() => break engine.drain(Duration::ZERO).await,
                Some(Asked { ask, answer }) = asks.recv() => match ask {
                    Ask::Stop { drain_ms: Some(0) } => {
                        let _ = answer.send(Answer::Done("its connections are ended".to_owned()));
                        break engine.drain(Duration::ZERO).await;
                    }
                    Ask::Reload => {
                        let _ = answer.send(Answer::Failed("portfwd is being stopped".to_owned()));
                    }
                    ask => self.answer(Asked { ask, answer }).await,
                },
            }
        };
        match left {
            0 => tracing::info!("stopped"),
            left => tracing::info!("stopped; {left} connections were reset"),
        }
    }

    /// Reads the rules again. If anything is wrong with them all stays as it was. What changed, or what is wrong, in a sentence.
    async fn reload(&mut self) -> Result<String, String> {
        let done = self.take_rules().await.map_err(|error| printable(&format!("{error:#}")));
        match &done {
            Ok(words) => tracing::info!("reloaded: {words}"),
            Err(why) => tracing::error!("not reloaded, the rules are those of before: {why}"),
        }
        self.reloads.note(&done);
        done
    }

    async fn take_rules(&mut self) -> anyhow::Result<String> {
        if !self.source.is_file() {
            return Err(anyhow!("its rules are those of its command line; end it and start it with others"));
        }
        let file = super::rules_of(&self.source)?;
        let old: Vec<Rule> = self.rules.iter().map(|rule| rule.running.rule.clone()).collect();
        let plan = plan(&old, &file.rules);
        let now = Instant::now();
        self.closed.retain(|(closed, _)| now.saturating_duration_since(*closed) < CLOSING);
        // Files of certificates may have changed where the rule did not.
        let tls = |rule: &Rule| rule.options.tls_in.is_some() || rule.options.tls_out.is_some();
        let (renewed, kept): (Vec<_>, Vec<_>) = plan.keep.iter().copied().partition(|(_, new)| tls(&file.rules[*new]));
        let mut fresh: Vec<Option<InForce>> = file.rules.iter().map(|_| None).collect();
        let mut changed = Vec::new();
        for (was, is) in plan.change.iter().chain(&renewed) {
            changed.push((*was, *is, self.engine.running(file.rules[*is].clone(), Some(&self.rules[*was].running))?));
        }
        for is in &plan.open {
            fresh[*is] = Some(self.open_new(file.rules[*is].clone()).await?);
        }
        let mut late = Vec::new();
        for is in &plan.open_after {
            let rule = file.rules[*is].clone();
            let former = self.former(&rule);
            late.push((*is, self.engine.running(rule, former)?));
        }
        // From here on nothing is taken back.
        let mut old: Vec<Option<InForce>> = self.rules.drain(..).map(Some).collect();
        for (was, is) in kept {
            fresh[is] = old[was].take();
        }
        for (was, is, running) in changed {
            if let Some(mut rule) = old[was].take() {
                if let Ok(opened) = &rule.opened {
                    opened.replace(running.clone());
                }
                rule.running = running;
                fresh[is] = Some(rule);
            }
        }
        plan.close.iter().filter_map(|was| old[*was].take()).for_each(|rule| self.close_rule(now, rule));
        for (is, running) in late {
            let opened = self.engine.open_patiently(running.clone()).await.map_err(|error| error.to_string());
            if let Err(why) = &opened {
                tracing::error!("rule {}: {why}; it is tried again each second", running.rule.name);
            }
            fresh[is] = Some(InForce { running, opened });
        }
        self.rules = fresh.into_iter().flatten().collect();
        self.forget();
        Ok(format!(
            "{} rules, {} new, {} changed, {} taken away",
            self.rules.len(),
            plan.open.len() + plan.open_after.len(),
            plan.change.len(),
            plan.close.len()
        ))
    }

    fn close_rule(&mut self, now: Instant, rule: InForce) {
        tracing::info!("rule {} is taken away", rule.running.rule.name);
        self.closed.push((now, rule.running.rule.listen.clone()));
        self.removed.push(rule.running);
    }

    /// A rule that was not there before, on an end that may have been closed a moment ago.
    async fn open_new(&self, rule: Rule) -> anyhow::Result<InForce> {
        let former = self.former(&rule);
        let running = self.engine.running(rule, former)?;
        let late = self.closed.iter().any(|(_, end)| overlap(end, &running.rule.listen));
        let opened = match late {
            true => self.engine.open_patiently(running.clone()).await?,
            false => self.engine.open(running.clone()).await?,
        };
        Ok(InForce { running, opened: Ok(opened) })
    }

    /// A rule that was taken away and has connections left goes on counting where it is there again.
    fn former(&self, rule: &Rule) -> Option<&Running> {
        self.removed.iter().map(|running| &**running).find(|former| former.rule.name == rule.name)
    }

    async fn open_again(&mut self) {
        for rule in self.rules.iter_mut().filter(|rule| rule.opened.is_err()) {
            if let Ok(opened) = self.engine.open(rule.running.clone()).await {
                tracing::info!("rule {} listens at last", rule.running.rule.name);
                rule.opened = Ok(opened);
            }
        }
    }

    /// Rules that are taken away are known as long as they have connections.
    fn forget(&mut self) {
        let again =
            |removed: &Running| self.rules.iter().any(|rule| Arc::ptr_eq(&rule.running.counters, &removed.counters));
        self.removed.retain(|running| running.counters.open() > 0 && !again(running));
    }

    /// How it is, with so many connections.
    fn status(&mut self, connections: usize) -> Status {
        let now = Instant::now();
        self.forget();
        let state = |rule: &InForce| match &rule.opened {
            Ok(opened) if opened.is_open() => "listening".to_owned(),
            Ok(_) => "closed".to_owned(),
            Err(why) => why.clone(),
        };
        let mut rules: Vec<_> = self.rules.iter().map(|rule| (state(rule), &rule.running)).collect();
        rules.extend(self.removed.iter().map(|running| ("removed".to_owned(), running)));
        let mut lives = self.engine.lives();
        lives.sort_by_key(|live| live.since);
        let left_out = lives.len().saturating_sub(connections) as u64;
        lives.truncate(connections);
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Status {
            build: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_ms: millis(now.saturating_duration_since(self.began)),
            file: self.source.name(),
            reload_failed: self.reloads.why.clone(),
            reloads: self.reloads.taken,
            reloads_failed: self.reloads.failed,
            stopping: self.stopping,
            workers: self.engine.workers(),
            rss_bytes: resident(),
            rules: rules.into_iter().map(|(state, running)| running.status(state)).collect(),
            connections: lives.iter().map(|live| live.status(now)).collect(),
            left_out,
        }
    }
}
