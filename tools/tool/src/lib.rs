//! What the command-line tools do alike: take names ([`name`]) and times ([`seconds`]), reach irmd's administrators' calls
//! ([`Admin`]), end at Ctrl-C ([`Stop`]), print completions ([`completions`]), wait for descriptors ([`watched`]).

mod io;

use std::ops::RangeInclusive;
use std::time::Duration;

pub use io::admin::{Admin, Trouble, answer, next};
pub use io::signals::Stop;
pub use io::watch::watched;

/// A shell's completions of a program, from the definition of its command line.
pub fn completions<C: clap::CommandFactory>(shell: clap_complete::Shell) -> String {
    let mut command = C::command();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// A value as JSON on one line. No control character is in it, of those that terminals obey as little as others: what peers
/// chose is in it.
pub fn json<T: serde::Serialize + ?Sized>(value: &T) -> String {
    escaped(serde_json::to_string(value).unwrap_or_else(|error| format!("\"not to be written: {error}\"")))
}

/// The same for people, over several lines.
pub fn json_pretty<T: serde::Serialize + ?Sized>(value: &T) -> String {
    escaped(serde_json::to_string_pretty(value).unwrap_or_else(|error| format!("\"not to be written: {error}\"")))
}

/// JSON itself forbids the controls below U+0020 only. Of most values there is nothing to do, and they may be long.
fn escaped(json: String) -> String {
    // What begins U+0080 to U+00BF in UTF-8, and DEL.
    if !json.bytes().any(|byte| byte == 0xc2 || byte == 0x7f) {
        return json;
    }
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\u{7f}'..='\u{9f}' => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => text.push(c),
        }
    }
    text
}

/// A name on a command line.
///
/// # Errors
/// What is wrong with it, in one sentence.
pub fn name(text: &str) -> Result<String, String> {
    proto::Name::new(text).map(|name| name.as_str().to_owned()).map_err(|error| error.to_string())
}

/// Seconds on a command line, with a fraction; `what` they are, and an `example` of them for who wrote something else.
///
/// # Errors
/// What is wrong with it, in one sentence.
pub fn seconds(what: &str, text: &str, range: RangeInclusive<f64>, example: &str) -> Result<Duration, String> {
    let value = text.parse().ok().filter(|value| range.contains(value));
    value.map(Duration::from_secs_f64).ok_or_else(|| {
        format!("'{text}' is no {what}; give seconds from {} to {}, such as {example}", range.start(), range.end())
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn seconds_are_within_their_range() {
        let seconds = |text| super::seconds("time", text, 0.01..=3_600.0, "2.5");
        assert_eq!(seconds("0.5").unwrap(), std::time::Duration::from_millis(500));
        assert_eq!(seconds("3600").unwrap(), std::time::Duration::from_secs(3_600));
        for text in ["", "0", "-1", "3601", "nan", "inf", "soon"] {
            let want = format!("'{text}' is no time; give seconds from 0.01 to 3600, such as 2.5");
            assert_eq!(seconds(text), Err(want));
        }
    }

    #[derive(clap::Parser)]
    #[command(name = "pinger")]
    struct Cli {
        /// Far away
        #[arg(long)]
        far: bool,
    }

    #[test]
    fn no_control_character_is_printed() {
        let value = vec!["clear \u{9b}2J, bell \u{7}, delete \u{7f}, é"];
        let json = super::json(&value);
        assert!(json.chars().all(|c| !c.is_control()), "{json:?}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&json).unwrap(), value);
        assert_eq!(serde_json::from_str::<Vec<String>>(&super::json_pretty(&value)).unwrap(), value);
    }

    #[test]
    fn completions_know_the_program_and_its_options() {
        for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish] {
            let script = super::completions::<Cli>(shell);
            assert!(script.contains("pinger") && script.contains("far"), "{script}");
        }
    }
}
