//! One host: its network, its run directory, what is run on it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use serde_json::Value;

use crate::host_link::{HostLink, Wire};
use crate::net::{self, Namespace};
use crate::router::Memory;
use crate::{IrmdBuilder, Middlebox, Output, Running, binaries, sys, wait_until};

/// How long a command that only asks and answers may take.
const ANSWER: Duration = Duration::from_secs(20);
/// How long a port may be taken that was closed.
const LET_GO: Duration = Duration::from_secs(5);

/// A host of a lab. Clones are the same host.
#[derive(Clone)]
pub struct Host(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) name: String,
    pub(crate) run_dir: PathBuf,
    pub(crate) address: Ipv4Addr,
    /// The outermost NAT's address, where the host is behind one.
    pub(crate) public: Option<Ipv4Addr>,
    pub(crate) address6: Option<Ipv6Addr>,
    pub(crate) port: u16,
    /// None on loopback.
    pub(crate) network: Option<Network>,
}

/// A host's network and where it is attached.
pub(crate) struct Network {
    pub(crate) namespace: Namespace,
    pub(crate) wire: Wire,
    /// What is between it and the lab's switch.
    pub(crate) boxes: Vec<Memory>,
}

impl Host {
    pub(crate) fn new(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }

    /// Its name in the lab.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its run directory.
    pub fn run_dir(&self) -> &Path {
        &self.0.run_dir
    }

    /// Its IPv4 address.
    pub fn address(&self) -> IpAddr {
        IpAddr::V4(self.0.address)
    }

    /// The IPv4 address at which others reach it: its own, or that of the NAT it is behind.
    pub fn public(&self) -> IpAddr {
        IpAddr::V4(self.0.public.unwrap_or(self.0.address))
    }

    /// Its IPv6 address; none on loopback and behind a middlebox.
    pub fn address6(&self) -> Option<IpAddr> {
        self.0.address6.map(IpAddr::V6)
    }

    /// The shim's port: 3359 in namespaces, a free one on loopback.
    pub fn port(&self) -> u16 {
        self.0.port
    }

    /// Where its shim is reached.
    pub fn shim(&self) -> SocketAddr {
        SocketAddr::new(self.public(), self.port())
    }

