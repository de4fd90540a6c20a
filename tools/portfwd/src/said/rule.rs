//! A rule: what listens, where it forwards to, and how.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
pub use service::balance::{Health, Policy as Balance};

use super::end::{End, Host, Place};
use super::file::overlap;

/// One rule, as it is carried out: one listening end, with one port at most. Those of a range are made of it by
/// [`Rule::each`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What the log, the status and the metrics call it; what was written as its listening end unless said otherwise.
    pub name: String,
    /// Where connections come from.
    pub listen: End,
    /// Where they go, one of them each; one at least.
    pub targets: Vec<End>,
    /// How.
    pub options: Options,
}

/// The options of a rule. [`Options::default`] is what holds where nothing is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// When the listening socket takes connections.
    pub accept: Accept,
    /// Which of several targets a connection gets.
    pub balance: Balance,
    /// Clients' addresses that are let in; of both lists the longest prefix decides. Empty: all that `deny` does not name.
    pub allow: Vec<IpNet>,
    /// And those that are not.
    pub deny: Vec<IpNet>,
    /// Connections at a time; more are reset. `None`: as many as there are descriptors.
    pub max_connections: Option<NonZeroU32>,
    /// New connections per second, a second's worth at once; more are reset.
    pub rate: Option<NonZeroU32>,
    /// How long the connection to a target, or the answer of a flow and its far end, may take.
    pub connect_timeout: Duration,
    /// A connection that carries nothing either way for so long is reset. UDP: after so long a client is forgotten
    /// ([`Options::UDP_IDLE`] unless said).
    pub idle_timeout: Option<Duration>,
    /// TCP keep-alive of both sockets: a peer that is silent for so long is asked whether it is still there.
    pub keepalive: Option<Duration>,
    /// Connections that wait to be accepted (`listen`'s backlog; the kernel has a limit of its own).
    pub backlog: NonZeroU32,
    /// Each connection begins with a header of the PROXY protocol, version 1 or 2, which says who the client is.
    pub proxy_in: bool,
    /// Each connection to a target begins with one.
    pub proxy_out: Option<ProxyVersion>,
    /// Which targets are taken for dead.
    pub health: Health,
    /// TLS of the clients' connections ends here.
    pub tls_in: Option<TlsServer>,
    /// Connections to the targets are TLS.
    pub tls_out: Option<TlsClient>,
    /// How often host names of targets are looked up again.
    pub resolve: Duration,
    /// Layers in which a served flow name is registered, or over which flows are allocated; none: all.
    pub layers: Vec<String>,
}

/// When the listening socket takes connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Accept {
    /// At all times; where no target answers the connection is reset.
    #[default]
    Always,
    /// While a target is not known to be dead: else connections are refused by the kernel, as by the target itself.
    AfterTarget,
}

/// Versions of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyVersion {
    /// Text.
    V1,
    /// Bytes.
    V2,
}

/// TLS of the clients' connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsServer {
    /// File of the certificate chain, PEM.
    pub cert: PathBuf,
    /// File of its key, PEM.
    pub key: PathBuf,
    /// File of the CAs of which a client has to show a certificate, PEM; `None`: of none.
    pub client_ca: Option<PathBuf>,
}

/// TLS to the targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsClient {
    /// Whether the target's certificate is checked.
    pub verify: bool,
    /// File of the CAs that are trusted, PEM; `None`: the system's.
    pub ca: Option<PathBuf>,
    /// The name that is asked for and checked; `None`: the target's host.
    pub sni: Option<String>,
}

/// Why ends and options make no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// No target.
    #[error("{0} has no target; write LISTEN -> TARGET")]
    NoTarget(End),
    /// Ranges of different lengths.
    #[error("{0} has {1} ports and {2} has {3}; give as many on both sides, or one target port")]
    Ranges(End, usize, End, usize),
    /// Datagrams on one side, a byte stream on the other.
    #[error("{0} carries datagrams and {1} a stream of bytes; they cannot be joined")]
    Mixed(End, End),
    /// A flow to a flow.
    #[error("{0} -> {1} would forward a flow to a flow; allocate to the second name instead")]
    FlowToFlow(End, End),
    /// What listens would be its own client.
    #[error("{0} -> {1} would forward to itself; give another target")]
    Itself(End, End),
    /// An option that datagrams, or flows, have no use for.
    #[error("{option} does not go with {end}; {instead}")]
    Unfit {
        /// Its key.
        option: &'static str,
        /// The end.
        end: End,
        /// What to do.
        instead: &'static str,
    },
}

impl Default for Options {
    fn default() -> Self {
        Self {
            accept: Accept::default(),
            balance: Balance::default(),
            allow: Vec::new(),
            deny: Vec::new(),
            max_connections: None,
            rate: None,
            connect_timeout: Duration::from_secs(5),
            idle_timeout: None,
            keepalive: None,
            backlog: const { NonZeroU32::new(4096).unwrap() },
            proxy_in: false,
            proxy_out: None,
            health: Health::default(),
            tls_in: None,
            tls_out: None,
            resolve: Duration::from_secs(30),
            layers: Vec::new(),
        }
    }
}

