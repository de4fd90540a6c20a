//! Real name servers at a host of the lab: BIND 9 and Knot DNS, each the primary of one zone that takes updates signed
//! with a key.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use lab::{Host, Running};

use crate::net::SOON;

/// The zone they serve.
pub const ZONE: &str = "flows.test";
const SECRET: &str = "c2VjcmV0IG9mIHRoZSBsYWIncyB6b25lLi4uLi4=";

/// Which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// BIND 9: `named`.
    Bind,
    /// Knot DNS: `knotd`.
    Knot,
}

/// A running one. Killed when dropped.
pub struct NameServer {
    kind: Kind,
    host: Host,
    dir: PathBuf,
    running: Running,
}

/// A program of `PATH`, or of where administrators' programs are.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/usr/local/sbin", "/sbin", "/usr/games"].map(PathBuf::from);
    std::env::split_paths(&path).chain(more).map(|dir| dir.join(name)).find(|path| path.is_file())
}

/// The text of a key file.
pub fn key_text(name: &str, secret: &str) -> String {
    format!("key \"{name}\" {{\n\talgorithm hmac-sha256;\n\tsecret \"{secret}\";\n}};\n")
}

impl NameServer {
    /// Starts it at `host`, with these lines beside what every zone has.
    pub fn start(kind: Kind, host: &Host, lines: &str) -> Result<Self> {
        let dir = host.run_dir().join("dns");
        std::fs::create_dir_all(&dir)?;
        let ip = host.address();
        let zone = format!("$TTL 60\n@ SOA ns.{ZONE}. admin.{ZONE}. 1 3600 600 86400 2\n@ NS ns\nns A {ip}\n{lines}\n");
        std::fs::write(dir.join("zone"), zone)?;
        let config = match kind {
            Kind::Bind => bind(&dir, host),
            Kind::Knot => knot(&dir, host),
        };
        std::fs::write(dir.join("config"), config)?;
        let running = run(kind, host, &dir)?;
        Ok(Self { kind, host: host.clone(), dir, running })
    }

    /// The words of `irm ipcp bootstrap` that look up here.
    pub fn words(&self) -> Vec<String> {
        let address = self.host.address().to_string();
        ["--dns-zone", ZONE, "--dns-server", &address].map(str::to_owned).into()
    }

    /// The same with a key file of the host's own that may update, and records that live only so many seconds.
    pub fn words_with_key(&self, host: &Host, lifetime: u32) -> Result<Vec<String>> {
        let file = self.key_file(host, &key_text("flows", SECRET))?;
        let mut words = self.words();
        words.extend(["--dns-key", &file, "--dns-lifetime", &lifetime.to_string()].map(str::to_owned));
        Ok(words)
    }

    /// Writes a key file at the host, and says where it is.
    pub fn key_file(&self, host: &Host, text: &str) -> Result<String> {
        use std::os::unix::fs::PermissionsExt as _;
        let file = host.run_dir().join("flows.key");
        std::fs::write(&file, text)?;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600))?;
        file.to_str().map(str::to_owned).context("utf-8")
    }

    /// Gives the host the right key again.
    pub fn right_key(&self, host: &Host) -> Result<()> {
        self.key_file(host, &key_text("flows", SECRET)).map(drop)
    }

    /// The data of a name's records, in order.
    pub fn records(&self, name: &str, kind: &str) -> Result<Vec<String>> {
        let tool = if self.kind == Kind::Bind { "dig" } else { "kdig" };
        let server = format!("@{}", self.host.address());
        let output = self.host.run(tool, &[server.as_str(), name, kind, "+short", "+norec"])?;
        anyhow::ensure!(output.code() == 0, "{tool}: {output:?}");
        let mut lines: Vec<String> = output.out.lines().map(str::to_owned).collect();
        lines.sort();
        Ok(lines)
    }

    /// Kills it.
    pub fn kill(&mut self) -> Result<()> {
        self.running.kill()
    }

    /// Starts it again, with what it had.
    pub fn restart(&mut self) -> Result<()> {
        self.running.kill()?;
        self.running = run(self.kind, &self.host, &self.dir)?;
        Ok(())
    }
}

fn run(kind: Kind, host: &Host, dir: &std::path::Path) -> Result<Running> {
    let (name, args, up) = match kind {
        Kind::Bind => ("named", ["-g", "-c"], "running"),
        Kind::Knot => ("knotd", ["-v", "-c"], "server started"),
    };
    let path = program(name).with_context(|| format!("{name} is not installed"))?;
    let mut command: Command = host.command(path.to_str().context("utf-8")?);
    command.args(args).arg(dir.join("config")).current_dir(dir);
    let running = Running::start(&format!("{}: {name}", host.name()), command)?;
    match kind {
        Kind::Bind => running.expect_log(SOON, up)?,
        Kind::Knot => running.expect_line(SOON, up)?,
    };
    Ok(running)
}

fn bind(dir: &std::path::Path, host: &Host) -> String {
    let (dir, ip) = (dir.display(), host.address());
    let keys = key_text("flows", SECRET) + &key_text("spy", SECRET);
    format!(
        "{keys}
options {{
  directory \"{dir}\"; pid-file \"{dir}/named.pid\"; session-keyfile \"{dir}/session.key\";
  listen-on {{ {ip}; }}; listen-on-v6 {{ none; }};
  recursion no; allow-query {{ any; }}; dnssec-validation no; notify no;
}};
controls {{ }};
zone \"{ZONE}\" {{ type primary; file \"zone\"; allow-update {{ key flows; }}; }};
"
    )
}

fn knot(dir: &std::path::Path, host: &Host) -> String {
    let (dir, ip) = (dir.display(), host.address());
    format!(
        "server:
  rundir: {dir}
  listen: {ip}@53
  user: root:root
  udp-workers: 1
  tcp-workers: 1
  background-workers: 1
log:
  - target: stdout
    any: info
database:
  storage: {dir}
key:
  - id: flows
    algorithm: hmac-sha256
    secret: {SECRET}
  - id: spy
    algorithm: hmac-sha256
    secret: {SECRET}
acl:
  - id: may-update
    key: flows
    action: update
zone:
  - domain: {ZONE}
    storage: {dir}
    file: zone
    acl: may-update
"
    )
}