    /// The link between this host and what it is attached to: the switch, or its middlebox.
    pub fn link(&self) -> HostLink<'_> {
        HostLink::new(self.name(), self.0.network.as_ref().map(|network| &network.wire))
    }

    /// Makes the middleboxes of this host forget all flows, as if they had been restarted: nobody is let in until the
    /// host sends again. Then a symmetric NAT gives the flow another port, one that keeps ports the same. Nothing to
    /// forget: nothing happens.
    pub fn forget_mappings(&self) -> Result<()> {
        let boxes = self.0.network.as_ref().map_or(&[][..], |network| &network.boxes);
        boxes.iter().try_for_each(Memory::forget)
    }

    /// Makes the one middlebox of this host another kind, as when somebody sets it up anew: flows that it remembers go on. Both
    /// kinds translate addresses, or both do not.
    pub fn change_middlebox(&self, kind: Middlebox) -> Result<()> {
        match self.0.network.as_ref().map_or(&[][..], |network| &network.boxes) {
            [only] => only.become_kind(kind),
            boxes => bail!("{} is behind {} middleboxes; only one can become another", self.name(), boxes.len()),
        }
    }

    fn namespace(&self) -> Option<&Namespace> {
        self.0.network.as_ref().map(|network| &network.namespace)
    }

    /// The box before it.
    pub(crate) fn innermost(&self) -> Option<&Namespace> {
        Some(self.0.network.as_ref()?.boxes.first()?.namespace())
    }

    pub(crate) fn in_namespace(&self) -> Result<&Namespace> {
        let name = self.name();
        self.namespace().with_context(|| format!("host {name} is on loopback; make the lab with Lab::new"))
    }

    pub(crate) fn namespace_number(&self) -> Option<i32> {
        self.namespace().map(|namespace| namespace.as_raw_fd())
    }

    /// A program to be run at this host: one of ours by its name, else one from `PATH`. It knows the host's run
    /// directory by its environment.
    pub fn command(&self, program: &str) -> Command {
        let ours = binaries::folder().map(|folder| folder.join(program)).filter(|path| path.is_file());
        let mut command = Command::new(ours.as_deref().unwrap_or(Path::new(program)));
        command.env("FLOWRING_RUN_DIR", self.run_dir());
        // Ctrl-C is for who started the lab, and that stops what is here in order.
        command.process_group(0);
        // In namespaces the end of process 1 ends all; here the starter's thread must.
        let with_parent = self.namespace().is_none();
        sys::prepare(&mut command, self.namespace().cloned(), with_parent);
        command
    }

    /// Starts a program; see [`command`](Self::command).
    pub fn start<S: AsRef<str>>(&self, program: &str, args: &[S]) -> Result<Running> {
        let mut command = self.command(program);
        command.args(args.iter().map(AsRef::as_ref));
        Running::start(&format!("{}: {program}", self.name()), command)
    }

    /// Runs a program to its end, however it ends.
    pub fn run<S: AsRef<str>>(&self, program: &str, args: &[S]) -> Result<Output> {
        let mut running = self.start(program, args)?;
        drop(running.input());
        running.wait(ANSWER)
    }

    /// Runs `irm` and gives its standard output; an error with its own words where it fails.
    pub fn irm<S: AsRef<str>>(&self, args: &[S]) -> Result<String> {
        let output = self.run("irm", args)?;
        if !output.status.success() {
            let words: Vec<&str> = args.iter().map(AsRef::as_ref).collect();
            let (out, err) = (output.out.trim(), output.err.trim());
            bail!("host {}: irm {} ended with {}: {err} {out}", self.name(), words.join(" "), output.code());
        }
        Ok(output.out)
    }

    /// The rows of a listing of `irm`, given by the words before `--json`.
    pub fn list(&self, what: &str) -> Result<Vec<Value>> {
        let words: Vec<&str> = what.split(' ').chain(["--json"]).collect();
        let text = self.irm(&words)?;
        serde_json::from_str(&text).with_context(|| {
            let begin: String = text.chars().take(500).collect();
            format!("irm {} printed no JSON array: {begin}", words.join(" "))
        })
    }

    /// Starts `oping --listen NAME` and waits until it accepts flows.
    pub fn serve(&self, name: &str) -> Result<Running> {
        let server = self.start("oping", &["--listen", name])?;
        self.await_server(server, name)
    }

    /// Waits until `server` accepts flows for `name`.
    pub fn await_server(&self, mut server: Running, name: &str) -> Result<Running> {
        wait_until(ANSWER, &format!("{name} to be served at host {}", self.name()), || {
            !server.is_running() || self.accepting(name).unwrap_or(0) > 0
        })?;
        if !server.is_running() {
            let output = server.wait(ANSWER)?;
            bail!("host {}: the server of {name} ended: {} {}", self.name(), output.out.trim(), output.err.trim());
        }
        Ok(server)
    }

    /// How many accepts wait for a flow to `name`.
    pub fn accepting(&self, name: &str) -> Result<u64> {
        let rows = self.list("name list")?;
        Ok(rows.iter().find(|row| row["name"] == name).and_then(|row| row["accepting"].as_u64()).unwrap_or(0))
    }

    /// irmd for this host, to be started.
    pub fn irmd(&self) -> IrmdBuilder {
        IrmdBuilder::new(self.clone())
    }

    /// The words of `irm ipcp bootstrap` for an IPCP `udp0` over UDP at this host's IPv4 address, in layer `net`, that
    /// finds each name at its host.
    pub fn bootstrap_words(&self, directory: &[(&str, &Host)]) -> Vec<String> {
        self.bootstrap_words_at(self.address(), directory)
    }

    fn bootstrap_words_at(&self, address: IpAddr, directory: &[(&str, &Host)]) -> Vec<String> {
        let mut words: Vec<String> =
            "ipcp bootstrap --type udp --name udp0 --layer net --ip".split(' ').map(str::to_owned).collect();
        words.push(address.to_string());
        if self.port() != 3359 {
            words.extend(["--port".to_owned(), self.port().to_string()]);
        }
        for (name, host) in directory {
            let there = match address {
                IpAddr::V4(_) => Some(host.public()),
                IpAddr::V6(_) => host.address6(),
            };
            let there = there.expect("both ends have the address family");
            let there = if host.port() == 3359 { there.to_string() } else { host.shim().to_string() };
            words.extend(["--host".to_owned(), format!("{name}={there}")]);
        }
        words
    }

    /// Bootstraps as [`bootstrap_words`](Self::bootstrap_words) says.
    pub fn bootstrap(&self, directory: &[(&str, &Host)]) -> Result<()> {
        self.irm(&self.bootstrap_words(directory)).map(drop)
    }

    /// The same with words of the caller's added: `--echo`, `--sp-range`, …
    pub fn bootstrap_with(&self, directory: &[(&str, &Host)], more: &[&str]) -> Result<()> {
        let mut words = self.bootstrap_words(directory);
        words.extend(more.iter().map(|word| (*word).to_owned()));
        self.irm(&words).map(drop)
    }

    /// The same over IPv6.
    pub fn bootstrap6(&self, directory: &[(&str, &Host)]) -> Result<()> {
        let address = self.address6().context("a host on loopback has no IPv6 address")?;
        self.irm(&self.bootstrap_words_at(address, directory)).map(drop)
    }

    /// Runs `work` on a thread that is at this host: sockets it opens are the host's, wherever they go then.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        net::inside(self.namespace(), work)
    }

    /// A UDP socket at this host, at `port` of its IPv4 address; 0: any.
    pub fn socket(&self, port: u16) -> Result<std::net::UdpSocket> {
        self.socket_at(self.address(), port)
    }

    /// The same at another of its addresses.
    pub fn socket_at(&self, address: IpAddr, port: u16) -> Result<std::net::UdpSocket> {
        let socket = self.bound((address, port), std::net::UdpSocket::bind)?;
        socket.set_read_timeout(Some(ANSWER))?;
        Ok(socket)
    }

    /// A listening TCP socket at this host, at `port` of its IPv4 address; 0: any.
    pub fn listener(&self, port: u16) -> Result<std::net::TcpListener> {
        self.bound((self.address(), port), std::net::TcpListener::bind)
    }

    /// What `bind` makes. A port that a test has just closed is still taken while a program is being started beside it:
    /// between fork and exec that has all the test's descriptors.
    fn bound<T: Send>(
        &self,
        (address, port): (IpAddr, u16),
        bind: impl Fn((IpAddr, u16)) -> std::io::Result<T> + Send + Copy,
    ) -> Result<T> {
        let what = format!("port {port} of {address} at host {}", self.name());
        let mut tried = None;
        wait_until(LET_GO, &what, || {
            let bound = self.inside(move || bind((address, port)));
            let taken = matches!(&bound, Ok(Err(error)) if error.kind() == std::io::ErrorKind::AddrInUse);
            tried = Some(bound);
            !taken
        })?;
        tried.context("it is tried once at least")?.and_then(|bound| bound.context(what))
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Host({} {})", self.name(), self.shim())
    }
}
