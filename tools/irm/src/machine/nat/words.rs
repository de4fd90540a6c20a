//! What was found, for people.

use super::{Direct, Filtering, Found, Hairpin, Hindrance, Lifetime, Mapping, Ports, Router};

/// Keep-alives of flows come this often at the least, seconds.
const KEPT: u64 = 25;

/// A line for each property, with RFC 4787's section, and last with whom flows go directly.
pub fn text(found: &Found) -> String {
    let seen = match found.public {
        Some(public) if found.mapping == Mapping::None => format!("{public}, and seen so"),
        Some(public) => format!("{}, seen as {public}", found.local),
        None => found.local.to_string(),
    };
    let seen = if found.several_addresses { format!("{seen}; other sockets at other addresses") } else { seen };
    let mut rows = vec![
        ("asked", found.server.to_string()),
        ("this host", seen),
        ("mapping", mapping(found.mapping).to_owned()),
        ("filtering", filtering(found.filtering).to_owned()),
    ];
    if found.mapping != Mapping::None {
        rows.push(("ports", ports(found.ports)));
        rows.push(("hairpinning", hairpin(found.hairpinning).to_owned()));
    }
    rows.push(("lifetime", lifetime(found.lifetime)));
    rows.extend(found.router.iter().map(|found| ("router", router(found))));
    rows.push(("direct", direct(found)));
    rows.into_iter().map(|(what, words)| format!("{what:<12} {words}\n")).collect()
}

fn mapping(mapping: Mapping) -> &'static str {
    match mapping {
        Mapping::None => "none: there is no NAT on the way to the server",
        Mapping::EndpointIndependent => "endpoint-independent (RFC 4787, 4.1)",
        Mapping::EndpointIndependentOrAddressDependent => {
            "endpoint-independent, or address-dependent: a second --via at another address would tell (RFC 4787, 4.1)"
        }
        Mapping::AddressDependent => "address-dependent: symmetric (RFC 4787, 4.1)",
        Mapping::AddressAndPortDependent => "address and port-dependent: symmetric (RFC 4787, 4.1)",
        Mapping::Unknown => {
            "there is a NAT; which is not to be found out, because the server's other port does not answer"
        }
    }
}

fn filtering(filtering: Filtering) -> &'static str {
    match filtering {
        Filtering::EndpointIndependentOrAddressDependent => {
            "endpoint-independent or address-dependent: ports are let in that nothing was sent to (RFC 4787, 5)"
        }
        Filtering::AddressAndPortDependent => "address and port-dependent (RFC 4787, 5)",
        Filtering::Unknown => "not to be found out: the server's other port does not answer",
    }
}

fn ports(ports: Ports) -> String {
    match ports {
        Ports::Unknown => "too few sockets were answered to tell".to_owned(),
        Ports::Preserved => "preserved: sockets keep their own (RFC 4787, 4.2)".to_owned(),
        Ports::Sequential { least, most } if least == most => format!("one after the other, in steps of {least}"),
        Ports::Sequential { least, most } => format!("one after the other, in steps of {least} to {most}"),
        Ports::Random => "in no order".to_owned(),
    }
}

fn hairpin(hairpin: Option<Hairpin>) -> &'static str {
    match hairpin {
        Some(Hairpin::External) => "yes (RFC 4787, 6)",
        Some(Hairpin::Internal) => "yes, with the inner address as source, which peers do not know (RFC 4787, 6)",
        Some(Hairpin::No) => "no: hosts behind it do not reach each other by their public addresses (RFC 4787, 6)",
        None => "not found out: too few sockets were answered",
    }
}

fn lifetime(lifetime: Option<Lifetime>) -> String {
    let kept = |gone: u64| if gone <= KEPT { "; flows' keep-alives may come too late" } else { "" };
    match lifetime {
        None => "not measured; irm nat --lifetime does (RFC 4787, 4.3)".to_owned(),
        Some(Lifetime::Unknown { why }) => format!("not to be measured: {}", unmeasured(why)),
        Some(Lifetime::More { lived }) => format!("more than {} s idle (RFC 4787, 4.3)", lived.as_secs()),
        Some(Lifetime::Between { lived, gone }) => {
            format!("between {} and {} s idle (RFC 4787, 4.3){}", lived.as_secs(), gone.as_secs(), kept(gone.as_secs()))
        }
    }
}

fn unmeasured(why: Hindrance) -> &'static str {
    match why {
        Hindrance::NotReached => "the server does not reach another port of this host; it may be of an older release",
        Hindrance::LowPorts => "the NAT gave ports below 1,024, which the server is not asked to send to",
        Hindrance::OtherAddress => "the NAT has several addresses, and no two sockets got the same one",
        Hindrance::Silent => "the server answered at first, and then no more",
    }
}

fn router(found: &Router) -> String {
    let Router { address, maps_by, outside, is_public, refused } = found;
    match (&maps_by[..], outside) {
        ([], _) if refused.is_empty() => format!("{address} maps no ports: no answer to PCP, NAT-PMP or UPnP"),
        ([], _) => format!("{address} maps no ports: {}", refused.join("; ")),
        (by, Some(outside)) if *is_public == Some(false) => {
            format!("{address} maps ports ({}) at {outside}, and another NAT is before it: of no use", by.join(", "))
        }
        (by, _) => format!("{address} maps ports ({}) when a member with --map-ports asks", by.join(", ")),
    }
}

fn direct(found: &Found) -> String {
    let words = match found.direct {
        Direct::All => "with every host, whatever it is behind; no relay is needed",
        Direct::AllButSymmetric => {
            "with every host but those behind symmetric NATs (a mapping for each destination); with those a relay would do"
        }
        Direct::OpenFilters => {
            "only with hosts behind no firewall, or behind a NAT that filters by address at most; with firewalls, NATs that filter \
             by port and other symmetric NATs a relay would do"
        }
        Direct::Unknown => "not known: too little was found out",
    };
    let unsure = found.mapping == Mapping::EndpointIndependentOrAddressDependent && found.direct != Direct::Unknown;
    let unsure = if unsure { "; if its mappings are by address, as behind a symmetric NAT" } else { "" };
    let beside = found.mapping != Mapping::None && found.hairpinning == Some(Hairpin::No);
    let beside = if beside { "; with hosts behind the same NAT only by their local addresses" } else { "" };
    format!("{words}{unsure}{beside}")
}
