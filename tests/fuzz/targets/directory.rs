//! What name servers and administrators write, as any bytes: TXT records, key files, domain names, whole answers. No panic;
//! what is written can be read again; a flow is never sent to an address that is nobody's.
#![no_main]

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use ipcpd_udp::machine::directory::answer::{Asked, MOST_HOSTS, Records, Service, hosts};
use ipcpd_udp::machine::directory::claim::{self, Claim};
use ipcpd_udp::machine::directory::domain::Zone;
use ipcpd_udp::machine::directory::fingerprint::Fingerprint;
use ipcpd_udp::machine::directory::key::Key;
use ipcpd_udp::machine::directory::plan::{Aim, Own, Standing, plan};
use libfuzzer_sys::fuzz_target;
use proto::{HostId, Name};

const WALL: u64 = 1_000;

fuzz_target!(|bytes: &[u8]| {
    let zone = Zone::new("flows.test").expect("a zone");
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = Key::parse(text);
        let _ = Zone::new(text);
        if let Ok(key) = text.parse::<Fingerprint>() {
            assert_eq!(key.to_string(), text, "one way to write it");
        }
        let _ = zone.names(text);
    }
    if let Ok(name) = Name::from_bytes(bytes)
        && let Ok(domain) = zone.domain(&name)
    {
        let (short, long) = zone.names(&domain).expect("what the rule writes it reads");
        assert!(short.as_ref() == Some(&name) || long == name, "{name} became {domain}, and that {long}");
    }
    let texts: Vec<Vec<Vec<u8>>> = bytes
        .split(|byte| *byte == b'\n')
        .map(|line| line.split(|byte| *byte == b'"').map(<[u8]>::to_vec).collect())
        .collect();
    for strings in &texts {
        if let Ok(claim) = Claim::decode(strings) {
            assert_eq!(Claim::decode(&claim.encode()).as_ref(), Ok(&claim));
        }
    }
    answer(texts, bytes);
});

/// A whole answer, and an update of what it shows.
fn answer(texts: Vec<Vec<Vec<u8>>>, bytes: &[u8]) {
    let name = Name::new("echo").expect("a name");
    let own: SocketAddr = "10.0.0.1:3359".parse().expect("an address");
    let addresses: Vec<IpAddr> = bytes.chunks_exact(4).map(|ip| IpAddr::from([ip[0], ip[1], ip[2], ip[3]])).collect();
    let service = |bytes: &[u8]| Service {
        priority: bytes[0].into(),
        weight: bytes[1].into(),
        port: u16::from_be_bytes([bytes[2], bytes[3]]),
        target: if bytes[4] < 128 { "echo.flows.test".into() } else { "other.test".into() },
        addresses: addresses.iter().take(2).copied().collect(),
    };
    let services = bytes.chunks_exact(5).take(4).map(service).collect();
    let records = Records { texts: texts.clone(), services, addresses: addresses.clone() };
    let asked = Asked { name: &name, domain: "echo.flows.test", own, wall: WALL, now: Instant::now() };
    let found = hosts(&records, asked);
    // No flow goes to a host that says something other than a fingerprint for its key.
    let texts_of = |at| texts.iter().filter_map(|text| Claim::decode(text).ok()).filter(move |claim| claim.at == at);
    for host in found.iter().filter(|host| host.ignored.is_none()) {
        let mut claims = texts_of(host.at).filter(|claim| claim.is_for(&name)).peekable();
        assert!(claims.peek().is_none() || claims.any(|claim| claim.key != claim::Key::Malformed));
    }
    assert!(found.len() <= MOST_HOSTS);
    for host in found.iter().filter(|host| host.ignored.is_none()) {
        let ip = host.at.ip();
        assert!(
            host.at.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !ip.is_loopback() && host.at != own
        );
        assert!(host.expires.is_none_or(|expires| expires > WALL));
    }
    let standing = Standing { texts, addresses, ports: vec![1, 3400] };
    let own = Own { name, host: HostId(1), at: own, key: None, lifetime: 900, ttl: 60 };
    for aim in [Aim::Publish, Aim::Withdraw] {
        let Some(update) = plan(aim, &own, &standing, WALL) else { continue };
        let removed = |text: &Vec<Vec<u8>>| {
            Claim::decode(text).is_ok_and(|claim| !claim.is_live(WALL) || claim.host == HostId(1))
        };
        assert!(update.texts_out.iter().all(removed), "somebody's living record goes");
    }
}
