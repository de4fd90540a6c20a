//! flowtop on a terminal, until the user had enough.

use std::io;
use std::time::Instant;

use crossterm::event::EventStream;
use proto::RunDir;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_stream::StreamExt as _;

use super::source::{self, Source};
use super::{BROKEN, Fault, OK, UNABLE, USAGE, place, screen, terminal};
use crate::cli::Cli;
use crate::machine::key::Key;
use crate::machine::screen::Screen;
use crate::machine::told::Told;
use crate::machine::view::{self, Theme};

/// What ends it from outside.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
    quit: Signal,
    hang_up: Signal,
}

impl Stop {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            quit: signal(SignalKind::quit())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// The exit code that the first of them asks for.
    async fn asked(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => OK,
            _ = self.terminate.recv() => OK,
            _ = self.quit.recv() => OK,
            _ = self.hang_up.recv() => BROKEN,
        }
    }
}

/// Shows flows until the user quits.
pub(super) async fn run(cli: &Cli, run_dir: &RunDir) -> Result<u8, Fault> {
    if !place::is_terminal() {
        let why = "standard output is no terminal that can show it; print one frame with --once";
        return Err((USAGE, why.to_owned()));
    }
    // Whoever starts it where no irmd is wants to know that, not a screen that says so.
    super::irmd::Irmd::dial(run_dir).await.map_err(|why| (UNABLE, why))?;
    let broken = |error: io::Error| (BROKEN, format!("the terminal cannot be used: {error}"));
    let mut stop = Stop::new().map_err(broken)?;
    let mut shown = terminal::Screen::take().map_err(broken)?;
    let mut source = source::start(run_dir, true);
    let mut screen = screen(cli);
    let code = watch(&mut screen, &mut source, &mut shown, &mut stop).await;
    // The shell's screen is there again when the error is said.
    drop(shown);
    code.map_err(broken)
}

async fn watch(
    screen: &mut Screen,
    source: &mut Source,
    shown: &mut terminal::Screen,
    stop: &mut Stop,
) -> io::Result<u8> {
    let theme = place::theme();
    let mut keys = EventStream::new();
    loop {
        while let Ok(free) = source.asks.try_reserve() {
            let Some(ask) = screen.poll_ask() else { break };
            free.send(ask);
        }
        draw(screen, &theme, shown)?;
        tokio::select! {
            event = keys.next() => match event {
                Some(event) => press(screen, shown, terminal::key(&event?))?,
                None => return Ok(BROKEN),
            },
            told = source.told.recv() => {
                let Some(told) = told else { return Err(io::Error::other("the task that asks irmd is gone")) };
                take(screen, source, told);
            }
            () = tokio::time::sleep_until(screen.poll_timeout().into()) => screen.handle_timeout(Instant::now()),
            code = stop.asked() => return Ok(code),
        }
        if screen.is_over() {
            return Ok(OK);
        }
    }
}

/// Takes what was told, and all that waits behind it: one frame shows it.
fn take(screen: &mut Screen, source: &mut Source, told: Told) {
    let now = Instant::now();
    screen.handle_told(now, told);
    while let Ok(told) = source.told.try_recv() {
        screen.handle_told(now, told);
    }
}

fn press(screen: &mut Screen, shown: &mut terminal::Screen, key: Option<Key>) -> io::Result<()> {
    match key {
        Some(Key::Ctrl('z')) => shown.stop(),
        Some(Key::Ctrl('l')) => shown.cells()?.clear(),
        Some(key) => {
            screen.handle_key(Instant::now(), key);
            Ok(())
        }
        None => Ok(()),
    }
}

fn draw(screen: &mut Screen, theme: &Theme, shown: &mut terminal::Screen) -> io::Result<()> {
    let now = Instant::now();
    let terminal = shown.cells()?;
    terminal.draw(|frame| {
        screen.handle_page(view::page(frame.area().height));
        view::draw(screen, now, theme, frame.buffer_mut());
    })?;
    Ok(())
}
