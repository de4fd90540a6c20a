//! Processes of a test: their output as it comes, their end with a deadline.

use std::cell::RefCell;
use std::io::{BufRead as _, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::Deadline;

/// Lines of output kept for each stream; the oldest go first. A listing of 10,000 flows has 350,000 lines.
const MAX_LINES: usize = 1_000_000;

/// Lines of a log that are shown with a failure.
const LAST_LINES: usize = 40;

thread_local! {
    static LAST_WORDS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// The ends of the logs of all processes that this thread has dropped since it last asked: what to show beside a
/// failure.
pub fn last_words() -> String {
    LAST_WORDS.take().join("\n")
}

/// A started process. Killed when dropped.
pub struct Running {
    name: String,
    child: Child,
    pidfd: OwnedFd,
    out: Arc<Lines>,
    err: Arc<Lines>,
    status: Option<ExitStatus>,
}

/// What a process said and how it ended.
#[derive(Debug)]
pub struct Output {
    /// Its end.
    pub status: ExitStatus,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Output {
    /// The exit code; 128 + N after signal N.
    pub fn code(&self) -> i32 {
        self.status.code().or(self.status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
    }
}

#[derive(Default)]
struct Lines {
    text: Mutex<Text>,
    changed: Condvar,
}

#[derive(Default)]
struct Text {
    lines: Vec<String>,
    closed: bool,
}

impl Lines {
    fn collect(stream: impl Read + Send + 'static, name: &str) -> Result<Arc<Self>> {
        let lines = Arc::new(Self::default());
        let into = lines.clone();
        std::thread::Builder::new().name(format!("{name} output")).spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                line.clear();
                let mut kept = into.lock();
                if kept.lines.len() == MAX_LINES {
                    kept.lines.drain(..MAX_LINES / 2);
                }
                kept.lines.push(text);
                into.changed.notify_all();
            }
            into.lock().closed = true;
            into.changed.notify_all();
        })?;
        Ok(lines)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Text> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first line that `wanted` takes, among those said already or until the deadline.
    fn find(&self, deadline: Deadline, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let mut text = self.lock();
        loop {
            if let Some(line) = text.lines.iter().find(|line| wanted(line)) {
                return Some(line.clone());
            }
            if text.closed || deadline.is_past() {
                return None;
            }
            text = self.changed.wait_timeout(text, deadline.left()).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn all(&self) -> String {
        self.lock().lines.join("\n")
    }

    /// All lines, once the stream is closed: a process' last words may be read after its end was seen.
    fn all_of_ended(&self) -> String {
        let deadline = Deadline::after(Duration::from_secs(1));
        let _ = self.find(deadline, |_| false);
        self.all()
    }
}

impl Running {
    /// Starts `command` with its output collected and its input open.
    pub fn start(name: &str, mut command: Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("starting {:?}", command.get_program()))?;
        let pid = Pid::from_child(&child);
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).context("pidfd_open")?;
        let out = Lines::collect(child.stdout.take().context("stdout")?, name)?;
        let err = Lines::collect(child.stderr.take().context("stderr")?, name)?;
        Ok(Self { name: name.to_owned(), child, pidfd, out, err, status: None })
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its standard input; taken once, closed when dropped.
    pub fn input(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Standard output so far.
    pub fn out(&self) -> String {
        self.out.all()
    }

    /// Standard error so far.
    pub fn err(&self) -> String {
        self.err.all()
    }

    /// Waits for a line on standard output that contains `text`, said already or to come.
    pub fn expect_line(&self, within: Duration, text: &str) -> Result<String> {
        self.expect(within, text, |line| line.contains(text))
    }

    /// Waits for a line on standard output that `wanted` takes; `what` names it.
    pub fn expect(&self, within: Duration, what: &str, wanted: impl Fn(&str) -> bool) -> Result<String> {
        self.out.find(Deadline::after(within), wanted).with_context(|| {
            let (out, err) = (self.out(), self.err());
            format!("{}: no line with {what:?} within {within:?}\nit said:\n{out}\n{err}", self.name)
        })
    }

    /// Waits for a line on standard error that contains `text`.
    pub fn expect_log(&self, within: Duration, text: &str) -> Result<String> {
        self.err
            .find(Deadline::after(within), |line| line.contains(text))
            .with_context(|| format!("{}: no log line with {text:?} within {within:?}\n{}", self.name, self.err()))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        rustix::process::pidfd_send_signal(&self.pidfd, signal).with_context(|| format!("{signal:?} to {}", self.name))
    }

    /// Kills it (SIGKILL) and waits for its end.
    pub fn kill(&mut self) -> Result<()> {
        if self.status.is_none() {
            self.signal(Signal::KILL)?;
            self.status = Some(self.child.wait()?);
        }
        Ok(())
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        if self.status.is_none() {
            self.status = self.child.try_wait().ok().flatten();
        }
        self.status.is_none()
    }

    /// Waits for its end. Still running after `within`: killed, and an error with what it said.
    pub fn wait(&mut self, within: Duration) -> Result<Output> {
        let deadline = Deadline::after(within);
        while self.is_running() {
            let left = deadline.left();
            if left.is_zero() {
                self.kill()?;
                bail!("{} still ran after {within:?}; it said:\n{}\n{}", self.name, self.out(), self.err());
            }
            let left = rustix::event::Timespec::try_from(left).context("a deadline beyond time")?;
            let _ = rustix::event::poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], Some(&left));
        }
        let status = self.status.context("ended, so it has a status")?;
        Ok(Output { status, out: self.out.all_of_ended(), err: self.err.all_of_ended() })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.kill();
        let log = self.err.all_of_ended();
        if !log.is_empty() {
            let from = log.lines().count().saturating_sub(LAST_LINES);
            let tail: Vec<&str> = log.lines().skip(from).collect();
            LAST_WORDS.with_borrow_mut(|words| words.push(format!("--- {}:\n{}", self.name, tail.join("\n"))));
        }
    }
}
