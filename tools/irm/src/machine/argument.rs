//! Arguments that clap cannot check by itself.

use std::net::{IpAddr, SocketAddr};

/// Longest name of an IPCP, bytes: its sockets' paths must fit `sun_path`.
const MAX_IPCP_NAME: usize = 32;

/// A row of the static directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostEntry {
    /// The name.
    pub name: String,
    /// Its host: an address, with a port where it is not 3359.
    pub address: String,
}

/// The UDP ports of accepted flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortRange {
    /// A range, both ends included, at least 1, the second at least the first.
    Ports(u16, u16),
    /// The listen port, for all of them.
    Listen,
}

/// A name of a service.
pub use tool::name;

/// A layer is named like a service.
pub fn layer_name(text: &str) -> Result<String, String> {
    name(text)
}

/// An IPCP's name becomes part of a file name.
pub fn ipcp_name(text: &str) -> Result<String, String> {
    let fits = (1..=MAX_IPCP_NAME).contains(&text.len());
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) && !text.starts_with('.');
    if fits && plain {
        Ok(text.to_owned())
    } else {
        Err(format!("an IPCP's name has 1 to {MAX_IPCP_NAME} letters, digits, '-', '_' and '.', the first not '.'"))
    }
}

/// An address of this host.
pub fn ip_address(text: &str) -> Result<String, String> {
    let ip: IpAddr =
        text.parse().map_err(|_| "give an IPv4 or IPv6 address, such as 10.0.0.1 or fd00::1".to_owned())?;
    if ip.is_unspecified() || ip.is_multicast() {
        return Err("give one address of this host, not a wildcard or a group: flows are bound to it".into());
    }
    Ok(ip.to_string())
}

/// `NAME=ADDR`, `NAME=ADDR:PORT` or `NAME=[ADDR6]:PORT`.
pub fn host_entry(text: &str) -> Result<HostEntry, String> {
    // From the right: a name may hold '=', an address does not.
    let (left, right) =
        text.rsplit_once('=').ok_or("give NAME=ADDRESS, such as echo=10.0.0.2 or echo=[fd00::2]:3400")?;
    let bracketed = right.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = match (right.parse::<SocketAddr>(), bracketed.unwrap_or(right).parse::<IpAddr>()) {
        (Ok(address), _) if address.port() == 0 => return Err(format!("port 0 of {right} is no port to send to")),
        (Ok(address), _) => address.to_string(),
        (_, Ok(ip)) => ip.to_string(),
        _ => return Err(format!("'{right}' is no address; give 10.0.0.2, 10.0.0.2:3400, fd00::2 or [fd00::2]:3400")),
    };
    Ok(HostEntry { name: name(left)?, address })
}

/// A name server: `ADDR`, `ADDR:PORT` or `[ADDR6]:PORT`.
pub fn name_server(text: &str) -> Result<String, String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    match (text.parse::<SocketAddr>(), bare.parse::<IpAddr>()) {
        (Ok(address), _) if address.port() != 0 => Ok(address.to_string()),
        (Err(_), Ok(ip)) => Ok(ip.to_string()),
        _ => Err("give the address of a name server, such as 10.0.0.53, 10.0.0.53:5353 or [fd00::53]:53".into()),
    }
}

/// `FIRST-LAST` or `listen`.
pub fn port_range(text: &str) -> Result<PortRange, String> {
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    if text == "listen" {
        return Ok(PortRange::Listen);
    }
    let wrong = || format!("'{text}' is no range of ports; give FIRST-LAST, such as 40000-41000, or listen");
    let (first, last) = text.split_once('-').ok_or_else(wrong)?;
    let (first, last) = port(first).zip(port(last)).ok_or_else(wrong)?;
    if first > last {
        return Err(format!("the range {text} is empty: its first port is above its last"));
    }
    Ok(PortRange::Ports(first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_entries() {
        let table = [
            ("echo=10.0.0.2", Some(("echo", "10.0.0.2"))),
            ("echo=10.0.0.2:3400", Some(("echo", "10.0.0.2:3400"))),
            ("echo=fd00::2", Some(("echo", "fd00::2"))),
            ("echo=[fd00::2]", Some(("echo", "fd00::2"))),
            ("echo=[fd00::2]:3400", Some(("echo", "[fd00::2]:3400"))),
            ("a=b=10.0.0.2", Some(("a=b", "10.0.0.2"))),
            ("echo", None),
            ("echo=", None),
            ("=10.0.0.2", None),
            ("two words=10.0.0.2", None),
            ("echo=10.0.0.2:0", None),
            ("echo=10.0.0.2:70000", None),
            ("echo=somewhere", None),
        ];
        for (text, want) in table {
            let got = host_entry(text).ok();
            assert_eq!(got.as_ref().map(|h| (h.name.as_str(), h.address.as_str())), want, "{text}");
        }
    }

    #[test]
    fn port_ranges() {
        assert_eq!(port_range("40000-41000"), Ok(PortRange::Ports(40000, 41000)));
        assert_eq!(port_range("5-5"), Ok(PortRange::Ports(5, 5)));
        assert_eq!(port_range("listen"), Ok(PortRange::Listen));
        for text in ["", "-", "5", "6-5", "0-5", "1-65536", "a-b", "1-2-3"] {
            assert!(port_range(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_and_ipcp_names() {
        assert_eq!(ip_address("fd00:0::1"), Ok("fd00::1".into()));
        for text in ["", "host", "0.0.0.0", "::", "224.0.0.1", "10.0.0.1:3359"] {
            assert!(ip_address(text).is_err(), "{text}");
        }
        assert!(ipcp_name("udp0").is_ok());
        for text in ["", "..", "a/b", "ü", &"a".repeat(33)] {
            assert!(ipcp_name(text).is_err(), "{text}");
        }
    }
}
