//! The driver's part in finding and registering names: what the machine wants of name servers, and what `irm name resolve`
//! wants to see.

use std::time::{Duration, Instant};

use proto::Name;
use proto::v1::{self, Failure, FailureKind, ResolveOutcome};

use super::command::Reply;
use super::dns::{Dns, Done, Resolved};
use super::driver::Driver;
use crate::config::Bootstrap;
use crate::machine::directory::answer::{From, Host};
use crate::machine::directory::{Standing, Waiter};
use crate::machine::{Output, Sources};

/// Rows of a listing taken at once.
const PAGE: usize = 256;

/// What asks name servers, if the layer has a zone.
pub(super) fn open(bootstrap: &Bootstrap) -> Result<Option<Dns>, Failure> {
    let open = |config| Dns::new(config, bootstrap.listen).map_err(|text| Failure::new(FailureKind::Invalid, text));
    bootstrap.dns.as_ref().map(open).transpose()
}

/// The next thing that name servers said; never, without DNS.
pub(super) async fn done(dns: &mut Option<Dns>) -> Done {
    match dns {
        Some(dns) => dns.done().await,
        None => std::future::pending().await,
    }
}

impl Driver {
    pub(super) fn register(&mut self, now: Instant, name: &Name, starts: bool, wait: bool, reply: Reply<()>) {
        let waiter = wait.then(|| self.next_waiter());
        let registered = self.shim.register(now, name.clone(), waiter);
        self.shim.starts(name, starts);
        self.wait_for_dns(registered, waiter, reply);
    }

    pub(super) fn unregister(&mut self, now: Instant, name: &Name, wait: bool, reply: Reply<()>) {
        let waiter = wait.then(|| self.next_waiter());
        let gone = self.shim.unregister(now, name, waiter);
        self.wait_for_dns(gone, waiter, reply);
    }

    fn next_waiter(&mut self) -> Waiter {
        self.last_waiter += 1;
        Waiter(self.last_waiter)
    }

    fn wait_for_dns(&mut self, result: Result<bool, Failure>, waiter: Option<Waiter>, reply: Reply<()>) {
        match (result, waiter) {
            (Ok(true), Some(waiter)) => drop(self.waiters.insert(waiter, reply)),
            (result, _) => drop(reply.send(result.map(|_| ()))),
        }
    }

    /// Every name leaves DNS; the caller hears when they have.
    pub(super) fn retire(&mut self, now: Instant, reply: Reply<()>) {
        self.shim.retire(now);
        self.retiring.push(reply);
        self.retired();
    }

    fn retired(&mut self) {
        if !self.shim.is_in_dns() {
            self.retiring.drain(..).for_each(|reply| drop(reply.send(Ok(()))));
        }
    }

    /// What the machine wants of name servers and of those who wait for them.
    pub(super) fn find(&mut self, output: Output) {
        match output {
            Output::LookUp { name, domain } => {
                if let Some(dns) = &mut self.dns {
                    dns.look_up(name, domain);
                }
            }
            Output::Update { own, domain, aim } => {
                if let Some(dns) = &mut self.dns {
                    dns.update(own, &domain, aim);
                }
            }
            Output::Tell { waiter, result } => {
                if let Some(reply) = self.waiters.remove(&waiter) {
                    let _ = reply.send(result);
                }
            }
            Output::FindServer { server } => {
                let v6 = self.shim.settings().listen.is_ipv6();
                self.server.find(server, v6);
            }
            Output::Note { text } => tracing::info!("{text}"),
            Output::Warn { text } => tracing::warn!("{text}"),
            Output::Again { key, next } => {
                if let Some(reply) = self.allocs.remove(&key) {
                    self.allocs.insert(next, reply);
                }
            }
            _ => unreachable!("`act` and `tell` do everything else"),
        }
    }

    /// Name servers have answered.
    pub(super) fn dns_done(&mut self, now: Instant, done: Done) {
        match done {
            Done::LookedUp(name, looked_up) => self.shim.looked_up(now, &name, &looked_up),
            Done::Updated(name, updated) => {
                self.shim.updated(now, &name, updated);
                self.retired();
            }
            Done::Resolved(resolved) => {
                let Resolved { name, sources, looked_up, lines, reply } = *resolved;
                let hosts = self.shim.hosts_of(now, &name, &looked_up);
                let mut steps = self.known_steps(&sources);
                steps.push(dns_step(now, &name, &sources, &looked_up, hosts, lines));
                steps.extend(self.session_step(&name));
                let _ = reply.send(Ok(v1::ResolveReply { steps }));
            }
        }
    }

