//! What one proxy or relay does.

use std::str::FromStr;
use std::time::Duration;

use super::classic::Framing;
use super::end::{HostPort, Via};
use super::tracks::Tracks;

/// Which track takes the next chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// The first whose send window is free.
    #[default]
    FirstFree,
    /// Of those whose send window is free, the one with the lowest round trip.
    LowestRtt,
    /// One after the other, waiting for each.
    RoundRobin,
    /// Every track carries everything; what comes first counts.
    Redundant,
}

impl Policy {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FirstFree => "first-free",
            Self::LowestRtt => "lowest-rtt",
            Self::RoundRobin => "round-robin",
            Self::Redundant => "redundant",
        }
    }
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::FirstFree, Self::LowestRtt, Self::RoundRobin, Self::Redundant];
        all.into_iter()
            .find(|policy| policy.as_str() == text)
            .ok_or_else(|| format!("{text:?} is no schedule; use first-free, lowest-rtt, round-robin or redundant"))
    }
}

/// How the end of a stream is told on TCP tracks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EndMark {
    /// As the seed has it: all tracks end.
    #[default]
    Fin,
    /// An empty datagram goes before that, and one is expected: without it the stream was cut short.
    Mark,
}

impl FromStr for EndMark {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "fin" => Ok(Self::Fin),
            "mark" => Ok(Self::Mark),
            _ => Err(format!("{text:?} is no way to end a stream; use fin or mark")),
        }
    }
}

/// How bytes are carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct How {
    /// Which track takes the next chunk.
    pub policy: Policy,
    /// Bytes of a group that may wait at this end for those before them.
    pub window: u32,
    /// The longest chunk, bytes; `None`: it adapts to the track.
    pub chunk: Option<u32>,
    /// TCP tracks: how long a datagram's size is.
    pub framing: Framing,
    /// TCP tracks: how a stream's end is told.
    pub end: EndMark,
    /// Congestion control of the tracks, as flows or the kernel name them.
    pub congestion: Option<String>,
    /// A group that has no track for so long is given up.
    pub patience: Duration,
    /// How long dialling a target, a peer, or allocating a flow may take.
    pub dial_timeout: Duration,
    /// Clients served at a time.
    pub max_clients: usize,
}

impl Default for How {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            window: 16 << 20,
            chunk: None,
            framing: Framing::default(),
            end: EndMark::default(),
            congestion: None,
            patience: Duration::from_secs(30),
            dial_timeout: Duration::from_secs(10),
            max_clients: 1_000,
        }
    }
}

/// The least window: a chunk of the longest kind for each of some tracks.
pub const MIN_WINDOW: u32 = 256 << 10;
/// The greatest window.
pub const MAX_WINDOW: u32 = 1 << 30;

/// Takes clients and carries each over tracks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Where clients connect.
    pub listen: HostPort,
    /// What the tracks run over, in turn.
    pub to: Vec<Via>,
    /// Tracks for each client.
    pub tracks: Tracks,
    /// How bytes are carried.
    pub how: How,
}

/// Takes tracks and connects each group of them to a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relay {
    /// Where tracks come from.
    pub accept: Vec<Via>,
    /// Where the target is.
    pub to: HostPort,
    /// How bytes are carried.
    pub how: How,
}

/// One or the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Takes clients.
    Proxy(Proxy),
    /// Takes tracks.
    Relay(Relay),
}

impl Rule {
    /// What contradicts itself.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::Proxy(proxy) => {
                check_ends(&proxy.to, "--to")?;
                proxy.tracks.check()?;
                check_auto(proxy)?;
                check_how(&proxy.how, &proxy.to)
            }
            Self::Relay(relay) => {
                check_ends(&relay.accept, "--accept")?;
                let for_dialling = relay.accept.iter().find(|via| matches!(via, Via::Tcp { local: Some(_), .. }));
                if let Some(via) = for_dialling {
                    return Err(format!("{via} is listened on, so its address is the local one; leave local= out"));
                }
                if relay.to.port == 0 {
                    return Err(format!("{} is no target: a port is from 1 to 65535", relay.to));
                }
                check_how(&relay.how, &relay.accept)
            }
        }
    }
}

