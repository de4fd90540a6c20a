//! A chat: what is typed and heard as lines, and how members and the paths to them are told.

use std::time::Duration;

use service::table::{printable, table};

/// Longest line, bytes; what is longer comes in pieces.
pub const LINE: usize = 2_000;
/// Longest name that somebody is given who did not say one, bytes.
const NAME: usize = 32;

/// A line that was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Typed {
    /// For all.
    Say(String),
    /// Who is there?
    Who,
    /// Enough.
    Quit,
    /// What there is to type.
    Help(String),
    /// An empty line.
    Nothing,
}

/// What a typed line means.
pub fn typed(line: &str) -> Typed {
    let line = line.trim_end_matches(['\r', '\n']);
    match line.trim() {
        "" => Typed::Nothing,
        "/who" => Typed::Who,
        "/quit" => Typed::Quit,
        command if command.starts_with('/') && !command.starts_with("//") => {
            let word = command.split_whitespace().next().unwrap_or_default();
            Typed::Help(format!(
                "there is no {}; /who shows the members, /quit leaves, // begins a line with a slash",
                plain(word)
            ))
        }
        _ => Typed::Say(line.strip_prefix("//").map_or_else(|| line.to_owned(), |rest| format!("/{rest}"))),
    }
}

/// Text of others, safe on a terminal: no control characters, and none that turn the writing round.
fn plain(text: &str) -> String {
    let turns = |c: &char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    printable(text).chars().flat_map(|c| if turns(&c) { c.escape_unicode().collect() } else { vec![c] }).collect()
}

/// A line that was heard, as it is shown: control characters of others do nothing here.
pub fn heard(member: &str, line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    format!("{}: {}\n", plain(member), plain(text.trim_end_matches(['\r', '\n'])))
}

/// Something that happened, as it is shown.
pub fn note(text: &str) -> String {
    format!("* {}\n", plain(text))
}

/// How a member is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// As the listing of flows has it: "local", "public", "mapped", "predicted", "relayed"; empty: as the directory says.
    pub way: String,
    /// The other end's; empty within this host.
    pub address: String,
    /// There and back; none within this host.
    pub round_trip: Option<Duration>,
}

impl Route {
    /// In words, without the round trip.
    pub fn words(&self) -> String {
        let at = &self.address;
        match self.way.as_str() {
            _ if at.is_empty() => "on this host".to_owned(),
            "relayed" => format!("relayed by {at}"),
            "local" | "public" => format!("direct, at its {} address {at}", self.way),
            "mapped" => format!("direct, at the address {at} that its NAT made for this flow"),
            "predicted" => format!("direct, at the address {at} that its NAT was expected to give next"),
            "" => format!("direct, at {at}"),
            other => format!("{other}, at {at}"),
        }
    }

    fn round_trip(&self) -> String {
        self.round_trip.map_or_else(|| "-".to_owned(), |time| format!("{:.1} ms", time.as_secs_f64() * 1_000.0))
    }

    /// Of somebody who joined.
    pub fn joined(&self, member: &str) -> String {
        let took =
            if self.round_trip.is_some() { format!("; {} there and back", self.round_trip()) } else { String::new() };
        note(&format!("{member} joined: {}{took}", self.words()))
    }
}

/// The members, this one first.
pub fn who<'a>(own: &str, members: impl IntoIterator<Item = (&'a str, Route)>) -> String {
    let own = vec![plain(own), "this is you".to_owned(), "-".to_owned()];
    let row = |(member, route): (&str, Route)| vec![plain(member), plain(&route.words()), route.round_trip()];
    let rows = std::iter::once(own).chain(members.into_iter().map(row));
    table(&[("MEMBER", false), ("PATH", false), ("ROUND TRIP", true)], rows)
}

/// A name for who did not say one: the first of these that comes to something.
pub fn name_of<'a>(candidates: impl IntoIterator<Item = &'a str>) -> String {
    let fine = |c: &char| c.is_alphanumeric() || matches!(c, '-' | '_');
    let mut names = candidates.into_iter().map(|text| text.chars().filter(fine).collect::<String>());
    let name = names.find(|name| !name.is_empty()).unwrap_or_else(|| "member".to_owned());
    proto::clip(&name, NAME).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_said_or_commands() {
        let say = |text: &str| Typed::Say(text.to_owned());
        let table = [
            ("hello all\n", say("hello all")),
            ("  indented\r\n", say("  indented")),
            ("//etc/hosts\n", say("/etc/hosts")),
            ("/who\n", Typed::Who),
            (" /quit \n", Typed::Quit),
            ("\n", Typed::Nothing),
            ("   ", Typed::Nothing),
        ];
        for (line, want) in table {
            assert_eq!(typed(line), want, "{line:?}");
        }
        let Typed::Help(words) = typed("/w\u{1b}ho now") else { panic!("no help") };
        assert!(words.starts_with("there is no /w\\u{1b}ho;"), "{words}");
    }

    #[test]
    fn what_others_say_moves_no_cursor() {
        assert_eq!(heard("bob", b"hi\r\n"), "bob: hi\n");
        assert_eq!(
            heard("b\u{7}b", b"\x1b[2Jgone\nbob: not me\xff"),
            "b\\u{7}b: \\u{1b}[2Jgone\\nbob: not me\u{fffd}\n"
        );
        assert_eq!(heard("b\u{202e}ob", "\u{2066}evil".as_bytes()), "b\\u{202e}ob: \\u{2066}evil\n");
        assert_eq!(note("a\nb"), "* a\\nb\n");
    }

    #[test]
    fn paths_are_told_in_words() {
        let route = |way: &str, address: &str, ms: Option<u64>| Route {
            way: way.into(),
            address: address.into(),
            round_trip: ms.map(Duration::from_millis),
        };
        let table = [
            (route("", "", None), "* bob joined: on this host\n"),
            (
                route("public", "192.0.2.7:4000", Some(21)),
                "* bob joined: direct, at its public address 192.0.2.7:4000; 21.0 ms there and back\n",
            ),
            (
                route("relayed", "192.0.2.1:3362", Some(40)),
                "* bob joined: relayed by 192.0.2.1:3362; 40.0 ms there and back\n",
            ),
            (route("", "10.0.0.2:4000", None), "* bob joined: direct, at 10.0.0.2:4000\n"),
        ];
        for (route, want) in table {
            assert_eq!(route.joined("bob"), want);
        }
        let text = who("al", [("bob", route("mapped", "192.0.2.7:5", Some(7)))]);
        assert!(text.contains("al      this is you") && text.contains("that its NAT made for this flow"), "{text}");
        assert!(text.lines().nth(2).unwrap().ends_with("7.0 ms"), "{text}");
    }

    #[test]
    fn who_says_no_name_gets_one() {
        assert_eq!(name_of(["", "al.ice w"]), "alicew");
        assert_eq!(name_of(["..", ""]), "member");
        assert_eq!(name_of(["x".repeat(99).as_str()]).len(), NAME);
    }
}