impl Options {
    /// [`Options::idle_timeout`] of UDP rules that say none.
    pub const UDP_IDLE: Duration = Duration::from_secs(60);
}

impl Rule {
    /// A rule with default options.
    pub fn new(listen: End, targets: Vec<End>) -> Self {
        Self { name: listen.to_string(), listen, targets, options: Options::default() }
    }

    /// It forwards datagrams: between flows' messages and UDP, too.
    pub fn is_udp(&self) -> bool {
        self.listen.is_udp() || self.targets.iter().any(End::is_udp)
    }

    /// What makes it the same rule in a changed file: its listening end.
    pub fn key(&self) -> &End {
        &self.listen
    }

    /// The rules that it stands for, one for each listening port, after a look at whether the ends go together. A target
    /// has as many ports as the listening end, which go one to one, or a single port, where all go.
    pub fn each(&self) -> Result<Vec<Self>, RuleError> {
        self.check()?;
        let Some(ports) = self.listen.ports().filter(|ports| ports.len() > 1) else {
            return self.clone().elsewhere().map(|rule| vec![rule]);
        };
        let one = |(index, port): (usize, u16)| {
            let listen = self.listen.with_port(port);
            let targets = self.targets.iter().map(|target| match target.ports().and_then(|ports| ports.get(index)) {
                Some(port) => target.with_port(port),
                None => target.clone(),
            });
            let name = match self.name == self.listen.to_string() {
                true => listen.to_string(),
                false => format!("{}:{port}", self.name),
            };
            Self { name, targets: targets.collect(), listen, options: self.options.clone() }.elsewhere()
        };
        ports.iter().enumerate().map(one).collect()
    }

    /// That no target of a single port is the listening end: each connection would make another, until there are no descriptors.
    fn elsewhere(self) -> Result<Self, RuleError> {
        match self.targets.iter().find(|target| is_same(&self.listen, target)) {
            Some(target) => Err(RuleError::Itself(self.listen.clone(), target.clone())),
            None => Ok(self),
        }
    }

    fn check(&self) -> Result<(), RuleError> {
        if self.targets.is_empty() {
            return Err(RuleError::NoTarget(self.listen.clone()));
        }
        let listening = self.listen.ports().map_or(1, super::end::Ports::len);
        let udp = self.is_udp();
        let stream = |end: &End| matches!(end, End::Tcp(_) | End::Unix(_));
        for target in &self.targets {
            let ports = target.ports().map_or(1, super::end::Ports::len);
            let pair = || (self.listen.clone(), target.clone());
            let (listen, to) = pair();
            if ports != 1 && ports != listening {
                return Err(RuleError::Ranges(listen, listening, to, ports));
            }
            if udp && stream(target) {
                let datagrams = self.targets.iter().find(|end| end.is_udp()).unwrap_or(&self.listen);
                return Err(RuleError::Mixed(datagrams.clone(), to));
            }
            if udp && stream(&self.listen) {
                return Err(RuleError::Mixed(to, listen));
            }
            if matches!((&listen, &to), (End::Flow(_), End::Flow(_))) {
                return Err(RuleError::FlowToFlow(listen, to));
            }
        }
        self.check_options(udp)
    }

    fn check_options(&self, udp: bool) -> Result<(), RuleError> {
        let options = &self.options;
        let flow = matches!(self.listen, End::Flow(_));
        let unix = matches!(self.listen, End::Unix(_));
        let streams_only = "leave it out of rules for datagrams";
        let listens = "its far end has it, where the connections come from";
        let to_flow = self.targets.iter().any(|target| matches!(target, End::Flow(_)));
        let encrypted = "flows between hosts are encrypted already; leave it out";
        let wrong = [
            (udp && options.tls_in.is_some(), "tls", streams_only),
            (udp && options.tls_out.is_some(), "target-tls", streams_only),
            (udp && options.proxy_in, "proxy-in", streams_only),
            (udp && options.proxy_out.is_some(), "proxy-out", streams_only),
            (udp && options.accept == Accept::AfterTarget, "accept", streams_only),
            (flow && options.tls_in.is_some(), "tls", encrypted),
            (to_flow && options.tls_out.is_some(), "target-tls", encrypted),
            (flow && options.proxy_in, "proxy-in", "the client's address comes with each stream of the flow"),
            (flow && options.accept == Accept::AfterTarget, "accept", listens),
            (unix && options.accept == Accept::AfterTarget, "accept", "the kernel cannot open such a socket again"),
        ];
        match wrong.into_iter().find(|(wrong, _, _)| *wrong) {
            Some((_, option, instead)) => Err(RuleError::Unfit { option, end: self.listen.clone(), instead }),
            None => Ok(()),
        }
    }
}

