//! `irm nat`: what kind of NAT a host is behind, found out against the lab's kinds.

use anyhow::{Context as _, Result, ensure};
use flowring_tests::net::SOON;
use lab::{Host, Middlebox};
use serde_json::{Value, json};

use super::stage::{SESSION, Session, ping_error};

fn found(host: &Host, more: &[&str]) -> Result<Value> {
    let text = host.irm(&[&["nat", "--json"], more].concat())?;
    serde_json::from_str(&text).with_context(|| text)
}

const EITHER: &str = "endpoint-independent-or-address-dependent";
const STRICT: &str = "address-and-port-dependent";

/// A kind; by one server: mapping, filtering; ports; direct.
type Row = (Middlebox, &'static str, &'static str, &'static str, &'static str);

const TABLE: [Row; 9] = [
    (Middlebox::Open, "none", EITHER, "unknown", "all"),
    (Middlebox::Firewall, "none", STRICT, "unknown", "all-but-symmetric"),
    (Middlebox::FullCone, EITHER, EITHER, "preserved", "all"),
    (Middlebox::AddressRestricted, EITHER, EITHER, "preserved", "all"),
    (Middlebox::PortRestricted, EITHER, STRICT, "preserved", "all-but-symmetric"),
    (Middlebox::CarrierOverCone, EITHER, STRICT, "preserved", "all-but-symmetric"),
    (Middlebox::SymmetricSequential, STRICT, STRICT, "sequential", "open-filters"),
    (Middlebox::SymmetricRandom, STRICT, STRICT, "random", "open-filters"),
    (Middlebox::CarrierOverSymmetric, STRICT, STRICT, "random", "open-filters"),
];

pub(crate) fn irm_nat_tells_the_kinds_of_nat_apart() -> Result<()> {
    let session = Session::open()?;
    let via = session.via();
    for (kind, mapping, filtering, ports, direct) in TABLE {
        let host = session.lab.host_behind(kind.name(), kind)?;
        let found = found(&host, &["--via", &via])?;
        let seen = [&found["mapping"], &found["filtering"], &found["ports"]["kind"], &found["direct"]];
        ensure!(seen == [mapping, filtering, ports, direct], "{kind}: {found:#}");
        let public = found["public"].as_str().context("an address")?;
        ensure!(public.starts_with(&format!("{}:", host.public())), "{kind}: {found:#}");
        // Without a NAT the public address is the host's own.
        let hairpin = if kind.translates() { "no" } else { "external" };
        ensure!(found["hairpinning"] == hairpin, "{kind}: {found:#}");
    }
    Ok(())
}

/// One address cannot tell these two apart; a second one does.
pub(crate) fn a_second_rendezvous_tells_mappings_by_address() -> Result<()> {
    let session = Session::open()?;
    let [second] = session.lab.hosts(["rdv2"])?;
    let (listen, key) = (format!("{}:3360", second.address()), session.key.to_str().context("a path of text")?);
    let server = second.start("rendezvous", &["--listen", &listen, "--session", SESSION, "--key-file", key])?;
    server.expect_log(SOON, "listens at")?;
    let via = session.via();
    let kinds = [
        (Middlebox::PortRestricted, "endpoint-independent", "all-but-symmetric"),
        (Middlebox::SymmetricByAddress, "address-dependent", "open-filters"),
    ];
    for (kind, mapping, direct) in kinds {
        let host = session.lab.host_behind(kind.name(), kind)?;
        ensure!(found(&host, &["--via", &via])?["mapping"] == EITHER, "{kind}");
        let found = found(&host, &["--via", &via, "--via", &listen])?;
        ensure!(found["mapping"] == mapping && found["direct"] == direct, "{kind}: {found:#}");
    }
    Ok(())
}

