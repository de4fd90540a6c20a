//! A program on a terminal: a pseudo terminal of the kernel's, and what it would show.

use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use lab::Deadline;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal};
use rustix::pty::OpenptFlags;
use rustix::termios::{Termios, Winsize};

/// A program and its terminal. Killed when dropped.
pub struct Terminal {
    child: Killed,
    pidfd: OwnedFd,
    master: std::fs::File,
    /// Held so that the terminal's modes outlive the program.
    slave: OwnedFd,
    before: Termios,
    shown: Arc<Shown>,
    /// What reads the screen, and whose end ends that.
    reader: std::thread::JoinHandle<()>,
    reading: OwnedFd,
}

/// A process that does not outlive its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Shown {
    parser: Mutex<vt100::Parser>,
    changed: Condvar,
}

impl Shown {
    fn lock(&self) -> std::sync::MutexGuard<'_, vt100::Parser> {
        self.parser.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size(columns: u16, lines: u16) -> Winsize {
    Winsize { ws_row: lines, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

fn cells(count: u16) -> std::num::NonZero<u16> {
    std::num::NonZero::new(count).unwrap_or(std::num::NonZero::<u16>::MIN)
}

impl Terminal {
    /// Starts `command` on a terminal of so many columns and lines.
    pub fn start(mut command: Command, columns: u16, lines: u16) -> Result<Self> {
        let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .context("a pseudo terminal")?;
        rustix::pty::grantpt(&master)?;
        rustix::pty::unlockpt(&master)?;
        let path = rustix::pty::ptsname(&master, Vec::new())?;
        let slave = rustix::fs::open(&path, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())
            .with_context(|| format!("opening {path:?}"))?;
        rustix::termios::tcsetwinsize(&slave, size(columns, lines))?;
        let before = rustix::termios::tcgetattr(&slave)?;
        command.env("TERM", "xterm-256color").env("LC_ALL", "C.UTF-8").env_remove("NO_COLOR");
        for stream in [Command::stdin, Command::stdout, Command::stderr] {
            stream(&mut command, Stdio::from(slave.try_clone()?));
        }
        let child = command.spawn().with_context(|| format!("starting {:?}", command.get_program()))?;
        let pidfd = rustix::process::pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).context("pidfd_open")?;
        let parser = Mutex::new(vt100::Parser::new(cells(lines), cells(columns), 0));
        let shown = Arc::new(Shown { parser, changed: Condvar::new() });
        let master = std::fs::File::from(master);
        let (from, into) = (master.try_clone()?, shown.clone());
        let (until, reading) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let reader = std::thread::Builder::new().name("terminal".into()).spawn(move || read(from, &until, &into))?;
        Ok(Self { child: Killed(child), pidfd, master, slave, before, shown, reader, reading })
    }

    /// Takes the terminal away, as when the line to a far user breaks, and waits for the program's end.
    pub fn hang_up(self, within: Duration) -> Result<ExitStatus> {
        let Self { mut child, pidfd, master, slave, reader, reading, .. } = self;
        drop(reading);
        let _ = reader.join();
        drop((master, slave));
        ended(&pidfd, within)?;
        child.0.wait().context("its end")
    }

    /// What the screen shows, a line for each line.
    pub fn text(&self) -> String {
        self.shown.lock().screen().contents()
    }

    /// Types.
    pub fn press(&mut self, keys: &str) -> Result<()> {
        self.master.write_all(keys.as_bytes()).context("typing")
    }

    /// Waits until the screen is as wanted, and gives it.
    pub fn await_text(&self, within: Duration, what: &str, wanted: impl Fn(&str) -> bool) -> Result<String> {
        let deadline = Deadline::after(within);
        let mut parser = self.shown.lock();
        loop {
            let text = parser.screen().contents();
            if wanted(&text) {
                return Ok(text);
            }
            if deadline.is_past() {
                bail!("the screen never showed {what} within {within:?}; it shows\n{text}");
            }
            parser = self.shown.changed.wait_timeout(parser, deadline.left()).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Gives the window another size.
    pub fn resize(&self, columns: u16, lines: u16) -> Result<()> {
        self.shown.lock().screen_mut().set_size(cells(lines), cells(columns));
        rustix::termios::tcsetwinsize(&self.slave, size(columns, lines))?;
        // It is no controlling terminal: nobody else tells the program.
        self.signal(Signal::WINCH)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        rustix::process::pidfd_send_signal(&self.pidfd, signal).with_context(|| format!("{signal:?}"))
    }

    /// Waits for the program's end.
    pub fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        ended(&self.pidfd, within).with_context(|| format!("the screen shows\n{}", self.text()))?;
        self.child.0.wait().context("its end")
    }

    /// Whether the terminal is as it was before the program: its modes, the shell's screen, the cursor.
    pub fn is_restored(&self) -> Result<bool> {
        let now = rustix::termios::tcgetattr(self.slave.as_fd())?;
        let same = now.input_modes == self.before.input_modes
            && now.output_modes == self.before.output_modes
            && now.local_modes == self.before.local_modes
            && now.control_modes == self.before.control_modes;
        let parser = self.shown.lock();
        Ok(same && !parser.screen().alternate_screen() && !parser.screen().hide_cursor())
    }

    /// Whether it is again within `within`: a program's last words may still be on their way when it has ended.
    pub fn is_soon_restored(&self, within: Duration) -> bool {
        lab::wait_until(within, "the terminal to be restored", || self.is_restored().unwrap_or(false)).is_ok()
    }
}

/// Feeds the screen until `until` has no writer, or nobody is at the other side.
fn read(mut from: std::fs::File, until: &OwnedFd, into: &Shown) {
    let mut bytes = [0; 4096];
    loop {
        let mut both = [PollFd::new(&from, PollFlags::IN), PollFd::new(until, PollFlags::IN)];
        if rustix::event::poll(&mut both, None).is_err() || !both[1].revents().is_empty() {
            return;
        }
        let Ok(count @ 1..) = from.read(&mut bytes) else { return };
        into.lock().process(&bytes[..count]);
        into.changed.notify_all();
    }
}

fn ended(process: &OwnedFd, within: Duration) -> Result<()> {
    let left = rustix::event::Timespec::try_from(within).context("a deadline beyond time")?;
    let ended = rustix::event::poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&left))?;
    anyhow::ensure!(ended > 0, "it still ran after {within:?}");
    Ok(())
}
