//! What `flowdump` does: reads files, prints lines.

use std::fs::File;
use std::io::{BufWriter, Read, StdoutLock, Write};
use std::process::ExitCode;

use capture::{Datagram, Item, Other, Packet, ReadError, Reader};
use proto::shim::Request;
use serde::Serialize;

use crate::cli::Cli;
use crate::machine::row::{Row, Total};
use crate::machine::tap::{Heard, Tap, look};
use crate::machine::{hex, words};

/// Why it did not come to its end.
enum Fault {
    /// Wrong usage, or nothing to read: 2.
    Unable(String),
    /// The file ends before it should: 1.
    Damaged(String),
    /// Nobody reads the output any more: 1, silently.
    Unread,
}

impl From<std::io::Error> for Fault {
    fn from(_: std::io::Error) -> Self {
        Self::Unread
    }
}

/// Runs a command line to its exit code.
pub fn run(cli: &Cli) -> ExitCode {
    let (code, text) = match try_run(cli) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Fault::Unread) => return ExitCode::from(1),
        Err(Fault::Damaged(text)) => (1, text),
        Err(Fault::Unable(text)) => (2, text),
    };
    // Nothing is left to tell when standard error is closed.
    let _ = writeln!(std::io::stderr(), "flowdump: {}", words::printable(&text));
    ExitCode::from(code)
}

fn try_run(cli: &Cli) -> Result<(), Fault> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    if let Some(shell) = cli.completions {
        out.write_all(tool::completions::<Cli>(shell).as_bytes())?;
        return Ok(out.flush()?);
    }
    let mut printer =
        Printer { cli, out, tap: Tap::new(cli.ports.iter().copied()), began: None, seen: Seen::default() };
    match &cli.what[..] {
        [dash] if dash == "-" => printer.input()?,
        [path] if std::path::Path::new(path).exists() => {
            let unable = |error| Fault::Unable(format!("cannot read {path}: {error}"));
            let file = File::open(path).map_err(unable)?;
            if file.metadata().is_ok_and(|is| is.is_dir()) {
                return Err(Fault::Unable(format!("{path} is a folder; give a file of a capture")));
            }
            printer.file(path, file)?;
        }
        what => {
            let text = what.join(" ");
            let bytes = hex::read(&text).ok_or_else(|| {
                Fault::Unable(format!(
                    "{text} is no file, and no hex digits; give a capture, or the bytes of a datagram"
                ))
            })?;
            printer.payload(&bytes)?;
        }
    }
    Ok(printer.out.flush()?)
}

/// What became of the packets.
#[derive(Default)]
struct Seen {
    packets: u64,
    shown: u64,
    carried: u64,
    fragments: u64,
    broken: u64,
    cut: u64,
    links: u64,
    dropped: u64,
}

struct Printer<'a> {
    cli: &'a Cli,
    out: BufWriter<StdoutLock<'static>>,
    tap: Tap,
    /// When the first packet was captured, ns since 1970.
    began: Option<u64>,
    seen: Seen,
}

