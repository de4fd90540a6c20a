//! Lines of the report: what was looked at and what came of it.

use serde::Serialize;

use super::words::Words;
use crate::machine::text::printable;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Worth knowing; nothing is broken by it.
    Note,
    /// Something does not work, or will not.
    Trouble,
    /// It could not be looked at; why is said.
    #[serde(rename = "not checked")]
    Unchecked,
}

impl Level {
    /// As it is printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Trouble => "trouble",
            Self::Unchecked => "-",
        }
    }
}

/// A line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// What was looked at.
    pub check: &'static str,
    /// How it came out.
    pub level: Level,
    /// The finding's name; none where all is well or nothing could be looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<&'static str>,
    /// What was found; not checked: why.
    pub found: String,
    /// What it means.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub means: Option<String>,
    /// The command that mends it.
    #[serde(rename = "do", skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

/// The lines of one check as they are found.
#[derive(Debug)]
pub(super) struct Lines {
    check: &'static str,
    lines: Vec<Line>,
}

impl Lines {
    /// Of the check with this name.
    pub(super) fn of(check: &'static str) -> Self {
        Self { check, lines: Vec::new() }
    }

    fn push(&mut self, level: Level, found: String) {
        self.lines.push(Line { check: self.check, level, id: None, found, means: None, mend: None });
    }

    /// All is well.
    pub(super) fn ok(&mut self, said: impl AsRef<str>) {
        self.push(Level::Ok, printable(said.as_ref()));
    }

    /// It could not be looked at.
    pub(super) fn unchecked(&mut self, why: impl AsRef<str>) {
        self.push(Level::Unchecked, printable(why.as_ref()));
    }

    /// A finding, with its values.
    pub(super) fn find(&mut self, words: &Words, values: &[(&str, &str)]) {
        self.lines.push(Line {
            check: self.check,
            level: words.level,
            id: Some(words.id),
            found: fill(words.found, values, |_, value| printable(value)),
            means: Some(fill(words.means, values, |_, value| printable(value))),
            mend: Some(fill(words.mend, values, pasted)),
        });
    }

    /// Whether nothing was found yet, good or bad.
    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The lines.
    pub(super) fn done(self) -> Vec<Line> {
        self.lines
    }
}

/// Puts values where the words leave room for them. What a value holds is not looked at again.
fn fill(words: &str, values: &[(&str, &str)], show: impl Fn(&str, &str) -> String) -> String {
    let mut out = String::with_capacity(words.len() + 32);
    let mut rest = words;
    while let Some((before, after)) = rest.split_once('{') {
        let (word, after) = after.split_once('}').unwrap_or((after, ""));
        let value = values.iter().find(|(known, _)| *known == word).map(|(_, value)| *value);
        debug_assert!(value.is_some(), "no value for {word} in: {words}");
        out.push_str(before);
        out.push_str(&show(word, value.unwrap_or("?")));
        rest = after;
    }
    out.push_str(rest);
    out
}

/// A value in a command.
fn pasted(word: &str, value: &str) -> String {
    if word.ends_with("command") { printable(value) } else { quoted(value) }
}

/// Text as one word of a shell: a peer's or a file's words must not become a command of their own.
pub(super) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    let shown = printable(text);
    if !shown.is_empty() && shown.chars().all(plain) { shown } else { format!("'{}'", shown.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::doctor::words::{self, PEER_SILENT};

    #[test]
    fn no_two_findings_have_one_name_and_all_have_words() {
        let mut ids: Vec<_> = words::ALL.iter().map(|words| words.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), words::ALL.len());
        for words in words::ALL {
            assert!(matches!(words.level, Level::Note | Level::Trouble), "{}", words.id);
            for text in [words.found, words.means, words.mend] {
                assert!(!text.is_empty() && text.matches('{').count() == text.matches('}').count(), "{}", words.id);
                assert!(!text.contains('|'), "{} would break the table of docs/tools.md", words.id);
            }
        }
    }

    #[test]
    fn a_value_is_neither_a_command_nor_a_place_for_values() {
        let mut lines = Lines::of("peers");
        let values = [
            ("host", "10.0.0.2:3359"),
            ("names", "a{ip}\u{1b};rm"),
            ("sent", "3"),
            ("ms", "9"),
            ("port", "1"),
            ("ip", "$(reboot)'"),
        ];
        lines.find(&PEER_SILENT, &values);
        let line = lines.done().remove(0);
        assert!(line.found.contains("where a{ip}\\u{1b};rm is to be"), "{}", line.found);
        assert_eq!(line.mend.as_deref(), Some(r"ssh '$(reboot)'\''' irm doctor"));
    }

    #[test]
    fn words_of_a_shell() {
        let table = [("udp0", "udp0"), ("", "''"), ("a b", "'a b'"), ("a;b", "'a;b'"), ("it's", r"'it'\''s'")];
        for (text, want) in table {
            assert_eq!(quoted(text), want);
        }
    }
}
