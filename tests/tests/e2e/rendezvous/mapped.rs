//! Routers that map ports: the real `miniupnpd`, by PCP, NAT-PMP and UPnP; and ones that refuse, stop or lie.

use anyhow::{Context as _, Result, ensure};
use flowring_tests::flows::{flow, listen};
use flowring_tests::net::{SOON, await_flows, ipcp};
use lab::{Host, Middlebox, Running, Signal};
use libflow::Cube;

use super::stage::{Member, Session, await_name, await_session, await_survey, enroll_with, exchange, ping_error};

const CUBES: [Cube; 3] = [Cube::Raw, Cube::Message, Cube::Stream];

/// The chains that miniupnpd writes into, as its own script makes them; what it does not map, the middlebox drops as ever.
const CHAINS: &str = "add table inet miniupnpd
add chain inet miniupnpd forward { type filter hook forward priority 0; policy accept; }
add chain inet miniupnpd prerouting { type nat hook prerouting priority -110; policy accept; }
add chain inet miniupnpd postrouting { type nat hook postrouting priority 110; policy accept; }
add chain inet miniupnpd mapped_forward
add chain inet miniupnpd mapped_in
add chain inet miniupnpd mapped_out
add rule inet miniupnpd forward jump mapped_forward
add rule inet miniupnpd prerouting jump mapped_in
add rule inet miniupnpd postrouting jump mapped_out";

/// A router that knows PCP not: questions in it get no answer. (miniupnpd has one switch for both.)
const NO_PCP: &str = "add table inet old
add chain inet old input { type filter hook input priority 0; policy accept; }
add rule inet old input udp dport 5351 @th,64,8 2 drop";

/// What a router speaks, and whom it lets.
#[derive(Clone, Copy)]
struct Router {
    pcp: bool,
    upnp: bool,
    allows: bool,
}

const PCP: Router = Router { pcp: true, upnp: false, allows: true };
const UPNP: Router = Router { pcp: false, upnp: true, allows: true };

/// miniupnpd on the middlebox before a host.
fn start_router(host: &Host, router: Router) -> Result<Running> {
    host.run_at_router("nft", &[CHAINS])?;
    run_router(host, router)
}

fn run_router(host: &Host, router: Router) -> Result<Running> {
    let yes = |on| if on { "yes" } else { "no" };
    let network = format!("{}/24", host.router_address()?).replace(".1/", ".0/");
    let rule = if router.allows { format!("allow 1024-65535 {network} 1024-65535") } else { String::new() };
    let text = format!(
        "ext_ifname=eth0
listening_ip=sw
enable_natpmp={}
enable_upnp={}
secure_mode=yes
system_uptime=yes
uuid=73c1ca24-6d7c-4c3f-9e6b-d2f1d0c6a7b1
upnp_table_name=miniupnpd
upnp_nat_table_name=miniupnpd
upnp_forward_chain=mapped_forward
upnp_nat_chain=mapped_in
upnp_nat_postrouting_chain=mapped_out
{rule}
deny 0-65535 0.0.0.0/0 0-65535
",
        yes(router.pcp),
        yes(router.upnp)
    );
    let config = host.run_dir().join("miniupnpd.conf");
    std::fs::write(&config, text)?;
    let (config, pid) = (config.display().to_string(), host.run_dir().join("miniupnpd.pid").display().to_string());
    host.start_at_router("miniupnpd", &["-d", "-f", &config, "-P", &pid])
}

/// A member behind a symmetric NAT whose router may be asked for ports.
fn asks(session: &Session, name: &str, router: Option<Router>) -> Result<(Member, Option<Running>)> {
    let host = session.lab.host_behind(name, Middlebox::SymmetricRandom)?;
    let running = router.map(|router| start_router(&host, router)).transpose()?;
    let irmd = host.irmd().start()?;
    enroll_with(&host, &session.via(), &session.key, &["--map-ports"])?;
    await_session(&host, "joined session")?;
    Ok((Member { host, irmd }, running))
}

/// Ports that are handed on now.
fn mapped(host: &Host) -> Result<usize> {
    let list = host.run_at_router("nft", &["list", "chain", "inet", "miniupnpd", "mapped_in"])?;
    Ok(list.lines().filter(|line| line.contains("dnat")).count())
}

/// One flow each of all kinds, asked for by either: direct, where the router maps it, and nothing is left of it.
fn meet(mapper: &Member, other: &Member) -> Result<()> {
    for (asker, serves, name) in [(mapper, other, "asked"), (other, mapper, "asking")] {
        let listener = listen(&serves.host, name)?;
        await_name(&asker.host, name)?;
        for cube in CUBES {
            let what = format!("{} asks {name}, {}", asker.host.name(), cube.as_str());
            let (asked, accepted) = flow(&asker.host, &listener, cube).context(what.clone())?;
            exchange(&asked, &accepted, cube).context(what.clone())?;
            exchange(&accepted, &asked, cube).context(what.clone())?;
            for member in [mapper, other] {
                let row = super::stage::only_flow(&member.host)?;
                ensure!(row["way"] == "mapped", "{what}: {row}");
            }
            ensure!(mapped(&mapper.host)? == 2, "{what}: the listen port and this flow's");
            drop((asked, accepted));
            lab::wait_until(SOON, "the mapping to end", || mapped(&mapper.host).is_ok_and(|count| count == 1))?;
            await_flows(&mapper.host, 0)?;
            await_flows(&other.host, 0)?;
        }
    }
    Ok(())
}

