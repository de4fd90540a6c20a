//! A rendezvous, and members behind middleboxes.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use flowring_tests::flows::{carry, pattern};
use flowring_tests::net::{SOON, ipcp};
use lab::{Daemon, Host, Lab, Link, Middlebox, Running};
use libflow::Cube;
use libflow::blocking::Flow;
use serde_json::Value;

pub(crate) const SESSION: &str = "darkreign";
/// Its key.
pub(crate) const SECRET: &str = "ask dan kegel, who wrote this in 1997";

/// A session: a host with the server, whose key all members have.
pub(crate) struct Session {
    pub(crate) server: Option<Running>,
    words: &'static [&'static str],
    config: PathBuf,
    pub(crate) at: Host,
    pub(crate) key: PathBuf,
    pub(crate) lab: Lab,
}

/// A host that is, or is to be, a member.
pub(crate) struct Member {
    pub(crate) host: Host,
    pub(crate) irmd: Daemon,
}

/// Writes a key that nobody else may read.
pub(crate) fn write_key(path: &Path, secret: &str) -> Result<()> {
    std::fs::write(path, secret)?;
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?)
}

impl Session {
    pub(crate) fn open() -> Result<Self> {
        Self::open_with(&[])
    }

    /// With further words for the server.
    pub(crate) fn open_with(words: &'static [&'static str]) -> Result<Self> {
        Self::open_as("", words)
    }

    /// The same where all addresses are of the whole Internet.
    pub(crate) fn open_public(words: &'static [&'static str]) -> Result<Self> {
        Self::open_in(Lab::with_public_addresses()?, "", words)
    }

    /// With further lines of its configuration, and words.
    pub(crate) fn open_as(lines: &str, words: &'static [&'static str]) -> Result<Self> {
        Self::open_in(Lab::new()?, lines, words)
    }

    fn open_in(lab: Lab, lines: &str, words: &'static [&'static str]) -> Result<Self> {
        let [at] = lab.hosts(["rdv"])?;
        let key = at.run_dir().join("darkreign.key");
        write_key(&key, &format!("{SECRET}\n"))?;
        let config = at.run_dir().join("rendezvous.toml");
        let text = format!("{lines}\n[[session]]\nname = \"{SESSION}\"\nkey-file = \"darkreign.key\"\n");
        std::fs::write(&config, text)?;
        let mut session = Self { server: None, words, config, at, key, lab };
        session.start()?;
        Ok(session)
    }

    /// Starts the server, again if it has ended.
    pub(crate) fn start(&mut self) -> Result<()> {
        let [v4, v6] = [self.via(), self.via6()?];
        let config = self.config.to_str().context("a path of text")?;
        let words = ["--listen", &v4, "--listen", &v6, "--config", config];
        let server = self.at.start("rendezvous", &[&words[..], self.words].concat())?;
        server.expect_log(SOON, "listens at")?;
        self.server = Some(server);
        Ok(())
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.server.take().context("it runs")?.kill()
    }

    /// A host behind a middlebox, as a member.
    pub(crate) fn member(&self, name: &str, kind: Middlebox) -> Result<Member> {
        let host = self.lab.host_behind(name, kind)?;
        self.enroll(host, Duration::ZERO)
    }

    /// The same with further words for its enrolment.
    pub(crate) fn member_with(&self, name: &str, kind: Middlebox, more: &[&str]) -> Result<Member> {
        let host = self.lab.host_behind(name, kind)?;
        let irmd = host.irmd().start()?;
        enroll_with(&host, &self.via(), &self.key, more)?;
        await_session(&host, "joined session")?;
        Ok(Member { host, irmd })
    }

    /// The same with a link that takes so long.
    pub(crate) fn far_member(&self, name: &str, kind: Middlebox, delay: Duration) -> Result<Member> {
        let host = self.lab.host_behind(name, kind)?;
        self.enroll(host, delay)
    }

    pub(crate) fn enroll(&self, host: Host, delay: Duration) -> Result<Member> {
        if !delay.is_zero() {
            host.link().set(Link { delay, ..Link::CLEAN })?;
        }
        let irmd = host.irmd().start()?;
        enroll(&host, &self.via(), &self.key)?;
        await_session(&host, "joined session")?;
        Ok(Member { host, irmd })
    }

    /// A host of the lab's switch as a member over IPv6. Its own firewall lets in only what answers something.
    pub(crate) fn member6(&self, name: &str) -> Result<Member> {
        let [host] = self.lab.hosts([name])?;
        let rules = "add table ip6 own\n\
                     add chain ip6 own input { type filter hook input priority 0; }\n\
                     add rule ip6 own input ct state established,related accept\n\
                     add rule ip6 own input meta l4proto udp drop\n";
        let output = host.run("nft", &[rules])?;
        ensure!(output.code() == 0, "nft: {}", output.err);
        let irmd = host.irmd().start()?;
        enroll(&host, &self.via6()?, &self.key)?;
        await_session(&host, "joined session")?;
        Ok(Member { host, irmd })
    }

    /// Where it is over IPv6.
    pub(crate) fn via6(&self) -> Result<String> {
        Ok(format!("[{}]:3360", self.at.address6().context("a host of a switch")?))
    }

    /// Two hosts that share an outer address, as members: of two that send from one port there, a cone gives it to whoever used it
    /// last, so the listen ports differ.
    pub(crate) fn neighbours(&self, hosts: [Host; 2]) -> Result<[Member; 2]> {
        let mut ports = ["3359", "3358"].into_iter();
        let member = |host: Host| {
            let irmd = host.irmd().start()?;
            let port = ports.next().context("two hosts")?;
            enroll_with(&host, &self.via(), &self.key, &["--port", port])?;
            await_session(&host, "joined session")?;
            Ok(Member { host, irmd })
        };
        let members = hosts.map(member).into_iter().collect::<Result<Vec<_>>>()?;
        members.try_into().ok().context("two members")
    }

    pub(crate) fn via(&self) -> String {
        format!("{}:3360", self.at.address())
    }

    /// How the server is.
    pub(crate) fn status(&self) -> Result<Value> {
        let output = self.at.run("rendezvous", &["status", "--json", "--session", SESSION])?;
        ensure!(output.code() == 0, "status: {}", output.err.trim());
        Ok(serde_json::from_str(&output.out)?)
    }
}