/// What the lab's boxes do not do, a rule at the host does: what it sends to its public address comes back to it, first with the
/// inner source, then with the public one.
pub(crate) fn hairpinning_is_seen_where_there_is_some() -> Result<()> {
    let session = Session::open()?;
    let host = session.lab.host_behind("a", Middlebox::PortRestricted)?;
    let (own, public, via) = (host.address(), host.public(), session.via());
    let nft = |rules: &str| -> Result<()> {
        let output = host.run("nft", &[rules])?;
        ensure!(output.code() == 0, "{rules}: {}", output.err);
        Ok(())
    };
    nft(&format!(
        "add table ip pin\n\
         add chain ip pin out {{ type nat hook output priority -100; }}\n\
         add chain ip pin back {{ type nat hook postrouting priority 100; }}\n\
         add rule ip pin out ip daddr {public} dnat to {own}\n"
    ))?;
    ensure!(found(&host, &["--via", &via])?["hairpinning"] == "internal");
    nft(&format!("add rule ip pin back ip saddr {own} ip daddr {own} snat to {public}"))?;
    let text = host.irm(&["nat", "--via", &via])?;
    ensure!(text.contains("hairpinning  yes (RFC 4787, 6)"), "{text}");
    ensure!(!text.contains("only by their local addresses"), "{text}");
    Ok(())
}

/// The box forgets between two looks.
pub(crate) fn the_lifetime_of_mappings_is_measured() -> Result<()> {
    let session = Session::open()?;
    let host = session.lab.host_behind("a", Middlebox::PortRestricted)?;
    let mut irm = host.start("irm", &["nat", "--via", &session.via(), "--lifetime", "10", "--json"])?;
    irm.expect_log(2 * SOON, "idle for 5 s lives")?;
    host.forget_mappings()?;
    let output = irm.wait(2 * SOON)?;
    ensure!(output.err.contains("idle for 10 s is gone"), "{}", output.err);
    let found: Value = serde_json::from_str(&output.out)?;
    ensure!(found["lifetime"] == json!({ "kind": "between", "lived": 5, "gone": 10 }), "{found:#}");
    // And one that remembers.
    let text = host.irm(&["nat", "--via", &session.via(), "--lifetime", "6"])?;
    ensure!(text.contains("lifetime     more than 6 s idle (RFC 4787, 4.3)"), "{text}");
    Ok(())
}

/// Without `--via` the layer's rendezvous is asked; what cannot be asked is said.
pub(crate) fn irm_nat_asks_the_layer_s_rendezvous() -> Result<()> {
    let mut session = Session::open()?;
    let a = session.member("a", Middlebox::PortRestricted)?;
    let text = a.host.irm(&["nat"])?;
    for line in [
        format!("asked        {}", session.via()),
        "filtering    address and port-dependent (RFC 4787, 5)".to_owned(),
        "ports        preserved: sockets keep their own (RFC 4787, 4.2)".to_owned(),
        "direct       with every host but those behind symmetric NATs".to_owned(),
    ] {
        ensure!(text.contains(&line), "{line} is missing in\n{text}");
    }
    session.kill()?;
    let silent = a.host.run("irm", &["nat"])?;
    ensure!(silent.code() == 1 && silent.err.contains("does not answer (3 times asked)"), "{}", silent.err);
    a.host.irm(&["ipcp", "destroy", "--name", "udp0"])?;
    let none = a.host.run("irm", &["nat"])?;
    ensure!(none.code() == 1 && none.err.contains("no layer of this host is enrolled in a session"), "{}", none.err);
    Ok(())
}

/// The words of the issue: you, peer, why not, and that a relay would do and how it is switched on.
pub(crate) fn a_flow_that_cannot_be_punched_says_what_would_do() -> Result<()> {
    let session = Session::open()?;
    let a = session.member("a", Middlebox::SymmetricRandom)?;
    let b = session.member("b", Middlebox::Firewall)?;
    for member in [&a, &b] {
        super::stage::await_survey(&member.host)?;
    }
    let _server = super::stage::serve(&b, "echo", &[&a])?;
    let words = ping_error(&a.host, "echo")?;
    for part in [
        "; you: a NAT with another mapping for each port (symmetric) that filters by port",
        ", peer: no NAT, and a firewall that filters by port",
        "; cannot be punched because this side's port changes with where it sends to",
        "; a relay would do: start the rendezvous with --relay",
    ] {
        ensure!(words.contains(part), "{part:?} is missing in {words:?}");
    }
    Ok(())
}