impl Printer<'_> {
    /// Standard input: a capture, or hex digits.
    fn input(&mut self) -> Result<(), Fault> {
        let mut input = std::io::stdin().lock();
        let mut head = Vec::new();
        let failed = |error| Fault::Unable(format!("cannot read standard input: {error}"));
        (&mut input).take(4).read_to_end(&mut head).map_err(failed)?;
        if !head.is_empty() && head.iter().all(|byte| byte.is_ascii_hexdigit() || b" :,x\n".contains(byte)) {
            let mut text = head;
            input.take(1 << 20).read_to_end(&mut text).map_err(failed)?;
            if let Some(bytes) = hex::read(&String::from_utf8_lossy(&text)) {
                return self.payload(&bytes);
            }
            return Err(Fault::Unable("standard input is no capture, and no hex digits".to_owned()));
        }
        // StdinLock cannot go where a reader of files goes; its bytes can.
        drop(input);
        self.file("standard input", std::io::Cursor::new(head).chain(std::io::stdin()))
    }

    fn payload(&mut self, payload: &[u8]) -> Result<(), Fault> {
        let heard = match look(payload) {
            Ok(Some(heard)) => heard,
            Ok(None) => match Request::decode(payload) {
                // A request or an echo: the bytes are the same.
                Ok(request) => Heard::Request(request),
                Err(why) => Heard::Malformed(why),
            },
            Err(why) => Heard::Malformed(why),
        };
        if self.cli.json {
            return self.json(&Row::new(&heard, &[], payload.len()));
        }
        writeln!(self.out, "{}", words::line(&heard, &[], payload.len()))?;
        self.fields(&heard)
    }

    fn file(&mut self, name: &str, source: impl Read + Send) -> Result<(), Fault> {
        let mut reader = Reader::new(source).map_err(|error| match error {
            ReadError::NoCapture { .. } => Fault::Unable(format!("{name} is no capture: {error}")),
            error => Fault::Damaged(format!("{name}: {error}")),
        })?;
        let end = loop {
            match reader.next_item() {
                Ok(Some(Item::Packet(packet))) => self.packet(&packet)?,
                Ok(Some(Item::Comment(text))) => {
                    if let Ok(label) = text.parse() {
                        self.tap.label(&label);
                    }
                    if !self.cli.json {
                        writeln!(self.out, "# {}", words::printable(&text))?;
                    }
                }
                Ok(Some(Item::Dropped(lost))) => self.seen.dropped = self.seen.dropped.saturating_add(lost),
                Ok(None) => break Ok(()),
                Err(error) => break Err(Fault::Damaged(format!("{name}: {error}"))),
            }
        };
        self.totals()?;
        self.out.flush()?;
        end
    }

    fn packet(&mut self, packet: &Packet<'_>) -> Result<(), Fault> {
        self.seen.packets += 1;
        let began = *self.began.get_or_insert(packet.time.unwrap_or(0));
        let datagram = match capture::datagram(packet.link, packet.data) {
            Ok(datagram) => datagram,
            Err(other) => {
                *match other {
                    Other::Fragment => &mut self.seen.fragments,
                    Other::Broken => &mut self.seen.broken,
                    Other::Link(_) => &mut self.seen.links,
                    Other::NotUdp => return Ok(()),
                } += 1;
                return Ok(());
            }
        };
        let Datagram { from, to, payload, length, fragment } = datagram;
        if !datagram.is_whole() {
            self.seen.cut += u64::from(!fragment);
        }
        let Some(heard) = self.tap.hear(from, to, payload, length) else { return Ok(()) };
        if let Heard::Data { .. } = heard {
            self.seen.carried += 1;
            if !self.cli.data {
                return Ok(());
            }
        } else {
            self.seen.shown += 1;
        }
        if self.cli.json {
            let mut row = Row::new(&heard, self.tap.flows(), length);
            row.number = Some(packet.number);
            row.time = packet.time.map(|ns| format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000));
            (row.from, row.to) = (Some(from), Some(to));
            return self.json(&row);
        }
        let since = packet.time.unwrap_or(0).saturating_sub(began);
        let (s, us) = (since / 1_000_000_000, since / 1_000 % 1_000_000);
        let line = words::line(&heard, self.tap.flows(), length);
        let whole = match (datagram.is_whole(), fragment) {
            (true, _) => String::new(),
            (false, true) => format!(" (the first piece, {} of {length} bytes)", payload.len()),
            (false, false) => format!(" (cut off, {} of {length} bytes)", payload.len()),
        };
        writeln!(self.out, "{:>5} {s:>4}.{us:06} {from} > {to} {line}{whole}", packet.number)?;
        self.fields(&heard)?;
        // Who reads a pipe wants each line as it comes.
        Ok(self.out.flush()?)
    }

    fn fields(&mut self, heard: &Heard) -> Result<(), Fault> {
        if self.cli.verbose {
            for (name, value) in words::fields(heard) {
                writeln!(self.out, "        {name:<14} {value}")?;
            }
        }
        Ok(())
    }

    fn json(&mut self, row: &impl Serialize) -> Result<(), Fault> {
        writeln!(self.out, "{}", tool::json(row))?;
        Ok(self.out.flush()?)
    }

    fn totals(&mut self) -> Result<(), Fault> {
        if self.cli.json {
            for flow in self.tap.flows() {
                writeln!(self.out, "{}", tool::json(&Total::from(flow)))?;
            }
            return Ok(());
        }
        for flow in self.tap.flows() {
            writeln!(self.out, "{}", words::total(flow))?;
        }
        let Seen { packets, shown, carried, fragments, broken, cut, links, dropped } = self.seen;
        let mut text = format!("{packets} packets: {shown} of the shims, {carried} of flows");
        for (count, what) in [
            (fragments, "later pieces of fragmented packets, which are not put together"),
            (cut, "cut off by the capture"),
            (broken, "with broken headers"),
            (links, "of interfaces of unknown kind"),
            (dropped, "lost by the capture"),
            (self.tap.beyond(), "allocations beyond 65,536 flows, whose datagrams are not counted"),
        ] {
            if count > 0 {
                text.push_str(&format!(", {count} {what}"));
            }
        }
        writeln!(self.out, "{text}")?;
        Ok(())
    }
}