    /// Says where a name is, and what every source said.
    pub(super) fn resolve(&mut self, now: Instant, name: Name, reply: Reply<v1::ResolveReply>) {
        let sources = self.shim.sources(now, &name);
        match (&mut self.dns, &sources.domain) {
            (Some(dns), Some(Ok(domain))) => {
                let domain = domain.clone();
                dns.resolve(name, domain, sources, reply);
            }
            (_, domain) => {
                let mut steps = self.known_steps(&sources);
                let (outcome, said) = match domain {
                    Some(Err(error)) => (ResolveOutcome::Unknown, error.clone()),
                    _ => (ResolveOutcome::NotAsked, "the layer has no DNS zone".to_owned()),
                };
                steps.push(step("dns", outcome, said));
                steps.extend(self.session_step(&name));
                let _ = reply.send(Ok(v1::ResolveReply { steps }));
            }
        }
    }

    /// What is known without asking.
    fn known_steps(&self, sources: &Sources) -> Vec<v1::ResolveStep> {
        let registered = match &sources.registered {
            Some(standing) => {
                let failure = standing.failure.as_deref().map(|text| format!(": {text}")).unwrap_or_default();
                let said = match standing.state {
                    "local" => format!("registered on this host{failure}"),
                    state => format!("registered on this host; in DNS: {state}{failure}"),
                };
                v1::ResolveStep {
                    domain: standing.domain.to_string(),
                    ..step("registered", ResolveOutcome::Found, said)
                }
            }
            None => step("registered", ResolveOutcome::Unknown, "not registered on this host".to_owned()),
        };
        let own = self.shim.settings().listen;
        let row = match sources.row {
            Some(at) => {
                let host = v1::ResolvedHost {
                    address: at.to_string(),
                    from: "hosts".into(),
                    ignored: if at == own { "it is this host".into() } else { String::new() },
                    ..Default::default()
                };
                let said = "the static table has a row".to_owned();
                v1::ResolveStep { hosts: vec![host], ..step("hosts", ResolveOutcome::Found, said) }
            }
            None => step("hosts", ResolveOutcome::Unknown, "the static table has no row".to_owned()),
        };
        vec![registered, row]
    }

    /// How registered names stand in DNS, some of them.
    pub(super) fn registrations(&self, now: Instant, after: Option<&Name>) -> (Vec<v1::Registration>, Option<Name>) {
        let standings = self.shim.registrations(now, after, PAGE);
        let next = if standings.len() == PAGE { standings.last().map(|last| last.name.clone()) } else { None };
        (standings.into_iter().map(|standing| self.registration(standing)).collect(), next)
    }

    fn registration(&self, standing: Standing) -> v1::Registration {
        let seconds = |time: Option<Duration>| time.map_or(0, |time| u32::try_from(time.as_secs()).unwrap_or(u32::MAX));
        v1::Registration {
            name: standing.name.to_string(),
            layer: self.shim.settings().layer.clone(),
            state: standing.state.into(),
            domain: standing.domain.to_string(),
            expires_s: seconds(standing.lives),
            failure: standing.failure.map(|text| text.to_string()).unwrap_or_default(),
            next_s: seconds(standing.next),
        }
    }
}

pub(super) fn step(source: &str, outcome: ResolveOutcome, said: String) -> v1::ResolveStep {
    v1::ResolveStep { source: source.into(), outcome: outcome.into(), said, ..Default::default() }
}

fn dns_step(
    now: Instant,
    name: &Name,
    sources: &Sources,
    looked_up: &crate::machine::directory::LookedUp,
    hosts: Vec<Host>,
    records: Vec<String>,
) -> v1::ResolveStep {
    let domain = sources.domain.clone().and_then(Result::ok).unwrap_or_default();
    let usable = hosts.iter().filter(|host| host.is_usable(now)).count();
    let (outcome, said) = match &looked_up.records {
        Err(trouble) => (ResolveOutcome::Failed, trouble.of_lookup(name.as_str(), &domain, &looked_up.server)),
        Ok(_) if usable > 0 => (ResolveOutcome::Found, format!("{usable} of {} hosts can be asked", hosts.len())),
        Ok(_) if !hosts.is_empty() => (ResolveOutcome::Unknown, "no host there that a flow may go to".to_owned()),
        Ok(_) if looked_up.absent => (ResolveOutcome::Unknown, "no such domain name (NXDOMAIN)".to_owned()),
        Ok(_) => (ResolveOutcome::Unknown, "no host there".to_owned()),
    };
    v1::ResolveStep {
        domain,
        server: looked_up.server.clone(),
        ttl_s: u32::try_from(looked_up.ttl.as_secs()).unwrap_or(u32::MAX),
        cached: sources.kept,
        records,
        hosts: hosts.into_iter().map(resolved_host).collect(),
        ..step("dns", outcome, said)
    }
}

fn resolved_host(host: Host) -> v1::ResolvedHost {
    let from = match host.from {
        From::Claim => "txt",
        From::Service => "srv",
        From::Address => "address",
    };
    v1::ResolvedHost {
        address: host.at.to_string(),
        from: from.into(),
        expires: host.expires.unwrap_or(0),
        host: if host.id.0 == 0 { String::new() } else { format!("{:016x}", host.id.0) },
        ignored: host.ignored.unwrap_or_default().into(),
        key: host.key.map(|key| key.to_string()).unwrap_or_default(),
    }
}