/// Whether a connection to `target` comes to `listen` on the same host, as far as that is written.
fn is_same(listen: &End, target: &End) -> bool {
    let loopback = IpAddr::from([127, 0, 0, 1]);
    let (at, to) = match (listen, target) {
        (End::Tcp(at), End::Tcp(to)) | (End::Udp(at), End::Udp(to)) => (at, to),
        (End::Unix(at), End::Unix(to)) => return at == to,
        _ => return false,
    };
    let to = match to.host {
        Host::This => Host::Address(loopback, 0),
        ref host => host.clone(),
    };
    let own = matches!(to, Host::Address(address, _) if address.is_loopback()) || to == at.host;
    let there = End::Tcp(Place { host: to, ports: target.ports().unwrap_or(at.ports) });
    own && overlap(&End::Tcp(at.clone()), &there)
}

/// As a line of a file: `LISTEN -> TARGET, TARGET`.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> ", self.listen)?;
        for (index, target) in self.targets.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{target}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Rule {
        let (listen, targets) = text.split_once(" -> ").unwrap();
        let targets = targets.split(", ").filter(|text| !text.is_empty()).map(|text| text.parse().unwrap());
        Rule::new(listen.parse().unwrap(), targets.collect())
    }

    #[test]
    fn a_range_is_many_rules() {
        let table: [(&str, &[&str]); 9] = [
            ("7005 -> 192.168.0.1:8005", &["7005 -> 192.168.0.1:8005"]),
            ("8000-8001 -> 10.0.0.1:9000-9001", &["8000 -> 10.0.0.1:9000", "8001 -> 10.0.0.1:9001"]),
            ("8000-8001 -> 10.0.0.1:80", &["8000 -> 10.0.0.1:80", "8001 -> 10.0.0.1:80"]),
            ("8000-8001 -> flow:web, unix:/w", &["8000 -> flow:web, unix:/w", "8001 -> flow:web, unix:/w"]),
            ("udp:53-54 -> udp:[::1]:1-2", &["udp:53 -> udp:[::1]:1", "udp:54 -> udp:[::1]:2"]),
            ("flow:dns -> udp:10.0.0.1:53", &["flow:dns -> udp:10.0.0.1:53"]),
            ("10.0.0.1:80 -> 80", &["10.0.0.1:80 -> 80"]),
            ("0.0.0.0:80 -> [::1]:80", &["0.0.0.0:80 -> [::1]:80"]),
            ("80 -> 10.0.0.1:80", &["80 -> 10.0.0.1:80"]),
        ];
        for (text, want) in table {
            let each: Vec<String> = rule(text).each().unwrap().iter().map(ToString::to_string).collect();
            assert_eq!(each, want, "{text}");
        }
        let named = Rule { name: "web".to_owned(), ..rule("8000-8001 -> 80") };
        let names: Vec<String> = named.each().unwrap().into_iter().map(|rule| rule.name).collect();
        assert_eq!(names, ["web:8000", "web:8001"]);
    }

    #[test]
    fn what_does_not_go_together_is_told() {
        let table = [
            ("8000-8002 -> 10.0.0.1:1-2", "8000-8002 has 3 ports and 10.0.0.1:1-2 has 2"),
            ("8000 -> 10.0.0.1:1-2", "8000 has 1 ports"),
            ("udp:53 -> 10.0.0.1:53", "udp:53 carries datagrams and 10.0.0.1:53"),
            ("53 -> udp:10.0.0.1:53", "udp:10.0.0.1:53 carries datagrams and 53"),
            ("flow:a -> udp:53, 80", "udp:53 carries datagrams and 80"),
            ("flow:a -> flow:b", "allocate to the second name"),
            ("7005 -> ", "7005 has no target"),
            ("7005 -> 7005", "forward to itself"),
            ("7005 -> 80, 127.0.0.1:7005", "forward to itself"),
            ("127.0.0.1:7005 -> 7005", "forward to itself"),
            ("10.0.0.1:7005 -> 10.0.0.1:7005", "forward to itself"),
            ("udp:[::]:53 -> udp:127.0.0.1:53", "forward to itself"),
            ("8000-8002 -> 8000-8002", "forward to itself"),
            ("8000-8002 -> 8001", "8001 -> 8001 would forward to itself"),
            ("unix:/a -> unix:/a", "forward to itself"),
        ];
        for (text, want) in table {
            let error = rule(text).each().expect_err(text).to_string();
            assert!(error.contains(want), "{text}: {error}");
        }
        let mut encrypted = rule("7005 -> flow:web");
        encrypted.options.tls_out = Some(TlsClient { verify: true, ca: None, sni: Some("web".to_owned()) });
        assert!(encrypted.each().unwrap_err().to_string().starts_with("target-tls does not go with 7005; flows"));
        let mut proxied = rule("flow:web -> 80");
        proxied.options.proxy_in = true;
        assert!(proxied.each().unwrap_err().to_string().starts_with("proxy-in does not go with flow:web"));
    }
}
