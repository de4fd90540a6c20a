//! The file of remembered hosts: a line for each, of its user, its name, the host, how it came to be, since when.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, anyhow};

use super::state::write;
use crate::machine::trust::{Known, MOST_KNOWN, Source};

/// What an earlier irmd remembered. A line that is none is an error: to pass over it would be to trust whoever comes next.
pub(super) fn load(path: &Path) -> anyhow::Result<Vec<Known>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    parse(&text).map_err(|line| {
        anyhow!(
            "{}, line {line}: it is none of irmd's; correct it, or remove it to trust who comes first",
            path.display()
        )
    })
}

fn parse(text: &str) -> Result<Vec<Known>, usize> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines.take(MOST_KNOWN).map(|(at, line)| known(line).ok_or(at + 1)).collect()
}

fn known(line: &str) -> Option<Known> {
    let mut words = line.split(' ');
    let known = Known {
        uid: words.next()?.parse().ok()?,
        name: words.next()?.parse().ok()?,
        host: words.next()?.parse().ok()?,
        source: Source::of_word(words.next()?)?,
        since: words.next()?.parse().ok()?,
    };
    words.next().is_none().then_some(known)
}

fn text<'a>(all: impl Iterator<Item = &'a Known>) -> String {
    let mut text =
        "# Written by irmd: the hosts that flows to names were trusted with (user, name, host, why, since).\n"
            .to_owned();
    for Known { uid, name, host, source, since } in all {
        let _ = writeln!(text, "{uid} {name} {host} {} {since}", source.word());
    }
    text
}

/// Writes down what is remembered.
pub(super) fn save<'a>(path: &Path, all: impl Iterator<Item = &'a Known>) {
    if let Err(error) = write(path, &text(all)) {
        tracing::warn!("hosts that were trusted are forgotten with irmd: {error:#}");
    }
}

#[cfg(test)]
mod tests {
    use identity::Fingerprint;
    use proptest::prelude::*;
    use proto::Name;

    use super::*;

    #[test]
    fn broken_lines_are_not_passed_over() {
        let row = Known {
            uid: 1000,
            name: Name::new("#echo").unwrap(),
            host: Fingerprint([7; 32]),
            source: Source::FirstUse,
            since: 5,
        };
        let good = text([&row].into_iter());
        assert_eq!(parse(&good), Ok(vec![row]));
        let line = good.lines().nth(1).unwrap();
        let cut = line.strip_suffix(" 5").unwrap();
        for broken in
            [cut, &format!("{line} x"), &line.replace("first-use", "first use"), &line.replace("1000", "-1"), "x"]
        {
            assert_eq!(parse(&format!("{good}\n{broken}\n")), Err(4), "{broken}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(uid: u32, name in "[^\\s\\p{C}]{1,60}", host: [u8; 32], which in 0..3usize, since: u64) {
            let source = [Source::FirstUse, Source::Directory, Source::Trusted][which];
            if let Ok(name) = Name::new(&name) {
                let row = Known { uid, name, host: Fingerprint(host), source, since };
                prop_assert_eq!(parse(&text([&row].into_iter())), Ok(vec![row]));
            }
        }
    }
}
