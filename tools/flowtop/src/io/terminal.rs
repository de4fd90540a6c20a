//! The terminal: taken, and given back as it was on every way out.

use std::io;

use crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::DefaultTerminal;

use crate::machine::key::Key;

/// The screen, until it is dropped. A panic gives it back before it says what it was.
pub(super) struct Screen {
    terminal: Option<DefaultTerminal>,
}

impl Screen {
    /// Takes the terminal: no echo, no line at a time, another screen than the shell's.
    pub(super) fn take() -> io::Result<Self> {
        Ok(Self { terminal: Some(ratatui::try_init()?) })
    }

    /// The cells of it.
    pub(super) fn cells(&mut self) -> io::Result<&mut DefaultTerminal> {
        self.terminal.as_mut().ok_or_else(|| io::Error::other("the terminal was given back"))
    }

    /// Lets the shell have the terminal, stops as the user's Ctrl-Z asks, and takes it again when it goes on.
    pub(super) fn stop(&mut self) -> io::Result<()> {
        self.give_back();
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TSTP)?;
        self.terminal = Some(ratatui::try_init()?);
        self.cells()?.clear()
    }

    fn give_back(&mut self) {
        let Some(mut terminal) = self.terminal.take() else { return };
        // Of a terminal that is gone nothing is to be restored; and dropped, it would say so on it, which panics.
        if terminal.show_cursor().is_err() {
            std::mem::forget(terminal);
        }
        let _ = ratatui::try_restore();
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// A key as the machine knows it.
pub(super) fn key(event: &Event) -> Option<Key> {
    let Event::Key(event) = event else { return None };
    if event.kind == KeyEventKind::Release {
        return None;
    }
    Some(match event.code {
        KeyCode::Char(c) if event.modifiers.contains(KeyModifiers::CONTROL) => Key::Ctrl(c.to_ascii_lowercase()),
        KeyCode::Char(c) => Key::Char(c),
        KeyCode::F(n) => Key::F(n),
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::Left => Key::Left,
        KeyCode::Right => Key::Right,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Esc,
        KeyCode::Backspace => Key::Backspace,
        _ => return None,
    })
}
