//! What keys do.

use std::time::{Duration, Instant};

use super::{Ask, Dialog, INTERVALS, MAX_FILTER, Pane, Screen};
use crate::machine::key::Key;
use crate::machine::order::Column;

impl Screen {
    /// A key was pressed.
    pub fn handle_key(&mut self, now: Instant, key: Key) {
        if key == Key::Ctrl('c') {
            self.quit = true;
            return;
        }
        match self.dialog.take() {
            Some(Dialog::Filter(before)) => self.type_filter(before, key),
            Some(Dialog::Sort(at)) => self.choose_sort(at, key),
            Some(Dialog::End(id, words)) => match key {
                Key::Char('y' | 'Y') => self.ask(Ask::End(id)),
                Key::Char('n' | 'N' | 'q') | Key::Esc => self.say(now, format!("flow {id} goes on")),
                _ => self.dialog = Some(Dialog::End(id, words)),
            },
            None if !self.press_anywhere(now, key) => match self.pane {
                Pane::List => self.press_in_list(key),
                Pane::Flow(_) => self.press_in_flow(now, key),
                Pane::Refusals | Pane::Help => self.press_in_text(key),
            },
            None => {}
        }
    }

    /// Keys that mean the same wherever one is; whether this was one.
    fn press_anywhere(&mut self, now: Instant, key: Key) -> bool {
        match key {
            Key::F(10) => self.quit = true,
            Key::Char('?' | 'h') | Key::F(1) => {
                self.show(if self.pane == Pane::Help { Pane::List } else { Pane::Help })
            }
            Key::Char('r') => self.show(if self.pane == Pane::Refusals { Pane::List } else { Pane::Refusals }),
            Key::Char('p') => self.pause(now),
            Key::Char('+') => self.set_interval(now, INTERVALS.into_iter().find(|ms| u128::from(*ms) > self.ms())),
            Key::Char('-') => {
                self.set_interval(now, INTERVALS.into_iter().rev().find(|ms| u128::from(*ms) < self.ms()));
            }
            _ => return false,
        }
        true
    }

    fn press_in_list(&mut self, key: Key) {
        match key {
            Key::Up => self.hold(self.cursor.saturating_sub(1)),
            Key::Down => self.hold(self.cursor + 1),
            Key::PageUp => self.hold(self.cursor.saturating_sub(self.page)),
            Key::PageDown => self.hold(self.cursor + self.page),
            Key::Home => {
                // The first place, whoever is there.
                self.hold(0);
                self.held = None;
            }
            Key::End => self.hold(usize::MAX),
            Key::Char('/') | Key::F(4) => self.dialog = Some(Dialog::Filter(self.filter.clone())),
            Key::Char('s') | Key::F(6) => self.dialog = Some(Dialog::Sort(self.sorted())),
            Key::Char('<') => self.set_sort(Column::ALL[self.sorted().saturating_sub(1)]),
            Key::Char('>') => self.set_sort(Column::ALL[(self.sorted() + 1).min(Column::ALL.len() - 1)]),
            Key::Char('I') => {
                self.sort.reversed = !self.sort.reversed;
                self.arrange();
            }
            Key::Char('k') | Key::F(9) => self.ask_to_end(),
            Key::Enter => {
                if let Some(id) = self.chosen() {
                    self.hold(self.cursor);
                    self.show(Pane::Flow(id));
                }
            }
            Key::Esc if !self.filter.is_empty() => {
                self.filter.clear();
                self.arrange();
            }
            Key::Char('q') | Key::Esc => self.quit = true,
            _ => {}
        }
    }

    fn press_in_flow(&mut self, now: Instant, key: Key) {
        match key {
            Key::Char('k') | Key::F(9) => self.ask_to_end(),
            // Back into the past, whose end is what is seen first.
            Key::PageUp => {
                let steps = self.detail.as_ref().map_or(0, |detail| detail.history.len());
                self.scroll = (self.scroll + 3).min(steps);
            }
            Key::PageDown => self.scroll = self.scroll.saturating_sub(3),
            Key::Up | Key::Down => {
                self.press_in_list(key);
                if let Some(at) = self.rows.get(self.cursor) {
                    self.show(Pane::Flow(self.flows.all()[*at].counts.id));
                    self.due = now;
                }
            }
            Key::Char('q') | Key::Esc | Key::Enter | Key::Left => self.show(Pane::List),
            _ => {}
        }
    }

    fn press_in_text(&mut self, key: Key) {
        let longest = self.events.refusals().len().max(20);
        match key {
            Key::Up => self.scroll = self.scroll.saturating_sub(1),
            Key::Down => self.scroll = (self.scroll + 1).min(longest),
            Key::PageUp => self.scroll = self.scroll.saturating_sub(self.page),
            Key::PageDown => self.scroll = (self.scroll + self.page).min(longest),
            Key::Home => self.scroll = 0,
            Key::End => self.scroll = longest,
            Key::Char('q') | Key::Esc | Key::Enter => self.show(Pane::List),
            _ => {}
        }
    }

    fn show(&mut self, pane: Pane) {
        if let Pane::Flow(id) = pane {
            if self.detail.as_ref().is_none_or(|detail| detail.facts.id != id) {
                self.detail = None;
            }
            self.ask(Ask::Detail(id));
        }
        self.pane = pane;
        self.scroll = 0;
    }

    fn ask_to_end(&mut self) {
        if let Some(id) = self.chosen() {
            self.dialog = Some(Dialog::End(id, self.end_words(id)));
        }
    }

    fn type_filter(&mut self, before: String, key: Key) {
        match key {
            Key::Enter => return,
            Key::Esc => {
                self.filter = before;
                self.arrange();
                return;
            }
            Key::Backspace => drop(self.filter.pop()),
            Key::Ctrl('u') => self.filter.clear(),
            Key::Char(c) if !c.is_control() && self.filter.len() < MAX_FILTER => self.filter.push(c),
            _ => {}
        }
        self.arrange();
        self.dialog = Some(Dialog::Filter(before));
    }

    fn choose_sort(&mut self, at: usize, key: Key) {
        let last = Column::ALL.len() - 1;
        let at = match key {
            Key::Up => at.saturating_sub(1),
            Key::Down => (at + 1).min(last),
            Key::Home | Key::PageUp => 0,
            Key::End | Key::PageDown => last,
            Key::Enter => return self.set_sort(Column::ALL[at]),
            Key::Esc | Key::Char('q' | 's') => return,
            _ => at,
        };
        self.dialog = Some(Dialog::Sort(at));
    }

    fn sorted(&self) -> usize {
        Column::ALL.iter().position(|column| *column == self.sort.by).unwrap_or(0)
    }

    fn pause(&mut self, now: Instant) {
        self.paused = !self.paused;
        if !self.paused {
            self.due = now;
        }
    }

    fn ms(&self) -> u128 {
        self.interval.as_millis()
    }

    fn set_interval(&mut self, now: Instant, ms: Option<u64>) {
        if let Some(ms) = ms {
            self.interval = Duration::from_millis(ms);
            self.due = self.due.min(now + self.interval);
        }
    }
}
