//! `cargo xtask man`: man pages of every program and every subcommand, from the definitions of their command lines.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

/// The overview, written by hand.
const OVERVIEW: &str = include_str!("../../dist/man/flowring.7");

/// A program's pages.
struct Program {
    command: Command,
    section: &'static str,
    /// Files and folders it uses, and what for.
    files: &'static [(&'static str, &'static str)],
    see_also: &'static [&'static str],
}

const RUN_DIR: (&str, &str) =
    ("/run/flowring", "Sockets of irmd and its IPCPs; $XDG_RUNTIME_DIR/flowring for an ordinary user.");
const STATE_DIR: (&str, &str) = (
    "/var/lib/flowring",
    "What is kept over restarts, the host's key among it; ~/.local/state/flowring for an ordinary user.",
);
const CONFIG: (&str, &str) =
    ("/etc/flowring/irmd.toml", "What irmd sets up at its start; ~/.config/flowring/irmd.toml for an ordinary user.");

/// All programs that are installed.
fn programs() -> Vec<Program> {
    let tool = |command, see_also| Program { command, section: "1", files: &[RUN_DIR], see_also };
    vec![
        Program {
            command: irmd::cli::Cli::command(),
            section: "8",
            files: &[CONFIG, RUN_DIR, STATE_DIR],
            see_also: &["irm(1)", "ipcpd-udp(8)", "flowring(7)"],
        },
        Program {
            command: ipcpd_udp::config::Options::command(),
            section: "8",
            files: &[RUN_DIR, STATE_DIR],
            see_also: &["irmd(8)", "irm(1)", "flowring(7)"],
        },
        tool(irm::cli::Cli::command(), &["irmd(8)", "oping(1)", "flowring(7)"]),
        tool(oping::cli::Cli::command(), &["operf(1)", "irm(1)", "flowring(7)"]),
        tool(operf::cli::Cli::command(), &["oping(1)", "irm(1)", "flowring(7)"]),
        tool(flowcat::cli::Cli::command(), &["oping(1)", "irm(1)", "flowring(7)"]),
        tool(flowtop::cli::Cli::command(), &["irm(1)", "flowring(7)"]),
        tool(flowdump::cli::Cli::command(), &["irm-flow-capture(1)", "wireshark(1)", "flowring(7)"]),
        Program {
            command: portfwd::cli::Cli::command(),
            section: "1",
            files: &[
                RUN_DIR,
                ("/etc/flowring/portfwd.toml", "Its rules; ~/.config/flowring/portfwd.toml for an ordinary user."),
            ],
            see_also: &["irm(1)", "tcpstripe(1)", "flowring(7)"],
        },
        tool(tcpstripe::cli::Cli::command(), &["irm(1)", "flowcat(1)", "flowring(7)"]),
        tool(gameproxy::cli::Cli::command(), &["portfwd(1)", "irm(1)", "flowring(7)"]),
        Program {
            command: rendezvous::cli::Cli::command(),
            section: "8",
            files: &[
                RUN_DIR,
                (
                    "/etc/flowring/rendezvous.toml",
                    "What the service of this name reads: sessions, limits, quotas of the relay.",
                ),
            ],
            see_also: &["ipcpd-udp(8)", "irm(1)", "flowring(7)"],
        },
    ]
}

/// Their command lines.
pub(crate) fn commands() -> impl Iterator<Item = Command> {
    programs().into_iter().map(|program| program.command)
}

/// What `cargo xtask man` may be told.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Folder of the pages
    #[arg(long, value_name = "DIR", default_value = "target/man")]
    out: PathBuf,
}

/// Writes all pages.
pub(crate) fn run(options: &Options) -> Result<()> {
    let pages = write(&options.out)?;
    println!("{} pages in {}", pages.len(), options.out.display());
    Ok(())
}

/// Writes all pages into a folder, one beside the other; their files' names.
pub(crate) fn write(folder: &Path) -> Result<Vec<String>> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut pages = vec![("flowring.7".to_owned(), OVERVIEW.as_bytes().to_vec())];
    for mut program in programs() {
        program.command.build();
        let name = program.command.get_name().to_owned();
        collect(&program, &program.command, &name, &mut pages)?;
    }
    for (file, page) in &pages {
        std::fs::write(folder.join(file), page).with_context(|| format!("cannot write {file}"))?;
    }
    Ok(pages.into_iter().map(|(file, _)| file).collect())
}

fn collect(program: &Program, command: &Command, title: &str, pages: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
    pages.push((format!("{title}.{}", program.section), page(program, command, title)?));
    for subcommand in command.get_subcommands().filter(|sub| sub.get_name() != "help" && !sub.is_hide_set()) {
        collect(program, subcommand, &format!("{title}-{}", subcommand.get_name()), pages)?;
    }
    Ok(())
}

