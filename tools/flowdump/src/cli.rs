//! The command line.

use clap::Parser;

const AFTER_HELP: &str = "\
A line for each datagram that hosts exchange about flows: requests and answers of allocation, cookies, opening, dealloc,
probes; those of 2016, too. What flows carry is counted, and listed with --data. Datagrams of Flowring are known by what
they begin with, on whatever port; --port is for classic requests to shims that do not listen on 3359.

Exit codes:
  0  read to the end
  1  the file is damaged or cut off, or nobody reads the output; what stands before was printed
  2  wrong usage, no capture, or the file cannot be opened

Examples:
  flowdump flow.pcapng
  irm flow capture 12 -w - | flowdump --data -
  tcpdump -i any -w - udp | flowdump -v -
  flowdump --json flow.pcapng | jq 'select(.kind == \"answer\").verdict'
  flowdump 0046 6c6f 7701 0100 …             the payload of one datagram, as hex digits";

/// Shows what Flowring's hosts said to each other, from a capture or from hex digits.
#[derive(Clone, Debug, Parser)]
#[command(name = "flowdump", version, after_help = AFTER_HELP, max_term_width = 100)]
pub struct Cli {
    /// A pcap or pcapng file; - for standard input; or the payload of a datagram as hex digits
    #[arg(required_unless_present = "completions", value_name = "FILE|HEX|-")]
    pub what: Vec<String>,
    /// All fields of each datagram
    #[arg(short, long, conflicts_with = "json")]
    pub verbose: bool,
    /// A line also for each datagram that a flow carries
    #[arg(short, long)]
    pub data: bool,
    /// Another port that shims listen on; may be given again and again
    #[arg(short, long = "port", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub ports: Vec<u16>,
    /// A JSON object for each line, whose keys stay the same over versions
    #[arg(long)]
    pub json: bool,
    /// Print completions for a shell
    #[arg(long, value_name = "SHELL")]
    pub completions: Option<clap_complete::Shell>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn what_is_read_may_be_several_words() {
        let parse = |line: &str| Cli::try_parse_from(line.split_whitespace());
        assert_eq!(parse("flowdump 00 46 6c").unwrap().what, ["00", "46", "6c"]);
        assert_eq!(parse("flowdump -v --port 3360 -p 3361 -").unwrap().ports, [3360, 3361]);
        for line in ["flowdump", "flowdump --json -v x", "flowdump --port 0 x"] {
            assert_eq!(parse(line).map(|_| ()).map_err(|error| error.exit_code()), Err(2), "{line}");
        }
    }
}
