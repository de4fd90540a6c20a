//! Asks where a name is: its TXT, SRV and address records, at once, of one server after the other until one answers.
#![expect(clippy::disallowed_methods, reason = "io reads the clock")]

use std::net::IpAddr;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use hickory_resolver::TokioResolver;
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

use super::message::{text_of, trouble_of_code};
use super::servers::Now;
use super::wall;
use crate::machine::directory::LookedUp;
use crate::machine::directory::answer::{MOST_HOSTS, Records, Service};
use crate::machine::directory::domain::SERVICE;
use crate::machine::directory::trouble::Trouble;

/// A negative answer that does not say how long it holds.
const UNSAID: Duration = Duration::from_secs(5);
/// Other hosts of SRV records whose addresses are asked for.
const MOST_TARGETS: usize = 8;

/// One question's answer.
struct Part {
    records: Vec<Record>,
    ttl: Duration,
    /// The domain does not exist at all.
    absent: bool,
}

/// What the servers say of a domain name, and the records as in a zone file.
pub(super) async fn look_up(servers: Now, domain: &str, v6: bool) -> (LookedUp, Vec<String>) {
    let fail = |trouble, server: String| {
        let looked_up = LookedUp { records: Err(trouble), absent: false, server, ttl: Duration::ZERO, wall: wall() };
        (looked_up, Vec::new())
    };
    let servers = match servers {
        Ok(servers) => servers,
        Err(trouble) => return fail(trouble, String::new()),
    };
    let mut failed = None;
    for server in servers.iter() {
        match ask(&server.resolver, domain, v6).await {
            Ok((records, parts)) => {
                let lines = parts.iter().flat_map(|part| &part.records).take(MOST_HOSTS).map(text_of).collect();
                let ttl = parts.iter().map(|part| part.ttl).min().unwrap_or(UNSAID);
                let absent = parts.iter().all(|part| part.absent);
                let server = server.at.to_string();
                return (LookedUp { records: Ok(records), absent, server, ttl, wall: wall() }, lines);
            }
            Err(trouble) => failed = Some((trouble, server.at.to_string())),
        }
    }
    let (trouble, last) = failed.unwrap_or((Trouble::NoAnswer, String::new()));
    let others = servers.len() - 1;
    let server = if others == 0 {
        last
    } else {
        format!("{last}, as {others} other{} before,", if others == 1 { "" } else { "s" })
    };
    fail(trouble, server)
}

async fn ask(resolver: &TokioResolver, domain: &str, v6: bool) -> Result<(Records, Vec<Part>), Trouble> {
    let address = if v6 { RecordType::AAAA } else { RecordType::A };
    let service = format!("{SERVICE}.{domain}");
    let (texts, services, addresses) = tokio::join!(
        one(resolver, &service, RecordType::TXT),
        one(resolver, &service, RecordType::SRV),
        one(resolver, domain, address)
    );
    let mut parts = vec![texts?, services?, addresses?];
    let targets = targets(&parts[1].records, domain);
    let answers = join_all(targets.iter().map(|target| one(resolver, target, address))).await;
    let mut found = Vec::new();
    let mut failed = None;
    for (target, answer) in targets.into_iter().zip(answers) {
        match answer {
            Ok(part) => {
                found.push((target, addresses_of(&part.records)));
                parts.push(part);
            }
            Err(trouble) => failed = Some(trouble),
        }
    }
    let records = Records {
        texts: parts[0].records.iter().filter_map(strings_of).take(MOST_HOSTS).collect(),
        services: parts[1].records.iter().filter_map(|record| service_of(record, &found)).take(MOST_HOSTS).collect(),
        addresses: addresses_of(&parts[2].records),
    };
    // One host of several that is not to be found takes nothing from the others.
    match failed {
        Some(trouble) if records.texts.is_empty() && records.addresses.is_empty() && found.is_empty() => Err(trouble),
        _ => Ok((records, parts)),
    }
}

async fn one(resolver: &TokioResolver, domain: &str, kind: RecordType) -> Result<Part, Trouble> {
    let name = Name::from_ascii(format!("{domain}.")).map_err(|error| Trouble::Malformed(error.to_string()))?;
    match resolver.lookup(name, kind).await {
        Ok(lookup) => Ok(part(&lookup, kind)),
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
            let ttl = none.negative_ttl.map_or(UNSAID, |secs| Duration::from_secs(secs.into()));
            Ok(Part { records: Vec::new(), ttl, absent: none.response_code == ResponseCode::NXDomain })
        }
        Err(error) => Err(trouble_of(error)),
    }
}

fn part(lookup: &Lookup, kind: RecordType) -> Part {
    let ttl = lookup.valid_until().saturating_duration_since(Instant::now());
    let records =
        lookup.answers().iter().filter(|record| record.record_type() == kind).take(MOST_HOSTS).cloned().collect();
    Part { records, ttl, absent: false }
}

fn trouble_of(error: NetError) -> Trouble {
    match error {
        NetError::Timeout => Trouble::NoAnswer,
        NetError::Io(error) => Trouble::Unreachable(error.to_string()),
        NetError::Dns(DnsError::ResponseCode(code)) => trouble_of_code(code),
        error @ (NetError::NoConnections | NetError::Busy) => Trouble::Unreachable(error.to_string()),
        error => Trouble::Malformed(error.to_string()),
    }
}

fn strings_of(record: &Record) -> Option<Vec<Vec<u8>>> {
    match &record.data {
        RData::TXT(text) => Some(text.txt_data.iter().map(|string| string.to_vec()).collect()),
        _ => None,
    }
}

fn addresses_of(records: &[Record]) -> Vec<IpAddr> {
    records.iter().filter_map(|record| record.data.ip_addr()).collect()
}

fn plain(name: &Name) -> String {
    name.to_ascii().to_ascii_lowercase().trim_end_matches('.').to_owned()
}

fn targets(records: &[Record], domain: &str) -> Vec<String> {
    let mut targets = Vec::new();
    for record in records {
        let RData::SRV(service) = &record.data else { continue };
        let target = plain(&service.target);
        if !target.is_empty() && target != domain && !targets.contains(&target) && targets.len() < MOST_TARGETS {
            targets.push(target);
        }
    }
    targets
}

fn service_of(record: &Record, found: &[(String, Vec<IpAddr>)]) -> Option<Service> {
    let RData::SRV(service) = &record.data else { return None };
    let target = plain(&service.target);
    let addresses = found.iter().find(|(known, _)| *known == target).map(|(_, addresses)| addresses.clone());
    Some(Service {
        priority: service.priority,
        weight: service.weight,
        port: service.port,
        target,
        addresses: addresses.unwrap_or_default(),
    })
}