pub(crate) fn enroll(host: &Host, via: &str, key: &Path) -> Result<()> {
    enroll_with(host, via, key, &[])
}

/// With further words.
pub(crate) fn enroll_with(host: &Host, via: &str, key: &Path, more: &[&str]) -> Result<()> {
    let key = key.to_str().context("a path of text")?;
    let words = ["ipcp", "enroll", "--name", "udp0", "--layer", "lobby", "--via", via];
    host.irm(&[&words[..], &["--session", SESSION, "--key-file", key], more].concat()).map(drop)
}

/// How a host stands in the session.
pub(crate) fn words(host: &Host) -> Result<String> {
    Ok(ipcp(host)?["session"].as_str().unwrap_or_default().to_owned())
}

/// Waits until it stands so.
pub(crate) fn await_session(host: &Host, text: &str) -> Result<()> {
    let stands = || words(host).is_ok_and(|words| words.contains(text));
    lab::wait_until(SOON, &format!("{} to stand so: {text}", host.name()), stands)
        .with_context(|| words(host).unwrap_or_default())
}

/// What NAT the host has found before itself.
pub(crate) fn await_survey(host: &Host) -> Result<String> {
    let found = || words(host).is_ok_and(|words| words.contains("NAT: ") && !words.contains("not found out"));
    lab::wait_until(SOON, "the kind of NAT", found)?;
    words(host)
}

/// Serves a name at a member; others know it then.
pub(crate) fn serve(member: &Member, name: &str, others: &[&Member]) -> Result<Running> {
    let server = member.host.serve(name)?;
    others.iter().try_for_each(|other| await_name(&other.host, name))?;
    Ok(server)
}

/// Waits until a host has heard that another member has the name.
pub(crate) fn await_name(host: &Host, name: &str) -> Result<()> {
    let known = || member_step(host, name).is_ok_and(|step| step["outcome"] == "found");
    lab::wait_until(SOON, &format!("{} to know {name}", host.name()), known)
        .with_context(|| format!("{:?}", member_step(host, name)))
}

/// What `irm name resolve` says of the session.
pub(crate) fn member_step(host: &Host, name: &str) -> Result<Value> {
    let reply: Value = serde_json::from_str(&host.irm(&["name", "resolve", name, "--json"])?)?;
    let steps = reply["sources"].as_array().context("sources")?;
    steps
        .iter()
        .find(|step| step["source"] == "rendezvous")
        .cloned()
        .with_context(|| format!("no rendezvous in {reply}"))
}

/// Something over a flow, as its cube has it: an SDU, or a stream.
pub(crate) fn exchange(asked: &Flow, accepted: &Flow, cube: Cube) -> Result<()> {
    if cube == Cube::Stream {
        return carry(asked, accepted, &pattern(1 << 18));
    }
    asked.send(b"hello")?;
    ensure!(accepted.recv_within(&mut [0; 64], SOON)? == 5, "another SDU came");
    Ok(())
}

/// The one flow of a host, once it is allocated.
pub(crate) fn only_flow(host: &Host) -> Result<Value> {
    let mut rows = flowring_tests::net::await_flows(host, 1)?;
    Ok(rows.remove(0))
}

/// `oping NAME -c COUNT` at a host: all came back.
pub(crate) fn ping(host: &Host, name: &str, count: u32) -> Result<Value> {
    let output = host.run("oping", &[name, "-c", &count.to_string(), "-i", "0.02", "--json"])?;
    ensure!(output.code() == 0, "{}", output.err);
    let account: Value = serde_json::from_str(&output.out)?;
    ensure!(account["received"] == count, "{account}");
    Ok(account)
}

/// The words of a flow that does not come about.
pub(crate) fn ping_error(host: &Host, name: &str) -> Result<String> {
    match flowring_tests::flows::stack(host)?.alloc(name).timeout(SOON).wait() {
        Ok(_) => anyhow::bail!("a flow came about"),
        Err(error) => Ok(error.to_string()),
    }
}
