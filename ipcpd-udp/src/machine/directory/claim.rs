//! The record by which a host says that it serves a name: one TXT record at `_flowring._udp` of the name's domain, in
//! the `key=value` strings of RFC 6763 §6. docs/directory.md, "Records".

use std::net::{IpAddr, SocketAddr};

use proto::shim::PORT;
use proto::{HostId, Name};

use super::fingerprint::Fingerprint;

/// The first string of a record of ours.
pub const VERSION: &str = "v=flow1";

/// One host's word that it serves a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The host; zero where an administrator wrote the record.
    pub host: HostId,
    /// Which of the names with this domain name; both where it does not say.
    pub name: Option<Name>,
    /// Where its shim listens.
    pub at: SocketAddr,
    /// Void from this time on, seconds since 1970; never where it does not say.
    pub expires: Option<u64>,
    /// The address record was there before the host came and stays when it goes.
    pub kept: bool,
    /// The host's key.
    pub key: Key,
}

/// What a record says of its host's key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Key {
    /// Nothing.
    #[default]
    Unsaid,
    /// Who accepts there must have it.
    Is(Fingerprint),
    /// Something that is none. The record speaks for its address still, so that no flow goes there without a key.
    Malformed,
}

/// Why a TXT record is not a claim that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// It is about something else.
    #[error("no record of Flowring's")]
    Foreign,
    /// A later version wrote it.
    #[error("a record of a later version")]
    Version,
    /// A key is there twice or its value makes no sense, or there is no address.
    #[error("a damaged record")]
    Damaged,
}

impl Claim {
    /// The strings of the record, each at most 255 bytes.
    pub fn encode(&self) -> Vec<String> {
        let mut strings = vec![VERSION.to_owned()];
        if let Some(name) = &self.name {
            strings.push(format!("name={name}"));
        }
        if self.host != HostId(0) {
            strings.push(format!("host={:016x}", self.host.0));
        }
        strings.push(format!("addr={}", self.at.ip()));
        strings.push(format!("port={}", self.at.port()));
        if let Some(expires) = self.expires {
            strings.push(format!("exp={expires}"));
        }
        if self.kept {
            strings.push("kept=1".to_owned());
        }
        match self.key {
            Key::Unsaid => {}
            Key::Is(key) => strings.push(format!("key={key}")),
            Key::Malformed => strings.push("key=".to_owned()),
        }
        strings
    }

    /// Reads a record's strings; an administrator may write several pairs into one. Unknown keys are ignored.
    pub fn decode<S: AsRef<[u8]>>(strings: &[S]) -> Result<Self, ClaimError> {
        let words = strings.iter().flat_map(|string| string.as_ref().split(|byte| *byte == b' '));
        let mut words = words.filter(|word| !word.is_empty());
        match words.next() {
            Some(first) if first == VERSION.as_bytes() => {}
            Some(first) if first.starts_with(b"v=flow") => return Err(ClaimError::Version),
            _ => return Err(ClaimError::Foreign),
        }
        let mut values: [Option<&str>; KEYS.len()] = [None; KEYS.len()];
        for word in words {
            let Some(equals) = word.iter().position(|byte| *byte == b'=') else { continue };
            let (key, value) = (&word[..equals], &word[equals + 1..]);
            let Some(index) = KEYS.iter().position(|known| known.as_bytes() == key) else { continue };
            let value = std::str::from_utf8(value).map_err(|_| ClaimError::Damaged)?;
            if values[index].replace(value).is_some() {
                return Err(ClaimError::Damaged);
            }
        }
        let [host, name, addr, port, exp, kept, key] = values;
        let number = |text: &str| text.parse::<u64>().map_err(|_| ClaimError::Damaged);
        let ip: IpAddr = addr.and_then(|addr| addr.parse().ok()).ok_or(ClaimError::Damaged)?;
        let port = port.map(|port| port.parse::<u16>()).transpose().map_err(|_| ClaimError::Damaged)?.unwrap_or(PORT);
        let host = host.map(|host| u64::from_str_radix(host, 16)).transpose().map_err(|_| ClaimError::Damaged)?;
        let name = name.map(Name::new).transpose().map_err(|_| ClaimError::Damaged)?;
        Ok(Self {
            host: HostId(host.unwrap_or(0)),
            name,
            at: SocketAddr::new(ip, port),
            expires: exp.map(number).transpose()?,
            kept: kept == Some("1"),
            key: key.map_or(Key::Unsaid, |key| key.parse().map_or(Key::Malformed, Key::Is)),
        })
    }

    /// Whether it counts for this name.
    pub fn is_for(&self, name: &Name) -> bool {
        self.name.as_ref().is_none_or(|own| own == name)
    }

