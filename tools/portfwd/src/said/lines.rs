//! The seed's file of rules: one to a line, `LISTEN -> TARGET`, several targets with commas between them.
//!
//! ```text
//! # the two web servers
//! 7005 -> 192.168.0.1:8005
//! 7006 -> 192.168.0.2:8006, 192.168.0.3:8006    # take turns
//! ```
//!
//! What stands behind a `#` at the beginning of a line or after a blank is a comment.

use service::Fault;

use super::end::{End, EndError};
use super::file::Written;
use super::rule::Rule;

/// Every rule with the byte where its line begins.
pub(super) fn parse(text: &str) -> Result<Vec<Written>, Fault> {
    let mut written = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let said = without_comment(line);
        let begin = at + said.len() - said.trim_start_matches(is_blank).len();
        if begin < at + said.trim_end().len() {
            let rule = rule(said, at).map_err(|(byte, what)| Fault::at(text, byte, what))?;
            written.push(Written { rule, at: begin });
        }
        at += line.len();
    }
    Ok(written)
}

/// White space, and a byte order mark, which is no word.
fn is_blank(c: char) -> bool {
    c.is_whitespace() || c == '\u{feff}'
}

fn without_comment(line: &str) -> &str {
    let comment =
        line.char_indices().find(|(at, c)| *c == '#' && (line[..*at].is_empty() || line[..*at].ends_with(is_blank)));
    comment.map_or(line, |(at, _)| &line[..at])
}

/// A line's rule, or what is wrong at which byte.
fn rule(line: &str, at: usize) -> Result<Rule, (usize, String)> {
    let Some((listen, targets)) = line.split_once("->") else {
        let begin = at + line.len() - line.trim_start().len();
        return Err((begin, "there is no '->' in this line; write LISTEN -> TARGET".to_owned()));
    };
    let listen_end = end(listen, at)?;
    let mut behind = at + listen.len() + "->".len();
    let mut ends = Vec::new();
    for target in targets.split(',') {
        if target.trim().is_empty() {
            return Err((
                behind,
                "there is no target here; write LISTEN -> TARGET, with commas between several".into(),
            ));
        }
        ends.push(end(target, behind)?);
        behind += target.len() + 1;
    }
    Ok(Rule::new(listen_end, ends))
}

fn end(word: &str, at: usize) -> Result<End, (usize, String)> {
    let start = at + word.len() - word.trim_start_matches(is_blank).len();
    let word = word.trim_matches(is_blank);
    if let Some((first, rest)) = word.split_once(char::is_whitespace)
        && first.parse::<End>().is_ok()
    {
        let rest = rest.trim_start();
        let what = format!("'{rest}' stands behind the end; options are written in TOML, see portfwd --help");
        return Err((start + word.len() - rest.len(), what));
    }
    word.parse().map_err(|error: EndError| (start, error.to_string()))
}

#[cfg(test)]
mod tests;
