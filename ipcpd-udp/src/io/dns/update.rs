//! Writes this host's records into the zone, or takes them out: reads what stands there, lets the machine decide, sends
//! the update, and begins again where somebody else changed it in between.

use std::net::SocketAddr;

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::{RData, RecordType, TSigner};

use super::exchange::{exchange, signer};
use super::message::{self, Names, trouble_of_code};
use super::servers::Now;
use super::{key_of, wall};
use crate::config::dns::Dns as Config;
use crate::machine::directory::Updated;
use crate::machine::directory::plan::{Aim, MOST_TEXTS, Own, Standing, plan};
use crate::machine::directory::trouble::Trouble;

/// How often somebody else may come in between.
const ROUNDS: u32 = 6;
/// The port of a primary that was found by the zone's SOA.
const PORT: u16 = 53;

/// Does it, with the first server that can.
pub(super) async fn update(config: &Config, servers: Now, own: &Own, domain: &str, aim: Aim) -> Updated {
    let mut asked = String::new();
    let result = at_any(config, servers, own, domain, aim, &mut asked).await;
    Updated { result, server: asked }
}

async fn at_any(
    config: &Config,
    servers: Now,
    own: &Own,
    domain: &str,
    aim: Aim,
    asked: &mut String,
) -> Result<(), Trouble> {
    let signer = signer(&key_of(config.key_file.as_ref())?)?;
    let names = Names::new(config.zone.as_str(), domain)?;
    let primaries = if config.servers.is_empty() { primary(&names, servers).await? } else { config.servers.clone() };
    let mut last = Trouble::NoServer(format!("the zone {} names no primary server", config.zone));
    for server in primaries {
        *asked = server.to_string();
        match at(server, &signer, &names, own, aim).await {
            // Another may be the zone's primary, or be there.
            Err(
                trouble @ (Trouble::NoAnswer | Trouble::Unreachable(_) | Trouble::NotAuth | Trouble::NotImplemented),
            ) => last = trouble,
            result => return result,
        }
    }
    Err(last)
}

/// The addresses of the server that the zone's SOA record names.
async fn primary(names: &Names, servers: Now) -> Result<Vec<SocketAddr>, Trouble> {
    let unknown = |error: &dyn std::fmt::Display| {
        Trouble::NoServer(format!("the primary server of the zone {} is not known ({error})", names.zone))
    };
    let mut last = Trouble::NoAnswer;
    for server in servers?.iter() {
        let soa = match server.resolver.lookup(names.zone.clone(), RecordType::SOA).await {
            Ok(soa) => soa,
            Err(error) => {
                last = unknown(&error);
                continue;
            }
        };
        let mname = soa.answers().iter().find_map(|record| match &record.data {
            RData::SOA(soa) => Some(soa.mname.clone()),
            _ => None,
        });
        let Some(mname) = mname else { continue };
        match server.resolver.lookup_ip(mname).await {
            Ok(found) => return Ok(found.iter().map(|ip| SocketAddr::new(ip, PORT)).collect()),
            Err(error) => last = unknown(&error),
        }
    }
    Err(last)
}

async fn at(server: SocketAddr, signer: &TSigner, names: &Names, own: &Own, aim: Aim) -> Result<(), Trouble> {
    for _ in 0..ROUNDS {
        let standing = read(server, signer, names).await?;
        let Some(update) = plan(aim, own, &standing, wall()) else { return Ok(()) };
        let answer = exchange(server, message::update(names, &update, own.ttl), signer).await?;
        match answer.response_code {
            ResponseCode::NoError => return Ok(()),
            ResponseCode::NXRRSet | ResponseCode::YXRRSet | ResponseCode::NXDomain | ResponseCode::YXDomain => {}
            code => return Err(trouble_of_code(code)),
        }
    }
    Err(Trouble::Contended)
}

async fn read(server: SocketAddr, signer: &TSigner, names: &Names) -> Result<Standing, Trouble> {
    let ask = |name, kind| exchange(server, message::question(name, kind), signer);
    let (texts, services, v4, v6) = tokio::try_join!(
        ask(&names.service, RecordType::TXT),
        ask(&names.service, RecordType::SRV),
        ask(&names.domain, RecordType::A),
        ask(&names.domain, RecordType::AAAA)
    )?;
    let mut standing = Standing::default();
    for record in answers(&texts)? {
        if let RData::TXT(text) = record {
            standing.texts.push(text.txt_data.iter().map(|string| string.to_vec()).collect());
        }
    }
    for record in answers(&services)? {
        if let RData::SRV(service) = record
            && (service.priority, service.weight, &service.target) == (0, 0, &names.domain)
        {
            standing.ports.push(service.port);
        }
    }
    for answer in [&v4, &v6] {
        standing.addresses.extend(answers(answer)?.filter_map(RData::ip_addr));
    }
    if standing.texts.len() > MOST_TEXTS || standing.addresses.len() > MOST_TEXTS {
        return Err(Trouble::TooMany);
    }
    Ok(standing)
}

/// The records of an answer that the zone's own server gave.
fn answers(answer: &Message) -> Result<impl Iterator<Item = &RData>, Trouble> {
    match answer.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain if answer.authoritative => {
            Ok(answer.answers.iter().map(|record| &record.data))
        }
        ResponseCode::NoError | ResponseCode::NXDomain => Err(Trouble::NotAuth),
        code => Err(trouble_of_code(code)),
    }
}
