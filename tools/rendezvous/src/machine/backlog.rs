//! What is still to be shown on a terminal that somebody may have stopped (Ctrl-S), or in a pipe that nobody reads: so much waits,
//! and of more the oldest goes, which is told.

use std::collections::VecDeque;

/// Texts that wait, and their bytes altogether.
const TEXTS: usize = 1_000;
const BYTES: usize = 1 << 20;

/// Texts of whole lines, in order.
#[derive(Debug, Default)]
pub struct Backlog {
    texts: VecDeque<String>,
    bytes: usize,
    /// Lines that went, before all that waits.
    lost: usize,
}

impl Backlog {
    /// One more.
    pub fn push(&mut self, text: String) {
        self.bytes += text.len();
        self.texts.push_back(text);
        while self.texts.len() > TEXTS || self.bytes > BYTES {
            let Some(oldest) = self.texts.pop_front() else { return };
            self.bytes -= oldest.len();
            self.lost += oldest.lines().count();
        }
    }

    /// The next to show: a word of what went first.
    pub fn pop(&mut self) -> Option<String> {
        match std::mem::take(&mut self.lost) {
            0 => {}
            1 => return Some(super::chat::note("a line is not shown: this output was stopped")),
            lost => return Some(super::chat::note(&format!("{lost} lines are not shown: this output was stopped"))),
        }
        let text = self.texts.pop_front()?;
        self.bytes -= text.len();
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(backlog: &mut Backlog) -> Vec<String> {
        std::iter::from_fn(|| backlog.pop()).collect()
    }

    #[test]
    fn what_fits_is_shown_in_order() {
        let mut backlog = Backlog::default();
        for n in 0..TEXTS {
            backlog.push(format!("{n}\n"));
        }
        let shown = all(&mut backlog);
        assert_eq!((shown.len(), shown[0].as_str(), shown[TEXTS - 1].as_str()), (TEXTS, "0\n", "999\n"));
        assert!(all(&mut backlog).is_empty() && backlog.bytes == 0);
    }

    #[test]
    fn of_more_the_oldest_goes_and_is_counted_in_lines() {
        let mut backlog = Backlog::default();
        backlog.push("one\ntwo\n".into());
        for n in 0..TEXTS + 4 {
            backlog.push(format!("{n}\n"));
        }
        let shown = all(&mut backlog);
        assert_eq!(shown[0], "* 6 lines are not shown: this output was stopped\n");
        assert_eq!((shown.len(), shown[1].as_str()), (TEXTS + 1, "4\n"));
    }

    #[test]
    fn long_texts_are_fewer() {
        let mut backlog = Backlog::default();
        for _ in 0..TEXTS {
            backlog.push(format!("{}\n", "x".repeat(BYTES / 4)));
            assert!(backlog.bytes <= BYTES && backlog.texts.len() <= 3);
        }
        // One alone that is longer goes, too.
        backlog.push("y".repeat(BYTES + 1));
        assert_eq!(all(&mut backlog), ["* 1001 lines are not shown: this output was stopped\n"]);
    }

    #[test]
    fn what_went_is_told_once_and_only_where_it_was() {
        let mut backlog = Backlog::default();
        for n in 0..=TEXTS {
            backlog.push(format!("{n}\n"));
        }
        assert_eq!(backlog.pop().as_deref(), Some("* a line is not shown: this output was stopped\n"));
        assert_eq!(backlog.pop().as_deref(), Some("1\n"));
        backlog.push("last\n".into());
        assert_eq!(all(&mut backlog).last().map(String::as_str), Some("last\n"));
    }
}