fn page(program: &Program, command: &Command, title: &str) -> Result<Vec<u8>> {
    let version = concat!("Flowring ", env!("CARGO_PKG_VERSION"));
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    // Options of the first word are said on its page, not on forty.
    let top = command.get_name() == program.command.get_name();
    let command = command.clone().display_name(title.to_owned()).version(env!("CARGO_PKG_VERSION"));
    let man = Man::new(command).title(title).section(program.section).source(version).manual("Flowring").date("");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    let notes = Notes::of(&after);
    paragraphs(&notes.words).to_writer(&mut page)?;
    man.render_options_section(&mut page)?;
    if man_has_subcommands(program, title) {
        man.render_subcommands_section(&mut page)?;
    }
    let own = Notes::of(&program.command.get_after_help().map(ToString::to_string).unwrap_or_default());
    let exits = if notes.exits.is_empty() { &own.exits } else { &notes.exits };
    verbatim("EXIT STATUS", exits).to_writer(&mut page)?;
    verbatim("EXAMPLES", &notes.examples).to_writer(&mut page)?;
    if top {
        let mut files = Roff::new();
        files.control("SH", ["FILES"]);
        for (file, what) in program.files {
            files.control("TP", []).text([bold(*file)]).text([roman(*what)]);
        }
        files.to_writer(&mut page)?;
    }
    let mut also = Roff::new();
    let parent = format!("{}({})", program.command.get_name(), program.section);
    let others = program.see_also.iter().map(|other| (*other).to_owned());
    let list: Vec<String> = (!top).then_some(parent).into_iter().chain(others).collect();
    also.control("SH", ["SEE ALSO"]).text([roman(list.join(", "))]);
    also.to_writer(&mut page)?;
    Ok(page)
}

fn man_has_subcommands(program: &Program, title: &str) -> bool {
    let mut command = &program.command;
    for word in title.split('-').skip(program.command.get_name().split('-').count()) {
        match command.find_subcommand(word) {
            Some(found) => command = found,
            None => return false,
        }
    }
    command.has_subcommands()
}

/// The text behind the options, by what it is about.
#[derive(Debug, Default, PartialEq)]
struct Notes {
    words: Vec<String>,
    exits: Vec<String>,
    examples: Vec<String>,
}

impl Notes {
    fn of(text: &str) -> Self {
        let mut notes = Self::default();
        let mut part = 0;
        for line in text.lines() {
            match line {
                _ if line.starts_with("Exit codes:") => {
                    part = 1;
                    notes.exits.extend(line.strip_prefix("Exit codes: ").map(str::to_owned));
                }
                // "Examples:", "Example, two commands to the first flow:"
                _ if line.starts_with("Example") && line.ends_with(':') => part = 2,
                _ => [&mut notes.words, &mut notes.exits, &mut notes.examples][part].push(line.to_owned()),
            }
        }
        for part in [&mut notes.words, &mut notes.exits, &mut notes.examples] {
            while part.last().is_some_and(|line| line.trim().is_empty()) {
                part.pop();
            }
        }
        notes
    }
}

fn paragraphs(lines: &[String]) -> Roff {
    let mut roff = Roff::new();
    if !lines.is_empty() {
        roff.control("PP", []);
    }
    for line in lines {
        if line.trim().is_empty() {
            roff.control("PP", []);
        } else {
            roff.text([roman(line.trim())]);
        }
    }
    roff
}

fn verbatim(title: &str, lines: &[String]) -> Roff {
    let mut roff = Roff::new();
    if lines.is_empty() {
        return roff;
    }
    roff.control("SH", [title]).control("nf", []);
    for line in lines {
        roff.text([roman(line.as_str())]);
    }
    roff.control("fi", []);
    roff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_behind_options_finds_its_section() {
        let notes = Notes::of("Some words.\n\nExit codes:\n  0  done\n\nExamples:\n  irm status\n");
        assert_eq!(notes.words, ["Some words."]);
        assert_eq!(notes.exits, ["  0  done"]);
        assert_eq!(notes.examples, ["  irm status"]);
        assert_eq!(Notes::of("Exit codes: 0 well, 1 not.").exits, ["0 well, 1 not."]);
    }

    #[test]
    fn every_program_and_subcommand_has_a_page() {
        let folder = std::env::temp_dir().join(format!("flowring-man-{}", std::process::id()));
        let pages = write(&folder).unwrap();
        for page in [
            "flowring.7",
            "irmd.8",
            "ipcpd-udp.8",
            "irm.1",
            "irm-flow-list.1",
            "irm-log.1",
            "oping.1",
            "operf.1",
            "irm-flow-capture.1",
            "flowcat.1",
            "flowtop.1",
            "flowdump.1",
            "portfwd.1",
            "tcpstripe.1",
            "tcpstripe-proxy.1",
            "gameproxy.1",
            "gameproxy-server.1",
            "rendezvous.8",
            "rendezvous-key.8",
        ] {
            assert!(pages.iter().any(|written| written == page), "{page} is missing: {pages:?}");
            let text = std::fs::read_to_string(folder.join(page)).unwrap();
            for section in ["NAME", "SEE ALSO"] {
                assert!(text.contains(section), "{page} has no {section}:\n{text}");
            }
        }
        let text = |page: &str| std::fs::read_to_string(folder.join(page)).unwrap();
        for page in ["irm.1", "oping.1", "operf.1", "flowcat.1", "flowtop.1", "flowdump.1", "tcpstripe.1"] {
            for section in ["EXIT STATUS", "EXAMPLES", "FILES"] {
                assert!(text(page).contains(section), "{page} has no {section}");
            }
        }
        assert!(text("irmd.8").contains("/etc/flowring/irmd.toml"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
