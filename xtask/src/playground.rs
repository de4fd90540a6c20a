//! `cargo xtask lab`: hosts with daemons, bad links and middleboxes, to play with by hand.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use lab::binaries::Build;
use lab::{Daemon, Host, Inside, Interrupts, Lab, Link, Middlebox, Running};

use crate::console;

/// How long a program may take to stop.
const STEP: Duration = Duration::from_secs(15);

const AFTER_HELP: &str = "\
Each host runs irmd with an IPCP, and `oping --listen` under the host's own name; each finds the others by name.

Knobs of a link, between commas, for both directions (a round trip has the delay twice):
  delay=50ms jitter=5ms loss=1% burst=1%x5 reorder=1% reorder-by=10ms duplicate=1% corrupt=0.1%
  rate=10mbit queue=64k mtu=1280 seed=7

Kinds of middlebox:
  open firewall full-cone address-restricted port-restricted symmetric-by-address symmetric-sequential
  symmetric-random carrier-over-cone carrier-over-symmetric

Examples:
  cargo xtask lab --link a:delay=50ms,loss=10%
  cargo xtask lab --hosts a,b,c --nat a:symmetric-random
  cargo xtask lab --nat b:port-restricted --forward b:3359,40000-40009";

/// What `cargo xtask lab` may be told.
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Options {
    /// The hosts
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', default_value = "a,b")]
    hosts: Vec<String>,
    /// How a host's link is; again and again for several hosts
    #[arg(long, value_name = "HOST:KNOBS", value_parser = of_host::<Link>)]
    link: Vec<(String, Link)>,
    /// What a host is behind; again and again for several hosts
    #[arg(long, value_name = "HOST:KIND", value_parser = of_host::<Middlebox>)]
    nat: Vec<(String, Middlebox)>,
    /// UDP ports that a host's middlebox lets in; flows to the host get ports of the widest range
    #[arg(long, value_name = "HOST:PORTS", value_parser = of_host::<Ports>)]
    forward: Vec<(String, Ports)>,
}

/// `3359,40000-40009`
#[derive(Clone, Debug)]
struct Ports(Vec<RangeInclusive<u16>>);

impl std::str::FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let range = |part: &str| -> Option<RangeInclusive<u16>> {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(first.parse().ok()?..=last.parse().ok()?)
        };
        let ports = text.split(',').map(|part| range(part).ok_or_else(|| format!("'{part}' is no port and no range")));
        ports.collect::<Result<_, _>>().map(Self)
    }
}

impl Ports {
    /// What flows to the host may use.
    fn for_flows(&self) -> Option<&RangeInclusive<u16>> {
        self.0.iter().filter(|range| range.len() > 1).max_by_key(|range| range.len())
    }
}

/// `HOST:…`
fn of_host<T: std::str::FromStr<Err = String>>(text: &str) -> Result<(String, T), String> {
    let (host, rest) = text.split_once(':').ok_or_else(|| format!("'{text}' names no host; write HOST:…"))?;
    Ok((host.to_owned(), rest.parse()?))
}

/// What was said of `host`.
fn said<'a, T>(list: &'a [(String, T)], host: &str) -> Option<&'a T> {
    list.iter().rev().find(|(name, _)| name == host).map(|(_, what)| what)
}

/// Makes the lab, says what to type, waits for Ctrl-C.
pub(crate) fn run(options: &Options) -> Result<()> {
    options.check()?;
    println!("Building the daemons and tools (some minutes the first time) …");
    let binaries = lab::binaries::prepare(Build { show: true, ..Build::default() })?;
    let inside = lab::enter().context("the lab needs network namespaces")?;
    let interrupts = Interrupts::catch()?;
    let lab = Lab::new()?;
    let stage = Stage::up(&lab, options)?;
    stage.tell(&inside, binaries);
    console::listen(stage.hosts.clone())?;
    interrupts.wait()?;
    println!("\nStopping …");
    stage.down()
}

impl Options {
    fn check(&self) -> Result<()> {
        let names = self.link.iter().map(|(host, _)| host).chain(self.nat.iter().map(|(host, _)| host));
        for name in names.chain(self.forward.iter().map(|(host, _)| host)) {
            ensure!(self.hosts.contains(name), "there is no host {name}; --hosts has {}", self.hosts.join(", "));
        }
        for (name, _) in &self.forward {
            if said(&self.nat, name).is_none() {
                bail!("host {name} is behind nothing that could forward; add --nat {name}:port-restricted");
            }
        }
        Ok(())
    }
}

struct Stage {
    hosts: Vec<Host>,
    servers: Vec<Running>,
    daemons: Vec<Daemon>,
}

