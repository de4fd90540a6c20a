//! Ends as users write them: `flow:bulk`, `tcp:relay.example:9100`, `127.0.0.1:5201`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use proto::Name;

/// What is wrong with an end, and how it is written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadEnd(String);

/// A TCP end: a host's name or address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// Name or address; IPv6 addresses without brackets.
    pub host: String,
    /// Never 0 where something is dialled; 0 where something listens is any free port.
    pub port: u16,
}

impl FromStr for HostPort {
    type Err = BadEnd;

    fn from_str(text: &str) -> Result<Self, BadEnd> {
        let bad =
            |why: &str| BadEnd(format!("{text:?} is no TCP end ({why}); write HOST:PORT, [V6ADDRESS]:PORT or PORT"));
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) =
                    rest.split_once("]:").ok_or_else(|| bad("an address in brackets is followed by a port"))?;
                host.parse::<std::net::Ipv6Addr>().map_err(|_| bad("what stands in brackets is no IPv6 address"))?;
                (host, port)
            }
            None => text.rsplit_once(':').unwrap_or(("127.0.0.1", text)),
        };
        if host.is_empty() || host.chars().any(|c| c.is_whitespace() || c.is_control() || c == ',' || c == '/') {
            return Err(bad("its host is no name and no address"));
        }
        if host.contains(':') && !text.starts_with('[') {
            return Err(bad("an IPv6 address stands in brackets"));
        }
        let port = port.parse().map_err(|_| bad("its port is no number from 0 to 65535"))?;
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// What tracks run over.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Via {
    /// `flow:NAME[,layer=LAYER]`: stream flows to a name, or from who asks for it.
    Flow {
        /// The name.
        name: String,
        /// Over this layer only.
        layer: Option<String>,
    },
    /// `tcp:HOST:PORT[,local=ADDRESS][,device=INTERFACE]`: TCP connections, with ro-ro-tcp's protocols.
    Tcp {
        /// Where to, or where from.
        at: HostPort,
        /// The local address of the connections: which path they take.
        local: Option<IpAddr>,
        /// The interface they go through.
        device: Option<String>,
    },
}

impl Via {
    /// Whether it speaks the seed's protocols.
    pub fn is_tcp(&self) -> bool {
        matches!(self, Self::Tcp { .. })
    }
}

impl FromStr for Via {
    type Err = BadEnd;

    fn from_str(text: &str) -> Result<Self, BadEnd> {
        let mut parts = text.split(',');
        let end = parts.next().unwrap_or_default();
        let options: Vec<(&str, &str)> = parts
            .map(|part| {
                part.split_once('=')
                    .ok_or_else(|| BadEnd(format!("{part:?} in {text:?} is no option; write KEY=VALUE")))
            })
            .collect::<Result<_, _>>()?;
        let unknown = |key: &str, known: &str| BadEnd(format!("{text:?} has no option {key:?}; there is {known}"));
        if let Some(name) = end.strip_prefix("flow:") {
            let name = Name::new(name).map_err(|error| BadEnd(format!("{name:?} is no name: {error}")))?;
            let mut layer = None;
            for (key, value) in options {
                match key {
                    "layer" if !value.is_empty() => layer = Some(value.to_owned()),
                    _ => return Err(unknown(key, "layer=LAYER")),
                }
            }
            return Ok(Self::Flow { name: name.as_str().to_owned(), layer });
        }
        let Some(at) = end.strip_prefix("tcp:") else {
            return Err(BadEnd(format!("{text:?} is nothing that tracks run over; write flow:NAME or tcp:HOST:PORT")));
        };
        let at = at.parse()?;
        let (mut local, mut device) = (None, None);
        for (key, value) in options {
            match key {
                "local" => {
                    let address = value.parse().map_err(|_| BadEnd(format!("{value:?} in {text:?} is no address")))?;
                    local = Some(address);
                }
                // The kernel's limit, its NUL included.
                "device" if (1..16).contains(&value.len()) => device = Some(value.to_owned()),
                _ => return Err(unknown(key, "local=ADDRESS and device=INTERFACE")),
            }
        }
        Ok(Self::Tcp { at, local, device })
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flow { name, layer } => {
                write!(f, "flow:{name}")?;
                layer.iter().try_for_each(|layer| write!(f, ",layer={layer}"))
            }
            Self::Tcp { at, local, device } => {
                write!(f, "tcp:{at}")?;
                local.iter().try_for_each(|local| write!(f, ",local={local}"))?;
                device.iter().try_for_each(|device| write!(f, ",device={device}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_read_and_written() {
        for text in [
            "flow:bulk",
            "flow:backup.bulk,layer=net",
            "tcp:10.0.0.2:9100",
            "tcp:[fd00::1]:9100",
            "tcp:relay.example:9100,local=192.168.1.7,device=wwan0",
        ] {
            assert_eq!(text.parse::<Via>().unwrap().to_string(), text);
        }
        let port: HostPort = "9000".parse().unwrap();
        assert_eq!(port.to_string(), "127.0.0.1:9000");
    }

    #[test]
    fn nonsense_is_refused_in_words() {
        for (text, words) in [
            ("bulk", "write flow:NAME or tcp:HOST:PORT"),
            ("flow:", "is no name"),
            ("flow:a b", "is no name"),
            ("flow:bulk,lane=3", "there is layer=LAYER"),
            ("tcp:10.0.0.2", "its port is no number"),
            ("tcp:10.0.0.2:99999", "its port is no number"),
            ("tcp:fd00::1:9100", "an IPv6 address stands in brackets"),
            ("tcp:[10.0.0.2]:1", "no IPv6 address"),
            ("tcp::9100", "its host is no name"),
            ("tcp:h:1,local=here", "is no address"),
            ("tcp:h:1,device=", "there is local=ADDRESS and device=INTERFACE"),
            ("tcp:h:1,fast", "write KEY=VALUE"),
        ] {
            let error = text.parse::<Via>().unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
