//! Commands that mend something, whole: what can be pasted must not have to be thought about first.

use proto::v1;

use super::facts::Facts;
use super::finding::quoted;

/// irmd's own, for the run directory at hand.
pub(super) fn start(facts: &Facts, dir: &str) -> String {
    match facts.here.unit {
        true => "systemctl start flowring-irmd".to_owned(),
        false => format!("irmd --run-dir {}", quoted(dir)),
    }
}

/// The same where one runs already, or hangs.
pub(super) fn restart(facts: &Facts, dir: &str, pid: u32) -> String {
    match (facts.here.unit, pid) {
        (true, _) => "systemctl restart flowring-irmd".to_owned(),
        (false, 0) => start(facts, dir),
        (false, pid) => format!("kill {pid} && {}", start(facts, dir)),
    }
}

/// Makes an IPCP again as it was meant to be.
pub(super) fn bootstrap(info: &v1::IpcpInfo, ip: Option<&str>) -> String {
    let none = v1::UdpConfig::default();
    let udp = info.config.as_ref().unwrap_or(&none);
    let layer = if info.layer.is_empty() { "LAYER" } else { &info.layer };
    let ip = ip.or(Some(udp.ip.as_str()).filter(|ip| !ip.is_empty())).unwrap_or("ADDRESS");
    if !udp.rendezvous.is_empty() {
        return enroll(info, udp, layer, ip);
    }
    let mut out = format!(
        "irm ipcp bootstrap --type udp --name {} --layer {} --ip {}",
        quoted(&info.name),
        quoted(layer),
        quoted(ip)
    );
    let mut more = |flag: &str, value: &str| {
        out.push_str(&format!(" {flag} {}", quoted(value)));
    };
    if !matches!(udp.port, 0 | 3359) {
        more("--port", &udp.port.to_string());
    }
    for host in &udp.hosts {
        more("--host", &format!("{}={}", host.name, host.address));
    }
    if udp.sp_listen {
        more("--sp-range", "listen");
    } else if udp.sp_first != 0 {
        more("--sp-range", &format!("{}-{}", udp.sp_first, udp.sp_last));
    }
    if udp.echo() == v1::EchoMoment::OnArrival {
        more("--echo", "on-arrival");
    }
    if !udp.dns_zone.is_empty() {
        more("--dns-zone", &udp.dns_zone);
        udp.dns_servers.iter().for_each(|server| more("--dns-server", server));
        if !udp.dns_key_file.is_empty() {
            more("--dns-key", &udp.dns_key_file);
        }
        for (flag, value) in [("--dns-lifetime", udp.dns_lifetime_s), ("--dns-ttl", udp.dns_ttl_s)] {
            if value != 0 {
                more(flag, &value.to_string());
            }
        }
    }
    out
}

/// The same for one whose hosts meet at a rendezvous.
fn enroll(info: &v1::IpcpInfo, udp: &v1::UdpConfig, layer: &str, ip: &str) -> String {
    let port = if matches!(udp.port, 0 | 3359) { String::new() } else { format!(" --port {}", udp.port) };
    // One that follows its host's address finds it by itself.
    let at = if udp.follow { String::new() } else { format!(" --ip {}", quoted(ip)) };
    let punch = match udp.punch() {
        v1::Punch::Unspecified => "",
        v1::Punch::Plain => " --punch plain",
        v1::Punch::Predict => " --punch predict",
        v1::Punch::Search => " --punch search",
    };
    let maps = if udp.map_ports { " --map-ports" } else { "" };
    format!(
        "irm ipcp enroll --name {} --layer {} --via {} --session {} --key-file {}{at}{port}{punch}{maps}",
        quoted(&info.name),
        quoted(layer),
        quoted(&udp.rendezvous),
        quoted(&udp.session),
        quoted(&udp.session_key_file),
    )
}

/// Makes an IPCP anew with another name server in place of those that fail.
pub(super) fn other_server(info: &v1::IpcpInfo) -> String {
    let mut info = info.clone();
    if let Some(udp) = &mut info.config {
        udp.dns_servers = vec!["ADDRESS".to_owned()];
    }
    format!("irm ipcp destroy --name {} && {}", quoted(&info.name), bootstrap(&info, None))
}

/// Ends an IPCP that irmd did not start.
pub(super) fn stop(name: &str, pid: u32) -> String {
    match pid {
        0 => format!("systemctl restart {}", quoted(&format!("flowring-ipcpd-udp@{name}"))),
        pid => format!("kill {pid}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_of_a_session_is_enrolled_again() {
        let udp = v1::UdpConfig {
            ip: "192.168.1.2".into(),
            rendezvous: "rdv.example:3360".into(),
            session: "darkreign".into(),
            session_key_file: "/etc/flowring/my key".into(),
            ..Default::default()
        };
        let info = v1::IpcpInfo { name: "udp0".into(), layer: "lobby".into(), config: Some(udp), ..Default::default() };
        let want = "irm ipcp enroll --name udp0 --layer lobby --via rdv.example:3360 --session darkreign \
                    --key-file '/etc/flowring/my key' --ip 192.168.1.2";
        assert_eq!(bootstrap(&info, None), want);
        let mut follows = info.clone();
        follows.config.as_mut().unwrap().follow = true;
        assert_eq!(bootstrap(&follows, None), want.strip_suffix(" --ip 192.168.1.2").unwrap());
        let mut searches = info;
        searches.config.as_mut().unwrap().set_punch(v1::Punch::Search);
        assert_eq!(bootstrap(&searches, None), format!("{want} --punch search"));
    }

    #[test]
    fn an_ipcp_is_made_again_as_it_was() {
        let host = v1::StaticHost { name: "a b;c".into(), address: "10.0.0.2".into() };
        let udp = v1::UdpConfig {
            ip: "10.0.0.1".into(),
            port: 3400,
            hosts: vec![host],
            sp_first: 40_000,
            sp_last: 41_000,
            echo: v1::EchoMoment::OnArrival.into(),
            dns_zone: "flows.test".into(),
            dns_servers: vec!["10.0.0.53".into()],
            dns_key_file: "/etc/flows key".into(),
            dns_ttl_s: 60,
            ..Default::default()
        };
        let info = v1::IpcpInfo { name: "udp0".into(), layer: "net".into(), config: Some(udp), ..Default::default() };
        let want = "irm ipcp bootstrap --type udp --name udp0 --layer net --ip 10.0.0.1 --port 3400 \
             --host 'a b;c=10.0.0.2' --sp-range 40000-41000 --echo on-arrival --dns-zone flows.test \
             --dns-server 10.0.0.53 --dns-key '/etc/flows key' --dns-ttl 60";
        assert_eq!(bootstrap(&info, None), want);
        let other = other_server(&info);
        assert!(other.starts_with("irm ipcp destroy --name udp0 && irm ipcp bootstrap"), "{other}");
        assert!(other.contains("--dns-server ADDRESS ") && !other.contains("10.0.0.53"), "{other}");
        let unmade = v1::IpcpInfo { name: "udp1".into(), ..Default::default() };
        assert_eq!(bootstrap(&unmade, None), "irm ipcp bootstrap --type udp --name udp1 --layer LAYER --ip ADDRESS");
    }
}