impl Stage {
    fn up(lab: &Lab, options: &Options) -> Result<Self> {
        let mut stage = Self { hosts: Vec::new(), servers: Vec::new(), daemons: Vec::new() };
        for name in &options.hosts {
            let forwarded = said(&options.forward, name).map_or(&[][..], |ports| &ports.0);
            let host = match said(&options.nat, name) {
                Some(kind) => lab.server_behind(name, *kind, forwarded)?,
                None => lab.hosts([name])?.into_iter().next().context("one host")?,
            };
            stage.hosts.push(host);
        }
        for host in &stage.hosts {
            stage.daemons.push(host.irmd().start()?);
            let others: Vec<(&str, &Host)> =
                stage.hosts.iter().filter(|other| other.name() != host.name()).map(|o| (o.name(), o)).collect();
            let range = said(&options.forward, host.name()).and_then(Ports::for_flows);
            let range = range.map(|range| format!("{}-{}", range.start(), range.end()));
            let more: Vec<&str> = range.iter().flat_map(|range| ["--sp-range", range]).collect();
            host.bootstrap_with(&others, &more)?;
            stage.servers.push(host.serve(host.name())?);
        }
        // Last: the daemons start as fast as ever.
        for (host, link) in &options.link {
            stage.hosts.iter().find(|known| known.name() == host).context("checked")?.link().set(*link)?;
        }
        for host in &stage.hosts {
            println!("{}", stage.line(host, options));
        }
        Ok(stage)
    }

    fn line(&self, host: &Host, options: &Options) -> String {
        let mut line = format!("Host {} is {}", host.name(), host.address());
        if let Some(kind) = said(&options.nat, host.name()) {
            line += &format!(", behind a {kind} middlebox");
        }
        if host.public() != host.address() {
            line += &format!(" with the address {}", host.public());
        }
        line
    }

    fn tell(&self, inside: &Inside, binaries: &Path) {
        println!("\nAll is up until you press Ctrl-C. In another terminal, type:\n");
        println!("  PATH={}:$PATH", binaries.display());
        for host in &self.hosts {
            let enter = inside.words_to_enter(host);
            println!("  alias on-{}='{enter} env FLOWRING_RUN_DIR={}'", host.name(), host.run_dir().display());
        }
        let (first, last) = (self.hosts.first().map_or("a", Host::name), self.hosts.last().map_or("b", Host::name));
        println!("\nand then, for example:\n");
        println!("  on-{first} oping {last}            # {last} is the name that host {last} serves");
        println!("  on-{first} irm flow list");
        println!("  on-{first} irm ipcp list");
        println!("  on-{first} bash               # a shell at host {first}: ip, ss, tcpdump, …");
        println!("\nHere, a line changes a link while it runs, or makes a NAT forget:\n");
        println!("  {first} delay=100ms,loss=1%   {first} cut   {first} restore   {first} counts   {first} forget\n");
    }

    /// In the reverse of the order of starting.
    fn down(mut self) -> Result<()> {
        while let Some(mut server) = self.servers.pop() {
            server.signal(lab::Signal::INT)?;
            server.wait(STEP)?;
        }
        while let Some(mut daemon) = self.daemons.pop() {
            daemon.stop()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    fn parse(line: &str) -> Result<Options, String> {
        let cli = Cli::try_parse_from(["lab"].into_iter().chain(line.split_whitespace()));
        let options = cli.map_err(|error| error.to_string())?.options;
        options.check().map_err(|error| error.to_string())?;
        Ok(options)
    }

    #[test]
    fn the_examples_of_the_help_text_are_understood() {
        let examples: Vec<_> =
            AFTER_HELP.lines().filter_map(|line| line.trim().strip_prefix("cargo xtask lab")).collect();
        assert_eq!(examples.len(), 3);
        for example in examples {
            parse(example).unwrap();
        }
        let kinds = Middlebox::ALL.map(Middlebox::name);
        assert!(kinds.iter().all(|kind| AFTER_HELP.split_whitespace().any(|word| word == *kind)), "a kind is missing");
    }

    #[test]
    fn what_is_said_of_a_host_is_kept_for_it() {
        let options =
            parse("--hosts a,b --link a:loss=10% --link b:delay=5ms --nat b:firewall --forward b:3359,9000-9001");
        let options = options.unwrap();
        assert_eq!(said(&options.link, "a").map(|link| link.loss), Some(0.1));
        assert_eq!(said(&options.nat, "b"), Some(&Middlebox::Firewall));
        assert!(said(&options.nat, "a").is_none());
        assert_eq!(said(&options.forward, "b").unwrap().for_flows(), Some(&(9000..=9001)));
    }

    #[test]
    fn nonsense_is_named() {
        for (line, words) in [
            ("--link a", "names no host"),
            ("--link a:speed=1", "no knob"),
            ("--nat a:cone", "no middlebox"),
            ("--nat c:open", "no host c"),
            ("--forward a:1-2", "--nat a:"),
            ("--nat a:open --forward a:x", "'x' is no port"),
        ] {
            let error = parse(line).err().unwrap();
            assert!(error.contains(words), "{line}: {error}");
        }
    }
}
