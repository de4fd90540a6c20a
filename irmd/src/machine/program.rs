//! Programs bound to a name, and when one is started on demand.
//!
//! At most one instance of a program is on its way at a time, however many flows wait: it counts as on its way until
//! some process accepts on the name, it exits, or [`ACCEPTS_WITHIN`] has passed. One that exits before it served is
//! not started again before a pause that doubles up to [`LONGEST_PAUSE`].

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::ChildId;
use crate::config::Account;

/// How long a started program may take to accept before another may be started.
pub const ACCEPTS_WITHIN: Duration = Duration::from_secs(10);
/// How long a flow waits for processes that do not accept before another instance is started.
pub const HELP_AFTER: Duration = Duration::from_millis(500);
/// Instances of one program.
pub const INSTANCES: usize = 8;
/// The first pause after an instance that exited too early.
pub const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest one.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A program bound to a name.
#[derive(Clone, Debug)]
pub struct Program {
    /// Absolute path.
    pub path: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Started when a flow arrives and nobody accepts.
    pub auto: bool,
    /// As whom it is started: as irmd's own user unless given.
    pub user: Option<Account>,
    instances: BTreeSet<ChildId>,
    starting: Option<(ChildId, Instant)>,
    pause: Duration,
    not_before: Option<Instant>,
    last_failure: String,
}

/// What can be done for a flow that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Start an instance.
    Start,
    /// One is on its way until then.
    Wait(Instant),
    /// It has failed; not again before then.
    Paused(Instant, String),
    /// As many run as may.
    Full,
}

impl Program {
    /// A program of which no instance runs.
    pub fn new(path: String, args: Vec<String>, auto: bool) -> Self {
        Self {
            path,
            args,
            auto,
            user: None,
            instances: BTreeSet::new(),
            starting: None,
            pause: FIRST_PAUSE,
            not_before: None,
            last_failure: String::new(),
        }
    }

    /// The same, started as a user.
    pub fn run_as(self, user: Account) -> Self {
        Self { user: Some(user), ..self }
    }

    /// The user it is started as; `own` is irmd's. One that does not exist is nobody, whom nothing can be started as.
    pub fn uid(&self, own: u32) -> u32 {
        self.user.as_ref().map_or(own, |user| user.id.unwrap_or(u32::MAX))
    }

    /// What to do for a flow that waits.
    pub fn plan(&self, now: Instant) -> Plan {
        match (self.starting, self.not_before) {
            (Some((_, until)), _) if until > now => Plan::Wait(until),
            (_, Some(then)) if then > now => Plan::Paused(then, self.last_failure.clone()),
            _ if self.instances.len() >= INSTANCES => Plan::Full,
            _ => Plan::Start,
        }
    }

    /// An instance is being started.
    pub fn started(&mut self, child: ChildId, now: Instant) {
        self.instances.insert(child);
        self.starting = Some((child, now + ACCEPTS_WITHIN));
    }

    /// Some process accepts on the name: whoever was on its way has arrived.
    pub fn accepts(&mut self) {
        if self.starting.take().is_some() {
            self.pause = FIRST_PAUSE;
            self.not_before = None;
        }
    }

    /// How many instances run, as far as is known.
    pub fn running(&self) -> usize {
        self.instances.len()
    }

    /// Whether `child` is an instance of this program.
    pub fn owns(&self, child: ChildId) -> bool {
        self.instances.contains(&child)
    }

    /// An instance has ended, or could not be started, `how`. Says whether it was still on its way.
    pub fn ended(&mut self, child: ChildId, how: &str, now: Instant) -> bool {
        self.instances.remove(&child);
        let early = self.starting.is_some_and(|(starting, _)| starting == child);
        if early {
            self.starting = None;
            self.not_before = Some(now + self.pause);
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            self.last_failure = format!("{} {how} before it accepted", self.path);
        }
        early
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test draws one moment to count from")]
mod tests {
    use super::*;

    fn at(t0: Instant, ms: u64) -> Instant {
        t0 + Duration::from_millis(ms)
    }

    #[test]
    fn one_instance_is_on_its_way_at_a_time() {
        let t0 = Instant::now();
        let mut program = Program::new("/bin/server".into(), vec![], true);
        assert_eq!(program.plan(t0), Plan::Start);
        program.started(ChildId(1), t0);
        assert_eq!(program.plan(at(t0, 9_999)), Plan::Wait(at(t0, 10_000)));
        assert_eq!(program.plan(at(t0, 10_000)), Plan::Start);
        program.accepts();
        assert_eq!(program.plan(at(t0, 1)), Plan::Start);
    }

    #[test]
    fn early_exits_are_paused_ever_longer() {
        let t0 = Instant::now();
        let mut program = Program::new("/bin/server".into(), vec![], true);
        let mut now = t0;
        for (n, seconds) in [1, 2, 4, 8, 16, 32, 60, 60].into_iter().enumerate() {
            let child = ChildId(n as u64);
            program.started(child, now);
            assert!(program.ended(child, "exited with status 1", now));
            let then = now + Duration::from_secs(seconds);
            let why = "/bin/server exited with status 1 before it accepted".to_owned();
            assert_eq!(program.plan(now), Plan::Paused(then, why));
            now = then;
            assert_eq!(program.plan(now), Plan::Start);
        }
        program.started(ChildId(99), now);
        program.accepts();
        assert!(!program.ended(ChildId(99), "exited with status 0", now));
        assert_eq!(program.plan(now), Plan::Start);
        assert_eq!(program.running(), 0);
    }

    #[test]
    fn instances_are_bounded() {
        let t0 = Instant::now();
        let mut program = Program::new("/bin/server".into(), vec![], true);
        for n in 0..INSTANCES as u64 {
            program.started(ChildId(n), t0);
            program.accepts();
        }
        assert_eq!(program.plan(t0), Plan::Full);
        assert!(program.owns(ChildId(0)));
        program.ended(ChildId(0), "was killed", t0);
        assert_eq!(program.plan(t0), Plan::Start);
    }
}
