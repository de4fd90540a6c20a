//! What the command-line tools do alike: take names ([`name`]) and times ([`seconds`]), reach irmd's administrators' calls
//! ([`Admin`]), end at Ctrl-C ([`Stop`]), print completions ([`completions`]), wait for descriptors ([`watched`]).

mod io;
mod json;

use std::ops::RangeInclusive;
use std::time::Duration;

pub use io::admin::{Admin, Trouble, answer, next};
pub use io::signals::Stop;
pub use io::watch::watched;
pub use json::{json, write_json, write_json_pretty, write_json_rows};

/// A shell's completions of a program, from the definition of its command line.
pub fn completions<C: clap::CommandFactory>(shell: clap_complete::Shell) -> String {
    let mut command = C::command();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    String::from_utf8_lossy(&script).into_owned()
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
    fn completions_know_the_program_and_its_options() {
        for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish] {
            let script = super::completions::<Cli>(shell);
            assert!(script.contains("pinger") && script.contains("far"), "{script}");
        }
    }
}