    /// Whether it still holds at `wall`, seconds since 1970.
    pub fn is_live(&self, wall: u64) -> bool {
        self.expires.is_none_or(|expires| wall < expires)
    }
}

const KEYS: [&str; 7] = ["host", "name", "addr", "port", "exp", "kept", "key"];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(strings: &[&str]) -> Result<Claim, ClaimError> {
        Claim::decode(strings)
    }

    const FINGERPRINT: &str = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU";

    /// A record whose key cannot be read says still that there is one.
    #[test]
    fn keys() {
        let good = format!("key={FINGERPRINT}");
        let table = [
            (&[][..], Key::Unsaid),
            (&[&*good], Key::Is(FINGERPRINT.parse().unwrap())),
            (&["key="], Key::Malformed),
            (&["key=SHA256:short"], Key::Malformed),
            (&["key=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"], Key::Malformed),
            // As an administrator may break a line.
            (&["key=SHA256:47DEQpj8HBSa", "+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"], Key::Malformed),
        ];
        for (strings, want) in table {
            let all: Vec<&str> = ["v=flow1", "addr=10.0.0.2"].iter().chain(strings).copied().collect();
            assert_eq!(decode(&all).map(|claim| claim.key), Ok(want), "{strings:?}");
        }
        assert_eq!(decode(&["v=flow1", "addr=10.0.0.2", &good, &good]), Err(ClaimError::Damaged));
    }

    #[test]
    fn what_is_written_down_is_read() {
        let claim = Claim {
            host: HostId(0x1234),
            name: Some(Name::new("echo").unwrap()),
            at: "10.0.0.2:3400".parse().unwrap(),
            expires: Some(1_763_000_000),
            kept: true,
            key: Key::Is(FINGERPRINT.parse().unwrap()),
        };
        let strings = claim.encode();
        let want = "v=flow1 name=echo host=0000000000001234 addr=10.0.0.2 port=3400 exp=1763000000 kept=1 \
                    key=SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU";
        assert_eq!(strings.join(" "), want);
        assert_eq!(Claim::decode(&strings), Ok(claim.clone()));
        assert_eq!(Claim::decode(&[strings.join(" ")]), Ok(claim));
    }

    #[test]
    fn records_of_others_and_damaged_ones() {
        let by_hand = decode(&["v=flow1 addr=fd00::2"]).unwrap();
        assert_eq!((by_hand.at, by_hand.expires, by_hand.host), ("[fd00::2]:3359".parse().unwrap(), None, HostId(0)));
        assert!(by_hand.is_live(u64::MAX) && by_hand.is_for(&Name::new("any").unwrap()));
        assert!(decode(&["v=flow1", "fp=abc", "addr=10.0.0.2", "later", "=", "x="]).is_ok());
        let table: [(&[&str], ClaimError); 12] = [
            (&[], ClaimError::Foreign),
            (&[""], ClaimError::Foreign),
            (&["v=spf1 -all"], ClaimError::Foreign),
            (&["addr=10.0.0.2", "v=flow1"], ClaimError::Foreign),
            (&["v=flow2", "addr=10.0.0.2"], ClaimError::Version),
            (&["v=flow1"], ClaimError::Damaged),
            (&["v=flow1", "addr=host.example"], ClaimError::Damaged),
            (&["v=flow1", "addr=10.0.0.2", "addr=10.0.0.3"], ClaimError::Damaged),
            (&["v=flow1", "addr=10.0.0.2", "port=70000"], ClaimError::Damaged),
            (&["v=flow1", "addr=10.0.0.2", "exp=soon"], ClaimError::Damaged),
            (&["v=flow1", "addr=10.0.0.2", "host=xyz"], ClaimError::Damaged),
            (&["v=flow1", "addr=10.0.0.2", "name="], ClaimError::Damaged),
        ];
        for (strings, want) in table {
            assert_eq!(decode(strings), Err(want), "{strings:?}");
        }
    }

    #[test]
    fn a_claim_ends_when_it_says() {
        let claim = decode(&["v=flow1", "addr=10.0.0.2", "exp=100"]).unwrap();
        assert_eq!([99, 100, 101].map(|wall| claim.is_live(wall)), [true, false, false]);
    }

    proptest! {
        #[test]
        fn any_strings_are_read_without_a_panic(strings: Vec<Vec<u8>>) {
            let _ = Claim::decode(&strings);
        }

        #[test]
        fn every_claim_survives(host: u64, ip: std::net::IpAddr, port: u16, expires: Option<u64>, kept: bool) {
            let key = [Key::Unsaid, Key::Malformed, Key::Is(FINGERPRINT.parse().unwrap())][usize::from(port % 3)];
            let claim = Claim { host: HostId(host), name: None, at: SocketAddr::new(ip, port), expires, kept, key };
            prop_assert_eq!(Claim::decode(&claim.encode()), Ok(claim));
        }
    }
}