fn symmetric_hosts_meet(by: &str, router: Router, before: impl FnOnce(&Host) -> Result<()>) -> Result<()> {
    let session = Session::open_public(&["--relay"])?;
    let host = session.lab.host_behind("mapper", Middlebox::SymmetricRandom)?;
    before(&host)?;
    let _router = start_router(&host, router)?;
    let irmd = host.irmd().start()?;
    enroll_with(&host, &session.via(), &session.key, &["--map-ports"])?;
    let mapper = Member { host, irmd };
    await_session(&mapper.host, &format!("maps ports ({by})"))?;
    ensure!(ipcp(&mapper.host)?["router_maps"] == by, "{}", ipcp(&mapper.host)?);
    ensure!(await_survey(&mapper.host)?.contains("symmetric) that filters by port"), "the mapping is not the NAT");
    let said = mapper.host.irm(&["nat", "--via", &session.via()])?;
    let line = said.lines().find(|line| line.starts_with("router ")).unwrap_or_default();
    ensure!(line.contains("maps ports (") && line.contains(by), "{said}");
    let other = session.member("other", Middlebox::SymmetricRandom)?;
    await_survey(&other.host)?;
    meet(&mapper, &other)?;
    mapper.host.irm(&["ipcp", "destroy", "--name", "udp0"])?;
    lab::wait_until(SOON, "nothing to be mapped", || mapped(&mapper.host).is_ok_and(|count| count == 0))
}

pub(crate) fn symmetric_hosts_meet_where_a_router_maps_by_pcp() -> Result<()> {
    symmetric_hosts_meet("PCP", PCP, |_| Ok(()))
}

pub(crate) fn symmetric_hosts_meet_where_a_router_maps_by_nat_pmp() -> Result<()> {
    symmetric_hosts_meet("NAT-PMP", PCP, |host| host.run_at_router("nft", &[NO_PCP]).map(drop))
}

pub(crate) fn symmetric_hosts_meet_where_a_router_maps_by_upnp() -> Result<()> {
    symmetric_hosts_meet("UPnP", UPNP, |_| Ok(()))
}

pub(crate) fn a_router_that_refuses_leaves_flows_as_they_were() -> Result<()> {
    let session = Session::open_public(&[])?;
    let (refused, _router) = asks(&session, "refused", Some(Router { allows: false, ..UPNP }))?;
    let (silent, _) = asks(&session, "silent", None)?;
    for (member, why) in [(&refused, "; UPnP: "), (&silent, "no answer to PCP, NAT-PMP or UPnP")] {
        await_survey(&member.host)?;
        let words = await_session(&member.host, "maps no ports").and_then(|()| super::stage::words(&member.host))?;
        ensure!(words.contains(why), "{words}");
        ensure!(ipcp(&member.host)?["router_maps"].is_null(), "{}", ipcp(&member.host)?);
    }
    let _server = super::stage::serve(&silent, "echo", &[&refused])?;
    let words = ping_error(&refused.host, "echo")?;
    ensure!(words.contains("a relay would do") && words.contains("; UPnP: "), "{words}");
    ensure!(mapped(&refused.host)? == 0);
    Ok(())
}

/// A router answers at joining and then no more, or was started again and has forgotten what it mapped.
pub(crate) fn a_router_that_stops_costs_no_flow() -> Result<()> {
    let session = Session::open_public(&["--relay"])?;
    let (mapper, running) = asks(&session, "mapper", Some(PCP))?;
    await_session(&mapper.host, "maps ports (PCP)")?;
    let other = session.member("other", Middlebox::SymmetricRandom)?;
    await_survey(&mapper.host)?;
    await_survey(&other.host)?;
    let listener = listen(&other.host, "echo")?;
    await_name(&mapper.host, "echo")?;
    let way = |host: &Host, peer: &str| -> Result<bool> {
        let rows = host.list("flow list")?;
        Ok(rows.iter().any(|row| row["way"] == peer))
    };
    let (asked, accepted) = flow(&mapper.host, &listener, Cube::Raw)?;
    ensure!(way(&mapper.host, "mapped")?);

    // It answers no more: the next flow is relayed.
    let running = running.context("it runs")?;
    running.signal(Signal::STOP)?;
    let (second, met) = flow(&mapper.host, &listener, Cube::Raw)?;
    exchange(&second, &met, Cube::Raw)?;
    ensure!(way(&mapper.host, "relayed")?);
    exchange(&asked, &accepted, Cube::Raw).context("the flow of before")?;

    // It is started again and knows nothing of before.
    drop(running);
    mapper.host.run_at_router("nft", &["flush", "chain", "inet", "miniupnpd", "mapped_in"])?;
    let _running = run_router(&mapper.host, PCP)?;
    exchange(&asked, &accepted, Cube::Raw).context("a mapping that is in use goes on")?;
    drop((second, met));
    await_flows(&mapper.host, 1)?;
    let direct = || -> Result<bool> {
        let (third, met) = flow(&mapper.host, &listener, Cube::Raw)?;
        exchange(&third, &met, Cube::Raw)?;
        let direct = mapper.host.list("flow list")?.iter().all(|row| row["way"] == "mapped");
        drop((third, met));
        await_flows(&mapper.host, 1)?;
        Ok(direct)
    };
    lab::wait_until(SOON, "a flow to be direct again", || direct().unwrap_or(false))
}
