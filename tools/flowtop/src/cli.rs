//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::machine::order::Column;

const AFTER_HELP: &str = "\
Keys: arrows move, Enter shows one flow, / filters, s sorts, r shows refusals, k ends a flow after
asking, p pauses, + and - change the interval, ? shows all keys, q quits.

Without colours: NO_COLOR=1. Where the locale is not UTF-8, graphs are drawn in ASCII.

Exit codes:
  0  the user quit, or the frame was printed
  1  the terminal went away, or the frame could not be written
  2  wrong usage, or standard output is no terminal
  3  irmd is not reachable

Examples:
  flowtop --filter game --sort received
  flowtop --once --width 120                 one frame as text
  flowtop --once --refusals                  what was refused
  flowtop --once --after 20 --svg flows.svg  as a picture, with 20 seconds of rates";

/// Shows a host's flows as they move: a live table, one flow with its last minute, what was refused.
#[derive(Clone, Debug, Parser)]
#[command(name = "flowtop", version, after_help = AFTER_HELP, max_term_width = 100)]
pub struct Cli {
    /// How often irmd is asked
    #[arg(short, long, value_name = "SECONDS", value_parser = interval, default_value = "1")]
    pub interval: Duration,
    /// Show only flows that have all these words: of a name, program, pid, address, layer, kind, state
    #[arg(short, long, value_name = "WORDS", default_value = "")]
    pub filter: String,
    /// Sort by this column
    #[arg(short, long, value_name = "COLUMN", value_parser = column, default_value = "rate")]
    pub sort: Column,
    /// Sort the other way round
    #[arg(short = 'R', long)]
    pub reverse: bool,
    /// Show this flow
    #[arg(long, value_name = "ID", conflicts_with = "refusals")]
    pub flow: Option<u64>,
    /// Show what was refused
    #[arg(long)]
    pub refusals: bool,
    /// Print one frame as text, and end
    #[arg(long)]
    pub once: bool,
    /// Watch so long before the frame is printed [default: the interval]
    #[arg(long, value_name = "SECONDS", value_parser = interval, requires = "once")]
    pub after: Option<Duration>,
    /// Columns of the frame [default: those of the terminal, else 80]
    #[arg(long, value_name = "COLUMNS", requires = "once", value_parser = clap::value_parser!(u16).range(1..=500))]
    pub width: Option<u16>,
    /// Lines of the frame [default: those of the terminal, else as many as there is something to show]
    #[arg(long, value_name = "LINES", requires = "once", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub height: Option<u16>,
    /// Write the frame as a picture to this file instead
    #[arg(long, value_name = "FILE", requires = "once")]
    pub svg: Option<PathBuf>,
    /// Folder of irmd's sockets [else $FLOWRING_RUN_DIR, /run/flowring as root, $XDG_RUNTIME_DIR/flowring]
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// Print completions for a shell
    #[arg(long, value_name = "SHELL")]
    pub completions: Option<clap_complete::Shell>,
}

fn interval(text: &str) -> Result<Duration, String> {
    tool::seconds("interval", text, 0.1..=3_600.0, "0.5")
}

fn column(text: &str) -> Result<Column, String> {
    Column::by_word(text).ok_or_else(|| {
        let words: Vec<&str> = Column::ALL.iter().map(|column| column.shape().word).collect();
        format!("there is no column '{text}'; there are {}", words.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definition_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn a_frame_and_its_shape() {
        let cli = parse("flowtop --once --width 120 --height 40 -i 0.5 -s received -R --svg x.svg").unwrap();
        assert_eq!((cli.width, cli.height, cli.interval), (Some(120), Some(40), Duration::from_millis(500)));
        assert_eq!((cli.sort, cli.reverse, cli.once), (Column::Received, true, true));
        let cli = parse("flowtop").unwrap();
        assert_eq!((cli.sort, cli.interval, cli.filter.as_str()), (Column::Graph, Duration::from_secs(1), ""));
    }

    #[test]
    fn nonsense_is_refused_as_usage() {
        let lines = [
            "flowtop echo",
            "flowtop --width 80",
            "flowtop --svg x.svg",
            "flowtop -i 0",
            "flowtop -i nan",
            "flowtop --sort nothing",
            "flowtop --flow x",
            "flowtop --flow 1 --refusals",
            "flowtop --once --height 0",
        ];
        for line in lines {
            assert_eq!(parse(line).map(|_| ()).map_err(|error| error.exit_code()), Err(2), "{line}");
        }
    }
}
