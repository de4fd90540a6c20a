//! The name servers that are asked: those given, or those of the system as its resolv.conf has them now.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::{Resolver, TokioResolver};

use crate::machine::directory::trouble::Trouble;

const RESOLV_CONF: &str = "/etc/resolv.conf";
/// All servers together get so long for one look-up.
const PATIENCE: Duration = Duration::from_secs(3);
/// Each gets at least, and at most, so long.
const LEAST: Duration = Duration::from_millis(500);
const MOST: Duration = Duration::from_millis(1500);
/// Answers that the resolver keeps, of each server. Few: the machine keeps what flows need, and one may be 64 KiB.
const CACHE: u64 = 256;
/// As DNS Flag Day 2020 recommends: answers that are not fragmented.
const PAYLOAD: u16 = 1_232;

/// A server, and what asks it. One resolver each: hickory's own pool takes the first error of any for the answer.
pub(super) struct Server {
    pub(super) at: SocketAddr,
    pub(super) resolver: TokioResolver,
}

/// The servers, or why there are none.
pub(super) type Now = Result<Arc<[Server]>, Trouble>;

pub(super) struct Servers {
    /// Given; none: the system's.
    given: Vec<SocketAddr>,
    now: Now,
    /// Of the system's file.
    read: Option<SystemTime>,
}

impl Servers {
    pub(super) fn new(given: Vec<SocketAddr>) -> Self {
        let now = if given.is_empty() { Err(Trouble::NoServer(String::new())) } else { resolvers(&given) };
        Self { given, now, read: None }
    }

    /// Those to ask now.
    pub(super) fn now(&mut self) -> Now {
        if self.given.is_empty() {
            let changed = std::fs::metadata(RESOLV_CONF).and_then(|data| data.modified()).ok();
            if changed.is_none() || changed != self.read {
                self.read = changed;
                self.now = system();
            }
        }
        self.now.clone()
    }
}

fn system() -> Now {
    let none = |why: String| Trouble::NoServer(format!("{RESOLV_CONF} names no name server{why}"));
    let (config, _) = hickory_resolver::system_conf::read_system_conf()
        .map_err(|error| none(format!(" that can be used ({error})")))?;
    let mut servers = Vec::new();
    for server in config.name_servers() {
        let port = server.connections.first().map_or(53, |connection| connection.port);
        let at = SocketAddr::new(server.ip, port);
        if !servers.contains(&at) {
            servers.push(at);
        }
    }
    if servers.is_empty() { Err(none(String::new())) } else { resolvers(&servers) }
}

fn resolvers(servers: &[SocketAddr]) -> Now {
    let count = u32::try_from(servers.len()).unwrap_or(u32::MAX);
    servers.iter().map(|at| resolver(*at, (PATIENCE / count).clamp(LEAST, MOST))).collect()
}

fn resolver(at: SocketAddr, patience: Duration) -> Result<Server, Trouble> {
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    for connection in &mut connections {
        connection.port = at.port();
    }
    let server = NameServerConfig::new(at.ip(), true, connections);
    let config = ResolverConfig::from_name_servers(vec![server]);
    let mut options = ResolverOpts::default();
    options.timeout = patience;
    options.attempts = 0;
    options.cache_size = CACHE;
    options.use_hosts_file = ResolveHosts::Never;
    options.edns_payload_len = PAYLOAD;
    options.num_concurrent_reqs = 1;
    options.max_active_requests = 1_024;
    let builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default()).with_options(options);
    let resolver = builder.build().map_err(|error| Trouble::NoServer(format!("{at} cannot be asked ({error})")))?;
    Ok(Server { at, resolver })
}