/// A number that adapts, where it can.
fn check_auto(proxy: &Proxy) -> Result<(), String> {
    if proxy.tracks != Tracks::Auto {
        return Ok(());
    }
    if proxy.to.iter().any(Via::is_tcp) {
        return Err("a TCP track cannot be taken back or join late; give their number instead of auto".to_owned());
    }
    if proxy.how.policy == Policy::Redundant {
        return Err("more redundant tracks never bring more bytes; give their number instead of auto".to_owned());
    }
    Ok(())
}

/// One kind of ends, at least one.
pub fn check_ends(ends: &[Via], option: &str) -> Result<(), String> {
    let Some(first) = ends.first() else {
        return Err(format!("no track runs over nothing; give {option} at least once"));
    };
    match ends.iter().find(|end| end.is_tcp() != first.is_tcp()) {
        Some(other) => Err(format!("{first} and {other} speak different protocols; give one kind of {option} only")),
        None => Ok(()),
    }
}

fn check_how(how: &How, ends: &[Via]) -> Result<(), String> {
    let tcp = ends.iter().any(Via::is_tcp);
    if tcp && how.policy == Policy::Redundant {
        return Err("the protocol of TCP tracks takes each datagram once; use redundant over flows".to_owned());
    }
    if !(MIN_WINDOW..=MAX_WINDOW).contains(&how.window) {
        return Err(format!(
            "a window of {} bytes is too small or too large; give {MIN_WINDOW} to {MAX_WINDOW}",
            how.window
        ));
    }
    let longest = if tcp && how.framing == Framing::Short { u32::from(u16::MAX) } else { 1 << 20 };
    if let Some(chunk) = how.chunk
        && !(1..=longest).contains(&chunk)
    {
        return Err(format!("a chunk of {chunk} bytes does not go; give 1 to {longest}"));
    }
    match &how.congestion {
        Some(name) if !tcp => name.parse::<libflow::Congestion>().map(drop).map_err(|error| error.to_string()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(to: &[&str], how: How) -> Rule {
        let to = to.iter().map(|text| text.parse().unwrap()).collect();
        Rule::Proxy(Proxy { listen: "9000".parse().unwrap(), to, tracks: Tracks::Fixed(4), how })
    }

    #[test]
    fn contradictions_are_told() {
        assert_eq!(proxy(&["flow:a", "flow:b"], How::default()).check(), Ok(()));
        let redundant = How { policy: Policy::Redundant, ..How::default() };
        let cases = [
            (proxy(&[], How::default()), "at least once"),
            (proxy(&["flow:a", "tcp:h:1"], How::default()), "different protocols"),
            (proxy(&["tcp:h:1"], redundant), "over flows"),
            (proxy(&["flow:a"], How { window: 1, ..How::default() }), "window"),
            (proxy(&["tcp:h:1"], How { chunk: Some(65_536), ..How::default() }), "chunk"),
            (proxy(&["flow:a"], How { congestion: Some("reno".into()), ..How::default() }), "bbr3"),
        ];
        for (rule, words) in cases {
            assert!(rule.check().unwrap_err().contains(words), "{rule:?}");
        }
        for (to, how, words) in [
            ("tcp:h:1", How::default(), "join late"),
            ("flow:a", How { policy: Policy::Redundant, ..How::default() }, "never bring more"),
        ] {
            let Rule::Proxy(proxy) = proxy(&[to], how) else { unreachable!("a proxy") };
            let rule = Rule::Proxy(Proxy { tracks: Tracks::Auto, ..proxy });
            assert!(rule.check().unwrap_err().contains(words), "{rule:?}");
        }
        let relay = |accept: &str, to: &str| {
            Rule::Relay(Relay { accept: vec![accept.parse().unwrap()], to: to.parse().unwrap(), how: How::default() })
        };
        assert!(relay("tcp:0.0.0.0:9100,local=10.0.0.1", "80").check().unwrap_err().contains("leave local= out"));
        assert!(relay("flow:a", "host:0").check().unwrap_err().contains("no target"));
    }
}
